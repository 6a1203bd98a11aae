//! What a guest was when it trapped, as files for a debugger: off unless a directory is named.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use airssys_osl::{PrivateDirectory, PrivateError};
use airssys_rt::TaskRegistry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{AsContextMut, WasmCoreDump};

use crate::config::ComponentName;

/// Bytes that all dumps together may take where nothing else is said.
pub const DEFAULT_COREDUMP_BYTES: u64 = 64 * 1024 * 1024;

/// Dumps that are kept where nothing else is said.
pub const DEFAULT_COREDUMP_FILES: u32 = 32;

/// Dumps that wait to be written; where there are as many, another one is dropped.
pub const COREDUMPS_WAITING: usize = 4;

const ENDING: &str = ".coredump";

/// `[system.coredumps]`: where coredumps are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoredumpConfig {
    /// A directory of its own, made where there is none.
    pub directory: PathBuf,
    /// Most bytes of all dumps together; the oldest go first.
    pub max_bytes: u64,
    /// Most dumps; the oldest go first.
    pub max_files: u32,
}

/// What became of coredumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CoredumpCounts {
    /// Written.
    pub written: u64,
    /// Not written, because [`COREDUMPS_WAITING`] others waited.
    pub dropped: u64,
    /// Not written: larger than all dumps together may be, or refused by the operating system.
    pub failed: u64,
}

/// Why a dump was not written.
#[derive(Debug, thiserror::Error)]
enum CoredumpError {
    #[error(transparent)]
    Directory(#[from] PrivateError),
    #[error("{bytes} bytes do not fit the {max_bytes} that all dumps may take")]
    TooLarge { bytes: u64, max_bytes: u64 },
}

/// Where the coredumps of a host go.
pub(crate) struct Coredumps {
    config: CoredumpConfig,
    waiting: Arc<Semaphore>,
    /// Opened by the first dump. Locked while one is written, so that the bounds hold.
    directory: Mutex<Option<PrivateDirectory>>,
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// A dump that has a place among those that wait.
pub(crate) struct Coredump {
    bytes: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

impl fmt::Debug for Coredump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is in there is the guest's.
        f.debug_struct("Coredump")
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl Coredumps {
    pub(crate) fn new(config: CoredumpConfig) -> Self {
        Self {
            config,
            waiting: Arc::new(Semaphore::new(COREDUMPS_WAITING)),
            directory: Mutex::default(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    pub(crate) fn counts(&self) -> CoredumpCounts {
        CoredumpCounts {
            written: self.written.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// The dump that an error of the guest's carries. A walk over the instance's memory; its Store
    /// can go afterwards.
    pub(crate) fn take(
        &self,
        error: &wasmtime::Error,
        store: impl AsContextMut,
        component: &ComponentName,
    ) -> Option<Coredump> {
        if !error.is::<wasmtime::Trap>() {
            return None;
        }
        let dump = error.downcast_ref::<WasmCoreDump>()?;
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%component, "coredump dropped: others wait to be written");
            return None;
        };
        Some(Coredump {
            bytes: dump.serialize(store, component.as_str()),
            _place: place,
        })
    }

    /// Writes a dump, off the runtime, as a task of the tree. Returns at once.
    pub(crate) fn write(
        self: &Arc<Self>,
        dump: Coredump,
        component: &ComponentName,
        generation: u64,
        tasks: &TaskRegistry,
    ) {
        #[allow(
            clippy::disallowed_methods,
            reason = "the name of a file tells people when"
        )]
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let ms = now.map_or(0, |since| since.as_millis());
        let name = format!("{component}.{generation}.{ms}{ENDING}");
        let (this, component) = (Arc::clone(self), component.clone());
        // At once, so that a tree that ends with the guest, as one that does not start, has it too.
        let written = tokio::task::spawn_blocking(move || this.put(&component, &name, &dump));
        // The task is how the work is listed; a tree that ends lists none.
        let listed = async move { drop(written.await) };
        tasks.spawn("coredump", listed).ok();
    }

    /// Blocks.
    fn put(&self, component: &ComponentName, name: &str, dump: &Coredump) {
        let bytes = dump.bytes.len();
        match self.try_put(name, &dump.bytes) {
            Ok(path) => {
                self.written.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%component, path = %path.display(), bytes, "coredump written");
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%component, bytes, %error, "coredump not written");
            }
        }
    }

    fn try_put(&self, name: &str, dump: &[u8]) -> Result<PathBuf, CoredumpError> {
        let (bytes, max_bytes) = (dump.len() as u64, self.config.max_bytes);
        if bytes > max_bytes {
            return Err(CoredumpError::TooLarge { bytes, max_bytes });
        }
        let mut opened = self
            .directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let directory = match opened.take() {
            Some(directory) => directory,
            None => PrivateDirectory::open(&self.config.directory)?,
        };
        let directory = opened.insert(directory);
        self.make_room(directory, bytes)?;
        directory.replace(name, &[dump])?;
        Ok(Path::join(directory.path(), name))
    }

    /// Removes the oldest, until one more of `wanted` bytes fits.
    fn make_room(&self, directory: &PrivateDirectory, wanted: u64) -> Result<(), PrivateError> {
        let mut dumps = directory.files()?;
        dumps.retain(|file| file.name.ends_with(ENDING));
        dumps.sort_by(|a, b| (a.touched, &a.name).cmp(&(b.touched, &b.name)));
        let mut bytes = dumps.iter().map(|file| file.bytes).sum::<u64>();
        let mut files = dumps.len();
        for oldest in dumps {
            let fits = bytes.saturating_add(wanted) <= self.config.max_bytes;
            if fits && files < self.config.max_files as usize {
                break;
            }
            directory.remove(&oldest.name)?;
            bytes = bytes.saturating_sub(oldest.bytes);
            files -= 1;
        }
        Ok(())
    }
}
