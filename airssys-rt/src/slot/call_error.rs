//! How calls fail.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ExitCause;

/// Why a call got no answer from the actor.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CallError<T> {
    /// The mailbox is full; the request comes back.
    #[error("mailbox full: {capacity} requests are waiting")]
    Full {
        /// What was not taken.
        request: T,
        /// Most requests that may wait.
        capacity: usize,
    },
    /// Nobody serves this slot any more; the request comes back.
    #[error("stopped: {cause}")]
    Stopped {
        /// What was not taken; `None` if it had been waiting already.
        request: Option<T>,
        /// Why nobody serves it.
        cause: Arc<ExitCause>,
    },
    /// The deadline passed before an answer came.
    #[error("no answer within {waited:?}")]
    Expired {
        /// From the call to its end.
        waited: Duration,
    },
    /// The actor ended while it worked on this request.
    #[error(transparent)]
    Exited(Arc<ExitCause>),
    /// Requests like this one have ended too many incarnations; the request comes back.
    #[error("refused: {deaths} incarnations ended over requests like this one; the last: {cause}")]
    Poisonous {
        /// What was not taken; `None` if it had been waiting already.
        request: Option<T>,
        /// Incarnations that ended.
        deaths: u32,
        /// How the last one did.
        cause: Arc<ExitCause>,
    },
}

impl<T> fmt::Debug for CallError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full { .. } => "Full: ",
            Self::Stopped { .. } => "Stopped: ",
            Self::Expired { .. } => "Expired: ",
            Self::Exited(_) => "Exited: ",
            Self::Poisonous { .. } => "Poisonous: ",
        })?;
        fmt::Display::fmt(self, f)
    }
}

impl<T> CallError<T> {
    /// The same, of this request.
    pub(super) fn with(mut self, handed_back: T) -> Self {
        if let Self::Stopped { request, .. } | Self::Poisonous { request, .. } = &mut self {
            *request = Some(handed_back);
        }
        self
    }
}
