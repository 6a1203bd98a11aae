//! The components of a host as tools of the Model Context Protocol (ADR-SYS-002).
//!
//! [`Server`] offers each function that a component exports as a tool, over standard input and
//! output or over streamable HTTP, to clients of every revision of the protocol that rmcp knows. No
//! message of a client changes a grant, a policy or the tree: there are tools, and nothing else.
//!
//! ```
//! use std::sync::Arc;
//!
//! use airssys::{Host, mcp};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/guests/components/calculator/Component.toml");
//! let host = Arc::new(Host::from_config(file).await?);
//! let server = mcp::Server::new(Arc::clone(&host));
//! let names = server.tool_names();
//! assert!(names.contains(&String::from("calculator_divide")));
//! // Until its client has gone, or whatever is given here is ready.
//! # let (input, output) = (&b""[..], tokio::io::sink());
//! server.serve(input, output, std::future::pending()).await?;
//! host.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod annotations;
mod call;
mod catalogue;
mod denied;
mod failure;
mod handler;
mod http;
mod naming;
mod progress;
mod sessions;
mod stream;
mod token;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::{Peer, RoleServer};
use tokio::sync::Semaphore;

use crate::Host;
use catalogue::Catalogue;

pub use http::{HttpOptions, MAX_CONNECTIONS, PATH};
pub use sessions::MAX_SESSIONS;
pub use stream::MAX_OPEN_REQUESTS;
pub use token::{Token, TokenError};

/// Calls at work at a time, where nothing else is said. One more is answered with `busy`.
pub const DEFAULT_MAX_CALLS: usize = 1024;

/// Most bytes of a message of a client, where nothing else is said.
pub const DEFAULT_MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// Time between two words that a call is still at work, where nothing else is said.
pub const DEFAULT_PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How long word that nobody waits for may take to one client.
const TELL_LIMIT: Duration = Duration::from_secs(1);

/// Time from something that happens in the tree to a look at it.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What a server is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerOptions {
    /// Most time of a call in all, its wait included, beside the limit of its component; without it
    /// [`DEFAULT_QUEUE_WAIT`](airssys_wasm::DEFAULT_QUEUE_WAIT) and that limit.
    pub deadline: Option<Duration>,
    /// Time between two words that a call is still at work.
    pub progress_interval: Duration,
    /// Calls at work at a time.
    pub max_calls: usize,
    /// Most bytes of a message of a client.
    pub max_request_bytes: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            deadline: None,
            progress_interval: DEFAULT_PROGRESS_INTERVAL,
            max_calls: DEFAULT_MAX_CALLS,
            max_request_bytes: DEFAULT_MAX_REQUEST_BYTES,
        }
    }
}

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Others than this machine could call, and nobody would be asked who they are.
    #[error("{address} is no loopback address, and there is no token")]
    NoToken {
        /// Where it would listen.
        address: SocketAddr,
    },
    /// The listener does not work.
    #[error("cannot listen: {0}")]
    Listen(#[source] io::Error),
    /// The client's first message is none that begins a session.
    #[error("no session: {0}")]
    Session(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Offers the components of a host as tools. Cheap to clone; all clones share the bound on calls.
#[derive(Debug, Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    host: Arc<Host>,
    options: ServerOptions,
    catalogue: Catalogue,
    calls: Semaphore,
    /// Clients of the revisions whose server speaks unasked.
    peers: Mutex<Vec<Peer<RoleServer>>>,
    /// The last version of the list that they have been told of: there is one that tells for each
    /// listener and each stream.
    told: AtomicU64,
}

impl Server {
    /// A server with the default options.
    #[must_use]
    pub fn new(host: Arc<Host>) -> Self {
        Self::with_options(host, ServerOptions::default())
    }

    /// A server held to these options.
    #[must_use]
    pub fn with_options(host: Arc<Host>, options: ServerOptions) -> Self {
        let shared = Shared {
            catalogue: Catalogue::new(Arc::clone(&host)),
            host,
            options,
            calls: Semaphore::new(options.max_calls.min(Semaphore::MAX_PERMITS)),
            peers: Mutex::default(),
            told: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The names of all tools there are, in order.
    #[must_use]
    pub fn tool_names(&self) -> Vec<String> {
        self.shared.catalogue.look().names()
    }

    /// Tells clients when the list of tools has changed; does not return.
    async fn announce(&self) {
        let mut events = self.shared.host.events();
        let mut changes = self.shared.catalogue.changes();
        let look = async {
            while events.next().await.is_some() {
                // A tree that is busy with restarts has many events and the same tools.
                let more = async { while events.next().await.is_some() {} };
                tokio::time::timeout(LOOK_INTERVAL, more).await.ok();
                self.shared.catalogue.look();
            }
            std::future::pending::<()>().await;
        };
        let tell = async {
            while changes.changed().await.is_ok() {
                let version = changes.borrow_and_update().version();
                self.shared.tell_peers(version).await;
            }
        };
        tokio::join!(look, tell);
    }
}

impl Shared {
    /// Adds a client that is told when the list changes.
    fn add_peer(&self, peer: Peer<RoleServer>) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|peer| !peer.is_transport_closed());
        peers.push(peer);
    }

    async fn tell_peers(&self, version: u64) {
        if self.told.fetch_max(version, Ordering::Relaxed) >= version {
            return;
        }
        let peers = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            peers.retain(|peer| !peer.is_transport_closed());
            peers.clone()
        };
        let told = peers.iter().map(|peer| {
            let telling = peer.notify_tool_list_changed();
            // Who does not read, or has gone, is told nothing.
            async { tokio::time::timeout(TELL_LIMIT, telling).await.ok() }
        });
        futures_util::future::join_all(told).await;
    }
}
