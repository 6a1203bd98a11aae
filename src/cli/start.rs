//! Starting a tree so that Ctrl-C also ends the start.

use airssys::{Host, HostBuilder};

use super::error::{CliError, Failure};
use super::interrupt::Interrupt;
use super::output::Output;

/// Listens for Ctrl-C.
pub(crate) fn interrupt() -> Result<Interrupt, CliError> {
    Interrupt::listen().map_err(|source| Failure::Signals { source }.into())
}

/// Starts the tree; `None` where somebody did not want to wait for it.
pub(crate) async fn start(
    builder: HostBuilder,
    what: &str,
    interrupt: &mut Interrupt,
    output: Output,
) -> Result<Option<Host>, CliError> {
    let _busy = output.busy(format!("starting {what}"));
    tokio::select! {
        host = builder.start() => Ok(Some(host?)),
        () = interrupt.asked() => Ok(None),
    }
}
