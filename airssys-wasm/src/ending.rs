//! How an ending of the guest is told: wasmtime's error and the limiter's record become a cause.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use airssys_integrity::Corrupt;
use airssys_rt::{CaughtPanic, DeadlinePhase, ExitCause, Frame, OutOfMemory, Trap};
use wasmtime::{PoolConcurrencyLimitError, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::capacity::CapacityError;
use crate::limits::Refused;
use crate::payload::DecodeError;
use crate::state::ComponentState;

/// What the guest was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Start,
    Call,
}

/// The cause of an ending. `state` is the Store's, where there is one already; `limit` the time
/// that applied.
pub(crate) fn exit_cause(
    ending: Ending,
    error: wasmtime::Error,
    state: Option<&ComponentState>,
    limit: Duration,
) -> ExitCause {
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return ExitCause::GuestExit { status: *status };
    }
    // Of a host function of the embedder's.
    if let Some(caught) = error.downcast_ref::<CaughtPanic>() {
        return caught.clone().into();
    }
    if let Some(corrupt) = error.downcast_ref::<Corrupt>() {
        let source = Arc::new(*corrupt);
        return ExitCause::Integrity { source };
    }
    if let Some(undecodable) = error.downcast_ref::<DecodeError>() {
        let source = Arc::new(*undecodable);
        return ExitCause::Integrity { source };
    }
    // Of a result that has no room in the host.
    if let Some(refused) = error.downcast_ref::<OutOfMemory>() {
        return ExitCause::OutOfMemory(*refused);
    }
    // Of a growth that ends the call.
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return (*refused).into();
    }
    let trap = error.downcast_ref::<wasmtime::Trap>().copied();
    match trap {
        Some(wasmtime::Trap::Interrupt) => {
            return ExitCause::Deadline {
                limit,
                phase: match ending {
                    Ending::Start => DeadlinePhase::Start,
                    Ending::Call => DeadlinePhase::Computing,
                },
            };
        }
        Some(wasmtime::Trap::OutOfFuel) => {
            let granted = state.map_or(0, |state| state.fuel);
            return ExitCause::OutOfFuel { limit: granted };
        }
        Some(wasmtime::Trap::StackOverflow) => {
            return ExitCause::StackOverflow {
                backtrace: backtrace(&error),
            };
        }
        _ => {}
    }
    let limiter = state.map(|state| &state.limiter);
    // A trap after a refused growth in the same call: the guest could not go on without the
    // memory. At the start every refusal ends the attempt.
    if let Some(refused) = limiter.and_then(|limiter| limiter.refused())
        && (trap.is_some() || ending == Ending::Start)
    {
        return refused.into();
    }
    if let Some(refused) = limiter.and_then(|limiter| limiter.counts().refused(&error)) {
        return ExitCause::TooMany(refused);
    }
    if let Some(refused) = limiter.and_then(|limiter| limiter.host_refused()) {
        return refused.into();
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return CapacityError::Pool(Box::new(Reported(error))).into();
    }
    if error.is::<wasmtime::OutOfMemory>() {
        return CapacityError::Host(Box::new(Reported(error))).into();
    }
    if let Some(refused) = error.downcast_ref::<io::Error>()
        && refused.kind() == io::ErrorKind::OutOfMemory
        && ending == Ending::Start
    {
        let source = io::Error::from(io::ErrorKind::OutOfMemory);
        return CapacityError::Memory {
            requested_bytes: 0,
            source,
        }
        .into();
    }
    match trap {
        Some(trap) => ExitCause::Trap(Trap {
            code: trap_code(trap),
            backtrace: backtrace(&error),
        }),
        None => ExitCause::HostError {
            source: source(error),
        },
    }
}

/// What the engine or a host function reported, told by its innermost cause: the errors around it
/// say where the guest was.
#[derive(Debug)]
struct Reported(wasmtime::Error);

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0.root_cause(), f)
    }
}

impl Error for Reported {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.0.as_ref())
    }
}

fn source(error: wasmtime::Error) -> Arc<dyn Error + Send + Sync> {
    Arc::new(Reported(error))
}

fn backtrace(error: &wasmtime::Error) -> Vec<Frame> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let frames = trace.frames().iter().map(|frame| Frame {
        module: frame.module().name().map(str::to_owned),
        // Rust guests carry mangled names; `#` leaves the hash out, other names stay as they are.
        function: frame
            .func_name()
            .map(|name| format!("{:#}", rustc_demangle::demangle(name))),
        offset: frame.module_offset(),
    });
    frames.collect()
}

fn trap_code(trap: wasmtime::Trap) -> &'static str {
    use wasmtime::Trap;
    match trap {
        Trap::MemoryOutOfBounds => "memory access out of bounds",
        Trap::HeapMisaligned => "misaligned memory access",
        Trap::TableOutOfBounds => "table access out of bounds",
        Trap::IndirectCallToNull => "indirect call to null",
        Trap::BadSignature => "indirect call of another type",
        Trap::IntegerOverflow => "integer overflow",
        Trap::IntegerDivisionByZero => "integer division by zero",
        Trap::BadConversionToInteger => "bad conversion to integer",
        Trap::UnreachableCodeReached => "unreachable",
        Trap::NullReference => "null reference",
        Trap::ArrayOutOfBounds => "array access out of bounds",
        Trap::AllocationTooLarge => "allocation too large",
        Trap::CastFailure => "cast failure",
        Trap::CannotEnterComponent => "component instance entered again",
        _ => "other",
    }
}
