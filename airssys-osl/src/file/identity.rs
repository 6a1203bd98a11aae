//! What tells whether a file is the one it was, without reading it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How far the clock that files are stamped by lags behind, at most: two ticks of a kernel with a
/// hundred a second.
const STAMP_LAG: Duration = Duration::from_millis(20);

/// The same where a stamp has whole seconds only, as ext3 and ext4 with small inodes have it.
const WHOLE_SECONDS_LAG: Duration = Duration::from_secs(2);

/// Which file it is, and in what state: device, inode, length, and when content and inode were
/// changed last. Told of file systems of this machine alone (btrfs, ext, F2FS, overlayfs, tmpfs,
/// XFS): others may answer from a cache, or not for a while.
///
/// Nobody can set the time at which an inode was changed, so any write by `write`, `truncate` or
/// `rename` makes another identity, unless it comes within [`FileIdentity::lag`] of the change
/// before. What is written through a mapping is seen when the kernel takes note of it, which may be
/// when it writes the pages out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileIdentity {
    /// Of the regular file at `path`. Asks for its metadata and no more: it does not ask which file
    /// system it is on, which [`read_identified_file`](crate::read_identified_file) has done for
    /// what it returns.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        found.is_file().then(|| Self::from(&found))
    }

    /// How much time must lie between two looks at the same identity for nothing to have changed in
    /// between. A change that comes sooner may carry the stamp of the one before.
    #[must_use]
    pub fn lag(&self) -> Duration {
        match self.changed {
            (_, 0) => WHOLE_SECONDS_LAG,
            _ => STAMP_LAG,
        }
    }

    pub(super) fn of_open(file: &File) -> Option<Self> {
        let found = file.metadata().ok()?;
        is_local(file).then(|| Self::from(&found))
    }
}

impl From<&fs::Metadata> for FileIdentity {
    fn from(found: &fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// Whether it is on a file system whose stamps are this kernel's own.
#[cfg(target_os = "linux")]
fn is_local(file: &File) -> bool {
    // From linux/magic.h: btrfs, ext, F2FS, overlayfs, tmpfs, XFS.
    const LOCAL: [u64; 6] = [
        0x9123_683e,
        0xef53,
        0xf2f5_2010,
        0x794c_7630,
        0x0102_1994,
        0x5846_5342,
    ];
    rustix::fs::fstatfs(file)
        .is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| LOCAL.contains(&kind)))
}

#[cfg(not(target_os = "linux"))]
fn is_local(_: &File) -> bool {
    false
}
