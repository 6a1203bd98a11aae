//! What a pool and its messages promise, seen from outside. The order of its atomics is proven in
//! `loom_buffers`, that it does not allocate in `pool_allocation`.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use airssys_integrity::{
    AcquireError, AppendError, BLOCK_BYTES, FrozenBuffer, MessagePool, OnReturn, PoolError,
    SampleRate, SizeClass, VerificationLevel, VerifyError,
};

fn source(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 41 + at / 253) as u8).collect()
}

fn pool(classes: &[(usize, usize)], level: VerificationLevel) -> MessagePool {
    let classes: Vec<SizeClass> = classes
        .iter()
        .map(|(slot_bytes, slots)| SizeClass {
            slot_bytes: *slot_bytes,
            slots: *slots,
        })
        .collect();
    MessagePool::new(&classes, level, OnReturn::Keep).unwrap()
}

fn frozen(pool: &MessagePool, bytes: &[u8]) -> FrozenBuffer {
    let mut writer = pool.acquire(bytes.len()).unwrap();
    writer.append(bytes).unwrap();
    writer.freeze()
}

/// Bits at rest: the data, a tag per block, the tag of length and level, the mirror.
fn bits(len: usize, level: VerificationLevel) -> usize {
    let tagged = level != VerificationLevel::Off;
    let tags = if tagged { len.div_ceil(BLOCK_BYTES) } else { 0 };
    let mirror = if level == VerificationLevel::Redundant {
        len
    } else {
        0
    };
    8 * (len + 4 * (tags + 1) + mirror)
}

#[test]
fn a_message_takes_the_smallest_free_slot_that_holds_it() {
    let pool = pool(&[(4_096, 1), (64, 2)], VerificationLevel::Standard);
    let free = || (pool.free_slots(0), pool.free_slots(65));
    let held: Vec<_> = (0..2).map(|_| pool.acquire(64).unwrap()).collect();
    assert_eq!(free(), (1, 1));
    let larger = pool.acquire(1).unwrap();
    assert_eq!(free(), (0, 0));
    assert_eq!(
        pool.acquire(1).unwrap_err(),
        AcquireError::Exhausted { requested: 1 }
    );
    drop(held);
    let requested = 4_097;
    let limit = 4_096;
    let too_large = AcquireError::TooLarge { limit, requested };
    assert_eq!(pool.acquire(requested).unwrap_err(), too_large);
    assert_eq!(
        pool.acquire(limit).unwrap_err(),
        AcquireError::Exhausted { requested: limit }
    );
    drop(larger);
    assert_eq!(free(), (3, 1));
}

#[test]
fn a_pool_without_slots_or_without_memory_is_refused() {
    let new = |slot_bytes, slots| {
        let class = SizeClass { slot_bytes, slots };
        MessagePool::new(&[class], VerificationLevel::Standard, OnReturn::Keep)
    };
    assert!(matches!(new(0, 4), Err(PoolError::NoSlots)));
    assert!(matches!(new(64, 0), Err(PoolError::NoSlots)));
    assert!(matches!(
        new(usize::MAX, 1),
        Err(PoolError::AllocationFailed { .. })
    ));
    assert!(matches!(
        new(1, usize::MAX),
        Err(PoolError::AllocationFailed { .. })
    ));
}

#[test]
fn a_writer_takes_what_was_acquired_and_no_more() {
    let pool = pool(&[(4_096, 1)], VerificationLevel::Standard);
    let mut writer = pool.acquire(600).unwrap();
    writer.append(&source(599)).unwrap();
    let refused = writer.append(&[1, 2]);
    assert!(matches!(
        refused,
        Err(AppendError::LimitExceeded {
            limit: 600,
            held: 599,
            requested: 2
        })
    ));
    assert_eq!(&*writer.freeze().verify().unwrap(), source(599));
}

/// Also where the first attempt ended in the middle of a block, or beyond the second's end.
#[test]
fn a_cleared_writer_holds_what_comes_after() {
    for level in [VerificationLevel::Standard, VerificationLevel::Redundant] {
        let pool = pool(&[(2_000, 1)], level);
        for (first, second) in [(700, 1_500), (1_500, 700), (512, 0)] {
            let mut writer = pool.acquire(2_000).unwrap();
            writer.append(&vec![7; first]).unwrap();
            writer.clear();
            assert!(writer.is_empty());
            writer.append(&source(second)).unwrap();
            let message = writer.freeze();
            assert_eq!(&*message.verify().unwrap(), source(second));
        }
    }
}

#[test]
fn messages_outlive_their_pool_and_each_other() {
    let first = {
        let pool = pool(&[(700, 2)], VerificationLevel::Full);
        let first = frozen(&pool, &source(700));
        let second = frozen(&pool, b"second");
        drop(first.clone());
        assert_eq!(pool.free_slots(0), 0);
        drop(second);
        assert_eq!(pool.free_slots(0), 1);
        first
    };
    assert_eq!(&*first.verify().unwrap(), source(700));
}

#[test]
fn every_single_flip_of_a_pooled_message_is_caught_at_every_level_that_checks_all() {
    for level in [
        VerificationLevel::Standard,
        VerificationLevel::Full,
        VerificationLevel::Redundant,
    ] {
        let pool = pool(&[(700, 1)], level);
        for lap in 0..2 {
            let mut message = frozen(&pool, &source(700));
            for bit in (lap..bits(700, level)).step_by(2) {
                assert!(message.flip_bit(bit));
                assert!(message.read().is_err(), "bit {bit} at {level:?}");
                assert!(message.verify().is_err(), "bit {bit} at {level:?}");
                assert!(message.flip_bit(bit));
            }
            assert!(!message.flip_bit(bits(700, level)));
            assert_eq!(message.read().unwrap(), source(700));
        }
    }
}

#[test]
fn at_off_a_message_is_never_called_verified() {
    let pool = pool(&[(700, 1)], VerificationLevel::Off);
    let mut message = frozen(&pool, &source(700));
    assert_eq!(message.verify().unwrap_err(), VerifyError::Unverified);
    assert_eq!(message.read().unwrap(), source(700));
    message.flip_bit(0);
    assert_ne!(message.read().unwrap(), source(700));
    assert_ne!(message.unverified(), source(700));
    // Its length is tagged all the same.
    message.flip_bit(700 * 8);
    assert_eq!(message.read().unwrap_err().len, 0);
}

#[test]
fn sampled_messages_are_checked_at_the_rate_and_fully_on_request() {
    let rate = SampleRate::one_in_power_of_two(4).unwrap();
    let pool = pool(&[(64, 1)], VerificationLevel::Sampling(rate)).seeded(7);
    let mut caught = 0;
    for _ in 0..1_600 {
        let mut message = frozen(&pool, &source(64));
        message.flip_bit(9);
        message.verify().unwrap_err();
        caught += usize::from(message.read().is_err());
    }
    // One read each: 100 of 1,600, within five standard deviations.
    assert!((52..=148).contains(&caught), "{caught}");
}

#[test]
fn a_shared_message_cannot_be_changed() {
    let pool = pool(&[(64, 1)], VerificationLevel::Standard);
    let mut message = frozen(&pool, b"shared");
    let clone = message.clone();
    assert!(!message.flip_bit(0));
    drop(clone);
    assert!(message.flip_bit(0));
}

#[test]
fn threads_share_a_pool_and_never_a_slot() {
    let pool = pool(&[(600, 3)], VerificationLevel::Redundant);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let pool = &pool;
            scope.spawn(move || {
                for lap in 0..2_000_u32 {
                    let content = [thread ^ lap as u8; 600];
                    let Ok(mut writer) = pool.acquire(600) else {
                        continue;
                    };
                    writer.append(&content).unwrap();
                    let message = writer.freeze();
                    let clone = message.clone();
                    drop(message);
                    assert_eq!(&*clone.verify().unwrap(), content);
                }
            });
        }
    });
    assert_eq!(pool.free_slots(0), 3);
}
