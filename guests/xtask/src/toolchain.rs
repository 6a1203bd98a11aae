//! The tool chains: those of Debian in the system, those of npm and pip in folders of our own, with
//! the exact versions that `guests/toolchains` names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Places;
use crate::command::{line, program, run, succeeds};
use crate::content;
use crate::failure::BuildError;
use crate::tool::Language;

/// The C compiler's packages.
const CLANG: [&str; 4] = [
    "clang-19",
    "lld-19",
    "wasi-libc",
    "libclang-rt-19-dev-wasm32",
];

/// A file of the C compiler's last package.
const CLANG_RUNTIME: &str = "/usr/lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a";

const RUST_TARGET: &str = "wasm32-wasip2";

/// The programs that a tool chain of our own has.
pub(crate) fn installed(places: &Places, name: &str, program: &str) -> PathBuf {
    let bin = match name {
        "js" => "node_modules/.bin",
        _ => "bin",
    };
    places.toolchain(name).join(bin).join(program)
}

/// Installs what is missing.
pub(crate) fn ensure(language: Language, places: &Places) -> Result<(), BuildError> {
    match language {
        Language::Rust => rust(places),
        Language::C => debian("the C compiler", &CLANG, || {
            let here = Path::new(".");
            let there = |name| succeeds(program(name, here).arg("--version"));
            there("clang-19")
                && there("wasm-ld-19")
                && Path::new(CLANG_RUNTIME).is_file()
                && Path::new("/usr/include/wasm32-wasi").is_dir()
        }),
        Language::JavaScript => npm(places),
        Language::Python => pip("python", "componentize-py", places),
        Language::Zig => pip("zig", "the Zig compiler", places),
    }
}

fn rust(places: &Places) -> Result<(), BuildError> {
    let present = || {
        let mut query = program("rustc", &places.guests);
        query.args(["--print", "target-libdir", "--target", RUST_TARGET]);
        let output = query.output().ok().filter(|output| output.status.success());
        output.is_some_and(|output| {
            Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
        })
    };
    if present() {
        return Ok(());
    }
    println!("{:12} installing the Rust target {RUST_TARGET}", "");
    let mut add = program("rustup", &places.guests);
    add.args(["target", "add", RUST_TARGET]);
    install("the Rust target", line(&add), vec![add])
}

fn debian(
    what: &'static str,
    packages: &[&str],
    present: impl Fn() -> bool,
) -> Result<(), BuildError> {
    if present() {
        return Ok(());
    }
    println!("{:12} installing {what}: {}", "", packages.join(" "));
    let apt = |words: &[&str]| {
        let root = succeeds(Command::new("test").args(["-w", "/var/lib/dpkg"]));
        let mut command = match root {
            true => program("apt-get", Path::new("/")),
            false => program("sudo", Path::new("/")),
        };
        if !root {
            // Nobody is asked for a password.
            command.args(["-n", "apt-get"]);
        }
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let words = [&["install", "-y", "--no-install-recommends"], packages].concat();
    let by_hand = format!("apt-get {}", words.join(" "));
    install(what, by_hand, vec![apt(&["update"]), apt(&words)])
}

fn npm(places: &Places) -> Result<(), BuildError> {
    own("js", places, |folder| {
        debian("Node.js", &["nodejs", "npm"], || {
            succeeds(program("npm", Path::new(".")).arg("--version"))
        })?;
        println!("{:12} installing componentize-qjs", "");
        let mut npm = program("npm", folder);
        // Not `ci`: the package names builds for other systems that were never published, and `ci`
        // misses those in the lock file. What is in the lock file holds either way.
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]);
        let by_hand = format!("cd {} && {}", folder.display(), line(&npm));
        install("componentize-qjs", by_hand, vec![npm])
    })
}

fn pip(name: &str, what: &'static str, places: &Places) -> Result<(), BuildError> {
    own(name, places, |folder| {
        debian("Python", &["python3", "python3-venv"], || {
            succeeds(program("python3", Path::new(".")).args(["-c", "import venv, ensurepip"]))
        })?;
        println!("{:12} installing {what}", "");
        let mut venv = program("python3", folder);
        venv.args(["-m", "venv", "."]);
        let mut pip = program(folder.join("bin/python"), folder);
        pip.args(["-m", "pip", "install", "--quiet", "--no-cache-dir"]);
        pip.args(["--disable-pip-version-check", "-r", "requirements.txt"]);
        let by_hand = format!(
            "cd {} && {} && {}",
            folder.display(),
            line(&venv),
            line(&pip)
        );
        install(what, by_hand, vec![venv, pip])
    })
}

/// Installs into a folder of our own, with the pins in it, unless the same pins are installed
/// there. What was interrupted has no stamp and is begun anew.
fn own(
    name: &str,
    places: &Places,
    install: impl FnOnce(&Path) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let (folder, pins) = (places.toolchain(name), places.pins(name));
    let wanted = content::of_folder(&pins)?;
    let stamp = folder.join("stamp");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(BuildError::io("remove", &folder))?;
    }
    fs::create_dir_all(&folder).map_err(BuildError::io("create", &folder))?;
    for entry in fs::read_dir(&pins).map_err(BuildError::io("read", &pins))? {
        let entry = entry.map_err(BuildError::io("read", &pins))?;
        let copy = folder.join(entry.file_name());
        fs::copy(entry.path(), &copy).map_err(BuildError::io("write", &copy))?;
    }
    install(&folder)?;
    fs::write(&stamp, wanted).map_err(BuildError::io("write", &stamp))
}

fn install(what: &'static str, by_hand: String, commands: Vec<Command>) -> Result<(), BuildError> {
    for mut command in commands {
        run(&mut command).map_err(|error| BuildError::Toolchain {
            what,
            by_hand: by_hand.clone(),
            told: error.to_string(),
        })?;
    }
    Ok(())
}
