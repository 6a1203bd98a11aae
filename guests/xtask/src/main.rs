//! `cargo xtask guests [NAME..] [--list]`: the tools of `guests/tools`, built each with its own
//! language's tool chain. What is missing of those is installed below `target/guests/toolchains`.

mod command;
mod content;
mod failure;
mod recipe;
mod tool;
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs};

use failure::BuildError;
use tool::{TOOLS, Tool};

const USAGE: &str = "usage: cargo xtask guests [NAME..] [--list]";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            match error {
                BuildError::Usage { .. } => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: &[String]) -> Result<(), BuildError> {
    let usage = |problem: String| BuildError::Usage { problem };
    let (task, rest) = arguments
        .split_first()
        .ok_or_else(|| usage(String::from(USAGE)))?;
    if task != "guests" {
        return Err(usage(format!("no task `{task}`; {USAGE}")));
    }
    let (flags, names): (Vec<_>, Vec<_>) = rest.iter().partition(|word| word.starts_with('-'));
    if let Some(flag) = flags.iter().find(|flag| **flag != "--list") {
        return Err(usage(format!("no flag `{flag}`; {USAGE}")));
    }
    let known = |name: &&String| TOOLS.iter().any(|tool| tool.name == name.as_str());
    if let Some(name) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = TOOLS.iter().map(|tool| tool.name).collect();
        let problem = format!("no tool `{name}`; there are: {}", all.join(", "));
        return Err(usage(problem));
    }
    let asked = |tool: &&Tool| names.is_empty() || names.iter().any(|name| *name == tool.name);
    let tools = TOOLS.iter().filter(asked);
    let places = Places::find()?;
    if !flags.is_empty() {
        for tool in tools {
            let state = match content::is_fresh(tool, &places)? {
                true => "built",
                false => "not built",
            };
            println!("{:12} {:12} {state}", tool.name, tool.language.name());
        }
        return Ok(());
    }
    let _one_at_a_time = places.lock()?;
    for tool in tools {
        make(tool, &places)?;
    }
    Ok(())
}

/// Builds a tool, unless it is made of what is there now.
fn make(tool: &Tool, places: &Places) -> Result<(), BuildError> {
    if content::is_fresh(tool, places)? {
        println!("{:12} up to date", tool.name);
        return Ok(());
    }
    toolchain::ensure(tool.language, places)?;
    println!("{:12} building ({})", tool.name, tool.language.name());
    let began = Instant::now();
    // Told before the build: what changes meanwhile is for the next one.
    let sources = content::sources(tool, places)?;
    let wasm = recipe::build(tool, places)?;
    replace(&places.component(tool), &wasm)?;
    content::record(tool, places, &sources, &wasm)?;
    println!(
        "{:12} {} KiB in {:.1} s",
        tool.name,
        wasm.len().div_ceil(1024),
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Where everything is.
struct Places {
    /// The folder `guests` of the repository.
    guests: PathBuf,
    /// The folder `guests` of the target folder.
    target: PathBuf,
}

impl Places {
    fn find() -> Result<Self, BuildError> {
        let guests = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        // This program is `<target>/<profile>/xtask`.
        let program = env::current_exe().map_err(BuildError::io("find", Path::new("xtask")))?;
        match (guests, program.ancestors().nth(2)) {
            (Some(guests), Some(target)) => Ok(Self {
                guests: guests.to_path_buf(),
                target: target.join("guests"),
            }),
            _ => Err(BuildError::Usage {
                problem: String::from("run it as `cargo xtask`"),
            }),
        }
    }

    /// A tool's sources, and beside them its component.
    fn tool(&self, tool: &Tool) -> PathBuf {
        self.guests.join("tools").join(tool.name)
    }

    fn component(&self, tool: &Tool) -> PathBuf {
        self.tool(tool).join(tool.name).with_extension("wasm")
    }

    /// What a build leaves beside the component.
    fn work(&self, tool: &Tool) -> PathBuf {
        self.target.join("tools").join(tool.name)
    }

    /// The place of a tool chain of our own.
    fn toolchain(&self, name: &str) -> PathBuf {
        self.target.join("toolchains").join(name)
    }

    /// What a tool chain is made of.
    fn pins(&self, name: &str) -> PathBuf {
        self.guests.join("toolchains").join(name)
    }

    fn lock(&self) -> Result<fs::File, BuildError> {
        fs::create_dir_all(&self.target).map_err(BuildError::io("create", &self.target))?;
        let path = self.target.join("xtask.lock");
        let file = fs::File::create(&path).map_err(BuildError::io("create", &path))?;
        file.lock().map_err(BuildError::io("lock", &path))?;
        Ok(file)
    }
}

/// Writes by renaming: whoever is interrupted leaves the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let aside = path.with_extension("part");
    fs::write(&aside, bytes).map_err(BuildError::io("write", &aside))?;
    fs::rename(&aside, path).map_err(BuildError::io("write", path))
}
