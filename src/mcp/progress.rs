//! Word to the client of what a call does while it runs.

use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::{Peer, RoleServer};
use tokio::time::Instant;

use crate::CallEvent;

/// By how much word that says nothing of how far the call is raises the figure, which has to grow:
/// by less than anything a guest counts.
const STEP: f64 = 0.001;

/// Most bytes of a message; what is longer is cut.
const MAX_MESSAGE_BYTES: usize = 1024;

/// Where a call's progress is told.
pub(super) struct Progress {
    peer: Peer<RoleServer>,
    token: ProgressToken,
    began: Instant,
    /// The last figure told, and of how many.
    at: f64,
    total: Option<f64>,
}

impl Progress {
    pub(super) fn new(peer: Peer<RoleServer>, token: ProgressToken) -> Self {
        Self {
            peer,
            token,
            began: Instant::now(),
            at: 0.0,
            total: None,
        }
    }

    /// Tells that the call is at work, and for how long.
    pub(super) async fn still_running(&mut self) {
        let seconds = self.began.elapsed().as_secs();
        let message = format!("still running after {seconds} s");
        self.tell(None, &message).await;
    }

    /// Tells what the component says: how far it is, and lines of its log and its output.
    pub(super) async fn pass_on(&mut self, event: CallEvent) {
        match event {
            CallEvent::Progress {
                done,
                total,
                message,
            } => {
                self.total = total.map(|total| total as f64);
                self.tell(Some(done as f64), &message).await;
            }
            CallEvent::Log { message, .. } => self.tell(None, &message).await,
            CallEvent::Line { text, .. } => self.tell(None, &text).await,
            // What was denied stands in the result.
            _ => {}
        }
    }

    async fn tell(&mut self, at: Option<f64>, message: &str) {
        self.at = at.filter(|at| *at > self.at).unwrap_or(self.at + STEP);
        let end = message.floor_char_boundary(MAX_MESSAGE_BYTES);
        let mut word = ProgressNotificationParam::new(self.token.clone(), self.at);
        word.total = self.total;
        word.message = message.get(..end).map(str::to_owned);
        // A client that has gone is found out by its connection.
        self.peer.notify_progress(word).await.ok();
    }
}
