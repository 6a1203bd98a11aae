//! Who may read and who may write a region.
//!
//! Readers copy first and look at the sequence number afterwards: they disturb nobody. A reader
//! that must not be disturbed pins; a writer waits until nobody does. Every wait has a bound.

use crate::atomic::{AtomicU32, Ordering, fence, relax};

/// A writer holds the latch.
const WRITER: u32 = 1 << 31;
/// The writer is storing; new readers wait.
const STORING: u32 = 1 << 30;
/// The other bits count pins.
const PINS: u32 = STORING - 1;
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
#[derive(Debug)]
pub(crate) struct Latch {
    /// Odd while a writer stores.
    sequence: AtomicU32,
    state: AtomicU32,
}

impl Latch {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            state: AtomicU32::new(0),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            state: AtomicU32::new(0),
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
        let before = self.state.fetch_add(1, Ordering::Acquire);
        let pin = Pin { latch: self };
        if before & PINS >= MAX_PINS {
            return Err(Contention::Pinned(before & PINS));
        }
        let mut state = before;
        for round in 0..rounds {
            if state & STORING == 0 {
                return Ok(pin);
            }
            relax(round);
            state = self.state.load(Ordering::Acquire);
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

    /// Keeps other writers and readers out, if nobody is there: one step instead of two.
    #[inline]
    pub(crate) fn lock_idle(&self) -> Option<WriteLock<'_>> {
        self.state
            .compare_exchange(0, WRITER | STORING, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        let mut lock = WriteLock {
            latch: self,
            odd: None,
        };
        lock.mark_storing();
        Some(lock)
    }

    /// Keeps other writers out. Readers go on.
    pub(crate) fn lock(&self, rounds: u32) -> Result<WriteLock<'_>, Contention> {
        for round in 0..rounds {
            let state = self.state.load(Ordering::Relaxed);
            if state & WRITER == 0
                && self
                    .state
                    .compare_exchange_weak(
                        state,
                        state | WRITER,
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    )
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
        self.latch.state.fetch_sub(1, Ordering::Release);
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
    #[inline]
    fn mark_storing(&mut self) {
        self.odd = Some(self.latch.make_odd());
        // Orders the odd number before the stores of the data.
        #[cfg(loom)]
        if crate::model::has(crate::model::Fence::Writer) {
            fence(Ordering::Release);
        }
        #[cfg(not(loom))]
        fence(Ordering::Release);
    }

    /// Waits until nobody pins, unless the lock began with that, then keeps readers out too until the lock is dropped.
    #[inline]
    pub(crate) fn begin_storing(&mut self, rounds: u32) -> Result<(), Contention> {
        if self.odd.is_some() {
            return Ok(());
        }
        let mut pins = 0;
        for round in 0..rounds {
            match self.latch.state.compare_exchange(
                WRITER,
                WRITER | STORING,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    self.mark_storing();
                    return Ok(());
                }
                Err(state) => pins = state & PINS,
            }
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
        self.latch
            .state
            .fetch_and(!(WRITER | STORING), Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic fails the test")]

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
            for flip_state in [false, true] {
                let ops = region();
                ops.atomic_write_with_checksum(0, &[5; 64]).unwrap();
                let latch = ops.latch();
                let word = if flip_state {
                    &latch.state
                } else {
                    &latch.sequence
                };
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
