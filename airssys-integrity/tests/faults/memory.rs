//! Memory that flips a bit, or panics, when it is told to.

use airssys_integrity::{AtomicWord, Phase, Provider};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What happens, once, when a phase is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strike {
    /// A bit of block 0 flips: of its data, of its tag behind, of its inverted copy behind that.
    Bit(usize),
    /// That bit flips, and flips back before the last lane of the block is loaded.
    Blink(usize),
    /// A bit of the register flips.
    Register(u32),
    /// The thread panics.
    Panic,
}

/// Memory that the test keeps a hand on.
pub(crate) struct Memory {
    pub(crate) words: Vec<AtomicU64>,
    pub(crate) tags: Vec<AtomicU32>,
    pub(crate) mirror: Vec<AtomicU64>,
    plan: Cell<Option<(Phase, Strike)>>,
}

/// Lends that memory to a region.
pub(crate) struct Faulty(pub(crate) Rc<Memory>);

impl Memory {
    pub(crate) fn new(blocks: usize) -> Rc<Self> {
        let zeros = || (0..blocks * 64).map(|_| AtomicU64::new(0)).collect();
        Rc::new(Self {
            words: zeros(),
            tags: (0..blocks).map(|_| AtomicU32::new(0)).collect(),
            mirror: zeros(),
            plan: Cell::new(None),
        })
    }

    pub(crate) fn plan(&self, phase: Phase, strike: Strike) {
        self.plan.set(Some((phase, strike)));
    }

    /// True if the phase was never reached.
    pub(crate) fn is_pending(&self) -> bool {
        self.plan.take().is_some()
    }

    pub(crate) fn flip(&self, bit: usize) {
        let flip = |words: &[AtomicU64], bit: usize| {
            words[bit / 64].fetch_xor(1 << (bit % 64), Ordering::Relaxed);
        };
        match bit {
            0..4_096 => flip(&self.words, bit),
            4_096..4_128 => {
                self.tags[0].fetch_xor(1 << (bit - 4_096), Ordering::Relaxed);
            }
            _ => flip(&self.mirror, bit - 4_128),
        }
    }

    pub(crate) fn block(&self, block: usize) -> Vec<u64> {
        let words = &self.words[block * 64..block * 64 + 64];
        words
            .iter()
            .map(|word| word.load(Ordering::Relaxed))
            .collect()
    }

    pub(crate) fn put_block(&self, block: usize, content: &[u64]) {
        for (word, value) in self.words[block * 64..].iter().zip(content) {
            word.store(*value, Ordering::Relaxed);
        }
    }

    pub(crate) fn tag(&self, block: usize) -> u32 {
        self.tags[block].load(Ordering::Relaxed)
    }

    pub(crate) fn put_tag(&self, block: usize, tag: u32) {
        self.tags[block].store(tag, Ordering::Relaxed);
    }
}

// SAFETY: the vectors are never replaced. The tests store to the words on their own, which is what
// they are for, but never while bytes are lent.
#[allow(unsafe_code, reason = "the trait is unsafe to implement")]
unsafe impl Provider for Faulty {
    fn len_bytes(&self) -> usize {
        self.0.words.len() * 8
    }

    fn words(&self) -> &[AtomicWord] {
        &self.0.words
    }

    fn tags(&self) -> &[AtomicU32] {
        &self.0.tags
    }

    fn mirror(&self) -> Option<&[AtomicWord]> {
        Some(&self.0.mirror)
    }

    fn fault(&self, phase: Phase, register: u64) -> u64 {
        match self.0.plan.get() {
            Some((planned, strike)) if planned == phase => {
                self.0.plan.set(None);
                match strike {
                    Strike::Bit(bit) => self.0.flip(bit),
                    Strike::Blink(bit) => {
                        self.0.flip(bit);
                        self.0
                            .plan(Phase::BeforeLoad { lane: 63 }, Strike::Bit(bit));
                    }
                    Strike::Register(bit) => return register ^ (1 << bit),
                    Strike::Panic => panic!("as planned"),
                }
                register
            }
            _ => register,
        }
    }
}
