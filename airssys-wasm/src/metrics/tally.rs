//! The counters of one generation. Its actor alone writes them, its limiters with it; anyone reads.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use histogram::{AtomicHistogram, Histogram};

use super::figures::{Figures, Latency};
use crate::limits::MemoryMetrics;

/// A bucket is at most 2^-3 of its lower end wide.
const GROUPING_POWER: u8 = 3;

/// Times from 2^40 ns (18 minutes) on are counted as the longest below it. No call may take that
/// long.
const MAX_POWER: u8 = 40;

const LONGEST_NS: u64 = (1 << MAX_POWER) - 1;

#[derive(Default)]
pub(crate) struct Tally {
    generation: u64,
    calls: AtomicU64,
    answered: AtomicU64,
    in_flight: AtomicBool,
    busy_ns: AtomicU64,
    fuel: AtomicU64,
    /// Made by the first call; `None` in there never happens with these powers.
    times: OnceLock<Option<Box<Times>>>,
    peak_bytes: AtomicUsize,
    growths: AtomicU64,
    denied_growths: AtomicU64,
    near_limit: AtomicU8,
    near_limit_bytes: AtomicUsize,
}

const BELOW: u8 = 0;
const CROSSED: u8 = 1;
const TOLD: u8 = 2;

struct Times {
    wait: AtomicHistogram,
    service: AtomicHistogram,
    longest_wait_ns: AtomicU64,
    longest_service_ns: AtomicU64,
}

impl Tally {
    pub(crate) fn new(generation: u64) -> Self {
        Self {
            generation,
            ..Self::default()
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.load(Relaxed)
    }

    pub(super) fn enter(&self) {
        add(&self.calls, 1);
        self.in_flight.store(true, Relaxed);
    }

    /// The call is over; whether there was one.
    pub(crate) fn leave(&self) -> bool {
        self.in_flight.swap(false, Relaxed)
    }

    /// The call is over and is answered.
    pub(crate) fn answered(&self) {
        self.in_flight.store(false, Relaxed);
        add(&self.answered, 1);
    }

    pub(crate) fn burnt(&self, fuel: u64) {
        if fuel > 0 {
            add(&self.fuel, fuel);
        }
    }

    pub(super) fn worked(&self, waited: Duration, served: Duration, busy: Duration) {
        add(&self.busy_ns, nanoseconds(busy));
        let Some(times) = self.times.get_or_init(Times::new) else {
            return;
        };
        let (waited, served) = (nanoseconds(waited), nanoseconds(served));
        // Within the range, so nothing is refused.
        times.wait.increment(waited.min(LONGEST_NS)).ok();
        times.service.increment(served.min(LONGEST_NS)).ok();
        raise(&times.longest_wait_ns, waited);
        raise(&times.longest_service_ns, served);
    }

    /// An instance is gone.
    pub(crate) fn let_go(&self, memory: &MemoryMetrics) {
        self.peak_bytes.fetch_max(memory.peak_bytes, Relaxed);
        self.growths
            .fetch_add(memory.allocation_count as u64, Relaxed);
        self.denied_growths
            .fetch_add(memory.denied_count as u64, Relaxed);
    }

    /// An instance has come to the share of its limit that is to be told, with `bytes`.
    pub(crate) fn cross(&self, bytes: usize) {
        if self.near_limit.load(Relaxed) == BELOW {
            self.near_limit_bytes.store(bytes, Relaxed);
            self.near_limit.store(CROSSED, Relaxed);
        }
    }

    /// What an instance held when it came to that share; once.
    pub(super) fn take_crossing(&self) -> Option<usize> {
        if self.near_limit.load(Relaxed) != CROSSED {
            return None;
        }
        self.near_limit.store(TOLD, Relaxed);
        Some(self.near_limit_bytes.load(Relaxed))
    }

    pub(super) fn figures(&self) -> Figures {
        Figures {
            calls: self.calls.load(Relaxed),
            answered: self.answered.load(Relaxed),
            busy_us: self.busy_ns.load(Relaxed) / 1_000,
            fuel: self.fuel.load(Relaxed),
            peak_bytes: self.peak_bytes.load(Relaxed),
            growths: self.growths.load(Relaxed),
            denied_growths: self.denied_growths.load(Relaxed),
            ..Figures::default()
        }
    }

    /// The times of the calls so far; `None` before the first.
    pub(super) fn spread(&self) -> Option<Box<Spread>> {
        let times = self.times.get()?.as_ref()?;
        Some(Box::new(Spread {
            wait: times.wait.load(),
            service: times.service.load(),
            longest_wait_ns: times.longest_wait_ns.load(Relaxed),
            longest_service_ns: times.longest_service_ns.load(Relaxed),
        }))
    }
}

impl Times {
    fn new() -> Option<Box<Self>> {
        let histogram = || AtomicHistogram::new(GROUPING_POWER, MAX_POWER).ok();
        Some(Box::new(Self {
            wait: histogram()?,
            service: histogram()?,
            longest_wait_ns: AtomicU64::new(0),
            longest_service_ns: AtomicU64::new(0),
        }))
    }
}

/// How the times of calls are spread.
#[derive(Clone)]
pub(super) struct Spread {
    wait: Histogram,
    service: Histogram,
    longest_wait_ns: u64,
    longest_service_ns: u64,
}

impl Spread {
    pub(super) fn add(&mut self, other: &Self) {
        // Of one shape, and 2^64 calls do not happen.
        self.wait.checked_add_assign(&other.wait).ok();
        self.service.checked_add_assign(&other.service).ok();
        self.longest_wait_ns = self.longest_wait_ns.max(other.longest_wait_ns);
        self.longest_service_ns = self.longest_service_ns.max(other.longest_service_ns);
    }

    pub(super) fn wait(&self) -> Option<Latency> {
        latency(&self.wait, self.longest_wait_ns)
    }

    pub(super) fn service(&self) -> Option<Latency> {
        latency(&self.service, self.longest_service_ns)
    }
}

fn latency(histogram: &Histogram, max_ns: u64) -> Option<Latency> {
    let mut found = [None, None, None];
    histogram
        .quantile_buckets_into(&[0.5, 0.9, 0.99], &mut found)
        .ok()?;
    let [p50, p90, p99] = found.map(|bucket| bucket.map(|b| b.end().min(max_ns)));
    Some(Latency {
        p50_ns: p50?,
        p90_ns: p90?,
        p99_ns: p99?,
        max_ns,
    })
}

/// Adds to what nobody else writes: the lock that a processor takes for more than one writer is not
/// needed.
fn add(to: &AtomicU64, more: u64) {
    to.store(to.load(Relaxed).wrapping_add(more), Relaxed);
}

/// As [`add`], of the largest.
fn raise(to: &AtomicU64, at_least: u64) {
    if to.load(Relaxed) < at_least {
        to.store(at_least, Relaxed);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic fails the test")]

    use super::*;

    #[test]
    fn percentiles_lie_at_most_an_eighth_above_the_times_and_the_maximum_is_exact() {
        let tally = Tally::default();
        for us in 1..=1_000 {
            let time = Duration::from_micros(us);
            tally.worked(time, time * 2, time);
        }
        let spread = tally.spread().unwrap();
        let (wait, service) = (spread.wait().unwrap(), spread.service().unwrap());
        let near = |found: u64, us: u64| {
            assert!((us * 1_000..=us * 1_125).contains(&found), "{found} {us}");
        };
        near(wait.p50_ns, 500);
        near(wait.p90_ns, 900);
        near(wait.p99_ns, 990);
        near(service.p50_ns, 1_000);
        assert_eq!((wait.max_ns, service.max_ns), (1_000_000, 2_000_000));
        assert_eq!(tally.figures().busy_us, 500_500);
    }

    #[test]
    fn a_time_beyond_the_histogram_counts_as_the_longest() {
        let tally = Tally::default();
        tally.worked(Duration::ZERO, Duration::from_secs(3_000), Duration::ZERO);
        let service = tally.spread().unwrap().service().unwrap();
        assert_eq!(service.max_ns, 3_000_000_000_000);
        assert_eq!(service.p99_ns, LONGEST_NS);
    }

    #[test]
    fn a_component_that_was_never_called_has_no_histograms() {
        let tally = Tally::default();
        assert!(tally.spread().is_none() && tally.times.get().is_none());
        let small = size_of::<Tally>();
        assert!(small <= 256, "{small}");
    }
}
