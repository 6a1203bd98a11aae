//! The part of a child's spec that decisions are made on.

use std::time::Duration;

use crate::{ChildId, ExitKind, Intensity};

/// OTP's default time a worker has to stop before it is killed.
pub const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(5);

/// How long one worker may take to start, where its spec does not say.
pub const START_LIMIT: Duration = Duration::from_secs(60);

/// When a child that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// Only after an abnormal exit ([`ExitCause::is_abnormal`](crate::ExitCause::is_abnormal)).
    Transient,
    /// Never, not even with its group; its spec goes with it.
    Temporary,
}

/// How long a child may take to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Killed at once.
    Brutal,
    /// Asked to stop, killed when this much time has passed.
    Timeout(Duration),
    /// Asked to stop and waited for, however long it takes.
    Infinity,
}

/// What a child is, as `count_children` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildKind {
    /// Does work.
    Worker,
    /// Supervises children of its own.
    Supervisor,
}

/// What decides about one child.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildPolicy {
    /// Name within the supervisor; not empty.
    pub id: ChildId,
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped.
    pub shutdown: Shutdown,
    /// Worker or supervisor.
    pub kind: ChildKind,
    /// Whether its end may end the supervisor ([`AutoShutdown`](crate::AutoShutdown)).
    pub significant: bool,
    /// How long a worker may take to start.
    pub start_limit: Duration,
    /// Rules for single causes; the first of a kind counts.
    pub causes: Vec<CausePolicy>,
    /// How restarts are put off; `None`, OTP's way: they are not.
    pub backoff: Option<Backoff>,
    /// What happens instead of escalation; `None`, OTP's way: nothing.
    pub quarantine: Option<Quarantine>,
    /// How it is asked whether it is alive; `None`: it is not.
    pub probe: Option<Probe>,
}

impl ChildPolicy {
    /// A permanent worker with OTP's shutdown time of 5 s and nothing that OTP does not have.
    #[must_use]
    pub fn new(id: ChildId) -> Self {
        Self {
            id,
            restart: Restart::Permanent,
            shutdown: Shutdown::Timeout(DEFAULT_SHUTDOWN),
            kind: ChildKind::Worker,
            significant: false,
            start_limit: START_LIMIT,
            causes: Vec::new(),
            backoff: None,
            quarantine: None,
            probe: None,
        }
    }

    pub(crate) fn cause(&self, kind: ExitKind) -> Option<&CausePolicy> {
        self.causes.iter().find(|policy| policy.kind == kind)
    }
}

/// What one kind of exit means for a child, where that differs from its restart type and its
/// supervisor's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CausePolicy {
    /// The exits it is about.
    pub kind: ExitKind,
    /// Whether they lead to a restart. A temporary child is never restarted.
    pub restart: CauseRestart,
    /// A budget of this child for this kind. `None`: its restarts count in the supervisor's.
    pub budget: Option<Intensity>,
}

/// Whether an exit leads to a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CauseRestart {
    /// As the child's restart type says.
    ByType,
    /// Yes.
    Always,
    /// No: the child stays down.
    Never,
}

/// How restarts are put off: `first`, doubled with every restart in a row up to `longest`, each
/// shortened at random by up to `jitter`. The restart has been counted before it is put off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The first delay.
    pub first: Duration,
    /// No delay is longer; at least `first`.
    pub longest: Duration,
    /// The largest share of a delay that is taken off, 0.0..=1.0.
    pub jitter: f64,
    /// A child that ran this long starts with the first delay again.
    pub reset_after: Duration,
}

impl Default for Backoff {
    /// 100 ms doubling to 30 s, up to half of it taken off, forgotten after 60 s.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(30),
            jitter: 0.5,
            reset_after: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// The delay after `before` earlier ones; `random` decides the jitter.
    pub(crate) fn delay(&self, before: u32, random: u64) -> Duration {
        let factor = 1_u32.checked_shl(before).unwrap_or(u32::MAX);
        let full = self.first.saturating_mul(factor).min(self.longest);
        // 53 bits: what an f64 holds exactly.
        let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
        full.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * share)
    }
}

/// A circuit breaker in a child's restarts. Closed: its restarts count in `budget`, not in the
/// supervisor's. One too many opens it: the child stays down for `cool_down`, calls are refused.
/// Then it is half open: the child is started on probation; a death within `probation` opens it
/// again, outliving that closes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantine {
    /// How many restarts within how much time.
    pub budget: Intensity,
    /// How long the child stays down.
    pub cool_down: Duration,
    /// How long it must then live.
    pub probation: Duration,
}

/// How a child is asked whether it is alive: [`Child::probe`](crate::Child::probe) every
/// `interval`. An answer that is late or no counts as a miss; `misses` in a row are an
/// [`ExitCause::Unresponsive`](crate::ExitCause::Unresponsive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// From one question to the next; not zero.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Misses in a row until the child is killed; at least 1.
    pub misses: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(1),
            jitter: 0.0,
            reset_after: Duration::ZERO,
        };
        let delays: Vec<u128> = (0..6).map(|n| backoff.delay(n, 7).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.delay(u32::MAX, 7), backoff.longest);
    }

    #[test]
    fn jitter_takes_off_no_more_than_its_share() {
        let backoff = Backoff {
            jitter: 0.25,
            ..Backoff::default()
        };
        assert_eq!(backoff.delay(0, 0), Duration::from_millis(100));
        let shortest = backoff.delay(0, u64::MAX);
        assert!(shortest >= Duration::from_millis(75), "{shortest:?}");
        assert!(shortest < Duration::from_millis(76), "{shortest:?}");
    }
}
