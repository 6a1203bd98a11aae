//! Where calls wait for an actor: a bounded mailbox that outlives the actor's incarnations.
//!
//! Guarantees: a call that waits survives a restart; the call in flight gets the exit cause; a
//! full mailbox hands the request back; every call ends by its deadline plus [`DEADLINE_GRACE`].
//! A request is handed out at most once, unless it says that it may be handed out again.

mod alarm;
mod call_error;
mod poison;
mod replies;
mod room;
mod waiting;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::Semaphore;
use tokio::task::coop::poll_proceed;
use tokio::time::Instant;

use alarm::Alarm;
pub use call_error::CallError;
pub use poison::Poison;
use poison::Suspects;
use replies::{Key, Replies, Sent};
use room::Room;
use waiting::Waiting;

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
    /// Those that wait for room, in the order of coming: a permit is a unit of it for the first.
    wanting: Semaphore,
    capacity: usize,
    attempts: u32,
}

struct Inner<T, R> {
    queue: VecDeque<Envelope<T>>,
    in_flight: Option<InFlight<T>>,
    replies: Replies<Outcome<R>>,
    room: Room,
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

struct Envelope<T> {
    request: T,
    reply: Key,
    began: Instant,
    deadline: Instant,
    /// Incarnations that ended over it.
    deaths: u32,
    /// It holds a unit of room; one that is handed out again has given its back.
    roomy: bool,
}

/// What stays here of a request that the actor works on.
struct InFlight<T> {
    reply: Key,
    /// To be woken when the caller goes.
    watcher: Option<Waker>,
    again: Option<T>,
    fingerprint: Option<u64>,
    /// Only where it can come to a dead letter.
    name: Option<Arc<str>>,
    began: Instant,
    deadline: Instant,
    deaths: u32,
}

enum Outcome<R> {
    Answer(R),
    Exited(Arc<ExitCause>),
    Closed(Arc<ExitCause>),
    Poisonous(u32, Arc<ExitCause>),
    Expired,
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
                replies: Replies::new(),
                room: Room::new(capacity),
                state: State::Down,
                serving: None,
                suspects: limits.poison.map(Suspects::new),
                actor: Told::No,
                nudged: false,
                alarm: None,
                died: None,
                recovery: None,
            }),
            wanting: Semaphore::new(0),
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
        let request = match self.send(request, began, deadline, false).await {
            Err(CallError::Full { request, .. }) => request,
            done => return done,
        };
        if !self.wait_for_room(deadline).await {
            return Err(CallError::Expired {
                waited: began.elapsed(),
            });
        }
        self.send(request, began, deadline, true).await
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
        self.send(request, began, deadline, false).await
    }

    async fn send(
        &self,
        request: T,
        began: Instant,
        deadline: Instant,
        has_room: bool,
    ) -> Result<R, CallError<T>> {
        let mut waiting = Waiting::new(self);
        let mut request = Some(request);
        let outcome = poll_fn(|context| {
            let Some(request) = request.take() else {
                return waiting.poll(context).map(Ok);
            };
            match self.enter(request, (began, deadline), has_room, context) {
                Ok((reply, kept)) => {
                    let until = deadline + DEADLINE_GRACE;
                    waiting.begin(reply, kept, until, context).map(Ok)
                }
                Err(refused) => Poll::Ready(Err(refused)),
            }
        });
        match outcome.await? {
            Outcome::Answer(answer) => Ok(answer),
            Outcome::Exited(cause) => Err(CallError::Exited(cause)),
            Outcome::Closed(cause) => Err(CallError::Stopped {
                request: None,
                cause,
            }),
            Outcome::Poisonous(deaths, cause) => Err(CallError::Poisonous {
                request: None,
                deaths,
                cause,
            }),
            // Let go by `take`, since its deadline passed while it was waiting; or just now.
            Outcome::Expired => Err(CallError::Expired {
                waited: began.elapsed(),
            }),
        }
    }

    /// Queues a request that has a unit of room, or finds one. What is kept of the alarm of the
    /// call before comes with its key.
    fn enter(
        &self,
        request: T,
        (began, deadline): (Instant, Instant),
        has_room: bool,
        context: &mut Context<'_>,
    ) -> Result<(Key, Option<Alarm>), CallError<T>> {
        let mut inner = self.lock();
        let refused = match &inner.state {
            State::Closed(cause) => Some(CallError::Stopped {
                request: None,
                cause: Arc::clone(cause),
            }),
            _ => inner
                .refuses(&request)
                .map(|(deaths, cause)| CallError::Poisonous {
                    request: None,
                    deaths,
                    cause,
                }),
        };
        if let Some(refused) = refused {
            let granted = inner.room.give_back(usize::from(has_room));
            self.grant(granted, &inner);
            drop(inner);
            return Err(refused.with(request));
        }
        if !has_room && !inner.room.take() {
            return Err(CallError::Full {
                request,
                capacity: self.capacity,
            });
        }
        let reply = inner.replies.await_by(context.waker().clone());
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
        Ok((reply, kept))
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
        let (request, passed) = inner.take();
        if request.is_none() {
            inner.actor = Told::No;
        }
        self.let_go(passed, inner);
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
        let (request, passed) = inner.take();
        if request.is_none() {
            inner.actor = Told::Waits(context.waker().clone());
        }
        self.let_go(passed, inner);
        match request {
            Some((request, turn)) => {
                budget.made_progress();
                Poll::Ready(Next::Request(request, turn))
            }
            None => Poll::Pending,
        }
    }

    /// Frees the lock first.
    fn let_go(&self, passed: Passed<T, R>, inner: MutexGuard<'_, Inner<T, R>>) {
        self.grant(passed.granted, &inner);
        drop(inner);
        for (_, sent) in passed.requests {
            sent.finish();
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
        let sent = answered.map(|of| inner.replies.send(of.reply, Outcome::Answer(answer)));
        drop(inner);
        woken.wake();
        if let Some(sent) = sent {
            sent.finish();
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
        let Inner {
            in_flight, replies, ..
        } = &mut *inner;
        let Some(in_flight) = in_flight else {
            return Poll::Pending;
        };
        if !replies.is_wanted(in_flight.reply) {
            return Poll::Ready(());
        }
        match &mut in_flight.watcher {
            Some(watcher) => watcher.clone_from(context.waker()),
            watcher => *watcher = Some(context.waker().clone()),
        }
        Poll::Pending
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
            watcher: _,
        } = inner.in_flight.take()?;
        // A request is not to blame for an actor that was told to end.
        let deaths = deaths + u32::from(cause.is_abnormal());
        let conviction = inner.convict(fingerprint, cause);
        let total = conviction.map_or(deaths, |(total, _)| total.max(deaths));
        let evicted = matches!(conviction, Some((_, true)));
        let mut passed = Passed::none();
        if let (Some(fingerprint), true) = (fingerprint, evicted) {
            let refused = inner.evict(fingerprint);
            inner.refuse(refused, &mut passed, || {
                Outcome::Poisonous(total, Arc::clone(cause))
            });
        }
        let closed = matches!(inner.state, State::Closed(_));
        let tries_left = deaths < self.attempts && deadline > Instant::now() && !closed;
        let redeliverable = again.is_some();
        let sent = match again {
            Some(request) if tries_left && !evicted && inner.replies.is_wanted(reply) => {
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
            again => {
                let exited = Outcome::Exited(Arc::clone(cause));
                Some((again, inner.replies.send(reply, exited)))
            }
        };
        self.let_go(passed, inner);
        let (_, sent) = sent?;
        sent.finish();
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
        let mut passed = Passed::none();
        inner.refuse(waiting, &mut passed, || Outcome::Closed(Arc::clone(cause)));
        self.let_go(passed, inner);
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

/// Requests that nobody will work on. What is in them may do anything when it is dropped, so that
/// waits until the lock is free.
struct Passed<T, R> {
    requests: Vec<(Option<T>, Sent<Outcome<R>>)>,
    granted: usize,
}

impl<T, R> Passed<T, R> {
    fn none() -> Self {
        Self {
            requests: Vec::new(),
            granted: 0,
        }
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
    /// The next request somebody waits for, and those that were passed.
    fn take(&mut self) -> (Option<(T, Turn)>, Passed<T, R>) {
        let mut passed = Passed::none();
        if self.queue.is_empty() {
            return (None, passed);
        }
        let taken = Instant::now();
        while let Some(envelope) = self.queue.pop_front() {
            if envelope.deadline > taken && self.replies.is_wanted(envelope.reply) {
                passed.granted += self.room.give_back(usize::from(envelope.roomy));
                let waited = taken.saturating_duration_since(envelope.began);
                // One that was never answered is not to be waited for any more.
                if let Some(left) = self.in_flight.take() {
                    let sent = self.replies.send(left.reply, Outcome::Expired);
                    passed.requests.push((left.again, sent));
                }
                let request = self.hand_out(envelope);
                return (Some((request, Turn { taken, waited })), passed);
            }
            self.refuse([envelope], &mut passed, || Outcome::Expired);
        }
        (None, passed)
    }

    /// Answers requests that nobody will work on.
    fn refuse(
        &mut self,
        envelopes: impl IntoIterator<Item = Envelope<T>>,
        passed: &mut Passed<T, R>,
        outcome: impl Fn() -> Outcome<R>,
    ) {
        for envelope in envelopes {
            passed.granted += self.room.give_back(usize::from(envelope.roomy));
            let sent = self.replies.send(envelope.reply, outcome());
            passed.requests.push((Some(envelope.request), sent));
        }
    }

    fn hand_out(&mut self, envelope: Envelope<T>) -> T {
        let request = envelope.request;
        let again = request.again();
        let suspects = self.suspects.as_ref();
        let fingerprint = suspects.and_then(|_| request.fingerprint());
        let named = again.is_some() || fingerprint.is_some();
        self.in_flight = Some(InFlight {
            reply: envelope.reply,
            watcher: None,
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
    fn evict(&mut self, fingerprint: u64) -> Vec<Envelope<T>> {
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
