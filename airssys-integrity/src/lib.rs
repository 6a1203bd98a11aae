#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod block;
#[cfg(feature = "alloc")]
mod blocks;
mod bounded_stack;
mod bounded_vec;
#[cfg(feature = "alloc")]
mod buffer;
mod cell;
mod corrupt;
mod crc32c;
#[cfg(feature = "alloc")]
mod free_list;
mod level;
#[cfg(feature = "alloc")]
mod pool;
mod ring;
#[cfg(feature = "alloc")]
mod sealed;
#[cfg(feature = "alloc")]
mod views;

pub use block::BLOCK_BYTES;
#[cfg(feature = "alloc")]
pub use blocks::VerifyError;
pub use bounded_stack::BoundedStack;
pub use bounded_vec::{AccessError, BoundedVec, PushError};
#[cfg(feature = "alloc")]
pub use buffer::{AppendError, BufferWriter, CheckedBuffer, VerifiedBytes};
pub use corrupt::Corrupt;
pub use crc32c::Crc32c;
pub use level::{SampleRate, VerificationLevel};
#[cfg(feature = "alloc")]
pub use pool::{
    AcquireError, FrozenBuffer, MessagePool, OnReturn, PoolError, PooledWriter, SizeClass,
};
pub use ring::{Consumer, InlineRing, Producer, RingRead, RingReadError, RingWriteError};
#[cfg(feature = "alloc")]
pub use ring::{HeapRing, RingError};
#[cfg(feature = "alloc")]
pub use sealed::{SealError, UnsealError};
#[cfg(feature = "alloc")]
pub use views::{LengthMismatch, Samples};
