//! A region for many threads.

#[cfg(not(loom))]
use crate::borrowed::BorrowedSlice;
use crate::fault::BlockFault;
use crate::handler::{SafeMemoryHandler, copy_all, write_all};
use crate::latch::{Latch, WriteLock};
use crate::level::VerificationLevel;
use crate::provider::Provider;
use crate::readiness::Readiness;
use crate::region::read::{Check, ReadError};
use crate::region::repair::Repair;
use crate::region::write::WriteError;
use crate::region::{Opened, Region, RegionError, RegionSettings, Span};

/// How long a range [`AtomicMemoryOps::modify`] takes, in bytes; its copy is on the stack.
pub const MAX_MODIFY_BYTES: usize = 4096;

/// How often a reader copies without keeping writers out before it pins.
const ATTEMPTS: u32 = if cfg!(loom) { 1 } else { 4 };

/// Checked memory that threads share: writers one at a time, readers beside each other.
///
/// Each write is seen as a whole or not at all. What is written is tagged from the source on its
/// way; what is read is compared with its tag on its way. Every wait has a bound, and ends in a
/// typed error.
///
/// Neither `Clone` nor `PartialEq`: either would have to read two regions at once.
#[derive(Debug)]
pub struct AtomicMemoryOps<P> {
    region: Region<P>,
    latch: Latch,
}

/// Makes memory that threads share.
pub trait AtomicMemoryExt {
    /// Where the words live.
    type Provider: Provider;

    /// A region that threads share. A provider becomes one of zeros at level `Standard`; a handler
    /// keeps its bytes, tags and level.
    ///
    /// # Errors
    /// [`RegionError::Damaged`] if the handler's region is lost.
    fn into_atomic_ops(self) -> Result<AtomicMemoryOps<Self::Provider>, RegionError>;
}

impl<P: Provider> AtomicMemoryExt for P {
    type Provider = P;

    fn into_atomic_ops(self) -> Result<AtomicMemoryOps<P>, RegionError> {
        AtomicMemoryOps::new(self, RegionSettings::default())
    }
}

impl<P: Provider> AtomicMemoryExt for SafeMemoryHandler<P> {
    type Provider = P;

    fn into_atomic_ops(self) -> Result<AtomicMemoryOps<P>, RegionError> {
        let region = self.into_region();
        region.open()?;
        Ok(AtomicMemoryOps {
            region,
            latch: Latch::new(),
        })
    }
}

impl<P: Provider> AtomicMemoryOps<P> {
    /// A region of zeros.
    ///
    /// # Errors
    /// [`RegionError::NoMirror`] if the provider has no room for what level `Redundant` needs.
    pub fn new(provider: P, settings: RegionSettings) -> Result<Self, RegionError> {
        Ok(Self {
            region: Region::new(provider, settings)?,
            latch: Latch::new(),
        })
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
    /// [`WriteError::OutOfBounds`], [`WriteError::Busy`], [`WriteError::Pinned`],
    /// [`WriteError::Poisoned`], [`WriteError::Damaged`], and, at level `Full` and above,
    /// [`WriteError::Corrupt`].
    pub fn atomic_write_with_checksum(&self, offset: usize, data: &[u8]) -> Result<(), WriteError> {
        let opened = self.region.open()?;
        let span = opened.span(offset, data.len())?;
        let mut lock = match self.latch.lock_idle() {
            Some(lock) => lock,
            None => self.lock()?,
        };
        opened.check_writable(span)?;
        self.begin_storing(&mut lock)?;
        write_all(&opened, span, data)
    }

    /// Copies bytes inside the region, as if through a buffer: the two ranges may overlap.
    ///
    /// # Errors
    /// As [`atomic_write_with_checksum`](Self::atomic_write_with_checksum), and
    /// [`WriteError::Corrupt`] or [`WriteError::Unverified`] if the source is not intact. The
    /// destination is then unchanged, or poisoned.
    pub fn atomic_copy_within(&self, src: usize, dst: usize, len: usize) -> Result<(), WriteError> {
        let opened = self.region.open()?;
        let (from, to) = (opened.span(src, len)?, opened.span(dst, len)?);
        let mut lock = self.lock()?;
        self.begin_storing(&mut lock)?;
        copy_all(&opened, from, to)
    }

    /// Lets `change` work on a copy of at most [`MAX_MODIFY_BYTES`], and writes it back. The copy
    /// was checked at every level but `Off`. Other writers wait meanwhile, readers do not. If
    /// `change` panics nothing is written.
    ///
    /// # Errors
    /// [`WriteError::TooLong`], and as [`modify_in`](Self::modify_in).
    pub fn modify<T>(
        &self,
        offset: usize,
        len: usize,
        change: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, WriteError> {
        let mut copy = [0; MAX_MODIFY_BYTES];
        let Some(copy) = copy.get_mut(..len) else {
            return Err(WriteError::TooLong {
                len,
                limit: MAX_MODIFY_BYTES,
            });
        };
        self.modify_in(copy, offset, change)
    }

    /// As [`modify`](Self::modify), with the caller's buffer for the copy: as many bytes are
    /// modified as it has. No tag covers the copy while `change` works on it.
    ///
    /// # Errors
    /// As [`atomic_write_with_checksum`](Self::atomic_write_with_checksum), and
    /// [`WriteError::Corrupt`] or [`WriteError::Unverified`] if the bytes are not intact. Nothing is
    /// written then.
    pub fn modify_in<T>(
        &self,
        copy: &mut [u8],
        offset: usize,
        change: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, WriteError> {
        let opened = self.region.open()?;
        let span = opened.span(offset, copy.len())?;
        let mut lock = self.lock()?;
        opened.check_writable(span)?;
        opened.read_for_change(span, copy)?;
        let answer = change(copy);
        self.begin_storing(&mut lock)?;
        write_all(&opened, span, copy)?;
        Ok(answer)
    }

    /// Copies the bytes from `offset` on to `out`. On an error `out` is zero.
    ///
    /// # Errors
    /// [`ReadError::OutOfBounds`], [`ReadError::Contended`], [`ReadError::Damaged`], and what the
    /// level finds: `Corrupt`, `Poisoned`, `Unverified`. At level `Sampling` that may be about a
    /// block elsewhere in the region.
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), ReadError> {
        let (opened, span, check) = self.begin_read(offset, out)?;
        let first = self.attempt(|| opened.read(span, out, check));
        // Looked at in place: moving an error about costs more than a short read.
        if let Some(Ok(())) = first {
            return Ok(());
        }
        self.read_again(first, &opened, span, check, out)
    }

    /// What is left to do where the first attempt was disturbed, or found a fault.
    #[cold]
    #[inline(never)]
    fn read_again(
        &self,
        first: Option<Result<(), ReadError>>,
        opened: &Opened<'_, P>,
        span: Span,
        check: Check,
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        let result = match first {
            Some(result) => result,
            None => self
                .snapshot(|| opened.read(span, out, check))
                .and_then(|result| result),
        };
        result.inspect_err(|_| out.fill(0))
    }

    /// As [`read`](Self::read), in one attempt: [`Readiness::Ready`] or [`Readiness::NotReady`].
    ///
    /// # Errors
    /// As [`read`](Self::read), but for `Contended`.
    pub fn try_read(&self, offset: usize, out: &mut [u8]) -> Result<Readiness, ReadError> {
        self.read_until(offset, out, || true)
            .map(|readiness| match readiness {
                Readiness::Timeout => Readiness::NotReady,
                readiness => readiness,
            })
    }

    /// As [`read`](Self::read), in attempts without any wait until `expired` answers true:
    /// [`Readiness::Ready`] or [`Readiness::Timeout`]. The first attempt comes before the first
    /// look at the time.
    ///
    /// # Errors
    /// As [`read`](Self::read), but for `Contended`.
    pub fn read_until(
        &self,
        offset: usize,
        out: &mut [u8],
        mut expired: impl FnMut() -> bool,
    ) -> Result<Readiness, ReadError> {
        let (opened, span, check) = self.begin_read(offset, out)?;
        let mut round = 0;
        loop {
            let attempt = self.attempt(|| opened.read(span, out, check));
            if let Some(Ok(())) = attempt {
                return Ok(Readiness::Ready);
            }
            if let Some(Err(error)) = attempt {
                out.fill(0);
                return Err(error);
            }
            if expired() {
                out.fill(0);
                return Ok(Readiness::Timeout);
            }
            crate::atomic::relax(round);
            round = round.saturating_add(1);
        }
    }

    /// As [`read_until`](Self::read_until), by the monotonic clock.
    ///
    /// # Errors
    /// As [`read`](Self::read), but for `Contended`.
    #[cfg(feature = "std")]
    pub fn read_with_timeout(
        &self,
        offset: usize,
        out: &mut [u8],
        timeout: core::time::Duration,
    ) -> Result<Readiness, ReadError> {
        let start = std::time::Instant::now();
        self.read_until(offset, out, || start.elapsed() >= timeout)
    }

    /// Lends the bytes from `offset` on without a copy, checked as the level says. Writers wait as
    /// long as the guard lives, also one in the same thread.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`ReadError::TooManyGuards`].
    #[cfg(not(loom))]
    pub fn borrow_slice(
        &self,
        offset: usize,
        len: usize,
    ) -> Result<BorrowedSlice<'_, P>, ReadError> {
        let span = self.region.open()?.span(offset, len)?;
        let rounds = self.region.wait_rounds();
        let pin = self
            .latch
            .pin(rounds)
            .map_err(|contention| ReadError::waited(contention, rounds))?;
        BorrowedSlice::new(&self.region, span, pin)
    }

    /// Compares every block, whatever the level.
    ///
    /// # Errors
    /// The first fault, or [`ReadError::Contended`].
    pub fn verify_integrity(&self) -> Result<(), ReadError> {
        let blocks = self.region.open()?.blocks();
        (0..blocks).try_for_each(|block| self.verify_block(block))
    }

    /// What is wrong with each block that is not intact, in order. Compares a block when it is
    /// asked for.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if the region is lost. The iterator gives [`ReadError::Contended`] for
    /// a block that a writer keeps for as long as a wait may take, and goes on behind it.
    pub fn fault_map(
        &self,
    ) -> Result<impl Iterator<Item = Result<BlockFault, ReadError>>, ReadError> {
        let blocks = self.region.open()?.blocks();
        Ok(
            (0..blocks).filter_map(|block| match self.verify_block(block) {
                Ok(()) => None,
                Err(ReadError::Corrupt(corrupt)) => Some(Ok(BlockFault::Corrupt(corrupt))),
                Err(ReadError::Poisoned { block }) => Some(Ok(BlockFault::Poisoned { block })),
                Err(ReadError::Unverified { block }) => Some(Ok(BlockFault::Unverified { block })),
                Err(error) => Some(Err(error)),
            }),
        )
    }

    /// Puts a block right that has one flipped bit, or whose inverted copy is intact. Nothing is
    /// repaired unless this is called.
    ///
    /// # Errors
    /// [`WriteError::Corrupt`] if more is wrong than can be repaired, [`WriteError::Busy`],
    /// [`WriteError::Pinned`].
    pub fn repair(&self, block: usize) -> Result<Repair, WriteError> {
        let opened = self.region.open()?;
        let mut lock = self.lock()?;
        self.begin_storing(&mut lock)?;
        opened.repair(block)
    }

    /// How many blocks have been repaired.
    #[must_use]
    pub fn repaired_blocks(&self) -> u32 {
        self.region.repaired()
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn latch(&self) -> &Latch {
        &self.latch
    }

    #[inline(always)]
    fn begin_read(
        &self,
        offset: usize,
        out: &mut [u8],
    ) -> Result<(Opened<'_, P>, Span, Check), ReadError> {
        let begin = || {
            let opened = self.region.open()?;
            let span = opened.span(offset, out.len())?;
            let check = opened.next_check();
            Ok((opened, span, check))
        };
        begin().inspect_err(|_| out.fill(0))
    }

    fn verify_block(&self, block: usize) -> Result<(), ReadError> {
        self.snapshot(|| self.region.verify_block(block))?
    }

    /// What `take` sees while nobody stores.
    fn snapshot<T>(&self, mut take: impl FnMut() -> T) -> Result<T, ReadError> {
        for round in 0..ATTEMPTS {
            if let Some(taken) = self.attempt(&mut take) {
                return Ok(taken);
            }
            crate::atomic::relax(round);
        }
        let rounds = self.region.wait_rounds();
        let _pin = self
            .latch
            .pin(rounds)
            .map_err(|contention| ReadError::waited(contention, rounds))?;
        Ok(take())
    }

    /// What `take` sees, unless somebody stored meanwhile.
    #[inline(always)]
    fn attempt<T>(&self, take: impl FnOnce() -> T) -> Option<T> {
        let seen = self.latch.begin_read()?;
        let taken = take();
        self.latch.unchanged_since(seen).then_some(taken)
    }

    #[inline]
    fn lock(&self) -> Result<WriteLock<'_>, WriteError> {
        let rounds = self.region.wait_rounds();
        self.latch
            .lock(rounds)
            .map_err(|contention| WriteError::waited(contention, rounds))
    }

    #[inline]
    fn begin_storing(&self, lock: &mut WriteLock<'_>) -> Result<(), WriteError> {
        let rounds = self.region.wait_rounds();
        lock.begin_storing(rounds)
            .map_err(|contention| WriteError::waited(contention, rounds))
    }
}
