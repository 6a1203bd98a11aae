//! What the demo found, as a table and as an object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::tally::Tally;

/// Causes that every summary names, because a demo without them shows nothing.
const SHOWN: [&str; 3] = ["oom", "trap", "deadline"];

/// Heads of the table's columns, as wide as [`Row::text`] makes them.
const COLUMNS: &str = "component      calls   answered  failed  lost   p50 us    p99 us  recovery p50 us  gen  restarts";

/// The whole demo.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) components: Vec<Row>,
    /// How long the load was kept up, in seconds.
    pub(super) seconds: f64,
    pub(super) calls: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) lost: u64,
    /// Calls of the well-behaved components that did not get their answer.
    pub(super) siblings_lost: u64,
    pub(super) restarts: u64,
    /// Events the counting was too slow for: with any, restarts are counted too low.
    pub(super) events_missed: u64,
    pub(super) interrupted: bool,
    /// What did not hold; empty where the demo went well.
    pub(super) broken: Vec<String>,
}

/// One component.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) calls: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) lost: u64,
    pub(super) p50_us: Option<u64>,
    pub(super) p99_us: Option<u64>,
    pub(super) restarts: BTreeMap<&'static str, u64>,
    pub(super) recovery_p50_us: Option<u64>,
    pub(super) generation: u64,
    #[serde(skip)]
    behaves: bool,
}

impl Row {
    /// The figures so far; with `ended`, calls still open count as lost.
    pub(super) fn of(tally: &Tally, ended: bool) -> Self {
        let counts = tally.counts();
        let mut restarts = tally.restarts();
        for cause in SHOWN {
            restarts.entry(cause).or_default();
        }
        Self {
            name: tally.name,
            calls: counts.calls,
            answered: counts.answered,
            failed: counts.failed,
            lost: counts.lost + if ended { counts.open() } else { 0 },
            p50_us: tally.latency_us(0.5),
            p99_us: tally.latency_us(0.99),
            restarts,
            recovery_p50_us: tally.recovery_us(0.5),
            generation: tally.generation(),
            behaves: tally.behaves,
        }
    }

    /// The row of the table.
    pub(super) fn text(&self) -> String {
        let micros =
            |value: Option<u64>| value.map_or_else(|| String::from("-"), |v| v.to_string());
        let restarts: Vec<String> = self
            .restarts
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(cause, count)| format!("{cause} {count}"))
            .collect();
        let restarts = if restarts.is_empty() {
            String::from("-")
        } else {
            restarts.join(", ")
        };
        format!(
            "{:<10} {:>9} {:>10} {:>7} {:>5} {:>8} {:>9} {:>16} {:>4}  {restarts}",
            self.name,
            self.calls,
            self.answered,
            self.failed,
            self.lost,
            micros(self.p50_us),
            micros(self.p99_us),
            micros(self.recovery_p50_us),
            self.generation,
        )
    }
}

/// The table's first line.
pub(super) fn header() -> &'static str {
    COLUMNS
}

impl Summary {
    pub(super) fn new(
        tallies: &[Arc<Tally>],
        elapsed: Duration,
        events_missed: u64,
        interrupted: bool,
    ) -> Self {
        let rows: Vec<Row> = tallies.iter().map(|tally| Row::of(tally, true)).collect();
        let sum = |figure: fn(&Row) -> u64| rows.iter().map(figure).sum::<u64>();
        let siblings_lost = rows
            .iter()
            .filter(|row| row.behaves)
            .map(|row| row.lost + row.failed)
            .sum();
        let mut summary = Self {
            seconds: elapsed.as_millis() as f64 / 1000.0,
            calls: sum(|row| row.calls),
            answered: sum(|row| row.answered),
            failed: sum(|row| row.failed),
            lost: sum(|row| row.lost),
            siblings_lost,
            restarts: sum(|row| row.restarts.values().sum()),
            events_missed,
            interrupted,
            broken: Vec::new(),
            components: rows,
        };
        summary.broken = summary.find_broken(tallies);
        summary
    }

    /// Restarts after that cause, over all components.
    pub(super) fn restarts_after(&self, cause: &str) -> u64 {
        let counts = self.components.iter().map(|row| row.restarts.get(cause));
        counts.flatten().sum()
    }

    fn find_broken(&self, tallies: &[Arc<Tally>]) -> Vec<String> {
        let mut broken = Vec::new();
        for (row, tally) in self.components.iter().zip(tallies) {
            if row.lost > 0 {
                let reasons = tally.reasons();
                let reasons = if reasons.is_empty() {
                    String::from("they did not end")
                } else {
                    reasons.join("; ")
                };
                broken.push(format!("{} lost {} call(s): {reasons}", row.name, row.lost));
            }
            if row.behaves && row.generation != 1 {
                let again = row.generation.saturating_sub(1);
                broken.push(format!("{} was restarted {again} time(s)", row.name));
            }
        }
        if !self.interrupted {
            for cause in SHOWN {
                if self.restarts_after(cause) == 0 {
                    broken.push(format!("no restart after {cause} was seen"));
                }
            }
        }
        broken
    }

    /// The table for people.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![String::from(header())];
        lines.extend(self.components.iter().map(Row::text));
        lines.push(format!(
            "\n{} calls in {:.1} s: {} answered, {} failed as asked to, {} lost; {} restarts; \
             siblings lost: {}",
            self.calls,
            self.seconds,
            self.answered,
            self.failed,
            self.lost,
            self.restarts,
            self.siblings_lost,
        ));
        if self.events_missed > 0 {
            lines.push(format!(
                "{} events were missed: there were more restarts than counted",
                self.events_missed
            ));
        }
        lines.extend(self.broken.iter().map(|what| format!("broken: {what}")));
        lines.join("\n")
    }
}
