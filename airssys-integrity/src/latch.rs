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
