//! Every order in which threads can meet in a small region, by the model checker:
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p airssys-integrity --test loom --release`
//!
//! A block has 16 bytes here. The level is `Off`, so that no tag helps the latch.
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use airssys_integrity::model::{Fence, leave_out};
use airssys_integrity::{
    AtomicMemoryOps, Readiness, RegionSettings, StdProvider, VerificationLevel,
};
use loom::sync::Arc;
use loom::thread;

type Ops = AtomicMemoryOps<StdProvider>;

fn region(level: VerificationLevel) -> Arc<Ops> {
    let settings = RegionSettings {
        id: 1,
        level,
        sample_seed: 1,
        wait_rounds: 3,
    };
    let provider = StdProvider::new(16).unwrap();
    Arc::new(AtomicMemoryOps::new(provider, settings).unwrap())
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Both halves come from the same write.
fn whole(out: [u8; 16]) {
    assert!(out.iter().all(|byte| *byte == out[0]), "torn: {out:?}");
}

fn writer(ops: &Arc<Ops>, value: u8) -> thread::JoinHandle<()> {
    let ops = Arc::clone(ops);
    thread::spawn(move || {
        // Told that it is busy, a writer has written nothing.
        let _ = ops.atomic_write_with_checksum(0, &[value; 16]);
    })
}

fn two_writers_and_an_optimistic_reader() {
    let ops = region(VerificationLevel::Off);
    let writers = [writer(&ops, 1), writer(&ops, 2)];
    let mut out = [9; 16];
    if ops.try_read(0, &mut out) == Ok(Readiness::Ready) {
        whole(out);
    }
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    ops.read(0, &mut out).unwrap();
    whole(out);
}

#[test]
fn no_order_of_two_writers_tears_a_read() {
    check(two_writers_and_an_optimistic_reader);
}

/// One attempt, then a pin: what the reader does that is disturbed.
#[test]
fn no_order_tears_a_read_that_pins() {
    check(|| {
        let ops = region(VerificationLevel::Off);
        let writers = [writer(&ops, 1), writer(&ops, 2)];
        let mut out = [9; 16];
        if ops.read(0, &mut out).is_ok() {
            whole(out);
        }
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
    });
}

#[test]
fn no_order_makes_a_tag_differ_from_its_bytes() {
    check(|| {
        let ops = region(VerificationLevel::Standard);
        let writers = [writer(&ops, 1)];
        let mut out = [9; 16];
        match ops.read(0, &mut out) {
            Ok(()) => whole(out),
            Err(error) => assert!(
                matches!(error, airssys_integrity::ReadError::Contended { .. }),
                "{error}"
            ),
        }
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        ops.verify_integrity().unwrap();
    });
}

#[test]
#[should_panic(expected = "torn")]
fn without_the_fence_of_the_reader_a_read_is_torn() {
    leave_out(Some(Fence::Reader));
    check(two_writers_and_an_optimistic_reader);
}

#[test]
#[should_panic(expected = "torn")]
fn without_the_fence_of_the_writer_a_read_is_torn() {
    leave_out(Some(Fence::Writer));
    check(two_writers_and_an_optimistic_reader);
}
