//! Nothing piles up: in the guest, in the pool, in the host.

use airssys::Val;
use airssys_guests::CALCULATOR;

use crate::support::{
    Alone, PAGE, Tree, block_on, component, in_a_process_of_its_own, number, resident,
    shared_machine,
};

const MIB: usize = 1_048_576;

/// How much more of the process may be resident after a loop than before it.
const RESIDENT_SLACK: usize = 6 * MIB;

async fn echo(alone: &Alone, times: u32) {
    for i in 0..times {
        let length = 1 + usize::try_from(i % 2048).unwrap();
        let bytes = [Val::List(vec![Val::U8(i.to_le_bytes()[0]); length])];
        assert_eq!(alone.call("echo", &bytes).await.unwrap(), bytes);
    }
}

#[test]
fn a_thousand_calls_leave_the_guests_memory_as_it_was() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::guest(CALCULATOR, 2 * MIB, "").await;
        echo(&alone, 2048).await;
        let before = alone.component.memory().unwrap();
        echo(&alone, 1000).await;
        assert_eq!(alone.component.memory().unwrap(), before);
        alone.host.shutdown().await;
    });
}

#[test]
fn ten_thousand_calls_leave_the_process_as_large_as_it_was() {
    let _machine = shared_machine();
    if !in_a_process_of_its_own(
        "memory_leak_test::ten_thousand_calls_leave_the_process_as_large_as_it_was",
    ) {
        return;
    }
    block_on(async {
        let alone = Alone::guest(CALCULATOR, 2 * MIB, "").await;
        echo(&alone, 3000).await;
        let (memory, before) = (alone.component.memory().unwrap(), resident());
        echo(&alone, 10_000).await;
        let grown = resident().saturating_sub(before);
        println!("10,000 calls: {} KiB more", grown / 1024);
        assert!(grown < RESIDENT_SLACK, "{grown} bytes more");
        assert_eq!(alone.component.memory().unwrap(), memory);
        alone.host.shutdown().await;
    });
}

/// A hundred calls each; ten thousand each with `AIRSSYS_FULL=1`.
#[test]
fn calls_of_a_hundred_components_leave_the_process_as_large_as_it_was() {
    let _machine = shared_machine();
    if !in_a_process_of_its_own(
        "memory_leak_test::calls_of_a_hundred_components_leave_the_process_as_large_as_it_was",
    ) {
        return;
    }
    let full = std::env::var_os("AIRSSYS_FULL").is_some();
    let (calls, limit) = if full { (10_000, 1_200) } else { (100, 60) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let tree = (0..100).fold(Tree::new(), |tree, n| {
            tree.guest(&format!("calculator-{n}"), CALCULATOR)
        });
        let host = tree.start().await.unwrap();
        let round = async |calls: usize| {
            let callers = (0..100).map(|n| {
                let calculator = host.component(&format!("calculator-{n}")).unwrap();
                tokio::spawn(async move {
                    let bytes = vec![7; 1024];
                    for _ in 0..calls {
                        assert_eq!(calculator.call_bytes("echo", &bytes).await.unwrap(), bytes);
                    }
                })
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await.unwrap();
            }
        };
        round(50).await;
        let before = resident();
        let limit = std::time::Duration::from_secs(limit);
        tokio::time::timeout(limit, round(calls)).await.unwrap();
        let grown = resident().saturating_sub(before);
        println!("100 x {calls} calls: {} KiB more", grown / 1024);
        assert!(grown < RESIDENT_SLACK, "{grown} bytes more");
        host.shutdown().await;
    });
}

/// Makes its memory dirty, asks for too much of it and traps.
const GLUTTON: &str = r#"
    (memory 1)
    (func (export "eat") (local $at i32)
        (drop (memory.grow (i32.const 14)))
        (loop $next
            (i32.store (local.get $at) (i32.const -1))
            (local.set $at (i32.add (local.get $at) (i32.const 4096)))
            (br_if $next (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
        (drop (memory.grow (i32.const 2)))
        unreachable)
    (func (export "dirty") (result i32) (local $at i32) (local $found i32)
        (drop (memory.grow (i32.const 15)))
        (loop $next
            (local.set $found (i32.add (local.get $found) (i64.ne (i64.load (local.get $at)) (i64.const 0))))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $next (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
        (local.get $found))
"#;

fn glutton() -> String {
    component(GLUTTON, false, &[("eat", ""), ("dirty", "(result u32)")])
}

#[test]
fn a_thousand_instances_leave_the_process_as_large_as_it_was() {
    let _machine = shared_machine();
    if !in_a_process_of_its_own(
        "memory_leak_test::a_thousand_instances_leave_the_process_as_large_as_it_was",
    ) {
        return;
    }
    block_on(async {
        let alone = Alone::text(&glutton(), MIB, "").await;
        for _ in 0..200 {
            alone.call("eat", &[]).await.unwrap_err();
        }
        let before = resident();
        for _ in 0..1000 {
            alone.call("eat", &[]).await.unwrap_err();
        }
        let grown = resident().saturating_sub(before);
        println!("1,000 instances: {} KiB more", grown / 1024);
        assert!(grown < RESIDENT_SLACK, "{grown} bytes more");
        alone.host.shutdown().await;
    });
}

#[test]
fn a_reused_place_in_the_pool_is_all_zeros() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&glutton(), MIB, "").await;
        for round in 0..100 {
            alone.call("eat", &[]).await.unwrap_err();
            assert_eq!(alone.number("dirty", &[]).await, 0, "round {round}");
            let metrics = alone.component.memory().unwrap();
            assert_eq!(metrics.current_bytes, 16 * PAGE);
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn hosts_that_come_and_go_leave_the_process_as_large_as_it_was() {
    let _machine = shared_machine();
    if !in_a_process_of_its_own(
        "memory_leak_test::hosts_that_come_and_go_leave_the_process_as_large_as_it_was",
    ) {
        return;
    }
    let live = || {
        block_on(async {
            let alone = Alone::text(&glutton(), MIB, "").await;
            assert_eq!(number(&alone.call("dirty", &[]).await.unwrap()), 0);
            alone.host.shutdown().await;
        });
    };
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    (0..5).for_each(|_| live());
    let (before, threads_before, files_before) = (resident(), threads(), files());
    (0..20).for_each(|_| live());
    let grown = resident().saturating_sub(before);
    println!("20 hosts: {} KiB more", grown / 1024);
    assert!(grown < RESIDENT_SLACK, "{grown} bytes more");
    // A thread that has been joined is listed for a moment yet.
    for _ in 0..1_000 {
        if threads() <= threads_before {
            break;
        }
        std::thread::yield_now();
    }
    assert!(
        threads() <= threads_before,
        "{} threads, {threads_before} before",
        threads()
    );
    assert!(
        files() <= files_before,
        "{} files, {files_before} before",
        files()
    );
}
