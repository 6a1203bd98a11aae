//! What each contender takes and allocates per operation, with the ratio to the first of its group,
//! all from one run.

use std::fmt;
use std::time::Duration;

use crate::Table;

/// What was measured, in the order it came.
#[derive(Debug, Default)]
pub struct Timings(Vec<Row>);

#[derive(Debug)]
struct Row {
    group: String,
    contender: String,
    nanoseconds: Vec<f64>,
    allocations: f64,
}

impl Timings {
    /// Adds one sample: `operations` took `time` and `allocations` together.
    pub fn sample(
        &mut self,
        group: &str,
        contender: &str,
        operations: u64,
        time: Duration,
        allocations: u64,
    ) {
        let known = self
            .0
            .iter()
            .position(|row| row.group == group && row.contender == contender);
        let index = known.unwrap_or_else(|| {
            self.0.push(Row {
                group: group.to_owned(),
                contender: contender.to_owned(),
                nanoseconds: Vec::new(),
                allocations: 0.0,
            });
            self.0.len() - 1
        });
        if let Some(row) = self.0.get_mut(index) {
            row.nanoseconds
                .push(time.as_secs_f64() * 1e9 / operations as f64);
            row.allocations = allocations as f64 / operations as f64;
        }
    }
}

impl Row {
    /// The sample least disturbed by whatever else the machine was doing.
    fn best(&self) -> f64 {
        self.nanoseconds.iter().copied().fold(f64::NAN, f64::min)
    }
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = ["operation", "contender", "best ns", "ratio", "allocations"];
        let mut table = Table::with_headings(headings);
        for row in &self.0 {
            let first = self.0.iter().find(|other| other.group == row.group);
            let floor = first.map_or(f64::NAN, Row::best);
            table.row([
                row.group.clone(),
                row.contender.clone(),
                format!("{:.0}", row.best()),
                format!("{:.2}", row.best() / floor),
                format!("{:.1}", row.allocations),
            ]);
        }
        table.fmt(f)
    }
}
