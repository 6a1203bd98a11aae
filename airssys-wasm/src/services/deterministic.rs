//! Clocks and randomness that are the same in each run.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// What the wall clock begins at: the first second of the year 2000, in Unix time.
const BEGIN: Duration = Duration::from_secs(946_684_800);

/// By how much each look at a clock moves both of them on.
const STEP: Duration = Duration::from_micros(1);

/// Time that passes by being looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Steps(Arc<AtomicU64>);

impl Steps {
    fn next(&self) -> Duration {
        let looks = self.0.fetch_add(1, Ordering::Relaxed);
        Duration::from_nanos(looks.saturating_mul(STEP.as_nanos() as u64))
    }
}

impl HostWallClock for Steps {
    fn resolution(&self) -> Duration {
        STEP
    }

    fn now(&self) -> Duration {
        BEGIN.saturating_add(self.next())
    }
}

impl HostMonotonicClock for Steps {
    fn resolution(&self) -> u64 {
        STEP.as_nanos() as u64
    }

    fn now(&self) -> u64 {
        self.next().as_nanos() as u64
    }
}

/// SHA-256 of the seed, a label and a counter, block after block: the same on every machine and in
/// every version, and not to be told from random without the seed.
#[derive(Debug)]
pub(super) struct Seeded {
    seed: u64,
    label: &'static str,
    blocks: u64,
    block: [u8; 32],
    used: usize,
}

impl Seeded {
    pub(super) fn new(seed: u64, label: &'static str) -> Self {
        Self {
            seed,
            label,
            blocks: 0,
            block: [0; 32],
            used: 32,
        }
    }

    fn byte(&mut self) -> u8 {
        if self.used == self.block.len() {
            let block = Sha256::new()
                .chain_update(self.seed.to_le_bytes())
                .chain_update(self.label)
                .chain_update(self.blocks.to_le_bytes());
            self.block = block.finalize().into();
            self.blocks += 1;
            self.used = 0;
        }
        let byte = self.block.get(self.used).copied().unwrap_or_default();
        self.used += 1;
        byte
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    pub(super) fn next_u128(&mut self) -> u128 {
        u128::from_le_bytes(self.bytes())
    }
}

impl rand_core::TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.bytes()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill_with(|| self.byte());
        Ok(())
    }
}
