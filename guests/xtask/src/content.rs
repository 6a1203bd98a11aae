//! What a tool is made of, as digests: a tool is fresh where neither that nor its component has
//! changed since it was built.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::Places;
use crate::failure::BuildError;
use crate::tool::{Language, Tool};

/// Files in a tool's folder that it is not made of.
const NOT_SOURCES: [&str; 4] = ["Component.toml", "README.md", "__pycache__", "target"];

/// Whether its component is the one that its sources make.
pub(crate) fn is_fresh(tool: &Tool, places: &Places) -> Result<bool, BuildError> {
    let Ok(component) = fs::read(places.component(tool)) else {
        return Ok(false);
    };
    let Ok(recorded) = fs::read_to_string(stamp(tool, places)) else {
        return Ok(false);
    };
    Ok(recorded == told(&sources(tool, places)?, &component))
}

/// Notes what the component was made of.
pub(crate) fn record(
    tool: &Tool,
    places: &Places,
    sources: &str,
    component: &[u8],
) -> Result<(), BuildError> {
    let path = stamp(tool, places);
    fs::write(&path, told(sources, component)).map_err(BuildError::io("write", &path))
}

fn stamp(tool: &Tool, places: &Places) -> PathBuf {
    places.target.join("tools").join(tool.name).join("stamp")
}

fn told(sources: &str, component: &[u8]) -> String {
    format!("{sources} {}\n", hex(&Sha256::digest(component)))
}

/// The digest of all that the tool is made of: its sources, its tool chain and the recipe.
pub(crate) fn sources(tool: &Tool, places: &Places) -> Result<String, BuildError> {
    let folder = places.tool(tool);
    let mut files = Vec::new();
    walk(&folder, &mut files)?;
    let tools = places.guests.join("tools");
    match tool.language {
        Language::Rust => {
            let shared = ["Cargo.toml", "Cargo.lock", ".cargo/config.toml"];
            files.extend(shared.map(|file| tools.join(file)));
        }
        Language::C => {}
        Language::JavaScript => walk(&places.pins("js"), &mut files)?,
        Language::Python => walk(&places.pins("python"), &mut files)?,
        Language::Zig => walk(&places.pins("zig"), &mut files)?,
    }
    files.sort();
    let mut digest = Sha256::new();
    digest.update(include_bytes!("recipe.rs"));
    digest.update(airssys_componentize::NULL_WASI);
    for file in files {
        let bytes = fs::read(&file).map_err(BuildError::io("read", &file))?;
        let name = file.strip_prefix(&places.guests).unwrap_or(&file);
        // Lengths keep what is in one file apart from what is in the next.
        digest.update(format!("{} {}\n", name.display(), bytes.len()));
        digest.update(&bytes);
    }
    Ok(hex(&digest.finalize()))
}

/// The digest of a tool chain's pins.
pub(crate) fn of_folder(folder: &Path) -> Result<String, BuildError> {
    let mut files = Vec::new();
    walk(folder, &mut files)?;
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        digest.update(fs::read(&file).map_err(BuildError::io("read", &file))?);
    }
    Ok(hex(&digest.finalize()))
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), BuildError> {
    let entries = fs::read_dir(folder).map_err(BuildError::io("read", folder))?;
    for entry in entries {
        let path = entry.map_err(BuildError::io("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let product = name.ends_with(".wasm") || name.ends_with(".part");
        if product || NOT_SOURCES.contains(&&*name) {
            continue;
        }
        match path.is_dir() {
            true => walk(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
