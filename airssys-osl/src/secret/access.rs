//! Reading a secret.

#![allow(
    unsafe_code,
    reason = "a slice of mapped memory, for as long as its reader is counted"
)]

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ops::Deref;

use zeroize::Zeroizing;

use super::ProtectedSecret;
use super::gate::{Barred, MAX_SECRET_READERS};

/// Why a secret cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// It is closed, or about to be.
    #[error("the secret is closed")]
    Closed,
    /// As many read it as may.
    #[error("{limit} read the secret already")]
    TooManyReaders {
        /// Most that may: [`MAX_SECRET_READERS`].
        limit: u32,
    },
    /// The kernel refuses to make it readable.
    #[error("the secret cannot be made readable: {0}")]
    Kernel(io::Error),
}

/// The value of a secret. Stays on the thread that asked for it, which is how a thread that closes
/// a secret it reads is told so.
///
/// ```compile_fail,E0277
/// fn sent<T: Send>() {}
/// sent::<airssys_osl::AccessGuard<'_>>();
/// ```
pub struct AccessGuard<'a> {
    secret: &'a ProtectedSecret,
    on_one_thread: PhantomData<*const ()>,
}

impl<'a> AccessGuard<'a> {
    pub(super) fn new(secret: &'a ProtectedSecret) -> Result<Self, AccessError> {
        let entered = secret.gate.enter(|| secret.slot.block.begin_read());
        entered.map_err(|barred| match barred {
            Barred::Closed => AccessError::Closed,
            Barred::Full => AccessError::TooManyReaders {
                limit: MAX_SECRET_READERS,
            },
            Barred::Unopened(error) => AccessError::Kernel(error.into()),
        })?;
        Holds::add(secret.id);
        Ok(Self {
            secret,
            on_one_thread: PhantomData,
        })
    }
}

impl Deref for AccessGuard<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let slot = &self.secret.slot;
        // SAFETY: this guard is counted as a reader, so the pages stay readable and the value is
        // neither wiped nor written.
        unsafe { slot.block.bytes(slot.block.value(slot.place, slot.len)) }
    }
}

impl Drop for AccessGuard<'_> {
    fn drop(&mut self) {
        let ProtectedSecret { slot, gate, id } = self.secret;
        Holds::remove(*id);
        gate.leave(|| slot.block.end_read(), || slot.give_back());
    }
}

/// The length, not the value.
impl fmt::Debug for AccessGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessGuard").finish_non_exhaustive()
    }
}

/// A secret as a stream; an access for each read.
#[derive(Debug)]
pub struct SecretReader<'a> {
    secret: &'a ProtectedSecret,
    position: usize,
}

impl<'a> SecretReader<'a> {
    pub(super) fn new(secret: &'a ProtectedSecret) -> Self {
        Self {
            secret,
            position: 0,
        }
    }
}

impl Read for SecretReader<'_> {
    /// An [`AccessError`] is the source of the error.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let value = self.secret.access().map_err(io::Error::other)?;
        let read = value.get(self.position..).unwrap_or(&[]).read(buffer)?;
        self.position += read;
        Ok(read)
    }
}

/// A secret in pieces, each of which wipes itself; an access for each.
#[derive(Debug)]
pub struct SecretStream<'a> {
    reader: SecretReader<'a>,
    piece_bytes: NonZeroUsize,
    /// Its error has been told.
    is_over: bool,
}

impl<'a> SecretStream<'a> {
    pub(super) fn new(secret: &'a ProtectedSecret, piece_bytes: NonZeroUsize) -> Self {
        Self {
            reader: SecretReader::new(secret),
            piece_bytes,
            is_over: false,
        }
    }
}

impl Iterator for SecretStream<'_> {
    type Item = Result<Zeroizing<Vec<u8>>, AccessError>;

    fn next(&mut self) -> Option<Self::Item> {
        let value = match self.reader.secret.access() {
            Ok(value) => value,
            Err(_) if self.is_over => return None,
            Err(error) => {
                self.is_over = true;
                return Some(Err(error));
            }
        };
        let rest = value.get(self.reader.position..).unwrap_or(&[]);
        let piece = rest.get(..self.piece_bytes.get()).unwrap_or(rest);
        self.reader.position += piece.len();
        (!piece.is_empty()).then(|| Ok(Zeroizing::new(piece.to_vec())))
    }
}

thread_local! {
    static HELD: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// The secrets that this thread reads, once for each guard. In the end of a thread, when its list
/// is gone, it holds none.
pub(super) struct Holds;

impl Holds {
    fn add(id: u64) {
        HELD.try_with(|held| held.borrow_mut().push(id)).ok();
    }

    fn remove(id: u64) {
        HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            if let Some(last) = held.iter().rposition(|other| *other == id) {
                held.swap_remove(last);
            }
        })
        .ok();
    }

    pub(super) fn any(id: u64) -> bool {
        HELD.try_with(|held| held.borrow().contains(&id))
            .unwrap_or(false)
    }
}
