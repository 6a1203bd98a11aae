//! The same guest on wasmtime alone, with the engine settings a host uses.

use tokio::sync::{mpsc, oneshot};
use wasmtime::component::{Component, Func, InstancePre, Linker, Val};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

use super::SUM;

const FOR_EVER: u64 = u64::MAX / 2;

/// A guest that imports nothing, compiled and linked.
pub(crate) struct Bare {
    engine: Engine,
    pre: InstancePre<()>,
}

/// One instance of it.
pub(crate) struct Instance {
    store: Store<()>,
    add: Func,
}

impl Bare {
    pub(crate) fn new(wasm: &[u8]) -> Self {
        let mut pool = PoolingAllocationConfig::new();
        pool.linear_memory_keep_resident(256 * 1024)
            .decommit_batch_size(1)
            .pagemap_scan(wasmtime::Enabled::Auto);
        let mut config = Config::new();
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
            .epoch_interruption(true)
            .concurrency_support(false);
        let engine = Engine::new(&config).unwrap();
        let component = Component::from_binary(&engine, wasm).unwrap();
        let pre = Linker::new(&engine).instantiate_pre(&component).unwrap();
        Self { engine, pre }
    }

    pub(crate) async fn instance(&self) -> Instance {
        let mut store = Store::new(&self.engine, ());
        store.set_epoch_deadline(FOR_EVER);
        let instance = self.pre.instantiate_async(&mut store).await.unwrap();
        let interface = instance
            .get_export_index(&mut store, None, "docs:adder/add@0.1.0")
            .unwrap();
        let index = instance
            .get_export_index(&mut store, Some(&interface), "add")
            .unwrap();
        let add = instance.get_func(&mut store, index).unwrap();
        Instance { store, add }
    }
}

impl Instance {
    pub(crate) async fn add(&mut self) {
        let mut sum = [Val::Bool(false)];
        self.store.set_epoch_deadline(FOR_EVER);
        self.add
            .call_async(&mut self.store, &SUM, &mut sum)
            .await
            .unwrap();
    }
}

/// A tokio task that owns an instance.
#[derive(Clone)]
pub(crate) struct Task(mpsc::Sender<oneshot::Sender<()>>);

impl Task {
    pub(crate) async fn spawn(bare: Bare) -> Self {
        let (ask, mut asked) = mpsc::channel::<oneshot::Sender<()>>(16);
        let mut instance = bare.instance().await;
        tokio::spawn(async move {
            while let Some(reply) = asked.recv().await {
                instance.add().await;
                reply.send(()).ok();
            }
        });
        Self(ask)
    }

    pub(crate) async fn add(&self) {
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.unwrap();
        answer.await.unwrap();
    }
}
