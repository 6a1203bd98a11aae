//! Supervision in the manner of Erlang/OTP for WebAssembly components, to embed in agent hosts.
//!
//! [`Host`] runs a tree of components from configuration files or from code; [`ComponentRef`] calls
//! one of them, whichever instance serves it at the time; [`SupervisorRef`] starts and stops
//! children while the tree runs.
//!
//! ```
//! use airssys::{Host, Val};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/guests/components/calculator/Component.toml");
//! let host = Host::from_config(file).await?;
//! let calculator = host.component("calculator")?;
//! let sum = calculator.call("docs:adder/add@0.1.0#add", &[Val::U32(2), Val::U32(3)]).await?;
//! assert_eq!(sum, [Val::U32(5)]);
//! host.shutdown().await;
//! # Ok(())
//! # }
//! ```

#[cfg(doctest)]
mod guide;
mod host;
#[cfg(feature = "mcp")]
pub mod mcp;
mod snapshot;
mod system;

pub use airssys_osl::{
    AuditConfig, AuditError, AuditFailure, AuditFault, AuditFinding, AuditHealth, AuditState,
    AuditTag, OnFull,
};
pub use airssys_rt::{
    AutoShutdown, Backoff, CaughtPanic, CausePolicy, CauseRestart, Change, ChildCounts, ChildId,
    ChildKind, ChildState, ChildStatus, Counted, DeadLetter, DeadlinePhase, EventStream, ExitCause,
    ExitKind, Frame, Intensity, LifecycleEvent, OutOfMemory, PanicBoundary, PanicCounts, Probe,
    Quarantine, Received, Refusal, Restart, Shutdown, SpecError, StartedChild, Strategy,
    SupervisorError, SupervisorStatus, TaskCounts, TaskInfo, TaskRegistry, TooMany, Trap,
};
#[cfg(feature = "json")]
pub use airssys_wasm::json;
pub use airssys_wasm::{
    AbiViolation, AccessDenied, CacheConfig, CacheError, CallEvent, CallEvents, CallOptions,
    CallWatch, Caller, CapabilitiesConfig, CapacityError, ComponentConfig, ComponentMetrics,
    ComponentName, ComponentRef, ComponentResourceLimiter, ComponentSpec, ComponentState,
    ConfigError, CoredumpConfig, CoredumpCounts, Counts, CountsConfig, CpuConfig, EngineError,
    Exports, Figures, Function, FunctionError, GrantError, HandleError, Handover, Homeless,
    HostFunctionError, HostFunctions, InstanceConfig, InstanceMode, IntegrityConfig, LastExit,
    Latency, LoadChange, LoadEvent, LogLevel, MAX_MEMORY_BYTES, MAX_REPLICAS, MIN_MEMORY_BYTES,
    MemoryCeiling, MemoryConfig, MemoryMetrics, Message, MessageConfig, NotGenuine, OnLimit,
    OutputLine, OutputStreamName, ProvenanceError, PublicKey, ReplicaCount, ReplicaCountError,
    Resolver, ResourceHandle, ResourceLimitError, ResourceLimits, ResourcesConfig, Results,
    Runtime, RuntimeConfig, StackConfig, UpgradeConfig, UpgradeError, Upgraded, ValueError,
    VerificationLevel, WasmDigest, WasmError, config, grants,
};
pub use host::{Host, HostBuilder, HostError};
pub use snapshot::{
    ComponentNodeStatus, HostStatus, SNAPSHOT_PATIENCE, SNAPSHOT_SCHEMA, Snapshot, Supervision,
    SupervisorNode,
};
pub use system::{
    ChildConfig, ComponentNode, ConfigErrors, SecretConfig, SecretFrom, SupervisorConfig,
    SystemConfig,
};
pub use wasmtime::component::Val;
// An embedder must use the very versions this crate is built with.
pub use {ractor, wasmtime};

/// A child's spec in a tree of components.
pub type ChildSpec = airssys_rt::ChildSpec<Runtime>;
/// A supervisor's spec in a tree of components.
pub type SupervisorSpec = airssys_rt::SupervisorSpec<Runtime>;
/// A supervisor of a tree of components, whichever incarnation of it runs.
pub type SupervisorRef = airssys_rt::SupervisorRef<Runtime>;
/// What a supervisor of a tree of components is told by plain ractor message.
pub type SupervisorMessage = airssys_rt::SupervisorMessage<Runtime>;
