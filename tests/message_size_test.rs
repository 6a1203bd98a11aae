//! How large arguments and results may be, what they count against, and what callers get of them.

use airssys::{
    ComponentRef, MemoryMetrics, MessageConfig, OutOfMemory, ResourceLimitError, Val, ValueError,
    WasmError,
};
use airssys_guests::CALCULATOR;
use airssys_wasm::{HANDLE_BYTES, MAX_VALUES_BYTES, MESSAGE_SLOTS, UNCOUNTED_BYTES};

use crate::support::{Alone, BUMP, PAGE, Values, block_on, component, shared_machine};

const MIB: usize = 1_048_576;

/// Takes bytes, gives bytes, and grows.
const CORE: &str = r#"
    (global $calls (mut i32) (i32.const 0))
    (func $count (global.set $calls (i32.add (global.get $calls) (i32.const 1))))
    (func (export "calls") (result i32) (global.get $calls))
    (func (export "take") (param i32 i32) (result i32)
        (call $count) (global.set $next (i32.const 4096)) (local.get 1))
    (func (export "give") (param i32) (result i32)
        (call $count)
        (i32.store (i32.const 0) (i32.const 8))
        (i32.store (i32.const 4) (local.get 0))
        (i32.const 0))
    (func $echo (export "echo") (export "echo-text") (param i32 i32) (result i32)
        (call $count)
        (i32.store (i32.const 0) (local.get 0))
        (i32.store (i32.const 4) (local.get 1))
        (global.set $next (i32.const 4096))
        (i32.const 0))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
"#;

fn bytes_and_growth() -> String {
    component(
        &format!("{BUMP} {CORE}"),
        true,
        &[
            ("calls", "(result u32)"),
            ("take", "(param \"bytes\" (list u8)) (result u32)"),
            ("give", "(param \"count\" u32) (result (list u8))"),
            ("echo", "(param \"bytes\" (list u8)) (result (list u8))"),
            ("echo-text", "(param \"text\" string) (result string)"),
            ("grow", "(param \"pages\" u32) (result s32)"),
        ],
    )
}

/// What a message of so many bytes counts as: with a tag for each block and one for the length.
fn counted(bytes: usize) -> usize {
    bytes + 4 * (bytes.div_ceil(512) + 1)
}

fn metrics(alone: &Alone) -> MemoryMetrics {
    alone.component.memory().unwrap()
}

/// The record of an instance that ended out of memory.
fn out_of_memory(error: WasmError) -> OutOfMemory {
    match error {
        WasmError::OutOfMemory {
            limit_bytes,
            current_bytes,
            requested_bytes,
            peak_bytes,
            ..
        } => OutOfMemory {
            limit_bytes,
            current_bytes,
            requested_bytes,
            peak_bytes,
        },
        other => panic!("{other:?}"),
    }
}

fn refused_arguments(error: WasmError) -> ValueError {
    match error {
        WasmError::Arguments { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

fn unfit_results(error: WasmError) -> ValueError {
    match error {
        WasmError::Results { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

async fn give(component: &ComponentRef, count: usize) -> Result<Vec<u8>, WasmError> {
    let count = [Val::U32(u32::try_from(count).unwrap())];
    let message = component.encode("give", &count).unwrap();
    let results = component.call_encoded("give", message).await?;
    Ok(results.bytes()?.to_vec())
}

#[test]
fn host_side_messages_count_against_the_limit() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&bytes_and_growth(), MIB, "").await;
        let held = 12 * PAGE;
        let room = MIB - held;
        assert_eq!(alone.number("grow", &[Val::U32(11)]).await, 1);
        // The most bytes for which data and tags fit.
        let most = (0..room).rev().find(|n| counted(n + 4) <= room).unwrap();
        assert_eq!(give(&alone.component, most).await.unwrap().len(), most);
        let after = metrics(&alone);
        assert_eq!((after.current_bytes, after.host_bytes), (held, 0));
        assert_eq!(after.peak_bytes, held + counted(most + 4));
        // An argument without room is refused before the guest is entered.
        let calls = alone.number("calls", &[]).await;
        let refused = alone.component.call_bytes("echo", &vec![7; most + 1]).await;
        let expected = OutOfMemory {
            limit_bytes: MIB,
            current_bytes: held,
            requested_bytes: counted(most + 5),
            peak_bytes: after.peak_bytes,
        };
        let refused = refused_arguments(refused.unwrap_err());
        assert_eq!(refused, ValueError::NoRoom(expected));
        assert_eq!(alone.number("calls", &[]).await, calls);
        assert_eq!(metrics(&alone).denied_count, 1);
        // A result without room ends the instance, with the same record.
        let ended = give(&alone.component, most + 1).await.unwrap_err();
        assert_eq!(out_of_memory(ended), expected);
        assert_eq!(alone.number("calls", &[]).await, 0);
        assert_eq!(metrics(&alone).current_bytes, PAGE);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_guest_that_holds_all_it_may_can_still_be_called() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&bytes_and_growth(), MIB, "").await;
        assert_eq!(alone.number("grow", &[Val::U32(15)]).await, 1);
        let bytes = vec![7; UNCOUNTED_BYTES - 4];
        let back = alone.component.call_bytes("echo", &bytes).await.unwrap();
        assert_eq!(back, bytes);
        let one_more = vec![7; UNCOUNTED_BYTES - 3];
        let refused = alone.component.call_bytes("echo", &one_more).await;
        let refused = refused_arguments(refused.unwrap_err());
        assert!(matches!(refused, ValueError::NoRoom(_)), "{refused}");
        alone.host.shutdown().await;
    });
}

#[test]
fn arguments_count_until_they_are_in_the_guest_and_no_longer() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&bytes_and_growth(), MIB, "").await;
        // One copy in the guest and one in the host fit, a third would not.
        let bytes = vec![7; 400_000];
        assert_eq!(
            alone.component.call_bytes("echo", &bytes).await.unwrap(),
            bytes
        );
        assert!(metrics(&alone).peak_bytes > 2 * bytes.len());
        alone.host.shutdown().await;
    });
}

#[test]
fn a_mirrored_message_counts_twice() {
    let _machine = shared_machine();
    block_on(async {
        let level = "[integrity]\nlevel = \"redundant\"";
        let alone = Alone::text(&bytes_and_growth(), MIB, level).await;
        alone.number("grow", &[Val::U32(2)]).await;
        give(&alone.component, 100_000).await.unwrap();
        let peak = metrics(&alone).peak_bytes;
        assert_eq!(peak, 3 * PAGE + 100_004 + counted(100_004));
        alone.host.shutdown().await;
    });
}

#[test]
fn handles_count_against_the_limit() {
    let _machine = shared_machine();
    block_on(async {
        let text = r#"(component
            (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type $pollable (sub resource)))))
            (alias export $poll "pollable" (type $pollable))
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
                (alias outer 1 $pollable (type $p))
                (export "pollable" (type $pollable (eq $p)))
                (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
            (core func $subscribe (canon lower (func $clock "subscribe-duration")))
            (core module $m
                (import "h" "subscribe" (func $subscribe (param i64) (result i32)))
                (memory 1)
                (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
                (func (export "take") (param i32)
                    (loop $next
                        (drop (call $subscribe (i64.const 1000000000)))
                        (br_if $next (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))
            (core instance $i (instantiate $m (with "h" (instance (export "subscribe" (func $subscribe))))))
            (func (export "grow") (param "pages" u32) (result s32) (canon lift (core func $i "grow")))
            (func (export "take") (param "count" u32) (canon lift (core func $i "take"))))"#;
        let alone = Alone::text(text, MIB / 2, "").await;
        alone.call("take", &[Val::U32(400)]).await.unwrap();
        // Beside the one page seven more would fit; the handles leave room for three.
        assert_eq!(alone.number("grow", &[Val::U32(4)]).await, -1);
        assert_eq!(alone.number("grow", &[Val::U32(3)]).await, 1);
        let now = metrics(&alone);
        // A pollable of a clock takes two places: its deadline's and its own.
        assert_eq!(now.host_bytes, 2 * 400 * HANDLE_BYTES);
        assert_eq!(now.current_bytes, 4 * PAGE + now.host_bytes);
        alone.host.shutdown().await;
    });
}

#[test]
fn messages_are_bounded_by_what_the_file_says() {
    let _machine = shared_machine();
    block_on(async {
        let bounds = "[resources.message]\nmax_argument_bytes = 20000\nmax_result_bytes = 30000";
        let alone = Alone::text(&bytes_and_growth(), MIB, bounds).await;
        let arguments = |bytes: usize| [Val::List(vec![Val::U8(7); bytes])];
        assert_eq!(alone.number("take", &arguments(19_996)).await, 19_996);
        let calls = alone.number("calls", &[]).await;
        let too_large = ValueError::TooLarge {
            limit_bytes: 20_000,
        };
        let refused = alone.call("take", &arguments(19_997)).await.unwrap_err();
        assert_eq!(refused_arguments(refused), too_large);
        let refused = alone.component.call_bytes("echo", &[7; 19_997]).await;
        assert_eq!(refused_arguments(refused.unwrap_err()), too_large);
        // Also where somebody else encoded it.
        let other = Alone::text(&bytes_and_growth(), MIB, "").await;
        let message = other.component.encode("take", &arguments(19_997)).unwrap();
        let refused = alone.component.call_encoded("take", message).await.values();
        assert_eq!(refused_arguments(refused.unwrap_err()), too_large);
        assert_eq!(alone.number("calls", &[]).await, calls);
        assert_eq!(give(&alone.component, 29_996).await.unwrap().len(), 29_996);
        let unfit = give(&alone.component, 29_997).await.unwrap_err();
        let too_large = ValueError::TooLarge {
            limit_bytes: 30_000,
        };
        assert_eq!(unfit_results(unfit), too_large);
        assert_eq!(alone.number("calls", &[]).await, calls + 2);
        alone.host.shutdown().await;
        other.host.shutdown().await;
    });
}

#[test]
fn bounds_on_messages_are_themselves_bounded() {
    for (arguments, results) in [(1023, 4096), (4096, 4 * MIB + 1)] {
        let requested = if arguments == 1023 {
            arguments
        } else {
            results
        };
        let refused = MessageConfig::new(arguments, results);
        assert_eq!(refused, Err(ResourceLimitError::Message { requested }));
    }
    let most = MessageConfig::new(1024, 4 * MIB).unwrap();
    assert_eq!(most.max_argument_bytes(), 1024);
    assert_eq!(most.max_result_bytes(), 4 * MIB);
}

#[test]
fn results_too_large_as_values_are_told_and_are_still_there_as_bytes() {
    let _machine = shared_machine();
    block_on(async {
        let bounds = format!("[resources.message]\nmax_result_bytes = {}", 4 * MIB);
        let alone = Alone::text(&bytes_and_growth(), 4 * MIB, &bounds).await;
        alone.number("grow", &[Val::U32(30)]).await;
        let fit = MAX_VALUES_BYTES / size_of::<Val>() - 1;
        let count = |count: usize| [Val::U32(u32::try_from(count).unwrap())];
        let values = alone.call("give", &count(fit)).await.unwrap();
        assert!(matches!(&values[..], [Val::List(bytes)] if bytes.len() == fit));
        let unfit = alone.call("give", &count(fit + 1)).await.unwrap_err();
        let limit = ValueError::TooLargeAsValues {
            limit_bytes: MAX_VALUES_BYTES,
        };
        assert_eq!(unfit_results(unfit), limit);
        assert_eq!(
            give(&alone.component, fit + 1).await.unwrap().len(),
            fit + 1
        );
        assert_eq!(alone.number("calls", &[]).await, 3);
        alone.host.shutdown().await;
    });
}

#[test]
fn bytes_and_texts_go_without_a_value_for_each_of_them() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&bytes_and_growth(), 4 * MIB, "").await;
        let component = &alone.component;
        for length in [0, 1, 507, 508, 509, 512, 513, 4096, 65_532, 65_533, 700_000] {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 31) as u8).collect();
            let back = component.call_bytes("echo", &bytes).await.unwrap();
            assert!(back == bytes, "{length}");
            let text = "ш".repeat(length / 2);
            let back = component.call_text("echo-text", &text).await.unwrap();
            assert!(back == text, "{length}");
        }
        // Of other types: told before the call where it takes something else, after it where it
        // returns something else.
        let calls = alone.number("calls", &[]).await;
        let refused = component.call_bytes("echo-text", b"a").await.unwrap_err();
        let refused = refused_arguments(refused);
        assert!(matches!(refused, ValueError::Type { .. }), "{refused}");
        let refused = component.call_text("calls", "a").await.unwrap_err();
        let (expected, found) = (0, 1);
        let arity = ValueError::Arity { expected, found };
        assert_eq!(refused_arguments(refused), arity);
        assert_eq!(alone.number("calls", &[]).await, calls);
        let unfit = component.call_bytes("take", b"a").await.unwrap_err();
        let unfit = unfit_results(unfit);
        assert!(matches!(unfit, ValueError::Type { .. }), "{unfit}");
        assert_eq!(alone.number("calls", &[]).await, calls + 1);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_result_is_written_into_the_smallest_slot_that_holds_it() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::guest(CALCULATOR, 2 * MIB, "").await;
        let component = &alone.component;
        let largest = MESSAGE_SLOTS[2].slot_bytes - 4;
        for (length, pooled) in [
            (0, true),
            (500, true),
            (largest, true),
            (largest + 1, false),
        ] {
            let bytes = [Val::List(vec![Val::U8(7); length])];
            let message = component.encode("echo", &bytes).unwrap();
            let results = component.call_encoded("echo", message).await.unwrap();
            assert_eq!(results.message().is_pooled(), pooled, "{length}");
            assert_eq!(results.values().unwrap(), bytes);
        }
        alone.host.shutdown().await;
    });
}
