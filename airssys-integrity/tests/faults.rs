//! What a region does about memory that fails.
#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

#[path = "faults/contender.rs"]
mod contender;
#[path = "faults/memory.rs"]
mod memory;

use airssys_integrity::{
    BlockFault, Phase, ReadError, Repair, SampleRate, VerificationLevel, WriteError,
};
use contender::{Contender, LEN, Naive, Region};
use memory::Strike;

const CHECKED: [VerificationLevel; 3] = [
    VerificationLevel::Standard,
    VerificationLevel::Full,
    VerificationLevel::Redundant,
];

fn bytes(salt: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 7 + salt) as u8).collect()
}

/// Every phase of a write of one block and of the read behind it, with the lanes named.
fn phases(lanes: &[usize]) -> Vec<Phase> {
    let each = |phase: fn(usize) -> Phase| lanes.iter().map(move |lane| phase(*lane));
    each(|lane| Phase::SourceLoaded { lane })
        .chain(each(|lane| Phase::Stored { lane }))
        .chain([Phase::BeforeTag, Phase::AfterTag])
        .chain(each(|lane| Phase::BeforeLoad { lane }))
        .chain(each(|lane| Phase::Loaded { lane }))
        .chain([Phase::BeforeReturn])
        .collect()
}

/// Ends of the three runs in which a block is summed.
const LANES: [usize; 6] = [0, 20, 21, 41, 42, 63];

#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    told: usize,
    right: usize,
    silent: usize,
}

/// Strikes one bit at one phase: of a write, then of a read of everything.
fn strike(contender: &impl Contender, phase: Phase, bit: usize, write: (usize, &[u8])) -> Tally {
    let mut expected = bytes(1, contender.len());
    assert!(contender.write(0, &expected));
    let (offset, data) = write;
    expected[offset..offset + data.len()].copy_from_slice(data);
    contender.plan(phase, bit);
    let written = contender.write(offset, data);
    let read = contender.read();
    let mut tally = Tally::default();
    match read {
        _ if contender.is_pending() => (),
        Some(found) if found == expected => tally.right = 1,
        None => tally.told = 1,
        Some(_) if !written => tally.told = 1,
        Some(_) => tally.silent = 1,
    }
    tally
}

/// Every bit in `bits` at every phase, for a whole block and for a part of one.
fn strike_all(
    contender: &impl Contender,
    lanes: &[usize],
    bits: impl Iterator<Item = usize> + Clone,
) -> Tally {
    let (whole, part) = (bytes(9, 512), bytes(5, 203));
    let mut sum = Tally::default();
    for phase in phases(lanes) {
        for bit in bits.clone() {
            for write in [(0, &*whole), (101, &*part)] {
                let tally = strike(contender, phase, bit, write);
                sum.told += tally.told;
                sum.right += tally.right;
                sum.silent += tally.silent;
            }
        }
    }
    sum
}

/// Bits at rest of one block.
fn bits(level: VerificationLevel) -> std::ops::Range<usize> {
    match level {
        VerificationLevel::Redundant => 0..4_128 + 4_096,
        _ => 0..4_128,
    }
}

#[test]
fn no_flip_of_any_bit_at_any_phase_is_silent() {
    let region = Region::of_blocks(1, VerificationLevel::Standard);
    let sum = strike_all(&region, &[63], bits(VerificationLevel::Standard));
    assert_eq!(sum.silent, 0, "{sum:?}");
    for level in CHECKED {
        let region = Region::of_blocks(1, level);
        let sum = strike_all(&region, &LANES, bits(level).step_by(29));
        assert_eq!(sum.silent, 0, "{level:?}: {sum:?}");
        assert!(sum.told > 500 && sum.right > 500, "{level:?}: {sum:?}");
    }
}

/// `cargo test -p airssys-integrity --release --test faults -- --ignored`
#[test]
#[ignore = "takes half a minute"]
fn no_flip_of_any_bit_at_any_phase_and_lane_is_silent() {
    let lanes: Vec<usize> = (0..64).collect();
    for level in CHECKED {
        let sum = strike_all(&Region::of_blocks(1, level), &lanes, bits(level));
        assert_eq!(sum.silent, 0, "{level:?}: {sum:?}");
    }
}

/// The control: the same strikes do harm where the checksum is taken from the destination.
#[test]
fn the_same_flips_are_silent_under_a_checksum_taken_after_the_copy() {
    let sum = strike_all(&Naive::new(), &LANES, (0..4_128).step_by(13));
    assert!(sum.silent > 3_000, "{sum:?}");
}

/// The limit of one register for both uses, and what a second pass over the source makes of it.
#[test]
fn a_flip_in_the_register_is_told_by_redundant_alone() {
    for level in CHECKED {
        let region = Region::new(level);
        let phase = Phase::SourceLoaded { lane: 5 };
        for bit in 0..64 {
            region.memory.plan(phase, Strike::Register(bit));
            let written = region.ops.atomic_write_with_checksum(0, &bytes(3, 512));
            assert!(!region.is_pending());
            let told = written.is_err() && region.read().is_none();
            assert_eq!(told, level == VerificationLevel::Redundant);
        }
    }
}

#[test]
fn full_tells_the_writer_and_every_reader_afterwards() {
    let region = Region::new(VerificationLevel::Full);
    region.plan(Phase::Stored { lane: 63 }, 77);
    let error = region.ops.atomic_write_with_checksum(0, &bytes(3, 512));
    assert!(matches!(error, Err(WriteError::Corrupt(_))));
    assert!(matches!(
        region.ops.read(0, &mut [0]),
        Err(ReadError::Corrupt(_))
    ));
}

/// Bits that no read looks at in between are still there for the next one.
#[test]
fn a_partial_write_never_makes_an_earlier_fault_good() {
    for bit in (0..4_128).step_by(11) {
        let region = Region::new(VerificationLevel::Standard);
        region.write(0, &bytes(1, LEN));
        region.memory.flip(bit);
        for (offset, len) in [(100, 40), (0, 511), (1, 511), (bit / 8 % 500, 12)] {
            region.write(offset, &bytes(2, len));
            assert!(region.read().is_none(), "bit {bit} after {offset}+{len}");
        }
        region.write(0, &bytes(2, 512));
        assert!(region.read().is_some());
    }
}

#[test]
fn full_refuses_to_change_a_part_of_a_corrupt_block() {
    let region = Region::new(VerificationLevel::Full);
    region.write(0, &bytes(1, LEN));
    region.memory.flip(3_000);
    let before = region.memory.block(0);
    let refused = region.ops.atomic_write_with_checksum(0, b"part");
    assert!(matches!(refused, Err(WriteError::Corrupt(_))));
    assert_eq!(region.memory.block(0), before);
}

#[test]
fn a_corrupt_block_is_named_and_nothing_of_it_is_given_out() {
    let region = Region::new(VerificationLevel::Standard);
    region.write(0, &bytes(1, LEN));
    region.memory.words[130].store(0, std::sync::atomic::Ordering::Relaxed);
    let mut out = vec![1; LEN];
    let Err(ReadError::Corrupt(corrupt)) = region.ops.read(0, &mut out) else {
        panic!("corrupt bytes were read");
    };
    assert_eq!(
        (corrupt.block, corrupt.offset, corrupt.len),
        (2, 1_024, 512)
    );
    assert!(corrupt.persistent);
    assert_eq!(out, vec![0; LEN]);
    let faults: Vec<_> = region.ops.fault_map().unwrap().collect();
    assert_eq!(faults, [Ok(BlockFault::Corrupt(corrupt))]);
}

#[test]
fn a_fault_on_the_way_from_memory_is_not_persistent() {
    let region = Region::new(VerificationLevel::Standard);
    region.write(0, &bytes(1, LEN));
    let before_load = Phase::BeforeLoad { lane: 5 };
    region.memory.plan(before_load, Strike::Blink(5 * 64));
    let Err(ReadError::Corrupt(corrupt)) = region.ops.read(0, &mut [0]) else {
        panic!("a wrong word was taken");
    };
    assert!(!corrupt.persistent);
    assert!(region.read().is_some());
}

#[test]
fn stale_swapped_torn_zeroed_and_stuck_blocks_are_told() {
    let fresh = || {
        let region = Region::new(VerificationLevel::Standard);
        region.write(0, &bytes(1, LEN));
        region
    };
    let told = |region: &Region, what: &str| assert!(region.read().is_none(), "{what}");

    let region = fresh();
    let old = region.memory.block(0);
    region.write(0, &bytes(2, 512));
    region.memory.put_block(0, &old);
    told(&region, "stale");

    for tags_too in [false, true] {
        let region = fresh();
        region.write(0, &[1; 1_024]);
        let (first, second) = (region.memory.block(0), region.memory.block(1));
        assert_eq!(first, second);
        region.memory.put_block(0, &second);
        if tags_too {
            let (first, second) = (region.memory.tag(0), region.memory.tag(1));
            region.memory.put_tag(0, second);
            region.memory.put_tag(1, first);
            told(&region, "swapped with its tag");
        }
    }

    let region = fresh();
    let mut torn = region.memory.block(0);
    region.write(0, &bytes(2, 512));
    torn[32..].copy_from_slice(&region.memory.block(0)[32..]);
    region.memory.put_block(0, &torn);
    told(&region, "torn");

    for tag_too in [false, true] {
        let region = fresh();
        region.memory.put_block(0, &[0; 64]);
        if tag_too {
            region.memory.put_tag(0, 0);
        }
        told(&region, "zeroed");
    }

    for stuck in [0, u64::MAX] {
        let region = fresh();
        let mut content = region.memory.block(0);
        content
            .iter_mut()
            .for_each(|word| *word = (*word & !0xFF00) | (stuck & 0xFF00));
        region.memory.put_block(0, &content);
        told(&region, "stuck");
    }
}

#[test]
fn a_block_of_another_region_is_told() {
    let (region, other) = (Region::new(VerificationLevel::Standard), {
        let memory = memory::Memory::new(3);
        let settings = airssys_integrity::RegionSettings {
            id: 8,
            ..Default::default()
        };
        let provider = memory::Faulty(std::rc::Rc::clone(&memory));
        let ops = airssys_integrity::AtomicMemoryOps::new(provider, settings).unwrap();
        ops.atomic_write_with_checksum(0, &bytes(4, LEN)).unwrap();
        memory
    });
    region.memory.put_block(0, &other.block(0));
    region.memory.put_tag(0, other.tag(0));
    assert!(region.read().is_none());
}

#[test]
fn double_and_quadruple_flips_are_told() {
    let region = Region::new(VerificationLevel::Standard);
    region.write(0, &bytes(1, LEN));
    let mut state = 1_u64;
    let mut random_bit = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % 4_128
    };
    for round in 0..6_000 {
        let mut bits = std::collections::BTreeSet::new();
        while bits.len() < [2, 3, 4, 5][round % 4] {
            bits.insert(random_bit());
        }
        bits.iter().for_each(|bit| region.memory.flip(*bit));
        assert!(region.read().is_none(), "{bits:?}");
        bits.iter().for_each(|bit| region.memory.flip(*bit));
    }
    assert!(region.read().is_some());
}

#[test]
fn a_writer_that_panics_poisons_its_blocks_and_blocks_nobody() {
    for phase in [
        Phase::SourceLoaded { lane: 9 },
        Phase::BeforeTag,
        Phase::AfterTag,
    ] {
        let region = Region::new(VerificationLevel::Standard);
        region.write(0, &bytes(1, LEN));
        region.memory.plan(phase, Strike::Panic);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            region.ops.atomic_write_with_checksum(10, &bytes(2, 700))
        }));
        assert!(panicked.is_err());
        assert_eq!(
            region.ops.read(0, &mut [0; 9]),
            Err(ReadError::Poisoned { block: 0 })
        );
        let faults: Vec<_> = region
            .ops
            .fault_map()
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let poisoned = [0, 1].map(|block| BlockFault::Poisoned { block });
        assert_eq!(faults, poisoned);
        region.ops.read(1_024, &mut [0; 9]).unwrap();

        let part = region.ops.atomic_write_with_checksum(512, b"a part");
        assert_eq!(part, Err(WriteError::Poisoned { block: 1 }));
        region
            .ops
            .atomic_write_with_checksum(0, &bytes(3, 1_024))
            .unwrap();
        region.ops.verify_integrity().unwrap();
    }
}

#[test]
fn a_flip_while_bytes_are_lent_is_told_by_data_and_finish() {
    let region = Region::new(VerificationLevel::Standard);
    region.write(0, &bytes(1, LEN));
    let guard = region.ops.borrow_slice(5, 20).unwrap();
    assert_eq!(guard.data().unwrap(), &bytes(1, LEN)[5..25]);
    // In the same block, but not among the bytes.
    region.memory.flip(4_000);
    assert!(matches!(guard.data(), Err(ReadError::Corrupt(_))));
    assert!(matches!(guard.finish(), Err(ReadError::Corrupt(_))));
}

/// A copy inside the region, struck at each phase of its loads and stores.
#[test]
fn no_flip_during_a_copy_is_silent() {
    let lanes = [0, 21, 62, 63];
    for (src, dst) in [(3, 515), (600, 90), (40, 0)] {
        for phase in phases(&lanes) {
            for bit in (0..4_128).step_by(61) {
                let region = Region::new(VerificationLevel::Standard);
                let mut expected = bytes(1, LEN);
                region.write(0, &expected);
                expected.copy_within(src..src + 490, dst);
                region.plan(phase, bit);
                let copied = region.ops.atomic_copy_within(src, dst, 490);
                if let Some(found) = region.read() {
                    assert!(
                        copied.is_err() || found == expected,
                        "bit {bit} at {phase:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn bytes_that_change_between_two_blocks_are_told_and_poison_what_they_reached() {
    for bit in 0..8 {
        let region = Region::new(VerificationLevel::Standard);
        region.write(0, &bytes(1, LEN));
        region.memory.plan(Phase::Buffered, Strike::Register(bit));
        let copied = region.ops.atomic_copy_within(0, 600, 100);
        assert_eq!(copied, Err(WriteError::ChangedOnTheWay { block: 1 }));
        let poisoned = Err(ReadError::Poisoned { block: 1 });
        assert_eq!(region.ops.read(600, &mut [0; 100]), poisoned);
    }
}

#[test]
fn a_corrupt_source_is_neither_copied_nor_changed() {
    let region = Region::new(VerificationLevel::Standard);
    region.write(0, &bytes(1, LEN));
    region.memory.flip(4_000);
    let (first, second) = (region.memory.block(0), region.memory.block(1));
    let copied = region.ops.atomic_copy_within(0, 600, 100);
    assert!(matches!(copied, Err(WriteError::Corrupt(_))));
    let changed = region.ops.modify(0, 10, |_| panic!("given corrupt bytes"));
    assert!(matches!(changed, Err(WriteError::Corrupt(_))));
    assert_eq!(region.memory.block(0), first);
    assert_eq!(region.memory.block(1), second);
    region.ops.read(600, &mut [0; 100]).unwrap();
}

#[test]
fn sampling_checks_every_block_within_its_bound_whatever_is_read() {
    let rate = SampleRate::one_in_power_of_two(3).unwrap();
    for block in 0..3 {
        for stride in [0, 1, 2] {
            let region = Region::new(VerificationLevel::Sampling(rate));
            region.write(0, &bytes(1, LEN));
            region.memory.words[block * 64 + 5].fetch_xor(2, std::sync::atomic::Ordering::Relaxed);
            // One block in turn for each run of reads, and the first run may be under way.
            let bound = (3 + 1) * 8;
            let told = (0..bound).position(|read: usize| {
                let offset = (read * stride) % 3 * 512;
                region.ops.read(offset, &mut [0; 9]).is_err()
            });
            assert!(told.is_some(), "block {block}, stride {stride}");
        }
    }
}

#[test]
fn sampling_picks_one_read_of_each_run_and_not_always_the_same() {
    let rate = SampleRate::one_in_power_of_two(4).unwrap();
    let region = Region::new(VerificationLevel::Sampling(rate));
    region.memory.flip(0);
    let told: Vec<usize> = (0..64 * 16)
        .filter(|_| region.ops.read(0, &mut [0; 9]).is_err())
        .collect();
    assert_eq!(told.len(), 64);
    let places: std::collections::BTreeSet<usize> = told.iter().map(|read| read % 16).collect();
    assert!(places.len() > 8, "{places:?}");
}

#[test]
fn every_single_flip_is_repaired_and_counted() {
    let region = Region::new(VerificationLevel::Standard);
    region.write(0, &bytes(1, LEN));
    for bit in (0..4_128).step_by(7) {
        region.memory.flip(bit);
        let expected = match bit {
            0..4_096 => Repair::DataBit {
                offset: bit / 8,
                bit: (bit % 8) as u32,
            },
            _ => Repair::TagBit {
                bit: (bit - 4_096) as u32,
            },
        };
        assert_eq!(region.ops.repair(0), Ok(expected));
        assert_eq!(region.read().unwrap(), bytes(1, LEN));
    }
    assert_eq!(region.ops.repaired_blocks(), 4_128_u32.div_ceil(7));
    assert_eq!(region.ops.repair(0), Ok(Repair::Intact));
    assert_eq!(region.ops.repaired_blocks(), 4_128_u32.div_ceil(7));
}

#[test]
fn two_to_four_flips_are_never_repaired_to_something_else() {
    let region = Region::new(VerificationLevel::Standard);
    region.write(0, &bytes(1, LEN));
    for bit in 0..1_000 {
        let bits = [bit, 1_001 + bit, 2_002 + (bit * 7) % 1_000, 4_127 - bit];
        let bits = &bits[..2 + bit % 3];
        bits.iter().for_each(|bit| region.memory.flip(*bit));
        let before = region.memory.block(0);
        assert!(
            matches!(region.ops.repair(0), Err(WriteError::Corrupt(_))),
            "{bits:?}"
        );
        assert_eq!(region.memory.block(0), before);
        bits.iter().for_each(|bit| region.memory.flip(*bit));
    }
    assert_eq!(region.ops.repaired_blocks(), 0);
}

#[test]
fn a_block_is_restored_from_its_inverted_copy_and_the_copy_from_the_block() {
    let region = Region::new(VerificationLevel::Redundant);
    region.write(0, &bytes(1, LEN));
    region.memory.put_block(0, &[0x1234; 64]);
    assert!(region.read().is_none());
    assert_eq!(region.ops.repair(0), Ok(Repair::FromMirror));
    assert_eq!(region.read().unwrap(), bytes(1, LEN));
    region.memory.flip(4_128 + 99);
    assert!(region.read().is_none());
    assert_eq!(region.ops.repair(0), Ok(Repair::Mirror));
    assert_eq!(region.read().unwrap(), bytes(1, LEN));
    assert_eq!(region.ops.repaired_blocks(), 2);
}
