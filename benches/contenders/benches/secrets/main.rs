//! Costs of an access to a secret, beside an `mprotect` pair for each access and beside the crate
//! memsafe, in nanoseconds: `cargo bench -p airssys-contenders --bench secrets`.
//!
//! The ways take turns, so that what else the machine does meets them alike. Each figure has a look
//! at the clock in it, whose cost is the first line.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot be made should end the run"
)]

use std::hint::black_box;
use std::ptr;
use std::sync::{Barrier, Mutex};
use std::time::Instant;

use airssys_osl::{ProtectedSecret, SecretLimits, SecretMemory, SecretPolicy};
use memsafe::MemSafe;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

const BYTES: usize = 32;
const ROUNDS: usize = 20;
const ACCESSES: usize = 2_000;

/// A page that is made readable for each access, and unreadable after it.
struct Page(*mut std::ffi::c_void);

// SAFETY: the mapping is never unmapped, and only read under the lock around this.
unsafe impl Send for Page {}

impl Page {
    fn new() -> Self {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let page = unsafe {
            rustix::mm::mmap_anonymous(
                ptr::null_mut(),
                rustix::param::page_size(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let page = Self(page.unwrap());
        // SAFETY: the mapping above, one page long.
        unsafe { rustix::mm::mlock(page.0, rustix::param::page_size()) }.unwrap();
        // SAFETY: as above, writable.
        unsafe { page.0.cast::<[u8; BYTES]>().write([7; BYTES]) };
        page.protect(MprotectFlags::empty());
        page
    }

    fn protect(&self, flags: MprotectFlags) {
        // SAFETY: our own mapping, which nobody reads meanwhile.
        unsafe { rustix::mm::mprotect(self.0, rustix::param::page_size(), flags) }.unwrap();
    }

    fn read(&self) -> u8 {
        self.protect(MprotectFlags::READ);
        // SAFETY: readable until the next line.
        let byte = unsafe { self.0.cast::<u8>().read_volatile() };
        self.protect(MprotectFlags::empty());
        byte
    }
}

fn main() {
    let memory = SecretMemory::new(SecretPolicy::BestEffort, SecretLimits::default());
    let secret = ProtectedSecret::random(&memory, BYTES).unwrap();
    let held = ProtectedSecret::random(&memory, BYTES).unwrap();
    let page = Mutex::new(Page::new());
    let safe = Mutex::new(MemSafe::new([7_u8; BYTES]).unwrap());
    println!("{:?}", secret.protection_report());

    let first = || usize::from(secret.access().unwrap()[0]);
    let shared = || usize::from(held.access().unwrap()[0]);
    let pair = || usize::from(page.lock().unwrap().read());
    let memsafe = || usize::from(safe.lock().unwrap().read().unwrap()[0]);
    let ways: [(&str, &(dyn Fn() -> usize + Sync)); 5] = [
        ("the clock", &|| 0),
        ("access", &first),
        ("access, held by another", &shared),
        ("mprotect pair", &pair),
        ("memsafe", &memsafe),
    ];
    println!("| {:24} | readers | p50 ns | p95 ns |", "way");
    println!("| {} | ------- | ------ | ------ |", "-".repeat(24));
    for readers in [1, 4] {
        let mut samples = vec![Vec::new(); ways.len()];
        for _ in 0..ROUNDS {
            for (way, samples) in ways.iter().zip(&mut samples) {
                // Only the one way profits from it; the others' pages have no other reader.
                let guard = (way.0.contains("held")).then(|| held.access().unwrap());
                samples.extend(measure(readers, way.1));
                drop(guard);
            }
        }
        for (way, samples) in ways.iter().zip(&mut samples) {
            samples.sort_unstable();
            let at = |percent: usize| samples[samples.len() * percent / 100];
            println!(
                "| {:24} | {readers:7} | {:6} | {:6} |",
                way.0,
                at(50),
                at(95)
            );
        }
    }

    let mut made = Vec::new();
    for len in [BYTES, 5_000] {
        for _ in 0..ACCESSES {
            let start = Instant::now();
            let secret = ProtectedSecret::random(&memory, len).unwrap();
            secret.close().unwrap();
            made.push(start.elapsed().as_nanos());
        }
        made.sort_unstable();
        println!(
            "made and closed, {len} bytes: p50 {} ns",
            made[made.len() / 2]
        );
        made.clear();
    }
}

/// Nanoseconds of each access by each of so many readers at once.
fn measure(readers: usize, way: &(dyn Fn() -> usize + Sync)) -> Vec<u128> {
    let begin = Barrier::new(readers);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..readers)
            .map(|_| {
                scope.spawn(|| {
                    begin.wait();
                    let mut samples = Vec::with_capacity(ACCESSES);
                    for _ in 0..ACCESSES {
                        let start = Instant::now();
                        black_box(way());
                        samples.push(start.elapsed().as_nanos());
                    }
                    samples
                })
            })
            .collect();
        let joined = threads.into_iter().flat_map(|t| t.join().unwrap());
        joined.collect()
    })
}
