//! A region with one owner.
#![allow(unsafe_code, reason = "words are lent as bytes")]

use crate::fault::BlockFault;
use crate::level::VerificationLevel;
use crate::provider::Provider;
use crate::region::read::ReadError;
use crate::region::repair::Repair;
use crate::region::write::{Unfinished, WriteError};
use crate::region::{Opened, Region, RegionError, RegionSettings, Span};

/// Checked memory with one owner: what is written takes `&mut self`, so nobody waits for anybody.
///
/// [`into_atomic_ops`](crate::AtomicMemoryExt::into_atomic_ops) makes it a region for many threads
/// and keeps bytes and tags.
///
/// ```
/// use airssys_integrity::{NoStdProvider, SafeMemoryHandler};
///
/// let mut handler = SafeMemoryHandler::new(NoStdProvider::<1024>::new());
/// handler.write(3, b"state")?;
/// assert_eq!(handler.get_slice(3, 5)?, b"state");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SafeMemoryHandler<P> {
    region: Region<P>,
}

impl<P: Provider> SafeMemoryHandler<P> {
    /// A region of zeros at level `Standard`.
    #[must_use]
    pub fn new(provider: P) -> Self {
        Self {
            region: Region::standard(provider),
        }
    }

    /// A region of zeros.
    ///
    /// # Errors
    /// [`RegionError::NoMirror`] if the provider has no room for what level `Redundant` needs.
    pub fn with_settings(provider: P, settings: RegionSettings) -> Result<Self, RegionError> {
        Ok(Self {
            region: Region::new(provider, settings)?,
        })
    }

    pub(crate) fn into_region(self) -> Region<P> {
        self.region
    }

    /// How many bytes the region has.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if the region is lost.
    pub fn len_bytes(&self) -> Result<usize, ReadError> {
        Ok(self.region.open()?.identity.len_bytes)
    }

    /// What is checked, and when.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if the region is lost.
    pub fn level(&self) -> Result<VerificationLevel, ReadError> {
        Ok(self.region.open()?.identity.level())
    }

    /// Changes what is checked from now on. Blocks written at level `Off` stay without a tag until
    /// they are written as a whole.
    ///
    /// # Errors
    /// [`RegionError::LevelIsFixed`] to or from `Redundant`, [`RegionError::Damaged`] if the region
    /// is lost.
    pub fn set_level(&mut self, level: VerificationLevel) -> Result<(), RegionError> {
        self.region.set_level(level)
    }

    /// Copies `data` to the bytes from `offset` on, and tags them from the source.
    ///
    /// # Errors
    /// [`WriteError::OutOfBounds`], [`WriteError::Poisoned`], [`WriteError::Damaged`], and, at level
    /// `Full` and above, [`WriteError::Corrupt`].
    pub fn write(&mut self, offset: usize, data: &[u8]) -> Result<(), WriteError> {
        let opened = self.region.open()?;
        let span = opened.span(offset, data.len())?;
        opened.check_writable(span)?;
        write_all(&opened, span, data)
    }

    /// Copies bytes inside the region, as if through a buffer: the two ranges may overlap.
    ///
    /// # Errors
    /// As [`write`](Self::write), and [`WriteError::Corrupt`] or [`WriteError::Unverified`] if the
    /// source is not intact. The destination is then unchanged, or poisoned.
    pub fn copy_within(&mut self, src: usize, dst: usize, len: usize) -> Result<(), WriteError> {
        let opened = self.region.open()?;
        let (from, to) = (opened.span(src, len)?, opened.span(dst, len)?);
        copy_all(&opened, from, to)
    }

    /// Copies the bytes from `offset` on to `out`. On an error `out` is zero.
    ///
    /// # Errors
    /// [`ReadError::OutOfBounds`], [`ReadError::Damaged`], and what the level finds: `Corrupt`,
    /// `Poisoned`, `Unverified`.
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), ReadError> {
        let result = self.read_to(offset, out);
        if result.is_err() {
            out.fill(0);
        }
        result
    }

    fn read_to(&self, offset: usize, out: &mut [u8]) -> Result<(), ReadError> {
        let opened = self.region.open()?;
        let span = opened.span(offset, out.len())?;
        opened.read(span, out, opened.next_check())
    }

    /// The bytes from `offset` on, checked as the level says.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[cfg(not(loom))]
    pub fn get_slice(&self, offset: usize, len: usize) -> Result<&[u8], ReadError> {
        let opened = self.region.open()?;
        let span = opened.span(offset, len)?;
        opened.verify(span, opened.next_check())?;
        // SAFETY: the span was checked against the region's length, and nobody writes while `self`
        // is shared: only methods with `&mut self` do.
        Ok(unsafe { lend(self.region.provider(), span) })
    }

    /// Compares every block, whatever the level.
    ///
    /// # Errors
    /// The first fault.
    pub fn verify_integrity(&self) -> Result<(), ReadError> {
        let opened = self.region.open()?;
        opened.cells().try_for_each(|cell| Ok(cell.verify()?))
    }

    /// What is wrong with each block that is not intact, in order. Compares a block when it is
    /// asked for.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if the region is lost.
    pub fn fault_map(&self) -> Result<impl Iterator<Item = BlockFault>, ReadError> {
        let opened = self.region.open()?;
        Ok(opened.cells().filter_map(|cell| cell.verify().err()))
    }

    /// Puts a block right that has one flipped bit, or whose inverted copy is intact.
    ///
    /// # Errors
    /// [`WriteError::Corrupt`] if more is wrong than can be repaired.
    pub fn repair(&mut self, block: usize) -> Result<Repair, WriteError> {
        self.region.open()?.repair(block)
    }

    /// How many blocks have been repaired.
    #[must_use]
    pub fn repaired_blocks(&self) -> u32 {
        self.region.repaired()
    }
}

/// Writes a span whose blocks were checked; a panic poisons them.
#[inline]
pub(crate) fn write_all<P: Provider>(
    opened: &Opened<'_, P>,
    span: Span,
    data: &[u8],
) -> Result<(), WriteError> {
    let unfinished = Unfinished::new(opened, span);
    let result = opened.write(span, data);
    unfinished.finish();
    result
}

/// Copies a span whose source and destination were checked; a failure poisons the destination.
pub(crate) fn copy_all<P: Provider>(
    opened: &Opened<'_, P>,
    from: Span,
    to: Span,
) -> Result<(), WriteError> {
    opened.check_copy(from, to)?;
    let unfinished = Unfinished::new(opened, to);
    opened.copy(from, to)?;
    unfinished.finish();
    Ok(())
}

/// The bytes of a span.
///
/// # Safety
/// The span lies in the provider's words, and nobody stores to them for as long as the bytes are
/// borrowed.
#[cfg(not(loom))]
pub(crate) unsafe fn lend<P: Provider>(provider: &P, span: Span) -> &[u8] {
    let bytes: *const u8 = provider.words().as_ptr().cast();
    // SAFETY: the caller vouches for the range and for the writers. Words hold their bytes in
    // memory order, and any bits are bytes.
    unsafe { core::slice::from_raw_parts(bytes.add(span.offset), span.len) }
}
