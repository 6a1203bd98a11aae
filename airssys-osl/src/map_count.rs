//! How many memory mappings the kernel allows one process.

use std::io;
use std::num::ParseIntError;

/// Why the kernel's bound is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapCountError {
    /// The kernel does not tell.
    #[error("cannot read /proc/sys/vm/max_map_count: {0}")]
    Io(#[from] io::Error),
    /// The kernel's answer is not a number.
    #[error("/proc/sys/vm/max_map_count is not a number: {0}")]
    NotANumber(#[from] ParseIntError),
}

/// `vm.max_map_count`: mappings one process may hold. Past it, mmap and mprotect fail wherever
/// they are called next. `None` where the system has no such bound (not Linux).
///
/// # Errors
/// [`MapCountError`] when the kernel's answer cannot be read.
pub fn max_map_count() -> Result<Option<u64>, MapCountError> {
    if cfg!(target_os = "linux") {
        let text = std::fs::read_to_string("/proc/sys/vm/max_map_count")?;
        Ok(Some(text.trim().parse()?))
    } else {
        Ok(None)
    }
}
