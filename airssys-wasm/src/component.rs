//! A component as its callers see it: one name, whichever instance serves it.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use airssys_rt::{BoxFuture, CallError, ExitCause, SupervisorRef};
use tokio::time::Instant;
use wasmtime::StoreContextMut;
use wasmtime::component::{Instance, Type, Val};

use crate::component_cell::ComponentCell;
use crate::config::ComponentName;
use crate::error::WasmError;
use crate::exports::{Exports, Function, FunctionError, Homeless};
use crate::handles::{Kind, ResourceHandle};
use crate::instance::{Answer, Call, Invocation, Outcome, Run};
use crate::limits::{MemoryMetrics, ResourceLimits};
use crate::message::{Message, Way};
use crate::metrics::{ComponentMetrics, Refused};
use crate::payload::{
    DecodeError, EncodeError, ValueError, encode_arguments, encode_run, type_name,
};
use crate::replicas::{NoRoom, Replicas, Served, Times};
use crate::results::{Reply, Results};
use crate::runtime::{Loaded, Runtime};
use crate::state::ComponentState;
use crate::watch::CallOptions;

/// Most calls that wait for one component.
pub const MAILBOX_CAPACITY: usize = 1024;

/// How long a call waits for its turn where its caller gives no deadline. The time inside the
/// guest comes on top.
pub const DEFAULT_QUEUE_WAIT: Duration = Duration::from_secs(60);

/// A component, stable across restarts. Cheap to clone.
///
/// Guarantees: a call ends with an answer or a typed error by its deadline; a call that waits
/// survives the death of the instance before it; no call is carried out twice.
#[derive(Clone)]
pub struct ComponentRef {
    replicas: Arc<Replicas>,
}

impl fmt::Debug for ComponentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ComponentRef").field(self.name()).finish()
    }
}

impl ComponentRef {
    pub(crate) fn new(replicas: Replicas) -> Self {
        let replicas = Arc::new(replicas);
        Self { replicas }
    }

    /// What all replicas have in common is the first one's too.
    pub(crate) fn cell(&self) -> &Arc<ComponentCell> {
        &self.replicas.first
    }

    /// Whether both are the same instances under one name.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.replicas.is(&other.replicas)
    }

    /// Its name in the tree.
    #[must_use]
    pub fn name(&self) -> &ComponentName {
        &self.replicas.name
    }

    /// All replicas but the first.
    pub(crate) fn others(&self) -> &[Arc<ComponentCell>] {
        self.replicas.cells.get(1..).unwrap_or_default()
    }

    /// Its replicas, each by itself under the name `name-0` and so on; itself where it has none.
    #[must_use]
    pub fn replicas(&self) -> Vec<Self> {
        match &self.replicas.cells[..] {
            [_] => vec![self.clone()],
            cells => cells
                .iter()
                .map(|cell| Self::new(Replicas::one(Arc::clone(cell))))
                .collect(),
        }
    }

    /// Whether it is one replica of a component by itself.
    #[must_use]
    pub fn is_replica(&self) -> bool {
        self.replicas.cells.len() == 1 && self.cell().replica.is_some()
    }

    /// The supervisor that its replicas have for themselves, under the component's name; `None`
    /// where there is one instance, and before the first start.
    #[must_use]
    pub fn supervisor(&self) -> Option<SupervisorRef<Runtime>> {
        self.replicas.supervisor()
    }

    /// What it is held to.
    #[must_use]
    pub fn limits(&self) -> ResourceLimits {
        self.cell().limits()
    }

    /// The functions it exports.
    ///
    /// # Errors
    /// [`WasmError::NotStarted`].
    pub fn exports(&self) -> Result<Arc<Exports>, WasmError> {
        Ok(Arc::clone(&self.loaded()?.compiled.exports))
    }

    /// Memory of the instance that serves it, or of the last one, and of all replicas together;
    /// `None` before the first, while it is parked, and between two calls of the mode `per-call`.
    /// Does not stop the guest.
    #[must_use]
    pub fn memory(&self) -> Option<MemoryMetrics> {
        let each = self.replicas.cells.iter().filter_map(|cell| cell.memory());
        each.reduce(|a, b| a.and(&b))
    }

    /// What it has done and taken, per generation and in all; replicas are added up, the refusals
    /// that came before a replica was chosen included. Does not stop the guest, and waits for
    /// nothing.
    #[must_use]
    pub fn metrics(&self) -> ComponentMetrics {
        let rest = self.replicas.cells.iter().skip(1);
        let all = rest.fold(self.cell().reading(), |sum, cell| sum.and(cell.reading()));
        all.told(self.name().as_str())
    }

    /// Calls waiting for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let each = self.replicas.cells.iter().map(|cell| cell.slot.waiting());
        each.sum()
    }

    /// Calls a function by `pkg:name/iface@ver#func`, or by its bare name where only one has it. A
    /// handle of a resource goes and comes as a string, as a [`ResourceHandle`] is told.
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
        let make = || self.prepare(function, arguments);
        let options = CallOptions::default();
        self.call_made(options, make).await?.reading().values()
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
        let options = CallOptions::default().deadline(deadline);
        let make = || self.prepare(function, arguments);
        self.call_made(options, make).await?.reading().values()
    }

    /// As [`ComponentRef::call`], but a full mailbox is an error at once.
    ///
    /// # Errors
    /// As [`ComponentRef::call`], and [`WasmError::MailboxFull`] or [`WasmError::NoWaitingRoom`].
    pub async fn try_call(&self, function: &str, arguments: &[Val]) -> Result<Vec<Val>, WasmError> {
        let options = CallOptions::default().no_wait();
        let make = || self.prepare(function, arguments);
        self.call_made(options, make).await?.reading().values()
    }

    /// Calls with arguments that are encoded already, as [`ComponentRef::encode`] does it, and
    /// leaves the results as they came: for hosts that keep or forward messages, or whose bytes
    /// need no values in between. A message that waits for room is the caller's to bound.
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
        self.call_encoded_with(function, arguments, CallOptions::default())
            .await
    }

    /// As [`ComponentRef::call`], with a deadline of its own, or told of while it goes on.
    ///
    /// # Errors
    /// As [`ComponentRef::call`], and as the options say.
    pub async fn call_with(
        &self,
        function: &str,
        arguments: &[Val],
        options: CallOptions,
    ) -> Result<Vec<Val>, WasmError> {
        let make = || self.prepare(function, arguments);
        self.call_made(options, make).await?.reading().values()
    }

    /// As [`ComponentRef::call_encoded`], with a deadline of its own, or told of while it goes on.
    ///
    /// # Errors
    /// As [`ComponentRef::call_encoded`], and as the options say.
    pub async fn call_encoded_with(
        &self,
        function: &str,
        arguments: Message,
        options: CallOptions,
    ) -> Result<Results, WasmError> {
        let began = Instant::now();
        let mut call = self.with_message(function, arguments)?;
        let no_room = options.no_room();
        let deadline = after(began, options.deadline.unwrap_or(call.loaded.patience));
        call.watch = options.watch;
        if let Err(lack) = self.seat(&mut call) {
            call.seat = Some(lack.seat(self, deadline, no_room).await?);
        }
        let served = self.serve(call, Times { began, deadline }, no_room).await;
        Ok(self.reply(served)?.kept())
    }

    /// Calls what `make` makes, as the options say.
    pub(crate) async fn call_made(
        &self,
        options: CallOptions,
        make: impl Fn() -> Result<Call, WasmError>,
    ) -> Result<Reply<'_>, WasmError> {
        let began = Instant::now();
        let no_room = options.no_room();
        let (mut call, deadline) = self.seated(began, options.deadline, no_room, make).await?;
        call.watch = options.watch;
        let served = self.serve(call, Times { began, deadline }, no_room).await;
        self.reply(served)
    }

    /// A call with a message that somebody has encoded.
    pub(crate) fn with_message(
        &self,
        function: &str,
        arguments: Message,
    ) -> Result<Call, WasmError> {
        let loaded = self.loaded()?;
        let (position, _) = self.callable(&loaded, function)?;
        let messages = &loaded.messages;
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
        Ok(Call::new(loaded, position, arguments))
    }

    /// Makes a call with arguments that are of the function's type and level; a full mailbox is an
    /// error at once.
    pub(crate) async fn deliver(&self, mut call: Call) -> Result<Results, WasmError> {
        let began = Instant::now();
        let deadline = began + call.loaded.patience;
        let no_room = NoRoom::HandBack;
        if let Err(lack) = self.seat(&mut call) {
            call.seat = Some(lack.seat(self, deadline, no_room).await?);
        }
        let served = self.serve(call, Times { began, deadline }, no_room).await;
        Ok(self.reply(served)?.kept())
    }

    async fn serve(&self, call: Call, times: Times, no_room: NoRoom) -> Served<'_> {
        let call = Invocation::Call(call);
        self.replicas.call(call, times, no_room).await
    }

    /// Calls a function that takes one `list<u8>` and returns one, without a value for each byte.
    ///
    /// # Errors
    /// As [`ComponentRef::call`]; [`WasmError::Arguments`] or [`WasmError::Results`] where the
    /// function is of another type, in the latter case after the call.
    pub async fn call_bytes(&self, function: &str, bytes: &[u8]) -> Result<Vec<u8>, WasmError> {
        let is_bytes = |ty: &Type| matches!(ty, Type::List(list) if list.ty() == Type::U8);
        let make = || self.prepare_run(function, "list<u8>", is_bytes, bytes);
        let reply = self.call_made(CallOptions::default(), make).await?;
        reply.reading().to_bytes()
    }

    /// Calls a function that takes one `string` and returns one.
    ///
    /// # Errors
    /// As [`ComponentRef::call_bytes`].
    pub async fn call_text(&self, function: &str, text: &str) -> Result<String, WasmError> {
        let is_text = |ty: &Type| *ty == Type::String;
        let make = || self.prepare_run(function, "string", is_text, text.as_bytes());
        let reply = self.call_made(CallOptions::default(), make).await?;
        Ok(reply.reading().text()?.to_owned())
    }

    /// Encodes the arguments of a call, checked against the function's type, at the component's
    /// level.
    ///
    /// # Errors
    /// [`WasmError::NotStarted`], [`WasmError::Function`], [`WasmError::Arguments`] or
    /// [`WasmError::Damaged`].
    pub fn encode(&self, function: &str, arguments: &[Val]) -> Result<Message, WasmError> {
        let loaded = self.loaded()?;
        let (_, function) = self.callable(&loaded, function)?;
        self.encoded(&loaded, function, arguments)
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
        let times = self.times();
        let (cell, answer) = self.replicas.call(body, times, NoRoom::Wait).await;
        let any = match self.answer(cell, answer)?.outcome {
            Outcome::Ran(any) => any.downcast::<T>().ok(),
            Outcome::NoInstance(cause) => return Err(self.no_instance(cell, cause)),
            Outcome::Died(cause) => return Err(WasmError::exited(self.name(), cause)),
            _ => None,
        };
        any.map(|value| *value)
            .ok_or_else(|| WasmError::Undecodable {
                component: self.name().clone(),
                source: DecodeError,
            })
    }

    /// Drops a resource that an instance holds for its callers: runs the guest's destructor under
    /// the limits of a call.
    ///
    /// # Errors
    /// [`WasmError::Arguments`] with [`ValueError::Handle`], and nothing was run; otherwise as
    /// [`ComponentRef::call`].
    pub async fn drop_resource(&self, handle: &ResourceHandle) -> Result<(), WasmError> {
        let reason = self.loaded().map(|loaded| self.homeless(&loaded))?;
        if let Some(reason) = reason {
            let name = format!("[drop]{}", handle.kind());
            return Err(self.no_function(FunctionError::Homeless { name, reason }));
        }
        let request = Invocation::Drop(handle.clone());
        let times = self.times();
        let (cell, answer) = self.replicas.call(request, times, NoRoom::Wait).await;
        match self.answer(cell, answer)?.outcome {
            Outcome::Refused(source) => Err(self.not_encoded(source.into())),
            Outcome::NoInstance(cause) => Err(self.no_instance(cell, cause)),
            Outcome::Died(cause) => Err(WasmError::exited(self.name(), cause)),
            Outcome::Changed(source) => Err(self.no_function(source)),
            Outcome::Ran(_) | Outcome::Results(_) | Outcome::Unfit(_) => Ok(()),
        }
    }

    /// Of what begins now and may last as long as calls do.
    fn times(&self) -> Times {
        let began = Instant::now();
        let deadline = began + DEFAULT_QUEUE_WAIT + self.limits().timeout();
        Times { began, deadline }
    }

    /// What the release that is called has loaded.
    pub(crate) fn loaded(&self) -> Result<Arc<Loaded>, WasmError> {
        match self.cell().loaded() {
            Some(loaded) => Ok(loaded),
            None => Err(WasmError::NotStarted {
                component: self.name().clone(),
            }),
        }
    }

    pub(crate) fn callable<'l>(
        &self,
        loaded: &'l Loaded,
        name: &str,
    ) -> Result<(usize, &'l Function), WasmError> {
        let exports = &loaded.compiled.exports;
        let (position, function) = exports
            .callable(name)
            .map_err(|source| self.no_function(source))?;
        let homeless = function.has_handles.then(|| self.homeless(loaded));
        match homeless.flatten() {
            None => Ok((position, function)),
            Some(reason) => Err(self.no_function(FunctionError::Homeless {
                name: function.name.to_string(),
                reason,
            })),
        }
    }

    /// Why handles have no instance to live in.
    fn homeless(&self, loaded: &Loaded) -> Option<Homeless> {
        let replicas = (self.replicas.cells.len() > 1).then_some(Homeless::Replicas);
        loaded.homeless.or(replicas)
    }

    fn encoded(
        &self,
        loaded: &Loaded,
        function: &Function,
        arguments: &[Val],
    ) -> Result<Message, WasmError> {
        encode_arguments(
            &loaded.messages,
            &function.params,
            arguments,
            kinds_of(loaded, function),
        )
        .map_err(|error| self.not_encoded(error))
    }

    pub(crate) fn not_encoded(&self, error: EncodeError) -> WasmError {
        self.cell().metrics.refused(Refused::Arguments);
        let component = self.name().clone();
        match error {
            EncodeError::Value(source) => WasmError::Arguments { component, source },
            EncodeError::Damaged(source) => WasmError::Damaged { component, source },
        }
    }

    #[cfg(feature = "json")]
    pub(crate) fn not_from_json(&self, source: crate::json::JsonError) -> WasmError {
        self.cell().metrics.refused(Refused::Arguments);
        let component = self.name().clone();
        WasmError::Json { component, source }
    }

    /// A call of a function that takes one run of bytes, of a type that `is` tells.
    fn prepare_run(
        &self,
        function: &str,
        found: &'static str,
        is: impl Fn(&Type) -> bool,
        run: &[u8],
    ) -> Result<Call, WasmError> {
        let loaded = self.loaded()?;
        let (position, function) = self.callable(&loaded, function)?;
        let refused = match &function.params[..] {
            [(_, ty)] if is(ty) => {
                let arguments = encode_run(&loaded.messages, run);
                let arguments = arguments.map_err(|error| self.not_encoded(error))?;
                return Ok(Call::new(loaded, position, arguments));
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

    fn prepare(&self, name: &str, arguments: &[Val]) -> Result<Call, WasmError> {
        let loaded = self.loaded()?;
        let (function, of) = self.callable(&loaded, name)?;
        let arguments = self.encoded(&loaded, of, arguments)?;
        Ok(Call::new(loaded, function, arguments))
    }

    fn no_function(&self, source: FunctionError) -> WasmError {
        self.cell().metrics.refused(Refused::Function);
        WasmError::Function {
            component: self.name().clone(),
            source,
        }
    }

    fn reply<'c>(&'c self, (cell, answer): Served<'c>) -> Result<Reply<'c>, WasmError> {
        let Answer {
            generation,
            outcome,
        } = self.answer(cell, answer)?;
        let component = || self.name().clone();
        let returned = match outcome {
            Outcome::Results(returned) => returned,
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
            Outcome::Changed(source) => return Err(self.no_function(source)),
            Outcome::NoInstance(cause) => return Err(self.no_instance(cell, cause)),
            Outcome::Died(cause) => return Err(WasmError::exited(self.name(), cause)),
            Outcome::Ran(_) => {
                return Err(WasmError::Undecodable {
                    component: component(),
                    source: DecodeError,
                });
            }
        };
        #[cfg(feature = "fault-injection")]
        let returned = {
            let mut returned = returned;
            cell.flip.carry_out(&mut returned.message);
            returned
        };
        Ok(Reply {
            component: self.name(),
            cell,
            generation,
            returned,
        })
    }

    fn no_instance(&self, cell: &ComponentCell, cause: Arc<ExitCause>) -> WasmError {
        cell.metrics.refused(Refused::NoInstance);
        WasmError::NoInstance {
            component: self.name().clone(),
            cause,
        }
    }

    fn answer(
        &self,
        cell: &ComponentCell,
        answer: Result<Answer, CallError<Invocation>>,
    ) -> Result<Answer, WasmError> {
        answer.map_err(|error| self.unanswered(cell, error))
    }

    fn unanswered(&self, cell: &ComponentCell, error: CallError<Invocation>) -> WasmError {
        let component = self.name().clone();
        if let Some(refused) = Refused::of(&error) {
            cell.metrics.refused(refused);
        }
        match error {
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
        }
    }
}

/// The resources that may be among the function's arguments.
pub(crate) fn kinds_of<'l>(loaded: &'l Loaded, function: &Function) -> &'l [Kind] {
    match function.has_handles {
        true => loaded.compiled.exports.kinds(),
        false => &[],
    }
}

/// The moment `patience` after another; far ahead where that does not fit.
pub(crate) fn after(began: Instant, patience: Duration) -> Instant {
    let far = Duration::from_secs(365 * 24 * 3600);
    began + patience.min(far)
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
