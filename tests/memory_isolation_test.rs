//! Two components side by side: what one does to its memory is nothing to the other.

use std::time::Duration;

use airssys::{Host, Val, WasmError};
use airssys_guests::{CALCULATOR, LEAKY, NOTEBOOK};

use crate::support::{PAGE, Tree, block_on, component, number, shared_machine};

const KIB_512: usize = 524_288;
const MIB: usize = 1_048_576;

/// A cell in memory, and growth.
const CELL: &str = r#"
    (memory 1)
    (func (export "set") (param i32) (i32.store (i32.const 8) (local.get 0)))
    (func (export "get") (result i32) (i32.load (i32.const 8)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "size") (result i32) memory.size)
    (func (export "grow-then-trap") (param i32) (drop (memory.grow (local.get 0))) unreachable)
"#;

fn cell() -> String {
    let exports = [
        ("set", "(param \"value\" u32)"),
        ("get", "(result u32)"),
        ("grow", "(param \"pages\" u32) (result s32)"),
        ("size", "(result u32)"),
        ("grow-then-trap", "(param \"pages\" u32)"),
    ];
    component(CELL, false, &exports)
}

#[test]
fn two_components_have_limits_of_their_own() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new()
            .text("small", &cell(), KIB_512, "")
            .text("large", &cell(), MIB, "");
        let host = tree.start().await.unwrap();
        let (small, large) = (
            host.component("small").unwrap(),
            host.component("large").unwrap(),
        );
        let grow = async |component: &airssys::ComponentRef, pages| {
            number(&component.call("grow", &[Val::U32(pages)]).await.unwrap())
        };
        // What one takes, the other has no less of, and no more.
        assert_eq!(grow(&small, 7).await, 1);
        assert_eq!(grow(&large, 15).await, 1);
        assert_eq!(grow(&small, 1).await, -1);
        assert_eq!(grow(&large, 1).await, -1);
        let metrics = small.memory().unwrap();
        assert_eq!(
            (metrics.current_bytes, metrics.max_bytes),
            (KIB_512, KIB_512)
        );
        let metrics = large.memory().unwrap();
        assert_eq!((metrics.current_bytes, metrics.max_bytes), (MIB, MIB));
        host.shutdown().await;
    });
}

#[test]
fn an_out_of_memory_of_one_component_is_nothing_to_the_other() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new()
            .guest("leaky", LEAKY)
            .guest("notebook", NOTEBOOK)
            .guest("calculator", CALCULATOR);
        let host = tree.start().await.unwrap();
        let leaky = host.component("leaky").unwrap();
        let notebook = host.component("notebook").unwrap();
        let calculator = host.component("calculator").unwrap();
        for round in 0..20_u32 {
            let note = Val::String(format!("note {round}"));
            let count = notebook.call("append", &[note]).await.unwrap();
            assert_eq!(count, [Val::U32(round + 1)]);
            let held = notebook.memory().unwrap();
            let error = leaky.call("leak-until-refused", &[]).await.unwrap_err();
            assert!(matches!(error, WasmError::OutOfMemory { .. }), "{error}");
            assert_eq!(notebook.memory().unwrap(), held);
            let sum = calculator
                .call("add", &[Val::U32(round), Val::U32(1)])
                .await
                .unwrap();
            assert_eq!(sum, [Val::U32(round + 1)]);
        }
        let first = notebook.call("get", &[Val::U32(0)]).await.unwrap();
        let note = Val::String(String::from("note 0"));
        assert_eq!(first, [Val::Option(Some(Box::new(note)))]);
        host.shutdown().await;
    });
}

#[test]
fn components_of_one_binary_share_no_memory() {
    let _machine = shared_machine();
    block_on(async {
        let names: Vec<String> = (0..20).map(|i| format!("cell-{i}")).collect();
        let tree = names.iter().fold(Tree::new(), |tree, name| {
            tree.text(name, &cell(), KIB_512, "")
        });
        let host = tree.start().await.unwrap();
        let cells: Vec<_> = names
            .iter()
            .map(|name| host.component(name).unwrap())
            .collect();
        for (value, cell) in (1000..).zip(&cells) {
            cell.call("set", &[Val::U32(value)]).await.unwrap();
        }
        for (value, cell) in (1000..).zip(&cells) {
            assert_eq!(cell.call("get", &[]).await.unwrap(), [Val::U32(value)]);
        }
        // One dies; its memory is new, the others' are as they were.
        cells[7]
            .call("grow-then-trap", &[Val::U32(100)])
            .await
            .unwrap_err();
        for (value, (i, cell)) in (1000..).zip(cells.iter().enumerate()) {
            let expected = if i == 7 { 0 } else { value };
            assert_eq!(
                cell.call("get", &[]).await.unwrap(),
                [Val::U32(expected)],
                "cell {i}"
            );
        }
        host.shutdown().await;
    });
}

#[test]
fn growth_of_many_components_at_once_is_held_to_each_limit() {
    let _machine = shared_machine();
    block_on(async {
        let names: Vec<String> = (0..16).map(|i| format!("cell-{i}")).collect();
        let limit = |i: usize| KIB_512 + i * PAGE;
        let tree = names.iter().enumerate();
        let tree = tree.fold(Tree::new(), |tree, (i, name)| {
            tree.text(name, &cell(), limit(i), "")
        });
        let host = tree.start().await.unwrap();
        let growing: Vec<_> = names
            .iter()
            .map(|name| {
                let cell = host.component(name).unwrap();
                tokio::spawn(async move {
                    while number(&cell.call("grow", &[Val::U32(1)]).await.unwrap()) != -1 {}
                    cell
                })
            })
            .collect();
        for (i, growing) in growing.into_iter().enumerate() {
            let cell = growing.await.unwrap();
            assert_eq!(cell.memory().unwrap().current_bytes, limit(i));
            let pages = u32::try_from(limit(i) / PAGE).unwrap();
            assert_eq!(cell.call("size", &[]).await.unwrap(), [Val::U32(pages)]);
        }
        host.shutdown().await;
    });
}

/// Writes a secret into every word it may hold, and ends in some way; or counts the words that are
/// not zero in all it may hold.
const SECRETS: &str = r#"
    (memory 1)
    (func $hide (local $at i32)
        (drop (memory.grow (i32.const 15)))
        (loop $next
            (i64.store (local.get $at) (i64.const 0x5ec2e75ec2e75ec2))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $next (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536))))))
    (func (export "hide") (call $hide))
    (func (export "hide-then-trap") (call $hide) unreachable)
    (func (export "hide-then-leak") (call $hide) (drop (memory.grow (i32.const 1))) unreachable)
    (func (export "hide-then-spin") (call $hide) (loop $l (br $l)))
    (func (export "seek") (result i32) (local $at i32) (local $found i32)
        (drop (memory.grow (i32.const 15)))
        (loop $next
            (local.set $found (i32.add (local.get $found) (i64.ne (i64.load (local.get $at)) (i64.const 0))))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (br_if $next (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
        (local.get $found))
"#;

#[test]
fn whoever_has_the_place_next_finds_no_word_of_a_secret() {
    let _machine = shared_machine();
    block_on(async {
        let exports = [
            ("hide", ""),
            ("hide-then-trap", ""),
            ("hide-then-leak", ""),
            ("hide-then-spin", ""),
            ("seek", "(result u32)"),
        ];
        let text = component(SECRETS, false, &exports);
        // Another binary, so that nothing is reused for being the same.
        let other = text.replace("unreachable", "nop unreachable");
        let cpu = "timeout_seconds = 1\n[instance]\nmode = \"per-call\"";
        let tree = Tree::new()
            // A start that finds the place taken is tried again at once, many times in a millisecond.
            .intensity(100_000, 1)
            .text("keeper", &text, MIB, cpu)
            .text("seeker", &other, MIB, cpu);
        // One place, so that each instance has the one of the last.
        let path = tree.write();
        let toml = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, toml + "\n[system]\nmax_components = 1\n").unwrap();
        let host = Host::from_config(&path).await.unwrap();
        let keeper = host.component("keeper").unwrap();
        let seeker = host.component("seeker").unwrap();
        let seek = async |component: &airssys::ComponentRef| {
            loop {
                match component.call("seek", &[]).await {
                    // The other one is being started, and has the place for a moment.
                    Err(WasmError::NoInstance { .. }) => tokio::task::yield_now().await,
                    found => break number(&found.unwrap()),
                }
            }
        };
        for _ in 0..10 {
            for way in ["hide", "hide-then-trap", "hide-then-leak", "hide-then-spin"] {
                let patience =
                    Duration::from_millis(if way == "hide-then-spin" { 30 } else { 1000 });
                let ended = keeper.call_within(way, &[], patience).await;
                assert_eq!(ended.is_ok(), way == "hide", "{way}: {ended:?}");
                assert_eq!(seek(&seeker).await, 0, "another component after {way}");
                assert_eq!(seek(&keeper).await, 0, "itself after {way}");
            }
        }
        host.shutdown().await;
    });
}
