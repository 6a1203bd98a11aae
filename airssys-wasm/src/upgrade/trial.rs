//! The upgrade of one slot: asked for, and then on probation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use airssys_rt::ExitCause;
use tokio::sync::oneshot;

use super::{UpgradeError, Upgraded};
use crate::config::ComponentName;
use crate::release::Release;

pub(crate) type Reply = oneshot::Sender<Result<Upgraded, UpgradeError>>;

/// A release that is to serve.
pub(crate) struct Order {
    pub(crate) release: Arc<Release>,
    pub(crate) probation: Duration,
    pub(crate) reply: Reply,
}

/// A release that serves, and the one that comes back should it fail.
pub(crate) struct Probation {
    pub(crate) before: Arc<Release>,
    pub(crate) until: Instant,
    pub(crate) upgraded: Upgraded,
    pub(crate) reply: Reply,
}

/// What is under way. It outlives the incarnations of the slot's actor.
pub(crate) struct Trial {
    name: ComponentName,
    /// Somebody waits for an upgrade.
    busy: AtomicBool,
    /// So that calls need not lock to see that nothing is under way.
    pending: AtomicBool,
    /// There while something is.
    stage: Mutex<Option<Box<Stage>>>,
}

#[derive(Default)]
struct Stage {
    order: Option<Order>,
    probation: Option<Probation>,
}

/// The right to upgrade a component, for one at a time.
pub(crate) struct Turn<'a>(&'a Trial);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Trial {
    pub(crate) fn new(name: ComponentName) -> Self {
        Self {
            name,
            busy: AtomicBool::new(false),
            pending: AtomicBool::new(false),
            stage: Mutex::default(),
        }
    }

    /// `None` where another upgrade has not come to its end.
    pub(crate) fn begin(&self) -> Option<Turn<'_>> {
        let was_busy = self.busy.swap(true, Ordering::Acquire);
        let turn = (!was_busy).then(|| Turn(self))?;
        // One whose caller has gone may still be at it.
        (!self.pending.load(Ordering::Acquire)).then_some(turn)
    }

    pub(crate) fn order(&self, order: Order) {
        self.change(|stage| stage.order = Some(order));
    }

    /// An order nobody has taken up is taken back.
    pub(crate) fn withdraw(&self) {
        self.change(|stage| stage.order = None);
    }

    /// Whether there is an order or a probation.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// The order to carry out, if somebody still waits for it.
    pub(crate) fn take_order(&self) -> Option<Order> {
        if !self.is_pending() {
            return None;
        }
        let order = self.change(|stage| stage.order.take());
        order.filter(|order| !order.reply.is_closed())
    }

    pub(crate) fn probe(&self, probation: Probation) {
        self.change(|stage| stage.probation = Some(probation));
    }

    /// How much of a probation is left; `None` where there is none.
    pub(crate) fn left(&self) -> Option<Duration> {
        if !self.is_pending() {
            return None;
        }
        let stage = self.lock();
        let until = stage.as_ref()?.probation.as_ref()?.until;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// Ends the probation, whatever comes of it.
    pub(crate) fn take_probation(&self) -> Option<Probation> {
        if !self.is_pending() {
            return None;
        }
        self.change(|stage| stage.probation.take())
    }

    /// Nobody will serve the slot: whoever waits is told.
    pub(crate) fn give_up(&self, cause: &Arc<ExitCause>) {
        let (order, probation) = self.change(|stage| (stage.order.take(), stage.probation.take()));
        let waiting = [order.map(|o| o.reply), probation.map(|p| p.reply)];
        for reply in waiting.into_iter().flatten() {
            let stopped = UpgradeError::Stopped {
                component: self.name.clone(),
                cause: Arc::clone(cause),
            };
            reply.send(Err(stopped)).ok();
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Stage) -> T) -> T {
        let mut held = self.lock();
        let mut stage = held.take().unwrap_or_default();
        let changed = change(&mut stage);
        let pending = stage.order.is_some() || stage.probation.is_some();
        *held = pending.then_some(stage);
        self.pending.store(pending, Ordering::Release);
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Stage>>> {
        // Nothing panics under this lock.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
