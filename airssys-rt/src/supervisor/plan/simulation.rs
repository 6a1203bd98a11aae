#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets something unexpected should fail there"
)]

use std::collections::HashMap;

use super::tests::{flags, killed, policy};
use super::*;

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
    let mut plan = Plan::new(flags(strategy, dice.roll(12) as u32), seed);
    let mut live: HashMap<ChildId, u64> = HashMap::new();
    for name in names {
        plan.adopt(policy(name, restarts[dice.roll(3)]), true);
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
            // A child may have died by itself in the meantime; its report is on its way then.
            Effect::Stop(id, generation, _) if live.remove(&id).is_some() => {
                pending.push(Event::Exited(id, generation, Arc::new(ExitCause::Shutdown)));
            }
            Effect::Retry(id, generation) => pending.push(Event::Retry(id, generation)),
            Effect::Answer(..) => *answered += 1,
            Effect::End(_) => return true,
            Effect::Later(..) => {}
            _ => {}
        }
    }
    false
}
