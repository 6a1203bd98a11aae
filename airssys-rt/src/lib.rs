#![doc = include_str!("../README.md")]

mod child;
mod event;
mod exit_cause;
mod init;
mod panic_boundary;
mod slot;
mod supervisor;
mod task;
mod unwind;

pub use child::{
    BoxFuture, Child, ChildId, ChildKind, ChildPolicy, ChildSpec, DEFAULT_SHUTDOWN, Restart,
    Running, Shutdown, StartContext,
};
pub use event::{Change, EVENT_BUFFER, EventStream, Events, LifecycleEvent, Received};
pub use exit_cause::{DeadlinePhase, ExitCause, ExitKind, Frame, OutOfMemory, Trap};
pub use init::{INIT_WAIT, InitCounts, InitError, InitOnce};
pub use panic_boundary::{CaughtPanic, EntryPoint, PANICS_KEPT, PanicBoundary, PanicCounts};
pub use slot::{CallError, DEADLINE_GRACE, Slot, Work};
pub use supervisor::{
    ChildCounts, ChildState, ChildStatus, Intensity, KILL_GRACE, Refusal, Report, START_LIMIT,
    Strategy, SupervisorError, SupervisorMessage, SupervisorRef, SupervisorSpec,
};
pub use task::{
    DEFAULT_TASK_TIMEOUT, TASK_ABORT_GRACE, TASK_SWEEP, TaskCounts, TaskEnd, TaskHandle, TaskInfo,
    TaskLimit, TaskRefused, TaskRegistry, TasksLeft,
};
pub use unwind::PANIC_MESSAGE_BYTES;
