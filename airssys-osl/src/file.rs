//! Reading a file that somebody else named: never a pipe or a device, never more than a bound.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

mod identity;

pub use identity::FileIdentity;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It is not there.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The file asked for.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is a directory, a pipe, a socket or a device, which could block or never end.
    #[error("{} is not a regular file", path.display())]
    NotRegular {
        /// The file asked for.
        path: PathBuf,
    },
    /// It is larger than what the caller accepts.
    #[error("{} is larger than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// The file asked for.
        path: PathBuf,
        /// Most bytes the caller accepts.
        limit_bytes: u64,
    },
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file asked for.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Reads the whole of a regular file of at most `limit_bytes` bytes.
///
/// # Errors
/// [`ReadError`]; a file that grows while it is read ends in [`ReadError::TooLarge`].
pub fn read_regular_file(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
    read_identified_file(path, limit_bytes).map(|(bytes, _)| bytes)
}

/// As [`read_regular_file`], with what the file is known by afterwards; `None` where it changed
/// while it was read, or where [`FileIdentity`] does not tell.
///
/// # Errors
/// As [`read_regular_file`].
pub fn read_identified_file(
    path: &Path,
    limit_bytes: u64,
) -> Result<(Vec<u8>, Option<FileIdentity>), ReadError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ReadError::Missing {
            path: path.to_path_buf(),
            source,
        },
        _ => ReadError::Io {
            path: path.to_path_buf(),
            source,
        },
    };
    // The type is asked before opening: opening a pipe would wait for its other end.
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err(ReadError::NotRegular {
            path: path.to_path_buf(),
        });
    }
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(failed)?;
    let before = FileIdentity::of_open(&file);
    (&mut file)
        .take(limit_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(ReadError::TooLarge {
            path: path.to_path_buf(),
            limit_bytes,
        });
    }
    let unchanged = before.filter(|before| FileIdentity::of_open(&file).as_ref() == Some(before));
    Ok((bytes, unchanged))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed set-up should fail the test")]

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_whose_stamps_are_not_the_disks_has_no_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "here").unwrap();
        let (_, found) = read_identified_file(&path, 10).unwrap();
        assert_eq!(found, FileIdentity::at(&path));
        assert!(found.is_some());
        // Looks like a regular file, and has the same stamps at each look.
        let version = Path::new("/proc/version");
        assert_eq!(FileIdentity::at(version), FileIdentity::at(version));
        let (bytes, found) = read_identified_file(version, 10_000).unwrap();
        assert!(!bytes.is_empty() && found.is_none());
    }

    #[test]
    fn a_file_at_its_bound_is_read_and_one_byte_more_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, [7; 10]).unwrap();
        assert_eq!(read_regular_file(&path, 10).unwrap(), [7; 10]);
        assert!(matches!(
            read_regular_file(&path, 9),
            Err(ReadError::TooLarge { limit_bytes: 9, .. })
        ));
    }

    #[test]
    fn a_device_without_end_is_refused_and_not_read() {
        assert!(matches!(
            read_regular_file(Path::new("/dev/zero"), 1024),
            Err(ReadError::NotRegular { .. })
        ));
    }

    #[test]
    fn a_missing_file_is_told_apart_from_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            read_regular_file(&dir.path().join("none"), 1),
            Err(ReadError::Missing { .. })
        ));
        assert!(matches!(
            read_regular_file(dir.path(), 1),
            Err(ReadError::NotRegular { .. })
        ));
    }
}
