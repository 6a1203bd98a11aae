//! The limiter of one instance: what wasmtime asks before a memory or a table grows.

use std::fmt;
use std::io;
use std::sync::Arc;

use airssys_rt::{Counted, ExitCause, OutOfMemory, TooMany};
use wasmtime::ResourceLimiter;

use super::{
    CountsConfig, MemoryMeter, MemoryMetrics, OnLimit, ResourceLimits, TABLE_ELEMENT_BYTES,
};
use crate::capacity::CapacityError;
use crate::metrics::Tally;

/// Holds one instance to its limit: the sum over all its linear memories and tables and what the
/// host holds for it, and the numbers of what it has, during instantiation as well as in calls.
/// What refusing a growth means is [`OnLimit`]'s to say.
pub struct ComponentResourceLimiter {
    meter: Arc<MemoryMeter>,
    /// The last growth granted, so that a growth the operating system then refuses is given back.
    last_granted: usize,
    counts: CountsConfig,
    table_elements: usize,
    on_limit: OnLimit,
    refused: Option<Refused>,
    /// What the operating system refused since the call began: bytes, and its error.
    host_refused: Option<(usize, io::Error)>,
    /// From how many bytes held on the generation is to be told of; beyond reach once it is.
    warn_bytes: usize,
    tally: Option<Arc<Tally>>,
}

/// Growth that was beyond the limit.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    #[error(transparent)]
    Count(#[from] TooMany),
}

impl From<Refused> for ExitCause {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Memory(figures) => Self::OutOfMemory(figures),
            Refused::Count(figures) => Self::TooMany(figures),
        }
    }
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
            counts: limits.counts(),
            table_elements: 0,
            on_limit: limits.on_limit(),
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
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused
    }

    /// How many things the instance may have.
    pub(crate) fn counts(&self) -> CountsConfig {
        self.counts
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

    /// Whether a growth is beyond the maximum that the type of a memory or table has. Then it fails
    /// whatever we say. Where the limit has room for it, counting it as held or as refused by the
    /// limit would both be wrong.
    fn fails_by_itself(&self, desired: usize, maximum: Option<usize>, bytes: usize) -> bool {
        maximum.is_some_and(|maximum| desired > maximum) && self.meter.has_room(bytes)
    }

    fn grow(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        self.meter.grow(bytes)?;
        self.last_granted = bytes;
        if self.meter.held() >= self.warn_bytes {
            self.near_limit();
        }
        Ok(())
    }

    fn grow_table(&mut self, elements: usize, bytes: usize) -> Result<(), Refused> {
        let wanted = self.table_elements.saturating_add(elements);
        if self.meter.has_room(bytes) {
            self.counts.check(Counted::TableElements, wanted)?;
        }
        self.grow(bytes)?;
        self.table_elements = wanted;
        Ok(())
    }

    /// What the guest is told of a growth.
    fn answer(&mut self, grown: Result<(), Refused>) -> wasmtime::Result<bool> {
        let Err(refused) = grown else {
            return Ok(true);
        };
        self.refused = Some(refused);
        match self.on_limit {
            OnLimit::Deny => Ok(false),
            OnLimit::Trap => Err(refused.into()),
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
        let bytes = desired.saturating_sub(current);
        if self.fails_by_itself(desired, maximum, bytes) {
            return Ok(false);
        }
        let grown = self.grow(bytes).map_err(Refused::from);
        self.answer(grown)
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
        if self.fails_by_itself(desired, maximum, bytes) {
            return Ok(false);
        }
        let grown = self.grow_table(elements, bytes);
        self.answer(grown)
    }

    fn instances(&self) -> usize {
        self.counts.most(Counted::Instances)
    }

    fn tables(&self) -> usize {
        self.counts.most(Counted::Tables)
    }

    fn memories(&self) -> usize {
        self.counts.most(Counted::Memories)
    }
}
