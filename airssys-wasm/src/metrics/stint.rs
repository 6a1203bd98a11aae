//! One call of a generation, while it is worked on.

use std::task::Poll;
use std::time::{Duration, Instant};

use super::herald::Herald;
use super::tally::Tally;

/// Counts its call when it begins, and the call's times when it is dropped.
pub(crate) struct Stint<'a> {
    tally: &'a Tally,
    herald: &'a Herald,
    waited: Duration,
    began: Instant,
    ended: Option<Instant>,
    busy: Duration,
}

impl<'a> Stint<'a> {
    /// A call is taken up now, which has waited for this long.
    pub(crate) fn begin(
        tally: &'a Tally,
        herald: &'a Herald,
        waited: Duration,
        now: Instant,
    ) -> Self {
        tally.enter();
        Self {
            tally,
            herald,
            waited,
            began: now,
            ended: None,
            busy: Duration::ZERO,
        }
    }

    /// Polls the guest's work. Most calls end in their first poll: their service time is their busy
    /// time, and the clock is read once.
    pub(crate) fn poll<T>(&mut self, work: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let began = match self.ended {
            None => self.began,
            Some(_) => Instant::now(),
        };
        let polled = work();
        let ended = Instant::now();
        self.ended = Some(ended);
        self.busy += ended.saturating_duration_since(began);
        self.herald.tell(self.tally);
        polled
    }
}

impl Drop for Stint<'_> {
    fn drop(&mut self) {
        // A kill drops it between two polls: it has served until then.
        let served = self.ended.map_or(Duration::ZERO, |ended| {
            ended.saturating_duration_since(self.began)
        });
        self.tally.worked(self.waited, served, self.busy);
    }
}
