//! The columns of the table, and which of them fit.

use airssys::ComponentNodeStatus;

use super::view::Row;

/// A column: its heading, its width, and what stands in it.
pub(super) struct Column {
    pub(super) heading: &'static str,
    pub(super) width: usize,
    /// Columns of a higher rank give way first.
    rank: usize,
    pub(super) cell: fn(&Row<'_>) -> String,
}

/// In the order they are drawn, after the name.
pub(super) const COLUMNS: [Column; 16] = [
    column("STATE", 11, 0, |row| row.status.state.clone()),
    column("GEN", 5, 15, |row| number(row.status.metrics.generation)),
    column("CALLS", 6, 1, |row| number(row.status.metrics.total.calls)),
    column("/S", 6, 7, |row| number(row.rate)),
    column("BUSY", 5, 11, |row| format!("{}%", row.busy_percent)),
    column("FAIL", 5, 2, |row| {
        number(row.status.metrics.total.failures())
    }),
    column("REFU", 5, 12, |row| number(refusals(row.status))),
    column("FLY", 3, 14, |row| number(row.status.metrics.in_flight)),
    column("QUEUE", 5, 8, |row| {
        number(row.status.metrics.queued as u64)
    }),
    column("WAIT99", 6, 13, |row| {
        time(row.status.metrics.current.wait.map(|wait| wait.p99_ns))
    }),
    column("P50", 6, 9, |row| {
        time(row.status.metrics.current.service.map(|times| times.p50_ns))
    }),
    column("P99", 6, 3, |row| {
        time(row.status.metrics.current.service.map(|times| times.p99_ns))
    }),
    column("MEM", 6, 10, |row| {
        bytes(row.status.metrics.memory.map_or(0, |m| m.current_bytes))
    }),
    column("MEM%", 4, 4, |row| format!("{}%", row.memory_percent)),
    column("RST", 5, 5, |row| number(row.status.metrics.restarts)),
    column("LAST EXIT", 17, 6, |row| last_exit(row.status)),
];

/// Least width of the column of names.
const LEAST_NAME: usize = 12;

const fn column(
    heading: &'static str,
    width: usize,
    rank: usize,
    cell: fn(&Row<'_>) -> String,
) -> Column {
    Column {
        heading,
        width,
        rank,
        cell,
    }
}

/// The columns that fit `width`, and what is left of it for the names.
pub(super) fn fitting(width: usize) -> (Vec<&'static Column>, usize) {
    let mut ranked: Vec<&'static Column> = COLUMNS.iter().collect();
    ranked.sort_by_key(|column| column.rank);
    let mut left = width;
    let mut least = usize::MAX;
    for column in ranked {
        match left.checked_sub(column.width + 1) {
            Some(rest) if rest >= LEAST_NAME => left = rest,
            _ => {
                least = column.rank;
                break;
            }
        }
    }
    let fit = COLUMNS.iter().filter(|column| column.rank < least);
    (fit.collect(), left)
}

pub(super) fn refusals(status: &ComponentNodeStatus) -> u64 {
    status.metrics.refused.values().sum()
}

fn last_exit(status: &ComponentNodeStatus) -> String {
    let last = status.metrics.last_exit.as_ref();
    last.map_or_else(String::new, |exit| {
        format!("{} {}", exit.kind, age(exit.ago_ms))
    })
}

/// A count in at most five characters.
pub(super) fn number(n: u64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    scaled(n, 1_000, &UNITS)
}

/// Bytes in at most five characters.
pub(super) fn bytes(n: usize) -> String {
    const UNITS: [&str; 7] = ["B", "K", "M", "G", "T", "P", "E"];
    scaled(n as u64, 1_024, &UNITS)
}

fn scaled(n: u64, base: u64, units: &[&str]) -> String {
    let (mut whole, mut rest) = (n, 0);
    for (place, unit) in units.iter().enumerate() {
        if whole < base {
            return match (place, whole) {
                (0, _) | (_, 100..) => format!("{whole}{unit}"),
                _ => format!("{whole}.{}{unit}", rest * 10 / base),
            };
        }
        rest = whole % base;
        whole /= base;
    }
    // 2^64 is 18.4 E.
    n.to_string()
}

/// A time of a call in at most six characters.
fn time(ns: Option<u64>) -> String {
    match ns {
        None => String::from("-"),
        Some(ns @ 0..1_000) => format!("{ns}ns"),
        Some(ns @ 1_000..1_000_000) => format!("{}us", ns / 1_000),
        Some(ns @ 1_000_000..10_000_000_000) => format!("{}ms", ns / 1_000_000),
        Some(ns) => format!("{}s", ns / 1_000_000_000),
    }
}

/// How long something has been, in at most four characters.
pub(super) fn age(ms: u64) -> String {
    match ms / 1_000 {
        s @ 0..100 => format!("{s}s"),
        s @ 100..6_000 => format!("{}m", s / 60),
        s @ 6_000..360_000 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}
