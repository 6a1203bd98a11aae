//! `airssys new`: a tool project that builds, loads and answers.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use airssys::ComponentName;
use clap::ValueEnum;
use serde_json::json;

use super::error::{CliError, ExpectedError, Failure};
use super::output::Output;
use super::{Exit, NewArgs};

/// What a tool is written in.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Language {
    Rust,
    C,
    Js,
    Python,
}

const WORLD: &str = include_str!("new/world.wit");
const COMPONENT_TOML: &str = include_str!("new/Component.toml");
const AIRSSYS_TOML: &str = include_str!("new/airssys.toml");

/// CPython's: what it starts with is above the ceiling, and it is made of many instances.
const PYTHON_BYTES: u32 = 16 * 1024 * 1024;
const PYTHON_RESOURCES: &str =
    "load_timeout_seconds = 300\n\n[resources.counts]\nmax_instances = 128\n";
const PYTHON_POLICY: &str = "\n[policy.memory]\nmax_bytes = 16777216\n\n\
                             [system.cache]\ndirectory = \"cache\"\n\n";

/// A file of a project: where, and what stands in it.
type Template = (&'static str, &'static str);

impl Language {
    /// The files that other languages have not, or have otherwise.
    fn files(self) -> &'static [Template] {
        match self {
            Self::Rust => &[
                (".gitignore", include_str!("new/rust/gitignore")),
                ("Cargo.toml", include_str!("new/rust/manifest.toml")),
                ("README.md", include_str!("new/rust/README.md")),
                ("src/lib.rs", include_str!("new/rust/greeting.rs")),
            ],
            Self::C => &[
                (".gitignore", include_str!("new/c/gitignore")),
                ("README.md", include_str!("new/c/README.md")),
                ("greeting.c", include_str!("new/c/greeting.c")),
            ],
            Self::Js => &[
                (".gitignore", include_str!("new/js/gitignore")),
                ("README.md", include_str!("new/js/README.md")),
                ("tool.js", include_str!("new/js/tool.js")),
            ],
            Self::Python => &[
                (".gitignore", include_str!("new/python/gitignore")),
                ("README.md", include_str!("new/python/README.md")),
                ("app.py", include_str!("new/python/app.py")),
            ],
        }
    }

    /// What its runtime needs, with room for the tool's own.
    fn max_bytes(self) -> u32 {
        match self {
            Self::C => 1024 * 1024,
            // Its linker's default is a stack of 1 MiB.
            Self::Rust => 2 * 1024 * 1024,
            Self::Js => 4 * 1024 * 1024,
            Self::Python => PYTHON_BYTES,
        }
    }
}

pub(super) fn new(args: &NewArgs, output: Output) -> Result<Exit, CliError> {
    let name: ComponentName = args.name.parse().map_err(|source| ExpectedError::Name {
        name: args.name.clone(),
        source,
    })?;
    let folder = args.path.clone().unwrap_or_else(|| name.as_str().into());
    let files = project(&name, args.lang);
    write(&folder, &files)?;
    if output.is_json() {
        let names: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
        output.json(&json!({ "folder": folder.display().to_string(), "files": names }))?;
    } else {
        let folder = folder.display();
        output.line(&format!(
            "made {folder}; {folder}/README.md says how to build it"
        ))?;
    }
    Ok(Exit::Ok)
}

/// The files of a project and their texts.
fn project(name: &ComponentName, language: Language) -> Vec<(&'static str, String)> {
    let (resources, policy) = match language {
        Language::Python => (PYTHON_RESOURCES, PYTHON_POLICY),
        _ => ("", "\n"),
    };
    let shared = [
        ("Component.toml", COMPONENT_TOML),
        ("airssys.toml", AIRSSYS_TOML),
        ("wit/world.wit", WORLD),
    ];
    let filled = |text: &str| {
        let text = text
            .replace("{{name}}", name.as_str())
            .replace("{{max_bytes}}", &language.max_bytes().to_string())
            .replace("{{resources}}\n", resources);
        text.replace("{{policy}}", policy)
    };
    let all = language.files().iter().chain(&shared);
    all.map(|(path, text)| (*path, filled(text))).collect()
}

/// Writes all of them, or none.
fn write(folder: &Path, files: &[(&str, String)]) -> Result<(), CliError> {
    if is_in_use(folder) {
        let path = folder.to_path_buf();
        return Err(ExpectedError::NotEmpty { path }.into());
    }
    let mut made = Vec::new();
    let filled = fill(folder, files, &mut made);
    if filled.is_err() {
        // Backwards, so that a folder is empty when its turn comes. That the project was not written
        // is what is told, whatever stays of it.
        for path in made.iter().rev() {
            fs::remove_file(path).or_else(|_| fs::remove_dir(path)).ok();
        }
    }
    Ok(filled?)
}

/// Whether it is anything but an empty folder, or nothing.
pub(super) fn is_in_use(folder: &Path) -> bool {
    match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Writes the files, and notes in `made` all that was not there before.
fn fill(folder: &Path, files: &[(&str, String)], made: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for (name, text) in files {
        let path = folder.join(name);
        make_folder(path.parent().unwrap_or(folder), made)?;
        let mut file = File::create_new(&path).map_err(failed(&path))?;
        made.push(path.clone());
        file.write_all(text.as_bytes()).map_err(failed(&path))?;
    }
    Ok(())
}

fn make_folder(folder: &Path, made: &mut Vec<PathBuf>) -> Result<(), Failure> {
    // The parent of a bare name is the empty path: where the program runs.
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder(parent, made)?;
    }
    fs::create_dir(folder).map_err(failed(folder))?;
    made.push(folder.to_path_buf());
    Ok(())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_path_buf();
    move |source| Failure::Files { path, source }
}
