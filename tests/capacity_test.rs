//! What a host has room for, and how it tells that it has no more.

use std::sync::Arc;

use airssys::{
    CapacityError, ChildSpec, ComponentConfig, ComponentSpec, ExitCause, Host, Refusal,
    SupervisorError, SupervisorSpec, Val,
};
use airssys_guests::{CALCULATOR, SPINNER};
use airssys_wasm::{IDLE_TICKS, TICK};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{
    Alone, PAGE, Tree, block_on, component, in_a_process_of_its_own, number, shared_machine,
};

const MIB: usize = 1_048_576;

fn capacity(cause: &ExitCause) -> &CapacityError {
    match cause {
        ExitCause::Capacity { source } => source.downcast_ref().unwrap(),
        other => panic!("no capacity: {other}"),
    }
}

async fn host_of(places: u32) -> Host {
    let tools = SupervisorSpec::new("tools");
    let builder = Host::builder().max_components(places).supervisor(tools);
    builder.start().await.unwrap()
}

fn spec(tree: &Tree, folder: &str, name: &str) -> ChildSpec {
    let config = ComponentConfig::load(tree.path().join(folder).join("Component.toml")).unwrap();
    ChildSpec::component_named(name.parse().unwrap(), config)
}

#[test]
fn a_full_host_says_how_many_instances_are_live_and_which_key_to_raise() {
    let _machine = shared_machine();
    block_on(async {
        let fuel = "max_fuel = 1000000";
        let tree =
            Tree::new()
                .guest("tool", CALCULATOR)
                .component("metered", CALCULATOR.wasm, MIB, fuel);
        let host = host_of(3).await;
        let tools = host.supervisor("tools").unwrap();
        // Of both engines together.
        for (folder, name) in [("tool", "a"), ("metered", "b"), ("tool", "c")] {
            tools.start_child(spec(&tree, folder, name)).await.unwrap();
        }
        for folder in ["tool", "metered"] {
            let failed = tools.start_child(spec(&tree, folder, "d")).await;
            let Err(SupervisorError::Refused(Refusal::StartFailed(_, cause))) = failed else {
                panic!("{failed:?}");
            };
            assert!(matches!(
                capacity(&cause),
                CapacityError::Instances { live: 3, most: 3 }
            ));
            assert!(
                cause.to_string().contains("raise system.max_components"),
                "{cause}"
            );
        }
        // A place comes back with its instance's end, by a stop or by a death.
        tools.terminate_child("b").await.unwrap();
        tools.start_child(spec(&tree, "tool", "d")).await.unwrap();
        for name in ["a", "c", "d"] {
            let tool = host.component(name).unwrap();
            let sum = tool.call("add", &[Val::U32(2), Val::U32(3)]).await.unwrap();
            assert_eq!(number(&sum), 5);
        }
        host.shutdown().await;
    });
}

#[test]
fn a_pool_without_room_for_more_memories_is_capacity() {
    let _machine = shared_machine();
    block_on(async {
        // A pool of one has a place more for memories than a component may take.
        let core = "(memory 1) (memory 1) (memory 1) (memory 1) (memory 1) (memory 1)";
        let tree = Tree::new().text("tool", &component(core, false, &[]), MIB, "");
        let host = host_of(4).await;
        let tools = host.supervisor("tools").unwrap();
        // Twenty-one places for memories, six each.
        for name in ["a", "b", "c"] {
            tools.start_child(spec(&tree, "tool", name)).await.unwrap();
        }
        let failed = tools.start_child(spec(&tree, "tool", "d")).await;
        let Err(SupervisorError::Refused(Refusal::StartFailed(_, cause))) = failed else {
            panic!("{failed:?}");
        };
        assert!(
            matches!(capacity(&cause), CapacityError::Pool(_)),
            "{cause}"
        );
        // The refused one holds no place.
        tools.terminate_child("a").await.unwrap();
        tools.start_child(spec(&tree, "tool", "d")).await.unwrap();
        host.shutdown().await;
    });
}

/// What the kernel holds against `RLIMIT_DATA`.
fn private_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1024
}

#[test]
fn memory_that_the_system_refuses_is_capacity_and_not_the_guests() {
    let name = "capacity_test::memory_that_the_system_refuses_is_capacity_and_not_the_guests";
    if !in_a_process_of_its_own(name) {
        return;
    }
    block_on(async {
        let core = r#"
            (memory (export "memory") 1)
            (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
            (func (export "need") (param i32) (result i32)
                (if (i32.eq (i32.const -1) (memory.grow (local.get 0))) (then unreachable))
                (i32.const 1))"#;
        let ty = "(param \"pages\" u32) (result s32)";
        let text = component(core, false, &[("grow", ty), ("need", ty)]);
        let alone = Alone::text(&text, 4 * MIB, "").await;
        assert_eq!(alone.number("grow", &[Val::U32(1)]).await, 1);
        // Writable private memory is what the limit counts; the pool only makes it so as it grows.
        let before = getrlimit(Resource::Data);
        // Less than the guest asks for, and enough for what the host itself may need meanwhile.
        let little = Rlimit {
            current: Some(private_bytes() + 1_048_576),
            ..before
        };
        setrlimit(Resource::Data, little).unwrap();
        let denied = alone.call("grow", &[Val::U32(32)]).await;
        let cause = alone.exit("need", &[Val::U32(32)]).await;
        setrlimit(Resource::Data, before).unwrap();
        assert_eq!(number(&denied.unwrap()), -1);
        let told = capacity(&cause);
        assert!(
            matches!(told, CapacityError::Memory { requested_bytes, source }
                if *requested_bytes == 32 * PAGE
                    && source.kind() == std::io::ErrorKind::OutOfMemory),
            "{told:?}"
        );
        // Nothing the system refused is held against the guest.
        assert_eq!(alone.number("grow", &[Val::U32(63)]).await, 1);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_host_without_address_space_is_an_error_and_no_panic() {
    let name = "capacity_test::a_host_without_address_space_is_an_error_and_no_panic";
    if !in_a_process_of_its_own(name) {
        return;
    }
    block_on(async {
        let before = getrlimit(Resource::As);
        let little = Rlimit {
            current: Some(8 << 30),
            ..before
        };
        setrlimit(Resource::As, little).unwrap();
        let failed = Host::builder().max_components(100).start().await;
        setrlimit(Resource::As, before).unwrap();
        let error = failed.unwrap_err();
        assert!(
            matches!(
                error,
                airssys::HostError::Engine(airssys::EngineError::Engine(_))
            ),
            "{error}"
        );
    });
}

#[test]
fn a_component_that_begins_over_its_limit_gets_no_store() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new()
            .text("large", &component("(memory 17)", false, &[]), MIB, "")
            .guest("tool", CALCULATOR);
        let host = host_of(1).await;
        let tools = host.supervisor("tools").unwrap();
        tools
            .start_child(spec(&tree, "tool", "tool"))
            .await
            .unwrap();
        // There is no place for its Store, and still it is told what is wrong with itself.
        let failed = tools.start_child(spec(&tree, "large", "large")).await;
        let Err(SupervisorError::Refused(Refusal::StartFailed(_, cause))) = failed else {
            panic!("{failed:?}");
        };
        let ExitCause::OutOfMemory(told) = &*cause else {
            panic!("{cause}");
        };
        assert_eq!(
            (told.limit_bytes, told.current_bytes, told.requested_bytes),
            (MIB, 0, 17 * PAGE)
        );
        host.shutdown().await;
    });
}

/// Calls itself as often as its argument says, and answers that.
const DEEP: &str = r#"
    (func $down (export "down") (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0))
            (then (i32.const 0))
            (else (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))))"#;

/// The deepest recursion that a stack of so many bytes takes, and the cause one deeper.
async fn depth(stack_bytes: usize) -> u32 {
    let text = component(DEEP, false, &[("down", "(param \"n\" u32) (result u32)")]);
    let tree = Tree::new().text(
        "tool",
        &text,
        MIB,
        &format!("[resources.stack]\nmax_bytes = {stack_bytes}"),
    );
    let host = tree.start().await.unwrap();
    let tool = host.component("tool").unwrap();
    let (mut fits, mut ends) = (1, 1_000_000);
    while ends - fits > 1 {
        let n = u32::midpoint(fits, ends);
        match tool.call("down", &[Val::U32(n)]).await {
            Ok(answer) => {
                assert_eq!(number(&answer), i64::from(n));
                fits = n;
            }
            failed => {
                let cause = crate::support::exit(failed);
                assert!(matches!(*cause, ExitCause::StackOverflow { .. }), "{cause}");
                ends = n;
            }
        }
    }
    host.shutdown().await;
    fits
}

#[test]
fn recursion_ends_at_the_stack_each_component_was_given() {
    let _machine = shared_machine();
    block_on(async {
        let (small, large) = (depth(65_536).await, depth(1_048_576).await);
        // The frames are the same; what the entry itself takes is a few hundred bytes of each.
        let ratio = f64::from(large) / f64::from(small);
        assert!((15.5..17.0).contains(&ratio), "{small} and {large}");
    });
}

fn threads_of_ours() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names = threads.filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("airssys")).count()
}

#[test]
fn a_kept_reference_keeps_no_thread_of_a_host_that_was_shut_down() {
    let name = "capacity_test::a_kept_reference_keeps_no_thread_of_a_host_that_was_shut_down";
    if !in_a_process_of_its_own(name) {
        return;
    }
    block_on(async {
        let fuel = "max_fuel = 1000000";
        let tree =
            Tree::new()
                .guest("tool", CALCULATOR)
                .component("metered", CALCULATOR.wasm, MIB, fuel);
        let host = tree.start().await.unwrap();
        let tool = host.component("tool").unwrap();
        tool.call("add", &[Val::U32(2), Val::U32(3)]).await.unwrap();
        assert_eq!(threads_of_ours(), 1, "one ticker for both engines");
        host.shutdown().await;
        assert_eq!(threads_of_ours(), 0);
        let late = tool.call("add", &[Val::U32(2), Val::U32(3)]).await;
        assert!(
            matches!(late, Err(airssys::WasmError::Stopped { .. })),
            "{late:?}"
        );
        drop(host);
        // One that is only dropped stops too.
        let host = tree.start().await.unwrap();
        let kept = Arc::new(host.component("tool").unwrap());
        assert_eq!(threads_of_ours(), 1);
        drop(host);
        while threads_of_ours() > 0 {
            tokio::time::sleep(TICK).await;
        }
        drop(kept);
    });
}

#[test]
fn a_guest_is_stopped_at_its_deadline_after_the_ticker_has_slept() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::guest(SPINNER, MIB, "timeout_seconds = 1").await;
        for _ in 0..2 {
            tokio::time::sleep(TICK * IDLE_TICKS * 3).await;
            let cause = alone.exit("spin", &[]).await;
            assert!(matches!(*cause, ExitCause::Deadline { .. }), "{cause}");
        }
        // The ticker sleeps while the guest waits for the host, and is there when it computes.
        let wait = IDLE_TICKS * 3 * u32::try_from(TICK.as_millis()).unwrap();
        alone
            .call("park-ms", &[Val::U64(u64::from(wait))])
            .await
            .unwrap();
        let cause = alone.exit("spin", &[]).await;
        assert!(matches!(*cause, ExitCause::Deadline { .. }), "{cause}");
        alone.host.shutdown().await;
    });
}
