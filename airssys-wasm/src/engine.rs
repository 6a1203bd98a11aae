//! The wasmtime engines, their pool of instances, and the clock that ends calls (ADR-WASM-002).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use airssys_osl::{MapCountError, max_map_count};
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLES};
use crate::state::ComponentState;

/// Time between two ticks of the epoch. A guest yields to the runtime, and is looked at for its
/// deadline, once a tick.
pub const TICK: Duration = Duration::from_millis(1);

/// Memory an instance leaves resident in the pool for its successor, in bytes.
const KEEP_RESIDENT_BYTES: usize = 256 * 1024;

/// Largest memory the pool has a place for, in bytes: all that 32 bits address, for which room is
/// reserved anyway. What an instance may hold is the limiter's to say, and only the limiter can say
/// by how much a component that starts too large is over its limit.
const POOLED_MEMORY_BYTES: usize = 1 << 32;

/// Share of `vm.max_map_count` the pool may use up.
const MAP_SHARE: f64 = 0.8;

/// Why an engine could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The pool would not fit the kernel's bound on mappings, which ends in an aborted process.
    #[error(
        "pools of {components} components need up to {needed} memory mappings, and {allowed} are at hand: \
         lower system.max_components or raise vm.max_map_count"
    )]
    TooManyMappings {
        /// Instances the pool was to hold.
        components: u32,
        /// Mappings it may need.
        needed: u64,
        /// Mappings it may use.
        allowed: u64,
    },
    /// The kernel's bound is not known.
    #[error(transparent)]
    MapCount(#[from] MapCountError),
    /// wasmtime refused the configuration, or the address space does not hold the pool.
    #[error("cannot make the engine: {0}")]
    Engine(Box<dyn std::error::Error + Send + Sync>),
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

/// A wasmtime engine with its linker and its ticker. The ticker ends with it.
pub(crate) struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) linker: Linker<ComponentState>,
    _ticker: Ticker,
}

impl Engine {
    /// An engine whose pool holds `components` instances, beside `others` engines of that size.
    pub(crate) fn new(
        components: u32,
        metering: Metering,
        others: u64,
    ) -> Result<Self, EngineError> {
        let refused = |error: wasmtime::Error| EngineError::Engine(error.into());
        let config = config(components, metering, others)?;
        let wasmtime = wasmtime::Engine::new(&config).map_err(refused)?;
        let mut linker = Linker::new(&wasmtime);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(refused)?;
        let ticker = Ticker::start(wasmtime.clone()).map_err(EngineError::Ticker)?;
        Ok(Self {
            wasmtime,
            linker,
            _ticker: ticker,
        })
    }
}

fn config(components: u32, metering: Metering, others: u64) -> Result<Config, EngineError> {
    // Most components have one linear memory; interpreters have up to three.
    let memories = components.saturating_add(components / 4).saturating_add(8);
    // A pooled instance that has run takes up to two mappings for its stack and two a memory.
    let needed = (others + 1) * 2 * (u64::from(components) + u64::from(memories));
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
                components,
                needed,
                allowed,
            });
        }
    }
    let per_component = |most: usize| u32::try_from(most).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(components)
        .total_stacks(components)
        .total_memories(memories)
        .total_tables(components.saturating_mul(4).saturating_add(16))
        .total_core_instances(components.saturating_mul(per_component(MAX_CORE_INSTANCES)))
        .max_core_instances_per_component(per_component(MAX_CORE_INSTANCES))
        .max_memories_per_component(per_component(MAX_MEMORIES))
        .max_memories_per_module(per_component(MAX_MEMORIES))
        .max_tables_per_component(per_component(MAX_TABLES))
        .max_tables_per_module(per_component(MAX_TABLES))
        .max_memory_size(POOLED_MEMORY_BYTES)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .decommit_batch_size(1)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .consume_fuel(metering == Metering::TimeAndFuel)
        // Only WASI 0.3 needs it, and it triples the price of a call.
        .concurrency_support(false)
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    Ok(config)
}

/// An OS thread that advances the epoch. A tokio task would stand still exactly when guests keep
/// every worker busy.
struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: wasmtime::Engine) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new()
            .name(String::from("airssys-epoch"))
            .spawn({
                let stop = Arc::clone(&stop);
                move || {
                    while !stop.load(Ordering::Acquire) {
                        thread::park_timeout(TICK);
                        engine.increment_epoch();
                    }
                }
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread runs nothing that could panic.
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_could_exceed_the_kernels_mappings_is_refused() {
        let refused = Engine::new(1_000_000, Metering::Time, 0);
        let Err(EngineError::TooManyMappings {
            needed, allowed, ..
        }) = refused
        else {
            return assert!(max_map_count().is_ok_and(|bound| bound.is_none()));
        };
        assert!(needed > allowed);
    }
}
