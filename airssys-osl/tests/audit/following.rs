//! Reading a log while it is written.

use std::fs;
use std::time::Instant;

use airssys_osl::{
    AuditConfig, AuditError, AuditEvent, AuditFault, AuditFinding, AuditFollower, AuditItem,
    AuditLog, AuditReader, AuditRecord, verify_audit,
};

use crate::fixture::{PATIENCE, config, entry, records, segment, small, subjects};

fn polled(follower: &mut AuditFollower) -> Vec<AuditRecord> {
    let items = follower.poll().unwrap().into_iter();
    items
        .map(|item| match item {
            AuditItem::Record(record) => record,
            AuditItem::Finding(finding) => panic!("{finding}"),
        })
        .collect()
}

#[test]
fn a_follower_sees_each_record_once_over_rotations_and_a_change_of_writers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let config = AuditConfig {
        max_segments: 100,
        ..config(&path)
    };
    let log = AuditLog::open(&config).unwrap();
    log.append(entry("before")).unwrap();
    log.flush(PATIENCE).unwrap();
    let mut follower = AuditFollower::open(&path).unwrap();
    assert_eq!(polled(&mut follower), []);
    let mut log = Some(log);
    let mut seen = Vec::new();
    for n in 0..1000 {
        let writer = log.as_ref().unwrap();
        while writer.append(entry(&format!("{n:0300}"))).is_err() {
            writer.flush(PATIENCE).unwrap();
        }
        if n % 100 == 0 {
            seen.extend(polled(&mut follower));
        }
        if n == 500 {
            drop(log.take());
            log = Some(AuditLog::open(&config).unwrap());
        }
    }
    drop(log);
    let until = Instant::now() + PATIENCE;
    while !matches!(seen.last(), Some(AuditRecord { sequence: 1005, .. })) {
        assert!(Instant::now() < until);
        seen.extend(polled(&mut follower));
    }
    let expected: Vec<String> = (0..1000).map(|n| format!("{n:0300}")).collect();
    assert_eq!(subjects(&seen), expected);
    let numbers: Vec<u64> = seen.iter().map(|record| record.sequence).collect();
    assert_eq!(numbers, (3..=1005).collect::<Vec<_>>());
    assert_eq!(polled(&mut follower), []);
}

#[test]
fn a_follower_that_was_overtaken_is_told_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let config = AuditConfig {
        max_segments: 2,
        ..config(&path)
    };
    let log = AuditLog::open(&config).unwrap();
    let mut follower = AuditFollower::open(&path).unwrap();
    for n in 0..1000 {
        while log.append(entry(&format!("{n:0300}"))).is_err() {
            log.flush(PATIENCE).unwrap();
        }
    }
    log.close(PATIENCE).unwrap();
    let first = verify_audit(&path).unwrap().summary.first;
    let mut items = follower.poll().unwrap().into_iter();
    let Some(AuditItem::Finding(missed)) = items.next() else {
        panic!("nothing told");
    };
    assert_eq!((missed.segment, missed.sequence), (1, 2));
    assert_eq!(missed.fault, AuditFault::Missing { through: first - 1 });
    let records = items.map(|item| match item {
        AuditItem::Record(record) => record.sequence,
        AuditItem::Finding(finding) => panic!("{finding}"),
    });
    assert_eq!(
        records.collect::<Vec<_>>(),
        (first..=1002).collect::<Vec<_>>()
    );
}

#[test]
fn a_log_is_whole_at_any_time_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let log = AuditLog::open(&AuditConfig {
        max_segments: 2,
        ..config(&path)
    });
    let log = log.unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..3000 {
                while log.append(entry(&format!("{n:0300}"))).is_err() {
                    log.flush(PATIENCE).unwrap();
                }
            }
        });
        let mut last = 0;
        while !writer.is_finished() {
            let verdict = verify_audit(&path).unwrap();
            assert!(verdict.is_whole(), "{:?}", verdict.findings);
            assert!(verdict.summary.last >= last);
            last = verdict.summary.last;
        }
    });
    log.close(PATIENCE).unwrap();
}

#[test]
fn reading_makes_no_directory_and_needs_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    assert!(matches!(
        verify_audit(&none),
        Err(AuditError::Missing { .. })
    ));
    assert!(!none.exists());
    drop(airssys_osl::PrivateDirectory::open(&none).unwrap());
    let empty = AuditFollower::open(&none);
    assert!(matches!(empty, Err(AuditError::KeyMissing { .. })));
    drop(AuditLog::open(&config(&none)).unwrap());
    let records = crate::fixture::read(&none);
    assert_eq!(records[1].event, AuditEvent::Closed);
}

#[test]
fn a_follower_waits_for_half_a_record_and_tells_of_damage_once() {
    let (_dir, path) = small();
    let mut follower = AuditFollower::open(&path).unwrap();
    let file = segment(&path, 1);
    let whole = fs::read(&file).unwrap();
    let last = records(&whole).pop().unwrap();
    fs::write(
        &file,
        [&whole[..], &whole[last.start..last.end - 1]].concat(),
    )
    .unwrap();
    assert_eq!(polled(&mut follower), []);
    fs::write(&file, [&whole[..], &[0xff; 100]].concat()).unwrap();
    let damage = AuditFault::Damaged {
        through: 7,
        bytes: 100,
    };
    let told = AuditItem::Finding(AuditFinding {
        segment: 1,
        sequence: 7,
        fault: damage,
    });
    assert_eq!(follower.poll().unwrap(), [told]);
    assert_eq!(polled(&mut follower), []);
    // The next writer cuts it off and goes on.
    drop(AuditLog::open(&config(&path)).unwrap());
    let events = polled(&mut follower).into_iter().map(|record| record.event);
    let opened = AuditEvent::Opened { cut_bytes: 100 };
    assert_eq!(events.collect::<Vec<_>>(), [opened, AuditEvent::Closed]);
}

#[test]
fn a_reader_whose_segments_are_removed_before_it_comes_to_them_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let config = AuditConfig {
        max_segments: 2,
        ..config(&path)
    };
    let log = AuditLog::open(&config).unwrap();
    let fill = || {
        for n in 0..600 {
            while log.append(entry(&format!("{n:0300}"))).is_err() {
                log.flush(PATIENCE).unwrap();
            }
        }
        log.flush(PATIENCE).unwrap();
    };
    fill();
    let mut reader = AuditReader::open(&path).unwrap();
    fill();
    let mut numbers = Vec::new();
    for item in &mut reader {
        match item.unwrap() {
            AuditItem::Record(record) => numbers.push(record.sequence),
            AuditItem::Finding(finding) => panic!("{finding}"),
        }
    }
    let first = reader.summary().first;
    assert!(first > 601);
    assert_eq!(numbers, (first..=1201).collect::<Vec<_>>());
}
