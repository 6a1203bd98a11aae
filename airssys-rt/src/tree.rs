//! What all supervisors and children of a tree share.

use crate::{Events, TaskRegistry};

/// What all supervisors and children of a tree share: an environment of the embedder's, the event
/// stream, and the tasks. Cheap to clone where `E` is.
#[derive(Debug, Clone, Default)]
pub struct Tree<E = ()> {
    /// The embedder's own; `()` where there is none.
    pub environment: E,
    /// Everything that happens to the children.
    pub events: Events,
    /// Every task that is spawned on behalf of the tree.
    pub tasks: TaskRegistry,
}

impl<E> Tree<E> {
    /// A tree with an event stream and a task registry of its own.
    pub fn new(environment: E) -> Self {
        Self {
            environment,
            events: Events::default(),
            tasks: TaskRegistry::default(),
        }
    }
}
