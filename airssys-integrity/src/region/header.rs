//! What a region knows about itself, under a checksum of its own.

use crate::crc32c::Crc32c;
use crate::fault::HeaderDamaged;
use crate::level::{SampleRate, VerificationLevel};
use core::hint::black_box;

/// Id, length and level of a region.
#[derive(Debug)]
pub(crate) struct Header {
    id: u32,
    /// The level as a number: a flipped bit in an enum would be undefined behaviour.
    level: u32,
    len_bytes: usize,
    check: u32,
}

/// The same, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) id: u32,
    pub(crate) level: VerificationLevel,
    pub(crate) len_bytes: usize,
}

impl Header {
    pub(crate) fn new(identity: Identity) -> Self {
        let mut header = Self {
            id: identity.id,
            level: to_number(identity.level),
            len_bytes: identity.len_bytes,
            check: 0,
        };
        header.check = header.sum();
        header
    }

    /// What the header says, if its checksum says so too.
    #[inline]
    pub(crate) fn open(&self) -> Result<Identity, HeaderDamaged> {
        // Memory that fails does not ask whether anybody wrote to it since the last look.
        let this = black_box(self);
        if this.sum() != this.check {
            return Err(HeaderDamaged);
        }
        Ok(Identity {
            id: this.id,
            level: from_number(this.level).ok_or(HeaderDamaged)?,
            len_bytes: this.len_bytes,
        })
    }

    #[inline]
    fn sum(&self) -> u32 {
        let mut crc = Crc32c::new();
        crc.update_u64(u64::from(self.id) | (u64::from(self.level) << 32));
        crc.update_u64(self.len_bytes as u64);
        crc.finish()
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

#[inline]
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
