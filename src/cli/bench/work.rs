//! The pairs: each done by a host of this project and bare, turn by turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use airssys::{ComponentRef, ComponentResourceLimiter, ResourceLimits, Val};
use airssys_guests::{CALCULATOR, CRASHER, LEAKY, SPINNER};
use wasmtime::error::Context as _;

use super::bare::{Bare, Task};
use super::figures::{Bound, Row, Unit, median, percentile};
use super::tree::Tree;

const ADD: &str = "docs:adder/add@0.1.0#add";
const ECHO: &str = "airssys:calculator/arithmetic@0.1.0#echo";
const TRAP: &str = "airssys:crasher/crash@0.1.0#trap";
const PING: &str = "airssys:crasher/crash@0.1.0#ping";
const LEAK: &str = "airssys:leaky/leak@0.1.0#try-leak";
const SPIN: &str = "airssys:spinner/spin@0.1.0#spin-for";

const SUM: [Val; 2] = [Val::U32(2), Val::U32(3)];
const ECHO_BYTES: usize = 64 * 1024;
/// What `growth` takes in one instance: 40 times 64 KiB.
const LEAKS: usize = 40;
/// What a guest works for `epochs`, some 10 ms.
const ROUNDS: u64 = 5_000_000;
/// Calls a pair begins with that are not measured.
const WARM_UP: usize = 50;

async fn component(tree: &Tree, name: &str) -> wasmtime::Result<ComponentRef> {
    let found = tree.component(name);
    found.with_context(|| format!("no component {name}"))
}

/// A call and its answer, beside a tokio task that owns a Store.
pub(super) async fn call(rounds: usize) -> wasmtime::Result<Row> {
    let tree = Tree::start(&[(CALCULATOR, "")], 1).await?;
    let calculator = component(&tree, "calculator-0").await?;
    let task = Task::spawn(Bare::new(CALCULATOR.wasm, 4)?, &[ADD]).await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..rounds + WARM_UP {
        let began = Instant::now();
        calculator.call(ADD, &SUM).await?;
        let between = Instant::now();
        task.call(0, &SUM, 1).await??;
        if round >= WARM_UP {
            ours.push(between - began);
            bare.push(between.elapsed());
        }
    }
    tree.shutdown().await;
    Ok(Row {
        name: "call",
        what: "a call of two numbers through ComponentRef",
        unit: Unit::Nanoseconds,
        ours: median(&mut ours),
        beside: "a tokio task that owns a Store",
        bare: median(&mut bare),
        bound: Bound::Ratio(1.6),
    })
}

/// 64 KiB there and back, beside the typed call of a Store at hand.
pub(super) async fn echo(rounds: usize) -> wasmtime::Result<Row> {
    let tree = Tree::start(&[(CALCULATOR, "")], 1).await?;
    let calculator = component(&tree, "calculator-0").await?;
    let mut instance = Bare::new(CALCULATOR.wasm, 4)?.instance(&[ECHO]).await?;
    let func = instance.functions.first().context("no echo")?;
    let typed = func.typed::<(&[u8],), (Vec<u8>,)>(&instance.store)?;
    let bytes = vec![7; ECHO_BYTES];
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..rounds + WARM_UP {
        let began = Instant::now();
        let echoed = calculator.call_bytes(ECHO, &bytes).await?;
        let between = Instant::now();
        let (also,) = typed.call_async(&mut instance.store, (&bytes,)).await?;
        let ended = Instant::now();
        wasmtime::ensure!(echoed == bytes && also == bytes, "the echo is wrong");
        if round >= WARM_UP {
            ours.push(between - began);
            bare.push(ended - between);
        }
    }
    tree.shutdown().await;
    Ok(Row {
        name: "echo",
        what: "64 KiB there and back",
        unit: Unit::Nanoseconds,
        ours: median(&mut ours),
        beside: "a typed call on a Store at hand",
        bare: median(&mut bare),
        bound: Bound::Ratio(2.0),
    })
}

/// What the instance of its own costs that a call has in the mode `per-call`, beside what it costs
/// a tokio task. Both go through a task: a pool's memory is taken back from every processor that the
/// process has run on, which waits for those that sleep.
pub(super) async fn fresh(rounds: usize) -> wasmtime::Result<Row> {
    let per_call = "[instance]\nmode = \"per-call\"\n";
    let fresh_tree = Tree::start(&[(CALCULATOR, per_call)], 1).await?;
    let fresh = component(&fresh_tree, "calculator-0").await?;
    let kept_tree = Tree::start(&[(CALCULATOR, "")], 1).await?;
    let kept = component(&kept_tree, "calculator-0").await?;
    let bare_fresh = Task::fresh(Bare::new(CALCULATOR.wasm, 4)?, &[ADD]);
    let bare_kept = Task::spawn(Bare::new(CALCULATOR.wasm, 4)?, &[ADD]).await?;
    let (mut ours, mut bare) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..rounds + WARM_UP {
        let mut lap = Lap::begin();
        fresh.call(ADD, &SUM).await?;
        let with = lap.next();
        kept.call(ADD, &SUM).await?;
        let without = lap.next();
        bare_fresh.call(0, &SUM, 1).await??;
        let bare_with = lap.next();
        bare_kept.call(0, &SUM, 1).await??;
        let bare_without = lap.next();
        if round >= WARM_UP {
            let [ours_with, ours_without] = &mut ours;
            ours_with.push(with);
            ours_without.push(without);
            let [fresh_calls, calls] = &mut bare;
            fresh_calls.push(bare_with);
            calls.push(bare_without);
        }
    }
    fresh_tree.shutdown().await;
    kept_tree.shutdown().await;
    let difference = |[with, without]: &mut [Vec<Duration>; 2]| median(with) - median(without);
    Ok(Row {
        name: "fresh",
        what: "an instance for one call: Store, limiter, WASI, instance, and its end",
        unit: Unit::Nanoseconds,
        ours: difference(&mut ours),
        beside: "the same in tokio tasks, without a limiter",
        bare: difference(&mut bare),
        bound: Bound::Ratio(1.2),
    })
}

/// From a call that traps to the answer of the next, beside a task that makes itself a Store anew.
pub(super) async fn recovery(rounds: usize) -> wasmtime::Result<Row> {
    let tree = Tree::start(&[(CRASHER, "")], 1).await?;
    let crasher = component(&tree, "crasher-0").await?;
    let task = Task::spawn(Bare::new(CRASHER.wasm, 4)?, &[TRAP, PING]).await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..rounds + WARM_UP {
        wasmtime::ensure!(crasher.call(TRAP, &[]).await.is_err(), "no trap");
        let began = Instant::now();
        crasher.call(PING, &[]).await?;
        let took = began.elapsed();
        wasmtime::ensure!(task.call(0, &[], 0).await?.is_err(), "no trap");
        let began = Instant::now();
        task.call(1, &[], 1).await??;
        if round >= WARM_UP {
            ours.push(took);
            bare.push(began.elapsed());
        }
    }
    tree.shutdown().await;
    Ok(Row {
        name: "recovery",
        what: "from a trap to the answer of the next call",
        unit: Unit::Nanoseconds,
        ours: median(&mut ours),
        beside: "a tokio task that makes itself a Store anew",
        bare: median(&mut bare),
        bound: Bound::RatioAndMost(3.0, 100_000.0),
    })
}

/// Memory that grows by 64 KiB at a time and is written to, with the limiter and without.
pub(super) async fn growth(rounds: usize) -> wasmtime::Result<Row> {
    let pool = Bare::new(LEAKY.wasm, 4)?;
    let limits = ResourceLimits::builder()
        .max_memory_bytes(4 * 1024 * 1024)
        .build()?;
    let chunk = [Val::U32(64 * 1024)];
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..rounds + WARM_UP {
        for limited in [true, false] {
            let limiter = limited.then(|| ComponentResourceLimiter::new(&limits));
            let mut instance = pool.limited(&[LEAK], limiter).await?;
            instance.call(0, &chunk, 1).await?;
            let began = Instant::now();
            for _ in 0..LEAKS {
                instance.call(0, &chunk, 1).await?;
            }
            let took = began.elapsed();
            if round >= WARM_UP {
                if limited { &mut ours } else { &mut bare }.push(took);
            }
        }
    }
    Ok(Row {
        name: "growth",
        what: "40 times 64 KiB taken and written to, under the limiter",
        unit: Unit::Nanoseconds,
        ours: median(&mut ours),
        beside: "without a limiter",
        bare: median(&mut bare),
        bound: Bound::Ratio(1.01),
    })
}

/// A call that computes for some 10 ms, with ticks and turns, and without a ticker.
pub(super) async fn epochs(rounds: usize) -> wasmtime::Result<Row> {
    let tree = Tree::start(&[(SPINNER, "")], 1).await?;
    let spinner = component(&tree, "spinner-0").await?;
    let mut instance = Bare::new(SPINNER.wasm, 4)?.instance(&[SPIN]).await?;
    let work = [Val::U64(ROUNDS)];
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(10) {
        let mut lap = Lap::begin();
        spinner.call(SPIN, &work).await?;
        ours.push(lap.next());
        instance.call(0, &work, 1).await?;
        bare.push(lap.next());
    }
    tree.shutdown().await;
    Ok(Row {
        name: "epochs",
        what: "a guest that computes, with ticks and turns",
        unit: Unit::Nanoseconds,
        ours: median(&mut ours),
        beside: "the same code without a ticker",
        bare: median(&mut bare),
        bound: Bound::Ratio(1.02),
    })
}

/// The slowest of a hundred calls while a sibling dies all the time, beside the same in quiet.
pub(super) async fn siblings(rounds: usize) -> wasmtime::Result<Row> {
    let tree = Tree::start(&[(CALCULATOR, ""), (CRASHER, "")], 1).await?;
    let calculator = component(&tree, "calculator-0").await?;
    let crasher = component(&tree, "crasher-0").await?;
    let (mut beside_deaths, mut quiet) = (Vec::new(), Vec::new());
    // In turns, so that a machine that is busy meanwhile is so for both.
    for _ in 0..10 {
        measure(&calculator, rounds / 10, &mut quiet).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let killing = tokio::spawn({
            let (stop, crasher) = (Arc::clone(&stop), crasher.clone());
            async move {
                while !stop.load(Ordering::Relaxed) {
                    crasher.call(TRAP, &[]).await.err();
                }
            }
        });
        measure(&calculator, rounds / 10, &mut beside_deaths).await?;
        stop.store(true, Ordering::Relaxed);
        killing.await?;
    }
    tree.shutdown().await;
    Ok(Row {
        name: "siblings",
        what: "p99 of a call while a sibling is killed flat out",
        unit: Unit::Nanoseconds,
        ours: percentile(&mut beside_deaths, 99),
        beside: "p99 in quiet",
        bare: percentile(&mut quiet, 99),
        bound: Bound::Ratio(1.5),
    })
}

async fn measure(
    component: &ComponentRef,
    rounds: usize,
    times: &mut Vec<Duration>,
) -> wasmtime::Result<()> {
    for _ in 0..rounds {
        let began = Instant::now();
        component.call(ADD, &SUM).await?;
        times.push(began.elapsed());
    }
    Ok(())
}

/// Times one after the other.
struct Lap(Instant);

impl Lap {
    fn begin() -> Self {
        Self(Instant::now())
    }

    fn next(&mut self) -> Duration {
        let now = Instant::now();
        let took = now - self.0;
        self.0 = now;
        took
    }
}
