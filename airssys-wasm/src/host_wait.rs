//! How long a guest may wait for the host at a stretch (ADR-WASM-017).

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// The clock of one call's waits. Each poll that leaves the guest waiting starts it anew: whether
/// the guest ran in between cannot be told, so a wake-up without cause prolongs a wait.
pub(crate) struct HostWait {
    limit: Duration,
    waits: bool,
    timer: Pin<Box<Sleep>>,
}

impl HostWait {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            waits: false,
            timer: Box::pin(sleep(limit)),
        }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Whether the guest has waited for too long. Asked before it is polled again.
    pub(crate) fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.waits && self.timer.as_mut().poll(context).is_ready()
    }

    /// The guest has been polled, and is not done: it waits for the host, unless it `computes` and
    /// waits for its turn.
    pub(crate) fn pending(&mut self, computes: bool, context: &mut Context<'_>) {
        self.waits = !computes;
        if self.waits {
            self.timer.as_mut().reset(Instant::now() + self.limit);
            // To be woken by it. It is not over yet.
            let _ = self.timer.as_mut().poll(context);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_gave_up_its_turn_and_gets_none_waits_for_nobody() {
        let limit = Duration::from_secs(1);
        let mut wait = HostWait::new(limit);
        let mut context = Context::from_waker(Waker::noop());
        for turn in 0..2 {
            wait.pending(true, &mut context);
            tokio::time::advance(2 * limit).await;
            assert!(!wait.is_over(&mut context), "turn {turn}");
            wait.pending(false, &mut context);
            tokio::time::advance(limit - Duration::from_millis(10)).await;
            assert!(!wait.is_over(&mut context), "turn {turn}");
        }
        tokio::time::advance(Duration::from_millis(20)).await;
        assert!(wait.is_over(&mut context));
    }
}
