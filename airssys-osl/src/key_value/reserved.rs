//! The store's file, whose disk is its own before it is written.
//!
//! Without that the file would grow by holes, and on a full disk not even a deletion could be
//! written: it takes new pages before it gives the old ones back.

use std::fs::File;
use std::io;
use std::ops::Bound;

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

#[derive(Debug)]
pub(super) struct Reserved {
    inner: FileBackend,
    /// The same open file, for what the other one does not offer.
    file: File,
}

impl Reserved {
    pub(super) fn new(file: File) -> Result<Self, DatabaseError> {
        Ok(Self {
            file: file.try_clone()?,
            inner: FileBackend::new(file)?,
        })
    }
}

/// Takes the disk for a file that grows to `len` bytes, or leaves it as it was.
#[cfg(target_os = "linux")]
fn reserve(file: &File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;

    let before = file.metadata()?.len();
    if len <= before {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), before, len - before) {
        // A file system that cannot; then it grows by holes.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => {
            // Part of it may have been taken.
            file.set_len(before)?;
            Err(error.into())
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}

impl StorageBackend for Reserved {
    fn set_len(&self, len: u64) -> io::Result<()> {
        reserve(&self.file, len)?;
        self.inner.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
