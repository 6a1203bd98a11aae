//! A supervisor's spec.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::plan::{AutoShutdown, Flags, Strategy};
use super::reference::{SupervisorCell, SupervisorRef};
use super::window::Intensity;
use crate::{ChildId, ChildPolicy, ChildSpec, Restart};

/// What is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A child or a supervisor needs a name.
    #[error("a name is empty")]
    EmptyName,
    /// Two children of one supervisor have the same name.
    #[error("child `{0}` is there twice")]
    Duplicate(ChildId),
    /// A period of zero counts nothing.
    #[error("the period of an intensity is zero")]
    ZeroPeriod,
    /// A significant child must be able to end: transient or temporary.
    #[error("child `{0}` is significant, but permanent")]
    SignificantPermanent(ChildId),
    /// Nothing would come of a significant child.
    #[error("child `{0}` is significant, but the supervisor never shuts down by itself")]
    SignificantUnderNever(ChildId),
    /// Dynamic children are all alike: none is significant.
    #[error("a dynamic supervisor cannot shut down by itself")]
    DynamicAutoShutdown,
    /// A dynamic supervisor has exactly one template.
    #[error("a dynamic supervisor has exactly one template; found {0} children")]
    OneTemplate(usize),
    /// A limit on children without a dynamic supervisor to hold to it.
    #[error("max_children is for dynamic supervisors")]
    MaxChildren,
    /// The longest delay is shorter than the first, or the jitter is no share.
    #[error("child `{0}`: a backoff needs first <= longest and 0 <= jitter <= 1")]
    Backoff(ChildId),
    /// The interval is zero, or no miss is allowed for.
    #[error("child `{0}`: a probe needs an interval and at least one miss")]
    Probe(ChildId),
}

impl Flags {
    fn check(&self) -> Result<(), SpecError> {
        let dynamic = self.strategy == Strategy::SimpleOneForOne;
        if self.intensity.period == Duration::ZERO {
            return Err(SpecError::ZeroPeriod);
        }
        if dynamic && self.auto_shutdown != AutoShutdown::Never {
            return Err(SpecError::DynamicAutoShutdown);
        }
        if !dynamic && self.max_children != usize::MAX {
            return Err(SpecError::MaxChildren);
        }
        Ok(())
    }

    /// Whether a child of this policy may be there under these flags.
    pub(crate) fn admits(&self, policy: &ChildPolicy) -> Result<(), SpecError> {
        let id = || policy.id.clone();
        if policy.id.as_str().is_empty() {
            return Err(SpecError::EmptyName);
        }
        if policy.significant && policy.restart == Restart::Permanent {
            return Err(SpecError::SignificantPermanent(id()));
        }
        if policy.significant && self.auto_shutdown == AutoShutdown::Never {
            return Err(SpecError::SignificantUnderNever(id()));
        }
        let budgets = policy.causes.iter().filter_map(|cause| cause.budget);
        let quarantine = policy.quarantine.iter().map(|q| q.budget);
        if budgets
            .chain(quarantine)
            .any(|b| b.period == Duration::ZERO)
        {
            return Err(SpecError::ZeroPeriod);
        }
        if let Some(backoff) = &policy.backoff
            && (backoff.first > backoff.longest || !(0.0..=1.0).contains(&backoff.jitter))
        {
            return Err(SpecError::Backoff(id()));
        }
        if let Some(probe) = &policy.probe
            && (probe.interval == Duration::ZERO || probe.misses == 0)
        {
            return Err(SpecError::Probe(id()));
        }
        Ok(())
    }
}

/// What a supervisor starts and by which rules.
pub struct SupervisorSpec<E: Clone + Send + Sync + 'static = ()> {
    pub(crate) name: ChildId,
    pub(crate) flags: Flags,
    /// In start order; the template alone where the strategy is dynamic.
    pub(crate) children: Vec<ChildSpec<E>>,
    pub(crate) nested: Vec<SupervisorSpec<E>>,
    pub(crate) cell: Arc<SupervisorCell<E>>,
}

impl<E: Clone + Send + Sync + 'static> Clone for SupervisorSpec<E> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            flags: self.flags,
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
            .field("flags", &self.flags)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}

impl<E: Clone + Send + Sync + 'static> SupervisorSpec<E> {
    /// An empty supervisor with OTP's defaults: one_for_one, 1 restart in 5 s, no shutdown by
    /// itself.
    pub fn new(name: impl Into<ChildId>) -> Self {
        Self {
            name: name.into(),
            flags: Flags {
                strategy: Strategy::default(),
                intensity: Intensity::default(),
                auto_shutdown: AutoShutdown::default(),
                max_children: usize::MAX,
            },
            children: Vec::new(),
            nested: Vec::new(),
            cell: Arc::default(),
        }
    }

    /// A supervisor whose children are all made from `template`, by
    /// [`SupervisorRef::start_dynamic`]; it starts without any.
    pub fn dynamic(name: impl Into<ChildId>, template: ChildSpec<E>) -> Self {
        Self::new(name)
            .strategy(Strategy::SimpleOneForOne)
            .child(template)
    }

    /// Sets whom a child's exit concerns.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.flags.strategy = strategy;
        self
    }

    /// Sets how many restarts are allowed within how much time.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.flags.intensity = intensity;
        self
    }

    /// Sets whether the end of significant children ends the supervisor.
    #[must_use]
    pub fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> Self {
        self.flags.auto_shutdown = auto_shutdown;
        self
    }

    /// Sets how many children a dynamic supervisor may have, restarting ones included.
    #[must_use]
    pub fn max_children(mut self, max_children: usize) -> Self {
        self.flags.max_children = max_children;
        self
    }

    /// Adds a child, last in the start order.
    #[must_use]
    pub fn child(mut self, spec: ChildSpec<E>) -> Self {
        self.children.push(spec);
        self
    }

    /// Whether the spec can be started. Starting it checks that too.
    ///
    /// # Errors
    /// [`SpecError`], for the first thing found.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.name.as_str().is_empty() {
            return Err(SpecError::EmptyName);
        }
        self.flags.check()?;
        if self.flags.strategy == Strategy::SimpleOneForOne && self.children.len() != 1 {
            return Err(SpecError::OneTemplate(self.children.len()));
        }
        let mut seen = HashSet::new();
        for ChildSpec { policy, .. } in &self.children {
            self.flags.admits(policy)?;
            if !seen.insert(&policy.id) {
                return Err(SpecError::Duplicate(policy.id.clone()));
            }
        }
        Ok(())
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
