//! The bytes, computed once more by other means.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use airssys_osl::{AuditDecision, AuditEvent, AuditLog, verify_audit};
use crc::{CRC_32_ISCSI, Crc};
use sha2::{Digest, Sha256};

use crate::fixture::{HEADER, config, entry, read, records, segment, small, written};

/// HMAC-SHA256 as RFC 2104 writes it, for a key shorter than a block.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let padded = |with: u8| -> Vec<u8> {
        let key = key.iter().copied().chain(std::iter::repeat(0));
        key.take(64).map(|byte| byte ^ with).collect()
    };
    let inner = Sha256::digest([&padded(0x36)[..], message].concat());
    Sha256::digest([&padded(0x5c)[..], &inner[..]].concat()).to_vec()
}

#[test]
fn the_chain_is_hmac_sha256_over_what_the_docs_say() {
    // RFC 4231, test case 2.
    let known = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let tag = hmac(b"Jefe", b"what do ya want for nothing?");
    let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, known);

    let (_dir, log) = small();
    let key = fs::read(log.join("key")).unwrap();
    let bytes = fs::read(segment(&log, 1)).unwrap();
    let header = [&b"airssys-audit-1\0"[..], &[1, 0, 0, 0, 0, 0, 0, 0]].concat();
    let header = [&header[..], &[1, 0, 0, 0, 0, 0, 0, 0], &[0; 32]].concat();
    assert_eq!(bytes[..64], header);
    assert_eq!(bytes[64..HEADER], hmac(&key, &[b"s", &header[..]].concat()));

    let mut before = bytes[64..HEADER].to_vec();
    let found = records(&bytes);
    assert_eq!(found.len(), 6);
    for (number, range) in (1_u64..).zip(found) {
        let (signed, tag) = bytes[range].split_last_chunk::<32>().unwrap();
        let crc = Crc::<u32>::new(&CRC_32_ISCSI);
        let sum = crc.checksum(&[&signed[..4], &signed[8..]].concat());
        assert_eq!(signed[4..8], sum.to_le_bytes());
        assert_eq!(signed[8..16], number.to_le_bytes());
        let expected = hmac(&key, &[b"r", &before[..], signed].concat());
        assert_eq!(tag[..], expected);
        before = tag.to_vec();
    }
    let head = fs::read(log.join("head")).unwrap();
    let (signed, tag) = head.split_last_chunk::<32>().unwrap();
    let numbers = [1_u64, 1, 1, 6].map(u64::to_le_bytes).concat();
    let expected = [&b"airssys-head-1\0\0"[..], &numbers, &before].concat();
    assert_eq!(signed, expected);
    assert_eq!(tag[..], hmac(&key, &[b"h", signed].concat()));
}

#[test]
fn what_is_appended_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let log = AuditLog::open(&config(&path)).unwrap();
    let mut allowed = entry("read data/x.txt");
    allowed.decision = AuditDecision::Allow;
    log.append(allowed).unwrap();
    log.append(entry("write y")).unwrap();
    log.close(Duration::from_secs(20)).unwrap();
    let state = log.state();
    let records = read(&path);
    let numbers: Vec<u64> = records.iter().map(|record| record.sequence).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(records[0].event, AuditEvent::Opened { cut_bytes: 0 });
    let AuditEvent::Call(call) = &records[1].event else {
        panic!("{:?}", records[1]);
    };
    assert_eq!(call.component.to_string(), "tool");
    assert_eq!((call.generation, call.decision), (7, AuditDecision::Allow));
    assert_eq!(call.capability.to_string(), "filesystem");
    assert_eq!(call.subject.to_string(), "read data/x.txt");
    assert_eq!(call.rule.to_string(), "[[capabilities.filesystem]]");
    let AuditEvent::Call(denied) = &records[2].event else {
        panic!("{:?}", records[2]);
    };
    assert_eq!(denied.decision, AuditDecision::Deny);
    assert_eq!(records[3].event, AuditEvent::Closed);
    // After the year 2020: the clock was asked.
    assert!(records[1].time > UNIX_EPOCH + Duration::from_secs(1_577_836_800));
    let summary = verify_audit(&path).unwrap().summary;
    assert_eq!((summary.records, summary.last), (4, 4));
    assert_eq!((state.sequence, state.tag), (summary.last, summary.tag));
    assert_eq!((state.accepted, state.on_disk), (2, 2));
}

#[test]
fn a_hostile_subject_forges_no_record_and_is_cut_where_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let long = "ä".repeat(1 << 19);
    // The cut would go through the middle of a character.
    let odd = format!("x{long}");
    let bytes: String = (0..=0x7f_u8).map(char::from).collect();
    let hostile = [
        String::from("read a\n9 2026 tool allow \x1b[2J\r\0"),
        bytes,
        String::from("\u{202e}txt.exe\u{9b}31m"),
        String::new(),
        long,
        odd,
    ];
    written(&path, &hostile);
    let records = read(&path);
    assert_eq!(records.len(), hostile.len() + 2);
    for (record, subject) in records[1..].iter().zip(&hostile) {
        let AuditEvent::Call(call) = &record.event else {
            panic!("{record:?}");
        };
        let limit = subject.floor_char_boundary(1024);
        assert_eq!(call.subject.text, subject[..limit]);
        assert_eq!(call.subject.cut, subject.len() > 1024);
        assert_eq!(
            call.subject.to_string().ends_with('…'),
            subject.len() > 1024
        );
        assert!(!call.component.cut && !call.rule.cut);
    }
}
