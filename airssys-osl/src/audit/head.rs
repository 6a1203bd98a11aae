//! The head: how far the log was on disk when its writer last said so.
//!
//! ```text
//! bytes     integers little endian
//! 16        "airssys-head-1" and two zeros
//! 8, 8      the first segment that is kept, and the sequence number of its first record
//! 8, 8      the segment of the last record, and its sequence number, 0 where there is none
//! 32        the tag of the last record
//! 32        HMAC-SHA256 of "h" and all of the above
//! ```

use super::chain::{AuditTag, ChainKey, Signed, TAG_BYTES};

/// Bytes of a head.
pub(crate) const HEAD_BYTES: usize = SIGNED_BYTES + TAG_BYTES;
const SIGNED_BYTES: usize = 16 + 4 * 8 + TAG_BYTES;
const MAGIC: [u8; 16] = *b"airssys-head-1\0\0";
/// The name of its file.
pub(crate) const HEAD_FILE: &str = "head";

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Oldest segment that is kept.
    pub(crate) first_segment: u64,
    /// Sequence number of that one's first record.
    pub(crate) first: u64,
    /// Segment of the last record.
    pub(crate) segment: u64,
    /// The last record's sequence number.
    pub(crate) sequence: u64,
    /// The last record's tag.
    pub(crate) tag: AuditTag,
}

impl Head {
    fn signed(&self) -> [u8; SIGNED_BYTES] {
        let mut bytes = [0; SIGNED_BYTES];
        let numbers = [self.first_segment, self.first, self.segment, self.sequence];
        let numbers = numbers.into_iter().flat_map(u64::to_le_bytes);
        let fields = MAGIC.into_iter().chain(numbers).chain(self.tag.0);
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }

    pub(crate) fn bytes(&self, key: &ChainKey) -> Vec<u8> {
        let signed = self.signed();
        [&signed[..], &key.tag(Signed::Head, [&signed, &[]]).0].concat()
    }

    /// `None` where the bytes are not a head under this key.
    pub(crate) fn read(key: &ChainKey, bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.strip_prefix(&MAGIC)?;
        let mut number = || {
            let (number, rest) = fields.split_first_chunk()?;
            fields = rest;
            Some(u64::from_le_bytes(*number))
        };
        let (first_segment, first) = (number()?, number()?);
        let (segment, sequence) = (number()?, number()?);
        let head = Self {
            first_segment,
            first,
            segment,
            sequence,
            tag: AuditTag(*fields.first_chunk()?),
        };
        (head.bytes(key) == bytes).then_some(head)
    }
}
