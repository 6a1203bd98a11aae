//! Programs that are run, and what they say where they fail.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::BuildError;

/// Lines of a failed program's output that are told: the last ones say what was wrong.
const TOLD_LINES: usize = 40;

/// What cargo or the user says of host builds, which is not meant for guests.
const HOST_VARIABLES: [&str; 7] = [
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS",
    "RUSTFLAGS",
];

/// A program to be run in a folder, without a standard input.
pub(crate) fn program(name: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(name);
    command.current_dir(folder).stdin(Stdio::null());
    for variable in HOST_VARIABLES {
        command.env_remove(variable);
    }
    command
}

/// Runs it to its end; what it writes is told only where it fails.
pub(crate) fn run(command: &mut Command) -> Result<(), BuildError> {
    let output = command.output().map_err(|source| BuildError::Start {
        line: line(command),
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    let lines: Vec<&str> = told.lines().collect();
    let last = lines.len().saturating_sub(TOLD_LINES);
    Err(BuildError::Command {
        line: line(command),
        folder: command.get_current_dir().unwrap_or(Path::new(".")).into(),
        status: output.status,
        told: lines.into_iter().skip(last).collect::<Vec<_>>().join("\n"),
    })
}

/// Whether it can be started and ends well.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    run(command).is_ok()
}

pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
