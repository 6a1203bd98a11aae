//! The clock behind deadlines: one OS thread advances the epochs of all engines of a runtime.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

/// Time between two ticks of the epoch. A guest yields to the runtime, and is looked at for its
/// deadline, once a tick.
pub const TICK: Duration = Duration::from_millis(1);

/// Ticks without a guest that runs before the ticker sleeps until one does. Waking it takes a
/// system call, which a call then pays at most once in this many ticks.
pub const IDLE_TICKS: u32 = 100;

/// What guests and the ticker know of each other.
pub(crate) struct Pulse {
    /// A guest has run since the last tick. Guests mostly read it, the ticker writes it.
    wanted: AtomicBool,
    asleep: AtomicBool,
    stopped: AtomicBool,
    engines: Mutex<Vec<wasmtime::Engine>>,
    thread: OnceLock<Thread>,
}

impl Pulse {
    /// Says that a guest is about to run; at least [`IDLE_TICKS`] ticks follow. False once there
    /// will be no more ticks, and a guest that computes could not be stopped.
    pub(crate) fn beat(&self) -> bool {
        if !self.wanted.load(Ordering::Relaxed) {
            // Of this store and the ticker's to `asleep`, one comes first, and the other side's
            // load then sees it.
            self.wanted.store(true, Ordering::SeqCst);
            if self.asleep.load(Ordering::SeqCst)
                && let Some(thread) = self.thread.get()
            {
                thread.unpark();
            }
        }
        !self.stopped.load(Ordering::Acquire)
    }

    /// Ticks for one engine more.
    pub(crate) fn drive(&self, engine: &wasmtime::Engine) {
        self.engines().push(engine.clone());
    }

    fn engines(&self) -> std::sync::MutexGuard<'_, Vec<wasmtime::Engine>> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) {
        for engine in self.engines().iter() {
            engine.increment_epoch();
        }
    }

    fn run(&self) {
        let mut idle = 0;
        while !self.stopped.load(Ordering::Acquire) {
            if self.wanted.swap(false, Ordering::SeqCst) {
                idle = 0;
            }
            if idle < IDLE_TICKS {
                idle += 1;
                thread::park_timeout(TICK);
                self.tick();
                continue;
            }
            self.asleep.store(true, Ordering::SeqCst);
            if !self.wanted.load(Ordering::SeqCst) && !self.stopped.load(Ordering::SeqCst) {
                thread::park();
            }
            self.asleep.store(false, Ordering::SeqCst);
        }
        // A guest that is still inside has its deadline at the next tick.
        self.tick();
        self.engines().clear();
    }
}

/// An OS thread: a tokio task would stand still exactly when guests keep every worker busy. Ends
/// with [`Ticker::stop`] or when dropped.
pub(crate) struct Ticker {
    pulse: Arc<Pulse>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Ticker {
    pub(crate) fn start() -> std::io::Result<Self> {
        let pulse = Arc::new(Pulse {
            wanted: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            engines: Mutex::default(),
            thread: OnceLock::new(),
        });
        let thread = thread::Builder::new()
            .name(String::from("airssys-epoch"))
            .spawn({
                let pulse = Arc::clone(&pulse);
                move || {
                    pulse.thread.get_or_init(thread::current);
                    pulse.run();
                }
            })?;
        Ok(Self {
            pulse,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Ends the thread and waits for it, a tick at most. Guests are not entered from then on.
    pub(crate) fn stop(&self) {
        self.pulse.stopped.store(true, Ordering::SeqCst);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            // The thread runs nothing that could panic.
            thread.join().ok();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
