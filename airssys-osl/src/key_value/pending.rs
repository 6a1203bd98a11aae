//! The answer to a write, once it is on the disk.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use futures_channel::oneshot;

use super::fault::{KeyValueError, KeyValueFault};

/// A write under way: await it, or [`wait`](Self::wait) for it. Dropping it does not take the write
/// back.
#[derive(Debug)]
#[must_use = "a write may be refused"]
pub struct PendingWrite<T>(Stage<T>);

#[derive(Debug)]
enum Stage<T> {
    Refused(Option<KeyValueError>),
    Waiting(oneshot::Receiver<Result<T, KeyValueError>>),
}

impl<T> PendingWrite<T> {
    pub(super) fn refused(error: KeyValueError) -> Self {
        Self(Stage::Refused(Some(error)))
    }

    pub(super) fn waiting(answer: oneshot::Receiver<Result<T, KeyValueError>>) -> Self {
        Self(Stage::Waiting(answer))
    }

    /// Blocks the thread until the write is on the disk.
    ///
    /// # Errors
    /// [`KeyValueError`].
    pub fn wait(self) -> Result<T, KeyValueError> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut pending = pin!(self);
        loop {
            match pending.as_mut().poll(&mut context) {
                Poll::Ready(answer) => return answer,
                Poll::Pending => thread::park(),
            }
        }
    }
}

// Nothing in it is pinned.
impl<T> Unpin for PendingWrite<T> {}

impl<T> Future for PendingWrite<T> {
    type Output = Result<T, KeyValueError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A sender that is gone unanswered went with its store.
        let closed = KeyValueError::Store(KeyValueFault::Closed);
        match &mut self.0 {
            Stage::Refused(error) => Poll::Ready(Err(error.take().unwrap_or(closed))),
            Stage::Waiting(answer) => Pin::new(answer)
                .poll(context)
                .map(|answer| answer.unwrap_or(Err(closed))),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
