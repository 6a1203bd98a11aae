//! `wasi:logging`: lines of a guest in the host's log, within what its standard error may take.

use super::bindings::wasi::logging::logging::{Host, Level};
use crate::state::ComponentState;

impl Host for ComponentState {
    async fn log(
        &mut self,
        level: Level,
        context: String,
        message: String,
    ) -> wasmtime::Result<()> {
        let level = match level {
            Level::Trace => tracing::Level::TRACE,
            Level::Debug => tracing::Level::DEBUG,
            Level::Info => tracing::Level::INFO,
            Level::Warn => tracing::Level::WARN,
            Level::Error | Level::Critical => tracing::Level::ERROR,
        };
        self.gate().log().line(level, &context, &message);
        Ok(())
    }
}
