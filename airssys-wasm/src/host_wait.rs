//! How long a guest may wait for the host at a stretch (ADR-WASM-013).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Set while a guest that computes has given up its turn, by the callback of its epoch. A guest
/// that is not done, and has not done that, waits for the host.
pub(crate) type Computes = Arc<AtomicBool>;

/// The clock of one call's waits. Each poll that leaves the guest waiting starts it anew: whether
/// the guest ran in between cannot be told, so a wake-up without cause prolongs a wait.
pub(crate) struct HostWait {
    limit: Duration,
    computes: Computes,
    waits: bool,
    timer: Pin<Box<Sleep>>,
}

impl HostWait {
    pub(crate) fn new(limit: Duration, computes: Computes) -> Self {
        Self {
            limit,
            computes,
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

    /// The guest has been polled, and is not done.
    pub(crate) fn pending(&mut self, context: &mut Context<'_>) {
        self.waits = !self.computes.swap(false, Ordering::Relaxed);
        if self.waits {
            self.timer.as_mut().reset(Instant::now() + self.limit);
            // To be woken by it. It is not over yet.
            let _ = self.timer.as_mut().poll(context);
        }
    }
}
