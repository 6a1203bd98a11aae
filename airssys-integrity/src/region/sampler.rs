//! Which reads are checked at level `Sampling`.

use crate::level::SampleRate;
// Not those of the model checker: no value of a region depends on these.
use core::sync::atomic::{AtomicU32, Ordering};

/// Picks one read in each run of as many as the rate says, at a place in the run that depends on
/// the seed: a caller whose pattern repeats cannot always fall between. With each pick comes the
/// next block in turn.
#[derive(Debug)]
pub(crate) struct Sampler {
    seed: u32,
    reads: AtomicU32,
    turn: AtomicU32,
}

impl Sampler {
    pub(crate) const fn new(seed: u32) -> Self {
        Self {
            seed,
            reads: AtomicU32::new(0),
            turn: AtomicU32::new(0),
        }
    }

    /// Counts a read, and answers whether it is the one of its run.
    #[inline]
    pub(crate) fn picks(&self, rate: SampleRate) -> bool {
        // Two steps, because one locked step would cost as much as the copy of a block. Threads
        // that read at the same time may count as one.
        let read = self.reads.load(Ordering::Relaxed);
        self.reads.store(read.wrapping_add(1), Ordering::Relaxed);
        let run = read / rate.one_in();
        read % rate.one_in() == mixed(self.seed ^ run) % rate.one_in()
    }

    /// The block whose turn it is.
    pub(crate) fn next_block(&self, blocks: usize) -> usize {
        let next = |turn: u32| u32::try_from((turn as usize + 1) % blocks.max(1)).unwrap_or(0);
        let turn = self
            .turn
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |turn| {
                Some(next(turn))
            });
        turn.unwrap_or_else(|turn| turn) as usize % blocks.max(1)
    }
}

/// A number in which each bit depends on each bit of `value`.
#[inline]
fn mixed(value: u32) -> u32 {
    let mut mixed = value.wrapping_add(0x9E37_79B9);
    mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x7FEB_352D);
    mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x846C_A68B);
    mixed ^ (mixed >> 16)
}
