//! What is wrong with a log, and where.

use std::fmt;

/// Something wrong with a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditFinding {
    /// The segment, as its file is named; 0 for the head.
    pub segment: u64,
    /// The first record concerned; 0 where none is, or nobody knows.
    pub sequence: u64,
    /// What is wrong.
    pub fault: AuditFault,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditFault {
    /// The file of the segment is gone, and with it the records up to `through`.
    SegmentMissing {
        /// The last record of it.
        through: u64,
    },
    /// The file holds another segment than its name says.
    Exchanged {
        /// The number of the segment that it holds.
        found: u64,
    },
    /// The first bytes of the file are no header of this log.
    Header,
    /// The records up to `through` are gone. The record after them is not proven either.
    Missing {
        /// The last record that is gone.
        through: u64,
    },
    /// The records up to `through` are damaged: their checksum or their length is wrong.
    Damaged {
        /// The last record that is damaged.
        through: u64,
        /// Bytes that are no records.
        bytes: u64,
    },
    /// The record is whole, but it, its tag or the tag before it is not what the writer wrote.
    Altered,
    /// The record is there twice.
    Repeated,
    /// The record stands after a later one.
    OutOfPlace {
        /// The record that it stands after.
        after: u64,
    },
    /// Before the record are bytes that are no record.
    Inserted {
        /// How many.
        bytes: u64,
    },
    /// The file ends in the middle of the record.
    CutShort {
        /// Bytes that are left of it.
        bytes: u64,
    },
    /// The record is of a kind that this version does not know.
    Unknown,
    /// The head is gone: nobody can tell whether records are missing at the end.
    HeadMissing,
    /// The head is not what the writer wrote.
    HeadDamaged,
    /// The record is not the one that the head names.
    HeadDiffers,
}

impl AuditFault {
    /// A word for it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::SegmentMissing { .. } => "segment-missing",
            Self::Exchanged { .. } => "exchanged",
            Self::Header => "header",
            Self::Missing { .. } => "missing",
            Self::Damaged { .. } => "damaged",
            Self::Altered => "altered",
            Self::Repeated => "repeated",
            Self::OutOfPlace { .. } => "out-of-place",
            Self::Inserted { .. } => "inserted",
            Self::CutShort { .. } => "cut-short",
            Self::Unknown => "unknown",
            Self::HeadMissing => "head-missing",
            Self::HeadDamaged => "head-damaged",
            Self::HeadDiffers => "head-differs",
        }
    }
}

impl fmt::Display for AuditFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            segment,
            sequence,
            fault,
        } = *self;
        let records = |through: u64| match through {
            through if sequence == 0 => format!("the records up to {through}"),
            through if through > sequence => format!("records {sequence} to {through}"),
            _ => format!("record {sequence}"),
        };
        match fault {
            AuditFault::HeadMissing => return f.write_str("the head is missing"),
            AuditFault::HeadDamaged => return f.write_str("the head is damaged"),
            _ => write!(f, "segment {segment}: ")?,
        }
        match fault {
            AuditFault::SegmentMissing { through } => {
                write!(f, "missing, with {}", records(through))
            }
            AuditFault::Exchanged { found } => write!(f, "its file holds segment {found}"),
            AuditFault::Header => f.write_str("its header is damaged or of another log"),
            AuditFault::Missing { through } => write!(f, "{} missing", records(through)),
            AuditFault::Damaged { through, bytes } => {
                write!(f, "{} damaged ({bytes} bytes)", records(through))
            }
            AuditFault::Altered => write!(f, "record {sequence} was altered"),
            AuditFault::Repeated => write!(f, "record {sequence} is there twice"),
            AuditFault::OutOfPlace { after } => {
                write!(f, "record {sequence} stands after record {after}")
            }
            AuditFault::Inserted { bytes } => {
                write!(f, "{bytes} bytes before record {sequence} are no record")
            }
            AuditFault::CutShort { bytes } => {
                write!(f, "record {sequence} is cut short after {bytes} bytes")
            }
            AuditFault::Unknown => write!(f, "record {sequence} is of an unknown kind"),
            AuditFault::HeadDiffers => write!(f, "record {sequence} is not the head's"),
            AuditFault::HeadMissing | AuditFault::HeadDamaged => Ok(()),
        }
    }
}
