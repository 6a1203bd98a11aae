//! Secrets in protected memory: locked, out of dumps, unreadable while nobody reads, wiped at the
//! end (ADR-OSL-001).

mod access;
#[cfg(feature = "age")]
mod age_file;
mod block;
mod fault;
mod filling;
mod gate;
mod memory;
mod named;
mod pages;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zeroize::Zeroize;

pub use access::{AccessError, AccessGuard, SecretReader, SecretStream};
#[cfg(feature = "age")]
pub use age_file::{AgeKey, MAX_AGE_WORK_FACTOR};
pub use gate::{MAX_SECRET_READERS, SecretState};
pub use memory::{
    DEFAULT_MAX_SECRET_BYTES, DEFAULT_MAX_SECRETS, MAX_SECRET_BYTES, SecretError, SecretLimits,
    SecretMemory,
};
pub use named::{MAX_SECRET_NAME_BYTES, NamedSecrets, SecretName, SecretNameError, UnknownSecret};
pub use pages::{Backing, Forked, Protection, ProtectionReport, SecretPolicy};
pub use source::{LoadError, SecretKeyring, SecretSource};

use access::Holds;
use block::Flaw;
use filling::Filling;
use gate::Gate;
use memory::Slot;

/// What [`gate`] waits with; its model has another.
mod sync {
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
}

/// Why a secret was not closed, or what was found when it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// This thread holds an [`AccessGuard`] of it, and would wait for itself. Nothing is changed.
    #[error("the thread that closes the secret reads it")]
    HeldByCaller,
    /// Others read it. Nobody else can begin to, and the last of them wipes it.
    #[error("{readers} still read the secret")]
    Readers {
        /// How many there are.
        readers: u32,
    },
    /// It is wiped. Something had written outside of its place: its own value, or that of another
    /// secret on its page, may have been overwritten.
    #[error("memory beside the secret was overwritten")]
    CanaryDamaged,
    /// It is over, and the kernel refuses to let it be wiped. That is done with the next secret
    /// made, closed or first read on its page, or when the last one is closed.
    #[error("the secret is not wiped yet: {0}")]
    Unwiped(io::Error),
}

/// A secret in protected memory. Dropping it wipes it.
///
/// Its pages lie between two guard pages and cannot be read while no value on them is read. They
/// are locked, left out of core dumps and withheld from forked children before the value is put
/// there; [`ProtectedSecret::protection_report`] says what of it holds.
///
/// ```
/// use airssys_osl::{ProtectedSecret, SecretLimits, SecretMemory, SecretPolicy};
///
/// let memory = SecretMemory::new(SecretPolicy::BestEffort, SecretLimits::default());
/// let mut source = *b"correct horse";
/// let secret = ProtectedSecret::from_bytes(&memory, &mut source)?;
/// assert_eq!(source, [0; 13]);
/// assert!(secret.with_bytes(|value| value == b"correct horse")?);
/// secret.close()?;
/// assert!(secret.access().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ProtectedSecret {
    slot: Slot,
    gate: Gate<Flaw>,
    /// Told apart from others by [`Holds`], also from those at the same address later.
    id: u64,
}

impl ProtectedSecret {
    /// Takes a secret from `source`, which is wiped also when this fails.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn from_bytes(memory: &SecretMemory, source: &mut [u8]) -> Result<Self, SecretError> {
        let made = Self::new_with(memory, source.len(), |value| value.copy_from_slice(source));
        source.zeroize();
        made
    }

    /// Takes a secret from `source`, whose whole capacity is wiped also when this fails. What was
    /// left elsewhere when the vector grew is not.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn from_vec(memory: &SecretMemory, mut source: Vec<u8>) -> Result<Self, SecretError> {
        let made = Self::new_with(memory, source.len(), |value| value.copy_from_slice(&source));
        source.zeroize();
        made
    }

    /// A secret of `len` random bytes, from the operating system straight to their place.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn random(memory: &SecretMemory, len: usize) -> Result<Self, SecretError> {
        Self::fill(memory, len, |value| {
            getrandom::fill(value).map_err(|error| {
                let number = error.raw_os_error().map(io::Error::from_raw_os_error);
                SecretError::Memory(number.unwrap_or_else(|| io::ErrorKind::Other.into()))
            })?;
            Ok(value.len())
        })
    }

    /// A secret of `len` bytes, zeros at first, which `fill` writes in place. A panic of `fill`
    /// leaves no secret.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn new_with(
        memory: &SecretMemory,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Self, SecretError> {
        Self::fill(memory, len, |value| {
            fill(value);
            Ok::<_, SecretError>(value.len())
        })
    }

    /// A secret of the first bytes of `capacity`, as many as `fill` says it has written.
    fn fill<E: From<SecretError>>(
        memory: &SecretMemory,
        capacity: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Self, E> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut filling = Filling::new(memory.take(capacity)?);
        let len = fill(filling.value())?;
        Ok(Self {
            slot: filling.finish(len)?,
            gate: Gate::new(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Its length.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.slot.len
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> SecretState {
        self.gate.state()
    }

    /// What guards it.
    #[must_use]
    pub fn protection_report(&self) -> ProtectionReport {
        self.slot.block.report()
    }

    /// The value, readable for as long as the guard lives. Guards of other threads share the access
    /// that the first one got from the kernel.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn access(&self) -> Result<AccessGuard<'_>, AccessError> {
        AccessGuard::new(self)
    }

    /// What `read` makes of the value. A panic of `read` ends the access like a return.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn with_bytes<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Result<T, AccessError> {
        Ok(read(&self.access()?))
    }

    /// The value as a stream, whose every read is an access of its own. What is read is a copy, for
    /// the reader to wipe.
    #[must_use]
    pub fn reader(&self) -> SecretReader<'_> {
        SecretReader::new(self)
    }

    /// The value in pieces of `piece_bytes` and a last one of what is left, each an access of its own
    /// and a copy that wipes itself. An error is the last there is.
    #[must_use]
    pub fn stream(&self, piece_bytes: NonZeroUsize) -> SecretStream<'_> {
        SecretStream::new(self, piece_bytes)
    }

    /// Wipes the secret once its readers have left. Afterwards no access is given; a secret that is
    /// closed again tells again what was found.
    ///
    /// # Errors
    /// [`CloseError`].
    pub fn close(&self) -> Result<(), CloseError> {
        self.close_until(None)
    }

    /// Like [`ProtectedSecret::close`], waiting for readers no longer than this.
    ///
    /// # Errors
    /// [`CloseError`]; after [`CloseError::Readers`] the last reader wipes the secret.
    pub fn close_timeout(&self, timeout: Duration) -> Result<(), CloseError> {
        // A time that no clock reaches is no deadline.
        self.close_until(Instant::now().checked_add(timeout))
    }

    fn close_until(&self, deadline: Option<Instant>) -> Result<(), CloseError> {
        if Holds::any(self.id) {
            return Err(CloseError::HeldByCaller);
        }
        match self.gate.close(deadline, || self.slot.give_back()) {
            Ok(None) => Ok(()),
            Ok(Some(Flaw::CanaryDamaged)) => Err(CloseError::CanaryDamaged),
            Ok(Some(Flaw::Unwiped(error))) => Err(CloseError::Unwiped(error.into())),
            Err(readers) => Err(CloseError::Readers { readers }),
        }
    }
}

impl Drop for ProtectedSecret {
    fn drop(&mut self) {
        self.gate
            .abandon(|| self.slot.block.end_read(), || self.slot.give_back());
    }
}

/// The state, not the value.
impl fmt::Debug for ProtectedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectedSecret")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
