//! Tasks that cannot be lost: each is named, has a time limit, is counted, listed and joined.

mod registration;
mod registry;

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::AbortHandle;
use tokio::task::JoinHandle;

pub use registry::TaskRegistry;

use crate::unwind::message;

/// How long a task may take unless it is given another limit.
pub const DEFAULT_TASK_TIMEOUT: Duration = Duration::from_secs(60);

/// How often the registry looks for tasks that are overdue although their own timer should have
/// ended them.
pub const TASK_SWEEP: Duration = Duration::from_secs(5);

/// How long a shutdown waits for the tasks it has aborted to reach an await point.
pub const TASK_ABORT_GRACE: Duration = Duration::from_secs(5);

/// How long a task may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskLimit {
    /// It is dropped at its next await point after this much time.
    Timeout(Duration),
    /// As long as it takes. Only for what has a limit elsewhere or must have none, such as waiting
    /// for a child whose shutdown is [`crate::Shutdown::Infinity`]; say which where it is used.
    Unlimited,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEnd<T> {
    /// By itself.
    Finished(T),
    /// Its limit passed.
    TimedOut,
    /// It panicked.
    Panicked {
        /// The panic's text, at most [`crate::PANIC_MESSAGE_BYTES`] bytes of it.
        message: String,
    },
    /// It was aborted: by its handle, by the end of its registry or by that of its runtime.
    Aborted,
}

/// What a registry has seen. `total` is the sum of all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskCounts {
    /// Tasks on the list.
    pub active: u64,
    /// Tasks ever spawned.
    pub total: u64,
    /// Ended by themselves.
    pub finished: u64,
    /// Ended by their limit, or taken off the list because it had passed.
    pub timed_out: u64,
    /// Ended by a panic.
    pub panicked: u64,
    /// Ended by an abort.
    pub aborted: u64,
}

/// One task on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInfo {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Since it was spawned.
    pub age: Duration,
}

/// What a shutdown had to deal with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TasksLeft {
    /// Tasks that had not ended by the grace and were aborted.
    pub aborted: usize,
    /// Those of them that had not ended [`TASK_ABORT_GRACE`] later either: they never reach an
    /// await point, or their runtime does not run.
    pub left_behind: usize,
}

/// A task was not spawned because its registry has been shut down. The future comes back.
#[derive(thiserror::Error)]
#[error("task `{name}` refused: the registry is shut down")]
pub struct TaskRefused<F> {
    /// The task's name.
    pub name: Cow<'static, str>,
    /// What was not spawned.
    pub future: F,
}

impl<F> fmt::Debug for TaskRefused<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskRefused")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A spawned task. Await it for its end; drop it and the task goes on.
#[derive(Debug)]
pub struct TaskHandle<T> {
    join: JoinHandle<TaskEnd<T>>,
    abort: AbortHandle,
}

impl<T> TaskHandle<T> {
    /// Drops the task at its next await point.
    pub fn abort(&self) {
        self.abort.abort();
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = TaskEnd<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TaskEnd<T>> {
        Pin::new(&mut self.join).poll(context).map(|end| match end {
            Ok(end) => end,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => TaskEnd::Panicked {
                    message: message(payload),
                },
                // The runtime was dropped.
                Err(_) => TaskEnd::Aborted,
            },
        })
    }
}
