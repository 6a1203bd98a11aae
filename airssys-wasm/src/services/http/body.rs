//! The body of a response, as it comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::Error;

use super::connection::told;
use super::open_request::OpenRequest;

/// A response's body that ends with an error where nothing comes for too long. At most
/// [`MAX_HEAD_BYTES`](super::MAX_HEAD_BYTES) of it are read ahead of the guest.
pub(super) struct TimedBody {
    incoming: Incoming,
    /// Longest wait for a frame.
    between: Duration,
    /// When the call that asked for it is over.
    deadline: Instant,
    patience: Pin<Box<Sleep>>,
    /// Dropped with the body: then there is room for another request.
    _open: OpenRequest,
}

impl TimedBody {
    pub(super) fn new(
        incoming: Incoming,
        between: Duration,
        deadline: Instant,
        open: OpenRequest,
    ) -> Self {
        Self {
            incoming,
            between,
            deadline,
            patience: Box::pin(sleep_until(next(between, deadline))),
            _open: open,
        }
    }
}

fn next(between: Duration, deadline: Instant) -> Instant {
    let next = Instant::now().checked_add(between);
    next.map_or(deadline, |next| next.min(deadline))
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let next = next(self.between, self.deadline);
                self.patience.as_mut().reset(next);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(told(&error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(self.patience.as_mut().poll(context));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
