//! A guest that keeps every byte it allocates.

mod bindings {
    #![allow(
        missing_docs,
        unsafe_code,
        reason = "the generated canonical ABI glue is unsafe by nature"
    )]
    wit_bindgen::generate!({ path: "wit", world: "leaky" });
    use super::Leaky;
    export!(Leaky);
}

use bindings::exports::airssys::leaky::leak::Guest;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What `leak-until-refused` takes at a time: one page of linear memory.
const CHUNK_BYTES: u32 = 64 * 1024;

static HELD_BYTES: AtomicU64 = AtomicU64::new(0);

struct Leaky;

impl Guest for Leaky {
    fn leak(bytes: u32) -> u64 {
        keep(Vec::with_capacity(bytes as usize), bytes)
    }

    fn try_leak(bytes: u32) -> Result<u64, u64> {
        let mut memory = Vec::new();
        match memory.try_reserve_exact(bytes as usize) {
            Ok(()) => Ok(keep(memory, bytes)),
            Err(_) => Err(Self::held()),
        }
    }

    fn leak_until_refused() -> u64 {
        loop {
            Self::leak(CHUNK_BYTES);
        }
    }

    fn held() -> u64 {
        HELD_BYTES.load(Relaxed)
    }
}

/// Fills `memory`, which has room for `bytes`, and forgets it. Returns the bytes held now.
#[inline(never)]
fn keep(mut memory: Vec<u8>, bytes: u32) -> u64 {
    memory.resize(bytes as usize, 0xa5);
    // Unobserved writes to memory nobody reads could be left out.
    black_box(memory.leak());
    HELD_BYTES.fetch_add(bytes.into(), Relaxed) + u64::from(bytes)
}
