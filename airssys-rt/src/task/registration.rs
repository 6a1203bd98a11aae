//! One task's place in the registry, given back however the task ends.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Weak;
use std::time::Duration;

use futures_util::future::{AbortHandle, AbortRegistration, Abortable};
use tokio::time::{Instant, timeout};

use super::registry::Registered;
use super::{TaskEnd, TaskLimit};
use crate::unwind::{Contained, message};

/// What the registry knows of a task.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Cow<'static, str>,
    pub(super) time: TaskTime,
    pub(super) abort: AbortHandle,
}

/// When a task began and what it may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct TaskTime {
    began: Instant,
    limit: TaskLimit,
}

impl TaskTime {
    pub(super) fn begin(limit: TaskLimit) -> Self {
        Self {
            began: Instant::now(),
            limit,
        }
    }

    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn is_up(&self) -> bool {
        match self.limit {
            TaskLimit::Timeout(limit) => self.age() > limit,
            TaskLimit::Unlimited => false,
        }
    }
}

/// An end without its value.
#[derive(Debug, Clone, Copy)]
pub(super) enum EndKind {
    Finished,
    TimedOut,
    Panicked,
    Aborted,
}

/// Takes the task off the list when it is dropped; the task has been dropped before.
pub(super) struct Place {
    pub(super) registered: Weak<Registered>,
    pub(super) id: u64,
    /// What the task ends as if it is dropped now.
    pub(super) end: EndKind,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Without a registry there is nobody left who counts.
        if let Some(registered) = self.registered.upgrade() {
            registered.ended(self.id, self.end);
        }
    }
}

/// A task before it runs. The order of the fields is that of their drops.
pub(super) struct Task<F> {
    pub(super) future: F,
    pub(super) place: Place,
}

/// The whole argument is captured in one piece, so that a task that never ran is dropped in the
/// order of its fields.
pub(super) async fn run<F: Future>(
    task: Task<F>,
    time: TaskTime,
    abort: AbortRegistration,
) -> TaskEnd<F::Output> {
    let Task { future, mut place } = task;
    let end = Abortable::new(within(time.limit, Contained::new(future, message)), abort).await;
    let (kind, end) = match end {
        Ok(Some(Ok(value))) => (EndKind::Finished, TaskEnd::Finished(value)),
        Ok(Some(Err(message))) => (EndKind::Panicked, TaskEnd::Panicked { message }),
        Ok(None) => (EndKind::TimedOut, TaskEnd::TimedOut),
        // By the sweep, whose count this agrees with.
        Err(_) if time.is_up() => (EndKind::TimedOut, TaskEnd::TimedOut),
        Err(_) => (EndKind::Aborted, TaskEnd::Aborted),
    };
    place.end = kind;
    end
}

async fn within<F: Future>(limit: TaskLimit, future: F) -> Option<F::Output> {
    match limit {
        TaskLimit::Timeout(limit) => timeout(limit, future).await.ok(),
        TaskLimit::Unlimited => Some(future.await),
    }
}
