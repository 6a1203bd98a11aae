//! The gate of a secret under a scheduler that picks the order of threads: no reader is inside
//! while the value is unreadable or gone, and every close ends.
//!
//! Two gates that are wrong, as others have built them, show that the model finds such faults.

#![allow(clippy::panic, reason = "what the model finds wrong is a panic")]

use std::panic::{UnwindSafe, catch_unwind};
use std::sync::Arc;

use shuttle::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use shuttle::thread;

use gate::{Ended, Gate};

#[path = "../src/secret/gate.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "the library's own file, of which the model runs a part"
)]
mod gate;

/// What the gate waits with, here.
mod sync {
    pub(super) use shuttle::sync::{Condvar, Mutex, MutexGuard};
}

/// Schedules of each model.
const SCHEDULES: usize = 10_000;

/// Makes the schedules the same in each run.
const SEED: u64 = 0xa1;

/// How often each reader comes, which gives it a good chance to come before the close.
const VISITS: u32 = 4;

/// What a secret is to its readers.
#[derive(Default)]
struct Value {
    readable: AtomicBool,
    gone: AtomicBool,
    ends: AtomicU32,
}

impl Value {
    fn open(&self) {
        self.readable.store(true, Ordering::SeqCst);
    }

    fn shut(&self) {
        self.readable.store(false, Ordering::SeqCst);
    }

    fn end(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.ends.fetch_add(1, Ordering::SeqCst);
    }

    fn read(&self) {
        for _ in 0..2 {
            assert!(!self.gone.load(Ordering::SeqCst), "read after the wipe");
            assert!(
                self.readable.load(Ordering::SeqCst),
                "read while unreadable"
            );
            thread::yield_now();
        }
    }
}

/// A way of counting readers.
trait Counts: Send + Sync + 'static {
    fn enter(&self, value: &Value) -> bool;
    fn leave(&self, value: &Value);
    fn close(&self, value: &Value);
}

struct Real(Gate<()>);

fn enter(gate: &Gate<()>, value: &Value) -> bool {
    let open = || {
        value.open();
        Ok::<(), ()>(())
    };
    gate.enter(open).is_ok()
}

fn ended(value: &Value) -> Ended<()> {
    value.end();
    Ended {
        freed: true,
        flaw: None,
    }
}

impl Counts for Real {
    fn enter(&self, value: &Value) -> bool {
        enter(&self.0, value)
    }

    fn leave(&self, value: &Value) {
        self.0.leave(|| value.shut(), || ended(value));
    }

    fn close(&self, value: &Value) {
        assert_eq!(self.0.close(None, || ended(value)), Ok(None));
        assert!(value.gone.load(Ordering::SeqCst), "closed and not wiped");
    }
}

/// A flag and a count, each atomic: between the look at one and the change of the other, the other
/// side does the same.
#[derive(Default)]
struct TwoAtomics {
    closed: AtomicBool,
    readers: AtomicU32,
}

impl Counts for TwoAtomics {
    fn enter(&self, value: &Value) -> bool {
        if self.closed.load(Ordering::SeqCst) {
            return false;
        }
        self.readers.fetch_add(1, Ordering::SeqCst);
        value.open();
        true
    }

    fn leave(&self, _: &Value) {
        self.readers.fetch_sub(1, Ordering::SeqCst);
    }

    fn close(&self, value: &Value) {
        self.closed.store(true, Ordering::SeqCst);
        while self.readers.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        value.end();
    }
}

/// The gate, with the value shut once the lock is given up: a reader that comes between is shut out
/// of what it was given.
struct LateShut(Gate<()>);

impl Counts for LateShut {
    fn enter(&self, value: &Value) -> bool {
        enter(&self.0, value)
    }

    fn leave(&self, value: &Value) {
        let mut last = false;
        self.0.leave(|| last = true, || ended(value));
        if last {
            value.shut();
        }
    }

    fn close(&self, value: &Value) {
        assert_eq!(self.0.close(None, || ended(value)), Ok(None));
    }
}

/// Two readers that come again and again, and two that close.
fn run<C: Counts>(counts: C) {
    let shared = Arc::new((counts, Value::default()));
    let mut threads = Vec::new();
    for _ in 0..2 {
        let shared = Arc::clone(&shared);
        threads.push(thread::spawn(move || {
            for _ in 0..VISITS {
                if shared.0.enter(&shared.1) {
                    shared.1.read();
                    shared.0.leave(&shared.1);
                }
            }
        }));
    }
    for _ in 0..2 {
        let shared = Arc::clone(&shared);
        threads.push(thread::spawn(move || shared.0.close(&shared.1)));
    }
    for thread in threads {
        if thread.join().is_err() {
            panic!("a thread of the model");
        }
    }
    assert!(!shared.0.enter(&shared.1), "entered after the close");
    assert_eq!(shared.1.ends.load(Ordering::SeqCst), 1, "ends");
}

#[test]
fn no_order_of_readers_and_closers_reads_what_is_gone() {
    shuttle::check_random_with_seed(|| run(Real(Gate::new())), SEED, SCHEDULES);
    shuttle::check_pct(|| run(Real(Gate::new())), SCHEDULES, 4);
}

#[test]
fn two_atomics_in_place_of_one_lock_are_found_out() {
    assert!(is_found_out(TwoAtomics::default));
}

#[test]
fn a_value_shut_outside_of_the_lock_is_found_out() {
    assert!(is_found_out(|| LateShut(Gate::new())));
}

fn is_found_out<C: Counts>(make: impl Fn() -> C + Send + Sync + UnwindSafe + 'static) -> bool {
    let check = || shuttle::check_random_with_seed(move || run(make()), SEED, SCHEDULES);
    catch_unwind(check).is_err()
}
