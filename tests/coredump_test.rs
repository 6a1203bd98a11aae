//! Coredumps: what is in them, who may read them, and how many there are.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use airssys::{
    ComponentRef, CoredumpCounts, ExitKind, Host, HostBuilder, HostFunctions, SystemConfig, Val,
};
use airssys_guests::{CRASHER, LEAKY, SPINNER};
use airssys_wasm::COREDUMPS_WAITING;
use wasmparser::{KnownCustom, Name, Parser, Payload};

use crate::support::{Tree, block_on, exit, number, shared_machine};

const MIB: usize = 1_048_576;

/// A host with these lines in `[system.coredumps]`.
async fn host(tree: &Tree, lines: &str) -> Host {
    builder(tree, lines).start().await.unwrap()
}

fn builder(tree: &Tree, lines: &str) -> HostBuilder {
    let path = tree.write();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("[system.coredumps]\n{lines}\n{text}")).unwrap();
    HostBuilder::from(SystemConfig::load(&path).unwrap())
}

fn crasher() -> Tree {
    Tree::new().component("crasher", CRASHER.wasm, MIB, "")
}

/// The dumps there are, once `settled` says that no more will come.
async fn dumps(
    host: &Host,
    folder: &Path,
    settled: impl Fn(CoredumpCounts) -> bool,
) -> Vec<PathBuf> {
    while !settled(host.coredumps()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Made by the first dump that is written.
    let mut dumps: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    dumps.sort();
    dumps
}

/// Function names of every core module in a component, by the module's name.
fn functions(component: &[u8]) -> HashMap<String, HashMap<u32, String>> {
    let mut found: HashMap<String, HashMap<u32, String>> = HashMap::new();
    for payload in Parser::new(0).parse_all(component) {
        let Payload::CustomSection(section) = payload.unwrap() else {
            continue;
        };
        let KnownCustom::Name(names) = section.as_known() else {
            continue;
        };
        let (mut module, mut functions) = (String::new(), HashMap::new());
        for name in names {
            match name.unwrap() {
                Name::Module { name, .. } => module = name.to_owned(),
                Name::Function(all) => {
                    for naming in all {
                        let naming = naming.unwrap();
                        functions.insert(naming.index, naming.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        found.insert(module, functions);
    }
    found
}

/// The component a dump is of, and the names of its frames, innermost first.
fn frames(dump: &[u8], component: &[u8]) -> (String, Vec<String>) {
    let known = functions(component);
    let (mut of, mut modules, mut instances) = (String::new(), Vec::new(), Vec::new());
    let mut frames = Vec::new();
    for payload in Parser::new(0).parse_all(dump) {
        let Payload::CustomSection(section) = payload.unwrap() else {
            continue;
        };
        match section.as_known() {
            KnownCustom::CoreDump(core) => of = core.name.to_owned(),
            KnownCustom::CoreDumpModules(all) => {
                modules = all.modules.iter().map(|name| (*name).to_owned()).collect();
            }
            KnownCustom::CoreDumpInstances(all) => {
                instances = all
                    .instances
                    .iter()
                    .map(|i| i.module_index as usize)
                    .collect();
            }
            KnownCustom::CoreDumpStack(stack) => {
                frames.extend(
                    stack
                        .frames
                        .iter()
                        .map(|f| (f.instanceidx as usize, f.funcidx)),
                );
            }
            _ => {}
        }
    }
    let name = |(instance, function): (usize, u32)| {
        let module: &String = &modules[instances[instance]];
        let functions = known.get(module);
        let name = functions.and_then(|functions| functions.get(&function));
        name.cloned()
            .unwrap_or_else(|| format!("{module}:{function}"))
    };
    (of, frames.into_iter().map(name).collect())
}

#[test]
fn a_trap_leaves_a_coredump_with_the_names_of_its_frames() {
    let _machine = shared_machine();
    block_on(async {
        let tree = crasher().component("leaky", LEAKY.wasm, MIB, "").component(
            "spinner",
            SPINNER.wasm,
            MIB,
            "timeout_seconds = 1",
        );
        let host = host(&tree, "directory = \"dumps\"").await;
        let folder = tree.path().join("dumps");
        let call = |name: &str| host.component(name).unwrap();
        let crasher = call("crasher");
        exit(crasher.call("trap", &[]).await);
        let written = dumps(&host, &folder, |counts| counts.written == 1).await;
        let name = written[0].file_name().unwrap().to_str().unwrap();
        let parts: Vec<&str> = name.split('.').collect();
        assert_eq!(
            (parts.len(), parts[0], parts[1], parts[3]),
            (4, "crasher", "1", "coredump")
        );
        assert!(
            parts[2].parse::<u64>().unwrap() > 1_700_000_000_000,
            "{name}"
        );
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&written[0])), (0o700, 0o600));
        let dump = std::fs::read(&written[0]).unwrap();
        let (of, names) = frames(&dump, CRASHER.wasm);
        assert_eq!(of, "crasher");
        assert!(names.iter().any(|name| name.contains("trap")), "{names:?}");
        // Its successor serves, and what was no trap of the guest leaves nothing.
        assert_eq!(number(&crasher.call("ping", &[]).await.unwrap()), 1);
        exit(crasher.call("exit", &[Val::U8(1)]).await);
        // Refused memory and a deadline end in a trap as well.
        let died = [
            exit(call("leaky").call("leak-until-refused", &[]).await).kind(),
            exit(call("spinner").call("spin", &[]).await).kind(),
        ];
        assert_eq!(died, [ExitKind::OutOfMemory, ExitKind::Deadline]);
        let written = dumps(&host, &folder, |counts| counts.written == 3).await;
        let names: Vec<_> = written
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert!(names[1].starts_with("leaky.1.") && names[2].starts_with("spinner.1."));
        assert_eq!(names.len(), 3, "{names:?}");
        host.shutdown().await;
    });
}

/// Leaves words in its memory as it starts, and traps when the host says so.
const STARTER: &str = r#"(component
    (import "test:switch/switch@0.1.0" (instance $switch
        (export "off" (func (param "n" u32) (result u32)))))
    (core func $off (canon lower (func $switch "off")))
    (core module $m
        (import "switch" "off" (func $off (param i32) (result i32)))
        (memory 1)
        (data (i32.const 4096) "held at the start")
        (func $begins (if (call $off (i32.const 0)) (then (unreachable))))
        (start $begins)
        (func (export "trap") (unreachable)))
    (core instance $i (instantiate $m
        (with "switch" (instance (export "off" (func $off))))))
    (func (export "trap") (canon lift (core func $i "trap"))))"#;

#[test]
fn a_trap_in_a_start_function_leaves_a_coredump() {
    let _machine = shared_machine();
    block_on(async {
        let wasm = wat::parse_str(STARTER).unwrap();
        let lines = "[instance]\nreplicas = 2";
        let tree = Tree::new().component("starter", &wasm, MIB, lines);
        let refusals = Arc::new(AtomicU32::new(0));
        let left = Arc::clone(&refusals);
        let switch = move |_: &airssys::Caller, (_,): (u32,)| {
            let less = |left: u32| left.checked_sub(1);
            let refused = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
            Ok((u32::from(refused.is_ok()),))
        };
        let functions = HostFunctions::new().func("test:switch/switch@0.1.0", "off", switch);
        let builder = builder(&tree, "directory = \"dumps\"\nmax_files = 3");
        let host = builder.host_functions(functions).start().await.unwrap();
        let folder = tree.path().join("dumps");
        refusals.store(4, Ordering::SeqCst);
        let replica = host.component("starter-1").unwrap();
        exit(replica.call("trap", &[]).await);
        // That of the call, and one of each start that fails.
        let all = |counts: CoredumpCounts| counts.written + counts.dropped == 5;
        let written = dumps(&host, &folder, all).await;
        assert!(written.len() <= 3, "{written:?}");
        let latest = written
            .iter()
            .max_by_key(|path| path.metadata().unwrap().modified().unwrap());
        let latest = latest.unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(latest)), (0o700, 0o600));
        let name = latest.file_name().unwrap().to_str().unwrap();
        let generation = name.strip_prefix("starter-1.").unwrap();
        let generation: u64 = generation.split('.').next().unwrap().parse().unwrap();
        assert!(generation > 1, "{name}");
        let dump = std::fs::read(latest).unwrap();
        let (of, names) = frames(&dump, &wasm);
        assert_eq!(of, "starter");
        assert!(names.iter().any(|name| name == "begins"), "{names:?}");
        let words = b"held at the start";
        assert!(dump.windows(words.len()).any(|part| part == words));
        host.shutdown().await;
    });
}

#[test]
fn a_coredump_of_a_component_that_never_started_outlives_its_host() {
    let _machine = shared_machine();
    block_on(async {
        let never = "(component (core module $m (memory 1) (func $f unreachable) (start $f))
            (core instance (instantiate $m)))";
        let tree = Tree::new().text("never", never, MIB, "");
        builder(&tree, "directory = \"dumps\"")
            .start()
            .await
            .unwrap_err();
        let folder = tree.path().join("dumps");
        let whole = || {
            std::fs::read_dir(&folder)
                .into_iter()
                .flatten()
                .any(|file| {
                    let name = file.unwrap().file_name();
                    name.to_string_lossy().starts_with("never.1.")
                })
        };
        while !whole() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn coredumps_keep_within_their_bounds_and_the_oldest_go() {
    let _machine = shared_machine();
    block_on(async {
        let tree = crasher();
        let lines = "directory = \"dumps\"\nmax_files = 5\nmax_bytes = 1048576";
        let host = host(&tree, lines).await;
        let folder = tree.path().join("dumps");
        let crasher = host.component("crasher").unwrap();
        let mut written = Vec::new();
        for death in 1..=20 {
            exit(crasher.call("trap", &[]).await);
            written = dumps(&host, &folder, |counts| counts.written == death).await;
            let bytes: u64 = written
                .iter()
                .map(|path| path.metadata().unwrap().len())
                .sum();
            assert!(
                written.len() <= 5 && bytes <= 1_048_576,
                "{written:?} {bytes}"
            );
        }
        let mut left: Vec<u64> = written
            .iter()
            .map(|path| {
                path.to_str()
                    .unwrap()
                    .rsplit('.')
                    .nth(2)
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        left.sort_unstable();
        assert_eq!(left, [16, 17, 18, 19, 20]);
        host.shutdown().await;
    });
}

/// Fills its memory, so that there is nothing to leave out of a dump, and traps.
const LARGE: &str = r#"(component
    (core module $m
        (memory (export "memory") 20)
        (func (export "trap")
            (memory.fill (i32.const 0) (i32.const 7) (i32.const 1310720))
            unreachable))
    (core instance $i (instantiate $m))
    (func (export "trap") (canon lift (core func $i "trap"))))"#;

/// Deaths in a row, without a look at the dumps in between.
async fn die(component: &ComponentRef, times: u64) {
    for _ in 0..times {
        let died = exit(component.call("trap", &[]).await);
        assert_eq!(died.kind(), ExitKind::Trap);
    }
}

#[test]
fn coredumps_give_way_to_a_new_one_when_their_bytes_are_taken() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().text("large", LARGE, 2 * MIB, "");
        // Two of some 1.3 MiB.
        let host = host(&tree, "directory = \"dumps\"\nmax_bytes = 3145728").await;
        let large = host.component("large").unwrap();
        let folder = tree.path().join("dumps");
        for death in 1..=4 {
            die(&large, 1).await;
            let written = dumps(&host, &folder, |counts| counts.written == death).await;
            assert_eq!(written.len() as u64, death.min(2), "{written:?}");
            let latest = format!("large.{death}.");
            let names = written.iter().map(|path| path.file_name().unwrap());
            assert!(
                names
                    .into_iter()
                    .any(|name| name.to_string_lossy().starts_with(&latest))
            );
        }
        host.shutdown().await;
    });
}

#[test]
fn a_coredump_that_does_not_fit_or_comes_too_fast_is_left_out_and_counted() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().text("large", LARGE, 2 * MIB, "");
        let host = host(&tree, "directory = \"dumps\"\nmax_bytes = 1048576").await;
        let large = host.component("large").unwrap();
        die(&large, 1).await;
        let folder = tree.path().join("dumps");
        let written = dumps(&host, &folder, |counts| counts.failed == 1).await;
        assert!(written.is_empty(), "{written:?}");
        host.shutdown().await;

        // Each of 30 dumps is written, refused or dropped, and nothing waits for any of them.
        let tree = Tree::new().text("large", LARGE, 2 * MIB, "");
        let host = self::host(&tree, "directory = \"dumps\"").await;
        let large = host.component("large").unwrap();
        die(&large, 30).await;
        let all = |counts: CoredumpCounts| counts.written + counts.dropped == 30;
        let written = dumps(&host, &tree.path().join("dumps"), all).await;
        assert_eq!(written.len() as u64, host.coredumps().written);
        host.shutdown().await;
    });
}

#[test]
fn a_successor_does_not_wait_for_a_coredump_to_be_written() {
    let _machine = shared_machine();
    // One thread for all that blocks, and it is taken.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let tree = crasher();
        let host = host(&tree, "directory = \"dumps\"").await;
        let crasher = host.component("crasher").unwrap();
        let (free, taken) = std::sync::mpsc::channel::<()>();
        let disk = tokio::task::spawn_blocking(move || taken.recv());
        for _ in 0..10 {
            exit(crasher.call("trap", &[]).await);
            assert_eq!(number(&crasher.call("ping", &[]).await.unwrap()), 1);
        }
        let waiting = COREDUMPS_WAITING as u64;
        let counts = host.coredumps();
        assert_eq!((counts.written, counts.dropped), (0, 10 - waiting));
        free.send(()).unwrap();
        disk.await.unwrap().unwrap();
        let all = |counts: CoredumpCounts| counts.written == waiting;
        let written = dumps(&host, &tree.path().join("dumps"), all).await;
        assert_eq!(written.len() as u64, waiting);
        host.shutdown().await;
    });
}

#[test]
fn a_host_that_names_no_directory_makes_no_coredump() {
    let _machine = shared_machine();
    block_on(async {
        let tree = crasher();
        let host = host(&tree, "max_files = 5").await;
        let before = std::fs::read_dir(tree.path()).unwrap().count();
        exit(host.component("crasher").unwrap().call("trap", &[]).await);
        host.shutdown().await;
        assert_eq!(host.coredumps(), CoredumpCounts::default());
        assert_eq!(std::fs::read_dir(tree.path()).unwrap().count(), before);
    });
}
