//! Resources that a component exports, held for its callers from call to call.

use airssys::json::Outcome;
use airssys::{
    Counted, ExitCause, FunctionError, HandleError, Homeless, ResourceHandle, Val, ValueError,
    WasmError,
};
use airssys_wasm::HANDLE_BYTES;
use serde_json::{Value, json};
use wasmtime::component::{ResourceAny, TypedFunc};

use crate::support::{Alone, Tree, block_on, exit, number, shared_machine};

const MIB: usize = 1_048_576;

/// Counters, which count how many of them there are; and tokens, which are another kind. A counter
/// is where its number lies in memory; the first word there counts those that live, the second all
/// calls that come in.
const COUNTERS: &str = r#"(component
    (core module $state
        (memory (export "memory") 1)
        (global $next (mut i32) (i32.const 1024))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            (i32.store (i32.const 4) (i32.add (i32.const 1) (i32.load (i32.const 4))))
            (global.set $next (i32.add (global.get $next)
                (i32.and (i32.const -8) (i32.add (i32.const 7) (local.get 3)))))
            (i32.sub (global.get $next)
                (i32.and (i32.const -8) (i32.add (i32.const 7) (local.get 3)))))
        (func (export "drop") (param i32)
            (if (i32.eq (i32.load (local.get 0)) (i32.const 13)) (then unreachable))
            (i32.store (i32.const 0) (i32.sub (i32.load (i32.const 0)) (i32.const 1)))))
    (core instance $s (instantiate $state))
    (type $counter' (resource (rep i32) (dtor (func $s "drop"))))
    (type $token' (resource (rep i32)))
    (core func $new (canon resource.new $counter'))
    (core func $rep (canon resource.rep $counter'))
    (core func $drop (canon resource.drop $counter'))
    (core func $new-token (canon resource.new $token'))
    (core module $m
        (import "s" "memory" (memory 1))
        (import "s" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
        (import "h" "new" (func $new (param i32) (result i32)))
        (import "h" "rep" (func $rep (param i32) (result i32)))
        (import "h" "drop" (func $drop (param i32)))
        (import "h" "new-token" (func $new-token (param i32) (result i32)))
        (func $enter (i32.store (i32.const 4) (i32.add (i32.const 1) (i32.load (i32.const 4)))))
        (func $make (export "make") (param $start i32) (result i32) (local $at i32)
            (call $enter)
            (local.set $at (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 8)))
            (i32.store (local.get $at) (local.get $start))
            (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
            (call $new (local.get $at)))
        (func (export "bump") (param $at i32) (result i32)
            (call $enter)
            (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (i32.const 1)))
            (i32.load (local.get $at)))
        (func $finish (export "finish") (param $handle i32) (result i32) (local $value i32)
            (call $enter)
            (local.set $value (i32.load (call $rep (local.get $handle))))
            (call $drop (local.get $handle))
            (local.get $value))
        (func (export "same") (param i32) (result i32) (call $enter) (local.get 0))
        (func (export "sum") (param $list i32) (param $count i32) (result i32) (local $sum i32)
            (call $enter)
            (block $done (loop $next
                (br_if $done (i32.eqz (local.get $count)))
                (local.set $sum (i32.add (local.get $sum) (i32.load (i32.load (local.get $list)))))
                (local.set $list (i32.add (local.get $list) (i32.const 4)))
                (local.set $count (i32.sub (local.get $count) (i32.const 1)))
                (br $next)))
            (local.get $sum))
        (func (export "add") (param $into i32) (param $from i32) (result i32)
            (i32.store (local.get $into)
                (i32.add (i32.load (local.get $into)) (call $finish (local.get $from))))
            (i32.load (local.get $into)))
        (func (export "many") (param $count i32) (result i32) (local $list i32) (local $at i32)
            (local.set $list (call $realloc (i32.const 0) (i32.const 0) (i32.const 8)
                (i32.shl (local.get $count) (i32.const 2))))
            (local.set $at (local.get $list))
            (i32.store (i32.const 12) (local.get $count))
            (block $done (loop $next
                (br_if $done (i32.eqz (local.get $count)))
                (i32.store (local.get $at) (call $make (local.get $count)))
                (local.set $at (i32.add (local.get $at) (i32.const 4)))
                (local.set $count (i32.sub (local.get $count) (i32.const 1)))
                (br $next)))
            (i32.store (i32.const 8) (local.get $list))
            (i32.const 8))
        (func (export "find") (param $start i32) (result i32)
            (i32.store (i32.const 16) (i32.ne (local.get $start) (i32.const 0)))
            (if (local.get $start)
                (then (i32.store (i32.const 20) (call $make (local.get $start)))))
            (i32.const 16))
        (func (export "forge") (result i32) (i32.const 77))
        (func (export "token") (result i32) (call $enter) (call $new-token (i32.const 5)))
        (func (export "live") (result i32) (i32.load (i32.const 0)))
        (func (export "entered") (result i32) (i32.load (i32.const 4)))
        (func (export "trap") unreachable))
    (core instance $i (instantiate $m (with "s" (instance $s)) (with "h" (instance
        (export "new" (func $new)) (export "rep" (func $rep)) (export "drop" (func $drop))
        (export "new-token" (func $new-token))))))
    (export $counter "counter" (type $counter'))
    (export $token "token" (type $token'))
    (func (export "[constructor]counter") (param "start" u32) (result (own $counter))
        (canon lift (core func $i "make")))
    (func (export "[method]counter.bump") (param "self" (borrow $counter)) (result u32)
        (canon lift (core func $i "bump")))
    (func (export "[static]counter.finish") (param "counter" (own $counter)) (result u32)
        (canon lift (core func $i "finish")))
    (func (export "[static]counter.make") (param "start" u32) (result (own $counter))
        (canon lift (core func $i "make")))
    (func (export "same") (param "counter" (own $counter)) (result (own $counter))
        (canon lift (core func $i "same")))
    (func (export "sum") (param "counters" (list (borrow $counter))) (result u32)
        (canon lift (core func $i "sum") (memory $s "memory") (realloc (func $s "realloc"))))
    (func (export "add") (param "into" (borrow $counter)) (param "from" (own $counter)) (result u32)
        (canon lift (core func $i "add")))
    (func (export "many") (param "count" u32) (result (list (own $counter)))
        (canon lift (core func $i "many") (memory $s "memory")))
    (func (export "find") (param "start" u32) (result (option (own $counter)))
        (canon lift (core func $i "find") (memory $s "memory")))
    (func (export "forge") (result (own $counter)) (canon lift (core func $i "forge")))
    (func (export "[constructor]token") (result (own $token)) (canon lift (core func $i "token")))
    (func (export "live") (result u32) (canon lift (core func $i "live")))
    (func (export "entered") (result u32) (canon lift (core func $i "entered")))
    (func (export "trap") (canon lift (core func $i "trap"))))"#;

const NEW: &str = "[constructor]counter";
const BUMP: &str = "[method]counter.bump";
const FINISH: &str = "[static]counter.finish";

async fn counters() -> Alone {
    Alone::text(COUNTERS, MIB, "").await
}

async fn json_of(alone: &Alone, function: &str, arguments: Value) -> Result<Value, WasmError> {
    let Value::Object(arguments) = arguments else {
        panic!("{arguments}");
    };
    match alone.component.call_json(function, &arguments).await? {
        Outcome::Value(Some(value)) => Ok(value),
        other => panic!("{other:?}"),
    }
}

async fn new(alone: &Alone, start: u32) -> ResourceHandle {
    let handle = json_of(alone, NEW, json!({"start": start})).await.unwrap();
    handle.as_str().unwrap().parse().unwrap()
}

fn text(handle: &ResourceHandle) -> Value {
    json!(handle.to_string())
}

/// Why a handle was refused.
fn refused<T: std::fmt::Debug>(answer: Result<T, WasmError>) -> HandleError {
    match answer {
        Err(WasmError::Arguments {
            source: ValueError::Handle { source, .. },
            ..
        }) => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_handle_serves_from_call_to_call_until_it_is_given_away() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counters().await;
        let one = new(&alone, 5).await;
        assert_eq!((one.kind(), one.generation()), ("counter", 1));
        for expected in [6, 7] {
            let bumped = json_of(&alone, BUMP, json!({"self": text(&one)})).await;
            assert_eq!(bumped.unwrap(), json!(expected));
        }
        // By values, where a handle is its text.
        let value = [Val::String(one.to_string())];
        assert_eq!(alone.number(BUMP, &value).await, 8);
        let made = alone.call("[static]counter.make", &[Val::U32(30)]).await;
        let Val::String(other) = &made.unwrap()[0] else {
            panic!("no handle");
        };
        let all = json!({"counters": [text(&one), other, text(&one)]});
        assert_eq!(json_of(&alone, "sum", all).await.unwrap(), json!(46));
        let add = json!({"into": text(&one), "from": other});
        assert_eq!(json_of(&alone, "add", add).await.unwrap(), json!(38));
        assert_eq!(alone.number("live", &[]).await, 1);
        let same = json_of(&alone, "same", json!({"counter": text(&one)})).await;
        let same: ResourceHandle = same.unwrap().as_str().unwrap().parse().unwrap();
        assert_ne!(same, one);
        let finished = json_of(&alone, FINISH, json!({"counter": text(&same)})).await;
        assert_eq!(finished.unwrap(), json!(38));
        assert_eq!(alone.number("live", &[]).await, 0);
        alone.host.shutdown().await;
    });
}

#[test]
fn handles_travel_inside_of_other_values() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counters().await;
        let many = json_of(&alone, "many", json!({"count": 3})).await.unwrap();
        let sum = json_of(&alone, "sum", json!({"counters": many})).await;
        assert_eq!(sum.unwrap(), json!(6));
        let found = json_of(&alone, "find", json!({"start": 9})).await.unwrap();
        let bumped = json_of(&alone, BUMP, json!({"self": found})).await;
        assert_eq!(bumped.unwrap(), json!(10));
        let none = json_of(&alone, "find", json!({"start": 0})).await;
        assert_eq!(none.unwrap(), Value::Null);
        let schema = alone.component.schema(BUMP).unwrap().input;
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        assert!(validator.is_valid(&json!({"self": many[0]})));
        assert!(!validator.is_valid(&json!({"self": "token#1.1"})));
        alone.host.shutdown().await;
    });
}

#[test]
fn a_handle_that_stands_for_nothing_is_refused_before_the_guest_is_entered() {
    let _machine = shared_machine();
    block_on(async {
        let (alone, stranger) = (counters().await, counters().await);
        let (one, other) = (new(&alone, 1).await, new(&stranger, 1).await);
        let token = json_of(&alone, "[constructor]token", json!({})).await;
        let token = token.unwrap();
        let gone = new(&alone, 1).await;
        alone.component.drop_resource(&gone).await.unwrap();
        let spent = new(&alone, 1).await;
        json_of(&alone, FINISH, json!({"counter": text(&spent)}))
            .await
            .unwrap();
        let (lives, entered) = (1, alone.number("entered", &[]).await);
        let number = one.to_string();
        let number = number.rsplit_once('.').unwrap().1;
        let disguised = token.as_str().unwrap().replace("token", "counter");
        for (handle, expected) in [
            (text(&other), HandleError::Unknown),
            (text(&gone), HandleError::Unknown),
            (text(&spent), HandleError::Unknown),
            (json!("counter#1.0"), HandleError::Unknown),
            (
                json!("counter#1.18446744073709551615"),
                HandleError::Unknown,
            ),
            (json!(format!("counter#2.{number}")), generation(2)),
            (
                json!(format!("counter#1.+{number}")),
                HandleError::Malformed,
            ),
            (
                json!(format!("counter#01.{number}")),
                HandleError::Malformed,
            ),
            (json!("counter#1"), HandleError::Malformed),
            (json!(""), HandleError::Malformed),
            (token, kind("token")),
            (json!(disguised), kind("token")),
        ] {
            for (function, name) in [(BUMP, "self"), (FINISH, "counter")] {
                let called = json_of(&alone, function, json!({name: handle})).await;
                assert_eq!(refused(called), expected, "{handle}");
            }
            let listed = json_of(&alone, "sum", json!({"counters": [text(&one), handle]})).await;
            assert_eq!(refused(listed), expected, "{handle}");
            if let Ok(handle) = handle.as_str().unwrap().parse::<ResourceHandle>()
                && handle.kind() == "counter"
            {
                let dropped = alone.component.drop_resource(&handle).await;
                let error = refused(dropped);
                let fits = matches!(error, HandleError::Unknown | HandleError::Generation { .. });
                assert!(fits || error == expected, "{error}");
            }
        }
        let twice = json!({"into": text(&one), "from": text(&one)});
        assert_eq!(
            refused(json_of(&alone, "add", twice).await),
            HandleError::Twice
        );
        let encoded = alone.call(BUMP, &[Val::U64(1)]).await.unwrap_err();
        assert!(matches!(encoded, WasmError::Arguments { .. }), "{encoded}");
        // Not even its `realloc` was called, and what it holds is as it was.
        assert_eq!(alone.number("entered", &[]).await, entered);
        assert_eq!(alone.number("live", &[]).await, lives);
        assert_eq!(alone.component.metrics().restarts, 0);
        let bumped = json_of(&alone, BUMP, json!({"self": text(&one)})).await;
        assert_eq!(bumped.unwrap(), json!(2));
        alone.host.shutdown().await;
        stranger.host.shutdown().await;
    });
}

fn generation(found: u64) -> HandleError {
    HandleError::Generation { found, current: 1 }
}

fn kind(found: &str) -> HandleError {
    HandleError::Kind {
        expected: "counter".into(),
        found: found.into(),
    }
}

#[test]
fn a_handle_does_not_outlive_its_instance() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counters().await;
        let one = new(&alone, 1).await;
        exit(alone.call("trap", &[]).await);
        let called = json_of(&alone, BUMP, json!({"self": text(&one)})).await;
        let expected = HandleError::Generation {
            found: 1,
            current: 2,
        };
        assert_eq!(refused(called), expected);
        assert_eq!(refused(alone.component.drop_resource(&one).await), expected);
        let next = new(&alone, 1).await;
        assert_eq!(next.generation(), 2);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_dropped_handle_runs_the_destructor_under_the_calls_limits() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counters().await;
        let one = new(&alone, 1).await;
        assert_eq!(alone.number("live", &[]).await, 1);
        alone.component.drop_resource(&one).await.unwrap();
        assert_eq!(alone.number("live", &[]).await, 0);
        let again = alone.component.drop_resource(&one).await;
        assert_eq!(refused(again), HandleError::Unknown);
        // The destructor of this one traps, which ends the instance as any call does.
        let bad = new(&alone, 13).await;
        let ended = alone.component.drop_resource(&bad).await.unwrap_err();
        let WasmError::Exited { cause, .. } = ended else {
            panic!("{ended}");
        };
        assert!(matches!(*cause, ExitCause::Trap(_)), "{cause}");
        assert_eq!(new(&alone, 1).await.generation(), 2);
        alone.host.shutdown().await;

        let spins = COUNTERS.replacen("(then unreachable)", "(then (loop $on (br $on)))", 1);
        let alone = Alone::text(&spins, MIB, "timeout_seconds = 1").await;
        let bad = new(&alone, 13).await;
        let ended = alone.component.drop_resource(&bad).await.unwrap_err();
        let WasmError::Exited { cause, .. } = ended else {
            panic!("{ended}");
        };
        assert!(matches!(*cause, ExitCause::Deadline { .. }), "{cause}");
        alone.host.shutdown().await;
    });
}

#[test]
fn what_is_held_for_callers_counts_against_the_limits() {
    let _machine = shared_machine();
    block_on(async {
        let limits = "[resources.counts]\nmax_handles = 20";
        let alone = Alone::text(COUNTERS, MIB, limits).await;
        let before = alone.component.memory().unwrap().current_bytes;
        json_of(&alone, "many", json!({"count": 15})).await.unwrap();
        alone.number("live", &[]).await;
        let held = alone.component.memory().unwrap().current_bytes - before;
        assert_eq!(held, 15 * HANDLE_BYTES);
        let full = exit(alone.call("many", &[Val::U32(6)]).await);
        let ExitCause::TooMany(too_many) = &*full else {
            panic!("{full}");
        };
        assert_eq!((too_many.what, too_many.limit), (Counted::Handles, 20));
        // Those that are given back make room.
        for _ in 0..60 {
            let one = new(&alone, 1).await;
            alone.component.drop_resource(&one).await.unwrap();
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn a_resource_that_the_guest_does_not_have_ends_the_instance() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counters().await;
        exit(alone.call("forge", &[]).await);
        assert_eq!(new(&alone, 1).await.generation(), 2);
        alone.host.shutdown().await;
    });
}

#[test]
fn handles_need_an_instance_that_lasts() {
    let _machine = shared_machine();
    block_on(async {
        for (line, expected) in [
            ("mode = \"per-call\"", Homeless::PerCall),
            ("park_after_seconds = 60", Homeless::Parked),
            ("replicas = 2", Homeless::Replicas),
        ] {
            let tree = Tree::new()
                .text("alone", COUNTERS, MIB, "")
                .line("alone", "instance", line);
            let alone = Alone::of(tree).await.unwrap();
            let homeless = |answer: Result<Value, WasmError>| match answer {
                Err(WasmError::Function {
                    source: FunctionError::Homeless { reason, .. },
                    ..
                }) => reason,
                other => panic!("{other:?}"),
            };
            let made = json_of(&alone, NEW, json!({"start": 1})).await;
            assert_eq!(homeless(made), expected);
            let handle = "counter#1.1".parse().unwrap();
            let dropped = alone.component.drop_resource(&handle).await;
            assert_eq!(homeless(dropped.map(|()| Value::Null)), expected);
            assert_eq!(alone.number("live", &[]).await, 0);
            if expected == Homeless::Replicas {
                let one = alone.component.replicas().remove(0);
                let made = one.call(NEW, &[Val::U32(1)]).await.unwrap();
                assert_eq!(number(&one.call(BUMP, &made).await.unwrap()), 2);
            }
            alone.host.shutdown().await;
        }
    });
}

/// What a `run` body holds across calls.
async fn bump_in_run(
    alone: &Alone,
    resource: ResourceAny,
) -> Result<Result<u32, String>, WasmError> {
    alone
        .component
        .run(move |mut store, instance| {
            Box::pin(async move {
                let bump: TypedFunc<(ResourceAny,), (u32,)> =
                    instance.get_typed_func(&mut store, BUMP)?;
                let bumped = bump.call_async(&mut store, (resource,)).await;
                Ok(bumped
                    .map(|(count,)| count)
                    .map_err(|error| error.to_string()))
            })
        })
        .await
}

#[test]
fn a_resource_kept_by_a_run_body_serves_until_its_instance_ends() {
    let _machine = shared_machine();
    block_on(async {
        let alone = counters().await;
        let kept = alone.component.run(|mut store, instance| {
            Box::pin(async move {
                let new: TypedFunc<(u32,), (ResourceAny,)> =
                    instance.get_typed_func(&mut store, NEW)?;
                Ok(new.call_async(&mut store, (40,)).await?.0)
            })
        });
        let kept = kept.await.unwrap();
        assert_eq!(bump_in_run(&alone, kept).await.unwrap(), Ok(41));
        assert_eq!(alone.number("live", &[]).await, 1);
        assert_eq!(bump_in_run(&alone, kept).await.unwrap(), Ok(42));
        exit(alone.call("trap", &[]).await);
        let refused = bump_in_run(&alone, kept).await.unwrap().unwrap_err();
        assert!(refused.contains("mismatched resource types"), "{refused}");
        assert_eq!(alone.number("entered", &[]).await, 0);
        alone.host.shutdown().await;
    });
}
