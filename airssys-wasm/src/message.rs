//! The bytes of one call's arguments or results, and where they come from.
//!
//! A message lies in a slot of the runtime's pool for its level, or on the heap where it is larger
//! than the largest slot or no slot is free. Nobody waits for a slot.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use airssys_integrity::{
    AppendError, BLOCK_BYTES, BufferWriter, CheckedBuffer, Corrupt, FrozenBuffer, MessagePool,
    OnReturn, PooledWriter, SizeClass, VerificationLevel,
};

use crate::config::ComponentName;
use crate::limits::MessageConfig;
use crate::payload::{EncodeError, ValueError};

/// Slots of one level's pool, at most 1.5 MiB with their tags and twice that at `Redundant`: most calls are
/// numbers and short strings, which fit the smallest block; few are pages of text, and fewer files.
pub const MESSAGE_SLOTS: [SizeClass; 3] = [
    SizeClass {
        slot_bytes: 512,
        slots: 256,
    },
    SizeClass {
        slot_bytes: 4 * 1024,
        slots: 64,
    },
    // A text of 64 KiB, and its length before it.
    SizeClass {
        slot_bytes: 64 * 1024 + BLOCK_BYTES,
        slots: 16,
    },
];

/// Messages up to this size do not count against an instance's memory limit, in bytes.
pub const UNCOUNTED_BYTES: usize = 4 * 1024;

/// One pool for each level in use: a level that no component asks for takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    off: Pool,
    sampling: Pool,
    standard: Pool,
    full: Pool,
    redundant: Pool,
}

/// `None` where the host had no memory for it; messages are then on the heap.
type Pool = OnceLock<Option<Arc<MessagePool>>>;

impl Pools {
    fn of(&self, level: VerificationLevel) -> Option<Arc<MessagePool>> {
        let pool = match level {
            VerificationLevel::Off => &self.off,
            VerificationLevel::Sampling(_) => &self.sampling,
            VerificationLevel::Standard => &self.standard,
            VerificationLevel::Full => &self.full,
            VerificationLevel::Redundant => &self.redundant,
            // A level this crate does not know has no pool.
            _ => return None,
        };
        let make = || MessagePool::new(&MESSAGE_SLOTS, level, OnReturn::Keep).ok();
        pool.get_or_init(|| make().map(Arc::new)).clone()
    }
}

/// Where the messages of one component are written.
#[derive(Debug)]
pub(crate) struct Messages {
    level: VerificationLevel,
    limits: MessageConfig,
    pool: Option<Arc<MessagePool>>,
    /// Decides which blocks a sampling read takes.
    seed: u64,
    /// Messages so far: the two ways are counted apart, else each would see every other turn.
    arguments: AtomicUsize,
    results: AtomicUsize,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    In,
    Out,
}

impl Messages {
    pub(crate) fn new(
        level: VerificationLevel,
        limits: MessageConfig,
        name: &ComponentName,
        pools: &Pools,
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        name.as_str().hash(&mut hasher);
        Self {
            level,
            limits,
            pool: pools.of(level),
            seed: hasher.finish(),
            arguments: AtomicUsize::new(0),
            results: AtomicUsize::new(0),
        }
    }

    pub(crate) fn level(&self) -> VerificationLevel {
        self.level
    }

    /// Most bytes a message may take that goes this way.
    pub(crate) fn limit(&self, way: Way) -> usize {
        match way {
            Way::In => self.limits.max_argument_bytes(),
            Way::Out => self.limits.max_result_bytes(),
        }
    }

    /// What a message of so many bytes counts as, with its tags and its mirror. One that fits the
    /// second smallest slot of the pool counts nothing: an instance has at most two in flight, and
    /// a guest that holds all it may must still be callable.
    pub(crate) fn footprint(&self, bytes: usize) -> usize {
        if bytes <= UNCOUNTED_BYTES {
            return 0;
        }
        let copies = match self.level {
            VerificationLevel::Redundant => 2,
            _ => 1,
        };
        let tags = size_of::<u32>() * (bytes.div_ceil(BLOCK_BYTES) + 1);
        copies * bytes + tags
    }

    /// A writer for a message of this many bytes, which takes no more.
    pub(crate) fn writer(&self, way: Way, bytes: usize) -> Result<Writer, ValueError> {
        let limit_bytes = self.limit(way);
        if bytes > limit_bytes {
            return Err(ValueError::TooLarge { limit_bytes });
        }
        let slot = self.pool.as_ref().map(|pool| pool.acquire(bytes));
        let heap = || BufferWriter::with_limit(limit_bytes).level(self.level);
        let VerificationLevel::Sampling(_) = self.level else {
            return Ok(match slot {
                Some(Ok(slot)) => Writer::Pooled(slot),
                _ => Writer::Heap(heap()),
            });
        };
        let read = match way {
            Way::In => &self.arguments,
            Way::Out => &self.results,
        };
        let read = read.fetch_add(1, Ordering::Relaxed);
        Ok(match slot {
            Some(Ok(slot)) => Writer::Pooled(slot.turn(self.seed, read)),
            _ => Writer::Heap(heap().turn(self.seed, read)),
        })
    }

    /// The bytes, after the checks of the component's level.
    pub(crate) fn read<'m>(&self, message: &'m Message) -> Result<&'m [u8], Corrupt> {
        match (self.level, &message.bytes) {
            (VerificationLevel::Off, Bytes::Pooled(bytes)) => Ok(bytes.unverified()),
            (VerificationLevel::Off, Bytes::Heap(bytes)) => Ok(bytes.unverified()),
            (_, Bytes::Pooled(bytes)) => bytes.read(),
            (_, Bytes::Heap(bytes)) => bytes.read(),
        }
    }

    /// The length of a message that is to be read by [`Messages::read_to`], checked as its level
    /// asks for.
    pub(crate) fn len(&self, message: &Message) -> Result<usize, Corrupt> {
        match (self.level, &message.bytes) {
            (VerificationLevel::Off, _) => Ok(message.len()),
            (_, Bytes::Pooled(bytes)) => bytes.checked_len(),
            (_, Bytes::Heap(bytes)) => bytes.checked_len(),
        }
    }

    /// Copies the bytes from `from` on to a target of their length, checked on the way as
    /// [`Messages::read`] does it.
    pub(crate) fn read_to(
        &self,
        message: &Message,
        from: usize,
        target: &mut [u8],
    ) -> Result<(), Corrupt> {
        let copied = match (self.level, &message.bytes) {
            (VerificationLevel::Off, _) => {
                let bytes = message.unverified().get(from..).unwrap_or_default();
                for (to, byte) in target.iter_mut().zip(bytes) {
                    *to = *byte;
                }
                return Ok(());
            }
            (_, Bytes::Pooled(bytes)) => bytes.read_to(from, target),
            (_, Bytes::Heap(bytes)) => bytes.read_to(from, target),
        };
        copied.map(|_| ())
    }

    /// A copy of the bytes from `from` on, checked on the way.
    pub(crate) fn read_vec(&self, message: &Message, from: usize) -> Result<Vec<u8>, Corrupt> {
        match (self.level, &message.bytes) {
            (VerificationLevel::Off, _) => {
                let bytes = message.unverified().get(from..);
                Ok(bytes.unwrap_or_default().to_vec())
            }
            (_, Bytes::Pooled(bytes)) => bytes.read_vec(from),
            (_, Bytes::Heap(bytes)) => bytes.read_vec(from),
        }
    }
}

/// A message being written.
pub(crate) enum Writer {
    Pooled(PooledWriter),
    Heap(BufferWriter),
}

impl Writer {
    pub(crate) fn append(&mut self, source: &[u8]) -> Result<(), AppendError> {
        match self {
            Self::Pooled(writer) => writer.append(source),
            Self::Heap(writer) => writer.append(source),
        }
    }

    #[cfg(feature = "fault-injection")]
    pub(crate) fn append_with(
        &mut self,
        source: &[u8],
        hit: crate::fault::Hit,
    ) -> Result<(), AppendError> {
        use crate::fault::Hit;
        match (self, hit) {
            (Self::Pooled(writer), Hit::Copy(bit)) => writer.append_with_hit(source, bit),
            (Self::Heap(writer), Hit::Copy(bit)) => writer.append_with_hit(source, bit),
            (Self::Pooled(writer), Hit::Register(bit)) => {
                writer.append_with_register_hit(source, bit)
            }
            (Self::Heap(writer), Hit::Register(bit)) => {
                writer.append_with_register_hit(source, bit)
            }
        }
    }

    #[cfg(feature = "fault-injection")]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Pooled(writer) => writer.len(),
            Self::Heap(writer) => writer.len(),
        }
    }

    pub(crate) fn finish(self) -> Message {
        let bytes = match self {
            Self::Pooled(writer) => Bytes::Pooled(writer.freeze()),
            Self::Heap(writer) => Bytes::Heap(Arc::new(writer.finish())),
        };
        Message { bytes }
    }
}

/// A writer that is handed whole blocks: each hand-over takes the tag of the block under way anew.
pub(crate) struct Runs<'w> {
    sink: Hittable<'w>,
    run: [u8; BLOCK_BYTES],
    held: usize,
}

/// A writer, and where a test says so a hit on what it is given.
struct Hittable<'w> {
    writer: &'w mut Writer,
    /// Happens once, to the bytes it falls on.
    #[cfg(feature = "fault-injection")]
    hit: Option<crate::fault::Hit>,
}

impl Hittable<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        #[cfg(feature = "fault-injection")]
        if let Some(hit) = self.hit
            && let Some(hit) = hit.within(self.writer.len(), bytes.len())
        {
            self.hit = None;
            return Ok(self.writer.append_with(bytes, hit)?);
        }
        Ok(self.writer.append(bytes)?)
    }
}

impl<'w> Runs<'w> {
    pub(crate) fn new(writer: &'w mut Writer) -> Self {
        Self {
            sink: Hittable {
                writer,
                #[cfg(feature = "fault-injection")]
                hit: None,
            },
            run: [0; BLOCK_BYTES],
            held: 0,
        }
    }

    #[cfg(feature = "fault-injection")]
    pub(crate) fn hit(&mut self, hit: crate::fault::Hit) {
        self.sink.hit = Some(hit);
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let end = self.held + bytes.len();
        if let Some(free) = self.run.get_mut(self.held..end) {
            free.copy_from_slice(bytes);
            self.held = end;
            return Ok(());
        }
        // Fill the block up, so that the next ones begin where the writer's do.
        let (head, rest) = bytes.split_at(BLOCK_BYTES.saturating_sub(self.held).min(bytes.len()));
        if let Some(free) = self.run.get_mut(self.held..) {
            free.copy_from_slice(head);
        }
        self.held = BLOCK_BYTES;
        self.flush()?;
        if rest.len() < BLOCK_BYTES {
            return self.put(rest);
        }
        self.sink.append(rest)
    }

    fn flush(&mut self) -> Result<(), EncodeError> {
        let held = std::mem::take(&mut self.held);
        self.sink.append(self.run.get(..held).unwrap_or_default())
    }

    /// Hands over what is left.
    pub(crate) fn end(&mut self) -> Result<(), EncodeError> {
        self.flush()
    }
}

/// Encoded arguments or results of a call, read-only. A clone shares the bytes.
///
/// While it is kept it may occupy a slot of the runtime's pool ([`MESSAGE_SLOTS`]).
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Bytes,
}

#[derive(Debug, Clone)]
enum Bytes {
    Pooled(FrozenBuffer),
    Heap(Arc<CheckedBuffer>),
}

impl Message {
    /// How many bytes it takes. Not verified.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.bytes {
            Bytes::Pooled(bytes) => bytes.len(),
            Bytes::Heap(bytes) => bytes.len(),
        }
    }

    /// True for the arguments of a function without parameters. Not verified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The level it was written at.
    #[must_use]
    pub fn level(&self) -> VerificationLevel {
        match &self.bytes {
            Bytes::Pooled(bytes) => bytes.level(),
            Bytes::Heap(bytes) => bytes.level(),
        }
    }

    /// True if it lies in a slot of the pool, false if on the heap.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        matches!(self.bytes, Bytes::Pooled(_))
    }

    /// The bytes of a message that was made without tags, or that have been checked.
    pub(crate) fn unverified(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Pooled(bytes) => bytes.unverified(),
            Bytes::Heap(bytes) => bytes.unverified(),
        }
    }

    /// The same for the same function and the same values, at one level. Not verified.
    pub(crate) fn fingerprint(&self, function: usize) -> u64 {
        let content = match &self.bytes {
            Bytes::Pooled(bytes) => bytes.fingerprint(),
            Bytes::Heap(bytes) => bytes.fingerprint(),
        };
        let mut hasher = DefaultHasher::new();
        (function, self.len(), content).hash(&mut hasher);
        hasher.finish()
    }

    /// Flips one bit at rest, as `CheckedBuffer::flip_bit` of airssys-integrity counts them. False
    /// where there is no such bit, and while the message is shared.
    #[cfg(feature = "fault-injection")]
    pub fn flip_bit(&mut self, bit: usize) -> bool {
        match &mut self.bytes {
            Bytes::Pooled(bytes) => bytes.flip_bit(bit),
            Bytes::Heap(bytes) => Arc::get_mut(bytes).is_some_and(|bytes| bytes.flip_bit(bit)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic fails the test")]

    use super::*;
    use airssys_integrity::SampleRate;

    const LEVELS: [VerificationLevel; 5] = [
        VerificationLevel::Off,
        VerificationLevel::Sampling(SampleRate::ONE_IN_64),
        VerificationLevel::Standard,
        VerificationLevel::Full,
        VerificationLevel::Redundant,
    ];

    /// More than any slot holds.
    const HEAP: usize = 100_000;

    fn messages(level: VerificationLevel, pools: &Pools) -> Messages {
        let limits = MessageConfig::default();
        Messages::new(level, limits, &"component".parse().unwrap(), pools)
    }

    fn message(messages: &Messages, way: Way, bytes: &[u8], slot: usize) -> Message {
        let mut writer = messages.writer(way, slot).unwrap();
        writer.append(bytes).unwrap();
        writer.finish()
    }

    #[test]
    fn the_same_bytes_have_one_fingerprint_in_a_slot_and_on_the_heap() {
        for level in LEVELS {
            let messages = messages(level, &Pools::default());
            let print = |bytes: &[u8], slot, function| {
                let message = message(&messages, Way::In, bytes, slot);
                assert_eq!(message.is_pooled(), slot < HEAP);
                message.fingerprint(function)
            };
            let bytes = [7; 1_300];
            let known = print(&bytes, 1_300, 3);
            assert_eq!(print(&bytes, 1_300, 3), known);
            assert_eq!(print(&bytes, HEAP, 3), known);
            assert_ne!(print(&bytes, 1_300, 4), known);
            assert_ne!(print(&[7; 1_299], 1_300, 3), known);
            let mut other = bytes;
            other[700] = 8;
            assert_ne!(print(&other, 1_300, 3), known);
        }
    }

    #[test]
    fn components_at_one_level_share_a_pool_and_levels_do_not() {
        let pools = Pools::default();
        let slots: usize = MESSAGE_SLOTS.iter().map(|class| class.slots).sum();
        for level in LEVELS {
            let (one, other) = (messages(level, &pools), messages(level, &pools));
            let kept: Vec<_> = (0..slots)
                .map(|_| one.writer(Way::Out, 1).unwrap())
                .collect();
            let pooled = |writer: &Writer| matches!(writer, Writer::Pooled(_));
            assert!(kept.iter().all(pooled));
            assert!(!pooled(&other.writer(Way::In, 1).unwrap()));
        }
    }
}
