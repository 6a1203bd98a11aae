//! The interfaces in `wit/`, as Rust.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::indexing_slicing,
    reason = "generated"
)]

wasmtime::component::bindgen!({
    path: "wit",
    world: "airssys:host/services",
    imports: { default: async | trappable },
    with: {
        "wasi:keyvalue/store.bucket": super::keyvalue::Bucket,
        "wasi:keyvalue/atomics.cas": super::keyvalue::Cas,
    },
});
