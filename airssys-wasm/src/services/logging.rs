//! `wasi:logging`: lines of a guest in the host's log, as many as it may write to a stream.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::allowance::Allowance;
use super::bindings::wasi::logging::logging::{Host, Level};
use super::gate::Gate;
use super::output::{MAX_LINE_BYTES, OUTPUT_BYTES_PER_SECOND};
use crate::state::ComponentState;
use crate::watch::{CallEvent, LogLevel};

/// Longest context, in bytes.
const MAX_CONTEXT_BYTES: usize = 256;

/// One instance's log.
#[derive(Debug)]
pub(super) struct GuestLog(Mutex<(Allowance, u64)>);

impl GuestLog {
    pub(super) fn new() -> Self {
        let allowance = Allowance::new(OUTPUT_BYTES_PER_SECOND);
        Self(Mutex::new((allowance, 0)))
    }

    /// Lines that were left out before one of so many bytes, if that one may be told.
    fn line(&self, bytes: usize) -> Option<u64> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (allowance, left_out) = &mut *log;
        let asked = bytes as u64 + 1;
        if allowance.take(asked, Instant::now()) < asked {
            *left_out += 1;
            return None;
        }
        Some(std::mem::take(left_out))
    }

    fn write(&self, gate: &Gate, level: Level, context: &str, message: &str) {
        let caller = gate.caller();
        let context = cut(context, MAX_CONTEXT_BYTES);
        let message = cut(message, MAX_LINE_BYTES);
        let Some(left_out) = self.line(context.len() + message.len()) else {
            return;
        };
        gate.tell(|| CallEvent::Log {
            level: told(level),
            context: context.to_owned(),
            message: message.to_owned(),
        });
        macro_rules! tell {
            ($level:ident) => {
                tracing::$level!(
                    target: "airssys::guest",
                    component = %caller.component,
                    replica = caller.replica,
                    generation = caller.generation,
                    // Quoted: a guest's control characters are not the terminal's.
                    ?context,
                    left_out,
                    line = ?message,
                )
            };
        }
        match level {
            Level::Trace => tell!(trace),
            Level::Debug => tell!(debug),
            Level::Info => tell!(info),
            Level::Warn => tell!(warn),
            Level::Error | Level::Critical => tell!(error),
        }
    }
}

fn told(level: Level) -> LogLevel {
    match level {
        Level::Trace => LogLevel::Trace,
        Level::Debug => LogLevel::Debug,
        Level::Info => LogLevel::Info,
        Level::Warn => LogLevel::Warn,
        Level::Error => LogLevel::Error,
        Level::Critical => LogLevel::Critical,
    }
}

fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

impl Host for ComponentState {
    async fn log(
        &mut self,
        level: Level,
        context: String,
        message: String,
    ) -> wasmtime::Result<()> {
        let gate = self.gate();
        gate.log().write(gate, level, &context, &message);
        Ok(())
    }
}
