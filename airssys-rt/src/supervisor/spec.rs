//! A supervisor's spec, and the handle that outlives its restarts.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ractor::concurrency::JoinHandle;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorRef, RpcReplyPort};

use super::message::{ChildCounts, ChildStatus, SupervisorMessage};
use super::plan::{Refusal, Strategy};
use super::shell::{Arguments, Supervisor};
use super::window::Intensity;
use crate::child::BoxFuture;
use crate::{
    Child, ChildId, ChildKind, ChildSpec, Events, ExitCause, Running, Shutdown, StartContext,
};

/// What a supervisor starts and by which rules.
pub struct SupervisorSpec<E: Clone + Send + Sync + 'static = ()> {
    pub(crate) name: ChildId,
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Intensity,
    pub(crate) children: Vec<ChildSpec<E>>,
    nested: Vec<SupervisorSpec<E>>,
    pub(crate) cell: Arc<SupervisorCell<E>>,
}

impl<E: Clone + Send + Sync + 'static> Clone for SupervisorSpec<E> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            strategy: self.strategy,
            intensity: self.intensity,
            children: self.children.clone(),
            nested: self.nested.clone(),
            cell: Arc::clone(&self.cell),
        }
    }
}

impl<E: Clone + Send + Sync + 'static> fmt::Debug for SupervisorSpec<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorSpec")
            .field("name", &self.name)
            .field("strategy", &self.strategy)
            .field("intensity", &self.intensity)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}

impl<E: Clone + Send + Sync + 'static> SupervisorSpec<E> {
    /// An empty supervisor with OTP's defaults: one_for_one, 1 restart in 5 s.
    pub fn new(name: impl Into<ChildId>) -> Self {
        Self {
            name: name.into(),
            strategy: Strategy::default(),
            intensity: Intensity::default(),
            children: Vec::new(),
            nested: Vec::new(),
            cell: Arc::default(),
        }
    }

    /// Sets whom a child's exit concerns.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Sets how many restarts are allowed within how much time.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Adds a child, last in the start order.
    #[must_use]
    pub fn child(mut self, spec: ChildSpec<E>) -> Self {
        self.children.push(spec);
        self
    }

    /// Adds a supervisor as a child, last in the start order: permanent, and waited for without
    /// limit when stopped.
    #[must_use]
    pub fn supervisor(mut self, spec: SupervisorSpec<E>) -> Self {
        self.nested.push(spec.clone());
        self.child(spec.into_child())
    }

    /// This supervisor and all those added to it with [`SupervisorSpec::supervisor`], at any
    /// depth.
    #[must_use]
    pub fn supervisors(&self) -> Vec<SupervisorSpec<E>> {
        let below = self.nested.iter().flat_map(SupervisorSpec::supervisors);
        std::iter::once(self.clone()).chain(below).collect()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ChildId {
        &self.name
    }

    /// The supervisor as a child of another: permanent, waited for without limit when stopped.
    #[must_use]
    pub fn into_child(self) -> ChildSpec<E> {
        let mut spec = ChildSpec::new(self.name.clone(), self).shutdown(Shutdown::Infinity);
        spec.policy.kind = ChildKind::Supervisor;
        spec
    }

    /// The handle that stays valid over restarts; `None` before the first start.
    #[must_use]
    pub fn handle(&self) -> Option<SupervisorRef<E>> {
        Some(SupervisorRef {
            name: self.name.clone(),
            actor: Arc::clone(self.cell.actor.get()?),
            cell: Arc::clone(&self.cell),
        })
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
        let actor = cell.started(actor);
        Ok((SupervisorRef { name, actor, cell }, handle))
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

/// Where a supervisor's current actor is found, and why it gave up if it did.
pub(crate) struct SupervisorCell<E: Clone + Send + Sync + 'static> {
    actor: OnceLock<Arc<Mutex<ActorRef<SupervisorMessage<E>>>>>,
    gave_up: Mutex<Option<Arc<ExitCause>>>,
}

impl<E: Clone + Send + Sync + 'static> Default for SupervisorCell<E> {
    fn default() -> Self {
        Self {
            actor: OnceLock::new(),
            gave_up: Mutex::new(None),
        }
    }
}

impl<E: Clone + Send + Sync + 'static> SupervisorCell<E> {
    pub(crate) fn started(
        &self,
        actor: ActorRef<SupervisorMessage<E>>,
    ) -> Arc<Mutex<ActorRef<SupervisorMessage<E>>>> {
        let current = self
            .actor
            .get_or_init(|| Arc::new(Mutex::new(actor.clone())));
        *current.lock().unwrap_or_else(PoisonError::into_inner) = actor;
        Arc::clone(current)
    }

    pub(crate) fn gave_up(&self, cause: &Arc<ExitCause>) {
        *self.gave_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(cause));
    }
}

/// A supervisor, whichever incarnation of it runs.
pub struct SupervisorRef<E: Clone + Send + Sync + 'static = ()> {
    name: ChildId,
    actor: Arc<Mutex<ActorRef<SupervisorMessage<E>>>>,
    cell: Arc<SupervisorCell<E>>,
}

impl<E: Clone + Send + Sync + 'static> Clone for SupervisorRef<E> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            actor: Arc::clone(&self.actor),
            cell: Arc::clone(&self.cell),
        }
    }
}

impl<E: Clone + Send + Sync + 'static> fmt::Debug for SupervisorRef<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SupervisorRef").field(&self.name).finish()
    }
}

/// Why a supervisor did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// It refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It has ended and has not been started again.
    #[error("supervisor `{0}` is not running")]
    Gone(ChildId),
}

impl<E: Clone + Send + Sync + 'static> SupervisorRef<E> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ChildId {
        &self.name
    }

    /// The actor of the running incarnation, for plain ractor messages; the last one where none
    /// runs, so that a message to it fails instead of going nowhere.
    #[must_use]
    pub fn actor(&self) -> ActorRef<SupervisorMessage<E>> {
        self.actor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Why this supervisor last gave up, if it ever did.
    #[must_use]
    pub fn gave_up(&self) -> Option<Arc<ExitCause>> {
        self.cell
            .gave_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Starts a new child, last in the start order; returns once it runs.
    ///
    /// # Errors
    /// [`Refusal::AlreadyStarted`], [`Refusal::AlreadyPresent`] or [`Refusal::StartFailed`] (the
    /// spec is then not kept); [`SupervisorError::Gone`].
    pub async fn start_child(&self, spec: ChildSpec<E>) -> Result<(), SupervisorError> {
        self.command(|reply| SupervisorMessage::StartChild(spec, reply))
            .await
    }

    /// Stops a child and keeps its spec; a temporary one's goes. Idempotent.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; [`SupervisorError::Gone`].
    pub async fn terminate_child(&self, id: impl Into<ChildId>) -> Result<(), SupervisorError> {
        let id = id.into();
        self.command(|reply| SupervisorMessage::TerminateChild(id, reply))
            .await
    }

    /// Starts a stopped child again. Costs no restart intensity.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Running`], [`Refusal::Restarting`] or
    /// [`Refusal::StartFailed`] (the spec stays, stopped); [`SupervisorError::Gone`].
    pub async fn restart_child(&self, id: impl Into<ChildId>) -> Result<(), SupervisorError> {
        let id = id.into();
        self.command(|reply| SupervisorMessage::RestartChild(id, reply))
            .await
    }

    /// Forgets a stopped child.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Running`] or [`Refusal::Restarting`];
    /// [`SupervisorError::Gone`].
    pub async fn delete_child(&self, id: impl Into<ChildId>) -> Result<(), SupervisorError> {
        let id = id.into();
        self.command(|reply| SupervisorMessage::DeleteChild(id, reply))
            .await
    }

    /// All children in start order.
    ///
    /// # Errors
    /// [`SupervisorError::Gone`].
    pub async fn which_children(&self) -> Result<Vec<ChildStatus>, SupervisorError> {
        self.ask(SupervisorMessage::WhichChildren).await
    }

    /// One child; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`SupervisorError::Gone`].
    pub async fn which_child(
        &self,
        id: impl Into<ChildId>,
    ) -> Result<Option<ChildStatus>, SupervisorError> {
        let id = id.into();
        self.ask(|reply| SupervisorMessage::WhichChild(id, reply))
            .await
    }

    /// How many children there are.
    ///
    /// # Errors
    /// [`SupervisorError::Gone`].
    pub async fn count_children(&self) -> Result<ChildCounts, SupervisorError> {
        self.ask(SupervisorMessage::CountChildren).await
    }

    /// A child's spec; `None` if there is no child of that name.
    ///
    /// # Errors
    /// [`SupervisorError::Gone`].
    pub async fn get_childspec(
        &self,
        id: impl Into<ChildId>,
    ) -> Result<Option<ChildSpec<E>>, SupervisorError> {
        let id = id.into();
        self.ask(|reply| SupervisorMessage::GetChildSpec(id, reply))
            .await
    }

    async fn command(
        &self,
        message: impl FnOnce(RpcReplyPort<Result<(), Refusal>>) -> SupervisorMessage<E>,
    ) -> Result<(), SupervisorError> {
        Ok(self.ask(message).await??)
    }

    async fn ask<T: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<T>) -> SupervisorMessage<E>,
    ) -> Result<T, SupervisorError> {
        // No time limit of its own: a supervisor answers or ends, and both end the wait.
        match self.actor().call(message, None).await {
            Ok(CallResult::Success(answer)) => Ok(answer),
            Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => {
                Err(SupervisorError::Gone(self.name.clone()))
            }
        }
    }
}
