//! WebAssembly components under mandatory limits, each in a supervised actor that alone owns its
//! Store and its limiter.
//!
//! [`ComponentConfig`] describes a component, [`ComponentSpec`] makes it a child of a supervisor,
//! and a [`ComponentRef`] calls it, whichever instance serves it at the time. [`Runtime`] is what
//! all components of one host share.

mod abi;
mod actor;
mod compiled;
mod component;
pub mod config;
mod ending;
mod engine;
mod error;
mod exports;
#[cfg(feature = "fault-injection")]
mod fault;
mod instance;
mod limits;
mod message;
mod payload;
mod results;
mod runtime;
mod state;

pub use abi::AbiViolation;
pub use actor::ComponentSpec;
pub use compiled::{LoadError, MAX_WASM_BYTES};
pub use component::{ComponentRef, DEFAULT_QUEUE_WAIT, MAILBOX_CAPACITY};
pub use config::{
    ComponentConfig, ComponentName, ConfigError, CpuConfig, IntegrityConfig, ResourcesConfig,
};
pub use engine::{EngineError, TICK};
pub use error::WasmError;
pub use exports::{Exports, Function, FunctionError};
#[cfg(feature = "fault-injection")]
pub use fault::Hit;
pub use instance::START_TIMEOUT;
pub use limits::{
    ComponentResourceLimiter, MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_MEMORY_BYTES,
    MAX_MESSAGE_BYTES, MAX_TABLES, MIN_MEMORY_BYTES, MIN_MESSAGE_BYTES, MemoryConfig,
    MemoryMetrics, MessageConfig, ResourceLimitError, ResourceLimits, ResourceLimitsBuilder,
    TABLE_ELEMENT_BYTES,
};
pub use message::{MESSAGE_SLOTS, Message, UNCOUNTED_BYTES};
pub use payload::{DecodeError, MAX_VALUES_BYTES, ValueError};
pub use results::Results;
pub use runtime::{DEFAULT_MAX_COMPONENTS, NameTaken, Runtime};
pub use state::{ComponentState, HANDLE_BYTES};
// What `[integrity]` sets, and what a message is found to be.
pub use airssys_integrity::{Corrupt, VerificationLevel};
