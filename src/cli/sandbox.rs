//! The operating system's sandbox around the program, put up before any thread but the first runs.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use airssys::SystemConfig;
use airssys_osl::{Sandbox, SandboxMode};

use super::error::{CliError, ExpectedError, Failure};
use super::output::Output;
use super::watch;

/// Reads the file and puts up the sandbox that it asks for, with what `beside` needs: the place of
/// a status socket; and, where it is `watched`: the folders of the files that may change. The file is not read again, since inside it may be out of reach.
pub(super) fn enter(
    file: &Path,
    beside: Option<&Path>,
    watched: bool,
    output: Output,
) -> Result<SystemConfig, CliError> {
    let config = SystemConfig::load(file).map_err(ExpectedError::Config)?;
    if config.sandbox.mode == SandboxMode::Off {
        return Ok(config);
    }
    // Inside nothing could make them any more.
    for directory in config.directories().filter(|directory| !directory.exists()) {
        let made = DirBuilder::new().mode(0o700).create(directory);
        made.map_err(|source| Failure::Directory {
            path: directory.to_path_buf(),
            source,
        })?;
    }
    let mut sandbox = config.sandbox();
    sandbox
        .write
        .extend(beside.and_then(Path::parent).map(Path::to_path_buf));
    if watched {
        sandbox.read.extend(watch::folders(file, &config));
    }
    let report = Sandbox::new(sandbox).apply().map_err(Failure::Sandbox)?;
    if !report.lacking.is_empty() && !output.is_json() {
        let lacking: Vec<String> = report.lacking.iter().map(ToString::to_string).collect();
        let kernel = &report.kernel;
        output.note(&format!(
            "the sandbox does not hold {} on {kernel}",
            lacking.join(", ")
        ));
    }
    tracing::info!(held = ?report.held, lacking = ?report.lacking, "inside the sandbox");
    Ok(config)
}
