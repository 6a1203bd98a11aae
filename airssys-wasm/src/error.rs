//! Why a call to a component got no result.

use std::sync::Arc;
use std::time::Duration;

use airssys_integrity::{Corrupt, VerificationLevel};
use airssys_rt::{ExitCause, OutOfMemory};

use crate::config::ComponentName;
use crate::exports::FunctionError;
use crate::payload::{DecodeError, ValueError};

/// Why a call got no result. The component is named in each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WasmError {
    /// The instance needed more memory than its limit while it worked on this call. It has been
    /// replaced.
    #[error("{component}: {}", OutOfMemory {
        limit_bytes: *limit_bytes,
        current_bytes: *current_bytes,
        requested_bytes: *requested_bytes,
        peak_bytes: *peak_bytes,
    })]
    OutOfMemory {
        /// The component.
        component: ComponentName,
        /// What the instance may hold, in bytes.
        limit_bytes: usize,
        /// What it held when the growth was refused, in bytes.
        current_bytes: usize,
        /// What it asked for on top, in bytes.
        requested_bytes: usize,
        /// The most it ever held, in bytes.
        peak_bytes: usize,
    },
    /// The instance ended for another reason while it worked on this call. It has been replaced.
    #[error("{component}: {cause}")]
    Exited {
        /// The component.
        component: ComponentName,
        /// Why it ended.
        cause: Arc<ExitCause>,
    },
    /// The mailbox is full: try later, or use `call`, which waits for room.
    #[error("{component}: mailbox full, {capacity} calls are waiting")]
    MailboxFull {
        /// The component.
        component: ComponentName,
        /// Most calls that may wait.
        capacity: usize,
    },
    /// The arguments find no room beside those of the calls that wait: try later, use `call`, which
    /// waits for room, or raise `resources.message.max_waiting_bytes`.
    #[error(
        "{component}: no room for {requested_bytes} bytes of arguments beside the calls that wait, \
         which may take {max_bytes}; raise resources.message.max_waiting_bytes"
    )]
    NoWaitingRoom {
        /// The component.
        component: ComponentName,
        /// What the arguments count as, in bytes.
        requested_bytes: usize,
        /// Most bytes that may wait.
        max_bytes: usize,
    },
    /// The component is not running and will not be restarted by itself.
    #[error("{component}: stopped: {cause}")]
    Stopped {
        /// The component.
        component: ComponentName,
        /// Why nobody serves it.
        cause: Arc<ExitCause>,
    },
    /// The call's deadline passed before it was answered.
    #[error("{component}: no answer within {waited:?}")]
    Expired {
        /// The component.
        component: ComponentName,
        /// From the call to its end.
        waited: Duration,
    },
    /// Calls like this one have ended too many instances. The guest was not entered.
    #[error(
        "{component}: refused: {deaths} instances ended over calls like this one; the last: {cause}"
    )]
    Poisonous {
        /// The component.
        component: ComponentName,
        /// Instances that ended.
        deaths: u32,
        /// How the last one did.
        cause: Arc<ExitCause>,
    },
    /// The host had no room for the instance that this call needed. The guest was not entered; try
    /// again when other calls have ended, or raise `system.max_components`.
    #[error("{component}: no instance for this call: {cause}")]
    NoInstance {
        /// The component.
        component: ComponentName,
        /// What there was no room for.
        cause: Arc<ExitCause>,
    },
    /// The component has not been started yet.
    #[error("{component}: not started yet")]
    NotStarted {
        /// The component.
        component: ComponentName,
    },
    /// No such function, more than one, or one that cannot be called by message.
    #[error("{component}: {source}")]
    Function {
        /// The component.
        component: ComponentName,
        /// Which functions there are.
        source: FunctionError,
    },
    /// The arguments do not fit the function. The guest was not entered.
    #[error("{component}: argument {source}")]
    Arguments {
        /// The component.
        component: ComponentName,
        /// Which one, and why.
        source: ValueError,
    },
    /// The arguments, as JSON, do not fit the function. The guest was not entered.
    #[cfg(feature = "json")]
    #[error("{component}: argument {source}")]
    Json {
        /// The component.
        component: ComponentName,
        /// Which one, and why.
        source: crate::json::JsonError,
    },
    /// The call went well, but its result does not fit a message. The instance goes on.
    #[error("{component}: result {source}")]
    Results {
        /// The component.
        component: ComponentName,
        /// Why not.
        source: ValueError,
    },
    /// A message was damaged and has been dropped: the result on its way back, or, where the level
    /// checks arrival, the arguments while they were written. An instance whose result it was is
    /// replaced; for arguments the guest was not entered.
    #[error("{component}: message damaged: {source}")]
    Damaged {
        /// The component.
        component: ComponentName,
        /// The mismatch found.
        source: Corrupt,
    },
    /// The message was encoded at another level than the component's: encode it by this component.
    /// The guest was not entered.
    #[error("{component}: message encoded at {found:?}, the component is at {expected:?}")]
    OtherLevel {
        /// The component.
        component: ComponentName,
        /// Its level.
        expected: VerificationLevel,
        /// The message's.
        found: VerificationLevel,
    },
    /// The result does not decode: a defect of this crate.
    #[error("{component}: result: {source}")]
    Undecodable {
        /// The component.
        component: ComponentName,
        /// What decoding said.
        source: DecodeError,
    },
}

impl WasmError {
    pub(crate) fn exited(component: &ComponentName, cause: Arc<ExitCause>) -> Self {
        let component = component.clone();
        match *cause {
            ExitCause::OutOfMemory(OutOfMemory {
                limit_bytes,
                current_bytes,
                requested_bytes,
                peak_bytes,
            }) => Self::OutOfMemory {
                component,
                limit_bytes,
                current_bytes,
                requested_bytes,
                peak_bytes,
            },
            _ => Self::Exited { component, cause },
        }
    }
}
