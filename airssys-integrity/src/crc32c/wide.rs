//! CRC32C of a block by carry-less multiplication of several lanes at once.
//!
//! A lane of eight bytes counts in the CRC as the polynomial of its bits times `x^(64 n)`, where `n`
//! is how many lanes come behind it. So each lane of a block is multiplied by a constant of its own,
//! which keeps the product below 128 bits, and all products are added: none waits for another one.
//! The sum has the remainder of the block, and the `crc32` instruction takes it from there.
#![allow(
    unsafe_code,
    reason = "entering a function compiled for AVX2, and loading atomic words by assembly, is unsafe"
)]

use super::zeros::WEIGHTS;
use super::{Passage, ROW};
use crate::atomic::Lane;
use core::arch::asm;
use core::arch::x86_64::{
    __m256i, _mm_crc32_u64, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_xor_si128,
    _mm256_castsi256_si128, _mm256_clmulepi64_epi128, _mm256_extracti128_si256, _mm256_set_epi64x,
    _mm256_setzero_si256, _mm256_storeu_si256, _mm256_xor_si256,
};
use core::mem::transmute;

/// Says that this CPU has AVX2, VPCLMULQDQ, SSE4.2 and PCLMULQDQ.
#[derive(Clone, Copy)]
pub(crate) struct Wide(());

/// Eight lanes in registers.
#[derive(Clone, Copy)]
pub(crate) struct Row([__m256i; 2]);

impl Wide {
    #[inline(always)]
    pub(super) fn of_this_cpu() -> Option<Self> {
        if cfg!(any(miri, loom)) {
            return None;
        }
        #[cfg(feature = "std")]
        // Relaxed loads once the answer is known.
        let has_all = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("vpclmulqdq")
            && std::arch::is_x86_feature_detected!("pclmulqdq")
            && std::arch::is_x86_feature_detected!("sse4.2");
        #[cfg(not(feature = "std"))]
        let has_all = cfg!(all(
            target_feature = "avx2",
            target_feature = "vpclmulqdq",
            target_feature = "pclmulqdq",
            target_feature = "sse4.2",
        ));
        has_all.then_some(Self(()))
    }

    /// Loads bytes once.
    #[inline(always)]
    pub(crate) fn load(self, bytes: &[[u8; 8]; ROW]) -> Row {
        // SAFETY: the CPU has AVX2, and the 64 bytes may be read.
        unsafe { load(bytes.as_ptr().cast()) }
    }

    /// Loads words once, each as a relaxed load would.
    #[inline(always)]
    pub(crate) fn load_words(self, lanes: &[Lane; ROW]) -> Row {
        // SAFETY: the CPU has AVX2, and the 64 bytes may be read.
        unsafe { load(lanes.as_ptr().cast()) }
    }

    /// Stores bytes.
    #[inline(always)]
    pub(crate) fn store(self, row: Row, bytes: &mut [[u8; 8]; ROW]) {
        // SAFETY: the CPU has AVX2, and the 64 bytes may be written.
        unsafe { store(row, bytes.as_mut_ptr().cast()) }
    }

    /// Stores words, each as a relaxed store would.
    #[inline(always)]
    pub(crate) fn store_words(self, row: Row, lanes: &[Lane; ROW]) {
        // SAFETY: the CPU has AVX2, and the 64 bytes are atomic words, which a shared reference
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

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load(from: *const __m256i) -> Row {
    let (low, high);
    // SAFETY: the caller vouches for 64 bytes. By assembly, because the optimiser must not load
    // them a second time, and because of the words: as relaxed loads, these may meet the stores of
    // another thread, whose mixture a reader throws away.
    unsafe {
        asm!(
            "vmovdqu {low}, [{from}]",
            "vmovdqu {high}, [{from} + 32]",
            from = in(reg) from,
            low = out(ymm_reg) low,
            high = out(ymm_reg) high,
            options(readonly, nostack, preserves_flags),
        );
    }
    Row([low, high])
}

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store(Row([low, high]): Row, to: *mut __m256i) {
    // SAFETY: the caller vouches for 64 bytes.
    unsafe {
        _mm256_storeu_si256(to, low);
        _mm256_storeu_si256(to.add(1), high);
    }
}

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store_words(Row([low, high]): Row, to: *mut __m256i) {
    // SAFETY: the caller vouches for 64 bytes of atomic words. By assembly, because a store of the
    // language's own would be no atomic one.
    unsafe {
        asm!(
            "vmovdqu [{to}], {low}",
            "vmovdqu [{to} + 32], {high}",
            to = in(reg) to,
            low = in(ymm_reg) low,
            high = in(ymm_reg) high,
            options(nostack, preserves_flags),
        );
    }
}

/// The register after a block.
#[inline(always)]
pub(super) fn pass(state: u32, passage: &mut impl Passage) -> Option<u32> {
    let wide = Wide::of_this_cpu()?;
    // SAFETY: the CPU has all of it, as `wide` says.
    Some(unsafe { pass_wide(state, passage, wide) })
}

#[target_feature(enable = "avx2,vpclmulqdq,pclmulqdq,sse4.2")]
fn pass_wide<P: Passage>(state: u32, passage: &mut P, wide: Wide) -> u32 {
    // The register counts as if it had been added to the first four bytes.
    let mut first = _mm256_set_epi64x(0, 0, 0, i64::from(state));
    let mut sum = _mm256_setzero_si256();
    for (row, weights) in WEIGHTS.0.as_chunks::<ROW>().0.iter().enumerate() {
        let Row([low, high]) = passage.row(row, wide);
        let Row([low_weights, high_weights]) = Row::of(*weights);
        let low = weighed(_mm256_xor_si256(low, first), low_weights);
        sum = _mm256_xor_si256(sum, _mm256_xor_si256(low, weighed(high, high_weights)));
        first = _mm256_setzero_si256();
    }
    let sum = _mm_xor_si128(
        _mm256_castsi256_si128(sum),
        _mm256_extracti128_si256::<1>(sum),
    );
    let state = _mm_crc32_u64(0, _mm_cvtsi128_si64(sum).cast_unsigned());
    // `crc32` leaves the upper half of its 64-bit register zero.
    _mm_crc32_u64(state, _mm_extract_epi64::<1>(sum).cast_unsigned()) as u32
}

/// The products of four lanes, two and two added.
#[target_feature(enable = "avx2,vpclmulqdq")]
#[inline]
fn weighed(lanes: __m256i, weights: __m256i) -> __m256i {
    _mm256_xor_si256(
        _mm256_clmulepi64_epi128::<0x00>(lanes, weights),
        _mm256_clmulepi64_epi128::<0x11>(lanes, weights),
    )
}
