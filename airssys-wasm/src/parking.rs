//! When an instance that nobody calls is let go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use airssys_rt::{TaskHandle, TaskLimit, TaskRegistry};
use tokio::time::{Instant, sleep, sleep_until};

use crate::component_cell::ComponentCell;

/// Watches how long an instance has been idle, and wakes its actor when that is long enough.
pub(crate) struct Parking {
    idle: Duration,
    tasks: TaskRegistry,
    cell: Arc<ComponentCell>,
    generation: u64,
    began: Instant,
    /// When the last call ended, in microseconds since `began`.
    rested: Arc<AtomicU64>,
    /// Runs while there is an instance.
    pub(crate) timer: Option<Timer>,
}

/// Ends its task with itself.
pub(crate) struct Timer(TaskHandle<()>);

impl Timer {
    pub(crate) fn new(task: TaskHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Parking {
    pub(crate) fn new(
        idle: Duration,
        tasks: TaskRegistry,
        cell: Arc<ComponentCell>,
        generation: u64,
    ) -> Self {
        Self {
            idle,
            tasks,
            cell,
            generation,
            began: Instant::now(),
            rested: Arc::default(),
            timer: None,
        }
    }

    /// A call has ended, or an instance has started.
    pub(crate) fn rest(&mut self) {
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.rested.store(now, Ordering::Relaxed);
        if self.timer.is_some() {
            return;
        }
        let (idle, began) = (self.idle, self.began);
        let (rested, cell) = (Arc::clone(&self.rested), Arc::clone(&self.cell));
        let generation = self.generation;
        let watch = async move {
            loop {
                let over = began + Duration::from_micros(rested.load(Ordering::Relaxed)) + idle;
                if Instant::now() < over {
                    sleep_until(over).await;
                } else {
                    // A call may have come first; its end is looked at in its time.
                    cell.slot.nudge(generation);
                    sleep(idle).await;
                }
            }
        };
        // It ends with the instance, or with the actor. A registry that has been shut down refuses
        // it, and then nothing is parked any more.
        let timer = self.tasks.spawn_within(TaskLimit::Unlimited, "park", watch);
        self.timer = timer.ok().map(Timer);
    }

    /// Whether nothing has been called for long enough.
    pub(crate) fn is_over(&self) -> bool {
        let rested = Duration::from_micros(self.rested.load(Ordering::Relaxed));
        self.began.elapsed() >= rested + self.idle
    }
}
