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

/// Eight bytes of a region.
pub(crate) type Lane = [AtomicWord; LANE_WORDS];

/// Words as lanes; those that fill none are left out.
#[inline(always)]
pub(crate) fn lanes(words: &[AtomicWord]) -> &[Lane] {
    let (lanes, _) = words.as_chunks();
    lanes
}

/// The bytes of a lane, the first of them lowest.
#[cfg(any(loom, target_has_atomic = "64"))]
#[inline(always)]
pub(crate) fn load([word]: &Lane) -> u64 {
    u64::from_le(word.load(Ordering::Relaxed))
}

/// Puts eight bytes in a lane, the lowest first.
#[cfg(any(loom, target_has_atomic = "64"))]
#[inline(always)]
pub(crate) fn store([word]: &Lane, value: u64) {
    word.store(value.to_le(), Ordering::Relaxed);
}

/// The bytes of a lane, the first of them lowest.
#[cfg(not(any(loom, target_has_atomic = "64")))]
#[inline(always)]
pub(crate) fn load([low, high]: &Lane) -> u64 {
    let half = |word: &AtomicWord| u64::from(u32::from_le(word.load(Ordering::Relaxed)));
    half(low) | (half(high) << 32)
}

/// Puts eight bytes in a lane, the lowest first.
#[cfg(not(any(loom, target_has_atomic = "64")))]
#[inline(always)]
pub(crate) fn store([low, high]: &Lane, value: u64) {
    low.store((value as u32).to_le(), Ordering::Relaxed);
    high.store(((value >> 32) as u32).to_le(), Ordering::Relaxed);
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
