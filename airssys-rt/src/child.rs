//! What a supervisor knows about a child before it runs.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorCell, concurrency::JoinHandle};

use crate::{Events, ExitCause};

/// A boxed future, as the [`Child`] trait needs it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// OTP's default time a worker has to stop before it is killed.
pub const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(5);

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

/// When a child that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// Only after an abnormal exit ([`ExitCause::is_abnormal`]).
    Transient,
    /// Never, not even with its group; its spec goes with it.
    Temporary,
}

/// How long a child may take to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Killed at once.
    Brutal,
    /// Asked to stop, killed when this much time has passed.
    Timeout(Duration),
    /// Asked to stop and waited for, however long it takes.
    Infinity,
}

/// What a child is, as `count_children` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildKind {
    /// Does work.
    Worker,
    /// Supervises children of its own.
    Supervisor,
}

/// The part of a child's spec that decisions are made on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildPolicy {
    /// Name within the supervisor.
    pub id: ChildId,
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped.
    pub shutdown: Shutdown,
    /// Worker or supervisor.
    pub kind: ChildKind,
}

/// What a starting child gets from its supervisor.
#[derive(Debug, Clone)]
pub struct StartContext<E> {
    /// The supervisor, to link to.
    pub supervisor: ActorCell,
    /// Which incarnation this is, counted from 1.
    pub generation: u64,
    /// What the whole tree shares.
    pub environment: E,
    /// The tree's event stream.
    pub events: Events,
}

/// A child that runs.
#[derive(Debug)]
pub struct Running {
    /// Its actor, linked to the supervisor.
    pub actor: ActorCell,
    /// Ends after the actor's state has been dropped.
    pub handle: JoinHandle<()>,
}

/// Something a supervisor can start, over and over.
///
/// `E` is what the tree shares with every child it starts; `()` where nothing is.
pub trait Child<E>: Send + Sync + 'static {
    /// Starts one incarnation: an actor linked to `context.supervisor`. Runs off the supervisor's
    /// own task. The actor ends by returning an [`ExitCause`] as its error.
    fn start(&self, context: StartContext<E>) -> BoxFuture<'_, Result<Running, ExitCause>>;

    /// An incarnation has ended; called before the next one is started.
    fn exited(&self, generation: u64, cause: &Arc<ExitCause>) {
        let (_, _) = (generation, cause);
    }

    /// No further incarnation will be started unless somebody asks for one.
    fn stopped(&self, cause: &Arc<ExitCause>) {
        let _ = cause;
    }

    /// The spec is gone from its supervisor.
    fn removed(&self) {}

    /// From the last death to the running incarnation taking work, where the child measures it.
    fn recovery(&self) -> Option<Duration> {
        None
    }
}

/// A child's spec: its policy and what to start.
pub struct ChildSpec<E = ()> {
    /// What decisions are made on.
    pub policy: ChildPolicy,
    pub(crate) child: Arc<dyn Child<E>>,
}

impl<E> ChildSpec<E> {
    /// A permanent worker with OTP's shutdown time of 5 s.
    pub fn new(id: impl Into<ChildId>, child: impl Child<E>) -> Self {
        Self {
            policy: ChildPolicy {
                id: id.into(),
                restart: Restart::Permanent,
                shutdown: Shutdown::Timeout(DEFAULT_SHUTDOWN),
                kind: ChildKind::Worker,
            },
            child: Arc::new(child),
        }
    }

    /// Sets when it is started again.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.policy.restart = restart;
        self
    }

    /// Sets how it is stopped.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.policy.shutdown = shutdown;
        self
    }
}

impl<E> Clone for ChildSpec<E> {
    fn clone(&self) -> Self {
        Self {
            policy: self.policy.clone(),
            child: Arc::clone(&self.child),
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
