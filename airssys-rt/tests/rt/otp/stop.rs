//! sup_stop: cases 16 to 24.

use std::time::Duration;

use airssys_rt::{ChildKind, ExitKind, Restart, Shutdown, SupervisorError, SupervisorSpec};
use tokio::time::{Instant, sleep};

use super::kit::{EXITS, Exit, House, Kid, RESTARTS, SECOND, dynamic, end, settle};

#[tokio::test(start_paused = true)]
async fn case_16_sup_stop_infinity() {
    let (a, b) = (Kid::new("a"), Kid::new("b"));
    for kid in [&a, &b] {
        kid.will(|c| c.stop_takes = 3600 * SECOND);
    }
    let spec = SupervisorSpec::new("sup")
        .child(a.spec().shutdown(Shutdown::Infinity))
        .child(
            b.spec()
                .shutdown(Shutdown::Infinity)
                .kind(ChildKind::Supervisor),
        );
    let mut house = House::open(spec).await;
    let began = Instant::now();
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
    assert_eq!(house.exits(), ["b: shutdown", "a: shutdown"]);
    assert_eq!(began.elapsed().as_secs(), 7200, "one after the other");
}

#[tokio::test(start_paused = true)]
async fn case_17_sup_stop_timeout() {
    let (a, b) = (Kid::new("a"), Kid::new("b"));
    b.will(|c| c.stop_takes = 100 * SECOND);
    let limit = Shutdown::Timeout(2 * SECOND);
    let spec = SupervisorSpec::new("sup")
        .child(a.spec().shutdown(limit))
        .child(b.spec().shutdown(limit));
    let mut house = House::open(spec).await;
    let began = Instant::now();
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
    assert_eq!(house.exits(), ["b: killed", "a: shutdown"]);
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn case_18_sup_stop_timeout_dynamic() {
    let kid = Kid::new("t");
    let template = kid.spec().shutdown(Shutdown::Timeout(2 * SECOND));
    let mut house = House::open(SupervisorSpec::dynamic("sup", template)).await;
    house.start_dynamic(3).await;
    // Each reads how long it is to take when it is told to stop.
    kid.will(|c| c.stop_takes = 100 * SECOND);
    let began = Instant::now();
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
    assert_eq!(house.exits(), ["t#1: killed", "t#2: killed", "t#3: killed"]);
    assert_eq!(began.elapsed().as_secs(), 2, "on one timer");
}

#[tokio::test(start_paused = true)]
async fn case_19_sup_stop_brutal_kill() {
    let (a, b) = (Kid::new("a"), Kid::new("b"));
    let spec = SupervisorSpec::new("sup")
        .child(a.spec())
        .child(b.spec().shutdown(Shutdown::Brutal));
    let mut house = House::open(spec).await;
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
    assert_eq!(house.exits(), ["b: killed", "a: shutdown"]);
}

#[tokio::test(start_paused = true)]
async fn case_20_sup_stop_brutal_kill_dynamic() {
    let kid = Kid::new("t");
    let template = kid.spec().shutdown(Shutdown::Brutal);
    let mut house = House::open(SupervisorSpec::dynamic("sup", template)).await;
    house.start_dynamic(10).await;
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
    let killed: Vec<String> = (1..=10).map(|n| format!("t#{n}: killed")).collect();
    assert_eq!(house.exits(), killed);
}

/// `a` ends by itself while its supervisor waits for `b`; every combination of the matrix.
async fn race(restart: Restart, exit: Exit) -> (Option<ExitKind>, Vec<String>, bool) {
    let (a, b) = (Kid::new("a"), Kid::new("b"));
    b.will(|c| c.stop_takes = SECOND);
    let spec = SupervisorSpec::new("sup")
        .child(a.spec().restart(restart))
        .child(b.spec());
    let mut house = House::open(spec).await;
    let top = house.top.clone();
    let stopping = tokio::spawn(async move { top.terminate_child("sup").await });
    sleep(SECOND / 2).await;
    end(&a.actor(), exit);
    stopping.await.unwrap().unwrap();
    settle().await;
    let alone = a.conduct().starts == 1;
    (house.end(), house.exits(), alone)
}

#[tokio::test(start_paused = true)]
async fn case_21_sup_stop_race() {
    for restart in RESTARTS {
        for exit in EXITS {
            let (ended, exits, alone) = race(restart, exit).await;
            assert_eq!(ended, Some(ExitKind::Shutdown), "{restart:?} {exit:?}");
            assert_eq!(exits.len(), 2, "{exits:?}");
            assert!(alone, "nothing is started on the way down");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn case_21_sup_stop_race_keeps_the_reasons() {
    for restart in RESTARTS {
        for (exit, kind) in EXITS
            .into_iter()
            .zip(["normal", "shutdown", "fuel", "killed"])
        {
            let (_, exits, _) = race(restart, exit).await;
            // `a` ends while `b`, which is stopped first, is still on its way down.
            let expected = [format!("a: {kind}"), "b: shutdown".to_owned()];
            assert_eq!(exits, expected, "{restart:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn case_22_sup_stop_non_shutdown_exit_dynamic() {
    for restart in RESTARTS {
        let kid = Kid::new("t");
        let mut house = House::open(dynamic(&kid, restart, 1)).await;
        house.start_dynamic(3).await;
        kid.will(|c| c.fails_at_stop = true);
        assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
        assert_eq!(house.exits().len(), 3);
        assert_eq!(kid.conduct().starts, 3);
    }
}

fn manual(hangs: Duration) -> SupervisorSpec {
    let (a, b, c) = (Kid::new("a"), Kid::new("b"), Kid::new("c"));
    a.will(|c| c.stop_takes = hangs);
    SupervisorSpec::new("sup")
        .child(a.spec().shutdown(Shutdown::Timeout(2 * SECOND)))
        .child(b.spec())
        .child(c.spec().shutdown(Shutdown::Brutal))
}

#[tokio::test(start_paused = true)]
async fn case_23_sup_stop_manual() {
    let mut house = House::open(manual(100 * SECOND)).await;
    house.sup.stop(60 * SECOND).await.unwrap();
    settle().await;
    assert_eq!(house.end(), Some(ExitKind::Normal));
    assert_eq!(house.exits(), ["c: killed", "b: shutdown", "a: killed"]);
    let gone = house.sup.stop(SECOND).await;
    assert!(matches!(gone, Err(SupervisorError::Gone(_))), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn case_24_sup_stop_manual_timeout() {
    let mut house = House::open(manual(100 * SECOND)).await;
    let began = Instant::now();
    let waited = house.sup.stop(SECOND).await;
    assert!(
        matches!(waited, Err(SupervisorError::StillStopping { .. })),
        "{waited:?}"
    );
    assert_eq!(began.elapsed().as_secs(), 1);
    assert_eq!(house.end(), None);
    sleep(2 * SECOND).await;
    assert_eq!(house.end(), Some(ExitKind::Normal), "it went on stopping");
    assert_eq!(house.exits(), ["c: killed", "b: shutdown", "a: killed"]);
}
