//! A list with a fixed capacity whose items, tags and length are checked at each access.

use crate::block::{self, BLOCK_BYTES};
use crate::{Corrupt, crc32c};
use bytemuck::Pod;
use core::fmt;
use core::hint::black_box;

const LANE_BYTES: usize = size_of::<u64>();
const LANES: usize = BLOCK_BYTES / LANE_BYTES;

/// Why an item was not added. The item comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError<T> {
    /// All places are taken.
    #[error("all {capacity} places are taken")]
    Full {
        /// What was to be added.
        item: T,
        /// How many items fit.
        capacity: usize,
    },
    /// The length does not match its tag, so there is no telling where the item belongs.
    #[error("{source}")]
    Corrupt {
        /// What was to be added.
        item: T,
        /// The mismatch found.
        source: Corrupt,
    },
}

/// Why an item was neither read nor replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// There is no item of this index.
    #[error("no item {index} among {len}")]
    OutOfBounds {
        /// What was asked for.
        index: usize,
        /// How many items there are.
        len: usize,
    },
    /// The length or a block the item lies in does not match its tag.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

/// At most `N` items of plain data, in place, with one tag per [`BLOCK_BYTES`] of them and one over
/// the length.
///
/// `TAGS` is how many blocks the items fill: 1 up to 512 bytes. A capacity that `TAGS` does not
/// match, or an item of no or of more than 512 bytes, does not compile.
///
/// A change of an item changes the tag by the difference between what was there and what is there
/// now. A tag is never taken from memory, so a change does not make an earlier fault good: the
/// block stays corrupt until [`clear`](Self::clear), even if the change has overwritten the fault.
///
/// ```
/// use airssys_integrity::BoundedVec;
///
/// let mut readings = BoundedVec::<f32, 100>::new();
/// readings.push(21.5)?;
/// readings.push(22.0)?;
/// assert_eq!(readings.get(0)?, 21.5);
/// assert_eq!(readings.as_slice()?, [21.5, 22.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail
/// // 1,024 bytes are two blocks.
/// airssys_integrity::BoundedVec::<u64, 128>::new();
/// ```
pub struct BoundedVec<T, const N: usize, const TAGS: usize = 1> {
    items: [T; N],
    /// Over each block of `items`, the unused places included.
    tags: [u32; TAGS],
    len: usize,
    len_tag: u32,
}

impl<T: Pod, const N: usize, const TAGS: usize> BoundedVec<T, N, TAGS> {
    const BYTES: usize = {
        assert!(N > 0, "a capacity of at least one item");
        assert!(
            size_of::<T>() > 0,
            "an item of no bytes has nothing to protect"
        );
        assert!(size_of::<T>() <= BLOCK_BYTES, "an item fits into a block");
        let bytes = N * size_of::<T>();
        assert!(
            TAGS == bytes.div_ceil(BLOCK_BYTES),
            "one tag for each block of items"
        );
        bytes
    };

    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        let _ = const { Self::BYTES };
        let mut list = Self {
            items: [T::zeroed(); N],
            tags: [0; TAGS],
            len: 0,
            len_tag: length_tag(0),
        };
        list.clear();
        list
    }

    /// Forgets all items, faults and tags, and starts again with zeros.
    pub fn clear(&mut self) {
        self.items = [T::zeroed(); N];
        let blocks = bytemuck::cast_slice::<T, u8>(&self.items).chunks(BLOCK_BYTES);
        for ((index, zeros), tag) in blocks.enumerate().zip(&mut self.tags) {
            *tag = padded_tag(index, zeros);
        }
        self.set_len(0);
    }

    /// Adds `item` behind the others.
    ///
    /// # Errors
    /// [`PushError::Full`] if all places are taken, [`PushError::Corrupt`] if the length does not
    /// match its tag. Both hand the item back.
    pub fn push(&mut self, item: T) -> Result<(), PushError<T>> {
        let len = match self.verified_len() {
            Ok(len) => len,
            Err(source) => return Err(PushError::Corrupt { item, source }),
        };
        if len >= N {
            return Err(PushError::Full { item, capacity: N });
        }
        self.store(len, &item);
        self.set_len(len + 1);
        Ok(())
    }

    /// Takes the last item; `None` if there is none.
    ///
    /// # Errors
    /// [`Corrupt`] if the length or a block of the item does not match its tag. The item stays.
    pub fn pop(&mut self) -> Result<Option<T>, Corrupt> {
        let last = self.peek()?;
        if last.is_some() {
            let len = self.verified_len()?;
            self.set_len(len.saturating_sub(1));
        }
        Ok(last)
    }

    /// The last item; `None` if there is none.
    ///
    /// # Errors
    /// [`Corrupt`] if the length or a block of the item does not match its tag.
    pub fn peek(&self) -> Result<Option<T>, Corrupt> {
        match self.verified_len()?.checked_sub(1) {
            Some(last) => self.load(last),
            None => Ok(None),
        }
    }

    /// The item at `index`.
    ///
    /// # Errors
    /// [`AccessError::OutOfBounds`] if there is none, [`AccessError::Corrupt`] if the length or a
    /// block of the item does not match its tag.
    pub fn get(&self, index: usize) -> Result<T, AccessError> {
        let len = self.verified_len()?;
        let none = AccessError::OutOfBounds { index, len };
        if index >= len {
            return Err(none);
        }
        self.load(index)?.ok_or(none)
    }

    /// Replaces the item at `index`. Does not look at the tags of the items: what was faulty
    /// before stays so.
    ///
    /// # Errors
    /// [`AccessError::OutOfBounds`] if there is none, [`AccessError::Corrupt`] if the length does
    /// not match its tag.
    pub fn set(&mut self, index: usize, item: T) -> Result<(), AccessError> {
        let len = self.verified_len()?;
        if index >= len {
            return Err(AccessError::OutOfBounds { index, len });
        }
        self.store(index, &item);
        Ok(())
    }

    /// All items, after a check of every block that has a place for one.
    ///
    /// # Errors
    /// [`Corrupt`] for a length that does not match, else for the first block that does not.
    pub fn as_slice(&self) -> Result<&[T], Corrupt> {
        let len = self.verified_len()?;
        self.check(0, Self::BYTES)?;
        Ok(self.items.get(..len).unwrap_or_default())
    }

    /// All items in order, after the same check.
    ///
    /// # Errors
    /// Those of [`as_slice`](Self::as_slice).
    pub fn iter(&self) -> Result<core::iter::Copied<core::slice::Iter<'_, T>>, Corrupt> {
        Ok(self.as_slice()?.iter().copied())
    }

    /// How many items there are.
    ///
    /// # Errors
    /// [`Corrupt`] if the length does not match its tag.
    pub fn len(&self) -> Result<usize, Corrupt> {
        self.verified_len()
    }

    /// True if there is no item.
    ///
    /// # Errors
    /// [`Corrupt`] if the length does not match its tag.
    pub fn is_empty(&self) -> Result<bool, Corrupt> {
        Ok(self.verified_len()? == 0)
    }

    /// How many items fit.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        N
    }

    fn verified_len(&self) -> Result<usize, Corrupt> {
        let look = || {
            // Memory that fails does not ask the optimiser, which knows what was written.
            let this = black_box(self);
            (this.len, this.len_tag, length_tag(this.len))
        };
        let (len, expected, found) = look();
        if expected == found && len <= N {
            return Ok(len);
        }
        let (again, tag, recomputed) = look();
        Err(Corrupt {
            block: TAGS,
            offset: len,
            len: 0,
            expected: if expected == found { !found } else { expected },
            found,
            persistent: tag != recomputed || again > N,
        })
    }

    fn set_len(&mut self, len: usize) {
        self.len = len;
        self.len_tag = length_tag(len);
    }

    /// The item at `index`, after a check of its blocks.
    fn load(&self, index: usize) -> Result<Option<T>, Corrupt> {
        let start = index * size_of::<T>();
        self.check(start, start + size_of::<T>())?;
        Ok(black_box(&self.items).get(index).copied())
    }

    /// Checks the blocks that bytes `start..end` lie in.
    fn check(&self, start: usize, end: usize) -> Result<(), Corrupt> {
        let this = black_box(self);
        let blocks = bytemuck::cast_slice::<T, u8>(&this.items).chunks(BLOCK_BYTES);
        let first = start / BLOCK_BYTES;
        let covered = end.div_ceil(BLOCK_BYTES) - first;
        let covered = blocks.zip(this.tags).enumerate().skip(first).take(covered);
        for (index, (bytes, expected)) in covered {
            let found = padded_tag(index, bytes);
            if found != expected {
                return Err(Corrupt {
                    block: index,
                    offset: index * BLOCK_BYTES,
                    len: bytes.len(),
                    expected,
                    found,
                    persistent: padded_tag(index, black_box(bytes)) != expected,
                });
            }
        }
        Ok(())
    }

    /// Writes an item and changes the tags of its blocks by the difference.
    fn store(&mut self, index: usize, item: &T) {
        let mut new = bytemuck::bytes_of(item);
        let mut at = index * size_of::<T>();
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.items);
        while !new.is_empty() {
            let (block, within) = (at / BLOCK_BYTES, at % BLOCK_BYTES);
            let (part, later) = new.split_at(new.len().min(BLOCK_BYTES - within));
            let old = bytes.get_mut(at..at + part.len()).unwrap_or_default();
            let difference = exchange(old, part, within, lanes_of(block, Self::BYTES));
            if let Some(tag) = self.tags.get_mut(block) {
                *tag ^= difference;
            }
            at += part.len();
            new = later;
        }
    }

    /// Flips one bit of the items (the unused places included), of the tags behind them, of the
    /// length, or of its tag. Returns whether there is such a bit.
    #[cfg(feature = "fault-injection")]
    pub fn flip_bit(&mut self, bit: usize) -> bool {
        let mut len = self.len.to_le_bytes();
        let mut len_tag = self.len_tag.to_le_bytes();
        let items: &mut [u8] = bytemuck::cast_slice_mut(&mut self.items);
        let tags: &mut [u8] = bytemuck::cast_slice_mut(&mut self.tags);
        let mut bytes = items
            .iter_mut()
            .chain(tags)
            .chain(&mut len)
            .chain(&mut len_tag);
        let found = bytes.nth(bit / 8).map(|byte| *byte ^= 1 << (bit % 8));
        self.len = usize::from_le_bytes(len);
        self.len_tag = u32::from_le_bytes(len_tag);
        found.is_some()
    }
}

impl<T: Pod, const N: usize, const TAGS: usize> Default for BoundedVec<T, N, TAGS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize, const TAGS: usize> fmt::Debug for BoundedVec<T, N, TAGS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedVec")
            .field("len", &self.len)
            .field("capacity", &N)
            .finish_non_exhaustive()
    }
}

fn length_tag(len: usize) -> u32 {
    let mut crc = block::open(usize::MAX);
    crc.update_u64(len as u64);
    crc.finish()
}

/// The tag of a block, padded with zeros to whole lanes.
fn padded_tag(index: usize, bytes: &[u8]) -> u32 {
    let mut crc = block::open(index);
    crc.update(bytes);
    let padding = bytes.len().next_multiple_of(LANE_BYTES) - bytes.len();
    crc.update([0; LANE_BYTES].get(..padding).unwrap_or_default());
    crc.finish()
}

/// Lanes of the block at `block` among `bytes` bytes.
const fn lanes_of(block: usize, bytes: usize) -> usize {
    let rest = bytes.saturating_sub(block * BLOCK_BYTES);
    let here = if rest < BLOCK_BYTES {
        rest
    } else {
        BLOCK_BYTES
    };
    here.div_ceil(LANE_BYTES)
}

/// Puts `new` in the place of `old`, `within` bytes into a block of `lanes` lanes. Gives what the
/// tag of the block changes by: the CRC, from zero, of the difference (ADR-INT-003).
fn exchange(old: &mut [u8], new: &[u8], within: usize, lanes: usize) -> u32 {
    let mut difference = [[0; LANE_BYTES]; LANES];
    let flat = difference.as_flattened_mut().iter_mut();
    let first = within / LANE_BYTES;
    for ((slot, byte), change) in old.iter_mut().zip(new).zip(flat.skip(within % LANE_BYTES)) {
        *change = *slot ^ byte;
        *slot = *byte;
    }
    let changed = (within + new.len()).div_ceil(LANE_BYTES) - first;
    let state = crc32c::fold(0, changed, |lane| {
        difference
            .get(lane)
            .map_or(0, |lane| u64::from_le_bytes(*lane))
    });
    crc32c::shift(state, lanes - first - changed)
}
