//! The handle of a supervisor that outlives its restarts.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ractor::rpc::CallResult;
use ractor::{ActorRef, RpcReplyPort};

use super::message::{ChildCounts, ChildStatus, SupervisorMessage};
use super::plan::Refusal;
use crate::{ChildId, ChildSpec, ExitCause};

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
    pub(crate) fn started(&self, actor: ActorRef<SupervisorMessage<E>>) {
        let current = self
            .actor
            .get_or_init(|| Arc::new(Mutex::new(actor.clone())));
        *current.lock().unwrap_or_else(PoisonError::into_inner) = actor;
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
    /// The handle to what `cell` knows; `None` before the first start.
    pub(crate) fn of(name: ChildId, cell: &Arc<SupervisorCell<E>>) -> Option<Self> {
        Some(Self {
            name,
            actor: Arc::clone(cell.actor.get()?),
            cell: Arc::clone(cell),
        })
    }

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
