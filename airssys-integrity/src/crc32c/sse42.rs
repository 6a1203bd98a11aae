//! CRC32C by the `crc32` instruction of SSE4.2 and carry-less multiplication.
//!
//! Each function answers `None` on a CPU without the two.
#![allow(
    unsafe_code,
    reason = "entering a function compiled for SSE4.2 is unsafe"
)]

use super::zeros;
use core::arch::x86_64::{
    _mm_clmulepi64_si128, _mm_crc32_u8, _mm_crc32_u64, _mm_cvtsi64_si128, _mm_cvtsi128_si64,
};

/// Fewer lanes than this are not worth two multiplications.
const INTERLEAVED: usize = 18;

#[inline(always)]
fn available() -> bool {
    if cfg!(miri) {
        return false;
    }
    #[cfg(feature = "std")]
    {
        // One relaxed load once the answer is known.
        std::arch::is_x86_feature_detected!("sse4.2")
            && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(not(feature = "std"))]
    {
        cfg!(all(target_feature = "sse4.2", target_feature = "pclmulqdq"))
    }
}

/// The register after the eight bytes of `lane`.
#[inline(always)]
pub(super) fn step(state: u32, lane: u64) -> Option<u32> {
    if !available() {
        return None;
    }
    // SAFETY: the CPU has SSE4.2, checked above.
    Some(unsafe { step_sse42(state, lane) })
}

/// The register after up to seven bytes.
#[inline]
pub(super) fn tail(state: u32, bytes: &[u8]) -> Option<u32> {
    if !available() {
        return None;
    }
    // SAFETY: the CPU has SSE4.2, checked above.
    Some(unsafe { tail_sse42(state, bytes) })
}

/// The register after `lanes` lanes of zeros, from 1 to a block of them.
#[inline(always)]
pub(super) fn shift(state: u32, lanes: usize) -> Option<u32> {
    if !available() {
        return None;
    }
    // SAFETY: the CPU has SSE4.2 and PCLMULQDQ, checked above.
    Some(unsafe { shift_sse42(state, lanes) })
}

/// The register after the lanes `0..lanes`, at most a block of them. Each is asked for once, from
/// three runs in turn.
#[inline(always)]
pub(super) fn fold(
    state: u32,
    lanes: usize,
    lane_at: &mut impl FnMut(usize) -> u64,
) -> Option<u32> {
    if !available() {
        return None;
    }
    // SAFETY: the CPU has SSE4.2 and PCLMULQDQ, checked above.
    Some(unsafe { fold_sse42(state, lanes, lane_at) })
}

/// As [`fold`] of `N` lanes. One function for each caller, compiled for that length.
#[inline(always)]
pub(super) fn fold_fixed<const N: usize>(
    state: u32,
    lane_at: &mut impl FnMut(usize) -> u64,
) -> Option<u32> {
    if !available() {
        return None;
    }
    // SAFETY: the CPU has SSE4.2 and PCLMULQDQ, checked above.
    Some(unsafe { fold_fixed_sse42::<N, _>(state, lane_at) })
}

#[target_feature(enable = "sse4.2,pclmulqdq")]
fn fold_fixed_sse42<const N: usize, F: FnMut(usize) -> u64>(state: u32, lane_at: &mut F) -> u32 {
    fold_sse42(state, N, lane_at)
}

#[target_feature(enable = "sse4.2")]
#[inline]
fn step_sse42(state: u32, lane: u64) -> u32 {
    narrow(_mm_crc32_u64(u64::from(state), lane))
}

#[target_feature(enable = "sse4.2")]
#[inline]
fn tail_sse42(state: u32, bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(state, |state, byte| _mm_crc32_u8(state, *byte))
}

#[target_feature(enable = "sse4.2,pclmulqdq")]
#[inline]
fn shift_sse42(state: u32, lanes: usize) -> u32 {
    let product = _mm_clmulepi64_si128::<0>(
        _mm_cvtsi64_si128(i64::from(state)),
        _mm_cvtsi64_si128(i64::from(zeros::folded(lanes))),
    );
    narrow(_mm_crc32_u64(0, _mm_cvtsi128_si64(product).cast_unsigned()))
}

/// The instruction takes a new operand each cycle and answers after three, so one chain of them
/// would wait two cycles of three.
#[target_feature(enable = "sse4.2,pclmulqdq")]
#[inline]
fn fold_sse42<F: FnMut(usize) -> u64>(state: u32, lanes: usize, lane_at: &mut F) -> u32 {
    let mut first = u64::from(state);
    if lanes < INTERLEAVED {
        for lane in 0..lanes {
            first = _mm_crc32_u64(first, lane_at(lane));
        }
        return narrow(first);
    }
    let third = lanes / 3;
    let (mut second, mut last) = (0, 0);
    for lane in 0..third {
        first = _mm_crc32_u64(first, lane_at(lane));
        second = _mm_crc32_u64(second, lane_at(third + lane));
        last = _mm_crc32_u64(last, lane_at(2 * third + lane));
    }
    for lane in 3 * third..lanes {
        last = _mm_crc32_u64(last, lane_at(lane));
    }
    shift_sse42(narrow(first), lanes - third)
        ^ shift_sse42(narrow(second), lanes - 2 * third)
        ^ narrow(last)
}

/// `crc32` leaves the upper half of its 64-bit register zero.
#[inline(always)]
fn narrow(wide: u64) -> u32 {
    wide as u32
}
