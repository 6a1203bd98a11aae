//! Significant children: cases 60 to 73.

use airssys_rt::{
    AutoShutdown, ChildState, ExitKind, Refusal, Restart, SpecError, Strategy, SupervisorSpec,
};

use super::kit::{EXITS, Exit, House, Kid, RESTARTS, dynamic, refusal, settle, sup};

const MODES: [AutoShutdown; 3] = [
    AutoShutdown::Never,
    AutoShutdown::AnySignificant,
    AutoShutdown::AllSignificant,
];

/// Children of this type, significant where the mode allows it, before a permanent one.
fn spec(mode: AutoShutdown, restart: Restart, kids: &[&Kid]) -> SupervisorSpec {
    let significant = mode != AutoShutdown::Never;
    let child = |kid: &&Kid| kid.spec().restart(restart).significant(significant);
    let spec = sup(Strategy::OneForOne, 9, &[]).auto_shutdown(mode);
    let spec = kids.iter().map(child).fold(spec, SupervisorSpec::child);
    spec.child(Kid::new("bystander").spec())
}

async fn never_triggers(restart: Restart) {
    for mode in MODES {
        for exit in EXITS {
            let (a, b) = (Kid::new("a"), Kid::new("b"));
            let spec = sup(Strategy::OneForOne, 1, &[&b])
                .auto_shutdown(mode)
                .child(a.spec().restart(restart));
            let mut house = House::open(spec).await;
            let before = house.pid("b").await;
            a.end(exit).await;
            assert_eq!(house.end(), None, "{mode:?} {exit:?}");
            assert_eq!(house.pid("b").await, before);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn case_60_nonsignificant_temporary() {
    never_triggers(Restart::Temporary).await;
}

#[tokio::test(start_paused = true)]
async fn case_61_nonsignificant_transient() {
    never_triggers(Restart::Transient).await;
}

/// After these exits, which no restart follows, the supervisor ends: with the first, or the last.
async fn triggers(restart: Restart, exits: &[Exit]) {
    for exit in exits {
        let (a, b) = (Kid::new("a"), Kid::new("b"));
        let any = spec(AutoShutdown::AnySignificant, restart, &[&a, &b]);
        let mut house = House::open(any).await;
        a.end(*exit).await;
        assert_eq!(house.end(), Some(ExitKind::AutoShutdown), "any {exit:?}");
        let exits = house.exits();
        assert_eq!(exits[1..], ["bystander: shutdown", "b: shutdown"]);
        let all = spec(AutoShutdown::AllSignificant, restart, &[&a, &b]);
        let mut house = House::open(all).await;
        a.end(*exit).await;
        assert_eq!(house.end(), None, "all waits for the last");
        b.end(*exit).await;
        assert_eq!(house.end(), Some(ExitKind::AutoShutdown), "all {exit:?}");
    }
    for mode in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        let (a, b) = (Kid::new("a"), Kid::new("b"));
        let mut house = House::open(spec(mode, restart, &[&a, &b])).await;
        house.sup.terminate_child("a").await.unwrap();
        house.sup.terminate_child("b").await.unwrap();
        settle().await;
        assert_eq!(house.end(), None, "terminate_child does not trigger");
        assert!(house.counts().await[1] == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn case_62_significant_temporary() {
    triggers(Restart::Temporary, &EXITS).await;
}

#[tokio::test(start_paused = true)]
async fn case_63_significant_transient() {
    triggers(Restart::Transient, &[Exit::Normal, Exit::Shutdown]).await;
    for mode in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        let a = Kid::new("a");
        let mut house = House::open(spec(mode, Restart::Transient, &[&a])).await;
        for exit in [Exit::Killed, Exit::Abnormal] {
            let before = house.pid("a").await;
            a.end(exit).await;
            assert_eq!(house.end(), None, "{mode:?} {exit:?}");
            assert_ne!(house.pid("a").await, before, "restarted");
        }
        a.end(Exit::Normal).await;
        assert_eq!(house.end(), Some(ExitKind::AutoShutdown));
    }
}

#[tokio::test(start_paused = true)]
async fn case_64_significant_simple() {
    let kid = Kid::new("t");
    for restart in RESTARTS {
        for mode in MODES {
            let plain = dynamic(&kid, restart, 1).auto_shutdown(mode).check();
            let expected = match mode {
                AutoShutdown::Never => Ok(()),
                _ => Err(SpecError::DynamicAutoShutdown),
            };
            assert_eq!(plain, expected);
            let template = kid.spec().restart(restart).significant(true);
            let significant = SupervisorSpec::dynamic("sup", template).auto_shutdown(mode);
            assert!(significant.check().is_err(), "{restart:?} {mode:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn case_65_significant_bystander() {
    for mode in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
            let [a, b, c] = ["a", "b", "c"].map(Kid::new);
            let spec = sup(strategy, 1, &[&a])
                .auto_shutdown(mode)
                .child(b.spec().restart(Restart::Temporary).significant(true))
                .child(c.spec().restart(Restart::Transient).significant(true));
            let mut house = House::open(spec).await;
            let before = house.pids(["a", "c"]).await;
            a.end(Exit::Abnormal).await;
            assert_eq!(house.end(), None, "{mode:?} {strategy:?}");
            let after = house.pids(["a", "c"]).await;
            assert!(before.iter().all(|pid| !after.contains(pid)));
            assert_eq!(house.state("b").await, None, "temporary");
            // It still counts when it ends by itself.
            c.end(Exit::Normal).await;
            assert_eq!(house.end(), Some(ExitKind::AutoShutdown));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn case_66_significant_escalation() {
    for significant in [true, false] {
        let (a, b) = (Kid::new("a"), Kid::new("b"));
        let low = SupervisorSpec::new("low")
            .auto_shutdown(AutoShutdown::AnySignificant)
            .child(a.spec().restart(Restart::Transient).significant(true))
            .into_child()
            .restart(Restart::Transient);
        let middle = SupervisorSpec::new("middle")
            .auto_shutdown(AutoShutdown::AnySignificant)
            .child(low.significant(true))
            .into_child()
            .restart(Restart::Transient);
        let spec = sup(Strategy::OneForOne, 1, &[&b])
            .auto_shutdown(AutoShutdown::AnySignificant)
            .child(middle.significant(significant));
        let mut house = House::open(spec).await;
        a.end(Exit::Normal).await;
        let exits = house.exits();
        assert_eq!(exits[0], "middle: auto-shutdown");
        if significant {
            assert_eq!(house.end(), Some(ExitKind::AutoShutdown));
            assert_eq!(exits[1..], ["b: shutdown"]);
        } else {
            assert_eq!(house.end(), None);
            assert_eq!(house.state("middle").await, Some(ChildState::Stopped));
            assert_eq!(house.state("b").await, Some(ChildState::Running));
        }
    }
}

struct Upgraded {
    house: House,
    a: Kid,
    b: Kid,
}

/// Changes the mode under two transient children; nothing ends with the change itself.
async fn upgrade(from: AutoShutdown, to: AutoShutdown) -> Upgraded {
    let (a, b) = (Kid::new("a"), Kid::new("b"));
    let spec = |mode| spec(mode, Restart::Transient, &[&a, &b]);
    let mut house = House::open(spec(from)).await;
    let before = house.pids(["a", "b", "bystander"]).await;
    house.sup.code_change(spec(to)).await.unwrap();
    settle().await;
    assert_eq!(house.pids(["a", "b", "bystander"]).await, before);
    assert_eq!(house.end(), None);
    // A child that comes now is held against the mode of now.
    let late = Kid::new("late").spec().restart(Restart::Temporary);
    let answer = house.sup.start_child(late.significant(true)).await;
    assert_eq!(answer.is_ok(), to != AutoShutdown::Never);
    if answer.is_ok() {
        house.sup.terminate_child("late").await.unwrap();
    }
    Upgraded { house, a, b }
}

async fn goes_with_the_first(mut upgraded: Upgraded) {
    upgraded.a.end(Exit::Normal).await;
    assert_eq!(upgraded.house.end(), Some(ExitKind::AutoShutdown));
}

async fn goes_with_the_last(mut upgraded: Upgraded) {
    upgraded.a.end(Exit::Normal).await;
    assert_eq!(upgraded.house.end(), None);
    upgraded.b.end(Exit::Normal).await;
    assert_eq!(upgraded.house.end(), Some(ExitKind::AutoShutdown));
}

async fn stays(mut upgraded: Upgraded) {
    upgraded.a.end(Exit::Normal).await;
    upgraded.b.end(Exit::Normal).await;
    assert_eq!(upgraded.house.end(), None);
    assert_eq!(upgraded.house.counts().await, [3, 1, 0, 3]);
}

#[tokio::test(start_paused = true)]
async fn case_67_significant_upgrade_never_any() {
    goes_with_the_first(upgrade(AutoShutdown::Never, AutoShutdown::AnySignificant).await).await;
}

#[tokio::test(start_paused = true)]
async fn case_68_significant_upgrade_any_never() {
    stays(upgrade(AutoShutdown::AnySignificant, AutoShutdown::Never).await).await;
}

#[tokio::test(start_paused = true)]
async fn case_69_significant_upgrade_never_all() {
    goes_with_the_last(upgrade(AutoShutdown::Never, AutoShutdown::AllSignificant).await).await;
}

#[tokio::test(start_paused = true)]
async fn case_70_significant_upgrade_all_never() {
    stays(upgrade(AutoShutdown::AllSignificant, AutoShutdown::Never).await).await;
}

#[tokio::test(start_paused = true)]
async fn case_71_significant_upgrade_any_all() {
    goes_with_the_last(upgrade(AutoShutdown::AnySignificant, AutoShutdown::AllSignificant).await)
        .await;
}

#[tokio::test(start_paused = true)]
async fn case_72_significant_upgrade_all_any() {
    goes_with_the_first(upgrade(AutoShutdown::AllSignificant, AutoShutdown::AnySignificant).await)
        .await;
    // One that had ended before the change is not made up for.
    let (a, b) = (Kid::new("a"), Kid::new("b"));
    let spec = |mode| spec(mode, Restart::Transient, &[&a, &b]);
    let mut house = House::open(spec(AutoShutdown::AllSignificant)).await;
    a.end(Exit::Normal).await;
    let any = spec(AutoShutdown::AnySignificant);
    house.sup.code_change(any).await.unwrap();
    settle().await;
    assert_eq!(house.end(), None);
    b.end(Exit::Normal).await;
    assert_eq!(house.end(), Some(ExitKind::AutoShutdown));
}

#[tokio::test(start_paused = true)]
async fn case_73_significant_upgrade_child() {
    for significant in [true, false] {
        let a = Kid::new("a");
        let spec = |mode, significant| {
            let child = a.spec().restart(Restart::Transient);
            sup(Strategy::OneForOne, 1, &[])
                .auto_shutdown(mode)
                .child(child.significant(significant))
        };
        let any = AutoShutdown::AnySignificant;
        let mut house = House::open(spec(any, !significant)).await;
        let before = house.pid("a").await;
        let answer = house.sup.code_change(spec(AutoShutdown::Never, true)).await;
        let Refusal::Invalid(SpecError::SignificantUnderNever(_)) = refusal(answer) else {
            panic!("another refusal");
        };
        house.sup.code_change(spec(any, significant)).await.unwrap();
        assert_eq!(house.pid("a").await, before);
        a.end(Exit::Normal).await;
        assert_eq!(house.end().is_some(), significant);
    }
}
