//! How children go down.

use std::sync::Arc;

use futures_util::future::join_all;
use ractor::{ActorId, ActorProcessingErr, ActorRef};
use tracing::Span;

use super::super::errand::{Bound, Errand};
use super::super::incarnation::stop;
use super::super::message::{Finished, SupervisorMessage};
use super::super::plan::{Event, Strategy};
use super::{Start, State, report, same};
use crate::{Child, ChildId, ChildKind, ExitCause, Running, Shutdown, Started, TaskEnd};

/// An incarnation that runs.
pub(super) struct Live<E> {
    pub(super) generation: u64,
    pub(super) running: Running,
    /// The child it was started from, also where the spec has another by now.
    pub(super) child: Arc<dyn Child<E>>,
    pub(super) span: Span,
    pub(super) probe: Option<Bound>,
}

/// An incarnation that is being stopped.
pub(super) struct Stop<E> {
    generation: u64,
    actor: ActorId,
    child: Arc<dyn Child<E>>,
    span: Span,
    work: Errand<ExitCause>,
    /// How it ended by itself, where it did.
    seen: Option<ExitCause>,
}

/// An incarnation that has ended.
struct Ended<E> {
    generation: u64,
    child: Arc<dyn Child<E>>,
    span: Span,
    cause: Arc<ExitCause>,
}

impl<E: Clone + Send + Sync + 'static> State<E> {
    pub(super) fn begin_stop(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        id: &ChildId,
        generation: u64,
        shutdown: Shutdown,
    ) {
        let Some(live) = self.live.remove(id) else {
            return;
        };
        let actor = live.running.actor.get_id();
        let (told, name) = (myself.clone(), id.clone());
        let (running, joined) = (live.running, live.child.join());
        let work = async move {
            let cause = stop(running, shutdown).await;
            joined.await;
            report(&told, Finished::Stop(name, generation));
            cause
        };
        let work = Errand::begin(&self.tree.tasks, "stop", work);
        if work.is_own() {
            report(myself, Finished::Stop(id.clone(), generation));
        }
        let stop = Stop {
            generation,
            actor,
            child: live.child,
            span: live.span,
            work,
            seen: None,
        };
        self.stopping.insert(id.clone(), stop);
    }

    pub(super) async fn finished(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        finished: Finished,
    ) -> Result<(), ActorProcessingErr> {
        match finished {
            Finished::Start(id, generation) => self.start_finished(myself, id, generation).await,
            Finished::Stop(id, generation) => {
                let current = |stop: &Stop<E>| stop.generation == generation;
                if !self.stopping.get(&id).is_some_and(current) {
                    return Ok(());
                }
                let Some(stop) = self.stopping.remove(&id) else {
                    return Ok(());
                };
                self.by_actor.remove(&stop.actor);
                let ended = stop.ended().await;
                let cause = Arc::clone(&ended.cause);
                self.mourn(&id, ended);
                self.apply(myself, Event::Exited(id, generation, cause))
                    .await
            }
            Finished::Retry(id, generation) => {
                self.apply(myself, Event::Retry(id, generation)).await
            }
            Finished::Due(id, generation) => self.apply(myself, Event::Due(id, generation)).await,
            Finished::Unresponsive(id, generation, cause) => {
                if let Some(live) = self.live.get(&id)
                    && live.generation == generation
                {
                    let actor = &live.running.actor;
                    self.doomed.insert(actor.get_id(), cause);
                    actor.kill();
                }
                Ok(())
            }
        }
    }

    pub(super) async fn child_ended(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        actor: ActorId,
        cause: ExitCause,
    ) -> Result<(), ActorProcessingErr> {
        let cause = self.doomed.remove(&actor).unwrap_or(cause);
        let Some(id) = self.by_actor.get(&actor).cloned() else {
            if !self.starting.is_empty() {
                self.early.insert(actor, cause);
            }
            return Ok(());
        };
        if let Some(stop) = self.stopping.get_mut(&id) {
            // A child that failed on its way down keeps its own reason.
            if !matches!(cause, ExitCause::Normal) {
                stop.seen = Some(cause);
            }
            return Ok(());
        }
        self.by_actor.remove(&actor);
        let Some(live) = self.live.remove(&id) else {
            return Ok(());
        };
        // The event comes before the actor's state is dropped; the next generation must not.
        live.running.handle.await.ok();
        if matches!(cause, ExitCause::Killed) && self.is_supervisor(&id) {
            // Its next incarnation waits for what it has left; should there be none, we do.
            self.cell.leave(live.child.join());
        }
        let (generation, cause) = (live.generation, Arc::new(cause));
        let ended = Ended {
            generation,
            child: live.child,
            span: live.span,
            cause: Arc::clone(&cause),
        };
        self.mourn(&id, ended);
        self.apply(myself, Event::Exited(id, generation, cause))
            .await
    }

    /// Tells the child's own side and the listeners that an incarnation has ended.
    fn mourn(&self, id: &ChildId, ended: Ended<E>) {
        let Ended {
            generation,
            child,
            span,
            cause,
        } = ended;
        span.in_scope(|| tracing::debug!(%cause, "child ended"));
        let dead_letter = child.exited(id, generation, &cause);
        self.tell_ended(id, generation, cause, dead_letter);
        self.let_go(id, &child);
    }

    /// Stops every child, joined, whatever state it is in: one after the other in reverse start
    /// order, those of a template all at once.
    pub(super) async fn stop_all(&mut self, cause: &Arc<ExitCause>) {
        self.timers.clear();
        self.put_settled_back();
        let order = self.plan.order();
        if self.flags.strategy == Strategy::SimpleOneForOne {
            let endings: Vec<_> = order.iter().map(|id| self.ending(id)).collect();
            let ended = join_all(endings.into_iter().map(Ending::ended)).await;
            for (id, ended) in order.iter().zip(ended) {
                self.put_down(id, ended, cause);
            }
        } else {
            for id in order.iter().rev() {
                let ended = self.ending(id).ended().await;
                self.put_down(id, ended, cause);
            }
        }
        self.by_actor.clear();
        self.cell.join_orphans().await;
    }

    fn is_supervisor(&self, id: &ChildId) -> bool {
        let child = self.plan.child(id);
        child.is_some_and(|(policy, ..)| policy.kind == ChildKind::Supervisor)
    }

    /// Starts that the plan has not heard of are as good as under way.
    fn put_settled_back(&mut self) {
        for (id, generation, outcome) in self.settled.drain(..) {
            let work = Errand::Own(Box::pin(std::future::ready(outcome)));
            self.starting.insert(id, Start { generation, work });
        }
    }

    fn put_down(&mut self, id: &ChildId, ended: Option<Ended<E>>, cause: &Arc<ExitCause>) {
        if let Some(ended) = ended {
            self.mourn(id, ended);
        }
        let Some(spec) = self.specs.get(id) else {
            return;
        };
        let initial = self.initial.get(id);
        let comes_back = initial.is_some_and(|child| same(child, &spec.child));
        if self.root {
            spec.child.stopped(id, cause);
        } else if !comes_back {
            spec.child.stopped(id, cause);
            spec.child.removed(id);
        }
    }

    fn ending(&mut self, id: &ChildId) -> Ending<E> {
        let spec = self.specs.get(id);
        Ending {
            stop: self.stopping.remove(id),
            start: self.starting.remove(id),
            live: self.live.remove(id),
            shutdown: spec.map_or(Shutdown::Brutal, |spec| spec.policy.shutdown),
            child: spec.map(|spec| Arc::clone(&spec.child)),
            span: Span::current(),
        }
    }
}

/// Whatever there is of a child when its supervisor ends.
struct Ending<E> {
    stop: Option<Stop<E>>,
    start: Option<Start>,
    live: Option<Live<E>>,
    shutdown: Shutdown,
    child: Option<Arc<dyn Child<E>>>,
    span: Span,
}

impl<E: Clone + Send + Sync + 'static> Ending<E> {
    async fn ended(self) -> Option<Ended<E>> {
        if let Some(stop) = self.stop {
            return Some(stop.ended().await);
        }
        if let Some(live) = self.live {
            drop(live.probe);
            let cause = stop(live.running, self.shutdown).await;
            live.child.join().await;
            return Some(Ended {
                generation: live.generation,
                child: live.child,
                span: live.span,
                cause: Arc::new(cause),
            });
        }
        let (start, child) = (self.start?, self.child?);
        let generation = start.generation;
        let cause = match start.outcome().await {
            Ok(Started::Running(running)) => Some(stop(running, self.shutdown).await),
            Ok(Started::Ignored) | Err(_) => None,
        };
        child.join().await;
        Some(Ended {
            generation,
            child,
            span: self.span,
            cause: Arc::new(cause?),
        })
    }
}

impl<E> Stop<E> {
    async fn ended(self) -> Ended<E> {
        let stopped = match self.work.outcome().await {
            TaskEnd::Finished(cause) => cause,
            TaskEnd::TimedOut | TaskEnd::Panicked { .. } | TaskEnd::Aborted => ExitCause::Killed,
        };
        Ended {
            generation: self.generation,
            child: self.child,
            span: self.span,
            cause: Arc::new(self.seen.unwrap_or(stopped)),
        }
    }
}

/// A supervisor that was killed could not stop its children: ractor has killed them, and whoever
/// comes next joins them.
impl<E: Clone + Send + Sync + 'static> Drop for State<E> {
    fn drop(&mut self) {
        self.put_settled_back();
        let killed = Arc::new(ExitCause::Killed);
        for (id, live) in self.live.drain() {
            live.running.actor.kill();
            live.child.exited(&id, live.generation, &killed);
            let joined = live.child.join();
            self.cell.leave(Box::pin(async move {
                live.running.handle.await.ok();
                joined.await;
            }));
        }
        for (id, stop) in self.stopping.drain() {
            stop.child.exited(&id, stop.generation, &killed);
            self.cell.leave(Box::pin(async move {
                stop.work.outcome().await;
            }));
        }
        for (id, start) in self.starting.drain() {
            let spec = self.specs.get(&id);
            let joined = spec.map(|spec| spec.child.join());
            self.cell.leave(Box::pin(async move {
                if let Ok(Started::Running(running)) = start.outcome().await {
                    running.actor.kill();
                    running.handle.await.ok();
                }
                // Also where it did not start: it may have had children by then.
                if let Some(joined) = joined {
                    joined.await;
                }
            }));
        }
        if self.root {
            for (id, spec) in &self.specs {
                spec.child.stopped(id, &killed);
            }
        }
    }
}
