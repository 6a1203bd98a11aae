#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets something unexpected should fail there"
)]

use std::collections::HashMap;

use super::*;
use crate::{ChildKind, DEFAULT_SHUTDOWN};

/// Plays the shell: carries effects out at once and keeps a log of what happened.
struct World {
    plan: Plan,
    now: Duration,
    running: HashMap<ChildId, u64>,
    fail_start: Vec<&'static str>,
    log: Vec<String>,
    answers: Vec<(Token, Result<(), Refusal>)>,
    retries: VecDeque<Event>,
    gave_up: Option<Arc<ExitCause>>,
}

fn policy(id: &str, restart: Restart) -> ChildPolicy {
    ChildPolicy {
        id: ChildId::from(id),
        restart,
        shutdown: Shutdown::Timeout(DEFAULT_SHUTDOWN),
        kind: ChildKind::Worker,
    }
}

fn killed() -> Arc<ExitCause> {
    Arc::new(ExitCause::Killed)
}

impl World {
    fn new(strategy: Strategy, restarts: u32, children: &[(&str, Restart)]) -> Self {
        let period = Duration::from_secs(5);
        let mut plan = Plan::new(strategy, Intensity { restarts, period });
        let mut running = HashMap::new();
        for (id, restart) in children {
            plan.adopt(policy(id, *restart));
            running.insert(ChildId::from(*id), 1);
        }
        Self {
            plan,
            now: Duration::ZERO,
            running,
            fail_start: Vec::new(),
            log: Vec::new(),
            answers: Vec::new(),
            retries: VecDeque::new(),
            gave_up: None,
        }
    }

    fn tell(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.plan.step(event, self.now) {
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
            Effect::GiveUp(cause) => {
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
    let new = || policy("a", Restart::Permanent);
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
    world.tell(Event::StartChild(policy("a", Restart::Permanent), 1));
    assert!(matches!(world.answer(), Err(Refusal::StartFailed(..))));
    assert!(world.plan.order().is_empty());
    assert!(world.gave_up.is_none(), "and costs no intensity");
}

/// A generator of its own (splitmix64), so that a seed means the same sequence everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

/// Reports arrive late and in any order, children die whenever they like, and commands come in
/// between. Whatever the order: one generation at a time, and when it is quiet nothing hangs.
#[test]
fn at_most_one_generation_is_live() {
    for seed in 0..100_000 {
        simulate(seed);
    }
}

fn simulate(seed: u64) {
    let mut dice = Dice(seed);
    let strategy = [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ][dice.roll(3)];
    let restarts = [Restart::Permanent, Restart::Transient, Restart::Temporary];
    let names = ["a", "b", "c", "d"];
    let mut plan = Plan::new(
        strategy,
        Intensity {
            restarts: dice.roll(12) as u32,
            period: Duration::from_secs(5),
        },
    );
    let mut live: HashMap<ChildId, u64> = HashMap::new();
    for name in names {
        plan.adopt(policy(name, restarts[dice.roll(3)]));
        live.insert(ChildId::from(name), 1);
    }
    let mut pending: Vec<Event> = Vec::new();
    let mut asked = 0;
    let mut answered = 0;
    for turn in 0..60 {
        let now = Duration::from_millis(turn * 50);
        let event = match dice.roll(4) {
            0 | 1 if !pending.is_empty() => pending.swap_remove(dice.roll(pending.len())),
            2 if turn < 40 => {
                asked += 1;
                let id = ChildId::from(names[dice.roll(4)]);
                match dice.roll(4) {
                    0 => Event::TerminateChild(id, asked),
                    1 => Event::RestartChild(id, asked),
                    2 => Event::DeleteChild(id, asked),
                    _ => Event::StartChild(policy(id.as_str(), restarts[dice.roll(3)]), asked),
                }
            }
            3 if turn < 40 && !live.is_empty() => {
                let mut ids: Vec<ChildId> = live.keys().cloned().collect();
                ids.sort();
                let id = ids[dice.roll(ids.len())].clone();
                // The shell holds an exit back until the start it belongs to has been reported.
                let unreported = |e: &Event| matches!(e, Event::Started(other, _) if *other == id);
                if pending.iter().any(unreported) {
                    continue;
                }
                let Some(generation) = live.remove(&id) else {
                    continue;
                };
                let cause = [ExitCause::Killed, ExitCause::Normal][dice.roll(2)].clone();
                Event::Exited(id, generation, Arc::new(cause))
            }
            _ => match pending.pop() {
                Some(event) => event,
                None => continue,
            },
        };
        if settle(
            &mut plan,
            event,
            now,
            &mut live,
            &mut pending,
            &mut answered,
            &mut dice,
            seed,
        ) {
            return;
        }
    }
    let later = Duration::from_secs(60);
    while let Some(event) = pending.pop() {
        if settle(
            &mut plan,
            event,
            later,
            &mut live,
            &mut pending,
            &mut answered,
            &mut dice,
            seed,
        ) {
            return;
        }
    }
    assert_eq!(asked, answered, "seed {seed}: a command without an answer");
    for (policy, generation, state) in plan.children() {
        let expected = match live.get(&policy.id) {
            Some(live) => {
                assert_eq!(*live, generation, "seed {seed}");
                ChildState::Running
            }
            None => ChildState::Stopped,
        };
        assert_eq!(state, expected, "seed {seed}: {} hangs", policy.id);
    }
    assert_eq!(
        live.keys().filter(|id| plan.order().contains(id)).count(),
        live.len(),
        "seed {seed}: a child runs without a spec"
    );
}

/// One step and its effects as later reports; true when the supervisor gave up.
#[allow(clippy::too_many_arguments, reason = "the state of one simulation")]
fn settle(
    plan: &mut Plan,
    event: Event,
    now: Duration,
    live: &mut HashMap<ChildId, u64>,
    pending: &mut Vec<Event>,
    answered: &mut u64,
    dice: &mut Dice,
    seed: u64,
) -> bool {
    for effect in plan.step(event, now) {
        match effect {
            Effect::Start(id, generation) => {
                let earlier = live.insert(id.clone(), generation);
                assert_eq!(earlier, None, "seed {seed}: two live generations of {id}");
                pending.push(if dice.roll(4) == 0 {
                    live.remove(&id);
                    Event::StartFailed(id, generation, killed())
                } else {
                    Event::Started(id, generation)
                });
            }
            Effect::Stop(id, generation, _) => {
                // A child may have died by itself in the meantime; its report is on its way then.
                if live.remove(&id).is_some() {
                    pending.push(Event::Exited(id, generation, Arc::new(ExitCause::Shutdown)));
                }
            }
            Effect::Retry(id, generation) => pending.push(Event::Retry(id, generation)),
            Effect::Answer(..) => *answered += 1,
            Effect::GiveUp(_) => return true,
            Effect::Parked(..) | Effect::Removed(_) | Effect::Adopt(..) => {}
        }
    }
    false
}
