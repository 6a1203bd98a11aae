//! Nothing is allocated between the making of a pool and its end. A binary of its own, for the
//! allocator that counts.
#![cfg(not(loom))]
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    reason = "an allocator is unsafe to implement; a panic fails the test"
)]

use airssys_integrity::{MessagePool, OnReturn, SampleRate, SizeClass, VerificationLevel};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated_between_acquire_and_the_last_drop() {
    let message = vec![7; 3_000];
    let mut copy = vec![0; 4_096];
    for level in [
        VerificationLevel::Off,
        VerificationLevel::Sampling(SampleRate::ONE_IN_64),
        VerificationLevel::Standard,
        VerificationLevel::Full,
        VerificationLevel::Redundant,
    ] {
        let class = SizeClass {
            slot_bytes: 4_096,
            slots: 2,
        };
        let pool = MessagePool::new(&[class], level, OnReturn::Wipe).unwrap();
        let before = ALLOCATIONS.get();
        for _ in 0..100 {
            let mut writer = pool.acquire(3_000).unwrap();
            let dropped = pool.acquire(1).unwrap();
            assert!(pool.acquire(1).is_err() && pool.acquire(5_000).is_err());
            for part in message.chunks(700) {
                writer.append(part).unwrap();
            }
            writer.append(&[0]).unwrap_err();
            let frozen = writer.freeze();
            let clone = frozen.clone();
            assert_eq!(clone.read().unwrap(), message);
            assert_eq!(frozen.verify().is_err(), level == VerificationLevel::Off);
            assert_eq!(
                frozen.seal(&mut copy).is_err(),
                level == VerificationLevel::Off
            );
            drop((frozen, dropped, clone));
        }
        assert_eq!(ALLOCATIONS.get(), before, "{level:?}");
        assert_eq!(pool.free_slots(0), 2);
    }
    let before = ALLOCATIONS.get();
    drop(Box::new(copy));
    assert!(ALLOCATIONS.get() > before, "the allocator counts");
}
