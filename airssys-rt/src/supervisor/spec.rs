//! A supervisor's spec.

use std::fmt;
use std::sync::Arc;

use super::plan::Strategy;
use super::reference::{SupervisorCell, SupervisorRef};
use super::window::Intensity;
use crate::{ChildId, ChildSpec};

/// What a supervisor starts and by which rules.
pub struct SupervisorSpec<E: Clone + Send + Sync + 'static = ()> {
    pub(crate) name: ChildId,
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Intensity,
    pub(crate) children: Vec<ChildSpec<E>>,
    pub(crate) nested: Vec<SupervisorSpec<E>>,
    pub(crate) cell: Arc<SupervisorCell<E>>,
}

impl<E: Clone + Send + Sync + 'static> Clone for SupervisorSpec<E> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            strategy: self.strategy,
            intensity: self.intensity,
            children: self.children.clone(),
            nested: self.nested.clone(),
            cell: Arc::clone(&self.cell),
        }
    }
}

impl<E: Clone + Send + Sync + 'static> fmt::Debug for SupervisorSpec<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorSpec")
            .field("name", &self.name)
            .field("strategy", &self.strategy)
            .field("intensity", &self.intensity)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}

impl<E: Clone + Send + Sync + 'static> SupervisorSpec<E> {
    /// An empty supervisor with OTP's defaults: one_for_one, 1 restart in 5 s.
    pub fn new(name: impl Into<ChildId>) -> Self {
        Self {
            name: name.into(),
            strategy: Strategy::default(),
            intensity: Intensity::default(),
            children: Vec::new(),
            nested: Vec::new(),
            cell: Arc::default(),
        }
    }

    /// Sets whom a child's exit concerns.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets how many restarts are allowed within how much time.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Adds a child, last in the start order.
    #[must_use]
    pub fn child(mut self, spec: ChildSpec<E>) -> Self {
        self.children.push(spec);
        self
    }

    /// This supervisor and all those added to it with [`SupervisorSpec::supervisor`], at any
    /// depth.
    #[must_use]
    pub fn supervisors(&self) -> Vec<SupervisorSpec<E>> {
        let below = self.nested.iter().flat_map(SupervisorSpec::supervisors);
        std::iter::once(self.clone()).chain(below).collect()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ChildId {
        &self.name
    }

    /// The handle that stays valid over restarts; `None` before the first start.
    #[must_use]
    pub fn handle(&self) -> Option<SupervisorRef<E>> {
        SupervisorRef::of(self.name.clone(), &self.cell)
    }
}
