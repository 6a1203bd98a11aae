#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod block;
#[cfg(feature = "alloc")]
mod buffer;
#[cfg(feature = "alloc")]
mod corrupt;
mod crc32c;
mod level;

pub use block::BLOCK_BYTES;
#[cfg(feature = "alloc")]
pub use buffer::{AppendError, BufferWriter, CheckedBuffer, VerifiedBytes};
#[cfg(feature = "alloc")]
pub use corrupt::Corrupt;
pub use crc32c::Crc32c;
pub use level::{SampleRate, VerificationLevel};
