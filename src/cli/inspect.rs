//! `airssys inspect`: what a component imports and exports, as WIT or as JSON Schema.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use airssys::Exports;
use airssys::json::without_docs;
use serde_json::{Map, json};
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

/// One object, with a member for each function that can be called with JSON.
pub(super) fn schema(path: &Path, output: Output) -> Result<Exit, CliError> {
    let bytes = component(path)?;
    let exports = Exports::read(&bytes).map_err(|error| ExpectedError::NotValid {
        path: path.to_path_buf(),
        reason: error.into(),
    })?;
    let mut functions = Map::new();
    for function in exports.functions() {
        let told = match exports.schema(&function.name) {
            Ok(schema) => json!({
                "description": schema.description,
                "input": schema.input,
                "output": schema.output,
                "error": schema.error,
            }),
            Err(error) => json!({ "unavailable": error.to_string() }),
        };
        functions.insert(function.name.to_string(), told);
    }
    output.json(&functions)?;
    Ok(Exit::Ok)
}

fn decode(path: &Path) -> Result<DecodedWasm, CliError> {
    let bytes = component(path)?;
    // A WIT package keeps its documentation; in a component it is found to be out of place.
    let decoded = wit_component::decode(&bytes)
        .or_else(|error| wit_component::decode(&without_docs(&bytes)).map_err(|_| error));
    let not_valid = |error: anyhow::Error| ExpectedError::NotValid {
        path: path.to_path_buf(),
        reason: error.into(),
    };
    Ok(decoded.map_err(not_valid)?)
}

/// The bytes of what may be a component.
fn component(path: &Path) -> Result<Vec<u8>, ExpectedError> {
    let bytes = read(path)?;
    let path = path.to_path_buf();
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(ExpectedError::CoreModule { path }),
        Some([0, b'a', b's', b'm', ..]) => Ok(bytes),
        _ => Err(ExpectedError::NotWasm { path }),
    }
}

/// Reads a regular file only: a pipe or a device could block or never end.
fn read(path: &Path) -> Result<Vec<u8>, ExpectedError> {
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
