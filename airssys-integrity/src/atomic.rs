//! The atomics of the target, or those of the model checker.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, Ordering, fence};

#[cfg(all(not(loom), target_has_atomic = "64"))]
use core::sync::atomic::AtomicU64;
#[cfg(loom)]
use loom::sync::atomic::AtomicU64;

/// The unit in which a region is loaded and stored: 64 bits where the target has atomics of that
/// width, else 32.
#[cfg(any(loom, target_has_atomic = "64"))]
pub type AtomicWord = AtomicU64;
/// The unit in which a region is loaded and stored: 64 bits where the target has atomics of that
/// width, else 32.
#[cfg(not(any(loom, target_has_atomic = "64")))]
pub type AtomicWord = AtomicU32;

/// Words in a lane of eight bytes.
#[cfg(any(loom, target_has_atomic = "64"))]
pub(crate) const LANE_WORDS: usize = 1;
/// Words in a lane of eight bytes.
#[cfg(not(any(loom, target_has_atomic = "64")))]
pub(crate) const LANE_WORDS: usize = 2;

/// The eight bytes of lane `lane`, the first of them lowest; zero outside of `words`.
#[cfg(any(loom, target_has_atomic = "64"))]
#[inline(always)]
pub(crate) fn load(words: &[AtomicWord], lane: usize) -> u64 {
    words
        .get(lane)
        .map_or(0, |word| u64::from_le(word.load(Ordering::Relaxed)))
}

/// Puts eight bytes in lane `lane`, the lowest first; nowhere if it is outside of `words`.
#[cfg(any(loom, target_has_atomic = "64"))]
#[inline(always)]
pub(crate) fn store(words: &[AtomicWord], lane: usize, value: u64) {
    if let Some(word) = words.get(lane) {
        word.store(value.to_le(), Ordering::Relaxed);
    }
}

/// The eight bytes of lane `lane`, the first of them lowest; zero outside of `words`.
#[cfg(not(any(loom, target_has_atomic = "64")))]
#[inline(always)]
pub(crate) fn load(words: &[AtomicWord], lane: usize) -> u64 {
    let half = |at: usize| {
        words.get(at).map_or(0, |word| {
            u64::from(u32::from_le(word.load(Ordering::Relaxed)))
        })
    };
    half(2 * lane) | (half(2 * lane + 1) << 32)
}

/// Puts eight bytes in lane `lane`, the lowest first; nowhere if it is outside of `words`.
#[cfg(not(any(loom, target_has_atomic = "64")))]
#[inline(always)]
pub(crate) fn store(words: &[AtomicWord], lane: usize, value: u64) {
    for (at, half) in [
        (2 * lane, value as u32),
        (2 * lane + 1, (value >> 32) as u32),
    ] {
        if let Some(word) = words.get(at) {
            word.store(half.to_le(), Ordering::Relaxed);
        }
    }
}

/// One round of waiting for another thread.
pub(crate) fn relax(round: u32) {
    #[cfg(loom)]
    {
        let _ = round;
        loom::thread::yield_now();
    }
    #[cfg(not(loom))]
    {
        #[cfg(feature = "std")]
        if round >= 64 {
            std::thread::yield_now();
            return;
        }
        let _ = round;
        core::hint::spin_loop();
    }
}
