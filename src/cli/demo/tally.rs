//! What is counted while the demo runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use airssys::{Change, EventStream, ExitKind, LifecycleEvent, Received};
use hdrhistogram::Histogram;

/// Most reasons kept of calls that were lost; the rest is only counted.
const MAX_REASONS: usize = 3;

/// Longest time the histograms tell apart, in microseconds.
const LONGEST_US: u64 = 120_000_000;

/// How a call ended, seen from its caller.
#[derive(Debug)]
pub(super) enum Outcome {
    /// With the right answer.
    Answered(Duration),
    /// With the error that this very call was made to provoke.
    Failed,
    /// In any other way.
    Lost(String),
}

/// One component's figures.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) name: &'static str,
    /// Whether it is one of those that must not notice anything.
    pub(super) behaves: bool,
    calls: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    latency: Mutex<Option<Histogram<u64>>>,
    life: Mutex<Life>,
    reasons: Mutex<Vec<String>>,
}

/// What the events say.
#[derive(Debug, Default, Clone)]
pub(super) struct Life {
    pub(super) generation: u64,
    /// Restarts by the cause of the exit before.
    pub(super) restarts: BTreeMap<&'static str, u64>,
    last_exit: Option<ExitKind>,
    recovery: Option<Histogram<u64>>,
}

/// Call counts at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) lost: u64,
}

impl Counts {
    /// Calls that have not ended.
    pub(super) fn open(&self) -> u64 {
        self.calls
            .saturating_sub(self.answered + self.failed + self.lost)
    }
}

impl Tally {
    pub(super) fn new(name: &'static str, behaves: bool) -> Self {
        Self {
            name,
            behaves,
            calls: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            latency: Mutex::new(histogram()),
            life: Mutex::new(Life {
                recovery: histogram(),
                ..Life::default()
            }),
            reasons: Mutex::new(Vec::new()),
        }
    }

    /// A call is being made. What is not followed by [`Tally::end`] stays open.
    pub(super) fn begin(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has ended.
    pub(super) fn end(&self, outcome: Outcome) {
        match outcome {
            Outcome::Answered(latency) => {
                record(&mut lock(&self.latency), latency);
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Failed => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Lost(reason) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                let mut reasons = lock(&self.reasons);
                if reasons.len() < MAX_REASONS {
                    reasons.push(reason);
                }
            }
        }
    }

    pub(super) fn counts(&self) -> Counts {
        // Endings are read first: a call that ends in between must not look as if it had ended
        // before it was made.
        let (answered, failed, lost) = (
            self.answered.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
            self.lost.load(Ordering::Relaxed),
        );
        Counts {
            calls: self.calls.load(Ordering::Relaxed),
            answered,
            failed,
            lost,
        }
    }

    /// The time within which that share of the answers came, in microseconds.
    pub(super) fn latency_us(&self, quantile: f64) -> Option<u64> {
        value_at(&lock(&self.latency), quantile)
    }

    pub(super) fn recovery_us(&self, quantile: f64) -> Option<u64> {
        value_at(&lock(&self.life).recovery, quantile)
    }

    pub(super) fn generation(&self) -> u64 {
        lock(&self.life).generation
    }

    pub(super) fn restarts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.life).restarts.clone()
    }

    pub(super) fn reasons(&self) -> Vec<String> {
        lock(&self.reasons).clone()
    }

    fn note(&self, event: &LifecycleEvent) {
        let mut life = lock(&self.life);
        match &event.change {
            Change::Started { recovery } => {
                life.generation = event.generation;
                if let Some(exit) = life.last_exit.take() {
                    *life.restarts.entry(exit.as_str()).or_default() += 1;
                }
                if let Some(recovery) = recovery {
                    record(&mut life.recovery, *recovery);
                }
            }
            Change::Exited { cause } | Change::StartFailed { cause } => {
                life.last_exit = Some(cause.kind());
            }
            _ => {}
        }
    }
}

/// Counts what the tree tells until it is gone. Returns how many events it was too slow for.
pub(super) async fn watch(mut events: EventStream, tallies: Vec<std::sync::Arc<Tally>>) -> u64 {
    let mut missed = 0;
    while let Some(received) = events.next().await {
        match received {
            Received::Event(event) => {
                let child = event.child.to_string();
                if let Some(tally) = tallies.iter().find(|tally| tally.name == child) {
                    tally.note(&event);
                }
            }
            Received::Lagged(lost) => missed += lost,
        }
    }
    missed
}

fn histogram() -> Option<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).ok()
}

fn record(histogram: &mut Option<Histogram<u64>>, time: Duration) {
    if let Some(histogram) = histogram {
        let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST_US);
        histogram.saturating_record(micros.max(1));
    }
}

fn value_at(histogram: &Option<Histogram<u64>>, quantile: f64) -> Option<u64> {
    histogram
        .as_ref()
        .filter(|histogram| !histogram.is_empty())
        .map(|histogram| histogram.value_at_quantile(quantile))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
