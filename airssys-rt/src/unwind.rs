//! Foreign code that may panic, run so that nothing of the panic gets past its caller: neither the
//! panic, nor one of the payload's destructor, nor one of the dropped future's.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// Most bytes kept of a panic's message.
pub const PANIC_MESSAGE_BYTES: usize = 1024;

pub(crate) type Payload = Box<dyn Any + Send>;

/// Calls `f`; a panic is its error. What `f` captured is dropped inside.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Payload> {
    // Whether what `f` shares with others is still whole is for those to judge who wrote `f`.
    catch_unwind(AssertUnwindSafe(f))
}

/// The payload's text, bounded; the payload itself is dropped here.
pub(crate) fn message(payload: Payload) -> String {
    let text = match payload.downcast_ref::<&'static str>() {
        Some(text) => text,
        None => payload
            .downcast_ref::<String>()
            .map_or("panicked with a payload that is not text", String::as_str),
    };
    let message = bounded(text);
    discard(payload);
    message
}

/// The first [`PANIC_MESSAGE_BYTES`] bytes of `text`, cut at a character.
pub(crate) fn bounded(text: &str) -> String {
    let end = text.floor_char_boundary(PANIC_MESSAGE_BYTES);
    text.get(..end).unwrap_or(text).to_owned()
}

fn discard(payload: Payload) {
    if let Err(second) = catch(|| drop(payload)) {
        // It came out of a payload's destructor, and its own may panic as well, without end.
        std::mem::forget(second);
    }
}

pin_project! {
    /// Runs a future to its end or its panic, which goes through `report`. The future is dropped
    /// inside too, even one that was never polled; a panic while it is cancelled is reported as
    /// well, though nobody gets what the report returns.
    pub(crate) struct Contained<F, R, P>
    where
        P: Fn(Payload) -> R,
    {
        #[pin]
        future: Option<F>,
        report: P,
    }

    impl<F, R, P> PinnedDrop for Contained<F, R, P>
    where
        P: Fn(Payload) -> R,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Err(payload) = clear(this.future) {
                (this.report)(payload);
            }
        }
    }
}

impl<F, R, P: Fn(Payload) -> R> Contained<F, R, P> {
    pub(crate) fn new(future: F, report: P) -> Self {
        Self {
            future: Some(future),
            report,
        }
    }
}

impl<F: Future, R, P: Fn(Payload) -> R> Future for Contained<F, R, P> {
    type Output = Result<F::Output, R>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let polled = catch(|| match this.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(context),
            // Polled again after its end, which a future need not answer.
            None => Poll::Pending,
        });
        let payload = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => match clear(this.future) {
                Ok(()) => return Poll::Ready(Ok(output)),
                Err(payload) => {
                    catch(|| drop(output)).map_err(discard).ok();
                    payload
                }
            },
            Err(payload) => {
                clear(this.future).map_err(discard).ok();
                payload
            }
        };
        Poll::Ready(Err((this.report)(payload)))
    }
}

fn clear<F>(mut future: Pin<&mut Option<F>>) -> Result<(), Payload> {
    catch(|| future.set(None))
}
