//! What outlives the instances of one component: its mailbox, its release, its figures.

use std::sync::atomic::Ordering::{self, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use airssys_integrity::Corrupt;
use airssys_rt::{DeadLetter, ExitCause, Slot, Work};
use arc_swap::ArcSwap;
use ractor::ActorRef;

use crate::component::MAILBOX_CAPACITY;
use crate::config::{ComponentConfig, ComponentName};
use crate::instance::{Answer, Invocation};
use crate::limits::{MemoryMeter, MemoryMetrics, ResourceLimits};
use crate::metrics::{Metrics, Reading};
use crate::release::Release;
use crate::runtime::Loaded;
use crate::upgrade::Trial;

/// What a start may take beyond loading and starting, before its supervisor gives it up.
const START_GRACE: Duration = Duration::from_secs(5);

/// What outlives the instances of one component, or of one replica of it.
pub(crate) struct ComponentCell {
    /// What is called, and served by the next instance.
    release: ArcSwap<Release>,
    /// Its name in the tree.
    pub(crate) name: ComponentName,
    /// The component it serves, which has another name where there are several.
    pub(crate) component: ComponentName,
    /// Which replica of the component it is, where there are several.
    pub(crate) replica: Option<u32>,
    pub(crate) slot: Slot<Invocation, Answer>,
    /// Calls that somebody waits for, queued and in flight; counted for replicas alone.
    pub(crate) calls: AtomicUsize,
    /// When it was chosen last.
    pub(crate) turn: AtomicU64,
    /// Whether an incarnation serves it.
    is_up: AtomicBool,
    pub(crate) metrics: Metrics,
    meter: Mutex<Option<Arc<MemoryMeter>>>,
    standing: Mutex<Weak<Standing>>,
    trial: Trial,
    #[cfg(feature = "fault-injection")]
    pub(crate) flip: crate::fault::Flip,
}

/// What callers have found out about an incarnation. It goes with the incarnation.
pub(crate) struct Standing {
    pub(crate) generation: u64,
    /// It is to end once it has answered.
    is_dismissed: AtomicBool,
    damage: OnceLock<Corrupt>,
}

impl Standing {
    pub(crate) fn new(generation: u64) -> Self {
        Self {
            generation,
            is_dismissed: AtomicBool::new(false),
            damage: OnceLock::new(),
        }
    }

    pub(crate) fn is_dismissed(&self) -> bool {
        self.is_dismissed.load(Ordering::Acquire)
    }

    /// The cause to end with before the next call, where a result was found damaged.
    pub(crate) fn damage(&self) -> Option<ExitCause> {
        let source = Arc::new(*self.damage.get()?);
        Some(ExitCause::Integrity { source })
    }
}

impl ComponentCell {
    pub(crate) fn new(name: ComponentName, release: Arc<Release>) -> Self {
        Self {
            component: name.clone(),
            trial: Trial::new(name.clone()),
            name,
            release: ArcSwap::new(release),
            replica: None,
            slot: Slot::new(MAILBOX_CAPACITY),
            calls: AtomicUsize::new(0),
            turn: AtomicU64::new(0),
            is_up: AtomicBool::new(false),
            metrics: Metrics::new(),
            meter: Mutex::new(None),
            standing: Mutex::new(Weak::new()),
            #[cfg(feature = "fault-injection")]
            flip: crate::fault::Flip::default(),
        }
    }

    /// The replicas of a component, which is loaded once for all of them.
    pub(crate) fn replicas(name: &ComponentName, config: &ComponentConfig) -> Box<[Arc<Self>]> {
        let release = Release::new(config.clone());
        let cell = |replica| {
            let own = Self::new(name.replica(replica), Arc::clone(&release));
            Arc::new(Self {
                component: name.clone(),
                replica: Some(replica),
                ..own
            })
        };
        (0..config.instance.replicas.get()).map(cell).collect()
    }

    pub(crate) fn release(&self) -> Arc<Release> {
        self.release.load_full()
    }

    /// What callers call.
    pub(crate) fn loaded(&self) -> Option<Arc<Loaded>> {
        self.release.load().loaded.get().cloned()
    }

    pub(crate) fn limits(&self) -> ResourceLimits {
        self.release.load().limits
    }

    /// Callers see another release from now on.
    pub(crate) fn set_release(&self, release: Arc<Release>) {
        self.release.store(release);
    }

    /// Loading and starting have limits of their own, which tell more.
    pub(crate) fn start_limit(&self) -> Duration {
        let limits = &self.release.load().limits;
        limits.load_timeout() + limits.start_timeout() + START_GRACE
    }

    /// An incarnation serves it from now on.
    pub(crate) fn attach(&self, generation: u64, actor: ActorRef<Work>) {
        self.slot.attach(generation, actor);
        self.is_up.store(true, Relaxed);
        // Nobody could be nudged before.
        if self.trial.is_pending() {
            self.slot.nudge(generation);
        }
    }

    /// The incarnation is to end once it has answered.
    pub(crate) fn dismiss(&self, generation: u64) {
        if let Some(standing) = self.standing_of(generation) {
            standing.is_dismissed.store(true, Ordering::Release);
            self.slot.nudge(generation);
        }
    }

    /// An incarnation has ended.
    pub(crate) fn exited(&self, generation: u64, cause: &Arc<ExitCause>) -> Option<DeadLetter> {
        self.is_up.store(false, Relaxed);
        self.metrics.exited(generation, cause);
        self.slot.exited(generation, cause)
    }

    /// What one replica is measured against another by: whether nobody serves it, how many calls
    /// it has, and when it was last chosen.
    pub(crate) fn busy(&self) -> (bool, usize, u64) {
        let is_down = !self.is_up.load(Relaxed);
        (is_down, self.calls.load(Relaxed), self.turn.load(Relaxed))
    }

    pub(crate) fn set_meter(&self, meter: Arc<MemoryMeter>) {
        *self.meter.lock().unwrap_or_else(PoisonError::into_inner) = Some(meter);
    }

    pub(crate) fn clear_meter(&self) {
        *self.meter.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn set_standing(&self, standing: &Arc<Standing>) {
        let mut held = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Arc::downgrade(standing);
    }

    /// The upgrade that is under way, where one is.
    pub(crate) fn trial(&self) -> &Trial {
        &self.trial
    }

    /// Has the actor look at what there is to do; where there is none, its successor does.
    pub(crate) fn wake(&self) {
        if let Some(standing) = self.standing() {
            self.slot.nudge(standing.generation);
        }
    }

    fn standing(&self) -> Option<Arc<Standing>> {
        let held = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        held.upgrade()
    }

    fn standing_of(&self, generation: u64) -> Option<Arc<Standing>> {
        self.standing().filter(|s| s.generation == generation)
    }

    pub(crate) fn memory(&self) -> Option<MemoryMetrics> {
        let meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.as_ref().map(|meter| meter.metrics())
    }

    pub(crate) fn reading(&self) -> Reading {
        let held = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        let living = held.as_ref().filter(|meter| !meter.is_over());
        let memory = living.map(|meter| meter.metrics());
        drop(held);
        self.metrics.read(self.slot.waiting(), memory)
    }

    /// Ends an incarnation over a result of its that was damaged on its way, unless it has ended
    /// already.
    pub(crate) fn condemn(&self, generation: u64, corrupt: Corrupt) {
        if let Some(standing) = self.standing_of(generation)
            && standing.damage.set(corrupt).is_ok()
        {
            self.slot.nudge(generation);
        }
    }
}
