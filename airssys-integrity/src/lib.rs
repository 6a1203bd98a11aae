#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod atomic;
mod atomic_ops;
mod block;
#[cfg(not(loom))]
mod borrowed;
#[cfg(feature = "alloc")]
mod buffer;
mod corrupt;
mod crc32c;
mod fault;
mod guest_offset;
mod handler;
mod latch;
mod level;
#[cfg(loom)]
pub mod model;
mod provider;
mod readiness;
mod region;

pub use atomic::AtomicWord;
pub use atomic_ops::{AtomicMemoryExt, AtomicMemoryOps, MAX_MODIFY_BYTES};
pub use block::BLOCK_BYTES;
#[cfg(not(loom))]
pub use borrowed::BorrowedSlice;
#[cfg(feature = "alloc")]
pub use buffer::{AppendError, BufferWriter, CheckedBuffer, VerifiedBytes};
pub use corrupt::Corrupt;
pub use crc32c::Crc32c;
pub use fault::{BlockFault, HeaderDamaged, OutOfBounds};
pub use guest_offset::{GuestOffset, GuestOffsetError};
pub use handler::SafeMemoryHandler;
pub use level::{SampleRate, VerificationLevel};
#[cfg(not(loom))]
pub use provider::NoStdProvider;
#[cfg(feature = "alloc")]
pub use provider::{AllocationFailed, StdProvider};
pub use provider::{Phase, Provider};
pub use readiness::Readiness;
pub use region::read::ReadError;
pub use region::repair::Repair;
pub use region::write::WriteError;
pub use region::{DEFAULT_WAIT_ROUNDS, RegionError, RegionSettings};

/// What shared memory needs in scope.
pub mod prelude {
    #[cfg(not(loom))]
    pub use crate::NoStdProvider;
    #[cfg(feature = "alloc")]
    pub use crate::StdProvider;
    pub use crate::{AtomicMemoryExt, AtomicMemoryOps, Provider, SafeMemoryHandler};
}

/// The snippets of the migration guide.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../../docs/migration.md")]
struct MigrationGuide;
