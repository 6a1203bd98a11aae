//! What is struck: a region, and, as the control, a mutex whose checksum is taken after the copy.

use crate::memory::{Faulty, Memory, Strike};
use airssys_integrity::{
    AtomicMemoryOps, BLOCK_BYTES, Crc32c, Phase, RegionSettings, VerificationLevel,
};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Mutex;

/// Three blocks.
pub(crate) const LEN: usize = 1_536;

pub(crate) trait Contender {
    /// Changes `offset..offset + data.len()`; true if that went well as far as it knows.
    fn write(&self, offset: usize, data: &[u8]) -> bool;
    /// Everything, if it is intact as far as it knows.
    fn read(&self) -> Option<Vec<u8>>;
    /// The strike comes at the phase.
    fn plan(&self, phase: Phase, bit: usize);
    /// True if the phase was never reached.
    fn is_pending(&self) -> bool;
    /// How many bytes there are.
    fn len(&self) -> usize;
}

pub(crate) struct Region {
    pub(crate) memory: Rc<Memory>,
    pub(crate) ops: AtomicMemoryOps<Faulty>,
}

impl Region {
    pub(crate) fn new(level: VerificationLevel) -> Self {
        Self::of_blocks(LEN / 512, level)
    }

    pub(crate) fn of_blocks(blocks: usize, level: VerificationLevel) -> Self {
        let settings = RegionSettings {
            level,
            id: 7,
            sample_seed: 1,
            wait_rounds: 10,
        };
        let memory = Memory::new(blocks);
        let ops = AtomicMemoryOps::new(Faulty(Rc::clone(&memory)), settings).unwrap();
        Self { memory, ops }
    }
}

impl Contender for Region {
    fn write(&self, offset: usize, data: &[u8]) -> bool {
        self.ops.atomic_write_with_checksum(offset, data).is_ok()
    }

    fn read(&self) -> Option<Vec<u8>> {
        let mut out = vec![0; self.len()];
        self.ops.read(0, &mut out).ok()?;
        Some(out)
    }

    fn plan(&self, phase: Phase, bit: usize) {
        self.memory.plan(phase, Strike::Bit(bit));
    }

    fn is_pending(&self) -> bool {
        self.memory.is_pending()
    }

    fn len(&self) -> usize {
        self.ops.len_bytes().unwrap()
    }
}

/// Copies, then takes the checksum from where the bytes have arrived.
pub(crate) struct Naive {
    content: Mutex<(Vec<u8>, u32)>,
    plan: Cell<Option<(Phase, usize)>>,
}

impl Naive {
    pub(crate) fn new() -> Self {
        Self {
            content: Mutex::new((vec![0; BLOCK_BYTES], sum(&[0; BLOCK_BYTES]))),
            plan: Cell::new(None),
        }
    }

    fn reach(&self, phase: Phase, content: &mut (Vec<u8>, u32)) {
        if let Some((planned, bit)) = self.plan.get()
            && planned == phase
        {
            self.plan.set(None);
            match bit {
                0..4_096 => content.0[bit / 8] ^= 1 << (bit % 8),
                _ => content.1 ^= 1 << (bit - 4_096),
            }
        }
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(bytes);
    crc.finish()
}

impl Contender for Naive {
    fn write(&self, offset: usize, data: &[u8]) -> bool {
        let mut content = self.content.lock().unwrap();
        for (lane, bytes) in data.chunks(8).enumerate() {
            self.reach(Phase::SourceLoaded { lane }, &mut content);
            content.0[offset + 8 * lane..][..bytes.len()].copy_from_slice(bytes);
            self.reach(Phase::Stored { lane }, &mut content);
        }
        self.reach(Phase::BeforeTag, &mut content);
        content.1 = sum(&content.0);
        self.reach(Phase::AfterTag, &mut content);
        true
    }

    fn read(&self) -> Option<Vec<u8>> {
        let mut content = self.content.lock().unwrap();
        (0..64).for_each(|lane| self.reach(Phase::BeforeLoad { lane }, &mut content));
        let intact = sum(&content.0) == content.1;
        // What it hands out it loads a second time.
        (0..64).for_each(|lane| self.reach(Phase::Loaded { lane }, &mut content));
        self.reach(Phase::BeforeReturn, &mut content);
        intact.then(|| content.0.clone())
    }

    fn plan(&self, phase: Phase, bit: usize) {
        self.plan.set(Some((phase, bit)));
    }

    fn is_pending(&self) -> bool {
        self.plan.take().is_some()
    }

    fn len(&self) -> usize {
        BLOCK_BYTES
    }
}
