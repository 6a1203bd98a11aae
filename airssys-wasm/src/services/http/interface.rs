//! The calls of `wasi:http/types` and `wasi:http/outgoing-handler`: those that make the host hold
//! more for the guest are asked about, and all are handed on to wasmtime's.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{
    self, Duration, ErrorCode, Fields, FutureIncomingResponse, FutureTrailers, HeaderError,
    HostFields, HostFutureIncomingResponse, HostFutureTrailers, HostIncomingBody,
    HostIncomingRequest, HostIncomingResponse, HostOutgoingBody, HostOutgoingRequest,
    HostOutgoingResponse, HostRequestOptions, HostResponseOutparam, IncomingBody, IncomingRequest,
    IncomingResponse, IoError, Method, OutgoingBody, OutgoingRequest, OutgoingResponse,
    RequestOptions, ResponseOutparam, Scheme, StatusCode,
};
use wasmtime_wasi_http::p2::{self, HeaderResult, HttpError, HttpResult};

use super::super::sockets;
use super::{BODY_BYTES, HEADER_BYTES, Http, REQUEST_BYTES, header_bytes};

type Answer<T> = wasmtime::Result<T>;

pub(super) fn method_bytes(method: &Method) -> usize {
    match method {
        Method::Other(name) => name.len(),
        _ => 0,
    }
}

pub(super) fn scheme_bytes(scheme: &Scheme) -> usize {
    match scheme {
        Scheme::Other(name) => name.len(),
        _ => 0,
    }
}

/// What a guest is told of a request that would take it beyond its memory limit.
const NO_ROOM: &str = "the memory limit has no room for another request";

/// Hands calls on to wasmtime's own.
macro_rules! hand_on {
    ($interface:ident: $(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&mut self, $($argument: $type),*) -> $answer {
            $interface::$name(&mut self.inner(), $($argument),*)
        })*
    };
}

impl outgoing_handler::Host for Http<'_> {
    fn handle(
        &mut self,
        request: Resource<OutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> HttpResult<Resource<FutureIncomingResponse>> {
        let sent = match self.room(REQUEST_BYTES) {
            Ok(()) => {
                self.sender.sockets = sockets::open(self.table);
                // The same handle twice: wasmtime's looks at the options and leaves them where they
                // are, though they are the callee's from here on.
                let options = options.as_ref().map(|own| Resource::new_own(own.rep()));
                outgoing_handler::Host::handle(&mut self.inner(), request, options)
            }
            Err(_) => {
                self.table.delete(request)?;
                Err(ErrorCode::InternalError(Some(NO_ROOM.to_owned())).into())
            }
        };
        if let Some(options) = options {
            self.table.delete(options)?;
        }
        sent
    }
}

impl types::Host for Http<'_> {
    fn convert_error_code(&mut self, error: HttpError) -> Answer<ErrorCode> {
        types::Host::convert_error_code(&mut self.inner(), error)
    }

    fn convert_header_error(&mut self, error: p2::HeaderError) -> Answer<HeaderError> {
        types::Host::convert_header_error(&mut self.inner(), error)
    }

    fn http_error_code(&mut self, error: Resource<IoError>) -> Answer<Option<ErrorCode>> {
        types::Host::http_error_code(&mut self.inner(), error)
    }
}

impl HostFields for Http<'_> {
    fn from_list(&mut self, entries: Vec<(String, Vec<u8>)>) -> HeaderResult<Resource<Fields>> {
        let bytes = |(name, value): &(String, Vec<u8>)| name.len() + value.len() + HEADER_BYTES;
        let bytes = entries.iter().map(bytes).sum();
        self.room(bytes).map_err(p2::HeaderError::trap)?;
        HostFields::from_list(&mut self.inner(), entries)
    }

    fn set(
        &mut self,
        this: Resource<Fields>,
        name: String,
        values: Vec<Vec<u8>>,
    ) -> HeaderResult<()> {
        let bytes = values.iter().map(|value| value.len() + HEADER_BYTES);
        let bytes = bytes.sum::<usize>() + name.len();
        self.room(bytes).map_err(p2::HeaderError::trap)?;
        HostFields::set(&mut self.inner(), this, name, values)
    }

    fn append(&mut self, this: Resource<Fields>, name: String, value: Vec<u8>) -> HeaderResult<()> {
        let bytes = name.len() + value.len() + HEADER_BYTES;
        self.room(bytes).map_err(p2::HeaderError::trap)?;
        HostFields::append(&mut self.inner(), this, name, value)
    }

    fn clone(&mut self, this: Resource<Fields>) -> Answer<Resource<Fields>> {
        let bytes = header_bytes(self.table.get(&this)?);
        self.room(bytes)?;
        HostFields::clone(&mut self.inner(), this)
    }

    hand_on! { HostFields:
        fn new() -> Answer<Resource<Fields>>;
        fn get(this: Resource<Fields>, name: String) -> Answer<Vec<Vec<u8>>>;
        fn has(this: Resource<Fields>, name: String) -> Answer<bool>;
        fn delete(this: Resource<Fields>, name: String) -> HeaderResult<()>;
        fn entries(this: Resource<Fields>) -> Answer<Vec<(String, Vec<u8>)>>;
        fn drop(this: Resource<Fields>) -> Answer<()>;
    }
}

impl HostOutgoingRequest for Http<'_> {
    fn body(
        &mut self,
        this: Resource<OutgoingRequest>,
    ) -> Answer<Result<Resource<OutgoingBody>, ()>> {
        self.room(BODY_BYTES)?;
        HostOutgoingRequest::body(&mut self.inner(), this)
    }

    fn set_method(
        &mut self,
        this: Resource<OutgoingRequest>,
        method: Method,
    ) -> Answer<Result<(), ()>> {
        self.room(method_bytes(&method))?;
        HostOutgoingRequest::set_method(&mut self.inner(), this, method)
    }

    fn set_path_with_query(
        &mut self,
        this: Resource<OutgoingRequest>,
        path: Option<String>,
    ) -> Answer<Result<(), ()>> {
        self.room(path.as_ref().map_or(0, String::len))?;
        HostOutgoingRequest::set_path_with_query(&mut self.inner(), this, path)
    }

    fn set_scheme(
        &mut self,
        this: Resource<OutgoingRequest>,
        scheme: Option<Scheme>,
    ) -> Answer<Result<(), ()>> {
        self.room(scheme.as_ref().map_or(0, scheme_bytes))?;
        HostOutgoingRequest::set_scheme(&mut self.inner(), this, scheme)
    }

    fn set_authority(
        &mut self,
        this: Resource<OutgoingRequest>,
        authority: Option<String>,
    ) -> Answer<Result<(), ()>> {
        self.room(authority.as_ref().map_or(0, String::len))?;
        HostOutgoingRequest::set_authority(&mut self.inner(), this, authority)
    }

    hand_on! { HostOutgoingRequest:
        fn new(headers: Resource<Fields>) -> Answer<Resource<OutgoingRequest>>;
        fn method(this: Resource<OutgoingRequest>) -> Answer<Method>;
        fn path_with_query(this: Resource<OutgoingRequest>) -> Answer<Option<String>>;
        fn scheme(this: Resource<OutgoingRequest>) -> Answer<Option<Scheme>>;
        fn authority(this: Resource<OutgoingRequest>) -> Answer<Option<String>>;
        fn headers(this: Resource<OutgoingRequest>) -> Answer<Resource<Fields>>;
        fn drop(this: Resource<OutgoingRequest>) -> Answer<()>;
    }
}

impl HostOutgoingResponse for Http<'_> {
    fn body(
        &mut self,
        this: Resource<OutgoingResponse>,
    ) -> Answer<Result<Resource<OutgoingBody>, ()>> {
        self.room(BODY_BYTES)?;
        HostOutgoingResponse::body(&mut self.inner(), this)
    }

    hand_on! { HostOutgoingResponse:
        fn new(headers: Resource<Fields>) -> Answer<Resource<OutgoingResponse>>;
        fn status_code(this: Resource<OutgoingResponse>) -> Answer<StatusCode>;
        fn set_status_code(this: Resource<OutgoingResponse>, status: StatusCode) -> Answer<Result<(), ()>>;
        fn headers(this: Resource<OutgoingResponse>) -> Answer<Resource<Fields>>;
        fn drop(this: Resource<OutgoingResponse>) -> Answer<()>;
    }
}

impl HostOutgoingBody for Http<'_> {
    hand_on! { HostOutgoingBody:
        fn write(this: Resource<OutgoingBody>) -> Answer<Result<Resource<DynOutputStream>, ()>>;
        fn finish(this: Resource<OutgoingBody>, trailers: Option<Resource<Fields>>) -> HttpResult<()>;
        fn drop(this: Resource<OutgoingBody>) -> Answer<()>;
    }
}

impl HostFutureIncomingResponse for Http<'_> {
    hand_on! { HostFutureIncomingResponse:
        fn subscribe(this: Resource<FutureIncomingResponse>) -> Answer<Resource<DynPollable>>;
        fn get(this: Resource<FutureIncomingResponse>) -> Answer<Option<Result<Result<Resource<IncomingResponse>, ErrorCode>, ()>>>;
        fn drop(this: Resource<FutureIncomingResponse>) -> Answer<()>;
    }
}

impl HostIncomingResponse for Http<'_> {
    hand_on! { HostIncomingResponse:
        fn status(this: Resource<IncomingResponse>) -> Answer<StatusCode>;
        fn headers(this: Resource<IncomingResponse>) -> Answer<Resource<Fields>>;
        fn consume(this: Resource<IncomingResponse>) -> Answer<Result<Resource<IncomingBody>, ()>>;
        fn drop(this: Resource<IncomingResponse>) -> Answer<()>;
    }
}

impl HostIncomingBody for Http<'_> {
    hand_on! { HostIncomingBody:
        fn stream(this: Resource<IncomingBody>) -> Answer<Result<Resource<DynInputStream>, ()>>;
        fn finish(this: Resource<IncomingBody>) -> Answer<Resource<FutureTrailers>>;
        fn drop(this: Resource<IncomingBody>) -> Answer<()>;
    }
}

impl HostFutureTrailers for Http<'_> {
    hand_on! { HostFutureTrailers:
        fn subscribe(this: Resource<FutureTrailers>) -> Answer<Resource<DynPollable>>;
        fn get(this: Resource<FutureTrailers>) -> Answer<Option<Result<Result<Option<Resource<Fields>>, ErrorCode>, ()>>>;
        fn drop(this: Resource<FutureTrailers>) -> Answer<()>;
    }
}

impl HostRequestOptions for Http<'_> {
    hand_on! { HostRequestOptions:
        fn new() -> Answer<Resource<RequestOptions>>;
        fn connect_timeout(this: Resource<RequestOptions>) -> Answer<Option<Duration>>;
        fn set_connect_timeout(this: Resource<RequestOptions>, most: Option<Duration>) -> Answer<Result<(), ()>>;
        fn first_byte_timeout(this: Resource<RequestOptions>) -> Answer<Option<Duration>>;
        fn set_first_byte_timeout(this: Resource<RequestOptions>, most: Option<Duration>) -> Answer<Result<(), ()>>;
        fn between_bytes_timeout(this: Resource<RequestOptions>) -> Answer<Option<Duration>>;
        fn set_between_bytes_timeout(this: Resource<RequestOptions>, most: Option<Duration>) -> Answer<Result<(), ()>>;
        fn drop(this: Resource<RequestOptions>) -> Answer<()>;
    }
}

/// Requests to a component: nobody makes any, and the interface has them.
impl HostIncomingRequest for Http<'_> {
    hand_on! { HostIncomingRequest:
        fn method(this: Resource<IncomingRequest>) -> Answer<Method>;
        fn path_with_query(this: Resource<IncomingRequest>) -> Answer<Option<String>>;
        fn scheme(this: Resource<IncomingRequest>) -> Answer<Option<Scheme>>;
        fn authority(this: Resource<IncomingRequest>) -> Answer<Option<String>>;
        fn headers(this: Resource<IncomingRequest>) -> Answer<Resource<Fields>>;
        fn consume(this: Resource<IncomingRequest>) -> Answer<Result<Resource<IncomingBody>, ()>>;
        fn drop(this: Resource<IncomingRequest>) -> Answer<()>;
    }
}

/// As above.
impl HostResponseOutparam for Http<'_> {
    hand_on! { HostResponseOutparam:
        fn set(this: Resource<ResponseOutparam>, response: Result<Resource<OutgoingResponse>, ErrorCode>) -> Answer<()>;
        fn send_informational(this: Resource<ResponseOutparam>, status: u16, headers: Resource<Fields>) -> HttpResult<()>;
        fn drop(this: Resource<ResponseOutparam>) -> Answer<()>;
    }
}
