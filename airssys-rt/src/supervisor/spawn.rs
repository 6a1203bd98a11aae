//! How a supervisor is started: as the root of a tree, or as a child of another.

use std::sync::Arc;

use ractor::Actor;

use super::message::SupervisorMessage;
use super::reference::SupervisorRef;
use super::shell::Supervisor;
use super::spec::SupervisorSpec;
use crate::child::BoxFuture;
use crate::{
    Child, ChildId, ChildKind, ChildSpec, ExitCause, Running, Shutdown, StartContext, Started,
    TaskHandle, TaskLimit, Tree,
};

impl<E: Clone + Send + Sync + 'static> SupervisorSpec<E> {
    /// Adds a supervisor as a child, last in the start order: permanent, and waited for without
    /// limit when stopped.
    #[must_use]
    pub fn supervisor(mut self, spec: SupervisorSpec<E>) -> Self {
        self.nested.push(spec.clone());
        self.child(spec.into_child())
    }

    /// The supervisor as a child of another: permanent, waited for without limit when stopped.
    #[must_use]
    pub fn into_child(self) -> ChildSpec<E> {
        ChildSpec::new(self.name.clone(), self)
            .shutdown(Shutdown::Infinity)
            .kind(ChildKind::Supervisor)
    }

    /// Starts the supervisor and its children, in order, as the root of a tree. The handle ends
    /// after everything below it has stopped.
    ///
    /// # Errors
    /// [`ExitCause::ChildStart`] when a child does not start; those already started have been
    /// stopped again, in reverse order. [`ExitCause::Failed`] around a
    /// [`SpecError`](crate::SpecError).
    pub async fn start(
        self,
        tree: Tree<E>,
    ) -> Result<(SupervisorRef<E>, TaskHandle<()>), ExitCause> {
        let (name, cell) = (self.name.clone(), Arc::clone(&self.cell));
        let tasks = tree.tasks.clone();
        let supervisor = Supervisor::new(&self, tree, true);
        let started = Supervisor::spawn(None, supervisor, self.clone()).await;
        let (actor, handle) = started.map_err(|error| {
            let cause = ExitCause::from(error);
            // Those it did not come to: their callers are not to wait either.
            Child::stopped(&self, &name, &Arc::new(cause.clone()));
            cause
        })?;
        let (joined, kept) = (Arc::clone(&cell), tasks.clone());
        let end = async move {
            handle.await.ok();
            // Only a root that was killed has left any.
            joined.join_orphans().await;
            // A registry that nobody holds aborts its tasks, and this is one of them.
            drop(kept);
        };
        // It lasts as long as the tree.
        let Ok(end) = tasks.spawn_within(TaskLimit::Unlimited, "supervisor", end) else {
            actor.kill();
            return Err(ExitCause::Shutdown);
        };
        let gone = || ExitCause::Shutdown;
        Ok((SupervisorRef::of(name, &cell).ok_or_else(gone)?, end))
    }
}

impl<E: Clone + Send + Sync + 'static> Child<E> for SupervisorSpec<E> {
    fn start(&self, context: StartContext<E>) -> BoxFuture<'_, Result<Started, ExitCause>> {
        Box::pin(async move {
            let supervisor = Supervisor::new(self, context.tree, false);
            let (actor, handle) =
                Supervisor::spawn_linked(None, supervisor, self.clone(), context.supervisor)
                    .await?;
            let asked = actor.clone();
            let ask = move || {
                // One that has ended needs no asking.
                asked.send_message(SupervisorMessage::Stop).ok();
            };
            Ok(Started::Running(Running::new(actor, handle).asked_by(ask)))
        })
    }

    /// Its children wait for it to be started again; now they know that it will not be.
    fn stopped(&self, _: &ChildId, cause: &Arc<ExitCause>) {
        for spec in &self.children {
            spec.child.stopped(&spec.policy.id, cause);
        }
    }

    fn join(&self) -> BoxFuture<'static, ()> {
        let cell = Arc::clone(&self.cell);
        Box::pin(async move { cell.join_orphans().await })
    }

    fn removed(&self, _: &ChildId) {
        for spec in &self.children {
            spec.child.removed(&spec.policy.id);
        }
    }
}
