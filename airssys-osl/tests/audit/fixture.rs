//! Small logs, and their bytes.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use airssys_osl::{
    AuditConfig, AuditDecision, AuditEntry, AuditEvent, AuditItem, AuditLog, AuditReader,
    AuditRecord,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a segment's header.
pub(crate) const HEADER: usize = 96;

/// A log of the smallest segments.
pub(crate) fn config(directory: &Path) -> AuditConfig {
    AuditConfig {
        max_segment_bytes: 64 * 1024,
        sync_interval: Duration::from_millis(5),
        ..AuditConfig::new(directory)
    }
}

pub(crate) fn entry(subject: &str) -> AuditEntry<'_> {
    AuditEntry {
        component: "tool",
        generation: 7,
        capability: "filesystem",
        subject,
        decision: AuditDecision::Deny,
        rule: "[[capabilities.filesystem]]",
    }
}

/// A closed log with an entry for each subject: record 1 says opened, the last one closed.
pub(crate) fn written(directory: &Path, subjects: &[String]) {
    let log = AuditLog::open(&config(directory)).unwrap();
    for subject in subjects {
        log.append(entry(subject)).unwrap();
    }
    log.close(PATIENCE).unwrap();
}

/// A closed log of one segment with records 1 to 6.
pub(crate) fn small() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit");
    let subjects = ["read a", "read bb", "write ccc", "read dddd"];
    written(&log, &subjects.map(String::from));
    (dir, log)
}

/// A closed log of three segments or more.
pub(crate) fn large() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit");
    let subjects: Vec<String> = (0..150).map(|n| format!("{n:01000}")).collect();
    written(&log, &subjects);
    assert!(segment(&log, 3).exists());
    (dir, log)
}

pub(crate) fn segment(log: &Path, number: u64) -> PathBuf {
    log.join(format!("{number:010}.audit"))
}

/// Where the records of a segment are.
pub(crate) fn records(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut at = HEADER;
    let mut records = Vec::new();
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        records.push(at..at + 8 + length + 32);
        at += 8 + length + 32;
    }
    records
}

pub(crate) fn read(log: &Path) -> Vec<AuditRecord> {
    let items = AuditReader::open(log).unwrap().map(Result::unwrap);
    items
        .map(|item| match item {
            AuditItem::Record(record) => record,
            AuditItem::Finding(finding) => panic!("{finding}"),
        })
        .collect()
}

/// The subjects of the calls on record.
pub(crate) fn subjects(records: &[AuditRecord]) -> Vec<String> {
    let calls = records.iter().filter_map(|record| match &record.event {
        AuditEvent::Call(call) => Some(call.subject.text.clone()),
        _ => None,
    });
    calls.collect()
}

/// The same files elsewhere.
pub(crate) fn copy(log: &Path) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("audit");
    // Private, as the log itself.
    drop(airssys_osl::PrivateDirectory::open(&to).unwrap());
    for file in fs::read_dir(log).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    (dir, to)
}
