//! One connection for one request: looked up, checked, made and used.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use airssys_osl::grants::HostName;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Request, Response, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::super::gate::Gate;
use super::body::TimedBody;
use super::open_request::OpenRequest;
use super::target::Target;
use super::{MAX_HEAD_BYTES, MAX_HEADERS, tls};

/// What goes on with a connection while its response's body is read.
pub(super) type Rest = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// When the call under way is over, whatever the guest asks for.
    deadline: Instant,
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    between_bytes: Option<Duration>,
}

impl Patience {
    pub(super) fn new(deadline: std::time::Instant, options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        Self {
            deadline: deadline.into(),
            connect: options.connect_timeout,
            first_byte: options.first_byte_timeout,
            between_bytes: options.between_bytes_timeout,
        }
    }

    /// When something that begins now has to be over.
    fn until(&self, most: Option<Duration>) -> Instant {
        let end = most.and_then(|most| Instant::now().checked_add(most));
        end.map_or(self.deadline, |end| end.min(self.deadline))
    }
}

/// A request that may be sent.
pub(super) struct Admitted {
    pub(super) gate: Arc<Gate>,
    pub(super) target: Target,
    pub(super) patience: Patience,
    pub(super) open: OpenRequest,
}

impl Admitted {
    /// Sends a request to its target over a connection of its own.
    ///
    /// # Errors
    /// [`Error`].
    pub(super) async fn send(
        self,
        request: Request<WasiBody>,
    ) -> Result<(Response<WasiBody>, Rest), Error> {
        let connected = self.patience.until(self.patience.connect);
        let stream = self.connect(connected).await?;
        if request.uri().scheme() == Some(&Scheme::HTTPS) {
            let secured = tls::secure(stream, &self.target);
            let secured = timeout_at(connected, secured).await;
            let secured = secured.map_err(|_| Error::ConnectionTimeout)??;
            self.exchange(secured, request).await
        } else {
            self.exchange(stream, request).await
        }
    }

    /// Connects to an address that has been checked: a name's addresses are looked up once, and
    /// each is asked about before there is a packet to it.
    async fn connect(&self, by: Instant) -> Result<TcpStream, Error> {
        let (name, port) = match &self.target {
            Target::Address(address) => return dial(*address, by).await,
            Target::Name(name, port) => (name, *port),
        };
        let found = look_up(&self.gate, name, by).await?;
        let mut left = u32::try_from(found.len()).unwrap_or(u32::MAX);
        let mut failed = Error::HttpRequestDenied;
        for ip in found {
            let address = SocketAddr::new(ip, port);
            // Those that come after it get their share of the time.
            let share = by.saturating_duration_since(Instant::now()) / left.max(1);
            left = left.saturating_sub(1);
            if !self.gate.socket(address, SocketAddrUse::TcpConnect) {
                continue;
            }
            match dial(address, Instant::now() + share).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn exchange<S>(
        self,
        stream: S,
        mut request: Request<WasiBody>,
    ) -> Result<(Response<WasiBody>, Rest), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .max_header_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(|error| told(&error))?;
        let path = request.uri().path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        // The whole URI is for proxies.
        *request.uri_mut() = Uri::from(path);

        let patience = self.patience;
        let mut connection = Some(connection);
        let answer = beside(sender.send_request(request), &mut connection);
        let answer = timeout_at(patience.until(patience.first_byte), answer).await;
        let answer = answer.map_err(|_| Error::ConnectionReadTimeout)??;
        let between = patience.between_bytes.unwrap_or(Duration::MAX);
        let answer = answer.map(|incoming| {
            let body = TimedBody::new(incoming, between, patience.deadline, self.open);
            WasiBody::new(body)
        });
        let rest = async move {
            if let Some(connection) = connection {
                // The body tells what became of it.
                timeout_at(patience.deadline, connection).await.ok();
            }
            Ok(())
        };
        Ok((answer, Box::new(rest)))
    }
}

/// The addresses of a name, which are from now on as good as the name.
async fn look_up(gate: &Gate, name: &str, by: Instant) -> Result<Vec<IpAddr>, Error> {
    let lookup = gate.granted().resolver.lookup(name.to_owned());
    let found = timeout_at(by, lookup).await;
    let found = found.map_err(|_| Error::DnsTimeout)?;
    let found = found.ok().filter(|found| !found.is_empty());
    let found = found.ok_or(Error::DnsError {
        rcode: None,
        info_code: None,
    })?;
    if let Ok(name) = HostName::new(name) {
        gate.found(name, &found);
    }
    Ok(found)
}

async fn dial(address: SocketAddr, by: Instant) -> Result<TcpStream, Error> {
    let connected = timeout_at(by, TcpStream::connect(address)).await;
    let stream = match connected.map_err(|_| Error::ConnectionTimeout)? {
        Ok(stream) => stream,
        Err(error) => return Err(undelivered(&error)),
    };
    // A request is written at once and waited for.
    stream.set_nodelay(true).ok();
    Ok(stream)
}

fn undelivered(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Error::DestinationIpUnroutable
        }
        _ => Error::DestinationUnavailable,
    }
}

type Connection<S> = http1::Connection<TokioIo<S>, WasiBody>;

/// Waits for an answer while its connection works. A connection that is over is taken away.
async fn beside<S>(
    answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
    connection: &mut Option<Connection<S>>,
) -> Result<Response<Incoming>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut answer = pin!(answer);
    poll_fn(|context| {
        let ended = match connection.as_mut().map(Pin::new) {
            Some(working) => working.poll(context),
            None => Poll::Pending,
        };
        if ended.is_ready() {
            *connection = None;
        }
        match (answer.as_mut().poll(context), ended) {
            (Poll::Ready(Ok(answer)), _) => Poll::Ready(Ok(answer)),
            // The connection knows more of its end than who waited for it.
            (_, Poll::Ready(Err(error))) | (Poll::Ready(Err(error)), _) => {
                Poll::Ready(Err(told(&error)))
            }
            (Poll::Pending, _) => Poll::Pending,
        }
    })
    .await
}

/// What the guest is told of an error of hyper's.
pub(super) fn told(error: &hyper::Error) -> Error {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    let kind = cause.map(io::Error::kind);
    if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(None)
    } else if error.is_incomplete_message() || kind == Some(io::ErrorKind::UnexpectedEof) {
        Error::HttpResponseIncomplete
    } else if kind.is_some() || error.is_canceled() || error.is_closed() {
        Error::ConnectionTerminated
    } else {
        Error::HttpProtocolError
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic fails the test")]

    use airssys_osl::grants::NetworkRules;
    use airssys_rt::{Events, TaskRegistry};

    use super::*;
    use crate::config::CapabilitiesConfig;
    use crate::host_functions::Caller;
    use crate::runtime::WeakRuntime;
    use crate::services::{Granted, Offers, Reach, Resolver};

    /// The gate of an instance that is granted `rule`, in a host where every name is at `address`.
    fn gate(rule: &str, address: &'static str) -> Arc<Gate> {
        let found = move || address.parse().map_err(io::Error::other);
        let offers = Offers {
            resolver: Resolver::new(move |_| Box::pin(async move { Ok(vec![found()?]) })),
            ..Offers::default()
        };
        let mut config = CapabilitiesConfig::default();
        config.network.outbound = NetworkRules {
            allow: Some(vec![rule.parse().unwrap()]),
            deny: Vec::new(),
        };
        let component: crate::config::ComponentName = "a".parse().unwrap();
        let granted = Granted::open(&config, &component, &offers).unwrap();
        let caller = Caller {
            component,
            replica: 0,
            generation: 1,
        };
        let reach = Reach {
            runtime: WeakRuntime::default(),
            tasks: TaskRegistry::default(),
            denials: Events::default(),
            lines: Events::default(),
            audit: None,
            secrets: None,
        };
        Gate::new(caller, Arc::new(granted), Arc::new(reach))
    }

    /// Whether a packet may go to where the name was found. None does: it would leave the machine.
    async fn leads(gate: &Gate, name: &str, port: u16) -> bool {
        let by = Instant::now() + Duration::from_secs(20);
        let found = look_up(gate, name, by).await.unwrap();
        let to = |ip| SocketAddr::new(ip, port);
        found
            .into_iter()
            .all(|ip| gate.socket(to(ip), SocketAddrUse::TcpConnect))
    }

    #[tokio::test]
    async fn a_granted_name_leads_to_the_public_address_it_was_found_at_and_its_port_only() {
        let gate = gate("api.example.com:443", "9.9.9.9");
        let address = SocketAddr::from(([9, 9, 9, 9], 443));
        assert!(!gate.socket(address, SocketAddrUse::TcpConnect));
        assert!(!leads(&gate, "other.example.com", 443).await);
        assert!(leads(&gate, "api.example.com", 443).await);
        assert!(!leads(&gate, "api.example.com", 80).await);
    }
}
