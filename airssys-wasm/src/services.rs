//! What the host does for guests, and the gate each of them has before it (ADR-WASM-018).

mod allowance;
mod bindings;
mod chain;
mod config;
mod denials;
mod deterministic;
mod filesystem;
mod gate;
mod granted;
mod http;
mod keyvalue;
mod logging;
mod lookup;
mod messaging;
mod output;
mod progress;
mod quota_stream;
mod secrets;
mod sockets;
mod wasi;
mod wiped;

pub use denials::AccessDenied;
pub use granted::GrantError;
pub use lookup::Resolver;
pub use output::{MAX_LINE_BYTES, OUTPUT_BYTES_PER_SECOND, OutputLine, OutputStreamName};

pub(crate) use chain::Chain;
pub(crate) use filesystem::{Filesystem, Opened};
pub(crate) use gate::{Gate, Reach};
pub(crate) use granted::{Granted, Offers};
pub(crate) use http::{Http, Sender, held_bytes};
pub(crate) use messaging::Subscriptions;
pub(crate) use sockets::Sockets;
pub(crate) use wasi::{add_to_linker, wasi_context};
