//! Panics caught at named entry points.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test that meets something unexpected should fail there"
)]

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use airssys_rt::{PANIC_MESSAGE_BYTES, PANICS_KEPT, PanicBoundary, PanicCounts};

/// Panics when it is dropped.
struct Spiteful;

impl Drop for Spiteful {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// A payload whose destructor panics with one like itself.
struct Recurring(u32);

impl Drop for Recurring {
    fn drop(&mut self) {
        if self.0 > 0 {
            std::panic::panic_any(Recurring(self.0 - 1));
        }
    }
}

fn counts(entered: u64, inside: u64, panicked: u64) -> PanicCounts {
    PanicCounts {
        entered,
        inside,
        panicked,
    }
}

#[test]
fn a_panic_is_an_error_that_names_its_entry_point() {
    let boundary = PanicBoundary::new();
    let got = boundary.call("get", || 5);
    let caught = boundary
        .call("put", || panic!("no {}", "room"))
        .unwrap_err();
    assert_eq!(got, Ok(5));
    assert_eq!((&*caught.entry, &*caught.message), ("put", "no room"));
    let name = "a_panic_is_an_error_that_names_its_entry_point";
    assert_eq!(caught.thread.as_deref(), Some(name));
    assert_eq!(
        boundary.entries(),
        [
            (Arc::from("get"), counts(1, 0, 0)),
            (Arc::from("put"), counts(1, 0, 1))
        ]
    );
    assert_eq!(boundary.counts(), counts(2, 0, 1));
    assert_eq!(boundary.last_panics(), [caught]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_stamped_with_the_time_since_the_boundary_was_made() {
    let boundary = PanicBoundary::new();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let caught = boundary.call("late", || panic!()).unwrap_err();
    assert_eq!(caught.at, Duration::from_secs(3));
}

#[tokio::test]
async fn a_panic_of_a_future_is_caught_at_whichever_poll() {
    let boundary = PanicBoundary::new();
    let run = boundary.run("later", async {
        tokio::task::yield_now().await;
        panic!("second poll");
    });
    let caught: airssys_rt::CaughtPanic = run.await.unwrap_err();
    assert_eq!(caught.message, "second poll");
    assert_eq!(boundary.counts(), counts(1, 0, 1));
}

#[test]
fn the_last_hundred_panics_are_on_record() {
    let boundary = PanicBoundary::new();
    for number in 0..PANICS_KEPT + 5 {
        boundary.call("many", || panic!("{number}")).unwrap_err();
    }
    let kept = boundary.last_panics();
    assert_eq!(kept.len(), PANICS_KEPT);
    assert_eq!(
        (kept[0].message.as_str(), kept[99].message.as_str()),
        ("5", "104")
    );
    assert_eq!(boundary.counts().panicked, 105);
}

#[test]
fn a_long_message_is_cut_at_a_character() {
    let boundary = PanicBoundary::new();
    let long = format!("x{}", "é".repeat(PANIC_MESSAGE_BYTES));
    let caught = boundary.call("long", || panic!("{long}")).unwrap_err();
    assert_eq!(caught.message.len(), PANIC_MESSAGE_BYTES - 1);
}

#[test]
fn a_payload_whose_destructor_panics_does_not_escape() {
    let boundary = PanicBoundary::new();
    let caught = boundary.call("spite", || std::panic::panic_any(Spiteful));
    let recurring = boundary.call("recur", || std::panic::panic_any(Recurring(3)));
    assert!(caught.is_err() && recurring.is_err());
    assert_eq!(boundary.counts(), counts(2, 0, 2));
}

#[tokio::test]
async fn a_future_whose_destructor_panics_does_not_escape() {
    let boundary = PanicBoundary::new();
    let spiteful = Spiteful;
    let done = boundary.run(
        "done",
        poll_fn(move |_| {
            let _ = &spiteful;
            Poll::Ready(Spiteful)
        }),
    );
    assert!(done.await.is_err());

    let held = Spiteful;
    let mut cancelled = Box::pin(boundary.run("cancelled", async move {
        let _held = held;
        pending::<()>().await;
    }));
    let mut context = Context::from_waker(Waker::noop());
    assert!(cancelled.as_mut().poll(&mut context).is_pending());
    assert_eq!(boundary.counts().inside, 1);
    drop(cancelled);

    let held = Spiteful;
    drop(boundary.run("never polled", async move { drop(held) }));
    assert_eq!(
        boundary.entries(),
        [
            (Arc::from("cancelled"), counts(1, 0, 1)),
            (Arc::from("done"), counts(1, 0, 1)),
            (Arc::from("never polled"), counts(0, 0, 1)),
        ]
    );
    assert_eq!(boundary.last_panics().len(), 3);
}

#[tokio::test]
async fn a_future_is_dropped_before_its_outcome_is_handed_out() {
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    impl Future for Flag {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let boundary = PanicBoundary::new();
    let mut run = pin!(boundary.run("flag", Flag(dropped.clone())));
    run.as_mut().await.unwrap();
    assert!(dropped.load(Ordering::SeqCst), "while `run` is still there");
}

#[test]
fn no_count_is_lost_between_threads_and_none_stays_up() {
    const THREADS: u64 = 8;
    const CALLS: u64 = 200;
    let boundary = PanicBoundary::new();
    let most_inside = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let entry = boundary.entry("busy");
                for call in 0..CALLS {
                    let outcome = entry.call(|| {
                        let inside = boundary.counts().inside;
                        most_inside.fetch_max(inside as usize, Ordering::Relaxed);
                        assert!(call % 10 > 0, "every tenth");
                    });
                    assert_eq!(outcome.is_err(), call % 10 == 0);
                }
            });
        }
    });
    assert_eq!(
        boundary.counts(),
        counts(THREADS * CALLS, 0, THREADS * CALLS / 10)
    );
    let most_inside = most_inside.into_inner() as u64;
    assert!((1..=THREADS).contains(&most_inside));
}
