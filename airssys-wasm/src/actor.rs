//! The actor that alone owns an instance, and the child its supervisor starts it as.

mod swap;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use airssys_rt::{
    BoxFuture, Child, ChildId, ChildKind, ChildSpec, DeadLetter, ExitCause, ExitKind, Next,
    Running, StartContext, Started, TaskRegistry, Turn, Work,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::component::ComponentRef;
use crate::component_cell::{ComponentCell, Standing};
use crate::config::{ComponentConfig, ComponentName, InstanceMode};
use crate::coredumps::Coredump;
use crate::host_functions::Caller;
use crate::instance::{Answer, Instance, Invocation, Outcome};
use crate::limits::ComponentResourceLimiter;
use crate::metrics::{Herald, Stint, Tally};
use crate::parking::Parking;
use crate::release::Release;
use crate::replica_set::ReplicaSet;
use crate::replicas::Replicas;
use crate::runtime::{Runtime, WeakRuntime};

use swap::Reserve;

struct ComponentActor;

struct Serving {
    cell: Arc<ComponentCell>,
    standing: Arc<Standing>,
    /// What the instance is of, or would be.
    release: Arc<Release>,
    /// None while it is parked, and between two calls of the mode `per-call`.
    instance: Option<Instance>,
    parking: Option<Parking>,
    /// While the release is on probation, which is seldom.
    reserve: Option<Box<Reserve>>,
    tasks: TaskRegistry,
    tally: Arc<Tally>,
    herald: Arc<Herald>,
}

/// What is left of an incarnation once its instance is gone.
enum Incarnation {
    Alive(Box<Serving>),
    Dead,
}

impl Actor for ComponentActor {
    type Msg = Work;
    type State = Incarnation;
    type Arguments = (Arc<ComponentCell>, u64, TaskRegistry, Herald);

    async fn pre_start(
        &self,
        _: ActorRef<Work>,
        (cell, generation, tasks, herald): Self::Arguments,
    ) -> Result<Incarnation, ActorProcessingErr> {
        let standing = Arc::new(Standing::new(generation));
        let release = cell.release();
        let mut serving = Box::new(Serving {
            parking: parking(&release, &tasks, &cell, generation),
            cell,
            standing,
            release,
            instance: None,
            reserve: None,
            tasks,
            tally: Arc::new(Tally::new(generation)),
            herald: Arc::new(herald),
        });
        serving.resume_probation();
        if let Err(cause) = serving.instance().await {
            serving.roll_back(cause)?;
            serving.instance().await?;
        }
        serving.cell.metrics.started(&serving.tally);
        serving.herald.tell(&serving.tally);
        serving.cell.set_standing(&serving.standing);
        serving.rest();
        Ok(Incarnation::Alive(serving))
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
        match serving.stay().await {
            Ok(()) => Ok(()),
            Err(cause) => {
                serving.cell.slot.dying(serving.standing.generation);
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

impl Serving {
    /// Serves what comes, until it is told to end: whoever calls wakes this task, and no message
    /// has to go through the actor's own mailbox. A kill is heard meanwhile.
    async fn stay(&mut self) -> Result<(), ExitCause> {
        let (cell, generation) = (Arc::clone(&self.cell), self.standing.generation);
        while !self.standing.is_dismissed() {
            self.keep_up().await;
            if let Some(cause) = self.standing.damage() {
                return Err(cause);
            }
            match poll_fn(|context| cell.slot.poll_next(generation, context)).await {
                Next::Request(mut invocation, turn) => {
                    invocation.rise();
                    self.answer(invocation, turn).await?;
                }
                Next::Nudged if cell.slot.waiting() == 0 => self.park_if_idle(),
                Next::Nudged => {}
            }
        }
        cell.slot.leave(generation);
        Ok(())
    }

    /// Serves one call and answers it.
    async fn answer(&mut self, invocation: Invocation, turn: Turn) -> Result<(), ExitCause> {
        let served = self.serve(invocation, turn).await;
        let outcome = served.or_else(|cause| self.roll_back(cause))?;
        match &outcome {
            Outcome::NoInstance(_) | Outcome::Died(_) => _ = self.tally.leave(),
            _ => self.tally.answered(),
        }
        // Before the answer: whoever has it finds the place in the pool free.
        self.rest();
        let generation = self.standing.generation;
        let answer = Answer {
            generation,
            outcome,
        };
        self.cell.slot.answer(generation, answer);
        Ok(())
    }

    /// The instance; a fresh one where there is none.
    async fn instance(&mut self) -> Result<&mut Instance, ExitCause> {
        if self.instance.is_none() {
            // A call seldom needs it, and its future is large.
            Box::pin(self.begin()).await?;
        }
        self.instance.as_mut().ok_or(ExitCause::Shutdown)
    }

    async fn begin(&mut self) -> Result<(), ExitCause> {
        let release = Arc::clone(&self.release);
        let limiter = self.limiter(&release);
        self.cell.set_meter(limiter.meter());
        self.instance = Some(self.start(&release, limiter).await?);
        Ok(())
    }

    fn limiter(&self, release: &Release) -> ComponentResourceLimiter {
        let limits = &release.limits;
        ComponentResourceLimiter::new(limits).counted_in(&self.tally, limits)
    }

    /// A fresh instance of a release that is loaded.
    async fn start(
        &mut self,
        release: &Release,
        limiter: ComponentResourceLimiter,
    ) -> Result<Instance, ExitCause> {
        let loaded = release.loaded.get().ok_or(ExitCause::Shutdown)?;
        let caller = Caller {
            component: self.cell.component.clone(),
            replica: self.cell.replica.unwrap_or(0),
            generation: self.standing.generation,
        };
        let mut coredump = None;
        let dump = &mut coredump;
        let started = Instance::start(loaded, &release.limits, limiter, caller, dump).await;
        self.keep(coredump, release);
        started
    }

    /// Has a dump of an instance of this release written.
    fn keep(&self, coredump: Option<Coredump>, release: &Release) {
        if let Some(coredump) = coredump
            && let Some(loaded) = release.loaded.get()
            && let Some(coredumps) = &loaded.coredumps
        {
            let generation = self.standing.generation;
            coredumps.write(coredump, &self.cell.name, generation, &self.tasks);
        }
    }

    /// Serves one call, for as long as somebody waits for it.
    async fn serve(&mut self, invocation: Invocation, turn: Turn) -> Result<Outcome, ExitCause> {
        let generation = self.standing.generation;
        let taken = turn.taken.into_std();
        let served = match &mut self.instance {
            Some(instance) => {
                let mut stint = Stint::begin(&self.tally, &self.herald, turn.waited, taken);
                let work = pin!(instance.serve(invocation, taken));
                attend(&self.cell, generation, &mut stint, work).await
            }
            // Seldom, and large.
            None => Box::pin(self.serve_afresh(invocation, turn)).await,
        };
        if let Some(instance) = &mut self.instance {
            self.tally.burnt(instance.fuel_used());
            let coredump = instance.coredump.take();
            self.keep(coredump, &self.release);
        }
        served
    }

    /// As [`Serving::serve`], by an instance that is made for it. What its start takes is not the
    /// call's time.
    async fn serve_afresh(
        &mut self,
        invocation: Invocation,
        turn: Turn,
    ) -> Result<Outcome, ExitCause> {
        let (cell, generation) = (Arc::clone(&self.cell), self.standing.generation);
        let (tally, herald) = (Arc::clone(&self.tally), Arc::clone(&self.herald));
        let mut stint = Stint::begin(&tally, &herald, turn.waited, turn.taken.into_std());
        let work = async {
            match self.instance().await {
                Ok(instance) => instance.serve(invocation, Instant::now()).await,
                // It is not this call's fault, nor the component's: it stays as it is.
                Err(cause) if cause.kind() == ExitKind::Capacity => {
                    Ok(Outcome::NoInstance(Arc::new(cause)))
                }
                Err(cause) => Err(cause),
            }
        };
        attend(&cell, generation, &mut stint, pin!(work)).await
    }

    /// After the start, and after each call.
    fn rest(&mut self) {
        if self.release.config.instance.mode == InstanceMode::PerCall {
            self.let_go();
        }
        if let Some(parking) = &mut self.parking {
            parking.rest();
        }
    }

    /// Nothing is waiting: where it has been like that for long enough, the instance goes.
    fn park_if_idle(&mut self) {
        if let Some(parking) = &mut self.parking
            && parking.is_over()
        {
            parking.timer = None;
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        self.instance = None;
        self.cell.clear_meter();
    }
}

/// Does a call's work, for as long as somebody waits for it.
async fn attend(
    cell: &ComponentCell,
    generation: u64,
    stint: &mut Stint<'_>,
    mut work: Pin<&mut impl Future<Output = Result<Outcome, ExitCause>>>,
) -> Result<Outcome, ExitCause> {
    let mut began = false;
    poll_fn(|context| {
        // A call that answers at once is not asked about.
        if std::mem::replace(&mut began, true)
            && cell.slot.poll_abandoned(generation, context).is_ready()
        {
            return Poll::Ready(Err(ExitCause::Cancelled));
        }
        if let Poll::Ready(served) = stint.poll(|| work.as_mut().poll(context)) {
            return Poll::Ready(served);
        }
        let abandoned = cell.slot.poll_abandoned(generation, context);
        abandoned.map(|()| Err(ExitCause::Cancelled))
    })
    .await
}

/// What watches for idleness, where the release may be parked.
fn parking(
    release: &Release,
    tasks: &TaskRegistry,
    cell: &Arc<ComponentCell>,
    generation: u64,
) -> Option<Parking> {
    match release.config.instance.mode {
        InstanceMode::Persistent { park_after } => {
            park_after.map(|idle| Parking::new(idle, tasks.clone(), Arc::clone(cell), generation))
        }
        InstanceMode::PerCall => None,
    }
}

/// A component, or one replica of it, as a supervisor's child.
pub(crate) struct ComponentChild {
    cell: Arc<ComponentCell>,
    component: ComponentRef,
    /// Set by the first start.
    runtime: OnceLock<WeakRuntime>,
}

impl ComponentChild {
    pub(crate) fn new(cell: Arc<ComponentCell>) -> Self {
        Self {
            component: ComponentRef::new(Replicas::one(Arc::clone(&cell))),
            cell,
            runtime: OnceLock::new(),
        }
    }
}

impl Child<Runtime> for ComponentChild {
    fn start(&self, context: StartContext<Runtime>) -> BoxFuture<'_, Result<Started, ExitCause>> {
        Box::pin(async move {
            let runtime = &context.tree.environment;
            self.runtime.get_or_init(|| runtime.downgrade());
            runtime.register(&self.component).map_err(failed)?;
            let tasks = &context.tree.tasks;
            runtime.load(&self.cell, self.cell.release(), tasks).await?;
            let herald = Herald {
                events: context.tree.events.clone(),
                supervisor: context.supervisor_name,
                child: context.id,
                limits: self.component.limits(),
            };
            let cell = Arc::clone(&self.cell);
            let arguments = (cell, context.generation, tasks.clone(), herald);
            let (actor, handle) =
                ComponentActor::spawn_linked(None, ComponentActor, arguments, context.supervisor)
                    .await?;
            // Work comes only once the actor is linked: nothing is in flight in an actor that
            // nobody watches.
            self.cell.attach(context.generation, actor.clone());
            let (cell, asked) = (Arc::clone(&self.cell), actor.clone());
            let ask = move || {
                cell.dismiss(context.generation);
                asked.stop(None);
            };
            Ok(Running::new(actor, handle).asked_by(ask).into())
        })
    }

    fn exited(&self, _: &ChildId, generation: u64, cause: &Arc<ExitCause>) -> Option<DeadLetter> {
        self.cell.exited(generation, cause)
    }

    fn stopped(&self, _: &ChildId, cause: &Arc<ExitCause>) {
        self.cell.slot.close(cause);
        self.cell.trial().give_up(cause);
    }

    fn removed(&self, _: &ChildId) {
        if let Some(runtime) = self.runtime.get() {
            runtime.unregister(&self.component);
        }
    }

    fn recovery(&self, _: &ChildId) -> Option<Duration> {
        self.cell.slot.recovery()
    }
}

pub(crate) fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ExitCause {
    ExitCause::Failed {
        source: Arc::new(error),
    }
}

/// Makes children of a tree out of components: `ChildSpec::component(config)`.
pub trait ComponentSpec {
    /// The component as a permanent worker, under its own name; where it has replicas, as a
    /// supervisor of that name with a worker for each, `name-0` and so on. How the spec says that
    /// the component is restarted holds for each of them, and so does the time to stop, which is
    /// the time for all of them as well.
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
        if let Some(set) = ReplicaSet::new(&name, &config) {
            return Self::new(name.as_str(), set).kind(ChildKind::Supervisor);
        }
        let cell = Arc::new(ComponentCell::new(name.clone(), Release::new(config)));
        let start_limit = cell.start_limit();
        Self::new(name.as_str(), ComponentChild::new(cell)).start_limit(start_limit)
    }
}
