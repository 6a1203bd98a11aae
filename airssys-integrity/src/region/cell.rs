//! One block of a region: how its bytes, its tag and its inverted copy are written and compared.
//!
//! Nothing here takes care of other threads. Whoever calls holds the latch, or looks at the sequence
//! number afterwards.

use crate::atomic::{AtomicU32, Lane, Ordering, load, store};
use crate::block::BLOCK_BYTES;
use crate::corrupt::Corrupt;
use crate::crc32c::{Passage, RUN, fold, pass, pinned, shift};
#[cfg(target_arch = "x86_64")]
use crate::crc32c::{ROW, Row, Wide, row_of, row_of_mut};
use crate::fault::BlockFault;
use crate::provider::{Phase, Provider};
use core::hint::black_box;

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
    pub(crate) lanes: &'a [Lane],
    pub(crate) mirror: Option<&'a [Lane]>,
    pub(crate) tag: &'a AtomicU32,
    /// The CRC register before the first byte.
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
#[inline(never)]
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
#[inline(never)]
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

/// A source on its way into a block.
struct Inward<'a, P> {
    cell: &'a Cell<'a, P>,
    from: &'a [[u8; 8]; RUN],
    to: &'a [Lane; RUN],
}

impl<P: Provider> Passage for Inward<'_, P> {
    #[inline(always)]
    fn lane(&mut self, lane: usize) -> u64 {
        let bits = self.from.get(lane).copied().map_or(0, u64::from_le_bytes);
        self.cell.put(self.to.get(lane), lane, bits)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn row(&mut self, row: usize, wide: Wide) -> Row {
        let provider = self.cell.provider;
        let bits = row_of(self.from, row).map_or(Row::ZERO, |bytes| wide.load(bytes));
        let bits = bits.map(|at, bits| {
            let lane = ROW * row + at;
            provider.fault(Phase::SourceLoaded { lane }, bits)
        });
        if let Some(slots) = row_of(self.to, row) {
            wide.store_words(bits, slots);
        }
        for lane in ROW * row..ROW * (row + 1) {
            provider.fault(Phase::Stored { lane }, 0);
        }
        bits
    }
}

/// A block that is only looked at.
struct Look<'a, P> {
    cell: &'a Cell<'a, P>,
    from: &'a [Lane; RUN],
}

impl<P: Provider> Passage for Look<'_, P> {
    #[inline(always)]
    fn lane(&mut self, lane: usize) -> u64 {
        self.cell.get(self.from.get(lane), lane)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn row(&mut self, row: usize, wide: Wide) -> Row {
        for lane in ROW * row..ROW * (row + 1) {
            self.cell.provider.fault(Phase::BeforeLoad { lane }, 0);
        }
        let words = row_of(self.from, row).map_or(Row::ZERO, |lanes| wide.load_words(lanes));
        for lane in ROW * row..ROW * (row + 1) {
            self.cell.provider.fault(Phase::Loaded { lane }, 0);
        }
        words
    }
}

/// A block on its way out.
struct Outward<'a, P> {
    look: Look<'a, P>,
    to: &'a mut [[u8; 8]; RUN],
}

impl<P: Provider> Passage for Outward<'_, P> {
    #[inline(always)]
    fn lane(&mut self, lane: usize) -> u64 {
        let word = self.look.lane(lane);
        if let Some(slot) = self.to.get_mut(lane) {
            *slot = word.to_le_bytes();
        }
        word
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn row(&mut self, row: usize, wide: Wide) -> Row {
        let words = self.look.row(row, wide);
        if let Some(slots) = row_of_mut(self.to, row) {
            wide.store(words, slots);
        }
        words
    }
}

impl<P: Provider> Cell<'_, P> {
    /// The CRC register as a tag.
    fn tag_of(state: u32) -> u32 {
        !state
    }

    /// Overwrites the block. The tag comes from the registers that were stored.
    #[inline]
    pub(crate) fn write_whole(&self, source: &[u8]) {
        let (source_lanes, _) = source.as_chunks::<8>();
        let state = match (source_lanes.try_into(), self.lanes.try_into()) {
            // Of lengths that are known, for loops without bounds checks.
            (Ok(from), Ok(to)) => pass(
                self.seed,
                &mut Inward {
                    cell: self,
                    from,
                    to,
                },
            ),
            _ if source.len().is_multiple_of(8) => fold(self.seed, self.lanes.len(), |lane| {
                let bits = source_lanes.get(lane).copied();
                let bits = bits.map_or(0, u64::from_le_bytes);
                self.put(self.lanes.get(lane), lane, bits)
            }),
            _ => fold(self.seed, self.lanes.len(), |lane| {
                let (bits, _) = lane_of(source, 0, lane);
                self.put(self.lanes.get(lane), lane, bits)
            }),
        };
        self.seal(Self::tag_of(state));
    }

    /// Stores what is in a register, and gives it to the CRC.
    #[inline(always)]
    fn put(&self, slot: Option<&Lane>, lane: usize, bits: u64) -> u64 {
        let bits = pinned(self.provider.fault(Phase::SourceLoaded { lane }, bits));
        if let Some(slot) = slot {
            store(slot, bits);
        }
        self.provider.fault(Phase::Stored { lane }, 0);
        bits
    }

    /// Overwrites a part of the block that starts at byte `start`, and changes the tag by what the
    /// part has changed: a fault that was there before still shows.
    #[inline]
    pub(crate) fn write_part(&self, start: usize, source: &[u8]) {
        let tag = self.tag.load(Ordering::Relaxed);
        let untagged = self.is_marked(tag, UNTAGGED);
        let first = start / 8;
        let slots = self.lanes_under(start, source.len());
        let (words, rest) = source.as_chunks();
        // Whole lanes are asked for by themselves, or the sum would call for each of them.
        let change = if start.is_multiple_of(8) && rest.is_empty() {
            fold(0, slots.len(), |at| {
                let bits = words.get(at).copied().map_or(0, u64::from_le_bytes);
                self.exchange(slots.get(at), first + at, bits, u64::MAX)
            })
        } else {
            fold(0, slots.len(), |at| {
                let (bits, mask) = lane_of(source, start, first + at);
                self.exchange(slots.get(at), first + at, bits, mask)
            })
        };
        if !untagged {
            self.seal(tag ^ shift(change, self.lanes.len() - first - slots.len()));
        }
    }

    /// Puts those bits of a register that the mask has into a lane. Answers what they change.
    #[inline(always)]
    fn exchange(&self, slot: Option<&Lane>, lane: usize, bits: u64, mask: u64) -> u64 {
        let Some(slot) = slot else { return 0 };
        let bits = pinned(self.provider.fault(Phase::SourceLoaded { lane }, bits));
        let old = load(slot);
        let new = (old & !mask) | (bits & mask);
        store(slot, new);
        self.provider.fault(Phase::Stored { lane }, 0);
        old ^ new
    }

    /// The lanes in which the bytes from `start` on lie.
    #[inline(always)]
    fn lanes_under(&self, start: usize, len: usize) -> &[Lane] {
        let lanes = start / 8..(start + len).div_ceil(8);
        self.lanes.get(lanes).unwrap_or_default()
    }

    /// Overwrites a part without a tag.
    pub(crate) fn write_untagged(&self, start: usize, source: &[u8]) {
        for (lane, slot) in (start / 8..).zip(self.lanes_under(start, source.len())) {
            let (bits, mask) = lane_of(source, start, lane);
            let kept = if mask == u64::MAX {
                0
            } else {
                load(slot) & !mask
            };
            store(slot, kept | bits);
        }
        self.seal(UNTAGGED);
    }

    /// Loads the source a second time and stores it inverted.
    pub(crate) fn write_mirror(&self, start: usize, source: &[u8]) {
        let source = black_box(source);
        let lanes = start / 8..(start + source.len()).div_ceil(8);
        let slots = self.mirror.and_then(|mirror| mirror.get(lanes.clone()));
        for (lane, slot) in lanes.zip(slots.unwrap_or_default()) {
            let (bits, mask) = lane_of(source, start, lane);
            let bits = self.provider.fault(Phase::SourceLoadedAgain { lane }, bits);
            store(slot, (load(slot) & !mask) | (!bits & mask));
        }
    }

    fn seal(&self, tag: u32) {
        self.provider.fault(Phase::BeforeTag, 0);
        self.tag.store(tag, Ordering::Relaxed);
        self.provider.fault(Phase::AfterTag, 0);
    }

    /// Tags what is there: only for memory that is known to be zero.
    pub(crate) fn tag_zeros(&self) {
        let state = shift(self.seed, self.lanes.len());
        self.tag.store(Self::tag_of(state), Ordering::Relaxed);
        let mirror = self.mirror.unwrap_or_default();
        mirror.iter().for_each(|slot| store(slot, u64::MAX));
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
    #[inline(never)]
    pub(crate) fn sum(&self) -> u32 {
        Self::tag_of(fold(self.seed, self.lanes.len(), |lane| {
            self.lanes.get(lane).map_or(0, load)
        }))
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
        let len = out.len();
        let (out_lanes, _) = out.as_chunks_mut();
        let state = match (self.lanes.try_into(), out_lanes.try_into()) {
            // Of lengths that are known, for loops without bounds checks.
            (Ok(from), Ok(to)) => {
                let look = Look { cell: self, from };
                pass(self.seed, &mut Outward { look, to })
            }
            (Ok(from), Err(_)) if len == 0 => pass(self.seed, &mut Look { cell: self, from }),
            _ => {
                let (first, end) = (start / 8, (start + len).div_ceil(8));
                fold(self.seed, self.lanes.len(), |lane| {
                    let word = self.get(self.lanes.get(lane), lane);
                    if (first..end).contains(&lane) {
                        put_lane(out, start, lane, word);
                    }
                    word
                })
            }
        };
        self.compare(Self::tag_of(state))
    }

    #[inline(always)]
    fn compare(&self, found: u32) -> Result<(), BlockFault> {
        if found == self.tag.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(self.judge(found))
        }
    }

    /// Loads a lane once.
    #[inline(always)]
    fn get(&self, slot: Option<&Lane>, lane: usize) -> u64 {
        self.provider.fault(Phase::BeforeLoad { lane }, 0);
        let word = slot.map_or(0, load);
        self.provider.fault(Phase::Loaded { lane }, 0);
        word
    }

    fn read_twice(&self, mirror: &[Lane], start: usize, out: &mut [u8]) -> Result<(), BlockFault> {
        let (first, end) = (start / 8, (start + out.len()).div_ceil(8));
        let mut differences = 0;
        let state = fold(self.seed, self.lanes.len(), |lane| {
            let word = self.get(self.lanes.get(lane), lane);
            differences |= word ^ !mirror.get(lane).map_or(0, load);
            if (first..end).contains(&lane) {
                put_lane(out, start, lane, word);
            }
            word
        });
        let found = Self::tag_of(state);
        self.compare(found)?;
        if differences != 0 {
            return Err(BlockFault::Corrupt(self.mirror_differs(mirror, found)));
        }
        Ok(())
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
    fn mirror_differs(&self, mirror: &[Lane], found: u32) -> Corrupt {
        let mut pairs = self.lanes.iter().zip(mirror);
        let persistent = pairs.any(|(lane, inverted)| load(lane) != !load(inverted));
        self.corrupt(self.mirror_sum(mirror), found, persistent)
    }

    /// The tag that the inverted copy gives.
    pub(crate) fn mirror_sum(&self, mirror: &[Lane]) -> u32 {
        Self::tag_of(fold(self.seed, self.lanes.len(), |lane| {
            mirror.get(lane).map_or(0, |slot| !load(slot))
        }))
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
