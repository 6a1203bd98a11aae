//! Memory on the heap.
#![allow(unsafe_code, reason = "the trait is unsafe to implement")]

use super::Provider;
use crate::atomic::{AtomicU32, AtomicWord, LANE_WORDS};
use crate::block::BLOCK_BYTES;
use alloc::boxed::Box;
use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::fmt;

/// The allocator has no room for a region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no memory for a region of {len_bytes} bytes")]
pub struct AllocationFailed {
    /// How long the region was to be, in bytes.
    pub len_bytes: usize,
    /// What the allocator said.
    pub source: TryReserveError,
}

/// Bytes on the heap, allocated once.
pub struct StdProvider {
    len_bytes: usize,
    words: Box<[AtomicWord]>,
    tags: Box<[AtomicU32]>,
    mirror: Option<Box<[AtomicWord]>>,
}

impl StdProvider {
    /// `len_bytes` zero bytes.
    ///
    /// # Errors
    /// [`AllocationFailed`] if the allocator has no room for them and their tags.
    pub fn new(len_bytes: usize) -> Result<Self, AllocationFailed> {
        let allocate = || {
            Ok(Self {
                len_bytes,
                words: zeros(lane_words(len_bytes), AtomicWord::default)?,
                tags: zeros(len_bytes.div_ceil(BLOCK_BYTES), AtomicU32::default)?,
                mirror: None,
            })
        };
        allocate().map_err(|source| AllocationFailed { len_bytes, source })
    }

    /// `len_bytes` zero bytes, and room for their inverted copy.
    ///
    /// # Errors
    /// [`AllocationFailed`] if the allocator has no room for them twice and their tags.
    pub fn mirrored(len_bytes: usize) -> Result<Self, AllocationFailed> {
        let mut provider = Self::new(len_bytes)?;
        let mirror = zeros(lane_words(len_bytes), AtomicWord::default)
            .map_err(|source| AllocationFailed { len_bytes, source })?;
        provider.mirror = Some(mirror);
        Ok(provider)
    }
}

/// Words in whole lanes.
fn lane_words(len_bytes: usize) -> usize {
    len_bytes.div_ceil(8) * LANE_WORDS
}

fn zeros<T>(count: usize, zero: fn() -> T) -> Result<Box<[T]>, TryReserveError> {
    let mut items = Vec::new();
    items.try_reserve_exact(count)?;
    items.resize_with(count, zero);
    Ok(items.into_boxed_slice())
}

// SAFETY: the fields are private and never replaced, and nothing else stores to them.
unsafe impl Provider for StdProvider {
    fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    #[inline(always)]
    fn words(&self) -> &[AtomicWord] {
        &self.words
    }

    #[inline(always)]
    fn tags(&self) -> &[AtomicU32] {
        &self.tags
    }

    #[inline(always)]
    fn mirror(&self) -> Option<&[AtomicWord]> {
        self.mirror.as_deref()
    }
}

impl fmt::Debug for StdProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdProvider")
            .field("len_bytes", &self.len_bytes)
            .field("mirrored", &self.mirror.is_some())
            .finish_non_exhaustive()
    }
}
