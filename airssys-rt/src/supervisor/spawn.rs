//! How a supervisor is started: as the root of a tree, or as a child of another.

use std::sync::Arc;

use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorCell};

use super::reference::SupervisorRef;
use super::shell::{Arguments, Supervisor};
use super::spec::SupervisorSpec;
use crate::child::BoxFuture;
use crate::{Child, ChildKind, ChildSpec, Events, ExitCause, Running, Shutdown, StartContext};

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
        let mut spec = ChildSpec::new(self.name.clone(), self).shutdown(Shutdown::Infinity);
        spec.policy.kind = ChildKind::Supervisor;
        spec
    }

    /// Starts the supervisor and its children, in order, as the root of a tree. The handle ends
    /// after everything below it has stopped.
    ///
    /// # Errors
    /// [`ExitCause::ChildStart`] when a child does not start; those already started have been
    /// stopped again, in reverse order.
    pub async fn start(
        self,
        environment: E,
        events: Events,
    ) -> Result<(SupervisorRef<E>, JoinHandle<()>), ExitCause> {
        let (name, cell) = (self.name.clone(), Arc::clone(&self.cell));
        let arguments = Arguments {
            spec: self,
            environment,
            events,
        };
        let (actor, handle) = Supervisor::spawn(None, Supervisor::default(), arguments).await?;
        cell.started(actor);
        let gone = || ExitCause::Shutdown;
        Ok((SupervisorRef::of(name, &cell).ok_or_else(gone)?, handle))
    }
}

impl<E: Clone + Send + Sync + 'static> Child<E> for SupervisorSpec<E> {
    fn start(&self, context: StartContext<E>) -> BoxFuture<'_, Result<Running, ExitCause>> {
        let arguments = Arguments {
            spec: self.clone(),
            environment: context.environment,
            events: context.events,
        };
        Box::pin(async move {
            let (actor, handle) = Supervisor::spawn_linked(
                None,
                Supervisor::default(),
                arguments,
                context.supervisor,
            )
            .await?;
            Ok(Running {
                actor: ActorCell::from(actor),
                handle,
            })
        })
    }

    fn removed(&self) {
        for child in &self.children {
            child.child.removed();
        }
    }
}
