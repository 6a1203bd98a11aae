//! One client over a pair of byte streams, a message a line: standard input and output, most often.
//!
//! Guarantees: a line is bounded, and so are the requests that have not been answered; what is no
//! message ends nothing.

use std::collections::HashSet;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::RoleServer;
use rmcp::model::{ClientNotification, RequestId};
use rmcp::service::{RxJsonRpcMessage, ServerInitializeError, TxJsonRpcMessage, serve_server};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::handler::Client;
use super::{ServeError, Server};

/// Most requests of a client that have not been answered. No more are read until it has taken
/// answers: those beyond [`DEFAULT_MAX_CALLS`](super::DEFAULT_MAX_CALLS) are told that the server is
/// busy.
pub const MAX_OPEN_REQUESTS: usize = 2048;

impl Server {
    /// Serves the client at standard input and output until it closes standard input, or `until` is
    /// ready. The answers of calls that are at work when standard input ends have five seconds.
    ///
    /// # Errors
    /// [`ServeError::Session`].
    pub async fn stdio(&self, until: impl Future<Output = ()>) -> Result<(), ServeError> {
        let (read, write) = rmcp::transport::stdio_pipes();
        self.serve(read, write, until).await
    }

    /// As [`Server::stdio`], over other streams.
    ///
    /// # Errors
    /// [`ServeError::Session`].
    pub async fn serve<R, W>(
        &self,
        read: R,
        write: W,
        until: impl Future<Output = ()>,
    ) -> Result<(), ServeError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let lines = Lines::new(read, write, self.shared.options.max_request_bytes);
        let mut until = pin!(until);
        let begun = tokio::select! {
            begun = serve_server(Client::new(&self.shared), lines) => begun,
            () = &mut until => return Ok(()),
        };
        let running = match begun {
            Ok(running) => running,
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(error) => return Err(ServeError::Session(Box::new(error))),
        };
        let stop = running.cancellation_token();
        let mut ended = pin!(running.waiting());
        tokio::select! {
            // How it ended changes nothing: the client is served no more.
            _ = &mut ended => return Ok(()),
            () = self.announce() => {}
            () = &mut until => {}
        }
        stop.cancel();
        ended.await.ok();
        Ok(())
    }
}

/// Messages as lines.
struct Lines<R: AsyncRead, W: AsyncWrite> {
    inner: AsyncRwTransport<RoleServer, R, W>,
    open: Arc<Open>,
    /// Whether a request has come in; before it nothing else means anything.
    begun: bool,
}

/// The requests that have not been answered.
#[derive(Debug, Default)]
struct Open {
    requests: Mutex<Requests>,
    fewer: Notify,
}

#[derive(Debug, Default)]
struct Requests {
    /// Of those that are at work.
    ids: HashSet<RequestId>,
    /// Those, and the ones whose answers have not been taken.
    count: usize,
}

impl Open {
    /// Returns once there is room for one more. Cancel-safe.
    async fn room(&self) {
        loop {
            let mut fewer = pin!(self.fewer.notified());
            fewer.as_mut().enable();
            if self.with(|requests| requests.count) < MAX_OPEN_REQUESTS {
                return;
            }
            fewer.await;
        }
    }

    /// Whether no other of that id is at work.
    fn begin(&self, id: &RequestId) -> bool {
        self.with(|requests| {
            let is_new = requests.ids.insert(id.clone());
            requests.count += usize::from(is_new);
            is_new
        })
    }

    /// It is at work no longer; whether it was. [`Open::forget`] comes next.
    fn end(&self, id: &RequestId) -> bool {
        self.with(|requests| requests.ids.remove(id))
    }

    fn forget(&self) {
        self.with(|requests| requests.count -= 1);
        self.fewer.notify_waiters();
    }

    fn with<T>(&self, work: impl FnOnce(&mut Requests) -> T) -> T {
        work(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<R, W> Lines<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    fn new(read: R, write: W, max_bytes: usize) -> Self {
        let inner = AsyncRwTransport::new_server(read, write);
        Self {
            inner: inner.with_max_line_length(max_bytes),
            open: Arc::default(),
            begun: false,
        }
    }
}

impl<R, W> Transport<RoleServer> for Lines<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let answered = match &message {
            TxJsonRpcMessage::<RoleServer>::Response(response) => Some(&response.id),
            TxJsonRpcMessage::<RoleServer>::Error(error) => error.id.as_ref(),
            _ => None,
        };
        // The id is free before the client sees the answer.
        let ended = answered.is_some_and(|id| self.open.end(id));
        let (sent, open) = (self.inner.send(message), Arc::clone(&self.open));
        async move {
            let sent = sent.await;
            if ended {
                open.forget();
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            self.open.room().await;
            let message = self.inner.receive().await?;
            match &message {
                RxJsonRpcMessage::<RoleServer>::Request(request) => {
                    self.begun = true;
                    if self.open.begin(&request.id) {
                        return Some(message);
                    }
                    // Its answer could not be told from the other's.
                    tracing::warn!(id = %request.id, "request with the id of one at work dropped");
                }
                RxJsonRpcMessage::<RoleServer>::Notification(notification) if self.begun => {
                    if let ClientNotification::CancelledNotification(cancelled) =
                        &notification.notification
                        && let Some(id) = &cancelled.params.request_id
                        && self.open.end(id)
                    {
                        // It gets no answer.
                        self.open.forget();
                    }
                    return Some(message);
                }
                _ if self.begun => return Some(message),
                _ => tracing::warn!("message before the first request dropped"),
            }
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.inner.close().await
    }
}
