//! Looking names up: `wasi:sockets/ip-name-lookup`, for names that are granted.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use airssys_osl::grants::{HostName, canonical};
use airssys_rt::BoxFuture;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{WasiView, async_trait};

use crate::state::ComponentState;

/// The interface, as it is imported.
const INTERFACE: &str = "wasi:sockets/ip-name-lookup@0.2.12";

/// Addresses of one name that are told.
const MAX_ADDRESSES: usize = 32;

type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

/// How names become addresses: as the operating system does it, or as the embedder says.
#[derive(Clone)]
pub struct Resolver(Arc<Lookup>);

impl Resolver {
    /// A resolver of the embedder's own.
    pub fn new<F>(lookup: F) -> Self
    where
        F: Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync + 'static,
    {
        Self(Arc::new(lookup))
    }

    /// Looks a name up.
    pub(crate) async fn lookup(&self, name: String) -> io::Result<Vec<IpAddr>> {
        let mut found = (self.0)(name).await?;
        found.truncate(MAX_ADDRESSES);
        Ok(found.into_iter().map(canonical).collect())
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(|name| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// The guest's `resolve-address-stream`.
enum Addresses {
    /// Under way; dropped with the stream, and with the instance.
    Pending(BoxFuture<'static, Result<Vec<IpAddr>, ErrorCode>>),
    Found(std::vec::IntoIter<IpAddr>),
    Failed(ErrorCode),
}

/// It is only ever polled through a unique reference.
struct Stream(std::sync::Mutex<Addresses>);

impl Stream {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<&mut Addresses> {
        let addresses = self
            .0
            .get_mut()
            .unwrap_or_else(|poison| poison.into_inner());
        if let Addresses::Pending(lookup) = addresses {
            *addresses = match Pin::as_mut(lookup).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(found)) => Addresses::Found(found.into_iter()),
                Poll::Ready(Err(code)) => Addresses::Failed(code),
            };
        }
        Poll::Ready(addresses)
    }
}

#[async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {
        poll_fn(|context| self.poll(context).map(|_| ())).await;
    }
}

type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

pub(super) fn add_to_linker(linker: &mut Linker<ComponentState>) -> wasmtime::Result<()> {
    let mut lookup = linker.instance(INTERFACE)?;
    let stream = ResourceType::host::<Stream>();
    lookup.resource("resolve-address-stream", stream, |mut store, rep| {
        let table = store.data_mut().ctx().table;
        table.delete(Resource::<Stream>::new_own(rep))?;
        Ok(())
    })?;
    lookup.func_wrap("resolve-addresses", resolve)?;
    lookup.func_wrap("[method]resolve-address-stream.resolve-next-address", next)?;
    lookup.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: StoreContextMut<'_, ComponentState>,
         (stream,): (Resource<Stream>,)|
         -> wasmtime::Result<(Resource<DynPollable>,)> {
            Ok((subscribe(store.data_mut().ctx().table, stream)?,))
        },
    )?;
    Ok(())
}

fn resolve(
    mut store: StoreContextMut<'_, ComponentState>,
    (network, name): (Resource<Network>, String),
) -> Answer<Resource<Stream>> {
    let state = store.data_mut();
    let gate = Arc::clone(state.gate());
    let table = state.ctx().table;
    table.get(&network)?;
    let stream = match name.parse::<IpAddr>() {
        // There is nothing to look up; whether it may be turned to is asked when it is.
        Ok(address) => Addresses::Found(vec![canonical(address)].into_iter()),
        Err(_) => {
            let Ok(host) = HostName::new(&name) else {
                return Ok((Err(ErrorCode::InvalidArgument),));
            };
            if gate.lookup(host).is_err() {
                return Ok((Err(ErrorCode::AccessDenied),));
            }
            let name = host.as_str().to_owned();
            Addresses::Pending(Box::pin(async move {
                let found = gate.granted().resolver.lookup(name.clone()).await;
                let found = found.map_err(|_| ErrorCode::NameUnresolvable)?;
                if let Ok(host) = HostName::new(&name) {
                    gate.found(host, &found);
                }
                Ok(found)
            }))
        }
    };
    let stream = Stream(std::sync::Mutex::new(stream));
    Ok((Ok(table.push(stream)?),))
}

fn next(
    mut store: StoreContextMut<'_, ComponentState>,
    (stream,): (Resource<Stream>,),
) -> Answer<Option<IpAddress>> {
    let table = store.data_mut().ctx().table;
    let stream = table.get_mut(&stream)?;
    let mut context = Context::from_waker(Waker::noop());
    Ok((match stream.poll(&mut context) {
        Poll::Pending => Err(ErrorCode::WouldBlock),
        Poll::Ready(Addresses::Failed(code)) => Err(*code),
        Poll::Ready(Addresses::Found(found)) => Ok(found.next().map(IpAddress::from)),
        // `poll` leaves none behind.
        Poll::Ready(Addresses::Pending(_)) => Err(ErrorCode::WouldBlock),
    },))
}
