//! A stream of tagged messages from one thread to another, through slots of fixed size.

mod ends;
mod message;

pub use ends::{Consumer, Producer};

use crate::Corrupt;
#[cfg(feature = "alloc")]
use crate::block::BLOCK_BYTES;
use crate::cell::{AtomicBool, AtomicUsize, Ordering, UnsafeCell};
#[cfg(feature = "alloc")]
use alloc::{boxed::Box, collections::TryReserveError, sync::Arc, vec::Vec};
use core::ops::Deref;
use message::{Content, TAG_BYTES, message_limit};

/// What a look at a ring found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingRead {
    /// A message of this many bytes, now at the start of the destination.
    Ready(usize),
    /// There is no message at the moment.
    NotReady,
    /// There was none until the deadline.
    Timeout,
}

/// Why a [`Producer`] wrote nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingWriteError {
    /// Every slot holds a message that has not been read.
    #[error("all {slots} slots hold messages")]
    Full {
        /// How many slots there are.
        slots: usize,
    },
    /// The message does not fit into a slot.
    #[error("{requested} bytes exceed the limit of {limit} bytes for a message")]
    TooLarge {
        /// The most a message may hold, in bytes.
        limit: usize,
        /// What was to be written, in bytes.
        requested: usize,
    },
    /// The consumer has been dropped.
    #[error("nobody reads any more")]
    Ended,
}

/// Why a [`Consumer`] has no message for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingReadError {
    /// The next message does not match its tags. It has been skipped; what of it had reached the
    /// destination has been overwritten with zeros.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The destination is too short. The message is still there.
    #[error("the next message takes {needed} bytes, the destination has {len}")]
    TooShort {
        /// Length of the message, in bytes.
        needed: usize,
        /// Length of the destination, in bytes.
        len: usize,
    },
    /// The producer has been dropped, and every message has been read.
    #[error("the stream has ended")]
    Ended,
}

/// Where a message rests.
struct Slot<B> {
    /// The most a message may hold, in bytes.
    limit: usize,
    cell: UnsafeCell<Content<B>>,
}

#[allow(unsafe_code, reason = "a slot is lent to the two ends in turn")]
// SAFETY: a slot is written only by the producer while it is outside the range of messages, and
// accessed only by the consumer while it is inside. `Ends` moves it from the one to the other.
unsafe impl<B: Send> Sync for Slot<B> {}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Slot<B> {
    fn new(bytes: B) -> Self {
        Self {
            limit: message_limit(bytes.as_ref().len()),
            cell: UnsafeCell::new(Content {
                len: 0,
                head_tag: 0,
                bytes,
            }),
        }
    }
}

/// Where the two ends of a ring are. Messages are counted modulo twice the slots, so that
/// a full ring and an empty one differ.
struct Ends {
    written: AtomicUsize,
    read: AtomicUsize,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
}

impl Ends {
    fn new() -> Self {
        Self {
            written: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            producer_gone: AtomicBool::new(false),
            consumer_gone: AtomicBool::new(false),
        }
    }
}

mod sealed {
    /// Keeps foreign storage out: the ends rely on slots that stay where they are.
    #[allow(private_interfaces, reason = "only this crate implements and calls it")]
    pub trait Storage {
        type Bytes: AsRef<[u8]> + AsMut<[u8]>;
        fn slots(&self) -> &[super::Slot<Self::Bytes>];
        fn ends(&self) -> &super::Ends;
    }
}
use sealed::Storage;

/// A ring with its slots inside: `SLOTS` messages at a time, in `BYTES` of memory each. Of these,
/// every 512 bytes of a message and what is left over take 4 for their tag.
///
/// ```
/// use airssys_integrity::{InlineRing, RingRead};
///
/// let mut ring = InlineRing::<4, 64>::new();
/// let (mut producer, mut consumer) = ring.split();
/// producer.try_write(b"21.5")?;
///
/// let mut message = [0; 64];
/// assert_eq!(consumer.try_read(&mut message)?, RingRead::Ready(4));
/// assert_eq!(consumer.try_read(&mut message)?, RingRead::NotReady);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct InlineRing<const SLOTS: usize, const BYTES: usize> {
    slots: [Slot<[u8; BYTES]>; SLOTS],
    ends: Ends,
}

impl<const SLOTS: usize, const BYTES: usize> InlineRing<SLOTS, BYTES> {
    /// An empty ring. A ring without slots, or with slots that have no room for a byte and its
    /// tag, does not compile.
    #[must_use]
    pub fn new() -> Self {
        const {
            assert!(SLOTS > 0, "a ring needs a slot");
            assert!(
                SLOTS <= usize::MAX / 4,
                "positions are counted to 2 * SLOTS"
            );
            assert!(
                BYTES > TAG_BYTES,
                "a slot needs room for a byte and its tag"
            );
        }
        Self {
            slots: core::array::from_fn(|_| Slot::new([0; BYTES])),
            ends: Ends::new(),
        }
    }

    /// The two ends. Messages that were left in the ring are still there.
    pub fn split(&mut self) -> (Producer<&Self>, Consumer<&Self>) {
        self.ends.producer_gone = AtomicBool::new(false);
        self.ends.consumer_gone = AtomicBool::new(false);
        ends_of(&*self, &*self)
    }
}

impl<const SLOTS: usize, const BYTES: usize> Default for InlineRing<SLOTS, BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(private_interfaces, reason = "only this crate implements and calls it")]
impl<const SLOTS: usize, const BYTES: usize> Storage for InlineRing<SLOTS, BYTES> {
    type Bytes = [u8; BYTES];

    fn slots(&self) -> &[Slot<[u8; BYTES]>] {
        &self.slots
    }

    fn ends(&self) -> &Ends {
        &self.ends
    }
}

/// Why there is no [`HeapRing`].
#[cfg(feature = "alloc")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// No slot, or none with room for a byte, was asked for.
    #[error("a ring needs at least one slot of at least one byte")]
    NoSlots,
    /// The sizes do not fit into the address space.
    #[error("{slots} slots for {message_bytes} bytes each exceed the address space")]
    TooLarge {
        /// How many slots were asked for.
        slots: usize,
        /// How many bytes of message each should hold.
        message_bytes: usize,
    },
    /// The allocator has no room for the slots.
    #[error("no memory for the slots of a ring")]
    AllocationFailed(#[from] TryReserveError),
}

/// A ring on the heap, owned by its two ends. All memory is taken when it is made.
#[cfg(feature = "alloc")]
pub struct HeapRing {
    slots: Box<[Slot<Box<[u8]>>]>,
    ends: Ends,
}

#[cfg(feature = "alloc")]
impl HeapRing {
    /// The two ends of a ring of `slots` messages of at most `message_bytes` bytes.
    ///
    /// # Errors
    /// [`RingError::NoSlots`] if either is zero, [`RingError::TooLarge`] if the sum overflows,
    /// [`RingError::AllocationFailed`] if there is no memory for the slots.
    #[allow(
        clippy::type_complexity,
        reason = "the two ends have one spelling, here"
    )]
    pub fn with_slots(
        slots: usize,
        message_bytes: usize,
    ) -> Result<(Producer<Arc<Self>>, Consumer<Arc<Self>>), RingError> {
        if slots == 0 || message_bytes == 0 {
            return Err(RingError::NoSlots);
        }
        let tags = message_bytes.div_ceil(BLOCK_BYTES).checked_mul(TAG_BYTES);
        let bytes = tags.and_then(|tags| tags.checked_add(message_bytes));
        let (Some(bytes), true) = (bytes, slots <= usize::MAX / 4) else {
            return Err(RingError::TooLarge {
                slots,
                message_bytes,
            });
        };
        let mut built = Vec::new();
        built.try_reserve_exact(slots)?;
        for _ in 0..slots {
            let mut memory = Vec::new();
            memory.try_reserve_exact(bytes)?;
            memory.resize(bytes, 0);
            built.push(Slot::new(memory.into_boxed_slice()));
        }
        let ring = Arc::new(Self {
            slots: built.into_boxed_slice(),
            ends: Ends::new(),
        });
        Ok(ends_of(Arc::clone(&ring), ring))
    }
}

#[cfg(feature = "alloc")]
#[allow(private_interfaces, reason = "only this crate implements and calls it")]
impl Storage for HeapRing {
    type Bytes = Box<[u8]>;

    fn slots(&self) -> &[Slot<Box<[u8]>>] {
        &self.slots
    }

    fn ends(&self) -> &Ends {
        &self.ends
    }
}

/// A new pair of ends on the messages that are in the ring.
fn ends_of<R>(producer: R, consumer: R) -> (Producer<R>, Consumer<R>)
where
    R: Deref<Target: Storage>,
{
    let ends = producer.ends();
    let (written, read) = (
        ends.written.load(Ordering::Relaxed),
        ends.read.load(Ordering::Relaxed),
    );
    (
        Producer {
            ring: producer,
            at: written,
        },
        Consumer {
            ring: consumer,
            at: read,
        },
    )
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic fails the test")]

    use super::{InlineRing, RingRead, RingReadError, Storage};

    #[allow(unsafe_code, reason = "the test is the only one at the slots")]
    fn swap_bytes(ring: &InlineRing<1, 16>, bytes: [u8; 16]) -> [u8; 16] {
        let slot = ring.slots().first().unwrap();
        // SAFETY: one thread, between the calls of the two ends.
        let content = slot.cell.with_mut(|content| unsafe { &mut *content });
        core::mem::replace(&mut content.bytes, bytes)
    }

    /// A lost store leaves the message of the lap before behind, with a tag that fits it.
    #[test]
    fn the_message_of_the_lap_before_does_not_pass_for_the_next() {
        let mut ring = InlineRing::<1, 16>::new();
        ring.split().0.try_write(b"earlier").unwrap();
        let earlier = swap_bytes(&ring, [0; 16]);
        swap_bytes(&ring, earlier);
        let mut room = [0; 12];
        let read = ring.split().1.try_read(&mut room);
        assert_eq!(read, Ok(RingRead::Ready(7)));
        ring.split().0.try_write(b"the new").unwrap();
        swap_bytes(&ring, earlier);
        let read = ring.split().1.try_read(&mut room);
        assert!(matches!(read, Err(RingReadError::Corrupt(_))));
    }
}
