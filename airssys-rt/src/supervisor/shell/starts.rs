//! How children come up.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ractor::{ActorCell, ActorProcessingErr, ActorRef};
use tracing::Instrument;

use super::super::errand::{Bound, Errand};
use super::super::incarnation::{attempt, within};
use super::super::message::{Finished, StartedChild, SupervisorMessage};
use super::super::plan::Event;
use super::{Life, Live, State, Ward, report};
use crate::{
    Change, Child, ChildId, ChildKind, ChildSpec, ExitCause, Intensity, Probe, Restart, Running,
    StartContext, Started, TaskEnd, TaskLimit, TaskRegistry, Tree,
};

/// A child whose start has held the supervisor's task for longer than this is started beside it
/// from then on.
const OWN_TASK_LIMIT: Duration = Duration::from_millis(1);

/// A start that is under way.
pub(super) struct Start {
    pub(super) generation: u64,
    pub(super) work: Errand<Result<Started, ExitCause>>,
}

impl<E: Clone + Send + Sync + 'static> State<E> {
    /// One child of the supervisor's own start: a failure ends the supervisor.
    pub(super) async fn start_in_order(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        spec: ChildSpec<E>,
    ) -> Result<(), ExitCause> {
        let id = spec.policy.id.clone();
        let span = self.span(&id, 1);
        let attempt = attempt(
            &spec.child,
            context(
                &self.name,
                self.flags.intensity,
                &self.tree,
                myself,
                &spec,
                1,
            ),
        );
        let outcome = within(&spec.policy, attempt).instrument(span).await;
        match outcome {
            Ok(started) => {
                let running = matches!(started, Started::Running(_));
                let temporary = spec.policy.restart == Restart::Temporary;
                if !running {
                    self.tell(&id, 1, Change::Ignored);
                    spec.child.stopped(&id, &Arc::new(ExitCause::Normal));
                    if temporary {
                        spec.child.removed(&id);
                        return Ok(());
                    }
                }
                self.plan.adopt(Arc::clone(&spec.policy), running);
                self.wards.insert(id.clone(), Ward::new(spec));
                if let Started::Running(running) = started {
                    self.run(myself, &id, 1, running);
                }
                Ok(())
            }
            Err(cause) => {
                let cause = Arc::new(cause);
                self.tell_start_failed(&id, 1, &cause);
                Err(ExitCause::ChildStart { child: id, cause })
            }
        }
    }

    /// Starts a child. Most starts are over with their first poll; what is not goes on off this
    /// task, so that a slow start delays nobody else.
    pub(super) fn begin_start(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        id: ChildId,
        generation: u64,
    ) {
        let span = self.span(&id, generation);
        let Some(ward) = self.wards.get_mut(&id) else {
            return;
        };
        ward.timer = None;
        let spec = &ward.spec;
        let context = context(
            &self.name,
            self.flags.intensity,
            &self.tree,
            myself,
            spec,
            generation,
        );
        let mut attempt = Box::pin(attempt(&spec.child, context));
        if !ward.slow {
            let mut nobody = Context::from_waker(Waker::noop());
            let first = span.in_scope(|| attempt.as_mut().poll(&mut nobody));
            if let Poll::Ready(outcome) = first {
                self.settled.push_back((id, generation, outcome));
                return;
            }
        }
        let policy = Arc::clone(&spec.policy);
        self.note_if_slow(&id);
        let (told, name) = (myself.clone(), id.clone());
        let work = async move {
            let outcome = within(&policy, attempt).await;
            report(&told, Finished::Start(name, generation));
            outcome
        };
        let work = Errand::begin(&self.tree.tasks, "start", work.instrument(span));
        if work.is_own() {
            report(myself, Finished::Start(id.clone(), generation));
        }
        self.put_on_way_up(&id, Start { generation, work });
    }

    pub(super) fn put_on_way_up(&mut self, id: &ChildId, start: Start) {
        if let Some(ward) = self.wards.get_mut(id) {
            ward.life = Life::Starting(start);
            self.starting += 1;
        }
    }

    /// Whether the first poll of a start held the supervisor's task too long.
    pub(super) fn note_if_slow(&mut self, id: &ChildId) {
        let now = self.began.elapsed();
        if now.saturating_sub(self.now) > OWN_TASK_LIMIT
            && let Some(ward) = self.wards.get_mut(id)
        {
            ward.slow = true;
        }
        self.now = now;
    }

    pub(super) async fn start_finished(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        id: ChildId,
        generation: u64,
    ) -> Result<(), ActorProcessingErr> {
        let Some(ward) = self.wards.get_mut(&id) else {
            return Ok(());
        };
        let outcome = match &mut ward.life {
            // It stays there meanwhile: a supervisor that is killed leaves it to be joined.
            Life::Starting(start) if start.generation == generation => start.outcome().await,
            _ => return Ok(()),
        };
        ward.life = Life::Down;
        self.starting -= 1;
        if outcome.is_err() && ward.spec.policy.kind == ChildKind::Supervisor {
            // Killed on its way up, it has left what it had brought up by then.
            self.cell.leave(ward.spec.child.join());
        }
        let actor = match &outcome {
            Ok(Started::Running(running)) => Some(running.actor.get_id()),
            _ => None,
        };
        let ended = actor.and_then(|actor| Some((actor, self.early.remove(&actor)?)));
        if self.starting == 0 {
            self.early.clear();
        }
        let event = self.settle(myself, id, generation, outcome);
        self.apply(myself, event).await?;
        match ended {
            Some((actor, cause)) => self.child_ended(myself, actor, cause).await,
            None => Ok(()),
        }
    }

    /// Takes note of how a start ended.
    pub(super) fn settle(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        id: ChildId,
        generation: u64,
        outcome: Result<Started, ExitCause>,
    ) -> Event {
        match outcome {
            Ok(Started::Running(running)) => {
                self.run(myself, &id, generation, running);
                Event::Started(id, generation)
            }
            Ok(Started::Ignored) => {
                self.tell(&id, generation, Change::Ignored);
                Event::Ignored(id, generation)
            }
            Err(cause) => {
                let cause = Arc::new(cause);
                self.tell_start_failed(&id, generation, &cause);
                Event::StartFailed(id, generation, cause)
            }
        }
    }

    /// Takes note of an incarnation that runs.
    pub(super) fn run(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        id: &ChildId,
        generation: u64,
        running: Running,
    ) {
        let span = self.span(id, generation);
        let Some(ward) = self.wards.get_mut(id) else {
            return;
        };
        let spec = &mut ward.spec;
        if spec.policy.restart == Restart::Temporary {
            spec.argument = None;
        }
        let child = Arc::clone(&spec.child);
        let recovery = child.recovery(id);
        span.in_scope(|| tracing::debug!(?recovery, "child started"));
        self.by_actor.insert(running.actor.get_id(), id.clone());
        let tasks = &self.tree.tasks;
        let probe = spec.policy.probe;
        let probe =
            probe.and_then(|probe| ask_for_life(tasks, myself, id, generation, probe, &child));
        ward.life = Life::Running(Live {
            generation,
            running,
            child,
            span,
            probe,
        });
        self.tell(id, generation, Change::Started { recovery });
    }

    pub(super) fn set_timer(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        id: ChildId,
        generation: u64,
        delay: Duration,
    ) {
        let (told, name) = (myself.clone(), id.clone());
        let waiting = async move {
            tokio::time::sleep(delay).await;
            report(&told, Finished::Due(name, generation));
        };
        let limit = TaskLimit::Timeout(delay.saturating_add(crate::DEFAULT_TASK_TIMEOUT));
        let timer = Bound::begin(&self.tree.tasks, limit, "timer", waiting);
        if let Some(ward) = self.wards.get_mut(&id) {
            ward.timer = timer;
        }
    }

    pub(super) fn started_child(&self, id: ChildId) -> StartedChild {
        let ward = self.wards.get(&id);
        if let Some(Life::Running(live)) = ward.map(|ward| &ward.life) {
            return StartedChild {
                generation: live.generation,
                actor: Some(live.running.actor.clone()),
                info: live.running.info.clone(),
                id,
            };
        }
        let known = self.plan.child(&id);
        StartedChild {
            generation: known.map_or(0, |(_, generation, _)| generation),
            actor: None,
            info: None,
            id,
        }
    }
}

fn ask_for_life<E: Clone + Send + Sync + 'static>(
    tasks: &TaskRegistry,
    myself: &ActorRef<SupervisorMessage<E>>,
    id: &ChildId,
    generation: u64,
    probe: Probe,
    child: &Arc<dyn Child<E>>,
) -> Option<Bound> {
    let (myself, id, child) = (myself.clone(), id.clone(), Arc::clone(child));
    let asking = async move {
        let mut missed = 0;
        while missed < probe.misses {
            tokio::time::sleep(probe.interval).await;
            let answer = tokio::time::timeout(probe.timeout, child.probe(&id)).await;
            missed = if answer == Ok(true) { 0 } else { missed + 1 };
        }
        let cause = ExitCause::Unresponsive {
            misses: probe.misses,
            timeout: probe.timeout,
        };
        report(&myself, Finished::Unresponsive(id, generation, cause));
    };
    // It lasts as long as the incarnation it asks.
    Bound::begin(tasks, TaskLimit::Unlimited, "probe", asking)
}

fn context<E: Clone + Send + Sync + 'static>(
    supervisor_name: &ChildId,
    intensity: Intensity,
    tree: &Tree<E>,
    myself: &ActorRef<SupervisorMessage<E>>,
    spec: &ChildSpec<E>,
    generation: u64,
) -> StartContext<E> {
    StartContext {
        supervisor: ActorCell::from(myself.clone()),
        supervisor_name: supervisor_name.clone(),
        id: spec.policy.id.clone(),
        generation,
        policy: Arc::clone(&spec.policy),
        intensity,
        argument: spec.argument.clone(),
        tree: tree.clone(),
    }
}

impl Start {
    /// What the start came to; a task that was cut off has failed.
    pub(super) async fn outcome(&mut self) -> Result<Started, ExitCause> {
        match self.work.outcome().await {
            TaskEnd::Finished(outcome) => outcome,
            TaskEnd::Panicked { message } => Err(ExitCause::HostPanic {
                entry: None,
                message,
            }),
            TaskEnd::TimedOut | TaskEnd::Aborted => Err(ExitCause::Killed),
        }
    }
}
