//! Who waits for whom: components that call one another by message.

use std::sync::Arc;
use std::time::Instant;

use crate::config::ComponentName;

/// Most components that wait for one another.
const MAX_CALL_DEPTH: u32 = 8;

/// A component that waits for the one that is called, and those who wait for it in turn.
#[derive(Debug)]
pub(crate) struct Chain {
    waits: ComponentName,
    /// When the first of them stops waiting.
    pub(crate) deadline: Instant,
    depth: u32,
    before: Option<Arc<Chain>>,
}

impl Chain {
    /// The chain that `waits` is the last of; `None` where it would be too long.
    pub(crate) fn link(
        waits: &ComponentName,
        deadline: Instant,
        before: Option<&Arc<Self>>,
    ) -> Option<Arc<Self>> {
        let depth = before.map_or(0, |before| before.depth) + 1;
        (depth <= MAX_CALL_DEPTH).then(|| {
            Arc::new(Self {
                waits: waits.clone(),
                deadline: before.map_or(deadline, |before| before.deadline.min(deadline)),
                depth,
                before: before.map(Arc::clone),
            })
        })
    }

    /// Whether a component is among those who wait.
    pub(crate) fn has(&self, name: &ComponentName) -> bool {
        let mut link = Some(self);
        while let Some(here) = link {
            if here.waits == *name {
                return true;
            }
            link = here.before.as_deref();
        }
        false
    }
}
