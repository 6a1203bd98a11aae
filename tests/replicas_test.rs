//! Several instances under one name: where calls go, and what becomes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use airssys::config::Rule;
use airssys::{
    Backoff, CapacityError, Change, ChildKind, ChildSpec, ChildState, ComponentConfig,
    ComponentRef, ComponentSpec, ConfigError, ExitCause, ExitKind, Host, HostBuilder,
    HostFunctions, InstanceMode, LoadChange, Received, ReplicaCount, Restart, SupervisorSpec,
    SystemConfig, Val, WasmError,
};
use airssys_guests::{LEAKY, SPINNER};
use airssys_wasm::MAILBOX_CAPACITY;

use crate::support::{Tree, block_on, machine_to_itself, number, shared_machine};

const MIB: usize = 1_048_576;

/// Lines for the end of a Component.toml.
fn replicas(n: u32) -> String {
    format!("timeout_seconds = 300\n[instance]\nreplicas = {n}")
}

async fn ping(component: &ComponentRef) -> i64 {
    number(&component.call("ping", &[]).await.unwrap())
}

fn calls(component: &ComponentRef) -> u64 {
    component.metrics().total.calls
}

/// Waits until it holds; a test that waits for too long fails by its own limit.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How long `n` calls at once take that wait for the host.
async fn at_once(component: &ComponentRef, n: usize) -> Duration {
    let arguments = [Val::U64(100)];
    let began = Instant::now();
    let waits = (0..n).map(|_| component.call("park-ms", &arguments));
    for ended in futures_util::future::join_all(waits).await {
        ended.unwrap();
    }
    began.elapsed()
}

#[test]
fn long_calls_run_at_the_same_time_on_as_many_replicas() {
    let _machine = machine_to_itself();
    block_on(async {
        let tree = Tree::new()
            .component("one", SPINNER.wasm, MIB, &replicas(1))
            .component("six", SPINNER.wasm, MIB, &replicas(6));
        let host = tree.start().await.unwrap();
        let one = at_once(&host.component("one").unwrap(), 6).await;
        let six = at_once(&host.component("six").unwrap(), 6).await;
        assert!(one > six * 3, "{one:?} {six:?}");
        host.shutdown().await;
    });
}

#[test]
fn a_replica_that_spins_gets_no_call_while_another_is_idle() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().component("tool", SPINNER.wasm, MIB, &replicas(3));
        let host = tree.start().await.unwrap();
        let tool = host.component("tool").unwrap();
        let busy = tool.clone();
        let spins = tokio::spawn(async move { busy.call("spin", &[]).await });
        until(|| calls(&tool) == 1).await;
        for _ in 0..100 {
            ping(&tool).await;
        }
        let mut each: Vec<u64> = tool.replicas().iter().map(calls).collect();
        each.sort_unstable();
        // Those that are equally busy share.
        assert_eq!(each, [1, 50, 50]);
        spins.abort();
        host.shutdown().await;
    });
}

#[test]
fn a_replica_out_of_memory_leaves_the_others_their_state() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().component("tool", LEAKY.wasm, MIB, &replicas(3));
        let host = tree.start().await.unwrap();
        let tool = host.component("tool").unwrap();
        let each = tool.replicas();
        let names: Vec<&str> = each.iter().map(|r| r.name().as_str()).collect();
        assert_eq!(names, ["tool-0", "tool-1", "tool-2"]);
        let held = |replica: ComponentRef| async move {
            number(&replica.call("held", &[]).await.unwrap())
        };
        for replica in &each {
            replica.call("leak", &[Val::U32(1000)]).await.unwrap();
        }
        let before = held(each[0].clone()).await;
        assert!(before > 0);
        let alone = host.component("tool-1").unwrap();
        let died = alone.call("leak-until-refused", &[]).await.unwrap_err();
        assert!(matches!(died, WasmError::OutOfMemory { .. }), "{died}");
        let after = [
            held(each[0].clone()),
            held(each[1].clone()),
            held(each[2].clone()),
        ];
        let after = futures_util::future::join_all(after).await;
        assert_eq!(after, [before, 0, before]);
        let metrics = tool.metrics();
        assert_eq!((metrics.restarts, metrics.exits["oom"]), (1, 1));
        assert_eq!(metrics.total.calls, 3 + 1 + 1 + 3);
        assert_eq!(tool.memory().unwrap().max_bytes, 3 * MIB);
        host.shutdown().await;
    });
}

#[test]
fn calls_of_a_killed_replica_are_answered_by_its_successor() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().component("tool", SPINNER.wasm, MIB, &replicas(2));
        let host = tree.start().await.unwrap();
        let tool = host.component("tool").unwrap();
        let spin = |replica: &ComponentRef| {
            let replica = replica.clone();
            tokio::spawn(async move { replica.call("spin", &[]).await })
        };
        let spins: Vec<_> = tool.replicas().iter().map(spin).collect();
        until(|| calls(&tool) == 2).await;
        let waits: Vec<_> = (0..20)
            .map(|_| {
                let tool = tool.clone();
                tokio::spawn(async move { ping(&tool).await })
            })
            .collect();
        until(|| tool.waiting() == 20).await;
        let waiting: Vec<usize> = tool.replicas().iter().map(ComponentRef::waiting).collect();
        assert_eq!(waiting, [10, 10]);
        for spin in spins {
            spin.abort();
        }
        for wait in waits {
            wait.await.unwrap();
        }
        let generations: Vec<u64> = tool
            .replicas()
            .iter()
            .map(|r| r.metrics().generation)
            .collect();
        assert_eq!(generations, [2, 2]);
        host.shutdown().await;
    });
}

#[test]
fn one_replica_is_the_component_itself() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().component("tool", SPINNER.wasm, MIB, &replicas(1));
        let host = tree.start().await.unwrap();
        let tool = host.component("tool").unwrap();
        ping(&tool).await;
        assert!(host.component("tool-0").is_err() && host.supervisor("tool").is_err());
        assert!(tool.supervisor().is_none() && !tool.is_replica());
        let children = host
            .supervisor("tools")
            .unwrap()
            .which_children()
            .await
            .unwrap();
        assert_eq!((children.len(), children[0].kind), (1, ChildKind::Worker));
        let snapshot = host.snapshot().await;
        assert_eq!(snapshot.components.len(), 1);
        assert_eq!(snapshot.components[0].metrics.name, "tool");
        assert_eq!(snapshot.supervisors.len(), 2);
        host.shutdown().await;
    });
}

#[test]
fn a_component_with_replicas_is_terminated_restarted_and_deleted_by_its_name() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new()
            .shutdown("300ms")
            .component("tool", SPINNER.wasm, MIB, &replicas(3));
        let host = tree.start().await.unwrap();
        let tools = host.supervisor("tools").unwrap();
        let tool = host.component("tool").unwrap();
        let set = host.supervisor("tool").unwrap();
        let children = set.which_children().await.unwrap();
        let ids: Vec<&str> = children.iter().map(|child| child.id.as_str()).collect();
        assert_eq!(ids, ["tool-0", "tool-1", "tool-2"]);
        let snapshot = host.snapshot().await;
        let rows: Vec<_> = snapshot
            .components
            .iter()
            .map(|row| {
                (
                    row.metrics.name.as_str(),
                    row.supervisor.as_deref(),
                    row.state.as_str(),
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("tool-0", Some("tool"), "running"),
                ("tool-1", Some("tool"), "running"),
                ("tool-2", Some("tool"), "running"),
            ]
        );
        assert_eq!(snapshot.host.instances, 3);
        // One of them is stopped by itself: the others serve.
        set.terminate_child("tool-1").await.unwrap();
        for _ in 0..10 {
            ping(&tool).await;
        }
        assert_eq!(calls(&tool.replicas()[1]), 0);
        set.restart_child("tool-1").await.unwrap();
        // All of them, although all are busy.
        let busy: Vec<_> = (0..3)
            .map(|_| {
                let tool = tool.clone();
                tokio::spawn(async move { tool.call("park-ms", &[Val::U64(60_000)]).await })
            })
            .collect();
        until(|| tool.metrics().in_flight == 3).await;
        let began = Instant::now();
        tools.terminate_child("tool").await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(20));
        for call in busy {
            let ended = call.await.unwrap().unwrap_err();
            assert!(matches!(ended, WasmError::Exited { .. }), "{ended}");
        }
        let refused = tool.call("ping", &[]).await.unwrap_err();
        assert!(matches!(refused, WasmError::Stopped { .. }), "{refused}");
        assert_eq!(host.snapshot().await.host.instances, 0);
        tools.restart_child("tool").await.unwrap();
        assert_eq!(ping(&tool).await, 1);
        tools.terminate_child("tool").await.unwrap();
        tools.delete_child("tool").await.unwrap();
        assert!(host.components().is_empty() && host.component("tool-2").is_err());
        host.shutdown().await;
    });
}

#[test]
fn sixty_four_replicas_start_and_compile_once() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().component("tool", SPINNER.wasm, MIB, &replicas(64));
        let builder = HostBuilder::from(SystemConfig::load(tree.write()).unwrap());
        let mut loads = builder.loads();
        let host = builder.start().await.unwrap();
        let tool = host.component("tool").unwrap();
        assert_eq!((tool.replicas().len(), host.components().len()), (64, 1));
        for _ in 0..64 {
            assert_eq!(ping(&tool).await, 1, "each of them in its turn");
        }
        let told = async {
            let mut told = Vec::new();
            while let Some(Received::Event(event)) = loads.next().await {
                told.push(event.change);
                if !matches!(told.last(), Some(LoadChange::Began { .. })) {
                    break;
                }
            }
            told
        };
        let told = told.await;
        let [LoadChange::Began { .. }, LoadChange::Compiled { .. }] = told[..] else {
            panic!("{told:?}");
        };
        let more = tokio::time::timeout(Duration::from_millis(20), loads.next()).await;
        assert!(more.is_err(), "{more:?}");
        assert_eq!(host.snapshot().await.host.compiled, 1);
        host.shutdown().await;
    });
}

/// Calls a host function with its argument, or traps.
const MARKER: &str = r#"(component
    (import "acme:test/marks" (instance $marks (export "mark" (func (param "n" u32)))))
    (core func $mark (canon lower (func $marks "mark")))
    (core module $m
        (import "marks" "mark" (func $mark (param i32)))
        (func (export "mark") (param i32) (call $mark (local.get 0)))
        (func (export "trap") unreachable))
    (core instance $i (instantiate $m (with "marks" (instance (export "mark" (func $mark))))))
    (func (export "mark") (param "n" u32) (canon lift (core func $i "mark")))
    (func (export "trap") (canon lift (core func $i "trap"))))"#;

#[test]
fn no_call_is_lost_and_none_is_carried_out_twice_while_replicas_are_killed() {
    let _machine = shared_machine();
    const CALLERS: usize = 8;
    const CALLS: usize = 2_000;
    block_on(async {
        let wasm = wat::parse_str(MARKER).unwrap();
        let tree = Tree::new().component("tool", &wasm, MIB, &replicas(4));
        let marks: Arc<Vec<AtomicU32>> =
            Arc::new((0..CALLERS * CALLS).map(|_| AtomicU32::new(0)).collect());
        let marked = Arc::clone(&marks);
        let functions =
            HostFunctions::new().func("acme:test/marks", "mark", move |_, (n,): (u32,)| {
                marked[n as usize].fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
        let config = SystemConfig::load(tree.write()).unwrap();
        let builder = HostBuilder::from(config).host_functions(functions);
        let host = builder.start().await.unwrap();
        let tool = host.component("tool").unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let killers: Vec<_> = tool
            .replicas()
            .into_iter()
            .map(|replica| {
                let over = Arc::clone(&over);
                tokio::spawn(async move {
                    while !over.load(Ordering::Relaxed) {
                        replica.call("trap", &[]).await.unwrap_err();
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                })
            })
            .collect();
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let tool = tool.clone();
                tokio::spawn(async move {
                    for n in caller * CALLS..(caller + 1) * CALLS {
                        let n = Val::U32(u32::try_from(n).unwrap());
                        tool.call("mark", &[n]).await.unwrap();
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        over.store(true, Ordering::Relaxed);
        for killer in killers {
            killer.await.unwrap();
        }
        let wrong = marks
            .iter()
            .filter(|n| n.load(Ordering::Relaxed) != 1)
            .count();
        assert_eq!(wrong, 0);
        assert!(tool.metrics().exits["trap"] >= 8);
        for replica in tool.replicas() {
            assert!(
                calls(&replica) > 500,
                "{}: {}",
                replica.name(),
                calls(&replica)
            );
        }
        host.shutdown().await;
    });
}

#[test]
fn replicas_that_give_up_are_one_exit_of_the_component() {
    let _machine = shared_machine();
    block_on(async {
        let wasm = wat::parse_str(MARKER.replace("(call $mark (local.get 0))", "")).unwrap();
        let tree = Tree::new()
            .intensity(1, 60)
            .component("tool", &wasm, MIB, &replicas(2))
            .component("sibling", SPINNER.wasm, MIB, "");
        let functions =
            HostFunctions::new().func("acme:test/marks", "mark", |_, (_,): (u32,)| Ok(()));
        let config = SystemConfig::load(tree.write()).unwrap();
        let builder = HostBuilder::from(config).host_functions(functions);
        let host = builder.start().await.unwrap();
        let (tool, sibling) = (
            host.component("tool").unwrap(),
            host.component("sibling").unwrap(),
        );
        let sup = host.supervisor("tools").unwrap();
        let mut events = host.events();
        // Two replicas have two restarts; the third death is one exit of the component.
        for death in 1..=3 {
            tool.call("trap", &[]).await.unwrap_err();
            tool.call("mark", &[Val::U32(1)]).await.unwrap();
            assert_eq!(ping(&sibling).await, death);
        }
        while sup.which_child("tool").await.unwrap().unwrap().generation == 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(sup.describe().await.unwrap().restarts, 1);
        let mut deaths = 0;
        loop {
            let Some(Received::Event(event)) = events.next().await else {
                panic!("the set has ended");
            };
            match (event.child.as_str(), event.change) {
                ("tool", Change::Exited { cause }) => {
                    assert_eq!((deaths, cause.kind()), (3, ExitKind::Escalated));
                    break;
                }
                (_, Change::Exited { cause }) => {
                    deaths += u32::from(cause.kind() == ExitKind::Trap)
                }
                _ => {}
            }
        }
        // The next three are one exit more than the supervisor around them allows.
        for _ in 0..3 {
            tool.call("trap", &[]).await.unwrap_err();
        }
        let mut before = 3;
        loop {
            let count = ping(&sibling).await;
            if count == 1 {
                break;
            }
            before += 1;
            assert_eq!(
                count, before,
                "the same until it is started again with the others"
            );
            tokio::task::yield_now().await;
        }
        tool.call("mark", &[Val::U32(1)]).await.unwrap();
        host.shutdown().await;
    });
}

#[test]
fn a_killed_supervisor_of_replicas_leaves_no_call_without_an_answer() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().component("tool", SPINNER.wasm, MIB, &replicas(2));
        let host = tree.start().await.unwrap();
        let tool = host.component("tool").unwrap();
        let parked = tool.clone();
        let parked = tokio::spawn(async move { parked.call("park-ms", &[Val::U64(60_000)]).await });
        until(|| tool.metrics().in_flight == 1).await;
        host.supervisor("tool").unwrap().actor().kill();
        let ended = tokio::time::timeout(Duration::from_secs(20), parked).await;
        let ended = ended.unwrap().unwrap().unwrap_err();
        assert!(
            matches!(&ended, WasmError::Exited { cause, .. } if cause.kind() == ExitKind::Killed),
            "{ended}"
        );
        assert_eq!(ping(&tool).await, 1);
        host.shutdown().await;
    });
}

#[test]
fn replicas_take_places_in_the_pool_and_give_them_back_between_calls() {
    let _machine = shared_machine();
    block_on(async {
        let per_call = "[instance]\nmode = \"per-call\"\nreplicas = 2";
        let tree = Tree::new()
            .component("many", SPINNER.wasm, MIB, &replicas(4))
            .component("per-call", SPINNER.wasm, MIB, per_call);
        let tools = SupervisorSpec::new("tools");
        let builder = Host::builder().max_components(3).supervisor(tools);
        let host = builder.start().await.unwrap();
        let tools = host.supervisor("tools").unwrap();
        let spec = |folder: &str| {
            let path = tree.path().join(folder).join("Component.toml");
            ChildSpec::component(ComponentConfig::load(path).unwrap())
        };
        let refused = tools.start_child(spec("many")).await.unwrap_err();
        assert!(
            refused.to_string().contains("3 of 3 instances are live"),
            "{refused}"
        );
        let mut two = ComponentConfig::load(tree.path().join("many/Component.toml")).unwrap();
        two.instance.replicas = ReplicaCount::new(2).unwrap();
        tools.start_child(ChildSpec::component(two)).await.unwrap();
        // One place is left, for one call at a time.
        tools.start_child(spec("per-call")).await.unwrap();
        let fresh = host.component("per-call").unwrap();
        for _ in 0..4 {
            assert_eq!(ping(&fresh).await, 1);
        }
        let park = [Val::U64(100)];
        let (a, b) = tokio::join!(fresh.call("park-ms", &park), fresh.call("park-ms", &park));
        let full = a.and(b).unwrap_err();
        let WasmError::NoInstance { cause, .. } = full else {
            panic!("{full}");
        };
        let ExitCause::Capacity { source } = &*cause else {
            panic!("{cause}");
        };
        let full = source.downcast_ref().unwrap();
        assert!(matches!(
            full,
            CapacityError::Instances { live: 3, most: 3 }
        ));
        host.shutdown().await;
    });
}

/// A host with an empty supervisor, `tools`, and a Component.toml of a spinner with two replicas.
async fn two_to_start() -> (Tree, Host, ComponentConfig) {
    let tree = Tree::new().component("tool", SPINNER.wasm, MIB, &replicas(2));
    let tools = SupervisorSpec::new("tools");
    let host = Host::builder().supervisor(tools).start().await.unwrap();
    let config = ComponentConfig::load(tree.path().join("tool/Component.toml")).unwrap();
    (tree, host, config)
}

#[test]
fn a_replica_whose_restart_is_put_off_gets_no_call_while_another_serves() {
    let _machine = shared_machine();
    block_on(async {
        let (_tree, host, config) = two_to_start().await;
        let tools = host.supervisor("tools").unwrap();
        let hour = Duration::from_secs(3600);
        let spec = ChildSpec::component(config).backoff(Backoff {
            first: hour,
            longest: hour,
            ..Backoff::default()
        });
        tools.start_child(spec).await.unwrap();
        let tool = host.component("tool").unwrap();
        let first = host.component("tool-0").unwrap();
        let died = first.run::<(), _>(|_, _| Box::pin(async { panic!("dies") }));
        died.await.unwrap_err();
        let set = host.supervisor("tool").unwrap();
        while set.which_child("tool-0").await.unwrap().unwrap().state == ChildState::Running {
            tokio::task::yield_now().await;
        }
        for n in 1..=20 {
            assert_eq!(ping(&tool).await, n);
        }
        host.shutdown().await;
    });
}

#[test]
fn full_replicas_hand_the_call_back_and_tell_the_room_of_all() {
    let _machine = shared_machine();
    block_on(async {
        let (_tree, host, config) = two_to_start().await;
        let tools = host.supervisor("tools").unwrap();
        tools
            .start_child(ChildSpec::component(config))
            .await
            .unwrap();
        let tool = host.component("tool").unwrap();
        let spins: Vec<_> = (0..2)
            .map(|_| {
                let tool = tool.clone();
                tokio::spawn(async move { tool.call("spin", &[]).await })
            })
            .collect();
        until(|| calls(&tool) == 2).await;
        let room = 2 * MAILBOX_CAPACITY;
        let call = || async { tool.call("ping", &[]).await.map(|_| ()) };
        let waiting = futures_util::future::join_all((0..room + 1).map(|_| call()));
        let refused = async {
            until(|| tool.waiting() == room).await;
            let refused = tool.try_call("ping", &[]).await.unwrap_err();
            for spin in &spins {
                spin.abort();
            }
            refused
        };
        let (answered, refused) = tokio::join!(waiting, refused);
        assert!(
            matches!(refused, WasmError::MailboxFull { capacity, .. } if capacity == room),
            "{refused}"
        );
        assert!(answered.iter().all(Result::is_ok));
        let metrics = tool.metrics();
        assert_eq!(metrics.refused["mailbox-full"], 1);
        assert_eq!(metrics.total.answered, room as u64 + 1);
        host.shutdown().await;
    });
}

#[test]
fn replicas_that_are_idle_are_parked_and_come_back_for_a_call() {
    let _machine = shared_machine();
    block_on(async {
        let (_tree, host, mut config) = two_to_start().await;
        let tools = host.supervisor("tools").unwrap();
        config.instance.mode = InstanceMode::Persistent {
            park_after: Some(Duration::from_millis(50)),
        };
        tools
            .start_child(ChildSpec::component(config))
            .await
            .unwrap();
        let tool = host.component("tool").unwrap();
        assert_eq!((ping(&tool).await, ping(&tool).await), (1, 1));
        until(|| tool.memory().is_none()).await;
        assert_eq!((ping(&tool).await, ping(&tool).await), (1, 1));
        assert_eq!(tool.metrics().restarts, 0);
        host.shutdown().await;
    });
}

#[test]
fn a_component_that_has_a_replicas_name_keeps_it() {
    let _machine = shared_machine();
    block_on(async {
        let (_tree, host, mut config) = two_to_start().await;
        let tools = host.supervisor("tools").unwrap();
        let mut other = config.clone();
        other.instance.replicas = ReplicaCount::ONE;
        let other = ChildSpec::component_named("tool-1".parse().unwrap(), other);
        tools.start_child(other).await.unwrap();
        let refused = tools
            .start_child(ChildSpec::component(config.clone()))
            .await;
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("`tool-1` is in the tree already"),
            "{refused}"
        );
        assert!(host.component("tool").is_err() && host.component("tool-0").is_err());
        assert_eq!(ping(&host.component("tool-1").unwrap()).await, 1);
        // Its name is free for one that does not want the other.
        config.instance.replicas = ReplicaCount::ONE;
        tools
            .start_child(ChildSpec::component(config))
            .await
            .unwrap();
        host.shutdown().await;
    });
}

#[test]
fn temporary_replicas_end_with_their_component_when_none_is_left() {
    let _machine = shared_machine();
    block_on(async {
        let (_tree, host, config) = two_to_start().await;
        let tools = host.supervisor("tools").unwrap();
        let spec = ChildSpec::component(config).restart(Restart::Temporary);
        tools.start_child(spec).await.unwrap();
        let tool = host.component("tool").unwrap();
        let deadline = Duration::from_millis(20);
        tool.call_within("spin", &[], deadline).await.unwrap_err();
        let set = host.supervisor("tool").unwrap();
        while set.which_children().await.unwrap().len() == 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(ping(&tool).await, 1);
        tool.call_within("spin", &[], deadline).await.unwrap_err();
        until(|| host.component("tool").is_err()).await;
        let refused = tool.call("ping", &[]).await.unwrap_err();
        assert!(matches!(refused, WasmError::Stopped { .. }), "{refused}");
        assert_eq!(tools.count_children().await.unwrap().specs, 0);
        host.shutdown().await;
    });
}

#[test]
fn a_replicas_name_that_is_taken_is_told_with_both_places() {
    let tree = Tree::new()
        .component("tool", SPINNER.wasm, MIB, &replicas(2))
        .component("tool-1", SPINNER.wasm, MIB, "");
    let path = tree.write();
    let refused = SystemConfig::load(&path).unwrap_err();
    let [ConfigError::Invalid { problems, .. }] = &refused.0[..] else {
        panic!("{refused}");
    };
    assert_eq!(problems.len(), 1, "{refused}");
    let text = std::fs::read_to_string(&path).unwrap();
    let line = |of: &str| 1 + text.lines().position(|line| line.contains(of)).unwrap();
    assert_eq!(problems[0].line, line("\"tool-1/Component.toml\""));
    assert_eq!(
        problems[0].broken,
        Rule::ReplicaName {
            name: String::from("tool-1"),
            component: String::from("tool"),
            line: line("\"tool/Component.toml\""),
        }
    );
}
