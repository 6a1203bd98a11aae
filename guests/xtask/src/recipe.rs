//! How a component is made in each language. A change here makes every tool anew.

use std::fs;
use std::path::{Path, PathBuf};

use airssys_componentize::{componentize, write_c_bindings};

use crate::Places;
use crate::command::{program, run};
use crate::failure::BuildError;
use crate::tool::{Language, Tool};
use crate::toolchain::installed;

/// Bytes of stack of a tool in C or Zig.
const STACK_BYTES: u32 = 32 * 1024;

/// Builds a tool in its work folder and answers with the component.
pub(crate) fn build(tool: &Tool, places: &Places) -> Result<Vec<u8>, BuildError> {
    let (folder, work) = (places.tool(tool), places.work(tool));
    fs::create_dir_all(&work).map_err(BuildError::io("create", &work))?;
    match tool.language {
        Language::Rust => rust(tool, places),
        Language::C => c(tool, &folder, &work),
        Language::JavaScript => javascript(tool, places, &folder, &work),
        Language::Python => python(tool, places, &folder, &work),
        Language::Zig => zig(tool, places, &folder, &work),
    }
}

fn rust(tool: &Tool, places: &Places) -> Result<Vec<u8>, BuildError> {
    let mut cargo = program("cargo", &places.guests.join("tools"));
    cargo
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            "wasm32-wasip2",
        ])
        .args(["--package", tool.name, "--target-dir"])
        .arg(&places.target);
    run(&mut cargo)?;
    let file = tool.name.replace('-', "_");
    read(
        &places
            .target
            .join("wasm32-wasip2/release")
            .join(file)
            .with_extension("wasm"),
    )
}

fn c(tool: &Tool, folder: &Path, work: &Path) -> Result<Vec<u8>, BuildError> {
    write_c_bindings(&folder.join("wit"), None, work)?;
    let (core, bindings) = (work.join("core.wasm"), work.join(tool.name));
    let mut clang = program("clang-19", folder);
    clang
        .args(["--target=wasm32-wasi", "-mexec-model=reactor", "-std=c17"])
        .args(["-Os", "-Wall", "-Wextra", "-I"])
        .arg(work)
        .arg(bindings.with_extension("c"))
        .arg(format!("{}_component_type.o", bindings.display()))
        .args(files(folder, "c")?)
        .args([
            "-fuse-ld=/usr/bin/wasm-ld-19",
            "-Wl,--gc-sections",
            "-Wl,--strip-debug",
        ])
        .arg(format!("-Wl,-z,stack-size={STACK_BYTES}"))
        .arg("-o")
        .arg(&core);
    run(&mut clang)?;
    Ok(componentize(&read(&core)?)?)
}

fn javascript(
    tool: &Tool,
    places: &Places,
    folder: &Path,
    work: &Path,
) -> Result<Vec<u8>, BuildError> {
    let out = work.join("component.wasm");
    let mut tool_chain = program(installed(places, "js", "componentize-qjs"), folder);
    tool_chain
        .args(["--wit", "wit", "--world", tool.name, "--js"])
        .args(files(folder, "js")?)
        // One memory's worth of runtime, without WASI and without the async ABI.
        .args([
            "--sync",
            "--stub-wasi",
            "--opt-size",
            "--minify",
            "--output",
        ])
        .arg(&out);
    run(&mut tool_chain)?;
    read(&out)
}

fn python(tool: &Tool, places: &Places, folder: &Path, work: &Path) -> Result<Vec<u8>, BuildError> {
    let out = work.join("component.wasm");
    let mut tool_chain = program(installed(places, "python", "componentize-py"), folder);
    tool_chain
        .args(["--wit-path", "wit", "--world", tool.name, "componentize"])
        .args(["--stub-wasi", "app", "--output"])
        .arg(&out)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    run(&mut tool_chain)?;
    read(&out)
}

fn zig(tool: &Tool, places: &Places, folder: &Path, work: &Path) -> Result<Vec<u8>, BuildError> {
    write_c_bindings(&folder.join("wit"), None, work)?;
    let core = work.join("core.wasm");
    let bindings = work.join(tool.name);
    let mut zig = program(installed(places, "zig", "python"), folder);
    zig.args(["-m", "ziglang", "build-exe", "-target", "wasm32-wasi"])
        .args(["-mexec-model=reactor", "-OReleaseSmall", "-lc", "-I"])
        .arg(work)
        .args(["--stack", &STACK_BYTES.to_string()])
        // The file that the others are imported from.
        .arg(folder.join(tool.name).with_extension("zig"))
        .args(files(folder, "c")?)
        .arg(bindings.with_extension("c"))
        .arg(format!("{}_component_type.o", bindings.display()))
        .arg("--cache-dir")
        .arg(work.join("cache"))
        .arg("--global-cache-dir")
        .arg(places.toolchain("zig").join("cache"))
        .arg(format!("-femit-bin={}", core.display()));
    run(&mut zig)?;
    Ok(componentize(&read(&core)?)?)
}

/// A tool's sources in one language, in the order of their names.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, BuildError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(BuildError::io("read", folder))? {
        let path = entry.map_err(BuildError::io("read", folder))?.path();
        if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(BuildError::io("read", path))
}
