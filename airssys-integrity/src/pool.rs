//! Message buffers from memory taken once.

use crate::blocks::{Blocks, VerifyError, mixed};
use crate::buffer::{AppendError, VerifiedBytes};
use crate::cell::{AtomicUsize, Ordering, UnsafeCell};
use crate::crc32c::blank;
use crate::free_list::{Claim, FreeList};
use crate::{Corrupt, VerificationLevel};
use alloc::boxed::Box;
use alloc::collections::TryReserveError;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// Slots of one size in a [`MessagePool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeClass {
    /// The most a message in such a slot may hold, in bytes.
    pub slot_bytes: usize,
    /// How many messages of the class there may be at a time.
    pub slots: usize,
}

/// What happens to the bytes of a message when its slot goes back to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnReturn {
    /// They stay until the slot is written again. No message can read what another left.
    #[default]
    Keep,
    /// They are overwritten with zeros, and with them their tags and their mirror.
    Wipe,
}

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// No slot of any size was asked for.
    #[error("a pool needs a class with at least one slot of at least one byte")]
    NoSlots,
    /// The allocator has no room for the slots.
    #[error("no memory for {slots} slots of {slot_bytes} bytes")]
    AllocationFailed {
        /// Size of the slots there is no room for, in bytes.
        slot_bytes: usize,
        /// How many of them were asked for.
        slots: usize,
        /// What the allocator said.
        source: TryReserveError,
    },
}

/// Why [`MessagePool::acquire`] gave no buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// No slot is large enough, now or later.
    #[error("{requested} bytes exceed the largest slot of {limit} bytes")]
    TooLarge {
        /// Size of the largest slots, in bytes.
        limit: usize,
        /// What was asked for, in bytes.
        requested: usize,
    },
    /// Every slot that is large enough is in use.
    #[error("no free slot for {requested} bytes")]
    Exhausted {
        /// What was asked for, in bytes.
        requested: usize,
    },
}

struct Slot {
    /// Written by the one that claimed the slot, until it freezes it.
    blocks: UnsafeCell<Blocks>,
    /// The writer, or the frozen buffers that share the slot.
    holders: AtomicUsize,
    free: Arc<FreeList>,
    on_return: OnReturn,
}

#[allow(
    unsafe_code,
    reason = "a slot is lent to threads in turn, by its claim"
)]
// SAFETY: `blocks` is written only through the `&mut` of a `PooledWriter`, of which there is one
// per claim, and by the last holder when it gives the slot back. Frozen buffers only read it, and
// `Blocks` is `Sync`. Claim, release and the count of holders order the one before the other.
unsafe impl Sync for Slot {}

struct Class {
    slot_bytes: usize,
    free: Arc<FreeList>,
    slots: Box<[Arc<Slot>]>,
}

/// Slots of fixed sizes for messages, all memory taken at construction.
///
/// Nothing after that allocates: neither [`acquire`](Self::acquire), nor writing, nor
/// [`freeze`](PooledWriter::freeze), nor cloning and dropping a [`FrozenBuffer`]. There is no lock;
/// a free slot is found by its bit. Messages may outlive the pool.
pub struct MessagePool {
    /// By size, smallest first.
    classes: Box<[Class]>,
    level: VerificationLevel,
    seed: u64,
}

impl MessagePool {
    /// A pool with these slots, whose messages are written and read at `level`. A slot takes its
    /// size rounded up to a block, 4 bytes for each block, and the size once more at
    /// [`VerificationLevel::Redundant`].
    ///
    /// # Errors
    /// [`PoolError::NoSlots`] if no class has a slot of at least a byte,
    /// [`PoolError::AllocationFailed`] if there is no memory for them.
    pub fn new(
        classes: &[SizeClass],
        level: VerificationLevel,
        on_return: OnReturn,
    ) -> Result<Self, PoolError> {
        let usable = |class: &&SizeClass| class.slot_bytes > 0 && class.slots > 0;
        let mut built = Vec::new();
        for class in classes.iter().filter(usable) {
            let failed = |source| PoolError::AllocationFailed {
                slot_bytes: class.slot_bytes,
                slots: class.slots,
                source,
            };
            built.push(Class::new(*class, level, on_return).map_err(failed)?);
        }
        if built.is_empty() {
            return Err(PoolError::NoSlots);
        }
        built.sort_by_key(|class| class.slot_bytes);
        Ok(Self {
            classes: built.into_boxed_slice(),
            level,
            seed: 0,
        })
    }

    /// The same pool with the choices of [`VerificationLevel::Sampling`] made by `seed`.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// An empty buffer for at most `len` bytes, from the smallest free slot that holds them.
    ///
    /// # Errors
    /// [`AcquireError::TooLarge`] if no slot is large enough, [`AcquireError::Exhausted`] if all
    /// that are were in use.
    pub fn acquire(&self, len: usize) -> Result<PooledWriter, AcquireError> {
        let mut limit = 0;
        let mut fits = false;
        for class in &self.classes {
            limit = class.slot_bytes;
            if class.slot_bytes < len {
                continue;
            }
            fits = true;
            let Some(claim) = class.free.claim() else {
                continue;
            };
            let Some(slot) = class.slots.get(claim.slot) else {
                continue;
            };
            slot.holders.store(1, Ordering::Relaxed);
            let seed =
                mixed(mixed(self.seed ^ claim.generation as u64).wrapping_add(claim.slot as u64));
            slot.restart(seed);
            return Ok(PooledWriter {
                lease: Lease {
                    slot: Arc::clone(slot),
                    claim,
                },
                limit: len,
            });
        }
        Err(if fits {
            AcquireError::Exhausted { requested: len }
        } else {
            AcquireError::TooLarge {
                limit,
                requested: len,
            }
        })
    }

    /// Slots that are free at this moment and hold at least `len` bytes.
    #[must_use]
    pub fn free_slots(&self, len: usize) -> usize {
        let large_enough = |class: &&Class| class.slot_bytes >= len;
        let classes = self.classes.iter().filter(large_enough);
        classes.map(|class| class.free.free()).sum()
    }

    /// The level its messages are written and read at.
    #[must_use]
    pub fn level(&self) -> VerificationLevel {
        self.level
    }
}

impl fmt::Debug for MessagePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessagePool")
            .field("level", &self.level)
            .field("free", &self.free_slots(0))
            .finish_non_exhaustive()
    }
}

impl Class {
    fn new(
        class: SizeClass,
        level: VerificationLevel,
        on_return: OnReturn,
    ) -> Result<Self, TryReserveError> {
        let free = Arc::new(FreeList::with_slots(class.slots)?);
        let mut slots = Vec::new();
        slots.try_reserve_exact(class.slots)?;
        for _ in 0..class.slots {
            let mut blocks = Blocks::new(level);
            blocks.grow(class.slot_bytes, class.slot_bytes)?;
            slots.push(Arc::new(Slot {
                blocks: UnsafeCell::new(blocks),
                holders: AtomicUsize::new(0),
                free: Arc::clone(&free),
                on_return,
            }));
        }
        Ok(Self {
            slot_bytes: class.slot_bytes,
            free,
            slots: slots.into_boxed_slice(),
        })
    }
}

#[allow(
    unsafe_code,
    reason = "only the holders of a claim know that nobody else writes"
)]
impl Slot {
    /// For the holder of a fresh claim.
    fn restart(&self, seed: u64) {
        self.blocks.with_mut(|blocks| {
            // SAFETY: the bit of the slot was set and is now ours; there is no other holder.
            unsafe { &mut *blocks }.restart(seed, (seed >> 32) as u32);
        });
    }

    /// For the last holder.
    fn wipe(&self) {
        // SAFETY: the count of holders was ours to bring to zero, and the bit is not set yet.
        self.blocks
            .with_mut(|blocks| unsafe { &mut *blocks }.wipe());
    }
}

/// One holder's share of a slot. The last one to go gives the slot back.
struct Lease {
    slot: Arc<Slot>,
    claim: Claim,
}

#[allow(
    unsafe_code,
    reason = "only the holders of a claim know that nobody else writes"
)]
impl Lease {
    fn shared(&self) -> &Blocks {
        // SAFETY: whoever has a lease is the writer, who lends out no `&mut` beyond its own
        // borrow, or one of the frozen buffers, none of which writes.
        self.slot.blocks.with(|blocks| unsafe { &*blocks })
    }

    /// The one holder's access; `None` if there are others.
    fn alone(&mut self) -> Option<&mut Blocks> {
        // Acquire: what those who have gone read came before.
        if self.slot.holders.load(Ordering::Acquire) != 1 {
            return None;
        }
        // SAFETY: one holder, and this is its `&mut self`: nobody can clone it meanwhile.
        Some(self.slot.blocks.with_mut(|blocks| unsafe { &mut *blocks }))
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        // Relaxed: the new holder gets the slot from one that has it.
        self.slot.holders.fetch_add(1, Ordering::Relaxed);
        Self {
            slot: Arc::clone(&self.slot),
            claim: self.claim,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Release and acquire: all reads of all holders come before the slot's next use. The only
        // holder need not count itself out: nobody else can clone what it has.
        if self.slot.holders.load(Ordering::Acquire) != 1
            && self.slot.holders.fetch_sub(1, Ordering::AcqRel) != 1
        {
            return;
        }
        if self.slot.on_return == OnReturn::Wipe {
            self.slot.wipe();
        }
        self.slot.free.release(self.claim);
    }
}

/// A buffer of a [`MessagePool`] being written, from front to back. Dropped, it goes back.
pub struct PooledWriter {
    lease: Lease,
    limit: usize,
}

impl PooledWriter {
    /// Adds all of `source`, or nothing. Allocates nothing.
    ///
    /// # Errors
    /// [`AppendError::LimitExceeded`] if more than was acquired would be held,
    /// [`AppendError::Corrupt`] if the level checks arrival and the bytes arrived changed. The
    /// buffer then holds what it held before.
    pub fn append(&mut self, source: &[u8]) -> Result<(), AppendError> {
        Ok(self.room_for(source)?.append(source)?)
    }

    /// As [`append`](Self::append), with one bit of the bytes hit after they are copied and before
    /// their arrival is checked.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    #[cfg(feature = "fault-injection")]
    pub fn append_with_hit(&mut self, source: &[u8], bit: usize) -> Result<(), AppendError> {
        Ok(self.room_for(source)?.append_with_hit(source, bit)?)
    }

    /// As [`append`](Self::append), with one bit hit in the registers that feed data and tags alike.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    #[cfg(feature = "fault-injection")]
    pub fn append_with_register_hit(
        &mut self,
        source: &[u8],
        bit: usize,
    ) -> Result<(), AppendError> {
        let blocks = self.room_for(source)?;
        Ok(blocks.append_with_register_hit(source, bit)?)
    }

    fn room_for(&mut self, source: &[u8]) -> Result<&mut Blocks, AppendError> {
        let (limit, held) = (self.limit, self.len());
        let exceeded = AppendError::LimitExceeded {
            limit,
            held,
            requested: source.len(),
        };
        // A length that was hit may be beyond the limit.
        if limit
            .checked_sub(held)
            .is_none_or(|room| source.len() > room)
        {
            return Err(exceeded);
        }
        // A writer is never shared, so it is always alone.
        self.lease.alone().ok_or(exceeded)
    }

    /// As [`BufferWriter::turn`](crate::BufferWriter::turn).
    #[must_use]
    pub fn turn(mut self, seed: u64, read: usize) -> Self {
        if let Some(blocks) = self.lease.alone() {
            blocks.take_turn(seed, read);
        }
        self
    }

    /// Forgets what has been appended, so that the writing begins anew in the same slot.
    pub fn clear(&mut self) {
        if let Some(blocks) = self.lease.alone() {
            blocks.empty();
        }
    }

    /// How many bytes the buffer holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lease.shared().len()
    }

    /// True before the first byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the writing. The buffer can be read and shared from now on.
    #[must_use]
    pub fn freeze(mut self) -> FrozenBuffer {
        if let Some(blocks) = self.lease.alone() {
            blocks.close();
        }
        FrozenBuffer { lease: self.lease }
    }
}

impl fmt::Debug for PooledWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledWriter")
            .field("limit", &self.limit)
            .field("held", &self.len())
            .finish_non_exhaustive()
    }
}

/// A message of a [`MessagePool`], read-only and shared: a clone is one more holder of the same
/// bytes. When the last one is dropped the slot goes back to its pool.
#[derive(Clone)]
pub struct FrozenBuffer {
    lease: Lease,
}

impl FrozenBuffer {
    /// The bytes, after the checks that the level of the pool asks for: none at
    /// [`Off`](VerificationLevel::Off), some blocks at [`Sampling`](VerificationLevel::Sampling),
    /// else all. The tag of the length is always checked.
    ///
    /// # Errors
    /// [`Corrupt`] for the first mismatch found.
    pub fn read(&self) -> Result<&[u8], Corrupt> {
        self.lease.shared().read()
    }

    /// The bytes, after recomputing every tag.
    ///
    /// # Errors
    /// [`VerifyError::Corrupt`] for a length that does not match, else for the first block that
    /// does not; [`VerifyError::Unverified`] if there are no tags.
    pub fn verify(&self) -> Result<VerifiedBytes<'_>, VerifyError> {
        self.lease.shared().verify().map(VerifiedBytes::new)
    }

    /// How many bytes the message holds, after the check of that number's tag.
    ///
    /// # Errors
    /// [`Corrupt`].
    pub fn checked_len(&self) -> Result<usize, Corrupt> {
        self.lease.shared().checked_len()
    }

    /// As [`read`](Self::read), of a copy of the bytes from `from` on, made in the same pass: what is
    /// at `target` is what was checked. Ends with the shorter of the two, and answers how many bytes
    /// those were. After an error some of them are at `target`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_to(&self, from: usize, target: &mut [u8]) -> Result<usize, Corrupt> {
        self.lease.shared().read_to(from, blank(target))
    }

    /// As [`read_to`](Self::read_to), to memory of its own.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_vec(&self, from: usize) -> Result<Vec<u8>, Corrupt> {
        self.lease.shared().read_vec(from)
    }

    /// The bytes without any check.
    #[must_use]
    pub fn unverified(&self) -> &[u8] {
        self.lease.shared().unverified()
    }

    /// How many bytes the message holds. Not verified.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lease.shared().len()
    }

    /// True if the message holds no byte. Not verified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The level the message was written at.
    #[must_use]
    pub fn level(&self) -> VerificationLevel {
        self.lease.shared().level()
    }

    /// As [`CheckedBuffer::fingerprint`](crate::CheckedBuffer::fingerprint).
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        self.lease.shared().fingerprint()
    }

    pub(crate) fn blocks(&self) -> &Blocks {
        self.lease.shared()
    }

    /// Flips one bit, as [`CheckedBuffer::flip_bit`](crate::CheckedBuffer::flip_bit) does. False
    /// also while the message is shared.
    #[cfg(feature = "fault-injection")]
    pub fn flip_bit(&mut self, bit: usize) -> bool {
        let alone = self.lease.alone();
        alone.is_some_and(|blocks| blocks.flip_bit(bit))
    }
}

impl fmt::Debug for FrozenBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenBuffer")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic fails the test")]

    use super::{MessagePool, OnReturn, SizeClass};
    use crate::VerificationLevel;

    /// Whether a slot that has come back still has the bytes of its message.
    fn keeps(on_return: OnReturn) -> bool {
        let class = SizeClass {
            slot_bytes: 700,
            slots: 1,
        };
        let pool = MessagePool::new(&[class], VerificationLevel::Redundant, on_return).unwrap();
        let mut writer = pool.acquire(700).unwrap();
        writer.append(&[0xA5; 700]).unwrap();
        drop(writer.freeze());
        let writer = pool.acquire(1).unwrap();
        writer.lease.shared().has_residue()
    }

    #[test]
    fn a_slot_is_wiped_on_its_return_if_the_pool_wipes() {
        assert!(!keeps(OnReturn::Wipe));
        assert!(keeps(OnReturn::Keep));
    }
}
