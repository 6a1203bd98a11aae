//! The figures of one instance's memory, and what is held on its behalf in the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use airssys_rt::OutOfMemory;

/// An instance's memory at one moment. Reading it does not stop the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MemoryMetrics {
    /// Held now, in bytes: linear memories, tables, and `host_bytes`.
    pub current_bytes: usize,
    /// Of those, what the host holds for the instance: messages of the call under way and handles.
    pub host_bytes: usize,
    /// The limit, in bytes.
    pub max_bytes: usize,
    /// The most ever held, in bytes.
    pub peak_bytes: usize,
    /// Growths granted, those of the instance's start included.
    pub allocation_count: usize,
    /// Growths and host-side buffers refused because of the limit.
    pub denied_count: usize,
}

impl MemoryMetrics {
    /// Of two instances together.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self {
            current_bytes: self.current_bytes + other.current_bytes,
            host_bytes: self.host_bytes + other.host_bytes,
            max_bytes: self.max_bytes + other.max_bytes,
            peak_bytes: self.peak_bytes + other.peak_bytes,
            allocation_count: self.allocation_count + other.allocation_count,
            denied_count: self.denied_count + other.denied_count,
        }
    }

    /// Current use in percent of the limit, 0.0 to 100.0.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        reason = "byte counts up to 4 MiB are exact in f64"
    )]
    pub fn usage_percentage(&self) -> f64 {
        self.current_bytes as f64 / self.max_bytes as f64 * 100.0
    }

    /// What may still be taken, in bytes.
    #[must_use]
    pub fn remaining_bytes(&self) -> usize {
        self.max_bytes.saturating_sub(self.current_bytes)
    }
}

/// The counters behind [`MemoryMetrics`]: written by the instance's actor, read by anyone. Each is
/// consistent in itself; two of them may be one growth apart.
#[derive(Debug)]
pub(crate) struct MemoryMeter {
    max_bytes: usize,
    guest: AtomicUsize,
    messages: AtomicUsize,
    handles: AtomicUsize,
    peak: AtomicUsize,
    granted: AtomicUsize,
    denied: AtomicUsize,
    /// Its instance is gone, and counted in its generation's figures.
    over: AtomicBool,
}

impl MemoryMeter {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            guest: AtomicUsize::new(0),
            messages: AtomicUsize::new(0),
            handles: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            granted: AtomicUsize::new(0),
            denied: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        }
    }

    pub(crate) fn metrics(&self) -> MemoryMetrics {
        let host = self.host();
        MemoryMetrics {
            current_bytes: self.guest.load(Ordering::Relaxed) + host,
            host_bytes: host,
            max_bytes: self.max_bytes,
            peak_bytes: self.peak.load(Ordering::Relaxed),
            allocation_count: self.granted.load(Ordering::Relaxed),
            denied_count: self.denied.load(Ordering::Relaxed),
        }
    }

    fn host(&self) -> usize {
        self.messages.load(Ordering::Relaxed) + self.handles.load(Ordering::Relaxed)
    }

    pub(crate) fn held(&self) -> usize {
        self.guest.load(Ordering::Relaxed) + self.host()
    }

    /// Its instance is gone.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Whether the limit has room for so many bytes more.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.held().saturating_add(bytes) <= self.max_bytes
    }

    /// Counts a growth of the guest.
    pub(crate) fn grow(&self, bytes: usize) -> Result<(), OutOfMemory> {
        self.take(&self.guest, bytes)?;
        self.granted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes a growth of the guest back.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.guest.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts a message until the charge is dropped.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, OutOfMemory> {
        self.take(&self.messages, bytes)?;
        Ok(Charge {
            meter: Arc::clone(self),
            bytes,
        })
    }

    /// Counts handles, which are there already.
    pub(crate) fn set_handles(&self, bytes: usize) {
        if self.handles.load(Ordering::Relaxed) != bytes {
            self.handles.store(bytes, Ordering::Relaxed);
            self.peak.fetch_max(self.held(), Ordering::Relaxed);
        }
    }

    /// Whether the limit has room for so many bytes more; one that has not is counted as refused.
    pub(crate) fn room(&self, bytes: usize) -> Result<(), OutOfMemory> {
        if !self.has_room(bytes) {
            self.denied.fetch_add(1, Ordering::Relaxed);
            return Err(OutOfMemory {
                limit_bytes: self.max_bytes,
                current_bytes: self.held(),
                requested_bytes: bytes,
                peak_bytes: self.peak.load(Ordering::Relaxed),
            });
        }
        Ok(())
    }

    fn take(&self, from: &AtomicUsize, bytes: usize) -> Result<(), OutOfMemory> {
        self.room(bytes)?;
        from.fetch_add(bytes, Ordering::Relaxed);
        self.peak.fetch_max(self.held(), Ordering::Relaxed);
        Ok(())
    }
}

/// Host memory that counts against an instance's limit for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Charge {
    meter: Arc<MemoryMeter>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.meter.messages.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
