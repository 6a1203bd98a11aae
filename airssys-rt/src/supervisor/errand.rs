//! Work a supervisor has done beside its own task.

use std::future::Future;

use crate::task::{TaskEnd, TaskHandle, TaskLimit};
use crate::{BoxFuture, TaskRegistry};

/// One piece of such work, registered with the tree's tasks. Where those are being shut down
/// already, whoever asks for the outcome does the work.
pub(super) enum Errand<T> {
    Task(TaskHandle<T>),
    Own(BoxFuture<'static, T>),
}

impl<T: Send + 'static> Errand<T> {
    pub(super) fn begin<F>(tasks: &TaskRegistry, name: &'static str, work: F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        // Starts and stops have limits of their own, and `infinity` is one of them.
        match tasks.spawn_within(TaskLimit::Unlimited, name, work) {
            Ok(task) => Self::Task(task),
            Err(refused) => Self::Own(Box::pin(refused.future)),
        }
    }

    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Not asked for again once it has come. A wait that is cut off takes nothing away.
    pub(super) async fn outcome(&mut self) -> TaskEnd<T> {
        match self {
            Self::Task(task) => task.await,
            Self::Own(work) => TaskEnd::Finished(work.await),
        }
    }
}

/// A task that goes with its owner.
#[derive(Debug)]
pub(super) struct Bound(TaskHandle<()>);

impl Bound {
    /// `None` where the tree's tasks are being shut down: there is nothing left to do it for.
    pub(super) fn begin<F>(
        tasks: &TaskRegistry,
        limit: TaskLimit,
        name: &'static str,
        work: F,
    ) -> Option<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tasks.spawn_within(limit, name, work).ok().map(Self)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.0.abort();
    }
}
