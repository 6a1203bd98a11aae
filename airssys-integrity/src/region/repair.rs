//! A single flipped bit, put right.

use super::Opened;
use super::cell::Cell;
use crate::atomic::{Ordering, load, store};
use crate::crc32c::{POLYNOMIAL, times_x};
use crate::fault::{BlockFault, HeaderDamaged};
use crate::provider::Provider;
use crate::region::write::WriteError;

/// What a repair has found and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// The block matched its tag. Nothing was changed.
    Intact,
    /// One bit of the data was flipped, and has been flipped back.
    DataBit {
        /// Which byte of the region.
        offset: usize,
        /// Which bit of it, from the lowest.
        bit: u32,
    },
    /// One bit of the tag was flipped, and has been flipped back.
    TagBit {
        /// Which bit, from the lowest.
        bit: u32,
    },
    /// The bytes have been taken from the inverted copy, which matched the tag.
    FromMirror,
    /// The inverted copy did not match, and has been made anew from bytes that match their tag.
    Mirror,
}

impl<P: Provider> Opened<'_, P> {
    /// Repairs one block, if it can be, and counts it.
    pub(crate) fn repair(&self, block: usize) -> Result<Repair, WriteError> {
        let cell = self.cell(block).ok_or(HeaderDamaged)?;
        let corrupt = match cell.verify() {
            Ok(()) => return Ok(Repair::Intact),
            Err(BlockFault::Corrupt(corrupt)) => corrupt,
            Err(fault) => return Err(fault.into()),
        };
        let repair = cell.repair().ok_or(corrupt)?;
        // Only what matches afterwards counts as repaired.
        cell.verify()?;
        self.region
            .repaired
            .fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        Ok(repair)
    }
}

impl<P: Provider> Cell<'_, P> {
    fn repair(&self) -> Option<Repair> {
        let tag = self.tag.load(Ordering::Relaxed);
        let found = self.sum();
        if let Some(mirror) = self.mirror {
            let pairs = self.lanes.iter().zip(mirror);
            if found == tag {
                pairs.for_each(|(lane, inverted)| store(inverted, !load(lane)));
                return Some(Repair::Mirror);
            }
            if self.mirror_sum(mirror) == tag {
                pairs.for_each(|(lane, inverted)| store(lane, !load(inverted)));
                return Some(Repair::FromMirror);
            }
        }
        let syndrome = tag ^ found;
        if syndrome.is_power_of_two() {
            let bit = syndrome.trailing_zeros();
            self.tag.store(found, Ordering::Relaxed);
            return Some(Repair::TagBit { bit });
        }
        let bit = self.bit_of(syndrome)?;
        let lane = self.lanes.get(bit / 64)?;
        store(lane, load(lane) ^ (1 << (bit % 64)));
        Some(Repair::DataBit {
            offset: self.index * crate::block::BLOCK_BYTES + bit / 8,
            bit: (bit % 8) as u32,
        })
    }

    /// The one bit of the block whose flip changes the tag by `syndrome`.
    ///
    /// The last bit changes it by the polynomial, each one before by one power of x more. With a
    /// distance of 6 no two of them agree, and none agrees with a flip of two, three or four bits.
    fn bit_of(&self, syndrome: u32) -> Option<usize> {
        let mut power = POLYNOMIAL;
        // The last lane may reach beyond the block; its bytes are zeros under the tag.
        for bit in (0..self.lanes.len() * 64).rev() {
            if power == syndrome {
                return (bit < self.len * 8).then_some(bit);
            }
            power = times_x(power);
        }
        None
    }
}
