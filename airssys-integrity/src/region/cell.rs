//! One block of a region: how its bytes, its tag and its inverted copy are written and compared.
//!
//! Nothing here takes care of other threads. Whoever calls holds the latch, or looks at the sequence
//! number afterwards.

use crate::atomic::{AtomicU32, AtomicWord, LANE_WORDS, Ordering, load, store};
use crate::block::BLOCK_BYTES;
use crate::corrupt::Corrupt;
use crate::crc32c::{fold, pinned, shift};
use crate::fault::BlockFault;
use crate::provider::{Phase, Provider};
use core::hint::black_box;

/// Lanes of eight bytes in a block.
pub(crate) const LANES: usize = BLOCK_BYTES / 8;
const WORDS: usize = LANES * LANE_WORDS;

/// The tag of a block that was written at level `Off`.
///
/// A tag that has this value by right is told apart by its bytes: marks count only where the bytes
/// do not match.
const UNTAGGED: u32 = 0x5A11_0FF5;
/// The tag of a block in which a writer came to an end.
const POISONED: u32 = 0xA5DE_AD5A;

/// A block, looked up.
pub(crate) struct Cell<'a, P> {
    pub(crate) provider: &'a P,
    pub(crate) words: &'a [AtomicWord],
    pub(crate) mirror: Option<&'a [AtomicWord]>,
    pub(crate) tag: &'a AtomicU32,
    /// The CRC register after the region's id and the block's index.
    pub(crate) seed: u32,
    pub(crate) index: usize,
    /// Bytes; those that fill the last lane are zero, and under the tag.
    pub(crate) len: usize,
}

/// Bytes of a source that fall into one lane, and which bits of the lane they are.
#[inline(always)]
fn lane_of(source: &[u8], start: usize, lane: usize) -> (u64, u64) {
    let lane_start = lane * 8;
    if let Some(at) = lane_start.checked_sub(start)
        && let Some(bytes) = source.get(at..).and_then(<[u8]>::first_chunk)
    {
        return (u64::from_le_bytes(*bytes), u64::MAX);
    }
    edge_of(source, start, lane_start)
}

#[cold]
fn edge_of(source: &[u8], start: usize, lane_start: usize) -> (u64, u64) {
    let mut bits = [0; 8];
    let mut mask = [0; 8];
    for (at, (bit, mask)) in bits.iter_mut().zip(&mut mask).enumerate() {
        let byte = (lane_start + at)
            .checked_sub(start)
            .and_then(|at| source.get(at));
        if let Some(byte) = byte {
            *bit = *byte;
            *mask = u8::MAX;
        }
    }
    (u64::from_le_bytes(bits), u64::from_le_bytes(mask))
}

/// Gives a lane's bytes to those places of `out` that lie in it.
#[inline(always)]
fn put_lane(out: &mut [u8], start: usize, lane: usize, word: u64) {
    let lane_start = lane * 8;
    if let Some(at) = lane_start.checked_sub(start)
        && let Some(slot) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut)
    {
        *slot = word.to_le_bytes();
        return;
    }
    put_edge(out, start, lane_start, word);
}

#[cold]
fn put_edge(out: &mut [u8], start: usize, lane_start: usize, word: u64) {
    for (at, byte) in word.to_le_bytes().iter().enumerate() {
        let slot = (lane_start + at)
            .checked_sub(start)
            .and_then(|at| out.get_mut(at));
        if let Some(slot) = slot {
            *slot = *byte;
        }
    }
}

impl<P: Provider> Cell<'_, P> {
    #[inline(always)]
    fn lanes(&self) -> usize {
        self.len.div_ceil(8)
    }

    /// The CRC register as a tag.
    fn tag_of(state: u32) -> u32 {
        !state
    }

    /// Overwrites the block. The tag comes from the registers that were stored.
    #[inline]
    pub(crate) fn write_whole(&self, source: &[u8]) {
        let state = match (<&[u8; BLOCK_BYTES]>::try_from(source), self.whole_words()) {
            // Of lengths that are known, for a loop without bounds checks.
            (Ok(source), Some(words)) => self.store_whole(source, words, LANES),
            _ => self.store_whole(source, self.words, self.lanes()),
        };
        self.seal(Self::tag_of(state));
    }

    #[inline(always)]
    fn whole_words(&self) -> Option<&[AtomicWord; WORDS]> {
        self.words.try_into().ok()
    }

    #[inline(always)]
    fn store_whole(&self, source: &[u8], words: &[AtomicWord], lanes: usize) -> u32 {
        fold(self.seed, lanes, |lane| {
            let (bits, _) = lane_of(source, 0, lane);
            let bits = pinned(self.provider.fault(Phase::SourceLoaded { lane }, bits));
            store(words, lane, bits);
            self.provider.fault(Phase::Stored { lane }, 0);
            bits
        })
    }

    /// Overwrites a part of the block that starts at byte `start`, and changes the tag by what the
    /// part has changed: a fault that was there before still shows.
    #[inline]
    pub(crate) fn write_part(&self, start: usize, source: &[u8]) {
        let tag = self.tag.load(Ordering::Relaxed);
        let unmarked = !self.is_marked(tag, UNTAGGED);
        let first = start / 8;
        let count = (start % 8 + source.len()).div_ceil(8);
        let change = fold(0, count, |lane| {
            let lane = first + lane;
            let (bits, mask) = lane_of(source, start, lane);
            let bits = pinned(self.provider.fault(Phase::SourceLoaded { lane }, bits));
            let old = load(self.words, lane);
            let new = (old & !mask) | (bits & mask);
            store(self.words, lane, new);
            self.provider.fault(Phase::Stored { lane }, 0);
            old ^ new
        });
        if unmarked {
            self.seal(tag ^ shift(change, self.lanes() - first - count));
        }
    }

    /// Overwrites a part without a tag.
    pub(crate) fn write_untagged(&self, start: usize, source: &[u8]) {
        for lane in start / 8..(start + source.len()).div_ceil(8) {
            let (bits, mask) = lane_of(source, start, lane);
            store(self.words, lane, (load(self.words, lane) & !mask) | bits);
        }
        self.seal(UNTAGGED);
    }

    /// Loads the source a second time and stores it inverted.
    pub(crate) fn write_mirror(&self, start: usize, source: &[u8]) {
        let Some(mirror) = self.mirror else {
            return;
        };
        let source = black_box(source);
        for lane in start / 8..(start + source.len()).div_ceil(8) {
            let (bits, mask) = lane_of(source, start, lane);
            let bits = self.provider.fault(Phase::SourceLoadedAgain { lane }, bits);
            store(mirror, lane, (load(mirror, lane) & !mask) | (!bits & mask));
        }
    }

    fn seal(&self, tag: u32) {
        self.provider.fault(Phase::BeforeTag, 0);
        self.tag.store(tag, Ordering::Relaxed);
        self.provider.fault(Phase::AfterTag, 0);
    }

    /// Tags what is there: only for memory that is known to be zero.
    pub(crate) fn tag_zeros(&self) {
        self.tag.store(
            Self::tag_of(shift(self.seed, self.lanes())),
            Ordering::Relaxed,
        );
        if let Some(mirror) = self.mirror {
            (0..self.lanes()).for_each(|lane| store(mirror, lane, u64::MAX));
        }
    }

    pub(crate) fn mark_untagged(&self) {
        self.tag.store(UNTAGGED, Ordering::Relaxed);
    }

    pub(crate) fn poison(&self) {
        self.tag.store(POISONED, Ordering::Relaxed);
    }

    /// Whether `tag` is this mark, and not a tag that happens to have its value.
    #[inline(always)]
    fn is_marked(&self, tag: u32, mark: u32) -> bool {
        tag == mark && self.sum() != tag
    }

    /// Whether a writer has ended in the middle of the block.
    #[inline]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.is_marked(self.tag.load(Ordering::Relaxed), POISONED)
    }

    /// The tag that the bytes give.
    pub(crate) fn sum(&self) -> u32 {
        Self::tag_of(fold(self.seed, self.lanes(), |lane| load(self.words, lane)))
    }

    /// Compares bytes, tag and inverted copy.
    #[inline]
    pub(crate) fn verify(&self) -> Result<(), BlockFault> {
        self.read(0, &mut [])
    }

    /// Gives the bytes from `start` on to `out`, and compares the whole block: the registers that
    /// are given away are those that are summed.
    #[inline]
    pub(crate) fn read(&self, start: usize, out: &mut [u8]) -> Result<(), BlockFault> {
        if let Some(mirror) = self.mirror {
            return self.read_twice(mirror, start, out);
        }
        let (len, words) = (out.len(), self.whole_words());
        // Of lengths that are known, for loops without bounds checks.
        let state = match (<&mut [u8; BLOCK_BYTES]>::try_from(&mut *out), words) {
            (Ok(out), Some(words)) => self.load_whole(words, LANES, |lane, word| {
                put_lane(out, 0, lane, word);
            }),
            (Err(_), Some(words)) if len == 0 => self.load_whole(words, LANES, |_, _| ()),
            _ => {
                let (first, end) = (start / 8, (start + len).div_ceil(8));
                self.load_whole(self.words, self.lanes(), |lane, word| {
                    if (first..end).contains(&lane) {
                        put_lane(out, start, lane, word);
                    }
                })
            }
        };
        let found = Self::tag_of(state);
        if found == self.tag.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(self.judge(found))
        }
    }

    #[inline(always)]
    fn load_whole(
        &self,
        words: &[AtomicWord],
        lanes: usize,
        mut put: impl FnMut(usize, u64),
    ) -> u32 {
        fold(self.seed, lanes, |lane| {
            self.provider.fault(Phase::BeforeLoad { lane }, 0);
            let word = load(words, lane);
            put(lane, word);
            word
        })
    }

    fn read_twice(
        &self,
        mirror: &[AtomicWord],
        start: usize,
        out: &mut [u8],
    ) -> Result<(), BlockFault> {
        let (first, end) = (start / 8, (start + out.len()).div_ceil(8));
        let mut differences = 0;
        let state = self.load_whole(self.words, self.lanes(), |lane, word| {
            differences |= word ^ !load(mirror, lane);
            if (first..end).contains(&lane) {
                put_lane(out, start, lane, word);
            }
        });
        let found = Self::tag_of(state);
        if found != self.tag.load(Ordering::Relaxed) {
            return Err(self.judge(found));
        }
        if differences != 0 {
            return Err(BlockFault::Corrupt(self.mirror_differs(mirror, found)));
        }
        Ok(())
    }

    /// Gives the bytes from `start` on to `out` as they are.
    #[inline]
    pub(crate) fn read_unchecked(&self, start: usize, out: &mut [u8]) {
        let end = (start + out.len()).div_ceil(8);
        if let (Ok(out), Some(words)) = (
            <&mut [u8; BLOCK_BYTES]>::try_from(&mut *out),
            self.whole_words(),
        ) {
            for lane in 0..LANES {
                put_lane(out, 0, lane, load(words, lane));
            }
            return;
        }
        for lane in start / 8..end {
            put_lane(out, start, lane, load(self.words, lane));
        }
    }

    /// What it means that the bytes give `found` and not the tag.
    #[cold]
    #[inline(never)]
    fn judge(&self, found: u32) -> BlockFault {
        let block = self.index;
        match self.tag.load(Ordering::Relaxed) {
            UNTAGGED => BlockFault::Unverified { block },
            POISONED => BlockFault::Poisoned { block },
            expected => BlockFault::Corrupt(self.corrupt(expected, found, self.sum() != expected)),
        }
    }

    #[cold]
    #[inline(never)]
    fn mirror_differs(&self, mirror: &[AtomicWord], found: u32) -> Corrupt {
        let lanes = 0..self.lanes();
        let persistent = lanes
            .into_iter()
            .any(|lane| load(self.words, lane) != !load(mirror, lane));
        self.corrupt(self.mirror_sum(mirror), found, persistent)
    }

    /// The tag that the inverted copy gives.
    pub(crate) fn mirror_sum(&self, mirror: &[AtomicWord]) -> u32 {
        Self::tag_of(fold(self.seed, self.lanes(), |lane| !load(mirror, lane)))
    }

    fn corrupt(&self, expected: u32, found: u32, persistent: bool) -> Corrupt {
        Corrupt {
            block: self.index,
            offset: self.index * BLOCK_BYTES,
            len: self.len,
            expected,
            found,
            persistent,
        }
    }
}
