//! The same work without this project: wasmtime with the engine settings a host uses, and plain
//! tokio tasks.

use airssys::ComponentResourceLimiter;
use tokio::sync::{mpsc, oneshot};
use wasmtime::component::{Component, Func, InstancePre, Linker, ResourceTable, Val};
use wasmtime::error::Context as _;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, UpdateDeadline,
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// Ticks that no measurement lasts for.
const FOR_EVER: u64 = u64::MAX / 2;

/// A guest, compiled and linked.
pub(super) struct Bare {
    engine: Engine,
    pre: InstancePre<Held>,
}

/// What a bare Store holds.
pub(super) struct Held {
    wasi: WasiCtx,
    table: ResourceTable,
    limiter: Option<ComponentResourceLimiter>,
}

impl WasiView for Held {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// One instance and the functions it is asked for.
pub(super) struct Instance {
    pub(super) store: Store<Held>,
    pub(super) functions: Vec<Func>,
}

impl Bare {
    /// Room for so many instances.
    pub(super) fn new(wasm: &[u8], instances: u32) -> wasmtime::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(instances)
            .total_stacks(instances)
            .total_memories(instances)
            .total_tables(instances.saturating_mul(4))
            .total_core_instances(instances.saturating_mul(8))
            .linear_memory_keep_resident(256 * 1024)
            .decommit_batch_size(1)
            .pagemap_scan(wasmtime::Enabled::Auto);
        let mut config = Config::new();
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
            .epoch_interruption(true)
            .concurrency_support(false);
        let engine = Engine::new(&config)?;
        let component = Component::from_binary(&engine, wasm)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        let pre = linker.instantiate_pre(&component)?;
        Ok(Self { engine, pre })
    }

    /// A Store with an instance in it. Each function is `interface#name`.
    pub(super) async fn instance(&self, functions: &[&str]) -> wasmtime::Result<Instance> {
        self.limited(functions, None).await
    }

    /// The same under a limiter.
    pub(super) async fn limited(
        &self,
        functions: &[&str],
        limiter: Option<ComponentResourceLimiter>,
    ) -> wasmtime::Result<Instance> {
        let is_limited = limiter.is_some();
        let held = Held {
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
            limiter,
        };
        let mut store = Store::new(&self.engine, held);
        if is_limited {
            store.limiter(|held| match &mut held.limiter {
                Some(limiter) => limiter,
                None => unreachable!("asked for only where there is one"),
            });
        }
        store.set_epoch_deadline(FOR_EVER);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Continue(FOR_EVER)));
        let instance = self.pre.instantiate_async(&mut store).await?;
        let functions = functions.iter().map(|function| {
            let (interface, name) = function.split_once('#').context("no interface")?;
            let interface = instance.get_export_index(&mut store, None, interface);
            let interface = interface.with_context(|| format!("no {function}"))?;
            let index = instance.get_export_index(&mut store, Some(&interface), name);
            let func = index.and_then(|index| instance.get_func(&mut store, index));
            func.with_context(|| format!("no {function}"))
        });
        let functions = functions.collect::<wasmtime::Result<Vec<Func>>>()?;
        Ok(Instance { store, functions })
    }
}

impl Instance {
    /// Calls the function at `position`, which has so many results.
    pub(super) async fn call(
        &mut self,
        position: usize,
        arguments: &[Val],
        results: usize,
    ) -> wasmtime::Result<Vec<Val>> {
        self.store.set_epoch_deadline(FOR_EVER);
        let mut found = vec![Val::Bool(false); results];
        if let Some(function) = self.functions.get(position) {
            function
                .call_async(&mut self.store, arguments, &mut found)
                .await?;
        }
        Ok(found)
    }
}

/// What a task that owns an instance is asked, and where it answers.
type Ask = (Question, oneshot::Sender<wasmtime::Result<Vec<Val>>>);

/// Which function, its arguments, and how many results it has.
type Question = (usize, Vec<Val>, usize);

/// A tokio task that owns an instance; after a trap it makes itself another.
pub(super) struct Task(mpsc::Sender<Ask>);

impl Task {
    pub(super) async fn spawn(
        bare: Bare,
        functions: &'static [&'static str],
    ) -> wasmtime::Result<Self> {
        let (ask, mut asked) = mpsc::channel::<Ask>(16);
        let mut instance = bare.instance(functions).await?;
        tokio::spawn(async move {
            while let Some(((position, arguments, results), reply)) = asked.recv().await {
                let answer = instance.call(position, &arguments, results).await;
                let died = answer.is_err();
                reply.send(answer).ok();
                if died {
                    drop(instance);
                    match bare.instance(functions).await {
                        Ok(fresh) => instance = fresh,
                        Err(_) => return,
                    }
                }
            }
        });
        Ok(Self(ask))
    }

    /// A task that makes an instance for each call, and answers once it is gone.
    pub(super) fn fresh(bare: Bare, functions: &'static [&'static str]) -> Self {
        let (ask, mut asked) = mpsc::channel::<Ask>(16);
        tokio::spawn(async move {
            while let Some(((position, arguments, results), reply)) = asked.recv().await {
                let answer = match bare.instance(functions).await {
                    Ok(mut instance) => instance.call(position, &arguments, results).await,
                    Err(error) => Err(error),
                };
                reply.send(answer).ok();
            }
        });
        Self(ask)
    }

    pub(super) async fn call(
        &self,
        position: usize,
        arguments: &[Val],
        results: usize,
    ) -> wasmtime::Result<wasmtime::Result<Vec<Val>>> {
        let (reply, answer) = oneshot::channel();
        self.0
            .send(((position, arguments.to_vec(), results), reply))
            .await
            .map_err(|_| wasmtime::format_err!("the bare task has ended"))?;
        Ok(answer.await?)
    }
}
