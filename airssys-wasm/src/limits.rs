//! What an instance may hold, and the limiter that holds it to that.

mod meter;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use airssys_rt::OutOfMemory;
use wasmtime::ResourceLimiter;

use crate::capacity::CapacityError;
use crate::metrics::Tally;
pub use meter::MemoryMetrics;
pub(crate) use meter::{Charge, MemoryMeter};

/// Least memory a component may be given, in bytes (ADR-WASM-002).
pub const MIN_MEMORY_BYTES: usize = 524_288;

/// Most memory a component may be given, in bytes (ADR-WASM-002).
pub const MAX_MEMORY_BYTES: usize = 4_194_304;

/// Share of its memory limit at which an instance is told of, in percent (ADR-WASM-012).
pub const DEFAULT_WARN_PERCENT: u8 = 90;

/// Least stack a component may be given, in bytes (ADR-WASM-010).
pub const MIN_STACK_BYTES: usize = 65_536;

/// Most stack a component may be given, in bytes (ADR-WASM-010).
pub const MAX_STACK_BYTES: usize = 1_048_576;

/// Most bytes the arguments of a call, or its results, may be allowed to take (ADR-WASM-007).
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Least bytes that arguments, or results, may be bounded to (ADR-WASM-007).
pub const MIN_MESSAGE_BYTES: usize = 1024;

/// What one table element is counted as, in bytes.
pub const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Core instances one component may consist of.
pub const MAX_CORE_INSTANCES: usize = 64;

/// Linear memories one component may have.
pub const MAX_MEMORIES: usize = 8;

/// Tables one component may have.
pub const MAX_TABLES: usize = 16;

/// Why limits were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceLimitError {
    /// Less than [`MIN_MEMORY_BYTES`].
    #[error(
        "memory limit {requested} is below the least of {MIN_MEMORY_BYTES} bytes (ADR-WASM-002)"
    )]
    MemoryTooLow {
        /// Bytes asked for.
        requested: usize,
    },
    /// More than [`MAX_MEMORY_BYTES`].
    #[error(
        "memory limit {requested} is above the most of {MAX_MEMORY_BYTES} bytes (ADR-WASM-002)"
    )]
    MemoryTooHigh {
        /// Bytes asked for.
        requested: usize,
    },
    /// A share that no instance comes to, or that every one starts with.
    #[error("a share of {requested} % of the memory limit is not within 1..=100 (ADR-WASM-012)")]
    WarnPercent {
        /// Percent asked for.
        requested: u8,
    },
    /// A bound on messages outside [`MIN_MESSAGE_BYTES`] to [`MAX_MESSAGE_BYTES`].
    #[error(
        "message limit {requested} is outside {MIN_MESSAGE_BYTES} to {MAX_MESSAGE_BYTES} bytes (ADR-WASM-007)"
    )]
    Message {
        /// Bytes asked for.
        requested: usize,
    },
    /// No limit was given, and there is no default.
    #[error("a memory limit is mandatory and has no default (ADR-WASM-002)")]
    MemoryNotConfigured,
    /// Less than [`MIN_STACK_BYTES`] or more than [`MAX_STACK_BYTES`].
    #[error(
        "stack limit {requested} is not within {MIN_STACK_BYTES}..={MAX_STACK_BYTES} bytes (ADR-WASM-010)"
    )]
    Stack {
        /// Bytes asked for.
        requested: usize,
    },
}

/// `[resources.memory]`: a limit that has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryConfig {
    max_bytes: usize,
    warn_percent: u8,
}

impl MemoryConfig {
    /// A limit from [`MIN_MEMORY_BYTES`] to [`MAX_MEMORY_BYTES`] bytes.
    ///
    /// # Errors
    /// [`ResourceLimitError::MemoryTooLow`] or [`ResourceLimitError::MemoryTooHigh`].
    pub fn new(max_bytes: usize) -> Result<Self, ResourceLimitError> {
        match max_bytes {
            0..MIN_MEMORY_BYTES => Err(ResourceLimitError::MemoryTooLow {
                requested: max_bytes,
            }),
            MIN_MEMORY_BYTES..=MAX_MEMORY_BYTES => Ok(Self {
                max_bytes,
                warn_percent: DEFAULT_WARN_PERCENT,
            }),
            _ => Err(ResourceLimitError::MemoryTooHigh {
                requested: max_bytes,
            }),
        }
    }

    /// The limit, in bytes.
    #[must_use]
    pub fn max_bytes(self) -> usize {
        self.max_bytes
    }

    /// Sets the share of the limit at which an instance is told of, in percent, 1 to 100;
    /// [`DEFAULT_WARN_PERCENT`] where nothing is said.
    ///
    /// # Errors
    /// [`ResourceLimitError::WarnPercent`].
    pub fn warn_at(mut self, percent: u8) -> Result<Self, ResourceLimitError> {
        if !(1..=100).contains(&percent) {
            return Err(ResourceLimitError::WarnPercent { requested: percent });
        }
        self.warn_percent = percent;
        Ok(self)
    }

    /// That share, in percent.
    #[must_use]
    pub fn warn_percent(self) -> u8 {
        self.warn_percent
    }
}

/// `[resources.stack]`: a limit that has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackConfig {
    max_bytes: usize,
}

impl Default for StackConfig {
    fn default() -> Self {
        Self {
            max_bytes: ResourceLimits::DEFAULT_STACK_BYTES,
        }
    }
}

impl StackConfig {
    /// A limit from [`MIN_STACK_BYTES`] to [`MAX_STACK_BYTES`] bytes.
    ///
    /// # Errors
    /// [`ResourceLimitError::Stack`].
    pub fn new(max_bytes: usize) -> Result<Self, ResourceLimitError> {
        match max_bytes {
            MIN_STACK_BYTES..=MAX_STACK_BYTES => Ok(Self { max_bytes }),
            requested => Err(ResourceLimitError::Stack { requested }),
        }
    }

    /// The limit, in bytes.
    #[must_use]
    pub fn max_bytes(self) -> usize {
        self.max_bytes
    }
}

/// `[resources.message]`: bounds on messages that have been checked. The default is 1 MiB each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageConfig {
    max_argument_bytes: usize,
    max_result_bytes: usize,
}

impl Default for MessageConfig {
    fn default() -> Self {
        Self {
            max_argument_bytes: 1024 * 1024,
            max_result_bytes: 1024 * 1024,
        }
    }
}

impl MessageConfig {
    /// Bounds from [`MIN_MESSAGE_BYTES`] to [`MAX_MESSAGE_BYTES`] bytes each.
    ///
    /// # Errors
    /// [`ResourceLimitError::Message`].
    pub fn new(
        max_argument_bytes: usize,
        max_result_bytes: usize,
    ) -> Result<Self, ResourceLimitError> {
        for requested in [max_argument_bytes, max_result_bytes] {
            if !(MIN_MESSAGE_BYTES..=MAX_MESSAGE_BYTES).contains(&requested) {
                return Err(ResourceLimitError::Message { requested });
            }
        }
        Ok(Self {
            max_argument_bytes,
            max_result_bytes,
        })
    }

    /// Most bytes the arguments of a call may take once encoded.
    #[must_use]
    pub fn max_argument_bytes(self) -> usize {
        self.max_argument_bytes
    }

    /// Most bytes the results of a call may take once encoded.
    #[must_use]
    pub fn max_result_bytes(self) -> usize {
        self.max_result_bytes
    }
}

/// Everything an instance is held to. Without a memory limit there is none of these, and without
/// one of these there is no Store:
///
/// ```compile_fail
/// let limits = airssys_wasm::ResourceLimits::default();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimits {
    memory: MemoryConfig,
    timeout: Duration,
    max_fuel: Option<u64>,
    load_timeout: Duration,
    start_timeout: Duration,
    stack: StackConfig,
    messages: MessageConfig,
}

impl ResourceLimits {
    /// Time one call may take where nothing else is said.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

    /// Time a start may wait for compiled code where nothing else is said.
    pub const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_secs(60);

    /// Time an instance may take to start where nothing else is said, its start functions included.
    pub const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(10);

    /// Stack a guest may use where nothing else is said, in bytes.
    pub const DEFAULT_STACK_BYTES: usize = 512 * 1024;

    /// Limits from checked parts, with defaults for loading, starting and stack.
    #[must_use]
    pub fn new(memory: MemoryConfig, timeout: Duration, max_fuel: Option<u64>) -> Self {
        Self {
            memory,
            timeout,
            max_fuel,
            load_timeout: Self::DEFAULT_LOAD_TIMEOUT,
            start_timeout: Self::DEFAULT_START_TIMEOUT,
            stack: StackConfig::default(),
            messages: MessageConfig::default(),
        }
    }

    /// Sets the time a start may wait for compiled code.
    #[must_use]
    pub fn with_load_timeout(mut self, timeout: Duration) -> Self {
        self.load_timeout = timeout;
        self
    }

    /// Sets the time an instance may take to start.
    #[must_use]
    pub fn with_start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Sets the stack a guest may use.
    #[must_use]
    pub fn with_stack(mut self, stack: StackConfig) -> Self {
        self.stack = stack;
        self
    }

    /// The same limits with these bounds on messages.
    #[must_use]
    pub fn with_messages(self, messages: MessageConfig) -> Self {
        Self { messages, ..self }
    }

    /// Starts from nothing; a memory limit must be set before it builds.
    #[must_use]
    pub fn builder() -> ResourceLimitsBuilder {
        ResourceLimitsBuilder::default()
    }

    /// The sum of all linear memories, tables and host-side buffers of the instance, in bytes.
    #[must_use]
    pub fn max_memory_bytes(&self) -> usize {
        self.memory.max_bytes()
    }

    /// Share of that sum at which the instance is told of, in percent.
    #[must_use]
    pub fn warn_percent(&self) -> u8 {
        self.memory.warn_percent()
    }

    /// Time one call may take inside the guest.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Fuel one call may use.
    #[must_use]
    pub fn max_fuel(&self) -> Option<u64> {
        self.max_fuel
    }

    /// Time a start may wait for compiled code.
    #[must_use]
    pub fn load_timeout(&self) -> Duration {
        self.load_timeout
    }

    /// Time an instance may take to start, its start functions included.
    #[must_use]
    pub fn start_timeout(&self) -> Duration {
        self.start_timeout
    }

    /// Stack a guest may use, in bytes.
    #[must_use]
    pub fn max_stack_bytes(&self) -> usize {
        self.stack.max_bytes()
    }

    /// How large arguments and results may be.
    #[must_use]
    pub fn messages(&self) -> MessageConfig {
        self.messages
    }
}

/// Collects [`ResourceLimits`] for hosts that do not read a Component.toml.
#[derive(Debug, Clone, Default)]
pub struct ResourceLimitsBuilder {
    max_memory_bytes: Option<usize>,
    timeout: Option<Duration>,
    max_fuel: Option<u64>,
    messages: MessageConfig,
}

impl ResourceLimitsBuilder {
    /// Sets the mandatory memory limit, in bytes.
    #[must_use]
    pub fn max_memory_bytes(mut self, bytes: usize) -> Self {
        self.max_memory_bytes = Some(bytes);
        self
    }

    /// Sets the time one call may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the fuel one call may use.
    #[must_use]
    pub fn max_fuel(mut self, fuel: u64) -> Self {
        self.max_fuel = Some(fuel);
        self
    }

    /// Sets how large arguments and results may be.
    #[must_use]
    pub fn messages(mut self, messages: MessageConfig) -> Self {
        self.messages = messages;
        self
    }

    /// The limits.
    ///
    /// # Errors
    /// [`ResourceLimitError`]; [`ResourceLimitError::MemoryNotConfigured`] where no memory limit
    /// was set.
    pub fn build(self) -> Result<ResourceLimits, ResourceLimitError> {
        let bytes = self
            .max_memory_bytes
            .ok_or(ResourceLimitError::MemoryNotConfigured)?;
        let timeout = self.timeout.unwrap_or(ResourceLimits::DEFAULT_TIMEOUT);
        let limits = ResourceLimits::new(MemoryConfig::new(bytes)?, timeout, self.max_fuel);
        Ok(limits.with_messages(self.messages))
    }
}

/// Holds one instance to its limit: the sum over all its linear memories and tables and what the
/// host holds for it, during instantiation as well as in calls. Refusing means `memory.grow`
/// answers -1.
pub struct ComponentResourceLimiter {
    meter: Arc<MemoryMeter>,
    /// The last growth granted, so that a growth the operating system then refuses is given back.
    last_granted: usize,
    refused: Option<OutOfMemory>,
    /// What the operating system refused since the call began: bytes, and its error.
    host_refused: Option<(usize, io::Error)>,
    /// From how many bytes held on the generation is to be told of; beyond reach once it is.
    warn_bytes: usize,
    tally: Option<Arc<Tally>>,
}

impl Drop for ComponentResourceLimiter {
    fn drop(&mut self) {
        if let Some(tally) = &self.tally {
            tally.let_go(&self.metrics());
        }
        self.meter.end();
    }
}

impl fmt::Debug for ComponentResourceLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentResourceLimiter")
            .field("metrics", &self.metrics())
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

impl ComponentResourceLimiter {
    /// A limiter for a new instance.
    #[must_use]
    pub fn new(limits: &ResourceLimits) -> Self {
        Self {
            meter: Arc::new(MemoryMeter::new(limits.max_memory_bytes())),
            last_granted: 0,
            refused: None,
            host_refused: None,
            warn_bytes: usize::MAX,
            tally: None,
        }
    }

    /// Has the instance counted in its generation's figures.
    pub(crate) fn counted_in(mut self, tally: &Arc<Tally>, limits: &ResourceLimits) -> Self {
        let percent = usize::from(limits.warn_percent());
        self.warn_bytes = limits
            .max_memory_bytes()
            .saturating_mul(percent)
            .div_ceil(100);
        self.tally = Some(Arc::clone(tally));
        self
    }

    /// The instance's memory now.
    #[must_use]
    pub fn metrics(&self) -> MemoryMetrics {
        self.meter.metrics()
    }

    pub(crate) fn meter(&self) -> Arc<MemoryMeter> {
        Arc::clone(&self.meter)
    }

    pub(crate) fn set_handles(&self, bytes: usize) {
        self.meter.set_handles(bytes);
    }

    /// Forgets what was refused before, so that a trap is blamed on its own call only.
    pub(crate) fn begin_call(&mut self) {
        self.refused = None;
        self.host_refused = None;
    }

    /// The last growth refused because of the limit since the call began.
    pub(crate) fn refused(&self) -> Option<OutOfMemory> {
        self.refused
    }

    /// What the operating system refused since the call began.
    pub(crate) fn host_refused(&self) -> Option<CapacityError> {
        let (requested_bytes, error) = self.host_refused.as_ref()?;
        // An error of the operating system is its number; only such ones are kept.
        let source = io::Error::from_raw_os_error(error.raw_os_error()?);
        Some(CapacityError::Memory {
            requested_bytes: *requested_bytes,
            source,
        })
    }

    /// As [`Self::grow`], of a memory or table whose type has a maximum.
    fn grow_within(&mut self, desired: usize, maximum: Option<usize>, bytes: usize) -> bool {
        // Past its own maximum the growth fails whatever we say. Where the limit has room for it,
        // counting it as held or as refused by the limit would both be wrong.
        let own_maximum = maximum.is_some_and(|maximum| desired > maximum);
        if own_maximum && self.meter.has_room(bytes) {
            return false;
        }
        self.grow(bytes)
    }

    fn grow(&mut self, bytes: usize) -> bool {
        match self.meter.grow(bytes) {
            Ok(()) => {
                self.last_granted = bytes;
                if self.meter.held() >= self.warn_bytes {
                    self.near_limit();
                }
                true
            }
            Err(refused) => {
                self.refused = Some(refused);
                false
            }
        }
    }

    #[cold]
    fn near_limit(&mut self) {
        self.warn_bytes = usize::MAX;
        if let Some(tally) = &self.tally {
            tally.cross(self.meter.held());
        }
    }
}

impl ResourceLimiter for ComponentResourceLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow_within(desired, maximum, desired.saturating_sub(current)))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // wasmtime also calls this for growths it never asked us about (of memories with pages of
        // one byte, beyond what their type can hold). Giving those back would let a guest grow for
        // free, so only a refusal by the operating system, which always follows a grant, is given
        // back.
        if let Ok(error) = error.downcast::<io::Error>() {
            let granted = std::mem::take(&mut self.last_granted);
            self.host_refused = Some((granted, error));
            self.meter.give_back(granted);
        }
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = desired.saturating_sub(current);
        let bytes = elements.saturating_mul(TABLE_ELEMENT_BYTES);
        Ok(self.grow_within(desired, maximum, bytes))
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}
