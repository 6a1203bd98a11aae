//! Switches for the model checker: which fences to leave out, to see that it notices.

use std::cell::Cell;
use std::thread_local;

/// A fence of the latch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Between a reader's loads of the data and its second look at the sequence number.
    Reader,
    /// Between a writer's odd sequence number and its stores of the data.
    Writer,
}

thread_local! {
    static LEFT_OUT: Cell<Option<Fence>> = const { Cell::new(None) };
}

/// Leaves `fence` out on this thread from now on, or none.
pub fn leave_out(fence: Option<Fence>) {
    LEFT_OUT.set(fence);
}

pub(crate) fn has(fence: Fence) -> bool {
    LEFT_OUT.get() != Some(fence)
}
