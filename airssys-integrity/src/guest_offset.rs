//! Offsets as a 32-bit guest counts them.

/// An offset or a length in a guest's memory, in bytes.
///
/// ```
/// use airssys_integrity::GuestOffset;
///
/// let end = GuestOffset::new(0xFFFF_FFF0).plus(16);
/// assert!(end.is_err());
/// let at: usize = GuestOffset::new(65_536).plus(8)?.try_into()?;
/// assert_eq!(at, 65_544);
/// # Ok::<(), airssys_integrity::GuestOffsetError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestOffset(u32);

/// Why a guest's offset means nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuestOffsetError {
    /// The sum passes 4 GiB.
    #[error("{offset} and {more} bytes are more than a guest can address")]
    Overflow {
        /// The offset before.
        offset: u32,
        /// What was to be added.
        more: u32,
    },
    /// The target's pointers are too narrow for it.
    #[error("{offset} is more than this target can address")]
    TooLarge {
        /// The offset.
        offset: u32,
    },
}

impl GuestOffset {
    /// An offset that came from a guest.
    #[must_use]
    pub const fn new(offset: u32) -> Self {
        Self(offset)
    }

    /// The offset `more` bytes further on.
    ///
    /// # Errors
    /// [`GuestOffsetError::Overflow`] past 4 GiB.
    pub const fn plus(self, more: u32) -> Result<Self, GuestOffsetError> {
        match self.0.checked_add(more) {
            Some(offset) => Ok(Self(offset)),
            None => Err(GuestOffsetError::Overflow {
                offset: self.0,
                more,
            }),
        }
    }
}

impl From<u32> for GuestOffset {
    fn from(offset: u32) -> Self {
        Self(offset)
    }
}

impl TryFrom<GuestOffset> for usize {
    type Error = GuestOffsetError;

    fn try_from(GuestOffset(offset): GuestOffset) -> Result<Self, GuestOffsetError> {
        Self::try_from(offset).map_err(|_| GuestOffsetError::TooLarge { offset })
    }
}
