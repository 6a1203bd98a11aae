//! A buffer written once, from front to back, and checked before each read.

use crate::block::{self, BLOCK_BYTES};
use crate::corrupt::Corrupt;
use crate::crc32c::Crc32c;
use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::fmt;
use core::hint::black_box;
use core::ops::Deref;

/// Why a [`BufferWriter`] took none of the bytes offered to it.
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
}

/// Collects bytes from many short or long slices into a [`CheckedBuffer`].
///
/// The tags come from the source: each word is loaded once, and the register
/// that holds it feeds both the CRC and the store. Memory is taken as bytes
/// come, in whole blocks, and for content never beyond the limit rounded up to
/// a block.
pub struct BufferWriter {
    limit: usize,
    /// Bytes written. `data` is longer: zeros up to the end of a block.
    held: usize,
    data: Vec<u8>,
    /// One per full block, with room for the one of the open block.
    tags: Vec<u32>,
    /// The CRC of block `held / BLOCK_BYTES` over the bytes it has so far.
    open: Crc32c,
}

impl BufferWriter {
    /// An empty writer that takes at most `limit_bytes`. Allocates nothing yet.
    #[must_use]
    pub fn with_limit(limit_bytes: usize) -> Self {
        Self {
            limit: limit_bytes,
            held: 0,
            data: Vec::new(),
            tags: Vec::new(),
            open: block::open(0),
        }
    }

    /// Adds all of `source`, or nothing.
    ///
    /// # Errors
    /// [`AppendError::LimitExceeded`] if the limit has no room for `source`,
    /// [`AppendError::AllocationFailed`] if the allocator has none. The writer
    /// then holds what it held before.
    pub fn append(&mut self, source: &[u8]) -> Result<(), AppendError> {
        let requested = source.len();
        if requested > self.limit - self.held {
            return Err(AppendError::LimitExceeded {
                limit: self.limit,
                held: self.held,
                requested,
            });
        }
        let needed = self.held + requested;
        if needed > self.data.len() {
            self.grow(needed)
                .map_err(|source| AppendError::AllocationFailed { requested, source })?;
        }
        self.write(source);
        Ok(())
    }

    /// Extends `data` with zeros to the end of the block that holds byte
    /// `needed - 1`, and reserves the tags of all its blocks.
    #[cold]
    fn grow(&mut self, needed: usize) -> Result<(), TryReserveError> {
        let blocks = needed.div_ceil(BLOCK_BYTES);
        self.tags.try_reserve(blocks - self.tags.len())?;
        // Saturation is safe: a Vec refuses more than isize::MAX bytes.
        let target = blocks.saturating_mul(BLOCK_BYTES);
        let ceiling = self.limit.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
        // Doubling keeps appends amortised; the ceiling keeps it under the limit.
        let capacity = self.data.capacity();
        if target > capacity {
            let wanted = target.max(capacity.saturating_mul(2).min(ceiling));
            self.data.try_reserve_exact(wanted - self.data.len())?;
        }
        self.data.resize(target, 0);
        Ok(())
    }

    /// Copies `source` to the room that [`grow`](Self::grow) has made for it.
    fn write(&mut self, source: &[u8]) {
        let mut rest = source;
        while !rest.is_empty() {
            let room = BLOCK_BYTES - self.held % BLOCK_BYTES;
            let (part, later) = rest.split_at(rest.len().min(room));
            let (_, free) = self.data.split_at_mut(self.held);
            self.open.update_copying(part, free);
            self.held += part.len();
            if part.len() == room {
                self.tags.push(self.open.finish());
                self.open = block::open(self.held / BLOCK_BYTES);
            }
            rest = later;
        }
    }

    /// How many bytes the writer holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held
    }

    /// True before the first byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Closes the last block and hands over the buffer. Allocates nothing.
    #[must_use]
    pub fn finish(mut self) -> CheckedBuffer {
        if !self.held.is_multiple_of(BLOCK_BYTES) {
            self.tags.push(self.open.finish());
        }
        self.data.truncate(self.held);
        CheckedBuffer {
            data: self.data,
            tags: self.tags,
            length_tag: block::length_tag(self.held),
        }
    }
}

impl fmt::Debug for BufferWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferWriter")
            .field("limit", &self.limit)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

/// Bytes with one tag per [`BLOCK_BYTES`] and one over their length, readable
/// only through [`verify`](Self::verify).
///
/// Not `Clone`: a copy made from bytes at rest would give a flipped bit a tag
/// of its own. Verify, and write the verified bytes to a new buffer.
pub struct CheckedBuffer {
    data: Vec<u8>,
    tags: Vec<u32>,
    length_tag: u32,
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

    /// How many bytes the buffer holds. Not verified.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// True if the buffer holds no byte. Not verified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The bytes, after recomputing the tag of the length and of every block.
    ///
    /// # Errors
    /// [`Corrupt`] for a length that does not match, else for the first block
    /// that does not.
    pub fn verify(&self) -> Result<VerifiedBytes<'_>, Corrupt> {
        // The optimiser knows that nobody wrote since the last call; memory
        // that fails does not ask. Behind the black box it has to read again.
        let this = black_box(self);
        let len = this.data.len();
        let found = block::length_tag(len);
        if found != this.length_tag {
            return Err(Corrupt {
                block: len.div_ceil(BLOCK_BYTES),
                offset: len,
                len: 0,
                expected: this.length_tag,
                found,
                persistent: block::length_tag(black_box(&this.data).len()) != this.length_tag,
            });
        }
        for (index, bytes) in this.data.chunks(BLOCK_BYTES).enumerate() {
            let found = block::tag(index, bytes);
            // A missing tag counts as one that differs.
            let expected = this.tags.get(index).copied().unwrap_or(!found);
            if found != expected {
                return Err(Corrupt {
                    block: index,
                    offset: index * BLOCK_BYTES,
                    len: bytes.len(),
                    expected,
                    found,
                    persistent: block::tag(index, black_box(bytes)) != expected,
                });
            }
        }
        Ok(VerifiedBytes { bytes: &this.data })
    }

    /// Flips one bit of the data, of the block tags behind it, or of the length
    /// tag behind those, counted from the lowest bit of each byte or tag.
    /// Returns whether there is such a bit.
    #[cfg(feature = "fault-injection")]
    pub fn flip_bit(&mut self, bit: usize) -> bool {
        let byte = bit / 8;
        if let Some(slot) = self.data.get_mut(byte) {
            *slot ^= 1 << (bit % 8);
            return true;
        }
        let byte = byte - self.data.len();
        let mut tags = self.tags.iter_mut().chain([&mut self.length_tag]);
        if let Some(slot) = tags.nth(byte / 4) {
            *slot ^= 1 << (8 * (byte % 4) + bit % 8);
            return true;
        }
        false
    }
}

impl fmt::Debug for CheckedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedBuffer")
            .field("len", &self.data.len())
            .finish_non_exhaustive()
    }
}

/// The bytes of a [`CheckedBuffer`] as they were when
/// [`verify`](CheckedBuffer::verify) matched them with their tags.
#[derive(Clone, Copy)]
pub struct VerifiedBytes<'a> {
    bytes: &'a [u8],
}

impl<'a> VerifiedBytes<'a> {
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

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a panic fails the test"
    )]

    use super::{BLOCK_BYTES, BufferWriter, CheckedBuffer};
    use std::vec::Vec;

    fn sample(len: usize) -> CheckedBuffer {
        let source: Vec<u8> = (0..len).map(|at| (at * 31 + at / 256) as u8).collect();
        CheckedBuffer::from_source(&source, len).unwrap()
    }

    #[test]
    fn swapped_blocks_are_caught_even_when_their_tags_move_along() {
        for tags_too in [false, true] {
            let mut buffer = sample(3 * BLOCK_BYTES);
            let (first, rest) = buffer.data.split_at_mut(BLOCK_BYTES);
            first.swap_with_slice(&mut rest[..BLOCK_BYTES]);
            if tags_too {
                buffer.tags.swap(0, 1);
            }
            assert_eq!(buffer.verify().unwrap_err().block, 0);
        }
    }

    #[test]
    fn a_shorter_or_longer_length_is_caught_by_the_length_tag() {
        for len in [1, 511, 512, 513, 1_500] {
            for short in 0..len {
                let mut buffer = sample(len);
                buffer.data.truncate(short);
                let corrupt = buffer.verify().unwrap_err();
                assert_eq!((corrupt.offset, corrupt.len), (short, 0));
            }
            let mut buffer = sample(len);
            buffer.data.push(0);
            assert_eq!(buffer.verify().unwrap_err().len, 0);
        }
    }

    #[test]
    fn blocks_cut_off_with_their_tags_are_caught() {
        let mut buffer = sample(3 * BLOCK_BYTES);
        buffer.data.truncate(BLOCK_BYTES);
        buffer.tags.truncate(1);
        buffer.verify().unwrap_err();
    }

    #[test]
    fn a_block_without_a_tag_is_corrupt() {
        let mut buffer = sample(2 * BLOCK_BYTES);
        buffer.tags.pop();
        assert_eq!(buffer.verify().unwrap_err().block, 1);
    }

    #[test]
    fn a_failed_allocation_leaves_the_writer_unchanged() {
        let mut writer = BufferWriter::with_limit(usize::MAX);
        writer.append(b"kept").unwrap();
        writer.grow(usize::MAX / 2 + 1).unwrap_err();
        writer.append(b", and more").unwrap();
        assert_eq!(&*writer.finish().verify().unwrap(), b"kept, and more");
    }

    #[test]
    fn reserved_memory_stays_under_the_limit_rounded_up_to_a_block() {
        let mut writer = BufferWriter::with_limit(5 * BLOCK_BYTES - 1);
        for _ in 0..5 * BLOCK_BYTES - 1 {
            writer.append(&[7]).unwrap();
        }
        assert!(writer.data.capacity() <= 5 * BLOCK_BYTES);
    }
}
