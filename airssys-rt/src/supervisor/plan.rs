//! The pure core: what a supervisor decides, without a clock, a runtime or an actor.
//!
//! [`Plan::step`] takes one event and the time since the supervisor began, and gives effects in the
//! order they are to be carried out. Guarantees, each a test of that name below:
//! one generation of a child at a time, ordered starts, reverse ordered stops, one restart per
//! death, a stale report changes nothing.
//!
//! [`admin`] answers commands, [`death`] decides what an exit means, [`group`] works off what
//! concerns more than one child, [`ending`] takes all of them down.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;

use super::window::{Intensity, Window};
use crate::{ChildId, ChildPolicy, ExitCause, ExitKind, Restart, Shutdown};

mod admin;
mod death;
mod ending;
mod group;

/// Whom a child's exit concerns besides itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Nobody.
    #[default]
    OneForOne,
    /// All its siblings.
    OneForAll,
    /// The siblings started after it.
    RestForOne,
    /// Nobody; the children are made from one template, on request, and have no order.
    SimpleOneForOne,
}

/// Whether the end of [significant](crate::ChildSpec::significant) children ends the supervisor.
/// Only an end of their own that is not followed by a restart counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoShutdown {
    /// It does not.
    #[default]
    Never,
    /// The first one's does.
    AnySignificant,
    /// The last one's does.
    AllSignificant,
}

/// What a supervisor goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Intensity,
    pub(crate) auto_shutdown: AutoShutdown,
    /// Only for [`Strategy::SimpleOneForOne`].
    pub(crate) max_children: usize,
}

/// What a child is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildState {
    /// Not running; starts when somebody asks.
    Stopped,
    /// Being started for the first time or on request.
    Starting,
    /// Running.
    Running,
    /// Ended; its next incarnation is on its way.
    Restarting,
    /// Asked to stop.
    Stopping,
    /// Ended too often; tried again when its cool-down is over.
    Quarantined,
}

/// Answers to a command carry the token it came with.
pub(crate) type Token = u64;

#[derive(Debug)]
pub(crate) enum Event {
    Started(ChildId, u64),
    /// The child's start succeeded without a child to show for it.
    Ignored(ChildId, u64),
    StartFailed(ChildId, u64, Arc<ExitCause>),
    Exited(ChildId, u64, Arc<ExitCause>),
    /// Answers [`Effect::Retry`].
    Retry(ChildId, u64),
    /// Answers [`Effect::Later`].
    Due(ChildId, u64),
    StartChild(Arc<ChildPolicy>, Token),
    TerminateChild(ChildId, Token),
    RestartChild(ChildId, Token),
    DeleteChild(ChildId, Token),
    /// Stop every child and end.
    Shutdown,
    /// The flags and the children in their new order; for a dynamic supervisor its template.
    CodeChange(Flags, Vec<Arc<ChildPolicy>>, Token),
}

#[derive(Debug)]
pub(crate) enum Effect {
    /// The spec that came with this command is the child's from now on.
    Adopt(ChildId, Token),
    /// Start this generation; report `Started`, `Ignored` or `StartFailed`.
    Start(ChildId, u64),
    /// Stop this generation; report `Exited`.
    Stop(ChildId, u64, Shutdown),
    /// Report `Retry` once everything already queued has been handled.
    Retry(ChildId, u64),
    /// Report `Due` after this time.
    Later(ChildId, u64, Duration),
    /// The restart waits; for listeners.
    BackedOff(ChildId, u64, Duration),
    /// The child stays down until somebody asks for it.
    Parked(ChildId, u64, Arc<ExitCause>),
    /// The child stays down until its cool-down is over.
    Quarantined(ChildId, u64, Arc<ExitCause>),
    /// The child has outlived its probation.
    Readmitted(ChildId, u64),
    /// The spec is gone.
    Removed(ChildId),
    Answer(Token, Result<(), Refusal>),
    /// The children are being stopped, in reverse start order; for listeners.
    Ending(Arc<ExitCause>),
    /// Nobody is left; end with this.
    End(Arc<ExitCause>),
}

/// Why a command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No child of that name.
    #[error("no child `{0}`")]
    NotFound(ChildId),
    /// A child of that name runs or is being started.
    #[error("child `{0}` is already started")]
    AlreadyStarted(ChildId),
    /// A child of that name is known but does not run: restart or delete it where it is stopped,
    /// wait or terminate it where it is restarting.
    #[error("child `{0}` is already present")]
    AlreadyPresent(ChildId),
    /// The child runs; terminate it first.
    #[error("child `{0}` is running")]
    Running(ChildId),
    /// The child is about to run or to stop.
    #[error("child `{0}` is restarting")]
    Restarting(ChildId),
    /// The child did not start; a new spec was not kept.
    #[error("child `{0}` did not start: {1}")]
    StartFailed(ChildId, Arc<ExitCause>),
    /// The supervisor makes its children from a template: use `start_dynamic`; its children
    /// cannot be restarted or deleted.
    #[error("the supervisor makes its children from a template")]
    Dynamic,
    /// The supervisor has no template: use `start_child`.
    #[error("the supervisor has no template to make children from")]
    NotDynamic,
    /// The dynamic supervisor has as many children as it may have.
    #[error("the supervisor may have {0} children and has them")]
    MaxChildren(usize),
    /// The spec contradicts itself or the supervisor's flags.
    #[error("invalid spec: {0}")]
    Invalid(#[from] super::spec::SpecError),
}

#[derive(Debug)]
enum Phase {
    Stopped,
    /// `stop_for`: who asked to terminate it while it was on its way up.
    Starting {
        origin: Origin,
        stop_for: Vec<Token>,
    },
    Running,
    /// The last attempt failed, or a restart is put off; a `Retry` or a `Due` is on its way.
    Waiting,
    Quarantined,
    Stopping {
        tokens: Vec<Token>,
    },
    /// Ended while a group operation had the floor; dealt with after it.
    Dead,
}

/// Who asked for a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    New(Token),
    Asked(Token),
    Restart,
    Group,
}

#[derive(Debug)]
struct Entry {
    policy: Arc<ChildPolicy>,
    generation: u64,
    phase: Phase,
    last_exit: Option<Arc<ExitCause>>,
    /// Listeners know that it stays down.
    parked: bool,
    /// When the running incarnation started.
    since: Duration,
    /// Restarts in a row that were put off, for the next delay.
    delays: u32,
    /// It runs to show that its quarantine can end.
    probation: bool,
    /// What it has spent of the budgets of its own.
    budgets: Vec<(Budget, Window)>,
}

/// A budget that belongs to one child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Budget {
    Cause(ExitKind),
    Quarantine,
}

impl Entry {
    fn new(policy: Arc<ChildPolicy>, generation: u64) -> Self {
        Self {
            policy,
            generation,
            phase: Phase::Stopped,
            last_exit: None,
            parked: true,
            since: Duration::ZERO,
            delays: 0,
            probation: false,
            budgets: Vec::new(),
        }
    }

    fn id(&self) -> ChildId {
        self.policy.id.clone()
    }

    fn state(&self) -> ChildState {
        match &self.phase {
            Phase::Stopped => ChildState::Stopped,
            Phase::Starting {
                origin: Origin::New(_) | Origin::Asked(_),
                ..
            } => ChildState::Starting,
            Phase::Starting { .. } | Phase::Waiting | Phase::Dead => ChildState::Restarting,
            Phase::Running => ChildState::Running,
            Phase::Stopping { .. } => ChildState::Stopping,
            Phase::Quarantined => ChildState::Quarantined,
        }
    }

    fn begin_start(&mut self, origin: Origin) -> Effect {
        self.generation += 1;
        self.phase = Phase::Starting {
            origin,
            stop_for: Vec::new(),
        };
        Effect::Start(self.id(), self.generation)
    }

    fn park(&mut self, cause: Arc<ExitCause>, effects: &mut Vec<Effect>) {
        self.parked = true;
        effects.push(Effect::Parked(self.id(), self.generation, cause));
    }
}

/// Where a child stands in the start order.
type Place = u64;

#[derive(Debug)]
pub(crate) struct Plan {
    flags: Flags,
    window: Window,
    /// Faults of the host count here, so that they never spend the children's budget.
    host_window: Window,
    index: HashMap<ChildId, Place>,
    children: BTreeMap<Place, Entry>,
    next_place: Place,
    /// The highest generation of any child that is gone. A name that is used again goes on above
    /// it, so that a report about the one before is stale.
    retired: u64,
    agenda: VecDeque<group::Task>,
    deferred: VecDeque<Event>,
    dice: u64,
    /// What the supervisor is about to end with.
    ending: Option<Arc<ExitCause>>,
    over: bool,
    /// Children that have been told to stop and have not ended yet.
    stopping: usize,
    /// A group operation has stopped children that it has not started again yet.
    loose: bool,
    /// Group operations begun, for the simulation to tell them apart.
    #[cfg(test)]
    groups: u64,
}

impl Plan {
    /// `seed` decides the jitter of delays, nothing else.
    pub(crate) fn new(flags: Flags, seed: u64) -> Self {
        Self {
            flags,
            window: Window::new(flags.intensity),
            host_window: Window::new(flags.intensity),
            index: HashMap::default(),
            children: BTreeMap::new(),
            next_place: 0,
            retired: 0,
            agenda: VecDeque::new(),
            deferred: VecDeque::new(),
            dice: seed,
            ending: None,
            over: false,
            stopping: 0,
            loose: false,
            #[cfg(test)]
            groups: 0,
        }
    }

    /// Takes in a child that the supervisor's own start has brought up already, or that had
    /// nothing to bring up.
    pub(crate) fn adopt(&mut self, policy: impl Into<Arc<ChildPolicy>>, running: bool) {
        let mut entry = Entry::new(policy.into(), 1);
        if running {
            entry.phase = Phase::Running;
            entry.parked = false;
        }
        self.append(entry);
    }

    /// Ids in start order.
    pub(crate) fn order(&self) -> Vec<ChildId> {
        self.children.values().map(Entry::id).collect()
    }

    pub(crate) fn children(&self) -> impl Iterator<Item = (&ChildPolicy, u64, ChildState)> {
        self.children.values().map(Self::status)
    }

    /// Restarts inside the window: the children's, and those after faults of the host.
    pub(crate) fn restarts(&self, now: Duration) -> (usize, usize) {
        (self.window.count(now), self.host_window.count(now))
    }

    pub(crate) fn child(&self, id: &ChildId) -> Option<(&ChildPolicy, u64, ChildState)> {
        let place = self.index.get(id)?;
        self.children.get(place).map(Self::status)
    }

    fn status(entry: &Entry) -> (&ChildPolicy, u64, ChildState) {
        (&entry.policy, entry.generation, entry.state())
    }

    /// Takes one event in; what is to be done about it goes to the end of `effects`.
    pub(crate) fn step(&mut self, event: Event, now: Duration, effects: &mut Vec<Effect>) {
        if self.over || !self.heeds(&event) {
            return;
        }
        self.dispatch(event, now, effects);
        // What waited gets its turn when that is done, oldest first.
        while !self.busy() && self.ending.is_none() {
            let Some(event) = self.deferred.pop_front() else {
                break;
            };
            self.dispatch(event, now, effects);
        }
        if self.ending.is_some() {
            self.end_if_nobody_is_left(effects);
        } else if self.loose {
            self.park_left_behind(effects);
        }
    }

    fn dispatch(&mut self, event: Event, now: Duration, effects: &mut Vec<Effect>) {
        let busy = self.busy();
        match event {
            Event::Started(id, generation) => self.started(&id, generation, now, effects),
            Event::Ignored(id, generation) => self.ignored(&id, generation, effects),
            Event::StartFailed(id, generation, cause) => {
                self.start_failed(&id, generation, cause, now, effects);
            }
            Event::Exited(id, generation, cause) => {
                self.exited(&id, generation, cause, now, effects);
            }
            Event::Shutdown => self.wind_up(Arc::new(ExitCause::Shutdown), effects),
            deferred if busy => {
                self.deferred.push_back(deferred);
                return;
            }
            Event::Retry(id, generation) => self.retry(&id, generation, now, effects),
            Event::Due(id, generation) => self.due(&id, generation, effects),
            Event::StartChild(policy, token) => self.start_child(policy, token, effects),
            Event::TerminateChild(id, token) => self.terminate(&id, token, effects),
            Event::RestartChild(id, token) => self.restart_child(&id, token, effects),
            Event::DeleteChild(id, token) => self.delete(&id, token, effects),
            Event::CodeChange(flags, policies, token) => {
                self.code_change(flags, policies, token, effects);
            }
        }
        self.proceed(effects);
    }

    fn started(&mut self, id: &ChildId, generation: u64, now: Duration, effects: &mut Vec<Effect>) {
        let Some((_, entry)) = self.current(id, generation) else {
            return;
        };
        let Phase::Starting { origin, stop_for } = &mut entry.phase else {
            return;
        };
        let origin = *origin;
        let tokens = std::mem::take(stop_for);
        if let Origin::New(token) | Origin::Asked(token) = origin {
            effects.push(Effect::Answer(token, Ok(())));
        }
        entry.parked = false;
        entry.phase = Phase::Running;
        entry.since = now;
        if let (true, Some(quarantine)) = (entry.probation, &entry.policy.quarantine) {
            let probation = quarantine.probation;
            effects.push(Effect::Later(id.clone(), generation, probation));
        }
        // Somebody asked to terminate it while it was on its way up. That is next, unless its
        // group is stopping somebody.
        let stops = tokens.into_iter();
        let stops = stops.map(|token| Event::TerminateChild(id.clone(), token));
        self.deferred.extend(stops);
    }

    fn ignored(&mut self, id: &ChildId, generation: u64, effects: &mut Vec<Effect>) {
        let Some((place, entry)) = self.current(id, generation) else {
            return;
        };
        let Phase::Starting { origin, stop_for } = &mut entry.phase else {
            return;
        };
        let origin = *origin;
        let tokens = std::mem::take(stop_for);
        entry.phase = Phase::Stopped;
        entry.park(Arc::new(ExitCause::Normal), effects);
        self.group_start_done(place);
        self.drop_if_not_kept(place, effects);
        if let Origin::New(token) | Origin::Asked(token) = origin {
            effects.push(Effect::Answer(token, Ok(())));
        }
        effects.extend(tokens.into_iter().map(|t| Effect::Answer(t, Ok(()))));
    }

    fn start_failed(
        &mut self,
        id: &ChildId,
        generation: u64,
        cause: Arc<ExitCause>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let ending = self.ending.is_some();
        let Some((place, entry)) = self.current(id, generation) else {
            return;
        };
        let Phase::Starting { origin, stop_for } = &mut entry.phase else {
            return;
        };
        let origin = *origin;
        let stop_for = std::mem::take(stop_for);
        let refusal = |cause| Err(Refusal::StartFailed(id.clone(), cause));
        match origin {
            Origin::New(token) => {
                self.remove(place, effects);
                effects.push(Effect::Answer(token, refusal(cause)));
            }
            Origin::Asked(token) => {
                entry.phase = Phase::Stopped;
                entry.park(Arc::clone(&cause), effects);
                effects.push(Effect::Answer(token, refusal(cause)));
            }
            _ if ending => entry.phase = Phase::Stopped,
            Origin::Restart | Origin::Group if stop_for.is_empty() => {
                entry.phase = Phase::Waiting;
                entry.last_exit = Some(cause);
                entry.since = now;
                self.call_off_group(place);
                effects.push(Effect::Retry(id.clone(), generation));
            }
            Origin::Restart | Origin::Group => {
                entry.phase = Phase::Stopped;
                entry.park(cause, effects);
                self.call_off_group(place);
                self.drop_if_not_kept(place, effects);
            }
        }
        effects.extend(stop_for.into_iter().map(|t| Effect::Answer(t, Ok(()))));
    }

    fn begin_start(&mut self, place: Place, origin: Origin, effects: &mut Vec<Effect>) {
        if let Some(entry) = self.children.get_mut(&place) {
            effects.push(entry.begin_start(origin));
        }
    }

    fn begin_stop(&mut self, place: Place, tokens: Vec<Token>, effects: &mut Vec<Effect>) {
        if let Some(entry) = self.children.get_mut(&place) {
            entry.phase = Phase::Stopping { tokens };
            self.stopping += 1;
            let stop = Effect::Stop(entry.id(), entry.generation, entry.policy.shutdown);
            effects.push(stop);
        }
    }

    /// What may stop or start children has to wait: a group operation is under way, or a group is
    /// about to lose a child and must not lose two at once.
    fn busy(&self) -> bool {
        let grouped = matches!(
            self.flags.strategy,
            Strategy::OneForAll | Strategy::RestForOne
        );
        !self.agenda.is_empty() || (grouped && self.stopping > 0)
    }

    fn append(&mut self, entry: Entry) -> Place {
        let place = self.next_place;
        self.next_place += 1;
        self.index.insert(entry.id(), place);
        self.children.insert(place, entry);
        place
    }

    /// Temporary children's specs go with them, and so do those made from a template.
    fn drop_if_not_kept(&mut self, place: Place, effects: &mut Vec<Effect>) {
        let dynamic = self.dynamic();
        let gone = |entry: &Entry| dynamic || entry.policy.restart == Restart::Temporary;
        if self.children.get(&place).is_some_and(gone) {
            self.remove(place, effects);
        }
    }

    fn remove(&mut self, place: Place, effects: &mut Vec<Effect>) {
        if let Some(entry) = self.children.remove(&place) {
            self.index.remove(&entry.policy.id);
            self.retired = self.retired.max(entry.generation);
            effects.push(Effect::Removed(entry.id()));
        }
    }

    fn dynamic(&self) -> bool {
        self.flags.strategy == Strategy::SimpleOneForOne
    }

    fn place(&self, id: &ChildId) -> Option<Place> {
        self.index.get(id).copied()
    }

    /// Its place and itself, if the report is about its current generation.
    fn current(&mut self, id: &ChildId, generation: u64) -> Option<(Place, &mut Entry)> {
        let place = self.place(id)?;
        let entry = self.children.get_mut(&place)?;
        (entry.generation == generation).then_some((place, entry))
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
