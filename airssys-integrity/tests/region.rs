//! What a region of shared memory promises, seen from outside.
#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic fails the test"
)]

#[path = "region/model.rs"]
mod model;

use airssys_integrity::{
    AtomicMemoryExt, AtomicMemoryOps, BLOCK_BYTES, BlockFault, NoStdProvider, ReadError,
    RegionError, RegionSettings, SafeMemoryHandler, SampleRate, StdProvider, VerificationLevel,
    WriteError,
};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

const LEVELS: [VerificationLevel; 5] = [
    VerificationLevel::Off,
    VerificationLevel::Sampling(SampleRate::ONE_IN_64),
    VerificationLevel::Standard,
    VerificationLevel::Full,
    VerificationLevel::Redundant,
];

fn region(len: usize, level: VerificationLevel) -> AtomicMemoryOps<StdProvider> {
    let settings = RegionSettings {
        level,
        ..RegionSettings::default()
    };
    AtomicMemoryOps::new(StdProvider::mirrored(len).unwrap(), settings).unwrap()
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 37 + at / 251 + 1) as u8).collect()
}

fn content<P: airssys_integrity::Provider>(ops: &AtomicMemoryOps<P>) -> Vec<u8> {
    let mut out = vec![0; ops.len_bytes().unwrap()];
    ops.read(0, &mut out).unwrap();
    out
}

proptest! {
    #[test]
    fn a_region_equals_its_model_at_every_level(
        steps in proptest::collection::vec(any::<[u8; 6]>(), 0..30),
        data in proptest::collection::vec(any::<u8>(), 0..1_400),
    ) {
        for level in LEVELS {
            model::run(level, &steps, &data);
        }
    }
}

#[test]
fn a_new_region_is_zero_and_intact() {
    let ops = NoStdProvider::<1_536>::new().into_atomic_ops().unwrap();
    ops.verify_integrity().unwrap();
    assert_eq!(content(&ops), [0; 1_536]);
}

#[test]
fn a_range_outside_is_told_whatever_its_numbers() {
    let ops = region(1_000, VerificationLevel::Standard);
    let edges = [0, 1, 999, 1_000, 1_001, usize::MAX - 1, usize::MAX];
    for offset in edges {
        for len in edges.into_iter().filter(|len| *len <= 1_001) {
            let inside = offset.checked_add(len).is_some_and(|end| end <= 1_000);
            let mut out = vec![7; len];
            assert_eq!(ops.read(offset, &mut out).is_ok(), inside);
            assert_eq!(ops.atomic_write_with_checksum(offset, &out).is_ok(), inside);
            assert_eq!(ops.modify(offset, len, |_| ()).is_ok(), inside);
        }
        for len in edges {
            let inside = offset.checked_add(len).is_some_and(|end| end <= 1_000);
            assert_eq!(ops.borrow_slice(offset, len).is_ok(), inside);
            assert_eq!(ops.atomic_copy_within(offset, 0, len).is_ok(), inside);
            assert_eq!(ops.atomic_copy_within(0, offset, len).is_ok(), inside);
        }
    }
    let error = ops.atomic_copy_within(1, 2, usize::MAX).unwrap_err();
    assert!(matches!(error, WriteError::OutOfBounds(_)));
}

#[test]
fn overlapping_copies_move_as_if_through_a_buffer() {
    for level in LEVELS {
        for (src, dst, len) in [
            (0, 10, 1_000),
            (10, 0, 1_000),
            (0, 512, 1_500),
            (700, 3, 1_200),
        ] {
            let ops = region(2_100, level);
            let mut expected = bytes(2_100);
            ops.atomic_write_with_checksum(0, &expected).unwrap();
            ops.atomic_copy_within(src, dst, len).unwrap();
            expected.copy_within(src..src + len, dst);
            assert_eq!(content(&ops), expected, "{src} to {dst} at {level:?}");
        }
    }
}

#[test]
fn bytes_written_at_off_are_unverified_at_a_higher_level() {
    let mut ops = region(2_048, VerificationLevel::Standard);
    ops.set_level(VerificationLevel::Off).unwrap();
    ops.atomic_write_with_checksum(600, b"untagged").unwrap();
    ops.set_level(VerificationLevel::Standard).unwrap();
    let mut out = [1; 8];
    assert_eq!(
        ops.read(600, &mut out),
        Err(ReadError::Unverified { block: 1 })
    );
    assert_eq!(out, [0; 8]);
    assert_eq!(
        ops.verify_integrity(),
        Err(ReadError::Unverified { block: 1 })
    );
    ops.read(0, &mut out).unwrap();

    // A part does not make the rest verified; the whole block does.
    ops.atomic_write_with_checksum(520, b"a part").unwrap();
    assert_eq!(
        ops.read(600, &mut out),
        Err(ReadError::Unverified { block: 1 })
    );
    ops.atomic_write_with_checksum(512, &bytes(512)).unwrap();
    ops.verify_integrity().unwrap();
}

#[test]
fn redundant_needs_a_mirror_and_stays() {
    let settings = RegionSettings {
        level: VerificationLevel::Redundant,
        ..RegionSettings::default()
    };
    let refused = AtomicMemoryOps::new(NoStdProvider::<512>::new(), settings);
    assert_eq!(refused.unwrap_err(), RegionError::NoMirror);
    let mut ops = AtomicMemoryOps::new(NoStdProvider::<512, 512>::mirrored(), settings).unwrap();
    let fixed = ops.set_level(VerificationLevel::Standard).unwrap_err();
    assert!(matches!(fixed, RegionError::LevelIsFixed { .. }));
}

#[test]
fn many_guards_lend_at_once_and_a_writer_waits_with_a_bound() {
    let settings = RegionSettings {
        wait_rounds: 100,
        ..RegionSettings::default()
    };
    let ops = AtomicMemoryOps::new(NoStdProvider::<1024>::new(), settings).unwrap();
    ops.atomic_write_with_checksum(0, &bytes(1024)).unwrap();
    let guards: Vec<_> = (0..8)
        .map(|at| ops.borrow_slice(at, 900).unwrap())
        .collect();
    let pinned = WriteError::Pinned {
        guards: 8,
        rounds: 100,
    };
    assert_eq!(ops.atomic_write_with_checksum(0, b"no"), Err(pinned));
    assert_eq!(ops.atomic_copy_within(0, 5, 5), Err(pinned));
    assert_eq!(ops.modify(0, 5, |_| ()), Err(pinned));
    for (at, guard) in guards.into_iter().enumerate() {
        assert_eq!(guard.data().unwrap(), &bytes(1024)[at..at + 900]);
        guard.finish().unwrap();
    }
    ops.atomic_write_with_checksum(0, b"yes").unwrap();
}

#[test]
fn a_change_that_panics_writes_nothing_and_blocks_nobody() {
    let ops = region(1_024, VerificationLevel::Full);
    ops.atomic_write_with_checksum(0, &bytes(1_024)).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        ops.modify(500, 40, |copy| {
            copy.fill(0);
            panic!("in the middle");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(content(&ops), bytes(1_024));
    assert_eq!(ops.modify(500, 1, |copy| copy[0]), Ok(bytes(1_024)[500]));
}

#[test]
fn a_change_that_writes_to_its_own_region_is_told_that_it_is_busy() {
    let settings = RegionSettings {
        wait_rounds: 100,
        ..RegionSettings::default()
    };
    let ops = AtomicMemoryOps::new(NoStdProvider::<64>::new(), settings).unwrap();
    let inner = ops.modify(0, 8, |copy| {
        copy.fill(1);
        // Readers go on, and see what was there before.
        assert_eq!(content(&ops), [0; 64]);
        ops.atomic_write_with_checksum(8, b"inner")
    });
    assert_eq!(inner.unwrap(), Err(WriteError::Busy { rounds: 100 }));
    assert_eq!(content(&ops)[..9], [1, 1, 1, 1, 1, 1, 1, 1, 0]);
}

#[test]
fn a_change_of_more_than_fits_on_the_stack_wants_a_buffer() {
    let ops = region(10_000, VerificationLevel::Standard);
    let limit = airssys_integrity::MAX_MODIFY_BYTES;
    let refused = ops.modify(0, limit + 1, |_| ());
    assert_eq!(
        refused,
        Err(WriteError::TooLong {
            len: limit + 1,
            limit
        })
    );
    let mut buffer = vec![0; 9_000];
    ops.modify_in(&mut buffer, 700, |copy| copy.fill(9))
        .unwrap();
    assert_eq!(content(&ops)[700..9_700], [9; 9_000]);
}

#[test]
fn a_handler_keeps_its_bytes_when_it_is_shared() {
    let mut handler = SafeMemoryHandler::new(NoStdProvider::<2048>::new());
    handler.write(100, &bytes(1_000)).unwrap();
    handler.copy_within(100, 130, 900).unwrap();
    let mut expected = bytes(1_000);
    expected.copy_within(0..900, 30);
    assert_eq!(handler.get_slice(100, 1_000).unwrap(), expected);
    let ops = handler.into_atomic_ops().unwrap();
    ops.verify_integrity().unwrap();
    assert_eq!(content(&ops)[100..1_100], expected);
}

#[test]
fn a_fault_map_of_an_intact_region_is_empty() {
    let ops = region(5_000, VerificationLevel::Standard);
    let faults: Vec<BlockFault> = ops.fault_map().unwrap().collect::<Result<_, _>>().unwrap();
    assert!(faults.is_empty());
}

/// Writers fill the region with one value each; a reader never sees two.
/// Ends the readers, also when a writer's panic ends the test.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn threads_see_each_write_as_a_whole() {
    let rounds: u32 = if cfg!(miri) { 2 } else { 4_000 };
    for level in [VerificationLevel::Off, VerificationLevel::Standard] {
        // Whoever holds the lock may be off its core for longer than a wait takes by default.
        let settings = RegionSettings {
            level,
            wait_rounds: u32::MAX,
            ..RegionSettings::default()
        };
        let ops = AtomicMemoryOps::new(StdProvider::mirrored(1_100).unwrap(), settings).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let over = Over(&done);
            let writers: Vec<_> = (1..=2_u8)
                .map(|value| {
                    let ops = &ops;
                    scope.spawn(move || {
                        for round in 0..rounds {
                            ops.atomic_write_with_checksum(
                                0,
                                &[value + 2 * (round % 50) as u8; 1_100],
                            )
                            .unwrap();
                        }
                    })
                })
                .collect();
            for guards in [false, true] {
                let (ops, done) = (&ops, &done);
                scope.spawn(move || {
                    let mut out = [0; 1_100];
                    while !done.load(Ordering::Relaxed) {
                        if guards {
                            let guard = ops.borrow_slice(0, 1_100).unwrap();
                            assert!(guard.iter().all(|byte| *byte == guard[0]));
                            guard.finish().unwrap();
                        } else {
                            ops.read(0, &mut out).unwrap();
                            assert!(out.iter().all(|byte| *byte == out[0]));
                        }
                        std::thread::yield_now();
                    }
                });
            }
            for writer in writers {
                writer.join().unwrap();
            }
            drop(over);
        });
        if level != VerificationLevel::Off {
            ops.verify_integrity().unwrap();
        }
    }
}

#[test]
fn a_region_whose_size_is_no_multiple_of_anything_keeps_every_byte() {
    for len in [1, 7, 8, 9, 511, 513, 1_021]
        .into_iter()
        .filter(|len| !cfg!(miri) || *len < 20)
    {
        for level in LEVELS {
            let ops = region(len, level);
            ops.atomic_write_with_checksum(0, &bytes(len)).unwrap();
            ops.atomic_write_with_checksum(len - 1, &[0xEE]).unwrap();
            let mut expected = bytes(len);
            expected[len - 1] = 0xEE;
            assert_eq!(content(&ops), expected);
            assert_eq!(&*ops.borrow_slice(0, len).unwrap(), expected);
        }
    }
    let empty = region(0, VerificationLevel::Standard);
    empty.verify_integrity().unwrap();
    assert_eq!(content(&empty), [0; 0]);
    const { assert!(BLOCK_BYTES == 512) };
}
