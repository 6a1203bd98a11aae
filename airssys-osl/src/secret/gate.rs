//! Who may still read a secret: one state behind one lock, which is held over the calls to the
//! kernel that belong to a change.

use std::sync::PoisonError;
use std::time::Instant;

use super::sync::{Condvar, Mutex, MutexGuard};

/// Most readers of one secret at a time.
pub const MAX_SECRET_READERS: u32 = 65_536;

/// Where a secret is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretState {
    /// It can be read.
    Open {
        /// How many do.
        readers: u32,
    },
    /// Nobody can begin to read it; the last reader wipes it.
    Closing {
        /// How many still read.
        readers: u32,
    },
    /// It is over, but the kernel has not taken its memory back.
    Closed,
    /// It is wiped, and its memory was given back.
    Freed,
}

/// How a secret ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended<F> {
    /// Whether its memory was given back.
    pub(super) freed: bool,
    /// What was wrong.
    pub(super) flaw: Option<F>,
}

/// Why nobody came in.
#[derive(Debug)]
pub(super) enum Barred<E> {
    Closed,
    Full,
    Unopened(E),
}

#[derive(Debug)]
pub(super) struct Gate<F> {
    inner: Mutex<Inner<F>>,
    over: Condvar,
}

#[derive(Debug)]
struct Inner<F> {
    state: SecretState,
    flaw: Option<F>,
}

impl<F: Copy> Gate<F> {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                state: SecretState::Open { readers: 0 },
                flaw: None,
            }),
            over: Condvar::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner<F>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> SecretState {
        self.inner().state
    }

    /// One reader more; `open` runs before the first.
    pub(super) fn enter<E>(&self, open: impl FnOnce() -> Result<(), E>) -> Result<(), Barred<E>> {
        let mut inner = self.inner();
        let SecretState::Open { readers } = inner.state else {
            return Err(Barred::Closed);
        };
        if readers >= MAX_SECRET_READERS {
            return Err(Barred::Full);
        }
        if readers == 0 {
            open().map_err(Barred::Unopened)?;
        }
        inner.state = SecretState::Open {
            readers: readers + 1,
        };
        Ok(())
    }

    /// One reader less; `shut` runs after the last, and `end` after it if the secret is closing.
    pub(super) fn leave(&self, shut: impl FnOnce(), end: impl FnOnce() -> Ended<F>) {
        let mut inner = self.inner();
        match inner.state {
            SecretState::Open { readers } | SecretState::Closing { readers } if readers == 1 => {
                shut();
            }
            _ => {}
        }
        match &mut inner.state {
            SecretState::Closing { readers: 1 } => self.end(&mut inner, end),
            SecretState::Open { readers } | SecretState::Closing { readers } => {
                *readers = readers.saturating_sub(1);
            }
            SecretState::Closed | SecretState::Freed => {}
        }
    }

    /// Lets nobody in any more and waits for the last reader to leave. `Ok` has what was wrong with
    /// the secret; `Err` has the readers that are left at the deadline, behind whom it ends.
    pub(super) fn close(
        &self,
        deadline: Option<Instant>,
        end: impl FnOnce() -> Ended<F>,
    ) -> Result<Option<F>, u32> {
        let mut inner = self.inner();
        match inner.state {
            SecretState::Open { readers: 0 } => self.end(&mut inner, end),
            SecretState::Open { readers } => inner.state = SecretState::Closing { readers },
            _ => {}
        }
        while let SecretState::Closing { readers } = inner.state {
            inner = match deadline {
                None => self
                    .over
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(readers);
                    }
                    self.over
                        .wait_timeout(inner, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        Ok(inner.flaw)
    }

    /// Ends it whoever is counted as a reader: none of them can read any more, since the secret is
    /// not borrowed. A guard that was forgotten stays counted.
    pub(super) fn abandon(&self, shut: impl FnOnce(), end: impl FnOnce() -> Ended<F>) {
        let mut inner = self.inner();
        if let SecretState::Open { readers } | SecretState::Closing { readers } = inner.state {
            if readers > 0 {
                shut();
            }
            self.end(&mut inner, end);
        }
    }

    fn end(&self, inner: &mut Inner<F>, end: impl FnOnce() -> Ended<F>) {
        let ended = end();
        inner.flaw = ended.flaw;
        inner.state = if ended.freed {
            SecretState::Freed
        } else {
            SecretState::Closed
        };
        self.over.notify_all();
    }
}
