//! What a supervisor tells about itself.

use std::sync::Arc;

use tracing::Span;

use super::super::message::{ChildCounts, ChildStatus, SupervisorStatus};
use super::super::plan::{ChildState, Strategy};
use super::{Life, State};
use crate::{
    Change, ChildId, ChildKind, ChildPolicy, ChildSpec, DeadLetter, ExitCause, LifecycleEvent,
};

impl<E: Clone + Send + Sync + 'static> State<E> {
    /// The span of one incarnation, from its start to its end.
    pub(super) fn span(&self, id: &ChildId, generation: u64) -> Span {
        tracing::debug_span!("child", supervisor = %self.name, child = %id, generation)
    }

    pub(super) fn tell(&self, child: &ChildId, generation: u64, change: Change) {
        if !self.tree.events.are_heard() {
            return;
        }
        self.tree.events.send(LifecycleEvent {
            supervisor: self.name.clone(),
            child: child.clone(),
            generation,
            change,
        });
    }

    pub(super) fn tell_start_failed(&self, id: &ChildId, generation: u64, cause: &Arc<ExitCause>) {
        tracing::warn!(supervisor = %self.name, child = %id, generation, %cause, "child did not start");
        let cause = Arc::clone(cause);
        self.tell(id, generation, Change::StartFailed { cause });
    }

    pub(super) fn tell_ended(
        &self,
        id: &ChildId,
        generation: u64,
        cause: Arc<ExitCause>,
        dead_letter: Option<DeadLetter>,
    ) {
        self.tell(id, generation, Change::Exited { cause });
        if let Some(letter) = dead_letter {
            tracing::warn!(supervisor = %self.name, child = %id, message = %letter.message, deaths = letter.deaths, "dead letter");
            self.tell(id, generation, Change::DeadLetter(letter));
        }
    }

    /// The plan has decided that this supervisor ends.
    pub(super) fn tell_ending(&self, cause: &Arc<ExitCause>) {
        match &**cause {
            ExitCause::AutoShutdown { child } => {
                tracing::info!(supervisor = %self.name, %cause, "supervisor shuts down");
                self.tell(child, 0, Change::AutoShutdown);
            }
            ExitCause::Escalated { .. } => {
                tracing::error!(supervisor = %self.name, %cause, "supervisor gives up");
                let cause = Arc::clone(cause);
                self.tell(&self.name, 0, Change::Escalated { cause });
            }
            _ => tracing::debug!(supervisor = %self.name, "supervisor stops"),
        }
    }

    pub(super) fn status(&self, id: &ChildId) -> Option<ChildStatus> {
        self.plan.child(id).map(|child| self.status_of(child))
    }

    pub(super) fn describe(&self) -> SupervisorStatus {
        let (restarts, host_restarts) = self.plan.restarts(self.began.elapsed());
        SupervisorStatus {
            strategy: self.flags.strategy,
            intensity: self.flags.intensity,
            restarts,
            host_restarts,
            children: self.statuses(),
        }
    }

    pub(super) fn statuses(&self) -> Vec<ChildStatus> {
        let children = self.plan.children();
        children.map(|child| self.status_of(child)).collect()
    }

    fn status_of(
        &self,
        (policy, generation, state): (&ChildPolicy, u64, ChildState),
    ) -> ChildStatus {
        let ward = self.wards.get(&policy.id);
        let actor = match ward.map(|ward| &ward.life) {
            Some(Life::Running(live)) => Some(live.running.actor.get_id()),
            _ => None,
        };
        ChildStatus {
            id: policy.id.clone(),
            generation,
            state,
            kind: policy.kind,
            actor,
        }
    }

    /// A child's spec; the template's where nothing else is of that name.
    pub(super) fn spec(&self, id: &ChildId) -> Option<ChildSpec<E>> {
        let template = self.template.as_ref();
        let template = template.filter(|template| template.policy.id == *id);
        let known = self.wards.get(id).map(|ward| &ward.spec);
        known.or(template).cloned()
    }

    pub(super) fn counts(&self) -> ChildCounts {
        let mut counts = ChildCounts::default();
        for (policy, _, state) in self.plan.children() {
            counts.specs += 1;
            counts.active += usize::from(state == ChildState::Running);
            match policy.kind {
                ChildKind::Supervisor => counts.supervisors += 1,
                ChildKind::Worker => counts.workers += 1,
            }
        }
        if self.flags.strategy == Strategy::SimpleOneForOne {
            counts.specs = 1;
        }
        counts
    }
}
