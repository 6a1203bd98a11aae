//! A segment: a header that is a link of the chain, and records.
//!
//! ```text
//! bytes     the header, integers little endian
//! 16        "airssys-audit-1" and a zero
//! 8         number of the segment; the log's first is 1
//! 8         sequence number of its first record
//! 32        tag of the record before that, zeros before the first of all
//! 32        HMAC-SHA256 of "s" and all of the above; its first record is chained to this
//! ```

use std::fs::File;
use std::io::{self, Read};

use super::chain::{AuditTag, ChainKey, Signed, TAG_BYTES};

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = SIGNED_BYTES + TAG_BYTES;
const SIGNED_BYTES: usize = 16 + 8 + 8 + TAG_BYTES;
const MAGIC: [u8; 16] = *b"airssys-audit-1\0";
const ENDING: &str = ".audit";

/// The name of a segment's file.
pub(crate) fn file_name(number: u64) -> String {
    format!("{number:010}{ENDING}")
}

/// The number a file's name gives; `None` where it is no segment.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(ENDING)?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) number: u64,
    /// Sequence number of its first record.
    pub(crate) first: u64,
    /// Tag of the record before that.
    pub(crate) previous: AuditTag,
}

impl Header {
    fn signed(&self) -> [u8; SIGNED_BYTES] {
        let mut bytes = [0; SIGNED_BYTES];
        let (number, first) = (self.number.to_le_bytes(), self.first.to_le_bytes());
        let fields = MAGIC.iter().chain(&number).chain(&first);
        for (to, from) in bytes.iter_mut().zip(fields.chain(&self.previous.0)) {
            *to = *from;
        }
        bytes
    }

    /// What its first record is chained to.
    pub(crate) fn tag(&self, key: &ChainKey) -> AuditTag {
        key.tag(Signed::Segment, [&self.signed(), &[]])
    }

    pub(crate) fn bytes(&self, key: &ChainKey) -> Vec<u8> {
        [&self.signed()[..], &self.tag(key).0].concat()
    }

    /// `None` where the bytes do not begin with a header under this key.
    pub(crate) fn read(key: &ChainKey, bytes: &[u8]) -> Option<Self> {
        let fields = bytes.strip_prefix(&MAGIC)?;
        let (number, fields) = fields.split_first_chunk()?;
        let (first, fields) = fields.split_first_chunk()?;
        let (previous, fields) = fields.split_first_chunk()?;
        let header = Self {
            number: u64::from_le_bytes(*number),
            first: u64::from_le_bytes(*first),
            previous: AuditTag(*previous),
        };
        let tag = AuditTag(*fields.first_chunk()?);
        (header.tag(key) == tag).then_some(header)
    }

    /// As [`Header::read`], of a file.
    pub(crate) fn of(key: &ChainKey, file: &File) -> io::Result<Option<Self>> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        file.take(HEADER_BYTES as u64).read_to_end(&mut bytes)?;
        Ok(Self::read(key, &bytes))
    }
}
