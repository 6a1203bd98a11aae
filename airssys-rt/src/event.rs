//! What a tree tells about itself: one typed, bounded stream.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::{ChildId, ExitCause};

/// Events kept for a subscriber that does not keep up. Older ones are dropped and counted.
pub const EVENT_BUFFER: usize = 4096;

/// A change in the life of one child.
#[derive(Debug, Clone)]
pub struct LifecycleEvent {
    /// Name of the supervisor the child belongs to.
    pub supervisor: ChildId,
    /// The child.
    pub child: ChildId,
    /// Which incarnation of it, counted from 1.
    pub generation: u64,
    /// What happened.
    pub change: Change,
}

/// What happened to a child.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// It runs. `recovery` is the time since its predecessor's death, where there was one.
    Started {
        /// From death to the new incarnation taking work.
        recovery: Option<Duration>,
    },
    /// It ended.
    Exited {
        /// Why.
        cause: Arc<ExitCause>,
    },
    /// It could not be started.
    StartFailed {
        /// Why.
        cause: Arc<ExitCause>,
    },
    /// Its start had nothing to bring up.
    Ignored,
    /// Its restart is put off.
    BackedOff {
        /// For how long.
        delay: Duration,
    },
    /// It will not be restarted by itself.
    Stopped,
    /// It ended too often and stays down for a while; calls are refused.
    Quarantined {
        /// The quarantine, with the last exit.
        cause: Arc<ExitCause>,
    },
    /// It has outlived its probation; the quarantine is over.
    Readmitted,
    /// It holds that share of its memory limit or more, for the first time in this generation.
    NearLimit {
        /// What it holds, in bytes.
        current_bytes: usize,
        /// What it may hold, in bytes.
        limit_bytes: usize,
        /// The share, in percent of the limit.
        warn_percent: u8,
    },
    /// It serves as another release of itself, without a restart.
    Upgraded {
        /// The version before.
        from: String,
        /// The version that serves now.
        to: String,
    },
    /// Its new release ended in its probation, and the one before serves again, without a restart.
    RolledBack {
        /// How the new release ended.
        cause: Arc<ExitCause>,
    },
    /// A message is given up because of what it did to the child.
    DeadLetter(DeadLetter),
    /// Its supervisor shuts down by itself because it has ended.
    AutoShutdown,
    /// Its supervisor gives up and ends because of it.
    Escalated {
        /// What the supervisor ends with.
        cause: Arc<ExitCause>,
    },
}

/// A message that is not delivered again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// What the message calls itself.
    pub message: Arc<str>,
    /// Incarnations that ended while they worked on it.
    pub deaths: u32,
    /// Messages like it are refused from now on.
    pub evicted: bool,
}

/// The sending side; every supervisor of a tree holds the same one. Others may tell of events of
/// their own through one of these.
#[derive(Debug)]
pub struct Events<T = LifecycleEvent>(Arc<broadcast::Sender<T>>);

impl<T> Clone for Events<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Default for Events<T> {
    fn default() -> Self {
        Self(Arc::new(broadcast::channel(EVENT_BUFFER).0))
    }
}

impl<T: Clone> Events<T> {
    /// A stream of everything that happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> EventStream<T> {
        EventStream(self.0.subscribe())
    }

    /// Whether anybody listens.
    pub(crate) fn are_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Tells everybody who listens. Never waits.
    pub fn send(&self, event: T) {
        // An error only says that nobody listens, which is no failure.
        self.0.send(event).ok();
    }
}

/// What a subscriber gets next.
#[derive(Debug, Clone)]
pub enum Received<T = LifecycleEvent> {
    /// The next event.
    Event(T),
    /// The subscriber was too slow: this many events are gone.
    Lagged(u64),
}

/// The receiving side.
#[derive(Debug)]
pub struct EventStream<T = LifecycleEvent>(broadcast::Receiver<T>);

impl<T: Clone> EventStream<T> {
    /// The next event, or how many were lost; `None` once nobody can tell more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Received<T>> {
        match self.0.recv().await {
            Ok(event) => Some(Received::Event(event)),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(Received::Lagged(lost)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
