//! The best time of each measurement, kept for the table.

use criterion::Bencher;
use std::time::Instant;

/// Best nanoseconds an iteration took, by kind, size and contender, in order of measurement.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    points: Vec<(String, usize, String, f64)>,
}

impl Figures {
    fn keep(&mut self, kind: &str, size: usize, name: &str, ns: f64) {
        let same = |point: &&mut (String, usize, String, f64)| {
            point.0 == kind && point.1 == size && point.2 == name
        };
        match self.points.iter_mut().find(same) {
            Some(point) => point.3 = point.3.min(ns),
            None => self
                .points
                .push((kind.to_owned(), size, name.to_owned(), ns)),
        }
    }

    pub(crate) fn best(&self, kind: &str, size: usize, name: &str) -> Option<f64> {
        let same = |point: &&(String, usize, String, f64)| {
            point.0 == kind && point.1 == size && point.2 == name
        };
        self.points.iter().find(same).map(|point| point.3)
    }

    /// All points of other kinds than these.
    pub(crate) fn others<'a>(
        &'a self,
        kinds: &'a [&str],
    ) -> impl Iterator<Item = (&'a str, usize, &'a str, f64)> {
        let points = self.points.iter();
        let others = points.filter(|point| !kinds.contains(&point.0.as_str()));
        others.map(|point| (point.0.as_str(), point.1, point.2.as_str(), point.3))
    }
}

/// Runs `step` under criterion's count of iterations and keeps the best of its samples.
pub(crate) fn timed(
    bencher: &mut Bencher<'_>,
    figures: &mut Figures,
    kind: &str,
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
