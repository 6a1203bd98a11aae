//! What a Store holds besides the guest: its limiter, its deadline, and a WASI context that
//! grants nothing.

use std::time::Instant;

use airssys_rt::Counted;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::host_functions::Caller;
use crate::limits::ComponentResourceLimiter;

/// Most bytes of randomness a guest gets at a time.
const MAX_RANDOM_BYTES: u64 = 64 * 1024;

/// The data of a component's Store. Only this crate makes one, always with a limiter.
pub struct ComponentState {
    pub(crate) limiter: ComponentResourceLimiter,
    pub(crate) deadline: Instant,
    /// Fuel granted to the call under way, 0 where fuel is not metered.
    pub(crate) fuel: u64,
    caller: Caller,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl ComponentState {
    pub(crate) fn new(
        limiter: ComponentResourceLimiter,
        deadline: Instant,
        caller: Caller,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limiter.counts().most(Counted::Handles));
        // Nothing is inherited: no directories, no network, no environment, no arguments, and
        // standard streams that are empty or go nowhere.
        let wasi = WasiCtx::builder()
            .max_random_size(MAX_RANDOM_BYTES)
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        Self {
            limiter,
            deadline,
            fuel: 0,
            caller,
            wasi,
            table,
        }
    }

    /// Whose instance it is.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

impl std::fmt::Debug for ComponentState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ComponentState")
            .field("limiter", &self.limiter)
            .finish_non_exhaustive()
    }
}

/// What a handle is counted as, in bytes: its place in the table, its pollable or stream, and
/// what those point to.
pub const HANDLE_BYTES: usize = 256;

impl ComponentState {
    /// Counts the handles there are. A guest makes them where no limiter is asked, so they are
    /// counted when memory is.
    pub(crate) fn count_handles(&mut self) {
        let handles = self.table.iter_mut().count();
        self.limiter.set_handles(handles * HANDLE_BYTES);
    }
}

impl ResourceLimiter for ComponentState {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.count_handles();
        self.limiter.memory_growing(current, desired, maximum)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.limiter.memory_grow_failed(error)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.count_handles();
        self.limiter.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        self.limiter.instances()
    }

    fn tables(&self) -> usize {
        self.limiter.tables()
    }

    fn memories(&self) -> usize {
        self.limiter.memories()
    }
}

impl WasiView for ComponentState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}
