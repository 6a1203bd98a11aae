//! Memory inside the provider itself.
#![allow(
    unsafe_code,
    reason = "bytes are lent as words, and the trait is unsafe to implement"
)]

use super::Provider;
use crate::atomic::{AtomicU32, AtomicWord};
use crate::block::BLOCK_BYTES;
use core::fmt;
use core::sync::atomic::AtomicU8;

/// `N` bytes inside the value: on a stack, or in a field of something else.
///
/// `N` is a positive multiple of eight, and there is a tag for each 512 of them; both are checked
/// when the program is compiled. [`new`](Self::new) has 128 tags, enough for 64 KiB; a region that
/// is larger, or is not to carry more tags than it needs, names their count.
///
/// ```
/// use airssys_integrity::NoStdProvider;
///
/// let small = NoStdProvider::<4096>::new();
/// let exact = NoStdProvider::<1_048_576, 0, 2_048>::with_tags();
/// let mirrored = NoStdProvider::<4096, 4096>::mirrored();
/// ```
///
/// ```compile_fail
/// // Not a multiple of eight.
/// airssys_integrity::NoStdProvider::<1001>::new();
/// ```
///
/// ```compile_fail
/// // 128 tags are not enough.
/// airssys_integrity::NoStdProvider::<131_072>::new();
/// ```
#[repr(C, align(8))]
pub struct NoStdProvider<const N: usize, const MIRROR: usize = 0, const TAGS: usize = 128> {
    data: [AtomicU8; N],
    mirror: [AtomicU8; MIRROR],
    tags: [AtomicU32; TAGS],
}

impl<const N: usize> NoStdProvider<N> {
    /// `N` zero bytes, at most 64 KiB.
    #[must_use]
    pub const fn new() -> Self {
        Self::zeroed()
    }
}

impl<const N: usize> NoStdProvider<N, N> {
    /// `N` zero bytes, at most 64 KiB, and room for their inverted copy.
    #[must_use]
    pub const fn mirrored() -> Self {
        Self::zeroed()
    }
}

impl<const N: usize, const MIRROR: usize, const TAGS: usize> NoStdProvider<N, MIRROR, TAGS> {
    /// Evaluated for each size that a program uses, at compile time.
    const SIZES_FIT: () = {
        assert!(
            N > 0 && N.is_multiple_of(8),
            "N is a positive multiple of 8"
        );
        assert!(MIRROR == 0 || MIRROR == N, "MIRROR is 0 or N");
        assert!(N.div_ceil(BLOCK_BYTES) <= TAGS, "a tag for each 512 bytes");
    };

    /// `N` zero bytes with `TAGS` tags, and, if `MIRROR` is `N`, room for an inverted copy.
    #[must_use]
    pub const fn with_tags() -> Self {
        Self::zeroed()
    }

    const fn zeroed() -> Self {
        let () = Self::SIZES_FIT;
        Self {
            data: [const { AtomicU8::new(0) }; N],
            mirror: [const { AtomicU8::new(0) }; MIRROR],
            tags: [const { AtomicU32::new(0) }; TAGS],
        }
    }
}

/// The same memory in words.
fn words(bytes: &[AtomicU8]) -> &[AtomicWord] {
    let words = bytes.len() / size_of::<AtomicWord>();
    // SAFETY: both callers pass a field that starts at a multiple of eight: the first one of a
    // struct aligned to eight, and the one behind it, N bytes later. The words do not reach beyond
    // the bytes, and atomics of either size may be shared and hold any bits.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), words) }
}

// SAFETY: the fields are private and never replaced, and nothing else stores to them.
unsafe impl<const N: usize, const MIRROR: usize, const TAGS: usize> Provider
    for NoStdProvider<N, MIRROR, TAGS>
{
    fn len_bytes(&self) -> usize {
        N
    }

    #[inline(always)]
    fn words(&self) -> &[AtomicWord] {
        words(&self.data)
    }

    #[inline(always)]
    fn tags(&self) -> &[AtomicU32] {
        &self.tags
    }

    #[inline(always)]
    fn mirror(&self) -> Option<&[AtomicWord]> {
        (MIRROR == N).then(|| words(&self.mirror))
    }
}

impl<const N: usize> Default for NoStdProvider<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize, const MIRROR: usize, const TAGS: usize> fmt::Debug
    for NoStdProvider<N, MIRROR, TAGS>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoStdProvider")
            .field("len_bytes", &N)
            .field("mirrored", &(MIRROR == N))
            .finish_non_exhaustive()
    }
}
