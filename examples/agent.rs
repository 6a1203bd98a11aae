//! An agent's loop around tools that leak, loop, trap and reach for what they were not granted: what
//! a tool did comes back to the model as data, and the other tools answer all along.
//!
//! The model is a script, so that every run asks for the same; where it corrects itself, it does so only
//! if it was told what was wrong. One step a line; the exit code is 1 if a step ended in another way
//! than the script says, or a sibling missed a call.
//!
//! Run it with `cargo run --example agent`.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use airssys::json::Outcome;
use airssys::{
    CallEvent, CallOptions, CallWatch, ChildSpec, ComponentConfig, ComponentRef, ComponentSpec,
    Host, Val, WasmError,
};
use serde_json::{Map, Value};

/// A step a line: what the model must have been told before, the tool and its function, the arguments,
/// and how that is to end.
const SCRIPT: &str = r#"
|                          | calculator.add           | {"x": 2}                         | arguments
| argument y: missing      | calculator.add           | {"x": 2, "y": 3}                 | answer
| 5                        | calculator.divide        | {"dividend": 84, "divisor": 0}   | error
| division-by-zero         | calculator.divide        | {"dividend": 84, "divisor": 2}   | answer
| 42                       | leaky.leak-until-refused | {}                               | oom
| limit 1048576            | leaky.leak               | {"bytes": 65536}                 | answer
| 65536                    | spinner.spin             | {}                               | deadline
| deadline of 1s           | spinner.spin-for         | {"iterations": 1000}             | answer
|                          | crasher.divide-by-zero   | {"x": 7}                         | trap
| integer division by zero | crasher.ping             | {}                               | answer
| 1                        | prober.connect           | {"address": "203.0.113.7:443"}   | denied
| [capabilities.network]   | calculator.plus          | {"x": 20, "y": 22}               | function
| docs:adder/add@0.1.0#add | calculator.add           | {"x": 20, "y": 22}               | answer
"#;

/// What the model asks for.
struct Step {
    tool: &'static str,
    function: &'static str,
    arguments: Map<String, Value>,
    ends: &'static str,
}

/// A model that goes by its script.
struct Model(std::iter::Skip<std::str::Lines<'static>>);

impl Model {
    fn new() -> Self {
        Self(SCRIPT.lines().skip(1))
    }

    /// What it asks for next, now that it was told this; nothing where that is not what it goes on
    /// from, and at the end of its script.
    fn next(&mut self, told: &Value) -> Result<Option<Step>, Box<dyn Error>> {
        let Some(line) = self.0.next() else {
            return Ok(None);
        };
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, because, call, arguments, ends] = columns[..] else {
            return Err("a step has four columns".into());
        };
        if !told.to_string().contains(because) {
            return Ok(None);
        }
        let (tool, function) = call.split_once('.').ok_or("a call has a tool")?;
        Ok(Some(Step {
            tool,
            function,
            arguments: serde_json::from_str(arguments)?,
            ends,
        }))
    }
}

/// How a step ended, as the model is told.
struct Observation {
    kind: &'static str,
    told: Value,
}

fn observation(kind: &'static str, told: impl Into<Value>) -> Observation {
    Observation {
        kind,
        told: told.into(),
    }
}

/// Makes one call of the model's. Whatever comes of it is an observation.
async fn observe(host: &Host, step: &Step) -> Observation {
    let tool = match host.component(step.tool) {
        Ok(tool) => tool,
        Err(error) => return observation("tool", error.to_string()),
    };
    let (watch, mut events) = CallWatch::new();
    let answer = match tool.encode_json(step.function, &step.arguments) {
        Ok(message) => {
            let options = CallOptions::default().watch(watch);
            tool.call_encoded_with(step.function, message, options)
                .await
                .and_then(|results| results.json())
        }
        Err(error) => Err(error),
    };
    // The tool itself only sees that it did not get what it asked for; the host knows what for.
    while let Some(event) = events.try_next() {
        if let CallEvent::Denied(denied) = event {
            let missing = denied.denial.missing.as_ref().map(ToString::to_string);
            return observation("denied", missing.unwrap_or_default());
        }
    }
    match answer {
        Ok(Outcome::Value(value)) => observation("answer", value.unwrap_or_default()),
        Ok(Outcome::Error(value)) => observation("error", value),
        Err(error) => observation(kind(&error), error.to_string()),
    }
}

/// What a model can act on: its arguments are wrong, the tool has no such function, or this call is
/// too much for the tool.
fn kind(error: &WasmError) -> &'static str {
    match error {
        WasmError::Json { .. } | WasmError::Arguments { .. } => "arguments",
        WasmError::Function { .. } => "function",
        WasmError::OutOfMemory { .. } => "oom",
        WasmError::Exited { cause, .. } => cause.kind().as_str(),
        _ => "unavailable",
    }
}

/// Adds, all the time, until it is told to stop.
async fn sibling(calculator: ComponentRef, stop: Arc<AtomicBool>, sums: Arc<AtomicU64>) -> u64 {
    let mut missed = 0;
    while !stop.load(Ordering::Relaxed) {
        let answer = calculator.call("add", &[Val::U32(20), Val::U32(22)]).await;
        if answer.is_ok_and(|sum| sum == [Val::U32(42)]) {
            sums.fetch_add(1, Ordering::Relaxed);
        } else {
            missed += 1;
        }
        tokio::task::yield_now().await;
    }
    missed
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let guests = concat!(env!("CARGO_MANIFEST_DIR"), "/guests");
    let host = Host::from_config(format!("{guests}/airssys.toml")).await?;
    let prober = ComponentConfig::load(format!("{guests}/components/prober/Component.toml"))?;
    let hostile = host.supervisor("hostile")?;
    hostile.start_child(ChildSpec::component(prober)).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let sums = Arc::new(AtomicU64::new(0));
    let calculator = host.component("calculator")?;
    let sibling = tokio::spawn(sibling(calculator, Arc::clone(&stop), Arc::clone(&sums)));
    let notebook = host.component("notebook")?;

    let (mut model, mut told) = (Model::new(), Value::Null);
    let steps = model.0.clone().count();
    let (mut taken, mut failed) = (0, 0);
    while let Some(step) = model.next(&told)? {
        let before = sums.load(Ordering::Relaxed);
        let seen = observe(&host, &step).await;
        let meanwhile = sums.load(Ordering::Relaxed) - before;
        taken += 1;
        // The notebook counts its notes: one that had been restarted would begin anew.
        let note = format!("{}.{}: {}", step.tool, step.function, seen.kind);
        let notes = notebook.call("append", &[Val::String(note)]).await?;
        let sibling_went_on = meanwhile > 0 || step.ends != "deadline";
        let as_scripted = seen.kind == step.ends && notes == [Val::U32(taken)] && sibling_went_on;
        failed += u32::from(!as_scripted);
        println!(
            "{taken:2} {} {}.{} {} -> {}: {}; {meanwhile} calls of a sibling answered meanwhile",
            if as_scripted { "ok" } else { "UNEXPECTED" },
            step.tool,
            step.function,
            Value::Object(step.arguments),
            seen.kind,
            seen.told,
        );
        told = seen.told;
    }

    stop.store(true, Ordering::Relaxed);
    let missed = sibling.await?;
    let answered = sums.load(Ordering::Relaxed);
    println!("{taken} of {steps} steps taken");
    println!("siblings: {answered} sums answered, {missed} missed; no note lost");
    host.shutdown().await;
    let is_good = taken as usize == steps && failed == 0 && missed == 0 && answered > 0;
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
