//! One release of a component: how it is configured, and what its first start has loaded.

use std::fmt;
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::config::ComponentConfig;
use crate::limits::ResourceLimits;
use crate::runtime::Loaded;
use crate::waiting_room::WaitingRoom;

/// What an upgrade replaces as a whole. Replicas share it.
pub(crate) struct Release {
    pub(crate) config: ComponentConfig,
    pub(crate) limits: ResourceLimits,
    pub(crate) loaded: OnceCell<Arc<Loaded>>,
    pub(crate) waiting_room: WaitingRoom,
}

impl Release {
    pub(crate) fn new(config: ComponentConfig) -> Arc<Self> {
        let limits = ResourceLimits::from(config.resources);
        Arc::new(Self {
            waiting_room: WaitingRoom::new(limits.messages().max_waiting_bytes()),
            limits,
            config,
            loaded: OnceCell::new(),
        })
    }
}

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Release")
            .field("name", &self.config.name)
            .field("version", &self.config.version)
            .finish_non_exhaustive()
    }
}
