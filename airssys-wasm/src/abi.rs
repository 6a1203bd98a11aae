//! How arguments and results cross the border of a guest: straight between the bytes of a message
//! and the guest's memory, by the canonical ABI of the component model (ADR-WASM-007).
//!
//! [`Arguments`] and [`Lifted`] stand in for the parameters and results of any function: wasmtime
//! makes the call, and asks them to write and read its values.

#![allow(
    unsafe_code,
    reason = "wasmtime's traits for values that cross the border are unsafe to implement"
)]

mod lift;
mod lower;

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::Arc;

use airssys_rt::OutOfMemory;
use wasmtime::ValRaw;
use wasmtime::component::__internal::wasmtime_environ::component::MAX_FLAT_PARAMS;
use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext,
};
use wasmtime::component::{ComponentNamedList, ComponentType, Lift, Lower};

use crate::handles::Handles;
use crate::limits::{Charge, MemoryMeter};
use crate::message::{Message, Messages};
use crate::payload::ValueError;

pub use lift::AbiViolation;

/// What values need on their way between the messages of a component and one instance of it.
#[derive(Debug)]
pub(crate) struct Passage {
    pub(crate) messages: Arc<Messages>,
    pub(crate) meter: Arc<MemoryMeter>,
    /// What the instance holds for its callers.
    pub(crate) handles: Arc<Handles>,
}

impl Passage {
    /// Counts a message of so many bytes against the instance's limit, where it counts at all.
    pub(crate) fn charge(&self, bytes: usize) -> Result<Option<Charge>, OutOfMemory> {
        match self.messages.footprint(bytes) {
            0 => Ok(None),
            footprint => self.meter.charge(footprint).map(Some),
        }
    }
}

tokio::task_local! {
    /// What the call under way takes with it. wasmtime hands nothing of ours to a lift, and the
    /// call may go on in another thread than it began in.
    static LUGGAGE: Luggage;
}

/// What one call takes with it through wasmtime. Nothing of it is borrowed while the guest runs,
/// which may be in another poll, and on another thread, when it comes back.
pub(crate) struct Luggage {
    passage: Arc<Passage>,
    carried: Cell<Option<Carried>>,
}

/// The message goes once its values are in the guest.
struct Carried {
    message: Message,
    _charge: Option<Charge>,
}

impl Luggage {
    /// Fails where the instance has no room for the message beside what it holds.
    pub(crate) fn new(passage: Arc<Passage>, message: Message) -> Result<Self, OutOfMemory> {
        let _charge = passage.charge(message.len())?;
        Ok(Self {
            passage,
            carried: Cell::new(Some(Carried { message, _charge })),
        })
    }

    /// Makes `call`, of a function with these arguments.
    pub(crate) fn with<F: Future>(self, call: F) -> impl Future<Output = F::Output> {
        LUGGAGE.scope(self, call)
    }

    /// For the arguments, before the guest runs.
    #[inline(never)]
    fn unpack() -> wasmtime::Result<(Arc<Passage>, Carried)> {
        LUGGAGE.try_with(|luggage| {
            let carried = luggage.carried.take().ok_or_else(out_of_turn)?;
            Ok((Arc::clone(&luggage.passage), carried))
        })?
    }

    /// For the results, after it has run. Not to be inlined, no more than the one above: the stack
    /// that both are called on may be another thread's by then, and where the one thread has its
    /// luggage must not be taken for where the other has it.
    #[inline(never)]
    fn passage() -> wasmtime::Result<Arc<Passage>> {
        Ok(LUGGAGE.try_with(|luggage| Arc::clone(&luggage.passage))?)
    }
}

/// The arguments of the call under way, whatever the function.
pub(crate) struct Arguments;

/// The results of one call.
pub(crate) struct Lifted {
    /// The message, or why there is none.
    pub(crate) message: Result<Message, ValueError>,
    /// Kept until the call is over.
    _charge: Option<Charge>,
}

fn out_of_turn() -> wasmtime::Error {
    wasmtime::Error::msg("values asked for at a time when there are none")
}

/// A function's parameters and its results are tuples; the walks check each type they come to.
fn tuple(ty: &InterfaceType) -> wasmtime::Result<()> {
    match ty {
        InterfaceType::Tuple(_) => Ok(()),
        _ => Err(out_of_turn()),
    }
}

// SAFETY: `Lower` is an array of `ValRaw`, as long as the longest list of flat parameters. wasmtime
// itself calls dynamic functions with that many slots, and a core function reads as many of them as
// its type has. With `MAX_FLAT_PARAMS` slots wasmtime always asks for flat values and never looks
// at `ABI`; parameters that go through memory are put there by `lower::parameters`.
unsafe impl ComponentType for Arguments {
    type Lower = [ValRaw; MAX_FLAT_PARAMS];
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::ZERO;

    fn typecheck(ty: &InterfaceType, _: &InstanceType<'_>) -> wasmtime::Result<()> {
        tuple(ty)
    }
}

// SAFETY: a marker for what is passed as a function's parameters: see `ComponentType` above.
unsafe impl ComponentNamedList for Arguments {}

// SAFETY: every slot of `dst` is initialised before anything else, so it is whenever `Ok` is
// returned.
unsafe impl Lower for Arguments {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        let slots = dst.write([ValRaw::u64(0); MAX_FLAT_PARAMS]);
        let (passage, Carried { message, _charge }) = Luggage::unpack()?;
        if lower::takes_bytes(cx, ty) {
            return lower::bytes(cx, &passage.messages, &message, slots);
        }
        let bytes = passage.messages.read(&message)?;
        lower::parameters(cx, ty, bytes, slots, &passage.handles)
    }

    fn linear_lower_to_memory<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: usize,
    ) -> wasmtime::Result<()> {
        Err(out_of_turn())
    }
}

// SAFETY: `Lower` is one `ValRaw`, as many as a function may return. wasmtime then always asks to
// lift from that slot and never looks at `ABI`; results that come through memory are found by
// `lift::results`, which checks the pointer in the slot.
unsafe impl ComponentType for Lifted {
    type Lower = ValRaw;
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::ZERO;

    fn typecheck(ty: &InterfaceType, _: &InstanceType<'_>) -> wasmtime::Result<()> {
        tuple(ty)
    }
}

// SAFETY: a marker for what is returned as a function's results: see `ComponentType` above.
unsafe impl ComponentNamedList for Lifted {}

// SAFETY: reads the guest's memory through the checked slice that wasmtime lends, and nothing else.
unsafe impl Lift for Lifted {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        src: &ValRaw,
    ) -> wasmtime::Result<Self> {
        lift::results(cx, ty, *src, &*Luggage::passage()?)
    }

    fn linear_lift_from_memory(
        _: &mut LiftContext<'_>,
        _: InterfaceType,
        _: &[u8],
    ) -> wasmtime::Result<Self> {
        Err(out_of_turn())
    }
}
