//! What a host meets from outside: damaged binaries, wrong names, wrong values, damaged messages.

use std::sync::Arc;
use std::time::Duration;

use airssys::{ExitCause, ExitKind, FunctionError, HostError, Message, Val, ValueError, WasmError};
use airssys_guests::{CALCULATOR, CRASHER};
use airssys_wasm::{LoadError, MAX_MESSAGE_BYTES};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::{
    Alone, BUMP, Values, block_on, component, exit, shared_machine, start_failure,
};

const MIB: usize = 1_048_576;

/// Why a binary could not be loaded, as text, with its type checked by `is`.
async fn load_error(wasm: &[u8], is: impl Fn(&LoadError) -> bool) -> String {
    let cause = start_failure(Alone::try_wasm(wasm, MIB, "").await);
    let ExitCause::Failed { source } = &*cause else {
        panic!("not a failed load: {cause}");
    };
    let error = source.downcast_ref::<LoadError>();
    assert!(error.is_some_and(is), "{cause}");
    cause.to_string()
}

#[test]
fn a_missing_binary_is_named() {
    let _machine = shared_machine();
    block_on(async {
        let tree = crate::support::Tree::new().guest("calculator", CALCULATOR);
        std::fs::remove_file(tree.path().join("calculator/component.wasm")).unwrap();
        let error = tree.start().await.unwrap_err();
        assert!(matches!(error, HostError::Start(_)), "{error:?}");
        let told = error.to_string();
        assert!(
            told.contains("calculator/component.wasm does not exist"),
            "{told}"
        );
    });
}

#[test]
fn a_core_module_is_told_apart_from_a_component() {
    let _machine = shared_machine();
    block_on(async {
        let module = wat::parse_str("(module (func (export \"add\")))").unwrap();
        let told = load_error(&module, |e| matches!(e, LoadError::CoreModule { .. })).await;
        assert!(told.contains("not a component"), "{told}");
    });
}

#[test]
fn what_is_not_webassembly_is_told_so() {
    let _machine = shared_machine();
    block_on(async {
        for bytes in [
            &b""[..],
            b"\0as",
            b"\0asm",
            b"#!/bin/sh\n",
            b"MZ\x90\0",
            &[0; 4096],
            b"(component)",
        ] {
            load_error(bytes, |e| {
                matches!(e, LoadError::NotWasm { .. } | LoadError::Invalid { .. })
            })
            .await;
        }
        load_error(b"", |e| matches!(e, LoadError::NotWasm { .. })).await;
    });
}

#[test]
fn a_truncated_component_is_refused_at_every_length() {
    let _machine = shared_machine();
    block_on(async {
        let whole = CALCULATOR.wasm;
        for sixteenth in 1..16 {
            let cut = &whole[..whole.len() * sixteenth / 16];
            load_error(cut, |e| {
                matches!(e, LoadError::Invalid { .. } | LoadError::NotWasm { .. })
            })
            .await;
        }
        load_error(&whole[..whole.len() - 1], |e| {
            matches!(e, LoadError::Invalid { .. })
        })
        .await;
    });
}

#[test]
fn a_damaged_component_ends_in_an_error_or_runs_and_nothing_else() {
    let _machine = shared_machine();
    block_on(async {
        let seed = 20_261_121_u64;
        println!("seed {seed}");
        let mut random = seed;
        let mut next = |below: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(random >> 33).unwrap() % below
        };
        let (mut refused, mut ran) = (0, 0);
        for flip in 0..100 {
            let mut wasm = CALCULATOR.wasm.to_vec();
            let (at, bit) = (next(wasm.len()), next(8));
            wasm[at] ^= 1 << bit;
            let attempt = async {
                let alone = match Alone::try_wasm(&wasm, MIB, "timeout_seconds = 1").await {
                    Ok(alone) => alone,
                    Err(error) => {
                        assert!(!error.to_string().is_empty());
                        return false;
                    }
                };
                let arguments = [Val::U32(2), Val::U32(3)];
                // Whatever it answers, it answers or ends.
                alone
                    .call("docs:adder/add@0.1.0#add", &arguments)
                    .await
                    .ok();
                alone.host.shutdown().await;
                true
            };
            let attempt = tokio::time::timeout(Duration::from_secs(20), attempt).await;
            match attempt.unwrap_or_else(|_| panic!("flip {flip} at {at}.{bit} hangs")) {
                true => ran += 1,
                false => refused += 1,
            }
        }
        assert!(refused > 0 && ran > 0, "{refused} refused, {ran} ran");
    });
}

#[test]
fn an_import_the_host_does_not_offer_is_named() {
    let _machine = shared_machine();
    block_on(async {
        let texts = [
            "(component (import \"acme:oven/heat@1.2.3\" (instance (export \"burn\" (func)))))",
            "(component (import \"burn\" (func)))",
            // Of another type than the host's.
            "(component (import \"wasi:cli/environment@0.2.0\" (instance (export \"get-environment\" (func (result u32))))))",
        ];
        for (text, name) in texts
            .iter()
            .zip(["acme:oven/heat@1.2.3", "burn", "get-environment"])
        {
            let wasm = wat::parse_str(text).unwrap();
            let told = load_error(&wasm, |e| matches!(e, LoadError::Link { .. })).await;
            assert!(told.contains(name), "{name}: {told}");
        }
    });
}

#[test]
fn an_unknown_function_is_refused_with_the_names_there_are() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::guest(CRASHER, MIB, "").await;
        for name in [
            "pong",
            "",
            "airssys:crasher/crash@0.1.0",
            "airssys:crasher/crash@0.1.0#pong",
            "ping#",
            "#ping",
        ] {
            let error = alone.call(name, &[]).await.unwrap_err();
            let WasmError::Function {
                source: FunctionError::Unknown { known, .. },
                ..
            } = &error
            else {
                panic!("{name}: {error}");
            };
            assert!(known.contains(&String::from("airssys:crasher/crash@0.1.0#ping")));
        }
        let long = "x".repeat(1_000_000);
        assert!(alone.call(&long, &[]).await.unwrap_err().to_string().len() < 2000);
        assert_eq!(alone.number("ping", &[]).await, 1);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_bare_name_that_two_interfaces_have_is_refused_with_both() {
    let _machine = shared_machine();
    block_on(async {
        let text = r#"(component
            (core module $m (func (export "one") (result i32) (i32.const 1)) (func (export "two") (result i32) (i32.const 2)))
            (core instance $i (instantiate $m))
            (func $one (result u32) (canon lift (core func $i "one")))
            (func $two (result u32) (canon lift (core func $i "two")))
            (instance $a (export "get" (func $one)) (export "only" (func $one)))
            (instance $b (export "get" (func $two)))
            (export "t:t/a" (instance $a)) (export "t:t/b" (instance $b)))"#;
        let alone = Alone::text(text, MIB, "").await;
        let error = alone.call("get", &[]).await.unwrap_err();
        let WasmError::Function {
            source: FunctionError::Ambiguous { candidates, .. },
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(candidates, &["t:t/a#get", "t:t/b#get"]);
        assert_eq!(alone.number("t:t/a#get", &[]).await, 1);
        assert_eq!(alone.number("t:t/b#get", &[]).await, 2);
        assert_eq!(alone.number("only", &[]).await, 1);
        alone.host.shutdown().await;
    });
}

/// Every class of WIT type that travels in a message: the type, and the name its echo has.
const CLASSES: [(&str, &str); 22] = [
    ("bool", "bool"),
    ("u8", "u8"),
    ("s8", "s8"),
    ("u16", "u16"),
    ("s16", "s16"),
    ("u32", "u32"),
    ("s32", "s32"),
    ("u64", "u64"),
    ("s64", "s64"),
    ("f32", "f32"),
    ("f64", "f64"),
    ("char", "char"),
    ("string", "string"),
    ("list", "(list u16)"),
    ("lists", "(list (list string))"),
    ("record", "$point"),
    ("tuple", "(tuple u8 string u64)"),
    ("variant", "$shape"),
    ("enum", "$colour"),
    ("option", "(option (option u32))"),
    ("result", "(result string (error $colour))"),
    ("flags", "$rights"),
];

/// Echoes a list of each class: a list lies in memory, so its pointer and length are all there is
/// to return. Counts how often it is entered.
fn echoes() -> String {
    use std::fmt::Write;
    let mut text = format!(
        r#"(component
        (core module $m {BUMP}
            (global $entered (mut i32) (i32.const 0))
            (func (export "echo") (param i32 i32) (result i32)
                (global.set $entered (i32.add (global.get $entered) (i32.const 1)))
                (i32.store (i32.const 16) (local.get 0))
                (i32.store (i32.const 20) (local.get 1))
                (i32.const 16))
            (func (export "entered") (result i32) (global.get $entered))
            (func (export "reset") (param i32) (global.set $next (i32.const 4096))))
        (core instance $i (instantiate $m))
        (type $point' (record (field "x" s32) (field "y" f64) (field "label" string)))
        (export $point "point" (type $point'))
        (type $colour' (enum "red" "green" "blue"))
        (export $colour "colour" (type $colour'))
        (type $shape' (variant (case "dot") (case "circle" f64) (case "named" string) (case "at" $point)))
        (export $shape "shape" (type $shape'))
        (type $rights' (flags "read" "write" "run"))
        (export $rights "rights" (type $rights'))
        (func (export "entered") (result u32) (canon lift (core func $i "entered")))
        "#
    );
    for (name, ty) in CLASSES {
        writeln!(
            text,
            "(func (export \"echo-{name}\") (param \"values\" (list {ty})) (result (list {ty}))
                (canon lift (core func $i \"echo\") (memory $i \"memory\") (realloc (func $i \"realloc\"))
                    (post-return (func $i \"reset\"))))"
        )
        .unwrap();
    }
    text + ")"
}

fn text(text: &str) -> Val {
    Val::String(text.to_owned())
}

fn point() -> BoxedStrategy<Val> {
    (any::<i32>(), any::<f64>(), ".{0,8}")
        .prop_map(|(x, y, label)| {
            let fields = [
                ("x", Val::S32(x)),
                ("y", Val::Float64(y)),
                ("label", Val::String(label)),
            ];
            Val::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())
        })
        .boxed()
}

fn colour() -> BoxedStrategy<Val> {
    let names = proptest::sample::select(vec!["red", "green", "blue"]);
    names.prop_map(|name| Val::Enum(name.to_owned())).boxed()
}

fn some(value: Val) -> Val {
    Val::Option(Some(Box::new(value)))
}

/// Values of a class.
fn values(class: &str) -> BoxedStrategy<Val> {
    let string = || ".{0,12}".prop_map(Val::String);
    match class {
        "bool" => any::<bool>().prop_map(Val::Bool).boxed(),
        "u8" => any::<u8>().prop_map(Val::U8).boxed(),
        "s8" => any::<i8>().prop_map(Val::S8).boxed(),
        "u16" => any::<u16>().prop_map(Val::U16).boxed(),
        "s16" => any::<i16>().prop_map(Val::S16).boxed(),
        "u32" => any::<u32>().prop_map(Val::U32).boxed(),
        "s32" => any::<i32>().prop_map(Val::S32).boxed(),
        "u64" => any::<u64>().prop_map(Val::U64).boxed(),
        "s64" => any::<i64>().prop_map(Val::S64).boxed(),
        "f32" => proptest::num::f32::ANY.prop_map(Val::Float32).boxed(),
        "f64" => proptest::num::f64::ANY.prop_map(Val::Float64).boxed(),
        "char" => any::<char>().prop_map(Val::Char).boxed(),
        "string" => string().boxed(),
        "list" => proptest::collection::vec(any::<u16>().prop_map(Val::U16), 0..9)
            .prop_map(Val::List)
            .boxed(),
        "lists" => {
            let inner = proptest::collection::vec(string(), 0..5).prop_map(Val::List);
            proptest::collection::vec(inner, 0..5)
                .prop_map(Val::List)
                .boxed()
        }
        "record" => point(),
        "tuple" => (any::<u8>(), ".{0,9}", any::<u64>())
            .prop_map(|(a, b, c)| Val::Tuple(vec![Val::U8(a), Val::String(b), Val::U64(c)]))
            .boxed(),
        "variant" => prop_oneof![
            Just(Val::Variant(String::from("dot"), None)),
            any::<f64>().prop_map(|r| Val::Variant(
                String::from("circle"),
                Some(Box::new(Val::Float64(r)))
            )),
            string().prop_map(|n| Val::Variant(String::from("named"), Some(Box::new(n)))),
            point().prop_map(|p| Val::Variant(String::from("at"), Some(Box::new(p)))),
        ]
        .boxed(),
        "enum" => colour(),
        "option" => proptest::option::of(proptest::option::of(any::<u32>()))
            .prop_map(|outer| match outer {
                None => Val::Option(None),
                Some(None) => some(Val::Option(None)),
                Some(Some(n)) => some(some(Val::U32(n))),
            })
            .boxed(),
        "result" => prop_oneof![
            string().prop_map(|s| Val::Result(Ok(Some(Box::new(s))))),
            colour().prop_map(|c| Val::Result(Err(Some(Box::new(c))))),
        ]
        .boxed(),
        "flags" => proptest::sample::subsequence(vec!["read", "write", "run"], 0..=3)
            .prop_map(|set| Val::Flags(set.into_iter().map(str::to_owned).collect()))
            .boxed(),
        other => panic!("no values of {other}"),
    }
}

#[test]
fn a_value_of_every_class_comes_back_as_it_went() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&echoes(), MIB, "").await;
        let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(Config::default(), random);
        let mut sent = 0;
        for (class, _) in CLASSES {
            let lists = proptest::collection::vec(values(class), 0..20);
            for _ in 0..40 {
                let list = [Val::List(lists.new_tree(&mut runner).unwrap().current())];
                let back = alone.call(&format!("echo-{class}"), &list).await.unwrap();
                assert_eq!(back, list, "{class}");
                sent += 1;
            }
        }
        assert_eq!(alone.number("entered", &[]).await, sent);
        alone.host.shutdown().await;
    });
}

/// A value that is not of the class, and does not become so by being wrapped.
fn wrong(class: &str) -> Vec<Val> {
    let field = |name: &str, value: Val| (name.to_owned(), value);
    let (x, y, label) = (
        field("x", Val::S32(1)),
        field("y", Val::Float64(1.0)),
        field("label", text("a")),
    );
    let case =
        |name: &str, payload: Option<Val>| Val::Variant(name.to_owned(), payload.map(Box::new));
    match class {
        "bool" => vec![Val::U8(1), text("true")],
        "u8" => vec![Val::U16(1), Val::S8(1), Val::Bool(true)],
        "s8" => vec![Val::U8(1)],
        "u16" => vec![Val::U8(1), Val::U32(1)],
        "s16" => vec![Val::U16(1)],
        "u32" => vec![Val::S32(1), Val::U64(1), Val::Float32(1.0), Val::Char('a')],
        "s32" => vec![Val::U32(1)],
        "u64" => vec![Val::S64(1), Val::U32(1), Val::Float64(1.0)],
        "s64" => vec![Val::U64(1)],
        "f32" => vec![Val::Float64(1.0), Val::U32(1)],
        "f64" => vec![Val::Float32(1.0), Val::S64(1)],
        "char" => vec![text("a"), Val::U32(97)],
        "string" => vec![Val::Char('a'), Val::List(vec![Val::U8(97)])],
        "list" => vec![
            Val::U16(1),
            Val::List(vec![Val::U16(1), Val::U32(1)]),
            Val::Tuple(vec![Val::U16(1)]),
            text("a"),
        ],
        "lists" => vec![
            Val::List(vec![text("a")]),
            Val::List(vec![Val::List(vec![text("a"), Val::Char('b')])]),
        ],
        "record" => vec![
            Val::Record(vec![x.clone(), y.clone()]),
            Val::Record(vec![
                x.clone(),
                y.clone(),
                label.clone(),
                field("z", Val::U8(1)),
            ]),
            Val::Record(vec![y.clone(), x.clone(), label.clone()]),
            Val::Record(vec![x.clone(), y.clone(), field("name", text("a"))]),
            Val::Record(vec![x.clone(), y.clone(), field("label", Val::U8(1))]),
            Val::Record(vec![]),
            Val::Tuple(vec![x.1, y.1, label.1]),
        ],
        "tuple" => vec![
            Val::Tuple(vec![Val::U8(1), text("a")]),
            Val::Tuple(vec![Val::U8(1), text("a"), Val::U64(1), Val::U64(1)]),
            Val::Tuple(vec![text("a"), Val::U8(1), Val::U64(1)]),
        ],
        "variant" => vec![
            case("square", None),
            case("", None),
            case("dot", Some(Val::Float64(1.0))),
            case("circle", None),
            case("circle", Some(text("a"))),
            Val::Enum(String::from("dot")),
        ],
        "enum" => vec![
            Val::Enum(String::from("pink")),
            case("red", None),
            text("red"),
            Val::U32(0),
        ],
        "option" => vec![Val::U32(1), some(Val::U32(1)), some(some(text("a")))],
        "result" => vec![
            text("a"),
            Val::Result(Ok(None)),
            Val::Result(Err(None)),
            Val::Result(Ok(Some(Box::new(Val::U8(1))))),
            Val::Result(Err(Some(Box::new(text("red"))))),
        ],
        "flags" => vec![
            Val::Flags(vec![String::from("delete")]),
            Val::Flags(vec![String::from("read"), String::from("delete")]),
            Val::List(vec![text("read")]),
            Val::U32(1),
        ],
        other => panic!("no wrong values for {other}"),
    }
}

#[test]
fn a_wrong_argument_is_refused_before_the_guest_is_entered() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&echoes(), MIB, "").await;
        for (class, _) in CLASSES {
            let function = format!("echo-{class}");
            for value in wrong(class) {
                for list in [vec![value.clone()], vec![good(class), value.clone()]] {
                    let error = alone.call(&function, &[Val::List(list)]).await.unwrap_err();
                    let typed = matches!(
                        error,
                        WasmError::Arguments {
                            source: ValueError::Type { .. },
                            ..
                        }
                    );
                    assert!(typed, "{class}: {error:?}");
                    assert!(error.to_string().contains("argument values"), "{error}");
                }
                let bare = alone.call(&function, &[value]).await;
                assert!(bare.is_err() || class == "list", "{class}");
            }
            // Not as many as it takes.
            for arguments in [&[][..], &[Val::List(vec![]), Val::List(vec![])]] {
                let error = alone.call(&function, arguments).await.unwrap_err();
                let WasmError::Arguments {
                    source: ValueError::Arity { expected, found },
                    ..
                } = error
                else {
                    panic!("{error}");
                };
                assert_eq!((expected, found), (1, arguments.len()));
            }
        }
        // Neither entered nor replaced.
        let before = alone.number("entered", &[]).await;
        alone.call("echo-u8", &[Val::List(vec![])]).await.unwrap();
        assert_eq!(alone.number("entered", &[]).await, before + 1);
        assert!(before <= 1, "{before}");
        alone.host.shutdown().await;
    });
}

/// Any right value of the class.
fn good(class: &str) -> Val {
    let mut runner = TestRunner::deterministic();
    values(class).new_tree(&mut runner).unwrap().current()
}

#[test]
fn a_value_nested_deeper_than_its_type_is_refused_however_deep() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&echoes(), MIB, "").await;
        for depth in [3, 64, 65, 1000] {
            let deep = (0..depth).fold(Val::U32(1), |inner, _| some(inner));
            let error = alone
                .call("echo-option", &[Val::List(vec![deep])])
                .await
                .unwrap_err();
            assert!(matches!(error, WasmError::Arguments { .. }), "{error}");
            let deep = (0..=depth).fold(text("a"), |inner, _| Val::List(vec![inner]));
            let error = alone.call("echo-lists", &[deep]).await.unwrap_err();
            assert!(matches!(error, WasmError::Arguments { .. }), "{error}");
        }
        assert_eq!(alone.number("entered", &[]).await, 0);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_type_nested_deeper_than_a_message_may_be_is_refused_with_a_typed_error() {
    let _machine = shared_machine();
    block_on(async {
        let nested = |depth: usize| format!("{}u32{}", "(option ".repeat(depth), ")".repeat(depth));
        for (depth, fits) in [(60, true), (63, true), (64, false), (80, false)] {
            let core = format!(
                "{BUMP} (func (export \"get\") (result i32) (i32.store8 (i32.const 1023) (i32.const 0)) (i32.const 1024))"
            );
            let body = component(
                &core,
                true,
                &[("get", &format!("(result {})", nested(depth)))],
            );
            let Ok(alone) = Alone::try_text(&body, MIB, "").await else {
                assert!(!fits, "{depth}");
                continue;
            };
            // The guest answers `none`, which is not deep at all.
            assert_eq!(alone.call("get", &[]).await.unwrap(), [Val::Option(None)]);
            alone.host.shutdown().await;
        }
    });
}

#[test]
fn arguments_over_the_bound_of_a_message_are_refused() {
    let _machine = shared_machine();
    block_on(async {
        let bounds = format!("[resources.message]\nmax_argument_bytes = {MAX_MESSAGE_BYTES}");
        let alone = Alone::guest(CALCULATOR, MIB, &bounds).await;
        let bytes = |count: usize| [Val::List(vec![Val::U8(7); count])];
        let fits = alone
            .component
            .encode("echo", &bytes(MAX_MESSAGE_BYTES - 4))
            .unwrap();
        assert_eq!(fits.len(), MAX_MESSAGE_BYTES);
        let error = alone
            .call("echo", &bytes(MAX_MESSAGE_BYTES - 3))
            .await
            .unwrap_err();
        let large = matches!(
            error,
            WasmError::Arguments {
                source: ValueError::TooLarge { .. },
                ..
            }
        );
        assert!(large, "{error}");
        let numbers = [Val::List(vec![Val::S64(7); MAX_MESSAGE_BYTES / 8])];
        let error = alone.call("sum", &numbers).await.unwrap_err();
        assert!(
            matches!(
                error,
                WasmError::Arguments {
                    source: ValueError::TooLarge { .. },
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(
            alone
                .number("sum", &[Val::List(vec![Val::S64(7); 3])])
                .await,
            21
        );
        alone.host.shutdown().await;
    });
}

#[test]
fn bytes_come_back_however_many_there_are() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::guest(CALCULATOR, 4 * MIB, "").await;
        for count in [0, 1, 4095, 65_536, 500_000, 800_000] {
            let bytes = [Val::List(vec![Val::U8(7); count])];
            let back = alone.call("echo", &bytes).await;
            assert!(back.is_ok_and(|back| back == bytes), "{count}");
        }
        alone.host.shutdown().await;
    });
}

/// Answers a list of `count` strings that are all the same `length` bytes of its memory.
const REPEATER: &str = r#"
    (memory (export "memory") 18)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (global $calls (mut i32) (i32.const 0))
    (func (export "calls") (result i32) (global.get $calls))
    (func (export "repeat") (param $count i32) (param $length i32) (result i32) (local $at i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store (i32.const 0) (i32.const 8))
        (i32.store (i32.const 4) (local.get $count))
        (local.set $at (i32.const 8))
        (block $done (loop $next
            (br_if $done (i32.eqz (local.get $count)))
            (i32.store (local.get $at) (i32.const 65536))
            (i32.store offset=4 (local.get $at) (local.get $length))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (local.set $count (i32.sub (local.get $count) (i32.const 1)))
            (br $next)))
        (i32.const 0))
"#;

#[test]
fn results_over_the_bound_of_a_message_are_refused_and_the_instance_goes_on() {
    let _machine = shared_machine();
    block_on(async {
        let repeat = "(param \"count\" u32) (param \"length\" u32) (result (list string))";
        let text = component(
            REPEATER,
            true,
            &[("repeat", repeat), ("calls", "(result u32)")],
        );
        let bounds = format!("[resources.message]\nmax_result_bytes = {}", 5 * MIB / 2);
        let alone = Alone::text(&text, 4 * MIB, &bounds).await;
        let megabyte = u32::try_from(MIB).unwrap();
        let fits = alone
            .call("repeat", &[Val::U32(2), Val::U32(megabyte)])
            .await
            .unwrap();
        assert!(matches!(&fits[..], [Val::List(strings)] if strings.len() == 2));
        let error = alone
            .call("repeat", &[Val::U32(3), Val::U32(megabyte)])
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                WasmError::Results {
                    source: ValueError::TooLarge { .. },
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(alone.number("calls", &[]).await, 2);
        // What would fill the host's memory is not even counted to its end.
        let error = alone
            .call("repeat", &[Val::U32(8000), Val::U32(megabyte)])
            .await
            .unwrap_err();
        assert!(matches!(error, WasmError::Results { .. }), "{error}");
        assert_eq!(alone.number("calls", &[]).await, 3);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_guest_that_answers_outside_its_memory_or_out_of_its_type_is_ended() {
    let _machine = shared_machine();
    block_on(async {
        let core = format!(
            "{BUMP}
            (func (export \"outside\") (result i32) (i32.store (i32.const 16) (i32.const 65530))
                (i32.store (i32.const 20) (i32.const 100)) (i32.const 16))
            (func (export \"nowhere\") (result i32) (i32.const -8))
            (func (export \"letter\") (result i32) (i32.const 0xd800))
            (func (export \"text\") (result i32) (i32.store8 (i32.const 64) (i32.const 0xff))
                (i32.store (i32.const 16) (i32.const 64)) (i32.store (i32.const 20) (i32.const 1)) (i32.const 16))
            (func (export \"maybe\") (result i32) (i32.store8 (i32.const 32) (i32.const 9)) (i32.const 32))
            (func (export \"ping\") (result i32) (i32.const 1))"
        );
        let exports = [
            ("outside", "(result string)"),
            ("nowhere", "(result string)"),
            ("letter", "(result char)"),
            ("text", "(result string)"),
            ("maybe", "(result (option u32))"),
        ];
        let mut all = exports.to_vec();
        all.push(("ping", "(result u32)"));
        let alone = Alone::text(&component(&core, true, &all), MIB, "").await;
        for (function, _) in exports {
            let cause = alone.exit(function, &[]).await;
            let blamed = matches!(cause.kind(), ExitKind::HostError | ExitKind::Trap);
            assert!(blamed, "{function}: {cause}");
            assert_eq!(alone.number("ping", &[]).await, 1);
        }
        alone.host.shutdown().await;
    });
}

#[test]
fn functions_of_the_hosts_resources_are_refused_with_a_typed_error() {
    let _machine = shared_machine();
    block_on(async {
        let text = r#"(component
            (import "wasi:io/poll@0.2.0" (instance $poll
                (export "pollable" (type $pollable (sub resource)))))
            (alias export $poll "pollable" (type $r))
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
                (alias outer 1 $r (type $p))
                (export "pollable" (type $pollable (eq $p)))
                (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
            (core func $subscribe (canon lower (func $clock "subscribe-duration")))
            (core module $m
                (import "h" "subscribe" (func $subscribe (param i64) (result i32)))
                (global $made (mut i32) (i32.const 0))
                (func (export "make") (result i32)
                    (global.set $made (i32.add (global.get $made) (i32.const 1)))
                    (call $subscribe (i64.const 1)))
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export "take") (param i32))
                (func (export "nest") (param i32 i32))
                (func (export "made") (result i32) (global.get $made)))
            (core instance $i (instantiate $m (with "h" (instance
                (export "subscribe" (func $subscribe))))))
            (func (export "make") (result (own $r)) (canon lift (core func $i "make")))
            (func (export "take") (param "it" (own $r)) (canon lift (core func $i "take")))
            (func (export "nest") (param "all" (list (option (tuple u8 (own $r)))))
                (canon lift (core func $i "nest") (memory $i "memory") (realloc (func $i "realloc"))))
            (func (export "made") (result u32) (canon lift (core func $i "made"))))"#;
        let alone = Alone::text(text, MIB, "").await;
        // Handles that nobody can give back must not pile up in the instance, however often it is
        // asked for them.
        for attempt in 0..3000 {
            for (function, arguments) in
                [("make", &[][..]), ("take", &[Val::U32(0)]), ("nest", &[])]
            {
                let error = alone.call(function, arguments).await.unwrap_err();
                let WasmError::Function {
                    source: FunctionError::Bound { ty, .. },
                    ..
                } = error
                else {
                    panic!("{function}, attempt {attempt}: {error}");
                };
                assert_eq!(ty, "own");
            }
        }
        assert_eq!(alone.number("made", &[]).await, 0);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_corrupt_buffer_is_never_delivered() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&echoes(), MIB, "").await;
        let words: Vec<Val> = (0..160).map(|i| text(&format!("word {i}"))).collect();
        let arguments = [Val::List(words)];
        let encode = || alone.component.encode("echo-string", &arguments).unwrap();
        let bits = {
            let mut buffer = encode();
            (0..).find(|bit| !buffer.flip_bit(*bit)).unwrap()
        };
        assert!(bits > 8 * encode().len(), "tags are damaged too");
        let mut tried = 0;
        for bit in (0..bits).step_by(97).chain([bits - 1]) {
            let mut buffer: Message = encode();
            assert!(buffer.flip_bit(bit));
            let cause = exit(
                alone
                    .component
                    .call_encoded("echo-string", buffer)
                    .await
                    .values(),
            );
            assert!(
                matches!(&*cause, ExitCause::Integrity { .. }),
                "bit {bit}: {cause}"
            );
            // The successor was not entered by it, and answers the next call.
            assert_eq!(alone.number("entered", &[]).await, 0, "bit {bit}");
            tried += 1;
        }
        assert!(tried > 100, "{tried}");
        let back = alone
            .component
            .call_encoded("echo-string", encode())
            .await
            .values()
            .unwrap();
        assert_eq!(back, arguments);
        alone.host.shutdown().await;
    });
}

#[test]
fn a_message_for_another_function_is_not_delivered() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&echoes(), MIB, "").await;
        let list = |value: Val| [Val::List(vec![value])];
        for (from, value, to) in [
            ("echo-u32", Val::U32(9), "echo-u16"),
            ("echo-u16", Val::U16(9), "echo-u32"),
            ("echo-u8", Val::U8(9), "echo-bool"),
            ("echo-u32", Val::U32(0xd800), "echo-char"),
            ("echo-u32", Val::U32(77), "echo-enum"),
            ("echo-u32", Val::U32(u32::MAX), "echo-string"),
        ] {
            let buffer = alone.component.encode(from, &list(value)).unwrap();
            let cause: Arc<ExitCause> =
                exit(alone.component.call_encoded(to, buffer).await.values());
            assert!(
                matches!(&*cause, ExitCause::Integrity { .. }),
                "{from} to {to}: {cause}"
            );
            assert_eq!(alone.number("entered", &[]).await, 0);
        }
        alone.host.shutdown().await;
    });
}
