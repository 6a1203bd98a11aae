//! What waits to be written: callers put entries in under a lock that no one holds over the disk.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::{AuditFailure, AuditFull, Unsettled};
use super::record::Event;
use super::{AuditHealth, AuditState, OnFull};

/// Bytes of the queue for each record that it may hold.
pub(crate) const BYTES_PER_RECORD: usize = 512;
/// Bytes for what the writer adds to a batch.
const WRITERS_OWN: usize = 128;
/// The first wait before the disk is tried again; each is twice the one before it.
pub(crate) const FIRST_RETRY: Duration = Duration::from_millis(100);
/// The longest wait before the disk is tried again.
pub(crate) const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// Records one behind another, each as its length in four bytes and its body.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    records: usize,
}

impl Batch {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            records: 0,
        }
    }

    pub(crate) fn push(&mut self, time_us: u64, event: &Event<'_>) {
        let length = u32::try_from(event.bytes()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        event.write(time_us, &mut self.bytes);
        self.records += 1;
    }

    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// The body of the record at `at`, which moves behind it.
    pub(crate) fn next(&self, at: &mut usize) -> Option<&[u8]> {
        let (length, rest) = self.bytes.get(*at..)?.split_first_chunk()?;
        let body = rest.get(..u32::from_le_bytes(*length) as usize)?;
        *at += length.len() + body.len();
        Some(body)
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
    }
}

/// Whom the writer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asleep {
    No,
    /// Until there is something to write.
    UntilWork,
    /// Until the time to write has come, or the queue is half full.
    UntilDue,
}

#[derive(Debug)]
struct State {
    waiting: Batch,
    /// When the first of them was put in.
    since: Option<Instant>,
    asleep: Asleep,
    /// Callers that wait for what is in there.
    flushing: usize,
    /// Until when the writer may still try, once the log is closed.
    closing: Option<Instant>,
    ended: bool,
    failure: Option<AuditFailure>,
    /// Entries that found no room since the last record that said so.
    lost_since: u64,
    told: AuditState,
}

/// What the writer is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Write {
        lost: u64,
    },
    /// Write these and say that the log is closed.
    Close {
        lost: u64,
    },
}

/// A bounded queue between callers and the writer.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    settled: Condvar,
    max_records: usize,
    max_bytes: usize,
    on_full: OnFull,
    interval: Duration,
}

impl Queue {
    pub(crate) fn new(max_records: usize, on_full: OnFull, interval: Duration) -> Self {
        let max_bytes = max_records.saturating_mul(BYTES_PER_RECORD);
        Self {
            state: Mutex::new(State {
                waiting: Batch::with_capacity(max_bytes + WRITERS_OWN),
                since: None,
                asleep: Asleep::No,
                flushing: 0,
                closing: None,
                ended: false,
                failure: None,
                lost_since: 0,
                told: AuditState::default(),
            }),
            work: Condvar::new(),
            settled: Condvar::new(),
            max_records,
            max_bytes,
            on_full,
            interval,
        }
    }

    /// A batch that takes as much as the queue holds.
    pub(crate) fn empty_batch(&self) -> Batch {
        Batch::with_capacity(self.max_bytes + WRITERS_OWN)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry. Allocates nothing and makes no system call but to wake the writer.
    pub(crate) fn push(&self, time_us: u64, event: &Event<'_>) -> Result<(), AuditFull> {
        let wanted = event.bytes() + 4;
        let mut state = self.state();
        let full = if state.closing.is_some() || state.ended {
            return Err(AuditFull::Closed);
        } else if state.failure.is_some() {
            Some(AuditFull::Disk)
        } else if state.waiting.records >= self.max_records
            || state.waiting.bytes.len() + wanted > self.max_bytes
        {
            Some(AuditFull::Queue)
        } else {
            None
        };
        if let Some(full) = full {
            return match self.on_full {
                OnFull::Refuse => {
                    state.told.refused += 1;
                    Err(full)
                }
                OnFull::Drop => {
                    state.told.lost += 1;
                    state.lost_since += 1;
                    Ok(())
                }
            };
        }
        if state.waiting.records == 0 {
            state.since = Some(Instant::now());
        }
        state.waiting.push(time_us, event);
        state.told.accepted += 1;
        let wake = match state.asleep {
            Asleep::No => false,
            Asleep::UntilWork => true,
            Asleep::UntilDue => self.is_half_full(&state.waiting),
        };
        if wake {
            state.asleep = Asleep::No;
        }
        drop(state);
        if wake {
            self.work.notify_one();
        }
        Ok(())
    }

    fn is_half_full(&self, waiting: &Batch) -> bool {
        waiting.records * 2 >= self.max_records || waiting.bytes.len() * 2 >= self.max_bytes
    }

    /// Waits for something to do and exchanges what waits for `spare`, which is empty.
    pub(crate) fn take(&self, spare: &mut Batch) -> Work {
        let mut state = self.state();
        loop {
            let closing = state.closing.is_some();
            let due = state
                .since
                .and_then(|since| since.checked_add(self.interval));
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            let waits = state.waiting.records > 0 || state.lost_since > 0;
            let pressing = state.flushing > 0 || self.is_half_full(&state.waiting);
            if closing || (waits && (pressing || left.is_none_or(|left| left.is_zero()))) {
                std::mem::swap(&mut state.waiting, spare);
                state.since = None;
                state.asleep = Asleep::No;
                let lost = std::mem::take(&mut state.lost_since);
                return match closing {
                    true => Work::Close { lost },
                    false => Work::Write { lost },
                };
            }
            state.asleep = match waits {
                true => Asleep::UntilDue,
                false => Asleep::UntilWork,
            };
            state = match left.filter(|_| waits) {
                Some(left) => {
                    let waited = self.work.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.work.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    /// Notes what is on disk now, `entries` more than before.
    pub(crate) fn settle(&self, entries: u64, update: impl FnOnce(&mut AuditState)) {
        let mut state = self.state();
        state.failure = None;
        state.told.on_disk += entries;
        update(&mut state.told);
        drop(state);
        self.settled.notify_all();
    }

    /// Notes that the disk takes nothing and waits to try again; whether to.
    pub(crate) fn fail(&self, failure: AuditFailure, attempt: u32) -> bool {
        let wait = FIRST_RETRY.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX));
        let until = Instant::now() + wait.min(LONGEST_RETRY);
        let mut state = self.state();
        state.failure = Some(failure);
        state.told.failures += 1;
        loop {
            let now = Instant::now();
            if state.closing.is_some_and(|closing| closing <= now) {
                return false;
            }
            // One that is closed has no time for long waits.
            let until = match state.closing {
                Some(closing) => until.min(closing).min(now + FIRST_RETRY),
                None => until,
            };
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                return true;
            }
            let waited = self.work.wait_timeout(state, left);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            if timeout.timed_out() && state.closing.is_none_or(|closing| closing > Instant::now()) {
                return true;
            }
        }
    }

    /// The writer has ended.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        drop(state);
        self.settled.notify_all();
    }

    /// Waits until all that was accepted before is on disk.
    pub(crate) fn flush(&self, timeout: Duration) -> Result<(), Unsettled> {
        let until = Instant::now().checked_add(timeout);
        let mut state = self.state();
        let wanted = state.told.accepted;
        state.flushing += 1;
        state = self.await_settled(state, until, |state| {
            state.told.on_disk >= wanted || state.ended
        });
        state.flushing -= 1;
        let entries = wanted.saturating_sub(state.told.on_disk);
        unsettled(entries, &state)
    }

    /// Takes no more entries, and waits until the writer has ended.
    pub(crate) fn close(&self, timeout: Duration) -> Result<(), Unsettled> {
        let until = Instant::now().checked_add(timeout);
        let mut state = self.state();
        // Whoever closes first says how long the writer may try.
        if state.closing.is_none() {
            state.closing = Some(until.unwrap_or_else(|| Instant::now() + LONGEST_RETRY));
        }
        state = self.await_settled(state, until, |state| state.ended);
        let entries = state.told.accepted.saturating_sub(state.told.on_disk);
        unsettled(entries, &state)
    }

    /// Waits for `settled`; `None` waits for ever.
    fn await_settled<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        until: Option<Instant>,
        settled: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        drop(state);
        self.work.notify_one();
        let mut state = self.state();
        while !settled(&state) {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            state = match left {
                Some(left) => {
                    let waited = self.settled.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.settled.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
        state
    }

    /// What is known of the log.
    pub(crate) fn told(&self) -> AuditState {
        let state = self.state();
        let mut told = state.told.clone();
        told.health = match (&state.failure, state.ended || state.closing.is_some()) {
            (Some(failure), _) => AuditHealth::Failing(failure.clone()),
            (None, true) => AuditHealth::Closed,
            (None, false) => AuditHealth::Writing,
        };
        told
    }
}

fn unsettled(entries: u64, state: &State) -> Result<(), Unsettled> {
    if entries == 0 {
        return Ok(());
    }
    Err(Unsettled {
        entries,
        failure: state.failure.clone(),
    })
}

#[cfg(test)]
mod tests;
