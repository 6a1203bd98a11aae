//! How children go down.

use std::sync::Arc;

use foldhash::HashMap;
use futures_util::future::join_all;
use ractor::{ActorId, ActorProcessingErr, ActorRef};
use tracing::Span;

use super::super::errand::{Bound, Errand};
use super::super::incarnation::stop;
use super::super::message::{Finished, SupervisorMessage};
use super::super::plan::{Event, Strategy};
use super::{Life, Start, State, Ward, report, same};
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
    /// `None`: not known yet, or it does not matter any more.
    actor: Option<ActorId>,
    child: Arc<dyn Child<E>>,
    span: Span,
    /// `None`: it was on its way up and did not come to run.
    work: Errand<Option<ExitCause>>,
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
        let Some(ward) = self.wards.get_mut(id) else {
            return;
        };
        let Some(live) = ward.take_running() else {
            return;
        };
        drop(live.probe);
        let actor = live.running.actor.get_id();
        let (told, name) = (myself.clone(), id.clone());
        let (running, joined) = (live.running, live.child.join());
        let work = async move {
            let cause = stop(running, shutdown).await;
            joined.await;
            report(&told, Finished::Stop(name, generation));
            Some(cause)
        };
        let work = Errand::begin(&self.tree.tasks, "stop", work);
        if work.is_own() {
            report(myself, Finished::Stop(id.clone(), generation));
        }
        ward.life = Life::Stopping(Box::new(Stop {
            generation,
            actor: Some(actor),
            child: live.child,
            span: live.span,
            work,
            seen: None,
        }));
    }

    pub(super) async fn finished(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        finished: Finished,
    ) -> Result<(), ActorProcessingErr> {
        match finished {
            Finished::Start(id, generation) => self.start_finished(myself, id, generation).await,
            Finished::Stop(id, generation) => {
                let Some(ward) = self.wards.get_mut(&id) else {
                    return Ok(());
                };
                match &ward.life {
                    Life::Stopping(stop) if stop.generation == generation => {
                        stop.actor.map(|actor| self.by_actor.remove(&actor));
                    }
                    _ => return Ok(()),
                }
                let Some(ended) = ward.ended().await else {
                    return Ok(());
                };
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
                let ward = self.wards.get(&id);
                if let Some(Life::Running(live)) = ward.map(|ward| &ward.life)
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
            if self.starting > 0 {
                self.early.insert(actor, cause);
            }
            return Ok(());
        };
        let Some(ward) = self.wards.get_mut(&id) else {
            return Ok(());
        };
        match &mut ward.life {
            Life::Stopping(stop) => {
                // A child that failed on its way down keeps its own reason.
                if !matches!(cause, ExitCause::Normal) {
                    stop.seen = Some(cause);
                }
                return Ok(());
            }
            // The event comes before the actor's state is dropped; the next generation must not.
            // It stays there meanwhile: a supervisor that is killed leaves it to be joined.
            Life::Running(live) => _ = (&mut live.running.handle).await,
            Life::Starting(_) | Life::Down => return Ok(()),
        }
        self.by_actor.remove(&actor);
        let Some(live) = ward.take_running() else {
            return Ok(());
        };
        if matches!(cause, ExitCause::Killed) && ward.spec.policy.kind == ChildKind::Supervisor {
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
        self.put_settled_back();
        let order = self.plan.order();
        if self.flags.strategy == Strategy::SimpleOneForOne {
            let stops = self.wards.iter_mut().map(|(id, ward)| {
                ward.put_on_way_down(ward.spec.policy.shutdown);
                async { (id.clone(), ward.ended().await) }
            });
            let mut ended: HashMap<_, _> = join_all(stops).await.into_iter().collect();
            for id in &order {
                self.put_down(id, ended.remove(id).flatten(), cause);
            }
        } else {
            for id in order.iter().rev() {
                let Some(ward) = self.wards.get_mut(id) else {
                    continue;
                };
                ward.put_on_way_down(ward.spec.policy.shutdown);
                let ended = ward.ended().await;
                self.put_down(id, ended, cause);
            }
        }
        self.starting = 0;
        self.by_actor.clear();
        self.cell.join_orphans().await;
    }

    /// Starts that the plan has not heard of are as good as under way.
    fn put_settled_back(&mut self) {
        while let Some((id, generation, outcome)) = self.settled.pop_front() {
            let work = Errand::Own(Box::pin(std::future::ready(outcome)));
            self.put_on_way_up(&id, Start { generation, work });
        }
    }

    fn put_down(&mut self, id: &ChildId, ended: Option<Ended<E>>, cause: &Arc<ExitCause>) {
        if let Some(ended) = ended {
            self.mourn(id, ended);
        }
        let Some(Ward { spec, .. }) = self.wards.get(id) else {
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
}

impl<E: Clone + Send + Sync + 'static> Ward<E> {
    /// Stops what there is of it, in place of whoever waits for that.
    fn put_on_way_down(&mut self, shutdown: Shutdown) {
        self.timer = None;
        let stop = match std::mem::replace(&mut self.life, Life::Down) {
            Life::Down => return,
            Life::Stopping(stop) => stop,
            Life::Running(live) => {
                drop(live.probe);
                let joined = live.child.join();
                let work = async move {
                    let cause = stop(live.running, shutdown).await;
                    joined.await;
                    Some(cause)
                };
                Box::new(Stop {
                    generation: live.generation,
                    actor: None,
                    child: live.child,
                    span: live.span,
                    work: Errand::Own(Box::pin(work)),
                    seen: None,
                })
            }
            Life::Starting(mut start) => {
                let (generation, joined) = (start.generation, self.spec.child.join());
                let work = async move {
                    let cause = match start.outcome().await {
                        Ok(Started::Running(running)) => Some(stop(running, shutdown).await),
                        Ok(Started::Ignored) | Err(_) => None,
                    };
                    // Also where it did not start: it may have had children by then.
                    joined.await;
                    cause
                };
                Box::new(Stop {
                    generation,
                    actor: None,
                    child: Arc::clone(&self.spec.child),
                    span: Span::current(),
                    work: Errand::Own(Box::pin(work)),
                    seen: None,
                })
            }
        };
        self.life = Life::Stopping(stop);
    }

    /// Waits for the end of what is on its way down.
    async fn ended(&mut self) -> Option<Ended<E>> {
        let Life::Stopping(stop) = &mut self.life else {
            return None;
        };
        let ended = stop.ended().await;
        self.life = Life::Down;
        ended
    }
}

impl<E> Stop<E> {
    async fn ended(&mut self) -> Option<Ended<E>> {
        let stopped = match self.work.outcome().await {
            TaskEnd::Finished(cause) => cause,
            TaskEnd::TimedOut | TaskEnd::Panicked { .. } | TaskEnd::Aborted => {
                Some(ExitCause::Killed)
            }
        };
        Some(Ended {
            generation: self.generation,
            child: Arc::clone(&self.child),
            span: self.span.clone(),
            cause: Arc::new(self.seen.take().or(stopped)?),
        })
    }
}

/// A supervisor that was killed could not stop its children: ractor has killed them, and whoever
/// comes next joins them.
impl<E: Clone + Send + Sync + 'static> Drop for State<E> {
    fn drop(&mut self) {
        self.put_settled_back();
        let killed = Arc::new(ExitCause::Killed);
        for (id, mut ward) in self.wards.drain() {
            match &ward.life {
                Life::Running(live) => {
                    live.running.actor.kill();
                    live.child.exited(&id, live.generation, &killed);
                }
                Life::Stopping(stop) => {
                    stop.child.exited(&id, stop.generation, &killed);
                }
                Life::Starting(_) | Life::Down => {}
            }
            if self.root {
                ward.spec.child.stopped(&id, &killed);
            }
            ward.put_on_way_down(Shutdown::Brutal);
            if let Life::Stopping(mut stop) = ward.life {
                self.cell.leave(Box::pin(async move {
                    stop.ended().await;
                }));
            }
        }
    }
}
