//! Where calls wait for an actor: a bounded mailbox that outlives the actor's incarnations.
//!
//! Guarantees: a call that waits survives a restart; the call in flight gets the exit cause; a
//! full mailbox hands the request back; every call ends by its deadline plus [`DEADLINE_GRACE`].
//! A request is handed out at most once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::ExitCause;

/// How much later than its deadline a call in flight may end, so that the actor's own, better
/// informed cause wins over the bare expiry.
pub const DEADLINE_GRACE: Duration = Duration::from_millis(50);

/// Tells a serving actor that its slot has work: handle one request with [`Slot::take`], then
/// [`Slot::answer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work;

/// A request's way into one actor after another.
pub struct Slot<T, R> {
    inner: Mutex<Inner<T, R>>,
    room: Semaphore,
    capacity: usize,
}

struct Inner<T, R> {
    queue: VecDeque<Envelope<T, R>>,
    in_flight: Option<Reply<R>>,
    state: State,
    generation: u64,
    /// A `Work` message is on its way to the serving actor.
    woken: bool,
    died: Option<Instant>,
    recovery: Option<Duration>,
}

struct Envelope<T, R> {
    request: T,
    reply: Reply<R>,
    deadline: Instant,
}

type Reply<R> = oneshot::Sender<Outcome<R>>;

enum Outcome<R> {
    Answer(R),
    Exited(Arc<ExitCause>),
    Closed(Arc<ExitCause>),
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
}

impl<T> fmt::Debug for CallError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full { .. } => "Full: ",
            Self::Stopped { .. } => "Stopped: ",
            Self::Expired { .. } => "Expired: ",
            Self::Exited(_) => "Exited: ",
        })?;
        fmt::Display::fmt(self, f)
    }
}

impl<T: Send, R: Send> Slot<T, R> {
    /// A slot in which at most `capacity` requests wait (1 at least).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                in_flight: None,
                state: State::Down,
                generation: 0,
                woken: false,
                died: None,
                recovery: None,
            }),
            room: Semaphore::new(capacity),
            capacity,
        }
    }

    /// Sends a request and waits for its answer; waits for room first where the mailbox is full.
    ///
    /// # Errors
    /// [`CallError::Stopped`], [`CallError::Expired`] or [`CallError::Exited`].
    pub async fn call(&self, request: T, deadline: Instant) -> Result<R, CallError<T>> {
        let began = Instant::now();
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
        match self.room.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => {
                return Err(CallError::Full {
                    request,
                    capacity: self.capacity,
                });
            }
        }
        self.send(request, Instant::now(), deadline).await
    }

    /// Owns one unit of room, which the queue gives back when the request leaves it.
    async fn send(&self, request: T, began: Instant, deadline: Instant) -> Result<R, CallError<T>> {
        let (reply, answer) = oneshot::channel();
        {
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
            inner.queue.push_back(Envelope {
                request,
                reply,
                deadline,
            });
            inner.wake();
        }
        match timeout_at(deadline + DEADLINE_GRACE, answer).await {
            Ok(Ok(Outcome::Answer(answer))) => Ok(answer),
            Ok(Ok(Outcome::Exited(cause))) => Err(CallError::Exited(cause)),
            Ok(Ok(Outcome::Closed(cause))) => Err(CallError::Stopped {
                request: None,
                cause,
            }),
            // Let go by `take`: the deadline passed while it was waiting.
            Ok(Err(_)) => Err(CallError::Expired {
                waited: began.elapsed(),
            }),
            Err(_) => Err(CallError::Expired {
                waited: began.elapsed(),
            }),
        }
    }

    /// Opens the slot for an incarnation that is ready to serve. Waiting requests are announced.
    pub fn attach(&self, generation: u64, actor: ActorRef<Work>) {
        let mut inner = self.lock();
        inner.generation = generation;
        inner.state = State::Serving(actor);
        inner.recovery = inner.died.take().map(|died| died.elapsed());
        inner.woken = false;
        if !inner.queue.is_empty() {
            inner.wake();
        }
    }

    /// The next request for this incarnation. Requests whose caller has gone or whose deadline has
    /// passed are let go. Answer it before taking the next one.
    pub fn take(&self, generation: u64) -> Option<T> {
        let now = Instant::now();
        let mut inner = self.lock();
        if inner.generation != generation {
            return None;
        }
        let mut left = 0;
        let request = loop {
            let Some(envelope) = inner.queue.pop_front() else {
                break None;
            };
            left += 1;
            if envelope.deadline > now && !envelope.reply.is_closed() {
                inner.in_flight = Some(envelope.reply);
                break Some(envelope.request);
            }
        };
        if request.is_none() {
            inner.woken = false;
        }
        drop(inner);
        self.room.add_permits(left);
        request
    }

    /// Answers the request in flight and announces the next one.
    pub fn answer(&self, generation: u64, answer: R) {
        let mut inner = self.lock();
        if inner.generation != generation {
            return;
        }
        let reply = inner.in_flight.take();
        inner.woken = false;
        if !inner.queue.is_empty() {
            inner.wake();
        }
        drop(inner);
        if let Some(reply) = reply {
            // A caller that has gone does not want the answer.
            reply.send(Outcome::Answer(answer)).ok();
        }
    }

    /// Notes the moment an incarnation died, for [`Slot::recovery`].
    pub fn dying(&self, generation: u64) {
        let mut inner = self.lock();
        if inner.generation == generation {
            inner.died = Some(Instant::now());
        }
    }

    /// An incarnation has ended: the request in flight gets the cause, the others wait on.
    pub fn exited(&self, generation: u64, cause: &Arc<ExitCause>) {
        let mut inner = self.lock();
        if inner.generation != generation {
            return;
        }
        if !matches!(inner.state, State::Closed(_)) {
            inner.state = State::Down;
        }
        inner.woken = false;
        inner.died.get_or_insert_with(Instant::now);
        let reply = inner.in_flight.take();
        drop(inner);
        if let Some(reply) = reply {
            reply.send(Outcome::Exited(Arc::clone(cause))).ok();
        }
    }

    /// Nobody will serve the slot until somebody attaches again: waiting and new requests are
    /// refused with [`CallError::Stopped`].
    pub fn close(&self, cause: &Arc<ExitCause>) {
        let mut inner = self.lock();
        inner.state = State::Closed(Arc::clone(cause));
        inner.died = None;
        let waiting = std::mem::take(&mut inner.queue);
        drop(inner);
        self.room.add_permits(waiting.len());
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

    fn lock(&self) -> MutexGuard<'_, Inner<T, R>> {
        // Nothing panics under this lock, so a poisoned one still holds a whole state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, R> Inner<T, R> {
    fn wake(&mut self) {
        if let State::Serving(actor) = &self.state
            && !self.woken
        {
            // A failing send means the actor is dying; its successor is told on attaching.
            self.woken = actor.send_message(Work).is_ok();
        }
    }
}

impl<T, R> fmt::Debug for Slot<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
