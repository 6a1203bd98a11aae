//! How guests that compute for longer than a tick take turns, with each other and with everything
//! else on the embedder's runtime (ADR-WASM-008).
//!
//! Guarantees: whatever else is ready runs before a guest's next turn; the runtime looks at its
//! timers between two turns on a worker; of the guests beyond their first tick, as many compute as
//! the runtime has workers, in the order they asked. A call that ends within a tick is not asked.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::available_parallelism;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns there are at a time.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    /// One for each worker of the runtime this is called on; for each processor where it is called
    /// on none.
    pub(crate) fn new() -> Self {
        let workers = match Handle::try_current() {
            Ok(runtime) => runtime.metrics().num_workers(),
            Err(_) => available_parallelism().map_or(1, usize::from),
        };
        Self(Arc::new(Semaphore::new(workers.max(1))))
    }

    /// What one instance knows of them.
    pub(crate) fn turn(&self) -> Arc<Turn> {
        Arc::new(Turn {
            turns: Arc::clone(&self.0),
            held: AtomicBool::new(false),
            permit: Mutex::new(None),
            waits: AtomicBool::new(false),
        })
    }
}

/// An instance's turn. Only the task that polls the instance touches it.
pub(crate) struct Turn {
    turns: Arc<Semaphore>,
    /// Whether there is a permit, without the lock.
    held: AtomicBool,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    waits: AtomicBool,
}

impl Turn {
    /// Whether the guest would compute if it were its turn.
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// A guest that waits for the host, or has ended, keeps no turn. Called after each poll.
    pub(crate) fn polled(&self) {
        if self.held.load(Ordering::Relaxed) && !self.waits() {
            self.set(None);
        }
    }

    /// Waits, at a tick of a guest that computes, for its next turn.
    pub(crate) async fn next(self: Arc<Self>) {
        self.waits.store(true, Ordering::Relaxed);
        // Until the worker has nothing else to do and has looked at its timers. The turn is kept
        // meanwhile: handed on now, the next guest would come before the timers.
        tokio::task::yield_now().await;
        behind().await;
        self.set(None);
        // Never closed.
        let permit = Arc::clone(&self.turns).acquire_owned().await.ok();
        self.set(permit);
        self.waits.store(false, Ordering::Relaxed);
    }

    fn set(&self, permit: Option<OwnedSemaphorePermit>) {
        self.held.store(permit.is_some(), Ordering::Relaxed);
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}

/// Puts the task behind all that is ready. A task that yields is woken by its worker, into a place
/// before those that the timers have just woken; a task that wakes itself is put at the end.
async fn behind() {
    let mut woken = false;
    poll_fn(|context| {
        if std::mem::replace(&mut woken, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn whom_a_timer_has_woken_and_whom_that_one_wakes_come_before_the_next_turn() {
        let (order, mut seen) = mpsc::channel(2);
        let sibling = order.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            tokio::spawn(async move { sibling.send("sibling").await });
        });
        let turn = Turns::new().turn();
        tokio::spawn(async move {
            // Computes until the timer is over, which nobody has looked at meanwhile.
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(20) {
                std::hint::spin_loop();
            }
            turn.next().await;
            order.send("guest").await
        });
        assert_eq!(seen.recv().await, Some("sibling"));
        assert_eq!(seen.recv().await, Some("guest"));
    }
}
