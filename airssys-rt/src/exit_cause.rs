//! Why an actor ended, as a type chosen by the actor itself.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ChildId;

mod line;

use line::{NAME_BYTES, TEXT_BYTES, line};

/// Why a child ended. The child returns it as its actor error, so it reaches the supervisor as a
/// value; nothing is ever read out of a message text. As text a cause is one line; what others put
/// into it is cut to 1,024 bytes, a guest's name for a function to 256.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExitCause {
    /// The actor stopped by its own choice.
    #[error("stopped by its own choice")]
    Normal,
    /// The supervisor (or the host) stopped it.
    #[error("stopped by its supervisor")]
    Shutdown,
    /// The guest needed more memory than its limit.
    #[error(transparent)]
    OutOfMemory(OutOfMemory),
    /// The guest wanted more of something than it may have, other than memory.
    #[error(transparent)]
    TooMany(TooMany),
    /// The guest trapped.
    #[error(transparent)]
    Trap(Trap),
    /// The guest overflowed its call stack.
    #[error("guest stack overflow{}", trace(backtrace))]
    StackOverflow {
        /// Innermost frame first.
        backtrace: Vec<Frame>,
    },
    /// The call did not end within its time limit.
    #[error("deadline of {limit:?} exceeded {phase}")]
    Deadline {
        /// The time limit that applied.
        limit: Duration,
        /// Where the guest was when the time was up.
        phase: DeadlinePhase,
    },
    /// The call used up its fuel.
    #[error("out of fuel: the call may use {limit} units")]
    OutOfFuel {
        /// Fuel units granted to the call.
        limit: u64,
    },
    /// The guest ended itself through an exit call.
    #[error("guest exited with status {status}")]
    GuestExit {
        /// Exit status the guest gave.
        status: i32,
    },
    /// A host function returned an error, or the engine refused to go on.
    #[error("host error: {}", line(source, TEXT_BYTES))]
    HostError {
        /// What the host function or the engine reported.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// A host function panicked. The panic stayed in the call.
    #[error("host panic{}: {}", within(entry.as_deref()), line(message, TEXT_BYTES))]
    HostPanic {
        /// Where it was caught: the host function, where that is known.
        entry: Option<Arc<str>>,
        /// The panic's payload where it was text.
        message: String,
    },
    /// A message buffer failed its checksum. The message was not delivered.
    #[error("integrity violation: {}", line(source, TEXT_BYTES))]
    Integrity {
        /// The mismatch found.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The host had no room left for the instance. Never the guest's fault.
    #[error("host capacity: {}", line(source, TEXT_BYTES))]
    Capacity {
        /// The pool or system call that refused.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// Whoever had asked for what it did has gone. Its restart costs no budget and waits for none.
    #[error("cancelled: its caller has gone")]
    Cancelled,
    /// The actor was killed at an await point.
    #[error("killed")]
    Killed,
    /// The actor failed with an error of its own.
    #[error("failed: {}", line(source, TEXT_BYTES))]
    Failed {
        /// The actor's error.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// A supervisor could not start one of its children.
    #[error("child `{child}` did not start: {cause}")]
    ChildStart {
        /// The child that did not start.
        child: ChildId,
        /// Why it did not.
        cause: Arc<ExitCause>,
    },
    /// A supervisor gave up: more restarts than its intensity allows within its period.
    #[error(
        "gave up on `{child}`: more than {intensity} restarts within {period:?}; the last exit: {cause}"
    )]
    Escalated {
        /// The child whose exit was one too many.
        child: ChildId,
        /// Restarts allowed within `period`.
        intensity: u32,
        /// The sliding window.
        period: Duration,
        /// That child's last exit.
        cause: Arc<ExitCause>,
    },
    /// A supervisor shut down because its significant child had ended.
    #[error("shut down after its significant child `{child}` had ended")]
    AutoShutdown {
        /// The child whose end was the one.
        child: ChildId,
    },
    /// A child ended too often and is kept down for a while.
    #[error("`{child}` is in quarantine for {cool_down:?}; its last exit: {cause}")]
    Quarantined {
        /// The child.
        child: ChildId,
        /// How long it stays down.
        cool_down: Duration,
        /// Its last exit.
        cause: Arc<ExitCause>,
    },
    /// The child did not answer its liveness probe.
    #[error("unresponsive: {misses} probes in a row without an answer within {timeout:?}")]
    Unresponsive {
        /// Probes missed in a row.
        misses: u32,
        /// The time each had.
        timeout: Duration,
    },
}

impl ExitCause {
    /// The cause without its facts: what counters and policies are keyed by.
    #[must_use]
    pub fn kind(&self) -> ExitKind {
        match self {
            Self::Normal => ExitKind::Normal,
            Self::Shutdown => ExitKind::Shutdown,
            Self::OutOfMemory(_) => ExitKind::OutOfMemory,
            Self::TooMany(_) => ExitKind::TooMany,
            Self::Trap(_) => ExitKind::Trap,
            Self::StackOverflow { .. } => ExitKind::StackOverflow,
            Self::Deadline { .. } => ExitKind::Deadline,
            Self::OutOfFuel { .. } => ExitKind::OutOfFuel,
            Self::GuestExit { .. } => ExitKind::GuestExit,
            Self::HostError { .. } => ExitKind::HostError,
            Self::HostPanic { .. } => ExitKind::HostPanic,
            Self::Integrity { .. } => ExitKind::Integrity,
            Self::Capacity { .. } => ExitKind::Capacity,
            Self::Cancelled => ExitKind::Cancelled,
            Self::Killed => ExitKind::Killed,
            Self::Failed { .. } => ExitKind::Failed,
            Self::ChildStart { .. } => ExitKind::ChildStart,
            Self::Escalated { .. } => ExitKind::Escalated,
            Self::AutoShutdown { .. } => ExitKind::AutoShutdown,
            Self::Quarantined { .. } => ExitKind::Quarantined,
            Self::Unresponsive { .. } => ExitKind::Unresponsive,
        }
    }

    /// Whether a transient child is restarted after this exit. Only an own stop, a stop by the
    /// supervisor, an escalation and an automatic shutdown (OTP's `shutdown`) are not abnormal; a
    /// kill is.
    #[must_use]
    pub fn is_abnormal(&self) -> bool {
        !matches!(
            self,
            Self::Normal | Self::Shutdown | Self::Escalated { .. } | Self::AutoShutdown { .. }
        )
    }
}

/// An [`ExitCause`] without its facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(
    missing_docs,
    reason = "each variant is the cause of the same name in ExitCause"
)]
pub enum ExitKind {
    Normal,
    Shutdown,
    OutOfMemory,
    TooMany,
    Trap,
    StackOverflow,
    Deadline,
    OutOfFuel,
    GuestExit,
    HostError,
    HostPanic,
    Integrity,
    Capacity,
    Cancelled,
    Killed,
    Failed,
    ChildStart,
    Escalated,
    AutoShutdown,
    Quarantined,
    Unresponsive,
}

impl ExitKind {
    /// The short name used in tables, logs and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Shutdown => "shutdown",
            Self::OutOfMemory => "oom",
            Self::TooMany => "too-many",
            Self::Trap => "trap",
            Self::StackOverflow => "stack",
            Self::Deadline => "deadline",
            Self::OutOfFuel => "fuel",
            Self::GuestExit => "exit",
            Self::HostError => "host-error",
            Self::HostPanic => "host-panic",
            Self::Integrity => "integrity",
            Self::Capacity => "capacity",
            Self::Cancelled => "cancelled",
            Self::Killed => "killed",
            Self::Failed => "failed",
            Self::ChildStart => "child-start",
            Self::Escalated => "escalated",
            Self::AutoShutdown => "auto-shutdown",
            Self::Quarantined => "quarantined",
            Self::Unresponsive => "unresponsive",
        }
    }

    /// Whether the host is at fault. Restarts after such exits have a budget of their own, as
    /// large as the one for all others.
    #[must_use]
    pub fn is_the_hosts(self) -> bool {
        matches!(self, Self::HostPanic | Self::Capacity | Self::Integrity)
    }
}

impl fmt::Display for ExitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The figures of an out-of-memory exit, all in bytes over the whole instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "out of memory: limit {limit_bytes}, current {current_bytes}, requested {requested_bytes} more, peak {peak_bytes} bytes"
)]
pub struct OutOfMemory {
    /// What the instance may hold.
    pub limit_bytes: usize,
    /// What it held when the growth was refused.
    pub current_bytes: usize,
    /// What it asked for on top.
    pub requested_bytes: usize,
    /// The most it ever held.
    pub peak_bytes: usize,
}

/// The figures of an exit over a number of things that is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many {what}: limit {limit}, wanted {wanted}")]
pub struct TooMany {
    /// What there would have been too many of.
    pub what: Counted,
    /// How many the instance may have.
    pub limit: usize,
    /// How many there would have been at least.
    pub wanted: usize,
}

/// What an instance may have so many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Counted {
    /// Linear memories.
    Memories,
    /// Tables.
    Tables,
    /// Core instances.
    Instances,
    /// Elements of all tables together.
    TableElements,
    /// Handles of the component's own resources, or of the host's.
    Handles,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memories => "memories",
            Self::Tables => "tables",
            Self::Instances => "core instances",
            Self::TableElements => "table elements",
            Self::Handles => "handles",
        })
    }
}

/// A WebAssembly trap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("guest trap: {code}{}", trace(backtrace))]
pub struct Trap {
    /// What trapped, for example `unreachable`.
    pub code: &'static str,
    /// Innermost frame first; at most 20 frames.
    pub backtrace: Vec<Frame>,
}

/// One frame of a guest's backtrace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Name of the core module, where it has one.
    pub module: Option<String>,
    /// Demangled function name, where the binary has a name section.
    pub function: Option<String>,
    /// Byte offset in the module.
    pub offset: Option<usize>,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.function.as_deref().unwrap_or("<unnamed>");
        write!(f, "{}", line(name, NAME_BYTES))?;
        match self.offset {
            Some(offset) => write!(f, "@{offset:#x}"),
            None => Ok(()),
        }
    }
}

/// Where a guest was when its time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadlinePhase {
    /// While waiting for what a start needs first: reading, compiling.
    Load,
    /// While starting: instantiate, start functions.
    Start,
    /// While computing.
    Computing,
    /// While waiting for a host function.
    Waiting,
}

impl fmt::Display for DeadlinePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "while loading",
            Self::Start => "while starting",
            Self::Computing => "while computing",
            Self::Waiting => "while waiting for the host",
        })
    }
}

fn trace(frames: &[Frame]) -> String {
    if frames.is_empty() {
        return String::new();
    }
    let names: Vec<String> = frames.iter().map(Frame::to_string).collect();
    format!(" in {}", names.join(" < "))
}

fn within(entry: Option<&str>) -> String {
    entry.map_or_else(String::new, |entry| {
        format!(" in `{}`", line(entry, NAME_BYTES))
    })
}

impl From<crate::CaughtPanic> for ExitCause {
    fn from(caught: crate::CaughtPanic) -> Self {
        Self::HostPanic {
            entry: Some(caught.entry),
            message: caught.message,
        }
    }
}

impl From<ractor::ActorProcessingErr> for ExitCause {
    /// The cause an actor chose, or [`ExitCause::Failed`] around an error of another type.
    fn from(error: ractor::ActorProcessingErr) -> Self {
        match error.downcast::<Self>() {
            Ok(cause) => *cause,
            Err(other) => Self::Failed {
                source: Arc::from(other),
            },
        }
    }
}

impl From<ractor::SpawnErr> for ExitCause {
    fn from(error: ractor::SpawnErr) -> Self {
        match error {
            ractor::SpawnErr::StartupFailed(error) => Self::from(error),
            other => Self::Failed {
                source: Arc::new(other),
            },
        }
    }
}
