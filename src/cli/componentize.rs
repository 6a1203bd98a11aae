//! `airssys bindings` and `airssys componentize`: the steps between WIT, a C compiler and a component
//! that no package of a C tool chain has.

use std::fs;
use std::path::Path;

use airssys_componentize::BindingsError;
use clap::ValueEnum;
use serde_json::json;

use super::error::{CliError, ExpectedError, Failure};
use super::output::Output;
use super::{BindingsArgs, ComponentizeArgs, Exit, inspect};

/// What bindings can be written in.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum BindingsLanguage {
    C,
}

pub(super) fn bindings(args: &BindingsArgs, output: Output) -> Result<Exit, CliError> {
    let BindingsLanguage::C = args.language;
    let written =
        airssys_componentize::write_c_bindings(&args.wit, args.world.as_deref(), &args.out);
    let files = written.map_err(|error| match error {
        BindingsError::Write { path, source } => Failure::Files { path, source }.into(),
        error => CliError::from(ExpectedError::Bindings(error)),
    })?;
    let files: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    match output.is_json() {
        true => output.json(&json!({ "files": files }))?,
        false => output.line(&files.join("\n"))?,
    }
    Ok(Exit::Ok)
}

pub(super) fn componentize(args: &ComponentizeArgs, output: Output) -> Result<Exit, CliError> {
    let core = inspect::read(&args.core)?;
    let component = airssys_componentize::componentize(&core).map_err(|source| {
        CliError::from(ExpectedError::Componentize {
            path: args.core.clone(),
            source,
        })
    })?;
    replace(&args.out, &component)?;
    if output.is_json() {
        let file = args.out.display().to_string();
        output.json(&json!({ "file": file, "bytes": component.len() }))?;
    }
    Ok(Exit::Ok)
}

/// Writes by renaming: whoever is interrupted leaves the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let aside = path.with_extension(format!("{}.part", std::process::id()));
    let written = fs::write(&aside, bytes).and_then(|()| fs::rename(&aside, path));
    written.map_err(|source| {
        // What is left of it is nobody's; that nothing was written is what is told.
        fs::remove_file(&aside).ok();
        let path = path.to_path_buf();
        Failure::Files { path, source }
    })
}
