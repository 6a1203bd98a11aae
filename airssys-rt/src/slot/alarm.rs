//! The timer behind a call's deadline.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is kept from call to call. To be put off costs one that runs no lock, where to be
/// made and dropped costs two of the lock that all timers of a runtime share.
#[derive(Debug)]
pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// Whose timer it is; it cannot be asked once that has ended.
    runtime: Id,
}

impl Alarm {
    /// `kept`, put off, where it is one of this runtime; else a new one.
    pub(super) fn at(kept: Option<Self>, deadline: Instant) -> Self {
        let runtime = Handle::current().id();
        match kept {
            Some(mut kept) if kept.runtime == runtime => {
                kept.sleep.as_mut().reset(deadline);
                kept
            }
            _ => Self {
                sleep: Box::pin(sleep_until(deadline)),
                runtime,
            },
        }
    }

    /// Ready at the deadline.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(context)
    }

    /// Wakes nobody from now on: a waker keeps the memory of its task.
    pub(super) fn rest(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        // Whether it is over is nobody's concern any more.
        let _ = self.sleep.as_mut().poll(&mut context);
    }
}
