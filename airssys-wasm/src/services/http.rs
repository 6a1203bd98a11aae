//! `wasi:http`: requests of a component to those it may turn to (ADR-WASM-022).
//!
//! What the interface is made of is wasmtime's; who is asked before a request leaves, how it is sent
//! and what is held of it meanwhile are our own.

mod body;
mod connection;
mod interface;
mod open_request;
mod sender;
mod target;
mod tls;

use std::any::Any;

use hyper::HeaderMap;
use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpCtx, WasiHttpCtxView};

use super::gate::Gate;
use crate::handles::Handles;
use crate::limits::ComponentResourceLimiter;
use crate::state::{ComponentState, HANDLE_BYTES};

pub(crate) use sender::Sender;

/// Most bytes of the headers of a request or response, and of the trailers of one.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Most headers of a request or response.
const MAX_HEADERS: usize = 100;

/// Most bytes of a request's body that are taken from the guest at a time.
const CHUNK_BYTES: usize = 8 * 1024;

/// What a request is counted as, in bytes, from its sending until its response's body is dropped:
/// what is read and not yet taken by the guest, what is written and not yet sent, and TLS's buffers.
const REQUEST_BYTES: usize = 64 * 1024;

/// What a body that is being written is counted as: the chunks that wait and the one being sent.
const BODY_BYTES: usize = 3 * CHUNK_BYTES;

/// What a header is counted as beyond its name and value.
const HEADER_BYTES: usize = 128;

/// One instance's view of HTTP.
pub(crate) struct Http<'a> {
    pub(crate) sender: &'a mut Sender,
    pub(crate) context: &'a mut WasiHttpCtx,
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) limiter: &'a mut ComponentResourceLimiter,
    pub(crate) handles: &'a Handles,
}

/// For the linker: where in a Store it is.
pub(super) struct HasHttp;

impl HasData for HasHttp {
    type Data<'a> = Http<'a>;
}

pub(super) fn of(state: &mut ComponentState) -> Http<'_> {
    state.http()
}

impl Http<'_> {
    /// wasmtime's own.
    fn inner(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: self.sender,
            table: self.table,
            ctx: self.context,
        }
    }

    /// Whether the instance's limit has room for so many bytes more. What a guest makes here grows
    /// outside of its memory, where no limiter is asked.
    fn room(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.limiter
            .set_handles(held_bytes(self.table, self.sender.gate(), self.handles));
        Ok(self.limiter.meter().room(bytes)?)
    }
}

/// Counts the handles of an instance and what the host holds behind those of HTTP, in bytes.
pub(crate) fn held_bytes(table: &mut ResourceTable, gate: &Gate, callers: &Handles) -> usize {
    let handles = table.iter_mut();
    let bytes = handles.map(|entry| HANDLE_BYTES + behind(entry));
    bytes.sum::<usize>() + callers.len() * HANDLE_BYTES + gate.open_requests() * REQUEST_BYTES
}

fn behind(entry: &dyn Any) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        header_bytes(fields)
    } else if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        let line = text(&request.authority) + text(&request.path_with_query);
        line + interface::method_bytes(&request.method)
            + request.scheme.as_ref().map_or(0, interface::scheme_bytes)
            + header_bytes(&request.headers)
    } else if let Some(response) = entry.downcast_ref::<HostIncomingResponse>() {
        header_bytes(&response.headers)
    } else if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        header_bytes(&response.headers)
    } else if let Some(HostFutureTrailers::Done(Ok(Some(trailers)))) = entry.downcast_ref() {
        header_bytes(trailers)
    } else if entry.is::<HostOutgoingBody>() {
        BODY_BYTES
    } else {
        0
    }
}

fn header_bytes(headers: &HeaderMap) -> usize {
    let bytes = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        name.as_str().len() + value.len() + HEADER_BYTES
    };
    headers.iter().map(bytes).sum()
}
