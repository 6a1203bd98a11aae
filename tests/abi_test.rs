//! Values on their way into a guest and out of it, beside wasmtime's own dynamic calls: for types
//! of every kind the same bytes arrive, and what a guest returns is taken or refused alike.
//!
//! `AIRSSYS_ABI_TYPES=2000 cargo test --release --test e2e abi_test` tries more types.

use std::fmt::Write;

use airssys::{ExitKind, Val, ValueError, WasmError};
use airssys_wasm::AbiViolation;
use wasmtime::component::{Component, Func, Instance, Linker};
use wasmtime::{Config, Engine, Store};

use crate::support::{Alone, BUMP, block_on, component, shared_machine};

const MIB: usize = 1_048_576;

/// Where an image of values begins in the memory of a guest.
const IMAGE: u32 = 1024;

/// Types tried for each encoding of text.
const TYPES: usize = 70;

/// A type of the component model.
#[derive(Clone, Debug)]
pub enum Ty {
    Plain(&'static str),
    List(Box<Ty>),
    Record(Vec<Ty>),
    Tuple(Vec<Ty>),
    Variant(Vec<Option<Ty>>),
    Enum(usize),
    Option(Box<Ty>),
    Result(Option<Box<Ty>>, Option<Box<Ty>>),
    Flags(usize),
}

const PLAIN: [&str; 13] = [
    "bool", "u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64", "char", "string",
];

/// A generator of the PCG family.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        let old = self.0;
        self.0 = old
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (((old >> 18) ^ old) >> 27).rotate_right((old >> 59) as u32) ^ (old << 29)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end
    }

    fn ty(&mut self, depth: usize) -> Ty {
        let few = |random: &mut Self, most: usize| 1 + random.below(most);
        let inner = |random: &mut Self| Box::new(random.ty(depth - 1));
        let maybe = |random: &mut Self| (random.below(3) > 0).then(|| inner(random));
        match self.below(if depth == 0 { 6 } else { 16 }) {
            0..4 => Ty::Plain(PLAIN[self.below(PLAIN.len())]),
            4 => Ty::Enum([2, 3, 256, 257][self.below(4)]),
            5 => Ty::Flags([1, 8, 9, 16, 17, 32][self.below(6)]),
            6..9 => Ty::List(inner(self)),
            9 => Ty::Record((0..few(self, 9)).map(|_| *inner(self)).collect()),
            10 => Ty::Tuple((0..few(self, 5)).map(|_| *inner(self)).collect()),
            11 | 12 => {
                let cases = few(self, 4);
                Ty::Variant((0..cases).map(|_| maybe(self).map(|ty| *ty)).collect())
            }
            13 => Ty::Option(inner(self)),
            _ => Ty::Result(maybe(self), maybe(self)),
        }
    }

    fn text(&mut self) -> String {
        let chars = ['a', '0', '\0', 'é', 'ÿ', 'ш', '€', '\u{ffff}', '𝄞', '🦀'];
        let most = [3, chars.len()][self.below(2)];
        let length = self.below(40);
        (0..length).map(|_| chars[self.below(most)]).collect()
    }

    pub fn value(&mut self, ty: &Ty) -> Val {
        let bits = [self.next(), 0, u64::MAX, 1 << 63][self.below(4)];
        let name = |kind: &str, at: usize| format!("{kind}{at}");
        match ty {
            Ty::Plain("bool") => Val::Bool(bits & 1 == 1),
            Ty::Plain("u8") => Val::U8(bits as u8),
            Ty::Plain("s8") => Val::S8(bits as i8),
            Ty::Plain("u16") => Val::U16(bits as u16),
            Ty::Plain("s16") => Val::S16(bits as i16),
            Ty::Plain("u32") => Val::U32(bits as u32),
            Ty::Plain("s32") => Val::S32(bits as i32),
            Ty::Plain("u64") => Val::U64(bits),
            Ty::Plain("s64") => Val::S64(bits as i64),
            // All sorts of NaN among them.
            Ty::Plain("f32") => Val::Float32(f32::from_bits(bits as u32)),
            Ty::Plain("f64") => Val::Float64(f64::from_bits(bits)),
            Ty::Plain("char") => Val::Char(self.text().pop().unwrap_or('\u{10ffff}')),
            Ty::Plain(_) => Val::String(self.text()),
            Ty::List(inner) => {
                let length = self.below(6);
                Val::List((0..length).map(|_| self.value(inner)).collect())
            }
            Ty::Record(fields) => {
                let fields = fields.iter().enumerate();
                Val::Record(
                    fields
                        .map(|(at, ty)| (name("f", at), self.value(ty)))
                        .collect(),
                )
            }
            Ty::Tuple(types) => Val::Tuple(types.iter().map(|ty| self.value(ty)).collect()),
            Ty::Variant(cases) => {
                let case = self.below(cases.len());
                let payload = cases[case].as_ref().map(|ty| Box::new(self.value(ty)));
                Val::Variant(name("c", case), payload)
            }
            Ty::Enum(cases) => Val::Enum(name("e", self.below(*cases))),
            Ty::Option(inner) => {
                let some = self.below(2) == 1;
                Val::Option(some.then(|| Box::new(self.value(inner))))
            }
            Ty::Result(ok, err) => {
                let mut payload =
                    |ty: &Option<Box<Ty>>| ty.as_ref().map(|ty| Box::new(self.value(ty)));
                if bits & 1 == 0 {
                    Val::Result(Ok(payload(ok)))
                } else {
                    Val::Result(Err(payload(err)))
                }
            }
            Ty::Flags(count) => {
                let set = (0..*count).filter(|_| self.below(2) == 1);
                Val::Flags(set.map(|at| name("g", at)).collect())
            }
        }
    }
}

/// The core types of its slots.
fn flat(ty: &Ty) -> Vec<&'static str> {
    let all = |types: &[Ty]| types.iter().flat_map(flat).collect();
    let cases = |cases: Vec<Option<&Ty>>| {
        let mut slots: Vec<&'static str> = Vec::new();
        for case in cases.into_iter().flatten() {
            for (at, core) in flat(case).into_iter().enumerate() {
                match slots.get_mut(at) {
                    None => slots.push(core),
                    Some(slot) if *slot == core => {}
                    Some(slot)
                        if ["i32", "f32"].contains(slot) && ["i32", "f32"].contains(&core) =>
                    {
                        *slot = "i32";
                    }
                    Some(slot) => *slot = "i64",
                }
            }
        }
        slots.insert(0, "i32");
        slots
    };
    match ty {
        Ty::Plain("u64" | "s64") => vec!["i64"],
        Ty::Plain("f32") => vec!["f32"],
        Ty::Plain("f64") => vec!["f64"],
        Ty::Plain("string") | Ty::List(_) => vec!["i32", "i32"],
        Ty::Plain(_) | Ty::Enum(_) => vec!["i32"],
        Ty::Record(types) | Ty::Tuple(types) => all(types),
        Ty::Variant(of) => cases(of.iter().map(Option::as_ref).collect()),
        Ty::Option(inner) => cases(vec![None, Some(inner)]),
        Ty::Result(ok, err) => cases(vec![ok.as_deref(), err.as_deref()]),
        Ty::Flags(count) => vec!["i32"; count.div_ceil(32)],
    }
}

/// How a type of one slot is loaded from memory.
fn load(ty: &Ty) -> &'static str {
    let wide = |count: usize, per_byte: usize| match count.div_ceil(per_byte) {
        0..=1 => "load8_u",
        2 => "load16_u",
        _ => "load",
    };
    match ty {
        Ty::Plain("bool" | "u8" | "s8") => "load8_u",
        Ty::Plain("u16" | "s16") => "load16_u",
        Ty::Record(types) | Ty::Tuple(types) => load(&types[0]),
        Ty::Enum(cases) => wide(*cases, 256),
        Ty::Flags(count) => wide(*count, 8),
        Ty::Variant(_) | Ty::Result(..) => "load8_u",
        _ => "load",
    }
}

/// Writes the type as text, with what must have a name defined before it, in `definitions`.
fn render(ty: &Ty, definitions: &mut String, named: &mut usize) -> String {
    let mut inner = |ty: &Ty| render(ty, definitions, named);
    let names = |kind: &str, count: usize| -> String {
        (0..count).map(|at| format!(" \"{kind}{at}\"")).collect()
    };
    let body = match ty {
        Ty::Plain(name) => return (*name).to_owned(),
        Ty::List(of) => return format!("(list {})", inner(of)),
        Ty::Tuple(types) => {
            let types: Vec<String> = types.iter().map(inner).collect();
            return format!("(tuple {})", types.join(" "));
        }
        Ty::Option(of) => return format!("(option {})", inner(of)),
        Ty::Result(ok, err) => {
            let ok = ok.as_ref().map_or(String::new(), |ok| inner(ok));
            let err = err
                .as_ref()
                .map_or(String::new(), |err| format!("(error {})", inner(err)));
            return format!("(result {ok} {err})");
        }
        Ty::Record(fields) => {
            let fields = fields.iter().enumerate();
            let fields: String = fields
                .map(|(at, ty)| format!(" (field \"f{at}\" {})", inner(ty)))
                .collect();
            format!("(record {fields})")
        }
        Ty::Variant(cases) => {
            let cases = cases.iter().enumerate();
            let cases: String = cases
                .map(|(at, ty)| {
                    let payload = ty.as_ref().map_or(String::new(), &mut inner);
                    format!(" (case \"c{at}\" {payload})")
                })
                .collect();
            format!("(variant {cases})")
        }
        Ty::Enum(count) => format!("(enum{})", names("e", *count)),
        Ty::Flags(count) => format!("(flags{})", names("g", *count)),
    };
    let name = format!("t{named}");
    *named += 1;
    writeln!(
        definitions,
        "(type ${name}' {body}) (export ${name} \"{name}\" (type ${name}'))"
    )
    .unwrap();
    format!("${name}")
}

/// A component that shows, for each type, the slots and the memory it was given (`image`), and
/// returns what such an image says (`lift`).
pub fn mirror(types: &[Ty], encoding: &str) -> String {
    let (mut core, mut lifter, mut exports, mut named) =
        (String::new(), String::new(), String::new(), 0);
    for (at, ty) in types.iter().enumerate() {
        let list = Ty::List(Box::new(ty.clone()));
        for (name, ty) in [("image", ty), ("images", &list)] {
            let mut slots = flat(ty);
            if slots.len() > 16 {
                slots = vec!["i32"];
            }
            let stores: String = (slots.iter().enumerate())
                .map(|(slot, core)| {
                    let to = IMAGE as usize + 8 * slot;
                    format!("({core}.store (i32.const {to}) (local.get {slot}))")
                })
                .collect();
            let params = slots.join(" ");
            writeln!(
                core,
                "(func (export \"{name}-{at}\") (param {params}) (result i32) {stores}
                    (i32.store (i32.const 16) (i32.const {IMAGE}))
                    (i32.store (i32.const 20) (i32.sub (global.get $next) (i32.const {IMAGE})))
                    (i32.const 16))"
            )
            .unwrap();
            let ty = render(ty, &mut exports, &mut named);
            writeln!(
                exports,
                "(func (export \"{name}-{at}\") (param \"value\" {ty}) (result (list u8))
                    (canon lift (core func $m \"{name}-{at}\") (memory $m \"memory\") {encoding}
                        (realloc (func $m \"realloc\")) (post-return (func $m \"reset\"))))"
            )
            .unwrap();
        }
        let (result, take) = match &flat(ty)[..] {
            [core] => (*core, format!("({core}.{} (local.get 2))", load(ty))),
            _ => ("i32", String::from("(local.get 2)")),
        };
        writeln!(
            lifter,
            "(func (export \"lift-{at}\") (param i32 i32 i32) (result {result})
                (memory.copy (i32.const {IMAGE}) (local.get 0) (local.get 1)) {take})"
        )
        .unwrap();
        let ty = render(ty, &mut exports, &mut named);
        writeln!(
            exports,
            "(func (export \"lift-{at}\") (param \"image\" (list u8)) (param \"root\" u32) (result {ty})
                (canon lift (core func $l \"lift-{at}\") (memory $l \"memory\") {encoding}
                    (realloc (func $l \"realloc\"))))"
        )
        .unwrap();
    }
    format!(
        "(component
        (core module $mirror {BUMP} {core}
            (func (export \"reset\") (param i32) (global.set $next (i32.const 4096))))
        (core module $lifter (memory (export \"memory\") 18) {lifter}
            (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) (i32.const {MIB}))
            (func (export \"trap\") unreachable))
        (core instance $m (instantiate $mirror))
        (core instance $l (instantiate $lifter))
        (func (export \"trap\") (canon lift (core func $l \"trap\")))
        {exports})"
    )
}

/// A component called through wasmtime's own dynamic values.
struct Plain {
    engine: Engine,
    component: Component,
    live: Option<(Store<()>, Instance)>,
}

impl Plain {
    fn new(text: &str) -> Self {
        let mut config = Config::new();
        config.concurrency_support(false);
        let engine = Engine::new(&config).unwrap();
        let component = Component::from_binary(&engine, &wat::parse_str(text).unwrap()).unwrap();
        Self {
            engine,
            component,
            live: None,
        }
    }

    /// A call; what fails is replaced, as a supervisor does it.
    fn call(&mut self, function: &str, arguments: &[Val]) -> wasmtime::Result<Val> {
        let (store, instance) = self.live.get_or_insert_with(|| {
            let mut store = Store::new(&self.engine, ());
            let linker = Linker::new(&self.engine);
            let instance = linker.instantiate(&mut store, &self.component).unwrap();
            (store, instance)
        });
        let func: Func = instance.get_func(&mut *store, function).unwrap();
        let mut results = [Val::Bool(false)];
        let called = func.call(&mut *store, arguments, &mut results);
        if called.is_err() {
            self.live = None;
        }
        let [result] = results;
        called.map(|()| result)
    }
}

pub fn types(random: &mut Random, count: usize) -> Vec<Ty> {
    let mut types: Vec<Ty> = PLAIN.into_iter().map(Ty::Plain).collect();
    types.extend([1, 8, 9, 16, 17, 32].map(Ty::Flags));
    // More slots than there are, so that they go through memory.
    types.push(Ty::Tuple(
        (0..17).map(|at| Ty::Plain(PLAIN[at % 13])).collect(),
    ));
    types.resize_with(count.max(types.len()), || random.ty(3));
    types
}

fn image_bytes(value: &Val) -> Vec<u8> {
    let Val::List(bytes) = value else {
        panic!("{value:?}");
    };
    let byte = |byte: &Val| match byte {
        Val::U8(byte) => *byte,
        other => panic!("{other:?}"),
    };
    bytes.iter().map(byte).collect()
}

const ENCODINGS: [&str; 3] = ["", "string-encoding=utf16", "string-encoding=latin1+utf16"];

pub fn types_to_try() -> usize {
    let asked = std::env::var("AIRSSYS_ABI_TYPES").ok();
    asked.map_or(TYPES, |asked| asked.parse().unwrap())
}

#[test]
fn values_cross_the_border_as_wasmtime_carries_them() {
    let _machine = shared_machine();
    block_on(async {
        for (seed, encoding) in (1..).zip(ENCODINGS) {
            let mut random = Random(seed);
            let types = types(&mut random, types_to_try());
            let text = mirror(&types, encoding);
            let alone = Alone::text(&text, 4 * MIB, "").await;
            let mut plain = Plain::new(&text);
            for (at, ty) in types.iter().enumerate() {
                for _ in 0..8 {
                    let value = random.value(ty);
                    let list = Val::List(vec![value.clone(), random.value(ty)]);
                    let mut images = Vec::new();
                    for (name, value) in [("image", &value), ("images", &list)] {
                        let function = format!("{name}-{at}");
                        let argument = std::slice::from_ref(value);
                        let ours = alone.call(&function, argument).await.unwrap();
                        let theirs = plain.call(&function, argument).unwrap();
                        assert!(ours == [theirs], "{ty:?}: {value:?}");
                        images = ours;
                    }
                    let (bytes, root) = image(&images);
                    let image = [bytes_value(&bytes), Val::U32(root)];
                    let lift = format!("lift-{at}");
                    let ours = alone.call(&lift, &image).await.unwrap();
                    assert_eq!(ours, [plain.call(&lift, &image).unwrap()], "{ty:?}");
                    assert_eq!(ours, [value], "{ty:?}");
                }
            }
            alone.host.shutdown().await;
        }
    });
}

fn bytes_value(bytes: &[u8]) -> Val {
    Val::List(bytes.iter().copied().map(Val::U8).collect())
}

/// The bytes of an image, and where in memory the first value of its list begins.
pub fn image(answer: &[Val]) -> (Vec<u8>, u32) {
    let bytes = image_bytes(&answer[0]);
    let root = u32::from_le_bytes(bytes[..4].try_into().unwrap());
    (bytes, root)
}

#[test]
fn what_a_guest_returns_is_taken_or_refused_as_wasmtime_does() {
    let _machine = shared_machine();
    block_on(async {
        let (mut taken, mut refused) = (0, 0);
        for (seed, encoding) in (1..).zip(ENCODINGS) {
            let mut random = Random(seed << 32);
            let types = types(&mut random, types_to_try());
            let text = mirror(&types, encoding);
            let alone = Alone::text(&text, 4 * MIB, "").await;
            let mut plain = Plain::new(&text);
            for (at, ty) in types.iter().enumerate() {
                let value = random.value(ty);
                let list = [Val::List(vec![value])];
                let images = alone.call(&format!("images-{at}"), &list).await.unwrap();
                let (bytes, root) = image(&images);
                for _ in 0..12 {
                    let mut bytes = bytes.clone();
                    let heap = (root - IMAGE) as usize;
                    for _ in 0..=random.below(2) {
                        let target = heap + random.below(bytes.len() - heap);
                        bytes[target] = [0, 1, 0x7f, 0x80, 0xff, 0xd8][random.below(6)];
                    }
                    let root = root + [0, 0, 0, 1, 2, 0x10_0000, u32::MAX / 2][random.below(7)];
                    let image = [bytes_value(&bytes), Val::U32(root)];
                    let lift = format!("lift-{at}");
                    let ours = alone.call(&lift, &image).await;
                    let theirs = plain.call(&lift, &image);
                    match (ours, theirs) {
                        (Ok(ours), Ok(theirs)) => {
                            assert_eq!(ours, [theirs], "{ty:?}: {bytes:?}");
                            taken += 1;
                        }
                        (Err(WasmError::Exited { .. }), Err(_)) => refused += 1,
                        (Err(WasmError::Results { .. }), _) => {
                            alone.exit("trap", &[]).await;
                            plain.live = None;
                        }
                        (ours, theirs) => panic!("{ty:?}: {ours:?} but {theirs:?}"),
                    }
                }
            }
            alone.host.shutdown().await;
        }
        assert!(taken > 500 && refused > 500, "{taken} {refused}");
    });
}

/// Answers the pair it is given as a text, a list or whatever its type says, and counts its calls.
const LIAR: &str = r#"
    (memory (export "memory") 2)
    (global $calls (mut i32) (i32.const 0))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "calls") (result i32) (global.get $calls))
    (func $pair (param i32 i32) (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store (i32.const 0) (local.get 0))
        (i32.store (i32.const 4) (local.get 1))
        (i32.const 0))
    (export "text" (func $pair)) (export "bytes" (func $pair)) (export "words" (func $pair))
    (export "lists" (func $pair)) (export "nested" (func $pair)) (export "chars" (func $pair))
    (export "choice" (func $pair))
    (func $first (param i32 i32) (result i32) (local.get 0))
    (export "place" (func $first)) (export "char" (func $first)) (export "case" (func $first))
    (data (i32.const 4096) "\ff\fe\00\d8\00\00\00\00\11\00")
    (data (i32.const 8192) "\00\20\00\00\ff\ff\00\00")
"#;

fn liar(more: &str) -> String {
    let of = |ty: &str| format!("(param \"a\" u32) (param \"b\" u32) (result {ty})");
    let types = [
        ("text", "string"),
        ("bytes", "(list u8)"),
        ("words", "(list u64)"),
        ("lists", "(list (list u8))"),
        ("nested", "(list (list (list string)))"),
        ("chars", "(list char)"),
        ("choice", "(result u32)"),
        ("place", "(tuple u32 u64)"),
        ("char", "char"),
        ("case", "(result)"),
    ]
    .map(|(name, ty)| (name, of(ty)));
    let mut exports: Vec<(&str, &str)> = types.iter().map(|(n, ty)| (*n, ty.as_str())).collect();
    exports.push(("calls", "(result u32)"));
    component(&format!("{LIAR} {more}"), true, &exports)
}

#[test]
fn a_lie_in_a_result_ends_the_instance_with_what_it_was() {
    let _machine = shared_machine();
    block_on(async {
        let alone = Alone::text(&liar(""), MIB, "").await;
        let (end, all) = (2 * 65_536, u32::MAX);
        let out = |pointer: u32, length: u32| AbiViolation::OutOfBounds {
            pointer: pointer as usize,
            length: length as usize,
        };
        for (function, a, b, lie) in [
            ("text", end - 1, 2, out(end - 1, 2)),
            ("text", all, 1, out(all, 1)),
            ("text", 0, all, out(0, all)),
            ("text", 4096, 2, AbiViolation::Text),
            ("bytes", end, 1, out(end, 1)),
            ("bytes", 1, end, out(1, end)),
            ("bytes", all, all, out(all, all)),
            // 8 x 2^29 is 2^32, which a 32-bit product would lose.
            ("words", 0, 1 << 29, out(0, 1 << 29)),
            ("words", 8, (1 << 29) + 1, out(8, (1 << 29) + 1)),
            (
                "words",
                4,
                1,
                AbiViolation::Misaligned {
                    pointer: 4,
                    align: 8,
                },
            ),
            ("lists", 8192, 0x8000_0000, out(8192, 0x8000_0000)),
            (
                "lists",
                8193,
                1,
                AbiViolation::Misaligned {
                    pointer: 8193,
                    align: 4,
                },
            ),
            ("chars", 4096, 1, AbiViolation::Char(0xd800_feff)),
            (
                "choice",
                2,
                0,
                AbiViolation::Discriminant { found: 2, cases: 2 },
            ),
            ("place", end - 8, 0, out(end - 8, 1)),
            (
                "place",
                4,
                0,
                AbiViolation::Misaligned {
                    pointer: 4,
                    align: 8,
                },
            ),
            ("char", 0xd800, 0, AbiViolation::Char(0xd800)),
            ("char", 0x11_0000, 0, AbiViolation::Char(0x11_0000)),
            (
                "case",
                256,
                0,
                AbiViolation::Discriminant {
                    found: 256,
                    cases: 2,
                },
            ),
        ] {
            let cause = alone.exit(function, &[Val::U32(a), Val::U32(b)]).await;
            assert_eq!(cause.kind(), ExitKind::HostError, "{function}: {cause}");
            assert_eq!(violation(&cause), Some(lie), "{function}({a:#x}, {b:#x})");
            assert_eq!(alone.number("calls", &[]).await, 0, "{function}");
        }
        alone.host.shutdown().await;
    });
}

fn violation(cause: &airssys::ExitCause) -> Option<AbiViolation> {
    let mut next = std::error::Error::source(cause);
    while let Some(error) = next {
        if let Some(violation) = error.downcast_ref() {
            return Some(*violation);
        }
        next = error.source();
    }
    None
}

#[test]
fn lists_that_overlap_are_cut_off_at_the_bound_and_the_instance_goes_on() {
    let _machine = shared_machine();
    block_on(async {
        // The first page holds nothing but this list of 8,192 elements, each of which is the list.
        let fill = "(func $fill (local $at i32)
            (loop $next
                (i32.store offset=4 (local.get $at) (i32.const 8192))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $next (i32.lt_u (local.get $at) (i32.const 65536)))))
            (start $fill)";
        let alone = Alone::text(&liar(fill), MIB, "").await;
        for function in ["lists", "nested"] {
            let refused = alone.call(function, &[Val::U32(0), Val::U32(8192)]).await;
            let source = match refused {
                Err(WasmError::Results { source, .. }) => source,
                other => panic!("{function}: {other:?}"),
            };
            let limit = ValueError::TooLarge { limit_bytes: MIB };
            assert_eq!(source, limit, "{function}");
        }
        assert_eq!(alone.number("calls", &[]).await, 2);
        alone.host.shutdown().await;
    });
}
