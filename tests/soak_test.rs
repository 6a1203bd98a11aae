//! A tree under load, for as long as somebody likes: nothing of it grows.
//!
//! `AIRSSYS_SOAK_SECONDS=3600 cargo test --release --test e2e soak -- --nocapture` takes an hour
//! and tells every ten seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use airssys::{ComponentRef, Host};
use airssys_guests::{CALCULATOR, CRASHER, LEAKY, SPINNER};

use crate::support::{Tree, in_a_process_of_its_own, resident, shared_machine};

const MIB: usize = 1_048_576;
const DEFAULT: Duration = Duration::from_secs(8);
/// Until pools, stacks and the allocator have taken what they keep.
const WARM_UP: Duration = Duration::from_secs(3);
const TOLD: Duration = Duration::from_secs(10);
const RESIDENT_SLACK: usize = 8 * MIB;

/// What of the process could grow.
#[derive(Debug)]
struct Held {
    resident: usize,
    files: usize,
    threads: usize,
    tasks: u64,
}

impl Held {
    async fn now(host: &Host) -> Self {
        let count = |path: &str| std::fs::read_dir(path).unwrap().count();
        Self {
            resident: resident(),
            files: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            tasks: host.snapshot().await.host.tasks_active,
        }
    }
}

#[test]
fn a_tree_under_load_stays_as_large_as_it_was() {
    let _machine = shared_machine();
    if !in_a_process_of_its_own("soak_test::a_tree_under_load_stays_as_large_as_it_was") {
        return;
    }
    let whole = std::env::var("AIRSSYS_SOAK_SECONDS").map_or(DEFAULT, |seconds| {
        Duration::from_secs(seconds.parse().expect("AIRSSYS_SOAK_SECONDS is a number"))
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let tree = (0..3).fold(Tree::new().intensity(100_000, 1), |tree, n| {
            tree.guest(&format!("calculator-{n}"), CALCULATOR)
                .component(&format!("leaky-{n}"), LEAKY.wasm, MIB, "")
                .component(&format!("crasher-{n}"), CRASHER.wasm, MIB, "")
                .component(
                    &format!("spinner-{n}"),
                    SPINNER.wasm,
                    MIB,
                    "timeout_seconds = 1",
                )
        });
        let host = tree.start().await.unwrap();
        let load = Load::start(&host);
        tokio::time::sleep(WARM_UP).await;
        let before = Held::now(&host).await;
        let (began, mut told) = (Instant::now(), Instant::now());
        while began.elapsed() < whole.saturating_sub(WARM_UP) {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if told.elapsed() >= TOLD {
                told = Instant::now();
                let held = Held::now(&host).await;
                println!("{:.0?}: {} calls, {held:?}", began.elapsed(), load.calls());
            }
        }
        let after = Held::now(&host).await;
        let calls = load.end().await;
        println!("{calls} calls: {before:?}, then {after:?}");
        let restarts: u64 = host
            .snapshot()
            .await
            .components
            .iter()
            .map(|c| c.metrics.restarts)
            .sum();
        assert!(
            calls > 1_000 && restarts > 100,
            "{calls} calls, {restarts} restarts"
        );
        let grown = after.resident.saturating_sub(before.resident);
        assert!(
            grown < RESIDENT_SLACK,
            "{grown} bytes more: {before:?}, {after:?}"
        );
        assert!(after.files <= before.files, "{before:?}, {after:?}");
        // A thread of the blocking pool comes and goes.
        assert!(after.threads <= before.threads + 2, "{before:?}, {after:?}");
        // Those of a restart that is under way.
        assert!(after.tasks <= before.tasks + 12, "{before:?}, {after:?}");
        host.shutdown().await;
    });
}

/// Callers of every component, two each.
struct Load {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
}

impl Load {
    fn start(host: &Host) -> Self {
        let (stop, calls) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let tasks = (0..24)
            .map(|n| {
                let kind = ["calculator", "leaky", "crasher", "spinner"][n % 4];
                let component = host.component(&format!("{kind}-{}", n / 4 % 3)).unwrap();
                let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        call(&component, kind).await;
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self { tasks, stop, calls }
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.calls.load(Ordering::Relaxed)
    }
}

async fn call(component: &ComponentRef, kind: &str) {
    match kind {
        "calculator" => {
            let bytes = vec![7; 4096];
            assert_eq!(component.call_bytes("echo", &bytes).await.unwrap(), bytes);
        }
        "leaky" => drop(component.call("leak-until-refused", &[]).await.unwrap_err()),
        "crasher" => drop(component.call("trap", &[]).await.unwrap_err()),
        // Half of them are cancelled, the others run into their deadline.
        _ => {
            let patience = Duration::from_millis(300);
            drop(
                component
                    .call_within("spin", &[], patience)
                    .await
                    .unwrap_err(),
            );
        }
    }
}
