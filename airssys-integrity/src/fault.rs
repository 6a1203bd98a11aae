//! What can be wrong with a block, and with the range that was asked for.

use crate::corrupt::Corrupt;

/// What is wrong with one block of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockFault {
    /// The bytes do not match their tag. Write the whole block anew, or repair it.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// A writer ended in the middle of the block. Write the whole block anew.
    #[error("block {block} is poisoned: a writer ended in the middle of it")]
    Poisoned {
        /// Index of the block.
        block: usize,
    },
    /// The block was written while the level was `Off`, so there is nothing to compare with. Write
    /// the whole block anew.
    #[error("block {block} has no tag: it was written at level Off")]
    Unverified {
        /// Index of the block.
        block: usize,
    },
}

/// A range that is not inside its region, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes at {offset} are not inside a region of {region_len}")]
pub struct OutOfBounds {
    /// Where the range was to start.
    pub offset: usize,
    /// How long it was to be.
    pub len: usize,
    /// How long the region is.
    pub region_len: usize,
}

/// The region's own record of its length, level and id does not match the second, inverted one. The
/// region is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header of the region is damaged")]
pub struct HeaderDamaged;
