//! Word to the client that a call is still at work.

use std::time::Duration;

use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::{Peer, RoleServer};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// By how much a word that only says that time passes raises the figure, which has to grow: by less
/// than anything a guest would count.
const STEP: f64 = 0.001;

/// Where a call's progress is told.
pub(super) struct Progress {
    peer: Peer<RoleServer>,
    token: ProgressToken,
    began: Instant,
    /// The last figure told.
    at: f64,
}

impl Progress {
    pub(super) fn new(peer: Peer<RoleServer>, token: ProgressToken) -> Self {
        Self {
            peer,
            token,
            began: Instant::now(),
            at: 0.0,
        }
    }

    /// Tells every `interval` that the call is still at work; does not return.
    pub(super) async fn tick(&mut self, interval: Duration) {
        let mut ticks = interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let seconds = self.began.elapsed().as_secs();
            self.tell(None, None, format!("still running after {seconds} s"))
                .await;
        }
    }

    async fn tell(&mut self, at: Option<f64>, total: Option<f64>, message: String) {
        self.at = at.filter(|at| *at > self.at).unwrap_or(self.at + STEP);
        let mut word = ProgressNotificationParam::new(self.token.clone(), self.at);
        word = word.with_message(message);
        word.total = total;
        // A client that has gone is found out by its connection.
        self.peer.notify_progress(word).await.ok();
    }
}
