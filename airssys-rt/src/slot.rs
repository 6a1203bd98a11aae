//! Where calls wait for an actor: a bounded mailbox that outlives the actor's incarnations.
//!
//! Guarantees: a call that waits survives a restart; the call in flight gets the exit cause; a
//! full mailbox hands the request back; every call ends by its deadline plus [`DEADLINE_GRACE`].
//! A request is handed out at most once, unless it says that it may be handed out again.

mod alarm;
mod poison;

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::coop::poll_proceed;
use tokio::time::{Instant, timeout_at};

use alarm::Alarm;
pub use poison::Poison;
use poison::Suspects;

use crate::{DeadLetter, ExitCause, ExitKind};

/// How often a request that may be handed out again is handed out at most, unless the slot's
/// limits say otherwise.
pub const DEFAULT_ATTEMPTS: u32 = 3;

/// How much later than its deadline a call in flight may end, so that the actor's own, better
/// informed cause wins over the bare expiry.
pub const DEADLINE_GRACE: Duration = Duration::from_millis(50);

/// Tells a serving actor that its slot has work: handle one request with [`Slot::take`], then
/// [`Slot::answer`]; or stay with the slot for as long as nothing else is to be done, with
/// [`Slot::poll_next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work;

/// What an actor that stays with its slot is to do.
#[derive(Debug)]
pub enum Next<T> {
    /// This request. Answer it before asking on.
    Request(T, Turn),
    /// Somebody has called [`Slot::nudge`].
    Nudged,
}

/// When a request was taken.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// The moment.
    pub taken: Instant,
    /// From the call to then.
    pub waited: Duration,
}

/// What a slot has to know of a request.
pub trait Request: Sized + Send {
    /// What it is called in a dead letter.
    fn name(&self) -> Arc<str>;

    /// A copy, to be handed out should the actor end while it works on this one. Only for what
    /// does no harm when it is carried out twice; by default it is not.
    fn again(&self) -> Option<Self> {
        None
    }

    /// The same for requests that do the same, so that [`Poison`] can tell them; by default they
    /// cannot be told.
    fn fingerprint(&self) -> Option<u64> {
        None
    }
}

/// What a slot holds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotLimits {
    /// Most requests that wait; at least 1.
    pub capacity: usize,
    /// How often a request that may be handed out again is handed out at most.
    pub attempts: u32,
    /// When requests are refused that end one incarnation after another; `None`: never.
    pub poison: Option<Poison>,
}

/// A request's way into one actor after another.
pub struct Slot<T, R> {
    inner: Mutex<Inner<T, R>>,
    room: Semaphore,
    capacity: usize,
    attempts: u32,
}

struct Inner<T, R> {
    queue: VecDeque<Envelope<T, R>>,
    in_flight: Option<InFlight<T, R>>,
    state: State,
    /// The incarnation that may take requests.
    serving: Option<u64>,
    suspects: Option<Suspects>,
    actor: Told,
    /// An actor that stays is to look up, whatever waits.
    nudged: bool,
    /// Of a call that is over.
    alarm: Option<Alarm>,
    died: Option<Instant>,
    recovery: Option<Duration>,
}

struct Envelope<T, R> {
    request: T,
    reply: Reply<R>,
    began: Instant,
    deadline: Instant,
    /// Incarnations that ended over it.
    deaths: u32,
    /// It holds a unit of room; one that is handed out again has given its back.
    roomy: bool,
}

/// What stays here of a request that the actor works on.
struct InFlight<T, R> {
    reply: Reply<R>,
    again: Option<T>,
    fingerprint: Option<u64>,
    /// Only where it can come to a dead letter.
    name: Option<Arc<str>>,
    began: Instant,
    deadline: Instant,
    deaths: u32,
}

type Reply<R> = oneshot::Sender<Outcome<R>>;

enum Outcome<R> {
    Answer(R),
    Exited(Arc<ExitCause>),
    Closed(Arc<ExitCause>),
    Poisonous(u32, Arc<ExitCause>),
}

/// What the serving actor knows of what waits.
enum Told {
    /// Nothing: it comes back by a `Work` message.
    No,
    /// A `Work` message is on its way to it, or it is at work and will announce the next request.
    Yes,
    /// It stays with the slot, and waits for something to do.
    Waits(Waker),
    /// It stays with the slot, and will look by itself.
    Looks,
}

enum State {
    /// Not started yet, or between two incarnations: calls wait.
    Down,
    Serving(ActorRef<Work>),
    /// Nobody will come: calls are refused.
    Closed(Arc<ExitCause>),
}

/// Why a call got no answer from the actor.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CallError<T> {
    /// The mailbox is full; the request comes back.
    #[error("mailbox full: {capacity} requests are waiting")]
    Full {
        /// What was not taken.
        request: T,
        /// Most requests that may wait.
        capacity: usize,
    },
    /// Nobody serves this slot any more; the request comes back.
    #[error("stopped: {cause}")]
    Stopped {
        /// What was not taken; `None` if it had been waiting already.
        request: Option<T>,
        /// Why nobody serves it.
        cause: Arc<ExitCause>,
    },
    /// The deadline passed before an answer came.
    #[error("no answer within {waited:?}")]
    Expired {
        /// From the call to its end.
        waited: Duration,
    },
    /// The actor ended while it worked on this request.
    #[error(transparent)]
    Exited(Arc<ExitCause>),
    /// Requests like this one have ended too many incarnations; the request comes back.
    #[error("refused: {deaths} incarnations ended over requests like this one; the last: {cause}")]
    Poisonous {
        /// What was not taken; `None` if it had been waiting already.
        request: Option<T>,
        /// Incarnations that ended.
        deaths: u32,
        /// How the last one did.
        cause: Arc<ExitCause>,
    },
}

impl<T> fmt::Debug for CallError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full { .. } => "Full: ",
            Self::Stopped { .. } => "Stopped: ",
            Self::Expired { .. } => "Expired: ",
            Self::Exited(_) => "Exited: ",
            Self::Poisonous { .. } => "Poisonous: ",
        })?;
        fmt::Display::fmt(self, f)
    }
}

impl<T: Request, R: Send> Slot<T, R> {
    /// A slot in which at most `capacity` requests wait (1 at least), with [`DEFAULT_ATTEMPTS`]
    /// and nothing refused for what it did.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::with_limits(SlotLimits {
            capacity,
            attempts: DEFAULT_ATTEMPTS,
            poison: None,
        })
    }

    /// A slot that holds to `limits`.
    #[must_use]
    pub fn with_limits(limits: SlotLimits) -> Self {
        let capacity = limits.capacity.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                in_flight: None,
                state: State::Down,
                serving: None,
                suspects: limits.poison.map(Suspects::new),
                actor: Told::No,
                nudged: false,
                alarm: None,
                died: None,
                recovery: None,
            }),
            room: Semaphore::new(capacity),
            capacity,
            attempts: limits.attempts,
        }
    }

    /// Sends a request and waits for its answer; waits for room first where the mailbox is full.
    ///
    /// # Errors
    /// [`CallError::Stopped`], [`CallError::Expired`], [`CallError::Exited`] or
    /// [`CallError::Poisonous`].
    pub async fn call(&self, request: T, deadline: Instant) -> Result<R, CallError<T>> {
        self.call_since(request, Instant::now(), deadline).await
    }

    /// As [`Slot::call`], of a call that `began` a moment ago: for whoever has read the clock.
    ///
    /// # Errors
    /// As [`Slot::call`].
    pub async fn call_since(
        &self,
        request: T,
        began: Instant,
        deadline: Instant,
    ) -> Result<R, CallError<T>> {
        // Most often there is room, and no need for a timer.
        if let Ok(permit) = self.room.try_acquire() {
            permit.forget();
            return self.send(request, began, deadline).await;
        }
        match timeout_at(deadline, self.room.acquire()).await {
            Ok(Ok(permit)) => permit.forget(),
            // The semaphore is never closed; were it, the slot would be as good as full.
            Ok(Err(_)) => {
                return Err(CallError::Full {
                    request,
                    capacity: self.capacity,
                });
            }
            Err(_) => {
                return Err(CallError::Expired {
                    waited: began.elapsed(),
                });
            }
        }
        self.send(request, began, deadline).await
    }

    /// As [`Slot::call`], but a full mailbox hands the request back at once.
    ///
    /// # Errors
    /// [`CallError::Full`], else as [`Slot::call`].
    pub async fn try_call(&self, request: T, deadline: Instant) -> Result<R, CallError<T>> {
        self.try_call_since(request, Instant::now(), deadline).await
    }

    /// As [`Slot::try_call`], of a call that `began` a moment ago.
    ///
    /// # Errors
    /// As [`Slot::try_call`].
    pub async fn try_call_since(
        &self,
        request: T,
        began: Instant,
        deadline: Instant,
    ) -> Result<R, CallError<T>> {
        match self.room.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => {
                return Err(CallError::Full {
                    request,
                    capacity: self.capacity,
                });
            }
        }
        self.send(request, began, deadline).await
    }

    /// Owns one unit of room, which the queue gives back when the request leaves it.
    async fn send(&self, request: T, began: Instant, deadline: Instant) -> Result<R, CallError<T>> {
        let (reply, mut answer) = oneshot::channel();
        let kept = {
            let mut inner = self.lock();
            if let State::Closed(cause) = &inner.state {
                let cause = Arc::clone(cause);
                drop(inner);
                self.room.add_permits(1);
                return Err(CallError::Stopped {
                    request: Some(request),
                    cause,
                });
            }
            if let Some((deaths, cause)) = inner.refuses(&request) {
                drop(inner);
                self.room.add_permits(1);
                return Err(CallError::Poisonous {
                    request: Some(request),
                    deaths,
                    cause,
                });
            }
            inner.queue.push_back(Envelope {
                request,
                reply,
                began,
                deadline,
                deaths: 0,
                roomy: true,
            });
            let kept = inner.alarm.take();
            let woken = inner.wake();
            drop(inner);
            woken.wake();
            kept
        };
        let mut alarm = Alarm::at(kept, deadline + DEADLINE_GRACE);
        let outcome = poll_fn(|context| match Pin::new(&mut answer).poll(context) {
            Poll::Ready(outcome) => Poll::Ready(outcome.ok()),
            Poll::Pending => alarm.poll(context).map(|()| None),
        });
        let outcome = outcome.await;
        alarm.rest();
        self.lock().alarm = Some(alarm);
        match outcome {
            Some(Outcome::Answer(answer)) => Ok(answer),
            Some(Outcome::Exited(cause)) => Err(CallError::Exited(cause)),
            Some(Outcome::Closed(cause)) => Err(CallError::Stopped {
                request: None,
                cause,
            }),
            Some(Outcome::Poisonous(deaths, cause)) => Err(CallError::Poisonous {
                request: None,
                deaths,
                cause,
            }),
            // Let go by `take`, since its deadline passed while it was waiting; or just now.
            None => Err(CallError::Expired {
                waited: began.elapsed(),
            }),
        }
    }

    /// Opens the slot for an incarnation that is ready to serve. Waiting requests are announced.
    pub fn attach(&self, generation: u64, actor: ActorRef<Work>) {
        let mut inner = self.lock();
        inner.serving = Some(generation);
        inner.state = State::Serving(actor);
        inner.recovery = inner.died.take().map(|died| died.elapsed());
        inner.actor = Told::No;
        let woken = inner.wake_for_work();
        drop(inner);
        woken.wake();
    }

    /// The next request for this incarnation. Requests whose caller has gone or whose deadline has
    /// passed are let go. Answer it before taking the next one.
    pub fn take(&self, generation: u64) -> Option<T> {
        let mut inner = self.lock();
        if inner.serving != Some(generation) {
            return None;
        }
        inner.nudged = false;
        let (request, left) = inner.take();
        if request.is_none() {
            inner.actor = Told::No;
        }
        drop(inner);
        self.room.add_permits(left);
        request.map(|(request, _)| request)
    }

    /// What an actor does next that stays with the slot, as [`Slot::take`] hands it out. While it
    /// stays it gets no [`Work`] message, so its handler must not end without [`Slot::leave`], nor
    /// must another task ask. Never ready for an incarnation that does not serve.
    pub fn poll_next(&self, generation: u64, context: &mut Context<'_>) -> Poll<Next<T>> {
        // An actor that always finds something leaves its worker to others from time to time.
        let budget = ready!(poll_proceed(context));
        let mut inner = self.lock();
        if inner.serving != Some(generation) {
            return Poll::Pending;
        }
        inner.actor = Told::Looks;
        if std::mem::take(&mut inner.nudged) {
            budget.made_progress();
            return Poll::Ready(Next::Nudged);
        }
        let (request, left) = inner.take();
        if request.is_none() {
            inner.actor = Told::Waits(context.waker().clone());
        }
        drop(inner);
        if left > 0 {
            self.room.add_permits(left);
        }
        match request {
            Some((request, turn)) => {
                budget.made_progress();
                Poll::Ready(Next::Request(request, turn))
            }
            None => Poll::Pending,
        }
    }

    /// The actor stays no longer: it is told by a [`Work`] message again, at once where there is
    /// something to do.
    pub fn leave(&self, generation: u64) {
        let mut inner = self.lock();
        if inner.serving != Some(generation) {
            return;
        }
        inner.actor = Told::No;
        let woken = match inner.nudged {
            true => inner.wake(),
            false => inner.wake_for_work(),
        };
        drop(inner);
        woken.wake();
    }

    /// Has the actor look up although nothing may be waiting: by [`Next::Nudged`] where it stays,
    /// else by a [`Work`] message. Whether the incarnation serves.
    pub fn nudge(&self, generation: u64) -> bool {
        let mut inner = self.lock();
        if inner.serving != Some(generation) {
            return false;
        }
        inner.nudged = true;
        // One that is on its way to work may stay there, and one that works may not ask again: a
        // message more than there is work does no harm.
        if let Told::Yes = inner.actor {
            inner.actor = Told::No;
        }
        let woken = inner.wake();
        drop(inner);
        woken.wake();
        true
    }

    /// Answers the request in flight and announces the next one.
    pub fn answer(&self, generation: u64, answer: R) {
        let mut inner = self.lock();
        if inner.serving != Some(generation) {
            return;
        }
        let answered = inner.in_flight.take();
        if let Told::Yes = inner.actor {
            inner.actor = Told::No;
        }
        let woken = inner.wake_for_work();
        drop(inner);
        woken.wake();
        if let Some(answered) = answered {
            // A caller that has gone does not want the answer.
            answered.reply.send(Outcome::Answer(answer)).ok();
        }
    }

    /// Ready once nobody waits for the answer to the request in flight any more: its caller has
    /// gone, or its deadline plus [`DEADLINE_GRACE`] has passed. The actor may then end with
    /// [`ExitCause::Cancelled`], or work on. Wakes the last task that polled it.
    pub fn poll_abandoned(&self, generation: u64, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.serving != Some(generation) {
            return Poll::Pending;
        }
        match &mut inner.in_flight {
            Some(in_flight) => in_flight.reply.poll_closed(context),
            None => Poll::Pending,
        }
    }

    /// Notes the moment an incarnation died, for [`Slot::recovery`].
    pub fn dying(&self, generation: u64) {
        let mut inner = self.lock();
        if inner.serving == Some(generation) {
            inner.died = Some(Instant::now());
        }
    }

    /// An incarnation has ended: the request in flight is handed out again if it may be, else its
    /// caller gets the cause; the others wait on. What is given up for good comes back.
    pub fn exited(&self, generation: u64, cause: &Arc<ExitCause>) -> Option<DeadLetter> {
        let mut inner = self.lock();
        if inner.serving != Some(generation) {
            return None;
        }
        // An actor that was left behind takes nothing more.
        inner.serving = None;
        if !matches!(inner.state, State::Closed(_)) {
            inner.state = State::Down;
        }
        inner.actor = Told::No;
        inner.nudged = false;
        inner.died.get_or_insert_with(Instant::now);
        let InFlight {
            reply,
            again,
            name,
            fingerprint,
            began,
            deadline,
            deaths,
        } = inner.in_flight.take()?;
        // A request is not to blame for an actor that was told to end.
        let deaths = deaths + u32::from(cause.is_abnormal());
        let conviction = inner.convict(fingerprint, cause);
        let mut refused = Vec::new();
        let mut room = 0;
        if let (Some(fingerprint), Some((_, true))) = (fingerprint, conviction) {
            refused = inner.evict(fingerprint);
            room = refused.iter().filter(|envelope| envelope.roomy).count();
        }
        let evicted = matches!(conviction, Some((_, true)));
        let closed = matches!(inner.state, State::Closed(_));
        let tries_left = deaths < self.attempts && deadline > Instant::now() && !closed;
        let redeliverable = again.is_some();
        let returned = match again {
            Some(request) if tries_left && !evicted && !reply.is_closed() => {
                inner.queue.push_front(Envelope {
                    request,
                    reply,
                    began,
                    deadline,
                    deaths,
                    roomy: false,
                });
                None
            }
            _ => Some(reply),
        };
        drop(inner);
        self.room.add_permits(room);
        let total = conviction.map_or(deaths, |(total, _)| total.max(deaths));
        for envelope in refused {
            let outcome = Outcome::Poisonous(total, Arc::clone(cause));
            envelope.reply.send(outcome).ok();
        }
        let reply = returned?;
        reply.send(Outcome::Exited(Arc::clone(cause))).ok();
        let given_up = evicted || (redeliverable && deaths >= self.attempts);
        given_up.then(|| DeadLetter {
            message: name.unwrap_or_else(|| Arc::from("request")),
            deaths: total,
            evicted,
        })
    }

    /// Nobody will serve the slot until somebody attaches again: waiting and new requests are
    /// refused with [`CallError::Stopped`].
    pub fn close(&self, cause: &Arc<ExitCause>) {
        let mut inner = self.lock();
        inner.state = State::Closed(Arc::clone(cause));
        inner.died = None;
        let waiting = std::mem::take(&mut inner.queue);
        drop(inner);
        let room = waiting.iter().filter(|envelope| envelope.roomy).count();
        self.room.add_permits(room);
        for envelope in waiting {
            envelope.reply.send(Outcome::Closed(Arc::clone(cause))).ok();
        }
    }

    /// From the last death to the incarnation that serves now taking work.
    #[must_use]
    pub fn recovery(&self) -> Option<Duration> {
        self.lock().recovery
    }

    /// Requests waiting.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    /// Most requests that may wait.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T, R>> {
        // Nothing panics under this lock, so a poisoned one still holds a whole state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom to tell of work, once the lock is free: whoever is told may be at it at once.
#[must_use]
enum Woken {
    Nobody,
    By(ActorRef<Work>),
    Waiting(Waker),
}

impl Woken {
    fn wake(self) {
        match self {
            Self::Nobody => {}
            // A failing send means the actor is dying; its successor is told on attaching.
            Self::By(actor) => _ = actor.send_message(Work),
            Self::Waiting(waker) => waker.wake(),
        }
    }
}

impl<T, R> Inner<T, R> {
    fn wake(&mut self) -> Woken {
        let State::Serving(actor) = &self.state else {
            return Woken::Nobody;
        };
        match std::mem::replace(&mut self.actor, Told::Looks) {
            Told::No => {
                self.actor = Told::Yes;
                Woken::By(actor.clone())
            }
            Told::Waits(waker) => Woken::Waiting(waker),
            told @ (Told::Yes | Told::Looks) => {
                self.actor = told;
                Woken::Nobody
            }
        }
    }

    fn wake_for_work(&mut self) -> Woken {
        match self.queue.is_empty() {
            true => Woken::Nobody,
            false => self.wake(),
        }
    }
}

impl<T: Request, R> Inner<T, R> {
    /// The next request somebody waits for, and how much room those have left that were passed.
    fn take(&mut self) -> (Option<(T, Turn)>, usize) {
        let mut left = 0;
        if self.queue.is_empty() {
            return (None, left);
        }
        let taken = Instant::now();
        while let Some(envelope) = self.queue.pop_front() {
            left += usize::from(envelope.roomy);
            if envelope.deadline > taken && !envelope.reply.is_closed() {
                let waited = taken.saturating_duration_since(envelope.began);
                return (
                    Some((self.hand_out(envelope), Turn { taken, waited })),
                    left,
                );
            }
        }
        (None, left)
    }

    fn hand_out(&mut self, envelope: Envelope<T, R>) -> T {
        let request = envelope.request;
        let again = request.again();
        let suspects = self.suspects.as_ref();
        let fingerprint = suspects.and_then(|_| request.fingerprint());
        let named = again.is_some() || fingerprint.is_some();
        self.in_flight = Some(InFlight {
            reply: envelope.reply,
            again,
            fingerprint,
            name: named.then(|| request.name()),
            began: envelope.began,
            deadline: envelope.deadline,
            deaths: envelope.deaths,
        });
        request
    }

    fn refuses(&self, request: &T) -> Option<(u32, Arc<ExitCause>)> {
        let suspects = self.suspects.as_ref()?;
        if suspects.is_empty() {
            return None;
        }
        suspects.refuses(request.fingerprint()?)
    }

    /// Blames a death on a request; how many that makes, and whether it was one too many. Faults
    /// of the host and kills are not its doing.
    fn convict(&mut self, fingerprint: Option<u64>, cause: &Arc<ExitCause>) -> Option<(u32, bool)> {
        let suspects = self.suspects.as_mut()?;
        let kind = cause.kind();
        let blameless = !cause.is_abnormal()
            || kind.is_the_hosts()
            || matches!(kind, ExitKind::Killed | ExitKind::Cancelled);
        (!blameless).then(|| fingerprint.map(|f| suspects.convict(f, cause)))?
    }

    /// Takes what waits and is like this out of the queue.
    fn evict(&mut self, fingerprint: u64) -> Vec<Envelope<T, R>> {
        let queue = std::mem::take(&mut self.queue);
        let (evicted, stay): (Vec<_>, Vec<_>) = queue
            .into_iter()
            .partition(|envelope| envelope.request.fingerprint() == Some(fingerprint));
        self.queue = VecDeque::from(stay);
        evicted
    }
}

impl<T, R> fmt::Debug for Slot<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
