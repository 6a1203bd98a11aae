//! A value the optimiser has to keep in one register.

/// `word`, which the optimiser cannot trace back to where it was loaded.
///
/// Without it the stores of a loop may become one block copy that reads the source a second time,
/// behind the CRC's back.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[allow(unsafe_code, reason = "inline assembly is unsafe")]
#[inline(always)]
pub(crate) fn pinned(mut word: u64) -> u64 {
    // SAFETY: the template is a comment; no instruction is emitted.
    unsafe {
        core::arch::asm!("/* {0} */", inout(reg) word, options(nomem, nostack, preserves_flags));
    }
    word
}

/// `word`, which the optimiser cannot trace back to where it was loaded. It may wait on the stack.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
pub(crate) fn pinned(word: u64) -> u64 {
    core::hint::black_box(word)
}
