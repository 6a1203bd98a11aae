//! `wasi:sockets`: wasmtime's, with a bound on how many are open. Whom they may turn to is asked at
//! [`Gate::socket`](super::Gate::socket).

use std::sync::Arc;

use airssys_osl::grants::Denial;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::sockets::network::{
    self, ErrorCode, HostNetwork, IpAddressFamily, IpSocketAddress, Network,
};
use wasmtime_wasi::p2::bindings::sockets::tcp::{self, HostTcpSocket, ShutdownType};
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, SocketError, SocketResult, TcpSocket, UdpSocket,
};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

use super::gate::Gate;
use crate::state::ComponentState;

/// One instance's view of the network.
pub(crate) struct Sockets<'a> {
    pub(crate) inner: WasiSocketsCtxView<'a>,
    pub(crate) gate: Arc<Gate>,
}

/// For the linker: where in a Store it is.
pub(super) struct HasSockets;

impl HasData for HasSockets {
    type Data<'a> = Sockets<'a>;
}

pub(super) fn of(state: &mut ComponentState) -> Sockets<'_> {
    state.network()
}

/// How many sockets there are in a table.
pub(super) fn open(table: &mut ResourceTable) -> usize {
    let held = table.iter_mut();
    held.filter(|held| held.is::<TcpSocket>() || held.is::<UdpSocket>())
        .count()
}

impl Sockets<'_> {
    /// Whether there may be one socket more, beside HTTP requests.
    fn one_more(&mut self, verb: &str) -> Result<(), Denial> {
        self.gate.one_more(verb, open(self.inner.table))
    }
}

impl tcp_create_socket::Host for Sockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        self.one_more("open a TCP socket")
            .map_err(|_| ErrorCode::NewSocketLimit)?;
        tcp_create_socket::Host::create_tcp_socket(&mut self.inner, family)
    }
}

impl udp_create_socket::Host for Sockets<'_> {
    async fn create_udp_socket(
        &mut self,
        family: IpAddressFamily,
    ) -> SocketResult<Resource<UdpSocket>> {
        self.one_more("open a UDP socket")
            .map_err(|_| ErrorCode::NewSocketLimit)?;
        udp_create_socket::Host::create_udp_socket(&mut self.inner, family).await
    }
}

impl network::Host for Sockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        network::Host::convert_error_code(&mut self.inner, error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        network::Host::network_error_code(&mut self.inner, error)
    }
}

impl HostNetwork for Sockets<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        HostNetwork::drop(&mut self.inner, network)
    }
}

impl tcp::Host for Sockets<'_> {}

/// Hands calls on to wasmtime's own sockets.
macro_rules! hand_on {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&mut self, this: Resource<TcpSocket>, $($argument: $type),*) -> $answer {
            HostTcpSocket::$name(&mut self.inner, this, $($argument),*)
        })*
    };
}

impl HostTcpSocket for Sockets<'_> {
    fn accept(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(
        Resource<TcpSocket>,
        Resource<DynInputStream>,
        Resource<DynOutputStream>,
    )> {
        // Whoever turns to it waits in the kernel's queue.
        self.one_more("accept a connection")
            .map_err(|_| ErrorCode::NewSocketLimit)?;
        HostTcpSocket::accept(&mut self.inner, this)
    }

    async fn start_bind(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        HostTcpSocket::start_bind(&mut self.inner, this, network, address).await
    }

    async fn start_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        HostTcpSocket::start_listen(&mut self.inner, this).await
    }

    fn finish_connect(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        HostTcpSocket::finish_connect(&mut self.inner, this)
    }

    hand_on! {
        fn start_connect(network: Resource<Network>, address: IpSocketAddress) -> SocketResult<()>;
        fn finish_bind() -> SocketResult<()>;
        fn finish_listen() -> SocketResult<()>;
        fn local_address() -> SocketResult<IpSocketAddress>;
        fn remote_address() -> SocketResult<IpSocketAddress>;
        fn is_listening() -> wasmtime::Result<bool>;
        fn address_family() -> wasmtime::Result<IpAddressFamily>;
        fn set_listen_backlog_size(value: u64) -> SocketResult<()>;
        fn keep_alive_enabled() -> SocketResult<bool>;
        fn set_keep_alive_enabled(value: bool) -> SocketResult<()>;
        fn keep_alive_idle_time() -> SocketResult<u64>;
        fn set_keep_alive_idle_time(value: u64) -> SocketResult<()>;
        fn keep_alive_interval() -> SocketResult<u64>;
        fn set_keep_alive_interval(value: u64) -> SocketResult<()>;
        fn keep_alive_count() -> SocketResult<u32>;
        fn set_keep_alive_count(value: u32) -> SocketResult<()>;
        fn hop_limit() -> SocketResult<u8>;
        fn set_hop_limit(value: u8) -> SocketResult<()>;
        fn receive_buffer_size() -> SocketResult<u64>;
        fn set_receive_buffer_size(value: u64) -> SocketResult<()>;
        fn send_buffer_size() -> SocketResult<u64>;
        fn set_send_buffer_size(value: u64) -> SocketResult<()>;
        fn subscribe() -> wasmtime::Result<Resource<DynPollable>>;
        fn shutdown(how: ShutdownType) -> SocketResult<()>;
        fn drop() -> wasmtime::Result<()>;
    }
}
