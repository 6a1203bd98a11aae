//! A stream of tagged messages from one thread to another, through slots of fixed size.

use crate::block::{self, BLOCK_BYTES};
use crate::cell::{AtomicBool, AtomicUsize, Ordering, UnsafeCell};
use crate::{Corrupt, Crc32c};
#[cfg(feature = "alloc")]
use alloc::{boxed::Box, collections::TryReserveError, sync::Arc, vec::Vec};
use core::fmt;
use core::hint::black_box;
use core::ops::Deref;
use core::time::Duration;

const TAG_BYTES: usize = size_of::<u32>();

/// How often [`Consumer::read_until`] looks while its clock shows the same time.
const LOOKS_AT_ONE_TIME: u32 = 1 << 16;

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

/// A message at rest: at the start of `bytes` the content, at the end a tag for each of its blocks.
struct Slot<B> {
    /// The most a message may hold, in bytes.
    limit: usize,
    cell: UnsafeCell<Content<B>>,
}

struct Content<B> {
    /// Length of the message, in bytes.
    len: usize,
    /// Over the message's place in the stream and its length.
    head_tag: u32,
    bytes: B,
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

/// The position after `at`.
fn next(at: usize, slots: usize) -> usize {
    if at + 1 == 2 * slots { 0 } else { at + 1 }
}

/// The most bytes of a message for which `total` bytes have room, tags included.
fn message_limit(total: usize) -> usize {
    let full = total / (BLOCK_BYTES + TAG_BYTES);
    let rest = total % (BLOCK_BYTES + TAG_BYTES);
    full * BLOCK_BYTES + rest.saturating_sub(TAG_BYTES)
}

fn head_tag(at: usize, len: usize) -> u32 {
    let mut crc = block::open(usize::MAX);
    crc.update_u64(at as u64);
    crc.update_u64(len as u64);
    crc.finish()
}

/// A block's CRC starts with the position of its message as well, so that a message which was lost
/// on its way does not leave its predecessor in its place.
fn open(at: usize, index: usize) -> Crc32c {
    let mut crc = block::open(index);
    crc.update_u64(at as u64);
    crc
}

/// The writing end of a ring. Dropped, it ends the stream.
pub struct Producer<R>
where
    R: Deref<Target: Storage>,
{
    ring: R,
    /// Position of the next message, kept here out of the consumer's reach.
    at: usize,
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
    ring: R,
    /// Position of the next message, kept here out of the producer's reach.
    at: usize,
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

/// Content and tags of the slot's memory; `content` is as long as a message can be.
fn parts(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(message_limit(bytes.len()))
}

fn limit_of<B: AsRef<[u8]> + AsMut<[u8]>>(slots: &[Slot<B>]) -> usize {
    slots.first().map_or(0, |slot| slot.limit)
}

fn put<B: AsMut<[u8]>>(
    at: usize,
    message: &[u8],
    slot: &mut Content<B>,
) -> Result<(), RingWriteError> {
    let bytes = slot.bytes.as_mut();
    let limit = message_limit(bytes.len());
    if message.len() > limit {
        return Err(RingWriteError::TooLarge {
            limit,
            requested: message.len(),
        });
    }
    let (content, tags) = bytes.split_at_mut(limit);
    let blocks = message.chunks(BLOCK_BYTES).enumerate();
    for (((index, block), room), tag) in blocks
        .zip(content.chunks_mut(BLOCK_BYTES))
        .zip(tags.chunks_mut(TAG_BYTES))
    {
        let mut crc = open(at, index);
        crc.update_copying(block, room);
        tag.copy_from_slice(&crc.finish().to_le_bytes());
    }
    slot.len = message.len();
    slot.head_tag = head_tag(at, message.len());
    Ok(())
}

fn take<B: AsRef<[u8]>>(
    at: usize,
    slot: &Content<B>,
    destination: &mut [u8],
) -> Result<usize, RingReadError> {
    // Memory that fails does not ask the optimiser, which may know what was written.
    let slot = black_box(slot);
    let (content, tags) = parts(slot.bytes.as_ref());
    let len = slot.len;
    let found = head_tag(at, len);
    let content = match content.get(..len) {
        Some(content) if found == slot.head_tag => content,
        _ => {
            let again = black_box(slot);
            return Err(RingReadError::Corrupt(Corrupt {
                block: len.div_ceil(BLOCK_BYTES),
                offset: len,
                len: 0,
                expected: slot.head_tag,
                found,
                persistent: head_tag(at, again.len) != again.head_tag,
            }));
        }
    };
    let room = destination.len();
    let Some(destination) = destination.get_mut(..len) else {
        return Err(RingReadError::TooShort {
            needed: len,
            len: room,
        });
    };
    let blocks = content.chunks(BLOCK_BYTES).enumerate();
    for (((index, block), room), tag) in blocks
        .zip(destination.chunks_mut(BLOCK_BYTES))
        .zip(tags.chunks(TAG_BYTES))
    {
        let mut crc = open(at, index);
        crc.update_copying(block, room);
        let found = crc.finish();
        if found.to_le_bytes() != tag {
            destination.fill(0);
            let mut again = open(at, index);
            again.update(black_box(block));
            return Err(RingReadError::Corrupt(Corrupt {
                block: index,
                offset: index * BLOCK_BYTES,
                len: block.len(),
                expected: tag.try_into().map_or(!found, u32::from_le_bytes),
                found,
                persistent: again.finish().to_le_bytes() != tag,
            }));
        }
    }
    Ok(len)
}

#[cfg(feature = "fault-injection")]
fn flip<B: AsMut<[u8]>>(slot: &mut Content<B>, bit: usize) -> bool {
    let (byte, mask) = (bit / 8, 1_u8 << (bit % 8));
    let bytes = slot.bytes.as_mut();
    let limit = message_limit(bytes.len());
    let (content, tags) = bytes.split_at_mut(limit);
    let used_tags = slot.len.div_ceil(BLOCK_BYTES) * TAG_BYTES;
    let mut len = slot.len.to_le_bytes();
    let mut head = slot.head_tag.to_le_bytes();
    let content = content.iter_mut().take(slot.len);
    let tags = tags.iter_mut().take(used_tags);
    let found = content
        .chain(tags)
        .chain(&mut len)
        .chain(&mut head)
        .nth(byte)
        .map(|byte| *byte ^= mask)
        .is_some();
    slot.len = usize::from_le_bytes(len);
    slot.head_tag = u32::from_le_bytes(head);
    found
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
