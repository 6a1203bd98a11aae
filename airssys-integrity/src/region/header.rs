//! What a region knows about itself, written down twice.

use crate::fault::HeaderDamaged;
use crate::level::{SampleRate, VerificationLevel};
use core::hint::black_box;

/// What a region is, and once more with every bit inverted.
#[derive(Debug)]
pub(crate) struct Header {
    record: Identity,
    inverted: Identity,
}

/// Id, level and length of a region.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) id: u32,
    /// The level as a number: a flipped bit in an enum would be undefined behaviour.
    level: u32,
    pub(crate) len_bytes: usize,
}

impl Identity {
    pub(crate) fn new(id: u32, level: VerificationLevel, len_bytes: usize) -> Self {
        Self {
            id,
            level: to_number(level),
            len_bytes,
        }
    }

    #[inline(always)]
    pub(crate) fn level(self) -> VerificationLevel {
        // What is no level has not been written down twice.
        from_number(self.level).unwrap_or_default()
    }
}

impl Header {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            record: identity,
            inverted: Identity {
                id: !identity.id,
                level: !identity.level,
                len_bytes: !identity.len_bytes,
            },
        }
    }

    /// What the header says, if it says so twice.
    #[inline(always)]
    pub(crate) fn open(&self) -> Result<Identity, HeaderDamaged> {
        // Memory that fails does not ask whether anybody wrote to it since the last look.
        let Self { record, inverted } = black_box(self);
        let differences = (record.id ^ !inverted.id) | (record.level ^ !inverted.level);
        if differences != 0 || record.len_bytes != !inverted.len_bytes {
            return Err(HeaderDamaged);
        }
        Ok(*record)
    }
}

fn to_number(level: VerificationLevel) -> u32 {
    match level {
        VerificationLevel::Off => 1,
        VerificationLevel::Sampling(rate) => 2 | (rate.one_in().trailing_zeros() << 8),
        VerificationLevel::Standard => 3,
        VerificationLevel::Full => 4,
        VerificationLevel::Redundant => 5,
    }
}

#[inline(always)]
fn from_number(number: u32) -> Option<VerificationLevel> {
    let [kind, shift, ..] = number.to_le_bytes();
    match kind {
        1 => Some(VerificationLevel::Off),
        2 => SampleRate::one_in_power_of_two(shift).map(VerificationLevel::Sampling),
        3 => Some(VerificationLevel::Standard),
        4 => Some(VerificationLevel::Full),
        5 => Some(VerificationLevel::Redundant),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic fails the test")]

    use super::{Header, Identity};
    use crate::level::{SampleRate, VerificationLevel};

    #[test]
    fn a_flip_of_any_bit_of_the_header_is_told() {
        let identity = Identity::new(3, VerificationLevel::Standard, 4_096);
        for bit in 0..u32::BITS {
            for inverted in [false, true] {
                let flips: [fn(&mut Identity, u32); 4] = [
                    |record, bit| record.id ^= 1 << bit,
                    |record, bit| record.level ^= 1 << bit,
                    |record, bit| record.len_bytes ^= 1 << bit,
                    |record, bit| record.len_bytes ^= (1_usize << bit).rotate_right(32),
                ];
                for flip in flips {
                    let mut header = Header::new(identity);
                    header.open().unwrap();
                    if inverted {
                        flip(&mut header.inverted, bit);
                    } else {
                        flip(&mut header.record, bit);
                    }
                    assert!(header.open().is_err());
                }
            }
        }
    }

    #[test]
    fn every_level_comes_back_as_it_was() {
        let mut levels = std::vec![
            VerificationLevel::Off,
            VerificationLevel::Standard,
            VerificationLevel::Full,
            VerificationLevel::Redundant,
        ];
        levels.extend((0..=16).map(|shift| {
            VerificationLevel::Sampling(SampleRate::one_in_power_of_two(shift).unwrap())
        }));
        for level in levels {
            let header = Header::new(Identity::new(1, level, 8));
            assert_eq!(header.open().unwrap().level(), level);
        }
    }
}
