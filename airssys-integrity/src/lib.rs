#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod atomic;
mod atomic_ops;
mod block;
#[cfg(feature = "alloc")]
mod blocks;
#[cfg(not(loom))]
mod borrowed;
mod bounded_stack;
mod bounded_vec;
#[cfg(feature = "alloc")]
mod buffer;
mod cell;
mod corrupt;
mod crc32c;
mod fault;
#[cfg(feature = "alloc")]
mod free_list;
mod guest_offset;
mod handler;
mod latch;
mod level;
#[cfg(loom)]
pub mod model;
#[cfg(feature = "alloc")]
mod pool;
mod provider;
mod readiness;
mod region;
mod ring;
#[cfg(feature = "alloc")]
mod sealed;
#[cfg(feature = "alloc")]
mod views;

pub use atomic::AtomicWord;
pub use atomic_ops::{AtomicMemoryExt, AtomicMemoryOps, MAX_MODIFY_BYTES};
pub use block::BLOCK_BYTES;
#[cfg(feature = "alloc")]
pub use blocks::VerifyError;
#[cfg(not(loom))]
pub use borrowed::BorrowedSlice;
pub use bounded_stack::BoundedStack;
pub use bounded_vec::{AccessError, BoundedVec, PushError};
#[cfg(feature = "alloc")]
pub use buffer::{AppendError, BufferWriter, CheckedBuffer, VerifiedBytes};
pub use corrupt::Corrupt;
pub use crc32c::Crc32c;
pub use fault::{BlockFault, HeaderDamaged, OutOfBounds};
pub use guest_offset::{GuestOffset, GuestOffsetError};
pub use handler::SafeMemoryHandler;
pub use level::{SampleRate, VerificationLevel};
#[cfg(feature = "alloc")]
pub use pool::{
    AcquireError, FrozenBuffer, MessagePool, OnReturn, PoolError, PooledWriter, SizeClass,
};
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
pub use ring::{Consumer, InlineRing, Producer, RingRead, RingReadError, RingWriteError};
#[cfg(feature = "alloc")]
pub use ring::{HeapRing, RingError};
#[cfg(feature = "alloc")]
pub use sealed::{SealError, UnsealError};
#[cfg(feature = "alloc")]
pub use views::{LengthMismatch, Samples};

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
