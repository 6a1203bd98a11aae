//! What is there after a writer was killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use airssys_osl::{AuditError, AuditEvent, AuditLog, verify_audit};

use crate::fixture::{PATIENCE, config, copy, entry, read, records, segment, subjects};

const DIRECTORY: &str = "AIRSSYS_AUDIT_TEST_DIRECTORY";

/// This very test program, in its part as a writer.
pub(crate) fn part(name: &str, directory: &std::path::Path) -> Command {
    let mut command = Command::new("sh");
    // A write past a limit is an error then, and no signal.
    let script = "trap '' XFSZ; exec \"$0\" \"$@\"";
    command
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    command.env(DIRECTORY, directory);
    command
}

/// Where the part writes; `None` where nobody has given it one.
pub(crate) fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

#[test]
#[ignore = "a part of whatever_a_flush_confirmed_is_there_after_a_kill"]
fn part_of_a_writer_that_is_killed() {
    let Some(directory) = directory() else {
        return;
    };
    let log = AuditLog::open(&config(&directory)).unwrap();
    for n in 0_u64.. {
        while log.append(entry(&format!("{n:0300}"))).is_err() {
            log.flush(PATIENCE).unwrap();
        }
        if n % 500 == 499 {
            log.flush(PATIENCE).unwrap();
            println!("confirmed {}", n + 1);
        }
    }
}

fn confirmed(child: &mut Child, until: u64) -> u64 {
    let mut confirmed = 0;
    for line in BufReader::new(child.stdout.as_mut().unwrap()).lines() {
        if let Some(count) = line.unwrap().strip_prefix("confirmed ") {
            confirmed = count.parse().unwrap();
            if confirmed >= until {
                break;
            }
        }
    }
    confirmed
}

#[test]
fn whatever_a_flush_confirmed_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let mut torn = 0;
    for round in 1..=3 {
        let part = part("crash::part_of_a_writer_that_is_killed", &path)
            .stdout(Stdio::piped())
            .spawn();
        let mut child = part.unwrap();
        let confirmed = confirmed(&mut child, 1000 * round);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(confirmed >= 1000 * round);

        let before = verify_audit(&path).unwrap();
        assert!(before.is_whole(), "{:?}", before.findings);
        let log = AuditLog::open(&config(&path)).unwrap();
        let state = log.state();
        assert_eq!(state.cut_bytes, before.summary.unfinished_bytes);
        torn += u64::from(state.cut_bytes > 0);
        assert_eq!(state.sequence, before.summary.last + 1);
        drop(log);
        let after = verify_audit(&path).unwrap();
        assert!(after.is_whole(), "{:?}", after.findings);
        assert_eq!(after.summary.unfinished_bytes, 0);

        // Rotation may have removed the first ones.
        let records = read(&path);
        let opened = |event: &AuditEvent| matches!(event, AuditEvent::Opened { .. });
        let begun = records.iter().rposition(|record| opened(&record.event));
        let before = &records[..begun.unwrap()];
        let start = before.iter().rposition(|record| opened(&record.event));
        let written = subjects(&before[start.map_or(0, |start| start + 1)..]);
        let last: u64 = written.last().unwrap().parse().unwrap();
        assert!(last + 1 >= confirmed, "{last} {confirmed}");
        let first: u64 = written[0].parse().unwrap();
        let expected: Vec<String> = (first..=last).map(|n| format!("{n:0300}")).collect();
        assert_eq!(written, expected);
    }
    // As a rule none: a kill seldom meets a write half way.
    println!("{torn} of 3 torn");
}

/// A log as a kill leaves it: record 2 is confirmed by the head, records 3 to 5 are whole behind it.
fn ended() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let log = AuditLog::open(&config(&path)).unwrap();
    log.append(entry("first")).unwrap();
    log.flush(PATIENCE).unwrap();
    let head = fs::read(path.join("head")).unwrap();
    log.append(entry("second")).unwrap();
    log.append(entry(&forgery())).unwrap();
    log.close(PATIENCE).unwrap();
    drop(log);
    fs::write(path.join("head"), head).unwrap();
    (dir, path)
}

/// A text that is a whole record but for its tag, which only the key gives.
fn forgery() -> String {
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    let length = 17_u32.to_le_bytes();
    let frame = (0_u8..128).find_map(|filler| {
        let mut body = [filler; 17];
        body[..8].copy_from_slice(&9_u64.to_le_bytes());
        body[16] = 3;
        let sum = crc.checksum(&[&length[..], &body].concat()).to_le_bytes();
        let frame = [&length[..], &sum, &body, &[b't'; 32]].concat();
        String::from_utf8(frame).ok()
    });
    format!("{}{}", "-".repeat(64), frame.unwrap())
}

#[test]
fn a_torn_tail_is_cut_off_and_said_so() {
    let (_dir, whole) = ended();
    let bytes = fs::read(segment(&whole, 1)).unwrap();
    let places = records(&bytes);
    assert_eq!(places.len(), 5);
    // Every place of the closing record, some of the longer ones, each border.
    let cuts = (places[2].start..places[4].start).step_by(13);
    let borders = places[2..].iter().map(|place| place.start);
    for length in cuts.chain(borders).chain(places[4].clone()) {
        let (_copy, path) = copy(&whole);
        fs::write(segment(&path, 1), &bytes[..length]).unwrap();
        let place = places.iter().find(|place| place.contains(&length)).unwrap();
        let torn = (length - place.start) as u64;
        let verdict = verify_audit(&path).unwrap();
        assert!(verdict.is_whole(), "{length}: {:?}", verdict.findings);
        assert_eq!(verdict.summary.unfinished_bytes, torn);
        let log = AuditLog::open(&config(&path)).unwrap();
        assert_eq!(log.state().cut_bytes, torn, "{length}");
        drop(log);
        let records = read(&path);
        let [.., opened, closed] = &records[..] else {
            panic!("{records:?}");
        };
        assert_eq!(opened.event, AuditEvent::Opened { cut_bytes: torn });
        assert_eq!(closed.event, AuditEvent::Closed);
        assert_eq!(verify_audit(&path).unwrap().summary.unfinished_bytes, 0);
    }
}

#[test]
fn a_damaged_middle_is_not_cut_off_even_where_no_head_vouches_for_it() {
    let (_dir, whole) = ended();
    let bytes = fs::read(segment(&whole, 1)).unwrap();
    let places = records(&bytes);
    for position in places[2].clone().step_by(3) {
        let (_copy, path) = copy(&whole);
        let mut flipped = bytes.clone();
        flipped[position] ^= 4;
        fs::write(segment(&path, 1), &flipped).unwrap();
        let refused = AuditLog::open(&config(&path)).unwrap_err();
        let AuditError::Damaged { findings, .. } = refused else {
            panic!("{position}: {refused}");
        };
        assert_eq!((findings[0].segment, findings[0].sequence), (1, 3));
        assert_eq!(fs::read(segment(&path, 1)).unwrap(), flipped);
    }
}

#[test]
fn a_writer_ended_at_its_very_beginning_is_followed_by_another() {
    let (_dir, log) = {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        drop(AuditLog::open(&config(&path)).unwrap());
        (dir, path)
    };
    let fresh = fs::read(log.join("key")).unwrap();
    // Before the key, and before the first segment.
    for gone in [
        &["key", "head", "0000000001.audit"][..],
        &["key", "0000000001.audit"],
    ] {
        let (_copy, path) = copy(&log);
        for name in gone {
            fs::remove_file(path.join(name)).unwrap();
        }
        drop(AuditLog::open(&config(&path)).unwrap());
        assert_ne!(fs::read(path.join("key")).unwrap(), fresh);
        assert_eq!(read(&path).len(), 2);
    }
}
