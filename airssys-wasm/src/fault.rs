//! Damage to messages, for tests of what becomes of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::component::Val;

use crate::component::ComponentRef;
use crate::error::WasmError;
use crate::message::Message;
use crate::payload::encode_with_hit;

/// A bit of a message that is hit while the message is written, counted from the lowest bit of its
/// first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hit {
    /// In the copy, after its tag has been taken.
    Copy(usize),
    /// In the register that feeds both the copy and its tag.
    Register(usize),
}

impl Hit {
    /// The hit as the `length` bytes from byte `start` on see it, if it falls on them.
    pub(crate) fn within(self, start: usize, length: usize) -> Option<Self> {
        let place = |bit: usize| {
            let bit = bit.checked_sub(8 * start)?;
            (bit < 8 * length).then_some(bit)
        };
        match self {
            Self::Copy(bit) => place(bit).map(Self::Copy),
            Self::Register(bit) => place(bit).map(Self::Register),
        }
    }
}

impl ComponentRef {
    /// As [`ComponentRef::encode`], with a hit on the way.
    ///
    /// # Errors
    /// As [`ComponentRef::encode`].
    pub fn encode_with_hit(
        &self,
        function: &str,
        arguments: &[Val],
        hit: Hit,
    ) -> Result<Message, WasmError> {
        let loaded = self.loaded()?;
        let (_, function) = self.callable(&loaded, function)?;
        encode_with_hit(&loaded.messages, &function.params, arguments, hit)
            .map_err(|error| self.not_encoded(error))
    }

    /// Flips a bit of the next result of this component, or of its first replica, between the guest and its caller.
    pub fn flip_bit_of_next_result(&self, bit: usize) {
        self.cell().flip.0.store(bit + 1, Ordering::Relaxed);
    }
}

/// The bit of the next result to flip, counted from 1; 0 for none.
#[derive(Default)]
pub(crate) struct Flip(AtomicUsize);

impl Flip {
    /// Carries out the flip asked for; whether there is such a bit is for the asker to know.
    pub(crate) fn carry_out(&self, message: &mut Message) {
        if self.0.load(Ordering::Relaxed) != 0
            && let Some(bit) = self.0.swap(0, Ordering::Relaxed).checked_sub(1)
        {
            message.flip_bit(bit);
        }
    }
}
