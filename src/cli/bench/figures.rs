//! What was measured, as a table and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

/// Ours beside the same done bare.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// What was done.
    pub(super) what: &'static str,
    pub(super) unit: Unit,
    pub(super) ours: f64,
    /// What the bare side does.
    pub(super) beside: &'static str,
    pub(super) bare: f64,
    /// What is asked of the pair.
    pub(super) bound: Bound,
}

#[derive(Clone, Copy)]
pub(super) enum Unit {
    Nanoseconds,
    Bytes,
}

#[derive(Clone, Copy)]
pub(super) enum Bound {
    /// Ours takes at most so many times what bare takes.
    Ratio(f64),
    /// So many times, and at most so much.
    RatioAndMost(f64, f64),
    /// Ours takes at most so much more.
    More(f64),
}

impl Row {
    fn ratio(&self) -> f64 {
        self.ours / self.bare
    }

    /// Whether the pair keeps its bound.
    pub(super) fn holds(&self) -> bool {
        match self.bound {
            Bound::Ratio(most) => self.ratio() <= most,
            Bound::RatioAndMost(ratio, most) => self.ratio() <= ratio && self.ours <= most,
            Bound::More(most) => self.ours - self.bare <= most,
        }
    }

    fn bound(&self) -> String {
        let shown = |figure| show(self.unit, figure);
        match self.bound {
            Bound::Ratio(most) => format!("{most} x"),
            Bound::RatioAndMost(ratio, most) => format!("{ratio} x, {}", shown(most)),
            Bound::More(most) => format!("+ {}", shown(most)),
        }
    }
}

/// The middle of what was measured, in nanoseconds.
pub(super) fn median(times: &mut [Duration]) -> f64 {
    percentile(times, 50)
}

/// What so many in a hundred take at most, in nanoseconds.
pub(super) fn percentile(times: &mut [Duration], share: usize) -> f64 {
    times.sort_unstable();
    let place = times.len().saturating_mul(share) / 100;
    let time = times.get(place.min(times.len().saturating_sub(1)));
    time.map_or(0.0, |time| time.as_secs_f64() * 1e9)
}

pub(super) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<10} {:>11} {:>11} {:>8}  {:<16} {}\n",
        "", "airssys", "bare", "ratio", "at most", "what"
    );
    for row in rows {
        let over = if row.holds() { "" } else { "  (over)" };
        // Writing into a String cannot fail.
        writeln!(
            text,
            "{:<10} {:>11} {:>11} {:>7.2}x  {:<16} {}; bare: {}{over}",
            row.name,
            show(row.unit, row.ours),
            show(row.unit, row.bare),
            row.ratio(),
            row.bound(),
            row.what,
            row.beside,
        )
        .ok();
    }
    text
}

pub(super) fn json(rows: &[Row]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let unit = match row.unit {
                Unit::Nanoseconds => "ns",
                Unit::Bytes => "bytes",
            };
            json!({
                "name": row.name, "what": row.what, "beside": row.beside, "unit": unit,
                "airssys": row.ours, "bare": row.bare, "ratio": row.ratio(),
                "bound": row.bound(), "holds": row.holds(),
            })
        })
        .collect();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    json!({ "processors": processors, "rows": rows })
}

fn show(unit: Unit, figure: f64) -> String {
    match unit {
        Unit::Bytes => format!("{:.1} KiB", figure / 1024.0),
        Unit::Nanoseconds if figure < 10_000.0 => format!("{figure:.0} ns"),
        Unit::Nanoseconds if figure < 10_000_000.0 => format!("{:.1} us", figure / 1e3),
        Unit::Nanoseconds => format!("{:.1} ms", figure / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(ours: f64, bare: f64, bound: Bound) -> bool {
        Row {
            name: "row",
            what: "ours",
            unit: Unit::Nanoseconds,
            ours,
            beside: "bare",
            bare,
            bound,
        }
        .holds()
    }

    #[test]
    fn a_row_holds_up_to_its_bound_and_not_beyond() {
        assert!(holds(160.0, 100.0, Bound::Ratio(1.6)));
        assert!(!holds(161.0, 100.0, Bound::Ratio(1.6)));
        assert!(holds(100.0, 50.0, Bound::RatioAndMost(3.0, 100.0)));
        assert!(!holds(101.0, 50.0, Bound::RatioAndMost(3.0, 100.0)));
        assert!(!holds(100.0, 30.0, Bound::RatioAndMost(3.0, 100.0)));
        assert!(holds(30.0, 10.0, Bound::More(20.0)));
        assert!(!holds(31.0, 10.0, Bound::More(20.0)));
    }

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let mut times: Vec<_> = (1..=100).rev().map(Duration::from_nanos).collect();
        assert!((percentile(&mut times, 50) - 51.0).abs() < 1e-6);
        assert!((percentile(&mut times, 99) - 100.0).abs() < 1e-6);
        assert!(median(&mut []).abs() < 1e-6);
    }
}
