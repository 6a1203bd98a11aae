//! How instances end that nothing is wrong with: with their caller, with their call, with idleness.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use airssys::{
    Change, ChildSpec, ComponentConfig, ComponentRef, ComponentSpec, EventStream, ExitKind, Host,
    Received, Val, WasmError,
};
use airssys_guests::{CRASHER, SPINNER};

use crate::support::{Alone, Tree, block_on, machine_to_itself, number, shared_machine};

const MIB: usize = 1_048_576;
const LONG: u64 = u64::MAX;

/// A guest that computes or waits for the host, for longer than any test takes.
const ENDLESS: [(&str, u64); 2] = [("spin-for", LONG), ("park-ms", 3_600_000)];

/// The causes of the exits that are told until now.
async fn exits(events: &mut EventStream) -> Vec<(String, ExitKind)> {
    let mut exits = Vec::new();
    let soon = Duration::from_millis(20);
    while let Ok(Some(received)) = tokio::time::timeout(soon, events.next()).await {
        if let Received::Event(event) = received
            && let Change::Exited { cause } = &event.change
        {
            exits.push((event.child.to_string(), cause.kind()));
        }
    }
    exits
}

/// Calls, and goes away while the guest is at work.
async fn give_up(component: &ComponentRef, function: &str, argument: u64) {
    let arguments = [Val::U64(argument)];
    let at_work = async {
        while component.waiting() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    tokio::select! {
        biased;
        ended = component.call(function, &arguments) => panic!("{ended:?}"),
        () = at_work => {}
    }
}

#[test]
fn a_cancelled_call_ends_its_guest_at_once_and_the_next_call_has_a_fresh_instance() {
    let _machine = machine_to_itself();
    block_on(async {
        let alone = Alone::guest(SPINNER, MIB, "timeout_seconds = 300").await;
        let mut events = alone.host.events();
        for (function, argument) in ENDLESS {
            let mut times = Vec::new();
            for _ in 0..20 {
                assert_eq!(
                    alone.number("ping", &[]).await,
                    1,
                    "nothing is left of before"
                );
                give_up(&alone.component, function, argument).await;
                let began = Instant::now();
                assert_eq!(alone.number("ping", &[]).await, 1);
                times.push(began.elapsed());
                // Counted anew by the next round's first ping.
                give_up(&alone.component, function, argument).await;
            }
            times.sort();
            // A tick, the end of the old instance and the start of the new one.
            assert!(
                times[10] < Duration::from_millis(5),
                "{function}: {times:?}"
            );
        }
        let exits = exits(&mut events).await;
        assert_eq!(exits.len(), 80, "{exits:?}");
        assert!(exits.iter().all(|(_, kind)| *kind == ExitKind::Cancelled));
        alone.host.shutdown().await;
    });
}

#[test]
fn a_cancelled_call_touches_no_sibling_and_costs_no_restart() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new()
            .intensity(0, 60)
            .guest("cancelled", SPINNER)
            .guest("sibling", SPINNER);
        let host = tree.start().await.unwrap();
        let (cancelled, sibling) = pair(&host);
        let mut events = host.events();
        for round in 1..=10 {
            give_up(&cancelled, "spin-for", LONG).await;
            let answer = sibling.call("ping", &[]).await.unwrap();
            assert_eq!(number(&answer), round, "the same instance as before");
        }
        // A call that is withdrawn before its turn ends nothing.
        let (short, long) = ([Val::U64(300)], [Val::U64(LONG)]);
        let busy = cancelled.call("park-ms", &short);
        let behind = cancelled.call("spin-for", &long);
        let behind = tokio::time::timeout(Duration::from_millis(20), behind);
        let (busy, behind) = tokio::join!(busy, behind);
        busy.unwrap();
        assert!(behind.is_err(), "{behind:?}");
        let exits = exits(&mut events).await;
        assert_eq!(exits.len(), 10, "{exits:?}");
        assert!(
            exits
                .iter()
                .all(|exit| *exit == (String::from("cancelled"), ExitKind::Cancelled))
        );
        host.shutdown().await;
    });
}

fn pair(host: &Host) -> (ComponentRef, ComponentRef) {
    let component = |name| host.component(name).unwrap();
    (component("cancelled"), component("sibling"))
}

#[test]
fn a_deadline_of_the_callers_own_ends_the_guest() {
    let _machine = machine_to_itself();
    block_on(async {
        let alone = Alone::guest(SPINNER, MIB, "timeout_seconds = 300").await;
        for (function, argument) in ENDLESS {
            let arguments = [Val::U64(argument)];
            let deadline = Duration::from_millis(30);
            let call = alone.component.call_within(function, &arguments, deadline);
            let expired = call.await.unwrap_err();
            assert!(matches!(expired, WasmError::Expired { .. }), "{expired}");
            let began = Instant::now();
            assert_eq!(alone.number("ping", &[]).await, 1);
            assert!(began.elapsed() < Duration::from_millis(200));
        }
        alone.host.shutdown().await;
    });
}

/// A tree with one pool of `places` and components of these `[instance]` tables.
fn crowd(places: u32, instances: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::new();
    for (name, instance) in instances {
        let more = format!("\n[instance]\n{instance}\n");
        tree = tree.component(name, SPINNER.wasm, MIB, &more);
    }
    let path = tree.write();
    let mut toml = String::new();
    write!(toml, "[system]\nmax_components = {places}\n\n").unwrap();
    toml += &std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, toml).unwrap();
    tree
}

async fn started(tree: &Tree) -> Host {
    let path = tree.path().join("airssys.toml");
    Host::from_config(path).await.unwrap()
}

const PER_CALL: &str = "mode = \"per-call\"";

#[test]
fn a_call_of_its_own_instance_finds_nothing_of_the_calls_before_it() {
    let _machine = shared_machine();
    block_on(async {
        let per_call = format!("\n[instance]\n{PER_CALL}\n");
        let alone = Alone::guest(CRASHER, MIB, &per_call).await;
        let mut events = alone.host.events();
        for _ in 0..100 {
            assert_eq!(alone.number("ping", &[]).await, 1);
            assert!(alone.component.memory().is_none(), "no instance in between");
        }
        assert!(
            exits(&mut events).await.is_empty(),
            "an instance that has served is no exit"
        );
        let cause = alone.exit("trap", &[]).await;
        assert_eq!(cause.kind(), ExitKind::Trap);
        assert_eq!(alone.number("ping", &[]).await, 1);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_persistent_instance_remembers() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::guest(CRASHER, MIB, "").await;
        for round in 1..=3 {
            assert_eq!(alone.number("ping", &[]).await, round);
        }
        assert!(alone.component.memory().is_some());
        alone.host.shutdown().await;
    });
}

#[test]
fn a_full_pool_is_told_to_the_call_and_leaves_the_component_as_it_is() {
    let _machine = shared_machine();
    block_on(async {
        let tree = crowd(1, &[("one", PER_CALL), ("two", PER_CALL)]);
        let host = started(&tree).await;
        let mut events = host.events();
        let component = |name| host.component(name).unwrap();
        let (one, two) = (component("one"), component("two"));
        one.call("ping", &[]).await.unwrap();
        let arguments = [Val::U64(100)];
        let (busy, refused) = tokio::join!(one.call("park-ms", &arguments), async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            two.call("ping", &[]).await
        });
        busy.unwrap();
        let Err(WasmError::NoInstance { cause, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(cause.kind(), ExitKind::Capacity);
        two.call("ping", &[]).await.unwrap();
        assert!(exits(&mut events).await.is_empty(), "neither has ended");
        host.shutdown().await;
    });
}

#[test]
fn parked_components_give_their_place_in_the_pool_to_others() {
    let _machine = machine_to_itself();
    block_on(async {
        let parks = "park_after_seconds = 1";
        let tree = crowd(2, &[("a", parks), ("b", "")]);
        let third = crowd(1, &[("c", "")]);
        let third = || {
            let path = third.path().join("c/Component.toml");
            ChildSpec::component(ComponentConfig::load(path).unwrap())
        };
        let host = started(&tree).await;
        let mut events = host.events();
        let tools = host.supervisor("tools").unwrap();
        let component = |name| host.component(name).unwrap();
        let (a, b) = (component("a"), component("b"));
        for round in 1..=2 {
            assert_eq!(number(&a.call("ping", &[]).await.unwrap()), round);
            assert_eq!(number(&b.call("ping", &[]).await.unwrap()), round);
        }
        let refused = tools.start_child(third()).await.unwrap_err();
        assert!(refused.to_string().contains("capacity"), "{refused}");
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(
            number(&a.call("ping", &[]).await.unwrap()),
            3,
            "the clock starts anew"
        );
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(a.memory().is_some(), "not yet");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(a.memory().is_none(), "parked");
        assert!(b.memory().is_some(), "did not ask for it");
        tools.start_child(third()).await.unwrap();
        let full = a.call("ping", &[]).await.unwrap_err();
        assert!(matches!(full, WasmError::NoInstance { .. }), "{full}");
        tools.terminate_child("c").await.unwrap();
        let began = Instant::now();
        assert_eq!(
            number(&a.call("ping", &[]).await.unwrap()),
            1,
            "a fresh instance"
        );
        assert!(
            began.elapsed() < Duration::from_millis(50),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(number(&b.call("ping", &[]).await.unwrap()), 3);
        let exits = exits(&mut events).await;
        assert!(
            exits.iter().all(|(child, _)| child == "c"),
            "parking is no exit: {exits:?}"
        );
        host.shutdown().await;
        assert_eq!(host.tasks().counts().active, 0);
    });
}
