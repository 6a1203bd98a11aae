//! A table of what each contender takes and allocates per operation, with the ratio to the first of
//! its group, all from one run.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, with a count of requests.
#[derive(Debug)]
pub struct Counting;

// SAFETY: every request goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised for this layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from `alloc` above with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Allocations so far, where [`Counting`] is the global allocator.
#[must_use]
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// What was measured, in the order it came.
#[derive(Debug, Default)]
pub struct Table(Vec<Row>);

#[derive(Debug)]
struct Row {
    group: String,
    contender: String,
    nanoseconds: Vec<f64>,
    allocations: f64,
}

impl Table {
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
    fn median(&self) -> f64 {
        let mut sorted = self.nanoseconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24} {:<28} {:>12} {:>8} {:>10}",
            "operation", "contender", "median ns", "ratio", "allocs"
        )?;
        for row in &self.0 {
            let first = self.0.iter().find(|other| other.group == row.group);
            let floor = first.map_or(f64::NAN, Row::median);
            writeln!(
                f,
                "{:<24} {:<28} {:>12.0} {:>7.2}x {:>10.1}",
                row.group,
                row.contender,
                row.median(),
                row.median() / floor,
                row.allocations
            )?;
        }
        Ok(())
    }
}
