//! airssys.toml: the tree of supervisors and components.

mod policy;
mod sandbox;
mod secrets;

pub use secrets::{SecretConfig, SecretFrom};

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use airssys_osl::{AuditConfig, OnFull, SandboxConfig, SecretPolicy};
use airssys_wasm::config::{ConfigFile, Document, Problem, Rule, Tables, keys, parse_shutdown};
use airssys_wasm::grants::Policy;
use airssys_wasm::{
    ComponentConfig, ComponentName, ComponentSpec, ConfigError, MemoryCeiling, PublicKey,
};
use serde::Deserialize;
use toml::Spanned;

use crate::{ChildSpec, Intensity, Restart, Shutdown, Strategy, SupervisorSpec};

/// Most bytes of all components' keys and values, where nothing else is said.
const DEFAULT_KEY_VALUE_BYTES: u64 = 256 * 1024 * 1024;

/// Memory that stays free, where nothing else is said, in bytes.
const DEFAULT_MEMORY_RESERVE: u64 = 64 * 1024 * 1024;

/// A whole tree, read and checked.
#[derive(Debug, Clone)]
pub struct SystemConfig {
    /// Instances the pool holds at a time.
    pub max_components: u32,
    /// Where compiled code is kept, if anywhere.
    pub cache_directory: Option<PathBuf>,
    /// Most bytes of it.
    pub cache_bytes: u64,
    /// Where coredumps are written, if anywhere.
    pub coredump_directory: Option<PathBuf>,
    /// Most bytes of them.
    pub coredump_bytes: u64,
    /// Most of them.
    pub coredump_files: u32,
    /// What its components may be granted.
    pub policy: Policy,
    /// Whoever may have signed its components; nothing need be signed where there is none.
    pub trusted_keys: Vec<PublicKey>,
    /// Where components keep keys and values, if anywhere.
    pub key_value_directory: Option<PathBuf>,
    /// Most bytes of them, of all components together.
    pub key_value_bytes: u64,
    /// Its secrets.
    pub secrets: Vec<SecretConfig>,
    /// Whether it runs where the kernel cannot protect them as they are to be.
    pub secret_protection: SecretPolicy,
    /// The operating system's sandbox; [`SystemConfig::sandbox`] adds what the tree needs.
    pub sandbox: SandboxConfig,
    /// Memory that stays free when an instance is admitted, in bytes.
    pub memory_reserve_bytes: u64,
    /// Where the audit log is kept, if anywhere.
    pub audit_directory: Option<PathBuf>,
    /// Most bytes of a segment of it.
    pub audit_segment_bytes: u64,
    /// Most segments.
    pub audit_segments: u32,
    /// Most records that wait to be written.
    pub audit_queue_records: usize,
    /// How long a record waits at most.
    pub audit_sync: Duration,
    /// What becomes of a call whose record finds no room.
    pub audit_on_full: OnFull,
    /// The supervisors below the root, in start order.
    pub supervisors: Vec<SupervisorConfig>,
}

/// A supervisor of the tree.
#[derive(Debug, Clone)]
pub struct SupervisorConfig {
    /// Its name, unique in the tree.
    pub name: ComponentName,
    /// Whom an exit concerns.
    pub strategy: Strategy,
    /// How many restarts are allowed within how much time.
    pub intensity: Intensity,
    /// Its children in start order, which is the order they are written in.
    pub children: Vec<ChildConfig>,
}

/// A child of a supervisor.
#[derive(Debug, Clone)]
pub enum ChildConfig {
    /// A component.
    Component(Box<ComponentNode>),
    /// A supervisor of its own.
    Supervisor(SupervisorConfig),
}

/// A component's place in the tree.
#[derive(Debug, Clone)]
pub struct ComponentNode {
    /// Its name in the tree.
    pub name: ComponentName,
    /// Its Component.toml.
    pub config: ComponentConfig,
    /// Where that was read, if it was read from a file.
    pub file: Option<PathBuf>,
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped.
    pub shutdown: Shutdown,
}

/// Everything wrong in a tree's files.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl SystemConfig {
    /// Reads an airssys.toml and every Component.toml it names, or a single Component.toml as a
    /// tree of one.
    ///
    /// # Errors
    /// [`ConfigErrors`]: everything wrong in the airssys.toml, or, where each of its keys obeys its
    /// rule, everything wrong in it and in all the files it names.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        let one = |error| ConfigErrors(vec![error]);
        let path = path.as_ref();
        let document = Document::read(path, ConfigFile::System).map_err(one)?;
        let tables = document.tables();
        if tables.have("component") {
            let config = ComponentConfig::load(path).map_err(one)?;
            return Ok(Self::of_file(config, Some(path.to_path_buf())));
        }
        Self::from_tables(&document, tables)
    }

    /// A tree of one component under a supervisor named `components`.
    #[must_use]
    pub fn of_one(config: ComponentConfig) -> Self {
        Self::of_file(config, None)
    }

    fn of_file(config: ComponentConfig, file: Option<PathBuf>) -> Self {
        let node = ComponentNode {
            name: config.name.clone(),
            config,
            file,
            restart: Restart::default(),
            shutdown: Shutdown::Timeout(airssys_rt::DEFAULT_SHUTDOWN),
        };
        let supervisor = "components".parse().map(|name| SupervisorConfig {
            name,
            strategy: Strategy::default(),
            intensity: Intensity::default(),
            children: vec![ChildConfig::Component(Box::new(node))],
        });
        Self {
            max_components: airssys_wasm::DEFAULT_MAX_COMPONENTS,
            cache_directory: None,
            cache_bytes: airssys_wasm::DEFAULT_CACHE_BYTES,
            coredump_directory: None,
            coredump_bytes: airssys_wasm::DEFAULT_COREDUMP_BYTES,
            coredump_files: airssys_wasm::DEFAULT_COREDUMP_FILES,
            policy: Policy::default(),
            trusted_keys: Vec::new(),
            key_value_directory: None,
            key_value_bytes: DEFAULT_KEY_VALUE_BYTES,
            secrets: Vec::new(),
            secret_protection: SecretPolicy::default(),
            sandbox: SandboxConfig::default(),
            memory_reserve_bytes: DEFAULT_MEMORY_RESERVE,
            audit_directory: None,
            audit_segment_bytes: AuditConfig::DEFAULT_SEGMENT_BYTES,
            audit_segments: AuditConfig::DEFAULT_SEGMENTS,
            audit_queue_records: AuditConfig::DEFAULT_QUEUE_RECORDS,
            audit_sync: AuditConfig::DEFAULT_SYNC_INTERVAL,
            audit_on_full: OnFull::default(),
            supervisors: supervisor.into_iter().collect(),
        }
    }

    fn from_tables(document: &Document, tables: Tables<'_>) -> Result<Self, ConfigErrors> {
        let raw: Raw = tables.values().map_err(|error| ConfigErrors(vec![error]))?;
        let mut reader = Reader {
            document,
            names: HashMap::new(),
            components: HashMap::new(),
            problems: Vec::new(),
            errors: Vec::new(),
            memory_ceiling: raw.policy.memory_ceiling(),
            restart: default_of("supervisor.child.restart").unwrap_or(RawRestart::Permanent),
            shutdown: default_of("supervisor.child.shutdown"),
        };
        let supervisors = raw
            .supervisor
            .into_iter()
            .filter_map(|supervisor| reader.supervisor(supervisor))
            .collect();
        let Reader {
            mut problems,
            mut errors,
            ..
        } = reader;
        let mut raw_policy = raw.policy;
        let trusted_keys = raw_policy.keys(document).unwrap_or_else(|found| {
            problems.extend(found);
            Vec::new()
        });
        let policy = raw_policy.checked(document).unwrap_or_else(|found| {
            problems.extend(found);
            Policy::default()
        });
        let sandbox = raw.sandbox.checked(document).unwrap_or_else(|found| {
            problems.extend(found);
            SandboxConfig::default()
        });
        let mut secrets = Vec::new();
        for secret in raw.secret {
            match secret.checked(document, &secrets) {
                Ok(secret) => secrets.push(secret),
                Err(problem) => problems.push(*problem),
            }
        }
        if !problems.is_empty() {
            errors.insert(0, document.invalid(problems));
        }
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        let RawCache {
            directory,
            max_bytes,
        } = raw.system.cache;
        let coredumps = raw.system.coredumps;
        let audit = raw.audit;
        let sync_ms = default_or(audit.sync_milliseconds, "audit.sync_milliseconds");
        Ok(Self {
            max_components: default_or(raw.system.max_components, "system.max_components")
                .unwrap_or(airssys_wasm::DEFAULT_MAX_COMPONENTS),
            cache_directory: directory.map(|directory| document.resolve(&directory)),
            cache_bytes: default_or(max_bytes, "system.cache.max_bytes")
                .unwrap_or(airssys_wasm::DEFAULT_CACHE_BYTES),
            coredump_directory: coredumps.directory.map(|path| document.resolve(&path)),
            coredump_bytes: default_or(coredumps.max_bytes, "system.coredumps.max_bytes")
                .unwrap_or(airssys_wasm::DEFAULT_COREDUMP_BYTES),
            coredump_files: default_or(coredumps.max_files, "system.coredumps.max_files")
                .unwrap_or(airssys_wasm::DEFAULT_COREDUMP_FILES),
            policy,
            trusted_keys,
            key_value_directory: raw.keyvalue.directory.map(|path| document.resolve(&path)),
            key_value_bytes: default_or(raw.keyvalue.max_bytes, "keyvalue.max_bytes")
                .unwrap_or(DEFAULT_KEY_VALUE_BYTES),
            secrets,
            secret_protection: match raw.system.secrets.protection {
                None | Some(RawProtection::Strict) => SecretPolicy::Strict,
                Some(RawProtection::BestEffort) => SecretPolicy::BestEffort,
            },
            sandbox,
            memory_reserve_bytes: default_or(
                raw.system.memory.reserve_bytes,
                "system.memory.reserve_bytes",
            )
            .unwrap_or(DEFAULT_MEMORY_RESERVE),
            audit_directory: audit.directory.map(|path| document.resolve(&path)),
            audit_segment_bytes: default_or(audit.max_segment_bytes, "audit.max_segment_bytes")
                .unwrap_or(AuditConfig::DEFAULT_SEGMENT_BYTES),
            audit_segments: default_or(audit.max_segments, "audit.max_segments")
                .unwrap_or(AuditConfig::DEFAULT_SEGMENTS),
            audit_queue_records: default_or(audit.queue_records, "audit.queue_records")
                .unwrap_or(AuditConfig::DEFAULT_QUEUE_RECORDS),
            audit_sync: sync_ms.map_or(AuditConfig::DEFAULT_SYNC_INTERVAL, Duration::from_millis),
            audit_on_full: default_or(audit.on_full, "audit.on_full")
                .map_or(OnFull::default(), OnFull::from),
            supervisors,
        })
    }

    /// All its components, wherever they are in the tree, in start order.
    #[must_use]
    pub fn components(&self) -> Vec<&ComponentNode> {
        let mut found = Vec::new();
        let mut left: Vec<&ChildConfig> = self.children().rev().collect();
        while let Some(child) = left.pop() {
            match child {
                ChildConfig::Component(node) => found.push(&**node),
                ChildConfig::Supervisor(nested) => left.extend(nested.children.iter().rev()),
            }
        }
        found
    }

    fn children(&self) -> impl DoubleEndedIterator<Item = &ChildConfig> {
        self.supervisors.iter().flat_map(|s| s.children.iter())
    }

    /// The specs of its supervisors.
    #[must_use]
    pub fn specs(&self) -> Vec<SupervisorSpec> {
        self.supervisors
            .iter()
            .map(SupervisorConfig::spec)
            .collect()
    }
}

impl SupervisorConfig {
    fn spec(&self) -> SupervisorSpec {
        let empty = SupervisorSpec::new(self.name.as_str())
            .strategy(self.strategy)
            .intensity(self.intensity);
        self.children.iter().fold(empty, |spec, child| match child {
            ChildConfig::Component(node) => spec.child(
                ChildSpec::component_named(node.name.clone(), node.config.clone())
                    .restart(node.restart)
                    .shutdown(node.shutdown),
            ),
            ChildConfig::Supervisor(nested) => spec.supervisor(nested.spec()),
        })
    }
}

/// What a file says, or the default an ADR gives the key.
fn default_or<T: serde::de::DeserializeOwned>(said: Option<T>, key: &str) -> Option<T> {
    said.or_else(|| default_of(key))
}

/// The default an ADR gives a key, as what it stands for.
fn default_of<T: serde::de::DeserializeOwned>(key: &str) -> Option<T> {
    let default = keys().get(ConfigFile::System, key)?.default.as_deref()?;
    let document = format!("value = {default}");
    toml::from_str::<Value<T>>(&document).ok().map(|v| v.value)
}

#[derive(Deserialize)]
struct Value<T> {
    value: T,
}

struct Reader<'a> {
    document: &'a Document,
    /// Each with the line it comes from and, for a replica's, the component.
    names: HashMap<String, Taken>,
    /// By their paths, those that are in order.
    components: HashMap<PathBuf, ComponentConfig>,
    problems: Vec<Problem>,
    errors: Vec<ConfigError>,
    memory_ceiling: MemoryCeiling,
    /// Of a child that says nothing.
    restart: RawRestart,
    shutdown: Option<String>,
}

#[derive(Clone)]
struct Taken {
    /// Where, in bytes: most names are never told of, and counting lines takes time.
    span: std::ops::Range<usize>,
    replica_of: Option<ComponentName>,
}

impl Reader<'_> {
    fn supervisor(&mut self, raw: Spanned<RawSupervisor>) -> Option<SupervisorConfig> {
        let raw = raw.into_inner();
        let name = self.name(&raw.name, "supervisor.name");
        let intensity = raw.intensity.or_else(|| default_of("supervisor.intensity"));
        let period = raw
            .period_seconds
            .or_else(|| default_of("supervisor.period_seconds"));
        let strategy = raw.strategy.or_else(|| default_of("supervisor.strategy"));
        // Written order is start order, across the two lists.
        let mut children: Vec<(usize, ChildConfig)> = Vec::new();
        for child in raw.child {
            let start = child.span().start;
            if let Some(node) = self.child(child.into_inner()) {
                children.push((start, ChildConfig::Component(Box::new(node))));
            }
        }
        for nested in raw.supervisor {
            let start = nested.span().start;
            if let Some(nested) = self.supervisor(nested) {
                children.push((start, ChildConfig::Supervisor(nested)));
            }
        }
        children.sort_by_key(|(start, _)| *start);
        Some(SupervisorConfig {
            name: name?,
            strategy: strategy.unwrap_or(RawStrategy::OneForOne).into(),
            intensity: Intensity {
                restarts: intensity.unwrap_or(Intensity::default().restarts),
                period: period.map_or(Intensity::default().period, Duration::from_secs),
            },
            children: children.into_iter().map(|(_, child)| child).collect(),
        })
    }

    /// A file that many children name is read once.
    fn component(&mut self, path: &Path) -> Result<ComponentConfig, ConfigError> {
        if let Some(config) = self.components.get(path) {
            return Ok(config.clone());
        }
        let config = ComponentConfig::load_under(path, self.memory_ceiling)?;
        self.components.insert(path.to_path_buf(), config.clone());
        Ok(config)
    }

    fn child(&mut self, raw: RawChild) -> Option<ComponentNode> {
        let path = self.document.resolve(raw.component.get_ref());
        let config = match self.component(&path) {
            Ok(config) => Some(config),
            // Where the file is not to be had, the line that names it is the one to mend.
            Err(ConfigError::Unreadable(error)) => {
                let reason = error.to_string();
                self.problems.push(self.document.problem(
                    raw.component.span(),
                    Some("supervisor.child.component"),
                    Rule::Unreadable { reason },
                ));
                None
            }
            Err(error) => {
                self.errors.push(error);
                None
            }
        };
        let name = match (raw.name, &config) {
            (Some(name), _) => Some(name),
            (None, Some(config)) => {
                let own = config.name.to_string();
                Some(Spanned::new(raw.component.span(), own))
            }
            (None, None) => None,
        };
        let key = "supervisor.child.name";
        let replicas = config.as_ref().map_or(1, |c| c.instance.replicas.get());
        let name = name.and_then(|raw| {
            let name = self.name(&raw, key)?;
            let several = (0..replicas).filter(|_| replicas > 1);
            // Each that is taken is told.
            let taken = several
                .filter(|n| !self.take(&raw, key, format!("{name}-{n}"), Some(&name)))
                .count();
            (taken == 0).then_some(name)
        });
        let shutdown = raw.shutdown.as_deref().or(self.shutdown.as_deref());
        let shutdown = shutdown.and_then(parse_shutdown);
        Some(ComponentNode {
            name: name?,
            config: config?,
            file: Some(path),
            restart: raw.restart.unwrap_or(self.restart).into(),
            shutdown: shutdown.unwrap_or(Shutdown::Timeout(airssys_rt::DEFAULT_SHUTDOWN)),
        })
    }

    /// A name nobody else in the tree has.
    fn name(&mut self, raw: &Spanned<String>, key: &str) -> Option<ComponentName> {
        let text = raw.get_ref();
        let name: ComponentName = text.parse().ok()?;
        self.take(raw, key, text.clone(), None).then_some(name)
    }

    /// Whether nobody else has the name; it is taken from now on.
    fn take(
        &mut self,
        raw: &Spanned<String>,
        key: &str,
        name: String,
        replica_of: Option<&ComponentName>,
    ) -> bool {
        let held = match self.names.entry(name.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Taken {
                    span: raw.span(),
                    replica_of: replica_of.cloned(),
                });
                return true;
            }
            Entry::Occupied(held) => held,
        };
        let duplicate = Rule::DuplicateName { name: name.clone() };
        let held = held.get();
        let broken = match held.replica_of.as_ref().or(replica_of) {
            None => duplicate,
            Some(component) => Rule::ReplicaName {
                name,
                component: component.to_string(),
                line: self
                    .document
                    .problem(held.span.clone(), None, duplicate)
                    .line,
            },
        };
        let problem = self.document.problem(raw.span(), Some(key), broken);
        self.problems.push(problem);
        false
    }
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    system: RawSystem,
    #[serde(default)]
    policy: policy::RawPolicy,
    #[serde(default)]
    keyvalue: RawKeyValue,
    #[serde(default)]
    secret: Vec<secrets::RawSecret>,
    #[serde(default)]
    sandbox: sandbox::RawSandbox,
    #[serde(default)]
    audit: RawAudit,
    supervisor: Vec<Spanned<RawSupervisor>>,
}

#[derive(Deserialize, Default)]
struct RawSystem {
    max_components: Option<u32>,
    #[serde(default)]
    cache: RawCache,
    #[serde(default)]
    coredumps: RawCoredumps,
    #[serde(default)]
    secrets: RawSecretsOf,
    #[serde(default)]
    memory: RawMemory,
}

#[derive(Deserialize, Default)]
struct RawSecretsOf {
    protection: Option<RawProtection>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawProtection {
    Strict,
    BestEffort,
}

#[derive(Deserialize, Default)]
struct RawMemory {
    reserve_bytes: Option<u64>,
}

#[derive(Deserialize, Default)]
struct RawKeyValue {
    directory: Option<String>,
    max_bytes: Option<u64>,
}

#[derive(Deserialize, Default)]
struct RawCoredumps {
    directory: Option<String>,
    max_bytes: Option<u64>,
    max_files: Option<u32>,
}

#[derive(Deserialize, Default)]
struct RawCache {
    directory: Option<String>,
    max_bytes: Option<u64>,
}

#[derive(Deserialize, Default)]
struct RawAudit {
    directory: Option<String>,
    max_segment_bytes: Option<u64>,
    max_segments: Option<u32>,
    queue_records: Option<usize>,
    sync_milliseconds: Option<u64>,
    on_full: Option<RawOnFull>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum RawOnFull {
    Refuse,
    Drop,
}

impl From<RawOnFull> for OnFull {
    fn from(raw: RawOnFull) -> Self {
        match raw {
            RawOnFull::Refuse => Self::Refuse,
            RawOnFull::Drop => Self::Drop,
        }
    }
}

#[derive(Deserialize)]
struct RawSupervisor {
    name: Spanned<String>,
    strategy: Option<RawStrategy>,
    intensity: Option<u32>,
    period_seconds: Option<u64>,
    #[serde(default)]
    child: Vec<Spanned<RawChild>>,
    #[serde(default)]
    supervisor: Vec<Spanned<RawSupervisor>>,
}

#[derive(Deserialize)]
struct RawChild {
    component: Spanned<String>,
    name: Option<Spanned<String>>,
    restart: Option<RawRestart>,
    shutdown: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum RawStrategy {
    OneForOne,
    OneForAll,
    RestForOne,
}

impl From<RawStrategy> for Strategy {
    fn from(raw: RawStrategy) -> Self {
        match raw {
            RawStrategy::OneForOne => Self::OneForOne,
            RawStrategy::OneForAll => Self::OneForAll,
            RawStrategy::RestForOne => Self::RestForOne,
        }
    }
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum RawRestart {
    Permanent,
    Transient,
    Temporary,
}

impl From<RawRestart> for Restart {
    fn from(raw: RawRestart) -> Self {
        match raw {
            RawRestart::Permanent => Self::Permanent,
            RawRestart::Transient => Self::Transient,
            RawRestart::Temporary => Self::Temporary,
        }
    }
}
