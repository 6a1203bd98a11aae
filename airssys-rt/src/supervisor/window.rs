//! Restart intensity: a sliding window over monotonic time.

use std::collections::VecDeque;
use std::time::Duration;

/// How many restarts a supervisor allows within how much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts allowed within `period`. 0: the first restart is one too many.
    pub restarts: u32,
    /// Width of the sliding window.
    pub period: Duration,
}

impl Default for Intensity {
    /// OTP's default: 1 restart in 5 s.
    fn default() -> Self {
        Self {
            restarts: 1,
            period: Duration::from_secs(5),
        }
    }
}

/// The stamps of the restarts still inside the window. Holds no more than the largest `restarts`
/// it ever had.
#[derive(Debug)]
pub(crate) struct Window {
    limit: Intensity,
    stamps: VecDeque<Duration>,
}

impl Window {
    pub(crate) fn new(limit: Intensity) -> Self {
        Self {
            limit,
            stamps: VecDeque::new(),
        }
    }

    pub(crate) fn limit(&self) -> Intensity {
        self.limit
    }

    /// Goes by another limit from now on; what was counted stays counted.
    pub(crate) fn change(&mut self, limit: Intensity) {
        self.limit = limit;
    }

    /// Restarts inside the window at `now`.
    pub(crate) fn count(&self, now: Duration) -> usize {
        let oldest = now.saturating_sub(self.limit.period);
        let inside = self.stamps.iter().filter(|stamp| **stamp >= oldest);
        inside.count()
    }

    /// Counts one restart at `now`; false when it is one too many.
    pub(crate) fn allow(&mut self, now: Duration) -> bool {
        let oldest = now.saturating_sub(self.limit.period);
        while self.stamps.front().is_some_and(|stamp| *stamp < oldest) {
            self.stamps.pop_front();
        }
        if self.stamps.len() >= self.limit.restarts as usize {
            return false;
        }
        self.stamps.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(restarts: u32, period_ms: u64) -> Window {
        Window::new(Intensity {
            restarts,
            period: Duration::from_millis(period_ms),
        })
    }

    #[test]
    fn intensity_zero_allows_no_restart() {
        assert!(!window(0, 5000).allow(Duration::ZERO));
    }

    #[test]
    fn the_window_slides() {
        let mut window = window(2, 1000);
        let at = Duration::from_millis;
        assert!(window.allow(at(0)));
        assert!(window.allow(at(900)));
        assert!(!window.allow(at(950)));
        assert!(window.allow(at(1001)), "the stamp of 0 ms has left");
        assert_eq!((window.count(at(1001)), window.count(at(1950))), (2, 1));
        assert!(!window.allow(at(1800)), "900 and 1001 are inside");
        assert!(window.allow(at(1901)));
    }
}
