//! Who may read and who may write a region.
//!
//! Readers copy first and look at the sequence number afterwards: they disturb nobody. A reader
//! that must not be disturbed pins; a writer waits until nobody does. Every wait has a bound.

use crate::atomic::{AtomicU32, Ordering, fence, relax};

/// Nobody writes.
const IDLE: u32 = 0;
/// A writer keeps other writers out. Readers go on.
const LOCKED: u32 = 1;
/// The writer is storing; readers that want to pin wait.
const STORING: u32 = 2;
/// More pins are a leak or a flipped bit.
const MAX_PINS: u32 = 1 << 20;

/// Who stood in the way for as long as the wait was allowed to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contention {
    /// A writer.
    Writer,
    /// Readers that have pinned.
    Pinned(u32),
}

/// Sequence number, writer's lock and count of pins.
///
/// A reader counts itself, then looks at the writer; a writer says that it stores, then looks at the
/// count. All four are `SeqCst`, so at least one of the two sees the other, and a writer that is
/// done needs no locked step to say so.
#[derive(Debug)]
pub(crate) struct Latch {
    /// Odd while a writer stores.
    sequence: AtomicU32,
    writer: AtomicU32,
    pins: AtomicU32,
}

/// To the model checker a `SeqCst` access is acquire and release; a fence says to it what the
/// accesses around it say already.
#[inline(always)]
fn checked_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

impl Latch {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            writer: AtomicU32::new(IDLE),
            pins: AtomicU32::new(0),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            writer: AtomicU32::new(IDLE),
            pins: AtomicU32::new(0),
        }
    }

    /// What to compare with afterwards; `None` while a writer stores.
    #[inline]
    pub(crate) fn begin_read(&self) -> Option<u32> {
        let sequence = self.sequence.load(Ordering::Acquire);
        sequence.is_multiple_of(2).then_some(sequence)
    }

    /// True if no writer has stored since `begin_read` answered `seen`.
    #[inline]
    pub(crate) fn unchanged_since(&self, seen: u32) -> bool {
        // Orders the loads of the data before that of the sequence.
        #[cfg(loom)]
        if crate::model::has(crate::model::Fence::Reader) {
            fence(Ordering::Acquire);
        }
        #[cfg(not(loom))]
        fence(Ordering::Acquire);
        self.sequence.load(Ordering::Relaxed) == seen
    }

    /// Keeps writers out for as long as the pin lives.
    ///
    /// A pin counts at once, so only the writer that is storing already is waited for, and the next
    /// one waits for the pin: no reader starves.
    pub(crate) fn pin(&self, rounds: u32) -> Result<Pin<'_>, Contention> {
        let before = self.pins.fetch_add(1, Ordering::SeqCst);
        let pin = Pin { latch: self };
        if before >= MAX_PINS {
            return Err(Contention::Pinned(before));
        }
        checked_order();
        for round in 0..rounds {
            if self.writer.load(Ordering::SeqCst) != STORING {
                return Ok(pin);
            }
            relax(round);
        }
        Err(Contention::Writer)
    }

    /// Makes the sequence number odd, also if a flip had made it so before. Only for the writer.
    #[inline]
    fn make_odd(&self) -> u32 {
        // The checker remembers one access only: a load of our own would hide a reader's from it.
        #[cfg(loom)]
        let odd = self.sequence.fetch_or(1, Ordering::Relaxed) | 1;
        #[cfg(not(loom))]
        let odd = self.sequence.load(Ordering::Relaxed) | 1;
        #[cfg(not(loom))]
        self.sequence.store(odd, Ordering::Relaxed);
        odd
    }

    /// Keeps other writers and readers out, if nobody is there.
    #[inline]
    pub(crate) fn lock_idle(&self) -> Option<WriteLock<'_>> {
        self.writer
            .compare_exchange(IDLE, STORING, Ordering::SeqCst, Ordering::Relaxed)
            .ok()?;
        let mut lock = WriteLock {
            latch: self,
            odd: None,
        };
        lock.store_unless_pinned().ok()?;
        Some(lock)
    }

    /// Keeps other writers out. Readers go on.
    pub(crate) fn lock(&self, rounds: u32) -> Result<WriteLock<'_>, Contention> {
        for round in 0..rounds {
            if self.writer.load(Ordering::Relaxed) == IDLE
                && self
                    .writer
                    .compare_exchange(IDLE, LOCKED, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
            {
                return Ok(WriteLock {
                    latch: self,
                    odd: None,
                });
            }
            relax(round);
        }
        Err(Contention::Writer)
    }
}

/// A reader that must not be disturbed.
#[derive(Debug)]
pub(crate) struct Pin<'a> {
    latch: &'a Latch,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.latch.pins.fetch_sub(1, Ordering::Release);
    }
}

/// The one writer.
#[derive(Debug)]
pub(crate) struct WriteLock<'a> {
    latch: &'a Latch,
    /// The sequence number while it stores.
    odd: Option<u32>,
}

impl WriteLock<'_> {
    /// The writer has said that it stores; begins if nobody pins, else answers how many do.
    #[inline]
    fn store_unless_pinned(&mut self) -> Result<(), u32> {
        checked_order();
        let pins = self.latch.pins.load(Ordering::SeqCst);
        if pins != 0 {
            return Err(pins);
        }
        self.odd = Some(self.latch.make_odd());
        // Orders the odd number before the stores of the data.
        #[cfg(loom)]
        if crate::model::has(crate::model::Fence::Writer) {
            fence(Ordering::Release);
        }
        #[cfg(not(loom))]
        fence(Ordering::Release);
        Ok(())
    }

    /// Waits until nobody pins, unless the lock began with that, then keeps readers out too until
    /// the lock is dropped.
    #[inline]
    pub(crate) fn begin_storing(&mut self, rounds: u32) -> Result<(), Contention> {
        if self.odd.is_some() {
            return Ok(());
        }
        let mut pins = 0;
        for round in 0..rounds {
            self.latch.writer.swap(STORING, Ordering::SeqCst);
            match self.store_unless_pinned() {
                Ok(()) => return Ok(()),
                Err(count) => pins = count,
            }
            // Not while it waits: whoever has pinned and looks now goes on.
            self.latch.writer.store(LOCKED, Ordering::SeqCst);
            relax(round);
        }
        Err(Contention::Pinned(pins))
    }
}

impl Drop for WriteLock<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(odd) = self.odd {
            let even = odd.wrapping_add(1);
            self.latch.sequence.store(even, Ordering::Release);
        }
        self.latch.writer.store(IDLE, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a panic fails the test"
    )]

    use crate::atomic::Ordering;
    use crate::atomic_ops::AtomicMemoryOps;
    use crate::{NoStdProvider, RegionSettings};

    fn region() -> AtomicMemoryOps<NoStdProvider<64>> {
        let settings = RegionSettings {
            wait_rounds: 20,
            ..RegionSettings::default()
        };
        AtomicMemoryOps::new(NoStdProvider::new(), settings).unwrap()
    }

    /// Told or right, and in bounded time: that it ends is half of the test.
    #[test]
    fn a_flip_of_any_bit_of_the_latch_is_told_or_does_no_harm() {
        for bit in 0..u32::BITS {
            for flipped in 0..3 {
                let ops = region();
                ops.atomic_write_with_checksum(0, &[5; 64]).unwrap();
                let latch = ops.latch();
                let word = [&latch.sequence, &latch.writer, &latch.pins][flipped];
                word.fetch_xor(1 << bit, Ordering::Relaxed);

                let mut out = [9; 64];
                let read = ops.read(0, &mut out);
                assert!(read.is_err() || out == [5; 64]);
                let lent = ops.borrow_slice(0, 64).map(|lent| *lent == [5; 64]);
                assert!(lent.unwrap_or(true));
                let written = ops.atomic_write_with_checksum(0, &[6; 64]);
                let expected = if written.is_ok() { [6; 64] } else { [5; 64] };
                let read = ops.read(0, &mut out);
                assert!(read.is_err() || out == expected);
            }
        }
    }

    #[test]
    fn an_odd_number_left_by_a_flip_is_healed_by_the_next_writer() {
        let ops = region();
        ops.latch().sequence.fetch_or(1, Ordering::Relaxed);
        assert_eq!(ops.try_read(0, &mut [0]), Ok(crate::Readiness::NotReady));
        ops.read(0, &mut [0]).unwrap();
        ops.atomic_write_with_checksum(0, &[1]).unwrap();
        assert_eq!(ops.try_read(0, &mut [0]), Ok(crate::Readiness::Ready));
    }

    /// A clock that runs out, and one that does not have to.
    #[test]
    fn a_read_gives_up_when_its_time_is_over() {
        let ops = region();
        let latch = ops.latch();
        let lock = latch.lock_idle().unwrap();
        let mut looks = 0;
        let expired = || {
            looks += 1;
            looks == 5
        };
        let mut out = [7; 3];
        assert_eq!(
            ops.read_until(0, &mut out, expired),
            Ok(crate::Readiness::Timeout)
        );
        assert_eq!((looks, out), (5, [0; 3]));
        assert_eq!(ops.try_read(0, &mut out), Ok(crate::Readiness::NotReady));
        let contended = crate::ReadError::Contended { rounds: 20 };
        assert_eq!(ops.read(0, &mut out), Err(contended));
        drop(lock);
        let at_once = ops.read_until(0, &mut out, || true);
        assert_eq!(at_once, Ok(crate::Readiness::Ready));
    }
}
