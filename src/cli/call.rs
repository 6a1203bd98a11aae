//! `airssys call`: one call, its arguments and its result in WAVE.

mod wave;

use std::time::{Duration, Instant};

use airssys::{
    ChildConfig, ComponentRef, Function, HostBuilder, SupervisorConfig, SystemConfig, Val,
};
use serde_json::json;

use super::error::{CliError, ExpectedError, Failure};
use super::output::Output;
use super::{CallArgs, Exit, start};

/// How long an interrupted call waits for its component to stop.
const INTERRUPTED_STOP: Duration = Duration::from_millis(500);

pub(super) async fn call(
    args: &CallArgs,
    config: SystemConfig,
    output: Output,
) -> Result<Exit, CliError> {
    let config = alone(args, config)?;
    let mut interrupt = start::interrupt()?;
    let builder = HostBuilder::from(config);
    let Some(host) = start::start(builder, &args.component, &mut interrupt, output).await? else {
        return Ok(output.interrupted());
    };
    let component = host.component(&args.component)?;
    let called = tokio::select! {
        called = call_once(&component, args) => Some(called),
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
    let Called {
        function,
        results,
        elapsed,
    } = called?;
    if output.is_json() {
        output.json(&json!({
            "component": args.component,
            "function": function,
            "results": results,
            "elapsed_us": elapsed.as_micros() as u64,
        }))?;
    } else {
        for result in results {
            output.line(&result)?;
        }
    }
    Ok(Exit::Ok)
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
    results: Vec<String>,
    elapsed: Duration,
}

async fn call_once(component: &ComponentRef, args: &CallArgs) -> Result<Called, CliError> {
    let exports = component.exports().map_err(Failure::Call)?;
    let (_, function) = exports
        .find(&args.function)
        .map_err(|source| ExpectedError::Function {
            component: args.component.clone(),
            source,
        })?;
    let values = values(function, &args.arguments)?;
    let began = Instant::now();
    let results = component
        .call(&function.name, &values)
        .await
        .map_err(Failure::Call)?;
    let elapsed = began.elapsed();
    let results = results
        .iter()
        .map(|result| {
            result.to_wave().map_err(|error| {
                CliError::from(Failure::Wave {
                    source: error.into(),
                })
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Called {
        function: function.name.to_string(),
        results,
        elapsed,
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
