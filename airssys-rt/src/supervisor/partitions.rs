//! Equal children beside each other, each for its share of the keys.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::spec::SupervisorSpec;
use crate::{ChildId, ChildSpec};

/// The handles of N equal children, and which of them a key belongs to. Cheap to clone.
///
/// A key goes to the same child for as long as the process runs; from one build to another it may
/// go to another one.
#[derive(Debug)]
pub struct Partitions<H> {
    handles: Arc<[H]>,
}

impl<H> Clone for Partitions<H> {
    fn clone(&self) -> Self {
        Self {
            handles: Arc::clone(&self.handles),
        }
    }
}

impl<H> Partitions<H> {
    /// A one_for_one supervisor of `count` children, and their handles. `child` makes one child
    /// under the name it is given, `<name>-<index>`, and whatever its callers reach it by.
    pub fn new<E: Clone + Send + Sync + 'static>(
        name: impl Into<ChildId>,
        count: NonZeroUsize,
        mut child: impl FnMut(ChildId, usize) -> (ChildSpec<E>, H),
    ) -> (SupervisorSpec<E>, Self) {
        let name = name.into();
        let mut spec = SupervisorSpec::new(name.clone());
        let mut handles = Vec::with_capacity(count.get());
        for index in 0..count.get() {
            let (child, handle) = child(ChildId::from(format!("{name}-{index}")), index);
            spec = spec.child(child);
            handles.push(handle);
        }
        let handles = handles.into();
        (spec, Self { handles })
    }

    /// The handle of the child that `key` belongs to.
    pub fn of(&self, key: &(impl Hash + ?Sized)) -> &H {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let count = self.handles.len() as u64;
        #[allow(
            clippy::indexing_slicing,
            reason = "a remainder of the length, which is not zero"
        )]
        &self.handles[(hasher.finish() % count) as usize]
    }

    /// All handles, by index.
    #[must_use]
    pub fn all(&self) -> &[H] {
        &self.handles
    }
}
