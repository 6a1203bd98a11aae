//! What supervision costs over bare actors, and what others take for it.
//!
//! `cargo bench -p airssys-contenders --bench supervision` prints the best samples, allocations and the ratio
//! to the first contender of each group. Everything runs on one thread, so that the figures are work
//! done, not threads waking each other; `AIRSSYS_BENCH_WORKERS=2` takes a runtime of two.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a benchmark that meets something unexpected should stop there"
)]

mod actors;
mod kameos;
mod ours;
mod ractors;

use std::cell::RefCell;
use std::future::Future;
use std::hint::black_box;
use std::time::{Duration, Instant};

use airssys_contenders::{Counting, Timings, allocations};
use airssys_rt::{PanicBoundary, TaskRegistry};
use criterion::Criterion;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Bench {
    runtime: Runtime,
    criterion: RefCell<Criterion>,
    table: RefCell<Timings>,
}

/// Time and allocations of what was measured, without what was prepared.
#[derive(Default)]
pub(crate) struct Taken {
    time: Duration,
    allocations: u64,
}

impl Taken {
    pub(crate) async fn measure<T>(&mut self, operation: impl Future<Output = T>) -> T {
        let (began, before) = (Instant::now(), allocations());
        let output = operation.await;
        self.time += began.elapsed();
        self.allocations += allocations() - before;
        output
    }

    /// What `wanted` operations would have taken, where `done` were done.
    pub(crate) fn scaled(mut self, wanted: u64, done: u64) -> Self {
        let share = wanted as f64 / done as f64;
        self.time = self.time.mul_f64(share);
        self.allocations = (self.allocations as f64 * share) as u64;
        self
    }
}

/// `times` children in rounds of a thousand, so that a figure does not depend on how many there are.
pub(crate) fn rounds(times: u64) -> impl Iterator<Item = usize> {
    let full = std::iter::repeat_n(1_000, times as usize / 1_000);
    full.chain(Some(times as usize % 1_000).filter(|rest| *rest > 0))
}

impl Bench {
    /// Measures `operation`, which is told how often to do it.
    fn run<F: Future<Output = Taken> + Send + 'static>(
        &self,
        group: &str,
        contender: &str,
        operation: impl Fn(u64) -> F,
    ) {
        let id = format!("{group}/{contender}");
        self.criterion.borrow_mut().bench_function(&id, |bencher| {
            bencher.iter_custom(|times| {
                let taken = self.runtime.block_on(async {
                    // On a worker, as everything it talks to.
                    tokio::spawn(operation(times)).await.unwrap()
                });
                let mut table = self.table.borrow_mut();
                table.sample(group, contender, times, taken.time, taken.allocations);
                taken.time
            });
        });
    }
}

fn main() {
    let workers: usize =
        std::env::var("AIRSSYS_BENCH_WORKERS").map_or(1, |workers| workers.parse().unwrap());
    let mut builder = match workers {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let bench = Bench {
        runtime: builder
            .worker_threads(workers)
            .enable_all()
            .build()
            .unwrap(),
        criterion: RefCell::new(
            Criterion::default()
                .sample_size(15)
                .without_plots()
                .warm_up_time(Duration::from_millis(200))
                .measurement_time(Duration::from_millis(700))
                .configure_from_args(),
        ),
        table: RefCell::default(),
    };
    supervision(&bench);
    masses(&bench);
    pieces(&bench);
    println!("\n{}", bench.table.borrow());
}

fn supervision(bench: &Bench) {
    bench.run("spawn", "ractor spawn_linked", ractors::spawn);
    bench.run("spawn", "airssys supervisor's start", ours::spawn_at_start);
    bench.run("spawn", "kameo supervise", kameos::spawn);

    let group = "spawn by message";
    bench.run(group, "ractor by hand", ractors::spawn_by_message);
    bench.run(group, "airssys start_child", ours::spawn);
    bench.run(group, "ractor-supervisor dynamic", ractors::spawn_dynamic);

    bench.run("call", "ractor call!", ractors::call);
    bench.run("call", "airssys Slot::call", ours::call);
    bench.run("call", "kameo ask", kameos::ask);

    bench.run("recovery", "ractor by hand", ractors::recovery);
    bench.run("recovery", "airssys", ours::recovery);
    bench.run(
        "recovery",
        "ractor-supervisor dynamic",
        ractors::recovery_dynamic,
    );
    bench.run("recovery", "kameo", kameos::recovery);
}

fn masses(bench: &Bench) {
    for children in [100, 1_000, 10_000_u64] {
        let name = format!("one_for_all of {children}");
        bench.run(&name, "per child", move |times| {
            ours::group_restart(times, children)
        });
    }
    for children in [100, 1_000, 10_000_u64] {
        let name = format!("mass of {children}");
        bench.run(&name, "per start", move |times| {
            ours::mass(times, children, ours::Phase::Start)
        });
        bench.run(&name, "per exit, all at once", move |times| {
            ours::mass(times, children, ours::Phase::Exit)
        });
        bench.run(&name, "per stop", move |times| {
            ours::mass(times, children, ours::Phase::Stop)
        });
    }
}

/// The pieces of airssys-rt against what they wrap.
fn pieces(bench: &Bench) {
    bench.run("task", "tokio::spawn", |times| async move {
        let mut taken = Taken::default();
        taken
            .measure(async {
                for _ in 0..times {
                    tokio::spawn(async {}).await.unwrap();
                }
            })
            .await;
        taken
    });
    bench.run("task", "TaskRegistry::spawn", |times| async move {
        let tasks = TaskRegistry::new();
        let mut taken = Taken::default();
        taken
            .measure(async {
                for _ in 0..times {
                    tasks.spawn("bench", async {}).unwrap().await;
                }
            })
            .await;
        taken
    });
    bench.run("call within", "plain", |times| async move {
        let mut taken = Taken::default();
        taken
            .measure(async {
                for number in 0..times {
                    black_box(actors::plain(black_box(number)));
                }
            })
            .await;
        taken
    });
    bench.run("call within", "EntryPoint::call", |times| async move {
        let entry = PanicBoundary::new().entry("bench");
        let mut taken = Taken::default();
        taken
            .measure(async {
                for number in 0..times {
                    black_box(entry.call(|| actors::plain(black_box(number))).unwrap());
                }
            })
            .await;
        taken
    });
    bench.run("call within", "PanicBoundary::call", |times| async move {
        let boundary = PanicBoundary::new();
        let mut taken = Taken::default();
        taken
            .measure(async {
                for number in 0..times {
                    black_box(
                        boundary
                            .call("bench", || actors::plain(black_box(number)))
                            .unwrap(),
                    );
                }
            })
            .await;
        taken
    });
    bench.run("call within", "EntryPoint::run", |times| async move {
        let entry = PanicBoundary::new().entry("bench");
        let mut taken = Taken::default();
        taken
            .measure(async {
                for number in 0..times {
                    let future = async { actors::plain(black_box(number)) };
                    black_box(entry.run(future).await.unwrap());
                }
            })
            .await;
        taken
    });
}
