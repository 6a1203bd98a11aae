//! Where components come from: each binary is compiled once for an engine, however many ask.

mod known;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use airssys_rt::{EntryPoint, Events, InitError, InitOnce};
use dashmap::DashMap;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::code_cache::{CacheConfig, CacheError, CodeCache, CodeId, EntryFault};
use crate::compiled::{Compiled, Genuine, LoadError, Unfit, compile, link, read_wasm};
use crate::config::ComponentName;
use crate::engine::{Engine, EngineError, EngineKind};
use crate::provenance::WasmDigest;

use known::Known;
pub(crate) use known::{Seen, Source};

/// Binaries compiled at a time. wasmtime spreads one compilation over all processors; more of them
/// at once take memory, and none is done earlier.
pub const COMPILES_AT_ONCE: usize = 4;

/// Binaries read at a time, each of which is in memory until its digest is known.
const READS_AT_ONCE: usize = 4;

/// Compiled components kept although nobody runs them: a start that could not wait for one comes
/// back for it.
const UNUSED_KEPT: usize = 4;

/// Something on the way of a component from its binary to compiled code.
#[derive(Debug, Clone)]
pub struct LoadEvent {
    /// The component.
    pub component: ComponentName,
    /// What happened.
    pub change: LoadChange,
}

/// What happened while a component was loaded. What cannot be loaded is told by the failed start.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LoadChange {
    /// Its binary has been read, and the compiled code is being made or looked for.
    Began {
        /// Length of the binary.
        bytes: u64,
    },
    /// It was compiled.
    Compiled {
        /// Compiling and linking alone.
        took: Duration,
    },
    /// Its code was in the cache.
    FromCache {
        /// Reading, checking and linking.
        took: Duration,
    },
    /// Another component of the same binary has brought the code, or does so at this time. Comes
    /// without [`LoadChange::Began`] where the file was not read again, since it has not changed.
    Shared {
        /// How long it had to be waited for.
        waited: Duration,
    },
    /// The cache, or its entry for this component, was not used.
    CacheUnused {
        /// Why.
        error: Arc<CacheError>,
    },
}

/// Why a component could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadFailed {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Engine(Arc<EngineError>),
    /// The runtime ends.
    #[error("interrupted")]
    Interrupted,
}

/// Why there is no compiled code; told to all who waited for it.
#[derive(Debug, Clone)]
enum Unmade {
    Unfit(Unfit),
    Engine(Arc<EngineError>),
}

impl Unmade {
    fn at(self, path: &Path) -> LoadFailed {
        match self {
            Self::Unfit(unfit) => LoadFailed::Load(unfit.at(path)),
            Self::Engine(error) => LoadFailed::Engine(error),
        }
    }
}

/// One binary for one kind of engine. An outcome is kept for those who wait for it; a failure is
/// not kept for those who come later.
struct Volume {
    /// There until there is an outcome.
    bytes: Mutex<Option<Arc<Vec<u8>>>>,
    outcome: InitOnce<Result<Arc<Compiled>, Unmade>>,
}

impl Volume {
    fn is_in_use(&self) -> bool {
        let outcome = self.outcome.get();
        let compiled = outcome.and_then(|outcome| outcome.as_ref().ok());
        compiled.is_some_and(|compiled| Arc::strong_count(compiled) > 1)
    }
}

type VolumeId = (WasmDigest, EngineKind);

/// The compiled components of a runtime.
pub(crate) struct Library {
    volumes: DashMap<VolumeId, Arc<Volume>>,
    known: Known,
    reads: Semaphore,
    compiles: Semaphore,
    compiler: EntryPoint,
    cache: Option<CacheConfig>,
    /// The last that were made.
    kept: Mutex<VecDeque<Arc<Volume>>>,
    /// Opened by the first load; `None` where it was refused.
    opened: OnceLock<Option<CodeCache>>,
    events: Events<LoadEvent>,
}

impl Library {
    pub(crate) fn new(
        compiler: EntryPoint,
        cache: Option<CacheConfig>,
        events: Events<LoadEvent>,
    ) -> Self {
        Self {
            volumes: DashMap::new(),
            known: Known::default(),
            reads: Semaphore::new(READS_AT_ONCE),
            compiles: Semaphore::new(COMPILES_AT_ONCE),
            compiler,
            cache,
            kept: Mutex::default(),
            opened: OnceLock::new(),
            events,
        }
    }

    /// The compiled component, where somebody runs it and its files have not changed since they were
    /// read. Asks for their metadata on the caller's thread: they are on file systems of this
    /// machine, and were read not long ago.
    pub(crate) fn known(&self, name: &ComponentName, source: &Source) -> Option<Arc<Compiled>> {
        let compiled = self.known.find(source)?;
        let waited = Duration::ZERO;
        self.tell(name, LoadChange::Shared { waited });
        Some(compiled)
    }

    /// The compiled component. `engine` is called off the runtime, where there is to be compiled.
    /// Waits for as long as it takes; the caller has the limit.
    pub(crate) async fn load<E>(
        self: &Arc<Self>,
        name: &ComponentName,
        source: Source,
        engine: E,
    ) -> Result<Arc<Compiled>, LoadFailed>
    where
        E: FnOnce() -> Result<Arc<Engine>, EngineError> + Clone + Send + Sync + 'static,
    {
        let kind = source.kind;
        let (genuine, source, read) = {
            let _turn = turn(&self.reads).await?;
            let read = move || {
                let began = Instant::now();
                let genuine = read_wasm(&source.path, &source.provenance);
                genuine.map(|genuine| (genuine, source, (began, Instant::now())))
            };
            off_runtime(read).await??
        };
        let Genuine {
            bytes,
            digest,
            seen,
        } = genuine;
        let began = LoadChange::Began {
            bytes: bytes.len() as u64,
        };
        self.tell(name, began);
        let volume = self.volume((digest, kind), bytes);
        let began = Instant::now();
        let ours = AtomicBool::new(false);
        let make = || async {
            ours.store(true, Ordering::Relaxed);
            let _turn = turn(&self.compiles).await?;
            let (library, volume, name) = (Arc::clone(self), Arc::clone(&volume), name.clone());
            let engine = E::clone(&engine);
            let made = off_runtime(move || {
                let bytes = volume.bytes().clone().unwrap_or_default();
                let made = library
                    .compiler
                    .call(|| library.make(&name, &bytes, digest, engine));
                *volume.bytes() = None;
                if let Ok(Ok(_)) = made {
                    library.keep(&volume);
                }
                made.unwrap_or_else(|panic| Err(Unmade::Unfit(Unfit::CompilerPanic(panic))))
            });
            made.await
        };
        let outcome = loop {
            match volume.outcome.get_or_try_init(&make).await {
                Ok(outcome) => break outcome.clone(),
                Err(InitError::Failed(interrupted)) => return Err(interrupted),
                // Others are at it for longer than that; how long to wait is the caller's to say.
                Err(_) => {}
            }
        };
        match outcome {
            Ok(compiled) => {
                if !ours.load(Ordering::Relaxed) {
                    let waited = began.elapsed();
                    self.tell(name, LoadChange::Shared { waited });
                }
                if let Some(seen) = seen {
                    self.known.note(source, seen, read, &compiled);
                }
                Ok(compiled)
            }
            // Nobody runs it, so the next load weeds it and tries again.
            Err(unmade) => Err(unmade.at(&source.path)),
        }
    }

    /// Lets go of what nobody runs or waits for any more.
    pub(crate) fn weed(&self) {
        // Whoever waits for it holds it, and so does the list of the last ones.
        self.volumes
            .retain(|_, volume| Arc::strong_count(volume) > 1 || volume.is_in_use());
        // Volumes hold the code.
        self.known.weed();
    }

    /// Compiled components that somebody runs.
    pub(crate) fn in_use(&self) -> usize {
        let volumes = self.volumes.iter();
        volumes.filter(|volume| volume.is_in_use()).count()
    }

    fn keep(&self, volume: &Arc<Volume>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(Arc::clone(volume));
        if kept.len() > UNUSED_KEPT {
            kept.pop_front();
        }
    }

    fn volume(&self, id: VolumeId, bytes: Vec<u8>) -> Arc<Volume> {
        self.weed();
        let fresh = || {
            Arc::new(Volume {
                bytes: Mutex::new(Some(Arc::new(bytes))),
                outcome: InitOnce::new(),
            })
        };
        Arc::clone(&self.volumes.entry(id).or_insert_with(fresh))
    }

    /// Takes the code from the cache, or compiles. Blocks.
    fn make(
        &self,
        name: &ComponentName,
        bytes: &[u8],
        wasm: WasmDigest,
        engine: impl FnOnce() -> Result<Arc<Engine>, EngineError>,
    ) -> Result<Arc<Compiled>, Unmade> {
        let engine = engine().map_err(|error| Unmade::Engine(Arc::new(error)))?;
        let unused = |error| {
            let error = Arc::new(error);
            self.tell(name, LoadChange::CacheUnused { error });
        };
        let id = CodeId {
            wasm: wasm.0,
            fingerprint: engine.fingerprint,
        };
        let began = Instant::now();
        let cache = self.cache(unused);
        let found = cache.and_then(|cache| match cache.get(&id) {
            Ok(code) => {
                let component = code?.component(&engine.wasmtime);
                if component.is_none() {
                    unused(cache.fault(&id, EntryFault::Stale));
                }
                component
            }
            Err(error) => {
                unused(error);
                None
            }
        });
        if let Some(component) = found {
            let compiled = link(&engine, &component, bytes).map_err(Unmade::Unfit)?;
            let took = began.elapsed();
            self.tell(name, LoadChange::FromCache { took });
            return Ok(Arc::new(compiled));
        }
        let began = Instant::now();
        let component = compile(&engine, bytes).map_err(Unmade::Unfit)?;
        let compiled = link(&engine, &component, bytes).map_err(Unmade::Unfit)?;
        let took = began.elapsed();
        self.tell(name, LoadChange::Compiled { took });
        if let Some(Err(error)) = cache.map(|cache| cache.insert(&id, &component)) {
            unused(error);
        }
        Ok(Arc::new(compiled))
    }

    fn cache(&self, unused: impl Fn(CacheError)) -> Option<&CodeCache> {
        let config = self.cache.as_ref()?;
        let opened = self
            .opened
            .get_or_init(|| CodeCache::open(config).map_err(unused).ok());
        opened.as_ref()
    }

    fn tell(&self, component: &ComponentName, change: LoadChange) {
        self.events.send(LoadEvent {
            component: component.clone(),
            change,
        });
    }
}

impl Volume {
    fn bytes(&self) -> std::sync::MutexGuard<'_, Option<Arc<Vec<u8>>>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn turn(of: &Semaphore) -> Result<SemaphorePermit<'_>, LoadFailed> {
    // It is never closed.
    of.acquire().await.map_err(|_| LoadFailed::Interrupted)
}

/// Does what blocks where it blocks nobody.
pub(crate) async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LoadFailed> {
    let done = tokio::task::spawn_blocking(work).await;
    // What may panic has a boundary of its own, so only the runtime's end is left.
    done.map_err(|_| LoadFailed::Interrupted)
}

#[cfg(test)]
mod tests;
