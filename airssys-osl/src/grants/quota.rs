//! How much is in a directory, and how much may be.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

use super::directory::OpenDirectory;

/// What a file, directory or link is counted as beside its content, in bytes.
pub const ENTRY_BYTES: u64 = 512;

/// Most entries that are counted.
const MAX_ENTRIES: u64 = 1_000_000;

/// Most directories inside one another that are counted.
const MAX_DEPTH: usize = 128;

/// A directory would hold more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{used} bytes of {max} are used, and {asked} more were asked for")]
pub struct QuotaExceeded {
    /// Bytes in use.
    pub used: u64,
    /// Bytes there may be.
    pub max: u64,
    /// Bytes asked for.
    pub asked: u64,
}

impl From<QuotaExceeded> for io::Error {
    fn from(_: QuotaExceeded) -> Self {
        Self::from(rustix::io::Errno::DQUOT)
    }
}

/// Why what is in a directory could not be counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// The directory or something in it cannot be looked at.
    #[error("cannot count what is in the directory: {0}")]
    Read(#[from] io::Error),
    /// There is too much in it to count.
    #[error("more than 1000000 entries, or directories more than 128 deep")]
    TooMany,
}

/// How long a count is as good as a new one.
const RECOUNT_AFTER: Duration = Duration::from_millis(100);

/// What is in use of a directory. Whoever writes there charges it first; several may share it.
///
/// It only grows: what is freed, or was charged for bytes that replaced others, shows at the next
/// count, which whoever is refused may have made.
#[derive(Debug)]
pub struct Quota {
    directory: OpenDirectory,
    used: AtomicU64,
    counted: Mutex<Instant>,
}

impl Quota {
    /// Counts what is in a directory and below it. Follows no links. Blocks.
    ///
    /// # Errors
    /// [`QuotaError`].
    pub fn of(directory: OpenDirectory) -> Result<Self, QuotaError> {
        let used = count(&directory)?;
        Ok(Self {
            directory,
            used: AtomicU64::new(used),
            counted: Mutex::new(Instant::now()),
        })
    }

    /// Bytes in use, as far as is known.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes` of the `max` there may be.
    ///
    /// # Errors
    /// [`QuotaExceeded`]; nothing is taken.
    pub fn charge(&self, bytes: u64, max: u64) -> Result<(), QuotaExceeded> {
        let take = |used: u64| {
            used.checked_add(bytes)
                .filter(|sum| bytes == 0 || *sum <= max)
        };
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map(|_| ())
            .map_err(|used| QuotaExceeded {
                used,
                max,
                asked: bytes,
            })
    }

    /// Counts anew, unless that was done a tenth of a second ago. What is charged meanwhile is added.
    /// Blocks.
    ///
    /// # Errors
    /// [`QuotaError`]; the count stays as it was.
    pub fn recount(&self) -> Result<u64, QuotaError> {
        // Whoever comes while another counts waits for that count.
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.elapsed() >= RECOUNT_AFTER {
            let before = self.used();
            let found = count(&self.directory)?;
            let meanwhile = |used: u64| Some(found.saturating_add(used.saturating_sub(before)));
            // It cannot fail: the closure always gives a value.
            let _ = self
                .used
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, meanwhile);
            *counted = Instant::now();
        }
        Ok(self.used())
    }
}

fn count(directory: &OpenDirectory) -> Result<u64, QuotaError> {
    let linked = count_linked(directory)?;
    Ok(linked.saturating_add(count_unlinked(directory)?))
}

/// Files of this process that lie in the directory, are open, and have been removed: their bytes are
/// in use until they are closed.
fn count_unlinked(directory: &OpenDirectory) -> io::Result<u64> {
    let mut bytes = 0u64;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        let below = |to: PathBuf| to.starts_with(directory.real_path());
        // One that is closed meanwhile holds nothing.
        if !std::fs::read_link(&path).is_ok_and(below) {
            continue;
        }
        if let Ok(found) = std::fs::metadata(&path)
            && found.is_file()
            && found.nlink() == 0
        {
            bytes = bytes.saturating_add(found.len());
        }
    }
    Ok(bytes)
}

fn count_linked(directory: &OpenDirectory) -> Result<u64, QuotaError> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let enter =
        |folder: BorrowedFd<'_>, name: &CStr| match openat(folder, name, flags, Mode::empty()) {
            Ok(inner) => Dir::new(inner).map(Some).map_err(io::Error::from),
            // Gone since.
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(io::Error::from(error)),
        };
    // By handle, not by path: nothing that is renamed meanwhile leads elsewhere.
    let mut open: Vec<Dir> = enter(directory.handle().as_fd(), c".")?
        .into_iter()
        .collect();
    let (mut bytes, mut entries) = (0u64, 0u64);
    loop {
        let depth = open.len();
        let Some(current) = open.last_mut() else {
            return Ok(bytes);
        };
        let Some(entry) = current.read() else {
            open.pop();
            continue;
        };
        let entry = entry.map_err(io::Error::from)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        entries += 1;
        let folder = current.fd().map_err(io::Error::from)?;
        let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => continue,
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let content = match kind {
            FileType::RegularFile => u64::try_from(stat.st_size).unwrap_or(0),
            _ => 0,
        };
        bytes = bytes.saturating_add(content).saturating_add(ENTRY_BYTES);
        if entries > MAX_ENTRIES || depth > MAX_DEPTH {
            return Err(QuotaError::TooMany);
        }
        if kind == FileType::Directory {
            let inner = enter(folder, name)?;
            open.extend(inner);
        }
    }
}
