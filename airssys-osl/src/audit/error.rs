//! Why a log is not written or not read.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::PrivateError;

use super::chain::KEY_BYTES;
use super::finding::AuditFinding;

/// Why a log was not opened, for writing or for reading.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// There is no such directory to read.
    #[error("{} is no directory: {source}", path.display())]
    Missing {
        /// The directory asked for.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The directory or a file in it: not private, or the operating system refused.
    #[error(transparent)]
    Directory(#[from] PrivateError),
    /// Another writer has it.
    #[error("{} has a writer already", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// There is a log, and no key to it. Nothing of it can be proven without.
    #[error("{} is missing", path.display())]
    KeyMissing {
        /// The key's file.
        path: PathBuf,
    },
    /// The key is none.
    #[error("{} has {bytes} bytes, and a key has {KEY_BYTES}", path.display())]
    Key {
        /// The key's file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The operating system gave no randomness for a key.
    #[error("no randomness for a key: {0}")]
    Random(getrandom::Error),
    /// The log is damaged where it would be continued. It is left as it is: move the directory away
    /// to begin a new log.
    #[error("the log in {} is damaged: {}", path.display(), told(findings))]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        findings: Vec<AuditFinding>,
    },
    /// The first record could not be written.
    #[error(transparent)]
    Disk(#[from] AuditFailure),
    /// The operating system gave no thread for the writer.
    #[error("no thread for the writer: {0}")]
    Thread(io::Error),
}

fn told(findings: &[AuditFinding]) -> String {
    let first = findings.first().map(ToString::to_string);
    let first = first.unwrap_or_default();
    match findings.len() {
        0 | 1 => first,
        several => format!("{first}, and {} more", several - 1),
    }
}

/// Why records are not on disk.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AuditFailure {
    /// The segment does not take them.
    #[error("cannot write: {0}")]
    Write(Arc<io::Error>),
    /// The disk does not confirm them.
    #[error("cannot sync: {0}")]
    Sync(Arc<io::Error>),
    /// The head, or the next segment.
    #[error(transparent)]
    Directory(Arc<PrivateError>),
}

impl From<PrivateError> for AuditFailure {
    fn from(error: PrivateError) -> Self {
        Self::Directory(Arc::new(error))
    }
}

/// An entry that was not taken. The host call it is about must not take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditFull {
    /// As many entries or bytes wait as may.
    #[error("the audit log's queue is full")]
    Queue,
    /// The disk takes nothing at present: [`AuditLog::state`](crate::AuditLog::state) says why.
    #[error("the audit log cannot be written")]
    Disk,
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}

/// Entries that were accepted and are not on disk.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{entries} entries of the audit log are not on disk")]
pub struct Unsettled {
    /// How many.
    pub entries: u64,
    /// Why, where it is not for want of time.
    #[source]
    pub failure: Option<AuditFailure>,
}
