//! What a Store holds besides the guest: its limiter, its deadline, its gate, and a WASI context of
//! what it was granted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use airssys_rt::Counted;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;

use crate::handles::Handles;
use crate::host_functions::Caller;
use crate::limits::ComponentResourceLimiter;
use crate::services::{Chain, Filesystem, Gate, Http, Opened, Sender, Sockets, held_bytes};

/// The data of a component's Store. Only this crate makes one, always with a limiter.
pub struct ComponentState {
    pub(crate) limiter: ComponentResourceLimiter,
    pub(crate) deadline: Instant,
    /// Fuel granted to the call under way, 0 where fuel is not metered.
    pub(crate) fuel: u64,
    /// Who waits for the call under way, where components do.
    pub(crate) chain: Option<Arc<Chain>>,
    gate: Arc<Gate>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    sender: Sender,
    table: ResourceTable,
    /// The guest's file descriptors.
    opened: HashMap<u32, Opened>,
    /// What is held for callers.
    handles: Arc<Handles>,
}

impl ComponentState {
    pub(crate) fn new(
        limiter: ComponentResourceLimiter,
        deadline: Instant,
        gate: Arc<Gate>,
        wasi: WasiCtx,
        handles: Arc<Handles>,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limiter.counts().most(Counted::Handles));
        Self {
            limiter,
            deadline,
            fuel: 0,
            chain: None,
            sender: Sender::new(&gate, deadline),
            gate,
            wasi,
            http: WasiHttpCtx::new(),
            table,
            opened: HashMap::new(),
            handles,
        }
    }

    /// Whose instance it is.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        self.gate.caller()
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) fn filesystem(&mut self) -> Filesystem<'_> {
        Filesystem {
            gate: Arc::clone(&self.gate),
            inner: WasiFilesystemCtxView {
                ctx: self.wasi.filesystem(),
                table: &mut self.table,
            },
            opened: &mut self.opened,
        }
    }

    pub(crate) fn network(&mut self) -> Sockets<'_> {
        Sockets {
            gate: Arc::clone(&self.gate),
            inner: WasiSocketsCtxView {
                ctx: self.wasi.sockets(),
                table: &mut self.table,
            },
        }
    }

    pub(crate) fn http(&mut self) -> Http<'_> {
        self.sender.deadline = self.deadline;
        Http {
            sender: &mut self.sender,
            context: &mut self.http,
            table: &mut self.table,
            limiter: &mut self.limiter,
            handles: &self.handles,
        }
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
    /// Counts the handles there are, and what is behind those of HTTP. A guest makes them where no limiter is asked, so they are
    /// counted when memory is.
    pub(crate) fn count_handles(&mut self) {
        self.limiter
            .set_handles(held_bytes(&mut self.table, &self.gate, &self.handles));
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
