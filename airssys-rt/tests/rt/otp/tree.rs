//! Trees, names and restarts that do not come to an end: cases 58, 59, 76, 81 to 85.

use std::collections::BTreeSet;

use airssys_rt::{ChildState, ExitKind, Refusal, Restart, Shutdown, Strategy, SupervisorSpec};
use ractor::registry::where_is;
use tokio::time::{Instant, sleep};

use super::kit::{
    EXITS, Exit, House, Kid, SECOND, counts, dynamic, intensity, refusal, said, settle, sup,
};

#[tokio::test(start_paused = true)]
async fn case_58_child_unlink() {
    let kid = Kid::new("a");
    let mut house = House::open(sup(Strategy::OneForOne, 1, &[&kid])).await;
    kid.actor().unlink(house.sup.actor().get_cell());
    house.sup.terminate_child("a").await.unwrap();
    assert_eq!(kid.actor().get_status(), ractor::ActorStatus::Stopped);
    assert_eq!(house.exits(), ["a: shutdown"]);
    assert_eq!(house.counts().await, [1, 0, 0, 1]);
}

/// root (one_for_all) over `static`, with two workers, and `dyn`, a transient dynamic supervisor.
#[tokio::test(start_paused = true)]
async fn case_59_tree() {
    let (w1, w2, t) = (Kid::new("w1"), Kid::new("w2"), Kid::new("t"));
    let fixed = SupervisorSpec::new("static")
        .child(w1.spec())
        .child(w2.spec());
    let made = SupervisorSpec::dynamic("dyn", t.spec().restart(Restart::Temporary));
    let spec = sup(Strategy::OneForAll, 4, &[])
        .supervisor(fixed.clone())
        .child(made.clone().into_child().restart(Restart::Transient));
    let mut house = House::open(spec).await;
    assert_eq!(house.counts().await, [2, 2, 2, 0]);
    let fixed = fixed.handle().unwrap();
    let made = made.handle().unwrap();
    for n in 0..3 {
        made.start_dynamic(n).await.unwrap();
    }
    assert_eq!(counts(&made).await, [1, 3, 0, 3]);
    // A worker: its own supervisor replaces it, nobody above notices.
    let before = house.pids(["static", "dyn"]).await;
    w1.end(Exit::Abnormal).await;
    assert_eq!(counts(&fixed).await, [2, 2, 0, 2]);
    assert_eq!(house.pids(["static", "dyn"]).await, before);
    // A supervisor is killed: the whole group is new, and what was made at run time is gone.
    fixed.actor().kill();
    settle().await;
    let after = house.pids(["static", "dyn"]).await;
    assert!(before.iter().all(|pid| !after.contains(pid)));
    assert_eq!(counts(&fixed).await, [2, 2, 0, 2]);
    assert_eq!(counts(&made).await, [1, 0, 0, 0], "not revived");
    // Stopped on request it stays down, until its group is restarted.
    house.sup.terminate_child("dyn").await.unwrap();
    assert_eq!(house.state("dyn").await, Some(ChildState::Stopped));
    fixed.actor().kill();
    settle().await;
    assert_eq!(house.state("dyn").await, Some(ChildState::Running));
    assert_eq!(counts(&made).await, [1, 0, 0, 0]);
    assert_eq!(house.end(), None);
}

#[tokio::test(start_paused = true)]
async fn case_76_count_restarting_children() {
    let kid = Kid::new("t");
    let mut house = House::open(dynamic(&kid, Restart::Permanent, 100)).await;
    house.start_dynamic(3).await;
    assert_eq!(house.counts().await, [1, 3, 0, 3]);
    kid.will(|c| (c.failing, c.start_takes) = (9, SECOND));
    for (n, id) in ["t#1", "t#2", "t#3"].into_iter().enumerate() {
        kid.end_of(id, Exit::Abnormal).await;
        assert_eq!(house.counts().await, [1, 2 - n, 0, 3]);
        assert_eq!(house.state(id).await, Some(ChildState::Restarting));
    }
    sleep(5 * SECOND).await;
    assert_eq!(house.counts().await, [1, 3, 0, 3], "recovered");
    kid.will(|c| c.failing = usize::MAX);
    for (n, id) in ["t#1", "t#2", "t#3"].into_iter().enumerate() {
        kid.end_of(id, Exit::Abnormal).await;
        house.sup.terminate_child(id).await.unwrap();
        assert_eq!(house.counts().await, [1, 2 - n, 0, 2 - n]);
    }
    assert_eq!(house.end(), None);
}

#[tokio::test(start_paused = true)]
async fn case_81_temporary_bystander() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let (a, b) = (Kid::new("a"), Kid::new("b"));
        let spec = sup(strategy, 1, &[&a]).child(b.spec().restart(Restart::Temporary));
        let mut house = House::open(spec).await;
        let before = house.pid("a").await;
        a.end(Exit::Abnormal).await;
        assert_ne!(house.pid("a").await, before);
        assert_eq!(house.counts().await, [1, 1, 0, 1]);
        assert_eq!(house.exits(), ["a: fuel", "b: shutdown"]);
        assert_eq!(b.conduct().starts, 1);
        assert_eq!(house.end(), None);
    }
}

/// Names of actors are the process's: each incarnation takes its name anew.
#[tokio::test(start_paused = true)]
async fn case_82_simple_global_supervisor() {
    let kid = Kid::new("w");
    let name = || "case_82_worker".to_owned();
    kid.will(|c| c.registered = Some(name()));
    let inner = SupervisorSpec::new("inner")
        .intensity(intensity(9))
        .child(kid.spec());
    let mut house = House::open(sup(Strategy::OneForOne, 9, &[]).supervisor(inner.clone())).await;
    let supervisor = inner.handle().unwrap();
    let mut workers = BTreeSet::from([where_is(name()).unwrap().get_id()]);
    let mut supervisors = BTreeSet::from([supervisor.actor().get_id()]);
    for exit in EXITS {
        kid.end(exit).await;
        assert!(
            workers.insert(where_is(name()).unwrap().get_id()),
            "{exit:?}"
        );
    }
    for round in 0..3 {
        match round {
            0 => supervisor.actor().kill(),
            1 => supervisor.stop(SECOND).await.unwrap(),
            _ => {
                house.sup.terminate_child("inner").await.unwrap();
                assert!(where_is(name()).is_none(), "the name is free");
                house.sup.restart_child("inner").await.unwrap();
            }
        }
        settle().await;
        assert!(supervisors.insert(supervisor.actor().get_id()));
        assert!(workers.insert(where_is(name()).unwrap().get_id()));
        assert_eq!(counts(&supervisor).await, [1, 1, 0, 1]);
    }
    assert_eq!(house.end(), None);
}

/// Each start takes 2 s and fails: five in 10 s, which eight restarts in 10 s allow for ever.
fn hang(kid: &Kid) {
    kid.will(|c| (c.failing, c.start_takes) = (usize::MAX, 2 * SECOND));
}

fn recover(kid: &Kid) {
    kid.will(|c| (c.failing, c.start_takes) = (0, std::time::Duration::ZERO));
}

async fn is_restarting(house: &House, kid: &Kid, id: &str) {
    assert_eq!(house.state(id).await, Some(ChildState::Restarting));
    let answer = house.sup.start_child(kid.spec()).await;
    assert!(matches!(refusal(answer), Refusal::AlreadyPresent(_)));
    let answer = house.sup.restart_child(id).await;
    assert!(matches!(refusal(answer), Refusal::Restarting(_)));
    let answer = house.sup.delete_child(id).await;
    assert!(matches!(refusal(answer), Refusal::Restarting(_)));
}

#[tokio::test(start_paused = true)]
async fn case_83_hanging_restart_loop() {
    let (a, b) = (Kid::new("a"), Kid::new("b"));
    let spec = sup(Strategy::OneForOne, 8, &[]).child(a.spec().shutdown(Shutdown::Brutal));
    let mut house = House::open(spec).await;
    hang(&a);
    a.end(Exit::Abnormal).await;
    is_restarting(&house, &a, "a").await;
    house.sup.start_child(b.spec()).await.unwrap();
    sleep(60 * SECOND).await;
    is_restarting(&house, &a, "a").await;
    assert!(a.conduct().starts > 20, "{}", a.conduct().starts);
    assert_eq!(house.counts().await, [2, 1, 0, 2]);
    house.sup.terminate_child("a").await.unwrap();
    assert_eq!(house.state("a").await, Some(ChildState::Stopped));
    let tried = a.conduct().starts;
    sleep(60 * SECOND).await;
    assert_eq!(a.conduct().starts, tried, "called off");
    recover(&a);
    house.sup.restart_child("a").await.unwrap();
    assert_eq!(house.counts().await, [2, 2, 0, 2]);
    // And the supervisor itself can be stopped in the middle of it.
    hang(&a);
    a.end(Exit::Abnormal).await;
    sleep(5 * SECOND).await;
    let began = Instant::now();
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
    assert!(began.elapsed() <= 2 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn case_84_hanging_restart_loop_rest_for_one() {
    let [a, b, c] = ["a", "b", "c"].map(Kid::new);
    let mut house = House::open(sup(Strategy::RestForOne, 8, &[&a, &b, &c])).await;
    let first = house.pid("a").await;
    hang(&b);
    b.end(Exit::Abnormal).await;
    sleep(30 * SECOND).await;
    is_restarting(&house, &b, "b").await;
    assert_eq!(house.pid("a").await, first, "the earlier one lives");
    assert_eq!(house.state("c").await, Some(ChildState::Stopped));
    assert_eq!(house.counts().await, [3, 1, 0, 3]);
    house.sup.terminate_child("b").await.unwrap();
    assert_eq!(house.state("b").await, Some(ChildState::Stopped));
    assert_eq!(house.state("c").await, Some(ChildState::Stopped));
    recover(&b);
    for id in ["b", "c"] {
        house.sup.restart_child(id).await.unwrap();
    }
    assert_eq!(house.counts().await, [3, 3, 0, 3]);
    hang(&b);
    b.end(Exit::Abnormal).await;
    sleep(5 * SECOND).await;
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn case_85_hanging_restart_loop_simple() {
    let kid = Kid::new("t");
    let mut house = House::open(dynamic(&kid, Restart::Permanent, 8)).await;
    house.start_dynamic(1).await;
    hang(&kid);
    kid.end_of("t#1", Exit::Abnormal).await;
    sleep(30 * SECOND).await;
    assert_eq!(house.state("t#1").await, Some(ChildState::Restarting));
    assert_eq!(house.counts().await, [1, 0, 0, 1]);
    house.sup.terminate_child("t#1").await.unwrap();
    assert_eq!(house.counts().await, [1, 0, 0, 0]);
    recover(&kid);
    house.start_dynamic(1).await;
    hang(&kid);
    kid.end_of("t#2", Exit::Abnormal).await;
    sleep(5 * SECOND).await;
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
    assert_eq!(said(&kid.log()).matches("start").count(), 2);
}
