//! Components that nobody wrote: wasm-smith's core modules behind a fixed surface.

use std::collections::BTreeMap;
use std::time::Duration;

use airssys::{
    ChildSpec, ComponentConfig, ComponentSpec, ExitCause, ExitKind, Host, Intensity, Refusal,
    SupervisorError, SupervisorSpec, Val, WasmError,
};
use airssys_guests::CALCULATOR;
use airssys_wasm::LoadError;
use arbitrary::Unstructured;
use futures_util::{StreamExt, stream};
use wasm_smith::{Config, Module};

use crate::abi_test::Random;
use crate::support::{Tree, block_on, machine_to_itself, number};

const MIB: usize = 1_048_576;

/// Components in one host, in the ordinary form; each is loaded, started and called.
const IN_A_HOST: u64 = 300;

/// Hosts with `AIRSSYS_FULL=1`.
const HOSTS: u64 = 40;

/// Longest time one of them may take to end, whatever it does: four calls of a second each, at the
/// side of seven others on two cores.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the generated module offers by itself.
const ALONE: &str = r#"
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "run") (param i32 i64) (result i32) unreachable)
    (func (export "text") (param i32 i32) (result i32) unreachable)
    (func (export "words") (param i32 i32) (result i32) unreachable)"#;

/// What it is given besides, to call with whatever it likes.
const WITH_HOST: &str = r#"
    (import "h" "poll" (func (param i32 i32 i32)))
    (import "h" "block" (func (param i32)))
    (import "h" "drop" (func (param i32)))
    (import "h" "now" (func (result i64)))
    (import "h" "subscribe" (func (param i64) (result i32)))
    (import "h" "bytes" (func (param i64 i32)))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "run") (param i32 i64) (result i32) unreachable)
    (func (export "text") (param i32 i32) (result i32) unreachable)
    (func (export "words") (param i32 i32) (result i32) unreachable)"#;

/// The component around a module of either shape.
fn around(with_host: bool) -> Vec<u8> {
    let host = r#"
        (core module $memory
            (memory (export "memory") 2)
            (global $next (mut i32) (i32.const 16))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                (global.set $next (i32.and (i32.const -16)
                    (i32.add (i32.const 15) (i32.add (global.get $next) (local.get 3)))))
                (i32.sub (global.get $next)
                    (i32.and (i32.const -16) (i32.add (i32.const 15) (local.get 3))))))
        (core instance $mem (instantiate $memory))
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $pollable (sub resource)))
            (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
            (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $p))
            (export "pollable" (type $pollable (eq $p)))
            (export "now" (func (result u64)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
        (import "wasi:random/random@0.2.0" (instance $random
            (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
        (core func $poll' (canon lower (func $poll "poll")
            (memory $mem "memory") (realloc (func $mem "realloc"))))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core func $drop (canon resource.drop $pollable))
        (core func $now (canon lower (func $clock "now")))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core func $bytes (canon lower (func $random "get-random-bytes")
            (memory $mem "memory") (realloc (func $mem "realloc"))))
        (core instance $i (instantiate $m (with "h" (instance
            (export "poll" (func $poll')) (export "block" (func $block))
            (export "drop" (func $drop)) (export "now" (func $now))
            (export "subscribe" (func $subscribe)) (export "bytes" (func $bytes))))))"#;
    let (module, rest, memory) = match with_host {
        true => (WITH_HOST, host, "$mem"),
        false => (ALONE, "(core instance $i (instantiate $m))", "$i"),
    };
    let options = format!("(memory {memory} \"memory\") (realloc (func {memory} \"realloc\"))");
    let text = format!(
        r#"(component (core module $m {module}) {rest}
        (func (export "run") (param "a" u32) (param "b" u64) (result u32)
            (canon lift (core func $i "run")))
        (func (export "text") (param "text" string) (result string)
            (canon lift (core func $i "text") {options}))
        (func (export "words") (param "words" (list u64)) (result (list (option u8)))
            (canon lift (core func $i "words") {options})))"#
    );
    wat::parse_str(text).unwrap()
}

/// A number as LEB128, and how many bytes it takes.
fn leb(bytes: &[u8]) -> (usize, usize) {
    let end = 1 + bytes.iter().position(|byte| byte & 0x80 == 0).unwrap();
    let digits = bytes[..end].iter().rev();
    let value = digits.fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
    (value, end)
}

fn written(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// The component with another module in the place of its first section, which is one.
fn with_module(component: &[u8], module: &[u8]) -> Vec<u8> {
    let (preamble, sections) = component.split_at(8);
    assert_eq!(sections[0], 1, "a core module comes first");
    let (length, size) = leb(&sections[1..]);
    let rest = &sections[1 + size + length..];
    [preamble, &[1], &written(module.len()), module, rest].concat()
}

/// The component of this seed.
fn generated(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let bytes: Vec<u8> = (0..1024)
        .flat_map(|_| random.next().to_le_bytes())
        .collect();
    let with_host = seed.is_multiple_of(3);
    let shape = if with_host { WITH_HOST } else { ALONE };
    let config = Config {
        module_shape: Some(wat::parse_str(format!("(module {shape})")).unwrap()),
        max_memories: 3,
        max_tables: 3,
        // So that what begins too large is seldom, and what grows too large is not.
        max_memory32_bytes: 20 * 65_536,
        max_memory64_bytes: 20 * 65_536,
        max_table_elements: 30_000,
        // Not built in are the types beside funcref that these bring: most are refused as invalid.
        reference_types_enabled: seed.is_multiple_of(5),
        // Switched off in the engine, or not built in.
        gc_enabled: false,
        exceptions_enabled: false,
        threads_enabled: false,
        shared_everything_threads_enabled: false,
        custom_page_sizes_enabled: false,
        ..Config::default()
    };
    let module = Module::new(config, &mut Unstructured::new(&bytes)).unwrap();
    with_module(&around(with_host), &module.to_bytes())
}

fn calls(seed: u64) -> [(&'static str, Vec<Val>); 4] {
    let mut random = Random(!seed);
    let a = u32::try_from(random.next() >> 32).unwrap();
    let words = (0..random.next() % 64).map(Val::U64).collect();
    [
        ("run", vec![Val::U32(a), Val::U64(random.next())]),
        ("run", vec![Val::U32(1), Val::U64(1)]),
        ("text", vec![Val::String("ä".repeat((a % 100) as usize))]),
        ("words", vec![Val::List(words)]),
    ]
}

/// What came of a call or a start, as a word; the facts are looked at on the way.
fn told(cause: &ExitCause) -> String {
    match cause {
        ExitCause::OutOfMemory(figures) => {
            assert!(
                figures.limit_bytes == MIB && figures.peak_bytes <= MIB,
                "{cause}"
            );
        }
        ExitCause::Failed { source } => {
            let error = source.downcast_ref();
            assert!(matches!(error, Some(LoadError::Invalid { .. })), "{cause}");
            return String::from("invalid");
        }
        _ => {}
    }
    cause.kind().to_string()
}

async fn tried(host: &Host, tree: &Tree, seed: u64) -> Vec<String> {
    let name = format!("seed-{seed}");
    let config = ComponentConfig::load(tree.path().join(&name).join("Component.toml")).unwrap();
    let tools = host.supervisor("tools").unwrap();
    match tools.start_child(ChildSpec::component(config)).await {
        Ok(_) => {}
        Err(SupervisorError::Refused(Refusal::StartFailed(_, cause))) => {
            return vec![format!("not started: {}", told(&cause))];
        }
        Err(error) => panic!("{name}: {error}"),
    }
    let component = host.component(&name).unwrap();
    let mut outcomes = vec![String::from("started")];
    for (function, arguments) in calls(seed) {
        outcomes.push(match component.call(function, &arguments).await {
            Ok(_) => String::from("answered"),
            Err(WasmError::OutOfMemory { peak_bytes, .. }) => {
                assert!(peak_bytes <= MIB, "{name}");
                ExitKind::OutOfMemory.to_string()
            }
            Err(WasmError::Exited { cause, .. }) => told(&cause),
            Err(WasmError::Results { .. }) => String::from("unfit"),
            Err(error) => panic!("{name}: {error}"),
        });
    }
    let metrics = component.metrics();
    assert!(metrics.total.peak_bytes <= MIB, "{name}: {metrics:?}");
    tools.terminate_child(name.as_str()).await.unwrap();
    tools.delete_child(name.as_str()).await.unwrap();
    outcomes
}

/// Outcomes of so many components, all in one host, by how often they were met.
async fn outcomes(seeds: std::ops::Range<u64>) -> BTreeMap<String, u64> {
    let tree = seeds
        .clone()
        .fold(Tree::new().guest("good", CALCULATOR), |tree, seed| {
            // Fuel ends what runs on for ever, and time the others.
            let cpu = match seed % 2 {
                0 => "timeout_seconds = 1\nmax_fuel = 1000000",
                _ => "timeout_seconds = 1",
            };
            tree.component(&format!("seed-{seed}"), &generated(seed), MIB, cpu)
        });
    let good = ComponentConfig::load(tree.path().join("good").join("Component.toml")).unwrap();
    let intensity = Intensity {
        restarts: 100_000,
        period: Duration::from_secs(60),
    };
    let tools = SupervisorSpec::new("tools")
        .intensity(intensity)
        .child(ChildSpec::component(good));
    let host = Host::builder().supervisor(tools).start().await.unwrap();
    let mut count = BTreeMap::new();
    let mut running = stream::iter(seeds)
        .map(|seed| {
            let tried = tokio::time::timeout(PATIENCE, tried(&host, &tree, seed));
            async move { tried.await.unwrap_or_else(|_| panic!("seed {seed} hangs")) }
        })
        .buffer_unordered(8);
    while let Some(outcomes) = running.next().await {
        for outcome in outcomes {
            *count.entry(outcome).or_insert(0) += 1;
        }
    }
    drop(running);
    let good = host.component("good").unwrap();
    let sum = good.call("add", &[Val::U32(2), Val::U32(3)]).await.unwrap();
    assert_eq!(number(&sum), 5);
    assert_eq!(good.metrics().restarts, 0);
    host.shutdown().await;
    count
}

/// The ways a guest's call or start may end that are its own.
const ITS_OWN: [&str; 8] = [
    "answered", "unfit", "trap", "stack", "fuel", "deadline", "oom", "too-many",
];

/// How often each of these comes of 300 components at the least; a corpus that is refused as it is
/// loaded, or ends in one way only, would prove nothing.
const AT_LEAST: [(&str, u64); 7] = [
    ("started", 150),
    ("answered", 100),
    ("trap", 100),
    ("host-error", 90),
    ("deadline", 10),
    ("fuel", 10),
    ("not started: invalid", 10),
];

#[test]
fn generated_components_end_within_their_limits_each_with_a_typed_outcome() {
    let _machine = machine_to_itself();
    let full = std::env::var_os("AIRSSYS_FULL").is_some();
    for host in 0..if full { HOSTS } else { 1 } {
        let count = block_on(outcomes(host * IN_A_HOST..(host + 1) * IN_A_HOST));
        for outcome in count.keys() {
            let way = outcome.strip_prefix("not started: ").unwrap_or(outcome);
            let known =
                ITS_OWN.contains(&way) || ["started", "host-error", "invalid"].contains(&way);
            assert!(known, "{count:?}");
        }
        for (outcome, least) in AT_LEAST {
            assert!(count.get(outcome).is_some_and(|n| *n >= least), "{count:?}");
        }
    }
}
