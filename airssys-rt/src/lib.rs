#![doc = include_str!("../README.md")]

mod child;
mod event;
mod exit_cause;
mod slot;
mod supervisor;

pub use child::{
    BoxFuture, Child, ChildId, ChildKind, ChildPolicy, ChildSpec, DEFAULT_SHUTDOWN, Restart,
    Running, Shutdown, StartContext,
};
pub use event::{Change, EVENT_BUFFER, EventStream, Events, LifecycleEvent, Received};
pub use exit_cause::{DeadlinePhase, ExitCause, ExitKind, Frame, OutOfMemory, Trap};
pub use slot::{CallError, DEADLINE_GRACE, Slot, Work};
pub use supervisor::{
    ChildCounts, ChildState, ChildStatus, Intensity, KILL_GRACE, Refusal, Report, START_LIMIT,
    Strategy, SupervisorError, SupervisorMessage, SupervisorRef, SupervisorSpec,
};
