//! What a supervised call costs over a bare one, both measured in the same run.
//!
//! `cargo bench --bench call` prints medians and the ratio to the floor: a dynamic wasmtime call on
//! a Store in the same task for a call; a round trip to a bare ractor actor for the messaging; a
//! bare Store made anew for a recovery.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that meets something unexpected should stop there"
)]

use std::time::{Duration, Instant};

use airssys::{Change, Host, Received, Val, WasmError};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

const COMPONENT: &str = r#"
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "trap") unreachable))
  (core instance $i (instantiate $m))
  (func (export "add") (param "x" u32) (param "y" u32) (result u32) (canon lift (core func $i "add")))
  (func (export "trap") (canon lift (core func $i "trap"))))
"#;
const CALLS: usize = 20_000;
const RECOVERIES: usize = 2_000;
const ARGUMENTS: [Val; 2] = [Val::U32(2), Val::U32(3)];

struct Echo;

impl Actor for Echo {
    type Msg = RpcReplyPort<u32>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, _: ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        reply: Self::Msg,
        _: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        reply.send(5).ok();
        Ok(())
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::spawn(measure()).await.unwrap();
    });
}

async fn measure() {
    let wasm = wat::parse_str(COMPONENT).unwrap();
    let floor = Floor::new(&wasm);
    let host = host(&wasm).await;
    let component = host.component("bench").unwrap();
    let (echo, _) = Echo::spawn(None, Echo, ()).await.unwrap();

    let (mut store, func) = floor.instance().await;
    let mut results = [Val::Bool(false)];
    let mut bare = Vec::with_capacity(CALLS);
    let mut actor = Vec::with_capacity(CALLS);
    let mut supervised = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let began = Instant::now();
        store.set_epoch_deadline(1_000_000);
        func.call_async(&mut store, &ARGUMENTS, &mut results)
            .await
            .unwrap();
        bare.push(began.elapsed());
        let began = Instant::now();
        ractor::call!(echo, |reply| reply).unwrap();
        actor.push(began.elapsed());
        let began = Instant::now();
        component.call("add", &ARGUMENTS).await.unwrap();
        supervised.push(began.elapsed());
    }
    let (bare, actor, supervised) = (median(bare), median(actor), median(supervised));
    let floor_of_call = bare + actor;
    println!("call: wasmtime {bare:?} + ractor round trip {actor:?} = floor {floor_of_call:?}");
    println!(
        "call: supervised {supervised:?}, {:.2} x the floor",
        ratio(supervised, floor_of_call)
    );

    let mut anew = Vec::with_capacity(RECOVERIES);
    for _ in 0..RECOVERIES {
        let began = Instant::now();
        drop(floor.instance().await);
        anew.push(began.elapsed());
    }
    let mut events = host.events();
    let mut recoveries = Vec::with_capacity(RECOVERIES);
    while recoveries.len() < RECOVERIES {
        let died = component.call("trap", &[]).await;
        assert!(matches!(died, Err(WasmError::Exited { .. })), "{died:?}");
        while let Some(Received::Event(event)) = events.next().await {
            if let Change::Started {
                recovery: Some(recovery),
            } = event.change
            {
                recoveries.push(recovery);
                break;
            }
        }
    }
    let (anew, recovery) = (median(anew), median(recoveries));
    println!(
        "recovery: bare Store anew {anew:?}, supervised {recovery:?}, {:.2} x",
        ratio(recovery, anew)
    );
    host.shutdown().await;
}

async fn host(wasm: &[u8]) -> Host {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bench.wasm"), wasm).unwrap();
    let component = "[component]\nname = \"bench\"\nversion = \"0.1.0\"\nwasm = \"bench.wasm\"\n\
                     [resources.memory]\nmax_bytes = 1048576\n";
    std::fs::write(dir.path().join("Component.toml"), component).unwrap();
    let system = "[[supervisor]]\nname = \"tools\"\nintensity = 100000\nperiod_seconds = 1\n\
                  [[supervisor.child]]\ncomponent = \"Component.toml\"\n";
    let file = dir.path().join("airssys.toml");
    std::fs::write(&file, system).unwrap();
    Host::from_config(&file).await.unwrap()
}

/// Bare wasmtime with the host's own engine settings.
struct Floor {
    engine: Engine,
    pre: wasmtime::component::InstancePre<()>,
}

impl Floor {
    fn new(wasm: &[u8]) -> Self {
        let mut pool = PoolingAllocationConfig::new();
        pool.linear_memory_keep_resident(256 * 1024)
            .decommit_batch_size(1);
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

    async fn instance(&self) -> (Store<()>, wasmtime::component::Func) {
        let mut store = Store::new(&self.engine, ());
        store.set_epoch_deadline(1_000_000);
        let instance = self.pre.instantiate_async(&mut store).await.unwrap();
        let func = instance.get_func(&mut store, "add").unwrap();
        (store, func)
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}
