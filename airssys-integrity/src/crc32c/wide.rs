//! CRC32C of a block by carry-less multiplication of eight lanes at once (AVX-512, VPCLMULQDQ).
//!
//! A lane adds its bits times `x^(64 n)` to the block's polynomial, where `n` is how many lanes come
//! behind it. So each lane is multiplied by that power, reduced beforehand, and the products, of at
//! most 96 bits, are added: none waits for another. The sum leaves the remainder that the block
//! leaves, and two `crc32` instructions take it.
#![allow(
    unsafe_code,
    reason = "entering a function compiled for AVX-512 is unsafe, and so is assembly"
)]

use super::zeros::WEIGHTS;
use super::{Blank, Passage, ROW};
use crate::atomic::Lane;
use core::arch::asm;
use core::arch::x86_64::{
    __m512i, _mm_crc32_u64, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_xor_si128,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_xor_si256, _mm512_castsi512_si256,
    _mm512_clmulepi64_epi128, _mm512_extracti64x4_epi64, _mm512_set_epi64, _mm512_setzero_si512,
    _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_xor_si512,
};
use core::mem::transmute;

/// Says that this CPU has AVX-512F and VPCLMULQDQ, and SSE4.2 for the rest.
#[derive(Clone, Copy)]
pub(crate) struct Wide(());

/// Eight lanes in registers.
#[derive(Clone, Copy)]
pub(crate) struct Row(__m512i);

impl Wide {
    #[inline(always)]
    pub(super) fn of_this_cpu() -> Option<Self> {
        if cfg!(any(miri, loom)) {
            return None;
        }
        #[cfg(feature = "std")]
        // Relaxed loads once the answer is known.
        let has_all = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("vpclmulqdq")
            && std::arch::is_x86_feature_detected!("sse4.2");
        #[cfg(not(feature = "std"))]
        let has_all = cfg!(all(
            target_feature = "avx512f",
            target_feature = "vpclmulqdq",
            target_feature = "sse4.2",
        ));
        has_all.then_some(Self(()))
    }

    /// Loads bytes once.
    #[inline(always)]
    pub(crate) fn load(self, bytes: &[[u8; 8]; ROW]) -> Row {
        // SAFETY: the CPU has AVX-512F, and the 64 bytes may be read.
        unsafe { load(bytes.as_ptr().cast()) }
    }

    /// Loads words once, each as a relaxed load would.
    #[inline(always)]
    pub(crate) fn load_words(self, lanes: &[Lane; ROW]) -> Row {
        // SAFETY: the CPU has AVX-512F, and the 64 bytes may be read.
        unsafe { load(lanes.as_ptr().cast()) }
    }

    /// Stores bytes.
    #[inline(always)]
    pub(crate) fn store(self, row: Row, bytes: &mut [[u8; 8]; ROW]) {
        // SAFETY: the CPU has AVX-512F, and the 64 bytes may be written.
        unsafe { store(row, bytes.as_mut_ptr().cast()) }
    }

    /// Stores bytes where there may have been none.
    #[inline(always)]
    pub(crate) fn store_blank(self, row: Row, bytes: &mut [[Blank; 8]; ROW]) {
        // SAFETY: the CPU has AVX-512F, and the 64 bytes may be written.
        unsafe { store(row, bytes.as_mut_ptr().cast()) }
    }

    /// Stores words, each as a relaxed store would.
    #[inline(always)]
    pub(crate) fn store_words(self, row: Row, lanes: &[Lane; ROW]) {
        // SAFETY: the CPU has AVX-512F, and the 64 bytes are atomic words, which a shared reference
        // lets be written.
        unsafe { store_words(row, lanes.as_ptr().cast_mut().cast()) }
    }
}

impl Row {
    /// What a row has that is not there.
    pub(crate) const ZERO: Self = Self::of([0; ROW]);

    #[inline(always)]
    const fn of(lanes: [u64; ROW]) -> Self {
        // SAFETY: both are 64 bytes, and any bits are a value of either.
        unsafe { transmute(lanes) }
    }

    /// Each lane as `change` makes it.
    #[inline(always)]
    pub(crate) fn map(self, mut change: impl FnMut(usize, u64) -> u64) -> Self {
        // SAFETY: both are 64 bytes, and any bits are a value of either.
        let mut lanes: [u64; ROW] = unsafe { transmute(self) };
        for (lane, word) in lanes.iter_mut().enumerate() {
            *word = change(lane, *word);
        }
        Self::of(lanes)
    }
}

// A block is loaded and stored by assembly where the optimiser must not do it twice, or where the
// language has only atomic words: eight relaxed loads or stores are what these instructions stand
// for. Should one come between the halves of another thread's, the reader throws away what it got,
// as it does with any mixture.

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load(from: *const __m512i) -> Row {
    let row;
    // SAFETY: the caller vouches for 64 bytes.
    unsafe {
        asm!(
            "vmovdqu64 {row}, [{from}]",
            from = in(reg) from,
            row = out(zmm_reg) row,
            options(readonly, nostack, preserves_flags),
        );
    }
    Row(row)
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store(Row(row): Row, to: *mut __m512i) {
    // SAFETY: the caller vouches for 64 bytes.
    unsafe { _mm512_storeu_si512(to, row) }
}

#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store_words(Row(row): Row, to: *mut __m512i) {
    // SAFETY: the caller vouches for 64 bytes of atomic words.
    unsafe {
        asm!(
            "vmovdqu64 [{to}], {row}",
            to = in(reg) to,
            row = in(zmm_reg) row,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies as many whole rows as there are, and answers how many lanes that were.
#[inline]
pub(super) fn copy_words(from: &[Lane], to: &mut [[u8; 8]]) -> usize {
    let Some(wide) = Wide::of_this_cpu() else {
        return 0;
    };
    // SAFETY: the CPU has all of it, as `wide` says.
    unsafe { copy_rows(from, to, wide) }
}

#[target_feature(enable = "avx512f")]
fn copy_rows(from: &[Lane], to: &mut [[u8; 8]], wide: Wide) -> usize {
    let (from, _) = from.as_chunks();
    let (to, _) = to.as_chunks_mut();
    for (lanes, bytes) in from.iter().zip(&mut *to) {
        wide.store(wide.load_words(lanes), bytes);
    }
    ROW * from.len().min(to.len())
}

/// The register after a run.
#[inline(always)]
pub(super) fn pass(state: u32, passage: &mut impl Passage) -> Option<u32> {
    let wide = Wide::of_this_cpu()?;
    // SAFETY: the CPU has all of it, as `wide` says.
    Some(unsafe { pass_wide(state, passage, wide) })
}

/// As [`pass_blocks`](super::pass_blocks); `None` before the first where the CPU cannot.
#[cfg(any(feature = "alloc", test))]
#[inline(always)]
pub(super) fn pass_blocks<P: Passage>(
    first: usize,
    blocks: impl Iterator<Item = P>,
    each: impl FnMut(u32) -> bool,
) -> Option<()> {
    let wide = Wide::of_this_cpu()?;
    // SAFETY: the CPU has all of it, as `wide` says.
    unsafe { pass_blocks_wide(first, blocks, each, wide) };
    Some(())
}

#[target_feature(enable = "avx512f,vpclmulqdq,sse4.2")]
fn pass_wide<P: Passage>(state: u32, passage: &mut P, wide: Wide) -> u32 {
    sum(state, passage, wide)
}

/// One function for all blocks, so that the weights stay in registers and the end of a block's sum
/// goes on beside the next one's begin.
#[cfg(any(feature = "alloc", test))]
#[target_feature(enable = "avx512f,vpclmulqdq,sse4.2")]
fn pass_blocks_wide<P: Passage>(
    first: usize,
    blocks: impl Iterator<Item = P>,
    mut each: impl FnMut(u32) -> bool,
    wide: Wide,
) {
    for (at, mut block) in blocks.enumerate() {
        let index = first.wrapping_add(at) as u64;
        let opened = _mm_crc32_u64(u64::from(u32::MAX), index) as u32;
        if !each(!sum(opened, &mut block, wide)) {
            return;
        }
    }
}

#[target_feature(enable = "avx512f,vpclmulqdq,sse4.2")]
#[inline]
fn sum<P: Passage>(state: u32, passage: &mut P, wide: Wide) -> u32 {
    // The register counts as if it had been added to the first four bytes.
    let mut first = _mm512_set_epi64(0, 0, 0, 0, 0, 0, 0, i64::from(state));
    let mut sum = _mm512_setzero_si512();
    for (row, weights) in WEIGHTS.0.as_chunks::<ROW>().0.iter().enumerate() {
        let Row(lanes) = passage.row(row, wide);
        let Row(weights) = Row::of(*weights);
        let lanes = _mm512_xor_si512(lanes, first);
        sum = _mm512_ternarylogic_epi64::<0x96>(
            sum,
            _mm512_clmulepi64_epi128::<0x00>(lanes, weights),
            _mm512_clmulepi64_epi128::<0x11>(lanes, weights),
        );
        first = _mm512_setzero_si512();
    }
    let sum = _mm256_xor_si256(
        _mm512_castsi512_si256(sum),
        _mm512_extracti64x4_epi64::<1>(sum),
    );
    let sum = _mm_xor_si128(
        _mm256_castsi256_si128(sum),
        _mm256_extracti128_si256::<1>(sum),
    );
    let state = _mm_crc32_u64(0, _mm_cvtsi128_si64(sum).cast_unsigned());
    // `crc32` leaves the upper half of its 64-bit register zero.
    _mm_crc32_u64(state, _mm_extract_epi64::<1>(sum).cast_unsigned()) as u32
}
