//! What a component has done and taken, per generation and over all of them.
//!
//! Guarantees: counting takes no lock that two calls could meet at; a reader waits for no guest and
//! no guest for a reader; the figures of a generation outlive it. Each figure is consistent in
//! itself; two of them may be one call apart. A component that was never called has no histograms.

mod figures;
mod herald;
mod reading;
mod stint;
mod tally;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use airssys_rt::{CallError, ExitCause};

pub use figures::{ComponentMetrics, Counts, Figures, LastExit, Latency};
pub(crate) use herald::Herald;
pub(crate) use reading::Reading;
use reading::both;
pub(crate) use stint::Stint;
use tally::Spread;
pub(crate) use tally::Tally;

use crate::limits::MemoryMetrics;

/// Why a call was turned away or went without an answer while its instance lived on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Function,
    Arguments,
    MailboxFull,
    Expired,
    Stopped,
    Poisonous,
    NoInstance,
}

impl Refused {
    const ALL: [Self; 7] = [
        Self::Function,
        Self::Arguments,
        Self::MailboxFull,
        Self::Expired,
        Self::Stopped,
        Self::Poisonous,
        Self::NoInstance,
    ];

    /// What the slot said; `None` for the end of an instance, which is counted where it ends.
    pub(crate) fn of<T>(error: &CallError<T>) -> Option<Self> {
        match error {
            CallError::Full { .. } => Some(Self::MailboxFull),
            CallError::Expired { .. } => Some(Self::Expired),
            CallError::Stopped { .. } => Some(Self::Stopped),
            CallError::Poisonous { .. } => Some(Self::Poisonous),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Arguments => "arguments",
            Self::MailboxFull => "mailbox-full",
            Self::Expired => "expired",
            Self::Stopped => "stopped",
            Self::Poisonous => "poisonous",
            Self::NoInstance => "no-instance",
        }
    }
}

/// The figures of one component.
pub(crate) struct Metrics {
    refused: [AtomicU64; Refused::ALL.len()],
    ledger: Mutex<Ledger>,
}

/// What changes with an incarnation. No call locks it.
#[derive(Default)]
struct Ledger {
    /// Incarnations that came up.
    starts: u64,
    current: Arc<Tally>,
    current_failed: Causes,
    previous: Option<Figures>,
    past: Past,
    exits: Causes,
    last_exit: Option<Exit>,
}

type Causes = BTreeMap<&'static str, u64>;

/// The sum over all generations that have ended.
#[derive(Default)]
struct Past {
    figures: Figures,
    spread: Option<Box<Spread>>,
}

struct Exit {
    generation: u64,
    cause: Arc<ExitCause>,
    at: Instant,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
            ledger: Mutex::default(),
        }
    }

    pub(crate) fn refused(&self, refused: Refused) {
        let counts = Refused::ALL.iter().zip(&self.refused);
        for (_, count) in counts.filter(|(known, _)| **known == refused) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An incarnation has come up; the one before belongs to the past from now on.
    pub(crate) fn started(&self, tally: &Arc<Tally>) {
        let mut ledger = self.lock();
        let ended = std::mem::replace(&mut ledger.current, Arc::clone(tally));
        let failed = std::mem::take(&mut ledger.current_failed);
        if ledger.starts > 0 {
            let spread = ended.spread();
            let figures = figures(&ended, spread.as_deref(), &failed, None);
            ledger.past.figures.add(&figures);
            match (&mut ledger.past.spread, spread) {
                (Some(past), Some(spread)) => past.add(&spread),
                (past @ None, spread) => *past = spread,
                (Some(_), None) => {}
            }
            ledger.previous = Some(figures);
        }
        ledger.starts += 1;
    }

    /// An incarnation has ended, and the call it worked on with it.
    pub(crate) fn exited(&self, generation: u64, cause: &Arc<ExitCause>) {
        let kind = cause.kind().as_str();
        let mut ledger = self.lock();
        if ledger.current.generation() == generation && ledger.current.leave() {
            *ledger.current_failed.entry(kind).or_default() += 1;
        }
        *ledger.exits.entry(kind).or_default() += 1;
        ledger.last_exit = Some(Exit {
            generation,
            cause: Arc::clone(cause),
            at: Instant::now(),
        });
    }

    /// Everything, with what the instance that lives holds.
    pub(crate) fn read(&self, queued: usize, memory: Option<MemoryMetrics>) -> Reading {
        let ledger = self.lock();
        let tally = &ledger.current;
        let spread = tally.spread();
        let current = figures(
            tally,
            spread.as_deref(),
            &ledger.current_failed,
            memory.as_ref(),
        );
        let mut total = ledger.past.figures.clone();
        total.add(&current);
        let all = both(ledger.past.spread.clone(), spread.clone());
        let refused = Refused::ALL.iter().zip(&self.refused);
        let refused = refused.map(|(refused, n)| (refused.as_str(), n.load(Ordering::Relaxed)));
        let metrics = ComponentMetrics {
            name: String::new(),
            generation: tally.generation(),
            restarts: ledger.starts.saturating_sub(1),
            in_flight: u64::from(tally.is_busy()),
            queued,
            refused: counts(refused.filter(|(_, n)| *n > 0)),
            exits: counts(ledger.exits.iter().map(|(kind, n)| (*kind, *n))),
            last_exit: ledger.last_exit.as_ref().map(Exit::told),
            memory,
            current,
            previous: ledger.previous.clone(),
            total,
        };
        Reading {
            metrics,
            current: spread,
            total: all,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // Nothing panics under this lock, so a poisoned one still holds whole figures.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exit {
    fn told(&self) -> LastExit {
        LastExit {
            generation: self.generation,
            kind: self.cause.kind().as_str().to_owned(),
            message: self.cause.to_string(),
            ago_ms: u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn counts<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> Counts {
    counts.map(|(name, n)| (name.to_owned(), n)).collect()
}

/// What a tally says, with what is not in it: the causes of failed calls, and the instance that
/// lives.
fn figures(
    tally: &Tally,
    spread: Option<&Spread>,
    failed: &Causes,
    memory: Option<&MemoryMetrics>,
) -> Figures {
    let mut figures = tally.figures();
    figures.failed = counts(failed.iter().map(|(kind, n)| (*kind, *n)));
    figures.wait = spread.and_then(Spread::wait);
    figures.service = spread.and_then(Spread::service);
    if let Some(memory) = memory {
        figures.peak_bytes = figures.peak_bytes.max(memory.peak_bytes);
        figures.growths += memory.allocation_count as u64;
        figures.denied_growths += memory.denied_count as u64;
    }
    figures
}
