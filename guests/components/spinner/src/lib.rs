//! A guest that spends time, its own or the host's.

mod bindings {
    #![allow(
        missing_docs,
        unsafe_code,
        reason = "the generated canonical ABI glue is unsafe by nature"
    )]
    wit_bindgen::generate!({ path: "wit", world: "spinner" });
    use super::Spinner;
    export!(Spinner);
}

use bindings::exports::airssys::spinner::spin::Guest;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

static PINGS: AtomicU32 = AtomicU32::new(0);

struct Spinner;

impl Guest for Spinner {
    fn spin() {
        spin_for_ever()
    }

    fn spin_for(iterations: u64) -> u64 {
        (0..iterations).fold(0, |state, _| step(state))
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a call parked in the host is what this function is for"
    )]
    fn park_ms(milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }

    fn spin_then_park(iterations: u64, milliseconds: u64) -> u64 {
        let state = Self::spin_for(iterations);
        Self::park_ms(milliseconds);
        state
    }

    fn ping() -> u32 {
        PINGS.fetch_add(1, Relaxed) + 1
    }
}

#[inline(never)]
fn spin_for_ever() -> ! {
    let mut state = 0;
    loop {
        state = step(state);
    }
}

/// One round of a linear congruential generator (Knuth's MMIX constants), opaque to the optimiser.
fn step(state: u64) -> u64 {
    black_box(state)
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407)
}
