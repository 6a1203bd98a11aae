//! Whom a death concerns: cases 33 to 46.

use std::sync::Arc;

use airssys_rt::{ChildState, ExitKind, Restart, Strategy, SupervisorSpec};
use tokio::time::Instant;

use super::kit::{Exit, House, Kid, Log, SECOND, cell, dynamic, intensity, said, sup};

fn kids<const N: usize>(names: [&str; N]) -> ([Kid; N], Log) {
    let log = Log::default();
    (names.map(|name| Kid::logged(name, &log)), log)
}

#[tokio::test(start_paused = true)]
async fn case_33_one_for_one() {
    let ([a, b], log) = kids(["a", "b"]);
    let mut house = House::open(sup(Strategy::OneForOne, 2, &[&a, &b])).await;
    let [a1, b1] = house.pids(["a", "b"]).await;
    said(&log);
    a.end(Exit::Abnormal).await;
    let [a2, b2] = house.pids(["a", "b"]).await;
    assert!(a1 != a2 && b1 == b2);
    assert_eq!(said(&log), "start a");
    a.end(Exit::Abnormal).await;
    assert_eq!(house.pid("b").await, b1);
    assert_eq!(house.end(), None, "two restarts are allowed");
    b.end(Exit::Abnormal).await;
    assert_eq!(house.end(), Some(ExitKind::Escalated));
    assert_eq!(
        house.exits(),
        ["a: fuel", "a: fuel", "b: fuel", "a: shutdown"]
    );
}

/// `failing` is never started again; its supervisor and the sibling end.
async fn escalates(strategy: Strategy, dying: &str, failing: &str) -> String {
    let ([a, b], log) = kids(["a", "b"]);
    let mut house = House::open(sup(strategy, 4, &[&a, &b])).await;
    said(&log);
    let kid = |name: &str| if name == "a" { &a } else { &b };
    kid(failing).will(|c| c.failing = usize::MAX);
    kid(dying).end(Exit::Abnormal).await;
    assert_eq!(house.end(), Some(ExitKind::Escalated));
    for kid in [&a, &b] {
        assert_eq!(kid.actor().get_status(), ractor::ActorStatus::Stopped);
    }
    let attempts = said(&log);
    let failed = format!("fail {failing}");
    assert_eq!(attempts.matches(&failed).count(), 4, "{attempts}");
    attempts
}

#[tokio::test(start_paused = true)]
async fn case_34_one_for_one_escalation() {
    let attempts = escalates(Strategy::OneForOne, "a", "a").await;
    assert_eq!(attempts, "fail a, fail a, fail a, fail a, stop b");
}

#[tokio::test(start_paused = true)]
async fn case_35_one_for_all() {
    let ([a, b], log) = kids(["a", "b"]);
    let mut house = House::open(sup(Strategy::OneForAll, 2, &[&a, &b])).await;
    for dying in [&a, &b] {
        let before = house.pids(["a", "b"]).await;
        let actors = [a.actor(), b.actor()];
        dying.end(Exit::Abnormal).await;
        let after = house.pids(["a", "b"]).await;
        assert!(before.iter().all(|pid| !after.contains(pid)));
        for actor in actors {
            assert_eq!(actor.get_status(), ractor::ActorStatus::Stopped);
        }
    }
    assert_eq!(
        said(&log),
        "start a, start b, stop b, start a, start b, stop a, start a, start b"
    );
    assert_eq!(house.end(), None);
    a.end(Exit::Abnormal).await;
    assert_eq!(house.end(), Some(ExitKind::Escalated));
}

#[tokio::test(start_paused = true)]
async fn case_36_one_for_all_escalation() {
    let attempts = escalates(Strategy::OneForAll, "a", "b").await;
    assert!(attempts.starts_with("stop b, start a, fail b, stop a, start a, fail b"));
}

#[tokio::test(start_paused = true)]
async fn case_37_one_for_all_other_child_fails_restart() {
    let ([a, b], log) = kids(["a", "b"]);
    let mut house = House::open(sup(Strategy::OneForAll, 3, &[&a, &b])).await;
    said(&log);
    b.will(|c| c.failing = 1);
    a.end(Exit::Abnormal).await;
    assert_eq!(
        said(&log),
        "stop b, start a, fail b, stop a, start a, start b"
    );
    assert_eq!(house.counts().await, [2, 2, 0, 2]);
    assert_eq!(house.end(), None);
}

#[tokio::test(start_paused = true)]
async fn case_38_simple_one_for_one() {
    let kid = Kid::new("t");
    let mut house = House::open(dynamic(&kid, Restart::Permanent, 2)).await;
    let started = house.start_dynamic(2).await;
    let other = cell(&started[1]).get_id();
    for _ in 0..2 {
        let before = house.pid("t#1").await;
        kid.end_of("t#1", Exit::Abnormal).await;
        assert_ne!(house.pid("t#1").await, before);
        assert_eq!(house.pid("t#2").await, other);
    }
    assert_eq!(house.end(), None);
    kid.end_of("t#1", Exit::Abnormal).await;
    assert_eq!(house.end(), Some(ExitKind::Escalated));
}

#[tokio::test(start_paused = true)]
async fn case_39_simple_one_for_one_shutdown() {
    let kid = Kid::new("t");
    let mut house = House::open(dynamic(&kid, Restart::Permanent, 1)).await;
    house.start_dynamic(5).await;
    kid.will(|c| c.stop_takes = 3 * SECOND);
    let began = Instant::now();
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
    let took = began.elapsed();
    assert!((3 * SECOND..4 * SECOND).contains(&took), "{took:?}");
    assert_eq!(house.exits().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn case_40_simple_one_for_one_extra() {
    let kid = Kid::new("t");
    kid.will(|c| c.info = Some(9));
    let mut house = House::open(dynamic(&kid, Restart::Permanent, 2)).await;
    let started = house.start_dynamic(2).await;
    for child in &started {
        let info = child.info.as_ref().unwrap();
        assert_eq!(info.downcast_ref::<u32>(), Some(&9));
    }
    kid.end_of("t#1", Exit::Abnormal).await;
    assert_ne!(house.pid("t#1").await, cell(&started[0]).get_id());
    assert_eq!(house.pid("t#2").await, cell(&started[1]).get_id());
    kid.end_of("t#2", Exit::Abnormal).await;
    assert_eq!(house.counts().await, [1, 2, 0, 2]);
    assert_eq!(house.end(), None);
}

#[tokio::test(start_paused = true)]
async fn case_41_simple_one_for_one_escalation() {
    let kid = Kid::new("t");
    let mut house = House::open(dynamic(&kid, Restart::Permanent, 4)).await;
    house.start_dynamic(2).await;
    kid.will(|c| c.failing = usize::MAX);
    kid.end_of("t#1", Exit::Abnormal).await;
    assert_eq!(house.end(), Some(ExitKind::Escalated));
    assert_eq!(house.exits(), ["t#1: fuel", "t#2: shutdown"]);
    assert_eq!(kid.conduct().starts, 6, "two, and four that failed");
}

#[tokio::test(start_paused = true)]
async fn case_42_simple_one_for_one_corruption() {
    let kid = Kid::new("t");
    let house = House::open(dynamic(&kid, Restart::Temporary, 1)).await;
    let argument = Arc::new(());
    let start = || house.sup.start_dynamic(Arc::clone(&argument));
    start().await.unwrap();
    kid.end_of("t#1", Exit::Abnormal).await;
    for later in ["t#2", "t#3"] {
        assert_eq!(start().await.unwrap().id.as_str(), later);
    }
    assert_eq!(house.counts().await, [1, 2, 0, 2]);
    super::kit::settle().await;
    assert_eq!(Arc::strong_count(&argument), 1);
}

#[tokio::test(start_paused = true)]
async fn case_43_simple_one_for_one_restart_ignore() {
    for restart in [Restart::Transient, Restart::Permanent] {
        let kid = Kid::new("t");
        let mut house = House::open(dynamic(&kid, restart, 1)).await;
        house.start_dynamic(2).await;
        kid.will(|c| c.ignoring = true);
        kid.end_of("t#1", Exit::Abnormal).await;
        assert_eq!(house.state("t#1").await, None);
        assert_eq!(house.counts().await, [1, 1, 0, 1]);
        assert_eq!(house.end(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn case_44_rest_for_one() {
    let ([a, b, c], log) = kids(["a", "b", "c"]);
    let mut house = House::open(sup(Strategy::RestForOne, 2, &[&a, &b, &c])).await;
    said(&log);
    let [a1, b1, c1] = house.pids(["a", "b", "c"]).await;
    b.end(Exit::Abnormal).await;
    let [a2, b2, c2] = house.pids(["a", "b", "c"]).await;
    assert!(a1 == a2 && b1 != b2 && c1 != c2);
    assert_eq!(said(&log), "stop c, start b, start c");
    c.end(Exit::Abnormal).await;
    let [a3, b3, c3] = house.pids(["a", "b", "c"]).await;
    assert!(a1 == a3 && b2 == b3 && c2 != c3);
    assert_eq!(house.end(), None);
    a.end(Exit::Abnormal).await;
    assert_eq!(house.end(), Some(ExitKind::Escalated));
}

#[tokio::test(start_paused = true)]
async fn case_45_rest_for_one_escalation() {
    let attempts = escalates(Strategy::RestForOne, "a", "b").await;
    assert_eq!(
        attempts,
        "stop b, start a, fail b, fail b, fail b, fail b, stop a"
    );
}

#[tokio::test(start_paused = true)]
async fn case_46_rest_for_one_other_child_fails_restart() {
    let ([a, b, c], log) = kids(["a", "b", "c"]);
    let mut house = House::open(sup(Strategy::RestForOne, 3, &[&a, &b, &c])).await;
    said(&log);
    b.will(|c| c.failing = 1);
    a.end(Exit::Abnormal).await;
    assert_eq!(
        said(&log),
        "stop c, stop b, start a, fail b, start b, start c"
    );
    assert_eq!(house.counts().await, [3, 3, 0, 3]);
    assert_eq!(house.end(), None);
}

/// All of them together cost one restart.
#[tokio::test(start_paused = true)]
async fn a_group_starts_those_that_had_been_stopped() {
    let ([a, b], _) = kids(["a", "b"]);
    let spec = SupervisorSpec::new("sup")
        .strategy(Strategy::OneForAll)
        .intensity(intensity(1))
        .child(a.spec())
        .child(b.spec());
    let mut house = House::open(spec).await;
    house.sup.terminate_child("b").await.unwrap();
    a.end(Exit::Abnormal).await;
    assert_eq!(house.state("b").await, Some(ChildState::Running));
    assert_eq!(house.end(), None);
}
