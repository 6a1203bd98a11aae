//! One message in its slot: at the start the content, at the end a tag for each of its blocks.

use super::{RingReadError, RingWriteError};
use crate::block::{self, BLOCK_BYTES};
use crate::crc32c::blank;
use crate::{Corrupt, Crc32c};
use core::hint::black_box;

pub(super) const TAG_BYTES: usize = size_of::<u32>();

/// The memory of a slot.
pub(super) struct Content<B> {
    /// Length of the message, in bytes.
    pub(super) len: usize,
    /// Over the message's place in the stream and its length.
    pub(super) head_tag: u32,
    pub(super) bytes: B,
}

/// The most bytes of a message for which `total` bytes have room, tags included.
pub(super) fn message_limit(total: usize) -> usize {
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

/// Content and tags of the slot's memory; `content` is as long as a message can be.
fn parts(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(message_limit(bytes.len()))
}

pub(super) fn put<B: AsMut<[u8]>>(
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
        crc.update_copying(block, blank(room));
        tag.copy_from_slice(&crc.finish().to_le_bytes());
    }
    slot.len = message.len();
    slot.head_tag = head_tag(at, message.len());
    Ok(())
}

pub(super) fn take<B: AsRef<[u8]>>(
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
        crc.update_copying(block, blank(room));
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
pub(super) fn flip<B: AsMut<[u8]>>(slot: &mut Content<B>, bit: usize) -> bool {
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
