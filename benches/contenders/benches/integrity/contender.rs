//! Ways to keep bytes.

use crate::region::{hittable, shared};
use airssys_integrity::{
    BufferWriter, CheckedBuffer, FrozenBuffer, MessagePool, OnReturn, PooledWriter, SampleRate,
    SizeClass, VerificationLevel,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const BLOCK: usize = 512;

/// Memory that takes bytes and gives them back, and lets a benchmark damage them.
pub(crate) trait Contender {
    fn write(&mut self, source: &[u8]);

    /// Copies the bytes out; false if they were seen to be damaged.
    fn read(&mut self, destination: &mut [u8]) -> bool;

    /// As `write`, with one bit hit after it is copied, before any checksum is taken from the copy.
    /// False if the damage was seen at once; `None` if there is no way to hit there.
    fn write_with_hit(&mut self, source: &[u8], bit: usize) -> Option<bool>;

    /// Flips a bit of the data, where there is a way.
    fn flip(&mut self, bit: usize) -> bool;
}

/// Makes a contender for a message of so many bytes.
pub(crate) type Make = fn(usize) -> Box<dyn Contender>;

/// A contender by name.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) make: Make,
    /// Makes one that can be hit while it copies, if that costs time.
    pub(crate) make_hittable: Make,
}

const fn entry(name: &'static str, make: Make) -> Entry {
    Entry {
        name,
        make,
        make_hittable: make,
    }
}

const fn of_region(name: &'static str, make: Make, make_hittable: Make) -> Entry {
    Entry {
        name,
        make,
        make_hittable,
    }
}

const SAMPLING: VerificationLevel = VerificationLevel::Sampling(SampleRate::ONE_IN_64);

/// `memcpy` is the limit.
pub(crate) static CONTENDERS: [Entry; 15] = [
    entry("memcpy", |bytes| Plain::of(bytes, Tags::None)),
    entry("memcpy, crc-fast over all", |bytes| {
        Plain::of(bytes, Tags::Whole)
    }),
    entry("memcpy + crc32c per 512 B", |bytes| {
        Plain::of(bytes, Tags::PerBlock)
    }),
    entry("mutex<Vec> + crc32c", |bytes| {
        Box::new(Locked(Mutex::new(Plain::of(bytes, Tags::PerBlock))))
    }),
    entry("word-wise copy", |bytes| {
        let words = (0..bytes / 8).map(|_| AtomicU64::new(0));
        Box::new(Words(words.collect()))
    }),
    entry("ours, pool, off", |bytes| {
        pool(bytes, VerificationLevel::Off)
    }),
    entry("ours, pool, sampling 1/64", |bytes| pool(bytes, SAMPLING)),
    entry("ours, pool, standard", |bytes| {
        pool(bytes, VerificationLevel::Standard)
    }),
    entry("ours, pool, full", |bytes| {
        pool(bytes, VerificationLevel::Full)
    }),
    entry("ours, pool, redundant", |bytes| {
        pool(bytes, VerificationLevel::Redundant)
    }),
    of_region(
        "ours, region, off",
        |bytes| shared(bytes, VerificationLevel::Off),
        |bytes| hittable(bytes, VerificationLevel::Off),
    ),
    of_region(
        "ours, region, sampling 1/64",
        |bytes| shared(bytes, SAMPLING),
        |bytes| hittable(bytes, SAMPLING),
    ),
    of_region(
        "ours, region, standard",
        |bytes| shared(bytes, VerificationLevel::Standard),
        |bytes| hittable(bytes, VerificationLevel::Standard),
    ),
    of_region(
        "ours, region, full",
        |bytes| shared(bytes, VerificationLevel::Full),
        |bytes| hittable(bytes, VerificationLevel::Full),
    ),
    of_region(
        "ours, region, redundant",
        |bytes| shared(bytes, VerificationLevel::Redundant),
        |bytes| hittable(bytes, VerificationLevel::Redundant),
    ),
];

pub(crate) enum Tags {
    None,
    Whole,
    PerBlock,
}

/// Bytes, and a checksum taken from the copy.
pub(crate) struct Plain {
    data: Vec<u8>,
    kind: Tags,
    tags: Vec<u32>,
}

impl Plain {
    pub(crate) fn of(bytes: usize, kind: Tags) -> Box<Self> {
        Box::new(Self {
            data: vec![0; bytes],
            tags: vec![0; bytes.div_ceil(BLOCK)],
            kind,
        })
    }

    /// Overwrites bytes of one block and tags the block anew.
    pub(crate) fn write_part(&mut self, offset: usize, source: &[u8]) {
        let block = offset / BLOCK;
        let mut blocks = self.data.chunks_mut(BLOCK).zip(&mut self.tags);
        let Some((data, tag)) = blocks.nth(block) else {
            return;
        };
        let part = data.get_mut(offset % BLOCK..offset % BLOCK + source.len());
        if let Some(part) = part {
            part.copy_from_slice(source);
            *tag = crc32c::crc32c(data);
        }
    }

    fn tag(&mut self) {
        match self.kind {
            Tags::None => {}
            Tags::Whole => {
                let tag = whole(&self.data);
                self.tags.fill(0);
                if let Some(slot) = self.tags.first_mut() {
                    *slot = tag;
                }
            }
            Tags::PerBlock => {
                for (block, tag) in self.data.chunks(BLOCK).zip(&mut self.tags) {
                    *tag = crc32c::crc32c(block);
                }
            }
        }
    }
}

/// A message as one makes it without a pool: bytes and tags from the heap, shared by count.
pub(crate) fn shared_vec(source: &[u8]) -> Arc<SharedVec> {
    let mut data = Vec::with_capacity(source.len());
    let mut tags = Vec::with_capacity(source.len().div_ceil(BLOCK));
    for block in source.chunks(BLOCK) {
        data.extend_from_slice(block);
        tags.push(crc32c::crc32c(block));
    }
    Arc::new(SharedVec { data, tags })
}

pub(crate) struct SharedVec {
    data: Vec<u8>,
    tags: Vec<u32>,
}

impl SharedVec {
    pub(crate) fn is_intact(&self) -> bool {
        let mut blocks = self.data.chunks(BLOCK).zip(&self.tags);
        blocks.all(|(block, tag)| crc32c::crc32c(block) == *tag)
    }
}

fn whole(data: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, data) as u32
}

impl Contender for Plain {
    fn write(&mut self, source: &[u8]) {
        if let Tags::PerBlock = self.kind {
            // Block by block, while the block is in the cache.
            let blocks = source.chunks(BLOCK).zip(self.data.chunks_mut(BLOCK));
            for ((source, block), tag) in blocks.zip(&mut self.tags) {
                block.copy_from_slice(source);
                *tag = crc32c::crc32c(block);
            }
            return;
        }
        self.data.copy_from_slice(source);
        self.tag();
    }

    fn read(&mut self, destination: &mut [u8]) -> bool {
        match self.kind {
            Tags::None => {
                destination.copy_from_slice(&self.data);
                true
            }
            Tags::Whole => {
                let intact = Some(&whole(&self.data)) == self.tags.first();
                destination.copy_from_slice(&self.data);
                intact
            }
            Tags::PerBlock => {
                let blocks = self.data.chunks(BLOCK).zip(destination.chunks_mut(BLOCK));
                let mut intact = true;
                for ((block, destination), tag) in blocks.zip(&self.tags) {
                    intact &= crc32c::crc32c(block) == *tag;
                    destination.copy_from_slice(block);
                }
                intact
            }
        }
    }

    fn write_with_hit(&mut self, source: &[u8], bit: usize) -> Option<bool> {
        self.data.copy_from_slice(source);
        self.flip(bit);
        self.tag();
        Some(true)
    }

    fn flip(&mut self, bit: usize) -> bool {
        let byte = self.data.get_mut(bit / 8);
        byte.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
    }
}

struct Locked(Mutex<Box<Plain>>);

impl Contender for Locked {
    fn write(&mut self, source: &[u8]) {
        let mut plain = self.0.lock().unwrap();
        plain.data.copy_from_slice(source);
        plain.tag();
    }

    fn read(&mut self, destination: &mut [u8]) -> bool {
        self.0.lock().unwrap().read(destination)
    }

    fn write_with_hit(&mut self, source: &[u8], bit: usize) -> Option<bool> {
        self.0.lock().unwrap().write_with_hit(source, bit)
    }

    fn flip(&mut self, bit: usize) -> bool {
        self.0.lock().unwrap().flip(bit)
    }
}

/// Memory that threads share, word by word: the copy that a reader beside a writer may make without
/// a check. The compiler merges no two of these loads and stores, as it does those of plain words.
struct Words(Vec<AtomicU64>);

impl Contender for Words {
    fn write(&mut self, source: &[u8]) {
        let (words, _) = source.as_chunks();
        for (word, slot) in words.iter().zip(&self.0) {
            slot.store(u64::from_le_bytes(*word), Ordering::Relaxed);
        }
    }

    fn read(&mut self, destination: &mut [u8]) -> bool {
        let (slots, _) = destination.as_chunks_mut();
        for (slot, word) in slots.iter_mut().zip(&self.0) {
            *slot = word.load(Ordering::Relaxed).to_le_bytes();
        }
        true
    }

    fn write_with_hit(&mut self, source: &[u8], bit: usize) -> Option<bool> {
        self.write(source);
        self.flip(bit);
        Some(true)
    }

    fn flip(&mut self, bit: usize) -> bool {
        let word = self.0.get_mut(bit / 64);
        word.map(|word| *word.get_mut() ^= 1 << (bit % 64))
            .is_some()
    }
}

/// A message of a pool. Like every contender it has its memory before the clock starts: a write is
/// what is appended to a slot that is held, a read is that of the frozen message. What a slot costs
/// to get and to give back is among the steps.
struct Pooled {
    pool: MessagePool,
    writer: Option<PooledWriter>,
    message: Option<FrozenBuffer>,
    /// The heap's buffer goes through the same code and can be hit on the way.
    hit: Option<CheckedBuffer>,
    bytes: usize,
}

fn pool(bytes: usize, level: VerificationLevel) -> Box<dyn Contender> {
    let class = SizeClass {
        slot_bytes: bytes,
        slots: 1,
    };
    Box::new(Pooled {
        pool: MessagePool::new(&[class], level, OnReturn::Keep).unwrap(),
        writer: None,
        message: None,
        hit: None,
        bytes,
    })
}

impl Pooled {
    fn freeze(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.message = Some(writer.freeze());
        }
    }
}

impl Contender for Pooled {
    fn write(&mut self, source: &[u8]) {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                (self.hit, self.message) = (None, None);
                none.insert(self.pool.acquire(self.bytes).unwrap())
            }
        };
        writer.clear();
        writer.append(source).unwrap();
    }

    fn read(&mut self, destination: &mut [u8]) -> bool {
        self.freeze();
        let read = match (&self.hit, &self.message) {
            (Some(hit), _) => hit.read(),
            (None, Some(message)) => message.read(),
            (None, None) => return false,
        };
        read.map(|bytes| destination.copy_from_slice(bytes)).is_ok()
    }

    fn write_with_hit(&mut self, source: &[u8], bit: usize) -> Option<bool> {
        let mut writer = BufferWriter::with_limit(self.bytes).level(self.pool.level());
        let arrived = writer.append_with_hit(source, bit).is_ok();
        self.hit = Some(writer.finish());
        Some(arrived)
    }

    fn flip(&mut self, bit: usize) -> bool {
        self.freeze();
        let message = self.message.as_mut();
        message.is_some_and(|message| message.flip_bit(bit))
    }
}
