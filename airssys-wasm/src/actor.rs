//! The actor that alone owns an instance, and the child its supervisor starts it as.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use airssys_rt::{
    BoxFuture, Child, ChildId, ChildSpec, DeadLetter, ExitCause, Running, StartContext, Started,
    Work,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::component::{ComponentCell, Standing};
use crate::config::{ComponentConfig, ComponentName};
use crate::instance::{Answer, Instance};
use crate::limits::ComponentResourceLimiter;
use crate::runtime::{Runtime, WeakRuntime};

/// What a start may take beyond loading and starting, before its supervisor gives it up.
const START_GRACE: Duration = Duration::from_secs(5);

struct ComponentActor;

struct Serving {
    cell: Arc<ComponentCell>,
    standing: Arc<Standing>,
    instance: Instance,
}

/// What is left of an incarnation once its instance is gone.
enum Incarnation {
    Alive(Box<Serving>),
    Dead,
}

impl Actor for ComponentActor {
    type Msg = Work;
    type State = Incarnation;
    type Arguments = (Arc<ComponentCell>, u64);

    async fn pre_start(
        &self,
        myself: ActorRef<Work>,
        (cell, generation): Self::Arguments,
    ) -> Result<Incarnation, ActorProcessingErr> {
        let loaded = cell.loaded.get().ok_or(ExitCause::Shutdown)?;
        let limiter = ComponentResourceLimiter::new(&cell.limits);
        cell.set_meter(limiter.meter());
        let instance = Instance::start(loaded, &cell.limits, limiter).await?;
        let standing = Arc::new(Standing::new(generation, myself));
        cell.set_standing(&standing);
        Ok(Incarnation::Alive(Box::new(Serving {
            cell,
            standing,
            instance,
        })))
    }

    async fn handle(
        &self,
        _: ActorRef<Work>,
        Work: Work,
        state: &mut Incarnation,
    ) -> Result<(), ActorProcessingErr> {
        let Incarnation::Alive(serving) = state else {
            return Ok(());
        };
        let generation = serving.standing.generation;
        let served = match serving.standing.damage() {
            Some(cause) => Err(cause),
            None => {
                let Some(invocation) = serving.cell.slot.take(generation) else {
                    return Ok(());
                };
                serving.instance.serve(invocation).await
            }
        };
        match served {
            Ok(outcome) => {
                let answer = Answer {
                    generation,
                    outcome,
                };
                serving.cell.slot.answer(generation, answer);
                Ok(())
            }
            Err(cause) => {
                serving.cell.slot.dying(generation);
                // The Store goes now, not with the actor's state: the pool has its place back
                // before a successor asks for one.
                *state = Incarnation::Dead;
                Err(Box::new(cause))
            }
        }
    }

    async fn post_stop(
        &self,
        _: ActorRef<Work>,
        state: &mut Incarnation,
    ) -> Result<(), ActorProcessingErr> {
        // ractor hands the state of a stopped actor to its supervisor's queue; the Store must not
        // live on in there.
        *state = Incarnation::Dead;
        Ok(())
    }
}

/// A component as a supervisor's child.
struct ComponentChild {
    cell: Arc<ComponentCell>,
    /// Set by the first start.
    runtime: OnceLock<WeakRuntime>,
}

impl Child<Runtime> for ComponentChild {
    fn start(&self, context: StartContext<Runtime>) -> BoxFuture<'_, Result<Started, ExitCause>> {
        Box::pin(async move {
            let runtime = &context.tree.environment;
            self.runtime.get_or_init(|| runtime.downgrade());
            runtime.register(&self.cell).map_err(failed)?;
            runtime.load(&self.cell, &context.tree.tasks).await?;
            let arguments = (Arc::clone(&self.cell), context.generation);
            let (actor, handle) =
                ComponentActor::spawn_linked(None, ComponentActor, arguments, context.supervisor)
                    .await?;
            // Work comes only once the actor is linked: nothing is in flight in an actor that
            // nobody watches.
            self.cell.slot.attach(context.generation, actor.clone());
            Ok(Running::new(actor, handle).into())
        })
    }

    fn exited(&self, _: &ChildId, generation: u64, cause: &Arc<ExitCause>) -> Option<DeadLetter> {
        self.cell.slot.exited(generation, cause)
    }

    fn stopped(&self, _: &ChildId, cause: &Arc<ExitCause>) {
        self.cell.slot.close(cause);
    }

    fn removed(&self, _: &ChildId) {
        if let Some(runtime) = self.runtime.get() {
            runtime.unregister(&self.cell);
        }
    }

    fn recovery(&self, _: &ChildId) -> Option<Duration> {
        self.cell.slot.recovery()
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ExitCause {
    ExitCause::Failed {
        source: Arc::new(error),
    }
}

/// Makes children of a tree out of components: `ChildSpec::component(config)`.
pub trait ComponentSpec {
    /// The component as a permanent worker, under its own name.
    #[must_use]
    fn component(config: ComponentConfig) -> Self;

    /// The component under another name, where one Component.toml runs more than once.
    #[must_use]
    fn component_named(name: ComponentName, config: ComponentConfig) -> Self;
}

impl ComponentSpec for ChildSpec<Runtime> {
    fn component(config: ComponentConfig) -> Self {
        Self::component_named(config.name.clone(), config)
    }

    fn component_named(name: ComponentName, config: ComponentConfig) -> Self {
        let cell = Arc::new(ComponentCell::new(name.clone(), config));
        let limits = &cell.limits;
        // Loading and starting have limits of their own, which tell more.
        let start_limit = limits.load_timeout() + limits.start_timeout() + START_GRACE;
        let runtime = OnceLock::new();
        Self::new(name.as_str(), ComponentChild { cell, runtime }).start_limit(start_limit)
    }
}
