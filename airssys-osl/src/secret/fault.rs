//! Where a test makes a call to the kernel fail. Outside of this crate's unit tests it is nothing.

use rustix::io::Errno;

/// The calls that secrets make to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    SecretMemory,
    Map,
    Protect,
    Lock,
    Advise,
    Unlock,
    Unmap,
}

#[cfg(not(test))]
#[allow(clippy::unnecessary_wraps, reason = "the tests' one fails")]
#[inline(always)]
pub(super) fn before(_: Call) -> Result<(), Errno> {
    Ok(())
}

#[cfg(test)]
pub(super) use plan::{Fails, before, calls, fail, heal};

#[cfg(test)]
mod plan {
    use std::cell::RefCell;

    use super::{Call, Errno};

    /// Which of the calls to come fail: by its kind, or by its number among all.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) enum Fails {
        Every(Call),
        Nth(u32),
    }

    thread_local! {
        static PLAN: RefCell<(Vec<Fails>, u32)> = const { RefCell::new((Vec::new(), 0)) };
    }

    /// Adds to what fails on this thread from now on, and counts calls from 0 again.
    pub(in super::super) fn fail(what: Fails) {
        PLAN.with_borrow_mut(|(plan, count)| {
            plan.push(what);
            *count = 0;
        });
    }

    pub(in super::super) fn heal() {
        PLAN.with_borrow_mut(|plan| *plan = (Vec::new(), 0));
    }

    /// Calls of this thread since the plan was last changed.
    pub(in super::super) fn calls() -> u32 {
        PLAN.with_borrow(|(_, count)| *count)
    }

    pub(in super::super) fn before(call: Call) -> Result<(), Errno> {
        PLAN.with_borrow_mut(|(plan, count)| {
            let number = *count;
            *count += 1;
            let hit = plan.iter().any(|fails| match fails {
                Fails::Every(kind) => *kind == call,
                Fails::Nth(nth) => *nth == number,
            });
            if hit { Err(Errno::NOMEM) } else { Ok(()) }
        })
    }
}
