//! Twelve traps that hosts of WebAssembly have fallen into, and that this one steps around.

use std::process::Command;
use std::time::{Duration, Instant};

use airssys::{
    ChildSpec, ComponentConfig, ComponentSpec, DeadlinePhase, ExitCause, ExitKind, Host, HostError,
    Refusal, SupervisorError, SupervisorSpec, Val,
};
use airssys_guests::{CALCULATOR, CRASHER, SPINNER};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::instance_limits_test::WAITER;
use crate::isolation_security_test::PROBE;
use crate::memory_limits_test::{grower, starve};
use crate::support::{
    Alone, PAGE, Tree, block_on, component, exit, in_a_process_of_its_own, machine_to_itself,
    number, shared_machine, start_failure,
};

const MIB: usize = 1_048_576;
const SECOND: Duration = Duration::from_secs(1);
const ONE_SECOND: &str = "timeout_seconds = 1";

fn is_deadline(cause: &ExitCause, expected: DeadlinePhase) -> bool {
    matches!(cause, ExitCause::Deadline { limit, phase } if *limit == SECOND && *phase == expected)
}

fn compute(ms: u64) -> [Val; 1] {
    [Val::U64(ms)]
}

#[test]
fn trap_01_an_epoch_deadline_is_armed_anew_for_each_call() {
    let _machine = machine_to_itself();
    block_on(async {
        let alone = Alone::text(WAITER, MIB, ONE_SECOND).await;
        for _ in 0..4 {
            alone.call("compute", &compute(400)).await.unwrap();
        }
        assert_eq!(alone.component.metrics().restarts, 0);
        alone.host.shutdown().await;
    });
}

#[test]
fn trap_02_a_guest_that_waits_in_the_host_is_cut_by_a_timer() {
    let _machine = machine_to_itself();
    block_on(async {
        let alone = Alone::text(WAITER, MIB, ONE_SECOND).await;
        let began = Instant::now();
        let long = [Val::U32(1), Val::U64(600_000)];
        let cause = alone.exit("wait", &long).await;
        assert!(is_deadline(&cause, DeadlinePhase::Waiting), "{cause}");
        assert!(began.elapsed() < 2 * SECOND);
        alone.host.shutdown().await;
    });
}

#[test]
fn trap_03_the_ticker_runs_from_the_first_call_of_a_host_on() {
    let _machine = machine_to_itself();
    block_on(async {
        let alone = Alone::guest(SPINNER, MIB, ONE_SECOND).await;
        let cause = alone.exit("spin", &[]).await;
        assert!(is_deadline(&cause, DeadlinePhase::Computing), "{cause}");
        alone.host.shutdown().await;
    });
}

#[test]
fn trap_04_a_component_without_a_time_of_its_own_is_not_cut_at_once() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(WAITER, MIB, "").await;
        alone.call("compute", &compute(100)).await.unwrap();
        alone.host.shutdown().await;
    });
}

#[test]
fn trap_05_a_start_has_a_deadline_of_its_own() {
    let _machine = shared_machine();
    block_on(async {
        let text = component("(func $start (loop (br 0))) (start $start)", false, &[]);
        let cpu = "timeout_seconds = 300\nstart_timeout_seconds = 1";
        let began = Instant::now();
        let cause = start_failure(Alone::try_text(&text, MIB, cpu).await);
        assert!(is_deadline(&cause, DeadlinePhase::Start), "{cause}");
        assert!(began.elapsed() < 30 * SECOND);
    });
}

#[test]
fn trap_06_the_deadline_of_one_component_ends_no_other() {
    let _machine = machine_to_itself();
    block_on(async {
        let tree = Tree::new()
            .component("short", SPINNER.wasm, MIB, ONE_SECOND)
            .text("long", WAITER, MIB, "timeout_seconds = 30");
        let host = tree.start().await.unwrap();
        let long = host.component("long").unwrap();
        let busy = tokio::spawn(async move { long.call("compute", &compute(2000)).await });
        let short = host.component("short").unwrap();
        let cause = exit(short.call("spin", &[]).await);
        assert!(is_deadline(&cause, DeadlinePhase::Computing), "{cause}");
        assert!(!busy.is_finished());
        busy.await.unwrap().unwrap();
        host.shutdown().await;
    });
}

#[test]
fn trap_07_a_limit_in_the_file_holds_in_the_running_store() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&grower(), MIB, "").await;
        let pages = [Val::U32(u32::try_from(MIB / PAGE).unwrap())];
        assert_eq!(alone.number("grow", &pages).await, -1);
        let cause = alone.exit("grow-then-trap", &pages).await;
        assert!(
            matches!(&*cause, ExitCause::OutOfMemory(figures) if figures.limit_bytes == MIB),
            "{cause}"
        );
        alone.host.shutdown().await;
    });
}

#[test]
fn trap_08_a_guest_that_holds_the_only_worker_is_cut_all_the_same() {
    let _machine = machine_to_itself();
    let (done, ended) = std::sync::mpsc::channel();
    // A guest that is not cut would hold this thread for ever, and any timer on it.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let alone = Alone::guest(SPINNER, MIB, ONE_SECOND).await;
            let cause = alone.exit("spin", &[]).await;
            alone.host.shutdown().await;
            done.send(cause).unwrap();
        });
    });
    let cause = ended.recv_timeout(60 * SECOND).unwrap();
    assert!(is_deadline(&cause, DeadlinePhase::Computing), "{cause}");
}

#[test]
fn trap_09_what_a_guest_prints_is_not_in_the_output_of_the_program() {
    let _machine = shared_machine();
    let tree = Tree::new().text("probe", PROBE, MIB, "");
    let file = tree.path().join("probe").join("Component.toml");
    let ran = Command::new(env!("CARGO_BIN_EXE_airssys"))
        .args(["call", file.to_str().unwrap(), "probe", "stdout"])
        .arg("\"{}\"")
        .output()
        .unwrap();
    // The guest was told that all was written; there is its answer, and nothing else.
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "0\n", "{ran:?}");
}

#[test]
fn trap_10_an_instance_that_trapped_is_never_entered_again() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::guest(CRASHER, MIB, "").await;
        for _ in 0..3 {
            // Counted from one on: not the instance that was there before.
            assert_eq!(alone.number("ping", &[]).await, 1);
            assert_eq!(alone.number("ping", &[]).await, 2);
            assert_eq!(alone.exit("trap", &[]).await.kind(), ExitKind::Trap);
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn trap_11_memory_the_host_does_not_have_is_not_held_against_the_guest() {
    let name = "traps_test::trap_11_memory_the_host_does_not_have_is_not_held_against_the_guest";
    if !in_a_process_of_its_own(name) {
        return;
    }
    block_on(async {
        let alone = Alone::text(&grower(), 4 * MIB, "").await;
        let before = getrlimit(Resource::Data);
        starve();
        let outcome = alone.call("grow-then-trap", &[Val::U32(60)]).await;
        // A failure has to be told, which takes memory.
        setrlimit(Resource::Data, before).unwrap();
        let cause = exit(outcome);
        assert_eq!(cause.kind(), ExitKind::Capacity, "{cause}");
        alone.host.shutdown().await;
    });
}

/// What no child can be made of, one for each way to be bad, and what is told of it.
fn bad() -> [(&'static str, Vec<u8>, ExitKind); 5] {
    let text = |core: &str| wat::parse_str(component(core, false, &[])).unwrap();
    [
        ("no-wasm", b"nonsense".to_vec(), ExitKind::Failed),
        (
            "a-module",
            wat::parse_str("(module)").unwrap(),
            ExitKind::Failed,
        ),
        (
            "cut-short",
            CALCULATOR.wasm[..CALCULATOR.wasm.len() / 2].to_vec(),
            ExitKind::Failed,
        ),
        ("too-large", text("(memory 17)"), ExitKind::OutOfMemory),
        (
            "trapping",
            text("(func $start unreachable) (start $start)"),
            ExitKind::Trap,
        ),
    ]
}

#[test]
fn trap_12_one_bad_component_does_not_keep_the_others_from_starting() {
    let _machine = shared_machine();
    block_on(async {
        let tree = bad().iter().fold(
            Tree::new().guest("good", CALCULATOR),
            |tree, (name, wasm, _)| tree.component(name, wasm, MIB, ""),
        );
        let spec = |folder: &str, name: &str| {
            let config = ComponentConfig::load(tree.path().join(folder).join("Component.toml"));
            ChildSpec::component_named(name.parse().unwrap(), config.unwrap())
        };
        let host = Host::builder()
            .supervisor(SupervisorSpec::new("tools"))
            .start()
            .await
            .unwrap();
        let tools = host.supervisor("tools").unwrap();
        for (name, _, kind) in bad() {
            let refused = tools.start_child(spec(name, name)).await;
            let Err(SupervisorError::Refused(Refusal::StartFailed(_, cause))) = refused else {
                panic!("{name}: {refused:?}");
            };
            assert_eq!(cause.kind(), kind, "{name}: {cause}");
            let good = format!("after-{name}");
            tools.start_child(spec("good", &good)).await.unwrap();
        }
        // All of them, those started before the last bad one too.
        for (name, ..) in bad() {
            let good = host.component(&format!("after-{name}")).unwrap();
            let sum = good.call("add", &[Val::U32(2), Val::U32(3)]).await.unwrap();
            assert_eq!(number(&sum), 5);
        }
        host.shutdown().await;
        // Where a file names it among the children of a tree, the tree says so and there is none.
        let failed = tree.start().await.map(|_| ());
        assert!(matches!(failed, Err(HostError::Start(_))), "{failed:?}");
    });
}
