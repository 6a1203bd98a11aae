//! How much is checked, and when.

/// How often one block in how many is checked under [`VerificationLevel::Sampling`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SampleRate {
    shift: u8,
}

impl SampleRate {
    /// One read in 64.
    pub const ONE_IN_64: Self = Self { shift: 6 };

    /// One read in 2 to the power of `shift`; `None` above 16 (1 in 65,536).
    #[must_use]
    pub const fn one_in_power_of_two(shift: u8) -> Option<Self> {
        if shift > 16 {
            return None;
        }
        Some(Self { shift })
    }

    /// Of how many reads one is checked.
    #[must_use]
    pub const fn one_in(self) -> u32 {
        1 << self.shift
    }
}

/// What a region or a buffer does about its tags. Not ordered: more checks do not mean that every
/// fault of a lower level is found earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum VerificationLevel {
    /// No tags. A read that asks for a check is told that there is none.
    Off,
    /// Tags are written; a share of the reads is checked, and every block in turn.
    Sampling(SampleRate),
    /// Tags are written; every read checks every block it covers.
    #[default]
    Standard,
    /// As `Standard`, and a write checks the block it changes before and what arrived after.
    Full,
    /// As `Full`, with a second, inverted copy that a second pass over the source has written.
    Redundant,
}
