//! One-time initialisation whose losers wait for the outcome.
//!
//! Guarantees: at most one initialisation runs at a time; nobody is told Ok before there is a
//! value; an initialisation that fails, panics or is cancelled leaves nothing behind, and the next
//! in line tries again; no wait is longer than [`INIT_WAIT`].

use std::fmt;
use std::future::{Future, pending};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::OnceCell;

/// How long one call waits for its turn while others initialise.
pub const INIT_WAIT: Duration = Duration::from_secs(60);

tokio::task_local! {
    /// Addresses of the cells whose initialisation the current code is part of. A cell cannot move
    /// meanwhile: its initialisation borrows it.
    static INITIALISING: Vec<usize>;
}

/// A value that is made once, by whoever needs it first.
///
/// A wait holds no lock, only a place in the queue. An initialisation that asks for its own value
/// gets [`InitError::Reentered`] instead of waiting for itself; through another task, where that
/// cannot be seen, it gets [`InitError::Waited`] in the end.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use airssys_rt::{InitError, InitOnce};
///
/// let port = InitOnce::new();
/// let refused = port.get_or_try_init(|| async { Err::<u16, _>("taken") }).await;
/// assert!(matches!(refused, Err(InitError::Failed("taken"))));
/// assert_eq!(port.get_or_try_init(|| async { Ok::<_, &str>(8080) }).await.unwrap(), &8080);
/// assert_eq!(port.get(), Some(&8080));
/// # });
/// ```
#[derive(Default)]
pub struct InitOnce<T> {
    cell: OnceCell<T>,
    attempts: AtomicU64,
    failures: AtomicU64,
    waited: AtomicU64,
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InitError<E> {
    /// This call's own initialisation failed. The next call tries again.
    #[error(transparent)]
    Failed(E),
    /// The initialisation asked for the very value it is to make.
    #[error("the initialisation needs its own outcome")]
    Reentered,
    /// Others were still at it after [`INIT_WAIT`].
    #[error("still being initialised after {INIT_WAIT:?}")]
    Waited,
}

/// What happened at an [`InitOnce`] so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InitCounts {
    /// Initialisations begun.
    pub attempts: u64,
    /// Those that failed, panicked or were cancelled.
    pub failures: u64,
    /// Calls that had to wait for somebody else's.
    pub waited: u64,
}

impl<T> InitOnce<T> {
    /// No value yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            cell: OnceCell::const_new(),
            attempts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            waited: AtomicU64::new(0),
        }
    }

    /// The value, if it has been made.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.cell.get()
    }

    /// The value, made by `init` where it is this call's turn to make it. Cancel-safe: a call that
    /// is dropped passes its turn on. A panic of `init` passes the turn on, then goes to the
    /// caller. `init` itself has no time limit but the one the caller puts around the call.
    ///
    /// # Errors
    /// [`InitError::Failed`], [`InitError::Reentered`] or [`InitError::Waited`].
    pub async fn get_or_try_init<E, F: Future<Output = Result<T, E>>>(
        &self,
        init: impl FnOnce() -> F,
    ) -> Result<&T, InitError<E>> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let this = std::ptr::from_ref(self).addr();
        let mut initialising = INITIALISING.try_with(Vec::clone).unwrap_or_default();
        if initialising.contains(&this) {
            return Err(InitError::Reentered);
        }
        initialising.push(this);

        let our_turn = AtomicBool::new(false);
        let value = self.cell.get_or_try_init(|| {
            our_turn.store(true, Ordering::Relaxed);
            INITIALISING.scope(initialising, async {
                let attempt = Attempt::begin(self);
                let value = init().await?;
                attempt.succeeded();
                Ok(value)
            })
        });
        let too_long = async {
            if !our_turn.load(Ordering::Relaxed) {
                self.waited.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(INIT_WAIT).await;
            }
            if our_turn.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            value = value => value.map_err(InitError::Failed),
            () = too_long => Err(InitError::Waited),
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> InitCounts {
        // Failures first: there are then never more of them than attempts.
        let failures = self.failures.load(Ordering::Acquire);
        InitCounts {
            attempts: self.attempts.load(Ordering::Relaxed),
            failures,
            waited: self.waited.load(Ordering::Relaxed),
        }
    }
}

/// An initialisation under way; one that does not succeed has failed, however it ended.
struct Attempt<'a>(Option<&'a AtomicU64>);

impl<'a> Attempt<'a> {
    fn begin<T>(once: &'a InitOnce<T>) -> Self {
        once.attempts.fetch_add(1, Ordering::Relaxed);
        Self(Some(&once.failures))
    }

    fn succeeded(mut self) {
        self.0 = None;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(failures) = self.0 {
            failures.fetch_add(1, Ordering::Release);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for InitOnce<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitOnce")
            .field("value", &self.get())
            .field("counts", &self.counts())
            .finish()
    }
}
