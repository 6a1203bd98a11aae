//! What one instance may have besides bytes, how it is told, and how long it may wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use airssys::{Counted, DeadlinePhase, ExitCause, HostError, OutOfMemory, TooMany, Val};
use airssys_guests::SPINNER;
use airssys_wasm::{MAX_CORE_INSTANCES, MAX_HANDLES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES};

use crate::support::{
    Alone, PAGE, Tree, block_on, component, machine_to_itself, shared_machine, start_failure,
};

const MIB: usize = 1_048_576;

fn too_many(cause: &ExitCause) -> TooMany {
    match cause {
        ExitCause::TooMany(figures) => *figures,
        other => panic!("not too many: {other}"),
    }
}

fn figures(what: Counted, limit: usize) -> TooMany {
    let wanted = limit + 1;
    TooMany {
        what,
        limit,
        wanted,
    }
}

/// The component with a line in one section of its Component.toml.
async fn with_line(text: &str, section: &str, line: &str) -> Result<Alone, HostError> {
    let tree = Tree::new().text("alone", text, 4 * MIB, "");
    Alone::of(tree.line("alone", section, line)).await
}

async fn counting(text: &str, line: &str) -> Result<Alone, HostError> {
    with_line(text, "resources.counts", line).await
}

fn cores(module: &str, instances: usize) -> String {
    let instances = "(core instance (instantiate $m))".repeat(instances);
    format!("(component (core module $m {module}) {instances})")
}

/// A component that takes so many of what is counted to begin with, and the key that allows it.
fn taking(what: Counted, count: usize) -> String {
    match what {
        Counted::Memories => component(&"(memory 1)".repeat(count), false, &[]),
        Counted::Tables => component(&"(table 1 funcref)".repeat(count), false, &[]),
        Counted::Instances => cores("", count),
        Counted::TableElements => component(&format!("(table {count} funcref)"), false, &[]),
        other => panic!("{other} are taken in calls"),
    }
}

#[test]
fn a_count_beyond_its_limit_is_named_with_both_figures() {
    let _machine = shared_machine();
    block_on(async {
        let two_tables = "(table 10000 funcref) (table 10001 funcref)";
        let cases = [
            (taking(Counted::Memories, 9), figures(Counted::Memories, 8)),
            // Empty memories cost nothing, and still their number is bounded.
            (cores("(memory 0)", 9), figures(Counted::Memories, 8)),
            (taking(Counted::Tables, 17), figures(Counted::Tables, 16)),
            (cores("(table 0 funcref)", 17), figures(Counted::Tables, 16)),
            (
                taking(Counted::Instances, 65),
                figures(Counted::Instances, 64),
            ),
            // Beyond what any component may be allowed.
            (
                taking(Counted::Instances, 900),
                figures(Counted::Instances, 64),
            ),
            (
                taking(Counted::Memories, 60),
                TooMany {
                    wanted: 60,
                    ..figures(Counted::Memories, 8)
                },
            ),
            (
                taking(Counted::Tables, 100),
                TooMany {
                    wanted: 100,
                    ..figures(Counted::Tables, 16)
                },
            ),
            (
                taking(Counted::TableElements, 20_001),
                figures(Counted::TableElements, 20_000),
            ),
            (
                component(two_tables, false, &[]),
                figures(Counted::TableElements, 20_000),
            ),
        ];
        for (text, expected) in cases {
            let cause = start_failure(Alone::try_text(&text, 4 * MIB, "").await);
            assert_eq!(too_many(&cause), expected, "{cause}");
        }
    });
}

#[test]
fn counts_are_held_at_their_highest_and_lowest() {
    let _machine = shared_machine();
    block_on(async {
        let tables = |count: usize| component(&"(table 1 funcref)".repeat(count), false, &[]);
        assert_eq!(tables(1), taking(Counted::Tables, 1));
        for (what, key, highest) in [
            (Counted::Memories, "max_memories", MAX_MEMORIES),
            (Counted::Tables, "max_tables", MAX_TABLES),
            (Counted::Instances, "max_instances", MAX_CORE_INSTANCES),
            (
                Counted::TableElements,
                "max_table_elements",
                MAX_TABLE_ELEMENTS,
            ),
        ] {
            for most in [1, highest] {
                let line = format!("{key} = {most}");
                let alone = counting(&taking(what, most), &line).await.unwrap();
                alone.host.shutdown().await;
                // The pool has no room for a larger table.
                if what != Counted::TableElements || most < highest {
                    let cause = start_failure(counting(&taking(what, most + 1), &line).await);
                    assert_eq!(too_many(&cause), figures(what, most));
                }
            }
        }
    });
}

/// Grows its table, which may be refused, and takes handles of the host's and of its own.
pub const TAKER: &str = r#"(component
    (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type $pollable (sub resource)))))
    (alias export $poll "pollable" (type $pollable))
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
        (alias outer 1 $pollable (type $p))
        (export "pollable" (type $pollable (eq $p)))
        (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
    (type $own (resource (rep i32)))
    (core func $subscribe (canon lower (func $clock "subscribe-duration")))
    (core func $new (canon resource.new $own))
    (core func $drop (canon resource.drop $own))
    (core module $m
        (import "h" "subscribe" (func $subscribe (param i64) (result i32)))
        (import "h" "new" (func $new (param i32) (result i32)))
        (import "h" "drop" (func $drop (param i32)))
        (table $t 1 funcref)
        (memory 1)
        (func (export "elements") (param i32) (result i32)
            (table.grow $t (ref.null func) (local.get 0)))
        (func (export "elements-or-trap") (param i32)
            (if (i32.eq (i32.const -1) (table.grow $t (ref.null func) (local.get 0)))
                (then unreachable)))
        (func (export "pages") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "pollables") (param i32)
            (loop $next
                (drop (call $subscribe (i64.const 1000000000)))
                (br_if $next (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
        (func (export "resources") (param i32)
            (loop $next
                (drop (call $new (i32.const 7)))
                (br_if $next (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
        (func (export "churn") (param i32)
            (loop $next
                (call $drop (call $new (i32.const 7)))
                (br_if $next (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))
    (core instance $i (instantiate $m (with "h" (instance
        (export "subscribe" (func $subscribe)) (export "new" (func $new)) (export "drop" (func $drop))))))
    (func (export "elements") (param "n" u32) (result s32) (canon lift (core func $i "elements")))
    (func (export "pages") (param "n" u32) (result s32) (canon lift (core func $i "pages")))
    (func (export "elements-or-trap") (param "n" u32) (canon lift (core func $i "elements-or-trap")))
    (func (export "pollables") (param "n" u32) (canon lift (core func $i "pollables")))
    (func (export "resources") (param "n" u32) (canon lift (core func $i "resources")))
    (func (export "churn") (param "n" u32) (canon lift (core func $i "churn"))))"#;

#[test]
fn table_elements_are_bounded_in_calls_too() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counting(TAKER, "max_table_elements = 100").await.unwrap();
        assert_eq!(alone.number("elements", &[Val::U32(99)]).await, 1);
        assert_eq!(alone.number("elements", &[Val::U32(1)]).await, -1);
        assert_eq!(alone.number("elements", &[Val::U32(0)]).await, 100);
        let cause = alone.exit("elements-or-trap", &[Val::U32(1)]).await;
        assert_eq!(too_many(&cause), figures(Counted::TableElements, 100));
        // What memory has no room for is memory's to refuse.
        let cause = alone.exit("elements-or-trap", &[Val::U32(1 << 20)]).await;
        assert!(matches!(*cause, ExitCause::OutOfMemory(_)), "{cause}");
        alone
            .call("elements-or-trap", &[Val::U32(99)])
            .await
            .unwrap();
        alone.host.shutdown().await;
    });
}

#[test]
fn handles_of_the_host_and_of_the_guest_are_bounded() {
    let _machine = shared_machine();
    block_on(async {
        for (line, most) in [
            ("", 1024),
            ("max_handles = 7", 7),
            ("max_handles = 4096", MAX_HANDLES),
        ] {
            let alone = counting(TAKER, line).await.unwrap();
            // A pollable takes two places in the host's table.
            for (function, count) in [("pollables", most / 2), ("resources", most)] {
                let count = [Val::U32(u32::try_from(count).unwrap())];
                for _ in 0..2 {
                    alone.call(function, &count).await.unwrap();
                    let cause = alone.exit(function, &[Val::U32(1)]).await;
                    let expected = figures(Counted::Handles, most);
                    assert_eq!(too_many(&cause), expected, "{function}");
                }
            }
            // One at a time is one.
            alone.call("churn", &[Val::U32(20_000)]).await.unwrap();
            alone.host.shutdown().await;
        }
    });
}

#[test]
fn growth_beyond_the_limit_ends_the_call_where_the_component_says_so() {
    let _machine = shared_machine();
    block_on(async {
        let memory = "resources.memory";
        let trap = "on_limit = \"trap\"";
        let alone = with_line(TAKER, memory, trap).await.unwrap();
        assert_eq!(alone.number("pages", &[Val::U32(4)]).await, 1);
        let held = 5 * PAGE + 8;
        let expected = OutOfMemory {
            limit_bytes: 4 * MIB,
            current_bytes: held,
            requested_bytes: 60 * PAGE,
            peak_bytes: held,
        };
        let cause = alone.exit("pages", &[Val::U32(60)]).await;
        assert!(
            matches!(&*cause, ExitCause::OutOfMemory(figures) if *figures == expected),
            "{cause}"
        );
        let cause = alone.exit("elements", &[Val::U32(20_000)]).await;
        assert_eq!(too_many(&cause), figures(Counted::TableElements, 20_000));
        assert_eq!(alone.number("elements", &[Val::U32(19_999)]).await, 1);
        alone.host.shutdown().await;
        // While it starts: of memories that are too large together, of tables, and of growth that
        // its start function could do without.
        for core in [
            "(memory 40) (memory 25)",
            "(memory 63) (table 9000 funcref)",
            "(memory 1) (func $start (drop (memory.grow (i32.const 64)))) (start $start)",
        ] {
            let text = component(core, false, &[]);
            let cause = start_failure(with_line(&text, memory, trap).await);
            let ExitCause::OutOfMemory(told) = &*cause else {
                panic!("{core}: {cause}");
            };
            assert!(
                told.current_bytes + told.requested_bytes > 4 * MIB,
                "{told}"
            );
        }
        let text = component("(table 10000 funcref) (table 10001 funcref)", false, &[]);
        let cause = start_failure(with_line(&text, memory, trap).await);
        assert_eq!(too_many(&cause), figures(Counted::TableElements, 20_000));
        // A memory's own maximum is not the limit's affair.
        let core = "(memory 1 2)
            (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0)))";
        let grow = [("grow", "(param \"pages\" u32) (result s32)")];
        let alone = with_line(&component(core, false, &grow), memory, trap).await;
        let alone = alone.unwrap();
        assert_eq!(alone.number("grow", &[Val::U32(2)]).await, -1);
        alone.host.shutdown().await;
    });
}

/// Waits, computes, and waits often.
pub const WAITER: &str = r#"(component
    (import "wasi:io/poll@0.2.0" (instance $poll
        (export "pollable" (type $pollable (sub resource)))
        (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
    (alias export $poll "pollable" (type $pollable))
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
        (alias outer 1 $pollable (type $p))
        (export "pollable" (type $pollable (eq $p)))
        (export "now" (func (result u64)))
        (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
    (core func $block (canon lower (func $poll "[method]pollable.block")))
    (core func $drop (canon resource.drop $pollable))
    (core func $now (canon lower (func $clock "now")))
    (core func $subscribe (canon lower (func $clock "subscribe-duration")))
    (core module $m
        (import "h" "block" (func $block (param i32)))
        (import "h" "drop" (func $drop (param i32)))
        (import "h" "now" (func $now (result i64)))
        (import "h" "subscribe" (func $subscribe (param i64) (result i32)))
        (func (export "wait") (param i32 i64) (local i32)
            (loop $again
                (local.set 2 (call $subscribe (i64.mul (i64.const 1000000) (local.get 1))))
                (call $block (local.get 2))
                (call $drop (local.get 2))
                (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
        (func (export "compute") (param i64) (local i64)
            (local.set 1 (i64.add (call $now) (i64.mul (i64.const 1000000) (local.get 0))))
            (loop $again (br_if $again (i64.lt_u (call $now) (local.get 1))))))
    (core instance $i (instantiate $m (with "h" (instance
        (export "block" (func $block)) (export "drop" (func $drop))
        (export "now" (func $now)) (export "subscribe" (func $subscribe))))))
    (func (export "wait") (param "times" u32) (param "ms" u64) (canon lift (core func $i "wait")))
    (func (export "compute") (param "ms" u64) (canon lift (core func $i "compute"))))"#;

/// Ends by the limit on waits, and how long after `began`.
async fn cut(alone: &Alone, function: &str, arguments: &[Val]) -> Duration {
    let began = Instant::now();
    let cause = alone.exit(function, arguments).await;
    let second = Duration::from_secs(1);
    assert!(
        matches!(&*cause, ExitCause::Deadline { limit, phase: DeadlinePhase::Waiting }
            if *limit == second),
        "{function}: {cause}"
    );
    began.elapsed()
}

#[test]
fn a_wait_for_the_host_ends_at_its_limit_and_computing_does_not() {
    let _machine = machine_to_itself();
    block_on(async {
        let second = Duration::from_secs(1);
        let line = "host_wait_seconds = 1\ntimeout_seconds = 20";
        let alone = Arc::new(Alone::text(WAITER, MIB, line).await);
        let guest = Arc::new(Alone::guest(SPINNER, MIB, line).await);
        let other = Arc::new(Alone::text(WAITER, MIB, line).await);
        let wait = |times: u32, ms: u64| [Val::U32(times), Val::U64(ms)];
        let long = tokio::spawn({
            let alone = Arc::clone(&alone);
            async move {
                let took = cut(&alone, "wait", &[Val::U32(1), Val::U64(600_000)]).await;
                assert!(took >= second && took < 2 * second, "{took:?}");
                // The instance after it waits briefly, often, for longer than that together.
                let began = Instant::now();
                alone.call("wait", &wait(8, 200)).await.unwrap();
                assert!(began.elapsed() > second);
            }
        });
        let parked = tokio::spawn({
            let guest = Arc::clone(&guest);
            async move {
                let took = cut(&guest, "park-ms", &[Val::U64(600_000)]).await;
                assert!(took >= second && took < 2 * second, "{took:?}");
            }
        });
        // Two compute at once and yield to each other; neither waits for the host.
        let computing = tokio::spawn({
            let other = Arc::clone(&other);
            async move {
                other.call("compute", &[Val::U64(2500)]).await.unwrap();
                // Briefly in the host after it, and then for too long.
                other.call("wait", &wait(1, 1)).await.unwrap();
                let took = cut(&other, "wait", &[Val::U32(1), Val::U64(600_000)]).await;
                assert!(took >= second && took < 2 * second, "{took:?}");
            }
        });
        for task in [long, parked, computing] {
            task.await.unwrap();
        }
        // A closure that never ends waits as its guest would.
        let began = Instant::now();
        let hung = alone
            .component
            .run::<(), _>(|_, _| Box::pin(std::future::pending()))
            .await;
        let cause = crate::support::exit(hung.map(|()| Vec::new()));
        assert!(matches!(&*cause, ExitCause::Deadline { limit, .. } if *limit == second));
        assert!(began.elapsed() < 2 * second);
        for host in [&alone.host, &guest.host, &other.host] {
            host.shutdown().await;
        }
    });
}

#[test]
fn a_start_that_waits_for_the_host_ends_at_the_limit_on_waits() {
    let _machine = machine_to_itself();
    block_on(async {
        let text = WAITER.replacen(
            "(func (export \"compute\")",
            "(func $start (call $block (call $subscribe (i64.const 600000000000)))) (start $start)
            (func (export \"compute\")",
            1,
        );
        let cause = start_failure(Alone::try_text(&text, MIB, "host_wait_seconds = 1").await);
        assert!(
            matches!(&*cause, ExitCause::Deadline { limit, phase: DeadlinePhase::Waiting }
                if *limit == Duration::from_secs(1)),
            "{cause}"
        );
    });
}
