//! How many requests may wait, and who waits until they do.

use std::sync::MutexGuard;

use tokio::time::{Instant, timeout_at};

use super::{Inner, Request, Slot};

/// How many more requests may wait.
pub(super) struct Room {
    free: usize,
    /// How many wait for it that have been given none yet.
    wanting: usize,
}

impl Room {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            free: capacity,
            wanting: 0,
        }
    }

    /// A unit, where there is one. While somebody waits there is none.
    pub(super) fn take(&mut self) -> bool {
        let is_there = self.free > 0;
        self.free -= usize::from(is_there);
        is_there
    }

    /// A unit, or a place among those that wait for one.
    fn take_or_want(&mut self) -> bool {
        let taken = self.take();
        self.wanting += usize::from(!taken);
        taken
    }

    /// Answers how many of the units are for those that wait.
    pub(super) fn give_back(&mut self, units: usize) -> usize {
        let granted = units.min(self.wanting);
        self.wanting -= granted;
        self.free += units - granted;
        granted
    }
}

impl<T: Request, R: Send> Slot<T, R> {
    /// Whether a unit of room came before the deadline. It is the caller's then.
    pub(super) async fn wait_for_room(&self, deadline: Instant) -> bool {
        if !self.lock().room.take_or_want() {
            let mut wish = Wish {
                slot: self,
                granted: false,
            };
            // Never closed.
            let granted = timeout_at(deadline, self.wanting.acquire()).await;
            if let Ok(Ok(unit)) = granted {
                unit.forget();
                wish.granted = true;
            }
            return wish.granted;
        }
        true
    }

    /// Hands units of room to those that have waited for longest: under the lock, so that whoever
    /// takes a wish back finds the unit that was for it.
    pub(super) fn grant(&self, units: usize, _: &MutexGuard<'_, Inner<T, R>>) {
        if units > 0 {
            self.wanting.add_permits(units);
        }
    }
}

/// A wish for room, taken back when its caller goes.
struct Wish<'s, T: Request, R: Send> {
    slot: &'s Slot<T, R>,
    granted: bool,
}

impl<T: Request, R: Send> Drop for Wish<'_, T, R> {
    fn drop(&mut self) {
        if self.granted {
            return;
        }
        let mut inner = self.slot.lock();
        // A unit that nobody who waits has been handed was for this one.
        let granted = match self.slot.wanting.try_acquire() {
            Ok(unit) => {
                unit.forget();
                inner.room.give_back(1)
            }
            Err(_) => {
                inner.room.wanting = inner.room.wanting.saturating_sub(1);
                0
            }
        };
        self.slot.grant(granted, &inner);
    }
}
