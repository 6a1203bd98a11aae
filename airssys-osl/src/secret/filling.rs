//! Writing a secret where it stays.

#![allow(
    unsafe_code,
    reason = "a slice of mapped memory, for the one who has taken the place"
)]

use super::memory::{SecretError, Slot};
use super::pages::{Protection, SecretPolicy};

/// A place that is being written; wiped and given back unless it is finished.
pub(super) struct Filling {
    slot: Option<Slot>,
}

impl Filling {
    pub(super) fn new(slot: Slot) -> Self {
        Self { slot: Some(slot) }
    }

    pub(super) fn value(&mut self) -> &mut [u8] {
        match &mut self.slot {
            Some(Slot {
                block, place, len, ..
            }) => {
                let value = block.value(*place, *len);
                // SAFETY: the place is taken by this value alone, whose borrow ends before the
                // pages are protected again.
                unsafe { block.bytes_mut(value) }
            }
            None => &mut [],
        }
    }

    /// Keeps the first `len` bytes.
    pub(super) fn finish(mut self, len: usize) -> Result<Slot, SecretError> {
        let Some(mut slot) = self.slot.take() else {
            return Err(SecretError::Empty);
        };
        let shut = slot.written(len);
        if len == 0 {
            slot.give_back();
            return Err(SecretError::Empty);
        }
        match shut {
            Err(error) if slot.policy() == SecretPolicy::Strict => {
                slot.give_back();
                Err(SecretError::Refused {
                    protection: Protection::UnreadableAtRest,
                    source: error.into(),
                })
            }
            _ => Ok(slot),
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if let Some(mut slot) = self.slot.take() {
            slot.written(0).ok();
            slot.give_back();
        }
    }
}
