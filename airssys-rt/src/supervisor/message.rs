//! What a supervisor is told by plain ractor message.

use std::fmt;

use ractor::{ActorCell, ActorId, RpcReplyPort};

use super::plan::{ChildState, Refusal, Strategy};
use super::spec::SupervisorSpec;
use super::window::Intensity;
use crate::{Argument, ChildId, ChildKind, ChildSpec, ExitCause, Info};

/// What a supervisor can be told. Every command is answered through its reply port; a port that
/// closes without an answer means the supervisor has ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum SupervisorMessage<E = ()>
where
    E: Clone + Send + Sync + 'static,
{
    /// Start a new child, last in the order.
    StartChild(ChildSpec<E>, RpcReplyPort<Result<StartedChild, Refusal>>),
    /// Start a child from the template, with this.
    StartDynamic(ArgumentOf, RpcReplyPort<Result<StartedChild, Refusal>>),
    /// Stop a child and keep its spec (a temporary one's goes, and so does one made from the
    /// template). Stopped already: no error.
    TerminateChild(ChildId, RpcReplyPort<Result<(), Refusal>>),
    /// Start a stopped child again. Costs no restart intensity.
    RestartChild(ChildId, RpcReplyPort<Result<StartedChild, Refusal>>),
    /// Forget a stopped child.
    DeleteChild(ChildId, RpcReplyPort<Result<(), Refusal>>),
    /// All children in start order.
    WhichChildren(RpcReplyPort<Vec<ChildStatus>>),
    /// One child.
    WhichChild(ChildId, RpcReplyPort<Option<ChildStatus>>),
    /// The supervisor itself, with all its children.
    Describe(RpcReplyPort<SupervisorStatus>),
    /// How many there are.
    CountChildren(RpcReplyPort<ChildCounts>),
    /// A child's spec.
    GetChildSpec(ChildId, RpcReplyPort<Option<ChildSpec<E>>>),
    /// Go by this spec from now on: known children keep running, new ones wait to be started,
    /// missing ones stay.
    CodeChange(Box<SupervisorSpec<E>>, RpcReplyPort<Result<(), Refusal>>),
    /// Stop every child in reverse start order, then end.
    Stop,
    /// What the supervisor tells itself.
    #[doc(hidden)]
    Report(Report),
}

/// What a child of a template is started with.
#[derive(Clone)]
pub struct ArgumentOf(pub Argument);

impl fmt::Debug for ArgumentOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArgumentOf(..)")
    }
}

/// What a supervisor's errands tell it.
#[derive(Debug)]
pub struct Report(pub(crate) Finished);

#[derive(Debug)]
pub(crate) enum Finished {
    Start(ChildId, u64),
    Stop(ChildId, u64),
    Retry(ChildId, u64),
    Due(ChildId, u64),
    Unresponsive(ChildId, u64, ExitCause),
}

/// A child that somebody asked to be started.
#[derive(Clone)]
pub struct StartedChild {
    /// Its name; made up by the supervisor where it came from the template.
    pub id: ChildId,
    /// Which incarnation, counted from 1.
    pub generation: u64,
    /// Its actor; `None` where there was nothing to bring up, or it has ended already.
    pub actor: Option<ActorCell>,
    /// What its start gave back.
    pub info: Option<Info>,
}

impl fmt::Debug for StartedChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartedChild")
            .field("id", &self.id)
            .field("generation", &self.generation)
            .field("actor", &self.actor.as_ref().map(ActorCell::get_id))
            .finish_non_exhaustive()
    }
}

/// One child as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildStatus {
    /// Its name.
    pub id: ChildId,
    /// Which incarnation, counted from 1; 0 before the first start. A child that is not the first
    /// of its name counts on from above that one's.
    pub generation: u64,
    /// What it is doing.
    pub state: ChildState,
    /// Worker or supervisor.
    pub kind: ChildKind,
    /// The actor of the running incarnation.
    pub actor: Option<ActorId>,
}

/// A supervisor as it is now.
#[derive(Debug, Clone)]
pub struct SupervisorStatus {
    /// Whom an exit concerns.
    pub strategy: Strategy,
    /// How many restarts are allowed within how much time.
    pub intensity: Intensity,
    /// Restarts inside that time.
    pub restarts: usize,
    /// Restarts inside that time after faults of the host, which count apart.
    pub host_restarts: usize,
    /// All children in start order.
    pub children: Vec<ChildStatus>,
}

/// OTP's `count_children`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChildCounts {
    /// Children known, running or not; 1, the template, for a dynamic supervisor.
    pub specs: usize,
    /// Children running.
    pub active: usize,
    /// Supervisors among the children.
    pub supervisors: usize,
    /// Workers among the children.
    pub workers: usize,
}
