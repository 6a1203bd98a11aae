//! One-time initialisation: races on real threads, waits under paused time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test that meets something unexpected should fail there"
)]

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use airssys_rt::{INIT_WAIT, InitCounts, InitError, InitOnce};
use tokio::sync::{Barrier, oneshot};
use tokio::time::Instant;

const RACERS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn losers_wait_for_the_outcome_of_the_winner() {
    let (once, running) = (Arc::new(InitOnce::new()), Arc::new(AtomicUsize::new(0)));
    let start = Arc::new(Barrier::new(RACERS));
    let racers: Vec<_> = (0..RACERS)
        .map(|racer| {
            let (once, running, start) = (once.clone(), running.clone(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                let value = once
                    .get_or_try_init(|| async {
                        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
                        for _ in 0..100 {
                            tokio::task::yield_now().await;
                        }
                        running.fetch_sub(1, Ordering::SeqCst);
                        Ok::<_, Infallible>(racer)
                    })
                    .await;
                *value.unwrap()
            })
        })
        .collect();
    let mut values = Vec::new();
    for racer in racers {
        values.push(racer.await.unwrap());
    }
    values.dedup();
    assert_eq!(values.len(), 1, "everybody got the same value");
    let InitCounts {
        attempts, failures, ..
    } = once.counts();
    assert_eq!((attempts, failures), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_racer_of_a_failing_initialisation_has_its_own_try() {
    let (once, running) = (
        Arc::new(InitOnce::<()>::new()),
        Arc::new(AtomicUsize::new(0)),
    );
    let start = Arc::new(Barrier::new(RACERS));
    let racers: Vec<_> = (0..RACERS)
        .map(|racer| {
            let (once, running, start) = (once.clone(), running.clone(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                let outcome = once
                    .get_or_try_init(|| async {
                        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
                        tokio::task::yield_now().await;
                        running.fetch_sub(1, Ordering::SeqCst);
                        Err(racer)
                    })
                    .await;
                assert_eq!(outcome, Err(InitError::Failed(racer)));
            })
        })
        .collect();
    for racer in racers {
        racer.await.unwrap();
    }
    let counts = once.counts();
    assert_eq!((counts.attempts, counts.failures), (64, 64));
    assert_eq!(once.get(), None);
}

/// Runs `first` as the initialisation that does not succeed, with a second call in the queue.
async fn second_takes_over(first: First) {
    let once = Arc::new(InitOnce::new());
    let (began, begun) = oneshot::channel();
    let (go, gone) = oneshot::channel::<()>();
    let winner = tokio::spawn({
        let once = once.clone();
        async move {
            let init = || async {
                began.send(()).unwrap();
                gone.await.ok();
                match first {
                    First::Fails => Err("no"),
                    First::Panics => panic!("no"),
                    First::IsCancelled => pending().await,
                }
            };
            once.get_or_try_init(init).await.copied()
        }
    });
    begun.await.unwrap();
    let second = tokio::spawn({
        let once = once.clone();
        async move {
            once.get_or_try_init(|| async { Ok::<u32, ()>(2) })
                .await
                .copied()
        }
    });
    while once.counts().waited == 0 {
        tokio::task::yield_now().await;
    }
    assert!(
        !second.is_finished() && once.get().is_none(),
        "no early answer"
    );
    go.send(()).unwrap();
    match first {
        First::Fails => assert_eq!(winner.await.unwrap(), Err(InitError::Failed("no"))),
        First::Panics => assert!(winner.await.unwrap_err().is_panic()),
        First::IsCancelled => winner.abort(),
    }
    assert_eq!(second.await.unwrap(), Ok(2));
    let expected = InitCounts {
        attempts: 2,
        failures: 1,
        waited: 1,
    };
    assert_eq!(once.counts(), expected);
    assert_eq!(once.get(), Some(&2));
}

#[derive(Clone, Copy)]
enum First {
    Fails,
    Panics,
    IsCancelled,
}

#[tokio::test]
async fn a_waiter_takes_over_from_an_initialisation_that_fails() {
    second_takes_over(First::Fails).await;
}

#[tokio::test]
async fn a_waiter_takes_over_from_an_initialisation_that_panics() {
    second_takes_over(First::Panics).await;
}

#[tokio::test]
async fn a_waiter_takes_over_from_an_initialisation_that_is_cancelled() {
    second_takes_over(First::IsCancelled).await;
}

#[tokio::test(start_paused = true)]
async fn an_initialisation_that_needs_its_own_outcome_is_refused() {
    let (outer, inner) = (InitOnce::<u32>::new(), InitOnce::<u32>::new());
    let outcome = outer
        .get_or_try_init(|| async {
            let through_another = inner.get_or_try_init(|| async {
                let own = outer
                    .get_or_try_init(|| async { Ok::<_, Infallible>(1) })
                    .await;
                own.copied()
            });
            through_another.await.copied()
        })
        .await;
    let refused = InitError::Failed(InitError::Failed(InitError::Reentered));
    assert_eq!(outcome, Err(refused));
    assert_eq!(
        outer.get_or_try_init(|| async { Ok::<_, ()>(3) }).await,
        Ok(&3)
    );
}

#[tokio::test(start_paused = true)]
async fn initialisations_that_wait_for_each_other_end_with_a_typed_error() {
    let cells = Arc::new((InitOnce::<u32>::new(), InitOnce::<u32>::new()));
    let began = Instant::now();
    let both_begun = Arc::new(Barrier::new(2));
    let ends = [true, false].map(|swapped| {
        let (cells, both_begun) = (cells.clone(), both_begun.clone());
        tokio::spawn(async move {
            let (mine, other) = match swapped {
                true => (&cells.1, &cells.0),
                false => (&cells.0, &cells.1),
            };
            let init = || async {
                both_begun.wait().await;
                other
                    .get_or_try_init(|| async { Ok::<_, ()>(7) })
                    .await
                    .copied()
            };
            mine.get_or_try_init(init).await.copied()
        })
    });
    let [first, second] = ends;
    let ends = [first.await.unwrap(), second.await.unwrap()];
    assert!(
        ends.contains(&Err(InitError::Failed(InitError::Waited))),
        "{ends:?}"
    );
    assert!(began.elapsed() < INIT_WAIT * 2);
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_a_wait_does_not_cut_an_initialisation_short() {
    let once = Arc::new(InitOnce::<u32>::new());
    let slow = || async {
        tokio::time::sleep(INIT_WAIT * 3).await;
        Ok::<_, ()>(1)
    };
    let first = tokio::spawn({
        let once = once.clone();
        async move { once.get_or_try_init(slow).await.copied() }
    });
    tokio::task::yield_now().await;
    let began = Instant::now();
    let waiter = once.get_or_try_init(|| async { Ok::<_, ()>(2) }).await;
    assert_eq!(waiter, Err(InitError::Waited));
    assert!(began.elapsed() >= INIT_WAIT && began.elapsed() < INIT_WAIT * 2);
    assert_eq!(first.await.unwrap(), Ok(1));
}
