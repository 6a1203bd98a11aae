//! An output stream into a file, within the quota of the file's directory.

use std::io;
use std::sync::Arc;

use airssys_osl::grants::{Quota, QuotaExceeded};
use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

/// Charges each byte before it is written. A byte that replaces another is charged too, until the
/// next count.
pub(super) struct QuotaStream<F> {
    inner: DynOutputStream,
    quota: Arc<Quota>,
    max: u64,
    /// Told of each refusal.
    refused: F,
    /// There was no room when it was last looked for.
    full: bool,
    /// And none after counting anew.
    counted: bool,
}

impl<F: Fn(QuotaExceeded) + Send + 'static> QuotaStream<F> {
    pub(super) fn new(inner: DynOutputStream, quota: Arc<Quota>, max: u64, refused: F) -> Self {
        Self {
            inner,
            quota,
            max,
            refused,
            full: false,
            counted: false,
        }
    }

    fn refuse(&self, exceeded: QuotaExceeded) -> StreamError {
        (self.refused)(exceeded);
        StreamError::LastOperationFailed(io::Error::from(exceeded).into())
    }
}

#[async_trait]
impl<F: Fn(QuotaExceeded) + Send + 'static> Pollable for QuotaStream<F> {
    async fn ready(&mut self) {
        if self.full && !self.counted {
            let quota = Arc::clone(&self.quota);
            // A count that fails leaves the one there was.
            let _ = tokio::task::spawn_blocking(move || quota.recount()).await;
            self.counted = true;
        }
        self.inner.ready().await;
    }
}

#[async_trait]
impl<F: Fn(QuotaExceeded) + Send + 'static> OutputStream for QuotaStream<F> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let asked = bytes.len() as u64;
        if let Err(exceeded) = self.quota.charge(asked, self.max) {
            return Err(self.refuse(exceeded));
        }
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let permit = self.inner.check_write()?;
        let left = self.max.saturating_sub(self.quota.used());
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if left > 0 || permit == 0 {
            self.full = false;
            self.counted = false;
            return Ok(permit.min(left));
        }
        if !self.counted {
            // Not ready until the directory has been counted anew.
            self.full = true;
            return Ok(0);
        }
        // Whoever writes on finds out again.
        self.counted = false;
        Err(self.refuse(QuotaExceeded {
            used: self.quota.used(),
            max: self.max,
            asked: 1,
        }))
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}
