#![doc = include_str!("../README.md")]

mod host;
mod system;

pub use airssys_rt::{
    Change, ChildCounts, ChildId, ChildKind, ChildState, ChildStatus, DeadlinePhase, EventStream,
    ExitCause, ExitKind, Frame, Intensity, LifecycleEvent, OutOfMemory, Received, Refusal, Restart,
    Shutdown, Strategy, SupervisorError, Trap,
};
pub use airssys_wasm::{
    ComponentConfig, ComponentName, ComponentRef, ComponentSpec, ComponentState, ConfigError,
    EngineError, Exports, Function, FunctionError, MAX_MEMORY_BYTES, MIN_MEMORY_BYTES,
    MemoryConfig, MemoryMetrics, ResourceLimitError, ResourceLimits, Runtime, ValueError,
    WasmError, config,
};
pub use host::{Host, HostBuilder, HostError};
pub use system::{ChildConfig, ComponentNode, ConfigErrors, SupervisorConfig, SystemConfig};
pub use wasmtime::component::Val;

/// A child's spec in a tree of components.
pub type ChildSpec = airssys_rt::ChildSpec<Runtime>;
/// A supervisor's spec in a tree of components.
pub type SupervisorSpec = airssys_rt::SupervisorSpec<Runtime>;
/// A supervisor of a tree of components, whichever incarnation of it runs.
pub type SupervisorRef = airssys_rt::SupervisorRef<Runtime>;
/// What a supervisor of a tree of components is told by plain ractor message.
pub type SupervisorMessage = airssys_rt::SupervisorMessage<Runtime>;
