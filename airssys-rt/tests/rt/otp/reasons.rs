//! What a child's reason to end means: cases 48 to 57.

use airssys_rt::{ChildState, ExitCause, ExitKind, Restart, Strategy, SupervisorSpec};

use super::kit::{Exit, House, Kid, is_failure, sup};

/// What has become of a child of this type after this exit.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Restarted,
    Kept,
    Removed,
}

async fn fate(restart: Restart, exit: Exit) -> Fate {
    let kid = Kid::new("a");
    let spec = SupervisorSpec::new("sup").child(kid.spec().restart(restart));
    let mut house = House::open(spec).await;
    let before = house.pid("a").await;
    kid.end(exit).await;
    assert_eq!(house.end(), None);
    assert_eq!(house.exits().len(), 1);
    let counts = house.counts().await;
    match house.state("a").await {
        Some(ChildState::Running) => {
            assert_ne!(house.pid("a").await, before);
            assert_eq!(counts, [1, 1, 0, 1]);
            Fate::Restarted
        }
        Some(state) => {
            assert_eq!(state, ChildState::Stopped);
            assert_eq!(counts, [1, 0, 0, 1]);
            Fate::Kept
        }
        None => {
            assert_eq!(counts, [0, 0, 0, 0]);
            Fate::Removed
        }
    }
}

#[tokio::test(start_paused = true)]
async fn case_48_permanent_normal() {
    assert_eq!(
        fate(Restart::Permanent, Exit::Normal).await,
        Fate::Restarted
    );
}

#[tokio::test(start_paused = true)]
async fn case_49_transient_normal() {
    assert_eq!(fate(Restart::Transient, Exit::Normal).await, Fate::Kept);
}

#[tokio::test(start_paused = true)]
async fn case_50_temporary_normal() {
    assert_eq!(fate(Restart::Temporary, Exit::Normal).await, Fate::Removed);
}

#[tokio::test(start_paused = true)]
async fn case_51_permanent_shutdown() {
    assert_eq!(
        fate(Restart::Permanent, Exit::Shutdown).await,
        Fate::Restarted
    );
}

#[tokio::test(start_paused = true)]
async fn case_52_transient_shutdown() {
    assert_eq!(fate(Restart::Transient, Exit::Shutdown).await, Fate::Kept);
}

#[tokio::test(start_paused = true)]
async fn case_53_temporary_shutdown() {
    assert_eq!(
        fate(Restart::Temporary, Exit::Shutdown).await,
        Fate::Removed
    );
}

/// An application is a tree here: its root tells who of the nested ones did not start, and why.
#[tokio::test(start_paused = true)]
async fn case_54_faulty_application_shutdown() {
    let kid = Kid::new("a");
    kid.will(|c| c.failing = 1);
    let inner = sup(Strategy::OneForOne, 1, &[]).supervisor(
        SupervisorSpec::new("middle").supervisor(SupervisorSpec::new("low").child(kid.spec())),
    );
    let mut cause = House::try_open(inner).await.map(drop).unwrap_err();
    let mut chain = Vec::new();
    while let ExitCause::ChildStart {
        child,
        cause: below,
    } = &*cause
    {
        chain.push(child.to_string());
        cause = below.clone();
    }
    assert_eq!(chain, ["middle", "low", "a"]);
    assert!(is_failure(&cause), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn case_55_permanent_abnormal() {
    for exit in [Exit::Abnormal, Exit::Killed] {
        assert_eq!(fate(Restart::Permanent, exit).await, Fate::Restarted);
    }
}

#[tokio::test(start_paused = true)]
async fn case_56_transient_abnormal() {
    for exit in [Exit::Abnormal, Exit::Killed] {
        let fate = fate(Restart::Transient, exit).await;
        assert_eq!(fate, Fate::Restarted, "{exit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn case_57_temporary_abnormal() {
    for exit in [Exit::Abnormal, Exit::Killed] {
        assert_eq!(fate(Restart::Temporary, exit).await, Fate::Removed);
    }
    let kid = Kid::new("a");
    let spec = SupervisorSpec::new("sup").child(kid.spec().restart(Restart::Temporary));
    let mut house = House::open(spec).await;
    for exit in [Exit::Abnormal; 3] {
        kid.end(exit).await;
        let again = kid.spec().restart(Restart::Temporary);
        house.sup.start_child(again).await.unwrap();
    }
    assert_eq!(house.end(), None, "none of it costs intensity");
    assert_eq!(house.shut().await, Some(ExitKind::Shutdown));
}
