//! What all components of one host share: engines, compiled code, and who is called what.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::compiled::{Compiled, LoadError, WasmDigest, compile, read_wasm};
use crate::component::{ComponentCell, ComponentRef};
use crate::config::ComponentName;
use crate::engine::{Engine, EngineError, Metering};
use crate::message::{Messages, Pools};

/// Instances the pool holds where nothing else is said.
pub const DEFAULT_MAX_COMPONENTS: u32 = 1000;

/// The environment of a tree of components. Cheap to clone; engines and their tickers end with
/// the last clone.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

struct Shared {
    max_components: u32,
    engine: Arc<Engine>,
    /// Made when the first component with a fuel limit is loaded.
    fuel_engine: Mutex<Option<Arc<Engine>>>,
    compiled: DashMap<(WasmDigest, Metering), Weak<Compiled>>,
    components: DashMap<ComponentName, ComponentRef>,
    pools: Pools,
}

/// What the first start of a component brings, for all its instances.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) messages: Arc<Messages>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("max_components", &self.shared.max_components)
            .field("components", &self.shared.components.len())
            .finish_non_exhaustive()
    }
}

/// Another component of the tree has the name already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a component named `{0}` is in the tree already")]
pub struct NameTaken(pub ComponentName);

/// Why a component could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadFailed {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Runtime {
    /// A runtime whose pool holds at most `max_components` instances at a time.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn new(max_components: u32) -> Result<Self, EngineError> {
        Ok(Self {
            shared: Arc::new(Shared {
                max_components,
                engine: Arc::new(Engine::new(max_components, Metering::Time, 0)?),
                fuel_engine: Mutex::new(None),
                compiled: DashMap::new(),
                components: DashMap::new(),
                pools: Pools::default(),
            }),
        })
    }

    /// The component of that name, once it has been started for the first time.
    #[must_use]
    pub fn component(&self, name: &str) -> Option<ComponentRef> {
        let name: ComponentName = name.parse().ok()?;
        let found = self.shared.components.get(&name)?;
        Some(found.clone())
    }

    /// All components, by name.
    #[must_use]
    pub fn components(&self) -> Vec<ComponentRef> {
        let mut all: Vec<ComponentRef> = self.shared.components.iter().map(|c| c.clone()).collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    pub(crate) fn downgrade(&self) -> WeakRuntime {
        WeakRuntime(Arc::downgrade(&self.shared))
    }

    /// Enters a component under its name.
    pub(crate) fn register(&self, cell: &Arc<ComponentCell>) -> Result<(), NameTaken> {
        match self.shared.components.entry(cell.name.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(ComponentRef::new(Arc::clone(cell)));
                Ok(())
            }
            Entry::Occupied(held) if Arc::ptr_eq(held.get().cell(), cell) => Ok(()),
            Entry::Occupied(_) => Err(NameTaken(cell.name.clone())),
        }
    }

    /// The compiled component of a cell: from memory where the same binary is in use already.
    pub(crate) async fn load(&self, cell: &ComponentCell) -> Result<Loaded, LoadFailed> {
        let metering = match cell.limits.max_fuel() {
            Some(_) => Metering::TimeAndFuel,
            None => Metering::Time,
        };
        let path = cell.config.wasm.clone();
        let shared = Arc::clone(&self.shared);
        let loading = tokio::task::spawn_blocking(move || shared.load(&path, metering));
        let compiled = loading.await.map_err(|_| LoadError::CompilerPanic {
            path: cell.config.wasm.clone(),
        })??;
        let level = cell.config.integrity.level;
        let messages = Arc::new(Messages::new(
            level,
            cell.limits.messages(),
            &cell.name,
            &self.shared.pools,
        ));
        Ok(Loaded { compiled, messages })
    }
}

impl Shared {
    fn load(&self, path: &Path, metering: Metering) -> Result<Arc<Compiled>, LoadFailed> {
        let (bytes, digest) = read_wasm(path)?;
        let known = self.compiled.get(&(digest, metering));
        if let Some(compiled) = known.and_then(|known| known.upgrade()) {
            return Ok(compiled);
        }
        let engine = self.engine(metering)?;
        let compiled = Arc::new(compile(&engine, path, &bytes)?);
        self.compiled.retain(|_, known| known.strong_count() > 0);
        self.compiled
            .insert((digest, metering), Arc::downgrade(&compiled));
        Ok(compiled)
    }

    fn engine(&self, metering: Metering) -> Result<Arc<Engine>, EngineError> {
        if metering == Metering::Time {
            return Ok(Arc::clone(&self.engine));
        }
        let mut made = self
            .fuel_engine
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*made {
            return Ok(Arc::clone(engine));
        }
        let engine = Arc::new(Engine::new(self.max_components, metering, 1)?);
        *made = Some(Arc::clone(&engine));
        Ok(engine)
    }
}

/// The runtime as a component knows it: without keeping it alive.
#[derive(Clone)]
pub(crate) struct WeakRuntime(Weak<Shared>);

impl WeakRuntime {
    /// Takes a component out, if the name is still its own.
    pub(crate) fn unregister(&self, cell: &Arc<ComponentCell>) {
        if let Some(shared) = self.0.upgrade() {
            shared
                .components
                .remove_if(&cell.name, |_, held| Arc::ptr_eq(held.cell(), cell));
        }
    }
}
