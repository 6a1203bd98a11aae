//! The figures of a component as plain data, to keep, send and show.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::MemoryMetrics;

/// Counts by name: exit kinds as [`airssys_rt::ExitKind::as_str`] has them, or refusals. Names with
/// a count of 0 are left out.
pub type Counts = BTreeMap<String, u64>;

/// A component at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentMetrics {
    /// Its name in the tree.
    pub name: String,
    /// The incarnation that serves it, or did last, counted from 1; 0 before the first.
    pub generation: u64,
    /// Incarnations that came up after the first. A fresh instance of the modes that let instances
    /// go is none.
    pub restarts: u64,
    /// Calls that an instance works on.
    pub in_flight: u64,
    /// Calls waiting for their turn.
    pub queued: usize,
    /// Calls that were turned away or went without an answer, while no instance ended over them:
    /// `function` and `arguments` (not as the component exports them), `mailbox-full`, `expired`
    /// (by its caller's deadline; where the guest was at work on it, it is a failed call of the
    /// kind `cancelled` as well), `stopped`, `poisonous`, `no-instance` (the pool was full).
    pub refused: Counts,
    /// Incarnations that ended, by kind.
    pub exits: Counts,
    /// The last of them.
    pub last_exit: Option<LastExit>,
    /// Memory of the instance that lives, where one does.
    pub memory: Option<MemoryMetrics>,
    /// The incarnation of `generation`.
    pub current: Figures,
    /// The one before it.
    pub previous: Option<Figures>,
    /// All incarnations together.
    pub total: Figures,
}

/// How an incarnation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// Which one, counted from 1.
    pub generation: u64,
    /// The kind, as [`airssys_rt::ExitKind::as_str`] has it.
    pub kind: String,
    /// The cause, in a line. It may quote the guest.
    pub message: String,
    /// Time since then, in milliseconds.
    pub ago_ms: u64,
}

/// What one incarnation, or several, did and took.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Calls taken up.
    pub calls: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that ended their instance, by the kind of its exit.
    pub failed: Counts,
    /// Time in which the guest's calls were polled, by the monotonic clock, in microseconds: a
    /// guest that waits for the host is not polled, a guest whose thread the operating system takes
    /// away is.
    pub busy_us: u64,
    /// Fuel used by calls that were not killed; 0 where it is not metered.
    pub fuel: u64,
    /// From the call to the instance taking it up; `None` before the first.
    pub wait: Option<Latency>,
    /// From then to its end, the start of a fresh instance included; `None` before the first.
    pub service: Option<Latency>,
    /// The most one instance held, in bytes.
    pub peak_bytes: usize,
    /// Growths granted.
    pub growths: u64,
    /// Growths refused because of the limit.
    pub denied_growths: u64,
}

impl Figures {
    /// Calls that ended their instance.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Adds what another incarnation did. Latencies do not add up: those with calls stay.
    pub(crate) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.answered += other.answered;
        for (kind, n) in &other.failed {
            *self.failed.entry(kind.clone()).or_default() += n;
        }
        self.busy_us += other.busy_us;
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.wait = other.wait.or(self.wait);
        self.service = other.service.or(self.service);
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
        self.growths += other.growths;
        self.denied_growths += other.denied_growths;
    }
}

/// Times of calls, in nanoseconds. A percentile is the upper end of its bucket, at most an eighth
/// above the true value, and at most 2^40 ns; `max_ns` is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the calls took no longer.
    pub p50_ns: u64,
    /// 90 of 100.
    pub p90_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
    /// All of them.
    pub max_ns: u64,
}
