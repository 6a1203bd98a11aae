//! Values as JSON: what goes in comes out, what the schema refuses never reaches a guest.
//!
//! `AIRSSYS_ABI_TYPES=2000 cargo test --release --test e2e json_test` tries more types.

use std::io::Write;
use std::process::Stdio;

use airssys::json::{self, JsonError, MAX_DOCS_BYTES, Outcome};
use airssys::{ComponentRef, Exports, FunctionError, Val, ValueError, WasmError};
use airssys_guests::CALCULATOR;
use airssys_wasm::MAX_VALUES_BYTES;
use jsonschema::Validator;
use serde_json::{Map, Value, json};
use wasmtime::component::Type;

use crate::abi_test::{Random, Ty, mirror, types, types_to_try};
use crate::cli_test::{airssys, code, err, out, program};
use crate::support::{
    Alone, BUMP, block_on, component, in_a_process_of_its_own, resident, shared_machine,
};

const MIB: usize = 1_048_576;

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("no object: {other}"),
    }
}

fn parameter(exports: &Exports, function: &str) -> Type {
    let (_, function) = exports.find(function).unwrap();
    function.params[0].1.clone()
}

fn validator(schema: &Value) -> Validator {
    jsonschema::draft202012::new(schema).unwrap_or_else(|error| panic!("{error}: {schema}"))
}

/// Whether JSON can say more of the type than its schema, which has one way for each value: 64 bits
/// as digits, bytes as numbers; and whether the schema leaves something open, as base64 is.
fn has_two_ways(ty: &Ty) -> bool {
    match ty {
        Ty::Plain(name) => ["u64", "s64"].contains(name),
        Ty::List(inner) => matches!(**inner, Ty::Plain("u8")) || has_two_ways(inner),
        Ty::Option(inner) => has_two_ways(inner),
        Ty::Record(types) | Ty::Tuple(types) => types.iter().any(has_two_ways),
        Ty::Variant(cases) => cases.iter().flatten().any(has_two_ways),
        Ty::Result(ok, err) => [ok, err].into_iter().flatten().any(|ty| has_two_ways(ty)),
        Ty::Enum(_) | Ty::Flags(_) => false,
    }
}

/// The value with its flags in one order: a set has none, and WAVE turns it round.
fn ordered(mut value: Val) -> Val {
    fn order(value: &mut Val) {
        match value {
            Val::Flags(set) => set.sort(),
            Val::List(values) | Val::Tuple(values) => values.iter_mut().for_each(order),
            Val::Record(fields) => fields.iter_mut().for_each(|(_, value)| order(value)),
            Val::Variant(_, payload)
            | Val::Option(payload)
            | Val::Result(Ok(payload) | Err(payload)) => {
                payload.iter_mut().for_each(|value| order(value));
            }
            _ => {}
        }
    }
    order(&mut value);
    value
}

/// Changes one of the places in a value.
fn mutate(random: &mut Random, here: &mut Value) {
    let stop = random.below(3) == 0;
    match here {
        Value::Array(values) if !stop && !values.is_empty() => {
            let at = random.below(values.len());
            mutate(random, &mut values[at]);
        }
        Value::Object(members) if !stop && !members.is_empty() => {
            let at = random.below(members.len());
            mutate(random, members.values_mut().nth(at).unwrap());
        }
        here => change(random, here),
    }
}

fn change(random: &mut Random, here: &mut Value) {
    match (random.below(3), &mut *here) {
        (0, Value::Array(values)) => {
            let more = values.last().cloned().unwrap_or(Value::Null);
            values.push(more);
        }
        (0, Value::Object(members)) => {
            members.insert(String::from("f99"), json!(1));
        }
        (1, Value::Array(values)) => drop(values.pop()),
        (1, Value::Object(members)) => {
            let name = members.keys().next().cloned().unwrap_or_default();
            members.remove(&name);
        }
        (_, here) => {
            let others = [
                json!(null),
                json!(true),
                json!(-1),
                json!(255),
                json!(256),
                json!(70_000),
                json!(5_000_000_000_u64),
                json!(1.0),
                json!(1.5),
                json!(-0.0),
                json!(1e300),
                json!(""),
                json!("e0"),
                json!("g0"),
                json!("ab"),
                json!("nan"),
                json!([]),
                json!(["g0", "g0"]),
                json!({}),
                json!({"some": null}),
                json!({"tag": "c0"}),
                json!({"ok": null}),
            ];
            *here = others[random.below(others.len())].clone();
        }
    }
}

#[test]
fn values_of_any_type_go_through_json_and_wave_unchanged() {
    let mut random = Random(5);
    let types = types(&mut random, types_to_try());
    let exports = Exports::read(&wat::parse_str(mirror(&types, "")).unwrap()).unwrap();
    let (mut refused, mut taken) = (0, 0);
    for (at, kind) in types.iter().enumerate() {
        let function = format!("image-{at}");
        let ty = parameter(&exports, &function);
        let schema = exports.schema(&function).unwrap();
        let validator = validator(&schema.input);
        let valid = |value: &Value| validator.is_valid(&json!({"value": value}));
        for _ in 0..8 {
            let value = random.value(kind);
            let text = value.to_wave().unwrap();
            assert_eq!(
                ordered(Val::from_wave(&ty, &text).unwrap()),
                ordered(value.clone())
            );
            let told = json::from_val(&value, &ty).unwrap();
            let again = serde_json::from_str(&told.to_string()).unwrap();
            assert_eq!(json::to_val(&again, &ty).unwrap(), value, "{told}");
            assert!(valid(&told), "{told}: {}", schema.input);
            for _ in 0..6 {
                let mut other = told.clone();
                mutate(&mut random, &mut other);
                match json::to_val(&other, &ty) {
                    Err(error) => {
                        refused += 1;
                        let fits = valid(&other) && !has_two_ways(kind);
                        assert!(!fits, "{other}: {error}, but {}", schema.input);
                    }
                    Ok(value) => {
                        taken += 1;
                        let told = json::from_val(&value, &ty).unwrap();
                        assert!(valid(&told), "{told}");
                        let fits = valid(&other) || has_two_ways(kind);
                        assert!(fits, "{other} is {value:?}, against {}", schema.input);
                    }
                }
            }
        }
    }
    assert!(refused > 500 && taken > 200, "{refused} {taken}");
}

#[test]
fn json_reaches_a_guest_and_comes_back_as_values_do() {
    let _machine = shared_machine();
    block_on(async {
        let mut random = Random(6);
        let types = types(&mut random, types_to_try());
        let alone = Alone::text(&mirror(&types, ""), 4 * MIB, "").await;
        let component = &alone.component;
        for (at, kind) in types.iter().enumerate() {
            let (image, lift) = (format!("image-{at}"), format!("images-{at}"));
            let ty = parameter(&component.exports().unwrap(), &image);
            let value = random.value(kind);
            let told = json::from_val(&value, &ty).unwrap();
            let arguments = object(json!({"value": told}));
            let message = component.encode_json(&image, &arguments).unwrap();
            let ours = component.call_encoded(&image, message).await.unwrap();
            let theirs = component.encode(&image, &[value.clone()]).unwrap();
            let theirs = component.call_encoded(&image, theirs).await.unwrap();
            // Which bits of a NaN are set is all that JSON leaves out.
            if !format!("{value:?}").contains("NaN") {
                assert_eq!(ours.bytes().unwrap(), theirs.bytes().unwrap(), "{told}");
            }
            let list = Val::List(vec![value.clone()]);
            let images = component.call(&lift, &[list]).await.unwrap();
            let (bytes, root) = crate::abi_test::image(&images);
            let arguments = object(json!({"image": bytes, "root": root}));
            let outcome = component.call_json(&format!("lift-{at}"), &arguments).await;
            let expected = match (kind, told) {
                (Ty::Result(ok, _), Value::Object(mut result)) => match result.remove("err") {
                    Some(error) => Outcome::Error(error),
                    None => Outcome::Value(result.remove("ok").filter(|_| ok.is_some())),
                },
                (_, told) => Outcome::Value(Some(told)),
            };
            assert_eq!(outcome.unwrap(), expected, "{kind:?}");
        }
        alone.host.shutdown().await;
    });
}

/// Takes one of everything that an error tells apart, and counts what reaches it.
fn picky() -> String {
    let core = format!(
        "{BUMP} (global $calls (mut i32) (i32.const 0))
        (func (export \"calls\") (result i32) (global.get $calls))
        (func (export \"take\") (param i32)
            (global.set $calls (i32.add (global.get $calls) (i32.const 1))))"
    );
    format!(
        "(component (core module $m {core}) (core instance $i (instantiate $m))
        (type $point' (record (field \"x\" u8) (field \"y\" (option u8))))
        (export $point \"point\" (type $point'))
        (type $shape' (variant (case \"dot\") (case \"circle\" f32)))
        (export $shape \"shape\" (type $shape'))
        (type $tone' (enum \"low\" \"high\")) (export $tone \"tone\" (type $tone'))
        (type $mode' (flags \"read\" \"write\")) (export $mode \"mode\" (type $mode'))
        (func (export \"calls\") (result u32) (canon lift (core func $i \"calls\")))
        (func (export \"take\") (param \"point\" $point) (param \"shapes\" (list $shape))
            (param \"tone\" $tone) (param \"mode\" $mode) (param \"data\" (list u8))
            (param \"pair\" (tuple s8 char)) (param \"big\" u64)
            (param \"nested\" (option (option u8))) (param \"ended\" (result u8 (error string)))
            (canon lift (core func $i \"take\")
                (memory $i \"memory\") (realloc (func $i \"realloc\")))))"
    )
}

/// Arguments of `take` that are as they should be.
fn right() -> Value {
    json!({
        "point": {"x": 1}, "shapes": [{"tag": "dot"}, {"tag": "circle", "val": 1.5}],
        "tone": "low", "mode": ["write"], "data": "aGk=", "pair": [-1, "ß"], "big": "18446744073709551615",
        "nested": {"some": null}, "ended": {"ok": 3},
    })
}

fn set(path: &str, value: Value) -> Value {
    let mut arguments = right();
    match arguments.pointer_mut(path) {
        Some(place) => *place = value,
        None => {
            let (parent, name) = path.rsplit_once('/').unwrap();
            let parent = arguments.pointer_mut(parent).unwrap();
            parent[name] = value;
        }
    }
    arguments
}

fn without(name: &str) -> Value {
    let mut arguments = object(right());
    arguments.remove(name).unwrap();
    Value::Object(arguments)
}

#[test]
fn an_argument_that_does_not_fit_is_named_by_its_place_and_never_reaches_the_guest() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&picky(), MIB, "").await;
        let component = &alone.component;
        let told = |arguments: Value| match component.encode_json("take", &object(arguments)) {
            Err(error @ WasmError::Json { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        };
        for (arguments, expected) in [
            (
                set("/point/x", json!(300)),
                "argument point.x: expected u8 (0 to 255), found 300",
            ),
            (
                set("/point/x", json!("1")),
                "point.x: expected u8 (0 to 255), found \"1\"",
            ),
            (
                set("/point/y", json!(-1)),
                "point.y: expected u8 (0 to 255), found -1",
            ),
            (
                set("/point/z", json!(1)),
                "point.z: unknown; there are: x, y",
            ),
            (
                set("/point", json!({})),
                "point.x: missing, expected u8 (0 to 255)",
            ),
            (
                set("/point", json!([1, 2])),
                "point: expected record (an object with x, y)",
            ),
            (
                set("/shapes/1/val", json!(1e39)),
                "shapes.1.val: expected f32",
            ),
            (
                set("/shapes/1/tag", json!("cone")),
                "shapes.1.tag: expected one of dot, circle, found \"cone\"",
            ),
            (set("/shapes/0/val", json!(1)), "shapes.0.val: unknown"),
            (
                set("/shapes/1", json!({"tag": "circle"})),
                "shapes.1.val: missing",
            ),
            (
                set("/tone", json!("lo")),
                "tone: expected enum (one of low, high), found \"lo\"",
            ),
            (
                set("/mode", json!(["read", "read"])),
                "mode.1: expected flags",
            ),
            (
                set("/data", json!("a")),
                "data: expected list (base64, or an array of bytes)",
            ),
            (set("/data", json!("a===")), "data: expected list"),
            (set("/data", json!([1, 256])), "data.1: expected u8"),
            (
                set("/pair", json!([1])),
                "pair: expected tuple (an array of 2), found an array of 1",
            ),
            (set("/pair/1", json!("ab")), "pair.1: expected char"),
            (
                set("/big", json!("+1")),
                "big: expected u64 (0 to 18446744073709551615), found \"+1\"",
            ),
            (set("/big", json!(1e30)), "big: expected u64"),
            (
                set("/nested", json!(1)),
                "nested: expected option (null or {some}), found 1",
            ),
            (set("/nested/some", json!("x")), "nested.some: expected u8"),
            (
                set("/ended", json!({"ok": 1, "err": "x"})),
                "ended: expected result ({ok} or {err})",
            ),
            (set("/ended/ok", json!(-1)), "ended.ok: expected u8"),
            (
                set("/more", json!(1)),
                "more: unknown; there are: point, shapes",
            ),
            (
                without("tone"),
                "tone: missing, expected enum (one of low, high)",
            ),
        ] {
            let told = told(arguments);
            assert!(told.contains(expected), "{told}\nis not: {expected}");
        }
        let calls = || async { component.call_json("calls", &Map::new()).await.unwrap() };
        assert_eq!(calls().await, Outcome::Value(Some(json!(0))));
        for arguments in [right(), without("nested"), set("/data", json!([104, 105]))] {
            let outcome = component.call_json("take", &object(arguments)).await;
            assert_eq!(outcome.unwrap(), Outcome::Value(None));
        }
        assert_eq!(calls().await, Outcome::Value(Some(json!(3))));
        assert_eq!(component.metrics().restarts, 0);
        alone.host.shutdown().await;
    });
}

#[test]
fn hostile_json_is_a_typed_error() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(
            &picky(),
            MIB,
            "[resources.message]\nmax_argument_bytes = 1024",
        )
        .await;
        let component = &alone.component;
        let encode = |arguments| component.encode_json("take", &object(arguments));
        let mut deep = json!(1);
        for _ in 0..1_000 {
            deep = json!({"some": deep});
        }
        for bomb in [set("/nested", deep.clone()), set("/point", deep)] {
            let refused = encode(bomb).unwrap_err();
            assert!(matches!(refused, WasmError::Json { .. }), "{refused}");
        }
        let long = encode(set("/data", json!("A".repeat(1 << 20)))).unwrap_err();
        let WasmError::Arguments { source, .. } = long else {
            panic!("{long}");
        };
        assert_eq!(source, ValueError::TooLarge { limit_bytes: 1024 });
        let name = "n".repeat(1 << 20);
        let told = encode(set(&format!("/{name}"), json!(1)))
            .unwrap_err()
            .to_string();
        assert!(told.len() < 400, "{} bytes of error", told.len());
        let told = encode(set("/tone", json!(name))).unwrap_err().to_string();
        assert!(told.len() < 400, "{} bytes of error", told.len());
        alone.host.shutdown().await;
    });
}

/// Gives so many bytes, words or pairs, all zero.
fn giver() -> String {
    let core = r#"
        (memory (export "memory") 20)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func $give (export "bytes") (export "words") (export "cases") (param i32) (result i32)
            (i32.store (i32.const 0) (i32.const 8))
            (i32.store (i32.const 4) (local.get 0))
            (i32.const 0))"#;
    component(
        core,
        true,
        &[
            ("bytes", "(param \"count\" u32) (result (list u8))"),
            ("words", "(param \"count\" u32) (result (list u16))"),
            ("cases", "(param \"count\" u32) (result (list (result)))"),
        ],
    )
}

async fn given(component: &ComponentRef, function: &str, count: usize) -> airssys::Results {
    let arguments = object(json!({"count": count}));
    let message = component.encode_json(function, &arguments).unwrap();
    component.call_encoded(function, message).await.unwrap()
}

#[test]
fn a_list_of_bytes_takes_at_most_twice_its_size_as_json() {
    let _machine = shared_machine();
    if !in_a_process_of_its_own("json_test::a_list_of_bytes_takes_at_most_twice_its_size_as_json") {
        return;
    }
    block_on(async {
        let count = 1_250_000;
        let limits = "[resources.message]\nmax_result_bytes = 4194304";
        let alone = Alone::text(&giver(), 4 * MIB, limits).await;
        let results = given(&alone.component, "bytes", count).await;
        let before = resident();
        let outcome = results.json().unwrap();
        let taken = resident().saturating_sub(before);
        println!("{count} bytes take {taken} as JSON");
        let Outcome::Value(Some(Value::String(text))) = &outcome else {
            panic!("no text");
        };
        assert_eq!(text.len(), count.div_ceil(3) * 4);
        assert!(taken > count && taken <= 2 * count, "{taken} for {count}");
        alone.host.shutdown().await;
    });
}

#[test]
fn results_that_would_be_too_large_as_json_are_a_typed_error() {
    let _machine = shared_machine();
    block_on(async {
        let limits = "[resources.message]\nmax_result_bytes = 4194304";
        let alone = Alone::text(&giver(), 4 * MIB, limits).await;
        let component = &alone.component;
        assert!(given(component, "words", 500_000).await.json().is_ok());
        // Each is an object, which takes more than 600 bytes.
        let cases = given(component, "cases", 500_000).await;
        let Err(WasmError::Results { source, .. }) = cases.json() else {
            panic!("taken");
        };
        let limit_bytes = MAX_VALUES_BYTES;
        assert_eq!(source, ValueError::TooLargeAsValues { limit_bytes });
        alone.host.shutdown().await;
    });
}

#[test]
fn a_schema_says_what_a_function_takes_and_returns() {
    let exports = Exports::read(CALCULATOR.wasm).unwrap();
    let divide = exports.schema("divide").unwrap();
    let s64 = json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX});
    assert_eq!(divide.input["properties"]["dividend"], s64);
    assert_eq!(divide.input["required"], json!(["dividend", "divisor"]));
    assert_eq!(divide.input["additionalProperties"], json!(false));
    assert_eq!(divide.output, Some(s64));
    let error = divide.error.unwrap();
    assert_eq!(error["enum"], json!(["division-by-zero", "overflow"]));
    let echo = exports.schema("echo").unwrap();
    let base64 = json!({"type": "string", "contentEncoding": "base64"});
    assert_eq!(echo.output, Some(base64));
    assert_eq!(echo.error, None);
    let statistics = exports.schema("statistics").unwrap().output.unwrap();
    assert_eq!(statistics["anyOf"][1], json!({"type": "null"}));
    let required = &statistics["anyOf"][0]["required"];
    assert_eq!(*required, json!(["count", "mean", "min", "max"]));
}

#[test]
fn a_type_that_repeats_itself_has_no_schema_and_is_still_callable() {
    let mut text = String::from("(component (type $t0 (tuple u8 u8))");
    for depth in 1..16 {
        let before = depth - 1;
        text += &format!("(type $t{depth} (tuple $t{before} $t{before}))");
    }
    text += "(core module $m (memory (export \"memory\") 1)
            (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 8))
            (func (export \"take\") (param i32) (result i32) (i32.const 7)))
        (core instance $i (instantiate $m))
        (func (export \"take\") (param \"value\" $t15) (result u32)
            (canon lift (core func $i \"take\") (memory $i \"memory\")
                (realloc (func $i \"realloc\")))))";
    let exports = Exports::read(&wat::parse_str(text).unwrap()).unwrap();
    let refused = exports.schema("take");
    assert!(
        matches!(refused, Err(FunctionError::SchemaTooLarge { .. })),
        "{refused:?}"
    );
    assert!(exports.find("take").is_ok());
}

#[test]
fn floats_keep_their_value_and_their_shortest_form() {
    for (float, text) in [
        (0.1, "0.1"),
        (f32::MAX, "3.4028234663852886e+38"),
        (f32::MIN_POSITIVE, "1.1754944e-38"),
        (-0.0, "-0.0"),
    ] {
        let told = json::from_val(&Val::Float32(float), &Type::Float32).unwrap();
        assert_eq!(told.to_string(), text);
        let again = json::to_val(&told, &Type::Float32).unwrap();
        assert_eq!(again, Val::Float32(float));
    }
    for (float, text) in [(f64::NAN, "nan"), (f64::NEG_INFINITY, "-inf")] {
        let told = json::from_val(&Val::Float64(float), &Type::Float64).unwrap();
        assert_eq!(told, json!(text));
        let again = json::to_val(&told, &Type::Float64).unwrap();
        assert_eq!(again, Val::Float64(float));
    }
    let whole = json::to_val(&json!(1.0), &Type::U8).unwrap();
    assert_eq!(whole, Val::U8(1));
    let refused = json::to_val(&json!(1.5), &Type::U8).unwrap_err();
    assert!(matches!(refused, JsonError::Type { .. }), "{refused}");
}

/// A component with one function, and these custom sections.
fn documented(sections: &[&[u8]]) -> Vec<u8> {
    let wasm = wat::parse_str(component("(func (export \"run\"))", false, &[("run", "")])).unwrap();
    sections
        .iter()
        .fold(wasm, |wasm, data| with_docs(wasm, data))
}

fn with_docs(mut wasm: Vec<u8>, data: &[u8]) -> Vec<u8> {
    let name = b"package-docs";
    let size = 1 + name.len() + data.len();
    wasm.push(0);
    for shift in [0, 7, 14, 21] {
        let digit = u8::try_from(size >> shift & 0x7f).unwrap();
        wasm.push(if shift < 21 { digit | 0x80 } else { digit });
    }
    wasm.push(u8::try_from(name.len()).unwrap());
    [&wasm[..], name, data].concat()
}

#[test]
fn documentation_that_is_too_large_or_none_fails_no_load() {
    let right = br#"{"worlds": {"w": {"func_exports": {"run": {"docs": "Runs."}}}}}"#;
    let right = |version: u8| [&[version], &right[..]].concat();
    let deep = [b"\x01".to_vec(), b"[".repeat(100_000)].concat();
    let huge = [b"\x01{\"a\":\"".to_vec(), vec![b'x'; 10 * MIB]].concat();
    let filler = vec![1; MAX_DOCS_BYTES];
    let about = |sections: &[&[u8]]| {
        let exports = Exports::read(&documented(sections)).unwrap();
        exports.schema("run").unwrap().description
    };
    assert_eq!(about(&[&right(1)]).as_deref(), Some("Runs."));
    assert_eq!(about(&[&right(0)]).as_deref(), Some("Runs."));
    for bad in [&right(2), &deep, &huge, &Vec::new(), &vec![1, 0xff]] {
        assert_eq!(about(&[bad]), None);
        assert_eq!(about(&[&right(1), bad]).as_deref(), Some("Runs."));
    }
    // What was read before counts.
    assert_eq!(about(&[&filler, &right(1)]), None);
}

#[test]
fn the_doc_comments_of_a_guests_wit_are_in_its_schema() {
    let exports = Exports::read(CALCULATOR.wasm).unwrap();
    let divide = exports.schema("divide").unwrap();
    let about = divide.description.unwrap();
    assert_eq!(about, "Divides, rounding towards zero.");
    let error = divide.error.unwrap();
    let about = error["description"].as_str().unwrap();
    assert!(
        about.starts_with("Why a division has no answer."),
        "{about}"
    );
    assert!(
        about.contains("- division-by-zero: The divisor is zero."),
        "{about}"
    );
    let summary = exports.schema("statistics").unwrap().output.unwrap();
    let count = &summary["anyOf"][0]["properties"]["count"]["description"];
    assert_eq!(*count, json!("How many values there are."));
    // Of another package.
    assert!(exports.schema("add").unwrap().description.is_some());
}

#[test]
fn types_that_look_alike_share_no_documentation() {
    let text = r#"(component
        (core module $m (func (export "f") (param i32)))
        (core instance $i (instantiate $m))
        (type $a' (enum "x" "y"))
        (component $inner
            (import "a" (type $a (eq $a')))
            (import "f" (func $f (param "v" $a)))
            (export $b "one" (type $a)) (export "other" (type $a))
            (export "f" (func $f) (func (param "v" $b))))
        (func $f (param "v" $a') (canon lift (core func $i "f")))
        (instance $e (instantiate $inner (with "a" (type $a')) (with "f" (func $f))))
        (export "n:p/i" (instance $e)))"#;
    let wasm = wat::parse_str(text).unwrap();
    for (other, found) in [("First.", Some("First.")), ("Second.", None)] {
        let types = json!({"one": {"docs": "First."}, "other": {"docs": other}});
        let docs = json!({"interfaces": {"i": {"types": types}}}).to_string();
        let wasm = with_docs(wasm.clone(), &[b"\x01", docs.as_bytes()].concat());
        let schema = Exports::read(&wasm).unwrap().schema("f").unwrap();
        let about = &schema.input["properties"]["v"]["description"];
        assert_eq!(about.as_str(), found);
    }
}

#[test]
fn call_takes_and_prints_json_where_it_is_asked_to() {
    let manifest = env!("CARGO_MANIFEST_DIR");
    let tree = &format!("{manifest}/guests/airssys.toml");
    let call = |function, input| {
        let output = airssys(&["call", tree, "calculator", function, "--input", input]);
        (code(&output), out(&output), err(&output))
    };
    let (exit, told, _) = call(
        "divide",
        r#"{"dividend": "-9007199254740993", "divisor": 1}"#,
    );
    assert_eq!((exit, told.as_str()), (0, "-9007199254740993\n"));
    let (exit, told, _) = call("divide", r#"{"dividend": 7, "divisor": 0}"#);
    assert_eq!(
        (exit, told.as_str()),
        (1, "{\"error\":\"division-by-zero\"}\n")
    );
    let (exit, told, why) = call("add", r#"{"x": 2, "y": -3}"#);
    assert_eq!((exit, told.as_str()), (2, ""), "{why}");
    for part in [
        "y: expected u32 (0 to 4294967295), found -3",
        "func(x: u32, y: u32) -> u32",
    ] {
        assert!(why.contains(part), "{why}");
    }
    for broken in ["[1]", "{"] {
        let (exit, _, why) = call("add", broken);
        assert_eq!(exit, 2, "{why}");
        assert!(why.contains("--schema"), "{why}");
    }
    let mut piped = program(&["--json", "call", tree, "calculator", "sum", "--input", "-"]);
    let mut child = (piped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(br#"{"values": [1, 2, 3]}"#).unwrap();
    drop(stdin);
    let told: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(told["result"], json!(6));
}

#[test]
fn inspect_shows_the_schemas_and_reads_components_with_documentation() {
    let wasm = format!(
        "{}/guests/components/calculator/calculator.wasm",
        env!("CARGO_MANIFEST_DIR")
    );
    let output = airssys(&["inspect", &wasm, "--schema"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let add = &told["docs:adder/add@0.1.0#add"];
    assert_eq!(add["input"]["required"], json!(["x", "y"]));
    let output = airssys(&["inspect", &wasm]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("export airssys:calculator/arithmetic@0.1.0;"));
}
