//! Clients over streamable HTTP.
//!
//! A request is looked at in this order: its path, its token, its size and time, its Host and Origin,
//! and then what it says. Whatever fails ends there.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::handler::Client;
use super::sessions::Sessions;
use super::token::Token;
use super::{ServeError, Server};

/// Where the server is; there is nothing at any other path.
pub const PATH: &str = "/mcp";

/// Most connections at a time. Others wait until one ends.
pub const MAX_CONNECTIONS: usize = 256;

/// How long the head of a request may take, and as long again its body.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// How long connections may take to end once the server does.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Time before a connection is accepted again after none could be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Keeps pages of other origins, and what they open, apart from what is served.
const HEADERS: [(&str, &str); 3] = [
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-site"),
];

type Reply = Response<BoxBody<Bytes, Infallible>>;

/// Who is served over HTTP.
#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// What each request has to show; without it, whoever reaches a loopback address may call.
    pub token: Option<Token>,
    /// Hosts, with or without a port, by which the server may be addressed beside loopback.
    pub allow_hosts: Vec<String>,
    /// Origins, `scheme://host:port`, whose pages may call. There is no other way for a page to.
    pub allow_origins: Vec<String>,
}

struct Front {
    token: Option<Token>,
    max_body_bytes: usize,
    service: StreamableHttpService<Client, Sessions>,
}

impl Server {
    /// Serves clients at a listener, at [`PATH`], until `until` is ready.
    ///
    /// # Errors
    /// [`ServeError::NoToken`] and [`ServeError::Listen`].
    pub async fn http(
        &self,
        listener: TcpListener,
        options: HttpOptions,
        until: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let address = listener.local_addr().map_err(ServeError::Listen)?;
        if !address.ip().is_loopback() && options.token.is_none() {
            return Err(ServeError::NoToken { address });
        }
        let mut config = StreamableHttpServerConfig::default()
            .with_allowed_origins(options.allow_origins)
            .enforce_origin_validation()
            .with_max_request_body_bytes(self.shared.options.max_request_bytes);
        config.allowed_hosts.extend(options.allow_hosts);
        if !address.ip().is_unspecified() {
            config.allowed_hosts.push(address.ip().to_string());
        }
        let stop = config.cancellation_token.clone();
        let shared = Arc::clone(&self.shared);
        let front = Arc::new(Front {
            token: options.token,
            max_body_bytes: self.shared.options.max_request_bytes,
            service: StreamableHttpService::new(
                move || Ok(Client::new(&shared)),
                Arc::new(Sessions::new()),
                config,
            ),
        });
        let mut connections = JoinSet::new();
        let mut announce = pin!(self.announce());
        let mut until = pin!(until);
        loop {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                    match accepted {
                        Ok((stream, _)) => {
                            let stop = stop.clone();
                            let stopped = async move { stop.cancelled().await };
                            connections.spawn(connection(stream, Arc::clone(&front), stopped));
                        }
                        // Out of file descriptors, most likely: they come back.
                        Err(error) => {
                            tracing::warn!(%error, "connection not accepted");
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                () = &mut announce => {}
                () = &mut until => break,
            }
        }
        drop(listener);
        stop.cancel();
        let ended = async { while connections.join_next().await.is_some() {} };
        // Those that are left end with the set.
        timeout(END_LIMIT, ended).await.ok();
        Ok(())
    }
}

/// Serves one connection until its client goes or the server ends.
async fn connection(stream: TcpStream, front: Arc<Front>, stopped: impl Future<Output = ()>) {
    let service = service_fn(|request| {
        let front = Arc::clone(&front);
        async move { Ok::<_, Infallible>(front.reply(request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(READ_LIMIT);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // A client that breaks off has gone, and that is all.
        _ = served.as_mut() => return,
        () = stopped => {}
    }
    served.as_mut().graceful_shutdown();
    timeout(END_LIMIT, served).await.ok();
}

impl Front {
    async fn reply(&self, request: Request<Incoming>) -> Reply {
        let origin = request.headers().get(header::ORIGIN).cloned();
        let is_preflight = request.method() == Method::OPTIONS;
        let mut reply = match request.uri().path() == PATH {
            true if is_preflight => self.preflight(request).await,
            true => self.checked(request).await,
            false => text(StatusCode::NOT_FOUND, "there is nothing here\n"),
        };
        let headers = reply.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        // What the origin may not is a 403 or a 401 by now.
        let refused = [
            StatusCode::FORBIDDEN,
            StatusCode::UNAUTHORIZED,
            StatusCode::NOT_FOUND,
        ];
        if let Some(origin) = origin
            && !refused.contains(&reply.status())
        {
            share(reply.headers_mut(), origin);
        }
        reply
    }

    /// What a browser asks before a page may call: no token comes with that.
    async fn preflight(&self, request: Request<Incoming>) -> Reply {
        let (head, _) = request.into_parts();
        let empty = Request::from_parts(head, Full::<Bytes>::default());
        let mut reply = self.service.handle(empty).await;
        // Host and Origin are in order, and what is missing is the method.
        if reply.status() == StatusCode::METHOD_NOT_ALLOWED {
            reply = text(StatusCode::NO_CONTENT, "");
            let headers = reply.headers_mut();
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("GET, POST, DELETE"),
            );
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static(
                    "authorization, content-type, last-event-id, mcp-method, mcp-name, \
                     mcp-protocol-version, mcp-session-id",
                ),
            );
        }
        reply
    }

    async fn checked(&self, request: Request<Incoming>) -> Reply {
        if let Some(refused) = self.refused(request.headers()) {
            return refused;
        }
        let (head, body) = request.into_parts();
        let body = timeout(
            READ_LIMIT,
            Limited::new(body, self.max_body_bytes).collect(),
        );
        match body.await {
            Ok(Ok(body)) => {
                let whole = Full::new(body.to_bytes());
                self.service.handle(Request::from_parts(head, whole)).await
            }
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                text(StatusCode::PAYLOAD_TOO_LARGE, "the message is too large\n")
            }
            Ok(Err(_)) => text(StatusCode::BAD_REQUEST, "the body broke off\n"),
            Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
        }
    }

    /// What who shows no token, or another, is told (RFC 6750).
    fn refused(&self, headers: &HeaderMap) -> Option<Reply> {
        let token = self.token.as_ref()?;
        let shown = headers
            .get(header::AUTHORIZATION)
            .map(HeaderValue::as_bytes);
        let challenge = match shown.map(bearer) {
            Some(Some(shown)) if token.is(shown) => return None,
            Some(Some(_)) => "Bearer realm=\"airssys\", error=\"invalid_token\"",
            _ => "Bearer realm=\"airssys\"",
        };
        let mut refused = text(StatusCode::UNAUTHORIZED, "a bearer token is needed\n");
        refused.headers_mut().insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static(challenge),
        );
        Some(refused)
    }
}

/// The token of `Bearer TOKEN`; the scheme's letters may be of either case.
fn bearer(shown: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = shown.split_at_checked("Bearer ".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer ");
    is_bearer.then(|| token.trim_ascii())
}

/// Lets the page of an origin read the reply (CORS).
fn share(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("mcp-session-id, www-authenticate"),
    );
}

fn text(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = Response::new(Full::from(text).boxed());
    *reply.status_mut() = status;
    reply
}
