//! What the host has room for, told before the engine or the kernel has to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use airssys_rt::{Counted, ExitCause, OutOfMemory};
use wasmtime::ResourcesRequired;

use airssys_osl::{MemoryGauge, MemoryProbe, MemoryShort, ProbeError};

use crate::engine::EngineError;
use crate::limits::{Refused, ResourceLimits, TABLE_ELEMENT_BYTES};

/// Size of a page of linear memory, in bytes.
const PAGE_BYTES: u64 = 65_536;

/// Why the host had no room for an instance, or for more memory of one: the `source` of
/// [`ExitCause::Capacity`]. Never the guest's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// As many instances live as may.
    #[error("{live} of {most} instances are live; raise system.max_components")]
    Instances {
        /// Instances that live.
        live: u32,
        /// Instances that may.
        most: u32,
    },
    /// The machine, or a cgroup the host is in, has too little memory left.
    #[error("{0}")]
    HostMemory(MemoryShort),
    /// The pool has no room for the instance's memories, tables or stack.
    #[error("the pool is full: {0}")]
    Pool(Box<dyn std::error::Error + Send + Sync>),
    /// The operating system refused memory that was within the guest's limit.
    #[error("the operating system refused {requested_bytes} bytes of memory: {source}")]
    Memory {
        /// What the guest asked for; 0 where it was the instance itself.
        requested_bytes: usize,
        /// What the operating system said.
        source: io::Error,
    },
    /// The engine could not allocate.
    #[error("the host is out of memory: {0}")]
    Host(Box<dyn std::error::Error + Send + Sync>),
    /// The component needs an engine of its own, and there is no room for one.
    #[error(transparent)]
    Engine(Arc<EngineError>),
}

impl From<CapacityError> for ExitCause {
    fn from(error: CapacityError) -> Self {
        Self::Capacity {
            source: Arc::new(error),
        }
    }
}

/// Counts the instances that live.
#[derive(Debug)]
pub(crate) struct Live {
    count: AtomicU32,
    most: u32,
    room: Option<Room>,
}

/// How often the kernel is asked how much memory is left.
const ROOM_PERIOD: Duration = Duration::from_secs(1);

/// Memory of the host that instances may still take.
#[derive(Debug)]
pub(crate) struct Room {
    gauge: MemoryGauge,
    reserve_bytes: u64,
}

impl Room {
    pub(crate) fn new(reserve_bytes: u64) -> Result<Self, ProbeError> {
        Ok(Self {
            gauge: MemoryGauge::new(MemoryProbe::default(), ROOM_PERIOD)?,
            reserve_bytes,
        })
    }
}

/// The right of one instance to live.
#[derive(Debug)]
pub(crate) struct Place(Arc<Live>);

impl Live {
    pub(crate) fn new(most: u32, room: Option<Room>) -> Arc<Self> {
        Arc::new(Self {
            count: AtomicU32::new(0),
            most,
            room,
        })
    }

    /// A place for an instance that takes so many bytes to begin with, where there is one.
    pub(crate) fn admit(self: &Arc<Self>, bytes: u64) -> Result<Place, CapacityError> {
        if let Some(room) = &self.room {
            let admitted = room.gauge.admit(bytes, room.reserve_bytes);
            admitted.map_err(CapacityError::HostMemory)?;
        }
        let one_more = |live| (live < self.most).then_some(live + 1);
        // Acquire: the Store that gave the place back has been dropped before.
        match self
            .count
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, one_more)
        {
            Ok(_) => Ok(Place(Arc::clone(self))),
            Err(live) => Err(CapacityError::Instances {
                live,
                most: self.most,
            }),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Release);
    }
}

/// What an instance's largest memory takes to begin with, in bytes.
pub(crate) fn initial_bytes(required: Option<&ResourcesRequired>) -> u64 {
    let pages = required.and_then(|required| required.max_initial_memory_size);
    pages.unwrap_or(0).saturating_mul(PAGE_BYTES)
}

/// Refuses an instance that would begin beyond its limits: its largest memory and its largest table
/// alone are more than it may hold, or it has more memories, tables or elements than it may.
pub(crate) fn fits(required: &ResourcesRequired, limits: &ResourceLimits) -> Result<(), Refused> {
    let pages = required.max_initial_memory_size.unwrap_or(0);
    let elements = required.max_initial_table_size.unwrap_or(0);
    let bytes = pages
        .saturating_mul(PAGE_BYTES)
        .saturating_add(elements.saturating_mul(TABLE_ELEMENT_BYTES as u64));
    let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let requested_bytes = count(bytes);
    if requested_bytes > limits.max_memory_bytes() {
        return Err(Refused::Memory(OutOfMemory {
            limit_bytes: limits.max_memory_bytes(),
            current_bytes: 0,
            requested_bytes,
            peak_bytes: 0,
        }));
    }
    for (what, wanted) in [
        (Counted::Memories, required.num_memories.into()),
        (Counted::Tables, required.num_tables.into()),
        (Counted::TableElements, elements),
    ] {
        limits.counts().check(what, count(wanted))?;
    }
    Ok(())
}
