//! Component.toml.

use std::path::{Path, PathBuf};
use std::time::Duration;

use airssys_integrity::{SampleRate, VerificationLevel};
use serde::Deserialize;

use super::document::Document;
use super::keys::{ConfigFile, keys};
use super::name::ComponentName;
use super::problem::ConfigError;
use crate::limits::{MemoryConfig, MessageConfig, ResourceLimits};

/// A component as its Component.toml describes it. It always has limits.
#[derive(Debug, Clone)]
pub struct ComponentConfig {
    /// Its name.
    pub name: ComponentName,
    /// Its version.
    pub version: semver::Version,
    /// The component-model binary.
    pub wasm: PathBuf,
    /// What it may use.
    pub resources: ResourcesConfig,
    /// How its messages are checked.
    pub integrity: IntegrityConfig,
}

/// `[resources]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourcesConfig {
    /// `[resources.memory]`, which has no default.
    pub memory: MemoryConfig,
    /// `[resources.cpu]`.
    pub cpu: CpuConfig,
    /// `[resources.message]`.
    pub message: MessageConfig,
}

/// `[resources.cpu]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuConfig {
    /// Time one call may take inside the guest, host waits included.
    pub timeout: Duration,
    /// Fuel one call may use.
    pub max_fuel: Option<u64>,
}

/// `[integrity]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IntegrityConfig {
    /// How arguments and results are written and read; `sampling` checks one block in 64.
    pub level: VerificationLevel,
}

impl From<ResourcesConfig> for ResourceLimits {
    fn from(resources: ResourcesConfig) -> Self {
        Self::new(
            resources.memory,
            resources.cpu.timeout,
            resources.cpu.max_fuel,
        )
        .with_messages(resources.message)
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
            let rule = super::problem::Rule::NotAllowed {
                value: value.to_owned(),
            };
            document.invalid(vec![document.problem(0..0, Some(key), rule)])
        };
        let Raw {
            component,
            resources,
            integrity,
        } = raw;
        let name = component
            .name
            .parse()
            .map_err(|_| broken("component.name", &component.name))?;
        let version = semver::Version::parse(&component.version)
            .map_err(|_| broken("component.version", &component.version))?;
        let max_bytes = resources.memory.max_bytes;
        let memory = MemoryConfig::new(max_bytes)
            .map_err(|_| broken("resources.memory.max_bytes", &max_bytes.to_string()))?;
        let timeout_seconds = resources
            .cpu
            .timeout_seconds
            .or_else(|| default_of("resources.cpu.timeout_seconds"))
            .ok_or_else(|| broken("resources.cpu.timeout_seconds", ""))?;
        let message_bytes = |set: Option<usize>, key: &str| {
            let default = || usize::try_from(default_of(key)?).ok();
            set.or_else(default).ok_or_else(|| broken(key, ""))
        };
        let RawMessage {
            max_argument_bytes,
            max_result_bytes,
        } = resources.message;
        let message = MessageConfig::new(
            message_bytes(max_argument_bytes, "resources.message.max_argument_bytes")?,
            message_bytes(max_result_bytes, "resources.message.max_result_bytes")?,
        )
        .map_err(|error| broken("resources.message", &error.to_string()))?;
        Ok(Self {
            name,
            version,
            wasm: document.resolve(&component.wasm),
            resources: ResourcesConfig {
                memory,
                cpu: CpuConfig {
                    timeout: Duration::from_secs(timeout_seconds),
                    max_fuel: resources.cpu.max_fuel,
                },
                message,
            },
            integrity: integrity.into(),
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
}

#[derive(Deserialize)]
struct RawResources {
    memory: RawMemory,
    #[serde(default)]
    cpu: RawCpu,
    #[serde(default)]
    message: RawMessage,
}

#[derive(Deserialize, Default)]
struct RawMessage {
    max_argument_bytes: Option<usize>,
    max_result_bytes: Option<usize>,
}

#[derive(Deserialize)]
struct RawMemory {
    max_bytes: usize,
}

#[derive(Deserialize, Default)]
struct RawCpu {
    timeout_seconds: Option<u64>,
    max_fuel: Option<u64>,
}
