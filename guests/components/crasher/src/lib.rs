//! A guest that ends in every way a guest can.
//!
//! Each way has a function of its own that is not inlined: a backtrace names it.

mod bindings {
    #![allow(
        missing_docs,
        unsafe_code,
        reason = "the generated canonical ABI glue is unsafe by nature"
    )]
    wit_bindgen::generate!({ path: "wit", world: "crasher" });
    use super::Crasher;
    export!(Crasher);
}
mod raw;

use bindings::exports::airssys::crasher::crash::Guest;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A depth no call stack reaches, in a static so that the optimiser does not know it.
static BOTTOM: AtomicU32 = AtomicU32::new(u32::MAX);
static PINGS: AtomicU32 = AtomicU32::new(0);

struct Crasher;

impl Guest for Crasher {
    fn trap() {
        raw::reach_unreachable()
    }

    fn panic(message: String) {
        panic_with(&message)
    }

    fn exit(code: u8) {
        exit_with(code)
    }

    fn overflow() -> u32 {
        descend(0)
    }

    fn divide_by_zero(x: u32) -> u32 {
        raw::divide_by_zero(x)
    }

    fn out_of_bounds() -> u8 {
        raw::read_out_of_bounds()
    }

    fn ping() -> u32 {
        PINGS.fetch_add(1, Relaxed) + 1
    }
}

#[inline(never)]
#[allow(clippy::panic, reason = "panicking is what this function is for")]
fn panic_with(message: &str) -> ! {
    panic!("{message}")
}

#[inline(never)]
fn exit_with(code: u8) -> ! {
    std::process::exit(code.into())
}

/// Recurses without a stack frame in linear memory, so that the call stack runs out first.
///
/// The work left after the call is no plain sum: LLVM would turn that into a loop.
#[inline(never)]
fn descend(depth: u32) -> u32 {
    if depth == BOTTOM.load(Relaxed) {
        return depth;
    }
    let below = descend(depth.wrapping_add(1));
    below.rotate_left(1) ^ depth
}
