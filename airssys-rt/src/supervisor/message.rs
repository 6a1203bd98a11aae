//! What a supervisor is told by plain ractor message.

use ractor::{ActorId, RpcReplyPort};

use super::plan::{ChildState, Refusal};
use crate::{ChildId, ChildKind, ChildSpec, ExitCause};

/// What a supervisor can be told. Every command is answered through its reply port; a port that
/// closes without an answer means the supervisor has ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum SupervisorMessage<E = ()>
where
    E: Clone + Send + Sync + 'static,
{
    /// Start a new child, last in the order.
    StartChild(ChildSpec<E>, RpcReplyPort<Result<(), Refusal>>),
    /// Stop a child and keep its spec (a temporary one's goes). Stopped already: no error.
    TerminateChild(ChildId, RpcReplyPort<Result<(), Refusal>>),
    /// Start a stopped child again. Costs no restart intensity.
    RestartChild(ChildId, RpcReplyPort<Result<(), Refusal>>),
    /// Forget a stopped child.
    DeleteChild(ChildId, RpcReplyPort<Result<(), Refusal>>),
    /// All children in start order.
    WhichChildren(RpcReplyPort<Vec<ChildStatus>>),
    /// One child.
    WhichChild(ChildId, RpcReplyPort<Option<ChildStatus>>),
    /// How many there are.
    CountChildren(RpcReplyPort<ChildCounts>),
    /// A child's spec.
    GetChildSpec(ChildId, RpcReplyPort<Option<ChildSpec<E>>>),
    /// Stop every child in reverse start order, then end.
    Stop,
    /// What the supervisor tells itself.
    #[doc(hidden)]
    Report(Report),
}

/// What a supervisor's helper tasks tell it.
#[derive(Debug)]
pub struct Report(pub(crate) Finished);

#[derive(Debug)]
pub(crate) enum Finished {
    Start(ChildId, u64),
    Stop(ChildId, u64, ActorId, ExitCause),
    Retry(ChildId, u64),
}

/// One child as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildStatus {
    /// Its name.
    pub id: ChildId,
    /// Which incarnation, counted from 1.
    pub generation: u64,
    /// What it is doing.
    pub state: ChildState,
    /// Worker or supervisor.
    pub kind: ChildKind,
}

/// OTP's `count_children`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChildCounts {
    /// Children known, running or not.
    pub specs: usize,
    /// Children running.
    pub active: usize,
    /// Supervisors among the specs.
    pub supervisors: usize,
    /// Workers among the specs.
    pub workers: usize,
}
