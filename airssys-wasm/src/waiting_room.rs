//! Room in bytes for the arguments of calls that wait for one component.
//!
//! Guarantees: what waits takes no more than the release allows, or is one message that is larger
//! than that; a message of at most [`UNCOUNTED_BYTES`](crate::UNCOUNTED_BYTES) needs no room; a call
//! gives its room back when the actor takes it up, and on every other way out of the mailbox.

use std::sync::Arc;
use std::time::Duration;

use airssys_rt::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::component::{ComponentRef, after};
use crate::error::WasmError;
use crate::instance::Call;
use crate::metrics::Refused;
use crate::release::Release;
use crate::replicas::NoRoom;

/// Where the arguments of a release's calls wait, those of all replicas together.
pub(crate) struct WaitingRoom {
    free: Arc<Semaphore>,
    max_bytes: u32,
}

/// What one call takes up; given back when it is dropped.
pub(crate) struct Seat {
    _bytes: OwnedSemaphorePermit,
}

/// What a call's arguments find no room for at once.
pub(crate) struct Lack {
    release: Arc<Release>,
    bytes: usize,
}

impl WaitingRoom {
    pub(crate) fn new(max_bytes: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(max_bytes as usize)),
            max_bytes,
        }
    }

    /// What is larger than the room takes all of it, so that it gets in once nothing else waits.
    fn share(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).map_or(self.max_bytes, |bytes| bytes.min(self.max_bytes))
    }

    fn try_seat(&self, bytes: usize) -> Option<Seat> {
        let free = Arc::clone(&self.free);
        let taken = free.try_acquire_many_owned(self.share(bytes)).ok()?;
        Some(Seat { _bytes: taken })
    }

    /// In the order of coming; `None` once the deadline has passed.
    async fn seat(&self, bytes: usize, deadline: Instant) -> Option<Seat> {
        let free = Arc::clone(&self.free);
        let taken = free.acquire_many_owned(self.share(bytes));
        let taken = timeout_at(deadline, taken).await.ok()?.ok()?;
        Some(Seat { _bytes: taken })
    }
}

impl Lack {
    /// Waits for the room, or is refused at once. Seldom, and so not part of each call's future.
    pub(crate) fn seat(
        self,
        component: &ComponentRef,
        deadline: Instant,
        no_room: NoRoom,
    ) -> BoxFuture<'_, Result<Seat, WasmError>> {
        let Self { release, bytes } = self;
        let refused = move |refused, error| {
            component.cell().metrics.refused(refused);
            Err(error)
        };
        let name = || component.name().clone();
        Box::pin(async move {
            let room = &release.waiting_room;
            if no_room == NoRoom::HandBack {
                let full = WasmError::NoWaitingRoom {
                    component: name(),
                    requested_bytes: bytes,
                    max_bytes: room.max_bytes as usize,
                };
                return refused(Refused::MailboxFull, full);
            }
            let began = Instant::now();
            match room.seat(bytes, deadline).await {
                Some(seat) => Ok(seat),
                None => {
                    let (component, waited) = (name(), began.elapsed());
                    let expired = WasmError::Expired { component, waited };
                    refused(Refused::Expired, expired)
                }
            }
        })
    }
}

impl ComponentRef {
    /// Finds room for a call's arguments, where it is there at once.
    pub(crate) fn seat(&self, call: &mut Call) -> Result<(), Lack> {
        let bytes = call.footprint();
        if bytes == 0 {
            return Ok(());
        }
        let release = self.cell().release();
        match release.waiting_room.try_seat(bytes) {
            Some(seat) => {
                call.seat = Some(seat);
                Ok(())
            }
            None => Err(Lack { release, bytes }),
        }
    }

    /// The call that `make` makes, with room for its arguments, and by when it is to end. Where it
    /// has to wait for room, it is made anew afterwards: what waits outside the mailbox holds no
    /// message.
    pub(crate) async fn seated(
        &self,
        began: Instant,
        patience: Option<Duration>,
        no_room: NoRoom,
        make: impl Fn() -> Result<Call, WasmError>,
    ) -> Result<(Call, Instant), WasmError> {
        let mut call = make()?;
        let deadline = after(began, patience.unwrap_or(call.loaded.patience));
        if let Err(lack) = self.seat(&mut call) {
            drop(call);
            let seat = lack.seat(self, deadline, no_room).await?;
            call = make()?;
            call.seat = Some(seat);
        }
        Ok((call, deadline))
    }
}
