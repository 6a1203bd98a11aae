//! The list of tasks, its sweep and its end.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dashmap::DashMap;
use futures_util::future::AbortHandle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::Instrument;

use super::registration::{EndKind, Entry, Place, Task, TaskTime, run};
use super::{
    DEFAULT_TASK_TIMEOUT, TASK_ABORT_GRACE, TASK_SWEEP, TaskCounts, TaskHandle, TaskInfo,
    TaskLimit, TaskRefused, TasksLeft,
};

/// Spawns tasks and knows all of them. Cheap to clone; clones share one list. One per tree.
///
/// When the last clone goes, the tasks still on the list are aborted; [`TaskRegistry::shutdown`]
/// joins them as well. A handle does not keep its registry.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use airssys_rt::{TaskEnd, TaskRegistry};
///
/// let tasks = TaskRegistry::new();
/// let sum = tasks.spawn("sum", async { 2 + 3 })?;
/// assert_eq!(sum.await, TaskEnd::Finished(5));
/// tasks.shutdown(Duration::from_secs(1)).await;
/// assert!(tasks.spawn("late", async {}).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct TaskRegistry(Arc<Registered>);

#[derive(Default)]
pub(super) struct Registered {
    entries: DashMap<u64, Entry>,
    total: AtomicU64,
    finished: AtomicU64,
    timed_out: AtomicU64,
    panicked: AtomicU64,
    aborted: AtomicU64,
    /// Tasks not dropped yet, swept ones too.
    undropped: AtomicUsize,
    all_dropped: Notify,
    closed: AtomicBool,
    /// The grace is over: what comes on the list is aborted.
    aborting: AtomicBool,
    /// A sweeper is on duty.
    swept: AtomicBool,
    sweeper: Mutex<Option<JoinHandle<()>>>,
}

impl TaskRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task on the current runtime with [`DEFAULT_TASK_TIMEOUT`]. It runs in a span
    /// `task` that carries its name.
    ///
    /// # Errors
    /// [`TaskRefused`] once the registry is being shut down.
    ///
    /// # Panics
    /// Outside a tokio runtime with time, as [`tokio::spawn`] and [`tokio::time::sleep`] do.
    pub fn spawn<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: F,
    ) -> Result<TaskHandle<F::Output>, TaskRefused<F>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.spawn_within(TaskLimit::Timeout(DEFAULT_TASK_TIMEOUT), name, future)
    }

    /// As [`TaskRegistry::spawn`], with a limit of its own.
    ///
    /// # Errors
    /// [`TaskRefused`] once the registry is being shut down.
    ///
    /// # Panics
    /// As [`TaskRegistry::spawn`].
    pub fn spawn_within<F>(
        &self,
        limit: TaskLimit,
        name: impl Into<Cow<'static, str>>,
        future: F,
    ) -> Result<TaskHandle<F::Output>, TaskRefused<F>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let name = name.into();
        let registered = &self.0;
        // Announced before the look at `closed`: a shutdown that this look missed waits for it.
        registered.undropped.fetch_add(1, Ordering::SeqCst);
        if registered.closed.load(Ordering::SeqCst) {
            registered.dropped();
            return Err(TaskRefused { name, future });
        }
        let id = registered.total.fetch_add(1, Ordering::Relaxed);
        let (abort, registration) = AbortHandle::new_pair();
        let span = tracing::info_span!("task", name = %name);
        let time = TaskTime::begin(limit);
        let entry = Entry {
            name,
            time,
            abort: abort.clone(),
        };
        // On the list before it can end, else it would stay there. The sweeper is there before it
        // as well: a shutdown that finds no task left then finds every sweeper.
        registered.entries.insert(id, entry);
        registered.keep_swept();
        if registered.aborting.load(Ordering::SeqCst) {
            abort.abort();
        }
        let task = Task {
            future,
            place: Place {
                registered: Arc::downgrade(registered),
                id,
                end: EndKind::Aborted,
            },
        };
        let join = tokio::spawn(run(task, time, registration).instrument(span));
        Ok(TaskHandle { join, abort })
    }

    /// How many tasks there are and how the others ended.
    #[must_use]
    pub fn counts(&self) -> TaskCounts {
        self.0.counts()
    }

    /// The tasks on the list, oldest first.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskInfo> {
        let mut tasks: Vec<TaskInfo> = self
            .0
            .entries
            .iter()
            .map(|entry| TaskInfo {
                name: entry.name.clone(),
                age: entry.time.age(),
            })
            .collect();
        tasks.sort_by_key(|task| std::cmp::Reverse(task.age));
        tasks
    }

    /// Takes overdue tasks off the list now and aborts them; how many. Happens by itself every
    /// [`TASK_SWEEP`] while a task is on the list.
    pub fn sweep(&self) -> usize {
        self.0.sweep()
    }

    /// Refuses new tasks, waits `grace` for those that run, aborts the rest and waits for them to
    /// be dropped, [`TASK_ABORT_GRACE`] at most; as long again for the sweeper. A task that calls this is among those waited for,
    /// so it is aborted by its own shutdown.
    pub async fn shutdown(&self, grace: Duration) -> TasksLeft {
        let registered = &self.0;
        registered.closed.store(true, Ordering::SeqCst);
        let left = if registered.drained(grace).await {
            TasksLeft::default()
        } else {
            let aborted = registered.undropped.load(Ordering::SeqCst);
            registered.aborting.store(true, Ordering::SeqCst);
            registered.abort_all();
            registered.drained(TASK_ABORT_GRACE).await;
            TasksLeft {
                aborted,
                left_behind: registered.undropped.load(Ordering::SeqCst),
            }
        };
        if left.left_behind > 0 {
            let names: Vec<_> = self.tasks().into_iter().map(|task| task.name).collect();
            tracing::error!(left_behind = left.left_behind, ?names, "tasks left behind");
        }
        let sweeper = registered.sweeper().take();
        if let Some(sweeper) = sweeper {
            sweeper.abort();
            // Its runtime may be one that a task keeps from going on.
            timeout(TASK_ABORT_GRACE, sweeper).await.ok();
        }
        left
    }
}

impl Registered {
    /// The task is dropped; it may have been taken off the list before.
    pub(super) fn ended(&self, id: u64, end: EndKind) {
        let entry = self.entries.remove(&id);
        if let Some((_, entry)) = entry {
            if !matches!(end, EndKind::Finished) {
                tracing::warn!(task = %entry.name, ?end, "task did not finish");
            }
            self.counter(end).fetch_add(1, Ordering::Relaxed);
        }
        self.dropped();
    }

    fn dropped(&self) {
        if self.undropped.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.all_dropped.notify_waiters();
        }
    }

    fn counter(&self, end: EndKind) -> &AtomicU64 {
        match end {
            EndKind::Finished => &self.finished,
            EndKind::TimedOut => &self.timed_out,
            EndKind::Panicked => &self.panicked,
            EndKind::Aborted => &self.aborted,
        }
    }

    fn counts(&self) -> TaskCounts {
        let [finished, timed_out, panicked, aborted] = [
            EndKind::Finished,
            EndKind::TimedOut,
            EndKind::Panicked,
            EndKind::Aborted,
        ]
        .map(|end| self.counter(end).load(Ordering::Acquire));
        let total = self.total.load(Ordering::Relaxed);
        TaskCounts {
            active: total.saturating_sub(finished + timed_out + panicked + aborted),
            total,
            finished,
            timed_out,
            panicked,
            aborted,
        }
    }

    /// True once every task has been dropped, false when that takes longer than `limit`.
    async fn drained(&self, limit: Duration) -> bool {
        // Far enough off where the limit is longer than the clock can tell.
        let far = Duration::from_secs(60 * 60 * 24 * 365);
        let deadline = Instant::now() + limit.min(far);
        loop {
            let mut all_dropped = pin!(self.all_dropped.notified());
            all_dropped.as_mut().enable();
            if self.undropped.load(Ordering::SeqCst) == 0 {
                return true;
            }
            if timeout_at(deadline, all_dropped).await.is_err() {
                return self.undropped.load(Ordering::SeqCst) == 0;
            }
        }
    }

    fn sweep(&self) -> usize {
        let overdue: Vec<u64> = self
            .entries
            .iter()
            .filter(|entry| entry.time.is_up())
            .map(|entry| *entry.key())
            .collect();
        let mut swept = 0;
        for id in overdue {
            // Aborting wakes the task, so it comes after the list is free again.
            if let Some((_, entry)) = self.entries.remove(&id) {
                self.timed_out.fetch_add(1, Ordering::Relaxed);
                let age = entry.time.age();
                tracing::warn!(task = %entry.name, ?age, "task is overdue; taken off the list");
                entry.abort.abort();
                swept += 1;
            }
        }
        if self.entries.capacity() / 4 > self.entries.len() {
            self.entries.shrink_to_fit();
        }
        swept
    }

    fn abort_all(&self) {
        let aborts: Vec<AbortHandle> = self
            .entries
            .iter()
            .map(|entry| entry.abort.clone())
            .collect();
        for abort in aborts {
            abort.abort();
        }
    }

    /// Puts a sweeper on duty where none is.
    fn keep_swept(self: &Arc<Self>) {
        if let Some(duty) = Duty::take(self) {
            let sweeper = tokio::spawn(sweep_while_needed(duty));
            // The one before it has ended or lost its runtime; nothing is to be waited for.
            let _previous = self.sweeper().replace(sweeper);
        }
    }

    fn sweeper(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.sweeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.abort_all();
        if let Some(sweeper) = self.sweeper().take() {
            sweeper.abort();
        }
    }
}

/// The right to sweep, given back when the sweeper ends or its runtime is dropped.
struct Duty(Weak<Registered>);

impl Duty {
    fn take(registered: &Arc<Registered>) -> Option<Self> {
        let swept = &registered.swept;
        // The load spares the common case a write to a line that every spawn reads.
        let free = !swept.load(Ordering::SeqCst) && !swept.swap(true, Ordering::SeqCst);
        free.then(|| Self(Arc::downgrade(registered)))
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if let Some(registered) = self.0.upgrade() {
            registered.swept.store(false, Ordering::SeqCst);
        }
    }
}

/// Sweeps until a sweep finds the list empty or the registry is gone.
async fn sweep_while_needed(mut duty: Duty) {
    loop {
        sleep(TASK_SWEEP).await;
        let Some(registered) = duty.0.upgrade() else {
            return;
        };
        registered.sweep();
        if registered.entries.is_empty() {
            drop(duty);
            // A task that came in meanwhile may have seen the duty taken.
            if registered.entries.is_empty() {
                return;
            }
            match Duty::take(&registered) {
                Some(again) => duty = again,
                None => return,
            }
        }
    }
}

impl fmt::Debug for TaskRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskRegistry").field(&self.counts()).finish()
    }
}
