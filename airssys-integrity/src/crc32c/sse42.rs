//! CRC32C by the `crc32` instruction of SSE4.2.
//!
//! Each function answers `None` on a CPU without the instruction.
#![allow(
    unsafe_code,
    reason = "entering a function compiled for SSE4.2 is unsafe, and so is inline assembly"
)]

use core::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};

#[inline]
fn available() -> bool {
    #[cfg(feature = "std")]
    {
        // One relaxed load once the answer is known.
        std::arch::is_x86_feature_detected!("sse4.2")
    }
    #[cfg(not(feature = "std"))]
    {
        cfg!(target_feature = "sse4.2")
    }
}

/// The register after `bytes`.
#[inline]
pub(super) fn scan(state: u32, bytes: &[u8]) -> Option<u32> {
    if !available() {
        return None;
    }
    // SAFETY: the CPU has SSE4.2, checked above.
    Some(unsafe { scan_sse42(state, bytes) })
}

/// The register after `source`, which is written to `destination` on the way.
/// Both slices have the same length.
#[cfg(any(feature = "alloc", test))]
#[inline]
pub(super) fn copy(state: u32, source: &[u8], destination: &mut [u8]) -> Option<u32> {
    if !available() {
        return None;
    }
    // SAFETY: the CPU has SSE4.2, checked above.
    Some(unsafe { copy_sse42(state, source, destination) })
}

#[target_feature(enable = "sse4.2")]
fn scan_sse42(state: u32, bytes: &[u8]) -> u32 {
    let (words, tail) = bytes.as_chunks();
    let mut wide = u64::from(state);
    for word in words {
        wide = _mm_crc32_u64(wide, u64::from_le_bytes(*word));
    }
    let mut state = narrow(wide);
    for byte in tail {
        state = _mm_crc32_u8(state, *byte);
    }
    state
}

#[cfg(any(feature = "alloc", test))]
#[target_feature(enable = "sse4.2")]
fn copy_sse42(state: u32, source: &[u8], destination: &mut [u8]) -> u32 {
    let (words, tail) = source.as_chunks();
    let (slots, slots_tail) = destination.as_chunks_mut();
    let mut wide = u64::from(state);
    for (bytes, slot) in words.iter().zip(slots) {
        let word = in_register(u64::from_le_bytes(*bytes));
        wide = _mm_crc32_u64(wide, word);
        *slot = word.to_le_bytes();
    }
    let mut state = narrow(wide);
    for (byte, slot) in tail.iter().zip(slots_tail) {
        let [byte, ..] = in_register(u64::from(*byte)).to_le_bytes();
        state = _mm_crc32_u8(state, byte);
        *slot = byte;
    }
    state
}

/// `crc32` leaves the upper half of its 64-bit register zero.
fn narrow(wide: u64) -> u32 {
    wide as u32
}

/// `word`, held in a register the optimiser cannot trace back to the source.
///
/// Without it the stores of the loop may become one block copy that reads the
/// source a second time, behind the CRC's back.
#[cfg(any(feature = "alloc", test))]
#[inline(always)]
fn in_register(mut word: u64) -> u64 {
    // SAFETY: the template is a comment; no instruction is emitted.
    unsafe {
        core::arch::asm!("/* {0} */", inout(reg) word, options(nomem, nostack, preserves_flags));
    }
    word
}
