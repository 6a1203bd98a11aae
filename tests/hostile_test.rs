//! Components made to do harm: each ends with its own typed cause, within its limits, and a sibling
//! that keeps count answers before, during and after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use airssys::{
    AbiViolation, ChildSpec, ComponentConfig, ComponentRef, ComponentSpec, Counted, DeadlinePhase,
    ExitCause, ExitKind, Host, Intensity, Refusal, SupervisorError, SupervisorRef, SupervisorSpec,
    Val, ValueError, WasmError,
};
use futures_util::future::join_all;

use crate::support::{
    PAGE, Tree, block_on, component, exit, machine_to_itself, number, shared_machine,
};

const MIB: usize = 1_048_576;

/// How an attack must end.
enum Ends {
    /// With a cause of this kind.
    Exit(ExitKind),
    /// Out of memory, while it asked for so many bytes.
    Oom(usize),
    TooMany(Counted),
    Deadline(DeadlinePhase),
    /// With this found in what it returned.
    Lie(AbiViolation),
    /// With results too large for a message; the instance goes on.
    Unfit,
    /// With this answer: what it did is its own affair.
    Answer(Val),
    /// As the first way, and its component does not even start.
    NoStart(Box<Ends>),
}

/// A component that is called once, by its function `attack`, and afterwards by `ping`.
struct Attack {
    name: &'static str,
    text: String,
    arguments: Vec<Val>,
    ends: Ends,
}

/// Keeps count of its calls.
const COUNTER: &str = r#"(component
    (core module $m
        (global $n (mut i32) (i32.const 0))
        (func (export "bump") (result i32)
            (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))
    (core instance $i (instantiate $m))
    (func (export "bump") (result u32) (canon lift (core func $i "bump"))))"#;

const PING: &str = r#"(func (export "ping") (result i32) (i32.const 7))"#;

/// An attack from a core module without imports, of this type.
fn core(name: &'static str, ty: &str, module: &str, ends: Ends) -> Attack {
    let memory = module.contains("\"realloc\"");
    Attack {
        name,
        text: component(
            &format!("{module} {PING}"),
            memory,
            &[("attack", ty), ("ping", "(result u32)")],
        ),
        arguments: Vec::new(),
        ends,
    }
}

fn given(attack: Attack, argument: Val) -> Attack {
    Attack {
        arguments: vec![argument],
        ..attack
    }
}

/// An attack through what WASI offers: `body` is the module's, beside its imports.
fn wasi(name: &'static str, body: &str, ends: Ends) -> Attack {
    let text = format!(
        r#"(component
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
        (core module $memory
            (memory (export "memory") 2)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
        (core instance $mem (instantiate $memory))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core func $wait (canon lower (func $poll "poll")
            (memory $mem "memory") (realloc (func $mem "realloc"))))
        (core func $drop (canon resource.drop $pollable))
        (core func $now (canon lower (func $clock "now")))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core func $bytes (canon lower (func $random "get-random-bytes")
            (memory $mem "memory") (realloc (func $mem "realloc"))))
        (core module $m
            (import "mem" "memory" (memory 2))
            (import "h" "block" (func $block (param i32)))
            (import "h" "poll" (func $poll (param i32 i32 i32)))
            (import "h" "drop" (func $drop (param i32)))
            (import "h" "now" (func $now (result i64)))
            (import "h" "subscribe" (func $subscribe (param i64) (result i32)))
            (import "h" "bytes" (func $bytes (param i64 i32)))
            (func (export "attack") (local i32) {body})
            {PING})
        (core instance $i (instantiate $m (with "mem" (instance $mem)) (with "h" (instance
            (export "block" (func $block)) (export "poll" (func $wait)) (export "drop" (func $drop))
            (export "now" (func $now)) (export "subscribe" (func $subscribe))
            (export "bytes" (func $bytes))))))
        (func (export "attack") (canon lift (core func $i "attack")))
        (func (export "ping") (result u32) (canon lift (core func $i "ping"))))"#
    );
    Attack {
        name,
        text,
        arguments: Vec::new(),
        ends,
    }
}

fn checked(name: &str, ends: &Ends, outcome: Result<Vec<Val>, WasmError>) {
    match (ends, outcome) {
        (Ends::Answer(expected), Ok(answer)) => {
            assert_eq!(answer, std::slice::from_ref(expected), "{name}");
        }
        (Ends::Unfit, Err(WasmError::Results { source, .. })) => {
            assert!(
                matches!(source, ValueError::TooLarge { .. }),
                "{name}: {source}"
            );
        }
        (Ends::Answer(_) | Ends::Unfit, other) => panic!("{name}: {other:?}"),
        (ends, outcome) => ended(name, ends, &exit(outcome)),
    }
}

fn ended(name: &str, ends: &Ends, cause: &ExitCause) {
    let as_it_must = match (ends, cause) {
        (Ends::Exit(kind), cause) => cause.kind() == *kind,
        (Ends::Oom(bytes), ExitCause::OutOfMemory(figures)) => {
            figures.limit_bytes == MIB
                && figures.peak_bytes <= MIB
                && figures.requested_bytes == *bytes
        }
        (Ends::TooMany(what), ExitCause::TooMany(figures)) => {
            figures.what == *what && figures.wanted == figures.limit + 1
        }
        (Ends::Deadline(expected), ExitCause::Deadline { limit, phase }) => {
            *limit == Duration::from_secs(1) && phase == expected
        }
        (Ends::Lie(lie), cause) => violation(cause) == Some(*lie),
        _ => false,
    };
    assert!(as_it_must, "{name}: {cause:?}");
}

fn violation(cause: &ExitCause) -> Option<AbiViolation> {
    let mut next = std::error::Error::source(cause);
    while let Some(error) = next {
        if let Some(violation) = error.downcast_ref() {
            return Some(*violation);
        }
        next = error.source();
    }
    None
}

/// Counts on in its one instance until it is told to stop; how often it was answered.
async fn sibling(counter: ComponentRef, stop: Arc<AtomicBool>) -> i64 {
    let mut count = 1;
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        assert_eq!(number(&counter.call("bump", &[]).await.unwrap()), count);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    count
}

async fn attack(host: &Host, tools: &SupervisorRef, spec: ChildSpec, attack: &Attack) {
    let name = attack.name;
    match (tools.start_child(spec).await, &attack.ends) {
        (Ok(_), Ends::NoStart(_)) => panic!("{name}: started"),
        (Ok(_), _) => {}
        (Err(SupervisorError::Refused(Refusal::StartFailed(_, cause))), Ends::NoStart(ends)) => {
            return ended(name, ends, &cause);
        }
        (Err(error), _) => panic!("{name}: {error}"),
    }
    let component = host.component(&name.replace(' ', "-")).unwrap();
    assert_eq!(number(&component.call("ping", &[]).await.unwrap()), 7);
    let outcome = component.call("attack", &attack.arguments).await;
    let lives = matches!(attack.ends, Ends::Answer(_) | Ends::Unfit);
    checked(name, &attack.ends, outcome);
    assert_eq!(
        number(&component.call("ping", &[]).await.unwrap()),
        7,
        "{name}"
    );
    let metrics = component.metrics();
    assert_eq!(metrics.restarts, u64::from(!lives), "{name}");
    assert!(metrics.total.peak_bytes <= MIB, "{name}: {metrics:?}");
}

/// All attacks at once, in one host; the sibling is answered at least so often meanwhile.
async fn withstand(attacks: &[Attack], answers: i64) {
    let tree = attacks.iter().fold(
        Tree::new().text("sibling", COUNTER, MIB, ""),
        |tree, attack| {
            let cpu = "timeout_seconds = 1\nstart_timeout_seconds = 1";
            tree.text(&attack.name.replace(' ', "-"), &attack.text, MIB, cpu)
        },
    );
    let spec = |name: &str| {
        let config = ComponentConfig::load(tree.path().join(name).join("Component.toml"));
        ChildSpec::component(config.unwrap())
    };
    let intensity = Intensity {
        restarts: 1000,
        period: Duration::from_secs(60),
    };
    let tools = SupervisorSpec::new("tools")
        .intensity(intensity)
        .child(spec("sibling"));
    let host = Host::builder().supervisor(tools).start().await.unwrap();
    let tools = host.supervisor("tools").unwrap();
    let counter = host.component("sibling").unwrap();
    assert_eq!(number(&counter.call("bump", &[]).await.unwrap()), 1);
    let stop = Arc::new(AtomicBool::new(false));
    let during = tokio::spawn(sibling(counter.clone(), Arc::clone(&stop)));
    join_all(attacks.iter().map(|one| {
        let spec = spec(&one.name.replace(' ', "-"));
        attack(&host, &tools, spec, one)
    }))
    .await;
    stop.store(true, Ordering::Relaxed);
    let count = during.await.unwrap();
    assert!(count > answers, "the sibling was answered {count} times");
    assert_eq!(number(&counter.call("bump", &[]).await.unwrap()), count + 1);
    host.shutdown().await;
}

/// A `realloc` with this body, and a function that takes a list of words.
fn realloc(name: &'static str, body: &str, ends: Ends) -> Attack {
    let module = format!(
        "(memory (export \"memory\") 1)
        (func $realloc (export \"realloc\") (param i32 i32 i32 i32) (result i32) {body})
        (func (export \"attack\") (param i32 i32) (result i32) (local.get 1))"
    );
    let words = Val::List((0..8).map(Val::U64).collect());
    let ty = "(param \"words\" (list u64)) (result u32)";
    given(core(name, ty, &module, ends), words)
}

/// A text of `length` units at 0, in a memory of `pages` that is full of `byte`.
fn text(name: &'static str, encoding: &str, pages: u32, length: u32, ends: Ends) -> Attack {
    let text = format!(
        r#"(component (core module $m
            (memory (export "memory") {pages})
            (func (export "attack") (result i32)
                (memory.fill (i32.const 0) (i32.const 0xfa)
                    (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 8)))
                (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4))
                    (i32.const {length}))
                (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 8))
                    (i32.const 0))
                (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 8)))
            {PING})
        (core instance $i (instantiate $m))
        (func (export "attack") (result string)
            (canon lift (core func $i "attack") (memory $i "memory") string-encoding={encoding}))
        (func (export "ping") (result u32) (canon lift (core func $i "ping"))))"#
    );
    Attack {
        name,
        text,
        arguments: Vec::new(),
        ends,
    }
}

#[test]
fn memory_bombs_end_within_the_limit() {
    const FOR_EVER: &str = "(loop $more (br_if $more
        (i32.ne (i32.const -1) (memory.grow (i32.const 1))))) unreachable";
    let _machine = shared_machine();
    let grow =
        |n: u32| format!("(br_if $more (i32.ne (i32.const -1) (memory.grow {n} (i32.const 1))))");
    let in_turn: String = (0..8).map(grow).collect();
    let attacks = [
        core(
            "a page at a time",
            "",
            &format!("(memory 1) (func (export \"attack\") {FOR_EVER})"),
            Ends::Oom(PAGE),
        ),
        core(
            "a page at a time in vain",
            "",
            "(memory 1) (func (export \"attack\")
                (loop $more (drop (memory.grow (i32.const 1))) (br $more)))",
            Ends::Deadline(DeadlinePhase::Computing),
        ),
        core(
            "eight memories in turn",
            "",
            &format!(
                "{} (func (export \"attack\") (loop $more {in_turn}) unreachable)",
                "(memory 0)".repeat(8)
            ),
            Ends::Oom(PAGE),
        ),
        core(
            "an element at a time",
            "",
            "(table $t 0 funcref) (func (export \"attack\")
                (loop $more (br_if $more (i32.ne (i32.const -1)
                    (table.grow $t (ref.null func) (i32.const 1))))) unreachable)",
            Ends::TooMany(Counted::TableElements),
        ),
        core(
            "all it can in its start",
            "",
            &format!(
                "(memory 1) (func $start {FOR_EVER}) (start $start) (func (export \"attack\"))"
            ),
            Ends::NoStart(Box::new(Ends::Oom(PAGE))),
        ),
        core(
            "more than all to begin with",
            "",
            "(memory 8) (memory 9) (func (export \"attack\"))",
            Ends::NoStart(Box::new(Ends::Oom(9 * PAGE))),
        ),
        realloc("a realloc that only grows", FOR_EVER, Ends::Oom(PAGE)),
        realloc(
            "a realloc that leads out",
            "(i32.const 0x10000)",
            Ends::Exit(ExitKind::HostError),
        ),
        realloc(
            "a realloc that leads nearly out",
            "(i32.const 0xfff8)",
            Ends::Exit(ExitKind::HostError),
        ),
        realloc(
            "a realloc that leads far out",
            "(i32.const -8)",
            Ends::Exit(ExitKind::HostError),
        ),
        realloc(
            "a realloc out of line",
            "(i32.const 1028)",
            Ends::Exit(ExitKind::HostError),
        ),
        // One place for all is the guest's own affair.
        realloc(
            "a realloc of one place",
            "(i32.const 0)",
            Ends::Answer(Val::U32(8)),
        ),
        // 0xfafa is three bytes of UTF-8: 8 pages become 12, which fit no more beside them.
        text(
            "a text that grows by half",
            "utf16",
            9,
            8 * 65_536 / 2,
            Ends::Exit(ExitKind::OutOfMemory),
        ),
        // 0xfa is two bytes of UTF-8: more than a message may be.
        text(
            "a text that doubles",
            "latin1+utf16",
            12,
            11 * 65_536,
            Ends::Unfit,
        ),
        wasi(
            "all the randomness there is",
            "(call $bytes (i64.const -1) (i32.const 0))",
            Ends::Exit(ExitKind::HostError),
        ),
        wasi(
            "handles without end",
            "(loop $more (drop (call $subscribe (i64.const 1))) (br $more))",
            Ends::TooMany(Counted::Handles),
        ),
        wasi(
            "a list of one handle many times over",
            "(drop (call $subscribe (i64.const 0)))
            (loop $more
                (i32.store (local.get 0) (i32.const 1))
                (local.set 0 (i32.add (local.get 0) (i32.const 4)))
                (br_if $more (i32.lt_u (local.get 0) (i32.const 131072))))
            (call $poll (i32.const 0) (i32.const 32768) (i32.const 0))",
            Ends::Exit(ExitKind::HostError),
        ),
    ];
    block_on(withstand(&attacks, 20));
}

/// A call without end where nobody looks for one.
fn endless(name: &'static str, module: &str) -> Attack {
    let module = format!("{module} (func (export \"attack\") (loop $on (call $step) (br $on)))");
    core(name, "", &module, Ends::Deadline(DeadlinePhase::Computing))
}

fn host_loop(name: &'static str, body: &str) -> Attack {
    let body = format!("(loop $on {body} (br $on))");
    wasi(name, &body, Ends::Deadline(DeadlinePhase::Computing))
}

#[test]
fn processor_bombs_end_by_their_deadline_or_their_stack() {
    let _machine = machine_to_itself();
    let stack = || Ends::Exit(ExitKind::StackOverflow);
    let attacks = [
        core(
            "a start without end",
            "",
            "(func $start (loop (br 0))) (start $start) (func (export \"attack\"))",
            Ends::NoStart(Box::new(Ends::Deadline(DeadlinePhase::Start))),
        ),
        realloc(
            "a realloc without end",
            "(loop (br 0)) unreachable",
            Ends::Deadline(DeadlinePhase::Computing),
        ),
        Attack {
            name: "a post return without end",
            text: format!(
                "(component (core module $m
                    (func (export \"attack\") (result i32) (i32.const 1))
                    (func (export \"after\") (param i32) (loop (br 0))) {PING})
                (core instance $i (instantiate $m))
                (func (export \"attack\") (result u32)
                    (canon lift (core func $i \"attack\") (post-return (func $i \"after\"))))
                (func (export \"ping\") (result u32) (canon lift (core func $i \"ping\"))))"
            ),
            arguments: Vec::new(),
            ends: Ends::Deadline(DeadlinePhase::Computing),
        },
        endless(
            "large fills",
            "(memory 8) (func $step (memory.fill (i32.const 0) (i32.const 1) (i32.const 524288)))",
        ),
        endless(
            "large copies",
            "(memory 8) (func $step
                (memory.copy (i32.const 1) (i32.const 0) (i32.const 524287)))",
        ),
        endless(
            "growth by nothing",
            "(memory 1) (func $step (drop (memory.grow (i32.const 0))))",
        ),
        endless(
            "growth that is refused",
            "(memory 1) (func $step (drop (memory.grow (i32.const 17))))",
        ),
        endless(
            "tables that grow by nothing",
            "(table $t 1 funcref)
            (func $step (drop (table.grow $t (ref.null func) (i32.const 0))))",
        ),
        host_loop("calls to the host", "(drop (call $now))"),
        host_loop(
            "handles that come and go",
            "(call $drop (call $subscribe (i64.const 1)))",
        ),
        host_loop("randomness", "(call $bytes (i64.const 4096) (i32.const 0))"),
        core(
            "recursion",
            "",
            "(func $down (export \"attack\") (call $down) (call $down))",
            stack(),
        ),
        core(
            "recursion by way of a table",
            "",
            "(table funcref (elem $down)) (type $f (func))
            (func $down (export \"attack\")
                (call_indirect (type $f) (i32.const 0)) (call_indirect (type $f) (i32.const 0)))",
            stack(),
        ),
        core(
            "recursion in its start",
            "",
            "(func $down (call $down) (call $down)) (start $down) (func (export \"attack\"))",
            Ends::NoStart(Box::new(stack())),
        ),
        realloc(
            "recursion in realloc",
            "(call $realloc (local.get 0) (local.get 1) (local.get 2) (local.get 3))",
            stack(),
        ),
    ];
    block_on(withstand(&attacks, 20));
}

/// A result of this type, which the guest says lies at `at`, where these bytes are.
fn lie(name: &'static str, ty: &str, at: u32, bytes: &str, ends: Ends) -> Attack {
    let module = format!(
        "(memory (export \"memory\") 1)
        (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) unreachable)
        (data (i32.const 64) \"{bytes}\")
        (func (export \"attack\") (result i32) (i32.const {at}))"
    );
    core(name, &format!("(result {ty})"), &module, ends)
}

#[test]
fn lies_to_the_host_end_with_what_they_were() {
    let _machine = shared_machine();
    let no_case = |found, cases| Ends::Lie(AbiViolation::Discriminant { found, cases });
    let list = |items| Ends::Answer(Val::List(items));
    let host_error = || Ends::Exit(ExitKind::HostError);
    let utf16 = |name, encoding: &str, bytes: &str, ends| {
        let mut attack = lie(name, "string", 64, bytes, ends);
        let encoding = format!("(realloc (func $i \"realloc\")) string-encoding={encoding}");
        attack.text = attack
            .text
            .replacen(r#"(realloc (func $i "realloc"))"#, &encoding, 1);
        attack
    };
    let out = |pointer, length| Ends::Lie(AbiViolation::OutOfBounds { pointer, length });
    let attacks = [
        lie(
            "an enum in a list",
            "(list (result))",
            64,
            "\\48\\00\\00\\00\\03\\00\\00\\00\\00\\01\\02",
            no_case(2, 2),
        ),
        lie(
            "an option in a list",
            "(list (option u8))",
            64,
            "\\48\\00\\00\\00\\02\\00\\00\\00\\01\\07\\ff\\07",
            no_case(255, 2),
        ),
        // Any byte but 0 is true, and flags that have no name are nothing: not lies by the ABI.
        lie(
            "bools",
            "(list bool)",
            64,
            "\\48\\00\\00\\00\\03\\00\\00\\00\\00\\01\\ff",
            list(vec![Val::Bool(false), Val::Bool(true), Val::Bool(true)]),
        ),
        lie(
            "a result in the last bytes",
            "(tuple u32 u64)",
            65_528,
            "",
            out(65_528, 1),
        ),
        lie(
            "a surrogate in a list",
            "(list char)",
            64,
            "\\48\\00\\00\\00\\01\\00\\00\\00\\00\\d8\\00\\00",
            Ends::Lie(AbiViolation::Char(0xd800)),
        ),
        utf16(
            "half a pair",
            "utf16",
            "\\48\\00\\00\\00\\02\\00\\00\\00\\00\\d8\\41\\00",
            Ends::Lie(AbiViolation::Text),
        ),
        utf16(
            "units at an odd place",
            "utf16",
            "\\49\\00\\00\\00\\01\\00\\00\\00",
            Ends::Lie(AbiViolation::Misaligned {
                pointer: 0x49,
                align: 2,
            }),
        ),
        utf16(
            "half a pair under a tag",
            "latin1+utf16",
            "\\48\\00\\00\\00\\01\\00\\00\\80\\00\\dc",
            Ends::Lie(AbiViolation::Text),
        ),
        utf16(
            "all units under a tag",
            "latin1+utf16",
            "\\48\\00\\00\\00\\ff\\ff\\ff\\ff",
            out(0x48, 0x7fff_ffff),
        ),
        wasi(
            "a handle of nothing",
            "(call $block (i32.const 77))",
            host_error(),
        ),
        wasi(
            "a handle of zero",
            "(call $drop (i32.const 0))",
            host_error(),
        ),
        wasi(
            "the last handle",
            "(call $block (i32.const -1))",
            host_error(),
        ),
        wasi(
            "a handle dropped twice",
            "(local.set 0 (call $subscribe (i64.const 1)))
            (call $drop (local.get 0)) (call $drop (local.get 0))",
            host_error(),
        ),
        wasi(
            "a handle after its end",
            "(local.set 0 (call $subscribe (i64.const 1)))
            (call $drop (local.get 0)) (call $block (local.get 0))",
            host_error(),
        ),
        wasi(
            "a list to the host that leads out",
            "(call $poll (i32.const 131068) (i32.const 2) (i32.const 0))",
            host_error(),
        ),
        wasi(
            "a list to the host without end",
            "(call $poll (i32.const 0) (i32.const -1) (i32.const 0))",
            host_error(),
        ),
        wasi(
            "an answer of the host that leads out",
            "(call $bytes (i64.const 8) (i32.const 131068))",
            host_error(),
        ),
        wasi(
            "an answer of the host out of line",
            "(call $bytes (i64.const 8) (i32.const 2))",
            host_error(),
        ),
        wasi(
            "nothing to wait for",
            "(call $poll (i32.const 0) (i32.const 0) (i32.const 0))",
            host_error(),
        ),
    ];
    block_on(withstand(&attacks, 1));
}
