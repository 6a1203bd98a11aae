//! A call that got no result, as JSON for the model and whatever is in front of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::json::JsonError;
use crate::{ExitCause, ValueError, WasmError};

/// `{"error": {"kind", "component", "message", "replaced", "retry", ...}}`, with the figures of the
/// limit where there was one. `replaced` is whether the instance ended over the call, and `retry`
/// whether the same call may go well.
pub(super) fn failure(error: &WasmError) -> Value {
    let (kind, component, ending, mut facts) = facts(error);
    facts.insert("kind".into(), kind.into());
    facts.insert("component".into(), component.into());
    facts.insert("message".into(), error.to_string().into());
    facts.insert("replaced".into(), (ending == Ending::Replaced).into());
    facts.insert("retry".into(), (ending != Ending::Final).into());
    json!({ "error": facts })
}

/// A call for which the server had no room.
pub(super) fn busy(max_calls: usize) -> Value {
    json!({ "error": {
        "kind": "busy",
        "message": format!("{max_calls} calls are at work; try again when one has ended"),
        "max_calls": max_calls,
        "replaced": false,
        "retry": true,
    }})
}

/// A call that nobody waits for any more.
pub(super) fn cancelled() -> Value {
    json!({ "error": {
        "kind": "cancelled",
        "message": "the call was cancelled",
        "replaced": false,
        "retry": true,
    }})
}

/// What a failure means for the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// A fresh instance serves it.
    Replaced,
    /// It may find room, or somebody who answers.
    Later,
    /// The same call would end the same.
    Final,
}

fn facts(error: &WasmError) -> (&'static str, &str, Ending, Map<String, Value>) {
    use Ending::{Final, Later, Replaced};
    let (kind, component, ending, facts) = match error {
        WasmError::OutOfMemory {
            component,
            limit_bytes,
            current_bytes,
            requested_bytes,
            peak_bytes,
        } => {
            let facts = json!({
                "limit_bytes": limit_bytes,
                "current_bytes": current_bytes,
                "requested_bytes": requested_bytes,
                "peak_bytes": peak_bytes,
            });
            ("out-of-memory", component, Replaced, facts)
        }
        WasmError::Exited { component, cause } => {
            (cause.kind().as_str(), component, Replaced, of_exit(cause))
        }
        WasmError::MailboxFull {
            component,
            capacity,
        } => {
            let facts = json!({ "capacity": capacity });
            ("mailbox-full", component, Later, facts)
        }
        WasmError::NoWaitingRoom {
            component,
            requested_bytes,
            max_bytes,
        } => {
            let facts = json!({ "requested_bytes": requested_bytes, "max_bytes": max_bytes });
            ("no-waiting-room", component, Later, facts)
        }
        WasmError::Stopped { component, cause } => {
            let facts = json!({ "cause": cause.kind().as_str() });
            ("stopped", component, Final, facts)
        }
        WasmError::Expired { component, waited } => {
            let facts = json!({ "waited_ms": milliseconds(*waited) });
            ("expired", component, Later, facts)
        }
        WasmError::Poisonous {
            component,
            deaths,
            cause,
        } => {
            let facts = json!({ "deaths": deaths, "cause": cause.kind().as_str() });
            ("poisonous", component, Final, facts)
        }
        WasmError::NoInstance { component, .. } => ("capacity", component, Later, Value::Null),
        WasmError::NotStarted { component } => ("not-started", component, Later, Value::Null),
        WasmError::Function { component, .. } => ("function", component, Final, Value::Null),
        WasmError::Arguments { component, source } => {
            ("arguments", component, Final, of_value(source))
        }
        WasmError::Json { component, source } => ("arguments", component, Final, of_json(source)),
        WasmError::Results { component, source } => ("results", component, Final, of_value(source)),
        WasmError::Damaged { component, .. } => ("damaged", component, Later, Value::Null),
        WasmError::OtherLevel { component, .. } => ("other-level", component, Later, Value::Null),
        WasmError::Undecodable { component, .. } => ("undecodable", component, Final, Value::Null),
        other => return ("other", "", Later, of_text(&other.to_string())),
    };
    let facts = match facts {
        Value::Object(facts) => facts,
        _ => Map::new(),
    };
    (kind, component.as_str(), ending, facts)
}

fn of_text(text: &str) -> Map<String, Value> {
    Map::from_iter([(String::from("message"), text.into())])
}

fn of_exit(cause: &Arc<ExitCause>) -> Value {
    match &**cause {
        ExitCause::Deadline { limit, phase } => json!({
            "limit_ms": milliseconds(*limit),
            "phase": phase.to_string(),
        }),
        ExitCause::OutOfFuel { limit } => json!({ "limit": limit }),
        ExitCause::GuestExit { status } => json!({ "status": status }),
        ExitCause::Trap(trap) => json!({ "trap": trap.code }),
        ExitCause::TooMany(many) => json!({ "what": many.to_string() }),
        _ => Value::Null,
    }
}

/// Where in the arguments it is, and what belongs there.
fn of_json(error: &JsonError) -> Value {
    match error {
        JsonError::Type {
            place,
            expected,
            found,
        } => json!({ "path": place, "expected": expected, "found": found }),
        JsonError::Missing { place, expected } => json!({ "path": place, "expected": expected }),
        JsonError::Unknown { place, known } => json!({ "path": place, "known": known }),
        JsonError::Value(error) => of_value(error),
        _ => Value::Null,
    }
}

/// As far as it is at one place.
fn of_value(error: &ValueError) -> Value {
    match error {
        ValueError::Type {
            place, expected, ..
        } => json!({ "path": place, "expected": expected }),
        ValueError::Unsupported { place, .. } | ValueError::TooDeep { place } => {
            json!({ "path": place })
        }
        ValueError::TooLarge { limit_bytes } => json!({ "limit_bytes": limit_bytes }),
        _ => Value::Null,
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
