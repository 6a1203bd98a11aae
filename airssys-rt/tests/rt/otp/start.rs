//! sup_start: cases 1 to 15.

use std::time::Duration;

use airssys_rt::{
    ChildKind, ChildSpec, ChildState, ExitCause, ExitKind, Refusal, Restart, Shutdown, SpecError,
    Strategy, SupervisorSpec,
};

use super::kit::{House, Kid, cell, counts, dynamic, is_failure, refusal, settle, sup};

#[tokio::test(start_paused = true)]
async fn case_01_sup_start_normal() {
    let mut house = House::open(SupervisorSpec::new("sup")).await;
    assert_eq!(house.counts().await, [0, 0, 0, 0]);
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
}

/// There is no init to ignore; the supervisor's start as a child is what can.
#[tokio::test(start_paused = true)]
async fn case_02_sup_start_ignore_init() {
    let mut house = House::open(SupervisorSpec::new("sup")).await;
    let kid = Kid::new("b");
    kid.will(|c| c.ignoring = true);
    let spec = kid.spec().kind(ChildKind::Supervisor);
    let started = house.top.start_child(spec).await.unwrap();
    assert!(started.actor.is_none());
    settle().await;
    assert_eq!(house.end(), None, "no exit is seen");
    assert_eq!(counts(&house.top).await, [2, 1, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn case_03_sup_start_ignore_child() {
    let (a, b) = (Kid::new("a"), Kid::new("b"));
    b.will(|c| c.ignoring = true);
    let mut house = House::open(sup(Strategy::OneForOne, 1, &[&a, &b])).await;
    assert_eq!(house.state("b").await, Some(ChildState::Stopped));
    assert_eq!(house.counts().await, [2, 1, 0, 2]);
    let c = Kid::new("c");
    c.will(|c| c.ignoring = true);
    let started = house.sup.start_child(c.spec()).await.unwrap();
    assert!(started.actor.is_none());
    assert_eq!(house.state("c").await, Some(ChildState::Stopped));
    assert_eq!(house.counts().await, [3, 1, 0, 3]);
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn case_04_sup_start_ignore_temporary_child() {
    let (a, b) = (Kid::new("a"), Kid::new("b"));
    a.will(|c| c.ignoring = true);
    let spec = SupervisorSpec::new("sup")
        .child(a.spec().restart(Restart::Temporary))
        .child(b.spec());
    let house = House::open(spec).await;
    assert_eq!(house.state("a").await, None);
    assert_eq!(house.counts().await, [1, 1, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn case_05_sup_start_ignore_temporary_child_start_child() {
    let house = House::open(SupervisorSpec::new("sup")).await;
    let kid = Kid::new("a");
    kid.will(|c| c.ignoring = true);
    let spec = kid.spec().restart(Restart::Temporary);
    assert!(house.sup.start_child(spec).await.unwrap().actor.is_none());
    assert_eq!(house.state("a").await, None);
    assert_eq!(house.counts().await, [0, 0, 0, 0]);
}

async fn dynamic_child_ignores(restart: Restart) {
    let kid = Kid::new("t");
    kid.will(|c| c.ignoring = true);
    let mut house = House::open(dynamic(&kid, restart, 1)).await;
    let started = house.sup.start_dynamic(()).await.unwrap();
    assert!(started.actor.is_none());
    assert_eq!(house.sup.which_children().await.unwrap(), []);
    assert_eq!(house.counts().await, [1, 0, 0, 0]);
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn case_06_sup_start_ignore_temporary_child_start_child_simple() {
    dynamic_child_ignores(Restart::Temporary).await;
}

#[tokio::test(start_paused = true)]
async fn case_07_sup_start_ignore_permanent_child_start_child_simple() {
    dynamic_child_ignores(Restart::Permanent).await;
}

#[tokio::test(start_paused = true)]
async fn case_08_sup_start_error_return() {
    let kid = Kid::new("a");
    let spec = sup(Strategy::OneForOne, 1, &[&kid, &kid]);
    let cause = House::try_open(spec).await.map(drop).unwrap_err();
    let ExitCause::Failed { source } = &*cause else {
        panic!("{cause}");
    };
    let error = source.downcast_ref::<SpecError>();
    assert_eq!(error, Some(&SpecError::Duplicate("a".into())));
    assert_eq!(kid.conduct().starts, 0);
}

#[tokio::test(start_paused = true)]
async fn case_09_sup_start_fail() {
    let (a, b) = (Kid::new("a"), Kid::new("b"));
    b.will(|c| c.failing = 1);
    let spec = sup(Strategy::OneForOne, 1, &[&a, &b]);
    let cause = House::try_open(spec).await.map(drop).unwrap_err();
    let ExitCause::ChildStart { child, cause } = &*cause else {
        panic!("{cause}");
    };
    assert!(child.as_str() == "b" && is_failure(cause), "{cause}");
    assert_eq!(b.conduct().starts, 1, "no second try");
}

#[tokio::test(start_paused = true)]
async fn case_10_sup_start_child_returns_error() {
    let house = House::open(SupervisorSpec::new("sup")).await;
    let kid = Kid::new("a");
    kid.will(|c| c.failing = 1);
    let Refusal::StartFailed(_, cause) = refusal(house.sup.start_child(kid.spec()).await) else {
        panic!("another refusal");
    };
    assert!(is_failure(&cause), "{cause}");
    assert_eq!(house.sup.which_children().await.unwrap(), []);
    assert_eq!(house.counts().await, [0, 0, 0, 0]);
    house.sup.start_child(kid.spec()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn case_11_sup_start_restart_child_returns_error() {
    let kid = Kid::new("a");
    let mut house = House::open(sup(Strategy::OneForOne, 0, &[&kid])).await;
    house.sup.terminate_child("a").await.unwrap();
    kid.will(|c| c.failing = 1);
    let Refusal::StartFailed(_, cause) = refusal(house.sup.restart_child("a").await) else {
        panic!("another refusal");
    };
    assert!(is_failure(&cause), "{cause}");
    settle().await;
    assert_eq!(house.end(), None, "it costs no intensity");
    assert_eq!(house.state("a").await, Some(ChildState::Stopped));
    assert_eq!(house.counts().await, [1, 0, 0, 1]);
    assert_eq!(kid.conduct().starts, 2, "and is not tried again");
}

#[tokio::test(start_paused = true)]
async fn case_12_sup_start_child_returns_error_simple() {
    let kid = Kid::new("t");
    let house = House::open(dynamic(&kid, Restart::Permanent, 0)).await;
    kid.will(|c| c.failing = 1);
    let Refusal::StartFailed(_, cause) = refusal(house.sup.start_dynamic(1).await) else {
        panic!("another refusal");
    };
    assert!(is_failure(&cause), "{cause}");
    assert_eq!(house.sup.which_children().await.unwrap(), []);
    assert_eq!(house.counts().await, [1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn case_13_sup_start_map() {
    let kid = Kid::new("a");
    let spec = sup(Strategy::OneForOne, 1, &[&kid]).supervisor(SupervisorSpec::new("s"));
    let house = House::open(spec).await;
    let worker = house.sup.get_childspec("a").await.unwrap().unwrap().policy;
    assert_eq!(worker.restart, Restart::Permanent);
    assert_eq!(worker.shutdown, Shutdown::Timeout(Duration::from_secs(5)));
    assert_eq!(worker.kind, ChildKind::Worker);
    assert!(!worker.significant);
    let below = house.sup.get_childspec("s").await.unwrap().unwrap().policy;
    assert_eq!(below.restart, Restart::Permanent);
    assert_eq!(below.shutdown, Shutdown::Infinity);
    assert_eq!(below.kind, ChildKind::Supervisor);
    assert!(house.sup.get_childspec("b").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn case_14_sup_start_map_simple() {
    let kid = Kid::new("t");
    let house = House::open(dynamic(&kid, Restart::Transient, 1)).await;
    for child in house.start_dynamic(3).await {
        let spec = house.sup.get_childspec(child.id.clone()).await.unwrap();
        let policy = spec.unwrap().policy;
        assert_eq!(policy.id, child.id);
        assert_eq!(policy.restart, Restart::Transient);
        assert_eq!(policy.shutdown, Shutdown::Timeout(Duration::from_secs(5)));
        assert_eq!(house.pid(child.id.as_str()).await, cell(&child).get_id());
    }
    assert!(house.sup.get_childspec("t#4").await.unwrap().is_none());
}

/// A name can be empty; what else OTP finds missing, the types do not let anybody leave out.
#[tokio::test(start_paused = true)]
async fn case_15_sup_start_map_faulty_specs() {
    let kid = Kid::new("");
    let cause = House::try_open(sup(Strategy::OneForOne, 1, &[&kid])).await;
    let cause = cause.map(drop).unwrap_err();
    assert!(cause.to_string().contains("a name is empty"), "{cause}");
    let house = House::open(SupervisorSpec::new("sup")).await;
    let faulty: [(ChildSpec, SpecError); 2] = [
        (kid.spec(), SpecError::EmptyName),
        (
            Kid::new("a").spec().significant(true),
            SpecError::SignificantPermanent("a".into()),
        ),
    ];
    for (spec, error) in faulty {
        let Refusal::Invalid(found) = refusal(house.sup.start_child(spec).await) else {
            panic!("another refusal");
        };
        assert_eq!(found, error);
    }
    assert_eq!(house.counts().await, [0, 0, 0, 0]);
}
