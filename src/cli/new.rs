//! `airssys new`: a tool project that builds, loads and answers.

use std::fs;
use std::io;
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
type File = (&'static str, &'static str);

impl Language {
    /// The files that other languages have not, or have otherwise.
    fn files(self) -> &'static [File] {
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

/// Writes all of them, or none: first to a folder beside, then to where they belong.
fn write(folder: &Path, files: &[(&str, String)]) -> Result<(), CliError> {
    let there = exists_empty(folder)?;
    let aside = aside(folder);
    let done = fill(&aside, files).and_then(|()| match there {
        false => fs::rename(&aside, folder).map_err(failed(folder)),
        true => move_into(&aside, folder),
    });
    if aside.exists() {
        // What is left of it is nobody's; that the project was not written is what is told.
        fs::remove_dir_all(&aside).ok();
    }
    Ok(done?)
}

/// Whether the folder is there; it is refused where anything is in it.
fn exists_empty(folder: &Path) -> Result<bool, ExpectedError> {
    let empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(_) => false,
    };
    let path = folder.to_path_buf();
    empty
        .then_some(true)
        .ok_or(ExpectedError::NotEmpty { path })
}

/// A hidden folder in the same directory, so that renaming moves no bytes.
fn aside(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let hidden = format!(".{name}.new-{}", std::process::id());
    match folder.file_name() {
        Some(_) => folder.with_file_name(hidden),
        // `.` or `..`, which are there: their own inside is the same file system.
        None => folder.join(hidden),
    }
}

fn fill(folder: &Path, files: &[(&str, String)]) -> Result<(), Failure> {
    for (name, text) in files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(failed(parent))?;
        fs::write(&path, text).map_err(failed(&path))?;
    }
    Ok(())
}

/// Moves what is in one folder to another; where that fails half way, what was moved goes again.
fn move_into(from: &Path, to: &Path) -> Result<(), Failure> {
    let mut moved = Vec::new();
    let moving = move_each(from, to, &mut moved);
    moving.map_err(|source| {
        for path in &moved {
            // As above: the failure itself is what is told.
            fs::remove_dir_all(path)
                .or_else(|_| fs::remove_file(path))
                .ok();
        }
        failed(to)(source)
    })
}

fn move_each(from: &Path, to: &Path, moved: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        fs::rename(entry.path(), &target)?;
        moved.push(target);
    }
    Ok(())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_path_buf();
    move |source| Failure::Files { path, source }
}
