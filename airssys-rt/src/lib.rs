#![doc = include_str!("../README.md")]

mod child;
mod event;
mod exit_cause;
mod init;
mod panic_boundary;
mod policy;
mod slot;
mod supervisor;
mod task;
mod tree;
mod unwind;

pub use child::{
    Argument, Ask, BoxFuture, Child, ChildId, ChildSpec, Info, Running, StartContext, Started,
};
pub use event::{Change, DeadLetter, EVENT_BUFFER, EventStream, Events, LifecycleEvent, Received};
pub use exit_cause::{
    Counted, DeadlinePhase, ExitCause, ExitKind, Frame, OutOfMemory, TooMany, Trap,
};
pub use init::{INIT_WAIT, InitCounts, InitError, InitOnce};
pub use panic_boundary::{CaughtPanic, EntryPoint, PANICS_KEPT, PanicBoundary, PanicCounts};
pub use policy::{
    Backoff, CausePolicy, CauseRestart, ChildKind, ChildPolicy, DEFAULT_SHUTDOWN, Probe,
    Quarantine, Restart, START_LIMIT, Shutdown,
};
pub use slot::{
    CallError, DEADLINE_GRACE, DEFAULT_ATTEMPTS, Next, Poison, Request, Slot, SlotLimits, Turn,
    Work,
};
pub use supervisor::{
    ArgumentOf, AutoShutdown, ChildCounts, ChildState, ChildStatus, Intensity, KILL_GRACE,
    Partitions, Refusal, Report, SpecError, StartedChild, Strategy, SupervisorError,
    SupervisorMessage, SupervisorRef, SupervisorSpec, SupervisorStatus,
};
pub use task::{
    DEFAULT_TASK_TIMEOUT, TASK_ABORT_GRACE, TASK_SWEEP, TaskCounts, TaskEnd, TaskHandle, TaskInfo,
    TaskLimit, TaskRefused, TaskRegistry, TasksLeft,
};
pub use tree::Tree;
pub use unwind::PANIC_MESSAGE_BYTES;
