//! So much in a second, and no more than that at once.

use std::time::Instant;

/// What may be done now; it comes back with time.
#[derive(Debug)]
pub(crate) struct Allowance {
    per_second: u64,
    left: u64,
    /// When it was last asked for; never yet.
    since: Option<Instant>,
}

impl Allowance {
    pub(crate) fn new(per_second: u64) -> Self {
        Self {
            per_second,
            left: per_second,
            since: None,
        }
    }

    /// As much of `asked` as there is.
    pub(crate) fn take(&mut self, asked: u64, now: Instant) -> u64 {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_micros();
        let back = passed.saturating_mul(u128::from(self.per_second)) / 1_000_000;
        if back > 0 {
            let back = u64::try_from(back).unwrap_or(u64::MAX);
            self.left = self.left.saturating_add(back).min(self.per_second);
            self.since = Some(now);
        }
        let taken = asked.min(self.left);
        self.left -= taken;
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_allowance_comes_back_with_time_and_not_beyond_a_seconds_worth() {
        let start = Instant::now();
        let mut allowance = Allowance::new(1000);
        assert_eq!(allowance.take(2000, start), 1000);
        assert_eq!(allowance.take(1, start), 0);
        let half = start + Duration::from_millis(500);
        assert_eq!(allowance.take(1000, half), 500);
        let late = start + Duration::from_secs(100);
        assert_eq!(allowance.take(2000, late), 1000);
    }
}
