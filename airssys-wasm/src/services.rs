//! What the host does for guests, and the gate each of them has before it (ADR-WASM-018).

mod denials;
mod deterministic;
mod filesystem;
mod gate;
mod granted;
mod lookup;
mod output;
mod quota_stream;
mod sockets;
mod wasi;

pub use denials::AccessDenied;
pub use granted::GrantError;
pub use lookup::Resolver;
pub use output::{MAX_LINE_BYTES, OUTPUT_BYTES_PER_SECOND, OutputLine, OutputStreamName};

pub(crate) use filesystem::{Filesystem, Opened};
pub(crate) use gate::Gate;
pub(crate) use granted::{Granted, Quotas};
pub(crate) use sockets::Sockets;
pub(crate) use wasi::{add_to_linker, wasi_context};
