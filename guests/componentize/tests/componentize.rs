//! Components of core modules that call WASI preview 1 as C libraries do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets something unexpected should fail there"
)]

use airssys_componentize::{ComponentizeError, NULL_WASI, componentize, write_c_bindings};
use wit_bindgen_core::wit_parser::Resolve;
use wit_component::{DecodedWasm, StringEncoding, embed_component_metadata};

/// A core module of a world that exports `f`.
fn core(text: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap();
    let mut resolve = Resolve::default();
    let wit = "package a:b;\nworld w { export f: func() -> u32; }\n";
    let package = resolve.push_str("world.wit", wit).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

/// A module that imports each function of WASI preview 1 by the signature that C libraries have.
fn importing(functions: &[(&str, &str)]) -> Vec<u8> {
    let import = |(name, signature): &(&str, &str)| {
        format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func {signature}))\n")
    };
    let imports: String = functions.iter().map(import).collect();
    core(&format!(
        "(module {imports} (memory (export \"memory\") 1)
            (func (export \"f\") (result i32) (i32.const 7)))"
    ))
}

#[test]
fn what_a_module_imports_of_wasi_ends_in_the_component() {
    let wasi = [
        ("fd_write", "(param i32 i32 i32 i32) (result i32)"),
        ("fd_seek", "(param i32 i64 i32 i32) (result i32)"),
        ("clock_time_get", "(param i32 i64 i32) (result i32)"),
        ("environ_sizes_get", "(param i32 i32) (result i32)"),
        (
            "path_open",
            "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)",
        ),
        ("random_get", "(param i32 i32) (result i32)"),
        ("proc_exit", "(param i32)"),
        ("sched_yield", "(result i32)"),
    ];
    let component = componentize(&importing(&wasi)).unwrap();
    let DecodedWasm::Component(resolve, world) = wit_component::decode(&component).unwrap() else {
        panic!("no component");
    };
    let world = resolve.worlds.get(world).unwrap();
    assert_eq!(world.imports.len(), 0);
    assert_eq!(world.exports.len(), 1);
}

#[test]
fn the_adapter_has_every_function_of_wasi_preview_1() {
    let adapter = wat::parse_str(NULL_WASI).unwrap();
    let payloads = wasmparser::Parser::new(0).parse_all(&adapter);
    let exports: usize = payloads
        .filter_map(|payload| match payload.unwrap() {
            wasmparser::Payload::ExportSection(section) => Some(section.count() as usize),
            _ => None,
        })
        .sum();
    assert_eq!(exports, 46);
}

#[test]
fn what_is_not_of_a_world_becomes_no_component() {
    let bare = wat::parse_str("(module (func (export \"f\")))").unwrap();
    let refused = componentize(&bare).unwrap_err();
    assert!(matches!(refused, ComponentizeError::NoWorld), "{refused}");
    let elsewhere = core("(module (memory (export \"memory\") 1))");
    let unknown = importing(&[("not_of_wasi", "(result i32)")]);
    for module in [&b"not a module"[..], &elsewhere, &unknown] {
        let refused = componentize(module).unwrap_err();
        assert!(
            matches!(refused, ComponentizeError::Module { .. }),
            "{refused}"
        );
    }
}

#[test]
fn bindings_are_a_header_a_source_and_the_world() {
    let dir = tempfile::tempdir().unwrap();
    let wit = dir.path().join("world.wit");
    let text = "package a:b;\nworld w { export f: func(x: string) -> result<u32, string>; }\n";
    std::fs::write(&wit, text).unwrap();
    let out = dir.path().join("out/below");
    let files = write_c_bindings(&wit, None, &out).unwrap();
    let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap()).collect();
    assert_eq!(names, ["w.c", "w.h", "w_component_type.o"]);
    let header = std::fs::read_to_string(out.join("w.h")).unwrap();
    assert!(header.contains("bool exports_w_f(w_string_t *x, uint32_t *ret, w_string_t *err);"));
}
