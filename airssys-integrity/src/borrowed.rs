//! Bytes of a shared region, lent without a copy.
#![allow(unsafe_code, reason = "words are lent as bytes")]

use crate::handler::lend;
use crate::latch::Pin;
use crate::provider::Provider;
use crate::region::read::{Check, ReadError};
use crate::region::{Region, Span};
use core::fmt;
use core::ops::Deref;

/// Bytes of a region, checked when they were borrowed. Any number of threads may borrow at once;
/// writers wait until all guards are gone.
///
/// A fault that strikes while the guard lives is seen by [`data`](Self::data) and
/// [`finish`](Self::finish), not by the bytes that `Deref` lends.
pub struct BorrowedSlice<'a, P: Provider> {
    region: &'a Region<P>,
    span: Span,
    check: Check,
    _pin: Pin<'a>,
}

impl<'a, P: Provider> BorrowedSlice<'a, P> {
    pub(crate) fn new(region: &'a Region<P>, span: Span, pin: Pin<'a>) -> Result<Self, ReadError> {
        let opened = region.open()?;
        let check = opened.next_check();
        opened.verify(span, check)?;
        // What is looked at once more later on is what the bytes lie in.
        let check = match check {
            Check::CoveredAnd(_) => Check::Covered,
            check => check,
        };
        Ok(Self {
            region,
            span,
            check,
            _pin: pin,
        })
    }

    /// The bytes, after they were checked once more.
    ///
    /// # Errors
    /// As [`borrow_slice`](crate::AtomicMemoryOps::borrow_slice).
    pub fn data(&self) -> Result<&[u8], ReadError> {
        self.recheck()?;
        Ok(self)
    }

    /// Checks the bytes once more and gives them back: what was read since they were borrowed was
    /// intact.
    ///
    /// # Errors
    /// As [`borrow_slice`](crate::AtomicMemoryOps::borrow_slice).
    pub fn finish(self) -> Result<(), ReadError> {
        self.recheck()
    }

    fn recheck(&self) -> Result<(), ReadError> {
        self.region.open()?.verify(self.span, self.check)
    }
}

impl<P: Provider> Deref for BorrowedSlice<'_, P> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the span was checked against the region's length, and writers wait for the pin.
        unsafe { lend(self.region.provider(), self.span) }
    }
}

impl<P: Provider> fmt::Debug for BorrowedSlice<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BorrowedSlice")
            .field("offset", &self.span.offset)
            .field("len", &self.span.len)
            .finish_non_exhaustive()
    }
}
