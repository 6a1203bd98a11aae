//! A new release in the place of one that serves: state, waiting calls, probation, replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use airssys::{
    Change, ComponentConfig, ExitKind, FunctionError, Handover, HostBuilder, HostFunctions,
    MemoryCeiling, MemoryConfig, Received, SystemConfig, UpgradeError, Upgraded, Val, WasmError,
};

use crate::messaging_test::{couriers, desk, text};
use crate::support::{Alone, Tree, block_on, number, shared_machine};

const MIB: usize = 1_048_576;

/// A release: how far it counts at once, and what else it exports.
pub struct Counter {
    step: i64,
    state: bool,
    /// What `restore` does.
    restore: &'static str,
    save: &'static str,
    /// What `bump` does before it counts.
    before: &'static str,
    bump_type: &'static str,
    start: &'static str,
}

impl Counter {
    pub const fn by(step: i64) -> Self {
        Self {
            step,
            state: true,
            restore: "(global.set $count (i64.load (local.get 0)))",
            save: "",
            before: "",
            bump_type: "(result s64)",
            start: "",
        }
    }

    pub fn wasm(&self) -> Vec<u8> {
        let Self {
            step,
            restore,
            save,
            before,
            bump_type,
            start,
            ..
        } = self;
        let core = format!(
            r#"(core module $m
                (memory (export "memory") 1)
                (global $count (mut i64) (i64.const 0))
                (func (export "bump") (result i64)
                    {before}
                    (global.set $count (i64.add (global.get $count) (i64.const {step})))
                    (global.get $count))
                (func (export "wait") (result i64) (local $i i32)
                    (loop $l
                        (local.set $i (i32.add (local.get $i) (i32.const 1)))
                        (br_if $l (i32.lt_u (local.get $i) (i32.const 300000000))))
                    (global.get $count))
                (func (export "fail") (unreachable))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                (func (export "save") (result i32)
                    (i32.store8 (i32.const 256) (i32.const 0))
                    (i64.store (i32.const 512) (global.get $count))
                    (i32.store (i32.const 260) (i32.const 512))
                    (i32.store (i32.const 264) (i32.const 8))
                    {save}
                    (i32.const 256))
                (func (export "restore") (param i32 i32) (result i32)
                    (i32.store8 (i32.const 256) (i32.const 0))
                    {restore}
                    (i32.const 256))
                (func $start {start})
                (start $start)
                (data (i32.const 600) "no room for it"))"#
        );
        let state = match self.state {
            false => "",
            true => {
                r#"(func $save (result (result (list u8) (error string)))
                    (canon lift (core func $i "save") (memory $mem)))
                (func $restore (param "state" (list u8)) (result (result (error string)))
                    (canon lift (core func $i "restore") (memory $mem) (realloc $realloc)))
                (instance $state (export "save" (func $save)) (export "restore" (func $restore)))
                (export "airssys:upgrade/state@0.1.0" (instance $state))"#
            }
        };
        let text = format!(
            r#"(component {core}
                (core instance $i (instantiate $m))
                (alias core export $i "memory" (core memory $mem))
                (alias core export $i "realloc" (core func $realloc))
                (func (export "bump") {bump_type} (canon lift (core func $i "bump")))
                (func (export "wait") (result s64) (canon lift (core func $i "wait")))
                (func (export "fail") (canon lift (core func $i "fail")))
                {state})"#
        );
        wat::parse_str(text).unwrap()
    }
}

/// What an error returned by `save` or `restore` looks like: 14 bytes of text.
const REFUSES: &str = "(i32.store8 (i32.const 256) (i32.const 1))
    (i32.store (i32.const 260) (i32.const 600))
    (i32.store (i32.const 264) (i32.const 14))";

/// The component with the release before, which counts by one.
async fn counting(lines: &[(&str, &str)]) -> Alone {
    let tree = Tree::new()
        .component("alone", &Counter::by(1).wasm(), MIB, "timeout_seconds = 5")
        .intensity(0, 60);
    let tree = lines.iter().fold(tree, |tree, (section, line)| {
        tree.line("alone", section, line)
    });
    Alone::of(tree).await.unwrap()
}

/// A configuration with this binary, of the minor version after the one that serves.
fn release(alone: &Alone, wasm: &[u8], lines: &str) -> ComponentConfig {
    let folder = alone.tree().path().join("alone");
    let version = alone.component.version().minor + 1;
    let file = format!("{version}.wasm");
    std::fs::write(folder.join(&file), wasm).unwrap();
    let toml = std::fs::read_to_string(folder.join("Component.toml")).unwrap();
    let toml = toml
        .replace("component.wasm", &file)
        .replace("0.1.0", &format!("0.{version}.0"));
    ComponentConfig::parse(folder.join("Component.toml"), &format!("{toml}\n{lines}")).unwrap()
}

const AT_ONCE: &str = "[upgrade]\nprobation_seconds = 0\n";
const A_SECOND: &str = "[upgrade]\nprobation_seconds = 1\n";
const LONG: &str = "[upgrade]\nprobation_seconds = 60\n";

async fn upgrade(alone: &Alone, counter: &Counter, lines: &str) -> Result<Upgraded, UpgradeError> {
    let config = release(alone, &counter.wasm(), lines);
    alone.component.upgrade(config).await
}

async fn bump(alone: &Alone) -> i64 {
    alone.number("bump", &[]).await
}

/// An upgrade that goes on beside the test, and has the new release serve.
async fn on_probation(
    alone: &Alone,
    counter: &Counter,
) -> tokio::task::JoinHandle<Result<Upgraded, UpgradeError>> {
    let config = release(alone, &counter.wasm(), LONG);
    let (component, version) = (alone.component.clone(), config.version.clone());
    let upgrade = tokio::spawn(async move { component.upgrade(config).await });
    while alone.component.version() != version {
        assert!(!upgrade.is_finished(), "{:?}", upgrade.await);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    upgrade
}

#[test]
fn state_goes_over_and_calls_that_wait_are_served_by_the_new_release() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counting(&[]).await;
        for n in 1..=3 {
            assert_eq!(bump(&alone).await, n);
        }
        // One is in flight, and these wait behind it.
        let component = &alone.component;
        let slow = component.call("wait", &[]);
        let waiting = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let bump = || component.call("bump", &[]);
            let next = Counter::by(100);
            let upgrade = upgrade(&alone, &next, AT_ONCE);
            tokio::join!(upgrade, async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                tokio::join!(bump(), bump())
            })
        };
        let (slow, (upgraded, (a, b))) = tokio::join!(slow, waiting);
        assert_eq!(number(&slow.unwrap()), 3);
        let upgraded = upgraded.unwrap();
        assert_eq!(upgraded.from.to_string(), "0.1.0");
        assert_eq!(upgraded.to.to_string(), "0.2.0");
        assert_eq!(upgraded.state_bytes, Some(8));
        assert_eq!(component.version(), upgraded.to);
        let mut answers = [number(&a.unwrap()), number(&b.unwrap())];
        answers.sort();
        assert_eq!(answers, [103, 203]);
        // Nothing ended, so nothing was restarted.
        let metrics = component.metrics();
        assert_eq!((metrics.generation, metrics.restarts), (1, 0));
        assert!(metrics.exits.is_empty(), "{:?}", metrics.exits);
    });
}

#[test]
fn a_release_without_state_begins_anew_and_one_that_passes_its_probation_stays() {
    let _machine = shared_machine();
    block_on(async {
        let stateless = |step| Counter {
            state: false,
            ..Counter::by(step)
        };
        let tree = Tree::new().component("alone", &stateless(1).wasm(), MIB, "");
        let alone = Alone::of(tree.intensity(0, 60)).await.unwrap();
        assert_eq!(bump(&alone).await, 1);
        let began = std::time::Instant::now();
        let upgraded = upgrade(&alone, &stateless(10), A_SECOND).await.unwrap();
        assert!(began.elapsed() >= Duration::from_secs(1));
        assert_eq!(upgraded.state_bytes, None);
        assert_eq!(bump(&alone).await, 10);
        // From here on its failures are its own, and the old one is not kept.
        assert_eq!(alone.exit("fail", &[]).await.kind(), ExitKind::Trap);
        assert_eq!(alone.component.version().to_string(), "0.2.0");
    });
}

#[test]
fn a_release_that_fails_on_probation_gives_way_to_the_one_before_as_it_was() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counting(&[]).await;
        let mut events = alone.host.events();
        assert_eq!(bump(&alone).await, 1);
        for round in 0..3_i64 {
            let upgrade = on_probation(&alone, &Counter::by(100)).await;
            assert_eq!(bump(&alone).await, 1 + round + 100);
            // The caller of the call that failed is told why, the supervisor hears of nothing.
            assert_eq!(alone.exit("fail", &[]).await.kind(), ExitKind::Trap);
            match upgrade.await.unwrap() {
                Err(UpgradeError::RolledBack { cause, .. }) => {
                    assert_eq!(cause.kind(), ExitKind::Trap);
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(alone.component.version().to_string(), "0.1.0");
            // In the state it was replaced in.
            assert_eq!(bump(&alone).await, 2 + round);
        }
        let metrics = alone.component.metrics();
        assert_eq!((metrics.generation, metrics.restarts), (1, 0));
        assert_eq!(metrics.exits.get("trap"), Some(&3));
        let mut told = Vec::new();
        let soon = Duration::from_millis(50);
        while let Ok(Some(received)) = tokio::time::timeout(soon, events.next()).await {
            let Received::Event(event) = received else {
                continue;
            };
            told.push(match &event.change {
                Change::Upgraded { from, to } => format!("{from} {to}"),
                Change::RolledBack { cause } => cause.kind().as_str().to_owned(),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(told, ["0.1.0 0.2.0", "trap"].repeat(3));
    });
}

#[test]
fn a_caller_that_goes_away_does_not_end_a_probation() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counting(&[]).await;
        assert_eq!(bump(&alone).await, 1);
        let upgrade = on_probation(&alone, &Counter::by(100)).await;
        let component = &alone.component;
        let slow = component.call("wait", &[]);
        assert!(
            tokio::time::timeout(Duration::from_millis(30), slow)
                .await
                .is_err()
        );
        // A fresh instance of the new release, still on probation.
        assert_eq!(bump(&alone).await, 100);
        assert_eq!(alone.exit("fail", &[]).await.kind(), ExitKind::Trap);
        assert!(matches!(
            upgrade.await.unwrap(),
            Err(UpgradeError::RolledBack { .. })
        ));
        // What was kept went with its actor.
        assert_eq!(bump(&alone).await, 1);
    });
}

#[test]
fn an_upgrade_on_probation_is_under_way_though_its_caller_has_gone() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counting(&[]).await;
        let first = on_probation(&alone, &Counter::by(100)).await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let second = upgrade(&alone, &Counter::by(10_000), AT_ONCE).await;
        assert!(
            matches!(second, Err(UpgradeError::UnderWay { .. })),
            "{second:?}"
        );
        assert_eq!(bump(&alone).await, 100);
        // It still gives way to what was there before.
        alone.exit("fail", &[]).await;
        assert_eq!(bump(&alone).await, 1);
        upgrade(&alone, &Counter::by(10_000), AT_ONCE)
            .await
            .unwrap();
        alone.host.shutdown().await;
    });
}

#[test]
fn a_release_is_sent_what_it_subscribes_to_and_no_more_what_the_one_before_did() {
    let _machine = shared_machine();
    block_on(async {
        let subscribe =
            |topic: &str| format!("[capabilities.messaging]\nsubscribe = [\"{topic}\"]");
        let tree = couriers(&[
            ("a", "[capabilities.messaging]\npublish = [\"**\"]"),
            ("b", &subscribe("old.**")),
        ]);
        let host = tree.start().await.unwrap();
        let delivered = async |topic: &str| {
            let answer = desk(&host, "a", "publish", &[text(topic), text("")]).await;
            let [Val::Result(Ok(Some(counts)))] = &answer[..] else {
                panic!("{answer:?}")
            };
            match &**counts {
                Val::Tuple(counts) => counts[0].clone(),
                other => panic!("{other:?}"),
            }
        };
        let both = async || [delivered("old.news").await, delivered("new.news").await];
        assert_eq!(both().await, [Val::U32(1), Val::U32(0)]);
        let path = tree.path().join("b/Component.toml");
        let toml = std::fs::read_to_string(&path).unwrap();
        for (topic, expected) in [("new.**", [0, 1]), ("old.**", [1, 0])] {
            let toml = toml.replace("old.**", topic);
            let config = ComponentConfig::parse(&path, &format!("{toml}\n{AT_ONCE}")).unwrap();
            host.component("b").unwrap().upgrade(config).await.unwrap();
            assert_eq!(both().await, expected.map(Val::U32), "{topic}");
        }
        host.shutdown().await;
    });
}

#[test]
fn what_cannot_be_upgraded_is_told_and_changes_nothing() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counting(&[]).await;
        assert_eq!(bump(&alone).await, 1);
        let by = Counter::by(100);
        let refused = upgrade(
            &alone,
            &Counter {
                save: "",
                restore: REFUSES,
                ..by
            },
            LONG,
        )
        .await;
        match refused {
            Err(UpgradeError::Refused {
                function: Handover::Restore,
                reason,
                ..
            }) => assert_eq!(reason, "no room for it"),
            other => panic!("{other:?}"),
        }
        let ends = Counter {
            restore: "(unreachable)",
            ..Counter::by(100)
        };
        match upgrade(&alone, &ends, LONG).await {
            Err(UpgradeError::Ended {
                function: Handover::Restore,
                cause,
                ..
            }) => {
                assert_eq!(cause.kind(), ExitKind::Trap);
            }
            other => panic!("{other:?}"),
        }
        let lost = Counter {
            state: false,
            ..Counter::by(100)
        };
        let lost = upgrade(&alone, &lost, LONG).await;
        assert!(
            matches!(lost, Err(UpgradeError::StateLost { .. })),
            "{lost:?}"
        );
        let dies = Counter {
            start: "(unreachable)",
            ..Counter::by(100)
        };
        let dies = upgrade(&alone, &dies, LONG).await;
        assert!(matches!(dies, Err(UpgradeError::Start { .. })), "{dies:?}");
        let none = alone
            .component
            .upgrade(release(&alone, b"no wasm", LONG))
            .await;
        assert!(matches!(none, Err(UpgradeError::Load { .. })), "{none:?}");
        let mut other = release(&alone, &Counter::by(100).wasm(), LONG);
        other.name = "other".parse().unwrap();
        let other = alone.component.upgrade(other).await;
        assert!(
            matches!(other, Err(UpgradeError::OtherName { .. })),
            "{other:?}"
        );
        let more = release(
            &alone,
            &Counter::by(100).wasm(),
            "[instance]\nreplicas = 2\n",
        );
        let more = alone.component.upgrade(more).await;
        assert!(
            matches!(more, Err(UpgradeError::OtherReplicas { .. })),
            "{more:?}"
        );
        let mut large = release(&alone, &Counter::by(100).wasm(), LONG);
        let ceiling = MemoryCeiling::new(16 * MIB).unwrap();
        large.resources.memory = MemoryConfig::within(8 * MIB, ceiling).unwrap();
        match alone.component.upgrade(large).await {
            Err(UpgradeError::Load { cause, .. }) => {
                assert!(
                    cause.to_string().contains("policy.memory.max_bytes"),
                    "{cause}"
                );
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(bump(&alone).await, 2);
        assert_eq!(alone.component.version().to_string(), "0.1.0");
        // One at a time.
        let first = on_probation(&alone, &Counter::by(100)).await;
        let second = upgrade(&alone, &Counter::by(7), LONG).await;
        assert!(
            matches!(second, Err(UpgradeError::UnderWay { .. })),
            "{second:?}"
        );
        alone.host.shutdown().await;
        let first = first.await.unwrap();
        assert!(
            matches!(first, Err(UpgradeError::Stopped { .. })),
            "{first:?}"
        );
    });
}

#[test]
fn a_save_that_fails_keeps_the_release_before() {
    let _machine = shared_machine();
    block_on(async {
        for (save, count) in [(REFUSES, 2), ("(unreachable)", 1)] {
            let counter = Counter {
                save,
                ..Counter::by(1)
            };
            let tree = Tree::new().component("alone", &counter.wasm(), MIB, "");
            let alone = Alone::of(tree.intensity(0, 60)).await.unwrap();
            assert_eq!(bump(&alone).await, 1);
            match upgrade(&alone, &Counter::by(100), LONG).await {
                Err(
                    UpgradeError::Refused {
                        function: Handover::Save,
                        ..
                    }
                    | UpgradeError::Ended {
                        function: Handover::Save,
                        ..
                    },
                ) => {}
                other => panic!("{other:?}"),
            }
            // One that trapped has a fresh instance, at no cost.
            assert_eq!(bump(&alone).await, count);
            assert_eq!(alone.component.metrics().restarts, 0);
        }
    });
}

#[test]
fn a_call_whose_function_has_changed_gets_a_typed_error() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counting(&[]).await;
        let component = &alone.component;
        let slow = component.call("wait", &[]);
        let changed = Counter {
            bump_type: "(result u64)",
            ..Counter::by(100)
        };
        let waiting = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let call = component.call("bump", &[]);
            tokio::join!(upgrade(&alone, &changed, AT_ONCE), call)
        };
        let (slow, (upgraded, answer)) = tokio::join!(slow, waiting);
        slow.unwrap();
        upgraded.unwrap();
        match answer {
            Err(WasmError::Function {
                source: FunctionError::Changed { name },
                ..
            }) => {
                assert_eq!(name, "bump");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(component.call("bump", &[]).await.unwrap(), [Val::U64(100)]);
    });
}

#[test]
fn replicas_are_upgraded_one_after_another_and_go_back_together() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counting(&[("instance", "replicas = 3")]).await;
        let each = alone.component.replicas();
        for replica in &each {
            assert_eq!(number(&replica.call("bump", &[]).await.unwrap()), 1);
        }
        upgrade(&alone, &Counter::by(10), AT_ONCE).await.unwrap();
        for replica in &each {
            assert_eq!(number(&replica.call("bump", &[]).await.unwrap()), 11);
        }
        // The first has passed, the others are at it: one of them fails.
        let config = release(&alone, &Counter::by(100_000).wasm(), A_SECOND);
        let component = alone.component.clone();
        let upgrading = tokio::spawn(async move { component.upgrade(config).await });
        let third = &each[2];
        loop {
            let count = number(&third.call("bump", &[]).await.unwrap());
            if count > 100_000 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        third.call("fail", &[]).await.unwrap_err();
        let back = upgrading.await.unwrap();
        assert!(
            matches!(back, Err(UpgradeError::RolledBack { .. })),
            "{back:?}"
        );
        for replica in &each {
            let before = number(&replica.call("bump", &[]).await.unwrap());
            let after = number(&replica.call("bump", &[]).await.unwrap());
            assert_eq!(after - before, 10);
        }
        let restarts: u64 = each.iter().map(|r| r.metrics().restarts).sum();
        assert_eq!(restarts, 0);
    });
}

#[test]
fn an_upgrade_under_load_loses_no_call() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Arc::new(counting(&[]).await);
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let component = alone.component.clone();
                tokio::spawn(async move {
                    for _ in 0..500 {
                        component.call("bump", &[]).await.unwrap();
                    }
                })
            })
            .collect();
        let mut upgrades = 0;
        while callers.iter().any(|caller| !caller.is_finished()) && upgrades < 20 {
            upgrade(&alone, &Counter::by(1), AT_ONCE).await.unwrap();
            upgrades += 1;
        }
        for caller in callers {
            caller.await.unwrap();
        }
        assert!(upgrades > 0);
        assert_eq!(bump(&alone).await, 4_001, "after {upgrades} upgrades");
    });
}

#[test]
fn modes_without_an_instance_are_upgraded_as_well() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counting(&[("instance", "mode = \"per-call\"")]).await;
        assert_eq!(bump(&alone).await, 1);
        let upgraded = upgrade(&alone, &Counter::by(100), AT_ONCE).await.unwrap();
        assert_eq!(upgraded.state_bytes, None);
        assert_eq!((bump(&alone).await, bump(&alone).await), (100, 100));
        let upgrade = on_probation(&alone, &Counter::by(5)).await;
        alone.call("fail", &[]).await.unwrap_err();
        upgrade.await.unwrap().unwrap_err();
        assert_eq!(bump(&alone).await, 100);
    });
}

#[test]
fn a_probation_that_outlives_its_actor_ends_by_itself() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counting(&[]).await;
        let config = release(&alone, &Counter::by(100).wasm(), A_SECOND);
        let (component, version) = (alone.component.clone(), config.version.clone());
        let upgrade = tokio::spawn(async move { component.upgrade(config).await });
        while alone.component.version() != version {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let slow = alone.component.call("wait", &[]);
        let given_up = tokio::time::timeout(Duration::from_millis(30), slow).await;
        assert!(given_up.is_err());
        // Nobody calls it any more.
        let passed = tokio::time::timeout(Duration::from_secs(10), upgrade).await;
        passed.expect("it does not end").unwrap().unwrap();
        assert_eq!(bump(&alone).await, 100);
    });
}

/// Counts by a hundred, and cannot start once the host says so.
const STARTS_ONCE: &str = r#"(component
    (import "test:switch/switch@0.1.0" (instance $switch
        (export "off" (func (param "n" u32) (result u32)))))
    (core func $off (canon lower (func $switch "off")))
    (core module $m
        (import "switch" "off" (func $off (param i32) (result i32)))
        (global $count (mut i64) (i64.const 0))
        (func (export "bump") (result i64)
            (global.set $count (i64.add (global.get $count) (i64.const 100)))
            (global.get $count))
        (func (export "wait") (result i64) (loop $l (br $l)) (unreachable))
        (func $start (if (call $off (i32.const 0)) (then (unreachable))))
        (start $start))
    (core instance $i (instantiate $m
        (with "switch" (instance (export "off" (func $off))))))
    (func (export "bump") (result s64) (canon lift (core func $i "bump")))
    (func (export "wait") (result s64) (canon lift (core func $i "wait"))))"#;

#[test]
fn a_release_that_cannot_start_again_on_probation_gives_way_at_no_cost() {
    let _machine = shared_machine();
    block_on(async {
        let off = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&off);
        let switch =
            move |_: &airssys::Caller, (_,): (u32,)| Ok((u32::from(told.load(Ordering::SeqCst)),));
        let functions = HostFunctions::new().func("test:switch/switch@0.1.0", "off", switch);
        let stateless = Counter {
            state: false,
            ..Counter::by(1)
        };
        let tree = Tree::new()
            .component("alone", &stateless.wasm(), MIB, "")
            .intensity(0, 60);
        let config = SystemConfig::load(tree.write()).unwrap();
        let builder = HostBuilder::from(config).host_functions(functions);
        let alone = Alone::in_host(builder.start().await.unwrap(), tree);
        let next = release(&alone, &wat::parse_str(STARTS_ONCE).unwrap(), LONG);
        let (component, version) = (alone.component.clone(), next.version.clone());
        let upgrade = tokio::spawn(async move { component.upgrade(next).await });
        while alone.component.version() != version {
            assert!(!upgrade.is_finished(), "{:?}", upgrade.await);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(bump(&alone).await, 100);
        off.store(true, Ordering::SeqCst);
        // Its caller goes away, and the incarnation after it cannot start.
        let slow = alone.component.call("wait", &[]);
        let given_up = tokio::time::timeout(Duration::from_millis(30), slow).await;
        assert!(given_up.is_err());
        assert_eq!(bump(&alone).await, 1);
        let back = upgrade.await.unwrap();
        assert!(
            matches!(back, Err(UpgradeError::RolledBack { .. })),
            "{back:?}"
        );
    });
}
