//! The pure core: what a supervisor decides, without a clock, a runtime or an actor.
//!
//! [`Plan::step`] takes one event and the time since the supervisor began, and returns effects in
//! the order they are to be carried out. Guarantees, each a test of that name below:
//! one generation of a child at a time, ordered starts, reverse ordered stops, one restart per
//! death, a stale report changes nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::window::{Intensity, Window};
use crate::{ChildId, ChildPolicy, ExitCause, Restart, Shutdown};

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
}

/// Answers to a command carry the token it came with.
pub(crate) type Token = u64;

#[derive(Debug)]
pub(crate) enum Event {
    Started(ChildId, u64),
    StartFailed(ChildId, u64, Arc<ExitCause>),
    Exited(ChildId, u64, Arc<ExitCause>),
    Retry(ChildId, u64),
    StartChild(ChildPolicy, Token),
    TerminateChild(ChildId, Token),
    RestartChild(ChildId, Token),
    DeleteChild(ChildId, Token),
}

#[derive(Debug)]
pub(crate) enum Effect {
    /// The spec that came with this command is the child's from now on.
    Adopt(ChildId, Token),
    /// Start this generation; report `Started` or `StartFailed`.
    Start(ChildId, u64),
    /// Stop this generation; report `Exited`.
    Stop(ChildId, u64, Shutdown),
    /// Report `Retry` once everything already queued has been handled.
    Retry(ChildId, u64),
    /// The child stays down until somebody asks for it.
    Parked(ChildId, u64, Arc<ExitCause>),
    /// The spec is gone.
    Removed(ChildId),
    Answer(Token, Result<(), Refusal>),
    /// Stop every child in reverse start order and end with this.
    GiveUp(Arc<ExitCause>),
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
    /// A child of that name is known but stopped: restart or delete it.
    #[error("child `{0}` is already present, stopped")]
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
}

#[derive(Debug)]
enum Phase {
    Stopped,
    /// `answer`: who asked for the start; `None` for a restart by the supervisor itself.
    Starting {
        origin: Origin,
        stop_for: Vec<Token>,
    },
    Running,
    /// The last attempt failed; a `Retry` is on its way.
    Waiting,
    Stopping {
        tokens: Vec<Token>,
    },
    /// Ended while a group operation had the floor; dealt with after it.
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    New(Token),
    Asked(Token),
    Restart,
    Group,
}

#[derive(Debug)]
struct Entry {
    policy: ChildPolicy,
    generation: u64,
    phase: Phase,
    last_exit: Option<Arc<ExitCause>>,
}

impl Entry {
    fn temporary(&self) -> bool {
        self.policy.restart == Restart::Temporary
    }
}

/// One step of a group restart.
#[derive(Debug)]
enum Task {
    Stop(ChildId),
    Start(ChildId),
}

#[derive(Debug)]
pub(crate) struct Plan {
    strategy: Strategy,
    window: Window,
    children: Vec<Entry>,
    agenda: VecDeque<Task>,
    deferred: VecDeque<Event>,
    over: bool,
}

impl Plan {
    pub(crate) fn new(strategy: Strategy, intensity: Intensity) -> Self {
        Self {
            strategy,
            window: Window::new(intensity),
            children: Vec::new(),
            agenda: VecDeque::new(),
            deferred: VecDeque::new(),
            over: false,
        }
    }

    /// Takes in a child that the supervisor's own start has brought up already.
    pub(crate) fn adopt(&mut self, policy: ChildPolicy) {
        self.children.push(Entry {
            policy,
            generation: 1,
            phase: Phase::Running,
            last_exit: None,
        });
    }

    /// Ids in start order.
    pub(crate) fn order(&self) -> Vec<ChildId> {
        self.children.iter().map(|e| e.policy.id.clone()).collect()
    }

    pub(crate) fn children(&self) -> impl Iterator<Item = (&ChildPolicy, u64, ChildState)> {
        self.children.iter().map(|entry| {
            let state = match &entry.phase {
                Phase::Stopped => ChildState::Stopped,
                Phase::Starting {
                    origin: Origin::New(_) | Origin::Asked(_),
                    ..
                } => ChildState::Starting,
                Phase::Starting { .. } | Phase::Waiting | Phase::Dead => ChildState::Restarting,
                Phase::Running => ChildState::Running,
                Phase::Stopping { .. } => ChildState::Stopping,
            };
            (&entry.policy, entry.generation, state)
        })
    }

    pub(crate) fn step(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.over {
            return effects;
        }
        self.dispatch(event, now, &mut effects);
        // What waited for a group operation gets its turn when that is done, oldest first.
        while self.agenda.is_empty() && !self.over {
            let Some(event) = self.deferred.pop_front() else {
                break;
            };
            self.dispatch(event, now, &mut effects);
        }
        effects
    }

    fn dispatch(&mut self, event: Event, now: Duration, effects: &mut Vec<Effect>) {
        let busy = !self.agenda.is_empty();
        match event {
            Event::Started(id, generation) => self.started(&id, generation, effects),
            Event::StartFailed(id, generation, cause) => {
                self.start_failed(&id, generation, cause, effects);
            }
            Event::Exited(id, generation, cause) => {
                self.exited(&id, generation, cause, now, busy, effects);
            }
            deferred if busy => {
                self.deferred.push_back(deferred);
                return;
            }
            Event::Retry(id, generation) => self.retry(&id, generation, now, effects),
            Event::StartChild(policy, token) => self.start_child(policy, token, effects),
            Event::TerminateChild(id, token) => self.terminate(&id, token, effects),
            Event::RestartChild(id, token) => self.restart_child(&id, token, effects),
            Event::DeleteChild(id, token) => self.delete(&id, token, effects),
        }
        self.proceed(effects);
    }

    fn started(&mut self, id: &ChildId, generation: u64, effects: &mut Vec<Effect>) {
        let Some(entry) = self.entry(id, generation) else {
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
        if tokens.is_empty() {
            entry.phase = Phase::Running;
        } else {
            // Somebody asked to terminate it while it was on its way up.
            entry.phase = Phase::Stopping { tokens };
            effects.push(Effect::Stop(id.clone(), generation, entry.policy.shutdown));
        }
    }

    fn start_failed(
        &mut self,
        id: &ChildId,
        generation: u64,
        cause: Arc<ExitCause>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.entry(id, generation) else {
            return;
        };
        let Phase::Starting { origin, stop_for } = &mut entry.phase else {
            return;
        };
        let origin = *origin;
        let stop_for = std::mem::take(stop_for);
        match origin {
            Origin::New(token) => {
                self.remove(id, effects);
                effects.push(Effect::Answer(
                    token,
                    Err(Refusal::StartFailed(id.clone(), cause)),
                ));
            }
            Origin::Asked(token) => {
                entry.phase = Phase::Stopped;
                effects.push(Effect::Parked(id.clone(), generation, Arc::clone(&cause)));
                effects.push(Effect::Answer(
                    token,
                    Err(Refusal::StartFailed(id.clone(), cause)),
                ));
            }
            Origin::Restart | Origin::Group if stop_for.is_empty() => {
                entry.phase = Phase::Waiting;
                entry.last_exit = Some(cause);
                // The rest of a group operation is dropped: the retry does it again from here.
                self.agenda.clear();
                effects.push(Effect::Retry(id.clone(), generation));
            }
            Origin::Restart | Origin::Group => {
                entry.phase = Phase::Stopped;
                effects.push(Effect::Parked(id.clone(), generation, cause));
                self.drop_if_temporary(id, effects);
            }
        }
        for token in stop_for {
            effects.push(Effect::Answer(token, Ok(())));
        }
    }

    fn exited(
        &mut self,
        id: &ChildId,
        generation: u64,
        cause: Arc<ExitCause>,
        now: Duration,
        busy: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.entry(id, generation) else {
            return;
        };
        match &mut entry.phase {
            Phase::Stopping { tokens } => {
                let tokens = std::mem::take(tokens);
                entry.phase = Phase::Stopped;
                if !busy {
                    effects.push(Effect::Parked(id.clone(), generation, cause));
                }
                self.drop_if_temporary(id, effects);
                effects.extend(tokens.into_iter().map(|t| Effect::Answer(t, Ok(()))));
            }
            Phase::Running if busy => {
                entry.phase = Phase::Dead;
                self.deferred
                    .push_back(Event::Exited(id.clone(), generation, cause));
            }
            Phase::Running | Phase::Dead => self.died(id, cause, now, effects),
            Phase::Stopped | Phase::Starting { .. } | Phase::Waiting => {}
        }
    }

    /// A child ended that nobody had asked to.
    fn died(
        &mut self,
        id: &ChildId,
        cause: Arc<ExitCause>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.children.iter_mut().find(|e| e.policy.id == *id) else {
            return;
        };
        let again = match entry.policy.restart {
            Restart::Permanent => true,
            Restart::Transient => cause.is_abnormal(),
            Restart::Temporary => false,
        };
        if again {
            entry.phase = Phase::Waiting;
            entry.last_exit = Some(cause);
            self.restart(id, now, effects);
        } else {
            entry.phase = Phase::Stopped;
            effects.push(Effect::Parked(id.clone(), entry.generation, cause));
            self.drop_if_temporary(id, effects);
        }
    }

    fn retry(&mut self, id: &ChildId, generation: u64, now: Duration, effects: &mut Vec<Effect>) {
        let waiting = self
            .entry(id, generation)
            .is_some_and(|e| matches!(e.phase, Phase::Waiting));
        if waiting {
            self.restart(id, now, effects);
        }
    }

    fn restart(&mut self, id: &ChildId, now: Duration, effects: &mut Vec<Effect>) {
        let Some(position) = self.children.iter().position(|e| e.policy.id == *id) else {
            return;
        };
        if !self.window.allow(now) {
            let Intensity { restarts, period } = self.window.limit();
            let last_exit = self
                .children
                .get(position)
                .and_then(|e| e.last_exit.clone());
            self.over = true;
            effects.push(Effect::GiveUp(Arc::new(ExitCause::Escalated {
                child: id.clone(),
                intensity: restarts,
                period,
                cause: last_exit.unwrap_or_else(|| Arc::new(ExitCause::Shutdown)),
            })));
            return;
        }
        let first = match self.strategy {
            Strategy::OneForOne => {
                self.begin_start(id, Origin::Restart, effects);
                return;
            }
            Strategy::OneForAll => 0,
            Strategy::RestForOne => position,
        };
        let group: Vec<ChildId> = self
            .children
            .iter()
            .skip(first)
            .map(|e| e.policy.id.clone())
            .collect();
        self.agenda
            .extend(group.iter().rev().cloned().map(Task::Stop));
        self.agenda.extend(group.into_iter().map(Task::Start));
    }

    /// Works the agenda as far as it goes without waiting.
    fn proceed(&mut self, effects: &mut Vec<Effect>) {
        while let Some(task) = self.agenda.front() {
            let (id, stop) = match task {
                Task::Stop(id) => (id.clone(), true),
                Task::Start(id) => (id.clone(), false),
            };
            let Some(entry) = self.children.iter_mut().find(|e| e.policy.id == id) else {
                self.agenda.pop_front();
                continue;
            };
            let generation = entry.generation;
            match (&entry.phase, stop) {
                // Still on its way up or down: wait for the report.
                (Phase::Starting { .. } | Phase::Stopping { .. }, _) => return,
                (Phase::Running, true) => {
                    entry.phase = Phase::Stopping { tokens: Vec::new() };
                    effects.push(Effect::Stop(id, generation, entry.policy.shutdown));
                    return;
                }
                (Phase::Stopped | Phase::Waiting | Phase::Dead, true) => {
                    entry.phase = Phase::Stopped;
                    self.agenda.pop_front();
                    self.drop_if_temporary(&id, effects);
                }
                (Phase::Running, false) => {
                    self.agenda.pop_front();
                }
                (Phase::Stopped | Phase::Waiting | Phase::Dead, false) => {
                    // Stays at the front until `Started` makes it Running.
                    self.begin_start(&id, Origin::Group, effects);
                    return;
                }
            }
        }
    }

    fn start_child(&mut self, policy: ChildPolicy, token: Token, effects: &mut Vec<Effect>) {
        let id = policy.id.clone();
        if let Some(entry) = self.children.iter().find(|e| e.policy.id == id) {
            let refusal = match entry.phase {
                Phase::Stopped => Refusal::AlreadyPresent(id),
                _ => Refusal::AlreadyStarted(id),
            };
            effects.push(Effect::Answer(token, Err(refusal)));
            return;
        }
        self.children.push(Entry {
            policy,
            generation: 0,
            phase: Phase::Stopped,
            last_exit: None,
        });
        effects.push(Effect::Adopt(id.clone(), token));
        self.begin_start(&id, Origin::New(token), effects);
    }

    fn terminate(&mut self, id: &ChildId, token: Token, effects: &mut Vec<Effect>) {
        let Some(entry) = self.children.iter_mut().find(|e| e.policy.id == *id) else {
            effects.push(Effect::Answer(token, Err(Refusal::NotFound(id.clone()))));
            return;
        };
        match &mut entry.phase {
            Phase::Stopped => effects.push(Effect::Answer(token, Ok(()))),
            Phase::Waiting | Phase::Dead => {
                // Outdates the retry that is on its way.
                entry.generation += 1;
                entry.phase = Phase::Stopped;
                effects.push(Effect::Parked(
                    id.clone(),
                    entry.generation,
                    Arc::new(ExitCause::Shutdown),
                ));
                self.drop_if_temporary(id, effects);
                effects.push(Effect::Answer(token, Ok(())));
            }
            Phase::Running => {
                let effect = Effect::Stop(id.clone(), entry.generation, entry.policy.shutdown);
                entry.phase = Phase::Stopping {
                    tokens: vec![token],
                };
                effects.push(effect);
            }
            Phase::Starting { stop_for, .. } => stop_for.push(token),
            Phase::Stopping { tokens } => tokens.push(token),
        }
    }

    fn restart_child(&mut self, id: &ChildId, token: Token, effects: &mut Vec<Effect>) {
        let refusal = match self.phase_of(id) {
            None => Refusal::NotFound(id.clone()),
            Some(Phase::Stopped) => {
                self.begin_start(id, Origin::Asked(token), effects);
                return;
            }
            Some(Phase::Running) => Refusal::Running(id.clone()),
            Some(_) => Refusal::Restarting(id.clone()),
        };
        effects.push(Effect::Answer(token, Err(refusal)));
    }

    fn delete(&mut self, id: &ChildId, token: Token, effects: &mut Vec<Effect>) {
        let answer = match self.phase_of(id) {
            None => Err(Refusal::NotFound(id.clone())),
            Some(Phase::Stopped) => {
                self.remove(id, effects);
                Ok(())
            }
            Some(Phase::Running) => Err(Refusal::Running(id.clone())),
            Some(_) => Err(Refusal::Restarting(id.clone())),
        };
        effects.push(Effect::Answer(token, answer));
    }

    fn begin_start(&mut self, id: &ChildId, origin: Origin, effects: &mut Vec<Effect>) {
        if let Some(entry) = self.children.iter_mut().find(|e| e.policy.id == *id) {
            entry.generation += 1;
            entry.phase = Phase::Starting {
                origin,
                stop_for: Vec::new(),
            };
            effects.push(Effect::Start(id.clone(), entry.generation));
        }
    }

    fn drop_if_temporary(&mut self, id: &ChildId, effects: &mut Vec<Effect>) {
        if self
            .children
            .iter()
            .any(|e| e.policy.id == *id && e.temporary())
        {
            self.remove(id, effects);
        }
    }

    fn remove(&mut self, id: &ChildId, effects: &mut Vec<Effect>) {
        self.children.retain(|e| e.policy.id != *id);
        effects.push(Effect::Removed(id.clone()));
    }

    fn phase_of(&self, id: &ChildId) -> Option<&Phase> {
        self.children
            .iter()
            .find(|e| e.policy.id == *id)
            .map(|e| &e.phase)
    }

    /// The entry, if the report is about its current generation.
    fn entry(&mut self, id: &ChildId, generation: u64) -> Option<&mut Entry> {
        self.children
            .iter_mut()
            .find(|e| e.policy.id == *id && e.generation == generation)
    }
}

#[cfg(test)]
mod tests;
