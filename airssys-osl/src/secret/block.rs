//! One mapping with the values of one secret or of many small ones, and who uses it.
//!
//! Invariant: the lock is held over every change of a count and the `mprotect` that belongs to it,
//! so that no access is taken away that somebody has been given.

#![allow(
    unsafe_code,
    reason = "hands out slices of mapped memory, one at a time for each place that is written"
)]

use std::ops::Range;
use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use zeroize::Zeroize;

use super::pages::{Access, Fate, MapError, Pages, ProtectionReport, SecretPolicy};

/// Bytes of the canaries: one before each value, and one behind it where no guard page is.
pub(super) const CANARY_BYTES: usize = 8;

/// Most places of a block: one bit each.
const MAX_PLACES: usize = 128;

/// What was wrong when a secret ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Something has written outside of its place.
    CanaryDamaged,
    /// The kernel does not let us write; wiped as soon as it does, at the latest when unmapped.
    Unwiped(Errno),
}

#[derive(Debug)]
pub(super) struct Block {
    pages: Pages,
    canary: [u8; CANARY_BYTES],
    /// Bytes from one place to the next.
    stride: usize,
    places: usize,
    uses: Mutex<Uses>,
}

#[derive(Debug)]
struct Uses {
    access: Access,
    readers: u32,
    writers: u32,
    taken: u128,
    /// Places that could not be wiped when their secret ended.
    unwiped: u128,
    mapped: bool,
}

impl Uses {
    fn wanted(&self) -> Access {
        match (self.writers, self.readers) {
            (0, 0) => Access::None,
            (0, _) => Access::Read,
            _ => Access::Write,
        }
    }
}

impl Block {
    /// One page of places for values of at most `payload` bytes.
    pub(super) fn shared(payload: usize, policy: SecretPolicy) -> Result<Self, MapError> {
        let page = rustix::param::page_size();
        let stride = payload + 2 * CANARY_BYTES;
        Self::map(page, stride, (page / stride).min(MAX_PLACES), policy)
    }

    /// Pages for one value of at most `payload` bytes, which ends where the guard page begins.
    pub(super) fn alone(payload: usize, policy: SecretPolicy) -> Result<Self, MapError> {
        let bytes = (payload + CANARY_BYTES).next_multiple_of(rustix::param::page_size());
        Self::map(bytes, bytes, 1, policy)
    }

    fn map(
        bytes: usize,
        stride: usize,
        places: usize,
        policy: SecretPolicy,
    ) -> Result<Self, MapError> {
        let mut canary = [0; CANARY_BYTES];
        getrandom::fill(&mut canary).map_err(|error| {
            let number = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
            MapError::Failed(Errno::from_raw_os_error(number))
        })?;
        Ok(Self {
            pages: Pages::map(bytes, policy)?,
            canary,
            stride,
            places,
            uses: Mutex::new(Uses {
                access: Access::Write,
                readers: 0,
                writers: 0,
                taken: 0,
                unwiped: 0,
                mapped: true,
            }),
        })
    }

    fn uses(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the access what the counts ask for. Access that is more than that is an error too,
    /// for the caller to weigh.
    fn settle(&self, uses: &mut Uses) -> Result<(), Errno> {
        let wanted = uses.wanted();
        if uses.access != wanted {
            self.pages.protect(wanted)?;
            uses.access = wanted;
        }
        if uses.access == Access::Write && uses.unwiped != 0 {
            self.wipe_owed(uses);
        }
        Ok(())
    }

    fn wipe_owed(&self, uses: &mut Uses) {
        for place in 0..self.places {
            if uses.unwiped & bit(place) != 0 {
                // SAFETY: the pages are writable, and a place that is owed has no user.
                unsafe { self.bytes_mut(self.whole(place)) }.zeroize();
                uses.unwiped &= !bit(place);
                uses.taken &= !bit(place);
            }
        }
    }

    /// A place for a new secret, which its caller may write until [`Block::written`].
    pub(super) fn take(&self) -> Option<Result<usize, Errno>> {
        let mut uses = self.uses();
        let place = (0..self.places).find(|place| uses.taken & bit(*place) == 0)?;
        uses.writers += 1;
        if let Err(error) = self.settle(&mut uses) {
            uses.writers -= 1;
            return Some(Err(error));
        }
        uses.taken |= bit(place);
        Some(Ok(place))
    }

    /// Keeps the first `len` bytes of the `capacity` that a place was taken for, puts the canaries
    /// around them, and takes the writer's access away.
    pub(super) fn written(&self, place: usize, capacity: usize, len: usize) -> Result<(), Errno> {
        let mut uses = self.uses();
        // SAFETY: the caller is the place's one writer, and has given its slice back.
        let written = unsafe { self.bytes_mut(self.value(place, capacity)) };
        if self.is_alone() {
            written.copy_within(..len, capacity - len);
        }
        let rest = if self.is_alone() {
            0..capacity - len
        } else {
            len..capacity
        };
        if let Some(rest) = written.get_mut(rest) {
            rest.zeroize();
        }
        for canary in self.canaries(place, len) {
            // SAFETY: as above.
            unsafe { self.bytes_mut(canary) }.copy_from_slice(&self.canary);
        }
        uses.writers = uses.writers.saturating_sub(1);
        self.settle(&mut uses)
    }

    pub(super) fn begin_read(&self) -> Result<(), Errno> {
        let mut uses = self.uses();
        uses.readers += 1;
        // More access than is wanted will do, as when it could not be taken away earlier.
        if uses.access == Access::None
            && let Err(error) = self.settle(&mut uses)
        {
            uses.readers -= 1;
            return Err(error);
        }
        Ok(())
    }

    pub(super) fn end_read(&self) {
        let mut uses = self.uses();
        uses.readers = uses.readers.saturating_sub(1);
        // What cannot be taken away now is in the report, and is tried again at the next change.
        self.settle(&mut uses).ok();
    }

    /// Wipes a place and gives it up; nobody reads or writes it any more.
    pub(super) fn retire(&self, place: usize, len: usize) -> Option<Flaw> {
        let mut uses = self.uses();
        uses.writers += 1;
        let opened = self.settle(&mut uses).or_else(|_| self.settle(&mut uses));
        let flaw = match opened {
            Ok(()) => {
                let intact = self.canaries(place, len).all(|canary| {
                    // SAFETY: the pages are readable, and the place has no writer.
                    let found = unsafe { self.bytes(canary) };
                    found == self.canary
                });
                // SAFETY: the pages are writable, and the place has no user.
                unsafe { self.bytes_mut(self.whole(place)) }.zeroize();
                uses.taken &= !bit(place);
                (!intact).then_some(Flaw::CanaryDamaged)
            }
            Err(error) => {
                uses.unwiped |= bit(place);
                Some(Flaw::Unwiped(error))
            }
        };
        uses.writers -= 1;
        self.settle(&mut uses).ok();
        flaw
    }

    /// Unmaps the block if no secret is in it; `None` while there is one. What was still to be wiped
    /// goes with it. It takes no secret any more, whatever the kernel says.
    pub(super) fn unmap_if_empty(&self) -> Option<Fate> {
        let mut uses = self.uses();
        if uses.taken & !uses.unwiped != 0 {
            return None;
        }
        uses.taken = u128::MAX;
        let fate = self.pages.unmap();
        uses.mapped = fate != Fate::Unmapped;
        Some(fate)
    }

    pub(super) fn report(&self) -> ProtectionReport {
        let uses = self.uses();
        ProtectionReport {
            unreadable_at_rest: uses.access == uses.wanted(),
            ..self.pages.report
        }
    }

    /// Of the first byte between the guard pages.
    #[cfg(test)]
    pub(super) fn address(&self) -> usize {
        self.pages.start().expose_provenance()
    }

    #[cfg(test)]
    pub(super) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// All of a place, canaries included.
    fn whole(&self, place: usize) -> Range<usize> {
        let start = place * self.stride;
        start..start + self.stride
    }

    /// Where a value of this length is: at the end of its place when it has the block for itself,
    /// else behind the first canary.
    pub(super) fn value(&self, place: usize, len: usize) -> Range<usize> {
        let whole = self.whole(place);
        let start = if self.is_alone() {
            whole.end - len
        } else {
            whole.start + CANARY_BYTES
        };
        start..start + len
    }

    fn is_alone(&self) -> bool {
        self.stride == self.pages.bytes()
    }

    fn canaries(&self, place: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
        let value = self.value(place, len);
        let before = value.start - CANARY_BYTES..value.start;
        let behind = (!self.is_alone()).then_some(value.end..value.end + CANARY_BYTES);
        std::iter::once(before).chain(behind)
    }

    /// # Safety
    /// The caller is counted as a reader, and nobody writes there.
    pub(super) unsafe fn bytes(&self, range: Range<usize>) -> &[u8] {
        let start = self.pages.start().wrapping_add(range.start);
        // SAFETY: places lie within the pages, and the caller vouches for the rest.
        unsafe { slice::from_raw_parts(start, range.len()) }
    }

    /// # Safety
    /// The pages are writable, and nobody else reads or writes there.
    #[allow(
        clippy::mut_from_ref,
        reason = "the memory is not this value's own; the caller vouches for being alone with it"
    )]
    pub(super) unsafe fn bytes_mut(&self, range: Range<usize>) -> &mut [u8] {
        let start = self.pages.start().wrapping_add(range.start);
        // SAFETY: places lie within the pages, and the caller vouches for the rest.
        unsafe { slice::from_raw_parts_mut(start, range.len()) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let uses = self.uses.get_mut().unwrap_or_else(PoisonError::into_inner);
        if uses.mapped {
            // Tried again; there is nobody left to tell.
            self.pages.unmap();
        }
    }
}

fn bit(place: usize) -> u128 {
    1 << place
}
