//! A call of a guest and an instance for one, through a host, on bare wasmtime, in a tokio task that
//! owns a Store, and through extism.
//!
//! `cargo bench -p airssys-contenders --bench components`. extism runs core modules on a wasmtime of
//! its own version; its guest does nothing but return.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark that meets something unexpected should stop there"
)]

mod bare;

use std::time::{Duration, Instant};

use airssys::{ComponentRef, Host, Val};
use airssys_guests::CALCULATOR;
use bare::{Bare, Task};
use criterion::Criterion;
use extism::{CompiledPlugin, Manifest, Plugin, PluginBuilder, Wasm};
use tokio::runtime::{Builder, Runtime};

const ADD: &str = "docs:adder/add@0.1.0#add";
const SUM: [Val; 2] = [Val::U32(2), Val::U32(3)];
const EXTISM: &str = r#"(module
  (memory (export "memory") 17)
  (func (export "nothing") (result i32) (i32.const 0)))"#;

fn main() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1))
        .configure_from_args();
    calls(&mut criterion, &runtime);
    instances(&mut criterion, &runtime);
    criterion.final_summary();
}

fn calls(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("call");
    let mut store = runtime.block_on(async { Bare::new(CALCULATOR.wasm).instance().await });
    group.bench_function("wasmtime, at hand", |bencher| {
        bencher.iter_custom(|times| {
            let began = Instant::now();
            runtime.block_on(async {
                for _ in 0..times {
                    store.add().await;
                }
            });
            began.elapsed()
        });
    });
    let task = runtime.block_on(Task::spawn(Bare::new(CALCULATOR.wasm)));
    group.bench_function("tokio task with a Store", |bencher| {
        bencher.iter_custom(|times| {
            let task = task.clone();
            on_a_worker(runtime, async move {
                for _ in 0..times {
                    task.add().await;
                }
            })
        });
    });
    let (_folder, host, calculator) = runtime.block_on(host(""));
    group.bench_function("airssys", |bencher| {
        bencher.iter_custom(|times| on_a_worker(runtime, add(calculator.clone(), times)));
    });
    runtime.block_on(host.shutdown());
    let mut plugin = Plugin::new_from_compiled(&extism()).unwrap();
    group.bench_function("extism, at hand", |bencher| {
        bencher.iter(|| plugin.call::<&str, &str>("nothing", "").unwrap().len());
    });
    group.finish();
}

fn instances(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("instance for one call");
    let bare = Bare::new(CALCULATOR.wasm);
    group.bench_function("wasmtime", |bencher| {
        bencher.iter_custom(|times| {
            let began = Instant::now();
            runtime.block_on(async {
                for _ in 0..times {
                    bare.instance().await.add().await;
                }
            });
            began.elapsed()
        });
    });
    let (_folder, host, calculator) = runtime.block_on(host("[instance]\nmode = \"per-call\"\n"));
    group.bench_function("airssys, per-call", |bencher| {
        bencher.iter_custom(|times| on_a_worker(runtime, add(calculator.clone(), times)));
    });
    runtime.block_on(host.shutdown());
    let compiled = extism();
    group.bench_function("extism", |bencher| {
        bencher.iter(|| {
            let mut plugin = Plugin::new_from_compiled(&compiled).unwrap();
            plugin.call::<&str, &str>("nothing", "").unwrap().len()
        });
    });
    group.finish();
}

async fn add(calculator: ComponentRef, times: u64) {
    for _ in 0..times {
        calculator.call(ADD, &SUM).await.unwrap();
    }
}

/// Where callers are: the thread of `main` would be woken by a system call.
fn on_a_worker(runtime: &Runtime, work: impl Future<Output = ()> + Send + 'static) -> Duration {
    let began = Instant::now();
    runtime.block_on(runtime.spawn(work)).unwrap();
    began.elapsed()
}

async fn host(keys: &str) -> (tempfile::TempDir, Host, ComponentRef) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("calculator.wasm"), CALCULATOR.wasm).unwrap();
    let component = format!(
        "[component]\nname = \"calculator\"\nversion = \"0.1.0\"\nwasm = \"calculator.wasm\"\n\
         [resources.memory]\nmax_bytes = 2097152\n{keys}"
    );
    let path = folder.path().join("Component.toml");
    std::fs::write(&path, component).unwrap();
    let host = Host::from_config(&path).await.unwrap();
    let calculator = host.component("calculator").unwrap();
    (folder, host, calculator)
}

fn extism() -> CompiledPlugin {
    let wasm = wat::parse_str(EXTISM).unwrap();
    let manifest = Manifest::new([Wasm::data(wasm)]);
    CompiledPlugin::new(PluginBuilder::new(manifest)).unwrap()
}
