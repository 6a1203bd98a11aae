//! Regions that threads share, with and without a way to hit their memory.
#![allow(
    unsafe_code,
    reason = "a provider promises memory that only its region stores to"
)]

use crate::contender::Contender;
use airssys_integrity::{
    AtomicMemoryOps, AtomicWord, Phase, Provider, RegionSettings, StdProvider, VerificationLevel,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

const NO_BIT: usize = usize::MAX;

/// Lanes of eight bytes in a block.
const LANES: usize = 64;

pub(crate) fn region(bytes: usize, level: VerificationLevel) -> AtomicMemoryOps<StdProvider> {
    AtomicMemoryOps::new(memory(bytes, level), settings(level)).unwrap()
}

fn memory(bytes: usize, level: VerificationLevel) -> StdProvider {
    let provider = match level {
        VerificationLevel::Redundant => StdProvider::mirrored(bytes),
        _ => StdProvider::new(bytes),
    };
    provider.unwrap()
}

fn settings(level: VerificationLevel) -> RegionSettings {
    RegionSettings {
        level,
        ..RegionSettings::default()
    }
}

pub(crate) fn shared(bytes: usize, level: VerificationLevel) -> Box<dyn Contender> {
    Box::new(Shared {
        ops: region(bytes, level),
    })
}

struct Shared<P> {
    ops: AtomicMemoryOps<P>,
}

impl<P: Provider> Contender for Shared<P> {
    fn write(&mut self, source: &[u8]) {
        self.ops.atomic_write_with_checksum(0, source).unwrap();
    }

    fn read(&mut self, destination: &mut [u8]) -> bool {
        self.ops.read(0, destination).is_ok()
    }

    fn write_with_hit(&mut self, _source: &[u8], _bit: usize) -> Option<bool> {
        None
    }

    fn flip(&mut self, _bit: usize) -> bool {
        false
    }
}

/// Memory whose owner can hit it: at rest, or as soon as the lane is stored.
struct Hittable {
    memory: StdProvider,
    /// The bit to hit when its lane has been stored.
    on_store: AtomicUsize,
    stored: AtomicUsize,
}

impl Hittable {
    fn flip(&self, bit: usize) {
        if let Some(word) = self.memory.words().get(bit / 64) {
            word.fetch_xor(1 << (bit % 64), Ordering::Relaxed);
        }
    }
}

struct Handle(Arc<Hittable>);

// SAFETY: the memory is that of a `StdProvider`, at every call. Hits are made between calls of the
// region, or in its own call of `fault`; no bytes are lent.
unsafe impl Provider for Handle {
    fn len_bytes(&self) -> usize {
        self.0.memory.len_bytes()
    }

    fn words(&self) -> &[AtomicWord] {
        self.0.memory.words()
    }

    fn tags(&self) -> &[AtomicU32] {
        self.0.memory.tags()
    }

    fn mirror(&self) -> Option<&[AtomicWord]> {
        self.0.memory.mirror()
    }

    fn fault(&self, phase: Phase, register: u64) -> u64 {
        if let Phase::Stored { lane } = phase {
            let bit = self.0.on_store.load(Ordering::Relaxed);
            // Blocks are stored in order, the lanes of a block in any.
            let block = self.0.stored.fetch_add(1, Ordering::Relaxed) / LANES;
            if bit != NO_BIT && block * LANES + lane == bit / 64 {
                self.0.flip(bit);
            }
        }
        register
    }
}

struct Hit {
    region: Shared<Handle>,
    memory: Arc<Hittable>,
    bytes: usize,
    level: VerificationLevel,
}

pub(crate) fn hittable(bytes: usize, level: VerificationLevel) -> Box<dyn Contender> {
    Box::new(Hit::new(bytes, level))
}

impl Hit {
    fn new(bytes: usize, level: VerificationLevel) -> Self {
        let memory = Arc::new(Hittable {
            memory: memory(bytes, level),
            on_store: AtomicUsize::new(NO_BIT),
            stored: AtomicUsize::new(0),
        });
        let ops = AtomicMemoryOps::new(Handle(Arc::clone(&memory)), settings(level));
        Self {
            region: Shared { ops: ops.unwrap() },
            memory,
            bytes,
            level,
        }
    }
}

impl Contender for Hit {
    fn write(&mut self, source: &[u8]) {
        // Faults stay where they are until memory is taken anew.
        *self = Self::new(self.bytes, self.level);
        self.region.write(source);
    }

    fn read(&mut self, destination: &mut [u8]) -> bool {
        self.region.read(destination)
    }

    fn write_with_hit(&mut self, source: &[u8], bit: usize) -> Option<bool> {
        *self = Self::new(self.bytes, self.level);
        self.memory.on_store.store(bit, Ordering::Relaxed);
        let arrived = self.region.ops.atomic_write_with_checksum(0, source);
        self.memory.on_store.store(NO_BIT, Ordering::Relaxed);
        Some(arrived.is_ok())
    }

    fn flip(&mut self, bit: usize) -> bool {
        self.memory.flip(bit);
        true
    }
}
