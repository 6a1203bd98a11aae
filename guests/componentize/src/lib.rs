//! C bindings of WIT, and components of core modules: what a guest in C, C++ or Zig needs beside a
//! compiler.
//!
//! [`write_c_bindings`] writes a header, a source file and an object file that carries the world;
//! all three go to the compiler with the guest's own source. [`componentize`] makes a component of
//! what the linker leaves. C libraries call WASI preview 1; those calls end in the component itself,
//! where there is nothing to be had, so that the component imports no WASI at all.

mod bindings;
mod component;

pub use bindings::{BindingsError, write_c_bindings};
pub use component::{ComponentizeError, NULL_WASI, componentize};
