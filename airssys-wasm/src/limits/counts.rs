//! How many things an instance may have, and how wasmtime tells that it wanted more.

use airssys_rt::{Counted, TooMany};
use wasmtime::component::ResourceTableError;

use super::ResourceLimitError;

/// Most linear memories a component may be allowed (ADR-WASM-013).
pub const MAX_MEMORIES: usize = 16;

/// Most tables a component may be allowed (ADR-WASM-013).
pub const MAX_TABLES: usize = 64;

/// Most core instances a component may be allowed (ADR-WASM-013).
pub const MAX_CORE_INSTANCES: usize = 256;

/// Most elements all tables of a component may be allowed together; the pool has room for as many
/// in one table (ADR-WASM-013).
pub const MAX_TABLE_ELEMENTS: usize = 32_768;

/// Most handles an instance may be allowed (ADR-WASM-013).
pub const MAX_HANDLES: usize = 4096;

/// How wasmtime begins to say that there would be too many.
const WORDS: [(&str, Counted); 4] = [
    (
        "resource limit exceeded: instance count",
        Counted::Instances,
    ),
    ("resource limit exceeded: memory count", Counted::Memories),
    ("resource limit exceeded: table count", Counted::Tables),
    ("cannot allocate another handle: store", Counted::Handles),
];

/// `[resources.counts]`: bounds that have been checked, each from 1 to the constant of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountsConfig {
    memories: usize,
    tables: usize,
    instances: usize,
    table_elements: usize,
    handles: usize,
}

impl Default for CountsConfig {
    fn default() -> Self {
        Self {
            memories: 8,
            tables: 16,
            instances: 64,
            table_elements: 20_000,
            handles: 1024,
        }
    }
}

impl CountsConfig {
    /// The same bounds with another one on `what`.
    ///
    /// # Errors
    /// [`ResourceLimitError::Count`].
    pub fn with(mut self, what: Counted, most: usize) -> Result<Self, ResourceLimitError> {
        let (bound, ceiling) = match what {
            Counted::Memories => (&mut self.memories, MAX_MEMORIES),
            Counted::Tables => (&mut self.tables, MAX_TABLES),
            Counted::Instances => (&mut self.instances, MAX_CORE_INSTANCES),
            Counted::TableElements => (&mut self.table_elements, MAX_TABLE_ELEMENTS),
            _ => (&mut self.handles, MAX_HANDLES),
        };
        if !(1..=ceiling).contains(&most) {
            return Err(ResourceLimitError::Count {
                what,
                requested: most,
                ceiling,
            });
        }
        *bound = most;
        Ok(self)
    }

    /// How many of `what` an instance may have.
    #[must_use]
    pub fn most(self, what: Counted) -> usize {
        match what {
            Counted::Memories => self.memories,
            Counted::Tables => self.tables,
            Counted::Instances => self.instances,
            Counted::TableElements => self.table_elements,
            _ => self.handles,
        }
    }

    /// The key of Component.toml that bounds `what`.
    #[must_use]
    pub fn key(what: Counted) -> &'static str {
        match what {
            Counted::Memories => "resources.counts.max_memories",
            Counted::Tables => "resources.counts.max_tables",
            Counted::Instances => "resources.counts.max_instances",
            Counted::TableElements => "resources.counts.max_table_elements",
            _ => "resources.counts.max_handles",
        }
    }

    /// Refuses `wanted` of `what` where that is more than there may be.
    pub(crate) fn check(self, what: Counted, wanted: usize) -> Result<(), TooMany> {
        let limit = self.most(what);
        if wanted <= limit {
            return Ok(());
        }
        Err(TooMany {
            what,
            limit,
            wanted,
        })
    }

    /// What wasmtime refused because of one of these bounds. But for the host's own table it says
    /// so by its text alone; `a_count_beyond_its_limit_is_named_with_both_figures` goes red when
    /// its words change.
    pub(crate) fn refused(self, error: &wasmtime::Error) -> Option<TooMany> {
        let over = |what| {
            let limit = self.most(what);
            let wanted = limit.saturating_add(1);
            Some(TooMany {
                what,
                limit,
                wanted,
            })
        };
        if let Some(ResourceTableError::Full) = error.downcast_ref() {
            return over(Counted::Handles);
        }
        let told = error.root_cause().to_string();
        let (_, what) = WORDS.iter().find(|(words, _)| told.starts_with(words))?;
        over(*what)
    }
}
