//! Verified bytes as fixed blocks or as samples.

use crate::VerifiedBytes;

/// The bytes are no whole number of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes are not a whole number of {item_bytes}-byte items")]
pub struct LengthMismatch {
    /// How many bytes there are.
    pub len: usize,
    /// How many bytes an item takes.
    pub item_bytes: usize,
}

impl<'a> VerifiedBytes<'a> {
    /// The bytes as blocks of `N`, in place. Blocks of no bytes do not compile.
    ///
    /// # Errors
    /// [`LengthMismatch`] if the last block would be short.
    pub fn as_blocks<const N: usize>(self) -> Result<&'a [[u8; N]], LengthMismatch> {
        const { assert!(N > 0, "a block has at least one byte") };
        match self.as_slice().as_chunks() {
            (blocks, []) => Ok(blocks),
            _ => Err(self.mismatch(N)),
        }
    }

    /// The bytes as `f32` samples, little-endian.
    ///
    /// # Errors
    /// [`LengthMismatch`] if the last sample would be short.
    pub fn as_samples(self) -> Result<Samples<'a>, LengthMismatch> {
        match self.as_slice().as_chunks() {
            (samples, []) => Ok(Samples { samples }),
            _ => Err(self.mismatch(size_of::<f32>())),
        }
    }

    fn mismatch(self, item_bytes: usize) -> LengthMismatch {
        LengthMismatch {
            len: self.len(),
            item_bytes,
        }
    }
}

/// `f32` samples in the bytes of a message, which are little-endian wherever they are read. The
/// bits of a NaN stay as they are.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    samples: &'a [[u8; 4]],
}

impl<'a> Samples<'a> {
    /// How many samples there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.samples.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.samples.is_empty()
    }

    /// The sample at `index`.
    #[must_use]
    pub fn get(self, index: usize) -> Option<f32> {
        self.samples.get(index).copied().map(f32::from_le_bytes)
    }

    /// All samples in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = f32> + 'a {
        self.samples.iter().copied().map(f32::from_le_bytes)
    }

    /// All samples in place; `None` where a copy would be needed: on a big-endian target, or for
    /// bytes at an address that no `f32` can have. A whole message always has one that can.
    #[must_use]
    pub fn as_slice(self) -> Option<&'a [f32]> {
        if cfg!(target_endian = "big") {
            return None;
        }
        bytemuck::try_cast_slice(self.samples).ok()
    }
}
