//! Reading a log and checking all of it on the way.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::Path;

use crate::PrivateDirectory;

use super::chain::{AuditTag, ChainKey, NoFrame};
use super::error::AuditError;
use super::finding::{AuditFault, AuditFinding};
use super::record::AuditRecord;
use super::segment::{HEADER_BYTES, Header};
use super::survey::{BEGINNING, Found, Survey};
use super::walk::{Step, Walk};
use super::{KEY_FILE, MAX_SEGMENT_BYTES};

/// Findings that a verdict lists; more are counted.
const LISTED: usize = 1000;

/// How often a reader starts over whose segments the writer removes before they are read.
const RESURVEYS: u32 = 100;

/// What comes next in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditItem {
    /// A record that is what the writer wrote.
    Record(AuditRecord),
    /// Something that is not.
    Finding(AuditFinding),
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditSummary {
    /// Segments.
    pub segments: u64,
    /// Records that are what the writer wrote.
    pub records: u64,
    /// The first record that is kept; the ones before it went with segments that rotation removed.
    pub first: u64,
    /// The last record; 0 where there is none.
    pub last: u64,
    /// Its tag.
    pub tag: AuditTag,
    /// Bytes at the end that are no whole record and that the head does not vouch for: of a writer
    /// at work, or of one that was killed. The next writer cuts them off and says so.
    pub unfinished_bytes: u64,
}

/// The records of a log in their order, each proven, and what is wrong between them.
///
/// Holds one segment in memory at a time. A writer may be at work meanwhile.
#[derive(Debug)]
pub struct AuditReader {
    directory: PrivateDirectory,
    key: ChainKey,
    survey: Survey,
    position: usize,
    /// Number of the next segment, if none is missing.
    wanted: u64,
    current: Option<Current>,
    /// Where the segments before ended.
    chain: Option<(u64, AuditTag)>,
    told: VecDeque<AuditFinding>,
    summary: AuditSummary,
    resurveys: u32,
    ended: bool,
}

#[derive(Debug)]
struct Current {
    bytes: Vec<u8>,
    at: usize,
    walk: Walk,
    last: bool,
}

/// Where a writer goes on.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) segment: u64,
    /// Bytes of that segment that are whole.
    pub(crate) bytes: u64,
    pub(crate) next: u64,
    /// What the next record is chained to.
    pub(crate) previous: AuditTag,
    /// Tag of the last record.
    pub(crate) last: AuditTag,
}

/// The key of a log; `None` where there is none.
pub(crate) fn key_of(directory: &PrivateDirectory) -> Result<Option<ChainKey>, AuditError> {
    let Some(bytes) = directory.read(KEY_FILE, 1024)? else {
        return Ok(None);
    };
    let wrong = || AuditError::Key {
        path: directory.path().join(KEY_FILE),
        bytes: bytes.len(),
    };
    ChainKey::new(&bytes).map(Some).ok_or_else(wrong)
}

/// A log that is there, and its key.
pub(crate) fn existing(path: &Path) -> Result<(PrivateDirectory, ChainKey), AuditError> {
    // Opening would make it.
    let found = fs::metadata(path).and_then(|found| match found.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    });
    found.map_err(|source| AuditError::Missing {
        path: path.to_path_buf(),
        source,
    })?;
    let directory = PrivateDirectory::open(path)?;
    let key = key_of(&directory)?.ok_or_else(|| AuditError::KeyMissing {
        path: path.join(KEY_FILE),
    })?;
    Ok((directory, key))
}

impl AuditReader {
    /// A reader of the log in a directory, from the first record that is kept.
    ///
    /// # Errors
    /// [`AuditError::Missing`], [`AuditError::KeyMissing`], [`AuditError::Key`] or
    /// [`AuditError::Directory`].
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let (directory, key) = existing(path)?;
        let survey = Survey::take(&directory, &key)?;
        Ok(Self::new(directory, key, survey))
    }

    pub(crate) fn new(directory: PrivateDirectory, key: ChainKey, survey: Survey) -> Self {
        let kept = survey.segments.first().and_then(|found| found.header);
        let first = survey.head.map(|head| head.first);
        Self {
            directory,
            key,
            position: 0,
            wanted: survey
                .head
                .map(|head| head.first_segment)
                .or(survey.segments.first().map(|found| found.number))
                .unwrap_or(BEGINNING.number),
            current: None,
            chain: None,
            told: survey.findings.iter().copied().collect(),
            summary: AuditSummary {
                segments: 0,
                records: 0,
                first: first.or(kept.map(|header| header.first)).unwrap_or(1),
                last: 0,
                tag: AuditTag::NONE,
                unfinished_bytes: 0,
            },
            survey,
            resurveys: 0,
            ended: false,
        }
    }

    /// What has been read so far.
    #[must_use]
    pub fn summary(&self) -> AuditSummary {
        self.summary
    }

    /// Leaves out the records of the segments before `number`, though not that one is missing.
    pub(crate) fn skip_to(&mut self, number: u64) {
        while let Some(found) = self.survey.segments.get(self.position) {
            let (found, first) = (found.number, found.header.map_or(0, |header| header.first));
            if found >= number {
                break;
            }
            self.miss(found, first);
            self.position += 1;
        }
    }

    /// Leaves out all segments but the last, and what was found about the others.
    pub(crate) fn only_last(&mut self) {
        let last = self.survey.segments.last().map_or(0, |last| last.number);
        self.skip_to(last);
        self.told.clear();
    }

    pub(crate) fn into_parts(self) -> (PrivateDirectory, ChainKey) {
        (self.directory, self.key)
    }

    /// Where the last segment ends, once it has been read.
    pub(crate) fn end(&self) -> Option<End> {
        let current = self.current.as_ref()?;
        Some(End {
            segment: current.walk.segment,
            bytes: current.at as u64,
            next: current.walk.expected,
            previous: current.walk.previous,
            last: current.walk.last,
        })
    }

    fn step(&mut self) -> Result<Option<AuditItem>, AuditError> {
        loop {
            if let Some(finding) = self.told.pop_front() {
                return Ok(Some(AuditItem::Finding(finding)));
            }
            let Some(current) = &mut self.current else {
                match self.survey.segments.get(self.position).cloned() {
                    Some(found) => self.begin(found)?,
                    None => self.end_here(),
                }
                if self.ended {
                    return Ok(self.told.pop_front().map(AuditItem::Finding));
                }
                continue;
            };
            match current
                .walk
                .step(&self.key, &current.bytes, &mut current.at)
            {
                Step::Record(record) => {
                    self.summary.records += 1;
                    self.summary.last = record.sequence;
                    self.summary.tag = current.walk.previous;
                    return Ok(Some(AuditItem::Record(record)));
                }
                Step::Finding(finding) => return Ok(Some(AuditItem::Finding(finding))),
                Step::Rest { bytes, why } => {
                    let vouched = self.survey.head.map_or(0, |head| head.sequence);
                    if current.last && current.walk.expected > vouched {
                        self.summary.unfinished_bytes = bytes;
                        self.finish();
                    } else {
                        let sequence = current.walk.expected;
                        current.at = current.bytes.len();
                        current.walk.expected += 1;
                        let fault = match why {
                            NoFrame::Short => AuditFault::CutShort { bytes },
                            NoFrame::Wrong => AuditFault::Damaged {
                                through: sequence,
                                bytes,
                            },
                        };
                        self.told.push_back(current.walk.finding(sequence, fault));
                    }
                }
                Step::End => self.finish(),
            }
            if self.ended {
                return Ok(self.told.pop_front().map(AuditItem::Finding));
            }
        }
    }

    /// Tells of the segments that should be before `number`, whose first record is `next`.
    fn miss(&mut self, number: u64, next: u64) {
        let first = self.survey.head;
        let first = first.filter(|head| head.first_segment == self.wanted);
        let chain = self.chain.map(|(next, _)| next);
        let sequence = chain.or(first.map(|head| head.first)).unwrap_or(0);
        for gone in self.wanted..number {
            self.told.push_back(AuditFinding {
                segment: gone,
                sequence,
                fault: AuditFault::SegmentMissing {
                    through: next.saturating_sub(1),
                },
            });
        }
        self.wanted = number + 1;
    }

    /// Behind the last segment.
    fn end_here(&mut self) {
        self.ended = true;
        if let Some(head) = self.survey.head.filter(|head| head.sequence > 0) {
            self.miss(head.segment.max(self.wanted - 1) + 1, head.sequence + 1);
        }
    }

    fn begin(&mut self, found: Found) -> Result<(), AuditError> {
        if self.wanted < found.number {
            let next = found.header.map_or(0, |header| header.first);
            self.miss(found.number, next);
            self.chain = None;
        }
        self.wanted = found.number + 1;
        let limit = MAX_SEGMENT_BYTES;
        let Some(bytes) = self.directory.read(&found.name, limit)? else {
            return self.removed(&found);
        };
        let head = self.survey.head;
        let mut walk = match (found.header, self.chain) {
            (Some(header), _) => Walk::behind(&header, &self.key),
            // The chain tells what the header said.
            (None, Some((first, previous))) => {
                let header = Header {
                    number: found.number,
                    first,
                    previous,
                };
                Walk::behind(&header, &self.key)
            }
            (None, None) if found.number == BEGINNING.number => Walk::behind(&BEGINNING, &self.key),
            (None, None) => {
                let first = head.filter(|head| head.first_segment == found.number);
                let first = first.map_or(0, |head| head.first);
                let previous = AuditTag::before(&bytes, HEADER_BYTES).unwrap_or(AuditTag::NONE);
                Walk::new(found.number, first, previous, AuditTag::NONE)
            }
        };
        walk.known = self.survey.known(self.position);
        self.summary.segments += 1;
        self.position += 1;
        self.current = Some(Current {
            at: HEADER_BYTES.min(bytes.len()),
            bytes,
            walk,
            last: self.position == self.survey.segments.len(),
        });
        Ok(())
    }

    /// The writer at work may have removed a segment after it was surveyed, and more behind it.
    fn removed(&mut self, found: &Found) -> Result<(), AuditError> {
        self.position += 1;
        let newer = Survey::take(&self.directory, &self.key)?;
        let kept = newer.head.filter(|head| head.first_segment > found.number);
        let Some(head) = kept.filter(|_| self.resurveys < RESURVEYS) else {
            self.told.push_back(AuditFinding {
                segment: found.number,
                sequence: found.header.map_or(0, |header| header.first),
                fault: AuditFault::SegmentMissing {
                    through: self
                        .survey
                        .known(self.position - 1)
                        .map_or(0, |known| known.sequence),
                },
            });
            return Ok(());
        };
        self.resurveys += 1;
        self.summary.first = self.summary.first.max(head.first);
        let surveyed = self.survey.segments.last().map_or(0, |last| last.number);
        let new = newer.findings.iter();
        let new = new.filter(|finding| finding.segment > surveyed);
        self.told.extend(new.copied());
        (self.wanted, self.chain, self.position) = (head.first_segment, None, 0);
        self.survey = newer;
        Ok(())
    }

    /// At the end of a segment.
    fn finish(&mut self) {
        let Some(current) = &self.current else {
            return;
        };
        let walk = &current.walk;
        let known = walk.known.map_or(0, |known| known.sequence);
        if known >= walk.expected {
            let missing = AuditFault::Missing { through: known };
            self.told.push_back(walk.finding(walk.expected, missing));
        }
        let next = walk.expected.max(known + 1);
        self.chain = walk
            .known
            .filter(|known| known.sequence + 1 == next)
            .map(|known| (next, known.tag))
            .or(Some((walk.expected, walk.last)));
        if current.last {
            self.end_here();
        } else {
            self.current = None;
        }
    }
}

impl Iterator for AuditReader {
    type Item = Result<AuditItem, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            let told = self.told.pop_front();
            return told.map(|finding| Ok(AuditItem::Finding(finding)));
        }
        let step = self.step();
        self.ended |= step.is_err();
        step.transpose()
    }
}

/// What is to be said of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditVerdict {
    /// What was read.
    pub summary: AuditSummary,
    /// What is wrong, in the order of the log: at most 1000 findings.
    pub findings: Vec<AuditFinding>,
    /// Findings beyond those.
    pub further: u64,
}

impl AuditVerdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Reads all of a log and tells what is wrong with it.
///
/// # Errors
/// As [`AuditReader::open`]; what is wrong with the records is no error but in the verdict.
pub fn verify_audit(path: &Path) -> Result<AuditVerdict, AuditError> {
    let mut reader = AuditReader::open(path)?;
    let (mut findings, mut further) = (Vec::new(), 0);
    for item in &mut reader {
        match item? {
            AuditItem::Finding(finding) if findings.len() < LISTED => findings.push(finding),
            AuditItem::Finding(_) => further += 1,
            AuditItem::Record(_) => {}
        }
    }
    let elsewhere: Vec<u64> = findings
        .iter()
        .filter(|finding| matches!(finding.fault, AuditFault::OutOfPlace { .. }))
        .map(|finding| finding.sequence)
        .collect();
    // What stands elsewhere is not missing.
    findings.retain(|finding| match finding.fault {
        AuditFault::Missing { through } => {
            let range = finding.sequence..=through;
            let found = elsewhere.iter().filter(|n| range.contains(n)).count() as u64;
            found <= through - finding.sequence
        }
        _ => true,
    });
    Ok(AuditVerdict {
        summary: reader.summary(),
        findings,
        further,
    })
}
