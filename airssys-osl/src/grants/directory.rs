//! Directories that a component may enter.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use super::policy::{Excess, Policy};

/// Most directories of one component.
pub const MAX_DIRECTORIES: usize = 16;

/// What may be done in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryAccess {
    /// Look and read.
    Read,
    /// Whatever, within a quota: bytes of the files in it and below, and
    /// [`ENTRY_BYTES`](super::ENTRY_BYTES) for each of them.
    ReadWrite {
        /// Most of them.
        max_bytes: u64,
    },
}

/// A directory that a component may enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryGrant {
    /// Where it is on the host.
    pub host: PathBuf,
    /// What the component knows it as.
    pub guest: String,
    /// What may be done in it.
    pub access: DirectoryAccess,
}

/// A text that is no path for a guest to know a directory by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a guest's path is absolute, at most 256 bytes, and holds no `.`, `..` or empty part")]
pub struct GuestPathError;

/// Why a directory was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It is not there, not a directory, or not to be entered.
    #[error("cannot open the directory {}: {source}", path.display())]
    Open {
        /// Where it was looked for.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The policy does not allow it.
    #[error(transparent)]
    Excess(#[from] Excess),
}

/// A directory that was opened, and that stays the one it is whatever becomes of its path.
#[derive(Debug)]
pub struct OpenDirectory {
    handle: File,
    real: PathBuf,
}

impl OpenDirectory {
    /// The handle, good for finding things in the directory and for nothing else.
    #[must_use]
    pub fn handle(&self) -> &File {
        &self.handle
    }

    /// Where it was when it was opened, without links.
    #[must_use]
    pub fn real_path(&self) -> &Path {
        &self.real
    }

    /// A path that leads to this directory for as long as this value lives, whatever has become of
    /// the path it was opened by.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        handle_path(&self.handle)
    }
}

fn handle_path(handle: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

impl DirectoryGrant {
    /// Opens the directory, if the policy allows it where it really is. Blocks.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn open(&self, policy: &Policy) -> Result<OpenDirectory, DirectoryError> {
        let failed = |source: io::Error| DirectoryError::Open {
            path: self.host.clone(),
            source,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle =
            open(&self.host, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let handle = File::from(handle);
        let real = std::fs::read_link(handle_path(&handle)).map_err(failed)?;
        policy.directory(self, &real)?;
        Ok(OpenDirectory { handle, real })
    }

    /// Whether a guest may know a directory by this path.
    ///
    /// # Errors
    /// [`GuestPathError`].
    pub fn check_guest_path(path: &str) -> Result<(), GuestPathError> {
        let part = |part: &str| !matches!(part, "" | "." | "..");
        let fits = match path.strip_prefix('/') {
            Some("") => true,
            Some(rest) => rest.split('/').all(part),
            None => false,
        };
        match fits && path.len() <= 256 && !path.contains(['\0', '"', '\\']) {
            true => Ok(()),
            false => Err(GuestPathError),
        }
    }
}
