//! What zeros behind a message do to its CRC: multiplication by a power of x.

use super::tables::POLYNOMIAL;

/// Lanes of eight bytes up to which there are constants: one block.
pub(super) const LANES: usize = 64;

/// `x` to the power of zero, bit-reflected.
const ONE: u32 = 1 << 31;

/// `POWERS[n]` is `x^(64 n)`: the factor for `n` lanes of zeros.
static POWERS: [u32; LANES + 1] = every_64th_power(ONE);

/// `FOLDED[n]` is `x^(64 n - 33)`. A carry-less product of two reflected values comes out one power
/// too low, and reducing it by the CRC instruction adds 32 more, so 33 are left out beforehand.
#[cfg(target_arch = "x86_64")]
static FOLDED: [u32; LANES + 1] = every_64th_power(over_x(ONE, 33));

/// Constants for the lanes of a block, aligned as they are loaded.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Weights(pub(super) [u64; LANES]);

/// What each lane of a block is multiplied by: that of [`FOLDED`] for the lanes behind it.
#[cfg(target_arch = "x86_64")]
pub(super) static WEIGHTS: Weights = Weights(weights());

#[cfg(target_arch = "x86_64")]
const fn weights() -> [u64; LANES] {
    let folded = every_64th_power(over_x(ONE, 33));
    let mut weights = [0; LANES];
    let mut left: &[u32] = &folded;
    let mut slots: &mut [u64] = &mut weights;
    while let (Some((slot, before)), Some((factor, more))) =
        (slots.split_last_mut(), left.split_first())
    {
        *slot = *factor as u64;
        slots = before;
        left = more;
    }
    weights
}

/// `first`, and each next one by 64 powers of `x` more.
const fn every_64th_power(first: u32) -> [u32; LANES + 1] {
    let mut powers = [0; LANES + 1];
    let mut value = first;
    let mut slots: &mut [u32] = &mut powers;
    while let Some((slot, rest)) = slots.split_first_mut() {
        *slot = value;
        let mut left = 64;
        while left > 0 {
            value = times_x(value);
            left -= 1;
        }
        slots = rest;
    }
    powers
}

/// So many powers of `x` less: the inverse of [`times_x`], which is there because the polynomial has
/// the term 1.
#[cfg(target_arch = "x86_64")]
const fn over_x(mut value: u32, powers: u32) -> u32 {
    let mut left = powers;
    while left > 0 {
        // The highest bit is that of x^0; `times_x` leaves it set where it has subtracted.
        let subtracted = value >> 31;
        value = ((value ^ (POLYNOMIAL & subtracted.wrapping_neg())) << 1) | subtracted;
        left -= 1;
    }
    value
}

/// One power of `x` more.
pub(crate) const fn times_x(value: u32) -> u32 {
    (value >> 1) ^ (POLYNOMIAL & (value & 1).wrapping_neg())
}

/// The register after `lanes` lanes of zeros, at most [`LANES`].
pub(super) fn portable(state: u32, lanes: usize) -> u32 {
    let mut factor = POWERS.get(lanes).copied().unwrap_or_default();
    let mut product = 0;
    let mut bits = state;
    while bits != 0 {
        product ^= factor & (bits >> 31).wrapping_neg();
        bits <<= 1;
        factor = times_x(factor);
    }
    product
}

/// The constant for [`LANES`] or fewer lanes of zeros, at least one.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn folded(lanes: usize) -> u32 {
    FOLDED.get(lanes).copied().unwrap_or_default()
}
