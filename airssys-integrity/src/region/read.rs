//! Bytes out of a region.

use super::{Opened, Region, Span};
use crate::corrupt::Corrupt;
use crate::fault::{BlockFault, HeaderDamaged, OutOfBounds};
use crate::latch::Contention;
use crate::level::VerificationLevel;
use crate::provider::{Phase, Provider};

/// Why bytes of a region could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The range does not lie in the region.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
    /// The bytes do not match their tag. Write the whole block anew, or repair it.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// A writer ended in the middle of a block. Write the whole block anew.
    #[error("block {block} is poisoned: a writer ended in the middle of it")]
    Poisoned {
        /// Index of the block.
        block: usize,
    },
    /// A block was written while the level was `Off`. Write the whole block anew.
    #[error("block {block} has no tag: it was written at level Off")]
    Unverified {
        /// Index of the block.
        block: usize,
    },
    /// A writer was storing for as long as the wait may take. Try again.
    #[error("a writer was storing for {rounds} rounds of waiting")]
    Contended {
        /// How many rounds.
        rounds: u32,
    },
    /// More guards are alive than can be counted.
    #[error("{guards} guards are alive")]
    TooManyGuards {
        /// How many.
        guards: u32,
    },
    /// The region is lost.
    #[error(transparent)]
    Damaged(#[from] HeaderDamaged),
}

impl From<BlockFault> for ReadError {
    fn from(fault: BlockFault) -> Self {
        match fault {
            BlockFault::Corrupt(corrupt) => Self::Corrupt(corrupt),
            BlockFault::Poisoned { block } => Self::Poisoned { block },
            BlockFault::Unverified { block } => Self::Unverified { block },
        }
    }
}

impl ReadError {
    pub(crate) fn waited(contention: Contention, rounds: u32) -> Self {
        match contention {
            Contention::Writer => Self::Contended { rounds },
            Contention::Pinned(guards) => Self::TooManyGuards { guards },
        }
    }
}

/// What a read at some level has to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    Nothing,
    Covered,
    /// The blocks covered, and another one whose turn it is.
    CoveredAnd(usize),
}

impl<P: Provider> Opened<'_, P> {
    /// What the next read has to compare. Counts it as read.
    #[inline]
    pub(crate) fn next_check(&self) -> Check {
        match self.identity.level() {
            VerificationLevel::Off => Check::Nothing,
            VerificationLevel::Sampling(rate) => {
                if self.region.sampler.picks(rate) {
                    Check::CoveredAnd(self.region.sampler.next_block(self.blocks()))
                } else {
                    Check::Nothing
                }
            }
            _ => Check::Covered,
        }
    }

    /// Copies a span to `out`, which is as long.
    #[inline]
    pub(crate) fn read(&self, span: Span, out: &mut [u8], check: Check) -> Result<(), ReadError> {
        if check == Check::Nothing {
            self.read_unchecked(span, out);
        } else {
            self.read_checked::<ReadError>(span, out)?;
            self.check_turn(check)?;
        }
        self.region.provider.fault(Phase::BeforeReturn, 0);
        Ok(())
    }

    /// Copies a span to `out`, which is as long, and compares the blocks that it touches.
    #[inline]
    pub(crate) fn read_checked<E>(&self, span: Span, out: &mut [u8]) -> Result<(), E>
    where
        E: From<BlockFault> + From<HeaderDamaged>,
    {
        if let Some(piece) = span.in_one_block() {
            let cell = self.cell(piece.block).ok_or(HeaderDamaged)?;
            return Ok(cell.read(piece.start, out)?);
        }
        let mut rest = out;
        for piece in span.pieces() {
            let cell = self.cell(piece.block).ok_or(HeaderDamaged)?;
            let (part, later) = rest.split_at_mut_checked(piece.len).ok_or(HeaderDamaged)?;
            cell.read(piece.start, part)?;
            rest = later;
        }
        Ok(())
    }

    /// Compares the blocks that a span touches.
    #[cfg(not(loom))]
    pub(crate) fn verify(&self, span: Span, check: Check) -> Result<(), ReadError> {
        if check != Check::Nothing {
            for piece in span.pieces() {
                self.cell(piece.block).ok_or(HeaderDamaged)?.verify()?;
            }
        }
        self.check_turn(check)
    }

    /// Compares the block whose turn it is, which need not be one that the caller asked for.
    #[inline]
    fn check_turn(&self, check: Check) -> Result<(), ReadError> {
        let Check::CoveredAnd(block) = check else {
            return Ok(());
        };
        match self.cell(block).map(|cell| cell.verify()) {
            // Not what the caller asked about, and nothing new: no tag was ever promised.
            Some(Err(BlockFault::Unverified { .. })) | None => Ok(()),
            Some(verdict) => Ok(verdict?),
        }
    }
}

impl<P: Provider> Region<P> {
    /// Compares one block, whatever the level.
    pub(crate) fn verify_block(&self, block: usize) -> Result<(), ReadError> {
        let opened = self.open()?;
        Ok(opened.cell(block).ok_or(HeaderDamaged)?.verify()?)
    }
}
