//! Bytes into a region.

use super::cell::Cell;
use super::{Opened, Piece, Span};
use crate::block::BLOCK_BYTES;
use crate::corrupt::Corrupt;
use crate::fault::{BlockFault, HeaderDamaged, OutOfBounds};
use crate::latch::Contention;
use crate::level::VerificationLevel;
use crate::provider::{Phase, Provider};

/// Why bytes could not be written to a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The range does not lie in the region. Nothing was written.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
    /// A block does not match its tag: before the write, or, at level `Full` and above, after it.
    /// Reads of the block fail until it is written as a whole.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// A writer ended in the middle of a block. Write the whole block anew.
    #[error("block {block} is poisoned: a writer ended in the middle of it")]
    Poisoned {
        /// Index of the block.
        block: usize,
    },
    /// A block whose bytes are needed was written while the level was `Off`.
    #[error("block {block} has no tag: it was written at level Off")]
    Unverified {
        /// Index of the block.
        block: usize,
    },
    /// The bytes to copy changed while they waited between their two blocks. The blocks they went
    /// to are poisoned.
    #[error("the bytes for block {block} changed on the way")]
    ChangedOnTheWay {
        /// Index of the block they went to.
        block: usize,
    },
    /// Another writer was there for as long as the wait may take. Nothing was written.
    #[error("another writer was there for {rounds} rounds of waiting")]
    Busy {
        /// How many rounds.
        rounds: u32,
    },
    /// Guards lent bytes of the region for as long as the wait may take. Nothing was written.
    #[error("{guards} guards lent bytes of the region for {rounds} rounds of waiting")]
    Pinned {
        /// How many guards and pinned reads there were.
        guards: u32,
        /// How many rounds.
        rounds: u32,
    },
    /// The range is longer than may be modified without a buffer of the caller's. Nothing was
    /// written.
    #[error("{len} bytes to modify, at most {limit} without a buffer")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
        /// How long it may be, in bytes.
        limit: usize,
    },
    /// The region is lost.
    #[error(transparent)]
    Damaged(#[from] HeaderDamaged),
}

impl From<BlockFault> for WriteError {
    fn from(fault: BlockFault) -> Self {
        match fault {
            BlockFault::Corrupt(corrupt) => Self::Corrupt(corrupt),
            BlockFault::Poisoned { block } => Self::Poisoned { block },
            BlockFault::Unverified { block } => Self::Unverified { block },
        }
    }
}

impl WriteError {
    pub(crate) fn waited(contention: Contention, rounds: u32) -> Self {
        match contention {
            Contention::Writer => Self::Busy { rounds },
            Contention::Pinned(guards) => Self::Pinned { guards, rounds },
        }
    }
}

/// Poisons the blocks of a span unless it is told that they are whole.
pub(crate) struct Unfinished<'a, P: Provider> {
    opened: &'a Opened<'a, P>,
    span: Option<Span>,
}

impl<'a, P: Provider> Unfinished<'a, P> {
    pub(crate) fn new(opened: &'a Opened<'a, P>, span: Span) -> Self {
        Self {
            opened,
            span: Some(span),
        }
    }

    pub(crate) fn finish(mut self) {
        self.span = None;
    }
}

impl<P: Provider> Drop for Unfinished<'_, P> {
    #[inline]
    fn drop(&mut self) {
        if let Some(span) = self.span {
            span.pieces()
                .filter_map(|piece| self.opened.cell(piece.block))
                .for_each(|cell| cell.poison());
        }
    }
}

impl<P: Provider> Cell<'_, P> {
    fn is_whole(&self, piece: Piece) -> bool {
        piece.len == self.len
    }

    /// Writes one piece as the level wants it written.
    #[inline]
    fn write(
        &self,
        level: VerificationLevel,
        piece: Piece,
        source: &[u8],
    ) -> Result<(), BlockFault> {
        if level == VerificationLevel::Off {
            self.write_untagged(piece.start, source);
            return Ok(());
        }
        if self.is_whole(piece) {
            self.write_whole(source);
        } else {
            self.write_part(piece.start, source);
        }
        if !reads_back(level) {
            return Ok(());
        }
        self.write_mirror(piece.start, source);
        match self.verify() {
            // It had no tag before either.
            Err(BlockFault::Unverified { .. }) => Ok(()),
            verdict => verdict,
        }
    }
}

fn reads_back(level: VerificationLevel) -> bool {
    matches!(
        level,
        VerificationLevel::Full | VerificationLevel::Redundant
    )
}

impl<P: Provider> Opened<'_, P> {
    /// Whether the blocks that a span changes in part may be changed.
    #[inline]
    pub(crate) fn check_writable(&self, span: Span) -> Result<(), WriteError> {
        if let Some(piece) = span.in_one_block() {
            return self.check_piece(piece);
        }
        // Only the first and the last block of a span can be partial.
        let mut pieces = span.pieces();
        let ends = [pieces.next(), pieces.next_back()];
        ends.into_iter()
            .flatten()
            .try_for_each(|piece| self.check_piece(piece))
    }

    #[inline(always)]
    fn check_piece(&self, piece: Piece) -> Result<(), WriteError> {
        let cell = self.cell(piece.block).ok_or(HeaderDamaged)?;
        if cell.is_whole(piece) {
            return Ok(());
        }
        if cell.is_poisoned() {
            return Err(WriteError::Poisoned { block: piece.block });
        }
        if reads_back(self.identity.level()) {
            match cell.verify() {
                Err(BlockFault::Unverified { .. }) => (),
                verdict => verdict?,
            }
        }
        Ok(())
    }

    /// Copies `source` to a span that is as long.
    ///
    /// A fault that is found at read-back does not stop it: the other blocks are written.
    #[inline]
    pub(crate) fn write(&self, span: Span, source: &[u8]) -> Result<(), WriteError> {
        if let Some(piece) = span.in_one_block() {
            let cell = self.cell(piece.block).ok_or(HeaderDamaged)?;
            return Ok(cell.write(self.identity.level(), piece, source)?);
        }
        let mut first_fault = None;
        let mut rest = source;
        for piece in span.pieces() {
            let cell = self.cell(piece.block).ok_or(HeaderDamaged)?;
            let (part, later) = rest.split_at_checked(piece.len).ok_or(HeaderDamaged)?;
            if let Err(fault) = cell.write(self.identity.level(), piece, part) {
                first_fault.get_or_insert(fault);
            }
            rest = later;
        }
        match first_fault {
            None => Ok(()),
            Some(fault) => Err(fault.into()),
        }
    }

    /// Whether the source of a copy is intact and its destination may be changed.
    pub(crate) fn check_copy(&self, from: Span, to: Span) -> Result<(), WriteError> {
        if self.identity.level() != VerificationLevel::Off {
            for piece in from.pieces() {
                self.cell(piece.block).ok_or(HeaderDamaged)?.verify()?;
            }
        }
        self.check_writable(to)
    }

    /// Copies a span to `copy`, checked at every level but `Off`.
    pub(crate) fn read_for_change(&self, span: Span, copy: &mut [u8]) -> Result<(), WriteError> {
        if self.identity.level() == VerificationLevel::Off {
            self.read_unchecked(span, copy);
            return Ok(());
        }
        self.read_checked(span, copy)
    }

    /// Copies one span of the region over another one that is as long, as if through a buffer.
    pub(crate) fn copy(&self, from: Span, to: Span) -> Result<(), WriteError> {
        if from.offset < to.offset {
            // What is read must not have been overwritten yet.
            to.pieces()
                .rev()
                .try_for_each(|piece| self.copy_piece(from, to, piece))
        } else {
            to.pieces()
                .try_for_each(|piece| self.copy_piece(from, to, piece))
        }
    }

    /// Copies the bytes for one block, checked as they are read.
    ///
    /// They wait on the stack, where no tag covers them, so they wait twice: once inverted.
    fn copy_piece(&self, from: Span, to: Span, piece: Piece) -> Result<(), WriteError> {
        let mut buffer = [0; BLOCK_BYTES];
        let mut inverted = [0; BLOCK_BYTES];
        let at = piece.block * BLOCK_BYTES + piece.start - to.offset;
        let source = Span {
            offset: from.offset + at,
            len: piece.len,
        };
        let (buffer, inverted) = (
            buffer.get_mut(..piece.len).ok_or(HeaderDamaged)?,
            inverted.get_mut(..piece.len).ok_or(HeaderDamaged)?,
        );
        self.read_for_change(source, buffer)?;
        self.read_for_change(source, inverted)?;
        inverted.iter_mut().for_each(|byte| *byte = !*byte);
        if let Some(first) = buffer.first_mut() {
            let register = u64::from(*first);
            let [byte, ..] = self
                .region
                .provider
                .fault(Phase::Buffered, register)
                .to_le_bytes();
            *first = byte;
        }
        let cell = self.cell(piece.block).ok_or(HeaderDamaged)?;
        cell.write(self.identity.level(), piece, buffer)?;
        let (buffer, inverted) = core::hint::black_box((buffer, inverted));
        if buffer
            .iter()
            .zip(inverted)
            .any(|(byte, other)| *byte != !*other)
        {
            return Err(WriteError::ChangedOnTheWay { block: piece.block });
        }
        Ok(())
    }
}
