//! One component against its own limit: what it may hold, and what is told when it wants more.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use airssys::{
    DeadlinePhase, ExitCause, ExitKind, HostError, MAX_MEMORY_BYTES, MemoryMetrics, OutOfMemory,
    ResourceLimitError, ResourceLimits, Val, WasmError,
};
use airssys_guests::{CALCULATOR, LEAKY};
use airssys_wasm::{ComponentResourceLimiter, TABLE_ELEMENT_BYTES};
use wasmtime::ResourceLimiter;

use crate::support::{
    Alone, BUMP, PAGE, block_on, component, in_a_process_of_its_own, machine_to_itself,
    shared_machine, start_failure,
};

const KIB_512: usize = 524_288;
const MIB: usize = 1_048_576;

/// Grows its one memory in every way a guest can ask for it.
const GROWER: &str = r#"
    (memory 1)
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "size") (result i32) memory.size)
    (func (export "grow-then-trap") (param i32) (drop (memory.grow (local.get 0))) unreachable)
    (func (export "grow-then-spin") (param i32) (drop (memory.grow (local.get 0))) (loop (br 0)))
    (func (export "trap") unreachable)
"#;

const GROWER_EXPORTS: [(&str, &str); 5] = [
    ("grow", GROW),
    ("size", "(result u32)"),
    ("grow-then-trap", "(param \"pages\" u32)"),
    ("grow-then-spin", "(param \"pages\" u32)"),
    ("trap", ""),
];

const GROW: &str = "(param \"pages\" u32) (result s32)";

pub fn grower() -> String {
    component(GROWER, false, &GROWER_EXPORTS)
}

fn metrics(alone: &Alone) -> MemoryMetrics {
    alone.component.memory().unwrap()
}

/// Three memories and a table of one module, each grown by its own export.
const THREE_AND_A_TABLE: &str = r#"
    (memory $a 1) (memory $b 1) (memory $c 1) (table $t 1 funcref)
    (func (export "grow-a") (param i32) (result i32) (memory.grow $a (local.get 0)))
    (func (export "grow-b") (param i32) (result i32) (memory.grow $b (local.get 0)))
    (func (export "grow-c") (param i32) (result i32) (memory.grow $c (local.get 0)))
    (func (export "grow-t") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0)))
    (func (export "pages") (result i32)
        (i32.add (memory.size $a) (i32.add (memory.size $b) (memory.size $c))))
    (func (export "elements") (result i32) (table.size $t))
"#;

const THREE_EXPORTS: [(&str, &str); 6] = [
    ("grow-a", GROW),
    ("grow-b", GROW),
    ("grow-c", GROW),
    ("grow-t", GROW),
    ("pages", "(result u32)"),
    ("elements", "(result u32)"),
];

fn usize_of(number: i64) -> usize {
    usize::try_from(number).unwrap()
}

#[test]
fn a_component_never_holds_more_than_its_limit() {
    let _machine = shared_machine();
    block_on(async {
        // Whatever order a guest grows in, and however absurdly: what it sees as its own, in all
        // memories and the table together, is what the meter says, and never above the limit.
        let text = component(THREE_AND_A_TABLE, false, &THREE_EXPORTS);
        for limit in [KIB_512, MIB, 4 * MIB] {
            let alone = Alone::text(&text, limit, "").await;
            let asks = [
                0,
                1,
                2,
                3,
                7,
                61,
                1000,
                8192,
                65_535,
                65_536,
                65_537,
                0x7fff_ffff,
                u32::MAX,
            ];
            let mut random = 0x5eed_u64 + limit as u64;
            for step in 0..1500 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let dice = usize::try_from(random >> 33).unwrap();
                let (function, _) = THREE_EXPORTS[dice % 4];
                let ask = asks[dice / 4 % asks.len()];
                let before = metrics(&alone).current_bytes;
                let answer = alone.number(function, &[Val::U32(ask)]).await;
                let pages = usize_of(alone.number("pages", &[]).await);
                let elements = usize_of(alone.number("elements", &[]).await);
                let held = pages * PAGE + elements * TABLE_ELEMENT_BYTES;
                let now = metrics(&alone);
                assert_eq!(
                    held, now.current_bytes,
                    "step {step}: {function}({ask}) = {answer}"
                );
                assert!(
                    held <= limit && now.peak_bytes == held,
                    "step {step}: {now:?}"
                );
                assert!(
                    answer != -1 || held == before,
                    "step {step}: {function}({ask})"
                );
            }
            // The limit was reached, not merely kept at a distance.
            assert!(
                metrics(&alone).remaining_bytes() < PAGE,
                "{:?}",
                metrics(&alone)
            );
            assert!(metrics(&alone).denied_count > 0);
            alone.host.shutdown().await;
        }
    });
}

#[test]
fn the_last_page_of_the_limit_is_given_and_one_more_is_refused() {
    let _machine = shared_machine();
    block_on(async {
        for limit in [KIB_512, MIB, 4 * MIB] {
            let alone = Alone::text(&grower(), limit, "").await;
            let pages = u32::try_from(limit / PAGE).unwrap();
            assert_eq!(alone.number("grow", &[Val::U32(pages - 1)]).await, 1);
            assert_eq!(metrics(&alone).remaining_bytes(), 0);
            assert_eq!(alone.number("grow", &[Val::U32(1)]).await, -1);
            // The guest lives on, with all it had.
            assert_eq!(alone.number("size", &[]).await, i64::from(pages));
            assert_eq!(alone.number("grow", &[Val::U32(0)]).await, i64::from(pages));
            let expected = MemoryMetrics {
                current_bytes: limit,
                host_bytes: 0,
                max_bytes: limit,
                peak_bytes: limit,
                allocation_count: 2,
                denied_count: 1,
            };
            assert_eq!(metrics(&alone), expected);
            alone.host.shutdown().await;
        }
    });
}

#[test]
fn a_limit_that_is_no_whole_number_of_pages_is_kept_below() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&grower(), MIB + PAGE - 1, "").await;
        assert_eq!(alone.number("grow", &[Val::U32(15)]).await, 1);
        assert_eq!(alone.number("grow", &[Val::U32(1)]).await, -1);
        assert_eq!(metrics(&alone).remaining_bytes(), PAGE - 1);
        alone.host.shutdown().await;
    });
}

#[test]
fn growth_beyond_what_the_memory_can_address_gives_nothing_back() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&grower(), KIB_512, "").await;
        let mut size = 1;
        for _ in 0..40 {
            let grown = alone.number("grow", &[Val::U32(1)]).await;
            size += i64::from(grown != -1);
            for absurd in [65_536, u32::MAX] {
                assert_eq!(alone.number("grow", &[Val::U32(absurd)]).await, -1);
            }
            assert_eq!(alone.number("size", &[]).await, size);
            assert_eq!(metrics(&alone).current_bytes, usize_of(size) * PAGE);
        }
        assert_eq!(usize_of(size) * PAGE, KIB_512);
        let cause = alone.exit("grow-then-trap", &[Val::U32(65_536)]).await;
        assert_eq!(out_of_memory(&cause).requested_bytes, 65_536 * PAGE);
        alone.host.shutdown().await;
    });
}

#[test]
fn the_limit_is_on_the_sum_over_two_memories() {
    let _machine = shared_machine();
    block_on(async {
        let core = r#"(memory $a 1) (memory $b 1)
            (func (export "grow-a") (param i32) (result i32) (memory.grow $a (local.get 0)))
            (func (export "grow-b") (param i32) (result i32) (memory.grow $b (local.get 0)))"#;
        let text = component(core, false, &[("grow-a", GROW), ("grow-b", GROW)]);
        let alone = Alone::text(&text, MIB, "").await;
        assert_eq!(alone.number("grow-a", &[Val::U32(9)]).await, 1);
        assert_eq!(alone.number("grow-b", &[Val::U32(6)]).await, -1);
        assert_eq!(alone.number("grow-b", &[Val::U32(5)]).await, 1);
        assert_eq!(alone.number("grow-a", &[Val::U32(1)]).await, -1);
        assert_eq!(metrics(&alone).current_bytes, MIB);
        alone.host.shutdown().await;
    });
}

#[test]
fn the_limit_is_on_the_sum_over_core_instances() {
    let _machine = shared_machine();
    block_on(async {
        let text = format!(
            "(component (core module $m {GROWER})
            (core instance $a (instantiate $m)) (core instance $b (instantiate $m)) (core instance $c (instantiate $m))
            (func (export \"a\") {GROW} (canon lift (core func $a \"grow\")))
            (func (export \"b\") {GROW} (canon lift (core func $b \"grow\")))
            (func (export \"c\") {GROW} (canon lift (core func $c \"grow\"))))"
        );
        let alone = Alone::text(&text, MIB, "").await;
        assert_eq!(metrics(&alone).current_bytes, 3 * PAGE);
        for (name, ask, answer) in [
            ("a", 5, 1),
            ("b", 5, 1),
            ("c", 4, -1),
            ("c", 3, 1),
            ("a", 1, -1),
        ] {
            assert_eq!(alone.number(name, &[Val::U32(ask)]).await, answer, "{name}");
        }
        assert_eq!(metrics(&alone).current_bytes, MIB);
        alone.host.shutdown().await;
    });
}

#[test]
fn the_limit_is_on_the_sum_over_components_within_the_component() {
    let _machine = shared_machine();
    block_on(async {
        let inner = component(GROWER, false, &[("grow", GROW)]);
        let inner = inner.replacen("(component", "(component $inner", 1);
        let text = format!(
            "(component {inner}
            (instance $a (instantiate $inner)) (instance $b (instantiate $inner))
            (export \"a\" (func $a \"grow\")) (export \"b\" (func $b \"grow\")))"
        );
        let alone = Alone::text(&text, KIB_512, "").await;
        assert_eq!(alone.number("a", &[Val::U32(5)]).await, 1);
        assert_eq!(alone.number("b", &[Val::U32(2)]).await, -1);
        assert_eq!(alone.number("b", &[Val::U32(1)]).await, 1);
        assert_eq!(metrics(&alone).current_bytes, KIB_512);
        alone.host.shutdown().await;
    });
}

#[test]
fn table_growth_counts_as_memory() {
    let _machine = shared_machine();
    block_on(async {
        let text = component(THREE_AND_A_TABLE, false, &THREE_EXPORTS);
        let alone = Alone::text(&text, KIB_512, "").await;
        let base = 3 * PAGE + TABLE_ELEMENT_BYTES;
        assert_eq!(metrics(&alone).current_bytes, base);
        assert_eq!(alone.number("grow-t", &[Val::U32(8191)]).await, 1);
        assert_eq!(metrics(&alone).current_bytes, 4 * PAGE);
        assert_eq!(alone.number("grow-a", &[Val::U32(4)]).await, 1);
        assert_eq!(alone.number("grow-t", &[Val::U32(1)]).await, -1);
        assert_eq!(alone.number("elements", &[]).await, 8192);
        assert_eq!(metrics(&alone).denied_count, 1);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_memory_of_64_bit_addresses_is_held_to_the_limit() {
    let _machine = shared_machine();
    block_on(async {
        let core = r#"(memory i64 1)
            (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0)))
            (func (export "size") (result i64) memory.size)"#;
        let grow = "(param \"pages\" u64) (result s64)";
        let text = component(core, false, &[("grow", grow), ("size", "(result u64)")]);
        let alone = Alone::text(&text, KIB_512, "").await;
        for absurd in [8, 1 << 16, 1 << 47, 1 << 48, u64::MAX] {
            assert_eq!(
                alone.number("grow", &[Val::U64(absurd)]).await,
                -1,
                "{absurd}"
            );
        }
        assert_eq!(alone.number("grow", &[Val::U64(7)]).await, 1);
        for absurd in [1, 1 << 48, u64::MAX] {
            assert_eq!(
                alone.number("grow", &[Val::U64(absurd)]).await,
                -1,
                "{absurd}"
            );
        }
        assert_eq!(alone.number("size", &[]).await, 8);
        assert_eq!(metrics(&alone).current_bytes, KIB_512);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_shared_memory_which_no_limiter_sees_is_refused() {
    let _machine = shared_machine();
    block_on(async {
        let core = "(memory 1 64 shared) (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0)))";
        let text = component(core, false, &[("grow", GROW)]);
        let refused = Alone::try_text(&text, KIB_512, "").await.map(|_| ());
        assert!(matches!(refused, Err(HostError::Start(_))), "{refused:?}");
    });
}

fn out_of_memory(cause: &ExitCause) -> OutOfMemory {
    match cause {
        ExitCause::OutOfMemory(figures) => *figures,
        other => panic!("not out of memory: {other}"),
    }
}

#[test]
fn initial_memory_above_the_limit_is_refused_at_the_start_with_the_figures() {
    let _machine = shared_machine();
    block_on(async {
        let figures = |limit, current, requested| OutOfMemory {
            limit_bytes: limit,
            current_bytes: current,
            requested_bytes: requested,
            peak_bytes: current,
        };
        let cases = [
            ("(memory 17)", MIB, figures(MIB, 0, 17 * PAGE)),
            ("(memory 65)", 4 * MIB, figures(4 * MIB, 0, 65 * PAGE)),
            ("(memory 65536)", MIB, figures(MIB, 0, 65_536 * PAGE)),
            (
                "(memory 10) (memory 7)",
                MIB,
                figures(MIB, 10 * PAGE, 7 * PAGE),
            ),
            (
                "(memory 4) (memory 4) (memory 1)",
                KIB_512,
                figures(KIB_512, 8 * PAGE, PAGE),
            ),
        ];
        for (core, limit, expected) in cases {
            let cause =
                start_failure(Alone::try_text(&component(core, false, &[]), limit, "").await);
            assert_eq!(out_of_memory(&cause), expected, "{core}");
        }
        // Tables are taken before memories or after; either way their sum is too much.
        let core = "(memory 7) (table 8193 funcref)";
        let cause = start_failure(Alone::try_text(&component(core, false, &[]), KIB_512, "").await);
        let told = out_of_memory(&cause);
        assert_eq!(
            told.current_bytes + told.requested_bytes,
            7 * PAGE + 8193 * TABLE_ELEMENT_BYTES
        );
        // At the limit to the byte it starts.
        let core = "(memory 7) (table 8192 funcref)";
        let alone = Alone::text(&component(core, false, &[]), KIB_512, "").await;
        assert_eq!(metrics(&alone).remaining_bytes(), 0);
        alone.host.shutdown().await;
    });
}

#[test]
fn growth_in_a_start_function_is_held_to_the_limit() {
    let _machine = shared_machine();
    block_on(async {
        let core = |after: &str| {
            format!(
                "(memory 1) (global $got (mut i32) (i32.const 0))
                (func $start (global.set $got (memory.grow (i32.const 16))) {after})
                (start $start)
                (func (export \"got\") (result i32) (global.get $got))
                (func (export \"trap\") unreachable)"
            )
        };
        let exports = [("got", "(result s32)"), ("trap", "")];
        let alone = Alone::text(&component(&core(""), false, &exports), MIB, "").await;
        assert_eq!(alone.number("got", &[]).await, -1);
        assert_eq!(metrics(&alone).current_bytes, PAGE);
        // What was refused at the start is not what a later trap is blamed on.
        assert_eq!(alone.exit("trap", &[]).await.kind(), ExitKind::Trap);
        alone.host.shutdown().await;
        let text = component(&core("unreachable"), false, &exports);
        let cause = start_failure(Alone::try_text(&text, MIB, "").await);
        let expected = OutOfMemory {
            limit_bytes: MIB,
            current_bytes: PAGE,
            requested_bytes: 16 * PAGE,
            peak_bytes: PAGE,
        };
        assert_eq!(out_of_memory(&cause), expected);
    });
}

#[test]
fn growth_beyond_a_memorys_own_maximum_is_not_held_against_the_limit() {
    let _machine = shared_machine();
    block_on(async {
        let core = GROWER.replace("(memory 1)", "(memory 1 3)");
        let alone = Alone::text(&component(&core, false, &GROWER_EXPORTS), MIB, "").await;
        assert_eq!(alone.number("grow", &[Val::U32(2)]).await, 1);
        assert_eq!(alone.number("grow", &[Val::U32(1)]).await, -1);
        assert_eq!(metrics(&alone).denied_count, 0);
        assert_eq!(metrics(&alone).current_bytes, 3 * PAGE);
        let cause = alone.exit("grow-then-trap", &[Val::U32(4)]).await;
        assert_eq!(cause.kind(), ExitKind::Trap, "{cause}");
        // What the limit has no room for is refused by it, whatever else stands in the way.
        let cause = alone.exit("grow-then-trap", &[Val::U32(100)]).await;
        assert_eq!(out_of_memory(&cause).requested_bytes, 100 * PAGE);
        alone.host.shutdown().await;
    });
}

#[test]
fn the_meter_follows_gradual_growth() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&grower(), MIB, "").await;
        let mut expected = MemoryMetrics {
            current_bytes: PAGE,
            host_bytes: 0,
            max_bytes: MIB,
            peak_bytes: PAGE,
            allocation_count: 1,
            denied_count: 0,
        };
        for _ in 1..16 {
            assert_eq!(metrics(&alone), expected);
            assert_eq!(expected.remaining_bytes(), MIB - expected.current_bytes);
            alone.number("grow", &[Val::U32(1)]).await;
            expected.current_bytes += PAGE;
            expected.peak_bytes += PAGE;
            expected.allocation_count += 1;
        }
        assert!((metrics(&alone).usage_percentage() - 100.0).abs() < f64::EPSILON);
        for denied in 1..=3 {
            alone.number("grow", &[Val::U32(1)]).await;
            assert_eq!(metrics(&alone).denied_count, denied);
            assert_eq!(metrics(&alone).current_bytes, MIB);
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn the_meter_is_read_while_the_guest_grows() {
    let _machine = machine_to_itself();
    block_on(async {
        let core = r#"(memory 1)
            (func (export "climb") (local $i i32)
                (loop $page
                    (local.set $i (i32.const 3000000))
                    (loop $spin (br_if $spin (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
                    (br_if $page (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))))"#;
        let alone = Alone::text(&component(core, false, &[("climb", "")]), 4 * MIB, "").await;
        let component = alone.component.clone();
        let climb = tokio::spawn(async move { component.call("climb", &[]).await });
        let mut seen = BTreeSet::new();
        let mut last = 0;
        while !climb.is_finished() {
            let now = metrics(&alone);
            assert!(now.current_bytes >= last && now.current_bytes <= now.max_bytes);
            last = now.current_bytes;
            seen.insert(now.current_bytes);
            tokio::task::yield_now().await;
        }
        climb.await.unwrap().unwrap();
        assert!(seen.len() > 10, "only {} sizes seen", seen.len());
        assert_eq!(metrics(&alone).current_bytes, 4 * MIB);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_refused_growth_and_a_trap_in_the_same_call_is_out_of_memory_with_exact_figures() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&grower(), MIB, "").await;
        alone.number("grow", &[Val::U32(4)]).await;
        let error = alone
            .call("grow-then-trap", &[Val::U32(12)])
            .await
            .unwrap_err();
        let WasmError::OutOfMemory {
            component,
            limit_bytes,
            current_bytes,
            requested_bytes,
            peak_bytes,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(component.as_str(), "alone");
        assert_eq!((limit_bytes, current_bytes), (MIB, 5 * PAGE));
        assert_eq!((requested_bytes, peak_bytes), (12 * PAGE, 5 * PAGE));
        // The successor starts from nothing, with the whole limit before it.
        assert_eq!(alone.number("size", &[]).await, 1);
        assert_eq!(metrics(&alone).denied_count, 0);
        assert_eq!(alone.number("grow", &[Val::U32(15)]).await, 1);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_refused_growth_and_an_answer_is_an_answer() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::guest(LEAKY, MIB, "").await;
        let refused = alone
            .call("try-leak", &[Val::U32(2_000_000)])
            .await
            .unwrap();
        assert_eq!(refused, [Val::Result(Err(Some(Box::new(Val::U64(0)))))]);
        assert!(metrics(&alone).denied_count > 0);
        let kept = alone.call("try-leak", &[Val::U32(10_000)]).await.unwrap();
        assert_eq!(kept, [Val::Result(Ok(Some(Box::new(Val::U64(10_000)))))]);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_refused_growth_of_an_earlier_call_does_not_explain_a_trap() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&grower(), KIB_512, "").await;
        assert_eq!(alone.number("grow", &[Val::U32(100)]).await, -1);
        let cause = alone.exit("trap", &[]).await;
        assert!(
            matches!(&*cause, ExitCause::Trap(trap) if trap.code == "unreachable"),
            "{cause}"
        );
        alone.host.shutdown().await;
    });
}

#[test]
fn a_refused_growth_and_spinning_is_a_deadline() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&grower(), KIB_512, "timeout_seconds = 1").await;
        let cause = alone.exit("grow-then-spin", &[Val::U32(100)]).await;
        let computing = matches!(
            &*cause,
            ExitCause::Deadline {
                phase: DeadlinePhase::Computing,
                ..
            }
        );
        assert!(computing, "{cause}");
        alone.host.shutdown().await;
    });
}

#[test]
fn an_argument_the_guest_has_no_room_for_is_out_of_memory() {
    let _machine = shared_machine();
    block_on(async {
        let bytes = |count: usize| Val::List(vec![Val::U8(7); count]);
        let core =
            format!("{BUMP} (func (export \"take\") (param i32 i32) (result i32) (local.get 1))");
        let text = component(
            &core,
            true,
            &[("take", "(param \"bytes\" (list u8)) (result u32)")],
        );
        let alone = Alone::text(&text, KIB_512, "").await;
        assert_eq!(alone.number("take", &[bytes(200_000)]).await, 200_000);
        // The message fits beside the memory, what the guest would need for a copy does not.
        let told = out_of_memory(&*alone.exit("take", &[bytes(250_000)]).await);
        assert_eq!(told.limit_bytes, KIB_512);
        assert!(told.current_bytes > 4 * PAGE + 250_000, "{told}");
        assert_eq!(told.requested_bytes, 3 * PAGE);
        assert_eq!(alone.number("take", &[bytes(7)]).await, 7);
        alone.host.shutdown().await;
        let alone = Alone::guest(CALCULATOR, MIB, "").await;
        let told = out_of_memory(&*alone.exit("echo", &[bytes(500_000)]).await);
        assert_eq!(told.limit_bytes, MIB);
        assert!(told.requested_bytes >= 500_000 / PAGE * PAGE, "{told}");
        alone.host.shutdown().await;
    });
}

#[test]
fn only_a_refusal_by_the_operating_system_is_given_back() {
    // wasmtime also reports growth that it never asked the limiter about, today of memories with
    // pages of one byte only, which are switched off. A limiter that took such a report for a
    // refused grant would let a guest grow for free after each of them.
    let limits = ResourceLimits::builder().max_memory_bytes(KIB_512).build();
    let mut limiter = ComponentResourceLimiter::new(&limits.unwrap());
    assert!(limiter.memory_growing(0, 4 * PAGE, None).unwrap());
    limiter
        .memory_grow_failed(wasmtime::Error::msg("beyond the memory's type"))
        .unwrap();
    assert_eq!(limiter.metrics().current_bytes, 4 * PAGE);
    assert!(!limiter.memory_growing(4 * PAGE, 9 * PAGE, None).unwrap());
    assert!(limiter.memory_growing(4 * PAGE, 8 * PAGE, None).unwrap());
    let refused = || wasmtime::Error::new(std::io::Error::from(std::io::ErrorKind::OutOfMemory));
    limiter.memory_grow_failed(refused()).unwrap();
    assert_eq!(limiter.metrics().current_bytes, 4 * PAGE);
    // Given back once, however often it is reported.
    limiter.memory_grow_failed(refused()).unwrap();
    assert_eq!(limiter.metrics().current_bytes, 4 * PAGE);
}

/// Refuses this process more private memory than it has now and two megabytes.
pub fn starve() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let data = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib: usize = data
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    // The soft limit alone, which anyone may raise again.
    let limit = format!("--data={}:", kib * 1024 + 2 * MIB);
    let pid = std::process::id().to_string();
    let done = Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .status();
    assert!(done.unwrap().success());
}

#[test]
fn memory_the_host_does_not_have_is_capacity_and_not_the_guests_fault() {
    let _machine = shared_machine();
    // The limit set below is the process's.
    if !in_a_process_of_its_own(
        "memory_limits_test::memory_the_host_does_not_have_is_capacity_and_not_the_guests_fault",
    ) {
        return;
    }
    block_on(async {
        let alone = Alone::text(&grower(), 4 * MIB, "").await;
        assert_eq!(alone.number("grow", &[Val::U32(1)]).await, 1);
        starve();
        // Within the guest's limit, and still refused: what was counted is given back.
        assert_eq!(alone.number("grow", &[Val::U32(61)]).await, -1);
        assert_eq!(alone.number("size", &[]).await, 2);
        let now = metrics(&alone);
        assert_eq!((now.current_bytes, now.denied_count), (2 * PAGE, 0));
        assert_eq!(alone.number("grow", &[Val::U32(1)]).await, 2);
        assert_eq!(metrics(&alone).current_bytes, 3 * PAGE);
        let cause = alone.exit("grow-then-trap", &[Val::U32(60)]).await;
        assert_eq!(cause.kind(), ExitKind::Capacity, "{cause}");
        alone.host.shutdown().await;
    });
}

/// All Rust sources below a folder of the workspace.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path.display().to_string(), text));
        }
    }
    found
}

#[test]
fn a_store_without_limits_cannot_be_built() {
    let refused = ResourceLimits::builder().max_fuel(1000).build();
    assert_eq!(refused, Err(ResourceLimitError::MemoryNotConfigured));
    let low = ResourceLimits::builder().max_memory_bytes(1).build();
    assert_eq!(low, Err(ResourceLimitError::MemoryTooLow { requested: 1 }));
    let high = ResourceLimits::builder()
        .max_memory_bytes(usize::MAX)
        .build();
    assert_eq!(
        high,
        Err(ResourceLimitError::MemoryTooHigh {
            requested: usize::MAX,
            ceiling: MAX_MEMORY_BYTES,
        })
    );
    // A Store is made in one place of all the product's code, and gets its limiter in the very
    // next statement.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = [
        "src",
        "airssys-wasm/src",
        "airssys-rt/src",
        "airssys-osl/src",
        "airssys-integrity/src",
    ];
    let mut made = Vec::new();
    for (path, text) in crates.iter().flat_map(|folder| sources(&root.join(folder))) {
        for making in ["Store::new", "Store::try_new", "Store::<"] {
            for (at, _) in text.match_indices(making) {
                let next = text[at..]
                    .split(';')
                    .nth(1)
                    .unwrap_or_default()
                    .trim()
                    .to_owned();
                made.push((path.clone(), next));
            }
        }
    }
    // What a host is measured beside is no part of one.
    made.retain(|(path, _)| !path.ends_with("src/cli/bench/bare.rs"));
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(
        made[0].0.ends_with("airssys-wasm/src/instance.rs"),
        "{made:?}"
    );
    assert!(made[0].1.starts_with("store.limiter("), "{made:?}");
}
