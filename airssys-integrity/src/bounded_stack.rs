//! Last in, first out, on a [`BoundedVec`].

use crate::{BoundedVec, Corrupt, PushError};
use bytemuck::Pod;

/// At most `N` items of plain data, of which the last one is at hand. Kept and checked as a
/// [`BoundedVec`].
///
/// ```
/// use airssys_integrity::BoundedStack;
///
/// let mut calls = BoundedStack::<u16, 8>::new();
/// calls.push(0x40)?;
/// calls.push(0x52)?;
/// assert_eq!(calls.peek()?, Some(0x52));
/// assert_eq!(calls.pop()?, Some(0x52));
/// assert_eq!(calls.pop()?, Some(0x40));
/// assert_eq!(calls.pop()?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BoundedStack<T, const N: usize, const TAGS: usize = 1> {
    items: BoundedVec<T, N, TAGS>,
}

impl<T: Pod, const N: usize, const TAGS: usize> BoundedStack<T, N, TAGS> {
    /// An empty stack.
    #[must_use]
    pub fn new() -> Self {
        Self {
            items: BoundedVec::new(),
        }
    }

    /// Puts `item` on top.
    ///
    /// # Errors
    /// [`PushError::Full`] if all places are taken, [`PushError::Corrupt`] if the length does not
    /// match its tag. Both hand the item back.
    pub fn push(&mut self, item: T) -> Result<(), PushError<T>> {
        self.items.push(item)
    }

    /// Takes the item on top; `None` if there is none.
    ///
    /// # Errors
    /// [`Corrupt`] if the length or a block of the item does not match its tag. The item stays.
    pub fn pop(&mut self) -> Result<Option<T>, Corrupt> {
        self.items.pop()
    }

    /// The item on top; `None` if there is none.
    ///
    /// # Errors
    /// [`Corrupt`] if the length or a block of the item does not match its tag.
    pub fn peek(&self) -> Result<Option<T>, Corrupt> {
        self.items.peek()
    }

    /// All items, the first one in first, after a check of every block.
    ///
    /// # Errors
    /// [`Corrupt`] for a length that does not match, else for the first block that does not.
    pub fn as_slice(&self) -> Result<&[T], Corrupt> {
        self.items.as_slice()
    }

    /// Forgets all items, faults and tags.
    pub fn clear(&mut self) {
        self.items.clear();
    }

    /// How many items there are.
    ///
    /// # Errors
    /// [`Corrupt`] if the length does not match its tag.
    pub fn len(&self) -> Result<usize, Corrupt> {
        self.items.len()
    }

    /// True if there is no item.
    ///
    /// # Errors
    /// [`Corrupt`] if the length does not match its tag.
    pub fn is_empty(&self) -> Result<bool, Corrupt> {
        self.items.is_empty()
    }

    /// How many items fit.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        N
    }

    /// Flips one bit, as [`BoundedVec::flip_bit`] does.
    #[cfg(feature = "fault-injection")]
    pub fn flip_bit(&mut self, bit: usize) -> bool {
        self.items.flip_bit(bit)
    }
}

impl<T: Pod, const N: usize, const TAGS: usize> Default for BoundedStack<T, N, TAGS> {
    fn default() -> Self {
        Self::new()
    }
}
