//! What the rest of the workspace takes for granted about a built guest.

use airssys_guests::{ALL, CRASHER};

/// The preamble of a binary component: magic, version 13, layer 1 (a core module has layer 0).
const COMPONENT_PREAMBLE: &[u8] = b"\0asm\x0d\0\x01\0";

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

#[test]
fn every_guest_is_a_component_named_by_its_manifest() {
    for guest in ALL {
        assert!(guest.wasm.starts_with(COMPONENT_PREAMBLE), "{}", guest.name);
        let name = format!("name = \"{}\"", guest.name);
        let wasm = format!("wasm = \"{}.wasm\"", guest.name);
        assert!(guest.component_toml.contains(&name), "{}", guest.name);
        assert!(guest.component_toml.contains(&wasm), "{}", guest.name);
    }
}

#[test]
fn function_names_are_kept_and_debug_information_is_not() {
    for name in ["reach_unreachable", "panic_with", "descend"] {
        assert!(contains(CRASHER.wasm, name), "{name}");
    }
    for guest in ALL {
        assert!(!contains(guest.wasm, ".debug_info"), "{}", guest.name);
    }
}
