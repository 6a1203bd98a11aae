//! Reading on, while a log is written.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use crate::{PrivateDirectory, PrivateError};

use super::chain::{ChainKey, NoFrame};
use super::error::AuditError;
use super::finding::{AuditFault, AuditFinding};
use super::head::{HEAD_FILE, Head};
use super::reader::{AuditItem, AuditReader};
use super::segment::{HEADER_BYTES, Header, file_name};
use super::walk::{Step, Walk};

/// How long to wait between two polls: what is written becomes visible no faster.
pub const AUDIT_POLL: Duration = Duration::from_millis(200);

/// Most bytes that one poll reads.
const POLL_BYTES: u64 = 4 * 1024 * 1024;

/// What comes into a log from now on, over rotations and changes of writers.
#[derive(Debug)]
pub struct AuditFollower {
    directory: PrivateDirectory,
    key: ChainKey,
    walk: Walk,
    /// Bytes of the segment that have been read.
    at: u64,
    /// Where damage has been told that nothing follows yet.
    told_at: Option<u64>,
}

impl AuditFollower {
    /// A follower that begins behind the last record there is.
    ///
    /// # Errors
    /// As [`AuditReader::open`]; [`AuditError::Damaged`] where no segment can be read.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let mut reader = AuditReader::open(path)?;
        reader.only_last();
        let mut findings = Vec::new();
        for item in &mut reader {
            if let AuditItem::Finding(finding) = item? {
                findings.push(finding);
            }
        }
        let end = reader.end();
        let (directory, key) = reader.into_parts();
        let Some(end) = end else {
            let path = directory.path().to_path_buf();
            return Err(AuditError::Damaged { path, findings });
        };
        Ok(Self {
            directory,
            key,
            walk: Walk::new(end.segment, end.next, end.previous, end.last),
            at: end.bytes,
            told_at: None,
        })
    }

    /// What has come since the last poll; empty where nothing has. A record that is being written
    /// is waited for. Where the writer has removed segments that were not read yet, their records
    /// are [`AuditFault::Missing`].
    ///
    /// # Errors
    /// [`AuditError::Directory`].
    pub fn poll(&mut self) -> Result<Vec<AuditItem>, AuditError> {
        let mut items = Vec::new();
        // Bounded: each turn but the last leaves a segment behind.
        loop {
            // Asked first: once there is a next segment, this one is whole.
            let next = self.next_segment()?;
            let more = self.read_on(next.is_some(), &mut items)?;
            match next {
                Some(header) if !more => self.go_on(&header, &mut items),
                _ => return Ok(items),
            }
        }
    }

    /// Reads what the segment has more; whether something is left for the next poll.
    fn read_on(&mut self, ended: bool, items: &mut Vec<AuditItem>) -> Result<bool, AuditError> {
        let name = file_name(self.walk.segment);
        let Some(mut file) = self.directory.open_file(&name)? else {
            return Ok(false);
        };
        let failed = |source| PrivateError::Io {
            path: self.directory.path().join(&name),
            source,
        };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.at)).map_err(failed)?;
        let read = file.take(POLL_BYTES).read_to_end(&mut bytes);
        let full = read.map_err(failed)? as u64 == POLL_BYTES;
        let mut at = 0;
        loop {
            match self.walk.step(&self.key, &bytes, &mut at) {
                Step::Record(record) => items.push(AuditItem::Record(record)),
                Step::Finding(finding) => items.push(AuditItem::Finding(finding)),
                Step::Rest { bytes, why } => {
                    let place = self.at + at as u64;
                    let is_damage = (ended && !full) || why == NoFrame::Wrong;
                    if is_damage && self.told_at.replace(place) != Some(place) {
                        let sequence = self.walk.expected;
                        let through = sequence;
                        let fault = AuditFault::Damaged { through, bytes };
                        let finding = self.walk.finding(sequence, fault);
                        items.push(AuditItem::Finding(finding));
                    }
                    break;
                }
                Step::End => break,
            }
        }
        self.at += at as u64;
        Ok(full && at > 0)
    }

    /// The header of the segment behind this one, or of the oldest one where that is gone.
    fn next_segment(&self) -> Result<Option<Header>, AuditError> {
        let mut number = self.walk.segment + 1;
        let head = self.directory.read(HEAD_FILE, 1024)?;
        if let Some(head) = head.and_then(|head| Head::read(&self.key, &head)) {
            number = number.max(head.first_segment);
        }
        let Some(bytes) = self.directory.open_file(&file_name(number))? else {
            return Ok(None);
        };
        let header = Header::of(&self.key, &bytes).map_err(|source| PrivateError::Io {
            path: self.directory.path().join(file_name(number)),
            source,
        })?;
        Ok(header.filter(|header| header.number == number))
    }

    fn go_on(&mut self, header: &Header, items: &mut Vec<AuditItem>) {
        if self.walk.expected < header.first {
            items.push(AuditItem::Finding(AuditFinding {
                segment: self.walk.segment,
                sequence: self.walk.expected,
                fault: AuditFault::Missing {
                    through: header.first - 1,
                },
            }));
        }
        self.walk = Walk::behind(header, &self.key);
        self.at = HEADER_BYTES as u64;
        self.told_at = None;
    }
}
