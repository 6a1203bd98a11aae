//! A message as bytes for storage or a socket, its tags among them.
//!
//! Layout, all numbers little-endian: `"AISM"`, version 1 as `u32`, length as `u64`, CRC32C of
//! these 16 bytes as `u32`; then each block of at most 512 bytes, behind it its tag as `u32`. The
//! tag is the CRC32C over the block's index as `u64` and the block.

use crate::block::{self, BLOCK_BYTES};
use crate::blocks::{Blocks, VerifyError};
use crate::buffer::{AppendError, BufferWriter, CheckedBuffer};
use crate::pool::FrozenBuffer;
use crate::{Corrupt, Crc32c};
use core::hint::black_box;
#[cfg(feature = "std")]
use std::io;

const MAGIC: [u8; 4] = *b"AISM";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 20;
const TAG_BYTES: usize = size_of::<u32>();

/// Why a message was not sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The message is corrupt, or has no tags to carry.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The destination is too short.
    #[error("the sealed message takes {needed} bytes, the destination has {len}")]
    TooShort {
        /// Length of the sealed message, in bytes.
        needed: usize,
        /// Length of the destination, in bytes.
        len: usize,
    },
    /// The destination took only some of it.
    #[cfg(feature = "std")]
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why there is no message in some bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnsealError {
    /// The bytes do not start as a sealed message does.
    #[error("not a sealed message")]
    NotSealed,
    /// The header does not match its CRC.
    #[error("corrupt header: crc {expected:#010x}, bytes give {found:#010x}")]
    CorruptHeader {
        /// The CRC it came with.
        expected: u32,
        /// The CRC of the bytes that came.
        found: u32,
    },
    /// A version of the layout that this crate does not know.
    #[error("version {found} of the layout is not known")]
    UnknownVersion {
        /// The version the header names.
        found: u32,
    },
    /// The message exceeds the limit of the writer. Nothing was allocated for it.
    #[error("{len} bytes exceed the limit of {limit} bytes")]
    TooLarge {
        /// The most the writer takes, in bytes.
        limit: usize,
        /// The length that the header names, in bytes.
        len: u64,
    },
    /// The bytes end before the message does.
    #[error("the sealed message ends after {len} bytes")]
    Truncated {
        /// How many bytes there are.
        len: usize,
    },
    /// Bytes follow the message.
    #[error("{extra} bytes follow the sealed message")]
    TrailingBytes {
        /// How many.
        extra: usize,
    },
    /// A block does not match its tag.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The writer did not take a block.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The source could not be read.
    #[cfg(feature = "std")]
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CheckedBuffer {
    /// How many bytes the message takes when it is sealed.
    #[must_use]
    pub fn sealed_len(&self) -> usize {
        self.blocks().sealed_len()
    }

    /// Puts the message and its tags at the start of `destination`; gives how many bytes they
    /// take. Every block is checked first.
    ///
    /// # Errors
    /// [`SealError::Verify`] if the message is corrupt or was written without tags,
    /// [`SealError::TooShort`] if `destination` has no room for it.
    pub fn seal(&self, destination: &mut [u8]) -> Result<usize, SealError> {
        self.blocks().seal(destination)
    }

    /// Writes the message and its tags to `destination`. Every block is checked first.
    ///
    /// # Errors
    /// [`SealError::Verify`] if the message is corrupt or was written without tags,
    /// [`SealError::Io`] if `destination` did not take all of it.
    #[cfg(feature = "std")]
    pub fn seal_to(&self, destination: impl io::Write) -> Result<(), SealError> {
        self.blocks().seal_to(destination)
    }
}

impl FrozenBuffer {
    /// As [`CheckedBuffer::sealed_len`].
    #[must_use]
    pub fn sealed_len(&self) -> usize {
        self.blocks().sealed_len()
    }

    /// As [`CheckedBuffer::seal`].
    ///
    /// # Errors
    /// Those of [`CheckedBuffer::seal`].
    pub fn seal(&self, destination: &mut [u8]) -> Result<usize, SealError> {
        self.blocks().seal(destination)
    }

    /// As [`CheckedBuffer::seal_to`].
    ///
    /// # Errors
    /// Those of [`CheckedBuffer::seal_to`].
    #[cfg(feature = "std")]
    pub fn seal_to(&self, destination: impl io::Write) -> Result<(), SealError> {
        self.blocks().seal_to(destination)
    }
}

impl Blocks {
    fn sealed_len(&self) -> usize {
        let tags = self.len().div_ceil(BLOCK_BYTES).saturating_mul(TAG_BYTES);
        (HEADER_BYTES + self.len()).saturating_add(tags)
    }

    fn seal(&self, destination: &mut [u8]) -> Result<usize, SealError> {
        let (needed, len) = (self.sealed_len(), destination.len());
        let mut rest = destination
            .get_mut(..needed)
            .ok_or(SealError::TooShort { needed, len })?;
        self.seal_parts(|part| {
            // `needed` is the sum of all parts.
            if let Some(slot) = rest.split_off_mut(..part.len()) {
                slot.copy_from_slice(part);
            }
            Ok(())
        })?;
        Ok(needed)
    }

    #[cfg(feature = "std")]
    fn seal_to(&self, mut destination: impl io::Write) -> Result<(), SealError> {
        self.seal_parts(|part| Ok(destination.write_all(part)?))
    }

    /// The tags that were taken from the source go out with the bytes, so a flip that comes
    /// between the check and the write is found where they are read.
    fn seal_parts(
        &self,
        mut put: impl FnMut(&[u8]) -> Result<(), SealError>,
    ) -> Result<(), SealError> {
        let bytes = self.verify()?;
        put(&header(bytes.len() as u64))?;
        for (index, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            put(block)?;
            let tag = self.unsalted_tag(index).ok_or(VerifyError::Unverified)?;
            put(&tag.to_le_bytes())?;
        }
        Ok(())
    }
}

impl BufferWriter {
    /// The message in `bytes`, which end with it. What has been appended before is dropped.
    ///
    /// The tags of the buffer are taken from `bytes` and compared with those among them.
    ///
    /// # Errors
    /// [`UnsealError`] says what is wrong with the bytes.
    pub fn unseal(self, bytes: &[u8]) -> Result<CheckedBuffer, UnsealError> {
        let mut rest = bytes;
        let buffer = self.unseal_parts(|part| {
            let truncated = UnsealError::Truncated { len: bytes.len() };
            let (taken, later) = rest.split_at_checked(part.len()).ok_or(truncated)?;
            part.copy_from_slice(taken);
            rest = later;
            Ok(())
        })?;
        match rest.len() {
            0 => Ok(buffer),
            extra => Err(UnsealError::TrailingBytes { extra }),
        }
    }

    /// The next message of `source`, which may go on after it. Memory is taken as bytes come.
    ///
    /// # Errors
    /// [`UnsealError`] says what is wrong with the bytes; an end before the end of the message is
    /// [`UnsealError::Truncated`].
    #[cfg(feature = "std")]
    pub fn unseal_from(self, mut source: impl io::Read) -> Result<CheckedBuffer, UnsealError> {
        let mut len = 0;
        self.unseal_parts(|part| {
            source
                .read_exact(part)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => UnsealError::Truncated { len },
                    _ => UnsealError::Io(error),
                })?;
            len += part.len();
            Ok(())
        })
    }

    fn unseal_parts(
        mut self,
        mut fill: impl FnMut(&mut [u8]) -> Result<(), UnsealError>,
    ) -> Result<CheckedBuffer, UnsealError> {
        self = self.emptied();
        let mut header = [0; HEADER_BYTES];
        fill(&mut header)?;
        let len = content_len(&header)?;
        let limit = self.limit();
        let too_large = UnsealError::TooLarge { limit, len };
        let Some(mut left) = usize::try_from(len).ok().filter(|len| *len <= limit) else {
            return Err(too_large);
        };
        let mut scratch = [0; BLOCK_BYTES];
        let mut index = 0;
        while left > 0 {
            let here = left.min(BLOCK_BYTES);
            let (bytes, _) = scratch.split_at_mut(here);
            let mut tag = [0; TAG_BYTES];
            fill(bytes)?;
            fill(&mut tag)?;
            let expected = u32::from_le_bytes(tag);
            self.append(bytes)?;
            // The tag of the pass that filled the buffer, so that there is no gap between.
            let scan = |bytes: &[u8]| block::tag(index, black_box(bytes));
            let found = self.tag(index).unwrap_or_else(|| scan(bytes));
            if found != expected {
                return Err(UnsealError::Corrupt(Corrupt {
                    block: index,
                    offset: index * BLOCK_BYTES,
                    len: here,
                    expected,
                    found,
                    persistent: scan(bytes) != expected,
                }));
            }
            left -= here;
            index += 1;
        }
        Ok(self.finish())
    }
}

fn header(len: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let parts = MAGIC
        .into_iter()
        .chain(VERSION.to_le_bytes())
        .chain(len.to_le_bytes());
    for (slot, byte) in header.iter_mut().zip(parts) {
        *slot = byte;
    }
    let (covered, crc) = header.split_at_mut(HEADER_BYTES - TAG_BYTES);
    crc.copy_from_slice(&header_crc(covered).to_le_bytes());
    header
}

fn header_crc(covered: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(covered);
    crc.finish()
}

/// The length a header names, if it is one.
fn content_len(header: &[u8; HEADER_BYTES]) -> Result<u64, UnsealError> {
    let (words, _) = header.as_chunks::<4>();
    let &[magic, version, low, high, crc] = words else {
        return Err(UnsealError::NotSealed);
    };
    if magic != MAGIC {
        return Err(UnsealError::NotSealed);
    }
    let (covered, _) = header.split_at(HEADER_BYTES - TAG_BYTES);
    let (expected, found) = (u32::from_le_bytes(crc), header_crc(covered));
    if found != expected {
        return Err(UnsealError::CorruptHeader { expected, found });
    }
    match u32::from_le_bytes(version) {
        VERSION => {}
        found => return Err(UnsealError::UnknownVersion { found }),
    }
    let high = u64::from(u32::from_le_bytes(high));
    Ok(high << 32 | u64::from(u32::from_le_bytes(low)))
}
