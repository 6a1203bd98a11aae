//! The samples of each measurement, kept for the table.

use criterion::Bencher;
use std::time::Instant;

/// Nanoseconds an iteration took, a figure for each sample.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn best(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

struct Point {
    kind: &'static str,
    size: usize,
    name: String,
    samples: Samples,
}

/// All samples, by kind, size and contender, in order of measurement.
#[derive(Default)]
pub(crate) struct Figures {
    points: Vec<Point>,
}

impl Figures {
    fn keep(&mut self, kind: &'static str, size: usize, name: &str, ns: f64) {
        let same =
            |point: &&mut Point| (point.kind, point.size, &*point.name) == (kind, size, name);
        if let Some(point) = self.points.iter_mut().find(same) {
            point.samples.0.push(ns);
            return;
        }
        self.points.push(Point {
            kind,
            size,
            name: name.to_owned(),
            samples: Samples(vec![ns]),
        });
    }

    pub(crate) fn best(&self, kind: &str, size: usize, name: &str) -> Option<f64> {
        let same = |point: &&Point| (point.kind, point.size, &*point.name) == (kind, size, name);
        self.points
            .iter()
            .find(same)
            .map(|point| point.samples.best())
    }

    /// All points of other kinds than these.
    pub(crate) fn others(
        &self,
        kinds: &[&str],
    ) -> impl Iterator<Item = (&'static str, usize, &str, &Samples)> {
        let points = self.points.iter();
        let others = points.filter(|point| !kinds.contains(&point.kind));
        others.map(|point| (point.kind, point.size, &*point.name, &point.samples))
    }
}

/// Runs `step` under criterion's count of iterations and keeps what each sample took.
pub(crate) fn timed(
    bencher: &mut Bencher<'_>,
    figures: &mut Figures,
    kind: &'static str,
    size: usize,
    name: &str,
    mut step: impl FnMut(),
) {
    bencher.iter_custom(|iterations| {
        let start = Instant::now();
        for _ in 0..iterations {
            step();
        }
        let taken = start.elapsed();
        figures.keep(
            kind,
            size,
            name,
            taken.as_nanos() as f64 / iterations as f64,
        );
        taken
    });
}
