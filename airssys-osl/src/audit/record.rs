//! A record as it is read back, and its bytes.
//!
//! ```text
//! bytes     what, integers little endian
//! 8         sequence number; the log's first is 1
//! 8         wall time: microseconds since 1970
//! 1         kind: 0 a call, 1 opened, 2 lost, 3 closed
//! call:     1 decision (0 deny, 1 allow), 1 marks of cut texts (bits 0 to 3), 8 generation,
//!           2 each the lengths of component, capability, subject, rule; then these, UTF-8
//! opened:   8 bytes cut off
//! lost:     8 entries lost
//! ```

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::entry::{AuditDecision, Bounded, MAX_CALL_BYTES};

/// Bytes of every record before what its kind adds.
pub(crate) const PREFIX_BYTES: usize = 8 + 8 + 1;
/// Most bytes of a record.
pub(crate) const MAX_BODY_BYTES: usize = PREFIX_BYTES + MAX_CALL_BYTES;

/// One record of an audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number; the log's first is 1, and each is one more than the one before it.
    pub sequence: u64,
    /// Wall time of the append, to the microsecond. Wall clocks jump; the sequence does not.
    pub time: SystemTime,
    /// What it tells.
    pub event: AuditEvent,
}

/// What a record tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditEvent {
    /// A host call that needed a grant.
    Call(AuditedCall),
    /// A writer took the log up.
    Opened {
        /// Bytes that an earlier writer had left unfinished at the end, and that were cut off.
        cut_bytes: u64,
    },
    /// Entries found no room and were dropped, after the record before this one.
    Lost {
        /// How many.
        entries: u64,
    },
    /// The writer ended in order. Where `Opened` follows anything else, its predecessor was killed.
    Closed,
}

/// A host call on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditedCall {
    /// The component's name.
    pub component: AuditText,
    /// Its incarnation.
    pub generation: u64,
    /// Kind of capability.
    pub capability: AuditText,
    /// What it was about. May be a guest's own text: escape it before a terminal sees it.
    pub subject: AuditText,
    /// What was decided.
    pub decision: AuditDecision,
    /// The rule that decided, or the grant that is missing.
    pub rule: AuditText,
}

/// A text of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditText {
    /// As much of it as is on record.
    pub text: String,
    /// Whether there was more.
    pub cut: bool,
}

impl fmt::Display for AuditText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(if self.cut { "…" } else { "" })
    }
}

/// What is written; the sequence number is given by the writer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event<'a> {
    Call(Bounded<'a>),
    Opened { cut_bytes: u64 },
    Lost { entries: u64 },
    Closed,
}

impl Event<'_> {
    /// Bytes that [`Event::write`] adds.
    pub(crate) fn bytes(&self) -> usize {
        PREFIX_BYTES
            + match self {
                Self::Call(call) => call.bytes(),
                Self::Opened { .. } | Self::Lost { .. } => 8,
                Self::Closed => 0,
            }
    }

    /// Adds the record, with zero for its sequence number.
    pub(crate) fn write(&self, time_us: u64, to: &mut Vec<u8>) {
        to.extend_from_slice(&[0; 8]);
        to.extend_from_slice(&time_us.to_le_bytes());
        match self {
            Self::Call(call) => {
                to.push(0);
                call.write(to);
            }
            Self::Opened { cut_bytes } => {
                to.push(1);
                to.extend_from_slice(&cut_bytes.to_le_bytes());
            }
            Self::Lost { entries } => {
                to.push(2);
                to.extend_from_slice(&entries.to_le_bytes());
            }
            Self::Closed => to.push(3),
        }
    }
}

/// Microseconds since 1970.
pub(crate) fn wall_time_us() -> u64 {
    #[allow(
        clippy::disallowed_methods,
        reason = "people look for what happened at a time of day"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0))
}

/// The number a record's bytes claim to have.
pub(crate) fn sequence_of(body: &[u8]) -> u64 {
    body.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

impl AuditRecord {
    /// `None` where the bytes are of no kind known here, or hold more or less than their kind.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let mut rest = body;
        let sequence = number(&mut rest)?;
        let time = UNIX_EPOCH.checked_add(Duration::from_micros(number(&mut rest)?))?;
        let event = match take(&mut rest)? {
            [0] => AuditEvent::Call(call(&mut rest)?),
            [1] => AuditEvent::Opened {
                cut_bytes: number(&mut rest)?,
            },
            [2] => AuditEvent::Lost {
                entries: number(&mut rest)?,
            },
            [3] => AuditEvent::Closed,
            _ => return None,
        };
        rest.is_empty().then_some(Self {
            sequence,
            time,
            event,
        })
    }
}

fn call(rest: &mut &[u8]) -> Option<AuditedCall> {
    let [decision, marks] = take(rest)?;
    let generation = number(rest)?;
    let mut lengths = [0; 4];
    for length in &mut lengths {
        *length = usize::from(u16::from_le_bytes(take(rest)?));
    }
    let mut text = |position: usize| {
        let (text, after) = rest.split_at_checked(*lengths.get(position)?)?;
        *rest = after;
        Some(AuditText {
            text: str::from_utf8(text).ok()?.to_owned(),
            cut: marks >> position & 1 == 1,
        })
    };
    Some(AuditedCall {
        component: text(0)?,
        capability: text(1)?,
        subject: text(2)?,
        rule: text(3)?,
        generation,
        decision: match decision {
            0 => AuditDecision::Deny,
            1 => AuditDecision::Allow,
            _ => return None,
        },
    })
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}
