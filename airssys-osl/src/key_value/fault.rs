//! Why a store does not open, and why an operation on it was refused.

use std::io;
use std::sync::Arc;

use crate::private_directory::PrivateError;

/// Why the store's file does not serve. After a write that ends so, what it would have written is
/// there whole or not at all.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum KeyValueFault {
    /// The disk is full, or the file as long as this user or process may have it. What was
    /// answered before is kept; writes are tried again.
    #[error("no room on the disk for the store: {source}")]
    NoRoom {
        /// What the database said.
        source: Arc<redb::Error>,
    },
    /// What is in the file was not written by a store, or has changed since.
    #[error("the store is damaged: {source}")]
    Damaged {
        /// What the database said.
        source: Arc<redb::Error>,
    },
    /// The database panicked, as it may over a file that was changed while it was open.
    #[error("the store's database panicked")]
    Panicked,
    /// The operating system or the database refused.
    #[error("the store does not answer: {source}")]
    Other {
        /// What the database said.
        source: Arc<redb::Error>,
    },
    /// The store was dropped.
    #[error("the store is closed")]
    Closed,
}

impl KeyValueFault {
    pub(super) fn new(error: redb::Error) -> Self {
        let full = |error: &io::Error| {
            use io::ErrorKind as Kind;
            matches!(
                error.kind(),
                Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge
            )
        };
        let source = Arc::new(error);
        match &*source {
            redb::Error::Io(error) if full(error) => Self::NoRoom { source },
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Damaged { source }
            }
            redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::RepairAborted
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. } => Self::Damaged { source },
            _ => Self::Other { source },
        }
    }

    /// Whether opening the file once more may help.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::NoRoom { .. } | Self::Other { .. })
    }
}

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyValueOpenError {
    /// The directory or the file is not private, or cannot be had.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// Another store has the file, in this process or in another one.
    #[error("the store is in use")]
    InUse,
    /// The file does not serve.
    #[error(transparent)]
    Store(#[from] KeyValueFault),
    /// The thread that writes was not started.
    #[error("cannot start the thread of the store: {source}")]
    Thread {
        /// What the operating system said.
        source: io::Error,
    },
}

/// Why an operation on a space was refused. Nothing was written, unless by [`Self::Store`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum KeyValueError {
    /// A component's or bucket's name is empty or too long.
    #[error("a name of {bytes} bytes, where 1 to {max} may be")]
    NameLength {
        /// Its length in bytes.
        bytes: usize,
        /// [`super::KeyValueSpace::MAX_NAME_BYTES`].
        max: usize,
    },
    /// A key, prefix or cursor is too long.
    #[error("a key of {bytes} bytes, where at most {max} may be")]
    KeyTooLong {
        /// Its length in bytes.
        bytes: usize,
        /// [`super::KeyValueSpace::MAX_KEY_BYTES`].
        max: usize,
    },
    /// A value is too large.
    #[error("a value of {bytes} bytes, where at most {max} may be")]
    ValueTooLarge {
        /// Its length in bytes.
        bytes: usize,
        /// [`super::KeyValueSpace::MAX_VALUE_BYTES`].
        max: usize,
    },
    /// An operation on more keys than one may name.
    #[error("{keys} keys at once, where at most {max} may be")]
    TooManyKeys {
        /// Keys named.
        keys: usize,
        /// [`super::KeyValueSpace::MAX_BATCH_KEYS`].
        max: usize,
    },
    /// The keys and values of an operation on several are more than one may ask or be answered.
    #[error("more than {max} bytes at once")]
    BatchTooLarge {
        /// [`super::KeyValueSpace::MAX_BATCH_BYTES`].
        max: usize,
    },
    /// The component would hold more than it may.
    #[error("{asked} bytes more would exceed the quota of {quota} bytes, {used} are used")]
    QuotaExceeded {
        /// Most bytes the component may hold.
        quota: u64,
        /// Bytes it holds.
        used: u64,
        /// Bytes the write would add.
        asked: u64,
    },
    /// All components together would hold more than the store may.
    #[error("{asked} bytes more would exceed the store's {max} bytes, {used} are used")]
    StoreFull {
        /// Most bytes of all components together.
        max: u64,
        /// Bytes they hold.
        used: u64,
        /// Bytes the write would add.
        asked: u64,
    },
    /// The value to count up is no decimal number of 64 bits.
    #[error("the value is not a number")]
    NotANumber,
    /// The sum is no number of 64 bits.
    #[error("{value} and {delta} are more than 64 bits hold")]
    OutOfRange {
        /// What is stored.
        value: i64,
        /// What was to be added.
        delta: i64,
    },
    /// Too many writes wait for the disk; the caller may try again.
    #[error("too many writes wait for the disk")]
    Busy,
    /// The store does not serve.
    #[error(transparent)]
    Store(#[from] KeyValueFault),
}
