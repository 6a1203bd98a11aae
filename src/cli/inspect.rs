//! `airssys inspect`: what a component imports and exports, as WIT.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::json;
use wit_component::{DecodedWasm, OutputToString, WitPrinter};

use super::Exit;
use super::error::{CliError, ExpectedError, Failure};
use super::output::Output;

/// Most bytes of a binary, the same as a host accepts.
const MAX_WASM_BYTES: u64 = airssys_wasm::MAX_WASM_BYTES;

pub(super) fn inspect(path: &Path, output: Output) -> Result<Exit, CliError> {
    let decoded = decode(path)?;
    let wit = print(path, &decoded)?;
    if !output.is_json() {
        output.line(&wit)?;
        return Ok(Exit::Ok);
    }
    let (imports, exports) = names(&decoded);
    output.json(&json!({
        "file": path.display().to_string(),
        "imports": imports,
        "exports": exports,
        "wit": wit,
    }))?;
    Ok(Exit::Ok)
}

fn decode(path: &Path) -> Result<DecodedWasm, CliError> {
    let bytes = read(path)?;
    let path = path.to_path_buf();
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(ExpectedError::CoreModule { path }.into()),
        Some([0, b'a', b's', b'm', ..]) => wit_component::decode(&bytes).map_err(|error| {
            ExpectedError::NotValid {
                path,
                reason: error.into(),
            }
            .into()
        }),
        _ => Err(ExpectedError::NotWasm { path }.into()),
    }
}

/// Reads a regular file only: a pipe or a device could block or never end.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ExpectedError> {
    let failed = |source| ExpectedError::Unreadable {
        path: path.to_path_buf(),
        source,
    };
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_file() || found.len() > MAX_WASM_BYTES {
        return Err(ExpectedError::Unfit {
            path: path.to_path_buf(),
            limit_bytes: MAX_WASM_BYTES,
        });
    }
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(MAX_WASM_BYTES)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// The world first, then every package it mentions.
fn print(path: &Path, decoded: &DecodedWasm) -> Result<String, Failure> {
    let resolve = decoded.resolve();
    let own = decoded.package();
    let others: Vec<_> = resolve
        .packages
        .iter()
        .map(|(id, _)| id)
        .filter(|id| *id != own)
        .collect();
    let mut printer = WitPrinter::new(OutputToString::default());
    printer
        .print(resolve, own, &others)
        .map_err(|error| Failure::Print {
            path: path.to_path_buf(),
            reason: error.into(),
        })?;
    Ok(printer.output.to_string())
}

/// Names of what a component imports and exports; a WIT package has neither.
fn names(decoded: &DecodedWasm) -> (Vec<String>, Vec<String>) {
    let DecodedWasm::Component(resolve, world) = decoded else {
        return (Vec::new(), Vec::new());
    };
    let Some(world) = resolve.worlds.get(*world) else {
        return (Vec::new(), Vec::new());
    };
    let name = |key| resolve.name_world_key(key);
    (
        world.imports.keys().map(name).collect(),
        world.exports.keys().map(name).collect(),
    )
}
