//! Which segments there are, before any record is read.

use std::collections::BTreeMap;

use crate::{PrivateDirectory, PrivateError};

use super::chain::{AuditTag, ChainKey};
use super::error::AuditError;
use super::finding::{AuditFault, AuditFinding};
use super::head::{HEAD_BYTES, HEAD_FILE, Head};
use super::segment::{Header, number_of};
use super::walk::Known;

/// How often a directory is looked at anew whose writer removes segments meanwhile.
const LOOKS: u32 = 100;

/// A segment that is there.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) number: u64,
    /// Its file.
    pub(crate) name: String,
    /// `None` where it is damaged.
    pub(crate) header: Option<Header>,
}

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) head: Option<Head>,
    /// In their order.
    pub(crate) segments: Vec<Found>,
    pub(crate) findings: Vec<AuditFinding>,
}

impl Survey {
    /// Looks at the head and the headers.
    pub(crate) fn take(directory: &PrivateDirectory, key: &ChainKey) -> Result<Self, AuditError> {
        let mut findings = Vec::new();
        let mut looks = 0;
        let (head, segments) = loop {
            let before = directory.read(HEAD_FILE, HEAD_BYTES as u64 + 1)?;
            findings.clear();
            let segments = found(directory, key, &mut findings)?;
            looks += 1;
            // The head moves with each sync; only what it keeps concerns the list.
            let head = before.as_deref().and_then(|head| Head::read(key, head));
            let now = directory.read(HEAD_FILE, HEAD_BYTES as u64 + 1)?;
            let now = now.as_deref().and_then(|head| Head::read(key, head));
            let kept = |head: Option<Head>| head.map(|head| head.first_segment);
            if kept(head) == kept(now) || looks == LOOKS {
                if head.is_none() {
                    findings.push(AuditFinding {
                        segment: 0,
                        sequence: 0,
                        fault: match before {
                            None => AuditFault::HeadMissing,
                            Some(_) => AuditFault::HeadDamaged,
                        },
                    });
                }
                break (head, segments);
            }
        };
        let mut survey = Self {
            head,
            segments,
            findings,
        };
        if let Some(head) = head {
            // Left behind where a writer was ended before it removed them.
            survey.segments.retain(|s| s.number >= head.first_segment);
        }
        Ok(survey)
    }

    /// Whether the log was ended before its first segment was made.
    pub(crate) fn is_beginning(&self) -> bool {
        self.segments.is_empty() && self.head.is_some_and(|head| head.sequence == 0)
    }

    /// The last record of the segment at `position`, where it is known from elsewhere.
    pub(crate) fn known(&self, position: usize) -> Option<Known> {
        let this = self.segments.get(position)?;
        let next = self.segments.get(position + 1);
        let next = next.filter(|next| next.number == this.number + 1);
        if let Some(header) = next.and_then(|next| next.header) {
            return Some(Known {
                sequence: header.first.checked_sub(1)?,
                tag: header.previous,
            });
        }
        let head = self.head.filter(|head| head.segment == this.number)?;
        Some(Known {
            sequence: head.sequence,
            tag: head.tag,
        })
    }
}

/// The segments by their headers; what their names say otherwise is told.
fn found(
    directory: &PrivateDirectory,
    key: &ChainKey,
    findings: &mut Vec<AuditFinding>,
) -> Result<Vec<Found>, PrivateError> {
    let mut segments: BTreeMap<u64, Found> = BTreeMap::new();
    let mut moved = Vec::new();
    for file in directory.files()? {
        let Some(named) = number_of(&file.name) else {
            continue;
        };
        // Removed meanwhile.
        let Some(opened) = directory.open_file(&file.name)? else {
            continue;
        };
        let header = Header::of(key, &opened).map_err(|source| PrivateError::Io {
            path: directory.path().join(&file.name),
            source,
        })?;
        let found = Found {
            number: named,
            name: file.name,
            header,
        };
        match header {
            Some(header) if header.number != named => moved.push((named, header.number, found)),
            Some(_) => {
                segments.insert(named, found);
            }
            None => {
                findings.push(AuditFinding {
                    segment: named,
                    sequence: 0,
                    fault: AuditFault::Header,
                });
                segments.insert(named, found);
            }
        }
    }
    moved.sort_by_key(|(named, ..)| *named);
    for (named, number, found) in moved {
        findings.push(AuditFinding {
            segment: named,
            sequence: 0,
            fault: AuditFault::Exchanged { found: number },
        });
        segments.entry(number).or_insert(Found { number, ..found });
    }
    findings.sort_by_key(|finding| finding.segment);
    Ok(segments.into_values().collect())
}

/// What a log that has nothing yet begins with.
pub(crate) const BEGINNING: Header = Header {
    number: 1,
    first: 1,
    previous: AuditTag::NONE,
};
