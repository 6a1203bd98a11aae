//! A mismatch between bytes and their tag.

/// Bytes at rest no longer match their tag.
///
/// When it is the length of a buffer that does not match, `block` is the number of blocks, `offset`
/// the length found and `len` zero. When it is the inverted copy of a region that does not match,
/// `expected` is what that copy gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "block {block} ({len} bytes at {offset}) is corrupt: tag {expected:#010x}, bytes give {found:#010x}"
)]
pub struct Corrupt {
    /// Index of the first block that does not match.
    pub block: usize,
    /// Where the block starts, in bytes.
    pub offset: usize,
    /// How long the block is, in bytes.
    pub len: usize,
    /// The tag at rest; the complement of `found` if the tag itself is missing.
    pub expected: u32,
    /// The tag recomputed over the bytes at rest.
    pub found: u32,
    /// True if a second look at the same bytes did not match either: the fault is in memory, not on
    /// the way from it.
    pub persistent: bool,
}
