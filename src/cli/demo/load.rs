//! The calls: what each component is asked, what it should answer, and how it may die of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use airssys::{ComponentRef, ExitKind, Val, WasmError};
use tokio::sync::watch;

use super::tally::{Outcome, Tally};

/// Callers of each component.
pub(super) const CALLERS: u64 = 2;

/// How long a caller waits for one call. Longer than any guest may take, so what runs into it is
/// lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// Rest of a hostile component's callers between two calls: restarts are what is shown there, and
/// no more of them than a supervisor's intensity can be set to.
const REST: Duration = Duration::from_millis(1);

/// Appends after which a caller has the notebook cleared, so that it stays far below its limit.
const CLEAR_EVERY: u64 = 1_000;

/// What `leak` takes at a time.
const LEAK_BYTES: u32 = 16 * 1024;

/// One call to make.
struct Job {
    function: &'static str,
    arguments: Vec<Val>,
    expected: Expected,
}

enum Expected {
    /// Any answer will do.
    Answer,
    /// This one and no other.
    Exactly(Val),
    /// The instance may die of this call, of that cause.
    AnswerOrExit(ExitKind),
    /// It has to.
    Exit(ExitKind),
}

impl Job {
    fn new(function: &'static str, arguments: Vec<Val>, expected: Expected) -> Self {
        Self {
            function,
            arguments,
            expected,
        }
    }
}

/// Calls one component until told to stop; the call it is waiting for then is waited for.
pub(super) async fn call_on(
    component: ComponentRef,
    tally: Arc<Tally>,
    caller: u64,
    stop: watch::Receiver<bool>,
) {
    let mut round = 0;
    while !*stop.borrow() {
        let job = job(tally.name, caller, round);
        tally.begin();
        let began = Instant::now();
        let result = component
            .call_within(job.function, &job.arguments, PATIENCE)
            .await;
        tally.end(outcome(&job.expected, result, began.elapsed()));
        if !tally.behaves {
            tokio::time::sleep(REST).await;
        }
        round += 1;
    }
}

fn outcome(expected: &Expected, result: Result<Vec<Val>, WasmError>, latency: Duration) -> Outcome {
    let results = match result {
        Ok(results) => results,
        Err(error) => {
            let exit = match &error {
                WasmError::OutOfMemory { .. } => Some(ExitKind::OutOfMemory),
                WasmError::Exited { cause, .. } => Some(cause.kind()),
                _ => None,
            };
            return match (expected, exit) {
                (Expected::AnswerOrExit(kind) | Expected::Exit(kind), Some(exit))
                    if *kind == exit =>
                {
                    Outcome::Failed
                }
                _ => Outcome::Lost(error.to_string()),
            };
        }
    };
    match expected {
        Expected::Exactly(right) if results.first() != Some(right) => {
            Outcome::Lost(format!("wrong answer: {results:?} instead of {right:?}"))
        }
        Expected::Exit(kind) => Outcome::Lost(format!("answered instead of ending by {kind}")),
        _ => Outcome::Answered(latency),
    }
}

/// The `round`th call of a caller.
fn job(component: &str, caller: u64, round: u64) -> Job {
    match component {
        "calculator" => calculator(caller, round),
        "notebook" => notebook(caller, round),
        "leaky" => leaky(round),
        "spinner" => spinner(caller, round),
        _ => crasher(caller, round),
    }
}

fn calculator(caller: u64, round: u64) -> Job {
    if round.is_multiple_of(2) {
        let (x, y) = (round as u32, caller as u32);
        let right = Val::U32(x.wrapping_add(y));
        let arguments = vec![Val::U32(x), Val::U32(y)];
        return Job::new(
            "docs:adder/add@0.1.0#add",
            arguments,
            Expected::Exactly(right),
        );
    }
    let numbers = 0..64i64;
    let right = Val::S64(numbers.clone().sum());
    let arguments = vec![Val::List(numbers.map(Val::S64).collect())];
    Job::new("sum", arguments, Expected::Exactly(right))
}

fn notebook(caller: u64, round: u64) -> Job {
    if round % CLEAR_EVERY == CLEAR_EVERY - 1 {
        return Job::new("clear", Vec::new(), Expected::Answer);
    }
    match round % 3 {
        0 => Job::new("count", Vec::new(), Expected::Answer),
        1 => Job::new("get", vec![Val::U32(0)], Expected::Answer),
        _ => {
            let note = Val::String(format!("note {round} of caller {caller}"));
            Job::new("append", vec![note], Expected::Answer)
        }
    }
}

fn leaky(round: u64) -> Job {
    if round % 4 == 3 {
        return Job::new("held", Vec::new(), Expected::Answer);
    }
    let arguments = vec![Val::U32(LEAK_BYTES)];
    Job::new(
        "leak",
        arguments,
        Expected::AnswerOrExit(ExitKind::OutOfMemory),
    )
}

fn spinner(caller: u64, round: u64) -> Job {
    // One caller lets it loop early, so that a short demo also sees a deadline pass.
    if caller == 0 && round % 200 == 10 {
        return Job::new("spin", Vec::new(), Expected::Exit(ExitKind::Deadline));
    }
    if round.is_multiple_of(2) {
        return Job::new("ping", Vec::new(), Expected::Answer);
    }
    Job::new("spin-for", vec![Val::U64(20_000)], Expected::Answer)
}

fn crasher(caller: u64, round: u64) -> Job {
    if round % 10 != 9 {
        return Job::new("ping", Vec::new(), Expected::Answer);
    }
    let (function, arguments, kind) = match (round / 10 + caller) % 6 {
        0 => ("trap", Vec::new(), ExitKind::Trap),
        1 => ("overflow", Vec::new(), ExitKind::StackOverflow),
        2 => ("exit", vec![Val::U8(1)], ExitKind::GuestExit),
        3 => {
            let message = Val::String(String::from("the demo asked for it"));
            ("panic", vec![message], ExitKind::Trap)
        }
        4 => ("divide-by-zero", vec![Val::U32(7)], ExitKind::Trap),
        _ => ("out-of-bounds", Vec::new(), ExitKind::Trap),
    };
    Job::new(function, arguments, Expected::Exit(kind))
}
