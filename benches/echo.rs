//! What bytes cost on their way through a supervised component and back, beside wasmtime's typed
//! call and its dynamic one on an engine of the same configuration, all in the same run.
//!
//! `cargo bench --bench echo` prints medians and the ratio to the typed call in the same task.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that meets something unexpected should stop there"
)]

use std::time::{Duration, Instant};

use airssys::{ComponentRef, Host, Val};
use wasmtime::component::{Component, Func, Linker, TypedFunc};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

/// Returns its argument where it lies. Every argument goes to the same place.
const COMPONENT: &str = r#"
(component
  (core module $m
    (memory (export "memory") 18)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "echo") (param i32 i32) (result i32)
      (i32.store (i32.const 0) (local.get 0))
      (i32.store (i32.const 4) (local.get 1))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "echo") (param "bytes" (list u8)) (result (list u8))
    (canon lift (core func $i "echo") (memory $i "memory") (realloc (func $i "realloc")))))
"#;

/// Bytes of a message, and how often it is sent.
const SIZES: [(usize, usize); 4] = [
    (0, 20_000),
    (4096, 20_000),
    (65_536, 5_000),
    (1_048_000, 500),
];

/// Calls of one kind before those of the next.
const TURN: usize = 100;

/// Levels of `[integrity]`; the first checks nothing, the second is the default.
const LEVELS: [&str; 2] = ["off", "standard"];

/// Most bytes sent as dynamic values, each of which takes 40.
const MOST_DYNAMIC: usize = 65_536;

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
    let mut bare = Bare::new(&wasm).await;
    let (host, components) = host(&wasm).await;
    for (size, times) in SIZES {
        let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let bytes: &'static [u8] = bytes.leak();
        let mut typed = Vec::with_capacity(times);
        let mut copied = vec![Vec::with_capacity(times); components.len()];
        let mut borrowed = copied.clone();
        let mut dynamic = Vec::new();
        let list = Val::List(bytes.iter().copied().map(Val::U8).collect());
        let encode = |component: &ComponentRef| {
            let list = std::slice::from_ref(&list);
            component.encode("echo", list).unwrap()
        };
        let messages: Vec<_> = components.iter().map(encode).collect();
        // In turns, each long enough for the caches to be its own.
        for _ in 0..times / TURN {
            for _ in 0..TURN {
                typed.push(bare.typed(bytes).await);
            }
            for (component, times) in components.iter().zip(&mut copied) {
                for _ in 0..TURN {
                    let began = Instant::now();
                    let back = component.call_bytes("echo", bytes).await.unwrap();
                    times.push(began.elapsed());
                    assert_eq!(back.len(), size);
                }
            }
            for ((component, message), times) in components.iter().zip(&messages).zip(&mut borrowed)
            {
                for _ in 0..TURN {
                    let message = message.clone();
                    let began = Instant::now();
                    let results = component.call_encoded("echo", message).await.unwrap();
                    let length = results.bytes().unwrap().len();
                    times.push(began.elapsed());
                    assert_eq!(length, size);
                }
            }
            if size <= MOST_DYNAMIC {
                dynamic.push(bare.dynamic(&list).await);
            }
        }
        let floor = median(typed);
        print!("echo {size:>7} bytes: typed {floor:?}");
        if !dynamic.is_empty() {
            print!(", dynamic {:.1} x", ratio(median(dynamic), floor));
        }
        println!();
        for ((level, copied), borrowed) in LEVELS.iter().zip(copied).zip(borrowed) {
            let (copied, borrowed) = (median(copied), median(borrowed));
            println!(
                "    {level}: bytes to bytes {copied:?} = {:.2} x, message to message {borrowed:?} = {:.2} x",
                ratio(copied, floor),
                ratio(borrowed, floor)
            );
        }
    }
    host.shutdown().await;
}

async fn host(wasm: &[u8]) -> (Host, Vec<ComponentRef>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bench.wasm"), wasm).unwrap();
    let mut system = String::from("[[supervisor]]\nname = \"tools\"\n");
    for level in LEVELS {
        let component = format!(
            "[component]\nname = \"{level}\"\nversion = \"0.1.0\"\nwasm = \"bench.wasm\"\n\
             [resources.memory]\nmax_bytes = 4194304\n[integrity]\nlevel = \"{level}\"\n"
        );
        std::fs::write(dir.path().join(format!("{level}.toml")), component).unwrap();
        system += &format!("[[supervisor.child]]\ncomponent = \"{level}.toml\"\n");
    }
    let file = dir.path().join("airssys.toml");
    std::fs::write(&file, system).unwrap();
    let host = Host::from_config(&file).await.unwrap();
    let components = LEVELS.map(|level| host.component(level).unwrap());
    (host, components.into())
}

/// Bare wasmtime with the host's own engine settings.
struct Bare {
    store: Store<()>,
    func: Func,
    typed: TypedFunc<(&'static [u8],), (Vec<u8>,)>,
}

impl Bare {
    async fn new(wasm: &[u8]) -> Self {
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
        let mut store = Store::new(&engine, ());
        store.set_epoch_deadline(1_000_000);
        let instance = Linker::new(&engine)
            .instantiate_async(&mut store, &component)
            .await
            .unwrap();
        let func = instance.get_func(&mut store, "echo").unwrap();
        let typed = func.typed(&store).unwrap();
        Self { store, func, typed }
    }

    async fn typed(&mut self, bytes: &'static [u8]) -> Duration {
        let began = Instant::now();
        self.store.set_epoch_deadline(1_000_000);
        let (back,) = self
            .typed
            .call_async(&mut self.store, (bytes,))
            .await
            .unwrap();
        let took = began.elapsed();
        drop(back);
        took
    }

    async fn dynamic(&mut self, list: &Val) -> Duration {
        let list = std::slice::from_ref(list);
        let mut results = [Val::Bool(false)];
        let began = Instant::now();
        self.store.set_epoch_deadline(1_000_000);
        self.func
            .call_async(&mut self.store, list, &mut results)
            .await
            .unwrap();
        began.elapsed()
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}
