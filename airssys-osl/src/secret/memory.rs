//! Where secrets are put: small ones share pages, so that a low `RLIMIT_MEMLOCK` goes a long way.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::block::{Block, Flaw};
use super::gate::Ended;
use super::pages::{Fate, MapError, Protection, SecretPolicy};

/// Most bytes of one secret, unless [`SecretLimits`] says otherwise.
pub const DEFAULT_MAX_SECRET_BYTES: usize = 1 << 20;

/// Most bytes of one secret, whatever [`SecretLimits`] says.
pub const MAX_SECRET_BYTES: usize = 1 << 30;

/// Most secrets of one [`SecretMemory`], unless [`SecretLimits`] says otherwise.
pub const DEFAULT_MAX_SECRETS: usize = 4096;

/// Longest values that share a page with others of about their length; longer ones have pages of
/// their own.
const CLASSES: [usize; 6] = [32, 64, 128, 256, 512, 1024];

/// Why a secret was not made. Its source is wiped all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// No bytes.
    #[error("a secret has at least one byte")]
    Empty,
    /// More bytes than [`SecretLimits::max_bytes`].
    #[error("a secret of {len_bytes} bytes is longer than {limit_bytes}")]
    TooLong {
        /// Its length.
        len_bytes: usize,
        /// Most that are allowed.
        limit_bytes: usize,
    },
    /// As many as [`SecretLimits::max_secrets`] are there already.
    #[error("there are {limit} secrets already")]
    TooMany {
        /// Most that are allowed.
        limit: usize,
    },
    /// A protection cannot be had, and the policy is strict. [`Protection::Locked`] is refused at
    /// `RLIMIT_MEMLOCK`.
    #[error("no secret without {protection:?}: {source}")]
    Refused {
        /// Which one.
        protection: Protection,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel gives no memory, or no random bytes.
    #[error("no memory for a secret: {0}")]
    Memory(io::Error),
}

/// Bounds of a [`SecretMemory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretLimits {
    /// Most bytes of one secret; above [`MAX_SECRET_BYTES`] it is that.
    pub max_bytes: usize,
    /// Most secrets at a time.
    pub max_secrets: usize,
}

impl Default for SecretLimits {
    fn default() -> Self {
        Self {
            max_bytes: DEFAULT_MAX_SECRET_BYTES,
            max_secrets: DEFAULT_MAX_SECRETS,
        }
    }
}

/// Protected memory that secrets are made in. Clones are the same memory.
///
/// Values of at most 1024 bytes share pages with others of about their length. Pages are readable
/// while any value in them is read.
#[derive(Debug, Clone, Default)]
pub struct SecretMemory(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    policy: SecretPolicy,
    limits: SecretLimits,
    shelves: Mutex<Shelves>,
}

/// The lock is taken before that of a block, never after it.
#[derive(Debug, Default)]
struct Shelves {
    secrets: usize,
    /// Blocks with places for several values, by [`CLASSES`].
    shared: [Vec<Arc<Block>>; CLASSES.len()],
}

/// A place that one secret has.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) block: Arc<Block>,
    pub(super) place: usize,
    pub(super) len: usize,
    class: Option<usize>,
    memory: SecretMemory,
}

impl SecretMemory {
    /// Memory for secrets within these bounds.
    #[must_use]
    pub fn new(policy: SecretPolicy, limits: SecretLimits) -> Self {
        let limits = SecretLimits {
            max_bytes: limits.max_bytes.min(MAX_SECRET_BYTES),
            ..limits
        };
        Self(Arc::new(Inner {
            policy,
            limits,
            shelves: Mutex::default(),
        }))
    }

    /// The bounds it was made with.
    #[must_use]
    pub fn limits(&self) -> SecretLimits {
        self.0.limits
    }

    /// How many secrets it holds.
    #[must_use]
    pub fn secrets(&self) -> usize {
        self.shelves().secrets
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.0
            .shelves
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A place that may be written, until [`Block::written`] or [`Slot::give_back`].
    pub(super) fn take(&self, len: usize) -> Result<Slot, SecretError> {
        let limits = self.0.limits;
        if len == 0 {
            return Err(SecretError::Empty);
        }
        if len > limits.max_bytes {
            return Err(SecretError::TooLong {
                len_bytes: len,
                limit_bytes: limits.max_bytes,
            });
        }
        let mut shelves = self.shelves();
        if shelves.secrets >= limits.max_secrets {
            return Err(SecretError::TooMany {
                limit: limits.max_secrets,
            });
        }
        let class = CLASSES.iter().position(|payload| len <= *payload);
        let (block, place) = match class {
            Some(class) => shelves.place(class, self.0.policy)?,
            None => {
                let block = Arc::new(Block::alone(len, self.0.policy).map_err(refused)?);
                let place = first_place(&block)?;
                (block, place)
            }
        };
        shelves.secrets += 1;
        Ok(Slot {
            block,
            place,
            len,
            class,
            memory: self.clone(),
        })
    }
}

impl Shelves {
    fn place(
        &mut self,
        class: usize,
        policy: SecretPolicy,
    ) -> Result<(Arc<Block>, usize), SecretError> {
        let (Some(shelf), Some(payload)) = (self.shared.get_mut(class), CLASSES.get(class)) else {
            return Err(SecretError::Empty);
        };
        for block in shelf.iter() {
            if let Some(place) = block.take() {
                let place = place.map_err(|error| SecretError::Memory(error.into()))?;
                return Ok((Arc::clone(block), place));
            }
        }
        let block = Arc::new(Block::shared(*payload, policy).map_err(refused)?);
        let place = first_place(&block)?;
        shelf.push(Arc::clone(&block));
        Ok((block, place))
    }
}

/// The first place of a block that nobody else knows yet.
fn first_place(block: &Block) -> Result<usize, SecretError> {
    match block.take() {
        Some(place) => place.map_err(|error| SecretError::Memory(error.into())),
        None => Err(SecretError::Memory(io::ErrorKind::OutOfMemory.into())),
    }
}

fn refused(error: MapError) -> SecretError {
    match error {
        MapError::Refused((protection, source)) => SecretError::Refused {
            protection,
            source: source.into(),
        },
        MapError::Failed(source) => SecretError::Memory(source.into()),
    }
}

impl Slot {
    /// Wipes the value and gives its place back, and the block where no secret is left in it.
    /// Nobody reads or writes it any more.
    pub(super) fn give_back(&self) -> Ended<Flaw> {
        let mut shelves = self.memory.shelves();
        shelves.secrets = shelves.secrets.saturating_sub(1);
        let flaw = self.block.retire(self.place, self.len);
        let fate = self.block.unmap_if_empty();
        if let Some(shelf) = self.class.and_then(|class| shelves.shared.get_mut(class))
            && fate.is_some()
        {
            shelf.retain(|block| !Arc::ptr_eq(block, &self.block));
        }
        let unwiped = matches!(flaw, Some(Flaw::Unwiped(_)));
        Ended {
            freed: match fate {
                Some(fate) => fate == Fate::Unmapped,
                // Others are left on the page, and the place is free for the next.
                None => !unwiped,
            },
            flaw: flaw.filter(|_| !unwiped || matches!(fate, None | Some(Fate::Mapped))),
        }
    }

    /// Keeps the first `len` bytes of what was written and ends the writing, with what the kernel
    /// said to that.
    pub(super) fn written(&mut self, len: usize) -> Result<(), Errno> {
        let capacity = self.len;
        self.len = len.min(capacity);
        self.block.written(self.place, capacity, self.len)
    }

    pub(super) fn policy(&self) -> SecretPolicy {
        self.memory.0.policy
    }
}
