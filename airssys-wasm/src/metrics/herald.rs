//! What a component tells the listeners of its tree by itself.

use airssys_rt::{Change, ChildId, Events, LifecycleEvent};

use crate::limits::ResourceLimits;

/// The name a component's events go by, and where they go.
pub(crate) struct Herald {
    pub(crate) events: Events,
    pub(crate) supervisor: ChildId,
    pub(crate) child: ChildId,
    pub(crate) limits: ResourceLimits,
}

impl Herald {
    pub(super) fn near_limit(&self, generation: u64, current_bytes: usize) {
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
