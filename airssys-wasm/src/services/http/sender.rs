//! Who sends an instance's requests, once they may be sent.

use std::sync::Arc;
use std::time::Instant;

use airssys_osl::grants::HostName;
use hyper::{Method, Request, Response};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::super::gate::Gate;
use super::connection::{Admitted, Patience, Rest};
use super::open_request::OpenRequest;
use super::target::Target;
use super::{CHUNK_BYTES, MAX_HEAD_BYTES, MAX_HEADERS};

type Sending = dyn Future<Output = Result<(Response<WasiBody>, Rest), Error>> + Send;

/// One instance's way out.
#[derive(Debug)]
pub(crate) struct Sender {
    gate: Arc<Gate>,
    /// Of the call under way.
    pub(crate) deadline: Instant,
    /// The instance's sockets when a request is sent.
    pub(super) sockets: usize,
}

impl Sender {
    pub(crate) fn new(gate: &Arc<Gate>, deadline: Instant) -> Self {
        Self {
            gate: Arc::clone(gate),
            deadline,
            sockets: 0,
        }
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Whether a request may be sent. Where it goes by a name, each address is asked about once it
    /// is found.
    fn admit(
        &self,
        request: &Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Admitted, Error> {
        // It would ask for a tunnel to somebody else.
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        check_size(request)?;
        let target = Target::of(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        let open = OpenRequest::begin(&self.gate, self.sockets);
        let open = open.map_err(|_| Error::ConnectionLimitReached)?;
        let allowed = match &target {
            Target::Address(address) => self.gate.socket(*address, SocketAddrUse::TcpConnect),
            Target::Name(name, port) => {
                let name = HostName::new(name).map_err(|_| Error::HttpRequestUriInvalid)?;
                self.gate.connect(name, *port).is_ok()
            }
        };
        if !allowed {
            return Err(Error::HttpRequestDenied);
        }
        Ok(Admitted {
            gate: Arc::clone(&self.gate),
            target,
            patience: Patience::new(self.deadline, options),
            open,
        })
    }
}

fn check_size(request: &Request<WasiBody>) -> Result<(), Error> {
    if request
        .uri()
        .path_and_query()
        .map_or(0, |path| path.as_str().len())
        > MAX_HEAD_BYTES
    {
        return Err(Error::HttpRequestUriTooLong);
    }
    let headers = request.headers();
    let bytes = headers.iter().map(|(name, value)| {
        // `: ` and the end of the line.
        name.as_str().len() + value.len() + 4
    });
    let bytes: usize = bytes.sum();
    if bytes > MAX_HEAD_BYTES || headers.len() > MAX_HEADERS {
        let bytes = u32::try_from(bytes).ok();
        return Err(Error::HttpRequestHeaderSectionSize(bytes));
    }
    Ok(())
}

impl WasiHttpHooks for Sender {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Rest,
    ) -> Box<Sending> {
        let admitted = self.admit(&request, options);
        Box::new(async move { admitted?.send(request).await })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }
}
