//! What all components of one host share: engines, compiled code, and who is called what.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use airssys_osl::grants::{NamePattern, Policy};
use airssys_osl::{AuditLog, KeyValueStore, NamedSecrets};
use airssys_rt::{
    DeadlinePhase, EntryPoint, Events, ExitCause, PanicBoundary, TaskEnd, TaskLimit, TaskRegistry,
};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::capacity::{CapacityError, Live, Room};
use crate::code_cache::CacheConfig;
use crate::compiled::{Compiled, LoadError};
use crate::component::{ComponentRef, DEFAULT_QUEUE_WAIT};
use crate::component_cell::ComponentCell;
use crate::config::{CapabilitiesConfig, ComponentName, InstanceMode};
use crate::coredumps::{CoredumpConfig, CoredumpCounts, Coredumps};
use crate::engine::{Engine, EngineError, EngineKind, Metering};
use crate::exports::Homeless;
use crate::host_functions::HostFunctions;
use crate::library::{Library, LoadEvent, LoadFailed, Source, off_runtime};
use crate::limits::{MAX_MEMORY_BYTES, ResourceLimits};
use crate::message::{Messages, Pools};
use crate::provenance::{Provenance, PublicKey};
use crate::release::Release;
use crate::services::{
    AccessDenied, GrantError, Granted, Offers, OutputLine, Reach, Resolver, Subscriptions,
};
use crate::ticker::Ticker;
use crate::turn::Turns;

/// Instances the pool holds where nothing else is said.
pub const DEFAULT_MAX_COMPONENTS: u32 = 1000;

/// How long a load may go on for a start that no longer waits for it.
pub const LOAD_LIMIT: Duration = Duration::from_secs(900);

/// What a [`Runtime`] is made from.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Instances that live at a time, at most.
    pub max_components: u32,
    /// Where compiled code is kept for the next run; nowhere without it.
    pub cache: Option<CacheConfig>,
    /// Where guests that trap leave a coredump; nowhere without it.
    pub coredumps: Option<CoredumpConfig>,
    /// Where loads are told.
    pub loads: Events<LoadEvent>,
    /// What components may import beside WASI.
    pub host_functions: HostFunctions,
    /// What components may be granted.
    pub policy: Policy,
    /// Whoever may have signed what is loaded; nothing need be signed where there is none.
    pub trusted_keys: Vec<PublicKey>,
    /// How names that components look up become addresses.
    pub resolver: Resolver,
    /// Where host calls that need a grant are put on record; nowhere without it.
    pub audit: Option<Arc<AuditLog>>,
    /// Where components keep keys and values; nowhere without it.
    pub key_value: Option<Arc<KeyValueStore>>,
    /// Memory that must stay free, of the machine and of each cgroup above the host, for an instance
    /// to be admitted, in bytes; nobody looks without it.
    pub memory_reserve_bytes: Option<u64>,
    /// The secrets that components may be granted.
    pub secrets: Option<Arc<NamedSecrets>>,
    /// Where accesses that are refused are told.
    pub denials: Events<AccessDenied>,
    /// Where lines are told that guests write to their standard streams.
    pub lines: Events<OutputLine>,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            max_components: DEFAULT_MAX_COMPONENTS,
            cache: None,
            coredumps: None,
            loads: Events::default(),
            host_functions: HostFunctions::default(),
            policy: Policy::default(),
            trusted_keys: Vec::new(),
            resolver: Resolver::default(),
            audit: None,
            key_value: None,
            memory_reserve_bytes: None,
            secrets: None,
            denials: Events::default(),
            lines: Events::default(),
        }
    }
}

/// The environment of a tree of components. Cheap to clone; its ticker ends with
/// [`Runtime::stop`], or with the last clone.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

struct Shared {
    max_components: u32,
    ticker: Ticker,
    /// One for the default limits, the others made for the first component that needs them.
    engines: Mutex<HashMap<EngineKind, Arc<Engine>>>,
    library: Arc<Library>,
    live: Arc<Live>,
    turns: Turns,
    panics: PanicBoundary,
    host_functions: HostFunctions,
    coredumps: Option<Arc<Coredumps>>,
    trusted_keys: Arc<[PublicKey]>,
    components: DashMap<ComponentName, ComponentRef>,
    pools: Pools,
    offers: Arc<Offers>,
    audit: Option<Arc<AuditLog>>,
    secrets: Option<Arc<NamedSecrets>>,
    subscriptions: Subscriptions,
    denials: Events<AccessDenied>,
    lines: Events<OutputLine>,
}

/// What the first start of a component brings, for all its instances.
pub(crate) struct Loaded {
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) messages: Arc<Messages>,
    pub(crate) live: Arc<Live>,
    pub(crate) turns: Turns,
    /// Where panics of WASI's functions and of `run` bodies are told: whatever comes out of a guest.
    pub(crate) guests: EntryPoint,
    pub(crate) coredumps: Option<Arc<Coredumps>>,
    pub(crate) granted: Arc<Granted>,
    pub(crate) reach: Arc<Reach>,
    /// How long a call may take where its caller does not say.
    pub(crate) patience: Duration,
    /// Why handles have no instance to live in, where they have none.
    pub(crate) homeless: Option<Homeless>,
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

impl Runtime {
    /// A runtime with its engine and its ticker.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn new(config: RuntimeConfig) -> Result<Self, EngineError> {
        let ticker = Ticker::start().map_err(EngineError::Ticker)?;
        let panics = PanicBoundary::new();
        let room = config.memory_reserve_bytes.map(Room::new).transpose()?;
        let library = Library::new(panics.entry("compile"), config.cache, config.loads);
        let shared = Shared {
            max_components: config.max_components,
            ticker,
            engines: Mutex::default(),
            library: Arc::new(library),
            live: Live::new(config.max_components, room),
            turns: Turns::new(),
            panics,
            host_functions: config.host_functions,
            coredumps: config
                .coredumps
                .map(|config| Arc::new(Coredumps::new(config))),
            trusted_keys: config.trusted_keys.into(),
            components: DashMap::new(),
            pools: Pools::default(),
            offers: Arc::new(Offers {
                policy: config.policy,
                resolver: config.resolver,
                key_value: Mutex::new(config.key_value),
                ..Offers::default()
            }),
            audit: config.audit,
            secrets: config.secrets,
            subscriptions: Subscriptions::default(),
            denials: config.denials,
            lines: config.lines,
        };
        shared.engine(EngineKind {
            metering: Metering::Time,
            stack_bytes: ResourceLimits::DEFAULT_STACK_BYTES,
        })?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Ends the ticker, for when everything has stopped: whatever guest is still inside is ended
    /// at its next look at the clock, and none is entered from then on. References that are kept
    /// keep compiled code, and no thread. Waits a tick, and for the store to write what it has been
    /// given: blocks.
    pub fn stop(&self) {
        self.shared.offers.close();
        self.shared.ticker.stop();
    }

    /// Where panics of the host end: in the compiler (`compile`), in a function of the embedder's
    /// own (its name), and in all else that runs for a guest (`guest`).
    #[must_use]
    pub fn panics(&self) -> &PanicBoundary {
        &self.shared.panics
    }

    /// What became of the coredumps of guests that trapped; nothing where none are made.
    #[must_use]
    pub fn coredumps(&self) -> CoredumpCounts {
        let coredumps = self.shared.coredumps.as_ref();
        coredumps.map_or_else(CoredumpCounts::default, |coredumps| coredumps.counts())
    }

    /// The component of that name, or the replica, once it has been started for the first time.
    #[must_use]
    pub fn component(&self, name: &str) -> Option<ComponentRef> {
        let found = self.shared.components.get(name)?;
        Some(found.clone())
    }

    /// All components, by name; not their replicas.
    #[must_use]
    pub fn components(&self) -> Vec<ComponentRef> {
        let all = self.shared.components.iter().map(|held| held.clone());
        let mut all: Vec<ComponentRef> = all.filter(|held| !held.is_replica()).collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// Instances the pool holds at most.
    #[must_use]
    pub fn max_components(&self) -> u32 {
        self.shared.max_components
    }

    /// Compiled components in use.
    #[must_use]
    pub fn compiled(&self) -> usize {
        self.shared.library.in_use()
    }

    pub(crate) fn downgrade(&self) -> WeakRuntime {
        WeakRuntime(Arc::downgrade(&self.shared))
    }

    /// Enters a component under its name.
    pub(crate) fn register(&self, component: &ComponentRef) -> Result<(), NameTaken> {
        let name = component.name().clone();
        match self.shared.components.entry(name) {
            Entry::Vacant(vacant) => {
                vacant.insert(component.clone());
                if !component.is_replica() {
                    let release = component.cell().release();
                    let messaging = &release.config.capabilities.messaging;
                    let subscriptions = &self.shared.subscriptions;
                    subscriptions.enter(component.name(), &messaging.subscribe);
                }
                Ok(())
            }
            Entry::Occupied(held) if held.get().is(component) => Ok(()),
            Entry::Occupied(_) => Err(NameTaken(component.name().clone())),
        }
    }

    /// Loads what a release needs to be instantiated by the cell. What is known already is there at
    /// once. Otherwise the work is a task of the tree: it goes on when the start has no more time for
    /// it, and serves the next one.
    pub(crate) async fn load(
        &self,
        cell: &Arc<ComponentCell>,
        release: Arc<Release>,
        tasks: &TaskRegistry,
    ) -> Result<(), ExitCause> {
        if release.loaded.get().is_some() {
            return Ok(());
        }
        if let Some(loaded) = self.known(cell, &release, tasks).map_err(exit_cause)?
            // An error says that a load is under way, which is waited for below, or is over.
            && release.loaded.set(loaded).is_ok()
        {
            return Ok(());
        }
        let limit = release.limits.load_timeout();
        let (runtime, of, own) = (self.clone(), Arc::clone(cell), tasks.clone());
        let work = async move {
            let load = || runtime.loaded(&of, &release, own);
            let loaded = release.loaded.get_or_try_init(load).await;
            loaded.map(|_| ())
        };
        let task = tasks
            .spawn_within(
                TaskLimit::Timeout(LOAD_LIMIT),
                format!("load {}", cell.name),
                work,
            )
            .map_err(|_| ExitCause::Shutdown)?;
        match tokio::time::timeout(limit, task).await {
            Ok(TaskEnd::Finished(outcome)) => outcome.map_err(exit_cause),
            Ok(TaskEnd::Panicked { message }) => Err(ExitCause::HostPanic {
                entry: None,
                message,
            }),
            Ok(TaskEnd::Aborted) => Err(ExitCause::Shutdown),
            Ok(TaskEnd::TimedOut) | Err(_) => Err(ExitCause::Deadline {
                limit,
                phase: DeadlinePhase::Load,
            }),
        }
    }

    /// What a release needs, where its binary is known and nothing it is granted is on a disk.
    fn known(
        &self,
        cell: &ComponentCell,
        release: &Release,
        tasks: &TaskRegistry,
    ) -> Result<Option<Arc<Loaded>>, LoadFailed> {
        let config = &release.config;
        if touches_disk(&config.capabilities) {
            return Ok(None);
        }
        self.within_ceiling(&release.limits)?;
        let source = self.source(release);
        let Some(compiled) = self.shared.library.known(&cell.name, &source) else {
            return Ok(None);
        };
        let granted = self.open(&cell.component, &config.capabilities)?;
        let loaded = self.assembled(cell, release, compiled, granted, tasks.clone());
        Ok(Some(Arc::new(loaded)))
    }

    async fn loaded(
        &self,
        cell: &ComponentCell,
        release: &Release,
        tasks: TaskRegistry,
    ) -> Result<Arc<Loaded>, LoadFailed> {
        let Release { config, limits, .. } = release;
        self.within_ceiling(limits)?;
        let source = self.source(release);
        let engine = {
            let (shared, kind) = (Arc::clone(&self.shared), source.kind);
            move || shared.engine(kind)
        };
        let library = &self.shared.library;
        let compiled = library.load(&cell.name, source, engine).await?;
        let granted = self.granted(&cell.component, &config.capabilities).await?;
        let loaded = self.assembled(cell, release, compiled, granted, tasks);
        Ok(Arc::new(loaded))
    }

    fn source(&self, release: &Release) -> Source {
        let config = &release.config;
        Source {
            path: config.wasm.clone(),
            kind: EngineKind::of(&release.limits),
            provenance: Provenance {
                digest: config.digest,
                signature: config.signature.clone(),
                keys: Arc::clone(&self.shared.trusted_keys),
            },
        }
    }

    fn assembled(
        &self,
        cell: &ComponentCell,
        Release { config, limits, .. }: &Release,
        compiled: Arc<Compiled>,
        granted: Granted,
        tasks: TaskRegistry,
    ) -> Loaded {
        let shared = &self.shared;
        let level = config.integrity.level;
        let messages = Messages::new(level, limits.messages(), &cell.name, &shared.pools);
        Loaded {
            compiled,
            messages: Arc::new(messages),
            live: Arc::clone(&shared.live),
            turns: shared.turns.clone(),
            guests: shared.panics.entry("guest"),
            coredumps: shared.coredumps.clone(),
            patience: DEFAULT_QUEUE_WAIT + limits.timeout(),
            homeless: homeless(config.instance.mode),
            granted: Arc::new(granted),
            reach: Arc::new(Reach {
                runtime: self.downgrade(),
                tasks,
                denials: shared.denials.clone(),
                lines: shared.lines.clone(),
                audit: shared.audit.clone(),
                secrets: shared.secrets.clone(),
            }),
        }
    }

    /// A limit is checked when its file is read; this is for what is started by other means.
    fn within_ceiling(&self, limits: &ResourceLimits) -> Result<(), LoadFailed> {
        let policy = &self.shared.offers.policy;
        let checked = policy.memory(limits.max_memory_bytes() as u64, MAX_MEMORY_BYTES as u64);
        checked.map_err(|excess| {
            LoadFailed::Load(LoadError::Grant(Arc::new(GrantError::Excess(vec![excess]))))
        })
    }

    async fn granted(
        &self,
        name: &ComponentName,
        config: &CapabilitiesConfig,
    ) -> Result<Granted, LoadFailed> {
        if !touches_disk(config) {
            return self.open(name, config);
        }
        let (runtime, name, config) = (self.clone(), name.clone(), config.clone());
        off_runtime(move || runtime.open(&name, &config)).await?
    }

    fn open(
        &self,
        name: &ComponentName,
        config: &CapabilitiesConfig,
    ) -> Result<Granted, LoadFailed> {
        let opened = Granted::open(config, name, &self.shared.offers);
        opened.map_err(|error| LoadFailed::Load(LoadError::Grant(Arc::new(error))))
    }
}

fn homeless(mode: InstanceMode) -> Option<Homeless> {
    match mode {
        InstanceMode::PerCall => Some(Homeless::PerCall),
        InstanceMode::Persistent { park_after } => park_after.map(|_| Homeless::Parked),
    }
}

/// Whether what is granted has to be opened.
fn touches_disk(config: &CapabilitiesConfig) -> bool {
    !config.directories.is_empty() || config.stdio.input.is_some()
}

fn exit_cause(failed: LoadFailed) -> ExitCause {
    match failed {
        LoadFailed::Load(error) => ExitCause::Failed {
            source: Arc::new(error),
        },
        LoadFailed::Engine(error) => CapacityError::Engine(error).into(),
        LoadFailed::Interrupted => ExitCause::Shutdown,
    }
}

impl Shared {
    fn engine(&self, kind: EngineKind) -> Result<Arc<Engine>, EngineError> {
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engines.get(&kind) {
            return Ok(Arc::clone(engine));
        }
        let pulse = self.ticker.pulse();
        let mut engine = Engine::new(
            self.max_components,
            kind,
            engines.len(),
            self.coredumps.is_some(),
            pulse,
        )?;
        self.host_functions.link(&mut engine.linker, &self.panics)?;
        let engine = Arc::new(engine);
        engines.insert(kind, Arc::clone(&engine));
        Ok(engine)
    }
}

/// The runtime as a component knows it: without keeping it alive.
#[derive(Clone, Default)]
pub(crate) struct WeakRuntime(Weak<Shared>);

impl fmt::Debug for WeakRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakRuntime")
    }
}

impl WeakRuntime {
    /// The component of that name.
    pub(crate) fn component(&self, name: &str) -> Option<ComponentRef> {
        let shared = self.0.upgrade()?;
        let found = shared.components.get(name)?;
        Some(found.clone())
    }

    /// The components that subscribe to a topic.
    pub(crate) fn subscribers(&self, topic: &str) -> Vec<ComponentName> {
        let shared = self.0.upgrade();
        shared.map_or_else(Vec::new, |shared| shared.subscriptions.of(topic))
    }

    /// Subscribes a component to these topics and no others.
    pub(crate) fn resubscribe(&self, name: &ComponentName, topics: &[NamePattern]) {
        if let Some(shared) = self.0.upgrade() {
            shared.subscriptions.renew(name, topics);
        }
    }

    pub(crate) fn upgrade(&self) -> Option<Runtime> {
        let shared = self.0.upgrade()?;
        Some(Runtime { shared })
    }

    /// Takes a component out, if the name is still its own.
    pub(crate) fn unregister(&self, component: &ComponentRef) {
        if let Some(shared) = self.0.upgrade() {
            let removed = shared
                .components
                .remove_if(component.name(), |_, held| held.is(component));
            if removed.is_some() {
                shared.subscriptions.leave(component.name());
            }
            shared.library.weed();
        }
    }
}
