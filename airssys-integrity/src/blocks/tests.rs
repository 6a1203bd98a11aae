//! Faults between the source and the tags, and in what callers cannot reach.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

use super::{BLOCK_BYTES, Blocks, LINES_PER_BLOCK, Line, VerifyError, blank};
use crate::{SampleRate, VerificationLevel};
use std::vec;
use std::vec::Vec;

const CHECKED: [VerificationLevel; 3] = [
    VerificationLevel::Standard,
    VerificationLevel::Full,
    VerificationLevel::Redundant,
];

fn source(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 256) as u8).collect()
}

fn empty(level: VerificationLevel, room: usize) -> Blocks {
    let mut blocks = Blocks::new(level);
    blocks.grow(room, room).unwrap();
    blocks
}

fn sample(level: VerificationLevel, len: usize) -> Blocks {
    let mut blocks = empty(level, len);
    blocks.append(&source(len)).unwrap();
    blocks.close();
    blocks
}

fn corrupt(blocks: &Blocks) -> crate::Corrupt {
    match blocks.verify() {
        Err(VerifyError::Corrupt(corrupt)) => corrupt,
        other => panic!("{other:?}"),
    }
}

fn swap_first_blocks<T>(memory: &mut [T], per_block: usize) {
    let (first, rest) = memory.split_at_mut(per_block);
    first.swap_with_slice(&mut rest[..per_block]);
}

#[test]
fn swapped_blocks_are_caught_even_when_their_tags_move_along() {
    for tags_too in [false, true] {
        let mut blocks = sample(VerificationLevel::Redundant, 3 * BLOCK_BYTES);
        swap_first_blocks(&mut blocks.data, LINES_PER_BLOCK);
        swap_first_blocks(&mut blocks.mirror, LINES_PER_BLOCK);
        if tags_too {
            blocks.tags.swap(0, 1);
        }
        assert_eq!(corrupt(&blocks).block, 0);
    }
}

#[test]
fn a_shorter_or_longer_length_is_caught_by_the_length_tag() {
    for len in [1, 511, 512, 513, 1_500] {
        for other in (0..len).chain([len + 1, usize::MAX]) {
            let mut blocks = sample(VerificationLevel::Standard, len);
            blocks.held = other;
            let corrupt = corrupt(&blocks);
            assert_eq!((corrupt.offset, corrupt.len), (other, 0));
            blocks.read().unwrap_err();
            assert!(blocks.unverified().len() <= blocks.room());
        }
    }
}

#[test]
fn blocks_cut_off_with_their_tags_are_caught() {
    let mut blocks = sample(VerificationLevel::Standard, 3 * BLOCK_BYTES);
    blocks.held = BLOCK_BYTES;
    blocks.data.truncate(LINES_PER_BLOCK);
    blocks.tags.truncate(1);
    corrupt(&blocks);
}

#[test]
fn memory_shorter_than_the_tagged_length_is_corrupt() {
    let mut blocks = sample(VerificationLevel::Standard, 2 * BLOCK_BYTES);
    blocks.data.truncate(LINES_PER_BLOCK);
    assert_eq!(corrupt(&blocks).len, 0);
}

#[test]
fn a_block_without_a_tag_is_corrupt() {
    let mut blocks = sample(VerificationLevel::Standard, 2 * BLOCK_BYTES);
    blocks.tags.pop();
    assert_eq!(corrupt(&blocks).block, 1);
}

#[test]
fn a_level_that_changed_is_caught_by_the_length_tag() {
    let sampling = VerificationLevel::Sampling(SampleRate::ONE_IN_64);
    for level in CHECKED {
        for other in [VerificationLevel::Off, sampling] {
            let mut blocks = sample(level, 600);
            blocks.level = other;
            assert_eq!(blocks.read().unwrap_err().len, 0);
        }
    }
}

/// A lost store leaves the block of an earlier message behind, with a tag that fits it.
#[test]
fn what_an_earlier_message_left_does_not_pass_for_the_next() {
    let mut blocks = sample(VerificationLevel::Standard, BLOCK_BYTES);
    let (earlier_tag, earlier_header) = (blocks.tags[0], blocks.header_tag);
    blocks.restart(0, 1);
    blocks.append(&source(BLOCK_BYTES)).unwrap();
    blocks.close();
    blocks.verify().unwrap();
    blocks.tags[0] = earlier_tag;
    assert_eq!(corrupt(&blocks).block, 0);
    blocks.header_tag = earlier_header;
    assert_eq!(corrupt(&blocks).len, 0);
}

#[test]
fn a_failed_allocation_leaves_the_buffer_unchanged() {
    for level in CHECKED {
        let mut blocks = empty(level, 4);
        blocks.append(b"kept").unwrap();
        blocks.grow(usize::MAX / 2 + 1, usize::MAX).unwrap_err();
        blocks.grow(600, usize::MAX).unwrap();
        blocks.append(b", and more").unwrap();
        blocks.close();
        assert_eq!(blocks.verify().unwrap(), b"kept, and more");
    }
}

#[test]
fn reserved_memory_stays_under_the_limit_rounded_up_to_a_block() {
    let limit = 5 * BLOCK_BYTES - 1;
    let mut blocks = Blocks::new(VerificationLevel::Redundant);
    for needed in 1..=limit {
        if needed > blocks.room() {
            blocks.grow(needed, limit).unwrap();
        }
        blocks.append(&[7]).unwrap();
    }
    assert!(blocks.data.capacity() * size_of::<Line>() <= 5 * BLOCK_BYTES);
    assert!(blocks.mirror.capacity() * size_of::<Line>() <= 5 * BLOCK_BYTES);
}

/// Each bit of the second part of a message, hit on its way into memory.
fn seen_on_arrival(level: VerificationLevel, in_mirror: bool) -> usize {
    let bytes = source(700);
    let (first, second) = bytes.split_at(500);
    let mut seen = 0;
    for bit in 0..second.len() * 8 {
        let mut blocks = empty(level, bytes.len());
        blocks.append(first).unwrap();
        let mut passed = 0;
        let appended = blocks.append_passes(second, second, |data, mirror| {
            let arrived = data.len();
            let memory = if in_mirror { mirror } else { data };
            if let Some(slot) = (bit / 8)
                .checked_sub(passed)
                .and_then(|at| memory.get_mut(at))
            {
                *slot ^= 1 << (bit % 8);
            }
            passed += arrived;
        });
        seen += usize::from(appended.is_err());
        // What was held before is held still, and the next try succeeds.
        if appended.is_err() {
            assert_eq!(blocks.len(), first.len());
            blocks.append(second).unwrap();
            blocks.close();
            assert_eq!(blocks.verify().unwrap(), bytes);
        }
    }
    seen
}

#[test]
fn a_copy_that_arrived_changed_is_refused_at_full_and_redundant() {
    assert_eq!(seen_on_arrival(VerificationLevel::Full, false), 200 * 8);
    assert_eq!(
        seen_on_arrival(VerificationLevel::Redundant, false),
        200 * 8
    );
    assert_eq!(seen_on_arrival(VerificationLevel::Redundant, true), 200 * 8);
}

/// A register hit before both of its uses: data and tag agree on the wrong bytes.
fn refused_with_a_hit_register(level: VerificationLevel) -> usize {
    let bytes = source(700);
    let refused = |bit: &usize| {
        let mut hit = bytes.clone();
        hit[bit / 8] ^= 1 << (bit % 8);
        let mut blocks = empty(level, bytes.len());
        let appended = blocks.append_passes(&hit, &bytes, |_, _| {});
        appended.is_err()
    };
    (0..bytes.len() * 8).filter(refused).count()
}

#[test]
fn only_the_second_pass_of_redundant_sees_a_register_that_was_hit() {
    assert_eq!(refused_with_a_hit_register(VerificationLevel::Full), 0);
    let all = 700 * 8;
    assert_eq!(
        refused_with_a_hit_register(VerificationLevel::Redundant),
        all
    );
}

/// Data and tag replaced together by others that agree with each other.
#[test]
fn the_mirror_tells_data_and_tag_that_changed_together() {
    for (level, caught) in [
        (VerificationLevel::Standard, false),
        (VerificationLevel::Full, false),
        (VerificationLevel::Redundant, true),
    ] {
        let mut blocks = sample(level, BLOCK_BYTES);
        let other = {
            let mut other = empty(level, BLOCK_BYTES);
            other.append(&[9; BLOCK_BYTES]).unwrap();
            other
        };
        blocks.data.copy_from_slice(&other.data);
        blocks.tags.copy_from_slice(&other.tags);
        assert_eq!(blocks.verify().is_err(), caught, "{level:?}");
    }
}

/// Which reads of a buffer of `count` blocks check block `damaged`.
fn catches(seed: u64, rate: SampleRate, count: usize, damaged: usize, reads: usize) -> Vec<bool> {
    let mut blocks = sample(VerificationLevel::Sampling(rate), count * BLOCK_BYTES);
    blocks.seed = seed;
    blocks.data[damaged * LINES_PER_BLOCK].0[0] ^= 1;
    (0..reads).map(|_| blocks.read().is_err()).collect()
}

#[test]
fn sampling_checks_every_block_once_in_each_cycle_of_reads() {
    let rate = SampleRate::one_in_power_of_two(3).unwrap();
    for seed in 0..20 {
        for (count, damaged) in [(1, 0), (5, 4), (20, 0), (20, 13), (20, 19)] {
            let caught = catches(seed, rate, count, damaged, 4 * 8);
            for cycle in caught.chunks(8) {
                let times = cycle.iter().filter(|caught| **caught).count();
                assert_eq!(times, 1, "seed {seed}, block {damaged} of {count}");
            }
        }
    }
}

#[test]
fn sampling_takes_its_turns_from_the_seed() {
    let rate = SampleRate::ONE_IN_64;
    let turns = |seed| catches(seed, rate, 1, 0, 256);
    assert_eq!(turns(1), turns(1));
    assert_ne!(turns(1), turns(2));
    // Another read in each cycle: no pattern of calls stays out of step with the checks.
    let positions: Vec<_> = turns(1)
        .chunks(64)
        .map(|cycle| cycle.iter().position(|caught| *caught).unwrap())
        .collect();
    assert!(positions.windows(2).any(|pair| pair[0] != pair[1]));
}

#[test]
fn a_wipe_leaves_nothing_of_data_mirror_and_tags() {
    for level in CHECKED {
        let mut blocks = sample(level, 1_200);
        blocks.restart(0, 7);
        blocks.append(&[1]).unwrap();
        assert!(blocks.has_residue());
        blocks.wipe();
        assert!(!blocks.has_residue(), "{level:?}");
        blocks.append(&source(1_024)).unwrap();
        blocks.wipe();
        assert!(!blocks.has_residue(), "{level:?}");
    }
}

#[test]
fn a_copy_is_what_was_checked_from_wherever_it_begins() {
    let levels = [
        VerificationLevel::Off,
        VerificationLevel::Sampling(SampleRate::ONE_IN_64),
    ];
    for level in levels.into_iter().chain(CHECKED) {
        for len in [0, 1, 4, 511, 512, 513, 1_024, 1_500, 2_052] {
            let blocks = sample(level, len);
            assert_eq!(blocks.checked_len().unwrap(), len);
            for from in [0, 1, 4, 511, 512, 600, len, len + 1] {
                let all = source(len);
                let rest = all.get(from..).unwrap_or_default();
                assert_eq!(blocks.read_vec(from).unwrap(), rest, "{len} from {from}");
                // A target that is too short or too long.
                for room in [0, 1, rest.len().saturating_sub(1), rest.len() + 5] {
                    let mut target = vec![0xA5; room];
                    let copied = blocks.read_to(from, blank(&mut target)).unwrap();
                    assert_eq!(copied, room.min(rest.len()));
                    assert_eq!(target[..copied], rest[..copied]);
                    assert!(target[copied..].iter().all(|byte| *byte == 0xA5));
                }
            }
        }
    }
}

#[test]
fn a_copy_of_a_damaged_block_is_refused_also_where_the_block_is_not_copied() {
    let len = 3 * BLOCK_BYTES + 100;
    for level in CHECKED {
        for damaged in 0..4 {
            for from in [0, 4, BLOCK_BYTES + 1] {
                let mut blocks = sample(level, len);
                blocks.data[damaged * LINES_PER_BLOCK].0[0] ^= 1 << 40;
                let corrupt = blocks.read_vec(from).unwrap_err();
                assert_eq!(
                    (corrupt.block, corrupt.persistent),
                    (damaged, true),
                    "{level:?}"
                );
            }
        }
        let mut blocks = sample(level, len);
        blocks.tags[1] ^= 1;
        assert_eq!(blocks.read_vec(4).unwrap_err().block, 1);
        let mut blocks = sample(level, len);
        blocks.held += 1;
        blocks.read_vec(4).unwrap_err();
        blocks.checked_len().unwrap_err();
    }
}

#[test]
fn the_tags_are_the_same_in_whatever_parts_the_bytes_come() {
    let all = source(5 * BLOCK_BYTES + 100);
    for level in CHECKED {
        let by_bytes = {
            let mut blocks = empty(level, all.len());
            for byte in all.chunks(1) {
                blocks.append(byte).unwrap();
            }
            blocks
        };
        for part in [1, 4, 511, 512, 513, 1_024, 1_700, all.len()] {
            for first in [0, 4, 512] {
                let mut blocks = empty(level, all.len());
                blocks.append(&all[..first]).unwrap();
                for part in all[first..].chunks(part) {
                    blocks.append(part).unwrap();
                }
                let tags = &blocks.tags;
                assert_eq!(tags, &by_bytes.tags, "{level:?}, {first} and by {part}");
                blocks.close();
                assert_eq!(blocks.read().unwrap(), all);
                assert_eq!(blocks.verify().unwrap(), all);
            }
        }
    }
}

#[test]
fn of_what_has_no_room_nothing_is_held() {
    let all = source(2 * BLOCK_BYTES);
    for level in CHECKED {
        let mut blocks = empty(level, BLOCK_BYTES);
        blocks.append(&all).unwrap_err();
        assert_eq!(blocks.len(), 0);
        blocks.append(&all[..BLOCK_BYTES]).unwrap();
        blocks.close();
        assert_eq!(blocks.read().unwrap(), &all[..BLOCK_BYTES], "{level:?}");
    }
}
