//! What a component says while a call of its runs, for whoever made the call.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::replicas::NoRoom;
use crate::services::{AccessDenied, OutputStreamName};

/// Events kept for a reader that does not keep up; what comes on top is counted and left out.
pub const WATCH_BUFFER: usize = 256;

/// Longest message of a progress report, in bytes; what is longer is cut.
pub const MAX_PROGRESS_BYTES: usize = 1024;

/// How much a line of a guest's log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For whoever mends the component.
    Debug,
    /// For whoever runs it.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
    /// Nothing works.
    Critical,
}

/// Something a component said, or was refused, while it worked on a call.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CallEvent {
    /// By `airssys:progress`.
    Progress {
        /// How much is done, in whatever the guest counts.
        done: u64,
        /// How much there is to do, where that is known.
        total: Option<u64>,
        /// What it is at; may be empty. It may hold control characters.
        message: String,
    },
    /// By `wasi:logging`.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// What groups lines of one kind.
        context: String,
        /// The line. It may hold control characters.
        message: String,
    },
    /// A line to a standard stream.
    Line {
        /// Which one.
        stream: OutputStreamName,
        /// The line, without its end. It may hold control characters.
        text: String,
    },
    /// An access that was refused.
    Denied(Box<AccessDenied>),
    /// So many events were left out, because they were not read in time.
    Lost(u64),
}

/// Given to one call, which tells it all.
pub struct CallWatch {
    events: mpsc::Sender<CallEvent>,
    lost: Arc<AtomicU64>,
}

/// What a watched call tells. It ends with the call.
pub struct CallEvents {
    events: mpsc::Receiver<CallEvent>,
    lost: Arc<AtomicU64>,
}

impl CallWatch {
    /// A watch, and where to read what it is told.
    #[must_use]
    pub fn new() -> (Self, CallEvents) {
        let (sender, receiver) = mpsc::channel(WATCH_BUFFER);
        let lost = Arc::<AtomicU64>::default();
        let watch = Self {
            events: sender,
            lost: Arc::clone(&lost),
        };
        let events = CallEvents {
            events: receiver,
            lost,
        };
        (watch, events)
    }

    pub(crate) fn tell(&self, event: CallEvent) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for CallWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallWatch")
    }
}

impl fmt::Debug for CallEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallEvents")
    }
}

impl CallEvents {
    /// The next event; `None` once the call is over and all has been read. Cancel-safe.
    pub async fn next(&mut self) -> Option<CallEvent> {
        let next = self.events.recv().await;
        self.or_lost(next)
    }

    /// An event that is there already.
    pub fn try_next(&mut self) -> Option<CallEvent> {
        let next = self.events.try_recv().ok();
        self.or_lost(next)
    }

    /// What was left out is told behind all that was not.
    fn or_lost(&self, next: Option<CallEvent>) -> Option<CallEvent> {
        next.or_else(|| match self.lost.swap(0, Ordering::Relaxed) {
            0 => None,
            lost => Some(CallEvent::Lost(lost)),
        })
    }
}

/// How a call is made.
#[derive(Debug, Default)]
pub struct CallOptions {
    pub(crate) deadline: Option<Duration>,
    pub(crate) watch: Option<CallWatch>,
    pub(crate) no_wait: bool,
}

impl CallOptions {
    pub(crate) fn no_room(&self) -> NoRoom {
        match self.no_wait {
            true => NoRoom::HandBack,
            false => NoRoom::Wait,
        }
    }

    /// Ends the call by `deadline` from now; by default
    /// [`DEFAULT_QUEUE_WAIT`](crate::DEFAULT_QUEUE_WAIT) and the component's own time limit.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Tells what the component says meanwhile.
    #[must_use]
    pub fn watch(mut self, watch: CallWatch) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Makes a full mailbox an error at once.
    #[must_use]
    pub fn no_wait(mut self) -> Self {
        self.no_wait = true;
        self
    }
}
