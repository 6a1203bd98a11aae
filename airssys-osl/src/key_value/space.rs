//! What one component keeps: buckets of keys and values.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use super::entries::{self, Owner};
use super::fault::{KeyValueError, KeyValueFault};
use super::pending::PendingWrite;
use super::shared::Shared;
use super::writer::{Answer, Job, Message, Place, Work};

/// The entries of one component, in buckets that are there as soon as something is in them.
///
/// Reads see what was on the disk when they began and wait for no writer, but for the disk: an
/// asynchronous caller makes them where blocking is allowed. Writes are handed to the thread of the
/// store in the order of their calls; a [`PendingWrite`] tells when they are on the disk.
#[derive(Clone)]
pub struct KeyValueSpace {
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: SyncSender<Message>,
    pub(super) component: Arc<str>,
    pub(super) quota_bytes: u64,
    pub(super) waiting: Arc<AtomicUsize>,
}

/// Some keys of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPage {
    /// In the order of their bytes.
    pub keys: Vec<String>,
    /// What to ask the next page with; `None` when this is the last one.
    pub cursor: Option<String>,
}

/// How a swap has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swapped {
    /// The new value is stored.
    Done,
    /// This is stored instead of what was expected; nothing has changed.
    Differs(Option<Vec<u8>>),
}

impl KeyValueSpace {
    /// Most bytes of a component's or a bucket's name.
    pub const MAX_NAME_BYTES: usize = 255;
    /// Most bytes of a key.
    pub const MAX_KEY_BYTES: usize = 1024;
    /// Most bytes of a value.
    pub const MAX_VALUE_BYTES: usize = 1 << 20;
    /// Most keys of one operation on several.
    pub const MAX_BATCH_KEYS: usize = 1000;
    /// Most bytes of keys and values of one operation on several, asked or answered.
    pub const MAX_BATCH_BYTES: usize = 4 << 20;
    /// Most keys of a page of [`list_keys`](Self::list_keys).
    pub const MAX_PAGE_KEYS: usize = 1000;
    /// What an entry counts beside its names, its key and its value, in bytes.
    pub const ENTRY_BYTES: u64 = 64;
    /// Most writes of one space and its clones that wait for the disk.
    pub const MAX_WAITING_OF_A_SPACE: usize = 64;
    /// Most writes of all spaces that wait for the disk.
    pub const MAX_WAITING: usize = 1024;
    /// Most bytes of all writes that wait for the disk.
    pub const MAX_WAITING_BYTES: usize = 64 << 20;

    /// What an entry counts against quotas, in bytes.
    #[must_use]
    pub fn entry_bytes(component: &str, bucket: &str, key: &str, value_bytes: usize) -> u64 {
        let named = component.len() + bucket.len() + key.len();
        Self::ENTRY_BYTES + named as u64 + value_bytes as u64
    }

    /// The value of a key. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyValueError`].
    pub fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        Ok(self.get_many(bucket, &[key])?.pop().flatten())
    }

    /// The values of at most [`MAX_BATCH_KEYS`](Self::MAX_BATCH_KEYS) keys and
    /// [`MAX_BATCH_BYTES`](Self::MAX_BATCH_BYTES), all of the same moment. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyValueError`].
    pub fn get_many(
        &self,
        bucket: &str,
        keys: &[&str],
    ) -> Result<Vec<Option<Vec<u8>>>, KeyValueError> {
        name(bucket)?;
        count(keys.len())?;
        keys.iter().try_for_each(|key| key_length(key))?;
        self.shared
            .with(|database| entries::values(database, &self.component, bucket, keys))?
            .ok_or(KeyValueError::BatchTooLarge {
                max: Self::MAX_BATCH_BYTES,
            })
    }

    /// Whether a key has a value. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyValueError`].
    pub fn exists(&self, bucket: &str, key: &str) -> Result<bool, KeyValueError> {
        name(bucket)?;
        key_length(key)?;
        Ok(self
            .shared
            .with(|database| entries::exists(database, &self.component, bucket, key))?)
    }

    /// Keys that begin with `prefix`, those after `cursor`, at most `limit` and
    /// [`MAX_PAGE_KEYS`](Self::MAX_PAGE_KEYS) of them. Each page is of its own moment. Blocks on
    /// the disk, which it reads the values from as well.
    ///
    /// # Errors
    /// [`KeyValueError`].
    pub fn list_keys(
        &self,
        bucket: &str,
        prefix: &str,
        cursor: Option<&str>,
        limit: NonZeroUsize,
    ) -> Result<KeyPage, KeyValueError> {
        name(bucket)?;
        key_length(prefix)?;
        cursor.map_or(Ok(()), key_length)?;
        let place = (&*self.component, bucket);
        let (keys, more) = self
            .shared
            .with(|database| entries::keys(database, place, prefix, cursor, limit.get()))?;
        let cursor = keys.last().filter(|_| more).cloned();
        Ok(KeyPage { keys, cursor })
    }

    /// Bytes of all buckets, counted as [`entry_bytes`](Self::entry_bytes) does. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// [`KeyValueError::Store`].
    pub fn used_bytes(&self) -> Result<u64, KeyValueError> {
        Ok(self
            .shared
            .with(|database| entries::used(database, &self.component))?)
    }

    /// Sets a value.
    pub fn set(&self, bucket: &str, key: &str, value: &[u8]) -> PendingWrite<()> {
        self.set_many(bucket, &[(key, value)])
    }

    /// Sets all of these or none, at most [`MAX_BATCH_KEYS`](Self::MAX_BATCH_KEYS) and
    /// [`MAX_BATCH_BYTES`](Self::MAX_BATCH_BYTES). Of a key that is named twice the last value
    /// counts.
    pub fn set_many(&self, bucket: &str, entries: &[(&str, &[u8])]) -> PendingWrite<()> {
        let bytes = entries.iter().map(|(key, value)| key.len() + value.len());
        let checked = count(entries.len())
            .and_then(|()| entries.iter().try_for_each(|(key, _)| key_length(key)))
            .and_then(|()| entries.iter().try_for_each(|(_, value)| value_size(value)));
        self.submit(bucket, checked, bytes.sum(), |answer| Work::Put {
            entries: entries
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect(),
            answer,
        })
    }

    /// Removes a key; one without a value stays so.
    pub fn delete(&self, bucket: &str, key: &str) -> PendingWrite<()> {
        self.delete_many(bucket, &[key])
    }

    /// Removes all of these or none, at most [`MAX_BATCH_KEYS`](Self::MAX_BATCH_KEYS).
    pub fn delete_many(&self, bucket: &str, keys: &[&str]) -> PendingWrite<()> {
        let bytes = keys.iter().map(|key| key.len()).sum();
        let checked =
            count(keys.len()).and_then(|()| keys.iter().try_for_each(|key| key_length(key)));
        self.submit(bucket, checked, bytes, |answer| Work::Delete {
            keys: keys.iter().map(|key| (*key).into()).collect(),
            answer,
        })
    }

    /// Adds to a number that is stored as decimal text, 0 where there is none; the sum.
    pub fn increment(&self, bucket: &str, key: &str, delta: i64) -> PendingWrite<i64> {
        self.submit(bucket, key_length(key), key.len(), |answer| {
            Work::Increment {
                key: key.into(),
                delta,
                answer,
            }
        })
    }

    /// Sets a value if the one that is stored is the one expected, `None`: no value.
    pub fn swap(
        &self,
        bucket: &str,
        key: &str,
        expected: Option<&[u8]>,
        new: &[u8],
    ) -> PendingWrite<Swapped> {
        let bytes = key.len() + expected.map_or(0, <[u8]>::len) + new.len();
        let checked = key_length(key)
            .and_then(|()| expected.map_or(Ok(()), value_size))
            .and_then(|()| value_size(new));
        self.submit(bucket, checked, bytes, |answer| Work::Swap {
            key: key.into(),
            expected: expected.map(Into::into),
            new: new.into(),
            answer,
        })
    }

    fn submit<T>(
        &self,
        bucket: &str,
        checked: Result<(), KeyValueError>,
        bytes: usize,
        work: impl FnOnce(Answer<T>) -> Work,
    ) -> PendingWrite<T> {
        let place = checked
            .and_then(|()| name(bucket))
            .and_then(|()| self.place(bytes));
        let place = match place {
            Ok(place) => place,
            Err(error) => return PendingWrite::refused(error),
        };
        let (answer, pending) = Answer::new();
        let job = Job {
            owner: Owner {
                component: Arc::clone(&self.component),
                quota_bytes: self.quota_bytes,
            },
            bucket: bucket.into(),
            work: work(answer),
            place,
        };
        match self.jobs.try_send(Message::Job(job)) {
            Ok(()) => PendingWrite::waiting(pending),
            Err(TrySendError::Full(_)) => PendingWrite::refused(KeyValueError::Busy),
            Err(TrySendError::Disconnected(_)) => {
                PendingWrite::refused(KeyValueFault::Closed.into())
            }
        }
    }

    /// A place among the writes that wait. The bytes are copied once there is one.
    fn place(&self, bytes: usize) -> Result<Place, KeyValueError> {
        if bytes > Self::MAX_BATCH_BYTES {
            return Err(KeyValueError::BatchTooLarge {
                max: Self::MAX_BATCH_BYTES,
            });
        }
        let place = Place {
            shared: Arc::clone(&self.shared),
            of_space: Arc::clone(&self.waiting),
            bytes,
        };
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let bytes_before = self
            .shared
            .waiting_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        // Dropping the place takes both back.
        if before >= Self::MAX_WAITING_OF_A_SPACE || bytes_before + bytes > Self::MAX_WAITING_BYTES
        {
            return Err(KeyValueError::Busy);
        }
        Ok(place)
    }
}

impl fmt::Debug for KeyValueSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValueSpace")
            .field("component", &self.component)
            .field("quota_bytes", &self.quota_bytes)
            .finish_non_exhaustive()
    }
}

/// Holds a component's or bucket's name to its bounds.
pub(super) fn name(name: &str) -> Result<(), KeyValueError> {
    if name.is_empty() || name.len() > KeyValueSpace::MAX_NAME_BYTES {
        return Err(KeyValueError::NameLength {
            bytes: name.len(),
            max: KeyValueSpace::MAX_NAME_BYTES,
        });
    }
    Ok(())
}

fn key_length(key: &str) -> Result<(), KeyValueError> {
    if key.len() > KeyValueSpace::MAX_KEY_BYTES {
        return Err(KeyValueError::KeyTooLong {
            bytes: key.len(),
            max: KeyValueSpace::MAX_KEY_BYTES,
        });
    }
    Ok(())
}

fn value_size(value: &[u8]) -> Result<(), KeyValueError> {
    if value.len() > KeyValueSpace::MAX_VALUE_BYTES {
        return Err(KeyValueError::ValueTooLarge {
            bytes: value.len(),
            max: KeyValueSpace::MAX_VALUE_BYTES,
        });
    }
    Ok(())
}

fn count(keys: usize) -> Result<(), KeyValueError> {
    if keys > KeyValueSpace::MAX_BATCH_KEYS {
        return Err(KeyValueError::TooManyKeys {
            keys,
            max: KeyValueSpace::MAX_BATCH_KEYS,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed set-up should fail the test")]

    use std::sync::mpsc::{Receiver, sync_channel};

    use crate::private_directory::PrivateDirectory;

    use super::*;

    /// A space whose writes nobody takes, of a store with two places.
    fn idle() -> (tempfile::TempDir, KeyValueSpace, Receiver<Message>) {
        let dir = tempfile::tempdir().unwrap();
        let directory = PrivateDirectory::open(&dir.path().join("kv")).unwrap();
        let (jobs, queue) = sync_channel(2);
        let space = KeyValueSpace {
            shared: Arc::new(Shared::open(directory, 1 << 20).unwrap()),
            jobs,
            component: "a".into(),
            quota_bytes: 1 << 20,
            waiting: Arc::default(),
        };
        (dir, space, queue)
    }

    fn is_busy(pending: PendingWrite<()>) -> bool {
        matches!(pending.wait(), Err(KeyValueError::Busy))
    }

    #[test]
    fn a_write_past_the_queue_is_busy_and_gives_its_place_back() {
        let (_dir, space, queue) = idle();
        let waits = [space.set("b", "1", b"1"), space.set("b", "2", b"22")];
        assert!(is_busy(space.set("b", "3", b"333")));
        assert_eq!(space.waiting.load(Ordering::Relaxed), 2);
        assert_eq!(space.shared.waiting_bytes.load(Ordering::Relaxed), 5);
        drop(queue);
        for pending in waits {
            let closed = pending.wait().unwrap_err();
            assert!(matches!(
                closed,
                KeyValueError::Store(KeyValueFault::Closed)
            ));
        }
        assert_eq!(space.shared.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_bytes_that_wait_are_bounded_over_all_spaces() {
        let (_dir, space, _queue) = idle();
        let waiting = &space.shared.waiting_bytes;
        waiting.store(KeyValueSpace::MAX_WAITING_BYTES - 2, Ordering::Relaxed);
        assert!(is_busy(space.set("b", "k", b"22")));
        assert_eq!(
            waiting.load(Ordering::Relaxed),
            KeyValueSpace::MAX_WAITING_BYTES - 2
        );
        let _waits = space.set("b", "k", b"1");
        assert_eq!(
            waiting.load(Ordering::Relaxed),
            KeyValueSpace::MAX_WAITING_BYTES
        );
    }
}
