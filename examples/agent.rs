//! An agent's loop around tools that leak, loop, trap and reach for what they were not granted: what
//! a tool did comes back to the model as data, and the other tools answer all along.
//!
//! The model is a script, so that every run asks for the same. One step a line; the exit code is 1 if
//! a step ended in another way than the script says, or a sibling missed a call.
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
use serde_json::{Map, Value, json};

/// What the model asks for, and how that is to end.
struct Step {
    tool: &'static str,
    function: &'static str,
    arguments: Value,
    ends: &'static str,
}

fn step(tool: &'static str, function: &'static str, arguments: Value, ends: &'static str) -> Step {
    Step {
        tool,
        function,
        arguments,
        ends,
    }
}

fn script() -> Vec<Step> {
    vec![
        step("calculator", "add", json!({"x": 2, "y": 3}), "answer"),
        step("calculator", "add", json!({"x": 2}), "arguments"),
        step("calculator", "add", json!({"x": 2, "y": 40}), "answer"),
        step(
            "calculator",
            "divide",
            json!({"dividend": 1, "divisor": 0}),
            "error",
        ),
        step("leaky", "leak", json!({"bytes": 65_536}), "answer"),
        step("leaky", "leak-until-refused", json!({}), "oom"),
        step("leaky", "held", json!({}), "answer"),
        step("spinner", "spin", json!({}), "deadline"),
        step("spinner", "ping", json!({}), "answer"),
        step("crasher", "divide-by-zero", json!({"x": 7}), "trap"),
        step("crasher", "ping", json!({}), "answer"),
        step(
            "prober",
            "connect",
            json!({"address": "203.0.113.7:443"}),
            "denied",
        ),
        step("calculator", "subtract", json!({"x": 2}), "function"),
    ]
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
async fn observe(host: &Host, step: &Step, arguments: &Map<String, Value>) -> Observation {
    let tool = match host.component(step.tool) {
        Ok(tool) => tool,
        Err(error) => return observation("tool", error.to_string()),
    };
    let (watch, mut events) = CallWatch::new();
    let answer = match tool.encode_json(step.function, arguments) {
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

    let mut transcript = Vec::new();
    let mut failed = 0;
    for (number, step) in (1_u32..).zip(script()) {
        let Value::Object(arguments) = &step.arguments else {
            return Err("arguments are an object".into());
        };
        let before = sums.load(Ordering::Relaxed);
        let seen = observe(&host, &step, arguments).await;
        let meanwhile = sums.load(Ordering::Relaxed) - before;
        // The notebook counts its notes: one that had been restarted would begin anew.
        let note = format!("{}.{}: {}", step.tool, step.function, seen.kind);
        let notes = notebook.call("append", &[Val::String(note)]).await?;
        let sibling_went_on = meanwhile > 0 || step.ends != "deadline";
        let as_scripted = seen.kind == step.ends && notes == [Val::U32(number)] && sibling_went_on;
        failed += u32::from(!as_scripted);
        println!(
            "{number:2} {} {}.{} {} -> {}: {}; {meanwhile} calls of a sibling answered meanwhile",
            if as_scripted { "ok" } else { "UNEXPECTED" },
            step.tool,
            step.function,
            step.arguments,
            seen.kind,
            seen.told,
        );
        transcript.push(json!({
            "call": format!("{}.{}", step.tool, step.function),
            "arguments": arguments,
            "observed": seen.kind,
            "content": seen.told,
        }));
    }

    stop.store(true, Ordering::Relaxed);
    let missed = sibling.await?;
    let answered = sums.load(Ordering::Relaxed);
    println!("{} observations for the model", transcript.len());
    println!("siblings: {answered} sums answered, {missed} missed; no note lost");
    host.shutdown().await;
    let is_good = failed == 0 && missed == 0 && answered > 0;
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
