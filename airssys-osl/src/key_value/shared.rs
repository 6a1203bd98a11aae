//! The open database, and its replacement after a fault.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicUsize;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{Builder, Database};

use crate::private_directory::PrivateDirectory;

use super::entries;
use super::fault::{KeyValueFault, KeyValueOpenError};
use super::reserved::Reserved;

/// Name of the store's file.
const FILE: &str = "store.redb";
/// Bytes of the file kept in memory.
const CACHE_BYTES: usize = 16 << 20;
/// Time between two attempts at a file that did not serve.
const RETRY: Duration = if cfg!(test) {
    Duration::ZERO
} else {
    Duration::from_secs(1)
};

/// What the writer and all readers share.
#[derive(Debug)]
pub(super) struct Shared {
    directory: PrivateDirectory,
    pub(super) max_bytes: u64,
    pub(super) waiting_bytes: AtomicUsize,
    /// Locked for reading by every operation, for writing only to replace the database.
    state: RwLock<State>,
}

#[derive(Debug)]
enum State {
    Open(Database),
    Failed {
        fault: KeyValueFault,
        since: Instant,
    },
    Closed,
}

impl Shared {
    pub(super) fn open(
        directory: PrivateDirectory,
        max_bytes: u64,
    ) -> Result<Self, KeyValueOpenError> {
        let database = open(&directory, true)?;
        Ok(Self {
            directory,
            max_bytes,
            waiting_bytes: AtomicUsize::new(0),
            state: RwLock::new(State::Open(database)),
        })
    }

    /// Does something with the database. It is opened anew after whatever goes wrong: redb answers
    /// nothing more after a failed write, and nobody knows what it holds after a panic.
    pub(super) fn with<T>(
        &self,
        act: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, KeyValueFault> {
        self.revive();
        let fault = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(database) => match catch_unwind(AssertUnwindSafe(|| act(database))) {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => KeyValueFault::new(error),
                Err(_) => KeyValueFault::Panicked,
            },
            State::Failed { fault, .. } => return Err(fault.clone()),
            State::Closed => return Err(KeyValueFault::Closed),
        };
        self.replace(&fault);
        Err(fault)
    }

    pub(super) fn close(&self) {
        self.set(State::Closed);
    }

    /// Tries a file again that did not serve a while ago.
    fn revive(&self) {
        let due = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Failed { fault, since } if fault.may_pass() && since.elapsed() >= RETRY => {
                fault.clone()
            }
            State::Failed { .. } | State::Open(_) | State::Closed => return,
        };
        self.replace(&due);
    }

    /// Closes the database and opens it anew. Where there was no room there is no reason to read
    /// the whole file again, which whoever asks for too much could otherwise bring about each time.
    fn replace(&self, after: &KeyValueFault) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Closed => return,
            // Somebody else has just tried.
            State::Failed { since, .. } if since.elapsed() < RETRY => return,
            State::Open(_) | State::Failed { .. } => {}
        }
        // The old one first: it holds the file's lock.
        let failed = |fault| State::Failed {
            fault,
            since: Instant::now(),
        };
        end(std::mem::replace(
            &mut *state,
            failed(KeyValueFault::Closed),
        ));
        let checks = !matches!(after, KeyValueFault::NoRoom { .. });
        *state = match open(&self.directory, checks) {
            Ok(database) => State::Open(database),
            Err(KeyValueOpenError::Store(fault)) => failed(fault),
            Err(KeyValueOpenError::InUse) => {
                failed(KeyValueFault::new(redb::Error::DatabaseAlreadyOpen))
            }
            Err(KeyValueOpenError::Thread { source }) => {
                failed(KeyValueFault::new(redb::Error::Io(source)))
            }
            Err(KeyValueOpenError::Private(error)) => failed(KeyValueFault::new(redb::Error::Io(
                std::io::Error::other(error),
            ))),
        };
    }

    fn set(&self, new: State) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        end(std::mem::replace(&mut *state, new));
    }
}

/// Closes a database, which may find the file changed and panic.
fn end(state: State) {
    catch_unwind(AssertUnwindSafe(|| drop(state))).ok();
}

fn open(directory: &PrivateDirectory, checks: bool) -> Result<Database, KeyValueOpenError> {
    let file = directory.open_in_place(FILE)?;
    let opened = catch_unwind(|| {
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(checks)
            .create_with_backend(Reserved::new(file)?)?;
        entries::prepare(&database)?;
        Ok(database)
    });
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(redb::Error::DatabaseAlreadyOpen)) => Err(KeyValueOpenError::InUse),
        Ok(Err(error)) => Err(KeyValueFault::new(error).into()),
        Err(_) => Err(KeyValueFault::Panicked.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a failed set-up should fail the test"
    )]

    use super::*;

    fn fresh() -> (tempfile::TempDir, Shared) {
        let dir = tempfile::tempdir().unwrap();
        let directory = PrivateDirectory::open(&dir.path().join("kv")).unwrap();
        let shared = Shared::open(directory, 1 << 20).unwrap();
        (dir, shared)
    }

    #[test]
    fn a_read_waits_for_no_writer() {
        let (_dir, shared) = fresh();
        let total = shared.with(|database| {
            let _writes = database.begin_write()?;
            entries::total(database)
        });
        assert_eq!(total.unwrap(), 0);
    }

    #[test]
    fn after_a_panic_of_the_database_it_is_opened_anew() {
        let (_dir, shared) = fresh();
        let panicked = shared.with::<()>(|database| {
            let _writes = database.begin_write()?;
            panic!("as over a page that has changed")
        });
        assert!(matches!(panicked, Err(KeyValueFault::Panicked)));
        assert_eq!(shared.with(entries::total).unwrap(), 0);
    }

    #[test]
    fn a_file_that_was_damaged_meanwhile_stays_a_typed_error() {
        let (dir, shared) = fresh();
        let file = dir.path().join("kv").join(FILE);
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, b"something else").unwrap();
        let fails = || shared.with::<()>(|_| Err(redb::Error::PreviousIo));
        assert!(matches!(fails(), Err(KeyValueFault::Other { .. })));
        for _ in 0..2 {
            let refused = shared.with(entries::total);
            assert!(
                matches!(refused, Err(KeyValueFault::Damaged { .. })),
                "{refused:?}"
            );
            std::fs::write(&file, &whole).unwrap();
        }
        shared.close();
        assert!(matches!(fails(), Err(KeyValueFault::Closed)));
    }

    #[test]
    fn a_fault_that_may_pass_is_tried_again() {
        let (dir, shared) = fresh();
        let path = dir.path().join("kv");
        std::fs::rename(path.join(FILE), path.join("away")).unwrap();
        let directory = PrivateDirectory::open(&path).unwrap();
        let other = Shared::open(directory, 1 << 20).unwrap();
        let failed = shared.with::<()>(|_| Err(redb::Error::PreviousIo));
        assert!(failed.is_err());
        let in_use = shared.with(entries::total).unwrap_err();
        assert!(
            matches!(&in_use, KeyValueFault::Other { source }
                if matches!(**source, redb::Error::DatabaseAlreadyOpen)),
            "{in_use:?}"
        );
        drop(other);
        shared.with(entries::total).unwrap();
    }
}
