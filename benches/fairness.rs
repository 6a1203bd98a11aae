//! What the embedder's timers and a component's siblings notice of guests that compute: a sleep of
//! 0.5 ms and then a call of a sibling, while 0, 2, 4 and 8 guests spin, all in the same run.
//!
//! `cargo bench --bench fairness` prints a row for each way to give guests their turns, median and
//! 99th percentile, and what a call of a guest costs that way while nothing else runs. The last rows
//! are this project's own hosts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that meets something unexpected should stop there"
)]

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use airssys::{ComponentRef, Host, HostError, Val};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Engine, Store, UpdateDeadline};

const COMPONENT: &str = r#"
(component
  (core module $m
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "spin") (loop $l (br $l))))
  (core instance $i (instantiate $m))
  (func (export "add") (param "x" u32) (param "y" u32) (result u32) (canon lift (core func $i "add")))
  (func (export "spin") (canon lift (core func $i "spin"))))
"#;
const ARGUMENTS: [Val; 2] = [Val::U32(2), Val::U32(3)];
const SPINNERS: [usize; 4] = [0, 2, 4, 8];
/// Rounds of one cell, fewer where they take longer than [`CELL`].
const ROUNDS: usize = 300;
const CELL: Duration = Duration::from_secs(2);
/// A row that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(40);
const CALLS: usize = 20_000;
const NAP: Duration = Duration::from_micros(500);
/// How long one call of a spinner may compute.
const SPIN: Duration = Duration::from_millis(100);

/// What a guest does at a tick of the epoch.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    /// It goes on until its time is up.
    Trap,
    /// wasmtime's own yield.
    Own,
    /// `tokio::task::yield_now`.
    Tokio,
    /// `tokio::task::yield_now`, and then behind all that was woken meanwhile.
    Behind,
    /// As `Behind`, and then it waits until fewer than so many others compute.
    Gate(usize),
    /// It yields through tokio once, and the task that holds it moves to a runtime for guests.
    Move,
}

fn main() {
    let wasm = wat::parse_str(COMPONENT).unwrap();
    println!(
        "{:42}{:>12}{}",
        "sleep 0.5 ms + sibling's call",
        "call alone",
        SPINNERS
            .map(|n| format!("{:>22}", format!("{n} spin: p50 / p99")))
            .concat()
    );
    let plain = || embedder(61);
    for (name, embedder, own, turn) in [
        ("trap only", plain(), None, Turn::Trap),
        ("wasmtime's yield", plain(), None, Turn::Own),
        (
            "wasmtime's yield, event_interval 1",
            embedder(1),
            None,
            Turn::Own,
        ),
        ("tokio's yield", plain(), None, Turn::Tokio),
        (
            "tokio's yield, event_interval 1",
            embedder(1),
            None,
            Turn::Tokio,
        ),
        ("tokio's yield, then behind", plain(), None, Turn::Behind),
        (
            "tokio's yield, then behind, event_interval 1",
            embedder(1),
            None,
            Turn::Behind,
        ),
        (
            "the same, 2 may compute at a time",
            plain(),
            None,
            Turn::Gate(2),
        ),
        (
            "the same, event_interval 1",
            embedder(1),
            None,
            Turn::Gate(2),
        ),
        (
            "runtime of its own, tokio's yield",
            plain(),
            Some(guests()),
            Turn::Tokio,
        ),
        (
            "moved to it at the first tick",
            plain(),
            Some(guests()),
            Turn::Move,
        ),
    ] {
        let raw = Raw::new(&wasm, turn);
        let (stop, own_handle) = (
            Arc::clone(&raw.stop),
            own.as_ref().map(|r| r.handle().clone()),
        );
        print_row(name, &measured(&embedder, raw.row(own_handle)));
        stop.store(true, Ordering::Relaxed);
        for runtime in [Some(embedder), own].into_iter().flatten() {
            runtime.shutdown_timeout(SPIN * 20);
        }
    }
    for interval in [61, 1] {
        let runtime = embedder(interval);
        let row = measured(&runtime, ours(wasm.clone()));
        print_row(&format!("airssys, event_interval {interval}"), &row);
        runtime.shutdown_timeout(SPIN * 20);
    }
}

/// A row measured on the runtime, or `None` where it starves for [`PATIENCE`].
fn measured(runtime: &Runtime, row: impl Future<Output = Row> + Send + 'static) -> Option<Row> {
    let (tell, told) = std::sync::mpsc::channel();
    runtime.spawn(async move { tell.send(row.await) });
    told.recv_timeout(PATIENCE).ok()
}

fn embedder(event_interval: u32) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .event_interval(event_interval)
        .enable_all()
        .build()
        .unwrap()
}

fn guests() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// The median of a call, and for each number of spinners both figures.
struct Row {
    call: Duration,
    naps: Vec<(Duration, Duration)>,
}

fn print_row(name: &str, row: &Option<Row>) {
    let Some(row) = row else {
        return println!("{name:42} starves");
    };
    let naps = row.naps.iter().map(|(p50, p99)| {
        let both = format!(
            "{:.2} / {:.2}",
            p50.as_secs_f64() * 1e3,
            p99.as_secs_f64() * 1e3
        );
        format!("{both:>22}")
    });
    println!(
        "{name:42}{:>12}{} ms",
        format!("{:.2?}", row.call),
        naps.collect::<String>()
    );
}

fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let at = |share: usize| {
        times
            .get(times.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    (at(50), at(99))
}

/// Bare tasks, each with a Store of its own, under one way of turns.
struct Raw {
    engine: Engine,
    pre: InstancePre<Held>,
    turn: Turn,
    stop: Arc<AtomicBool>,
    gate: Arc<Semaphore>,
}

struct Held {
    deadline: Instant,
    stop: Arc<AtomicBool>,
    ticks: Arc<AtomicBool>,
    gate: Arc<Semaphore>,
    pass: Pass,
}

/// The right to compute, held from a turn to the next time the guest waits for anything.
type Pass = Arc<Mutex<Option<OwnedSemaphorePermit>>>;

async fn turn_at(gate: Arc<Semaphore>, pass: Pass) {
    behind().await;
    pass.lock().unwrap().take();
    let turn = gate.acquire_owned().await.unwrap();
    *pass.lock().unwrap() = Some(turn);
}

async fn behind() {
    tokio::task::yield_now().await;
    let mut woken = false;
    poll_fn(|context| {
        if std::mem::replace(&mut woken, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

type Ask = (bool, oneshot::Sender<()>);

impl Raw {
    fn new(wasm: &[u8], turn: Turn) -> Self {
        let mut config = Config::new();
        config.epoch_interruption(true).concurrency_support(false);
        let engine = Engine::new(&config).unwrap();
        let component = Component::from_binary(&engine, wasm).unwrap();
        let pre = Linker::new(&engine).instantiate_pre(&component).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        std::thread::spawn({
            let (engine, stop) = (engine.clone(), Arc::clone(&stop));
            move || {
                while Arc::strong_count(&stop) > 1 {
                    std::thread::park_timeout(Duration::from_millis(1));
                    engine.increment_epoch();
                }
            }
        });
        Self {
            engine,
            pre,
            turn,
            stop,
            gate: Arc::new(Semaphore::new(match turn {
                Turn::Gate(places) => places,
                _ => 0,
            })),
        }
    }

    /// A task that owns a Store and serves calls, on `runtime` or the current one.
    fn guest(&self, own: Option<tokio::runtime::Handle>) -> mpsc::Sender<Ask> {
        let (ask, mut asked) = mpsc::channel::<Ask>(16);
        let (engine, pre, turn) = (self.engine.clone(), self.pre.clone(), self.turn);
        let (stop, gate) = (Arc::clone(&self.stop), Arc::clone(&self.gate));
        let here = match (&own, turn) {
            (Some(own), Turn::Trap | Turn::Tokio) => own.clone(),
            _ => tokio::runtime::Handle::current(),
        };
        here.spawn(async move {
            let ticks = Arc::new(AtomicBool::new(false));
            let pass = Pass::default();
            let mut store =
                Some(store(&engine, &pre, turn, holding(&ticks, &stop, &gate, &pass)).await);
            while let Some((spin, reply)) = asked.recv().await {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (mut held, add, spins) = store.take().unwrap();
                let call = async move {
                    held.data_mut().deadline = Instant::now() + SPIN;
                    held.set_epoch_deadline(1);
                    let mut results = [Val::Bool(false)];
                    let failed = if spin {
                        spins.call_async(&mut held, &[], &mut []).await.is_err()
                    } else {
                        add.call_async(&mut held, &ARGUMENTS, &mut results)
                            .await
                            .is_err()
                    };
                    (failed, held, add, spins)
                };
                let (failed, held, add, spins) = match (&own, turn) {
                    (Some(own), Turn::Move) => {
                        let mut call = Box::pin(call);
                        match (UntilATick {
                            call: &mut call,
                            ticks: &ticks,
                        })
                        .await
                        {
                            Some(done) => done,
                            None => own.spawn(call).await.unwrap(),
                        }
                    }
                    (_, Turn::Gate(_)) => {
                        let mut call = Box::pin(call);
                        poll_fn(|context| {
                            let polled = call.as_mut().poll(context);
                            if polled.is_ready() {
                                pass.lock().unwrap().take();
                            }
                            polled
                        })
                        .await
                    }
                    _ => call.await,
                };
                store = Some(if failed {
                    self::store(&engine, &pre, turn, holding(&ticks, &stop, &gate, &pass)).await
                } else {
                    (held, add, spins)
                });
                reply.send(()).ok();
            }
        });
        ask
    }

    async fn row(self, own: Option<tokio::runtime::Handle>) -> Row {
        let sibling = Sibling::Raw(self.guest(own.clone()));
        let calls = sibling.calls().await;
        let mut naps = Vec::new();
        for spinners in SPINNERS {
            let spinning: Vec<_> = (0..spinners)
                .map(|_| {
                    let guest = self.guest(own.clone());
                    tokio::spawn(async move {
                        loop {
                            let (reply, answer) = oneshot::channel();
                            if guest.send((true, reply)).await.is_err() || answer.await.is_err() {
                                return;
                            }
                        }
                    })
                })
                .collect();
            naps.push(percentiles(sibling.naps().await));
            spinning.iter().for_each(tokio::task::JoinHandle::abort);
            tokio::time::sleep(SPIN * 3).await;
        }
        Row {
            call: percentiles(calls).0,
            naps,
        }
    }
}

/// The guest that does not spin.
enum Sibling {
    Raw(mpsc::Sender<Ask>),
    Ours(ComponentRef),
}

impl Sibling {
    async fn call(&self) {
        match self {
            Self::Raw(sibling) => {
                let (reply, answer) = oneshot::channel();
                sibling.send((false, reply)).await.unwrap();
                answer.await.ok();
            }
            Self::Ours(sibling) => {
                sibling.call("add", &ARGUMENTS).await.unwrap();
            }
        }
    }

    async fn calls(&self) -> Vec<Duration> {
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let began = Instant::now();
            self.call().await;
            times.push(began.elapsed());
        }
        times
    }

    async fn naps(&self) -> Vec<Duration> {
        let mut times = Vec::with_capacity(ROUNDS);
        let all = Instant::now();
        while times.len() < ROUNDS && all.elapsed() < CELL {
            let began = Instant::now();
            tokio::time::sleep(NAP).await;
            self.call().await;
            times.push(began.elapsed());
        }
        times
    }
}

type Guest = (
    Store<Held>,
    wasmtime::component::Func,
    wasmtime::component::Func,
);

fn holding(
    ticks: &Arc<AtomicBool>,
    stop: &Arc<AtomicBool>,
    gate: &Arc<Semaphore>,
    pass: &Pass,
) -> Held {
    Held {
        deadline: Instant::now() + SPIN,
        stop: Arc::clone(stop),
        ticks: Arc::clone(ticks),
        gate: Arc::clone(gate),
        pass: Arc::clone(pass),
    }
}

async fn store(engine: &Engine, pre: &InstancePre<Held>, turn: Turn, held: Held) -> Guest {
    let mut store = Store::new(engine, held);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |store| {
        if Instant::now() >= store.data().deadline || store.data().stop.load(Ordering::Relaxed) {
            return Ok(UpdateDeadline::Interrupt);
        }
        Ok(match turn {
            Turn::Trap => UpdateDeadline::Continue(1),
            Turn::Own => UpdateDeadline::Yield(1),
            Turn::Tokio => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
            Turn::Behind => UpdateDeadline::YieldCustom(1, Box::pin(behind())),
            Turn::Gate(_) => UpdateDeadline::YieldCustom(
                1,
                Box::pin(turn_at(
                    Arc::clone(&store.data().gate),
                    Arc::clone(&store.data().pass),
                )),
            ),
            Turn::Move => {
                store.data().ticks.store(true, Ordering::Relaxed);
                UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
            }
        })
    });
    let instance = pre.instantiate_async(&mut store).await.unwrap();
    let add = instance.get_func(&mut store, "add").unwrap();
    let spin = instance.get_func(&mut store, "spin").unwrap();
    (store, add, spin)
}

/// Polls a call until it is done, or has seen a tick.
struct UntilATick<'a, F> {
    call: &'a mut Pin<Box<F>>,
    ticks: &'a AtomicBool,
}

impl<F: Future> Future for UntilATick<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match this.call.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if this.ticks.swap(false, Ordering::Relaxed) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The same through this project's host.
async fn ours(wasm: Vec<u8>) -> Row {
    let (dir, host) = host(&wasm).await.unwrap();
    let sibling = Sibling::Ours(host.component("sibling").unwrap());
    let calls = sibling.calls().await;
    let mut naps = Vec::new();
    for spinners in SPINNERS {
        let spinning: Vec<_> = (0..spinners)
            .map(|n| {
                let spinner = host.component(&format!("spinner-{n}")).unwrap();
                tokio::spawn(async move {
                    loop {
                        spinner.call("spin", &[]).await.unwrap_err();
                    }
                })
            })
            .collect();
        naps.push(percentiles(sibling.naps().await));
        spinning.iter().for_each(tokio::task::JoinHandle::abort);
        tokio::time::sleep(Duration::from_millis(1300)).await;
    }
    host.shutdown().await;
    drop(dir);
    Row {
        call: percentiles(calls).0,
        naps,
    }
}

async fn host(wasm: &[u8]) -> Result<(tempfile::TempDir, Host), HostError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bench.wasm"), wasm).unwrap();
    let component = "[component]\nname = \"sibling\"\nversion = \"0.1.0\"\nwasm = \"bench.wasm\"\n\
                     [resources.memory]\nmax_bytes = 1048576\n[resources.cpu]\ntimeout_seconds = 1\n";
    std::fs::write(dir.path().join("Component.toml"), component).unwrap();
    let mut system = String::from(
        "[[supervisor]]\nname = \"tools\"\nintensity = 100000\nperiod_seconds = 1\n\
         [[supervisor.child]]\ncomponent = \"Component.toml\"\n",
    );
    for n in 0..8 {
        system.push_str(&format!(
            "[[supervisor.child]]\ncomponent = \"Component.toml\"\nname = \"spinner-{n}\"\n"
        ));
    }
    let file = dir.path().join("airssys.toml");
    std::fs::write(&file, system).unwrap();
    let host = Host::from_config(&file).await?;
    Ok((dir, host))
}
