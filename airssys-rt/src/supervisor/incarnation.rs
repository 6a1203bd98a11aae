//! One incarnation of a child: started within its time; stopped by asking, waiting, killing and
//! joining.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;

use crate::unwind::{Contained, message};
use crate::{
    Child, ChildKind, ChildPolicy, DeadlinePhase, ExitCause, Running, Shutdown, StartContext,
    Started,
};

/// How long a killed actor may take to reach an await point before it is left behind.
pub const KILL_GRACE: Duration = Duration::from_secs(5);

/// Stops a child and returns once its state has been dropped, or [`KILL_GRACE`] after a kill that
/// the actor did not follow.
pub(crate) async fn stop(running: Running, shutdown: Shutdown) -> ExitCause {
    let Running {
        actor,
        mut handle,
        ask,
        ..
    } = running;
    let patience = match shutdown {
        Shutdown::Brutal => None,
        Shutdown::Timeout(limit) => Some(limit),
        Shutdown::Infinity => Some(Duration::MAX),
    };
    if let Some(limit) = patience {
        match ask {
            Some(ask) => ask(),
            None => actor.stop(None),
        }
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

/// One start of a child, without a limit yet; a panic in it is its failure.
pub(crate) fn attempt<E: Clone + Send + Sync + 'static>(
    child: &Arc<dyn Child<E>>,
    context: StartContext<E>,
) -> impl Future<Output = Result<Started, ExitCause>> + Send + 'static {
    let child = Arc::clone(child);
    let start = async move { child.start(context).await };
    Contained::new(start, message).map(|outcome| match outcome {
        Ok(outcome) => outcome,
        Err(message) => Err(ExitCause::HostPanic {
            entry: None,
            message: format!("in the child's start: {message}"),
        }),
    })
}

/// Waits for a start within the child's limit.
pub(crate) async fn within(
    policy: &ChildPolicy,
    attempt: impl Future<Output = Result<Started, ExitCause>>,
) -> Result<Started, ExitCause> {
    let mut attempt = pin!(attempt);
    // Most starts are over with their first poll, and need no timer.
    let first = poll_fn(|context| Poll::Ready(attempt.as_mut().poll(context)));
    if let Poll::Ready(outcome) = first.await {
        return outcome;
    }
    let limit = match policy.kind {
        ChildKind::Worker => policy.start_limit,
        // Bounded by its workers'.
        ChildKind::Supervisor => return attempt.await,
    };
    tokio::time::timeout(limit, attempt)
        .await
        .unwrap_or(Err(ExitCause::Deadline {
            limit,
            phase: DeadlinePhase::Start,
        }))
}
