//! CRC32C over bytes in memory or bytes on their way to a copy.

mod register;
#[cfg(target_arch = "x86_64")]
mod sse42;
mod tables;
#[cfg(target_arch = "x86_64")]
mod wide;
mod zeros;

use crate::atomic::Lane;
use core::mem::MaybeUninit;

pub(crate) use register::pinned;
pub(crate) use tables::POLYNOMIAL;
#[cfg(target_arch = "x86_64")]
pub(crate) use wide::{Row, Wide};
pub(crate) use zeros::times_x;

/// Lanes of eight bytes that are summed in one go: a block of 512 bytes.
pub(crate) const RUN: usize = zeros::LANES;
/// Lanes that are passed on in one go where the CPU has registers for them.
#[cfg(target_arch = "x86_64")]
pub(crate) const ROW: usize = 8;

/// The bytes of a run of [`RUN`] lanes on their way from one place to another, or to none.
///
/// Each byte is loaded once; the register that the CRC gets is the one that was stored.
pub(crate) trait Passage {
    /// Passes a lane on, and answers with its register.
    fn lane(&mut self, lane: usize) -> u64;

    /// Passes the lanes from `ROW * row` on, and answers with their registers.
    #[cfg(target_arch = "x86_64")]
    fn row(&mut self, row: usize, wide: Wide) -> Row;
}

/// The register after a run, each part of which is passed on once, in any order.
#[inline(always)]
pub(crate) fn pass(state: u32, passage: &mut impl Passage) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(state) = wide::pass(state, passage) {
        return state;
    }
    let mut lane_at = |lane| passage.lane(lane);
    #[cfg(target_arch = "x86_64")]
    if let Some(state) = sse42::fold_fixed::<RUN>(state, &mut lane_at) {
        return state;
    }
    tables::fold(state, RUN, &mut lane_at)
}

/// The tags of blocks of one run each, the first of which has the index `first`: each block is passed
/// on once, and `each` says whether to go on with the next.
#[cfg(any(feature = "alloc", test))]
#[inline(always)]
pub(crate) fn pass_blocks<P: Passage>(
    first: usize,
    mut blocks: impl Iterator<Item = P>,
    mut each: impl FnMut(u32) -> bool,
) {
    #[cfg(target_arch = "x86_64")]
    if wide::pass_blocks(first, &mut blocks, &mut each).is_some() {
        return;
    }
    pass_one_by_one(first, blocks, each);
}

#[cfg(any(feature = "alloc", test))]
fn pass_one_by_one<P: Passage>(
    first: usize,
    blocks: impl Iterator<Item = P>,
    mut each: impl FnMut(u32) -> bool,
) {
    for (at, mut block) in blocks.enumerate() {
        let mut crc = crate::block::open(first.wrapping_add(at));
        crc.state = pass(crc.state, &mut block);
        if !each(crc.finish()) {
            return;
        }
    }
}

/// Copies words to bytes, without a sum, as far as that goes by whole rows; answers how many lanes
/// are done.
#[inline(always)]
pub(crate) fn copy_rows(from: &[Lane], to: &mut [[u8; 8]]) -> usize {
    #[cfg(target_arch = "x86_64")]
    return wide::copy_words(from, to);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (from, to);
        0
    }
}

/// The lanes of a row; every caller stays within the run.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn row_of<T>(run: &[T; RUN], row: usize) -> Option<&[T; ROW]> {
    let (rows, _) = run.as_chunks();
    rows.get(row)
}

/// As [`row_of`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn row_of_mut<T>(run: &mut [T; RUN], row: usize) -> Option<&mut [T; ROW]> {
    let (rows, _) = run.as_chunks_mut();
    rows.get_mut(row)
}

/// Bytes that are only looked at.
pub(crate) struct Look<'a>(pub(crate) &'a [[u8; 8]; RUN]);

impl Passage for Look<'_> {
    #[inline(always)]
    fn lane(&mut self, lane: usize) -> u64 {
        lane_of(self.0, lane)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn row(&mut self, row: usize, wide: Wide) -> Row {
        row_of(self.0, row).map_or(Row::ZERO, |bytes| wide.load(bytes))
    }
}

/// A byte that need not have been written before.
pub(crate) type Blank = MaybeUninit<u8>;

/// Bytes to be written to.
#[allow(unsafe_code, reason = "a slice of what is more than it has to be")]
pub(crate) fn blank(bytes: &mut [u8]) -> &mut [Blank] {
    // SAFETY: both have one layout, and nothing here stores a byte that was not written.
    unsafe { &mut *(core::ptr::from_mut(bytes) as *mut [Blank]) }
}

/// Bytes that are copied to other bytes.
pub(crate) struct Copy<'a> {
    pub(crate) from: &'a [[u8; 8]; RUN],
    pub(crate) to: &'a mut [[Blank; 8]; RUN],
}

impl Passage for Copy<'_> {
    #[inline(always)]
    fn lane(&mut self, lane: usize) -> u64 {
        copy_lane(self.from, self.to, lane)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn row(&mut self, row: usize, wide: Wide) -> Row {
        let bytes = row_of(self.from, row).map_or(Row::ZERO, |bytes| wide.load(bytes));
        if let Some(slots) = row_of_mut(self.to, row) {
            wide.store_blank(bytes, slots);
        }
        bytes
    }
}

/// The register after the eight bytes of `lane`, in little-endian order.
#[inline(always)]
pub(crate) fn step(state: u32, lane: u64) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(state) = sse42::step(state, lane) {
        return state;
    }
    tables::step_lane(state, lane)
}

/// The register after up to seven bytes.
fn tail(state: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(state) = sse42::tail(state, bytes) {
        return state;
    }
    tables::tail(state, bytes)
}

/// The register after the lanes `0..lanes`, at most 64. Each is asked for once, in any order.
#[inline(always)]
pub(crate) fn fold(state: u32, lanes: usize, mut lane_at: impl FnMut(usize) -> u64) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(state) = sse42::fold(state, lanes, &mut lane_at) {
        return state;
    }
    tables::fold(state, lanes, &mut lane_at)
}

/// The register after `lanes` lanes of zeros, at most 64.
///
/// By it a change in the middle of a block becomes a change of its tag: the CRC is linear, so the
/// difference of two tags is the CRC, from zero, of the difference of their blocks.
#[inline(always)]
pub(crate) fn shift(state: u32, lanes: usize) -> u32 {
    if lanes == 0 {
        return state;
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(state) = sse42::shift(state, lanes) {
        return state;
    }
    zeros::portable(state, lanes)
}

/// The lane at `lane`; every caller stays within the run it has measured.
#[inline(always)]
fn lane_of(run: &[[u8; 8]], lane: usize) -> u64 {
    run.get(lane).copied().map_or(0, u64::from_le_bytes)
}

/// Copies one lane by way of a register, which is the answer.
#[inline(always)]
fn copy_lane(lanes: &[[u8; 8]], slots: &mut [[Blank; 8]], lane: usize) -> u64 {
    let word = pinned(lane_of(lanes, lane));
    if let Some(slot) = slots.get_mut(lane) {
        *slot = word.to_le_bytes().map(Blank::new);
    }
    word
}

/// A CRC32C (Castagnoli) being computed: polynomial `0x1EDC6F41`, reflected,
/// initial value and final XOR `0xFFFF_FFFF` (RFC 3720, section 12.1).
///
/// Input may come in any split; only the order of the bytes counts.
///
/// ```
/// use airssys_integrity::Crc32c;
///
/// let mut crc = Crc32c::new();
/// crc.update(b"1234");
/// crc.update(b"56789");
/// assert_eq!(crc.finish(), 0xE306_9283);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Crc32c {
    /// The register before the final inversion.
    state: u32,
}

impl Crc32c {
    /// The CRC of nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: !0 }
    }

    /// Adds the eight bytes of `word` in little-endian order.
    #[inline]
    pub fn update_u64(&mut self, word: u64) {
        self.state = step(self.state, word);
    }

    /// Adds one byte.
    pub fn update_byte(&mut self, byte: u8) {
        self.state = tables::step(self.state, byte);
    }

    /// Adds `bytes` in order.
    pub fn update(&mut self, bytes: &[u8]) {
        let (lanes, rest) = bytes.as_chunks();
        let (runs, lanes) = lanes.as_chunks::<RUN>();
        for run in runs {
            self.state = pass(self.state, &mut Look(run));
        }
        // Most often there is a whole block, and nothing behind it.
        if !lanes.is_empty() {
            self.state = fold(self.state, lanes.len(), |lane| lane_of(lanes, lane));
        }
        if !rest.is_empty() {
            self.state = tail(self.state, rest);
        }
    }

    /// Adds `source` and writes it to `destination`, each word from the one
    /// register that also feeds the CRC. Stops at the end of the shorter slice.
    pub(crate) fn update_copying(&mut self, source: &[u8], destination: &mut [Blank]) {
        // Unequal lengths would put the word loop and the byte loop out of step.
        let common = source.len().min(destination.len());
        let (source, _) = source.split_at(common);
        let (destination, _) = destination.split_at_mut(common);
        let (lanes, rest) = source.as_chunks();
        let (slots, slots_rest) = destination.as_chunks_mut();
        let (runs, lanes) = lanes.as_chunks::<RUN>();
        let (slot_runs, slots) = slots.as_chunks_mut::<RUN>();
        for (from, to) in runs.iter().zip(slot_runs) {
            self.state = pass(self.state, &mut Copy { from, to });
        }
        if !lanes.is_empty() {
            self.state = fold(self.state, lanes.len(), |lane| {
                copy_lane(lanes, slots, lane)
            });
        }
        for (byte, slot) in rest.iter().zip(slots_rest) {
            let [byte, ..] = pinned(u64::from(*byte)).to_le_bytes();
            self.update_byte(byte);
            slot.write(byte);
        }
    }

    /// The CRC of everything added so far. More may be added afterwards.
    #[must_use]
    pub const fn finish(self) -> u32 {
        !self.state
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a panic fails the test"
    )]

    use super::{Crc32c, blank, fold, lane_of, shift, tables};
    #[cfg(target_arch = "x86_64")]
    use super::{Passage, RUN, Row, Wide, sse42, wide};
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    use crate::atomic::{Lane, load, store};
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    /// Words that are copied to other words.
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    struct Words<'a> {
        from: &'a [Lane; RUN],
        to: &'a [Lane; RUN],
    }

    #[cfg(all(target_arch = "x86_64", not(loom)))]
    impl Passage for Words<'_> {
        fn lane(&mut self, lane: usize) -> u64 {
            let word = load(&self.from[lane]);
            store(&self.to[lane], word);
            word
        }

        fn row(&mut self, row: usize, wide: Wide) -> Row {
            let words = wide.load_words(super::row_of(self.from, row).unwrap());
            wide.store_words(words, super::row_of(self.to, row).unwrap());
            words
        }
    }

    fn oracle(bytes: &[u8]) -> u32 {
        crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(bytes)
    }

    fn by_tables(state: u32, bytes: &[u8]) -> u32 {
        let (lanes, rest) = bytes.as_chunks();
        let state = tables::fold(state, lanes.len(), &mut |lane| lane_of(lanes, lane));
        tables::tail(state, rest)
    }

    proptest! {
        #[test]
        fn tables_agree_with_the_oracle(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(!by_tables(!0, &bytes), oracle(&bytes));
        }

        #[test]
        #[cfg(target_arch = "x86_64")]
        fn instructions_agree_with_tables(
            state in any::<u32>(),
            lanes in proptest::collection::vec(any::<u64>(), 0..=64),
            tail in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            let lane_at = |lane: usize| lanes.get(lane).copied().unwrap_or_default();
            if let Some(found) = sse42::fold(state, lanes.len(), &mut { lane_at }) {
                prop_assert_eq!(found, tables::fold(state, lanes.len(), &mut { lane_at }));
            }
            if let Some(found) = sse42::tail(state, &tail) {
                prop_assert_eq!(found, tables::tail(state, &tail));
            }
        }

        #[test]
        #[cfg(target_arch = "x86_64")]
        fn a_run_is_summed_alike_by_rows_by_instructions_and_by_tables(
            state in any::<u32>(),
            run in proptest::collection::vec(any::<[u8; 8]>(), RUN),
        ) {
            let run: &[[u8; 8]; RUN] = run.as_slice().try_into().unwrap();
            let by_tables = tables::fold(state, RUN, &mut |lane| lane_of(run, lane));
            if let Some(found) = wide::pass(state, &mut super::Look(run)) {
                prop_assert_eq!(found, by_tables);
            }
            if let Some(found) = sse42::fold_fixed::<RUN>(state, &mut |lane| lane_of(run, lane)) {
                prop_assert_eq!(found, by_tables);
            }
        }

        /// Atomic words as a region has them: out of them, and into them.
        #[test]
        #[cfg(all(target_arch = "x86_64", not(loom)))]
        fn words_by_rows_are_copied_and_summed_as_bytes_are(
            state in any::<u32>(),
            words in proptest::collection::vec(any::<u64>(), 0..=200),
        ) {
            let from: Vec<Lane> = words.iter().map(|word| [(*word).into()]).collect();
            let mut bytes = vec![[0; 8]; words.len()];
            let done = super::copy_rows(&from, &mut bytes);
            let rows = if Wide::of_this_cpu().is_some() { words.len() / 8 } else { 0 };
            prop_assert_eq!(done, 8 * rows);
            for (lane, (bytes, word)) in bytes.iter().zip(&words).enumerate() {
                prop_assert_eq!(u64::from_le_bytes(*bytes), if lane < done { *word } else { 0 });
            }
            if let (Some(words), Some(from)) = (words.first_chunk::<RUN>(), from.first_chunk::<RUN>()) {
                let to: Vec<Lane> = (0..RUN).map(|_| [0.into()]).collect();
                let passage = &mut Words { from, to: to.first_chunk().unwrap() };
                let by_tables = tables::fold(state, RUN, &mut |lane| words[lane]);
                prop_assert_eq!(super::pass(state, passage), by_tables);
                let arrived: Vec<u64> = to.iter().map(load).collect();
                prop_assert_eq!(&arrived, words);
            }
        }

        #[test]
        #[cfg(not(loom))]
        fn blocks_have_the_tags_of_their_places_by_whatever_way(
            bytes in proptest::collection::vec(any::<u8>(), 4 * 512),
            first in 0_usize..1_000,
            until in 0_usize..5,
        ) {
            let (lanes, _) = bytes.as_chunks();
            let (runs, _) = lanes.as_chunks::<RUN>();
            let blocks = bytes.chunks(512).enumerate();
            let tags: Vec<u32> = blocks.map(|(at, block)| crate::block::tag(first + at, block)).collect();
            let (mut together, mut one_by_one) = (Vec::new(), Vec::new());
            let each = |tags: &mut Vec<u32>, tag| {
                tags.push(tag);
                tags.len() <= until
            };
            let looks = || runs.iter().map(super::Look);
            super::pass_blocks(first, looks(), |tag| each(&mut together, tag));
            super::pass_one_by_one(first, looks(), |tag| each(&mut one_by_one, tag));
            let asked = (until + 1).min(tags.len());
            prop_assert_eq!(&together, &tags[..asked]);
            prop_assert_eq!(&one_by_one, &tags[..asked]);
        }

        #[test]
        fn every_lane_of_a_run_is_asked_for_once(lanes in 0_usize..=64) {
            let mut asked = vec![0; lanes];
            fold(0, lanes, |lane| {
                asked.iter_mut().skip(lane).take(1).for_each(|count| *count += 1);
                0
            });
            prop_assert_eq!(asked, vec![1; lanes]);
        }

        #[test]
        fn a_shift_equals_that_many_zeros(state in any::<u32>(), lanes in 0_usize..=64) {
            let zeros = fold(state, lanes, |_| 0);
            prop_assert_eq!(shift(state, lanes), zeros);
            prop_assert_eq!(super::zeros::portable(state, lanes), zeros);
        }

        #[test]
        fn every_copy_path_copies_and_sums_the_source(
            bytes in proptest::collection::vec(any::<u8>(), 0..1_200),
        ) {
            let mut copied: Vec<u8> = vec![0; bytes.len()];
            let mut crc = Crc32c::new();
            crc.update_copying(&bytes, blank(&mut copied));
            prop_assert_eq!(crc.finish(), oracle(&bytes));
            prop_assert_eq!(&copied, &bytes);
        }
    }

    /// Every length, from and to places that are aligned each time in another way.
    #[test]
    fn every_length_and_alignment_agrees_with_the_oracle() {
        let source: Vec<u8> = (0..2_100_u32)
            .map(|at| (at * 131 + at / 17) as u8)
            .collect();
        let mut room = vec![0; 2_100];
        for len in 0..=2_000 {
            for (from, to) in [(0, 0), (len % 64, (len * 7 + len / 64) % 64)] {
                let bytes = &source[from..from + len];
                let mut crc = Crc32c::new();
                crc.update(bytes);
                assert_eq!(crc.finish(), oracle(bytes), "{len} from {from}");
                room.fill(0xA5);
                let mut crc = Crc32c::new();
                crc.update_copying(bytes, blank(&mut room[to..to + len]));
                assert_eq!(crc.finish(), oracle(bytes), "{len} from {from} to {to}");
                assert_eq!(&room[to..to + len], bytes);
                let (before, after) = (&room[..to], &room[to + len..]);
                assert!(before.iter().chain(after).all(|byte| *byte == 0xA5));
            }
        }
    }

    /// Counts what is asked for; the bytes are given.
    #[cfg(target_arch = "x86_64")]
    struct Counted<'a> {
        bytes: &'a [[u8; 8]; RUN],
        lanes: Vec<usize>,
        rows: Vec<usize>,
    }

    #[cfg(target_arch = "x86_64")]
    impl Passage for Counted<'_> {
        fn lane(&mut self, lane: usize) -> u64 {
            self.lanes.push(lane);
            lane_of(self.bytes, lane)
        }

        fn row(&mut self, row: usize, wide: Wide) -> Row {
            self.rows.push(row);
            super::row_of(self.bytes, row).map_or(Row::ZERO, |bytes| wide.load(bytes))
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_run_goes_by_rows_where_the_cpu_has_them_and_else_by_lanes() {
        let mut counted = Counted {
            bytes: &[[3; 8]; RUN],
            lanes: Vec::new(),
            rows: Vec::new(),
        };
        super::pass(0, &mut counted);
        counted.lanes.sort_unstable();
        if Wide::of_this_cpu().is_some() {
            assert_eq!((counted.rows, counted.lanes), ((0..8).collect(), vec![]));
        } else {
            assert_eq!((counted.rows, counted.lanes), (vec![], (0..64).collect()));
        }
    }

    #[test]
    fn a_short_destination_ends_the_copy_and_the_sum() {
        let source: Vec<u8> = (0..29).collect();
        for room in 0..source.len() {
            let mut copied = vec![0; room];
            let mut crc = Crc32c::new();
            crc.update_copying(&source, blank(&mut copied));
            let (held, _) = source.split_at(room);
            assert_eq!(copied, held);
            assert_eq!(crc.finish(), oracle(held));
        }
    }
}
