//! Where a panic of host code ends: at a named entry point, counted and on record.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use crate::unwind::{Contained, bounded, catch, message};

/// Panics on record; an older one goes when a new one comes.
pub const PANICS_KEPT: usize = 100;

/// Catches panics at named entry points and keeps the last [`PANICS_KEPT`]. Cheap to clone; clones
/// share counters and record.
///
/// A panic ends in an error, whatever it does on its way: a payload or a dropped future whose
/// destructor panics does not get out either. Where in the source a panic came from is not on
/// record: only the process-wide panic hook knows, and that belongs to the embedding program. The
/// hook runs as ever, so a panic still shows on stderr unless the program wants otherwise.
///
/// `panic = "abort"` leaves nothing to catch.
///
/// ```
/// let boundary = airssys_rt::PanicBoundary::new();
/// let caught = boundary.call("kv.get", || -> u32 { panic!("no such shelf") }).unwrap_err();
/// assert_eq!((&*caught.entry, &*caught.message), ("kv.get", "no such shelf"));
/// assert_eq!(boundary.counts().panicked, 1);
/// ```
#[derive(Clone)]
pub struct PanicBoundary(Arc<Record>);

struct Record {
    began: Instant,
    entries: DashMap<Arc<str>, Arc<Counters>>,
    kept: Mutex<VecDeque<CaughtPanic>>,
}

#[derive(Default)]
struct Counters {
    entered: AtomicU64,
    inside: AtomicU64,
    panicked: AtomicU64,
}

/// One named entry point of a [`PanicBoundary`]. Keep it where calls are frequent: entering through
/// it takes no lock and looks nothing up.
#[derive(Clone)]
pub struct EntryPoint {
    name: Arc<str>,
    counters: Arc<Counters>,
    record: Arc<Record>,
}

/// A panic that was caught.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panic in `{entry}`: {message}")]
#[non_exhaustive]
pub struct CaughtPanic {
    /// The entry point it was caught at.
    pub entry: Arc<str>,
    /// What it said, at most [`crate::PANIC_MESSAGE_BYTES`] bytes of it.
    pub message: String,
    /// Name of the thread, where it has one; bounded like the message.
    pub thread: Option<String>,
    /// From the making of the boundary to the panic.
    pub at: Duration,
}

/// How often code went in, is in, and did not come out by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PanicCounts {
    /// Calls made and futures polled at least once.
    pub entered: u64,
    /// Those of them that have not ended yet.
    pub inside: u64,
    /// Those that panicked, while they ran or while they were dropped.
    pub panicked: u64,
}

impl Default for PanicBoundary {
    fn default() -> Self {
        Self::new()
    }
}

impl PanicBoundary {
    /// A boundary nobody has entered.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Record {
            began: Instant::now(),
            entries: DashMap::new(),
            kept: Mutex::default(),
        }))
    }

    /// The entry point of that name. A name stays for as long as the boundary does: take names of
    /// the program's, never of its input.
    #[must_use]
    pub fn entry(&self, name: &str) -> EntryPoint {
        let entries = &self.0.entries;
        let known = entries
            .get(name)
            .map(|known| (Arc::clone(known.key()), Arc::clone(&known)));
        let (name, counters) = known.unwrap_or_else(|| {
            let name = Arc::<str>::from(name);
            let counters = Arc::clone(&entries.entry(Arc::clone(&name)).or_default());
            (name, counters)
        });
        EntryPoint {
            name,
            counters,
            record: Arc::clone(&self.0),
        }
    }

    /// As [`EntryPoint::call`].
    ///
    /// # Errors
    /// The panic of `f`.
    pub fn call<T>(&self, entry: &str, f: impl FnOnce() -> T) -> Result<T, CaughtPanic> {
        self.entry(entry).call(f)
    }

    /// As [`EntryPoint::run`].
    ///
    /// # Errors
    /// The panic of `future`.
    pub fn run<F: Future>(
        &self,
        entry: &str,
        future: F,
    ) -> impl Future<Output = Result<F::Output, CaughtPanic>> + use<F> {
        self.entry(entry).run(future)
    }

    /// The counters of all entry points together.
    #[must_use]
    pub fn counts(&self) -> PanicCounts {
        let mut all = PanicCounts::default();
        for entry in &self.0.entries {
            let one = entry.counts();
            all.entered += one.entered;
            all.inside += one.inside;
            all.panicked += one.panicked;
        }
        all
    }

    /// The counters of each entry point, by name.
    #[must_use]
    pub fn entries(&self) -> Vec<(Arc<str>, PanicCounts)> {
        let mut entries: Vec<_> = self
            .0
            .entries
            .iter()
            .map(|entry| (Arc::clone(entry.key()), entry.counts()))
            .collect();
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        entries
    }

    /// The panics on record, oldest first.
    #[must_use]
    pub fn last_panics(&self) -> Vec<CaughtPanic> {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().cloned().collect()
    }
}

impl EntryPoint {
    /// Calls `f`, whose captures are dropped inside the boundary.
    ///
    /// # Errors
    /// The panic of `f`.
    pub fn call<T>(&self, f: impl FnOnce() -> T) -> Result<T, CaughtPanic> {
        let _inside = Inside::enter(&self.counters);
        catch(f).map_err(|payload| self.caught(payload))
    }

    /// Runs `future`, which is dropped inside the boundary. Counted from the first poll. A panic
    /// while it is cancelled has nobody to be returned to: it is counted and on record.
    ///
    /// # Errors
    /// The panic of `future`.
    pub fn run<F: Future>(
        &self,
        future: F,
    ) -> impl Future<Output = Result<F::Output, CaughtPanic>> + use<F> {
        let (entry, counters) = (self.clone(), Arc::clone(&self.counters));
        let contained = Contained::new(future, move |payload| entry.caught(payload));
        async move {
            let _inside = Inside::enter(&counters);
            contained.await
        }
    }

    /// Counts a panic that was caught elsewhere, and keeps it on record. What was inside has not
    /// been counted as entered.
    #[must_use]
    pub fn caught(&self, payload: Box<dyn Any + Send>) -> CaughtPanic {
        let caught = CaughtPanic {
            entry: Arc::clone(&self.name),
            message: message(payload),
            thread: std::thread::current().name().map(bounded),
            at: self.record.began.elapsed(),
        };
        self.counters.panicked.fetch_add(1, Ordering::Relaxed);
        tracing::error!(entry = &*caught.entry, message = %caught.message, "panic caught");
        let mut kept = self
            .record
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if kept.len() == PANICS_KEPT {
            kept.pop_front();
        }
        kept.push_back(caught.clone());
        caught
    }
}

impl Counters {
    fn counts(&self) -> PanicCounts {
        // `inside` first: a call that comes in between is then never inside without having entered.
        let inside = self.inside.load(Ordering::Acquire);
        PanicCounts {
            entered: self.entered.load(Ordering::Relaxed),
            inside,
            panicked: self.panicked.load(Ordering::Relaxed),
        }
    }
}

/// Takes the gauge down however the code inside ends.
struct Inside<'a>(&'a Counters);

impl<'a> Inside<'a> {
    fn enter(counters: &'a Counters) -> Self {
        counters.entered.fetch_add(1, Ordering::Relaxed);
        counters.inside.fetch_add(1, Ordering::Release);
        Self(counters)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Release);
    }
}

impl fmt::Debug for PanicBoundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PanicBoundary")
            .field(&self.counts())
            .finish()
    }
}

impl fmt::Debug for EntryPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntryPoint")
            .field("name", &self.name)
            .field("counts", &self.counters.counts())
            .finish()
    }
}
