//! What ten thousand tasks leave allocated, counted by the allocator. In a process of its own, so
//! that nothing else allocates meanwhile.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that meets something unexpected should fail there"
)]
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use airssys_rt::TaskRegistry;

struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every request goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised for this layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `memory` came from `alloc` above with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TASKS: usize = 10_000;
/// Room for what the runtime itself keeps, far below one byte per task.
const SLACK_BYTES: usize = 4096;

#[test]
fn ten_thousand_tasks_leave_no_memory_behind() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks = TaskRegistry::new();
        one_after_the_other(&tasks, 100).await;
        grow_the_run_queue().await;
        let before = LIVE_BYTES.load(Ordering::SeqCst);
        one_after_the_other(&tasks, TASKS).await;
        let after = LIVE_BYTES.load(Ordering::SeqCst);
        assert!(
            after <= before + SLACK_BYTES,
            "{before} -> {after} bytes, one after the other"
        );

        all_at_once(&tasks).await;
        let after = LIVE_BYTES.load(Ordering::SeqCst);
        assert!(
            after <= before + SLACK_BYTES,
            "{before} -> {after} bytes, all at once"
        );
        assert_eq!((tasks.counts().active, tasks.counts().total), (0, 20_100));
    });
}

/// The runtime keeps the room of its longest run queue. That is not the registry's.
async fn grow_the_run_queue() {
    let tasks: Vec<_> = (0..=TASKS).map(|_| tokio::spawn(async {})).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn one_after_the_other(tasks: &TaskRegistry, count: usize) {
    for _ in 0..count {
        tasks.spawn("one", tokio::task::yield_now()).unwrap().await;
    }
}

async fn all_at_once(tasks: &TaskRegistry) {
    for _ in 0..TASKS {
        drop(tasks.spawn("one of many", pending::<()>()).unwrap());
    }
    tokio::time::sleep(Duration::from_secs(70)).await;
}
