//! The handle of a supervisor that outlives its restarts.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{ActorRef, RpcReplyPort};
use tokio::time::{Instant, timeout_at};

use super::incarnation::KILL_GRACE;
use super::message::{
    ArgumentOf, ChildCounts, ChildStatus, StartedChild, SupervisorMessage, SupervisorStatus,
};
use super::plan::Refusal;
use super::spec::SupervisorSpec;
use crate::{BoxFuture, ChildId, ChildSpec, ExitCause};

/// Where a supervisor's current actor is found, and why it gave up if it did.
pub(crate) struct SupervisorCell<E: Clone + Send + Sync + 'static> {
    actor: OnceLock<Arc<Mutex<ActorRef<SupervisorMessage<E>>>>>,
    gave_up: Mutex<Option<Arc<ExitCause>>>,
    /// Children and tasks of an incarnation that was killed, to be joined by whoever comes next.
    orphans: Mutex<Vec<BoxFuture<'static, ()>>>,
}

impl<E: Clone + Send + Sync + 'static> Default for SupervisorCell<E> {
    fn default() -> Self {
        Self {
            actor: OnceLock::new(),
            gave_up: Mutex::new(None),
            orphans: Mutex::default(),
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

    pub(crate) fn leave(&self, orphan: BoxFuture<'static, ()>) {
        let mut orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        orphans.push(orphan);
    }

    /// Waits for what a killed incarnation has left, [`KILL_GRACE`] at most for all of it.
    pub(crate) async fn join_orphans(&self) {
        let orphans =
            std::mem::take(&mut *self.orphans.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = Instant::now() + KILL_GRACE;
        for orphan in orphans {
            if timeout_at(deadline, orphan).await.is_err() {
                tracing::error!(
                    "a child of a killed supervisor does not reach an await point; left behind"
                );
            }
        }
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
    /// It had not stopped by then; it goes on stopping.
    #[error("supervisor `{name}` is still stopping after {waited:?}")]
    StillStopping {
        /// Its name.
        name: ChildId,
        /// How long was waited.
        waited: Duration,
    },
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
    /// [`Refusal::AlreadyStarted`], [`Refusal::AlreadyPresent`], [`Refusal::Invalid`],
    /// [`Refusal::Dynamic`] or [`Refusal::StartFailed`] (the spec is then not kept);
    /// [`SupervisorError::Gone`].
    pub async fn start_child(&self, spec: ChildSpec<E>) -> Result<StartedChild, SupervisorError> {
        self.command(|reply| SupervisorMessage::StartChild(spec, reply))
            .await
    }

    /// Starts a child of a dynamic supervisor from its template, under a name of its own.
    ///
    /// # Errors
    /// [`Refusal::NotDynamic`], [`Refusal::MaxChildren`] or [`Refusal::StartFailed`];
    /// [`SupervisorError::Gone`].
    pub async fn start_dynamic(
        &self,
        argument: impl Any + Send + Sync,
    ) -> Result<StartedChild, SupervisorError> {
        let argument = ArgumentOf(Arc::new(argument));
        self.command(|reply| SupervisorMessage::StartDynamic(argument, reply))
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

    /// Starts a stopped child again, or one in quarantine before its time. Costs no restart
    /// intensity.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Running`], [`Refusal::Restarting`], [`Refusal::Dynamic`]
    /// or [`Refusal::StartFailed`] (the spec stays, stopped); [`SupervisorError::Gone`].
    pub async fn restart_child(
        &self,
        id: impl Into<ChildId>,
    ) -> Result<StartedChild, SupervisorError> {
        let id = id.into();
        self.command(|reply| SupervisorMessage::RestartChild(id, reply))
            .await
    }

    /// Forgets a stopped child.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Running`], [`Refusal::Restarting`] or
    /// [`Refusal::Dynamic`]; [`SupervisorError::Gone`].
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

    /// The supervisor itself, with all its children in start order.
    ///
    /// # Errors
    /// [`SupervisorError::Gone`].
    pub async fn describe(&self) -> Result<SupervisorStatus, SupervisorError> {
        self.ask(SupervisorMessage::Describe).await
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

    /// Goes by another spec from now on. A known child keeps running and gets its new policy, a
    /// new one waits to be started, a missing one stays, last in the order. Costs no restart
    /// intensity.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], or [`Refusal::Dynamic`] and [`Refusal::NotDynamic`] where the spec
    /// would make a dynamic supervisor of another one or the reverse; nothing has changed then.
    /// [`SupervisorError::Gone`].
    pub async fn code_change(&self, spec: SupervisorSpec<E>) -> Result<(), SupervisorError> {
        self.command(|reply| SupervisorMessage::CodeChange(Box::new(spec), reply))
            .await
    }

    /// Stops the supervisor and all below it; returns once they have ended. A parent starts a
    /// permanent supervisor again: use its `terminate_child` where that is not wanted.
    ///
    /// # Errors
    /// [`SupervisorError::Gone`] if it had ended before; [`SupervisorError::StillStopping`] after
    /// `patience`, with the shutdown going on.
    pub async fn stop(&self, patience: Duration) -> Result<(), SupervisorError> {
        let gone = || SupervisorError::Gone(self.name.clone());
        let actor = self.actor();
        actor
            .send_message(SupervisorMessage::Stop)
            .map_err(|_| gone())?;
        let began = Instant::now();
        if actor.wait(Some(patience)).await.is_err() {
            return Err(SupervisorError::StillStopping {
                name: self.name.clone(),
                waited: began.elapsed(),
            });
        }
        Ok(())
    }

    async fn command<T: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<Result<T, Refusal>>) -> SupervisorMessage<E>,
    ) -> Result<T, SupervisorError> {
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
