//! A run of blocks and what is known about them, without any care for other threads.

pub(crate) mod cell;
mod header;
pub(crate) mod read;
pub(crate) mod repair;
mod sampler;
pub(crate) mod write;

use crate::atomic::{Lane, lanes, load};
use crate::block::{self, BLOCK_BYTES};
use crate::crc32c::copy_rows;
use crate::fault::{HeaderDamaged, OutOfBounds};
use crate::level::VerificationLevel;
use crate::provider::Provider;
use cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};
use header::{Header, Identity};
use sampler::Sampler;

/// How a region is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionSettings {
    /// Goes into every tag, so that a block of another region does not match. By default a number
    /// that the process has not given out before, until 2^32 have been.
    pub id: u32,
    /// What is checked, and when.
    pub level: VerificationLevel,
    /// Where `Sampling` starts. By default the id.
    pub sample_seed: u32,
    /// How many rounds a call waits for a writer or for readers before it gives up with a typed
    /// error. By default [`DEFAULT_WAIT_ROUNDS`].
    pub wait_rounds: u32,
}

/// Rounds of waiting. After 64 of them each one lets other threads run, if there is `std`.
pub const DEFAULT_WAIT_ROUNDS: u32 = 1 << 16;

static NEXT_ID: AtomicU32 = AtomicU32::new(1);

impl Default for RegionSettings {
    fn default() -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            level: VerificationLevel::default(),
            sample_seed: id,
            wait_rounds: DEFAULT_WAIT_ROUNDS,
        }
    }
}

/// Why there is no such region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// The level is `Redundant`, and the provider has no room for the inverted copy.
    #[error("the level is redundant, and the provider has no mirror")]
    NoMirror,
    /// The level cannot become `Redundant`, or cease to be, while there are bytes.
    #[error("the level cannot change from {from:?} to {to:?}")]
    LevelIsFixed {
        /// The level before.
        from: VerificationLevel,
        /// The level asked for.
        to: VerificationLevel,
    },
    /// The region's record of itself is damaged.
    #[error(transparent)]
    Damaged(#[from] HeaderDamaged),
}

/// The blocks of a provider.
#[derive(Debug)]
pub(crate) struct Region<P> {
    provider: P,
    header: Header,
    sampler: Sampler,
    wait_rounds: u32,
    repaired: AtomicU32,
}

/// A region whose header was found intact.
pub(crate) struct Opened<'a, P> {
    pub(crate) region: &'a Region<P>,
    pub(crate) identity: Identity,
}

/// A part of one block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) block: usize,
    /// Where it starts in its block, in bytes.
    pub(crate) start: usize,
    /// How long it is, in bytes.
    pub(crate) len: usize,
}

/// Bytes of a region, checked against its length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

impl Span {
    /// The span as a part of one block, if it is one.
    #[inline(always)]
    pub(crate) fn in_one_block(self) -> Option<Piece> {
        let (block, start) = (self.offset / BLOCK_BYTES, self.offset % BLOCK_BYTES);
        let len = self.len;
        (len > 0 && len <= BLOCK_BYTES - start).then_some(Piece { block, start, len })
    }

    /// The parts of blocks that the span consists of, in order.
    #[inline]
    pub(crate) fn pieces(self) -> impl DoubleEndedIterator<Item = Piece> {
        let end = self.offset + self.len;
        let blocks = self.offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES);
        blocks.filter(move |_| self.len > 0).map(move |block| {
            let from = self.offset.max(block * BLOCK_BYTES);
            Piece {
                block,
                start: from % BLOCK_BYTES,
                // The end of a span is at most that of the region, so this does not overflow.
                len: end.min(block * BLOCK_BYTES + BLOCK_BYTES) - from,
            }
        })
    }
}

/// Fewer bytes than this are copied faster lane by lane than by rows.
const WORTH_ROWS_BYTES: usize = 256;

/// As long as words and tags reach.
fn len_bytes<P: Provider>(provider: &P) -> usize {
    let words_bytes = lanes(provider.words()).len() * 8;
    let tagged_bytes = provider.tags().len().saturating_mul(BLOCK_BYTES);
    provider.len_bytes().min(words_bytes).min(tagged_bytes)
}

impl<P: Provider> Region<P> {
    /// A region over a provider's memory, which is all zero.
    pub(crate) fn new(provider: P, settings: RegionSettings) -> Result<Self, RegionError> {
        let mirror_lanes = provider.mirror().map_or(0, |mirror| lanes(mirror).len());
        if settings.level == VerificationLevel::Redundant && mirror_lanes * 8 < len_bytes(&provider)
        {
            return Err(RegionError::NoMirror);
        }
        Ok(Self::over(provider, settings))
    }

    /// A region at level `Standard`, which every provider has room for.
    pub(crate) fn standard(provider: P) -> Self {
        Self::over(provider, RegionSettings::default())
    }

    fn over(provider: P, settings: RegionSettings) -> Self {
        let identity = Identity::new(settings.id, settings.level, len_bytes(&provider));
        let region = Self {
            provider,
            header: Header::new(identity),
            sampler: Sampler::new(settings.sample_seed),
            wait_rounds: settings.wait_rounds.max(1),
            repaired: AtomicU32::new(0),
        };
        let opened = Opened {
            region: &region,
            identity,
        };
        for cell in opened.cells() {
            cell.tag_zeros();
            if identity.level() == VerificationLevel::Off {
                cell.mark_untagged();
            }
        }
        region
    }

    /// The region, if its header is intact.
    #[inline(always)]
    pub(crate) fn open(&self) -> Result<Opened<'_, P>, HeaderDamaged> {
        let identity = self.header.open()?;
        Ok(Opened {
            region: self,
            identity,
        })
    }

    pub(crate) fn set_level(&mut self, to: VerificationLevel) -> Result<(), RegionError> {
        let identity = self.header.open()?;
        let from = identity.level();
        let redundant = |level| level == VerificationLevel::Redundant;
        if redundant(from) != redundant(to) {
            return Err(RegionError::LevelIsFixed { from, to });
        }
        self.header = Header::new(Identity::new(identity.id, to, identity.len_bytes));
        Ok(())
    }

    pub(crate) fn wait_rounds(&self) -> u32 {
        self.wait_rounds
    }

    #[cfg(not(loom))]
    pub(crate) fn provider(&self) -> &P {
        &self.provider
    }

    pub(crate) fn repaired(&self) -> u32 {
        self.repaired.load(Ordering::Relaxed)
    }
}

impl<'a, P: Provider> Opened<'a, P> {
    /// The span, if it lies in the region.
    #[inline(always)]
    pub(crate) fn span(&self, offset: usize, len: usize) -> Result<Span, OutOfBounds> {
        let region_len = self.identity.len_bytes;
        match offset.checked_add(len) {
            Some(end) if end <= region_len => Ok(Span { offset, len }),
            _ => Err(OutOfBounds {
                offset,
                len,
                region_len,
            }),
        }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.identity.len_bytes.div_ceil(BLOCK_BYTES)
    }

    /// The block at `index`, if there is one.
    #[inline(always)]
    pub(crate) fn cell(&self, index: usize) -> Option<Cell<'a, P>> {
        let provider = &self.region.provider;
        let offset = index.checked_mul(BLOCK_BYTES)?;
        let len = self
            .identity
            .len_bytes
            .checked_sub(offset)?
            .min(BLOCK_BYTES);
        let span = offset / 8..(offset + len).div_ceil(8);
        let mirror = match self.identity.level() {
            VerificationLevel::Redundant => Some(lanes(provider.mirror()?).get(span.clone())?),
            _ => None,
        };
        Some(Cell {
            provider,
            lanes: lanes(provider.words()).get(span)?,
            mirror,
            tag: provider.tags().get(index)?,
            seed: block::region_seed(self.identity.id, index),
            index,
            len,
        })
    }

    /// Copies a span to `out`, which is as long, as it is.
    #[inline]
    pub(crate) fn read_unchecked(&self, span: Span, out: &mut [u8]) {
        if out.len() < WORTH_ROWS_BYTES {
            self.read_words(span, out, |_, _| 0);
        } else {
            self.read_rows(span, out);
        }
    }

    // Apart, so that a short read does not pay for its registers.
    #[inline(never)]
    fn read_rows(&self, span: Span, out: &mut [u8]) {
        self.read_words(span, out, copy_rows);
    }

    /// `copy_first` may copy lanes from the first one on; it answers how many. The rest goes lane by
    /// lane.
    #[inline(always)]
    fn read_words(
        &self,
        span: Span,
        out: &mut [u8],
        copy_first: impl FnOnce(&[Lane], &mut [[u8; 8]]) -> usize,
    ) {
        let lanes = lanes(self.region.provider.words());
        // Bytes before the first whole lane, whole lanes, bytes behind the last of them.
        let lead = (span.offset.wrapping_neg() % 8).min(span.len);
        let (head, rest) = out.split_at_mut(lead);
        let (body, tail) = rest.as_chunks_mut();
        let first = (span.offset + lead) / 8;
        let whole = lanes.get(first..).unwrap_or_default();
        let done = copy_first(whole, body);
        let slots = body.get_mut(done..).unwrap_or_default();
        for (slot, lane) in slots.iter_mut().zip(whole.get(done..).unwrap_or_default()) {
            *slot = load(lane).to_le_bytes();
        }
        let edge = |out: &mut [u8], lane: usize, skip: usize| {
            let bytes = lanes.get(lane).map_or(0, load).to_le_bytes();
            for (slot, byte) in out.iter_mut().zip(bytes.iter().skip(skip)) {
                *slot = *byte;
            }
        };
        edge(head, span.offset / 8, span.offset % 8);
        edge(tail, first + body.len(), 0);
    }

    pub(crate) fn cells(&self) -> impl Iterator<Item = Cell<'a, P>> + use<'a, P> {
        let opened = Opened { ..*self };
        (0..self.blocks()).filter_map(move |index| opened.cell(index))
    }
}
