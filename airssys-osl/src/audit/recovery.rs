//! Taking a log up: where the last writer ended, and what it left unfinished.

use std::collections::VecDeque;
use std::fs::{File, TryLockError};

use crate::{PrivateDirectory, PrivateError};

use super::chain::{AuditTag, ChainKey, KEY_BYTES};
use super::error::AuditError;
use super::finding::AuditFinding;
use super::head::{HEAD_FILE, Head};
use super::queue::Batch;
use super::reader::{AuditItem, AuditReader, key_of};
use super::record::{Event, wall_time_us};
use super::segment::{file_name, number_of};
use super::survey::{BEGINNING, Survey};
use super::writer::Segments;
use super::{AuditConfig, KEY_FILE, LOCK_FILE, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};

/// What a writer begins with.
#[derive(Debug)]
pub(crate) struct TakenUp {
    pub(crate) segments: Segments,
    /// Held for as long as the log is.
    pub(crate) lock: Lock,
    pub(crate) cut_bytes: u64,
}

/// The log's lock.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would not do: a process that is just being started has the file open as well.
        self.0.unlock().ok();
    }
}

/// Takes a log up, or begins one, and writes the record that says so.
pub(crate) fn take_up(config: &AuditConfig) -> Result<TakenUp, AuditError> {
    let directory = PrivateDirectory::open(&config.directory)?;
    let lock = lock(&directory)?;
    let key = match key_of(&directory)? {
        Some(key) => key,
        None => begin(&directory)?,
    };
    let mut survey = Survey::take(&directory, &key)?;
    if survey.is_beginning() {
        directory.create(&file_name(BEGINNING.number), &BEGINNING.bytes(&key))?;
        survey = Survey::take(&directory, &key)?;
    }
    let Some(head) = survey.head else {
        return Err(damaged(&directory, survey.findings));
    };
    // What rotation had said was removed.
    for file in directory.files()? {
        if number_of(&file.name).is_some_and(|number| number < head.first_segment) {
            directory.remove(&file.name)?;
        }
    }
    let headers = survey.segments.iter().filter_map(|found| found.header);
    let firsts: VecDeque<u64> = headers.map(|header| header.first).collect();
    // The head vouches for what is before.
    let mut reader = AuditReader::new(directory, key, survey);
    reader.skip_to(head.segment);
    let mut findings = Vec::new();
    for item in &mut reader {
        if let AuditItem::Finding(finding) = item? {
            findings.push(finding);
        }
    }
    let (end, cut_bytes) = (reader.end(), reader.summary().unfinished_bytes);
    let (directory, key) = reader.into_parts();
    let Some(end) = end.filter(|_| findings.is_empty()) else {
        return Err(damaged(&directory, findings));
    };
    let name = file_name(end.segment);
    let file = directory.open_or_create(&name)?;
    if cut_bytes > 0 {
        let cut = file.set_len(end.bytes).and_then(|()| file.sync_all());
        cut.map_err(|source| failed_at(&directory, &name, source))?;
    }
    let mut segments = Segments {
        directory,
        key,
        max_segment_bytes: config
            .max_segment_bytes
            .clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES),
        max_segments: u64::from(config.max_segments.max(2)),
        head,
        firsts,
        file,
        end,
        chained: Vec::new(),
    };
    let mut batch = Batch::with_capacity(128);
    batch.push(wall_time_us(), &Event::Opened { cut_bytes });
    segments.settle(&batch, &mut 0)?;
    Ok(TakenUp {
        segments,
        lock,
        cut_bytes,
    })
}

fn failed_at(directory: &PrivateDirectory, name: &str, source: std::io::Error) -> AuditError {
    let path = directory.path().join(name);
    AuditError::Directory(PrivateError::Io { path, source })
}

fn lock(directory: &PrivateDirectory) -> Result<Lock, AuditError> {
    let lock = directory.open_or_create(LOCK_FILE)?;
    match lock.try_lock() {
        Ok(()) => Ok(Lock(lock)),
        Err(TryLockError::WouldBlock) => Err(AuditError::Locked {
            path: directory.path().to_path_buf(),
        }),
        Err(TryLockError::Error(source)) => Err(failed_at(directory, LOCK_FILE, source)),
    }
}

/// Makes a key, and the head of an empty log. The key comes last: where there is one, there was a
/// head, and its absence is a finding.
fn begin(directory: &PrivateDirectory) -> Result<ChainKey, AuditError> {
    let missing = || AuditError::KeyMissing {
        path: directory.path().join(KEY_FILE),
    };
    let is_segment = |name: &str| number_of(name).is_some();
    if directory.files()?.iter().any(|file| is_segment(&file.name)) {
        return Err(missing());
    }
    let mut fresh = [0; KEY_BYTES];
    getrandom::fill(&mut fresh).map_err(AuditError::Random)?;
    let key = ChainKey::new(&fresh).ok_or_else(missing)?;
    let head = Head {
        first_segment: BEGINNING.number,
        first: BEGINNING.first,
        segment: BEGINNING.number,
        sequence: 0,
        tag: AuditTag::NONE,
    };
    directory.replace(HEAD_FILE, &[&head.bytes(&key)])?;
    directory.create(KEY_FILE, &fresh)?;
    Ok(key)
}

fn damaged(directory: &PrivateDirectory, findings: Vec<AuditFinding>) -> AuditError {
    AuditError::Damaged {
        path: directory.path().to_path_buf(),
        findings,
    }
}
