//! Looking for a value in all of the process's memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use rustix::mm::{MapFlags, ProtFlags};

/// 32 random bytes that are in memory only turned over.
#[derive(Clone, Copy)]
pub(super) struct Needle([u8; 32]);

impl Needle {
    pub(super) fn random() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).unwrap();
        Self(bytes)
    }

    pub(super) fn of(value: &[u8]) -> Self {
        Self(std::array::from_fn(|at| !value[at]))
    }

    pub(super) fn from_hex(text: &str) -> Self {
        Self(std::array::from_fn(|at| {
            u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()
        }))
    }

    /// The bytes as they are kept, not as they are looked for.
    pub(super) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Writes the value itself.
    pub(super) fn write(&self, to: &mut [u8]) {
        for (to, byte) in to.iter_mut().zip(self.0) {
            *to = !byte;
        }
    }

    pub(super) fn is(&self, value: &[u8]) -> bool {
        value.len() == 32 && self.starts(value)
    }

    fn starts(&self, value: &[u8]) -> bool {
        value.len() >= 32 && value.iter().zip(self.0).all(|(a, b)| *a == !b)
    }

    /// Where it lies in memory that the process can write, now or after `mprotect`.
    pub(super) fn find(&self) -> Vec<usize> {
        const CHUNK: usize = 1 << 20;
        const BUFFER: usize = CHUNK + 31;
        // A mapping of its own, to be left out of the search.
        // SAFETY: a new mapping at an address of the kernel's choice.
        let buffer = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                BUFFER,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
        .unwrap();
        // SAFETY: the mapping above, used by nobody else.
        let chunk = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), BUFFER) };
        let own = buffer.addr()..buffer.addr() + BUFFER;
        let memory = File::open("/proc/self/mem").unwrap();
        let mut found = Vec::new();
        for (start, end, flags) in mappings() {
            // Large ones without access are what the allocator reserves and has not touched.
            let reserved = flags.starts_with("---") && end - start > CHUNK;
            if reserved || flags.starts_with("r--") || flags.starts_with("r-x") {
                continue;
            }
            let mut at = start;
            while at < end {
                let len = (end - at).min(BUFFER);
                // Guard pages and secret memory cannot be read this way.
                if let Ok(read) = memory.read_at(&mut chunk[..len], at as u64) {
                    let first = !self.0[0];
                    let hits = (0..read).filter(|offset| {
                        chunk[*offset] == first && self.starts(&chunk[*offset..read])
                    });
                    found.extend(
                        hits.map(|offset| at + offset)
                            .filter(|hit| !own.contains(hit)),
                    );
                }
                at += CHUNK;
            }
        }
        chunk.fill(0);
        // SAFETY: the mapping above, whose slice is not used any more.
        unsafe { rustix::mm::munmap(buffer, BUFFER) }.unwrap();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Start, end and flags of each mapping.
pub(super) fn mappings() -> Vec<(usize, usize, String)> {
    let text = fs::read_to_string("/proc/self/maps").unwrap();
    text.lines()
        .map(|line| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            (number(start), number(end), rest[..4].to_owned())
        })
        .collect()
}

/// The bytes there, whatever the protection of an anonymous mapping.
pub(super) fn peek(address: usize, len: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    File::open("/proc/self/mem")?.read_exact_at(&mut bytes, address as u64)?;
    Ok(bytes)
}
