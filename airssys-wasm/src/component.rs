//! A component as its callers see it: one name, whichever instance serves it.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use airssys_integrity::Corrupt;
use airssys_rt::{BoxFuture, CallError, ExitCause, Slot, Work};
use ractor::ActorRef;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use wasmtime::StoreContextMut;
use wasmtime::component::{Instance, Type, Val};

use crate::config::{ComponentConfig, ComponentName};
use crate::error::WasmError;
use crate::exports::{Exports, Function};
use crate::instance::{Answer, Invocation, Outcome, Run};
use crate::limits::{MemoryMeter, MemoryMetrics, ResourceLimits};
use crate::message::{Message, Way};
use crate::metrics::{ComponentMetrics, Metrics, Refused};
use crate::payload::{
    DecodeError, EncodeError, ValueError, encode_arguments, encode_run, type_name,
};
use crate::results::Results;
use crate::runtime::Loaded;
use crate::state::ComponentState;

/// Most calls that wait for one component.
pub const MAILBOX_CAPACITY: usize = 1024;

/// How long a call waits for its turn where its caller gives no deadline. The time inside the
/// guest comes on top.
pub const DEFAULT_QUEUE_WAIT: Duration = Duration::from_secs(60);

/// What outlives the instances of one component.
pub(crate) struct ComponentCell {
    pub(crate) config: ComponentConfig,
    pub(crate) name: ComponentName,
    pub(crate) limits: ResourceLimits,
    pub(crate) slot: Slot<Invocation, Answer>,
    pub(crate) loaded: OnceCell<Loaded>,
    pub(crate) metrics: Metrics,
    meter: Mutex<Option<Arc<MemoryMeter>>>,
    standing: Mutex<Weak<Standing>>,
    #[cfg(feature = "fault-injection")]
    pub(crate) flip: crate::fault::Flip,
}

/// What callers have found out about an incarnation. It goes with the incarnation.
pub(crate) struct Standing {
    pub(crate) generation: u64,
    actor: ActorRef<Work>,
    damage: OnceLock<Corrupt>,
}

impl Standing {
    pub(crate) fn new(generation: u64, actor: ActorRef<Work>) -> Self {
        Self {
            generation,
            actor,
            damage: OnceLock::new(),
        }
    }

    /// The cause to end with before the next call, where a result was found damaged.
    pub(crate) fn damage(&self) -> Option<ExitCause> {
        let source = Arc::new(*self.damage.get()?);
        Some(ExitCause::Integrity { source })
    }
}

impl ComponentCell {
    pub(crate) fn new(name: ComponentName, config: ComponentConfig) -> Self {
        Self {
            limits: ResourceLimits::from(config.resources),
            name,
            config,
            slot: Slot::new(MAILBOX_CAPACITY),
            loaded: OnceCell::new(),
            metrics: Metrics::new(),
            meter: Mutex::new(None),
            standing: Mutex::new(Weak::new()),
            #[cfg(feature = "fault-injection")]
            flip: crate::fault::Flip::default(),
        }
    }

    pub(crate) fn set_meter(&self, meter: Arc<MemoryMeter>) {
        *self.meter.lock().unwrap_or_else(PoisonError::into_inner) = Some(meter);
    }

    pub(crate) fn clear_meter(&self) {
        *self.meter.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn set_standing(&self, standing: &Arc<Standing>) {
        let mut held = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Arc::downgrade(standing);
    }

    /// Ends an incarnation over a result of its that was damaged on its way, unless it has ended
    /// already.
    pub(crate) fn condemn(&self, generation: u64, corrupt: Corrupt) {
        let held = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = held.upgrade().filter(|s| s.generation == generation);
        drop(held);
        if let Some(standing) = standing
            && standing.damage.set(corrupt).is_ok()
        {
            // A failing send means that the actor is ending anyway.
            standing.actor.send_message(Work).ok();
        }
    }
}

/// A component, stable across restarts. Cheap to clone.
///
/// Guarantees: a call ends with an answer or a typed error by its deadline; a call that waits
/// survives the death of the instance before it; no call is carried out twice.
#[derive(Clone)]
pub struct ComponentRef {
    cell: Arc<ComponentCell>,
}

impl fmt::Debug for ComponentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ComponentRef").field(self.name()).finish()
    }
}

impl ComponentRef {
    pub(crate) fn new(cell: Arc<ComponentCell>) -> Self {
        Self { cell }
    }

    pub(crate) fn cell(&self) -> &Arc<ComponentCell> {
        &self.cell
    }

    /// Its name in the tree.
    #[must_use]
    pub fn name(&self) -> &ComponentName {
        &self.cell.name
    }

    /// What it is held to.
    #[must_use]
    pub fn limits(&self) -> &ResourceLimits {
        &self.cell.limits
    }

    /// The functions it exports.
    ///
    /// # Errors
    /// [`WasmError::NotStarted`].
    pub fn exports(&self) -> Result<&Exports, WasmError> {
        Ok(&self.loaded()?.compiled.exports)
    }

    /// Memory of the instance that serves it, or of the last one; `None` before the first, while it
    /// is parked, and between two calls of the mode `per-call`. Does not stop the guest.
    #[must_use]
    pub fn memory(&self) -> Option<MemoryMetrics> {
        let meter = self
            .cell
            .meter
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        meter.as_ref().map(|meter| meter.metrics())
    }

    /// What it has done and taken, per generation and in all. Does not stop the guest, and waits
    /// for nothing.
    #[must_use]
    pub fn metrics(&self) -> ComponentMetrics {
        let cell = &self.cell;
        let held = cell.meter.lock().unwrap_or_else(PoisonError::into_inner);
        let living = held.as_ref().filter(|meter| !meter.is_over());
        let memory = living.map(|meter| meter.metrics());
        drop(held);
        let name = cell.name.as_str();
        cell.metrics.read(name, self.waiting(), memory)
    }

    /// Calls waiting for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.cell.slot.waiting()
    }

    /// Calls a function by `pkg:name/iface@ver#func`, or by its bare name where only one has it.
    /// Waits for its turn, at most [`DEFAULT_QUEUE_WAIT`] and the component's own time limit.
    ///
    /// Dropped before its turn, the call is withdrawn. Dropped while the guest works on it, or when
    /// its deadline has passed, it ends the guest within a [`TICK`](crate::TICK), and the instance
    /// with [`ExitCause::Cancelled`]: a fresh one takes its place, and no restart is counted.
    ///
    /// # Errors
    /// [`WasmError`]. After [`WasmError::OutOfMemory`] or [`WasmError::Exited`] a fresh instance
    /// serves the next call.
    pub async fn call(&self, function: &str, arguments: &[Val]) -> Result<Vec<Val>, WasmError> {
        self.call_within(function, arguments, self.patience()).await
    }

    /// As [`ComponentRef::call`], ending by `deadline` from now.
    ///
    /// # Errors
    /// As [`ComponentRef::call`], and [`WasmError::Expired`].
    pub async fn call_within(
        &self,
        function: &str,
        arguments: &[Val],
        deadline: Duration,
    ) -> Result<Vec<Val>, WasmError> {
        let (function, call) = self.prepare(function, arguments)?;
        let outcome = self.cell.slot.call(call, after(deadline)).await;
        self.results(function, outcome)?.values()
    }

    /// As [`ComponentRef::call`], but a full mailbox is an error at once.
    ///
    /// # Errors
    /// As [`ComponentRef::call`], and [`WasmError::MailboxFull`].
    pub async fn try_call(&self, function: &str, arguments: &[Val]) -> Result<Vec<Val>, WasmError> {
        let (function, call) = self.prepare(function, arguments)?;
        let outcome = self.cell.slot.try_call(call, after(self.patience())).await;
        self.results(function, outcome)?.values()
    }

    /// Calls with arguments that are encoded already, as [`ComponentRef::encode`] does it, and
    /// leaves the results as they came: for hosts that keep or forward messages, or whose bytes
    /// need no values in between.
    ///
    /// # Errors
    /// As [`ComponentRef::call`], and [`WasmError::OtherLevel`]; damaged arguments end the instance
    /// with [`airssys_rt::ExitCause::Integrity`] and never reach the guest, as far as the level
    /// checks.
    pub async fn call_encoded(
        &self,
        function: &str,
        arguments: Message,
    ) -> Result<Results, WasmError> {
        let (position, function) = self.function(function)?;
        let messages = &self.loaded()?.messages;
        if arguments.level() != messages.level() {
            return Err(WasmError::OtherLevel {
                component: self.name().clone(),
                expected: messages.level(),
                found: arguments.level(),
            });
        }
        let limit_bytes = messages.limit(Way::In);
        if arguments.len() > limit_bytes {
            let too_large = ValueError::TooLarge { limit_bytes };
            return Err(self.not_encoded(too_large.into()));
        }
        let call = Invocation::Call {
            name: Arc::clone(&function.name),
            function: position,
            arguments,
        };
        let outcome = self.cell.slot.call(call, after(self.patience())).await;
        self.results(position, outcome)
    }

    /// Calls a function that takes one `list<u8>` and returns one, without a value for each byte.
    ///
    /// # Errors
    /// As [`ComponentRef::call`]; [`WasmError::Arguments`] or [`WasmError::Results`] where the
    /// function is of another type, in the latter case after the call.
    pub async fn call_bytes(&self, function: &str, bytes: &[u8]) -> Result<Vec<u8>, WasmError> {
        let is_bytes = |ty: &Type| matches!(ty, Type::List(list) if list.ty() == Type::U8);
        let message = self.encode_run(function, "list<u8>", is_bytes, bytes)?;
        let results = self.call_encoded(function, message).await?;
        Ok(results.bytes()?.to_vec())
    }

    /// Calls a function that takes one `string` and returns one.
    ///
    /// # Errors
    /// As [`ComponentRef::call_bytes`].
    pub async fn call_text(&self, function: &str, text: &str) -> Result<String, WasmError> {
        let is_text = |ty: &Type| *ty == Type::String;
        let message = self.encode_run(function, "string", is_text, text.as_bytes())?;
        let results = self.call_encoded(function, message).await?;
        Ok(results.text()?.to_owned())
    }

    /// Encodes the arguments of a call, checked against the function's type, at the component's
    /// level.
    ///
    /// # Errors
    /// [`WasmError::NotStarted`], [`WasmError::Function`], [`WasmError::Arguments`] or
    /// [`WasmError::Damaged`].
    pub fn encode(&self, function: &str, arguments: &[Val]) -> Result<Message, WasmError> {
        let (_, function) = self.function(function)?;
        self.encoded(function, arguments)
    }

    /// Runs typed calls (of `wasmtime::component::bindgen!` or `get_typed_func`) on the instance,
    /// under the same limits and deadline as a call. An error the body returns ends the instance:
    /// keep errors of your own inside `T`, and return those of the guest's calls. A guest that has
    /// trapped cannot be entered again; where the body keeps that to itself, the next call is the
    /// one that finds out, and ends in [`WasmError::Exited`].
    ///
    /// # Errors
    /// As [`ComponentRef::call`].
    pub async fn run<T, F>(&self, body: F) -> Result<T, WasmError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(
                StoreContextMut<'a, ComponentState>,
                &'a Instance,
            ) -> BoxFuture<'a, wasmtime::Result<T>>
            + Send
            + 'static,
    {
        let body = Invocation::Run(Box::new(Body(body, PhantomData)));
        let outcome = self.cell.slot.call(body, after(self.patience())).await;
        let any = match self.answer(outcome)?.outcome {
            Outcome::Ran(any) => any.downcast::<T>().ok(),
            Outcome::NoInstance(cause) => return Err(self.no_instance(cause)),
            Outcome::Results(_) | Outcome::Unfit(_) | Outcome::Refused(_) => None,
        };
        any.map(|value| *value)
            .ok_or_else(|| WasmError::Undecodable {
                component: self.name().clone(),
                source: DecodeError,
            })
    }

    fn patience(&self) -> Duration {
        DEFAULT_QUEUE_WAIT + self.cell.limits.timeout()
    }

    pub(crate) fn loaded(&self) -> Result<&Loaded, WasmError> {
        match self.cell.loaded.get() {
            Some(loaded) => Ok(loaded),
            None => Err(WasmError::NotStarted {
                component: self.name().clone(),
            }),
        }
    }

    pub(crate) fn function(&self, name: &str) -> Result<(usize, &Function), WasmError> {
        let exports = &self.loaded()?.compiled.exports;
        exports
            .callable(name)
            .map_err(|source| self.no_function(source))
    }

    fn encoded(&self, function: &Function, arguments: &[Val]) -> Result<Message, WasmError> {
        let messages = &self.loaded()?.messages;
        encode_arguments(messages, &function.params, arguments)
            .map_err(|error| self.not_encoded(error))
    }

    pub(crate) fn not_encoded(&self, error: EncodeError) -> WasmError {
        self.cell.metrics.refused(Refused::Arguments);
        let component = self.name().clone();
        match error {
            EncodeError::Value(source) => WasmError::Arguments { component, source },
            EncodeError::Damaged(source) => WasmError::Damaged { component, source },
        }
    }

    /// The one argument of a function that takes a run of bytes, of a type that `is` tells.
    fn encode_run(
        &self,
        function: &str,
        found: &'static str,
        is: impl Fn(&Type) -> bool,
        run: &[u8],
    ) -> Result<Message, WasmError> {
        let (_, function) = self.function(function)?;
        let refused = match &function.params[..] {
            [(_, ty)] if is(ty) => {
                return encode_run(&self.loaded()?.messages, run)
                    .map_err(|error| self.not_encoded(error));
            }
            [(name, ty)] => ValueError::Type {
                place: name.clone(),
                expected: type_name(ty).to_owned(),
                found,
            },
            params => ValueError::Arity {
                expected: params.len(),
                found: 1,
            },
        };
        Err(self.not_encoded(refused.into()))
    }

    fn prepare(&self, name: &str, arguments: &[Val]) -> Result<(usize, Invocation), WasmError> {
        let (position, function) = self.function(name)?;
        let call = Invocation::Call {
            name: Arc::clone(&function.name),
            function: position,
            arguments: self.encoded(function, arguments)?,
        };
        Ok((position, call))
    }

    fn no_function(&self, source: crate::exports::FunctionError) -> WasmError {
        self.cell.metrics.refused(Refused::Function);
        WasmError::Function {
            component: self.name().clone(),
            source,
        }
    }

    fn results(
        &self,
        function: usize,
        answer: Result<Answer, CallError<Invocation>>,
    ) -> Result<Results, WasmError> {
        let Answer {
            generation,
            outcome,
        } = self.answer(answer)?;
        let component = || self.name().clone();
        let message = match outcome {
            Outcome::Results(message) => message,
            Outcome::Unfit(source) => {
                return Err(WasmError::Results {
                    component: component(),
                    source,
                });
            }
            Outcome::Refused(source) => {
                return Err(WasmError::Arguments {
                    component: component(),
                    source,
                });
            }
            Outcome::NoInstance(cause) => return Err(self.no_instance(cause)),
            Outcome::Ran(_) => {
                return Err(WasmError::Undecodable {
                    component: component(),
                    source: DecodeError,
                });
            }
        };
        #[cfg(feature = "fault-injection")]
        let message = {
            let mut message = message;
            self.flip(&mut message);
            message
        };
        Ok(Results::new(self.clone(), generation, function, message))
    }

    fn no_instance(&self, cause: Arc<ExitCause>) -> WasmError {
        self.cell.metrics.refused(Refused::NoInstance);
        WasmError::NoInstance {
            component: self.name().clone(),
            cause,
        }
    }

    fn answer(&self, answer: Result<Answer, CallError<Invocation>>) -> Result<Answer, WasmError> {
        let component = self.name().clone();
        if let Some(refused) = answer.as_ref().err().and_then(Refused::of) {
            self.cell.metrics.refused(refused);
        }
        answer.map_err(|error| match error {
            CallError::Exited(cause) => WasmError::exited(&component, cause),
            CallError::Full { capacity, .. } => WasmError::MailboxFull {
                component,
                capacity,
            },
            CallError::Stopped { cause, .. } => WasmError::Stopped { component, cause },
            CallError::Expired { waited } => WasmError::Expired { component, waited },
            CallError::Poisonous { deaths, cause, .. } => WasmError::Poisonous {
                component,
                deaths,
                cause,
            },
            other => WasmError::Exited {
                component,
                cause: Arc::new(airssys_rt::ExitCause::Failed {
                    source: Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(
                        other.to_string(),
                    )),
                }),
            },
        })
    }
}

/// The moment `patience` from now; far ahead where that does not fit.
fn after(patience: Duration) -> Instant {
    let far = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + patience.min(far)
}

struct Body<F, T>(F, PhantomData<fn() -> T>);

impl<F, T> Run for Body<F, T>
where
    T: Send + 'static,
    F: for<'a> FnOnce(
            StoreContextMut<'a, ComponentState>,
            &'a Instance,
        ) -> BoxFuture<'a, wasmtime::Result<T>>
        + Send,
{
    fn run<'a>(
        self: Box<Self>,
        store: StoreContextMut<'a, ComponentState>,
        instance: &'a Instance,
    ) -> BoxFuture<'a, wasmtime::Result<Box<dyn Any + Send>>> {
        let body = (self.0)(store, instance);
        Box::pin(async move { Ok(Box::new(body.await?) as Box<dyn Any + Send>) })
    }
}
