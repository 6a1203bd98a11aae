//! The tagged blocks behind the buffers of the heap and of the pool: one way in, one way to check.

use crate::block::{self, BLOCK_BYTES};
use crate::crc32c::{Blank, Copy, Look, Passage, RUN, blank, pass_blocks};
use crate::{Corrupt, Crc32c, SampleRate, VerificationLevel};
use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::hint::black_box;
// The model checker has nothing to find in a counter that orders nothing.
use core::sync::atomic::{AtomicUsize, Ordering};

/// A cache line of most processors: an append of 64 KiB whose stores cross lines took 2.4 us where
/// one by whole lines took 2.1.
#[derive(Clone, Copy)]
#[repr(C)]
#[cfg_attr(not(loom), repr(align(64)))]
struct Line([u64; WORDS_PER_LINE]);

const WORDS_PER_LINE: usize = if cfg!(loom) { 2 } else { 8 };

#[allow(unsafe_code, reason = "the derive macro is one more dependency")]
// SAFETY: words without padding, of which any bits are a value.
unsafe impl bytemuck::Zeroable for Line {}
#[allow(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

const LINES_PER_BLOCK: usize = BLOCK_BYTES / size_of::<Line>();

const BLANK: Line = Line([0; WORDS_PER_LINE]);

/// Why the bytes of a buffer are not handed out as verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A tag does not match.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The buffer was written at [`VerificationLevel::Off`]: there are no tags.
    #[error("the buffer has no tags to verify it by")]
    Unverified,
}

pub(crate) struct Blocks {
    level: VerificationLevel,
    /// Part of every tag, so that what an earlier message left in the same memory does not match.
    salt: u32,
    /// Bytes written.
    held: usize,
    /// How far writes have reached, those that were taken back included.
    reached: usize,
    /// Over level and `held`, set by [`close`](Self::close).
    header_tag: u32,
    /// Whole blocks, zeros behind what is held. Typed views find their alignment.
    data: Vec<Line>,
    /// The complement of `data`; empty below [`VerificationLevel::Redundant`].
    mirror: Vec<Line>,
    /// One per block of `data`; empty at [`VerificationLevel::Off`].
    tags: Vec<u32>,
    /// The CRC of the open block, over the source.
    sent: Crc32c,
    /// The same over what arrived; not kept below [`VerificationLevel::Full`].
    arrived: Crc32c,
    /// Reads so far; counted for [`VerificationLevel::Sampling`] alone.
    reads: AtomicUsize,
    /// Decides which blocks a sampling read takes.
    seed: u64,
}

impl Blocks {
    /// No room yet.
    pub(crate) fn new(level: VerificationLevel) -> Self {
        Self {
            level,
            salt: 0,
            held: 0,
            reached: 0,
            header_tag: 0,
            data: Vec::new(),
            mirror: Vec::new(),
            tags: Vec::new(),
            sent: block::open(0),
            arrived: block::open(0),
            reads: AtomicUsize::new(0),
            seed: 0,
        }
    }

    /// Makes it the buffer of another message, with the room it has.
    pub(crate) fn restart(&mut self, seed: u64, salt: u32) {
        self.empty();
        self.reads = AtomicUsize::new(0);
        self.seed = seed;
        self.salt = salt;
        self.header_tag = 0;
    }

    /// Forgets the content.
    pub(crate) fn empty(&mut self) {
        self.held = 0;
        self.sent = block::open(0);
        self.arrived = self.sent;
    }

    /// Overwrites with zeros what has been written since the last wipe.
    pub(crate) fn wipe(&mut self) {
        use zeroize::Zeroize;

        let words = self.reached.div_ceil(size_of::<u64>());
        for memory in [&mut self.data, &mut self.mirror] {
            let memory: &mut [u64] = bytemuck::cast_slice_mut(memory);
            if let Some(written) = memory.get_mut(..words) {
                written.zeroize();
            }
        }
        let blocks = self.reached.div_ceil(BLOCK_BYTES);
        if let Some(written) = self.tags.get_mut(..blocks) {
            written.zeroize();
        }
        self.header_tag.zeroize();
        self.reached = 0;
        self.empty();
    }

    pub(crate) fn reseed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// The sampling reads of this message go on where those of the one before it have stopped.
    pub(crate) fn take_turn(&mut self, seed: u64, read: usize) {
        self.seed = seed;
        self.reads = AtomicUsize::new(read);
    }

    /// The same for the same bytes, whatever memory they lie in. Reads the tags, or the bytes where
    /// there are no tags; verifies neither.
    pub(crate) fn fingerprint(&self) -> u32 {
        let mut crc = block::open(self.held);
        if self.level == VerificationLevel::Off {
            crc.update(self.unverified());
        }
        let blocks = self.held.div_ceil(BLOCK_BYTES);
        for tag in self.tags.iter().take(blocks) {
            crc.update(&(tag ^ self.salt).to_le_bytes());
        }
        crc.finish()
    }

    pub(crate) fn len(&self) -> usize {
        self.held
    }

    pub(crate) fn level(&self) -> VerificationLevel {
        self.level
    }

    /// Bytes of memory there is room for.
    pub(crate) fn room(&self) -> usize {
        size_of_val(&self.data[..])
    }

    /// Makes room for byte `needed - 1` and the rest of its block. Room that is doubled, to keep
    /// many short appends cheap, stays under `ceiling` bytes.
    #[cold]
    pub(crate) fn grow(&mut self, needed: usize, ceiling: usize) -> Result<(), TryReserveError> {
        let blocks = needed.div_ceil(BLOCK_BYTES);
        // Saturation is safe: a Vec refuses more than isize::MAX bytes.
        let target = blocks.saturating_mul(LINES_PER_BLOCK);
        let ceiling = ceiling
            .div_ceil(BLOCK_BYTES)
            .saturating_mul(LINES_PER_BLOCK);
        let tagged = self.level != VerificationLevel::Off;
        if tagged {
            self.tags
                .try_reserve(blocks.saturating_sub(self.tags.len()))?;
        }
        let redundant = self.level == VerificationLevel::Redundant;
        for memory in [Some(&mut self.data), redundant.then_some(&mut self.mirror)]
            .into_iter()
            .flatten()
        {
            let capacity = memory.capacity();
            if target > capacity {
                let wanted = target.max(capacity.saturating_mul(2).min(ceiling));
                memory.try_reserve_exact(wanted - memory.len())?;
            }
        }
        self.data.resize(target, BLANK);
        if redundant {
            self.mirror.resize(target, BLANK);
        }
        if tagged {
            self.tags.resize(blocks, 0);
        }
        Ok(())
    }

    /// Copies `source` to the room made for it. After an error nothing of it is held.
    pub(crate) fn append(&mut self, source: &[u8]) -> Result<(), Corrupt> {
        self.append_passes(source, source, |_, _| {})
    }

    /// Copies the whole blocks of `source` where a tag each is all that is asked for, and no block
    /// is open; answers how many bytes those were.
    fn append_whole(&mut self, source: &[u8]) -> usize {
        let tags_only = matches!(
            self.level,
            VerificationLevel::Standard | VerificationLevel::Sampling(_)
        );
        if !tags_only || !self.held.is_multiple_of(BLOCK_BYTES) {
            return 0;
        }
        let index = self.held / BLOCK_BYTES;
        let data: &mut [u8] = bytemuck::cast_slice_mut(&mut self.data);
        let room = blank(data.get_mut(self.held..).unwrap_or_default());
        let blocks = runs(source).iter().zip(runs_mut(room));
        let mut tags = self.tags.get_mut(index..).unwrap_or_default().iter_mut();
        let (salt, mut done) = (self.salt, 0);
        // There is a tag for each block that there is room for.
        pass_blocks(
            index,
            blocks.map(|(from, to)| Copy { from, to }),
            |tag| match tags.next() {
                Some(slot) => {
                    *slot = tag ^ salt;
                    done += BLOCK_BYTES;
                    true
                }
                None => false,
            },
        );
        if done > 0 {
            self.held += done;
            self.reached = self.reached.max(self.held);
            self.open();
        }
        done
    }

    /// Begins the block behind those that are whole.
    fn open(&mut self) {
        self.sent = block::open(self.held / BLOCK_BYTES);
        self.arrived = self.sent;
    }

    /// As `append`, with one bit of the data hit before its arrival is checked.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn append_with_hit(&mut self, source: &[u8], bit: usize) -> Result<(), Corrupt> {
        let mut passed = 0;
        self.append_passes(source, source, |data, _| {
            let at = (bit / 8).checked_sub(passed);
            if let Some(byte) = at.and_then(|at| data.get_mut(at)) {
                *byte ^= 1 << (bit % 8);
            }
            passed += data.len();
        })
    }

    /// As `append`, with one bit hit in the registers that feed both data and tags.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn append_with_register_hit(
        &mut self,
        source: &[u8],
        bit: usize,
    ) -> Result<(), Corrupt> {
        let mut hit = source.to_vec();
        if let Some(byte) = hit.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        self.append_passes(&hit, source, |_, _| {})
    }

    /// `first` is what the pass reads that writes data and tags, `second` what the pass reads that
    /// writes the mirror. `between` sees data and mirror before their arrival is checked. Tests
    /// damage the one or the other.
    fn append_passes(
        &mut self,
        mut first: &[u8],
        mut second: &[u8],
        mut between: impl FnMut(&mut [u8], &mut [u8]),
    ) -> Result<(), Corrupt> {
        let before = (self.held, self.sent, self.arrived);
        let whole = self.append_whole(first);
        if whole > 0 {
            let data: &mut [u8] = bytemuck::cast_slice_mut(&mut self.data);
            let arrived = data.get_mut(before.0..self.held).unwrap_or_default();
            between(arrived, &mut []);
            first = first.get(whole..).unwrap_or_default();
            second = second.get(whole..).unwrap_or_default();
        }
        while !first.is_empty() {
            let room = BLOCK_BYTES - self.held % BLOCK_BYTES;
            let (part, later) = first.split_at(first.len().min(room));
            let (again, later_again) = second.split_at(second.len().min(room));
            if let Err(corrupt) = self.append_part(part, again, &mut between) {
                (self.held, self.sent, self.arrived) = before;
                let open = self.held / BLOCK_BYTES;
                if let Some(tag) = self.tags.get_mut(open) {
                    *tag = self.sent.finish() ^ self.salt;
                }
                return Err(corrupt);
            }
            (first, second) = (later, later_again);
        }
        Ok(())
    }

    /// Copies `part`, which does not reach past the end of the open block.
    #[inline]
    fn append_part(
        &mut self,
        part: &[u8],
        again: &[u8],
        between: &mut impl FnMut(&mut [u8], &mut [u8]),
    ) -> Result<(), Corrupt> {
        let (index, end) = (self.held / BLOCK_BYTES, self.held + part.len());
        let no_room = corrupt_length(self.held, self.header_tag, !self.header_tag);
        let data: &mut [u8] = bytemuck::cast_slice_mut(&mut self.data);
        let Some(data) = data.get_mut(self.held..end) else {
            return Err(no_room);
        };
        self.reached = self.reached.max(end);
        if self.level == VerificationLevel::Off {
            data.copy_from_slice(part);
            between(data, &mut []);
            self.held = end;
            return Ok(());
        }
        self.sent.update_copying(part, blank(data));
        let tag = self.sent.finish() ^ self.salt;
        let Some(slot) = self.tags.get_mut(index) else {
            return Err(no_room);
        };
        *slot = tag;
        let mirror: &mut [u8] = bytemuck::cast_slice_mut(&mut self.mirror);
        let mirror = mirror.get_mut(self.held..end).unwrap_or_default();
        if !mirror.is_empty() {
            // Behind the black box it is another source, so the words are loaded again.
            copy_inverted(black_box(again), mirror);
        }
        between(data, mirror);
        if matches!(
            self.level,
            VerificationLevel::Full | VerificationLevel::Redundant
        ) {
            // And here the destination is another, so what arrived is loaded.
            let data = black_box(&*data);
            self.arrived.update(data);
            let arrived = self.arrived.finish() ^ self.salt;
            let found = if arrived == tag && self.level == VerificationLevel::Redundant {
                (!is_inverse(data, black_box(mirror))).then_some(!tag)
            } else {
                (arrived != tag).then_some(arrived)
            };
            if let Some(found) = found {
                let offset = index * BLOCK_BYTES;
                return Err(Corrupt {
                    block: index,
                    offset,
                    len: end - offset,
                    expected: tag,
                    found,
                    persistent: false,
                });
            }
        }
        self.held = end;
        if end.is_multiple_of(BLOCK_BYTES) {
            self.open();
        }
        Ok(())
    }

    /// Tags level and length. Nothing is appended afterwards.
    pub(crate) fn close(&mut self) {
        self.header_tag = self.header();
    }

    fn header(&self) -> u32 {
        let mut crc = block::open(usize::MAX);
        crc.update_u64(self.held as u64);
        crc.update_u64(level_code(self.level));
        crc.finish() ^ self.salt
    }

    /// The bytes without a look at their tags.
    pub(crate) fn unverified(&self) -> &[u8] {
        let all: &[u8] = bytemuck::cast_slice(&self.data);
        all.get(..self.held).unwrap_or(all)
    }

    /// The bytes, if level and length match their tag; a mismatch is looked at once more.
    fn of_tagged_length(&self) -> Result<&[u8], Corrupt> {
        self.look_at_length().map_err(|corrupt| Corrupt {
            persistent: self.look_at_length().is_err(),
            ..corrupt
        })
    }

    fn look_at_length(&self) -> Result<&[u8], Corrupt> {
        // The optimiser knows that nobody wrote since the last call; memory that fails does not
        // ask. Behind the black box it has to read again.
        let this = black_box(self);
        let found = this.header();
        let all: &[u8] = bytemuck::cast_slice(&this.data);
        match all.get(..this.held) {
            Some(bytes) if found == this.header_tag => Ok(bytes),
            _ => Err(corrupt_length(this.held, this.header_tag, found)),
        }
    }

    /// The bytes, after a check of every block.
    pub(crate) fn verify(&self) -> Result<&[u8], VerifyError> {
        let bytes = self.of_tagged_length()?;
        if self.level == VerificationLevel::Off {
            return Err(VerifyError::Unverified);
        }
        self.check_all(bytes)?;
        Ok(bytes)
    }

    fn check_all(&self, bytes: &[u8]) -> Result<(), Corrupt> {
        let mut next = 0;
        if self.by_tags_alone() {
            let whole = runs(bytes);
            self.pass_on(0, whole.iter().map(Look))?;
            next = whole.len();
        }
        for index in next..bytes.len().div_ceil(BLOCK_BYTES) {
            self.check(index)?;
        }
        Ok(())
    }

    /// Whether a block that matches its tag is whole.
    fn by_tags_alone(&self) -> bool {
        self.level != VerificationLevel::Redundant
    }

    /// The bytes, after the checks that the level asks for.
    pub(crate) fn read(&self) -> Result<&[u8], Corrupt> {
        let bytes = self.of_tagged_length()?;
        let blocks = bytes.len().div_ceil(BLOCK_BYTES);
        let (first, step) = match self.level {
            VerificationLevel::Off => (blocks, 1),
            VerificationLevel::Sampling(rate) => self.turn(rate),
            _ => return self.check_all(bytes).map(|()| bytes),
        };
        for index in (first..blocks).step_by(step) {
            self.check(index)?;
        }
        Ok(bytes)
    }

    /// The length, if it matches its tag, and so does the level.
    pub(crate) fn checked_len(&self) -> Result<usize, Corrupt> {
        self.of_tagged_length().map(<[u8]>::len)
    }

    /// As [`read`](Self::read), of a copy of the bytes from `from` on: what is stored at `target` is
    /// what was checked. Ends with the shorter of the two; answers how many bytes those were. After
    /// an error `target` holds some of them.
    pub(crate) fn read_to(&self, from: usize, target: &mut [Blank]) -> Result<usize, Corrupt> {
        let bytes = self.of_tagged_length()?;
        let (first, step) = match self.level {
            VerificationLevel::Off => (usize::MAX, 1),
            VerificationLevel::Sampling(rate) => self.turn(rate),
            _ => (0, 1),
        };
        let length = bytes.len().saturating_sub(from).min(target.len());
        let (target, _) = target.split_at_mut(length);
        let every_block = (first, step) == (0, 1);
        let (mut next, mut index) = (first, 0);
        while let Some(rest) = bytes.get(index * BLOCK_BYTES..)
            && !rest.is_empty()
        {
            let offset = index * BLOCK_BYTES;
            // Where the block goes: nowhere as far as it lies before `from`.
            let to = offset.saturating_sub(from).min(length);
            let room = target.get_mut(to..).unwrap_or_default();
            if every_block && offset >= from && self.by_tags_alone() {
                let (rest, room) = (runs(rest), runs_mut(room));
                let whole = rest.len().min(room.len());
                if whole > 0 {
                    let blocks = rest.iter().zip(room);
                    self.pass_on(index, blocks.map(|(from, to)| Copy { from, to }))?;
                    index += whole;
                    next = index;
                    continue;
                }
            }
            if index == next {
                next = index.saturating_add(step);
                self.check(index)?;
            }
            let block = rest.get(..rest.len().min(BLOCK_BYTES)).unwrap_or_default();
            let skipped = from.saturating_sub(offset).min(block.len());
            let wanted = block.get(skipped..).unwrap_or_default();
            let part = room.len().min(wanted.len());
            let (room, _) = room.split_at_mut(part);
            room.write_copy_of_slice(wanted.get(..part).unwrap_or_default());
            index += 1;
        }
        Ok(length)
    }

    /// As [`read_to`](Self::read_to), to memory of its own.
    #[allow(unsafe_code, reason = "the memory need not be written twice")]
    pub(crate) fn read_vec(&self, from: usize) -> Result<Vec<u8>, Corrupt> {
        let mut copy = Vec::with_capacity(self.held.min(self.room()).saturating_sub(from));
        let length = self.read_to(from, copy.spare_capacity_mut())?;
        // SAFETY: so many bytes have been written, within the capacity.
        unsafe { copy.set_len(length) };
        Ok(copy)
    }

    /// Passes whole blocks on, from that at `first`, as far as they match their tags.
    #[inline(always)]
    fn pass_on<P: Passage>(
        &self,
        first: usize,
        blocks: impl Iterator<Item = P>,
    ) -> Result<(), Corrupt> {
        let this = black_box(self);
        let mut tags = this.tags.get(first..).unwrap_or_default().iter();
        let (mut index, mut torn) = (first, None);
        pass_blocks(first, blocks, |tag| {
            let found = tag ^ this.salt;
            // A missing tag counts as one that differs.
            let expected = tags.next().copied().unwrap_or(!found);
            if found != expected {
                torn = Some((expected, found));
                return false;
            }
            index += 1;
            true
        });
        let Some((expected, found)) = torn else {
            return Ok(());
        };
        Err(Corrupt {
            block: index,
            offset: index * BLOCK_BYTES,
            len: BLOCK_BYTES,
            expected,
            found,
            persistent: self.look(index).is_err(),
        })
    }

    /// The first block this read checks, and the distance to the next.
    ///
    /// In each cycle of as many reads as the rate says, every block has its turn once; which read
    /// that is changes from cycle to cycle with the seed.
    fn turn(&self, rate: SampleRate) -> (usize, usize) {
        let one_in = usize::try_from(rate.one_in()).unwrap_or(usize::MAX);
        let read = self.reads.fetch_add(1, Ordering::Relaxed);
        let cycle = mixed(self.seed.wrapping_add((read / one_in) as u64)) as usize;
        ((read ^ cycle) % one_in, one_in)
    }

    /// Recomputes the tag of one block and, where there is one, compares its mirror. A mismatch is
    /// looked at once more, to tell a fault in memory from one on the way.
    fn check(&self, index: usize) -> Result<(), Corrupt> {
        self.look(index).map_err(|corrupt| Corrupt {
            persistent: self.look(index).is_err(),
            ..corrupt
        })
    }

    fn look(&self, index: usize) -> Result<(), Corrupt> {
        let this = black_box(self);
        let offset = index * BLOCK_BYTES;
        let end = this.held.min(offset.saturating_add(BLOCK_BYTES));
        let data: &[u8] = bytemuck::cast_slice(&this.data);
        let data = data.get(offset..end).unwrap_or_default();
        let mut found = block::tag(index, data) ^ this.salt;
        // A missing tag counts as one that differs.
        let expected = this.tags.get(index).copied().unwrap_or(!found);
        if found == expected && this.level == VerificationLevel::Redundant {
            let mirror: &[u8] = bytemuck::cast_slice(&this.mirror);
            if !is_inverse(data, mirror.get(offset..end).unwrap_or_default()) {
                found = !expected;
            }
        }
        if found == expected {
            return Ok(());
        }
        Err(Corrupt {
            block: index,
            offset,
            len: data.len(),
            expected,
            found,
            persistent: false,
        })
    }

    /// Whether anything but zeros is in the memory.
    #[cfg(test)]
    pub(crate) fn has_residue(&self) -> bool {
        let mut lines = self.data.iter().chain(&self.mirror);
        lines.any(|Line(words)| *words != BLANK.0) || self.tags.iter().any(|tag| *tag != 0)
    }

    /// The tag of a block as it is without the salt.
    pub(crate) fn unsalted_tag(&self, index: usize) -> Option<u32> {
        self.tags.get(index).map(|tag| tag ^ self.salt)
    }

    /// Flips one bit of the data, of the block tags behind it, of the header's tag behind those, or
    /// of the mirror at the end. Returns whether there is such a bit.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn flip_bit(&mut self, bit: usize) -> bool {
        let (mut byte, mask) = (bit / 8, 1_u8 << (bit % 8));
        let held = self.held;
        let flip = |memory: &mut [Line], byte: usize| {
            let memory: &mut [u8] = bytemuck::cast_slice_mut(memory);
            let slot = memory.get_mut(..held).and_then(|held| held.get_mut(byte));
            slot.map(|slot| *slot ^= mask).is_some()
        };
        if flip(&mut self.data, byte) {
            return true;
        }
        byte -= held;
        let blocks = held.div_ceil(BLOCK_BYTES).min(self.tags.len());
        let tags = self.tags.iter_mut().take(blocks);
        let mut tags = tags.chain([&mut self.header_tag]);
        if let Some(slot) = tags.nth(byte / 4) {
            *slot ^= u32::from(mask) << (8 * (byte % 4));
            return true;
        }
        flip(&mut self.mirror, byte - 4 * (blocks + 1))
    }
}

/// The whole blocks of `bytes`.
fn runs(bytes: &[u8]) -> &[[[u8; 8]; RUN]] {
    match BLOCK_BYTES == RUN * size_of::<u64>() {
        true => bytes.as_chunks().0.as_chunks().0,
        // The model checker's blocks are smaller.
        false => &[],
    }
}

/// As [`runs`].
fn runs_mut(bytes: &mut [Blank]) -> &mut [[[Blank; 8]; RUN]] {
    match BLOCK_BYTES == RUN * size_of::<u64>() {
        true => bytes.as_chunks_mut().0.as_chunks_mut().0,
        false => &mut [],
    }
}

fn corrupt_length(held: usize, expected: u32, found: u32) -> Corrupt {
    Corrupt {
        block: held.div_ceil(BLOCK_BYTES),
        offset: held,
        len: 0,
        // A length beyond the memory can match its tag; it is corrupt all the same.
        expected: if expected == found { !found } else { expected },
        found,
        persistent: false,
    }
}

/// Far from each other in bits, so that no single flip makes one level of another.
fn level_code(level: VerificationLevel) -> u64 {
    match level {
        VerificationLevel::Off => 0,
        VerificationLevel::Sampling(rate) => 1 << 32 | u64::from(rate.one_in()),
        VerificationLevel::Standard => 2 << 32,
        VerificationLevel::Full => 3 << 32,
        VerificationLevel::Redundant => 4 << 32,
    }
}

fn copy_inverted(source: &[u8], mirror: &mut [u8]) {
    for (slot, byte) in mirror.iter_mut().zip(source) {
        *slot = !byte;
    }
}

fn is_inverse(data: &[u8], mirror: &[u8]) -> bool {
    let agrees = |left: &[u8], right: &[u8]| {
        let differing = left.iter().zip(right).fold(0, |sum, (l, r)| sum | (l ^ !r));
        differing == 0
    };
    data.len() == mirror.len() && agrees(data, mirror)
}

/// The mixing step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
pub(crate) fn mixed(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests;
