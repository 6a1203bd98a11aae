//! Whatever is done to a closed log without its key is found, and named for what it is.

use std::fs;
use std::path::Path;

use airssys_osl::{AuditError, AuditFault, AuditFinding, AuditLog, verify_audit};
use proptest::prelude::*;

use crate::fixture::{HEADER, config, copy, entry, large, read, records, segment, small};

fn findings(log: &Path) -> Vec<AuditFinding> {
    let verdict = verify_audit(log).unwrap();
    assert_eq!(verdict.is_whole(), verdict.findings.is_empty());
    verdict.findings
}

fn finding(segment: u64, sequence: u64, fault: AuditFault) -> AuditFinding {
    AuditFinding {
        segment,
        sequence,
        fault,
    }
}

#[test]
fn every_flipped_bit_is_found_and_named() {
    let (_dir, log) = small();
    let file = segment(&log, 1);
    let whole = fs::read(&file).unwrap();
    assert_eq!(findings(&log), []);
    let places = records(&whole);
    for position in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[position] ^= 1 << bit;
            fs::write(&file, &flipped).unwrap();
            let found = findings(&log);
            let [found] = found[..] else {
                panic!("bit {bit} of byte {position}: {found:?}");
            };
            assert_eq!(found.segment, 1);
            let Some(record) = places.iter().position(|place| place.contains(&position)) else {
                assert_eq!(found, finding(1, 0, AuditFault::Header));
                continue;
            };
            let sequence = record as u64 + 1;
            assert_eq!(found.sequence, sequence, "bit {bit} of byte {position}");
            let offset = position - places[record].start;
            let tag = offset >= places[record].len() - 32;
            let bytes = places[record].len() as u64;
            let through = sequence;
            match found.fault {
                AuditFault::Altered => assert!(tag),
                AuditFault::Damaged { .. } => {
                    assert!(!tag);
                    assert_eq!(found.fault, AuditFault::Damaged { through, bytes });
                }
                // A length of the last record that goes beyond the end.
                AuditFault::CutShort { bytes: left } => {
                    assert!(offset < 4 && sequence == 6 && left == bytes);
                }
                other => panic!("bit {bit} of byte {position}: {other:?}"),
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_head_and_key_is_found() {
    let (_dir, log) = small();
    let head = fs::read(log.join("head")).unwrap();
    for position in 0..head.len() {
        for bit in 0..8 {
            let mut flipped = head.clone();
            flipped[position] ^= 1 << bit;
            fs::write(log.join("head"), &flipped).unwrap();
            assert_eq!(findings(&log), [finding(0, 0, AuditFault::HeadDamaged)]);
        }
    }
    fs::write(log.join("head"), &head).unwrap();
    fs::rename(log.join("head"), log.join("elsewhere")).unwrap();
    assert_eq!(findings(&log), [finding(0, 0, AuditFault::HeadMissing)]);
    fs::rename(log.join("elsewhere"), log.join("head")).unwrap();
    let key = fs::read(log.join("key")).unwrap();
    for position in 0..key.len() {
        let mut flipped = key.clone();
        flipped[position] ^= 1;
        fs::write(log.join("key"), &flipped).unwrap();
        assert!(!findings(&log).is_empty());
    }
    fs::rename(log.join("key"), log.join("elsewhere")).unwrap();
    assert!(matches!(
        verify_audit(&log),
        Err(AuditError::KeyMissing { .. })
    ));
    let refused = AuditLog::open(&config(&log));
    assert!(matches!(refused, Err(AuditError::KeyMissing { .. })));
    fs::rename(log.join("elsewhere"), log.join("key")).unwrap();
    fs::write(log.join("key"), &key[1..]).unwrap();
    assert!(matches!(
        verify_audit(&log),
        Err(AuditError::Key { bytes: 31, .. })
    ));
    fs::write(log.join("key"), &key).unwrap();
    assert_eq!(findings(&log), []);
}

#[test]
fn records_removed_doubled_or_swapped_are_named() {
    let (_dir, log) = small();
    let file = segment(&log, 1);
    let whole = fs::read(&file).unwrap();
    let pieces: Vec<&[u8]> = records(&whole).into_iter().map(|r| &whole[r]).collect();
    let rewritten = |order: &[usize]| {
        let order = order.iter().map(|record| pieces[*record]);
        let bytes: Vec<&[u8]> = std::iter::once(&whole[..HEADER]).chain(order).collect();
        fs::write(&file, bytes.concat()).unwrap();
        findings(&log)
    };
    let all: Vec<usize> = (0..pieces.len()).collect();
    assert_eq!(rewritten(&all), []);
    for removed in 0..6 {
        let mut order = all.clone();
        order.remove(removed);
        let sequence = removed as u64 + 1;
        let missing = AuditFault::Missing { through: sequence };
        assert_eq!(
            rewritten(&order),
            [finding(1, sequence, missing)],
            "{removed}"
        );
    }
    for doubled in 0..6 {
        for place in doubled + 1..=6 {
            let mut order = all.clone();
            order.insert(place, doubled);
            let repeated = finding(1, doubled as u64 + 1, AuditFault::Repeated);
            assert_eq!(rewritten(&order), [repeated], "{doubled} {place}");
        }
    }
    for first in 0..5 {
        let mut order = all.clone();
        order.swap(first, first + 1);
        let sequence = first as u64 + 1;
        let after = sequence + 1;
        let moved = finding(1, sequence, AuditFault::OutOfPlace { after });
        assert_eq!(rewritten(&order), [moved], "{first}");
    }
    let missing = AuditFault::Missing { through: 4 };
    assert_eq!(rewritten(&[0, 4, 5]), [finding(1, 2, missing)]);
}

#[test]
fn a_record_rewritten_with_its_checksum_is_named_and_the_others_are_not() {
    let (_dir, log) = small();
    let file = segment(&log, 1);
    let whole = fs::read(&file).unwrap();
    for (number, place) in (1..).zip(records(&whole)) {
        let mut bytes = whole.clone();
        // The last byte of the body, or the sequence number; the checksum is anyone's to compute.
        for position in [place.end - 33, place.start + 8, place.start + 9] {
            bytes[position] ^= 1;
            let (before, after) = (
                place.start..place.start + 4,
                place.start + 8..place.end - 32,
            );
            let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
            let sum = crc.checksum(&[&bytes[before], &bytes[after]].concat());
            bytes[place.start + 4..place.start + 8].copy_from_slice(&sum.to_le_bytes());
            fs::write(&file, &bytes).unwrap();
            assert_eq!(findings(&log), [finding(1, number, AuditFault::Altered)]);
        }
    }
}

#[test]
fn a_forged_record_at_the_end_is_named_and_not_continued() {
    let (_dir, log) = small();
    let file = segment(&log, 1);
    let mut bytes = fs::read(&file).unwrap();
    let last = records(&bytes).pop().unwrap();
    let mut forged = bytes[last].to_vec();
    forged[8] = 7;
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    let body = forged.len() - 32;
    let sum = crc.checksum(&[&forged[..4], &forged[8..body]].concat());
    forged[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes.extend_from_slice(&forged);
    fs::write(&file, &bytes).unwrap();
    let inserted = AuditFault::Inserted {
        bytes: forged.len() as u64,
    };
    assert_eq!(findings(&log), [finding(1, 7, inserted)]);
    let refused = AuditLog::open(&config(&log));
    assert!(matches!(refused, Err(AuditError::Damaged { .. })));
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn a_tail_cut_anywhere_is_found() {
    let (_dir, log) = small();
    let file = segment(&log, 1);
    let whole = fs::read(&file).unwrap();
    let places = records(&whole);
    for length in 0..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        let found = findings(&log);
        let Some(cut) = places.iter().position(|place| place.contains(&length)) else {
            assert_eq!(found[0], finding(1, 0, AuditFault::Header), "{length}");
            assert_eq!(found[1].fault, AuditFault::Missing { through: 6 });
            continue;
        };
        let sequence = cut as u64 + 1;
        let bytes = (length - places[cut].start) as u64;
        let mut expected = Vec::new();
        let mut missing = sequence;
        if bytes > 0 {
            expected.push(finding(1, sequence, AuditFault::CutShort { bytes }));
            missing += 1;
        }
        if missing <= 6 {
            let through = 6;
            expected.push(finding(1, missing, AuditFault::Missing { through }));
        }
        assert_eq!(found, expected, "{length}");
    }
    // What the head vouches for is not cut off.
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let refused = AuditLog::open(&config(&log)).unwrap_err();
    assert!(
        refused.to_string().contains("record 6 is cut short"),
        "{refused}"
    );
    assert_eq!(fs::read(&file).unwrap(), whole[..whole.len() - 1]);
}

#[test]
fn segments_removed_or_exchanged_are_named() {
    let (_dir, log) = large();
    let last = 1 + (1..9).take_while(|n| segment(&log, n + 1).exists()).count() as u64;
    let records = read(&log);
    let total = records.last().unwrap().sequence;
    let firsts: Vec<u64> = (1..=last).map(|n| first_of(&log, n)).collect();
    for gone in 1..=last {
        let (_copy, log) = copy(&log);
        fs::remove_file(segment(&log, gone)).unwrap();
        let through = firsts.get(gone as usize).map_or(total, |next| next - 1);
        let missing = AuditFault::SegmentMissing { through };
        let found = findings(&log);
        assert_eq!(found.len(), 1, "{gone}: {found:?}");
        assert_eq!((found[0].segment, found[0].fault), (gone, missing));
        assert_eq!(found[0].sequence, firsts[gone as usize - 1]);
        let opened = AuditLog::open(&config(&log));
        assert!(matches!(opened, Err(AuditError::Damaged { .. })), "{gone}");
    }
    let (_copy, swapped) = copy(&log);
    fs::rename(segment(&swapped, 1), segment(&swapped, 99)).unwrap();
    fs::rename(segment(&swapped, 2), segment(&swapped, 1)).unwrap();
    fs::rename(segment(&swapped, 99), segment(&swapped, 2)).unwrap();
    let exchanged = [
        finding(1, 0, AuditFault::Exchanged { found: 2 }),
        finding(2, 0, AuditFault::Exchanged { found: 1 }),
    ];
    assert_eq!(findings(&swapped), exchanged);

    let (_copy, replaced) = copy(&log);
    fs::copy(segment(&replaced, 3), segment(&replaced, 2)).unwrap();
    let through = firsts[2] - 1;
    let expected = [
        finding(2, 0, AuditFault::Exchanged { found: 3 }),
        finding(2, firsts[1], AuditFault::SegmentMissing { through }),
    ];
    assert_eq!(findings(&replaced), expected);
}

fn first_of(log: &Path, number: u64) -> u64 {
    let bytes = fs::read(segment(log, number)).unwrap();
    u64::from_le_bytes(bytes[24..32].try_into().unwrap())
}

#[test]
fn a_segment_of_another_log_is_none_of_this_one() {
    let (_ours, log) = large();
    let (_theirs, other) = large();
    fs::copy(segment(&other, 2), segment(&log, 2)).unwrap();
    let found = findings(&log);
    assert_eq!(found[0], finding(2, 0, AuditFault::Header));
    assert!(found.len() > 1 && found.iter().all(|finding| finding.segment == 2));
    fs::copy(other.join("head"), log.join("head")).unwrap();
    assert!(findings(&log).contains(&finding(0, 0, AuditFault::HeadDamaged)));
}

#[test]
fn flips_in_the_header_of_a_later_segment_leave_its_records_proven() {
    let (_dir, log) = large();
    let total = read(&log).len() as u64;
    let whole = fs::read(segment(&log, 2)).unwrap();
    for position in 0..HEADER {
        let mut flipped = whole.clone();
        flipped[position] ^= 0x10;
        fs::write(segment(&log, 2), &flipped).unwrap();
        let verdict = verify_audit(&log).unwrap();
        assert_eq!(verdict.findings, [finding(2, 0, AuditFault::Header)]);
        assert_eq!(verdict.summary.records, total);
    }
}

#[derive(Debug, Clone)]
enum Change {
    Flip(prop::sample::Index, u8),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Move(prop::sample::Index, prop::sample::Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        (place(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (place(), 1..300_usize).prop_map(|(at, bytes)| Change::Remove(at, bytes)),
        (place(), prop::collection::vec(any::<u8>(), 1..300))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (place(), place(), 1..300_usize).prop_map(|(from, to, n)| Change::Move(from, to, n)),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Flip(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Self::Remove(at, count) => {
                let at = at.index(bytes.len());
                let end = bytes.len().min(at + count);
                bytes.drain(at..end);
            }
            Self::Insert(at, new) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Move(from, to, count) => {
                let from = from.index(bytes.len());
                let end = bytes.len().min(from + count);
                let moved: Vec<u8> = bytes.drain(from..end).collect();
                let to = to.index(bytes.len() + 1);
                bytes.splice(to..to, moved);
            }
        }
    }
}

#[test]
fn no_changes_to_a_segment_go_unseen() {
    let (_dir, log) = small();
    let file = segment(&log, 1);
    let whole = fs::read(&file).unwrap();
    let cases = std::env::var("AIRSSYS_AUDIT_CASES").ok();
    let cases = cases.and_then(|cases| cases.parse().ok()).unwrap_or(500);
    let changes = prop::collection::vec(change(), 1..5);
    let run = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(run, |(changes in changes)| {
        let mut bytes = whole.clone();
        for change in &changes {
            if !bytes.is_empty() {
                change.apply(&mut bytes);
            }
        }
        fs::write(&file, &bytes).unwrap();
        let verdict = verify_audit(&log).unwrap();
        // Bytes behind the last record, which no head vouches for, may be a writer's at work.
        let behind = bytes.starts_with(&whole);
        let left = (bytes.len().saturating_sub(whole.len())) as u64;
        let only_behind = behind && verdict.summary.unfinished_bytes == left;
        prop_assert!(!verdict.is_whole() || only_behind);
        prop_assert!(verdict.summary.records <= 6);
    });
}

#[test]
fn what_is_damaged_before_the_last_segment_is_told_and_hinders_no_writer() {
    let (_dir, log) = large();
    let mut bytes = fs::read(segment(&log, 1)).unwrap();
    let place = records(&bytes)[4].start;
    bytes[place + 20] ^= 1;
    fs::write(segment(&log, 1), &bytes).unwrap();
    let writer = AuditLog::open(&config(&log)).unwrap();
    writer.append(entry("more")).unwrap();
    drop(writer);
    let found = findings(&log);
    assert_eq!(
        (found.len(), found[0].segment, found[0].sequence),
        (1, 1, 5)
    );
}
