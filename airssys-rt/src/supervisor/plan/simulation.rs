//! The plan under reports that come late and in any order, children that die whenever they like,
//! and commands in between.
//!
//! `AIRSSYS_SEEDS=10000000 cargo test --release -p airssys-rt --lib simulation` runs more seeds,
//! `AIRSSYS_SEED=42 cargo test -p airssys-rt --lib simulation -- --nocapture` replays one and
//! prints every step.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that meets something unexpected should fail there"
)]

use foldhash::HashSet;

use super::group::Task;
use super::tests::{flags, killed, policy};
use super::*;
use crate::{Backoff, CausePolicy, CauseRestart, Quarantine};

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

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.roll(choices.len())]
    }
}

/// Whatever the order: one generation at a time, ordered groups, no more restarts than the
/// intensity allows, every command answered, and when it is quiet nothing hangs.
#[test]
fn at_most_one_generation_is_live() {
    let number = |name| std::env::var(name).ok().map(|n| n.parse().unwrap());
    if let Some(seed) = number("AIRSSYS_SEED") {
        Simulation::new(seed, true).run();
        return;
    }
    for seed in 0..number("AIRSSYS_SEEDS").unwrap_or(100_000) {
        Simulation::new(seed, false).run();
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const PERIOD: Duration = Duration::from_secs(5);

struct Simulation {
    seed: u64,
    dice: Dice,
    plan: Plan,
    now: Duration,
    live: HashMap<ChildId, u64>,
    /// Told to stop; the plan has not heard of their ends.
    stopping: HashSet<ChildId>,
    /// Reports on their way.
    pending: Vec<Event>,
    timers: Vec<(Duration, Event)>,
    asked: u64,
    answered: u64,
    made: usize,
    /// Only OTP's rules: the supervisor's budget is the only one.
    plain: bool,
    restarts: Vec<Duration>,
    /// The places of the stops and starts of the group operation under way.
    stops: Vec<Place>,
    starts: Vec<Place>,
    ending: bool,
    over: bool,
    loud: bool,
}

impl Simulation {
    fn new(seed: u64, loud: bool) -> Self {
        let mut dice = Dice(seed);
        let strategy = dice.of(&[
            Strategy::OneForOne,
            Strategy::OneForAll,
            Strategy::RestForOne,
            Strategy::SimpleOneForOne,
        ]);
        let flags = Self::flags(&mut dice, strategy);
        let plain = dice.one_in(2);
        let mut simulation = Self {
            seed,
            plan: Plan::new(flags, seed),
            dice,
            now: Duration::ZERO,
            live: HashMap::default(),
            stopping: HashSet::default(),
            pending: Vec::new(),
            timers: Vec::new(),
            asked: 0,
            answered: 0,
            made: 0,
            plain,
            restarts: Vec::new(),
            stops: Vec::new(),
            starts: Vec::new(),
            ending: false,
            over: false,
            loud,
        };
        if strategy != Strategy::SimpleOneForOne {
            for name in NAMES {
                let policy = simulation.policy(name);
                let running = !simulation.dice.one_in(8);
                if running {
                    simulation.live.insert(policy.id.clone(), 1);
                }
                simulation.plan.adopt(policy, running);
            }
        }
        simulation
    }

    fn flags(dice: &mut Dice, strategy: Strategy) -> Flags {
        let dynamic = strategy == Strategy::SimpleOneForOne;
        let auto_shutdown = match dynamic {
            true => AutoShutdown::Never,
            false => dice.of(&[
                AutoShutdown::Never,
                AutoShutdown::AnySignificant,
                AutoShutdown::AllSignificant,
            ]),
        };
        Flags {
            auto_shutdown,
            max_children: if dynamic { 5 } else { usize::MAX },
            ..flags(strategy, dice.roll(12) as u32)
        }
    }

    fn policy(&mut self, name: &str) -> ChildPolicy {
        let dice = &mut self.dice;
        let restart = dice.of(&[Restart::Permanent, Restart::Transient, Restart::Temporary]);
        let mut policy = policy(name, restart);
        policy.significant = restart != Restart::Permanent && dice.one_in(3);
        if self.plain {
            return policy;
        }
        let budget = Intensity {
            restarts: dice.roll(3) as u32,
            period: PERIOD,
        };
        if dice.one_in(3) {
            policy.backoff = Some(Backoff::default());
        }
        if dice.one_in(3) {
            policy.quarantine = Some(Quarantine {
                budget,
                cool_down: Duration::from_secs(1),
                probation: Duration::from_millis(200),
            });
        }
        if dice.one_in(3) {
            policy.causes.push(CausePolicy {
                kind: ExitKind::Killed,
                restart: dice.of(&[
                    CauseRestart::ByType,
                    CauseRestart::Always,
                    CauseRestart::Never,
                ]),
                budget: dice.one_in(2).then_some(budget),
            });
        }
        policy
    }

    fn run(mut self) {
        for turn in 0..80 {
            self.now = Duration::from_millis(turn * 50);
            let Some(event) = self.next(turn < 60) else {
                continue;
            };
            self.step(event);
            if self.over {
                return;
            }
        }
        // Nobody dies and nobody asks any more: it comes to rest.
        for _ in 0..10_000 {
            let event = match self.pending.pop() {
                Some(event) => event,
                None => match self.due(Duration::MAX) {
                    Some(event) => event,
                    None => return self.at_rest(),
                },
            };
            self.step(event);
            if self.over {
                return;
            }
        }
        panic!("seed {}: it does not come to rest", self.seed);
    }

    fn next(&mut self, restless: bool) -> Option<Event> {
        match self.dice.roll(5) {
            0 | 1 if !self.pending.is_empty() => {
                let at = self.dice.roll(self.pending.len());
                Some(self.pending.swap_remove(at))
            }
            2 if restless => Some(self.command()),
            3 if restless => self.death(),
            4 => self.due(self.now),
            _ => self.pending.pop(),
        }
    }

    fn due(&mut self, until: Duration) -> Option<Event> {
        let timers = self.timers.iter().enumerate();
        let timers = timers.filter(|(_, (at, _))| *at <= until);
        let (first, _) = timers.min_by_key(|(_, (at, _))| *at)?;
        let (at, event) = self.timers.remove(first);
        self.now = self.now.max(at);
        Some(event)
    }

    fn command(&mut self) -> Event {
        if self.dice.one_in(100) {
            return Event::Shutdown;
        }
        self.asked += 1;
        let token = self.asked;
        let dynamic = self.plan.dynamic();
        let id = if dynamic {
            ChildId::from(format!("t#{}", self.dice.roll(self.made + 2)))
        } else {
            ChildId::from(self.dice.of(&NAMES))
        };
        match self.dice.roll(6) {
            0 => Event::TerminateChild(id, token),
            1 => Event::RestartChild(id, token),
            2 => Event::DeleteChild(id, token),
            3 => {
                let flags = Self::flags(&mut self.dice, self.plan.flags.strategy);
                self.restarts.clear();
                let policies = if dynamic {
                    vec![Arc::new(self.policy("t"))]
                } else {
                    let first = self.dice.roll(4);
                    NAMES[first..]
                        .iter()
                        .map(|name| Arc::new(self.policy(name)))
                        .collect()
                };
                Event::CodeChange(flags, policies, token)
            }
            _ if dynamic => {
                self.made += 1;
                let name = format!("t#{}", self.made);
                Event::StartChild(Arc::new(self.policy(&name)), token)
            }
            _ => Event::StartChild(Arc::new(self.policy(id.as_str())), token),
        }
    }

    fn death(&mut self) -> Option<Event> {
        let mut ids: Vec<ChildId> = self.live.keys().cloned().collect();
        ids.sort();
        if ids.is_empty() {
            return None;
        }
        let id = ids[self.dice.roll(ids.len())].clone();
        // The shell holds an exit back until the start it belongs to has been reported.
        let unreported = |e: &Event| matches!(e, Event::Started(other, _) if *other == id);
        if self.pending.iter().any(unreported) {
            return None;
        }
        let generation = self.live.remove(&id)?;
        let cause = [
            ExitCause::Killed,
            ExitCause::Normal,
            ExitCause::OutOfFuel { limit: 1 },
        ][self.dice.roll(3)]
        .clone();
        Some(Event::Exited(id, generation, Arc::new(cause)))
    }

    /// One step, its effects as later reports.
    fn step(&mut self, event: Event) {
        if self.loud {
            println!("{:?} {event:?}", self.now);
        }
        let asked = matches!(event, Event::RestartChild(..) | Event::StartChild(..));
        if let Event::Exited(id, ..) = &event {
            self.stopping.remove(id);
        }
        let groups = self.plan.groups;
        let mut effects = Vec::new();
        self.plan.step(event, self.now, &mut effects);
        if self.plan.groups > groups {
            self.stops.clear();
            self.starts.clear();
        }
        for effect in effects {
            if self.loud {
                println!("        {effect:?}");
            }
            self.carry_out(effect, asked);
        }
        let in_group = |e: &&Entry| {
            matches!(
                e.phase,
                Phase::Starting {
                    origin: Origin::Group,
                    ..
                }
            )
        };
        let starting = self.plan.children.values().filter(in_group).count();
        assert!(
            starting <= 1,
            "seed {}: a group starts two at once",
            self.seed
        );
    }

    fn carry_out(&mut self, effect: Effect, asked: bool) {
        let seed = self.seed;
        match effect {
            Effect::Start(id, generation) => {
                let earlier = self.live.insert(id.clone(), generation);
                assert_eq!(earlier, None, "seed {seed}: two live generations of {id}");
                self.note_start(&id, asked);
                let report = match self.dice.roll(8) {
                    0 | 1 => Event::StartFailed(id.clone(), generation, killed()),
                    2 => Event::Ignored(id.clone(), generation),
                    _ => Event::Started(id.clone(), generation),
                };
                if !matches!(report, Event::Started(..)) {
                    self.live.remove(&id);
                }
                self.pending.push(report);
            }
            Effect::Stop(id, generation, _) => {
                assert!(
                    !self.grouped() || self.stopping.is_empty(),
                    "seed {seed}: {id} is stopped beside {:?}",
                    self.stopping
                );
                self.stopping.insert(id.clone());
                if let Some(place) = self.stopped_by_its_group(&id) {
                    let ordered = self.stops.last().is_none_or(|last| place < *last);
                    assert!(ordered, "seed {seed}: {id} is stopped out of order");
                    self.stops.push(place);
                }
                // A child may have died by itself meanwhile; its report is on its way then.
                if self.live.remove(&id).is_some() {
                    let cause = Arc::new(ExitCause::Shutdown);
                    self.pending.push(Event::Exited(id, generation, cause));
                }
            }
            Effect::Retry(id, generation) => self.pending.push(Event::Retry(id, generation)),
            Effect::Later(id, generation, delay) => {
                let due = Event::Due(id, generation);
                self.timers.push((self.now + delay, due));
            }
            Effect::Answer(..) => self.answered += 1,
            Effect::Ending(_) => {
                // The last operation: everybody, from the last to the first.
                self.stops.clear();
                self.ending = true;
            }
            Effect::End(_) => {
                assert!(self.ending, "seed {seed}: it ends out of the blue");
                assert!(self.live.is_empty(), "seed {seed}: children outlive it");
                assert!(self.stopping.is_empty(), "seed {seed}: it ends unheard");
                self.over = true;
            }
            Effect::Quarantined(id, ..) => {
                assert!(!self.live.contains_key(&id), "seed {seed}: {id} lives on");
            }
            Effect::Removed(id) => {
                assert!(!self.live.contains_key(&id), "seed {seed}: {id} lives on");
            }
            Effect::Parked(..)
            | Effect::Adopt(..)
            | Effect::BackedOff(..)
            | Effect::Readmitted(..) => {}
        }
    }

    /// Its place, if there is an order and nobody else has asked for it.
    fn stopped_by_its_group(&self, id: &ChildId) -> Option<Place> {
        if self.plan.dynamic() {
            return None;
        }
        let place = self.plan.place(id)?;
        match &self.plan.children.get(&place)?.phase {
            Phase::Stopping { tokens } if tokens.is_empty() => Some(place),
            _ => None,
        }
    }

    fn grouped(&self) -> bool {
        let strategy = self.plan.flags.strategy;
        matches!(strategy, Strategy::OneForAll | Strategy::RestForOne)
    }

    fn note_start(&mut self, id: &ChildId, asked: bool) {
        let seed = self.seed;
        if let Some(Task::Start(place)) = self.plan.agenda.front()
            && self.plan.place(id) == Some(*place)
        {
            let ordered = self.starts.last().is_none_or(|last| place > last);
            assert!(ordered, "seed {seed}: {id} is started out of order");
            self.starts.push(*place);
            return;
        }
        if self.plain && !self.grouped() && !asked {
            let since = self.now.saturating_sub(PERIOD);
            self.restarts.retain(|stamp| *stamp >= since);
            self.restarts.push(self.now);
            let allowed = self.plan.flags.intensity.restarts as usize;
            assert!(
                self.restarts.len() <= allowed,
                "seed {seed}: more restarts than the intensity allows"
            );
        }
    }

    fn at_rest(&self) {
        let seed = self.seed;
        assert_eq!(
            self.asked, self.answered,
            "seed {seed}: a command without an answer"
        );
        assert!(!self.plan.busy(), "seed {seed}: a group hangs");
        assert_eq!(self.plan.stopping, 0, "seed {seed}");
        let mut known = 0;
        for (policy, generation, state) in self.plan.children() {
            let expected = match self.live.get(&policy.id) {
                Some(live) => {
                    known += 1;
                    assert_eq!(*live, generation, "seed {seed}");
                    ChildState::Running
                }
                None => ChildState::Stopped,
            };
            assert_eq!(state, expected, "seed {seed}: {} hangs", policy.id);
        }
        assert_eq!(
            known,
            self.live.len(),
            "seed {seed}: a child runs without a spec"
        );
        for entry in self.plan.children.values() {
            let down = matches!(entry.phase, Phase::Stopped);
            assert_eq!(
                entry.parked, down,
                "seed {seed}: callers of {} do not know that it stays down",
                entry.policy.id
            );
        }
    }
}
