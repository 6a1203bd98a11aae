//! The figures of one cell, or of several together, before they are told.

use super::figures::ComponentMetrics;
use super::tally::Spread;

/// What was read, with what latencies are added up from.
pub(crate) struct Reading {
    pub(super) metrics: ComponentMetrics,
    pub(super) current: Option<Box<Spread>>,
    pub(super) total: Option<Box<Spread>>,
}

impl Reading {
    /// Both together. The incarnation before the current one is none of both, and is left out.
    pub(crate) fn and(self, other: Self) -> Self {
        let (mut sum, more) = (self.metrics, other.metrics);
        sum.generation = sum.generation.max(more.generation);
        sum.restarts += more.restarts;
        sum.in_flight += more.in_flight;
        sum.queued += more.queued;
        for (of, with) in [
            (&mut sum.refused, more.refused),
            (&mut sum.exits, more.exits),
        ] {
            for (name, n) in with {
                *of.entry(name).or_default() += n;
            }
        }
        let exits = [sum.last_exit, more.last_exit].into_iter().flatten();
        sum.last_exit = exits.min_by_key(|exit| exit.ago_ms);
        sum.memory = match (sum.memory, more.memory) {
            (Some(a), Some(b)) => Some(a.and(&b)),
            (a, b) => a.or(b),
        };
        sum.current.add(&more.current);
        sum.total.add(&more.total);
        sum.previous = None;
        Self {
            metrics: sum,
            current: both(self.current, other.current),
            total: both(self.total, other.total),
        }
    }

    /// As plain data, under a name.
    pub(crate) fn told(self, name: &str) -> ComponentMetrics {
        let mut metrics = self.metrics;
        name.clone_into(&mut metrics.name);
        for (figures, spread) in [
            (&mut metrics.current, &self.current),
            (&mut metrics.total, &self.total),
        ] {
            figures.wait = spread.as_deref().and_then(Spread::wait);
            figures.service = spread.as_deref().and_then(Spread::service);
        }
        metrics
    }
}

/// How the times of both are spread.
pub(super) fn both(a: Option<Box<Spread>>, b: Option<Box<Spread>>) -> Option<Box<Spread>> {
    match (a, b) {
        (Some(mut a), Some(b)) => {
            a.add(&b);
            Some(a)
        }
        (a, b) => a.or(b),
    }
}
