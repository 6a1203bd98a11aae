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
