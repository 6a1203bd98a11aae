//! The two ends of a ring.

#[cfg(feature = "fault-injection")]
use super::message::flip;
use super::message::{put, take};
use super::sealed::Storage;
use super::{RingRead, RingReadError, RingWriteError, Slot};
use crate::cell::Ordering;
use core::fmt;
use core::ops::Deref;
use core::time::Duration;

/// How often [`Consumer::read_until`] looks while its clock shows the same time.
const LOOKS_AT_ONE_TIME: u32 = 1 << 16;

/// The writing end of a ring. Dropped, it ends the stream.
pub struct Producer<R>
where
    R: Deref<Target: Storage>,
{
    pub(super) ring: R,
    /// Position of the next message, kept here out of the consumer's reach.
    pub(super) at: usize,
}

impl<R> Producer<R>
where
    R: Deref<Target: Storage>,
{
    /// Puts `message` behind the ones before. Never waits; what was not written is still the
    /// caller's.
    ///
    /// # Errors
    /// [`RingWriteError::TooLarge`] if it never fits, [`RingWriteError::Full`] if there is no
    /// free slot now, [`RingWriteError::Ended`] if the consumer has gone.
    #[allow(
        unsafe_code,
        reason = "a slot outside the range of messages is written"
    )]
    pub fn try_write(&mut self, message: &[u8]) -> Result<(), RingWriteError> {
        let (slots, ends) = (self.ring.slots(), self.ring.ends());
        if ends.consumer_gone.load(Ordering::Relaxed) {
            return Err(RingWriteError::Ended);
        }
        // Acquire: the consumer has done with the slots it left behind.
        let read = ends.read.load(Ordering::Acquire);
        let full = RingWriteError::Full { slots: slots.len() };
        if self.at == (read + slots.len()) % (2 * slots.len()) {
            return Err(full);
        }
        let Some(slot) = slots.get(self.at % slots.len()) else {
            return Err(full);
        };
        slot.cell.with_mut(|content| {
            // SAFETY: the slot is not among the messages, so it is this end's alone.
            let content = unsafe { &mut *content };
            put(self.at, message, content)
        })?;
        self.at = next(self.at, slots.len());
        // Release: the message is there before its position counts.
        ends.written.store(self.at, Ordering::Release);
        Ok(())
    }

    /// The most a message may hold, in bytes.
    #[must_use]
    pub fn message_limit(&self) -> usize {
        limit_of(self.ring.slots())
    }
}

impl<R> Drop for Producer<R>
where
    R: Deref<Target: Storage>,
{
    fn drop(&mut self) {
        // Release: whoever sees the end sees every message before it.
        let ends = self.ring.ends();
        ends.producer_gone.store(true, Ordering::Release);
    }
}

/// The reading end of a ring.
pub struct Consumer<R>
where
    R: Deref<Target: Storage>,
{
    pub(super) ring: R,
    /// Position of the next message, kept here out of the producer's reach.
    pub(super) at: usize,
}

impl<R> Consumer<R>
where
    R: Deref<Target: Storage>,
{
    /// Takes the next message, if there is one: [`RingRead::Ready`] or [`RingRead::NotReady`].
    /// The tags are checked on the very words that reach `destination`.
    ///
    /// # Errors
    /// [`RingReadError::Corrupt`] for a message that does not match its tags,
    /// [`RingReadError::TooShort`] if `destination` has no room for it, [`RingReadError::Ended`]
    /// after the last message of a producer that has gone.
    #[allow(unsafe_code, reason = "a slot inside the range of messages is read")]
    pub fn try_read(&mut self, destination: &mut [u8]) -> Result<RingRead, RingReadError> {
        let (slots, ends) = (self.ring.slots(), self.ring.ends());
        // The end is looked at first: a message seen after it was written before it.
        let gone = ends.producer_gone.load(Ordering::Acquire);
        // Acquire: the message is there once its position counts.
        if ends.written.load(Ordering::Acquire) == self.at {
            return if gone {
                Err(RingReadError::Ended)
            } else {
                Ok(RingRead::NotReady)
            };
        }
        let Some(slot) = slots.get(self.at % slots.len()) else {
            return Ok(RingRead::NotReady);
        };
        let taken = slot.cell.with(|content| {
            // SAFETY: the slot is among the messages, and the producer stays away from those.
            let content = unsafe { &*content };
            take(self.at, content, destination)
        });
        if !matches!(taken, Err(RingReadError::TooShort { .. })) {
            self.at = next(self.at, slots.len());
            // Release: this end has done with the slot.
            ends.read.store(self.at, Ordering::Release);
        }
        taken.map(RingRead::Ready)
    }

    /// Looks until there is a message or `now` has reached `deadline`, both counted from the same
    /// moment: the form for systems with a clock of their own. Occupies the thread meanwhile.
    /// Gives [`RingRead::NotReady`] if the clock stands still, so that it always ends.
    ///
    /// # Errors
    /// Those of [`try_read`](Self::try_read).
    pub fn read_until(
        &mut self,
        destination: &mut [u8],
        deadline: Duration,
        mut now: impl FnMut() -> Duration,
    ) -> Result<RingRead, RingReadError> {
        let mut last = Duration::ZERO;
        let mut looks = 0;
        loop {
            match self.try_read(destination)? {
                RingRead::NotReady => {}
                found => return Ok(found),
            }
            let time = now();
            if time >= deadline {
                return Ok(RingRead::Timeout);
            }
            looks = if time > last { 0 } else { looks + 1 };
            if looks == LOOKS_AT_ONE_TIME {
                return Ok(RingRead::NotReady);
            }
            last = last.max(time);
            #[cfg(loom)]
            loom::thread::yield_now();
            #[cfg(all(feature = "std", not(loom)))]
            std::thread::yield_now();
            #[cfg(not(feature = "std"))]
            core::hint::spin_loop();
        }
    }

    /// Looks until there is a message or `timeout` has passed. Occupies the thread meanwhile, but
    /// yields it to others between looks.
    ///
    /// # Errors
    /// Those of [`try_read`](Self::try_read).
    #[cfg(feature = "std")]
    pub fn read_with_timeout(
        &mut self,
        destination: &mut [u8],
        timeout: Duration,
    ) -> Result<RingRead, RingReadError> {
        let start = std::time::Instant::now();
        self.read_until(destination, timeout, || start.elapsed())
    }

    /// The most a message may hold, in bytes.
    #[must_use]
    pub fn message_limit(&self) -> usize {
        limit_of(self.ring.slots())
    }

    /// Flips one bit of the next message at rest, in the order content, tags, length, tag of the
    /// length. Returns whether there is such a bit.
    #[cfg(feature = "fault-injection")]
    #[allow(unsafe_code, reason = "a slot inside the range of messages is written")]
    pub fn flip_bit(&mut self, bit: usize) -> bool {
        let (slots, ends) = (self.ring.slots(), self.ring.ends());
        if ends.written.load(Ordering::Acquire) == self.at {
            return false;
        }
        let Some(slot) = slots.get(self.at % slots.len()) else {
            return false;
        };
        slot.cell.with_mut(|content| {
            // SAFETY: the slot is among the messages, so it is this end's alone.
            flip(unsafe { &mut *content }, bit)
        })
    }
}

impl<R> Drop for Consumer<R>
where
    R: Deref<Target: Storage>,
{
    fn drop(&mut self) {
        let ends = self.ring.ends();
        ends.consumer_gone.store(true, Ordering::Relaxed);
    }
}

impl<R: Deref<Target: Storage>> fmt::Debug for Producer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

impl<R: Deref<Target: Storage>> fmt::Debug for Consumer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

/// The position after `at`.
fn next(at: usize, slots: usize) -> usize {
    if at + 1 == 2 * slots { 0 } else { at + 1 }
}

fn limit_of<B: AsRef<[u8]> + AsMut<[u8]>>(slots: &[Slot<B>]) -> usize {
    slots.first().map_or(0, |slot| slot.limit)
}
