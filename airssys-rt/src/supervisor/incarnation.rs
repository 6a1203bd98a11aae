//! One incarnation of a child: started within its time; stopped by asking, waiting, killing and
//! joining.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::ActorCell;
use ractor::concurrency::JoinHandle;

use crate::unwind::message;
use crate::{ChildKind, ChildSpec, DeadlinePhase, ExitCause, Shutdown, StartContext, Started};

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

/// Starts one child within its time limit; a panic in its start is its failure.
pub(crate) async fn start<E: Clone + Send + Sync + 'static>(
    spec: &ChildSpec<E>,
    context: StartContext<E>,
) -> Result<Started, ExitCause> {
    let limit = match spec.policy.kind {
        ChildKind::Worker => spec.policy.start_limit,
        // Bounded by its workers'.
        ChildKind::Supervisor => Duration::MAX,
    };
    let attempt = AssertUnwindSafe(spec.child.start(context)).catch_unwind();
    match tokio::time::timeout(limit, attempt).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(ExitCause::HostPanic {
            message: format!("in the child's start: {}", message(panic)),
        }),
        Err(_) => Err(ExitCause::Deadline {
            limit,
            phase: DeadlinePhase::Start,
        }),
    }
}
