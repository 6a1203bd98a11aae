//! The thread that writes: all writes that wait go to the disk together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

use futures_channel::oneshot;
use redb::{Database, Durability};

use super::entries::{Ledger, Owner, Refusal};
use super::fault::{KeyValueError, KeyValueFault};
use super::shared::Shared;
use super::space::Swapped;

/// Most writes of one transaction.
const GROUP_JOBS: usize = 256;
/// Bytes of writes after which a transaction takes no more.
const GROUP_BYTES: usize = 8 << 20;

pub(super) enum Message {
    Job(Job),
    Stop,
}

/// A write on its way.
pub(super) struct Job {
    pub(super) owner: Owner,
    pub(super) bucket: Box<str>,
    pub(super) work: Work,
    /// Given back when the write has been answered.
    pub(super) place: Place,
}

pub(super) enum Work {
    Put {
        entries: Vec<(Box<str>, Box<[u8]>)>,
        answer: Answer<()>,
    },
    Delete {
        keys: Vec<Box<str>>,
        answer: Answer<()>,
    },
    Increment {
        key: Box<str>,
        delta: i64,
        answer: Answer<i64>,
    },
    Swap {
        key: Box<str>,
        expected: Option<Box<[u8]>>,
        new: Box<[u8]>,
        answer: Answer<Swapped>,
    },
}

/// Who waits for a write, and what it will be told once the transaction is on the disk.
pub(super) struct Answer<T> {
    waits: oneshot::Sender<Result<T, KeyValueError>>,
    result: Option<Result<T, KeyValueError>>,
}

impl<T> Answer<T> {
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<T, KeyValueError>>) {
        let (waits, answer) = oneshot::channel();
        (
            Self {
                waits,
                result: None,
            },
            answer,
        )
    }

    fn keep(&mut self, result: Result<T, Refusal>) -> Result<(), redb::Error> {
        self.result = Some(match result {
            Ok(done) => Ok(done),
            Err(Refusal::Of(error)) => Err(error),
            Err(Refusal::Store(error)) => return Err(error),
        });
        Ok(())
    }

    fn send(self, committed: &Result<(), KeyValueFault>) {
        let answer = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(KeyValueFault::Closed.into()),
            (Err(fault), _) => Err(fault.clone().into()),
        };
        // Who waits no more does not hear it.
        self.waits.send(answer).ok();
    }
}

/// A place among the writes that wait.
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
    pub(super) of_space: Arc<AtomicUsize>,
    pub(super) bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of_space.fetch_sub(1, Ordering::Relaxed);
        self.shared
            .waiting_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

pub(super) fn run(shared: &Shared, queue: &Receiver<Message>) {
    let mut ends = false;
    while !ends && let Ok(Message::Job(first)) = queue.recv() {
        let mut bytes = first.place.bytes;
        let mut group = vec![first];
        while group.len() < GROUP_JOBS && bytes < GROUP_BYTES {
            match queue.try_recv() {
                Ok(Message::Job(job)) => {
                    bytes = bytes.saturating_add(job.place.bytes);
                    group.push(job);
                }
                Ok(Message::Stop) => {
                    ends = true;
                    break;
                }
                Err(_) => break,
            }
        }
        let committed = shared.with(|database| commit(database, shared.max_bytes, &mut group));
        for job in group {
            job.finish(&committed);
        }
    }
}

fn commit(database: &Database, max_bytes: u64, group: &mut [Job]) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    // In two phases: the values are of those whom nobody trusts, and a half-written commit must not
    // pass for a whole one by a checksum that they have brought about.
    transaction.set_two_phase_commit(true);
    // What is free is written with each commit, so that a file is opened after a fault without
    // reading the whole of it.
    transaction.set_quick_repair(true);
    {
        let mut ledger = Ledger::open(&transaction, max_bytes)?;
        for job in group {
            job.apply(&mut ledger)?;
        }
    }
    Ok(transaction.commit()?)
}

impl Job {
    fn apply(&mut self, ledger: &mut Ledger<'_>) -> Result<(), redb::Error> {
        let (owner, bucket) = (&self.owner, &*self.bucket);
        match &mut self.work {
            Work::Put { entries, answer } => answer.keep(ledger.put(owner, bucket, entries)),
            Work::Delete { keys, answer } => answer.keep(ledger.delete(owner, bucket, keys)),
            Work::Increment { key, delta, answer } => {
                answer.keep(ledger.increment(owner, bucket, key, *delta))
            }
            Work::Swap {
                key,
                expected,
                new,
                answer,
            } => answer.keep(ledger.swap(owner, bucket, key, expected.as_deref(), new)),
        }
    }

    fn finish(self, committed: &Result<(), KeyValueFault>) {
        // Before the answer: whoever hears it may write again at once.
        drop(self.place);
        match self.work {
            Work::Put { answer, .. } | Work::Delete { answer, .. } => answer.send(committed),
            Work::Increment { answer, .. } => answer.send(committed),
            Work::Swap { answer, .. } => answer.send(committed),
        }
    }
}
