//! What zeros behind a message do to its CRC: multiplication by a power of x.

use super::tables::POLYNOMIAL;

/// Lanes of eight bytes up to which there are constants: one block.
pub(super) const LANES: usize = 64;

/// `x` to the power of zero, bit-reflected.
const ONE: u32 = 1 << 31;

/// `POWERS[n]` is `x^(64 n)`: the factor for `n` lanes of zeros.
static POWERS: [u32; LANES + 1] = powers(0);

/// `FOLDED[n]` is `x^(64 n - 33)`. A carry-less product of two reflected values comes out one power
/// too low, and reducing it by the CRC instruction adds 32 more, so 33 are left out beforehand.
#[cfg(target_arch = "x86_64")]
static FOLDED: [u32; LANES + 1] = powers(33);

const fn powers(left_out: u32) -> [u32; LANES + 1] {
    let mut powers = [0; LANES + 1];
    let mut exponent = 0;
    let mut slots: &mut [u32] = &mut powers;
    while let Some((slot, rest)) = slots.split_first_mut() {
        // The first entry of a table that leaves powers out would be x^-33; it is never used.
        *slot = if exponent < left_out {
            0
        } else {
            power(exponent - left_out)
        };
        exponent += 64;
        slots = rest;
    }
    powers
}

const fn power(exponent: u32) -> u32 {
    let mut value = ONE;
    let mut left = exponent;
    while left > 0 {
        value = times_x(value);
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
