//! Builds the workspace in `components/` for wasm32-wasip2, once for all profiles, and hands each
//! component to the library (in `OUT_DIR`) and to `airssys.toml` (beside its `Component.toml`), with
//! the doc comments of its WIT, which building it drops.

use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fmt, io};

use serde_json::{Value, json};
use wit_parser::{PackageMetadata, Resolve, WorldItem};

const TARGET: &str = "wasm32-wasip2";
const MEMBERS: [&str; 9] = [
    "calculator",
    "clerk",
    "courier",
    "crasher",
    "dsp",
    "leaky",
    "notebook",
    "prober",
    "spinner",
];

/// The format of the documentation, in its first byte.
const DOCS_VERSION: u8 = 1;

/// What the outer cargo, its profile, its clippy or the user's host flags say about the host build
/// and must not say about the inner one. A user's `RUSTC_WRAPPER`, proxies, registries and the
/// jobserver are kept.
const HOST_VARIABLES: [&str; 12] = [
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "TARGET",
];
const HOST_PREFIXES: [&str; 6] = [
    "CARGO_CFG_",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_WASM32_WASIP2_",
];

fn main() -> Result<(), BuildFailure> {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let components = manifest_dir.join("components");
    watch_sources(&components);

    let target_dir = shared_target_dir(&out_dir);
    fs::create_dir_all(&target_dir).map_err(io_failure("create", &target_dir))?;
    // Held to the end: another profile's build script must not replace a file while it is copied.
    let lock_path = target_dir.join("build.lock");
    let lock = File::create(&lock_path).map_err(io_failure("create", &lock_path))?;
    lock.lock().map_err(io_failure("lock", &lock_path))?;

    ensure_target_installed()?;
    build_components(&components, &target_dir)?;

    for name in MEMBERS {
        let file_name = format!("{name}.wasm");
        let built = target_dir.join(TARGET).join("release").join(&file_name);
        let mut wasm = fs::read(&built).map_err(io_failure("read", &built))?;
        let docs = documentation(&components.join(name).join("wit"))
            .map_err(|source| BuildFailure::Documentation { name, source })?;
        append_section(&mut wasm, PackageMetadata::SECTION_NAME, &docs);
        let embedded = out_dir.join(&file_name);
        replace_if_different(&embedded, &wasm).map_err(io_failure("write", &embedded))?;
        let deployed = components.join(name).join(&file_name);
        // A read-only source tree still has the embedded copy.
        if let Err(error) = replace_if_different(&deployed, &wasm) {
            println!("cargo:warning=cannot write {}: {error}", deployed.display());
        }
    }
    Ok(())
}

/// Tells cargo what the components are made of. The copied `.wasm` files are not among it.
fn watch_sources(components: &Path) {
    let watch = |path: &Path| println!("cargo:rerun-if-changed={}", path.display());
    watch(Path::new("build.rs"));
    for file in ["Cargo.toml", "Cargo.lock", ".cargo/config.toml"] {
        watch(&components.join(file));
    }
    // The interfaces of the host's services, which guests share with the host.
    watch(Path::new("../airssys-wasm/wit"));
    for name in MEMBERS {
        for part in ["Cargo.toml", "src", "wit"] {
            watch(&components.join(name).join(part));
        }
    }
}

/// `<root target>/guests`, found from `<root target>/[<triple>/]<profile>/build/<package>/out`;
/// a directory in `OUT_DIR` if cargo lays its target directory out in another way.
fn shared_target_dir(out_dir: &Path) -> PathBuf {
    let root = out_dir
        .ancestors()
        .find(|path| path.file_name() == Some(OsStr::new("build")))
        .and_then(|build| build.ancestors().nth(2))
        .map(|root| match (root.file_name(), env::var_os("TARGET")) {
            (Some(name), Some(triple)) if name == triple => root.parent().unwrap_or(root),
            _ => root,
        });
    root.unwrap_or(out_dir).join("guests")
}

/// Installs the target's standard library with rustup if it is not there.
fn ensure_target_installed() -> Result<(), BuildFailure> {
    let rustc = variable("RUSTC")?;
    if target_is_installed(&rustc)? {
        return Ok(());
    }
    println!("cargo:warning=the Rust target {TARGET} is not installed: adding it with rustup");
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]);
    if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
        rustup.arg("--toolchain").arg(toolchain);
    }
    let by_hand = command_line(&rustup);
    let reason = match run(&mut rustup) {
        Ok(output) if output.status.success() && target_is_installed(&rustc)? => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(failure) => failure.to_string(),
    };
    Err(BuildFailure::TargetMissing { by_hand, reason })
}

fn target_is_installed(rustc: &OsStr) -> Result<bool, BuildFailure> {
    let mut query = Command::new(rustc);
    query.args(["--print", "target-libdir", "--target", TARGET]);
    let output = run(&mut query)?;
    let directory = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success() && Path::new(directory.trim()).is_dir())
}

fn build_components(components: &Path, target_dir: &Path) -> Result<(), BuildFailure> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .args(["build", "--release", "--target", TARGET, "--locked"])
        .arg("--target-dir")
        .arg(target_dir)
        // Where cargo looks for the configuration that has the linker's arguments.
        .current_dir(components);
    for (name, _) in env::vars_os() {
        let is_host_variable = name.to_str().is_some_and(|name| {
            HOST_VARIABLES.contains(&name)
                || HOST_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        });
        if is_host_variable {
            cargo.env_remove(name);
        }
    }
    let output = run(&mut cargo)?;
    if output.status.success() {
        return Ok(());
    }
    Err(BuildFailure::InnerBuild {
        directory: components.to_owned(),
        by_hand: format!("cargo build --release --target {TARGET} --locked"),
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The doc comments of a guest's package, as `wit-parser` writes them, and those of the interfaces
/// it exports of other packages, under their full names.
fn documentation(wit: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut resolve = Resolve::default();
    // Some guests import them.
    resolve.push_dir("../airssys-wasm/wit")?;
    let (own, _) = resolve.push_dir(wit)?;
    let decoded = |package| -> Result<Value, Box<dyn Error>> {
        let bytes = PackageMetadata::extract(&resolve, package).encode()?;
        Ok(serde_json::from_slice(
            bytes.strip_prefix(&[DOCS_VERSION]).unwrap_or_default(),
        )?)
    };
    let mut docs = decoded(own)?;
    let mut foreign = Vec::new();
    for (_, world) in resolve
        .worlds
        .iter()
        .filter(|(_, world)| world.package == Some(own))
    {
        for export in world.exports.values() {
            let WorldItem::Interface { id, .. } = export else {
                continue;
            };
            let interface = resolve.interfaces.get(*id);
            let named = interface.and_then(|i| i.package.zip(i.name.as_ref()));
            foreign.extend(named.filter(|(package, _)| *package != own));
        }
    }
    for (package, name) in foreign {
        let mut others = decoded(package)?;
        let theirs = others.pointer_mut(&format!("/interfaces/{name}"));
        if let (Some(theirs), Some(docs)) = (theirs, docs.as_object_mut()) {
            let interfaces = docs.entry("interfaces").or_insert_with(|| json!({}));
            if let Some(interfaces) = interfaces.as_object_mut() {
                interfaces.insert(resolve.id_of_name(package, name), theirs.take());
            }
        }
    }
    let mut bytes = vec![DOCS_VERSION];
    serde_json::to_writer(&mut bytes, &docs)?;
    Ok(bytes)
}

/// Appends a custom section to a binary.
fn append_section(wasm: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut content = leb128(name.len());
    content.extend_from_slice(name.as_bytes());
    content.extend_from_slice(data);
    wasm.push(0);
    wasm.extend_from_slice(&leb128(content.len()));
    wasm.extend_from_slice(&content);
}

fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let digit = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(digit);
            return bytes;
        }
        bytes.push(digit | 0x80);
    }
}

fn run(command: &mut Command) -> Result<Output, BuildFailure> {
    command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| BuildFailure::Start {
            command: command_line(command),
            source,
        })
}

fn command_line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Writes by renaming, so that a reader sees the old bytes or the new ones.
fn replace_if_different(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let partial = path.with_extension(format!("{}.wasm", std::process::id()));
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, path))
        .inspect_err(|_| {
            // What is left of a failed write is ignored by git; the write is what is reported.
            let _ = fs::remove_file(&partial);
        })
}

fn variable(name: &'static str) -> Result<std::ffi::OsString, BuildFailure> {
    env::var_os(name).ok_or(BuildFailure::NotRunByCargo { name })
}

fn io_failure(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildFailure {
    let path = path.to_owned();
    move |source| BuildFailure::Io { verb, path, source }
}

/// Why there are no guests.
enum BuildFailure {
    NotRunByCargo {
        name: &'static str,
    },
    Io {
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    Start {
        command: String,
        source: io::Error,
    },
    TargetMissing {
        by_hand: String,
        reason: String,
    },
    InnerBuild {
        directory: PathBuf,
        by_hand: String,
        output: String,
    },
    Documentation {
        name: &'static str,
        source: Box<dyn Error>,
    },
}

impl fmt::Display for BuildFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunByCargo { name } => write!(f, "cargo did not set {name}"),
            Self::Io { verb, path, source } => {
                write!(f, "cannot {verb} {}: {source}", path.display())
            }
            Self::Start { command, source } => write!(f, "cannot run `{command}`: {source}"),
            Self::TargetMissing { by_hand, reason } => write!(
                f,
                "the guests need the Rust target {TARGET}, and adding it failed:\n{}\nrun this by \
                 hand, then build again: {by_hand}",
                reason.trim_end(),
            ),
            Self::InnerBuild {
                directory,
                by_hand,
                output,
            } => write!(
                f,
                "the guests do not build:\n{}\nto see this alone, in {}: {by_hand}",
                output.trim_end(),
                directory.display(),
            ),
            Self::Documentation { name, source } => {
                write!(f, "cannot read the WIT of {name}: {source:#}")
            }
        }
    }
}

// What a build script's `main` returns is printed with `Debug`.
impl fmt::Debug for BuildFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for BuildFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Start { source, .. } => Some(source),
            Self::Documentation { source, .. } => Some(&**source),
            _ => None,
        }
    }
}
