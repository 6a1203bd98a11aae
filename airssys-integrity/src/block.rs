//! What one tag covers.

use crate::Crc32c;

/// Bytes covered by one tag; the last block of a buffer may be shorter.
///
/// A block and its 32-bit tag are a codeword of 4,128 bits, below the 5,243
/// data bits up to which CRC32C keeps Hamming distance 6: every error of one to
/// five bits, every error of odd weight and every burst of up to 32 bits shows.
pub const BLOCK_BYTES: usize = if cfg!(loom) { 16 } else { 512 };

/// The CRC register of a region's block before its first byte.
///
/// Registers that start apart end apart over the same bytes, so the same bytes have another tag in
/// each block of a region, and in the block of the same index of any other region.
#[inline]
pub(crate) const fn region_seed(region: u32, index: usize) -> u32 {
    // Odd, so that no two regions agree; far apart, so that few agree at another index.
    region.wrapping_mul(0x9E37_79B1) ^ index as u32
}

/// The CRC a block starts with: its index as a little-endian `u64` goes in
/// first, so that a block in the place of another does not match.
pub(crate) fn open(index: usize) -> Crc32c {
    let mut crc = Crc32c::new();
    // Lossless: no target has pointers wider than 64 bits.
    crc.update_u64(index as u64);
    crc
}

/// The tag of the block at `index`.
#[cfg(any(feature = "alloc", test))]
pub(crate) fn tag(index: usize, bytes: &[u8]) -> u32 {
    let mut crc = open(index);
    crc.update(bytes);
    crc.finish()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::indexing_slicing,
        reason = "an index out of range fails the test"
    )]

    use super::{BLOCK_BYTES, tag};
    use std::vec::Vec;

    /// What each one-bit error does to the comparison of tags: data bits first,
    /// then the bits of the stored tag.
    fn one_bit_syndromes() -> Vec<u32> {
        let mut bytes = [0; BLOCK_BYTES];
        let clean = tag(0, &bytes);
        let mut syndromes = Vec::new();
        for bit in 0..BLOCK_BYTES * 8 {
            bytes[bit / 8] = 1 << (bit % 8);
            syndromes.push(tag(0, &bytes) ^ clean);
            bytes[bit / 8] = 0;
        }
        syndromes.extend((0..u32::BITS).map(|bit| 1 << bit));
        syndromes
    }

    /// True if no value occurs twice. Buckets by the upper half, then a bitmap
    /// over the lower half: a sort takes far longer without optimisation.
    fn all_distinct(values: &[u32]) -> bool {
        let mut ends = std::vec![0_usize; 1 << 16];
        for value in values {
            ends[(value >> 16) as usize] += 1;
        }
        let mut end = 0;
        for slot in &mut ends {
            end += *slot;
            *slot = end;
        }
        let mut lower_halves = std::vec![0_u16; values.len()];
        let mut starts = ends.clone();
        for value in values {
            let start = &mut starts[(value >> 16) as usize];
            *start -= 1;
            lower_halves[*start] = *value as u16;
        }
        let mut seen_in = std::vec![usize::MAX; 1 << 16];
        for (bucket, (start, end)) in starts.iter().zip(&ends).enumerate() {
            for lower in &lower_halves[*start..*end] {
                let seen = &mut seen_in[usize::from(*lower)];
                if *seen == bucket {
                    return false;
                }
                *seen = bucket;
            }
        }
        true
    }

    /// If zero, the one-bit and the two-bit syndromes are all distinct, no sum
    /// of up to four one-bit syndromes is zero: distance 5 at least.
    #[test]
    fn no_error_of_one_to_four_bits_keeps_the_tag() {
        let ones = one_bit_syndromes();
        assert_eq!(ones.len(), 4_128);
        let mut values = Vec::with_capacity(1 + 4_128 + 8_518_128);
        values.push(0);
        values.extend_from_slice(&ones);
        for (count, left) in ones.iter().enumerate() {
            for right in &ones[..count] {
                values.push(left ^ right);
            }
        }
        assert_eq!(values.len(), 1 + 4_128 + 8_518_128);
        assert!(all_distinct(&values));
    }

    /// The polynomial has the factor x + 1, so a syndrome keeps the parity of
    /// its error. Odd errors never vanish, and distance 5 becomes 6.
    #[test]
    fn no_error_of_odd_weight_keeps_the_tag() {
        assert!(
            one_bit_syndromes()
                .iter()
                .all(|syndrome| syndrome.count_ones() % 2 == 1)
        );
    }

    #[test]
    fn the_distinctness_check_sees_a_repeated_value() {
        assert!(all_distinct(&[0, 1, 1 << 16, (1 << 16) | 1]));
        assert!(!all_distinct(&[7 << 16, 1, 3, 7 << 16]));
    }

    /// From each place where a burst can start, all that are up to 17 bits long. Each step flips one
    /// bit more or less, in the order of a Gray code.
    fn no_burst_keeps_the_tag(starts: impl Iterator<Item = usize>) {
        // In the order in which the bits are sent: a tag is sent as the last lane, lowest bit first.
        let ones = one_bit_syndromes();
        for start in starts {
            let mut sum = ones[start];
            for step in 1_u32..1 << 16 {
                assert_ne!(sum, 0, "a burst from bit {start}");
                let at = start + 1 + step.trailing_zeros() as usize;
                sum ^= ones.get(at).copied().unwrap_or_default();
            }
            assert_ne!(sum, 0, "a burst from bit {start}");
        }
    }

    #[test]
    fn no_burst_of_up_to_17_bits_keeps_the_tag() {
        no_burst_keeps_the_tag((0..4_128).step_by(97).chain(4_080..4_128));
    }

    #[test]
    #[ignore = "takes a few seconds, in release"]
    fn no_burst_of_up_to_17_bits_from_any_bit_keeps_the_tag() {
        no_burst_keeps_the_tag(0..4_128);
    }
}
