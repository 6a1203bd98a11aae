//! From a binary to a running instance: compiled once, kept on disk, never loaded unchecked.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use airssys::{
    ChildSpec, ComponentConfig, ComponentSpec, DeadlinePhase, EventStream, ExitCause, Host,
    HostBuilder, LoadChange, LoadEvent, Received, Refusal, SupervisorError, SupervisorSpec,
    SystemConfig, Val,
};
use airssys_guests::{CALCULATOR, NOTEBOOK};
use airssys_wasm::{CacheError, EntryFault, TICK};

use crate::support::{Tree, block_on, component, number, shared_machine};

/// What was heard of loads up to now.
async fn heard(loads: &mut EventStream<LoadEvent>) -> Vec<LoadChange> {
    let mut all = Vec::new();
    // What a start has told is there when it has ended.
    while let Ok(Some(Received::Event(event))) = tokio::time::timeout(TICK, loads.next()).await {
        all.push(event.change);
    }
    all
}

fn count(all: &[LoadChange], is: impl Fn(&LoadChange) -> bool) -> usize {
    all.iter().filter(|change| is(change)).count()
}

fn compiled(all: &[LoadChange]) -> usize {
    count(all, |change| matches!(change, LoadChange::Compiled { .. }))
}

fn from_cache(all: &[LoadChange]) -> usize {
    count(all, |change| matches!(change, LoadChange::FromCache { .. }))
}

fn unused(all: &[LoadChange]) -> Vec<Arc<CacheError>> {
    let errors = all.iter().filter_map(|change| match change {
        LoadChange::CacheUnused { error } => Some(Arc::clone(error)),
        _ => None,
    });
    errors.collect()
}

async fn empty() -> Host {
    let tools = SupervisorSpec::new("tools");
    Host::builder().supervisor(tools).start().await.unwrap()
}

fn spec(tree: &Tree, name: &str, change: impl Fn(&mut ComponentConfig)) -> ChildSpec {
    let mut config = ComponentConfig::load(tree.path().join("tool/Component.toml")).unwrap();
    change(&mut config);
    ChildSpec::component_named(name.parse().unwrap(), config)
}

#[test]
fn a_hundred_components_of_one_binary_compile_once() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().guest("tool", CALCULATOR);
        let host = empty().await;
        let tools = host.supervisor("tools").unwrap();
        let mut loads = host.loads();
        let mut starts = tokio::task::JoinSet::new();
        for n in 0..100 {
            let (tools, spec) = (tools.clone(), spec(&tree, &format!("tool-{n}"), |_| ()));
            starts.spawn(async move { tools.start_child(spec).await.unwrap() });
        }
        starts.join_all().await;
        let all = heard(&mut loads).await;
        let shared = count(&all, |c| matches!(c, LoadChange::Shared { .. }));
        assert_eq!((compiled(&all), shared), (1, 99));
        for n in [0, 99] {
            let tool = host.component(&format!("tool-{n}")).unwrap();
            let sum = tool.call("add", &[Val::U32(2), Val::U32(3)]).await.unwrap();
            assert_eq!(number(&sum), 5);
        }
        host.shutdown().await;
    });
}

#[test]
fn an_unchanged_binary_is_not_read_again_and_a_changed_one_is_at_the_next_start() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().guest("tool", CALCULATOR);
        let host = empty().await;
        let tools = host.supervisor("tools").unwrap();
        let began = std::time::Instant::now();
        for n in 0.. {
            let mut loads = host.loads();
            let spec = spec(&tree, &format!("tool-{n}"), |_| ());
            tools.start_child(spec).await.unwrap();
            match &heard(&mut loads).await[..] {
                [LoadChange::Shared { .. }] => break,
                all => assert!(matches!(all[0], LoadChange::Began { .. }), "{all:?}"),
            }
            assert!(began.elapsed() < Duration::from_secs(30));
        }
        std::fs::write(tree.path().join("tool/component.wasm"), NOTEBOOK.wasm).unwrap();
        let mut loads = host.loads();
        let changed = spec(&tree, "changed", |_| ());
        tools.start_child(changed).await.unwrap();
        assert_eq!(compiled(&heard(&mut loads).await), 1);
        let changed = host.component("changed").unwrap();
        assert!(
            changed
                .call("add", &[Val::U32(2), Val::U32(3)])
                .await
                .is_err()
        );
        host.shutdown().await;
    });
}

fn start_cause(failed: SupervisorError) -> Arc<ExitCause> {
    match failed {
        SupervisorError::Refused(Refusal::StartFailed(_, cause)) => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_start_that_cannot_wait_ends_in_phase_load_and_the_next_finds_the_code() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().guest("tool", CALCULATOR);
        let host = empty().await;
        let tools = host.supervisor("tools").unwrap();
        let mut loads = host.loads();
        let limit = Duration::from_micros(100);
        let hasty = spec(&tree, "tool", |c| c.resources.cpu.load_timeout = limit);
        let cause = start_cause(tools.start_child(hasty).await.unwrap_err());
        assert!(
            matches!(&*cause, ExitCause::Deadline { limit: l, phase: DeadlinePhase::Load } if *l == limit),
            "{cause}"
        );
        tools
            .start_child(spec(&tree, "tool", |_| ()))
            .await
            .unwrap();
        assert_eq!(compiled(&heard(&mut loads).await), 1);
        host.shutdown().await;
    });
}

#[test]
fn a_failed_load_is_tried_again_by_the_next_start() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().guest("tool", CALCULATOR);
        let wasm = tree.path().join("tool/component.wasm");
        std::fs::write(&wasm, b"\0asm\x0d\0\x01\0damaged").unwrap();
        let host = empty().await;
        let tools = host.supervisor("tools").unwrap();
        for _ in 0..2 {
            let failed = tools.start_child(spec(&tree, "tool", |_| ())).await;
            let cause = start_cause(failed.unwrap_err());
            assert!(
                cause.to_string().contains("not a valid component"),
                "{cause}"
            );
        }
        std::fs::write(&wasm, CALCULATOR.wasm).unwrap();
        tools
            .start_child(spec(&tree, "tool", |_| ()))
            .await
            .unwrap();
        host.shutdown().await;
    });
}

/// A tree whose compiled code is kept in `cache`.
fn cached(tree: &Tree, cache: &Path) -> PathBuf {
    let file = tree.write();
    let text = std::fs::read_to_string(&file).unwrap();
    let section = format!(
        "[system.cache]\ndirectory = {:?}\n\n",
        cache.to_str().unwrap()
    );
    std::fs::write(&file, section + &text).unwrap();
    file
}

/// Starts the tree, calls its calculator, and tells what came of its loads.
async fn run(file: &Path) -> Vec<LoadChange> {
    let builder = HostBuilder::from(SystemConfig::load(file).unwrap());
    let mut loads = builder.loads();
    let host = builder.start().await.unwrap();
    let tool = host.component("tool").unwrap();
    let sum = tool.call("add", &[Val::U32(2), Val::U32(3)]).await.unwrap();
    assert_eq!(number(&sum), 5);
    host.shutdown().await;
    heard(&mut loads).await
}

fn entries(cache: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "code"))
        .collect();
    entries.sort();
    entries
}

#[test]
fn a_second_run_takes_the_code_from_the_cache() {
    let _machine = shared_machine();
    block_on(async {
        let cpu = "max_fuel = 10000000";
        let tree = Tree::new()
            .guest("tool", CALCULATOR)
            .component("metered", CALCULATOR.wasm, 1_048_576, cpu)
            .guest("notes", NOTEBOOK);
        let cache = tree.path().join("cache");
        let file = cached(&tree, &cache);
        // The same binary with fuel is other code.
        let first = run(&file).await;
        assert_eq!((compiled(&first), from_cache(&first)), (3, 0), "{first:?}");
        let second = run(&file).await;
        assert_eq!(
            (compiled(&second), from_cache(&second)),
            (0, 3),
            "{second:?}"
        );
        assert!(unused(&second).is_empty());
        assert_eq!(entries(&cache).len(), 3);
    });
}

#[test]
fn a_damaged_or_foreign_entry_is_compiled_anew_and_replaced() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().guest("tool", CALCULATOR);
        let cache = tree.path().join("cache");
        let file = cached(&tree, &cache);
        run(&file).await;
        let entry = entries(&cache).remove(0);
        let good = std::fs::read(&entry).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        let other = Tree::new().guest("tool", NOTEBOOK);
        let notes = Host::start(SystemConfig::load(cached(&other, &cache)).unwrap());
        notes.await.unwrap().shutdown().await;
        let foreign = entries(&cache).into_iter().find(|path| *path != entry);
        let foreign = std::fs::read(foreign.unwrap()).unwrap();
        let cases = [
            (flipped, EntryFault::Forged),
            (good[..good.len() - 1].to_vec(), EntryFault::Length),
            (Vec::new(), EntryFault::Length),
            (foreign, EntryFault::Foreign),
        ];
        for (bytes, expected) in cases {
            std::fs::write(&entry, bytes).unwrap();
            let all = run(&file).await;
            assert_eq!((compiled(&all), from_cache(&all)), (1, 0), "{expected}");
            let errors = unused(&all);
            assert!(
                matches!(&*errors[0], CacheError::Entry { fault, .. } if *fault == expected),
                "{errors:?}"
            );
            assert_eq!(from_cache(&run(&file).await), 1);
        }
    });
}

#[test]
fn a_cache_that_others_can_use_is_refused_and_components_compile() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().guest("tool", CALCULATOR);
        let cache = tree.path().join("cache");
        let file = cached(&tree, &cache);
        run(&file).await;
        let refused = async |file: &Path| {
            let all = run(file).await;
            assert_eq!((compiled(&all), from_cache(&all)), (1, 0));
            assert!(
                matches!(&unused(&all)[..], [error] if matches!(**error, CacheError::Directory(_))),
                "{all:?}"
            );
        };
        let mode = |path: &Path, bits| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();
        };
        mode(&cache, 0o770);
        refused(&file).await;
        mode(&cache, 0o700);
        mode(&cache.join("key"), 0o604);
        refused(&file).await;
        mode(&cache.join("key"), 0o600);
        assert_eq!(from_cache(&run(&file).await), 1);
        let link = tree.path().join("link");
        symlink(&cache, &link).unwrap();
        refused(&cached(&tree, &link)).await;
        // Two of one run tell it once.
        let two = Tree::new()
            .guest("tool", CALCULATOR)
            .guest("notes", NOTEBOOK);
        let all = run(&cached(&two, &link)).await;
        assert_eq!((compiled(&all), unused(&all).len()), (2, 1));
    });
}

#[test]
fn a_cache_without_room_is_told_and_components_compile() {
    let _machine = shared_machine();
    block_on(async {
        let text = component("(memory 1) (data (i32.const 0) \"a\")", false, &[]);
        let tree = Tree::new().text("large", &(text + &"(;;)".repeat(10)), 1_048_576, "");
        let config = SystemConfig::load(tree.write()).unwrap();
        let builder = HostBuilder::from(config).cache(airssys::CacheConfig {
            directory: tree.path().join("cache"),
            max_bytes: 1000,
        });
        let mut loads = builder.loads();
        builder.start().await.unwrap().shutdown().await;
        let all = heard(&mut loads).await;
        assert_eq!(compiled(&all), 1);
        assert!(
            matches!(
                &*unused(&all)[0],
                CacheError::TooLarge {
                    max_bytes: 1000,
                    ..
                }
            ),
            "{all:?}"
        );
        assert!(entries(&tree.path().join("cache")).is_empty());
    });
}

/// Also that code of one program is the code of another with the same engine.
#[test]
fn processes_at_once_share_a_cache() {
    let _machine = shared_machine();
    let tree = Tree::new().guest("tool", CALCULATOR);
    let file = cached(&tree, &tree.path().join("cache"));
    let call = || {
        Command::new(env!("CARGO_BIN_EXE_airssys"))
            .args(["call", file.to_str().unwrap(), "tool", "add", "2", "3"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let calls: Vec<_> = (0..4).map(|_| call()).collect();
    for call in calls {
        let output = call.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "5\n");
    }
    block_on(async {
        let all = run(&file).await;
        assert_eq!((from_cache(&all), unused(&all).len()), (1, 0));
    });
    let left = std::fs::read_dir(tree.path().join("cache")).unwrap();
    assert_eq!(left.count(), 2, "the key and an entry");
}
