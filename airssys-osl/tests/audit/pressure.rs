//! Full queues, full disks, many threads, many segments.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use airssys_osl::{
    AuditConfig, AuditError, AuditEvent, AuditFailure, AuditFull, AuditHealth, AuditLog, OnFull,
    verify_audit,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::crash::{directory, part};
use crate::fixture::{PATIENCE, config, entry, read, subjects};

/// Appends until the queue is full, or as it counts, until something was lost.
fn overfilled(log: &AuditLog) -> u64 {
    let long = "x".repeat(1024);
    let begun = Instant::now();
    let mut taken = 0;
    while begun.elapsed() < PATIENCE {
        match log.append(entry(&long)) {
            Ok(()) if log.state().lost > 0 => return taken + 1 - log.state().lost,
            Ok(()) => taken += 1,
            Err(full) => {
                assert_eq!(full, AuditFull::Queue);
                return taken;
            }
        }
    }
    panic!("never full");
}

#[test]
fn a_full_queue_refuses_or_counts_as_told() {
    for on_full in [OnFull::Refuse, OnFull::Drop] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let log = AuditLog::open(&AuditConfig {
            queue_records: 16,
            on_full,
            ..config(&path)
        });
        let log = log.unwrap();
        let taken = overfilled(&log);
        log.flush(PATIENCE).unwrap();
        let state = log.state();
        assert_eq!((state.accepted, state.on_disk), (taken, taken));
        log.append(entry("room again")).unwrap();
        log.close(PATIENCE).unwrap();
        assert_eq!(log.append(entry("late")), Err(AuditFull::Closed));
        let records = read(&path);
        let lost: Vec<u64> = records
            .iter()
            .filter_map(|record| match record.event {
                AuditEvent::Lost { entries } => Some(entries),
                _ => None,
            })
            .collect();
        assert_eq!(subjects(&records).len() as u64, taken + 1);
        match on_full {
            OnFull::Refuse => assert_eq!((state.refused, state.lost, lost.len()), (1, 0, 0)),
            OnFull::Drop => assert_eq!((state.refused, &lost[..]), (0, &[state.lost][..])),
        }
    }
}

#[test]
#[ignore = "a part of a_disk_that_takes_nothing_refuses_until_it_does"]
fn part_of_a_writer_whose_disk_is_full() {
    let Some(path) = directory() else {
        return;
    };
    for on_full in [OnFull::Refuse, OnFull::Drop] {
        writes_again(&path.join(format!("{on_full:?}")), on_full);
    }
    println!("all is well");
}

fn files_up_to(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit {
        current: bytes.or(maximum),
        maximum,
    };
    setrlimit(Resource::Fsize, limit).unwrap();
}

fn writes_again(path: &Path, on_full: OnFull) {
    let log = AuditLog::open(&AuditConfig {
        on_full,
        queue_records: 256,
        max_segments: 1000,
        ..config(path)
    });
    let log = log.unwrap();
    files_up_to(Some(20_000));
    let mut taken = Vec::new();
    let until = Instant::now() + PATIENCE;
    let mut append = |log: &AuditLog| {
        assert!(Instant::now() < until);
        let subject = format!("{:0200}", taken.len());
        let (before, appended) = (log.state(), log.append(entry(&subject)));
        let after = log.state();
        if appended.is_ok() && after.lost == before.lost {
            taken.push(subject);
        }
        (appended, after)
    };
    let failing = loop {
        let (appended, state) = append(&log);
        if appended.is_err() || state.lost > 0 {
            assert_ne!(appended, Err(AuditFull::Closed));
            if let AuditHealth::Failing(failure) = state.health {
                break failure;
            }
        }
    };
    let AuditFailure::Write(error) = failing else {
        panic!("{failing:?}");
    };
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::FBIG.raw_os_error())
    );
    if on_full == OnFull::Refuse {
        assert_eq!(append(&log).0, Err(AuditFull::Disk));
    }
    let unsettled = log.flush(Duration::from_millis(50)).unwrap_err();
    assert!(unsettled.entries > 0 && unsettled.failure.is_some());

    files_up_to(None);
    log.flush(PATIENCE).unwrap();
    let (appended, state) = append(&log);
    assert_eq!(appended, Ok(()));
    assert!(matches!(state.health, AuditHealth::Writing), "{state:?}");
    log.close(PATIENCE).unwrap();
    assert!(verify_audit(path).unwrap().is_whole());
    let records = read(path);
    assert!(subjects(&records) == taken, "{} taken", taken.len());
    let state = log.state();
    let lost = records.iter().map(|record| match record.event {
        AuditEvent::Lost { entries } => entries,
        _ => 0,
    });
    assert_eq!(lost.sum::<u64>(), state.lost);
    assert_eq!(state.lost > 0, on_full == OnFull::Drop);
    assert_eq!(state.refused > 0, on_full == OnFull::Refuse);
}

#[test]
fn a_disk_that_takes_nothing_refuses_until_it_does() {
    let dir = tempfile::tempdir().unwrap();
    drop(airssys_osl::PrivateDirectory::open(&dir.path().join("logs")).unwrap());
    let part = part(
        "pressure::part_of_a_writer_whose_disk_is_full",
        &dir.path().join("logs"),
    );
    let output = { part }.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && out.contains("all is well"),
        "{out}{err}"
    );
}

#[test]
#[ignore = "a part of a_log_whose_disk_stays_full_ends_in_time_and_says_what_is_lost"]
fn part_of_a_writer_whose_disk_stays_full() {
    let Some(path) = directory() else {
        return;
    };
    let log = AuditLog::open(&config(&path)).unwrap();
    files_up_to(Some(4_000));
    let mut taken = 0;
    while log.append(entry(&format!("{taken:0500}"))).is_ok() {
        taken += 1;
    }
    let begun = Instant::now();
    let lost = log.close(Duration::from_millis(300)).unwrap_err();
    assert!(lost.entries > 0 && lost.failure.is_some());
    drop(log);
    assert!(begun.elapsed() < Duration::from_secs(10));
    files_up_to(None);
    let verdict = verify_audit(&path).unwrap();
    assert!(verdict.is_whole(), "{verdict:?}");
    let log = AuditLog::open(&config(&path)).unwrap();
    assert_eq!(log.state().cut_bytes, verdict.summary.unfinished_bytes);
    assert!(log.state().cut_bytes > 0);
    println!("all is well");
}

#[test]
fn a_log_whose_disk_stays_full_ends_in_time_and_says_what_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut part = part(
        "pressure::part_of_a_writer_whose_disk_stays_full",
        &dir.path().join("audit"),
    );
    let output = part.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && out.contains("all is well"),
        "{out}{err}"
    );
}

#[test]
fn a_second_writer_is_refused_while_the_first_lives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let first = AuditLog::open(&config(&path)).unwrap();
    for _ in 0..2 {
        let second = AuditLog::open(&config(&path));
        assert!(matches!(second, Err(AuditError::Locked { .. })));
    }
    first.append(entry("one")).unwrap();
    drop(first);
    drop(AuditLog::open(&config(&path)).unwrap());
    assert_eq!(read(&path).len(), 5);
    assert_eq!(subjects(&read(&path)), ["one"]);
}

/// Until a process that is being started has its own program, it holds what its parent has open.
#[test]
fn a_dropped_log_is_free_at_once_while_processes_are_started_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let spawner = scope.spawn(|| {
            let mut started = 0;
            while !done.load(Ordering::Relaxed) {
                let mut child = Command::new("true").spawn().unwrap();
                assert!(child.wait().unwrap().success());
                started += 1;
            }
            started
        });
        let opened: Vec<_> = (0..200)
            .map(|_| AuditLog::open(&config(&path)).map(drop))
            .collect();
        done.store(true, Ordering::Relaxed);
        assert!(spawner.join().unwrap() > 20);
        for opened in opened {
            opened.unwrap();
        }
    });
}

#[test]
fn a_log_stays_within_its_segments_and_says_where_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let config = AuditConfig {
        max_segments: 3,
        ..config(&path)
    };
    let log = AuditLog::open(&config).unwrap();
    for n in 0..1500 {
        while log.append(entry(&format!("{n:0300}"))).is_err() {
            log.flush(PATIENCE).unwrap();
        }
        if n % 50 == 0 {
            within(&path);
        }
    }
    log.close(PATIENCE).unwrap();
    within(&path);
    let verdict = verify_audit(&path).unwrap();
    assert!(verdict.is_whole(), "{:?}", verdict.findings);
    let summary = verdict.summary;
    assert_eq!((summary.segments, summary.last), (3, 1502));
    assert!(summary.first > 1000 && summary.records == 1503 - summary.first);
    assert_eq!(read(&path)[0].sequence, summary.first);
    assert_eq!(log.state().sequence, 1502);
    // The writer's files are its own.
    for file in fs::read_dir(&path).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    drop(log);
    // Under a smaller bound what was kept goes as new segments come.
    let fewer = AuditConfig {
        max_segments: 2,
        ..config
    };
    let log = AuditLog::open(&fewer).unwrap();
    for n in 0..300 {
        log.append(entry(&format!("{n:0300}"))).unwrap();
    }
    log.close(PATIENCE).unwrap();
    let verdict = verify_audit(&path).unwrap();
    assert!(verdict.is_whole(), "{:?}", verdict.findings);
    assert_eq!(verdict.summary.segments, 2);
}

/// Three segments of 64 KiB at most, at any time.
fn within(path: &Path) {
    let files = fs::read_dir(path).unwrap();
    let segments = files.filter_map(|file| {
        let file = file.unwrap();
        let is_segment = file.file_name().to_string_lossy().ends_with(".audit");
        is_segment.then(|| file.metadata().map_or(0, |file| file.len()))
    });
    let segments: Vec<u64> = segments.collect();
    assert!(segments.len() <= 3, "{segments:?}");
    assert!(
        segments.iter().all(|bytes| *bytes <= 64 * 1024),
        "{segments:?}"
    );
}

#[test]
fn threads_keep_their_order_and_lose_nothing() {
    const EACH: usize = 5000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let log = AuditLog::open(&AuditConfig {
        max_segment_bytes: 1024 * 1024,
        ..config(&path)
    });
    let (log, together) = (log.unwrap(), Barrier::new(4));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (log, together) = (&log, &together);
            scope.spawn(move || {
                together.wait();
                for n in 0..EACH {
                    while log.append(entry(&format!("{thread} {n}"))).is_err() {
                        log.flush(PATIENCE).unwrap();
                    }
                }
            });
        }
    });
    log.close(PATIENCE).unwrap();
    let found = subjects(&read(&path));
    assert_eq!(found.len(), 4 * EACH);
    for thread in 0..4 {
        let own = found
            .iter()
            .filter_map(|s| s.strip_prefix(&format!("{thread} ")));
        let own: Vec<usize> = own.map(|n| n.parse().unwrap()).collect();
        assert_eq!(own, (0..EACH).collect::<Vec<_>>());
    }
}

#[test]
fn an_entry_is_on_disk_after_the_interval_without_being_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let log = AuditLog::open(&config(&path)).unwrap();
    for n in 1..4 {
        log.append(entry("one")).unwrap();
        let until = Instant::now() + PATIENCE;
        while log.state().on_disk < n {
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
        assert_eq!(subjects(&read(&path)).len() as u64, n);
    }
}

#[test]
fn a_flush_waits_for_no_interval() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let log = AuditLog::open(&AuditConfig {
        sync_interval: Duration::from_secs(3600),
        ..config(&path)
    });
    let log = log.unwrap();
    log.append(entry("one")).unwrap();
    log.flush(PATIENCE).unwrap();
    assert_eq!(log.state().on_disk, 1);
}
