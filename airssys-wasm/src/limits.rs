//! What an instance may hold, and the limiter that holds it to that.

mod counts;
mod limiter;
mod meter;

use std::time::Duration;

use airssys_rt::Counted;

pub use counts::{
    CountsConfig, MAX_CORE_INSTANCES, MAX_HANDLES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES,
};
pub use limiter::ComponentResourceLimiter;
pub(crate) use limiter::Refused;
pub use meter::MemoryMetrics;
pub(crate) use meter::{Charge, MemoryMeter};

/// Least memory a component may be given, in bytes (ADR-WASM-002).
pub const MIN_MEMORY_BYTES: usize = 524_288;

/// Most memory a component may be given, in bytes (ADR-WASM-002).
pub const MAX_MEMORY_BYTES: usize = 4_194_304;

/// Most memory a host's policy may let components be given, in bytes (ADR-SYS-003).
pub const MAX_MEMORY_CEILING_BYTES: usize = 1024 * 1024 * 1024;

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

/// Least bytes that arguments of calls that wait may be bounded to (ADR-WASM-029).
pub const MIN_WAITING_BYTES: u32 = 65_536;

/// Most bytes that arguments of calls that wait may be allowed to take (ADR-WASM-029).
pub const MAX_WAITING_BYTES: u32 = 64 * 1024 * 1024;

/// What one table element is counted as, in bytes.
pub const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

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
    /// More than the ceiling, [`MAX_MEMORY_BYTES`] where no host has set another.
    #[error(
        "memory limit {requested} is above the most of {ceiling} bytes (ADR-WASM-002); a host sets \
         another with policy.memory.max_bytes (ADR-SYS-003)"
    )]
    MemoryTooHigh {
        /// Bytes asked for.
        requested: usize,
        /// The most, in bytes.
        ceiling: usize,
    },
    /// A ceiling that no host may set.
    #[error(
        "memory ceiling {requested} is not within {MAX_MEMORY_BYTES}..={MAX_MEMORY_CEILING_BYTES} \
         bytes (ADR-SYS-003)"
    )]
    MemoryCeiling {
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
    /// A bound on arguments that wait outside [`MIN_WAITING_BYTES`] to [`MAX_WAITING_BYTES`].
    #[error(
        "a limit of {requested} bytes that wait is not within \
         {MIN_WAITING_BYTES}..={MAX_WAITING_BYTES} (ADR-WASM-029)"
    )]
    Waiting {
        /// Bytes asked for.
        requested: u32,
    },
    /// A bound on a number of things outside 1 to its ceiling.
    #[error("a limit of {requested} {what} is not within 1..={ceiling} (ADR-WASM-013)")]
    Count {
        /// What is bounded.
        what: Counted,
        /// The bound asked for.
        requested: usize,
        /// The highest there is.
        ceiling: usize,
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

/// What a growth beyond the limit means to the guest that asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLimit {
    /// `memory.grow` or `table.grow` answers -1, and the guest may go on without.
    #[default]
    Deny,
    /// The call ends at once.
    Trap,
}

/// The most that a host lets any of its components be given; [`MAX_MEMORY_BYTES`] by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryCeiling(usize);

impl Default for MemoryCeiling {
    fn default() -> Self {
        Self(MAX_MEMORY_BYTES)
    }
}

impl MemoryCeiling {
    /// A ceiling from [`MAX_MEMORY_BYTES`] to [`MAX_MEMORY_CEILING_BYTES`] bytes.
    ///
    /// # Errors
    /// [`ResourceLimitError::MemoryCeiling`].
    pub fn new(bytes: usize) -> Result<Self, ResourceLimitError> {
        match bytes {
            MAX_MEMORY_BYTES..=MAX_MEMORY_CEILING_BYTES => Ok(Self(bytes)),
            requested => Err(ResourceLimitError::MemoryCeiling { requested }),
        }
    }

    /// The ceiling, in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.0
    }
}

/// `[resources.memory]`: a limit that has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryConfig {
    max_bytes: usize,
    on_limit: OnLimit,
    warn_percent: u8,
}

impl MemoryConfig {
    /// A limit from [`MIN_MEMORY_BYTES`] to [`MAX_MEMORY_BYTES`] bytes.
    ///
    /// # Errors
    /// [`ResourceLimitError::MemoryTooLow`] or [`ResourceLimitError::MemoryTooHigh`].
    pub fn new(max_bytes: usize) -> Result<Self, ResourceLimitError> {
        Self::within(max_bytes, MemoryCeiling::default())
    }

    /// A limit from [`MIN_MEMORY_BYTES`] bytes to a host's own ceiling. The host it runs in must
    /// have that ceiling too, or does not start the component.
    ///
    /// # Errors
    /// As [`MemoryConfig::new`].
    pub fn within(max_bytes: usize, ceiling: MemoryCeiling) -> Result<Self, ResourceLimitError> {
        if max_bytes < MIN_MEMORY_BYTES {
            return Err(ResourceLimitError::MemoryTooLow {
                requested: max_bytes,
            });
        }
        if max_bytes > ceiling.bytes() {
            return Err(ResourceLimitError::MemoryTooHigh {
                requested: max_bytes,
                ceiling: ceiling.bytes(),
            });
        }
        Ok(Self {
            max_bytes,
            on_limit: OnLimit::default(),
            warn_percent: DEFAULT_WARN_PERCENT,
        })
    }

    /// The limit, in bytes.
    #[must_use]
    pub fn max_bytes(self) -> usize {
        self.max_bytes
    }

    /// Sets what a growth beyond the limit means; [`OnLimit::Deny`] where nothing is said.
    #[must_use]
    pub fn at_limit(mut self, on_limit: OnLimit) -> Self {
        self.on_limit = on_limit;
        self
    }

    /// What a growth beyond the limit means.
    #[must_use]
    pub fn on_limit(self) -> OnLimit {
        self.on_limit
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

/// `[resources.message]`: bounds on messages that have been checked. The default is 1 MiB each, and
/// 8 MiB for all arguments that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageConfig {
    max_argument_bytes: usize,
    max_result_bytes: usize,
    max_waiting_bytes: u32,
}

impl Default for MessageConfig {
    fn default() -> Self {
        Self {
            max_argument_bytes: 1024 * 1024,
            max_result_bytes: 1024 * 1024,
            max_waiting_bytes: 8 * 1024 * 1024,
        }
    }
}

impl MessageConfig {
    /// Bounds from [`MIN_MESSAGE_BYTES`] to [`MAX_MESSAGE_BYTES`] bytes each, and the default for
    /// what waits.
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
            ..Self::default()
        })
    }

    /// The same with a bound from [`MIN_WAITING_BYTES`] to [`MAX_WAITING_BYTES`] bytes on what
    /// waits.
    ///
    /// # Errors
    /// [`ResourceLimitError::Waiting`].
    pub fn waiting(self, max_waiting_bytes: u32) -> Result<Self, ResourceLimitError> {
        match max_waiting_bytes {
            MIN_WAITING_BYTES..=MAX_WAITING_BYTES => Ok(Self {
                max_waiting_bytes,
                ..self
            }),
            requested => Err(ResourceLimitError::Waiting { requested }),
        }
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

    /// Most bytes that the arguments of all calls may take that wait for the component; a message
    /// that is larger waits alone.
    #[must_use]
    pub fn max_waiting_bytes(self) -> u32 {
        self.max_waiting_bytes
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
    host_wait: Option<Duration>,
    stack: StackConfig,
    messages: MessageConfig,
    counts: CountsConfig,
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

    /// Limits from checked parts, with defaults for the rest.
    #[must_use]
    pub fn new(memory: MemoryConfig, timeout: Duration, max_fuel: Option<u64>) -> Self {
        Self {
            memory,
            timeout,
            max_fuel,
            load_timeout: Self::DEFAULT_LOAD_TIMEOUT,
            start_timeout: Self::DEFAULT_START_TIMEOUT,
            host_wait: None,
            stack: StackConfig::default(),
            messages: MessageConfig::default(),
            counts: CountsConfig::default(),
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

    /// Sets the time a guest may wait for the host at a stretch; without it only the time of its
    /// call, or of its start, bounds that.
    #[must_use]
    pub fn with_host_wait(mut self, limit: Duration) -> Self {
        self.host_wait = Some(limit);
        self
    }

    /// Sets how many things an instance may have.
    #[must_use]
    pub fn with_counts(mut self, counts: CountsConfig) -> Self {
        self.counts = counts;
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

    /// What a growth beyond that sum means.
    #[must_use]
    pub fn on_limit(&self) -> OnLimit {
        self.memory.on_limit()
    }

    /// How many things the instance may have.
    #[must_use]
    pub fn counts(&self) -> CountsConfig {
        self.counts
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

    /// Time a guest may wait for the host at a stretch.
    #[must_use]
    pub fn host_wait(&self) -> Option<Duration> {
        self.host_wait
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
    host_wait: Option<Duration>,
    on_limit: OnLimit,
    messages: MessageConfig,
    counts: CountsConfig,
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

    /// Sets the time a guest may wait for the host at a stretch.
    #[must_use]
    pub fn host_wait(mut self, limit: Duration) -> Self {
        self.host_wait = Some(limit);
        self
    }

    /// Sets what a growth beyond the limit means.
    #[must_use]
    pub fn on_limit(mut self, on_limit: OnLimit) -> Self {
        self.on_limit = on_limit;
        self
    }

    /// Sets how many things an instance may have.
    #[must_use]
    pub fn counts(mut self, counts: CountsConfig) -> Self {
        self.counts = counts;
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
        let memory = MemoryConfig::new(bytes)?.at_limit(self.on_limit);
        let limits = ResourceLimits::new(memory, timeout, self.max_fuel)
            .with_messages(self.messages)
            .with_counts(self.counts);
        Ok(ResourceLimits {
            host_wait: self.host_wait,
            ..limits
        })
    }
}
