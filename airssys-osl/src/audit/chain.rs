//! The chain: each record under an HMAC-SHA256 that also covers the one before it.
//!
//! ```text
//! bytes     a record in its segment, integers little endian
//! 4         length of the body
//! 4         CRC32C of these four bytes and the body
//! length    the body
//! 32        HMAC-SHA256 of "r", the 32 bytes before this record in the chain, and all of the above
//! ```

use std::fmt;

use airssys_integrity::Crc32c;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::record::{MAX_BODY_BYTES, PREFIX_BYTES};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of a tag.
pub(crate) const TAG_BYTES: usize = 32;
/// Bytes of a record around its body.
pub(crate) const FRAME_BYTES: usize = 4 + 4 + TAG_BYTES;

/// A link of the chain: the HMAC-SHA256 of a record and of all that came before it.
///
/// Written down elsewhere with its number, it later proves that nothing up to there was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditTag(pub [u8; TAG_BYTES]);

impl AuditTag {
    /// What the first record of all is chained to.
    pub(crate) const NONE: Self = Self([0; TAG_BYTES]);

    /// The tag that ends at `end`.
    pub(crate) fn before(bytes: &[u8], end: usize) -> Option<Self> {
        bytes.get(..end)?.last_chunk().copied().map(Self)
    }
}

impl fmt::Display for AuditTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a tag is over. A tag of one kind proves nothing of another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signed {
    Record,
    Segment,
    Head,
}

/// The key of a log.
#[derive(Clone)]
pub(crate) struct ChainKey(Hmac<Sha256>);

impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainKey")
    }
}

impl ChainKey {
    /// `None` where the bytes are no key.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
        Hmac::new_from_slice(key).ok().map(Self)
    }

    pub(crate) fn tag(&self, what: Signed, parts: [&[u8]; 2]) -> AuditTag {
        let domain = match what {
            Signed::Record => b"r",
            Signed::Segment => b"s",
            Signed::Head => b"h",
        };
        let [first, second] = parts;
        let mac = self.0.clone().chain_update(domain);
        let mac = mac.chain_update(first).chain_update(second);
        AuditTag(mac.finalize().into_bytes().into())
    }

    /// The tag of a record behind one with the tag `previous`.
    pub(crate) fn record(&self, previous: &AuditTag, signed: &[u8]) -> AuditTag {
        self.tag(Signed::Record, [&previous.0, signed])
    }
}

/// Adds a record to `out`, chained to `previous`, which it becomes.
pub(crate) fn seal(key: &ChainKey, previous: &mut AuditTag, body: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(length, body));
    out.extend_from_slice(body);
    *previous = key.record(previous, out.get(start..).unwrap_or_default());
    out.extend_from_slice(&previous.0);
}

fn checksum(length: [u8; 4], body: &[u8]) -> [u8; 4] {
    let mut crc = Crc32c::new();
    crc.update(&length);
    crc.update(body);
    crc.finish().to_le_bytes()
}

/// A record whose checksum is right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) body: &'a [u8],
    /// All that its tag is over, but for the tag before it.
    pub(crate) signed: &'a [u8],
    pub(crate) tag: AuditTag,
    /// Where the next one begins.
    pub(crate) next: usize,
}

/// Why there is no record at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoFrame {
    /// The bytes end before it does.
    Short,
    /// Its length or its checksum is wrong.
    Wrong,
}

pub(crate) fn frame_at(bytes: &[u8], at: usize) -> Result<Frame<'_>, NoFrame> {
    let rest = bytes.get(at..).unwrap_or_default();
    let (length, after) = rest.split_first_chunk().ok_or(NoFrame::Short)?;
    let body_bytes = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if !(PREFIX_BYTES..=MAX_BODY_BYTES).contains(&body_bytes) {
        return Err(NoFrame::Wrong);
    }
    let (crc, after) = after.split_first_chunk().ok_or(NoFrame::Short)?;
    let (body, after) = after.split_at_checked(body_bytes).ok_or(NoFrame::Short)?;
    let tag = after.first_chunk().ok_or(NoFrame::Short)?;
    if checksum(*length, body) != *crc {
        return Err(NoFrame::Wrong);
    }
    Ok(Frame {
        body,
        signed: rest.get(..8 + body_bytes).unwrap_or_default(),
        tag: AuditTag(*tag),
        next: at + FRAME_BYTES + body_bytes,
    })
}
