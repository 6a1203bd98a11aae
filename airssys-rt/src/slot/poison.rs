//! Requests that end one incarnation after another.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::ExitCause;

/// Suspects kept at most; the one quiet for longest makes room.
const SUSPECTS: usize = 64;

/// When a request is refused because of what those like it have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poison {
    /// Incarnations that must have ended over it; at least 1.
    pub deaths: u32,
    /// It is heard again when its last death is this long ago.
    pub forget_after: Duration,
}

/// The record of one fingerprint.
#[derive(Debug)]
struct Suspect {
    fingerprint: u64,
    deaths: u32,
    last: Instant,
    cause: Arc<ExitCause>,
}

/// Who has ended incarnations lately.
#[derive(Debug)]
pub(super) struct Suspects {
    limit: Poison,
    suspects: Vec<Suspect>,
}

impl Suspects {
    pub(super) fn new(limit: Poison) -> Self {
        Self {
            limit,
            suspects: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.suspects.is_empty()
    }

    /// Notes a death; how many there are now, and whether that is enough to refuse the next.
    pub(super) fn convict(&mut self, fingerprint: u64, cause: &Arc<ExitCause>) -> (u32, bool) {
        let now = Instant::now();
        let quiet = self.limit.forget_after;
        self.suspects.retain(|s| now.duration_since(s.last) < quiet);
        let known = self
            .suspects
            .iter_mut()
            .find(|s| s.fingerprint == fingerprint);
        let deaths = match known {
            Some(suspect) => {
                suspect.deaths = suspect.deaths.saturating_add(1);
                suspect.last = now;
                suspect.cause = Arc::clone(cause);
                suspect.deaths
            }
            None => {
                if self.suspects.len() >= SUSPECTS {
                    let oldest = self.suspects.iter().enumerate().min_by_key(|(_, s)| s.last);
                    if let Some((oldest, _)) = oldest {
                        self.suspects.swap_remove(oldest);
                    }
                }
                self.suspects.push(Suspect {
                    fingerprint,
                    deaths: 1,
                    last: now,
                    cause: Arc::clone(cause),
                });
                1
            }
        };
        (deaths, deaths >= self.limit.deaths)
    }

    /// The deaths and the last cause, if a request of this fingerprint is to be refused.
    pub(super) fn refuses(&self, fingerprint: u64) -> Option<(u32, Arc<ExitCause>)> {
        let suspect = self
            .suspects
            .iter()
            .find(|s| s.fingerprint == fingerprint)?;
        let fresh = suspect.last.elapsed() < self.limit.forget_after;
        (fresh && suspect.deaths >= self.limit.deaths)
            .then(|| (suspect.deaths, Arc::clone(&suspect.cause)))
    }
}
