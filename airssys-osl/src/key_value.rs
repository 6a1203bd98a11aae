//! A key-value store of components that outlives them and the process.
//!
//! Guarantees: a write that was answered survives a kill; a write is there whole or not at all; no
//! key or bucket of one component names an entry of another; what a component holds never exceeds
//! its quota, nor all of them together the store's bound. The account is written by the transaction
//! that writes the entries, so that no kill makes them differ (ADR-OSL-004).

mod entries;
mod fault;
mod pending;
mod reserved;
mod shared;
mod space;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::private_directory::PrivateDirectory;

use self::shared::Shared;
use self::writer::Message;

pub use self::fault::{KeyValueError, KeyValueFault, KeyValueOpenError};
pub use self::pending::PendingWrite;
pub use self::space::{KeyPage, KeyValueSpace, Swapped};

/// Where the store is, and how much may be in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValueConfig {
    /// A directory for the store's file, made with mode 0700 where there is none.
    pub directory: PathBuf,
    /// Most bytes of all components together, counted as [`KeyValueSpace::entry_bytes`] does.
    pub max_bytes: u64,
}

/// The store: one file, one thread that writes, closed when this is dropped.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// use airssys_osl::{KeyValueConfig, KeyValueStore};
///
/// let config = KeyValueConfig { directory: directory.path().join("kv"), max_bytes: 1 << 20 };
/// let store = KeyValueStore::open(&config)?;
/// let space = store.space("calculator", 4096)?;
/// space.set("settings", "colour", b"blue").wait()?; // or .await
/// assert_eq!(space.get("settings", "colour")?.as_deref(), Some(&b"blue"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct KeyValueStore {
    shared: Arc<Shared>,
    jobs: SyncSender<Message>,
    writer: Option<JoinHandle<()>>,
}

impl KeyValueStore {
    /// Opens the store, made where there is none. The whole of its file is read and checked, which
    /// blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`KeyValueOpenError`]: another process has it, the directory or the file is open to others,
    /// or the file is damaged.
    pub fn open(config: &KeyValueConfig) -> Result<Self, KeyValueOpenError> {
        let directory = PrivateDirectory::open(&config.directory)?;
        let shared = Arc::new(Shared::open(directory, config.max_bytes)?);
        let (jobs, queue) = sync_channel(KeyValueSpace::MAX_WAITING);
        let writer = thread::Builder::new().name("key-value".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || writer::run(&shared, &queue)
        });
        Ok(Self {
            shared,
            jobs,
            writer: Some(writer.map_err(|source| KeyValueOpenError::Thread { source })?),
        })
    }

    /// What a component keeps, under a quota in bytes that holds from now on: what is there
    /// already stays, and only what grows is refused.
    ///
    /// # Errors
    /// [`KeyValueError::NameLength`] for a name that is empty or longer than
    /// [`KeyValueSpace::MAX_NAME_BYTES`].
    pub fn space(&self, component: &str, quota_bytes: u64) -> Result<KeyValueSpace, KeyValueError> {
        space::name(component)?;
        Ok(KeyValueSpace {
            shared: Arc::clone(&self.shared),
            jobs: self.jobs.clone(),
            component: component.into(),
            quota_bytes,
            waiting: Arc::new(AtomicUsize::new(0)),
        })
    }

    /// Bytes of all components together, counted as [`KeyValueSpace::entry_bytes`] does. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// [`KeyValueError::Store`].
    pub fn used_bytes(&self) -> Result<u64, KeyValueError> {
        Ok(self.shared.with(entries::total)?)
    }
}

/// Waits for the writes before it and closes the file; spaces that are left answer
/// [`KeyValueFault::Closed`].
impl Drop for KeyValueStore {
    fn drop(&mut self) {
        self.jobs.send(Message::Stop).ok();
        if let Some(writer) = self.writer.take() {
            writer.join().ok();
        }
        self.shared.close();
    }
}
