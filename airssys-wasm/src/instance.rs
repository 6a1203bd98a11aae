//! One instance: a Store with its limiter, entered by one call at a time and never again after a
//! trap.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use airssys_rt::{BoxFuture, Counted, DeadlinePhase, ExitCause, Request};
use tokio::task::coop::unconstrained;
use tokio::time::sleep_until;
use wasmtime::component::{self, TypedFunc};
use wasmtime::{AsContextMut, Store, StoreContextMut, UpdateDeadline};

use crate::abi::{Arguments, Lifted, Luggage, Passage};
use crate::capacity::{Place, fits, initial_bytes};
use crate::coredumps::Coredump;
use crate::ending::{Ending, exit_cause};
use crate::exports::FunctionError;
use crate::handles::{Handles, ResourceHandle};
use crate::host_functions::Caller;
use crate::host_wait::HostWait;
use crate::limits::{ComponentResourceLimiter, MemoryMeter, ResourceLimits};
use crate::message::{Message, Way};
use crate::payload::ValueError;
use crate::runtime::Loaded;
use crate::services::{Chain, Gate, wasi_context};
use crate::state::ComponentState;
use crate::ticker::Pulse;
use crate::turn::Turn;
use crate::waiting_room::Seat;
use crate::watch::CallWatch;

/// How much later than a call's deadline the runtime's timer cuts it, so that a guest that
/// computes is stopped by its epoch, and only one that waits for the host by the timer.
const TIMER_GRACE: Duration = Duration::from_millis(5);

/// Most bytes a guest may hand to the host in one host call, or as a result to a `run` body. Where
/// no body of the embedder's is in play it is what the instance may hold.
const HOSTCALL_BYTES: usize = 32 * 1024 * 1024;

/// What a component is asked to do.
pub(crate) enum Invocation {
    Call(Call),
    Run(Box<dyn Run>),
    Drop(ResourceHandle),
}

/// A call with arguments of the function's type and level.
pub(crate) struct Call {
    /// Where it stands in what was loaded when the call was made.
    pub(crate) function: usize,
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) arguments: Message,
    /// Who waits for the answer, where components do.
    pub(crate) chain: Option<Arc<Chain>>,
    /// Whom the guest's words are told while it is at it.
    pub(crate) watch: Option<CallWatch>,
    /// What the arguments take up while they wait, where that counts.
    pub(crate) seat: Option<Seat>,
}

impl Call {
    pub(crate) fn new(loaded: Arc<Loaded>, function: usize, arguments: Message) -> Self {
        Self {
            function,
            loaded,
            arguments,
            chain: None,
            watch: None,
            seat: None,
        }
    }

    /// What its arguments count as while they wait, in bytes.
    pub(crate) fn footprint(&self) -> usize {
        self.loaded.messages.footprint(self.arguments.len())
    }

    fn name(&self) -> Arc<str> {
        let functions = self.loaded.compiled.exports.functions();
        let function = functions.get(self.function);
        function.map_or_else(|| Arc::from("call"), |function| Arc::clone(&function.name))
    }
}

impl Invocation {
    /// It waits no more.
    pub(crate) fn rise(&mut self) {
        if let Self::Call(call) = self {
            call.seat = None;
        }
    }
}

impl Request for Invocation {
    fn name(&self) -> Arc<str> {
        match self {
            Self::Call(call) => call.name(),
            Self::Run(_) => Arc::from("run"),
            Self::Drop(_) => Arc::from("drop"),
        }
    }

    fn fingerprint(&self) -> Option<u64> {
        match self {
            Self::Call(call) => Some(call.arguments.fingerprint(call.function)),
            Self::Run(_) | Self::Drop(_) => None,
        }
    }
}

/// What came of it, and in which generation of the instance.
pub(crate) struct Answer {
    pub(crate) generation: u64,
    pub(crate) outcome: Outcome,
}

/// What a call returned, and the function whose types it has.
#[derive(Clone)]
pub(crate) struct Returned {
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) function: usize,
    pub(crate) message: Message,
}

/// What came of it.
pub(crate) enum Outcome {
    /// The arguments did not get as far as the guest.
    Refused(ValueError),
    /// The function is gone, or has another type, since the call was made.
    Changed(FunctionError),
    Results(Returned),
    /// The call went well, but its results do not fit a message.
    Unfit(ValueError),
    Ran(Box<dyn Any + Send>),
    /// The host had no room for an instance; the guest was not entered.
    NoInstance(Arc<ExitCause>),
    /// The instance ended over it, and the one before it is back.
    Died(Arc<ExitCause>),
}

/// A host closure over the Store and the instance, its result type erased.
pub(crate) trait Run: Send {
    fn run<'a>(
        self: Box<Self>,
        store: StoreContextMut<'a, ComponentState>,
        instance: &'a component::Instance,
    ) -> BoxFuture<'a, wasmtime::Result<Box<dyn Any + Send>>>;
}

pub(crate) struct Instance {
    guest: Guest,
    loaded: Arc<Loaded>,
    turn: Arc<Turn>,
    limits: ResourceLimits,
    /// Of the trap that ended it.
    pub(crate) coredump: Option<Coredump>,
    /// Given back once the Store is dropped: fields are dropped in order.
    _place: Place,
}

/// What a call enters; what bounds the call stands beside it.
struct Guest {
    store: Store<ComponentState>,
    instance: component::Instance,
    passage: Arc<Passage>,
    functions: Vec<Option<TypedFunc<Arguments, Lifted>>>,
}

impl Instance {
    /// Instantiates within the limits. This is the one place where a Store is made. `coredump` has
    /// the dump of a guest that traps meanwhile.
    pub(crate) async fn start(
        loaded: &Arc<Loaded>,
        limits: &ResourceLimits,
        limiter: ComponentResourceLimiter,
        caller: Caller,
        coredump: &mut Option<Coredump>,
    ) -> Result<Self, ExitCause> {
        let compiled = &loaded.compiled;
        let limit = limits.start_timeout();
        if let Some(required) = &compiled.required {
            fits(required, limits)?;
        }
        let place = loaded
            .live
            .admit(initial_bytes(compiled.required.as_ref()))?;
        let deadline = Instant::now() + limit;
        let passage = Arc::new(Passage {
            messages: Arc::clone(&loaded.messages),
            meter: limiter.meter(),
            handles: Arc::new(Handles::new(caller.generation)),
        });
        let gate = Gate::new(caller, Arc::clone(&loaded.granted), loaded.reach.clone());
        let wasi = wasi_context(&gate);
        let handles = Arc::clone(&passage.handles);
        let state = ComponentState::new(limiter, deadline, gate, wasi, handles);
        let mut store = Store::try_new(&compiled.engine.wasmtime, state)
            .map_err(|error| exit_cause(Ending::Start, error, None, limit))?;
        store.limiter(|state| state);
        store.set_hostcall_fuel(HOSTCALL_BYTES);
        store.set_max_component_handles(limits.counts().most(Counted::Handles));
        let turn = loaded.turns.turn();
        let next = Arc::clone(&turn);
        store.epoch_deadline_callback(move |store| {
            Ok(if Instant::now() < store.data().deadline {
                UpdateDeadline::YieldCustom(1, Box::pin(Arc::clone(&next).next()))
            } else {
                UpdateDeadline::Interrupt
            })
        });
        arm(&mut store, limits, deadline)
            .map_err(|error| exit_cause(Ending::Start, error, None, limit))?;
        let bounds = Bounds::new(&compiled.engine.pulse, &turn, deadline, limits);
        let attempt = {
            let attempt = pin!(compiled.pre.instantiate_async(&mut store));
            bounded(bounds, attempt).await
        };
        let instance = match attempt {
            Ok(Ok(instance)) => instance,
            Ok(Err(error)) => {
                if let Some(coredumps) = &loaded.coredumps {
                    let component = store.data().caller().component.clone();
                    *coredump = coredumps.take(&error, &mut store, &component);
                }
                let state = store.data();
                return Err(exit_cause(Ending::Start, error, Some(state), limit));
            }
            Err(Cut::Deadline) => {
                return Err(ExitCause::Deadline {
                    limit,
                    phase: DeadlinePhase::Start,
                });
            }
            Err(Cut::Waited(stretch)) => return Err(waited(stretch)),
            Err(Cut::Panic(payload)) => return Err(loaded.guests.caught(payload).into()),
            Err(Cut::Stopped) => return Err(ExitCause::Shutdown),
        };
        let kinds = compiled.exports.kinds();
        passage.handles.instantiated(kinds, &mut store, &instance);
        let functions = vec![None; compiled.exports.functions().len()];
        Ok(Self {
            guest: Guest {
                store,
                instance,
                passage,
                functions,
            },
            loaded: Arc::clone(loaded),
            turn,
            limits: *limits,
            coredump: None,
            _place: place,
        })
    }

    /// Does what it is asked within the limits. After an error the instance must be dropped.
    pub(crate) async fn serve(
        &mut self,
        invocation: Invocation,
        now: Instant,
    ) -> Result<Outcome, ExitCause> {
        let limit = self.limits.timeout();
        let deadline = now + limit;
        let Self {
            guest,
            loaded: own,
            turn,
            limits,
            coredump,
            _place,
        } = self;
        arm(&mut guest.store, limits, deadline)
            .map_err(|error| exit_cause(Ending::Call, error, None, limit))?;
        let bounds = Bounds::new(&own.compiled.engine.pulse, turn, deadline, limits);
        guest.store.set_hostcall_fuel(match invocation {
            Invocation::Call(_) | Invocation::Drop(_) => limits.max_memory_bytes(),
            Invocation::Run(_) => HOSTCALL_BYTES,
        });
        let state = guest.store.data_mut();
        state.limiter.begin_call();
        state.count_handles();
        state.chain = None;
        let served = match invocation {
            Invocation::Call(Call {
                function,
                loaded,
                arguments,
                chain,
                watch,
                seat: _,
            }) => {
                let (function, loaded) = match place_of(own, loaded, function, &arguments) {
                    Ok(place) => place,
                    Err(outcome) => return Ok(outcome),
                };
                state.chain = chain;
                let watched = watch.map(|watch| Watched::new(state.gate(), watch));
                let call = pin!(guest.call(loaded, function, arguments));
                let served = bounded(bounds, call).await;
                drop(watched);
                served
            }
            Invocation::Run(body) => {
                // Called inside, since the closure may panic before it gives a future.
                let body = pin!(async {
                    let body = body.run(guest.store.as_context_mut(), &guest.instance);
                    body.await.map(Outcome::Ran).map_err(Failed::Guest)
                });
                bounded(bounds, body).await
            }
            Invocation::Drop(handle) => {
                let drop = pin!(guest.drop_resource(own, &handle));
                bounded(bounds, drop).await
            }
        };
        match served {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(Failed::Guest(error))) => {
                if let Some(coredumps) = &own.coredumps {
                    let component = guest.store.data().caller().component.clone();
                    *coredump = coredumps.take(&error, &mut guest.store, &component);
                }
                let state = guest.store.data();
                Err(exit_cause(Ending::Call, error, Some(state), limit))
            }
            Ok(Err(Failed::Host(cause))) => Err(cause),
            Err(Cut::Deadline) => Err(ExitCause::Deadline {
                limit,
                phase: match turn.waits() {
                    true => DeadlinePhase::Computing,
                    false => DeadlinePhase::Waiting,
                },
            }),
            Err(Cut::Waited(stretch)) => Err(waited(stretch)),
            Err(Cut::Panic(payload)) => Err(own.guests.caught(payload).into()),
            Err(Cut::Stopped) => Err(ExitCause::Shutdown),
        }
    }

    /// What it holds.
    pub(crate) fn meter(&self) -> Arc<MemoryMeter> {
        Arc::clone(&self.guest.passage.meter)
    }

    /// Fuel the last call has used; 0 where fuel is not metered.
    pub(crate) fn fuel_used(&self) -> u64 {
        let store = &self.guest.store;
        match store.data().fuel {
            0 => 0,
            granted => granted.saturating_sub(store.get_fuel().unwrap_or(granted)),
        }
    }
}

/// Where the function of a call stands in the code that runs here, which may be another than the
/// call was made for; and that code.
fn place_of(
    own: &Arc<Loaded>,
    made_for: Arc<Loaded>,
    function: usize,
    arguments: &Message,
) -> Result<(usize, Arc<Loaded>), Outcome> {
    if Arc::ptr_eq(&made_for, own) {
        return Ok((function, made_for));
    }
    let of = made_for.compiled.exports.functions().get(function);
    let place = of.map_or(Ok(function), |of| own.compiled.exports.same(of));
    let place = place.map_err(Outcome::Changed)?;
    let limit_bytes = own.messages.limit(Way::In);
    match arguments.len() > limit_bytes {
        true => Err(Outcome::Refused(ValueError::TooLarge { limit_bytes })),
        false => Ok((place, Arc::clone(own))),
    }
}

impl Guest {
    /// Calls a function of what is loaded here.
    async fn call(
        &mut self,
        loaded: Arc<Loaded>,
        function: usize,
        arguments: Message,
    ) -> Result<Outcome, Failed> {
        let compiled = &loaded.compiled;
        let missing = || Failed::Host(internal(format!("no function at {function}")));
        let export = compiled
            .exports
            .functions()
            .get(function)
            .ok_or_else(missing)?;
        let func = match self.functions.get(function).copied().flatten() {
            Some(func) => func,
            None => {
                let func = self
                    .instance
                    .get_func(&mut self.store, export.index)
                    .ok_or_else(missing)?
                    .typed(&self.store)
                    .map_err(Failed::Guest)?;
                if let Some(cached) = self.functions.get_mut(function) {
                    *cached = Some(func);
                }
                func
            }
        };
        let passage = &self.passage;
        if export.has_handles
            && let Ok(bytes) = passage.messages.read(&arguments)
        {
            let kinds = compiled.exports.kinds();
            let checked = passage.handles.check(kinds, &export.params, bytes);
            if let Err(refused) = checked {
                return Ok(Outcome::Refused(refused));
            }
        }
        let luggage = match Luggage::new(Arc::clone(passage), arguments) {
            Ok(luggage) => luggage,
            Err(no_room) => return Ok(Outcome::Refused(ValueError::NoRoom(no_room))),
        };
        let call = pin!(luggage.with(func.call_async(&mut self.store, Arguments)));
        match call.await {
            Ok(Lifted { message, .. }) => Ok(match message {
                Ok(message) => Outcome::Results(Returned {
                    loaded,
                    function,
                    message,
                }),
                Err(unfit) => Outcome::Unfit(unfit),
            }),
            Err(error) => Err(Failed::Guest(error)),
        }
    }

    async fn drop_resource(
        &mut self,
        loaded: &Loaded,
        handle: &ResourceHandle,
    ) -> Result<Outcome, Failed> {
        let kinds = loaded.compiled.exports.kinds();
        match self.passage.handles.remove(kinds, handle) {
            Ok(resource) => match resource.resource_drop_async(&mut self.store).await {
                Ok(()) => Ok(Outcome::Ran(Box::new(()))),
                Err(error) => Err(Failed::Guest(error)),
            },
            Err(refused) => Ok(Outcome::Refused(refused)),
        }
    }
}

/// A watch for as long as its call goes on.
struct Watched(Arc<Gate>);

impl Watched {
    fn new(gate: &Arc<Gate>, watch: CallWatch) -> Self {
        gate.watch(Some(watch));
        Self(Arc::clone(gate))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.watch(None);
    }
}

enum Failed {
    Guest(wasmtime::Error),
    Host(ExitCause),
}

enum Cut {
    Deadline,
    /// The guest has waited for the host for as long as it may at a stretch.
    Waited(Duration),
    Panic(Box<dyn Any + Send>),
    /// The ticker has ended: nothing could stop the guest any more.
    Stopped,
}

/// Gives the next entry into the guest its deadline and its fuel.
fn arm(
    store: &mut Store<ComponentState>,
    limits: &ResourceLimits,
    deadline: Instant,
) -> wasmtime::Result<()> {
    store.data_mut().deadline = deadline;
    store.set_epoch_deadline(1);
    match limits.max_fuel() {
        Some(fuel) => {
            store.data_mut().fuel = fuel;
            store.set_fuel(fuel)
        }
        None => Ok(()),
    }
}

/// What holds while a guest runs, beside its epoch.
struct Bounds<'a> {
    pulse: &'a Pulse,
    turn: &'a Turn,
    deadline: Instant,
    wait: Option<HostWait>,
}

impl<'a> Bounds<'a> {
    fn new(pulse: &'a Pulse, turn: &'a Turn, deadline: Instant, limits: &ResourceLimits) -> Self {
        Self {
            pulse,
            turn,
            deadline,
            wait: limits.host_wait().map(HostWait::new),
        }
    }
}

/// Runs a guest with the runtime's timer and a panic boundary around it, and a ticker that ticks.
async fn bounded<T>(
    Bounds {
        pulse,
        turn,
        deadline,
        mut wait,
    }: Bounds<'_>,
    mut guest: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Cut> {
    let mut timer = None;
    poll_fn(|context| {
        if let Some(wait) = &mut wait
            && wait.is_over(context)
        {
            return Poll::Ready(Err(Cut::Waited(wait.limit())));
        }
        // Each poll may enter the guest.
        if !pulse.beat() {
            return Poll::Ready(Err(Cut::Stopped));
        }
        let polled = catch_unwind(AssertUnwindSafe(|| guest.as_mut().poll(context)));
        turn.polled();
        match polled {
            Ok(Poll::Ready(ended)) => return Poll::Ready(Ok(ended)),
            Err(payload) => return Poll::Ready(Err(Cut::Panic(payload))),
            Ok(Poll::Pending) => {}
        }
        if let Some(wait) = &mut wait {
            wait.pending(turn.waits(), context);
        }
        // Most calls need none. It is looked at also where the guest has used up the task's budget.
        let timer = timer.get_or_insert_with(|| {
            let over = sleep_until((deadline + TIMER_GRACE).into());
            Box::pin(unconstrained(over))
        });
        timer.as_mut().poll(context).map(|()| Err(Cut::Deadline))
    })
    .await
}

fn waited(limit: Duration) -> ExitCause {
    ExitCause::Deadline {
        limit,
        phase: DeadlinePhase::Waiting,
    }
}

fn internal(message: String) -> ExitCause {
    ExitCause::HostError {
        source: Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Run for Nothing {
        fn run<'a>(
            self: Box<Self>,
            _: StoreContextMut<'a, ComponentState>,
            _: &'a component::Instance,
        ) -> BoxFuture<'a, wasmtime::Result<Box<dyn Any + Send>>> {
            Box::pin(async { Ok(Box::new(()) as Box<dyn Any + Send>) })
        }
    }

    #[test]
    fn a_run_body_has_no_fingerprint() {
        assert_eq!(Invocation::Run(Box::new(Nothing)).fingerprint(), None);
    }
}
