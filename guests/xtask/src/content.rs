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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use super::*;
    use crate::tool::TOOLS;

    /// Places below a folder of the test's own, with one tool in C.
    fn places() -> (tempfile::TempDir, Places) {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            guests: dir.path().join("guests"),
            target: dir.path().join("target"),
        };
        let tool = c();
        fs::create_dir_all(places.tool(tool).join("wit")).unwrap();
        fs::create_dir_all(places.work(tool)).unwrap();
        fs::write(places.tool(tool).join("tool.c"), "int x;").unwrap();
        fs::write(places.tool(tool).join("wit/world.wit"), "world").unwrap();
        (dir, places)
    }

    fn c() -> &'static Tool {
        TOOLS
            .iter()
            .find(|tool| tool.language == Language::C)
            .unwrap()
    }

    fn built(places: &Places) {
        let sources = sources(c(), places).unwrap();
        fs::write(places.component(c()), "component").unwrap();
        record(c(), places, &sources, b"component").unwrap();
    }

    #[test]
    fn a_tool_is_fresh_until_a_source_or_its_component_changes() {
        let (_dir, places) = places();
        assert!(!is_fresh(c(), &places).unwrap());
        built(&places);
        assert!(is_fresh(c(), &places).unwrap());
        for (file, makes_stale) in [
            ("tool.c", true),
            ("wit/world.wit", true),
            ("another.c", true),
            ("csv.wasm", true),
            ("README.md", false),
            ("Component.toml", false),
        ] {
            built(&places);
            fs::write(places.tool(c()).join(file), "changed").unwrap();
            assert_eq!(is_fresh(c(), &places).unwrap(), !makes_stale, "{file}");
        }
        built(&places);
        fs::remove_file(places.component(c())).unwrap();
        assert!(!is_fresh(c(), &places).unwrap());
    }

    #[test]
    fn what_moves_from_one_file_to_the_next_is_a_change() {
        let (_dir, places) = places();
        let folder = places.tool(c());
        fs::write(folder.join("a.c"), "ab").unwrap();
        fs::write(folder.join("b.c"), "c").unwrap();
        let before = sources(c(), &places).unwrap();
        fs::write(folder.join("a.c"), "a").unwrap();
        fs::write(folder.join("b.c"), "bc").unwrap();
        assert_ne!(sources(c(), &places).unwrap(), before);
    }

    #[test]
    fn every_tool_has_its_folder_and_its_sources() {
        let guests = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let places = Places {
            guests: guests.to_path_buf(),
            target: guests.join("none"),
        };
        for tool in &TOOLS {
            assert_eq!(sources(tool, &places).unwrap().len(), 64);
            let toml = places.tool(tool).join("Component.toml");
            let toml = fs::read_to_string(toml).unwrap();
            let name = tool.name;
            assert!(toml.contains(&format!("wasm = \"{name}.wasm\"")), "{name}");
        }
        let folders = fs::read_dir(guests.join("tools")).unwrap();
        let folders = folders.filter(|entry| {
            let path = entry.as_ref().unwrap().path();
            path.join("Component.toml").is_file()
        });
        assert_eq!(folders.count(), TOOLS.len());
    }
}
