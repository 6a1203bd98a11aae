//! Component.toml.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use airssys_integrity::{SampleRate, VerificationLevel};
use airssys_rt::Counted;
use serde::Deserialize;
use toml::Spanned;

use super::capabilities::{CapabilitiesConfig, RawCapabilities};
use super::document::Document;
use super::keys::{ConfigFile, keys};
use super::name::ComponentName;
use super::problem::{ConfigError, Rule};
use crate::limits::{
    CountsConfig, MemoryCeiling, MemoryConfig, MessageConfig, OnLimit, ResourceLimits, StackConfig,
};
use crate::provenance::WasmDigest;

/// A component as its Component.toml describes it. It always has limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentConfig {
    /// Its name.
    pub name: ComponentName,
    /// Its version.
    pub version: semver::Version,
    /// The component-model binary.
    pub wasm: PathBuf,
    /// What its binary must be.
    pub digest: Option<WasmDigest>,
    /// A signature of its binary.
    pub signature: Option<PathBuf>,
    /// What it may use.
    pub resources: ResourcesConfig,
    /// How its messages are checked.
    pub integrity: IntegrityConfig,
    /// How long its instances live.
    pub instance: InstanceConfig,
    /// How a new release of it takes over.
    pub upgrade: UpgradeConfig,
    /// What it is granted.
    pub capabilities: CapabilitiesConfig,
}

/// `[upgrade]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpgradeConfig {
    /// How long a release serves before the one it replaced is let go.
    pub probation: Duration,
}

/// `[resources]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourcesConfig {
    /// `[resources.memory]`, which has no default.
    pub memory: MemoryConfig,
    /// `[resources.cpu]`.
    pub cpu: CpuConfig,
    /// `[resources.stack]`.
    pub stack: StackConfig,
    /// `[resources.message]`.
    pub message: MessageConfig,
    /// `[resources.counts]`.
    pub counts: CountsConfig,
}

/// `[resources.cpu]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuConfig {
    /// Time one call may take inside the guest, host waits included.
    pub timeout: Duration,
    /// Fuel one call may use.
    pub max_fuel: Option<u64>,
    /// Time a start may wait for compiled code.
    pub load_timeout: Duration,
    /// Time an instance may take to start, its start functions included.
    pub start_timeout: Duration,
    /// Time a guest may wait for the host at a stretch.
    pub host_wait: Option<Duration>,
}

/// `[integrity]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IntegrityConfig {
    /// How arguments and results are written and read; `sampling` checks one block in 64.
    pub level: VerificationLevel,
}

/// `[instance]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InstanceConfig {
    /// Whether calls share an instance.
    pub mode: InstanceMode,
    /// How many serve the component at a time.
    pub replicas: ReplicaCount,
}

/// Most replicas of a component.
pub const MAX_REPLICAS: u32 = 64;

/// How many instances serve one component at a time: 1 to [`MAX_REPLICAS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplicaCount(u32);

/// A number that is no [`ReplicaCount`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} replicas: 1 to {MAX_REPLICAS} may be")]
pub struct ReplicaCountError(pub u32);

impl ReplicaCount {
    /// One: the component is as it is without replicas.
    pub const ONE: Self = Self(1);

    /// That many.
    ///
    /// # Errors
    /// [`ReplicaCountError`].
    pub fn new(replicas: u32) -> Result<Self, ReplicaCountError> {
        match replicas {
            1..=MAX_REPLICAS => Ok(Self(replicas)),
            _ => Err(ReplicaCountError(replicas)),
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for ReplicaCount {
    fn default() -> Self {
        Self::ONE
    }
}

/// How long an instance lives, if nothing ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceMode {
    /// Calls find what the calls before them have left.
    Persistent {
        /// Without a call for this long it is let go, with all that calls have left in it. The next
        /// call gets a fresh one.
        park_after: Option<Duration>,
    },
    /// Every call has an instance of its own; between calls there is none.
    PerCall,
}

impl Default for InstanceMode {
    fn default() -> Self {
        Self::Persistent { park_after: None }
    }
}

impl From<ResourcesConfig> for ResourceLimits {
    fn from(resources: ResourcesConfig) -> Self {
        let ResourcesConfig {
            memory,
            cpu,
            stack,
            message,
            counts,
        } = resources;
        let limits = Self::new(memory, cpu.timeout, cpu.max_fuel)
            .with_load_timeout(cpu.load_timeout)
            .with_start_timeout(cpu.start_timeout)
            .with_stack(stack)
            .with_messages(message)
            .with_counts(counts);
        match cpu.host_wait {
            Some(limit) => limits.with_host_wait(limit),
            None => limits,
        }
    }
}

impl ComponentConfig {
    /// Reads and checks a Component.toml.
    ///
    /// # Errors
    /// [`ConfigError`]: the file cannot be read, or breaks rules (all of them are told).
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::from_document(&Document::read(path.as_ref(), ConfigFile::Component)?)
    }

    /// As [`ComponentConfig::load`], for a host with a ceiling of its own on memory limits.
    ///
    /// # Errors
    /// As [`ComponentConfig::load`].
    pub fn load_under(path: impl AsRef<Path>, ceiling: MemoryCeiling) -> Result<Self, ConfigError> {
        let document = Document::read(path.as_ref(), ConfigFile::Component)?;
        Self::from_document(&document.under(ceiling))
    }

    /// As [`ComponentConfig::load`], from text; `path` is where it is said to stand.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Result<Self, ConfigError> {
        let document = Document::from_text(path.as_ref(), text, ConfigFile::Component);
        Self::from_document(&document)
    }

    fn from_document(document: &Document) -> Result<Self, ConfigError> {
        let raw: Raw = document.values()?;
        let broken = |key: &str, value: &str| {
            let rule = Rule::NotAllowed {
                value: value.to_owned(),
            };
            document.invalid(vec![document.problem(0..0, Some(key), rule)])
        };
        let Raw {
            component,
            resources,
            integrity,
            instance,
            upgrade,
            capabilities,
        } = raw;
        let capabilities = capabilities
            .checked(document)
            .map_err(|problems| document.invalid(problems))?;
        let name = component
            .name
            .parse()
            .map_err(|_| broken("component.name", &component.name))?;
        let version = semver::Version::parse(&component.version)
            .map_err(|_| broken("component.version", &component.version))?;
        let digest = component.digest.map(|digest| {
            let parsed = digest.get_ref().parse();
            parsed.map_err(|_| {
                let (key, value) = (Some("component.digest"), digest.get_ref().clone());
                let rule = Rule::NotAllowed { value };
                document.invalid(vec![document.problem(digest.span(), key, rule)])
            })
        });
        let max_bytes = resources.memory.max_bytes;
        let memory = MemoryConfig::within(max_bytes, document.memory_ceiling())
            .map_err(|_| broken("resources.memory.max_bytes", &max_bytes.to_string()))?;
        let memory = match resources.memory.warn_percent {
            Some(percent) => memory
                .warn_at(percent)
                .map_err(|_| broken("resources.memory.warn_percent", &percent.to_string()))?,
            None => memory,
        };
        let memory = memory.at_limit(resources.memory.on_limit.unwrap_or_default().into());
        let seconds = |given: Option<u64>, key: &str| {
            let given = given.or_else(|| default_of(key));
            given
                .map(Duration::from_secs)
                .ok_or_else(|| broken(key, ""))
        };
        let RawCpu {
            timeout_seconds,
            max_fuel,
            load_timeout_seconds,
            start_timeout_seconds,
            host_wait_seconds,
        } = resources.cpu;
        let cpu = CpuConfig {
            timeout: seconds(timeout_seconds, "resources.cpu.timeout_seconds")?,
            max_fuel,
            load_timeout: seconds(load_timeout_seconds, "resources.cpu.load_timeout_seconds")?,
            start_timeout: seconds(start_timeout_seconds, "resources.cpu.start_timeout_seconds")?,
            host_wait: host_wait_seconds.map(Duration::from_secs),
        };
        let upgrade = UpgradeConfig {
            probation: seconds(upgrade.probation_seconds, "upgrade.probation_seconds")?,
        };
        let stack = match resources.stack.max_bytes {
            None => StackConfig::default(),
            Some(bytes) => StackConfig::new(bytes)
                .map_err(|_| broken("resources.stack.max_bytes", &bytes.to_string()))?,
        };
        let message_bytes = |set: Option<usize>, key: &str| {
            let default = || usize::try_from(default_of(key)?).ok();
            set.or_else(default).ok_or_else(|| broken(key, ""))
        };
        let RawMessage {
            max_argument_bytes,
            max_result_bytes,
            max_waiting_bytes,
        } = resources.message;
        let message = MessageConfig::new(
            message_bytes(max_argument_bytes, "resources.message.max_argument_bytes")?,
            message_bytes(max_result_bytes, "resources.message.max_result_bytes")?,
        )
        .and_then(|config| max_waiting_bytes.map_or(Ok(config), |bytes| config.waiting(bytes)))
        .map_err(|error| broken("resources.message", &error.to_string()))?;
        let replicas = match instance.replicas {
            None => ReplicaCount::default(),
            Some(replicas) => ReplicaCount::new(replicas)
                .map_err(|_| broken("instance.replicas", &replicas.to_string()))?,
        };
        let mode = instance.try_into().map_err(|ParkedPerCall(at)| {
            let key = Some("instance.park_after_seconds");
            let other = "mode = \"per-call\"";
            document.invalid(vec![document.problem(at, key, Rule::NotWith { other })])
        })?;
        let instance = InstanceConfig { mode, replicas };
        Ok(Self {
            name,
            version,
            wasm: document.resolve(&component.wasm),
            digest: digest.transpose()?,
            signature: component.signature.map(|path| document.resolve(&path)),
            resources: ResourcesConfig {
                memory,
                cpu,
                stack,
                message,
                counts: resources.counts.checked(broken)?,
            },
            integrity: integrity.into(),
            instance,
            upgrade,
            capabilities,
        })
    }
}

/// The default an ADR gives an integer key.
fn default_of(key: &str) -> Option<u64> {
    keys()
        .get(ConfigFile::Component, key)?
        .default
        .as_deref()?
        .parse()
        .ok()
}

#[derive(Deserialize)]
struct Raw {
    component: RawComponent,
    resources: RawResources,
    #[serde(default)]
    integrity: RawIntegrity,
    #[serde(default)]
    instance: RawInstance,
    #[serde(default)]
    upgrade: RawUpgrade,
    #[serde(default)]
    capabilities: RawCapabilities,
}

#[derive(Deserialize, Default)]
struct RawUpgrade {
    probation_seconds: Option<u64>,
}

#[derive(Deserialize, Default)]
struct RawInstance {
    mode: Option<RawMode>,
    park_after_seconds: Option<Spanned<u64>>,
    replicas: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum RawMode {
    #[default]
    Persistent,
    PerCall,
}

/// A time until parking where no instance outlives its call, and where it stands.
struct ParkedPerCall(Range<usize>);

impl TryFrom<RawInstance> for InstanceMode {
    type Error = ParkedPerCall;

    fn try_from(raw: RawInstance) -> Result<Self, ParkedPerCall> {
        Ok(
            match (raw.mode.unwrap_or_default(), raw.park_after_seconds) {
                (RawMode::Persistent, seconds) => Self::Persistent {
                    park_after: seconds.map(|seconds| Duration::from_secs(seconds.into_inner())),
                },
                (RawMode::PerCall, None) => Self::PerCall,
                (RawMode::PerCall, Some(seconds)) => return Err(ParkedPerCall(seconds.span())),
            },
        )
    }
}

#[derive(Deserialize, Default)]
struct RawIntegrity {
    level: Option<RawLevel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawLevel {
    Off,
    Sampling,
    Standard,
    Full,
    Redundant,
}

impl From<RawIntegrity> for IntegrityConfig {
    fn from(raw: RawIntegrity) -> Self {
        let level = match raw.level {
            None => VerificationLevel::default(),
            Some(RawLevel::Off) => VerificationLevel::Off,
            Some(RawLevel::Sampling) => VerificationLevel::Sampling(SampleRate::ONE_IN_64),
            Some(RawLevel::Standard) => VerificationLevel::Standard,
            Some(RawLevel::Full) => VerificationLevel::Full,
            Some(RawLevel::Redundant) => VerificationLevel::Redundant,
        };
        Self { level }
    }
}

#[derive(Deserialize)]
struct RawComponent {
    name: String,
    version: String,
    wasm: String,
    digest: Option<Spanned<String>>,
    signature: Option<String>,
}

#[derive(Deserialize)]
struct RawResources {
    memory: RawMemory,
    #[serde(default)]
    cpu: RawCpu,
    #[serde(default)]
    stack: RawStack,
    #[serde(default)]
    message: RawMessage,
    #[serde(default)]
    counts: RawCounts,
}

#[derive(Deserialize, Default)]
struct RawStack {
    max_bytes: Option<usize>,
}

#[derive(Deserialize, Default)]
struct RawMessage {
    max_argument_bytes: Option<usize>,
    max_result_bytes: Option<usize>,
    max_waiting_bytes: Option<u32>,
}

#[derive(Deserialize, Default)]
struct RawCounts {
    max_memories: Option<usize>,
    max_tables: Option<usize>,
    max_instances: Option<usize>,
    max_table_elements: Option<usize>,
    max_handles: Option<usize>,
}

impl RawCounts {
    fn checked<E>(self, broken: impl Fn(&str, &str) -> E) -> Result<CountsConfig, E> {
        let given = [
            (Counted::Memories, self.max_memories),
            (Counted::Tables, self.max_tables),
            (Counted::Instances, self.max_instances),
            (Counted::TableElements, self.max_table_elements),
            (Counted::Handles, self.max_handles),
        ];
        let mut counts = CountsConfig::default();
        for (what, most) in given {
            let Some(most) = most else { continue };
            counts = counts
                .with(what, most)
                .map_err(|_| broken(CountsConfig::key(what), &most.to_string()))?;
        }
        Ok(counts)
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum RawOnLimit {
    #[default]
    Deny,
    Trap,
}

impl From<RawOnLimit> for OnLimit {
    fn from(raw: RawOnLimit) -> Self {
        match raw {
            RawOnLimit::Deny => Self::Deny,
            RawOnLimit::Trap => Self::Trap,
        }
    }
}

#[derive(Deserialize)]
struct RawMemory {
    max_bytes: usize,
    on_limit: Option<RawOnLimit>,
    warn_percent: Option<u8>,
}

#[derive(Deserialize, Default)]
struct RawCpu {
    timeout_seconds: Option<u64>,
    max_fuel: Option<u64>,
    load_timeout_seconds: Option<u64>,
    start_timeout_seconds: Option<u64>,
    host_wait_seconds: Option<u64>,
}
