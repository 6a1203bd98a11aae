//! What a supervisor is asked to do, and which specs it takes: cases 25 to 31.

use std::time::Duration;

use airssys_rt::{
    AutoShutdown, ChildKind, ChildSpec, ChildState, ExitKind, Intensity, Refusal, Restart,
    Shutdown, SpecError, StartedChild, Strategy, SupervisorError, SupervisorSpec,
};
use tokio::time::sleep;

use super::kit::{
    Exit, House, Kid, RESTARTS, SECOND, STRATEGIES, cell, dynamic, refusal, settle, sup,
};

#[tokio::test(start_paused = true)]
async fn case_25_child_adm() {
    let kid = Kid::new("a");
    let mut house = House::open(SupervisorSpec::new("sup")).await;
    assert_eq!(house.counts().await, [0, 0, 0, 0]);
    for answer in [
        house.sup.terminate_child("a").await,
        house.sup.restart_child("a").await.map(drop),
        house.sup.delete_child("a").await,
    ] {
        assert!(matches!(refusal(answer), Refusal::NotFound(id) if id.as_str() == "a"));
    }
    let first = cell(&house.sup.start_child(kid.spec()).await.unwrap()).get_id();
    assert_eq!(house.pid("a").await, first);
    assert_eq!(house.counts().await, [1, 1, 0, 1]);
    // Running: cannot be started, restarted or deleted.
    let answer = house.sup.start_child(kid.spec()).await;
    assert!(matches!(refusal(answer), Refusal::AlreadyStarted(_)));
    let answer = house.sup.restart_child("a").await;
    assert!(matches!(refusal(answer), Refusal::Running(_)));
    let answer = house.sup.delete_child("a").await;
    assert!(matches!(refusal(answer), Refusal::Running(_)));
    assert_eq!(house.pid("a").await, first, "untouched");
    // Terminated, once and again.
    house.sup.terminate_child("a").await.unwrap();
    house.sup.terminate_child("a").await.unwrap();
    assert_eq!(house.exits(), ["a: shutdown"]);
    assert_eq!(house.state("a").await, Some(ChildState::Stopped));
    assert_eq!(house.counts().await, [1, 0, 0, 1]);
    let answer = house.sup.start_child(kid.spec()).await;
    assert!(matches!(refusal(answer), Refusal::AlreadyPresent(_)));
    let second = cell(&house.sup.restart_child("a").await.unwrap()).get_id();
    assert_ne!(first, second);
    house.sup.terminate_child("a").await.unwrap();
    house.sup.delete_child("a").await.unwrap();
    assert_eq!(house.counts().await, [0, 0, 0, 0]);
    let answer = house.sup.delete_child("a").await;
    assert!(matches!(refusal(answer), Refusal::NotFound(_)));
    // A temporary child's spec goes when it is terminated.
    let temporary = kid.spec().restart(Restart::Temporary);
    house.sup.start_child(temporary).await.unwrap();
    house.sup.terminate_child("a").await.unwrap();
    let answer = house.sup.restart_child("a").await;
    assert!(matches!(refusal(answer), Refusal::NotFound(_)));
    house.shut().await;
    for answer in [
        house.sup.start_child(kid.spec()).await.map(drop),
        house.sup.terminate_child("a").await,
        house.sup.restart_child("a").await.map(drop),
        house.sup.delete_child("a").await,
        house.sup.which_children().await.map(drop),
        house.sup.count_children().await.map(drop),
    ] {
        assert!(matches!(answer, Err(SupervisorError::Gone(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn case_26_child_adm_simple() {
    let kid = Kid::new("t");
    let house = House::open(dynamic(&kid, Restart::Permanent, 1)).await;
    assert_eq!(house.counts().await, [1, 0, 0, 0]);
    let [one, two]: [StartedChild; 2] = house.start_dynamic(2).await.try_into().unwrap();
    assert_eq!(house.counts().await, [1, 2, 0, 2]);
    let answer = house.sup.start_child(kid.spec()).await;
    assert!(matches!(refusal(answer), Refusal::Dynamic));
    let answer = house.sup.restart_child(one.id.clone()).await;
    assert!(matches!(refusal(answer), Refusal::Dynamic));
    let answer = house.sup.delete_child(one.id.clone()).await;
    assert!(matches!(refusal(answer), Refusal::Dynamic));
    house.sup.terminate_child(one.id.clone()).await.unwrap();
    assert_eq!(house.counts().await, [1, 1, 0, 1]);
    // One that has ended: nothing is left to do.
    house.sup.terminate_child(one.id).await.unwrap();
    // One that was never its child.
    let other = Kid::new("foreign");
    house.top.start_child(other.spec()).await.unwrap();
    for foreign in ["foreign", "t#3", "t", "t#0", "t#x"] {
        let answer = house.sup.terminate_child(foreign).await;
        assert!(matches!(refusal(answer), Refusal::NotFound(_)), "{foreign}");
    }
    let status = house.top.which_child("foreign").await.unwrap().unwrap();
    assert_eq!(status.state, ChildState::Running);
    assert_eq!(house.pid(two.id.as_str()).await, cell(&two).get_id());
}

fn info(started: &StartedChild) -> Option<u32> {
    let info = started.info.as_ref()?;
    info.downcast_ref::<u32>().copied()
}

#[tokio::test(start_paused = true)]
async fn case_27_extra_return() {
    let kid = Kid::new("a");
    kid.will(|c| c.info = Some(1));
    let mut house = House::open(sup(Strategy::OneForOne, 1, &[&kid])).await;
    house.sup.terminate_child("a").await.unwrap();
    kid.will(|c| c.info = Some(2));
    let started = house.sup.restart_child("a").await.unwrap();
    assert_eq!(info(&started), Some(2));
    let other = Kid::new("b");
    other.will(|c| c.info = Some(3));
    let started = house.sup.start_child(other.spec()).await.unwrap();
    assert_eq!(info(&started), Some(3));
    let before = house.pid("b").await;
    other.end(Exit::Abnormal).await;
    assert_ne!(house.pid("b").await, before);
    assert_eq!(house.end(), None);
    assert_eq!(house.counts().await, [2, 2, 0, 2]);
}

#[tokio::test(start_paused = true)]
async fn case_28_child_specs() {
    let house = House::open(SupervisorSpec::new("sup")).await;
    let shutdowns = [
        Shutdown::Brutal,
        Shutdown::Timeout(Duration::ZERO),
        Shutdown::Timeout(SECOND),
        Shutdown::Infinity,
    ];
    let mut accepted = 0;
    for restart in RESTARTS {
        for shutdown in shutdowns {
            for kind in [ChildKind::Worker, ChildKind::Supervisor] {
                let name = format!("c{accepted}");
                let spec = Kid::new(&name).spec();
                let spec = spec.restart(restart).shutdown(shutdown).kind(kind);
                house.sup.start_child(spec).await.unwrap();
                let kept = house.sup.get_childspec(name).await.unwrap().unwrap().policy;
                assert_eq!(
                    (kept.restart, kept.shutdown, kept.kind),
                    (restart, shutdown, kind)
                );
                accepted += 1;
            }
        }
    }
    assert_eq!(accepted, 24);
    let kid = Kid::new("a");
    let spec = || SupervisorSpec::<()>::new("sup");
    let twice = spec().child(kid.spec()).child(kid.spec()).check();
    assert_eq!(twice, Err(SpecError::Duplicate("a".into())));
    let unnamed = spec().child(Kid::new("").spec()).check();
    assert_eq!(unnamed, Err(SpecError::EmptyName));
    let simple = || spec().strategy(Strategy::SimpleOneForOne);
    assert_eq!(simple().check(), Err(SpecError::OneTemplate(0)));
    assert_eq!(simple().child(kid.spec()).check(), Ok(()));
    let two = simple().child(kid.spec()).child(Kid::new("b").spec());
    assert_eq!(two.check(), Err(SpecError::OneTemplate(2)));
}

#[tokio::test(start_paused = true)]
async fn case_29_child_specs_map() {
    let modes = [
        AutoShutdown::Never,
        AutoShutdown::AnySignificant,
        AutoShutdown::AllSignificant,
    ];
    for restart in RESTARTS {
        for significant in [false, true] {
            for mode in modes {
                let expected = match (significant, restart, mode) {
                    (true, Restart::Permanent, _) => {
                        Err(SpecError::SignificantPermanent("a".into()))
                    }
                    (true, _, AutoShutdown::Never) => {
                        Err(SpecError::SignificantUnderNever("a".into()))
                    }
                    _ => Ok(()),
                };
                let spec: ChildSpec = Kid::new("a").spec();
                let spec = spec.restart(restart).significant(significant);
                let empty = SupervisorSpec::new("sup").auto_shutdown(mode);
                assert_eq!(empty.clone().child(spec.clone()).check(), expected);
                // And the same at run time.
                let house = House::open(empty).await;
                match house.sup.start_child(spec).await {
                    Ok(_) => assert_eq!(expected, Ok(())),
                    answer => {
                        let Refusal::Invalid(found) = refusal(answer) else {
                            panic!("another refusal");
                        };
                        assert_eq!(Err(found), expected);
                        assert_eq!(house.counts().await, [0, 0, 0, 0]);
                    }
                }
            }
        }
    }
}

/// Strategy, mode and a negative number are refused by the types; the rest is here.
#[tokio::test(start_paused = true)]
async fn case_30_sup_flags() {
    let kid = Kid::new("t");
    for strategy in STRATEGIES {
        let spec = SupervisorSpec::<()>::new("sup").strategy(strategy);
        assert_eq!(spec.clone().check(), Ok(()));
        let zero = spec.clone().intensity(Intensity {
            restarts: 1,
            period: Duration::ZERO,
        });
        assert_eq!(zero.check(), Err(SpecError::ZeroPeriod));
        let none = spec.clone().intensity(Intensity {
            restarts: 0,
            period: SECOND,
        });
        assert_eq!(none.check(), Ok(()), "no restart at all is a choice");
        let limited = spec.max_children(5);
        assert_eq!(limited.check(), Err(SpecError::MaxChildren));
    }
    for mode in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        let spec = dynamic(&kid, Restart::Temporary, 1).auto_shutdown(mode);
        assert_eq!(spec.check(), Err(SpecError::DynamicAutoShutdown));
    }
    let unnamed = SupervisorSpec::<()>::new("").check();
    assert_eq!(unnamed, Err(SpecError::EmptyName));
    let house = House::open(SupervisorSpec::new("sup")).await;
    let below = SupervisorSpec::new("s").intensity(Intensity {
        restarts: 1,
        period: Duration::ZERO,
    });
    let answer = house.sup.start_child(below.into_child()).await;
    assert!(matches!(refusal(answer), Refusal::StartFailed(..)));
    assert_eq!(house.counts().await, [0, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn case_31_multiple_restarts() {
    let kid = Kid::new("a");
    let spec = sup(Strategy::OneForOne, 1, &[&kid]).intensity(Intensity {
        restarts: 1,
        period: SECOND,
    });
    let mut house = House::open(spec).await;
    for _ in 0..4 {
        kid.end(Exit::Abnormal).await;
        assert_eq!(house.counts().await, [1, 1, 0, 1]);
        sleep(SECOND + SECOND / 10).await;
    }
    assert_eq!(kid.conduct().starts, 5);
    assert_eq!(house.end(), None);
    // Inside the window one is too many.
    kid.end(Exit::Abnormal).await;
    kid.end(Exit::Abnormal).await;
    settle().await;
    assert_eq!(house.end(), Some(ExitKind::Escalated));
}
