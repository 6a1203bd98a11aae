//! Which slots of a pool are free: one bit each, taken and given back without a lock.

use crate::cell::{AtomicUsize, Ordering};
use alloc::boxed::Box;
use alloc::collections::TryReserveError;
use alloc::vec::Vec;

const BITS: usize = usize::BITS as usize;

/// The right to one slot, until it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) slot: usize,
    /// How often the slot has been given back before.
    pub(crate) generation: usize,
}

pub(crate) struct FreeList {
    /// A bit is set while its slot is free.
    words: Box<[AtomicUsize]>,
    generations: Box<[AtomicUsize]>,
}

impl FreeList {
    /// All of `slots` are free.
    pub(crate) fn with_slots(slots: usize) -> Result<Self, TryReserveError> {
        let mut words = Vec::new();
        words.try_reserve_exact(slots.div_ceil(BITS))?;
        let mut left = slots;
        while left > 0 {
            let here = left.min(BITS);
            words.push(AtomicUsize::new(usize::MAX >> (BITS - here)));
            left -= here;
        }
        let mut generations = Vec::new();
        generations.try_reserve_exact(slots)?;
        generations.extend((0..slots).map(|_| AtomicUsize::new(0)));
        Ok(Self {
            words: words.into_boxed_slice(),
            generations: generations.into_boxed_slice(),
        })
    }

    /// A slot that was free when it was looked at; `None` if none was.
    ///
    /// Each bit is tried once, so the search ends however many others take part in it.
    pub(crate) fn claim(&self) -> Option<Claim> {
        for (index, word) in self.words.iter().enumerate() {
            let mut candidates = word.load(Ordering::Relaxed);
            while candidates != 0 {
                let bit = candidates & candidates.wrapping_neg();
                // Acquire: what the slot's last holder did to it came before.
                let seen = word.fetch_and(!bit, Ordering::Acquire);
                if seen & bit != 0 {
                    let slot = index * BITS + bit.trailing_zeros() as usize;
                    let generation = self.generations.get(slot)?.load(Ordering::Relaxed);
                    return Some(Claim { slot, generation });
                }
                candidates &= seen & !bit;
            }
        }
        None
    }

    /// Gives a slot back. False for a claim that has been given back before; the slot then keeps
    /// the holder it has.
    pub(crate) fn release(&self, claim: Claim) -> bool {
        let Some(generation) = self.generations.get(claim.slot) else {
            return false;
        };
        // Two steps: while the claim holds, nobody else moves the generation.
        let ours = generation.load(Ordering::Relaxed) == claim.generation;
        if let (true, Some(word)) = (ours, self.words.get(claim.slot / BITS)) {
            generation.store(claim.generation.wrapping_add(1), Ordering::Relaxed);
            // Release: what we did to the slot comes before its next holder.
            word.fetch_or(1 << (claim.slot % BITS), Ordering::Release);
        }
        ours
    }

    /// Slots that are free at this moment.
    pub(crate) fn free(&self) -> usize {
        let ones = |word: &AtomicUsize| word.load(Ordering::Relaxed).count_ones() as usize;
        self.words.iter().map(ones).sum()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic fails the test")]

    use super::{BITS, FreeList};
    use std::collections::BTreeSet;

    #[test]
    fn every_slot_is_handed_out_once_and_then_none() {
        for slots in [0, 1, BITS - 1, BITS, BITS + 1, 3 * BITS] {
            let list = FreeList::with_slots(slots).unwrap();
            let claimed: BTreeSet<usize> = (0..slots).map(|_| list.claim().unwrap().slot).collect();
            assert_eq!(claimed, (0..slots).collect());
            assert_eq!(list.claim(), None);
        }
    }

    #[test]
    fn a_claim_given_back_twice_leaves_the_next_holder_alone() {
        let list = FreeList::with_slots(1).unwrap();
        let first = list.claim().unwrap();
        assert!(list.release(first));
        let second = list.claim().unwrap();
        assert!(!list.release(first));
        assert_eq!(list.claim(), None);
        assert!(list.release(second));
        assert_eq!(list.free(), 1);
    }
}
