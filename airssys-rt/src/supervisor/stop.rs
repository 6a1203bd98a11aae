//! Stopping one actor: ask, wait, kill, join.

use std::time::Duration;

use ractor::ActorCell;
use ractor::concurrency::JoinHandle;

use crate::{ExitCause, Shutdown};

/// How long a killed actor may take to reach an await point before it is left behind.
pub const KILL_GRACE: Duration = Duration::from_secs(5);

/// Stops `actor` and returns once its state has been dropped, or [`KILL_GRACE`] after a kill that
/// the actor did not follow.
pub(crate) async fn stop(
    actor: &ActorCell,
    mut handle: JoinHandle<()>,
    shutdown: Shutdown,
) -> ExitCause {
    let patience = match shutdown {
        Shutdown::Brutal => None,
        Shutdown::Timeout(limit) => Some(limit),
        Shutdown::Infinity => Some(Duration::MAX),
    };
    if let Some(limit) = patience {
        actor.stop(None);
        if tokio::time::timeout(limit, &mut handle).await.is_ok() {
            return ExitCause::Shutdown;
        }
    }
    actor.kill();
    if tokio::time::timeout(KILL_GRACE, handle).await.is_err() {
        tracing::error!(actor = %actor.get_id(), "a killed actor does not reach an await point; left behind");
    }
    ExitCause::Killed
}
