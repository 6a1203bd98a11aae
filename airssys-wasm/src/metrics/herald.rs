//! What a component tells the listeners of its tree by itself.

use airssys_rt::{Change, ChildId, Events, LifecycleEvent};

use super::tally::Tally;
use crate::limits::ResourceLimits;

/// The name an incarnation's events go by, and where they go. It ends with its actor: the stream
/// lasts as long as somebody can send, and figures are kept for longer than the tree.
pub(crate) struct Herald {
    pub(crate) events: Events,
    pub(crate) supervisor: ChildId,
    pub(crate) child: ChildId,
    pub(crate) limits: ResourceLimits,
}

impl Herald {
    /// The same, of an instance with other limits.
    pub(crate) fn with_limits(&self, limits: ResourceLimits) -> Self {
        Self {
            events: self.events.clone(),
            supervisor: self.supervisor.clone(),
            child: self.child.clone(),
            limits,
        }
    }

    /// Tells what has become of the child.
    pub(crate) fn tell_change(&self, generation: u64, change: Change) {
        match &change {
            Change::RolledBack { cause } => tracing::warn!(
                supervisor = %self.supervisor, child = %self.child, generation, %cause,
                "rolled back"
            ),
            change => tracing::info!(
                supervisor = %self.supervisor, child = %self.child, generation, ?change,
                "upgraded"
            ),
        }
        self.events.send(LifecycleEvent {
            supervisor: self.supervisor.clone(),
            child: self.child.clone(),
            generation,
            change,
        });
    }

    /// Tells, once, that an instance has come near its limit. The limiter only leaves a mark, inside
    /// the guest's growth; whoever polls the guest has it told, after the poll.
    pub(crate) fn tell(&self, tally: &Tally) {
        let Some(current_bytes) = tally.take_crossing() else {
            return;
        };
        let generation = tally.generation();
        let limit_bytes = self.limits.max_memory_bytes();
        let warn_percent = self.limits.warn_percent();
        tracing::warn!(
            supervisor = %self.supervisor, child = %self.child, generation,
            current_bytes, limit_bytes, warn_percent, "near its memory limit"
        );
        self.events.send(LifecycleEvent {
            supervisor: self.supervisor.clone(),
            child: self.child.clone(),
            generation,
            change: Change::NearLimit {
                current_bytes,
                limit_bytes,
                warn_percent,
            },
        });
    }
}
