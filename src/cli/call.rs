//! `airssys call`: one call, its arguments and its result in WAVE or in JSON.

mod wave;

use std::io::Read;
use std::time::{Duration, Instant};

use airssys::json::Outcome;
use airssys::{
    ChildConfig, ComponentRef, Function, HostBuilder, Message, SupervisorConfig, SystemConfig, Val,
    WasmError,
};
use serde_json::{Map, Value, json};

use super::error::{CliError, ExpectedError, Failure};
use super::output::Output;
use super::{CallArgs, Exit, start};

/// How long an interrupted call waits for its component to stop.
const INTERRUPTED_STOP: Duration = Duration::from_millis(500);

/// Most bytes of JSON that are read: what the largest message can be written with.
const MAX_INPUT_BYTES: u64 = 64 * 1024 * 1024;

pub(super) async fn call(
    args: &CallArgs,
    config: SystemConfig,
    output: Output,
) -> Result<Exit, CliError> {
    let config = alone(args, config)?;
    let input = args.input.as_deref().map(input).transpose()?;
    let mut interrupt = start::interrupt()?;
    let builder = HostBuilder::from(config);
    let Some(host) = start::start(builder, &args.component, &mut interrupt, output).await? else {
        return Ok(output.interrupted());
    };
    let component = host.component(&args.component)?;
    let called = tokio::select! {
        called = call_once(&component, args, input.as_ref()) => Some(called),
        () = interrupt.asked() => None,
    };
    let Some(called) = called else {
        // A guest that computes would use up its whole time to stop; the process ends anyway.
        tokio::time::timeout(INTERRUPTED_STOP, host.shutdown())
            .await
            .ok();
        return Ok(output.interrupted());
    };
    host.shutdown().await;
    called?.print(args, output)
}

/// The tree cut down to the component that is called.
fn alone(args: &CallArgs, config: SystemConfig) -> Result<SystemConfig, CliError> {
    let mut known = Vec::new();
    let supervisors: Vec<SupervisorConfig> = config
        .supervisors
        .iter()
        .filter_map(|supervisor| find(supervisor, &args.component, &mut known))
        .collect();
    if supervisors.is_empty() {
        return Err(ExpectedError::UnknownComponent {
            name: args.component.clone(),
            file: args.file.clone(),
            known,
        }
        .into());
    }
    Ok(SystemConfig {
        supervisors,
        ..config
    })
}

/// The supervisor with that component as its only child, somewhere below this one. Collects the
/// names it meets.
fn find(
    supervisor: &SupervisorConfig,
    name: &str,
    known: &mut Vec<String>,
) -> Option<SupervisorConfig> {
    for child in &supervisor.children {
        match child {
            ChildConfig::Component(node) if node.name.as_str() == name => {
                return Some(SupervisorConfig {
                    children: vec![child.clone()],
                    ..supervisor.clone()
                });
            }
            ChildConfig::Component(node) => known.push(node.name.to_string()),
            ChildConfig::Supervisor(nested) => {
                if let Some(found) = find(nested, name, known) {
                    return Some(found);
                }
            }
        }
    }
    None
}

struct Called {
    function: String,
    answer: Answer,
    elapsed: Duration,
}

enum Answer {
    Wave(Vec<String>),
    Json(Outcome),
}

impl Called {
    fn print(self, args: &CallArgs, output: Output) -> Result<Exit, CliError> {
        let (name, value, exit) = match self.answer {
            Answer::Wave(results) if !output.is_json() => {
                for result in results {
                    output.line(&result)?;
                }
                return Ok(Exit::Ok);
            }
            Answer::Wave(results) => ("results", json!(results), Exit::Ok),
            Answer::Json(Outcome::Value(value)) => ("result", json!(value), Exit::Ok),
            Answer::Json(Outcome::Error(error)) => ("error", error, Exit::Failed),
        };
        if output.is_json() {
            output.json(&json!({
                "component": args.component,
                "function": self.function,
                name: value,
                "elapsed_us": self.elapsed.as_micros() as u64,
            }))?;
        } else if exit == Exit::Ok {
            output.json(&value)?;
        } else {
            output.json(&json!({ name: value }))?;
        }
        Ok(exit)
    }
}

/// The object that `--input` names.
fn input(given: &str) -> Result<Map<String, Value>, ExpectedError> {
    let mut text = String::new();
    let text = if given == "-" {
        let read = std::io::stdin()
            .take(MAX_INPUT_BYTES)
            .read_to_string(&mut text);
        read.map_err(|source| ExpectedError::NoInput { source })?;
        &text
    } else {
        given
    };
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ExpectedError::NotAnObject { source: None }),
        Err(source) => Err(ExpectedError::NotAnObject {
            source: Some(source),
        }),
    }
}

async fn call_once(
    component: &ComponentRef,
    args: &CallArgs,
    input: Option<&Map<String, Value>>,
) -> Result<Called, CliError> {
    let exports = component.exports().map_err(Failure::Call)?;
    let (_, function) = exports
        .find(&args.function)
        .map_err(|source| ExpectedError::Function {
            component: args.component.clone(),
            source,
        })?;
    let message = message(component, function, args, input)?;
    let began = Instant::now();
    let results = component
        .call_encoded(&function.name, message)
        .await
        .map_err(Failure::Call)?;
    let elapsed = began.elapsed();
    let answer = match input {
        Some(_) => Answer::Json(results.json().map_err(Failure::Call)?),
        None => Answer::Wave(wave(&results.values().map_err(Failure::Call)?)?),
    };
    Ok(Called {
        function: function.name.to_string(),
        answer,
        elapsed,
    })
}

fn message(
    component: &ComponentRef,
    function: &Function,
    args: &CallArgs,
    input: Option<&Map<String, Value>>,
) -> Result<Message, CliError> {
    let Some(input) = input else {
        let values = values(function, &args.arguments)?;
        let encoded = component.encode(&function.name, &values);
        return Ok(encoded.map_err(Failure::Call)?);
    };
    component
        .encode_json(&function.name, input)
        .map_err(|error| match error {
            WasmError::Json { source, .. } => ExpectedError::Input {
                source,
                signature: wave::signature(function),
            }
            .into(),
            error => Failure::Call(error).into(),
        })
}

fn wave(results: &[Val]) -> Result<Vec<String>, Failure> {
    let text = |result: &Val| result.to_wave();
    let all: Result<_, _> = results.iter().map(text).collect();
    all.map_err(|error| Failure::Wave {
        source: error.into(),
    })
}

fn values(function: &Function, arguments: &[String]) -> Result<Vec<Val>, ExpectedError> {
    if arguments.len() != function.params.len() {
        return Err(ExpectedError::Arity {
            function: function.name.to_string(),
            expected: function.params.len(),
            found: arguments.len(),
            signature: wave::signature(function),
        });
    }
    let pairs = function.params.iter().zip(arguments).enumerate();
    pairs
        .map(|(index, ((parameter, ty), given))| {
            Val::from_wave(ty, given).map_err(|error| ExpectedError::Argument {
                position: index + 1,
                parameter: parameter.clone(),
                given: given.clone(),
                expected: wave::type_name(ty),
                example: wave::example(ty, given),
                source: error.into(),
            })
        })
        .collect()
}
