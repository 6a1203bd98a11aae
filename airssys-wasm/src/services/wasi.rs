//! WASI 0.2 as a component was granted it.

use std::sync::Arc;

use wasmtime::component::{HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::cli::WasiCli;
use wasmtime_wasi::clocks::WasiClocks;
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sockets};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::WasiSockets;
use wasmtime_wasi::{WasiCtx, WasiView};

use super::deterministic::{Seeded, Steps};
use super::filesystem::HasFilesystem;
use super::gate::Gate;
use super::http::HasHttp;
use super::output::{Output, OutputStreamName};
use super::sockets::HasSockets;
use super::{bindings, filesystem as files, http, lookup, secrets, sockets as net};
use crate::config::OutputTo;
use crate::state::ComponentState;

/// Most bytes of randomness a guest gets at a time.
const MAX_RANDOM_BYTES: u64 = 64 * 1024;

/// The context of one instance. Nothing is inherited from the host's process.
pub(crate) fn wasi_context(gate: &Arc<Gate>) -> WasiCtx {
    let granted = gate.granted();
    let mut wasi = WasiCtx::builder();
    wasi.max_random_size(MAX_RANDOM_BYTES)
        .allow_tcp(true)
        .allow_udp(true);
    let asked = Arc::clone(gate);
    wasi.socket_addr_check(move |address, usage| {
        Box::pin(std::future::ready(asked.socket(address, usage)))
    });
    if !granted.environment.is_empty() {
        wasi.envs(&granted.environment);
    }
    if !granted.arguments.is_empty() {
        wasi.args(&granted.arguments);
    }
    if let Some(input) = &granted.input {
        wasi.stdin(MemoryInputPipe::new(input.clone()));
    }
    if granted.output == OutputTo::Log {
        let stream = |name| Output::new(gate, name);
        wasi.stdout(stream(OutputStreamName::Stdout));
        wasi.stderr(stream(OutputStreamName::Stderr));
    }
    if let Some(seed) = granted.seed {
        let clock = Steps::default();
        wasi.wall_clock(clock.clone()).monotonic_clock(clock);
        wasi.secure_random(Seeded::new(seed, "random"));
        wasi.insecure_random(Seeded::new(seed, "insecure"));
        wasi.insecure_random_seed(Seeded::new(seed, "seed").next_u128());
    }
    let mut wasi = wasi.build();
    if let Some(filesystem) = &granted.filesystem {
        *wasi.filesystem() = filesystem.clone();
    }
    wasi
}

/// For the linker: what needs the table of handles alone.
struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

fn table(state: &mut ComponentState) -> &mut ResourceTable {
    state.ctx().table
}

/// Links all of it: files, sockets and requests through the gate, everything else as wasmtime has it, since
/// it reaches nothing but the instance's own context.
pub(crate) fn add_to_linker(linker: &mut Linker<ComponentState>) -> wasmtime::Result<()> {
    use wasmtime_wasi::cli::WasiCliView as _;
    use wasmtime_wasi::clocks::WasiClocksView as _;
    use wasmtime_wasi::p2::bindings::io;
    use wasmtime_wasi::random::WasiRandomView as _;
    use wasmtime_wasi::sockets::WasiSocketsView as _;
    use wasmtime_wasi_http::p2::bindings::http as requests;
    type State = ComponentState;

    io::error::add_to_linker::<State, HasTable>(linker, table)?;
    io::poll::add_to_linker::<State, HasTable>(linker, table)?;
    io::streams::add_to_linker::<State, HasTable>(linker, table)?;

    filesystem::types::add_to_linker::<State, HasFilesystem>(linker, files::of)?;
    filesystem::preopens::add_to_linker::<State, HasFilesystem>(linker, files::of)?;

    sockets::tcp::add_to_linker::<State, HasSockets>(linker, net::of)?;
    sockets::tcp_create_socket::add_to_linker::<State, HasSockets>(linker, net::of)?;
    sockets::udp_create_socket::add_to_linker::<State, HasSockets>(linker, net::of)?;
    sockets::udp::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::instance_network::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<State, WasiSockets>(linker, &options, State::sockets)?;
    lookup::add_to_linker(linker)?;

    let options = requests::types::LinkOptions::default();
    requests::types::add_to_linker::<State, HasHttp>(linker, &options, http::of)?;
    requests::outgoing_handler::add_to_linker::<State, HasHttp>(linker, http::of)?;

    secrets::add_to_linker(linker)?;
    bindings::Services::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;

    clocks::wall_clock::add_to_linker::<State, WasiClocks>(linker, State::clocks)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(linker, State::clocks)?;
    random::random::add_to_linker::<State, WasiRandom>(linker, State::random)?;
    random::insecure::add_to_linker::<State, WasiRandom>(linker, State::random)?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(linker, State::random)?;
    cli::exit::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::environment::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    Ok(())
}
