#![allow(clippy::unwrap_used, reason = "a failed set-up should fail the test")]

use std::time::Instant;

use super::*;

/// Long enough for what takes milliseconds on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

fn until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE);
        thread::park_timeout(TICK);
    }
}

fn engine() -> wasmtime::Engine {
    wasmtime::Engine::new(wasmtime::Config::new().epoch_interruption(true)).unwrap()
}

#[test]
fn the_ticker_sleeps_while_no_guest_runs_and_wakes_for_the_first() {
    let ticker = Ticker::start().unwrap();
    let pulse = ticker.pulse();
    pulse.drive(&engine());
    for _ in 0..3 {
        until(|| pulse.asleep.load(Ordering::SeqCst));
        assert!(pulse.beat());
        until(|| !pulse.asleep.load(Ordering::SeqCst));
    }
}

#[test]
fn a_stopped_ticker_leaves_no_thread_and_lets_no_guest_in() {
    for asleep in [false, true] {
        let ticker = Ticker::start().unwrap();
        let pulse = Arc::clone(ticker.pulse());
        pulse.drive(&engine());
        assert!(pulse.beat());
        if asleep {
            until(|| pulse.asleep.load(Ordering::SeqCst));
        }
        ticker.stop();
        assert!(!pulse.beat());
        assert!(pulse.engines().is_empty());
        // The thread held the other one.
        drop(ticker);
        assert_eq!(Arc::strong_count(&pulse), 1);
    }
}
