//! Several replicas of one component as one child of a supervisor: a supervisor of their own.

use std::sync::{Arc, OnceLock};

use airssys_rt::{
    AutoShutdown, BoxFuture, Child, ChildId, ChildPolicy, ChildSpec, ExitCause, Intensity, Restart,
    StartContext, Started, SupervisorSpec,
};

use crate::actor::{ComponentChild, failed};
use crate::component::{ComponentCell, ComponentRef};
use crate::config::{ComponentConfig, ComponentName};
use crate::replicas::Replicas;
use crate::runtime::{Runtime, WeakRuntime};

/// A one_for_one supervisor under the component's name, with the replicas as its children.
pub(crate) struct ReplicaSet {
    component: ComponentRef,
    cells: Box<[Arc<ComponentCell>]>,
    /// Without children: each start adds them, as the policy of that time says.
    supervisor: SupervisorSpec<Runtime>,
    /// Set by the first start.
    runtime: OnceLock<WeakRuntime>,
}

impl ReplicaSet {
    /// `None` where the configuration asks for no more than one.
    pub(crate) fn new(name: &ComponentName, config: &ComponentConfig) -> Option<Self> {
        if config.instance.replicas.get() < 2 {
            return None;
        }
        let cells = ComponentCell::replicas(name, config);
        let supervisor = SupervisorSpec::new(name.as_str());
        let replicas = Replicas::several(name.clone(), cells.clone(), supervisor.clone())?;
        Some(Self {
            component: ComponentRef::new(replicas),
            cells,
            supervisor,
            runtime: OnceLock::new(),
        })
    }

    /// What is said of the component holds for each of its replicas. Of restarts they have as many
    /// each, on average, as the component would have by itself.
    fn spec(&self, policy: &ChildPolicy, intensity: Intensity) -> SupervisorSpec<Runtime> {
        let permanent = policy.restart == Restart::Permanent;
        let replicas = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
        let restarts = intensity.restarts.saturating_mul(replicas);
        let empty = self
            .supervisor
            .clone()
            .intensity(Intensity {
                restarts,
                ..intensity
            })
            .auto_shutdown(match permanent {
                true => AutoShutdown::Never,
                // When none is left that would come back.
                false => AutoShutdown::AllSignificant,
            });
        self.cells.iter().fold(empty, |spec, cell| {
            let name = cell.name.as_str();
            let child = ChildSpec::new(name, ComponentChild::new(Arc::clone(cell)));
            let policy = ChildPolicy {
                id: ChildId::from(name),
                significant: !permanent,
                kind: child.policy.kind,
                start_limit: cell.start_limit(),
                ..policy.clone()
            };
            spec.child(child.with_policy(policy))
        })
    }
}

impl Child<Runtime> for ReplicaSet {
    fn start(&self, context: StartContext<Runtime>) -> BoxFuture<'_, Result<Started, ExitCause>> {
        Box::pin(async move {
            let runtime = &context.tree.environment;
            self.runtime.get_or_init(|| runtime.downgrade());
            runtime.register(&self.component).map_err(failed)?;
            let spec = self.spec(&context.policy, context.intensity);
            Child::start(&spec, context).await
        })
    }

    fn stopped(&self, _: &ChildId, cause: &Arc<ExitCause>) {
        for cell in &self.cells {
            cell.slot.close(cause);
            cell.trial().give_up(cause);
        }
    }

    fn removed(&self, _: &ChildId) {
        if let Some(runtime) = self.runtime.get() {
            runtime.unregister(&self.component);
            for replica in self.component.replicas() {
                runtime.unregister(&replica);
            }
        }
    }

    fn join(&self) -> BoxFuture<'static, ()> {
        Child::<Runtime>::join(&self.supervisor)
    }
}
