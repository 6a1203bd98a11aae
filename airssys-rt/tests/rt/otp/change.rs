//! Another spec for a supervisor that runs, and the order of children: cases 86 to 90.

use std::time::Duration;

use airssys_rt::{
    ChildKind, ChildState, ExitKind, Refusal, Restart, Shutdown, SpecError, Strategy,
    SupervisorSpec,
};

use super::kit::{
    Exit, House, Kid, Log, SECOND, cell, dynamic, intensity, refusal, said, settle, sup,
};

fn ids(children: &[airssys_rt::ChildStatus]) -> Vec<&str> {
    children.iter().map(|child| child.id.as_str()).collect()
}

/// There is no init to ignore the change or to fail; a spec that is refused is what comes closest.
#[tokio::test(start_paused = true)]
async fn case_86_code_change() {
    let [a, b, c] = ["a", "b", "c"].map(Kid::new);
    let mut house = House::open(sup(Strategy::OneForOne, 0, &[&a, &b])).await;
    let before = house.pids(["a", "b"]).await;
    // The flags: the intensity, and whom an exit concerns.
    let flags = sup(Strategy::OneForAll, 2, &[&a, &b]);
    house.sup.code_change(flags).await.unwrap();
    assert_eq!(house.pids(["a", "b"]).await, before);
    a.end(Exit::Abnormal).await;
    let after = house.pids(["a", "b"]).await;
    assert!(before.iter().all(|pid| !after.contains(pid)));
    // A faulty one: as before.
    let answer = house
        .sup
        .code_change(sup(Strategy::OneForOne, 2, &[&a, &a]));
    let answer = refusal(answer.await);
    assert!(matches!(
        answer,
        Refusal::Invalid(SpecError::Duplicate(id)) if id.as_str() == "a"
    ));
    let answer = house.sup.code_change(dynamic(&a, Restart::Permanent, 1));
    assert!(matches!(refusal(answer.await), Refusal::NotDynamic));
    assert_eq!(house.pids(["a", "b"]).await, after);
    // A new child waits to be started, a missing one stays, last in the order.
    let without_a = sup(Strategy::OneForAll, 2, &[&c, &b]);
    house.sup.code_change(without_a).await.unwrap();
    let children = house.sup.which_children().await.unwrap();
    assert_eq!(ids(&children), ["c", "b", "a"]);
    assert_eq!(house.state("c").await, Some(ChildState::Stopped));
    assert_eq!(house.pids(["a", "b"]).await, after);
    assert_eq!(c.conduct().starts, 0);
    house.sup.restart_child("c").await.unwrap();
    assert_eq!(house.counts().await, [3, 3, 0, 3]);
    // What was counted stays counted.
    b.end(Exit::Abnormal).await;
    assert_eq!(house.end(), None);
    b.end(Exit::Abnormal).await;
    assert_eq!(house.end(), Some(ExitKind::Escalated));
}

#[tokio::test(start_paused = true)]
async fn case_87_code_change_map() {
    let (a, new) = (Kid::new("a"), Kid::new("a"));
    let mut house = House::open(sup(Strategy::OneForOne, 1, &[&a])).await;
    let before = house.pid("a").await;
    let changed = new
        .spec()
        .restart(Restart::Transient)
        .shutdown(Shutdown::Brutal)
        .kind(ChildKind::Supervisor);
    let policy = changed.policy.clone();
    let spec = sup(Strategy::OneForOne, 1, &[]).child(changed);
    house.sup.code_change(spec).await.unwrap();
    let kept = house.sup.get_childspec("a").await.unwrap().unwrap();
    assert_eq!(kept.policy, policy);
    assert_eq!(house.counts().await, [1, 1, 1, 0]);
    assert_eq!(house.pid("a").await, before, "it keeps running");
    // From the new spec on: another start, another type, another shutdown.
    a.end(Exit::Abnormal).await;
    assert_eq!((a.conduct().starts, new.conduct().starts), (1, 1));
    house.sup.terminate_child("a").await.unwrap();
    assert_eq!(house.exits(), ["a: fuel", "a: killed"]);
    house.sup.restart_child("a").await.unwrap();
    new.end(Exit::Normal).await;
    assert_eq!(house.state("a").await, Some(ChildState::Stopped));
    let answer = house.sup.code_change(SupervisorSpec::new("")).await;
    let answer = refusal(answer);
    assert!(matches!(answer, Refusal::Invalid(SpecError::EmptyName)));
    assert_eq!(house.counts().await, [1, 0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn case_88_code_change_simple() {
    let (old, new) = (Kid::new("t"), Kid::new("t"));
    let mut house = House::open(dynamic(&old, Restart::Permanent, 0)).await;
    house.start_dynamic(1).await;
    let before = house.pid("t#1").await;
    let two = dynamic(&new, Restart::Permanent, 5).child(Kid::new("u").spec());
    let none = SupervisorSpec::new("sup").strategy(Strategy::SimpleOneForOne);
    for (spec, found) in [(two, 2), (none, 0)] {
        let answer = refusal(house.sup.code_change(spec).await);
        let Refusal::Invalid(SpecError::OneTemplate(count)) = answer else {
            panic!("{answer}");
        };
        assert_eq!(count, found);
    }
    let changed = dynamic(&new, Restart::Permanent, 5);
    house.sup.code_change(changed).await.unwrap();
    assert_eq!(house.pid("t#1").await, before, "it keeps running");
    // The flags hold, and both a restart and a new child go by the new template.
    old.end_of("t#1", Exit::Abnormal).await;
    assert_ne!(house.pid("t#1").await, before);
    assert_eq!(new.conduct().starts, 1);
    house.start_dynamic(1).await;
    assert_eq!((old.conduct().starts, new.conduct().starts), (1, 2));
    assert_eq!(house.counts().await, [1, 2, 0, 2]);
    assert_eq!(house.end(), None);
}

#[tokio::test(start_paused = true)]
async fn case_89_code_change_simple_map() {
    let kid = Kid::new("t");
    let mut house = House::open(dynamic(&kid, Restart::Permanent, 1)).await;
    let started = house.start_dynamic(2).await;
    let template = kid
        .spec()
        .restart(Restart::Transient)
        .shutdown(Shutdown::Timeout(SECOND));
    let spec = SupervisorSpec::dynamic("sup", template)
        .intensity(intensity(1))
        .max_children(2);
    house.sup.code_change(spec).await.unwrap();
    for child in &started {
        let kept = house.sup.get_childspec(child.id.clone()).await.unwrap();
        let policy = kept.unwrap().policy;
        assert_eq!(policy.id, child.id);
        assert_eq!(policy.restart, Restart::Transient);
        assert_eq!(policy.shutdown, Shutdown::Timeout(SECOND));
        assert_eq!(house.pid(child.id.as_str()).await, cell(child).get_id());
    }
    let answer = house.sup.start_dynamic(()).await;
    assert!(matches!(refusal(answer), Refusal::MaxChildren(2)));
    kid.end_of("t#1", Exit::Normal).await;
    assert_eq!(house.state("t#1").await, None, "transient by now");
    let answer = house.sup.code_change(sup(Strategy::OneForOne, 1, &[&kid]));
    assert!(matches!(refusal(answer.await), Refusal::Dynamic));
    house.start_dynamic(1).await;
    assert_eq!(house.counts().await, [1, 2, 0, 2]);
    assert_eq!(house.end(), None);
}

#[tokio::test(start_paused = true)]
async fn case_90_order_of_children() {
    let log = Log::default();
    let kids = ["a", "b", "c", "d", "e"].map(|name| Kid::logged(name, &log));
    let all: Vec<&Kid> = kids.iter().collect();
    let mut house = House::open(sup(Strategy::OneForAll, 1, &all)).await;
    let up = "start a, start b, start c, start d, start e";
    assert_eq!(said(&log), up);
    // The middle one takes its time, which changes nothing in the order.
    kids[1].will(|c| c.stop_takes = Duration::from_millis(500));
    kids[2].end(Exit::Abnormal).await;
    tokio::time::sleep(SECOND).await;
    settle().await;
    assert_eq!(said(&log), format!("stop e, stop d, stop b, stop a, {up}"));
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
    assert_eq!(said(&log), "stop e, stop d, stop c, stop b, stop a");
}
