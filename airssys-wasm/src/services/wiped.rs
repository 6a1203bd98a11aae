//! Bytes that are overwritten once they have been lowered into a guest.

#![allow(
    unsafe_code,
    reason = "wasmtime's traits for values that cross are unsafe to implement"
)]

use std::mem::MaybeUninit;

use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LowerContext,
};
use wasmtime::component::{ComponentType, Lower};
use zeroize::Zeroizing;

/// A `list<u8>` whose copy in the host is gone with it.
pub(super) struct Wiped(pub(super) Zeroizing<Vec<u8>>);

// SAFETY: in all it is what `[u8]` is, to which everything is handed on.
unsafe impl ComponentType for Wiped {
    type Lower = <[u8] as ComponentType>::Lower;
    const ABI: CanonicalAbiInfo = <[u8] as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        <[u8] as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: as above.
unsafe impl Lower for Wiped {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        self.0.as_slice().linear_lower_to_flat(cx, ty, dst)
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        offset: usize,
    ) -> wasmtime::Result<()> {
        self.0.as_slice().linear_lower_to_memory(cx, ty, offset)
    }
}
