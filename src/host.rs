//! The host: one tree of components, started, called and shut down.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use airssys_osl::{
    AuditConfig, AuditError, AuditLog, AuditState, KeyValueConfig, KeyValueOpenError,
    KeyValueStore, LoadError as SecretLoadError, NamedSecrets, SecretLimits, SecretMemory,
    SecretName, SecretPolicy,
};
use airssys_rt::{Events, ExitCause, PanicBoundary, TaskLimit, TaskRegistry, Tree};
use airssys_wasm::grants::Policy;
use airssys_wasm::{
    AccessDenied, CacheConfig, CoredumpConfig, CoredumpCounts, EngineError, HostFunctions,
    LoadEvent, OutputLine, PublicKey, Resolver, Runtime, RuntimeConfig,
};
use tokio::sync::watch;

use crate::snapshot::{self, Snapshot};
use crate::{
    ComponentRef, ConfigErrors, EventStream, SecretConfig, SupervisorMessage, SupervisorRef,
    SupervisorSpec, SystemConfig,
};

/// Name of the supervisor above all others.
const ROOT: &str = "airssys";

/// How long a shutdown waits for tasks once every component has stopped, before it aborts them.
const TASK_GRACE: Duration = Duration::from_secs(5);

/// How long a host that is only dropped waits for it.
const DROP_GRACE: Duration = Duration::from_millis(500);

/// How long a shutdown waits for a disk that does not take what is left of the audit log.
const AUDIT_GRACE: Duration = Duration::from_secs(5);

/// Why a host did not start, or does not know a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The engine could not be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store for keys and values is not to be had.
    #[error("key-value store: {0}")]
    KeyValue(#[from] KeyValueOpenError),
    /// A secret is not to be had.
    #[error("secret `{name}`: {source}")]
    Secret {
        /// The secret.
        name: SecretName,
        /// Why.
        source: SecretLoadError,
    },
    /// The audit log is not to be had, and nothing runs without it.
    #[error("audit log: {0}")]
    Audit(#[from] AuditError),
    /// Part of the tree did not start; what had started has been stopped again.
    #[error("{0}")]
    Start(Arc<ExitCause>),
    /// Two supervisors have the same name.
    #[error("two supervisors are named `{0}`")]
    DuplicateSupervisor(String),
    /// No component of that name.
    #[error("no component `{name}`; there are: {}", known.join(", "))]
    UnknownComponent {
        /// The name asked for.
        name: String,
        /// The components there are.
        known: Vec<String>,
    },
    /// No supervisor of that name.
    #[error("no supervisor `{name}`; there are: {}", known.join(", "))]
    UnknownSupervisor {
        /// The name asked for.
        name: String,
        /// The supervisors there are.
        known: Vec<String>,
    },
}

/// A running tree. End it with [`Host::shutdown`]; a host that is only dropped stops its tree too,
/// but nobody waits for it.
#[derive(Debug)]
pub struct Host {
    runtime: Runtime,
    events: Events,
    loads: Events<LoadEvent>,
    denials: Events<AccessDenied>,
    lines: Events<OutputLine>,
    root: SupervisorRef,
    supervisors: HashMap<String, SupervisorRef>,
    ended: watch::Receiver<bool>,
    tasks: TaskRegistry,
    audit: Option<Arc<AuditLog>>,
    began: Instant,
}

/// Collects what a [`Host`] starts with.
#[derive(Debug)]
pub struct HostBuilder {
    runtime: RuntimeConfig,
    audit: Option<AuditConfig>,
    key_value: Option<KeyValueConfig>,
    secrets: Vec<SecretConfig>,
    secret_protection: SecretPolicy,
    supervisors: Vec<SupervisorSpec>,
    events: Events,
}

impl From<SystemConfig> for HostBuilder {
    fn from(config: SystemConfig) -> Self {
        let mut builder = Host::builder().max_components(config.max_components);
        if let Some(directory) = config.cache_directory.clone() {
            builder = builder.cache(CacheConfig {
                directory,
                max_bytes: config.cache_bytes,
            });
        }
        if let Some(directory) = config.coredump_directory.clone() {
            builder = builder.coredumps(CoredumpConfig {
                directory,
                max_bytes: config.coredump_bytes,
                max_files: config.coredump_files,
            });
        }
        let mut builder = builder
            .policy(config.policy.clone())
            .trusted_keys(config.trusted_keys.clone());
        builder.runtime.memory_reserve_bytes = Some(config.memory_reserve_bytes);
        builder.secrets = config.secrets.clone();
        builder.secret_protection = config.secret_protection;
        if let Some(directory) = config.key_value_directory.clone() {
            builder = builder.key_value(KeyValueConfig {
                directory,
                max_bytes: config.key_value_bytes,
            });
        }
        if let Some(directory) = config.audit_directory.clone() {
            builder = builder.audit(AuditConfig {
                directory,
                max_segment_bytes: config.audit_segment_bytes,
                max_segments: config.audit_segments,
                queue_records: config.audit_queue_records,
                sync_interval: config.audit_sync,
                on_full: config.audit_on_full,
            });
        }
        let specs = config.specs().into_iter();
        specs.fold(builder, Self::supervisor)
    }
}

impl HostBuilder {
    /// Sets how many instances live at a time, 1000 where nothing is said.
    #[must_use]
    pub fn max_components(mut self, components: u32) -> Self {
        self.runtime.max_components = components;
        self
    }

    /// Keeps compiled code on disk for the next run.
    #[must_use]
    pub fn cache(mut self, cache: CacheConfig) -> Self {
        self.runtime.cache = Some(cache);
        self
    }

    /// Has a coredump written of each guest that traps. It holds what was in the guest's memory.
    #[must_use]
    pub fn coredumps(mut self, coredumps: CoredumpConfig) -> Self {
        self.runtime.coredumps = Some(coredumps);
        self
    }

    /// Keeps a log of every host call that needs a grant.
    #[must_use]
    pub fn audit(mut self, audit: AuditConfig) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Lets components import functions of the embedder's own beside WASI's.
    #[must_use]
    pub fn host_functions(mut self, functions: HostFunctions) -> Self {
        self.runtime.host_functions = functions;
        self
    }

    /// Gives components that are granted it a place for keys and values.
    #[must_use]
    pub fn key_value(mut self, config: KeyValueConfig) -> Self {
        self.key_value = Some(config);
        self
    }

    /// Secrets that components may be granted to be shown, for those that a file names.
    #[must_use]
    pub fn secrets(mut self, secrets: Arc<NamedSecrets>) -> Self {
        self.runtime.secrets = Some(secrets);
        self
    }

    /// Bounds what components may be granted.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.runtime.policy = policy;
        self
    }

    /// Loads only what one of these has signed; anything where there is none.
    #[must_use]
    pub fn trusted_keys(mut self, keys: Vec<PublicKey>) -> Self {
        self.runtime.trusted_keys = keys;
        self
    }

    /// Has the names that components look up resolved by the embedder. Whether a name may be looked
    /// up, and an address it stands for be turned to, is checked all the same.
    #[must_use]
    pub fn resolver(mut self, resolver: Resolver) -> Self {
        self.runtime.resolver = resolver;
        self
    }

    /// Accesses that are refused to components, each with the grant that is missing.
    #[must_use]
    pub fn denials(&self) -> EventStream<AccessDenied> {
        self.runtime.denials.subscribe()
    }

    /// Lines that components write to their standard output and error.
    #[must_use]
    pub fn output(&self) -> EventStream<OutputLine> {
        self.runtime.lines.subscribe()
    }

    /// Adds a supervisor below the root, last in the start order.
    #[must_use]
    pub fn supervisor(mut self, spec: SupervisorSpec) -> Self {
        self.supervisors.push(spec);
        self
    }

    /// Everything that happens in the tree, its start included.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.events.subscribe()
    }

    /// What comes of each component's way from its binary to compiled code.
    #[must_use]
    pub fn loads(&self) -> EventStream<LoadEvent> {
        self.runtime.loads.subscribe()
    }

    /// Starts the tree: every supervisor and component in order.
    ///
    /// # Errors
    /// [`HostError::Audit`], [`HostError::Engine`], [`HostError::Start`] or
    /// [`HostError::DuplicateSupervisor`].
    pub async fn start(self) -> Result<Host, HostError> {
        let (audit, key_value) = (self.audit, self.key_value);
        let (secrets, protection) = (self.secrets, self.secret_protection);
        let open = move || Opened::open(audit.as_ref(), key_value.as_ref(), &secrets, protection);
        let Opened {
            audit,
            key_value,
            secrets,
        } = off_runtime(open).await?;
        let mut config = self.runtime;
        config.audit = audit.clone();
        config.key_value = key_value;
        // Secrets that the embedder has put there itself stay.
        config.secrets = secrets.or(config.secrets);
        let loads = config.loads.clone();
        let denials = config.denials.clone();
        let lines = config.lines.clone();
        let runtime = Runtime::new(config)?;
        let events = self.events;
        let root = self
            .supervisors
            .into_iter()
            .fold(SupervisorSpec::new(ROOT), SupervisorSpec::supervisor);
        let specs = root.supervisors();
        let mut names = HashSet::new();
        for spec in &specs {
            let name = spec.name().to_string();
            if !names.insert(name.clone()) {
                return Err(HostError::DuplicateSupervisor(name));
            }
        }
        let mut tree = Tree::new(runtime.clone());
        tree.events = events.clone();
        let tasks = tree.tasks.clone();
        let (root, handle) = root
            .start(tree)
            .await
            .map_err(|cause| HostError::Start(Arc::new(cause)))?;
        let supervisors = specs
            .iter()
            .filter_map(|spec| Some((spec.name().to_string(), spec.handle()?)))
            .collect();
        let (tell, ended) = watch::channel(false);
        let watch = async move {
            handle.await;
            tell.send_replace(true);
        };
        // It lasts as long as the tree. A new registry refuses nothing; were it to, `ended` would
        // see the sender go.
        tasks.spawn_within(TaskLimit::Unlimited, "host", watch).ok();
        Ok(Host {
            runtime,
            events,
            loads,
            denials,
            lines,
            root,
            supervisors,
            ended,
            tasks,
            audit,
            began: Instant::now(),
        })
    }
}

/// What a host opens before it starts.
struct Opened {
    audit: Option<Arc<AuditLog>>,
    key_value: Option<Arc<KeyValueStore>>,
    secrets: Option<Arc<NamedSecrets>>,
}

impl Opened {
    fn open(
        audit: Option<&AuditConfig>,
        key_value: Option<&KeyValueConfig>,
        secrets: &[SecretConfig],
        protection: SecretPolicy,
    ) -> Result<Self, HostError> {
        let audit = audit.map(AuditLog::open).transpose()?;
        let key_value = key_value.map(KeyValueStore::open).transpose()?;
        let named = (!secrets.is_empty()).then(|| {
            let limits = SecretLimits::default();
            NamedSecrets::new(SecretMemory::new(protection, limits))
        });
        for secret in secrets {
            let Some(named) = &named else { continue };
            let loaded = named.load(secret.name.clone(), &secret.from.source());
            loaded.map_err(|source| HostError::Secret {
                name: secret.name.clone(),
                source,
            })?;
        }
        Ok(Self {
            audit: audit.map(Arc::new),
            key_value: key_value.map(Arc::new),
            secrets: named.map(Arc::new),
        })
    }
}

/// Does what blocks where it blocks nobody.
async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // Nothing aborts it, and a runtime that ends drops this future too.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

impl Host {
    /// Starts the tree of an airssys.toml, or of a single Component.toml.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn from_config(path: impl AsRef<Path>) -> Result<Self, HostError> {
        Self::start(SystemConfig::load(path)?).await
    }

    /// Starts a tree that has been read already.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn start(config: SystemConfig) -> Result<Self, HostError> {
        HostBuilder::from(config).start().await
    }

    /// A host without a configuration file.
    #[must_use]
    pub fn builder() -> HostBuilder {
        HostBuilder {
            runtime: RuntimeConfig::default(),
            audit: None,
            key_value: None,
            secrets: Vec::new(),
            secret_protection: SecretPolicy::default(),
            supervisors: Vec::new(),
            events: Events::default(),
        }
    }

    /// The component of that name; the reference stays valid over restarts.
    ///
    /// # Errors
    /// [`HostError::UnknownComponent`].
    pub fn component(&self, name: &str) -> Result<ComponentRef, HostError> {
        self.runtime
            .component(name)
            .ok_or_else(|| HostError::UnknownComponent {
                name: name.to_owned(),
                known: self
                    .components()
                    .iter()
                    .map(|component| component.name().to_string())
                    .collect(),
            })
    }

    /// All components, by name.
    #[must_use]
    pub fn components(&self) -> Vec<ComponentRef> {
        self.runtime.components()
    }

    /// The supervisor of that name; `airssys` is the one above all others. A component with replicas
    /// is the supervisor of those.
    ///
    /// # Errors
    /// [`HostError::UnknownSupervisor`].
    pub fn supervisor(&self, name: &str) -> Result<SupervisorRef, HostError> {
        self.supervisors
            .get(name)
            .cloned()
            .or_else(|| self.runtime.component(name)?.supervisor())
            .ok_or_else(|| HostError::UnknownSupervisor {
                name: name.to_owned(),
                known: {
                    let mut known: Vec<String> = self.supervisors.keys().cloned().collect();
                    known.sort();
                    known
                },
            })
    }

    /// Everything that happens in the tree from now on.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.events.subscribe()
    }

    /// The host, its supervisors and its components as they are now. Stops no guest, and waits
    /// [`SNAPSHOT_PATIENCE`](crate::SNAPSHOT_PATIENCE) at most for supervisors that are busy.
    pub async fn snapshot(&self) -> Snapshot {
        snapshot::take(
            &self.runtime,
            &self.supervisors,
            &self.tasks,
            self.began.elapsed(),
        )
        .await
    }

    /// Panics that were caught in the compiler, in host functions and in what else runs for a guest:
    /// counted by where, and the last of them on record.
    #[must_use]
    pub fn panics(&self) -> &PanicBoundary {
        self.runtime.panics()
    }

    /// What became of the coredumps of guests that trapped.
    #[must_use]
    pub fn coredumps(&self) -> CoredumpCounts {
        self.runtime.coredumps()
    }

    /// How the audit log is doing; `None` where none is kept.
    #[must_use]
    pub fn audit(&self) -> Option<AuditState> {
        self.audit.as_ref().map(|audit| audit.state())
    }

    /// What comes of each component's way from its binary to compiled code, from now on.
    #[must_use]
    pub fn loads(&self) -> EventStream<LoadEvent> {
        self.loads.subscribe()
    }

    /// Accesses that are refused to components from now on, each with the grant that is missing.
    #[must_use]
    pub fn denials(&self) -> EventStream<AccessDenied> {
        self.denials.subscribe()
    }

    /// Lines that components write to their standard output and error from now on.
    #[must_use]
    pub fn output(&self) -> EventStream<OutputLine> {
        self.lines.subscribe()
    }

    /// Returns once the whole tree has ended: why the topmost supervisor gave up, or `None` after
    /// a shutdown.
    pub async fn ended(&self) -> Option<Arc<ExitCause>> {
        let mut ended = self.ended.clone();
        // An error means the watching task is gone, and the tree with it.
        ended.wait_for(|ended| *ended).await.ok();
        self.root.gave_up()
    }

    /// Stops the tree in reverse start order and returns once everything in it has ended. Bounded
    /// by the shutdown times of its children, and five seconds each for tasks that are left and for the
    /// disk of the audit log. Later calls through references end in
    /// [`crate::WasmError::Stopped`].
    pub async fn shutdown(&self) {
        self.ask_to_stop();
        let mut ended = self.ended.clone();
        ended.wait_for(|ended| *ended).await.ok();
        self.tasks.shutdown(TASK_GRACE).await;
        let runtime = self.runtime.clone();
        off_runtime(move || runtime.stop()).await;
        if let Some(audit) = self.audit.clone() {
            let close = move || audit.close(AUDIT_GRACE);
            // An error of the task: the runtime ends, and the log's drop closes it.
            if let Ok(Err(error)) = tokio::task::spawn_blocking(close).await {
                tracing::error!(%error, "audit log not closed in order");
            }
        }
    }

    fn ask_to_stop(&self) {
        // One that has ended needs no asking.
        let root = self.root.actor();
        root.send_message(SupervisorMessage::Stop).ok();
    }

    /// The tasks that run on behalf of the tree.
    #[must_use]
    pub fn tasks(&self) -> &TaskRegistry {
        &self.tasks
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.ask_to_stop();
        // What the tree still asks for while it stops is refused, since it cannot be put on record.
        if let Some(audit) = &self.audit {
            audit.close(DROP_GRACE).ok();
        }
    }
}
