//! Every order in which two threads can meet in a pool or a ring, up to three preemptions:
//! `RUSTFLAGS="--cfg loom" cargo test -p airssys-integrity --test loom_buffers --release`.
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use airssys_integrity::{
    HeapRing, MessagePool, OnReturn, RingRead, RingReadError, RingWriteError, SizeClass,
    VerificationLevel,
};
use loom::thread;
use std::sync::Arc;

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

fn pool(slots: usize) -> Arc<MessagePool> {
    let class = SizeClass {
        slot_bytes: 8,
        slots,
    };
    Arc::new(MessagePool::new(&[class], VerificationLevel::Standard, OnReturn::Wipe).unwrap())
}

/// A whole life of a message; false if there was no slot for it.
fn message_lives(pool: &MessagePool, content: u8) -> bool {
    let Ok(mut writer) = pool.acquire(8) else {
        return false;
    };
    writer.append(&[content; 8]).unwrap();
    assert_eq!(&*writer.freeze().verify().unwrap(), [content; 8]);
    true
}

#[test]
fn no_slot_is_handed_out_twice_and_none_is_lost() {
    for slots in [1, 2] {
        model(move || {
            let pool = pool(slots);
            let other = Arc::clone(&pool);
            let thread = thread::spawn(move || {
                let first = message_lives(&other, 1);
                first | message_lives(&other, 2)
            });
            let here = message_lives(&pool, 3);
            let there = thread.join().unwrap();
            // With one slot either may find it taken, but not both.
            assert!(here || there);
            assert!(slots == 1 || (here && there));
            assert_eq!(pool.free_slots(0), slots);
        });
    }
}

/// Loom's cells fail the test if the next message is written while the clone is still read.
#[test]
fn a_slot_comes_back_with_the_last_of_its_holders() {
    model(|| {
        let pool = pool(1);
        let mut writer = pool.acquire(8).unwrap();
        writer.append(&[1; 8]).unwrap();
        let frozen = writer.freeze();
        let clone = frozen.clone();
        let thread = thread::spawn(move || {
            assert_eq!(&*clone.verify().unwrap(), [1; 8]);
        });
        assert_eq!(&*frozen.verify().unwrap(), [1; 8]);
        drop(frozen);
        message_lives(&pool, 2);
        thread.join().unwrap();
        assert!(message_lives(&pool, 3));
    });
}

#[test]
fn a_ring_loses_doubles_and_tears_no_message() {
    model(|| {
        let (mut producer, mut consumer) = HeapRing::with_slots(2, 8).unwrap();
        let thread = thread::spawn(move || {
            for number in 0..3 {
                while let Err(error) = producer.try_write(&[number; 8]) {
                    assert_eq!(error, RingWriteError::Full { slots: 2 });
                    thread::yield_now();
                }
            }
        });
        let mut read = Vec::new();
        loop {
            let mut room = [9; 8];
            match consumer.try_read(&mut room) {
                Ok(RingRead::Ready(8)) => read.push(room),
                Ok(RingRead::NotReady) => thread::yield_now(),
                Err(RingReadError::Ended) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read, [[0; 8], [1; 8], [2; 8]]);
        thread.join().unwrap();
    });
}
