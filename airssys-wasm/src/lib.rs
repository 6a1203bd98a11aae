//! WebAssembly components under mandatory limits, each in a supervised actor that alone owns its
//! Store and its limiter.
//!
//! [`ComponentConfig`] describes a component, [`ComponentSpec`] makes it a child of a supervisor,
//! and a [`ComponentRef`] calls it, whichever instance serves it at the time. [`Runtime`] is what
//! all components of one host share.

mod abi;
mod actor;
mod capacity;
mod code_cache;
mod compiled;
mod component;
mod component_cell;
pub mod config;
mod coredumps;
mod ending;
mod engine;
mod error;
mod exports;
#[cfg(feature = "fault-injection")]
mod fault;
mod handles;
mod host_functions;
mod host_wait;
mod instance;
#[cfg(feature = "json")]
pub mod json;
mod library;
mod limits;
mod message;
mod metrics;
mod parking;
mod payload;
mod provenance;
mod release;
mod replica_set;
mod replicas;
mod results;
mod runtime;
mod services;
mod state;
mod ticker;
mod turn;
mod upgrade;
mod waiting_room;
mod watch;

pub use abi::AbiViolation;
pub use actor::ComponentSpec;
pub use capacity::CapacityError;
pub use code_cache::{CacheConfig, CacheError, DEFAULT_CACHE_BYTES, EntryFault};
pub use compiled::{LoadError, MAX_WASM_BYTES};
pub use component::{ComponentRef, DEFAULT_QUEUE_WAIT, MAILBOX_CAPACITY};
pub use config::{
    CapabilitiesConfig, ComponentConfig, ComponentName, ConfigError, CpuConfig, InstanceConfig,
    InstanceMode, IntegrityConfig, MAX_REPLICAS, ReplicaCount, ReplicaCountError, ResourcesConfig,
    UpgradeConfig,
};
pub use coredumps::{
    COREDUMPS_WAITING, CoredumpConfig, CoredumpCounts, DEFAULT_COREDUMP_BYTES,
    DEFAULT_COREDUMP_FILES,
};
pub use engine::EngineError;
pub use error::WasmError;
pub use exports::{Exports, Function, FunctionError, Homeless};
#[cfg(feature = "fault-injection")]
pub use fault::Hit;
pub use handles::{HandleError, ResourceHandle};
pub use host_functions::{Caller, HostFunctionError, HostFunctions};
pub use library::{COMPILES_AT_ONCE, LoadChange, LoadEvent};
pub use limits::{
    ComponentResourceLimiter, CountsConfig, DEFAULT_WARN_PERCENT, MAX_CORE_INSTANCES, MAX_HANDLES,
    MAX_MEMORIES, MAX_MEMORY_BYTES, MAX_MEMORY_CEILING_BYTES, MAX_MESSAGE_BYTES, MAX_STACK_BYTES,
    MAX_TABLE_ELEMENTS, MAX_TABLES, MAX_WAITING_BYTES, MIN_MEMORY_BYTES, MIN_MESSAGE_BYTES,
    MIN_STACK_BYTES, MIN_WAITING_BYTES, MemoryCeiling, MemoryConfig, MemoryMetrics, MessageConfig,
    OnLimit, ResourceLimitError, ResourceLimits, ResourceLimitsBuilder, StackConfig,
    TABLE_ELEMENT_BYTES,
};
pub use message::{MESSAGE_SLOTS, Message, UNCOUNTED_BYTES};
pub use metrics::{ComponentMetrics, Counts, Figures, LastExit, Latency};
pub use payload::{DecodeError, MAX_VALUES_BYTES, ValueError};
pub use provenance::{NotGenuine, ProvenanceError, PublicKey, WasmDigest};
pub use results::Results;
pub use runtime::{DEFAULT_MAX_COMPONENTS, LOAD_LIMIT, NameTaken, Runtime, RuntimeConfig};
pub use services::{
    AccessDenied, GrantError, MAX_LINE_BYTES, OUTPUT_BYTES_PER_SECOND, OutputLine,
    OutputStreamName, Resolver,
};
pub use state::{ComponentState, HANDLE_BYTES};
pub use ticker::{IDLE_TICKS, TICK};
pub use upgrade::{Handover, UpgradeError, Upgraded};
pub use watch::{
    CallEvent, CallEvents, CallOptions, CallWatch, LogLevel, MAX_PROGRESS_BYTES, WATCH_BUFFER,
};
// What `[integrity]` sets, and what a message is found to be.
pub use airssys_integrity::{Corrupt, VerificationLevel};
// What `[capabilities]` and `[policy]` say.
pub use airssys_osl::grants;
