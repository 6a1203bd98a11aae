//! Configuration whose rules come from the ADRs (ADR-SYS-001).

mod capabilities;
mod component;
mod document;
mod keys;
mod name;
mod problem;

pub use capabilities::{
    CapabilitiesConfig, MessagingConfig, OutputTo, StdioConfig, Texts, listen_address,
};
pub use component::{
    ComponentConfig, CpuConfig, InstanceConfig, InstanceMode, IntegrityConfig, MAX_REPLICAS,
    ReplicaCount, ReplicaCountError, ResourcesConfig, UpgradeConfig,
};
pub use document::{CONFIG_FILE_LIMIT, Document, Tables, parse_shutdown};
pub use keys::{ConfigFile, Key, KeyType, Keys, decision_title, keys};
pub use name::{ComponentName, NameError};
pub use problem::{ConfigError, MAX_PROBLEMS, Problem, Rule};
