//! Where the words of a region live.
#![allow(
    unsafe_code,
    reason = "an implementor vouches for who stores to the words"
)]

#[cfg(feature = "alloc")]
mod heap;
#[cfg(not(loom))]
mod inline;

#[cfg(feature = "alloc")]
pub use heap::{AllocationFailed, StdProvider};
#[cfg(not(loom))]
pub use inline::NoStdProvider;

use crate::atomic::{AtomicU32, AtomicWord};

/// A point on the way of the bytes at which a provider may damage them, to test what is noticed.
///
/// Lanes are counted within their block; a lane is eight bytes. Lanes that share a wide register
/// reach each phase one after the other, before any of them reaches the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// A lane of the source is in a register, before both of its uses.
    SourceLoaded {
        /// Which lane.
        lane: usize,
    },
    /// The same register has been stored.
    Stored {
        /// Which lane.
        lane: usize,
    },
    /// A lane of the source has been loaded once more, for the inverted copy.
    SourceLoadedAgain {
        /// Which lane.
        lane: usize,
    },
    /// Bytes of a copy inside the region wait on the stack; the register is the first of them.
    Buffered,
    /// All lanes of a block are stored, its tag is not.
    BeforeTag,
    /// The tag of a block is stored.
    AfterTag,
    /// A lane is about to be loaded by a reader.
    BeforeLoad {
        /// Which lane.
        lane: usize,
    },
    /// A reader has loaded a lane; what it gives away and what it sums is in a register.
    Loaded {
        /// Which lane.
        lane: usize,
    },
    /// A reader has compared all tags.
    BeforeReturn,
}

/// The memory of a region: words for the data, a tag for each block of 512 bytes, and, if
/// [`VerificationLevel::Redundant`](crate::VerificationLevel::Redundant) is to be possible, as many
/// words again.
///
/// All of it is zero when it is handed over: what is not shows up as corrupt.
///
/// # Safety
/// As long as the provider lives, and also after it was moved into a region:
///
/// - each method answers with the same memory at each call;
/// - nobody but the region stores to the words while bytes of them are lent.
pub unsafe trait Provider {
    /// How many bytes the region has. Less if there are too few words or tags.
    fn len_bytes(&self) -> usize;

    /// The data.
    fn words(&self) -> &[AtomicWord];

    /// One tag for each block.
    fn tags(&self) -> &[AtomicU32];

    /// Room for the inverted copy, as long as [`words`](Self::words).
    fn mirror(&self) -> Option<&[AtomicWord]> {
        None
    }

    /// Called wherever a fault could strike; what it answers takes the place of `register`. Does
    /// nothing, and costs nothing, unless a test wants faults.
    #[inline(always)]
    fn fault(&self, phase: Phase, register: u64) -> u64 {
        let _ = phase;
        register
    }
}
