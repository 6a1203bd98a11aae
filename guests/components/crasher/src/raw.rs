//! The traps that safe Rust has no way to.
#![allow(
    unsafe_code,
    reason = "safe Rust checks for each of these before the instruction can trap"
)]

use std::hint::unreachable_unchecked;
use std::ptr::without_provenance;

/// Beyond any memory limit: a 32-bit memory would need its last page for this address.
const FAR_ADDRESS: usize = 0xffff_fff0;

#[inline(never)]
pub(crate) fn reach_unreachable() -> ! {
    core::arch::wasm32::unreachable()
}

#[inline(never)]
pub(crate) fn divide_by_zero(x: u32) -> u32 {
    static DIVISOR: u32 = 0;
    // SAFETY: the reference is valid for reads. Volatile, so that the value is not known to LLVM.
    let divisor = unsafe { (&raw const DIVISOR).read_volatile() };
    if divisor == 0 {
        // SAFETY: broken on purpose. It only removes the check in front of the division: what is
        // left is `i32.div_u`, which WebAssembly defines to trap on zero.
        unsafe { unreachable_unchecked() }
    }
    x / divisor
}

#[inline(never)]
pub(crate) fn read_out_of_bounds() -> u8 {
    // SAFETY: broken on purpose. A volatile read is one `i32.load8_u`, which WebAssembly defines
    // to trap outside the memory.
    unsafe { without_provenance::<u8>(FAR_ADDRESS).read_volatile() }
}
