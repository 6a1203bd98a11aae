//! How many bytes of arguments wait for a component, and what becomes of calls beyond that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use airssys::{CallOptions, ComponentRef, MessageConfig, ResourceLimitError, Val, WasmError};
use airssys_wasm::{MAX_WAITING_BYTES, MIN_WAITING_BYTES};
use tokio::task::JoinHandle;

use crate::support::{
    Alone, BUMP, Tree, block_on, component, in_a_process_of_its_own, resident, shared_machine,
};

const MIB: usize = 1_048_576;

/// Takes bytes, and spins or dies, with bytes or without.
const CORE: &str = r#"
    (global $calls (mut i32) (i32.const 0))
    (func (export "next") (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (global.get $calls))
    (func (export "take") (param i32 i32) (result i32)
        (global.set $next (i32.const 4096)) (local.get 1))
    (func (export "spin") (loop $l (br $l)))
    (func (export "spin-with") (param i32 i32) (loop $l (br $l)))
    (func (export "die-with") (param i32 i32) (unreachable))
"#;

/// One alone, where so many bytes may wait.
async fn alone(max_waiting_bytes: usize) -> Alone {
    let bytes = "(param \"bytes\" (list u8))";
    let take = format!("{bytes} (result u32)");
    let exports = [
        ("next", "(result u32)"),
        ("take", &take),
        ("spin", ""),
        ("spin-with", bytes),
        ("die-with", bytes),
    ];
    let text = component(&format!("{BUMP} {CORE}"), true, &exports);
    // Large messages are checked for long in a debug build.
    let lines = format!(
        "timeout_seconds = 60\n[resources.message]\nmax_waiting_bytes = {max_waiting_bytes}\n\
         [integrity]\nlevel = \"off\""
    );
    let tree = Tree::new().shutdown("300ms");
    let tree = tree.text("alone", &text, 4 * MIB, &lines);
    Alone::of(tree).await.unwrap()
}

fn bytes(count: usize) -> [Val; 1] {
    [Val::List(vec![Val::U8(7); count])]
}

/// A call that goes on beside the test.
fn call(component: &ComponentRef, function: &'static str, count: usize) -> JoinHandle<Called> {
    let component = component.clone();
    tokio::spawn(async move { component.call(function, &bytes(count)).await })
}

type Called = Result<Vec<Val>, WasmError>;

/// A call that the guest works on until it is aborted.
async fn spin(component: &ComponentRef) -> JoinHandle<Called> {
    let (spins, before) = (component.clone(), component.metrics().total.calls);
    let spin = tokio::spawn(async move { spins.call("spin", &[]).await });
    until(|| component.metrics().total.calls > before).await;
    spin
}

/// Waits for less than the time a guest may take that spins.
async fn until(holds: impl Fn() -> bool) {
    let soon = tokio::time::timeout(Duration::from_secs(40), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    soon.await.expect("it does not come to that");
}

#[test]
fn a_thousand_calls_that_wait_take_no_more_than_their_room() {
    let _machine = shared_machine();
    let this = "waiting_room_test::a_thousand_calls_that_wait_take_no_more_than_their_room";
    if !in_a_process_of_its_own(this) {
        return;
    }
    block_on(async {
        let alone = alone(8 * MIB).await;
        let component = &alone.component;
        let spin = spin(component).await;
        let bytes: Arc<[u8]> = vec![7; MIB - 4].into();
        // So that the allocator has what it keeps.
        component.encode("take", &self::bytes(1)).unwrap();
        let before = resident();
        let begun = Arc::new(AtomicUsize::new(0));
        let mut calls: Vec<_> = (0..1_000)
            .map(|_| {
                let (component, bytes) = (component.clone(), Arc::clone(&bytes));
                let begun = Arc::clone(&begun);
                tokio::spawn(async move {
                    begun.fetch_add(1, Ordering::Relaxed);
                    // Of another type than it returns, which is told after the call.
                    component.call_bytes("take", &bytes).await.unwrap_err()
                })
            })
            .collect();
        until(|| begun.load(Ordering::Relaxed) == 1_000 && component.waiting() >= 7).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(component.waiting(), 7);
        let grown = resident().saturating_sub(before);
        assert!(
            grown < 64 * MIB,
            "{grown} bytes for {} that may wait",
            8 * MIB
        );
        // What waits outside the mailbox comes in as the others leave, in turn.
        let gone = calls.split_off(20);
        gone.iter().for_each(JoinHandle::abort);
        spin.abort();
        for call in calls {
            let told = call.await.unwrap();
            assert!(matches!(told, WasmError::Results { .. }), "{told}");
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn a_call_without_room_is_refused_by_the_key_to_raise_and_small_ones_are_not() {
    let _machine = shared_machine();
    block_on(async {
        let alone = alone(65_536).await;
        let component = &alone.component;
        let spin = spin(component).await;
        let waits = call(component, "take", 60_000);
        until(|| component.waiting() == 1).await;
        let refused = component.try_call("take", &bytes(60_000)).await;
        let refused = refused.unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("resources.message.max_waiting_bytes"),
            "{text}"
        );
        let told = |error: &WasmError| match error {
            WasmError::NoWaitingRoom {
                requested_bytes,
                max_bytes,
                ..
            } => (*requested_bytes, *max_bytes),
            other => panic!("{other}"),
        };
        let tags = 4 * (60_004_usize.div_ceil(512) + 1);
        assert_eq!(told(&refused), (60_004 + tags, 65_536));
        let no_wait = CallOptions::default().no_wait();
        let message = component.encode("take", &bytes(60_000)).unwrap();
        let refused = component.call_encoded_with("take", message, no_wait).await;
        assert_eq!(
            told(&refused.map(|_| ()).unwrap_err()),
            (60_004 + tags, 65_536)
        );
        assert_eq!(component.metrics().refused["mailbox-full"], 2);
        // One that waits for room is told when its time is over.
        let patience = Duration::from_millis(50);
        let late = component
            .call_within("take", &bytes(60_000), patience)
            .await;
        let late = late.unwrap_err();
        assert!(matches!(late, WasmError::Expired { .. }), "{late}");
        // Small ones go into the mailbox as ever, in their order, and past what waits outside.
        let outside = call(component, "take", 60_000);
        let small = tokio::spawn({
            let component = component.clone();
            async move {
                let each = (0..10).map(|_| component.try_call("next", &[]));
                futures_util::future::join_all(each).await
            }
        });
        until(|| component.waiting() == 11).await;
        assert!(!outside.is_finished());
        spin.abort();
        let answers: Vec<_> = small
            .await
            .unwrap()
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        let order: Vec<_> = (1..=10).map(Val::U32).collect();
        assert_eq!(answers, order);
        for taken in [waits, outside] {
            assert_eq!(taken.await.unwrap().unwrap(), [Val::U32(60_000)]);
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn room_comes_back_on_every_way_out_of_the_mailbox() {
    let _machine = shared_machine();
    block_on(async {
        let alone = alone(131_072).await;
        let component = &alone.component;
        const ALL: usize = 120_000;
        let all_is_free = async |way: &str| {
            let taken = component.try_call("take", &bytes(ALL)).await;
            assert_eq!(taken.expect(way), [Val::U32(120_000)], "{way}");
        };
        all_is_free("at first").await;
        all_is_free("taken up and answered").await;

        let spin = self::spin(component).await;
        let dropped = call(component, "take", ALL);
        until(|| component.waiting() == 1).await;
        let outside = call(component, "take", ALL);
        tokio::time::sleep(Duration::from_millis(10)).await;
        outside.abort();
        dropped.abort();
        assert!(outside.await.unwrap_err().is_cancelled());
        spin.abort();
        until(|| component.waiting() == 0).await;
        all_is_free("withdrawn").await;

        let spin = self::spin(component).await;
        let patience = Duration::from_millis(20);
        let late = component.call_within("take", &bytes(ALL), patience).await;
        assert!(matches!(late, Err(WasmError::Expired { .. })), "{late:?}");
        spin.abort();
        until(|| component.waiting() == 0).await;
        all_is_free("expired").await;

        // While the guest works on it, it waits no more.
        let before = component.metrics().total.calls;
        let works = call(component, "spin-with", ALL);
        until(|| component.metrics().total.calls > before).await;
        let waits = call(component, "take", ALL);
        until(|| component.waiting() == 1).await;
        assert!(!works.is_finished());
        works.abort();
        assert_eq!(waits.await.unwrap().unwrap(), [Val::U32(120_000)]);
        all_is_free("taken up and abandoned").await;

        let spin = self::spin(component).await;
        let poison: Vec<_> = (0..2)
            .map(|_| call(component, "die-with", ALL / 2))
            .collect();
        until(|| component.waiting() == 2).await;
        spin.abort();
        for died in poison {
            died.await.unwrap().unwrap_err();
        }
        all_is_free("died with its instance").await;

        let spin = self::spin(component).await;
        let closed = call(component, "take", ALL);
        until(|| component.waiting() == 1).await;
        let outside = call(component, "take", ALL);
        let tools = alone.host.supervisor("tools").unwrap();
        tools.terminate_child("alone").await.unwrap();
        spin.await.unwrap().unwrap_err();
        for stopped in [closed, outside] {
            let stopped = stopped.await.unwrap();
            assert!(
                matches!(stopped, Err(WasmError::Stopped { .. })),
                "{stopped:?}"
            );
        }
        tools.restart_child("alone").await.unwrap();
        all_is_free("closed").await;
        alone.host.shutdown().await;
    });
}

#[test]
fn a_message_larger_than_the_room_waits_alone() {
    let _machine = shared_machine();
    block_on(async {
        let alone = alone(65_536).await;
        let component = &alone.component;
        component.try_call("take", &bytes(500_000)).await.unwrap();
        let spin = spin(component).await;
        let first = call(component, "take", 500_000);
        until(|| component.waiting() == 1).await;
        let others = [500_000, 10_000].map(|count| call(component, "take", count));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(component.waiting(), 1);
        spin.abort();
        first.await.unwrap().unwrap();
        for other in others {
            other.await.unwrap().unwrap();
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn a_bound_on_what_waits_is_itself_bounded() {
    let config = MessageConfig::default();
    for requested in [MIN_WAITING_BYTES - 1, MAX_WAITING_BYTES + 1] {
        let refused = config.waiting(requested);
        assert_eq!(refused, Err(ResourceLimitError::Waiting { requested }));
    }
    for taken in [MIN_WAITING_BYTES, MAX_WAITING_BYTES] {
        assert_eq!(config.waiting(taken).unwrap().max_waiting_bytes(), taken);
    }
}
