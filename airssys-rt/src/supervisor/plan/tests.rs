#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets something unexpected should fail there"
)]

use super::*;
use crate::{Backoff, CausePolicy, CauseRestart, Quarantine};

/// Plays the shell: carries effects out at once and keeps a log of what happened.
struct World {
    plan: Plan,
    now: Duration,
    running: HashMap<ChildId, u64>,
    fail_start: Vec<&'static str>,
    ignore: Vec<&'static str>,
    timers: Vec<(Duration, Event)>,
    log: Vec<String>,
    answers: Vec<(Token, Result<(), Refusal>)>,
    retries: VecDeque<Event>,
    gave_up: Option<Arc<ExitCause>>,
}

pub(super) fn policy(id: &str, restart: Restart) -> ChildPolicy {
    ChildPolicy {
        restart,
        ..ChildPolicy::new(ChildId::from(id))
    }
}

pub(super) fn flags(strategy: Strategy, restarts: u32) -> Flags {
    let period = Duration::from_secs(5);
    Flags {
        strategy,
        intensity: Intensity { restarts, period },
        auto_shutdown: AutoShutdown::Never,
        max_children: usize::MAX,
    }
}

pub(super) fn killed() -> Arc<ExitCause> {
    Arc::new(ExitCause::Killed)
}

impl World {
    fn new(strategy: Strategy, restarts: u32, children: &[(&str, Restart)]) -> Self {
        Self::with(
            flags(strategy, restarts),
            children.iter().map(|(id, restart)| policy(id, *restart)),
        )
    }

    fn with(flags: Flags, children: impl IntoIterator<Item = ChildPolicy>) -> Self {
        let mut plan = Plan::new(flags, 7);
        let mut running = HashMap::default();
        for policy in children {
            running.insert(policy.id.clone(), 1);
            plan.adopt(policy, true);
        }
        Self {
            plan,
            now: Duration::ZERO,
            running,
            fail_start: Vec::new(),
            ignore: Vec::new(),
            timers: Vec::new(),
            log: Vec::new(),
            answers: Vec::new(),
            retries: VecDeque::new(),
            gave_up: None,
        }
    }

    fn tell(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            self.plan.step(event, self.now, &mut effects);
            for effect in effects {
                events.extend(self.carry_out(effect));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Start(id, generation) => {
                assert!(
                    !self.running.contains_key(&id),
                    "two live generations of {id}"
                );
                if self.fail_start.contains(&id.as_str()) {
                    self.log.push(format!("fail {id}"));
                    return Some(Event::StartFailed(id, generation, killed()));
                }
                if self.ignore.contains(&id.as_str()) {
                    self.log.push(format!("ignore {id}"));
                    return Some(Event::Ignored(id, generation));
                }
                self.log.push(format!("start {id}"));
                self.running.insert(id.clone(), generation);
                Some(Event::Started(id, generation))
            }
            Effect::Stop(id, generation, _) => {
                self.log.push(format!("stop {id}"));
                assert_eq!(self.running.remove(&id), Some(generation));
                let cause = Arc::new(ExitCause::Shutdown);
                Some(Event::Exited(id, generation, cause))
            }
            Effect::Retry(id, generation) => {
                self.retries.push_back(Event::Retry(id, generation));
                None
            }
            Effect::Parked(id, ..) => {
                self.log.push(format!("parked {id}"));
                None
            }
            Effect::Adopt(..) => None,
            Effect::Removed(id) => {
                self.log.push(format!("removed {id}"));
                None
            }
            Effect::Answer(token, answer) => {
                self.answers.push((token, answer));
                None
            }
            Effect::Later(id, generation, delay) => {
                let due = Event::Due(id, generation);
                self.timers.push((self.now + delay, due));
                None
            }
            Effect::BackedOff(id, _, delay) => {
                self.log.push(format!("wait {id} {}", delay.as_millis()));
                None
            }
            Effect::Quarantined(id, ..) => {
                self.log.push(format!("quarantine {id}"));
                None
            }
            Effect::Readmitted(id, _) => {
                self.log.push(format!("readmit {id}"));
                None
            }
            Effect::Ending(_) => None,
            Effect::End(cause) => {
                self.gave_up = Some(cause);
                None
            }
        }
    }

    fn dies(&mut self, id: &str, cause: ExitCause) {
        let generation = self.running.remove(id).unwrap();
        self.tell(Event::Exited(
            ChildId::from(id),
            generation,
            Arc::new(cause),
        ));
    }

    /// Lets time pass, timers included.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let due = self.timers.iter().enumerate();
            let due = due.filter(|(_, (at, _))| *at <= until);
            let Some((first, _)) = due.min_by_key(|(_, (at, _))| *at) else {
                break;
            };
            let (at, event) = self.timers.remove(first);
            self.now = at;
            self.tell(event);
        }
        self.now = until;
    }

    fn retry(&mut self) {
        if let Some(event) = self.retries.pop_front() {
            self.tell(event);
        }
    }

    fn log(&mut self) -> String {
        std::mem::take(&mut self.log).join(", ")
    }

    fn answer(&mut self) -> Result<(), Refusal> {
        assert_eq!(self.answers.len(), 1);
        self.answers.remove(0).1
    }
}

const ABC: [(&str, Restart); 3] = [
    ("a", Restart::Permanent),
    ("b", Restart::Permanent),
    ("c", Restart::Permanent),
];

#[test]
fn one_for_one_replaces_only_the_child_that_ended() {
    let mut world = World::new(Strategy::OneForOne, 3, &ABC);
    world.dies("b", ExitCause::Killed);
    assert_eq!(world.log(), "start b");
    assert_eq!(world.running[&ChildId::from("b")], 2);
    assert_eq!(world.running[&ChildId::from("a")], 1);
}

#[test]
fn one_for_all_stops_in_reverse_and_starts_in_order() {
    let mut world = World::new(Strategy::OneForAll, 3, &ABC);
    world.dies("b", ExitCause::Killed);
    assert_eq!(world.log(), "stop c, stop a, start a, start b, start c");
}

#[test]
fn rest_for_one_leaves_the_earlier_ones_alone() {
    let mut world = World::new(Strategy::RestForOne, 3, &ABC);
    world.dies("b", ExitCause::Killed);
    assert_eq!(world.log(), "stop c, start b, start c");
}

#[test]
fn a_transient_child_comes_back_only_after_an_abnormal_exit() {
    let children = [("a", Restart::Transient), ("b", Restart::Permanent)];
    let mut world = World::new(Strategy::OneForOne, 9, &children);
    world.dies("a", ExitCause::Killed);
    assert_eq!(world.log(), "start a");
    world.dies("a", ExitCause::Normal);
    assert_eq!(world.log(), "parked a");
    world.dies("b", ExitCause::Normal);
    assert_eq!(world.log(), "start b", "a permanent one comes back always");
}

#[test]
fn a_temporary_child_goes_with_its_spec_and_its_group_does_not_bring_it_back() {
    let children = [("a", Restart::Temporary), ("b", Restart::Permanent)];
    let mut world = World::new(Strategy::OneForAll, 9, &children);
    world.dies("b", ExitCause::Killed);
    assert_eq!(world.log(), "stop a, removed a, start b");
    assert_eq!(world.plan.order(), [ChildId::from("b")]);
}

#[test]
fn one_restart_too_many_gives_up_with_the_last_cause() {
    let mut world = World::new(Strategy::OneForOne, 1, &ABC);
    world.dies("a", ExitCause::Killed);
    world.dies("a", ExitCause::OutOfFuel { limit: 7 });
    let cause = world.gave_up.clone().unwrap();
    let ExitCause::Escalated {
        child,
        intensity,
        cause,
        ..
    } = &*cause
    else {
        panic!("{cause}");
    };
    assert_eq!((child.as_str(), *intensity), ("a", 1));
    assert!(matches!(**cause, ExitCause::OutOfFuel { limit: 7 }));
    world.log();
    world.tell(Event::RestartChild(ChildId::from("a"), 1));
    assert_eq!(
        world.log(),
        "",
        "a supervisor that gave up does nothing more"
    );
}

#[test]
fn restarts_outside_the_window_do_not_count() {
    let mut world = World::new(Strategy::OneForOne, 1, &ABC);
    for _ in 0..10 {
        world.dies("a", ExitCause::Killed);
        world.now += Duration::from_millis(5001);
    }
    assert!(world.gave_up.is_none());
}

#[test]
fn a_group_restart_counts_once() {
    let mut world = World::new(Strategy::OneForAll, 1, &ABC);
    world.dies("a", ExitCause::Killed);
    assert!(world.gave_up.is_none());
}

#[test]
fn each_failed_restart_counts_and_others_get_their_turn_between_attempts() {
    let mut world = World::new(Strategy::OneForOne, 3, &ABC);
    world.fail_start = vec!["a"];
    world.dies("a", ExitCause::Killed);
    assert_eq!(world.log(), "fail a");
    world.tell(Event::TerminateChild(ChildId::from("b"), 1));
    assert_eq!(world.log(), "stop b, parked b");
    world.retry();
    world.retry();
    assert!(world.gave_up.is_none());
    world.retry();
    assert!(
        world.gave_up.is_some(),
        "the fourth attempt is one too many"
    );
}

#[test]
fn terminate_cancels_a_retry_on_its_way() {
    let mut world = World::new(Strategy::OneForOne, 9, &ABC);
    world.fail_start = vec!["a"];
    world.dies("a", ExitCause::Killed);
    world.tell(Event::TerminateChild(ChildId::from("a"), 1));
    world.answer().unwrap();
    world.fail_start.clear();
    world.log();
    world.retry();
    assert_eq!(world.log(), "", "the retry is stale");
    world.tell(Event::RestartChild(ChildId::from("a"), 2));
    world.answer().unwrap();
    assert_eq!(world.log(), "start a");
}

#[test]
fn when_a_sibling_fails_to_start_one_for_all_tries_the_whole_group_again() {
    let mut world = World::new(Strategy::OneForAll, 9, &ABC);
    world.fail_start = vec!["b"];
    world.dies("a", ExitCause::Killed);
    assert_eq!(world.log(), "stop c, stop b, start a, fail b");
    world.fail_start.clear();
    world.retry();
    assert_eq!(world.log(), "stop a, start a, start b, start c");
}

#[test]
fn when_a_sibling_fails_to_start_rest_for_one_goes_on_from_it() {
    let mut world = World::new(Strategy::RestForOne, 9, &ABC);
    world.fail_start = vec!["b"];
    world.dies("a", ExitCause::Killed);
    world.fail_start.clear();
    world.log();
    world.retry();
    assert_eq!(world.log(), "start b, start c");
    assert_eq!(world.running[&ChildId::from("a")], 2, "a is left alone");
}

#[test]
fn a_stale_report_changes_nothing() {
    let mut world = World::new(Strategy::OneForOne, 9, &ABC);
    world.dies("a", ExitCause::Killed);
    world.log();
    world.tell(Event::Exited(ChildId::from("a"), 1, killed()));
    world.tell(Event::StartFailed(ChildId::from("a"), 1, killed()));
    world.tell(Event::Exited(ChildId::from("nobody"), 1, killed()));
    assert_eq!(world.log(), "");
    assert_eq!(world.running[&ChildId::from("a")], 2);
}

#[test]
fn commands_are_refused_by_the_state_of_the_child() {
    let mut world = World::new(Strategy::OneForOne, 9, &ABC);
    let id = || ChildId::from("a");
    let ask = |world: &mut World, event| {
        world.tell(event);
        world.answer()
    };
    let new = || Arc::new(policy("a", Restart::Permanent));
    assert!(matches!(
        ask(&mut world, Event::StartChild(new(), 1)),
        Err(Refusal::AlreadyStarted(_))
    ));
    assert!(matches!(
        ask(&mut world, Event::RestartChild(id(), 2)),
        Err(Refusal::Running(_))
    ));
    assert!(matches!(
        ask(&mut world, Event::DeleteChild(id(), 3)),
        Err(Refusal::Running(_))
    ));
    assert!(ask(&mut world, Event::TerminateChild(id(), 4)).is_ok());
    assert!(
        ask(&mut world, Event::TerminateChild(id(), 5)).is_ok(),
        "idempotent"
    );
    assert!(matches!(
        ask(&mut world, Event::StartChild(new(), 6)),
        Err(Refusal::AlreadyPresent(_))
    ));
    assert!(ask(&mut world, Event::DeleteChild(id(), 7)).is_ok());
    assert!(matches!(
        ask(&mut world, Event::DeleteChild(id(), 8)),
        Err(Refusal::NotFound(_))
    ));
    assert!(ask(&mut world, Event::StartChild(new(), 9)).is_ok());
    assert_eq!(
        world.plan.order().last(),
        Some(&id()),
        "a new child is last"
    );
}

#[test]
fn a_new_child_that_does_not_start_leaves_no_spec() {
    let mut world = World::new(Strategy::OneForOne, 9, &[]);
    world.fail_start = vec!["a"];
    world.tell(Event::StartChild(
        Arc::new(policy("a", Restart::Permanent)),
        1,
    ));
    assert!(matches!(world.answer(), Err(Refusal::StartFailed(..))));
    assert!(world.plan.order().is_empty());
    assert!(world.gave_up.is_none(), "and costs no intensity");
}

fn one(policy: ChildPolicy) -> World {
    World::with(flags(Strategy::OneForOne, 3), [policy])
}

#[test]
fn a_restart_is_put_off_for_longer_each_time_and_paid_for_before() {
    let mut world = one(ChildPolicy {
        backoff: Some(Backoff {
            jitter: 0.0,
            ..Backoff::default()
        }),
        ..policy("a", Restart::Permanent)
    });
    for delay in [100, 200, 400] {
        world.dies("a", ExitCause::Killed);
        assert_eq!(world.log(), format!("wait a {delay}"));
        world.pass(Duration::from_millis(delay - 1));
        assert_eq!(world.log(), "", "not yet");
        world.pass(Duration::from_millis(1));
        assert_eq!(world.log(), "start a");
    }
    world.dies("a", ExitCause::Killed);
    assert!(world.gave_up.is_some(), "the window counts all the same");
}

#[test]
fn a_child_that_ran_long_enough_is_put_off_as_if_for_the_first_time() {
    let mut world = one(ChildPolicy {
        backoff: Some(Backoff {
            jitter: 0.0,
            ..Backoff::default()
        }),
        ..policy("a", Restart::Permanent)
    });
    world.dies("a", ExitCause::Killed);
    world.pass(Duration::from_secs(1));
    world.log();
    world.pass(Duration::from_secs(60));
    world.dies("a", ExitCause::Killed);
    assert_eq!(world.log(), "wait a 100");
}

#[test]
fn a_put_off_restart_is_called_off_by_terminate() {
    let mut world = one(ChildPolicy {
        backoff: Some(Backoff::default()),
        ..policy("a", Restart::Permanent)
    });
    world.dies("a", ExitCause::Killed);
    world.tell(Event::TerminateChild(ChildId::from("a"), 1));
    world.answer().unwrap();
    world.log();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.log(), "");
}

fn in_quarantine_after(restarts: u32) -> ChildPolicy {
    ChildPolicy {
        quarantine: Some(Quarantine {
            budget: Intensity {
                restarts,
                period: Duration::from_secs(5),
            },
            cool_down: Duration::from_secs(30),
            probation: Duration::from_secs(2),
        }),
        ..policy("a", Restart::Permanent)
    }
}

#[test]
fn a_quarantined_child_stays_down_for_its_cool_down_and_its_siblings_run_on() {
    let policies = [in_quarantine_after(1), policy("b", Restart::Permanent)];
    let mut world = World::with(flags(Strategy::OneForOne, 0), policies);
    world.dies("a", ExitCause::Killed);
    assert_eq!(
        world.log(),
        "start a",
        "its own budget, not the supervisor's"
    );
    world.dies("a", ExitCause::Killed);
    assert_eq!(world.log(), "quarantine a");
    assert!(world.gave_up.is_none());
    world.pass(Duration::from_millis(29_999));
    assert_eq!(world.log(), "");
    world.pass(Duration::from_millis(1));
    assert_eq!(world.log(), "start a");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.log(), "readmit a");
    world.dies("a", ExitCause::Killed);
    assert_eq!(world.log(), "start a", "its budget is whole again");
}

#[test]
fn a_death_on_probation_is_the_next_quarantine() {
    let mut world = one(in_quarantine_after(0));
    world.dies("a", ExitCause::Killed);
    for _ in 0..3 {
        assert_eq!(world.log(), "quarantine a");
        world.pass(Duration::from_secs(31));
        assert_eq!(world.log(), "start a");
        world.dies("a", ExitCause::Killed);
    }
    assert_eq!(world.log(), "quarantine a");
    world.fail_start = vec!["a"];
    world.pass(Duration::from_secs(30));
    world.retry();
    assert_eq!(world.log(), "fail a, quarantine a");
}

#[test]
fn a_quarantine_ends_early_when_somebody_restarts_the_child() {
    let mut world = one(in_quarantine_after(0));
    world.dies("a", ExitCause::Killed);
    world.log();
    world.tell(Event::RestartChild(ChildId::from("a"), 1));
    world.answer().unwrap();
    assert_eq!(world.log(), "start a");
    world.pass(Duration::from_secs(60));
    assert_eq!(world.log(), "", "the cool-down is stale");
}

#[test]
fn a_group_restart_leaves_a_quarantined_child_where_it_is() {
    let policies = [in_quarantine_after(0), policy("b", Restart::Permanent)];
    let mut world = World::with(flags(Strategy::OneForAll, 3), policies);
    world.dies("a", ExitCause::Killed);
    assert_eq!(world.log(), "quarantine a");
    world.dies("b", ExitCause::Killed);
    assert_eq!(world.log(), "start b");
}

#[test]
fn a_cause_can_be_ruled_out_of_restarts_or_into_them() {
    let rule = |kind, restart| CausePolicy {
        kind,
        restart,
        budget: None,
    };
    let mut world = one(ChildPolicy {
        causes: vec![rule(ExitKind::OutOfFuel, CauseRestart::Never)],
        ..policy("a", Restart::Permanent)
    });
    world.dies("a", ExitCause::Killed);
    assert_eq!(world.log(), "start a");
    world.dies("a", ExitCause::OutOfFuel { limit: 1 });
    assert_eq!(world.log(), "parked a");
    let mut world = one(ChildPolicy {
        causes: vec![rule(ExitKind::Normal, CauseRestart::Always)],
        ..policy("a", Restart::Transient)
    });
    world.dies("a", ExitCause::Normal);
    assert_eq!(world.log(), "start a");
}

#[test]
fn a_cause_with_a_budget_of_its_own_does_not_spend_the_supervisors() {
    let budget = Intensity {
        restarts: 2,
        period: Duration::from_secs(5),
    };
    let child = ChildPolicy {
        causes: vec![CausePolicy {
            kind: ExitKind::OutOfFuel,
            restart: CauseRestart::ByType,
            budget: Some(budget),
        }],
        ..policy("a", Restart::Permanent)
    };
    let mut world = World::with(flags(Strategy::OneForOne, 1), [child]);
    let fuel = || ExitCause::OutOfFuel { limit: 1 };
    world.dies("a", fuel());
    world.dies("a", fuel());
    world.dies("a", ExitCause::Killed);
    assert!(world.gave_up.is_none());
    world.dies("a", fuel());
    let cause = world.gave_up.clone().unwrap();
    assert!(
        matches!(&*cause, ExitCause::Escalated { intensity: 2, .. }),
        "{cause}"
    );
}

#[test]
fn a_fault_of_the_host_does_not_spend_the_childrens_budget() {
    let panic = || ExitCause::HostPanic {
        entry: None,
        message: String::new(),
    };
    let mut world = World::new(Strategy::OneForOne, 1, &ABC);
    world.dies("a", panic());
    world.dies("a", ExitCause::Killed);
    assert!(world.gave_up.is_none());
    world.dies("a", panic());
    assert!(world.gave_up.is_some(), "but has a limit too");
}

#[test]
fn a_called_off_group_restart_tells_of_those_it_leaves_down() {
    let mut world = World::new(Strategy::RestForOne, 9, &ABC);
    world.fail_start = vec!["b"];
    world.dies("a", ExitCause::Killed);
    assert_eq!(world.log(), "stop c, stop b, start a, fail b");
    world.tell(Event::TerminateChild(ChildId::from("b"), 1));
    assert_eq!(world.log(), "parked b, parked c");
}

#[test]
fn terminating_a_child_that_fails_to_come_back_with_its_group_leaves_nothing_hanging() {
    let mut world = World::new(Strategy::OneForAll, 9, &ABC);
    world.fail_start = vec!["b"];
    world.dies("a", ExitCause::Killed);
    world.tell(Event::TerminateChild(ChildId::from("b"), 1));
    world.retry();
    let states: Vec<ChildState> = world.plan.children().map(|(_, _, state)| state).collect();
    use ChildState::{Running, Stopped};
    assert_eq!(states, [Running, Stopped, Stopped]);
}

#[test]
fn terminating_a_temporary_child_that_never_started_removes_it() {
    let mut world = World::new(Strategy::OneForOne, 9, &[]);
    let policies = vec![Arc::new(policy("a", Restart::Temporary))];
    world.tell(Event::CodeChange(
        flags(Strategy::OneForOne, 9),
        policies,
        1,
    ));
    world.answer().unwrap();
    assert_eq!(world.log(), "parked a");
    world.tell(Event::TerminateChild(ChildId::from("a"), 2));
    world.answer().unwrap();
    assert_eq!(world.log(), "removed a");
    assert_eq!(world.plan.children().count(), 0);
}
