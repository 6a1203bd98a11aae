//! What a supervisor knows about a child before it runs.

use std::any::Any;
use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorCell, concurrency::JoinHandle};

use crate::{
    Backoff, CausePolicy, ChildKind, ChildPolicy, DeadLetter, ExitCause, Intensity, Probe,
    Quarantine, Restart, Shutdown, Tree,
};

/// A boxed future, as the [`Child`] trait needs it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a child is started with, beside its spec.
pub type Argument = Arc<dyn Any + Send + Sync>;

/// What a child's start gives back, beside the child.
pub type Info = Arc<dyn Any + Send + Sync>;

/// A child's name, unique within its supervisor. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChildId(Arc<str>);

impl ChildId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ChildId {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl From<String> for ChildId {
    fn from(name: String) -> Self {
        Self(Arc::from(name))
    }
}

impl Borrow<str> for ChildId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// What a starting child gets from its supervisor.
#[derive(Debug, Clone)]
pub struct StartContext<E> {
    /// The supervisor, to link to.
    pub supervisor: ActorCell,
    /// The supervisor's name, for events of the child's own.
    pub supervisor_name: ChildId,
    /// The child's name; tells the children of a template apart.
    pub id: ChildId,
    /// Which incarnation this is, counted from 1.
    pub generation: u64,
    /// What decides about the child.
    pub policy: Arc<ChildPolicy>,
    /// How many restarts its supervisor allows.
    pub intensity: Intensity,
    /// What the child is started with, where its spec or its start says so.
    pub argument: Option<Argument>,
    /// What the whole tree shares.
    pub tree: Tree<E>,
}

/// How a child is asked to stop.
pub type Ask = Box<dyn FnOnce() + Send + Sync>;

/// A child that runs.
pub struct Running {
    /// Its actor, linked to the supervisor.
    pub actor: ActorCell,
    /// Ends after the actor's state has been dropped.
    pub handle: JoinHandle<()>,
    /// For whoever asked for the start.
    pub info: Option<Info>,
    /// How it is asked to stop; `None`: by ractor's `stop`, which is not heard by a child that is
    /// to do something before, and hear what comes in meanwhile.
    pub ask: Option<Ask>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("actor", &self.actor.get_id())
            .finish_non_exhaustive()
    }
}

impl Running {
    /// What `Actor::spawn_linked` returns.
    pub fn new(actor: impl Into<ActorCell>, handle: JoinHandle<()>) -> Self {
        Self {
            actor: actor.into(),
            handle,
            info: None,
            ask: None,
        }
    }

    /// Adds something for whoever asked for the start.
    #[must_use]
    pub fn with_info(mut self, info: impl Any + Send + Sync) -> Self {
        self.info = Some(Arc::new(info));
        self
    }

    /// Sets how it is asked to stop. It must end some time after it was asked.
    #[must_use]
    pub fn asked_by(mut self, ask: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.ask = Some(Box::new(ask));
        self
    }
}

/// How a start ended well.
#[derive(Debug)]
pub enum Started {
    /// The child runs.
    Running(Running),
    /// There is nothing to run. The spec is kept, stopped; a temporary child's is not, nor is one
    /// made from a template.
    Ignored,
}

impl From<Running> for Started {
    fn from(running: Running) -> Self {
        Self::Running(running)
    }
}

/// Something a supervisor can start, over and over.
///
/// `E` is what the tree shares with every child it starts; `()` where nothing is.
pub trait Child<E>: Send + Sync + 'static {
    /// Starts one incarnation: an actor linked to `context.supervisor`. Runs off the supervisor's
    /// own task. The actor ends by returning an [`ExitCause`] as its error.
    fn start(&self, context: StartContext<E>) -> BoxFuture<'_, Result<Started, ExitCause>>;

    /// An incarnation has ended; called before the next one is started. What comes back is told
    /// to the listeners of the tree.
    fn exited(&self, id: &ChildId, generation: u64, cause: &Arc<ExitCause>) -> Option<DeadLetter> {
        let (_, _, _) = (id, generation, cause);
        None
    }

    /// No further incarnation will be started unless somebody asks for one, or, after
    /// [`ExitCause::Quarantined`], until the cool-down is over.
    fn stopped(&self, id: &ChildId, cause: &Arc<ExitCause>) {
        let (_, _) = (id, cause);
    }

    /// The spec is gone from its supervisor.
    fn removed(&self, id: &ChildId) {
        let _ = id;
    }

    /// Returns once everything below a killed incarnation has ended. Only a supervisor has anything
    /// below it: its kill leaves children that nobody waits for.
    fn join(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// From the last death to the running incarnation taking work, where the child measures it.
    fn recovery(&self, id: &ChildId) -> Option<Duration> {
        let _ = id;
        None
    }

    /// Whether the running incarnation is alive; asked where the spec has a [`Probe`].
    fn probe(&self, id: &ChildId) -> BoxFuture<'_, bool> {
        let _ = id;
        Box::pin(std::future::ready(true))
    }
}

/// A child's spec: its policy and what to start.
pub struct ChildSpec<E = ()> {
    /// What decisions are made on.
    pub policy: Arc<ChildPolicy>,
    pub(crate) child: Arc<dyn Child<E>>,
    pub(crate) argument: Option<Argument>,
}

impl<E> ChildSpec<E> {
    /// A permanent worker with OTP's shutdown time of 5 s.
    pub fn new(id: impl Into<ChildId>, child: impl Child<E>) -> Self {
        Self {
            policy: Arc::new(ChildPolicy::new(id.into())),
            child: Arc::new(child),
            argument: None,
        }
    }

    /// Sets everything that decisions are made on.
    #[must_use]
    pub fn with_policy(mut self, policy: ChildPolicy) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// Sets when it is started again.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.policy_mut().restart = restart;
        self
    }

    /// Sets how it is stopped.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.policy_mut().shutdown = shutdown;
        self
    }

    /// Sets what it is told to be; where [`SupervisorSpec`](crate::SupervisorSpec) is the child,
    /// that is set already.
    #[must_use]
    pub fn kind(mut self, kind: ChildKind) -> Self {
        self.policy_mut().kind = kind;
        self
    }

    /// Makes its end count for [`AutoShutdown`](crate::AutoShutdown).
    #[must_use]
    pub fn significant(mut self, significant: bool) -> Self {
        self.policy_mut().significant = significant;
        self
    }

    /// Sets how long it may take to start.
    #[must_use]
    pub fn start_limit(mut self, limit: Duration) -> Self {
        self.policy_mut().start_limit = limit;
        self
    }

    /// Adds a rule for one kind of exit; the first of a kind counts.
    #[must_use]
    pub fn on_exit(mut self, rule: CausePolicy) -> Self {
        self.policy_mut().causes.push(rule);
        self
    }

    /// Puts restarts off.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy_mut().backoff = Some(backoff);
        self
    }

    /// Keeps the child down for a while where its supervisor would give up.
    #[must_use]
    pub fn quarantine(mut self, quarantine: Quarantine) -> Self {
        self.policy_mut().quarantine = Some(quarantine);
        self
    }

    /// Has it asked whether it is alive.
    #[must_use]
    pub fn probe(mut self, probe: Probe) -> Self {
        self.policy_mut().probe = Some(probe);
        self
    }

    /// While the spec is put together, nobody shares its policy, and nothing is copied.
    fn policy_mut(&mut self) -> &mut ChildPolicy {
        Arc::make_mut(&mut self.policy)
    }

    /// Sets what it is started with. A temporary child's argument is let go once it has started.
    #[must_use]
    pub fn argument(mut self, argument: impl Any + Send + Sync) -> Self {
        self.argument = Some(Arc::new(argument));
        self
    }
}

impl<E> Clone for ChildSpec<E> {
    fn clone(&self) -> Self {
        Self {
            policy: Arc::clone(&self.policy),
            child: Arc::clone(&self.child),
            argument: self.argument.clone(),
        }
    }
}

impl<E> fmt::Debug for ChildSpec<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
