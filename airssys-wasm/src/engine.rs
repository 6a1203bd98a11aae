//! The wasmtime engines and their pools of instances (ADR-WASM-002).

use std::sync::Arc;

use airssys_osl::{MapCountError, ProbeError, max_map_count};
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::code_cache::{Fingerprint, fingerprint};
use crate::host_functions::HostFunctionError;
use crate::limits::{
    MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES, ResourceLimits,
};
use crate::state::ComponentState;
use crate::ticker::Pulse;

/// Memory an instance leaves resident in the pool for its successor, in bytes.
const KEEP_RESIDENT_BYTES: usize = 256 * 1024;

/// Largest memory the pool has a place for, in bytes: all that 32 bits address, for which room is
/// reserved anyway. What an instance may hold is the limiter's to say, and only the limiter can say
/// by how much a component that starts too large is over its limit.
const POOLED_MEMORY_BYTES: usize = 1 << 32;

/// Memories, and tables, that a core module may have by the rules of WebAssembly as wasmtime
/// validates it. The pool refuses none of them: it would do so while the component is loaded, in
/// words of its own, and what an instance may have is the limiter's to say.
const MOST_IN_A_MODULE: u32 = 100;

/// Share of `vm.max_map_count` the pool may use up.
const MAP_SHARE: f64 = 0.8;

/// Why an engine could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The pool would not fit the kernel's bound on mappings, which ends in an aborted process.
    #[error(
        "{pools} pools of {components} components need up to {needed} memory mappings, and {allowed} are at hand: \
         lower system.max_components or raise vm.max_map_count"
    )]
    TooManyMappings {
        /// Pools there would be: one for each kind of metering and each stack size in use.
        pools: usize,
        /// Instances each was to hold.
        components: u32,
        /// Mappings they may need.
        needed: u64,
        /// Mappings they may use.
        allowed: u64,
    },
    /// The kernel's bound is not known.
    #[error(transparent)]
    MapCount(#[from] MapCountError),
    /// wasmtime refused the configuration, or the address space does not hold the pool.
    #[error("cannot make the engine: {0}")]
    Engine(Box<dyn std::error::Error + Send + Sync>),
    /// A function of the embedder's own cannot be offered.
    #[error(transparent)]
    HostFunction(#[from] HostFunctionError),
    /// Nobody knows how much memory the host has.
    #[error("cannot tell how much memory is left: {0}")]
    Memory(#[from] ProbeError),
    /// The operating system gave no thread for the ticker.
    #[error("cannot start the epoch ticker: {0}")]
    Ticker(std::io::Error),
}

/// What a call is metered by besides time. Each is an engine of its own, since code is compiled
/// for one or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Metering {
    Time,
    TimeAndFuel,
}

/// What an engine compiles for and runs by; components that differ in it have engines of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EngineKind {
    pub(crate) metering: Metering,
    /// Most bytes of stack a guest may use.
    pub(crate) stack_bytes: usize,
}

impl EngineKind {
    /// The kind of engine that can hold a component to its limits.
    pub(crate) fn of(limits: &ResourceLimits) -> Self {
        Self {
            metering: match limits.max_fuel() {
                Some(_) => Metering::TimeAndFuel,
                None => Metering::Time,
            },
            stack_bytes: limits.max_stack_bytes(),
        }
    }
}

/// A wasmtime engine with its linker.
pub(crate) struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) linker: Linker<ComponentState>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) pulse: Arc<Pulse>,
}

impl Engine {
    /// An engine whose pool holds `components` instances, beside `others` engines of that size.
    /// With `coredumps`, each trap collects what goes into one.
    pub(crate) fn new(
        components: u32,
        kind: EngineKind,
        others: usize,
        coredumps: bool,
        pulse: &Arc<Pulse>,
    ) -> Result<Self, EngineError> {
        let refused = |error: wasmtime::Error| EngineError::Engine(error.into());
        let mut config = config(components, kind, others)?;
        config.coredump_on_trap(coredumps);
        let wasmtime = wasmtime::Engine::new(&config).map_err(refused)?;
        let mut linker = Linker::new(&wasmtime);
        crate::services::add_to_linker(&mut linker).map_err(refused)?;
        pulse.drive(&wasmtime);
        Ok(Self {
            fingerprint: fingerprint(&wasmtime),
            wasmtime,
            linker,
            pulse: Arc::clone(pulse),
        })
    }
}

fn config(components: u32, kind: EngineKind, others: usize) -> Result<Config, EngineError> {
    let per_component = |most: usize| u32::try_from(most).unwrap_or(u32::MAX);
    // Most components have one linear memory; interpreters have up to three.
    let memories = components
        .saturating_add(components / 4)
        .saturating_add(per_component(MAX_MEMORIES));
    // A pooled instance that has run takes up to two mappings for its stack and two a memory.
    let needed = (others as u64 + 1) * 2 * (u64::from(components) + u64::from(memories));
    if let Some(bound) = max_map_count()? {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a bound of this size needs no exact fraction"
        )]
        let allowed = (bound as f64 * MAP_SHARE) as u64;
        if needed > allowed {
            return Err(EngineError::TooManyMappings {
                pools: others + 1,
                components,
                needed,
                allowed,
            });
        }
    }
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(components)
        .total_stacks(components)
        .total_memories(memories)
        .total_tables(
            components
                .saturating_mul(4)
                .saturating_add(MOST_IN_A_MODULE.max(per_component(MAX_TABLES))),
        )
        .total_core_instances(components.saturating_mul(per_component(MAX_CORE_INSTANCES)))
        .max_core_instances_per_component(u32::MAX)
        .max_memories_per_component(u32::MAX)
        .max_memories_per_module(MOST_IN_A_MODULE)
        .max_tables_per_component(u32::MAX)
        .max_tables_per_module(MOST_IN_A_MODULE)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_memory_size(POOLED_MEMORY_BYTES)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .decommit_batch_size(1)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .consume_fuel(kind.metering == Metering::TimeAndFuel)
        .max_wasm_stack(kind.stack_bytes)
        // Memory is counted in pages before there is an instance: all are of one size.
        .wasm_custom_page_sizes(false)
        // Only WASI 0.3 needs it, and it triples the price of a call.
        .concurrency_support(false)
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_could_exceed_the_kernels_mappings_is_refused() {
        let kind = EngineKind {
            metering: Metering::Time,
            stack_bytes: ResourceLimits::DEFAULT_STACK_BYTES,
        };
        let refused = config(1_000_000, kind, 0);
        let Err(EngineError::TooManyMappings {
            needed, allowed, ..
        }) = refused
        else {
            return assert!(max_map_count().is_ok_and(|bound| bound.is_none()));
        };
        assert!(needed > allowed);
    }
}
