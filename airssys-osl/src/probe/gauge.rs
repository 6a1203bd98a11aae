//! The room as of lately, without a lock and without reading a file for each question.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{MemoryProbe, ProbeError};

/// Stands for a room that is not known. No machine has as much.
const UNKNOWN: u64 = u64::MAX;

/// Why nothing more is admitted now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryShort {
    /// Less than the reserve would be left.
    #[error(
        "{available} bytes of memory are left, {wanted} are wanted and {reserve} are to stay free"
    )]
    Room {
        /// Bytes left, without those admitted since they were read.
        available: u64,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that are to stay free.
        reserve: u64,
    },
    /// The last reading failed: nobody knows.
    #[error("the memory that is left is not known")]
    Unknown,
}

/// A probe that is read by whoever asks, at most once a period.
///
/// A question is two atomic loads; the one that finds the period over reads a dozen small files of
/// the kernel's, and those that ask meanwhile get the value before it.
#[derive(Debug)]
pub struct MemoryGauge {
    probe: MemoryProbe,
    start: Instant,
    period: Duration,
    /// Bytes left, less what was admitted since they were read.
    available: AtomicU64,
    /// Nanoseconds from the start to the next reading.
    due: AtomicU64,
}

impl MemoryGauge {
    /// Reads the probe for the first time.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn new(probe: MemoryProbe, period: Duration) -> Result<Self, ProbeError> {
        let available = probe.read()?.available;
        Ok(Self {
            probe,
            start: Instant::now(),
            period,
            available: AtomicU64::new(available),
            due: AtomicU64::new(nanoseconds(period)),
        })
    }

    /// Bytes left; `None` when the last reading failed.
    #[must_use]
    pub fn available(&self) -> Option<u64> {
        self.renew();
        Some(self.available.load(Ordering::Relaxed)).filter(|left| *left != UNKNOWN)
    }

    /// Takes `wanted` bytes off what is left until the next reading, provided `reserve` bytes stay.
    /// What was admitted by then shows in the reading as far as it has been touched.
    ///
    /// # Errors
    /// [`MemoryShort`]; nothing is taken.
    pub fn admit(&self, wanted: u64, reserve: u64) -> Result<(), MemoryShort> {
        self.renew();
        let admitted = |available: u64| {
            let left = available
                .checked_sub(wanted)
                .filter(|_| available != UNKNOWN)?;
            (left >= reserve).then_some(left)
        };
        self.available
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, admitted)
            .map(drop)
            .map_err(|available| match available {
                UNKNOWN => MemoryShort::Unknown,
                available => MemoryShort::Room {
                    available,
                    wanted,
                    reserve,
                },
            })
    }

    fn renew(&self) {
        let due = self.due.load(Ordering::Relaxed);
        let now = nanoseconds(self.start.elapsed());
        if now < due {
            return;
        }
        let next = now.saturating_add(nanoseconds(self.period));
        // The first to find it due reads.
        let mine = self
            .due
            .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        if mine.is_ok() {
            let left = self.probe.read().map_or(UNKNOWN, |room| room.available);
            self.available.store(left, Ordering::Relaxed);
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
