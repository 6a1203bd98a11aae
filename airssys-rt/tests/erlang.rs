//! Our supervisor against Erlang's: the same random scenarios, the same traces.
//!
//! A seed makes a tree and what happens to it ([`scenario`]). Real Erlang plays it (`oracle.escript`
//! drives OTP's `supervisor`), our supervisor plays it ([`subject`]); both come to rest after every
//! operation and write down what happened, what was replied and what is there now. No line may
//! differ.
//!
//! Where ours is meant to differ, nothing is asked: a start and a stop under way hold up only whom
//! they concern, a stop overtakes what waits in a mailbox, and a killed supervisor's children end in
//! nobody's order. Nor where OTP 25 does what later ones and ours do not: it accepts auto_shutdown
//! for dynamic supervisors, and keeps a dynamic child whose restart was ignored. The generator says
//! so at each place.
//!
//! - `cargo test -p airssys-rt --test erlang`: the first [`DEFAULT_SEEDS`] seeds.
//! - `AIRSSYS_ERLANG_SEEDS=100000 cargo test --release -p airssys-rt --test erlang`: as many.
//! - `AIRSSYS_ERLANG_SEED=7 cargo test -p airssys-rt --test erlang -- --nocapture`: this one, and
//!   its trace.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test that meets something unexpected should fail there"
)]

#[path = "erlang/generator.rs"]
mod generator;
#[path = "erlang/oracle.rs"]
mod oracle;
#[path = "erlang/scenario.rs"]
mod scenario;
#[path = "erlang/subject.rs"]
mod subject;

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::RangeInclusive;

use scenario::Scenario;

/// What runs when nobody asks for more.
const DEFAULT_SEEDS: u64 = 2000;
/// Scenarios for one Erlang node.
const BATCH: u64 = 500;
/// Differing seeds that are shown; the rest is counted.
const SHOWN: usize = 3;

#[test]
fn our_supervisor_leaves_the_same_trace_as_erlangs() {
    let seeds = seeds();
    // Not `println!`, which the test harness keeps to itself.
    writeln!(
        std::io::stderr(),
        "seeds {} to {}",
        seeds.start(),
        seeds.end()
    )
    .unwrap();
    let mut different = Vec::new();
    let mut first = *seeds.start();
    while first <= *seeds.end() {
        let last = seeds.end().min(&(first + BATCH - 1)).to_owned();
        let scenarios: Vec<Scenario> = (first..=last).map(generator::scenario).collect();
        different.extend(
            differing(&scenarios)
                .into_iter()
                .map(|at| scenarios[at].clone()),
        );
        first = last + 1;
    }
    if seeds.start() == seeds.end() {
        println!("{}", subject::play(&generator::scenario(*seeds.start())));
    }
    if different.is_empty() {
        return;
    }
    let mut report = format!("{} of {seeds:?} differ", different.len());
    let all: Vec<String> = different.iter().map(|s| s.seed.to_string()).collect();
    write!(report, ": {}", all.join(" ")).unwrap();
    for scenario in different.iter().take(SHOWN) {
        report.push_str(&told(scenario));
    }
    panic!("{report}");
}

fn seeds() -> RangeInclusive<u64> {
    let asked = |name: &str| {
        let value = std::env::var(name).ok()?;
        Some(value.parse().unwrap_or_else(|_| panic!("{name}: {value}")))
    };
    match (asked("AIRSSYS_ERLANG_SEED"), asked("AIRSSYS_ERLANG_SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, count) => 1..=count.unwrap_or(DEFAULT_SEEDS),
    }
}

/// The scenarios, by index, whose traces differ.
fn differing(scenarios: &[Scenario]) -> Vec<usize> {
    let (theirs, ours) = both(scenarios);
    let theirs: Vec<String> = theirs.iter().map(|trace| unordered(trace)).collect();
    let ours: Vec<String> = ours.iter().map(|trace| unordered(trace)).collect();
    (0..scenarios.len())
        .filter(|at| theirs[*at] != ours[*at])
        .collect()
}

/// The trace with the ends of dynamic children that follow one another sorted: a dynamic supervisor
/// stops its children all at once, so their order is nobody's choice.
fn unordered(trace: &str) -> String {
    let parent = |line: &str| {
        let (parent, id) = line
            .strip_prefix('-')?
            .split(' ')
            .next()?
            .rsplit_once('/')?;
        id.starts_with('d').then(|| parent.to_owned())
    };
    let lines: Vec<&str> = trace.lines().collect();
    lines
        .chunk_by(|a, b| parent(a).is_some() && parent(a) == parent(b))
        .flat_map(|run| {
            let mut run = run.to_vec();
            run.sort_unstable();
            run
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

fn both(scenarios: &[Scenario]) -> (Vec<String>, Vec<String>) {
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| oracle::play(scenarios));
        let ours = scenarios.iter().map(subject::play).collect();
        let theirs = theirs
            .join()
            .unwrap_or_else(|cause| std::panic::resume_unwind(cause));
        (theirs, ours)
    })
}

/// The scenario without the operations and children that the difference does not need.
fn shortest(scenario: &Scenario) -> Scenario {
    let mut scenario = scenario.clone();
    let mut width = scenario.parts() / 2;
    while width > 0 {
        let shorter: Vec<Scenario> = (0..scenario.parts())
            .step_by(width)
            .map(|first| scenario.without(first..first + width))
            .collect();
        match differing(&shorter).last() {
            Some(at) => scenario = shorter[*at].clone(),
            None => width /= 2,
        }
    }
    scenario
}

fn told(scenario: &Scenario) -> String {
    let seed = scenario.seed;
    let scenario = shortest(scenario);
    let (theirs, ours) = both(std::slice::from_ref(&scenario));
    let (theirs, ours) = (unordered(&theirs[0]), unordered(&ours[0]));
    let same = theirs
        .lines()
        .zip(ours.lines())
        .take_while(|(theirs, ours)| theirs == ours)
        .count();
    let marked = |trace: &str| {
        let mut text = String::new();
        for (at, line) in trace.lines().enumerate() {
            let mark = if at == same { "=>" } else { "  " };
            writeln!(text, "{mark} {line}").unwrap();
        }
        text
    };
    format!(
        "\n\nseed {seed}, cut down to what differs:\n{scenario}\nErlang:\n{}\nours:\n{}\nreplay: \
         AIRSSYS_ERLANG_SEED={seed} cargo test -p airssys-rt --test erlang -- --nocapture",
        marked(&theirs),
        marked(&ours)
    )
}
