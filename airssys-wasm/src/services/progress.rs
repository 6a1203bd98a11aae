//! `airssys:progress`: how far a guest is, for whoever waits for it.

use super::bindings::airssys::progress::progress::Host;
use crate::state::ComponentState;
use crate::watch::{CallEvent, MAX_PROGRESS_BYTES};

impl Host for ComponentState {
    async fn report(
        &mut self,
        done: u64,
        total: Option<u64>,
        mut message: String,
    ) -> wasmtime::Result<()> {
        message.truncate(message.floor_char_boundary(MAX_PROGRESS_BYTES));
        self.gate().tell(|| CallEvent::Progress {
            done,
            total,
            message,
        });
        Ok(())
    }
}
