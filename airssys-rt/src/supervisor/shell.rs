//! The ractor shell: carries the plan's effects out and reports back to it.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use ractor::SupervisionEvent;
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::Instant;

use super::incarnation::{start, stop};
use super::message::{ChildCounts, ChildStatus, Finished, Report, SupervisorMessage};
use super::plan::{ChildState, Effect, Event, Plan, Refusal, Token};
use super::reference::SupervisorCell;
use super::spec::SupervisorSpec;
use crate::{
    Change, ChildId, ChildKind, ChildSpec, Events, ExitCause, LifecycleEvent, Running, StartContext,
};

type StartOutcome = Arc<Mutex<Option<Result<Running, ExitCause>>>>;

#[derive(Debug)]
struct Start {
    generation: u64,
    task: JoinHandle<()>,
    outcome: StartOutcome,
}

#[derive(Debug)]
struct Live {
    generation: u64,
    running: Running,
}

/// A supervisor: a ractor actor whose children restart as its [`SupervisorSpec`] says.
#[derive(Debug)]
pub(crate) struct Supervisor<E>(PhantomData<fn(E)>);

impl<E> Default for Supervisor<E> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

pub(crate) struct Arguments<E: Clone + Send + Sync + 'static> {
    pub(crate) spec: SupervisorSpec<E>,
    pub(crate) environment: E,
    pub(crate) events: Events,
}

pub(crate) struct State<E: Clone + Send + Sync + 'static> {
    name: ChildId,
    environment: E,
    events: Events,
    cell: Arc<SupervisorCell<E>>,
    plan: Plan,
    specs: HashMap<ChildId, ChildSpec<E>>,
    /// Specs of start commands that have not been decided yet.
    offered: HashMap<Token, ChildSpec<E>>,
    live: HashMap<ChildId, Live>,
    by_actor: HashMap<ActorId, ChildId>,
    starting: HashMap<ChildId, Start>,
    /// Exits of children whose start has not been reported yet.
    early: HashMap<ActorId, ExitCause>,
    stopping: HashMap<ActorId, (ChildId, JoinHandle<()>, Option<ExitCause>)>,
    answers: HashMap<Token, RpcReplyPort<Result<(), Refusal>>>,
    next_token: Token,
    began: Instant,
}

impl<E: Clone + Send + Sync + 'static> Actor for Supervisor<E> {
    type Msg = SupervisorMessage<E>;
    type State = State<E>;
    type Arguments = Arguments<E>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Arguments<E>,
    ) -> Result<State<E>, ActorProcessingErr> {
        let Arguments {
            spec,
            environment,
            events,
        } = arguments;
        let mut state = State {
            name: spec.name.clone(),
            environment,
            events,
            cell: Arc::clone(&spec.cell),
            plan: Plan::new(spec.strategy, spec.intensity),
            specs: HashMap::new(),
            offered: HashMap::new(),
            live: HashMap::new(),
            by_actor: HashMap::new(),
            starting: HashMap::new(),
            early: HashMap::new(),
            stopping: HashMap::new(),
            answers: HashMap::new(),
            next_token: 0,
            began: Instant::now(),
        };
        for child in spec.children {
            if let Err(cause) = state.start_in_order(&myself, child).await {
                let cause = Arc::new(cause);
                state.stop_all(&cause).await;
                return Err(Box::new((*cause).clone()));
            }
        }
        state.cell.started(myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State<E>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::StartChild(spec, reply) => {
                let token = state.token(reply);
                let policy = spec.policy.clone();
                state.offered.insert(token, spec);
                state.apply(&myself, Event::StartChild(policy, token)).await
            }
            SupervisorMessage::TerminateChild(id, reply) => {
                let token = state.token(reply);
                state.apply(&myself, Event::TerminateChild(id, token)).await
            }
            SupervisorMessage::RestartChild(id, reply) => {
                let token = state.token(reply);
                state.apply(&myself, Event::RestartChild(id, token)).await
            }
            SupervisorMessage::DeleteChild(id, reply) => {
                let token = state.token(reply);
                state.apply(&myself, Event::DeleteChild(id, token)).await
            }
            SupervisorMessage::WhichChildren(reply) => {
                reply.send(state.statuses()).ok();
                Ok(())
            }
            SupervisorMessage::WhichChild(id, reply) => {
                let found = state.statuses().into_iter().find(|s| s.id == id);
                reply.send(found).ok();
                Ok(())
            }
            SupervisorMessage::CountChildren(reply) => {
                reply.send(state.counts()).ok();
                Ok(())
            }
            SupervisorMessage::GetChildSpec(id, reply) => {
                reply.send(state.specs.get(&id).cloned()).ok();
                Ok(())
            }
            SupervisorMessage::Stop => {
                myself.stop(None);
                Ok(())
            }
            SupervisorMessage::Report(Report(finished)) => state.finished(&myself, finished).await,
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut State<E>,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, cause) = match event {
            SupervisionEvent::ActorFailed(actor, error) => (actor, ExitCause::from(error)),
            // ractor reports a kill as a termination without a state.
            SupervisionEvent::ActorTerminated(actor, None, _) => (actor, ExitCause::Killed),
            SupervisionEvent::ActorTerminated(actor, Some(_), _) => (actor, ExitCause::Normal),
            _ => return Ok(()),
        };
        state.child_ended(&myself, actor.get_id(), cause).await
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut State<E>,
    ) -> Result<(), ActorProcessingErr> {
        state.stop_all(&Arc::new(ExitCause::Shutdown)).await;
        Ok(())
    }
}

impl<E: Clone + Send + Sync + 'static> State<E> {
    /// One child of the supervisor's own start: a failure ends the supervisor.
    async fn start_in_order(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        spec: ChildSpec<E>,
    ) -> Result<(), ExitCause> {
        let id = spec.policy.id.clone();
        if self.specs.contains_key(&id) {
            return Err(ExitCause::ChildStart {
                child: id.clone(),
                cause: Arc::new(ExitCause::Failed {
                    source: Arc::new(Refusal::AlreadyStarted(id)),
                }),
            });
        }
        let context = self.context(myself, 1);
        match start(&spec, context).await {
            Ok(running) => {
                self.plan.adopt(spec.policy.clone());
                self.specs.insert(id.clone(), spec);
                self.run(&id, 1, running);
                Ok(())
            }
            Err(cause) => {
                let cause = Arc::new(cause);
                self.tell_start_failed(&id, 1, &cause);
                Err(ExitCause::ChildStart { child: id, cause })
            }
        }
    }

    async fn apply(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        event: Event,
    ) -> Result<(), ActorProcessingErr> {
        let effects = self.plan.step(event, self.began.elapsed());
        for effect in effects {
            match effect {
                Effect::Adopt(id, token) => {
                    if let Some(spec) = self.offered.remove(&token) {
                        self.specs.insert(id, spec);
                    }
                }
                Effect::Start(id, generation) => self.begin_start(myself, &id, generation),
                Effect::Stop(id, generation, shutdown) => {
                    self.begin_stop(myself, &id, generation, shutdown);
                }
                Effect::Retry(id, generation) => {
                    let retry = Report(Finished::Retry(id, generation));
                    myself.send_message(SupervisorMessage::Report(retry)).ok();
                }
                Effect::Parked(id, generation, cause) => {
                    if let Some(spec) = self.specs.get(&id) {
                        spec.child.stopped(&cause);
                    }
                    self.tell(&id, generation, Change::Stopped);
                }
                Effect::Removed(id) => {
                    if let Some(spec) = self.specs.remove(&id) {
                        spec.child.stopped(&Arc::new(ExitCause::Shutdown));
                        spec.child.removed();
                    }
                }
                Effect::Answer(token, answer) => {
                    self.offered.remove(&token);
                    if let Some(reply) = self.answers.remove(&token) {
                        reply.send(answer).ok();
                    }
                }
                Effect::GiveUp(cause) => return self.give_up(cause).await,
            }
        }
        Ok(())
    }

    async fn give_up(&mut self, cause: Arc<ExitCause>) -> Result<(), ActorProcessingErr> {
        tracing::error!(supervisor = %self.name, %cause, "supervisor gives up");
        self.tell(
            &self.name,
            0,
            Change::Escalated {
                cause: Arc::clone(&cause),
            },
        );
        self.stop_all(&cause).await;
        self.cell.gave_up(&cause);
        Err(Box::new((*cause).clone()))
    }

    /// Starts a child off this task, so that a slow start delays nobody else.
    fn begin_start(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        id: &ChildId,
        generation: u64,
    ) {
        let Some(spec) = self.specs.get(id).cloned() else {
            return;
        };
        let context = self.context(myself, generation);
        let outcome = StartOutcome::default();
        let task = tokio::spawn({
            let (outcome, myself, id) = (Arc::clone(&outcome), myself.clone(), id.clone());
            async move {
                let result = start(&spec, context).await;
                *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                let report = Report(Finished::Start(id, generation));
                // A supervisor that has ended takes the outcome in `stop_all`.
                myself.send_message(SupervisorMessage::Report(report)).ok();
            }
        });
        self.starting.insert(
            id.clone(),
            Start {
                generation,
                task,
                outcome,
            },
        );
    }

    fn begin_stop(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        id: &ChildId,
        generation: u64,
        shutdown: crate::Shutdown,
    ) {
        let Some(live) = self.live.remove(id) else {
            return;
        };
        let actor = live.running.actor;
        let actor_id = actor.get_id();
        self.by_actor.remove(&actor_id);
        let task = tokio::spawn({
            let (myself, id) = (myself.clone(), id.clone());
            async move {
                let cause = stop(&actor, live.running.handle, shutdown).await;
                let report = Report(Finished::Stop(id, generation, actor_id, cause));
                myself.send_message(SupervisorMessage::Report(report)).ok();
            }
        });
        self.stopping.insert(actor_id, (id.clone(), task, None));
    }

    async fn finished(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        finished: Finished,
    ) -> Result<(), ActorProcessingErr> {
        match finished {
            Finished::Start(id, generation) => {
                let current = self
                    .starting
                    .get(&id)
                    .is_some_and(|start| start.generation == generation);
                let Some(start) = current.then(|| self.starting.remove(&id)).flatten() else {
                    return Ok(());
                };
                match start.take() {
                    Some(Ok(running)) => {
                        let actor = running.actor.get_id();
                        let ended = self.early.remove(&actor);
                        if self.starting.is_empty() {
                            self.early.clear();
                        }
                        self.run(&id, generation, running);
                        self.apply(myself, Event::Started(id, generation)).await?;
                        match ended {
                            Some(cause) => self.child_ended(myself, actor, cause).await,
                            None => Ok(()),
                        }
                    }
                    Some(Err(cause)) => {
                        let cause = Arc::new(cause);
                        self.tell_start_failed(&id, generation, &cause);
                        self.apply(myself, Event::StartFailed(id, generation, cause))
                            .await
                    }
                    None => Ok(()),
                }
            }
            Finished::Stop(id, generation, actor, cause) => {
                let seen = self.stopping.remove(&actor).and_then(|(_, _, seen)| seen);
                let cause = Arc::new(seen.unwrap_or(cause));
                self.mourn(&id, generation, &cause);
                self.apply(myself, Event::Exited(id, generation, cause))
                    .await
            }
            Finished::Retry(id, generation) => {
                self.apply(myself, Event::Retry(id, generation)).await
            }
        }
    }

    async fn child_ended(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        actor: ActorId,
        cause: ExitCause,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(id) = self.by_actor.remove(&actor) {
            let Some(live) = self.live.remove(&id) else {
                return Ok(());
            };
            // The event comes before the actor's state is dropped; the next generation must not.
            live.running.handle.await.ok();
            let cause = Arc::new(cause);
            self.mourn(&id, live.generation, &cause);
            return self
                .apply(myself, Event::Exited(id, live.generation, cause))
                .await;
        }
        if let Some((_, _, seen)) = self.stopping.get_mut(&actor) {
            // A child that failed on its way down keeps its own reason.
            if !matches!(cause, ExitCause::Normal) {
                *seen = Some(cause);
            }
        } else if !self.starting.is_empty() {
            self.early.insert(actor, cause);
        }
        Ok(())
    }

    fn run(&mut self, id: &ChildId, generation: u64, running: Running) {
        let recovery = self.specs.get(id).and_then(|spec| spec.child.recovery());
        tracing::debug!(supervisor = %self.name, child = %id, generation, ?recovery, "child started");
        self.tell(id, generation, Change::Started { recovery });
        self.by_actor.insert(running.actor.get_id(), id.clone());
        self.live.insert(
            id.clone(),
            Live {
                generation,
                running,
            },
        );
    }

    /// Tells the child's own side and the listeners that an incarnation has ended.
    fn mourn(&self, id: &ChildId, generation: u64, cause: &Arc<ExitCause>) {
        tracing::debug!(supervisor = %self.name, child = %id, generation, %cause, "child ended");
        if let Some(spec) = self.specs.get(id) {
            spec.child.exited(generation, cause);
        }
        self.tell(
            id,
            generation,
            Change::Exited {
                cause: Arc::clone(cause),
            },
        );
    }

    /// Stops every child in reverse start order, joined, whatever state it is in.
    async fn stop_all(&mut self, cause: &Arc<ExitCause>) {
        for id in self.plan.order().into_iter().rev() {
            let stopping: Vec<ActorId> = self
                .stopping
                .iter()
                .filter(|(_, (child, _, _))| *child == id)
                .map(|(actor, _)| *actor)
                .collect();
            for actor in stopping {
                if let Some((_, task, _)) = self.stopping.remove(&actor) {
                    task.await.ok();
                }
            }
            if let Some(start) = self.starting.remove(&id) {
                let Start {
                    generation,
                    task,
                    outcome,
                } = start;
                task.await.ok();
                let outcome = outcome
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                if let Some(Ok(running)) = outcome {
                    self.live.insert(
                        id.clone(),
                        Live {
                            generation,
                            running,
                        },
                    );
                }
            }
            let Some(spec) = self.specs.get(&id).cloned() else {
                continue;
            };
            if let Some(live) = self.live.remove(&id) {
                let exit = stop(
                    &live.running.actor,
                    live.running.handle,
                    spec.policy.shutdown,
                )
                .await;
                self.mourn(&id, live.generation, &Arc::new(exit));
            }
            spec.child.stopped(cause);
        }
        self.by_actor.clear();
    }

    fn token(&mut self, reply: RpcReplyPort<Result<(), Refusal>>) -> Token {
        self.next_token += 1;
        self.answers.insert(self.next_token, reply);
        self.next_token
    }

    fn context(&self, myself: &ActorRef<SupervisorMessage<E>>, generation: u64) -> StartContext<E> {
        StartContext {
            supervisor: ActorCell::from(myself.clone()),
            generation,
            environment: self.environment.clone(),
            events: self.events.clone(),
        }
    }

    fn tell_start_failed(&self, id: &ChildId, generation: u64, cause: &Arc<ExitCause>) {
        tracing::warn!(supervisor = %self.name, child = %id, generation, %cause, "child did not start");
        self.tell(
            id,
            generation,
            Change::StartFailed {
                cause: Arc::clone(cause),
            },
        );
    }

    fn tell(&self, child: &ChildId, generation: u64, change: Change) {
        self.events.send(LifecycleEvent {
            supervisor: self.name.clone(),
            child: child.clone(),
            generation,
            change,
        });
    }

    fn statuses(&self) -> Vec<ChildStatus> {
        self.plan
            .children()
            .map(|(policy, generation, state)| ChildStatus {
                id: policy.id.clone(),
                generation,
                state,
                kind: policy.kind,
            })
            .collect()
    }

    fn counts(&self) -> ChildCounts {
        let mut counts = ChildCounts::default();
        for (policy, _, state) in self.plan.children() {
            counts.specs += 1;
            counts.active += usize::from(state == ChildState::Running);
            match policy.kind {
                ChildKind::Supervisor => counts.supervisors += 1,
                ChildKind::Worker => counts.workers += 1,
            }
        }
        counts
    }
}

impl Start {
    fn take(self) -> Option<Result<Running, ExitCause>> {
        self.outcome
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
