//! One release in the place of another, between two calls of one actor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use airssys_rt::{Change, ExitCause, ExitKind, TaskLimit};

use super::{Serving, parking};
use crate::instance::{Instance, Outcome};
use crate::parking::Timer;
use crate::release::Release;
use crate::upgrade::{Handover, Hooks, Order, Probation, UpgradeError, Upgraded, answered};

/// What serves no more and may come back.
pub(super) struct Reserve {
    instance: Option<Instance>,
    _timer: Option<Timer>,
}

impl Serving {
    /// Carries out what is ordered, and ends a probation that is over. Between two calls.
    pub(super) async fn keep_up(&mut self) {
        if self.cell.trial().left() == Some(Duration::ZERO) {
            self.pass();
        }
        if let Some(order) = self.cell.trial().take_order() {
            // Seldom, and large.
            Box::pin(self.swap(order)).await;
        }
    }

    /// A probation that began in an earlier incarnation goes on in this one.
    pub(super) fn resume_probation(&mut self) {
        if let Some(left) = self.cell.trial().left() {
            self.reserve = Some(Box::new(Reserve {
                instance: None,
                _timer: self.timer(left),
            }));
        }
    }

    async fn swap(&mut self, order: Order) {
        let Order {
            release,
            probation,
            reply,
        } = order;
        let began = Instant::now();
        let (fresh, state_bytes) = match self.prepare(&release).await {
            Ok(prepared) => prepared,
            Err(error) => {
                reply.send(Err(error)).ok();
                return;
            }
        };
        let before = Arc::clone(&self.release);
        let old = self.instance.replace(fresh);
        self.take_up(&release);
        let upgraded = Upgraded {
            from: before.config.version.clone(),
            to: release.config.version.clone(),
            state_bytes,
            pause: began.elapsed(),
        };
        self.herald.tell_change(
            self.standing.generation,
            Change::Upgraded {
                from: upgraded.from.to_string(),
                to: upgraded.to.to_string(),
            },
        );
        self.rest();
        // One that followed another without a probation of its own is not what comes back.
        self.reserve = None;
        if probation.is_zero() {
            reply.send(Ok(upgraded)).ok();
            return;
        }
        self.cell.trial().probe(Probation {
            before,
            until: began + upgraded.pause + probation,
            upgraded,
            reply,
        });
        self.reserve = Some(Box::new(Reserve {
            instance: old,
            _timer: self.timer(probation),
        }));
    }

    /// The new release's first instance, with the state of the one that serves, and how many bytes
    /// that was.
    async fn prepare(
        &mut self,
        release: &Arc<Release>,
    ) -> Result<(Instance, Option<usize>), UpgradeError> {
        let component = self.cell.name.clone();
        let gone = || UpgradeError::NotStarted {
            component: component.clone(),
        };
        let old = Arc::clone(self.release.loaded.get().ok_or_else(gone)?);
        let new = Arc::clone(release.loaded.get().ok_or_else(gone)?);
        let (saves, restores) = (
            Hooks::of(&old.compiled.exports, &component)?,
            Hooks::of(&new.compiled.exports, &component)?,
        );
        let mut state = None;
        if let (Some(saves), Some(instance)) = (saves, &mut self.instance) {
            if restores.is_none() {
                return Err(UpgradeError::StateLost { component });
            }
            let unfit = |source| UpgradeError::State {
                component: component.clone(),
                function: Handover::Save,
                source,
            };
            match instance
                .serve(saves.save(&old).map_err(unfit)?, Instant::now())
                .await
            {
                Ok(outcome) => state = Some(answered(outcome, &component, Handover::Save)?),
                Err(cause) => {
                    // It cannot be entered again; the next call has a fresh one of the same release.
                    self.let_go();
                    return Err(UpgradeError::Ended {
                        component,
                        function: Handover::Save,
                        cause: Arc::new(cause),
                    });
                }
            }
        }
        let limiter = self.limiter(release);
        let started = self.start(release, limiter).await;
        let mut fresh = started.map_err(|cause| UpgradeError::Start {
            component: component.clone(),
            cause: Arc::new(cause),
        })?;
        if let (Some(state), Some(restores)) = (&state, restores) {
            let function = Handover::Restore;
            let call = restores
                .restore(&new, state)
                .map_err(|source| UpgradeError::State {
                    component: component.clone(),
                    function,
                    source,
                })?;
            let outcome = fresh.serve(call, Instant::now()).await;
            let outcome = outcome.map_err(|cause| UpgradeError::Ended {
                component: component.clone(),
                function,
                cause: Arc::new(cause),
            })?;
            answered(outcome, &component, function)?;
        }
        Ok((fresh, state.map(|state| state.len())))
    }

    /// The release has served long enough.
    fn pass(&mut self) {
        self.reserve = None;
        if let Some(probation) = self.cell.trial().take_probation() {
            probation.reply.send(Ok(probation.upgraded)).ok();
        }
    }

    /// Brings the release before back, if the one that ended over `cause` is on probation. The call
    /// it ended over is to be answered with what comes of that.
    pub(super) fn roll_back(&mut self, cause: ExitCause) -> Result<Outcome, ExitCause> {
        if !is_its_own_fault(cause.kind()) {
            return Err(cause);
        }
        let Some(probation) = self.cell.trial().take_probation() else {
            return Err(cause);
        };
        let cause = Arc::new(cause);
        let generation = self.standing.generation;
        self.cell.metrics.exited(generation, &cause);
        self.instance = self.reserve.take().and_then(|reserve| reserve.instance);
        self.take_up(&probation.before);
        self.herald.tell_change(
            generation,
            Change::RolledBack {
                cause: Arc::clone(&cause),
            },
        );
        let rolled_back = UpgradeError::RolledBack {
            component: self.cell.name.clone(),
            cause: Arc::clone(&cause),
        };
        probation.reply.send(Err(rolled_back)).ok();
        Ok(Outcome::Died(cause))
    }

    /// All that goes with a release, beside its instance.
    fn take_up(&mut self, release: &Arc<Release>) {
        self.release = Arc::clone(release);
        self.herald = Arc::new(self.herald.with_limits(release.limits));
        self.parking = parking(release, &self.tasks, &self.cell, self.standing.generation);
        match &self.instance {
            Some(instance) => self.cell.set_meter(instance.meter()),
            None => self.cell.clear_meter(),
        }
        self.cell.set_release(Arc::clone(release));
        if let Some(loaded) = release.loaded.get() {
            let topics = &release.config.capabilities.messaging.subscribe;
            loaded
                .reach
                .runtime
                .resubscribe(&self.cell.component, topics);
        }
    }

    /// Wakes the actor when a probation is over.
    fn timer(&self, after: Duration) -> Option<Timer> {
        let (cell, generation) = (Arc::clone(&self.cell), self.standing.generation);
        let wake = async move {
            tokio::time::sleep(after).await;
            cell.slot.nudge(generation);
        };
        // Without it, the first call after the probation ends it.
        let task = self
            .tasks
            .spawn_within(TaskLimit::Unlimited, "probation", wake);
        task.ok().map(Timer::new)
    }
}

/// Whether an instance that ended like that did so by itself: not because it was told to, nor
/// because its caller went, nor for want of room.
fn is_its_own_fault(kind: ExitKind) -> bool {
    matches!(
        kind,
        ExitKind::OutOfMemory
            | ExitKind::TooMany
            | ExitKind::Trap
            | ExitKind::StackOverflow
            | ExitKind::Deadline
            | ExitKind::OutOfFuel
            | ExitKind::GuestExit
            | ExitKind::HostError
            | ExitKind::HostPanic
    )
}
