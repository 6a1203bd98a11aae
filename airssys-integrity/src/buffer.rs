//! A buffer written once, from front to back, and checked before each read.

use crate::blocks::{Blocks, VerifyError, mixed};
use crate::crc32c::blank;
use crate::{Corrupt, VerificationLevel};
use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Why a [`BufferWriter`] or a [`PooledWriter`](crate::PooledWriter) took none of the bytes offered
/// to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The bytes do not fit under the writer's limit.
    #[error("{requested} bytes on top of {held} exceed the limit of {limit} bytes")]
    LimitExceeded {
        /// The most the writer may hold, in bytes.
        limit: usize,
        /// What it holds, in bytes.
        held: usize,
        /// What was to be added, in bytes.
        requested: usize,
    },
    /// The allocator has no room for the bytes.
    #[error("no memory for {requested} more bytes")]
    AllocationFailed {
        /// What was to be added, in bytes.
        requested: usize,
        /// What the allocator said.
        source: TryReserveError,
    },
    /// What arrived is not what was sent. Seen at [`VerificationLevel::Full`] and
    /// [`VerificationLevel::Redundant`].
    #[error("the copy arrived changed: {0}")]
    Corrupt(#[from] Corrupt),
}

/// Collects bytes from many short or long slices into a [`CheckedBuffer`].
///
/// The tags come from the source: each word is loaded once, and the register
/// that holds it feeds both the CRC and the store. Memory is taken as bytes
/// come, in whole blocks, and for content never beyond the limit rounded up to
/// a block; at [`VerificationLevel::Redundant`] as much again.
pub struct BufferWriter {
    limit: usize,
    blocks: Blocks,
}

/// Writers so far, so that messages differ in which of their reads checks which block.
static WRITERS: AtomicUsize = AtomicUsize::new(0);

impl BufferWriter {
    /// An empty writer that takes at most `limit_bytes`, at [`VerificationLevel::Standard`].
    /// Allocates nothing yet.
    #[must_use]
    pub fn with_limit(limit_bytes: usize) -> Self {
        Self {
            limit: limit_bytes,
            blocks: Blocks::new(VerificationLevel::Standard),
        }
    }

    /// An empty writer at this level. What has been appended before is dropped.
    #[must_use]
    pub fn level(mut self, level: VerificationLevel) -> Self {
        self.blocks = Blocks::new(level);
        if let VerificationLevel::Sampling(_) = level {
            let writer = WRITERS.fetch_add(1, Ordering::Relaxed);
            return self.seed(mixed(writer as u64));
        }
        self
    }

    /// The same writer with the choices of [`VerificationLevel::Sampling`] made by `seed`, not by
    /// how many writers there were before.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.blocks.reseed(seed);
        self
    }

    /// The same writer with the sampling reads of its message counted from `read` on. Messages
    /// that are read once each, with the numbers from 0 on and the same seed, take the turns of one
    /// message that is read again and again: each place of a block has one in each cycle.
    #[must_use]
    pub fn turn(mut self, seed: u64, read: usize) -> Self {
        self.blocks.take_turn(seed, read);
        self
    }

    /// Adds all of `source`, or nothing.
    ///
    /// # Errors
    /// [`AppendError::LimitExceeded`] if the limit has no room for `source`,
    /// [`AppendError::AllocationFailed`] if the allocator has none,
    /// [`AppendError::Corrupt`] if the level checks arrival and the bytes
    /// arrived changed. The writer then holds what it held before.
    pub fn append(&mut self, source: &[u8]) -> Result<(), AppendError> {
        self.make_room(source.len())?;
        Ok(self.blocks.append(source)?)
    }

    fn make_room(&mut self, requested: usize) -> Result<(), AppendError> {
        let held = self.blocks.len();
        // A length that was hit may be beyond the limit.
        let room = self.limit.checked_sub(held);
        if room.is_none_or(|room| requested > room) {
            return Err(AppendError::LimitExceeded {
                limit: self.limit,
                held,
                requested,
            });
        }
        let needed = held + requested;
        if needed > self.blocks.room() {
            self.blocks
                .grow(needed, self.limit)
                .map_err(|source| AppendError::AllocationFailed { requested, source })?;
        }
        Ok(())
    }

    /// As [`append`](Self::append), with one bit of the bytes hit after they are copied and before
    /// their arrival is checked.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    #[cfg(feature = "fault-injection")]
    pub fn append_with_hit(&mut self, source: &[u8], bit: usize) -> Result<(), AppendError> {
        self.make_room(source.len())?;
        Ok(self.blocks.append_with_hit(source, bit)?)
    }

    /// As [`append`](Self::append), with one bit hit in the registers that feed data and tags alike.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    #[cfg(feature = "fault-injection")]
    pub fn append_with_register_hit(
        &mut self,
        source: &[u8],
        bit: usize,
    ) -> Result<(), AppendError> {
        self.make_room(source.len())?;
        Ok(self.blocks.append_with_register_hit(source, bit)?)
    }

    /// The same writer without what it holds.
    pub(crate) fn emptied(mut self) -> Self {
        self.blocks.empty();
        self
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The tag of block `index` of what has been appended.
    pub(crate) fn tag(&self, index: usize) -> Option<u32> {
        self.blocks.unsalted_tag(index)
    }

    /// How many bytes the writer holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// True before the first byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands over the buffer. Allocates nothing.
    #[must_use]
    pub fn finish(mut self) -> CheckedBuffer {
        self.blocks.close();
        CheckedBuffer {
            blocks: self.blocks,
        }
    }
}

impl fmt::Debug for BufferWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferWriter")
            .field("limit", &self.limit)
            .field("held", &self.len())
            .finish_non_exhaustive()
    }
}

/// Bytes with one tag per [`BLOCK_BYTES`](crate::BLOCK_BYTES) and one over their length and level.
///
/// Not `Clone`: a copy made from bytes at rest would give a flipped bit a tag
/// of its own. Verify, and write the verified bytes to a new buffer.
pub struct CheckedBuffer {
    blocks: Blocks,
}

impl CheckedBuffer {
    /// A buffer with the content of `source`, tagged while it is copied.
    ///
    /// # Errors
    /// [`AppendError::LimitExceeded`] if `source` is longer than `limit_bytes`,
    /// [`AppendError::AllocationFailed`] if the allocator has no room for it.
    pub fn from_source(source: &[u8], limit_bytes: usize) -> Result<Self, AppendError> {
        let mut writer = BufferWriter::with_limit(limit_bytes);
        writer.append(source)?;
        Ok(writer.finish())
    }

    /// The level the buffer was written at.
    #[must_use]
    pub fn level(&self) -> VerificationLevel {
        self.blocks.level()
    }

    /// How many bytes the buffer holds. Not verified.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// True if the buffer holds no byte. Not verified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, after recomputing the tag of the length and of every block, whatever the level
    /// asks for.
    ///
    /// # Errors
    /// [`VerifyError::Corrupt`] for a length that does not match, else for the first block that
    /// does not; [`VerifyError::Unverified`] if there are no tags.
    pub fn verify(&self) -> Result<VerifiedBytes<'_>, VerifyError> {
        self.blocks.verify().map(VerifiedBytes::new)
    }

    /// The bytes, after the checks that the level asks for: none at
    /// [`Off`](VerificationLevel::Off), some blocks at [`Sampling`](VerificationLevel::Sampling),
    /// else all. The tag of the length is always checked.
    ///
    /// # Errors
    /// [`Corrupt`] for the first mismatch found.
    pub fn read(&self) -> Result<&[u8], Corrupt> {
        self.blocks.read()
    }

    /// How many bytes the message holds, after the check of that number's tag.
    ///
    /// # Errors
    /// [`Corrupt`].
    pub fn checked_len(&self) -> Result<usize, Corrupt> {
        self.blocks.checked_len()
    }

    /// As [`read`](Self::read), of a copy of the bytes from `from` on, made in the same pass: what is
    /// at `target` is what was checked. Ends with the shorter of the two, and answers how many bytes
    /// those were. After an error some of them are at `target`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_to(&self, from: usize, target: &mut [u8]) -> Result<usize, Corrupt> {
        self.blocks.read_to(from, blank(target))
    }

    /// As [`read_to`](Self::read_to), to memory of its own.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_vec(&self, from: usize) -> Result<Vec<u8>, Corrupt> {
        self.blocks.read_vec(from)
    }

    /// The bytes without any check.
    #[must_use]
    pub fn unverified(&self) -> &[u8] {
        self.blocks.unverified()
    }

    /// A digest of the content, the same for the same bytes in any buffer: from the tags, or from the
    /// bytes at [`Off`](VerificationLevel::Off), so between these two it differs. Not verified, and no
    /// signature.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        self.blocks.fingerprint()
    }

    pub(crate) fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Flips one bit of the data, of the block tags behind it, of the tag of
    /// length and level behind those, or of the mirror at the end, counted from
    /// the lowest bit of each byte or tag. Returns whether there is such a bit.
    #[cfg(feature = "fault-injection")]
    pub fn flip_bit(&mut self, bit: usize) -> bool {
        self.blocks.flip_bit(bit)
    }
}

impl fmt::Debug for CheckedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedBuffer")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// The bytes of a buffer as they were when its `verify` matched them with their tags.
#[derive(Clone, Copy)]
pub struct VerifiedBytes<'a> {
    bytes: &'a [u8],
}

impl<'a> VerifiedBytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes, for as long as the buffer is borrowed.
    #[must_use]
    pub fn as_slice(self) -> &'a [u8] {
        self.bytes
    }
}

impl Deref for VerifiedBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl fmt::Debug for VerifiedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedBytes")
            .field("len", &self.bytes.len())
            .finish_non_exhaustive()
    }
}
