//! JSON into the bytes of a message, each value checked against its type.
//!
//! Arguments are walked twice: once to check them and to count what they take, so that a slot of
//! that size can be had, and once to write them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Map, Number, Value};
use wasmtime::component::{Type, types};

use super::{JsonError, Refused};
use crate::handles::{Kind, ResourceHandle, kind};
use crate::message::{Message, Messages, Runs, Way};
use crate::payload::{EncodeError, MAX_DEPTH, ValueError, prefix, travels, type_name};

/// Characters of base64 decoded at a time; a multiple of four.
const BASE64_RUN: usize = 512;

/// Most characters of what was found that an error shows, and most names that it lists.
const SHOWN: usize = 40;

/// The arguments of a call, by the names of its parameters.
pub(super) fn message(
    messages: &Messages,
    params: &[(String, Type)],
    arguments: &Map<String, Value>,
    kinds: &[Kind],
) -> Result<Message, Refused> {
    let mut count = Count {
        bytes: 0,
        limit: messages.limit(Way::In),
    };
    Encoder::new(&mut count, kinds).arguments(params, arguments)?;
    let mut writer = messages.writer(Way::In, count.bytes)?;
    let mut runs = Runs::new(&mut writer);
    Encoder::new(&mut runs, kinds).arguments(params, arguments)?;
    runs.end()?;
    Ok(writer.finish())
}

/// One value.
pub(super) fn value(ty: &Type, value: &Value, runs: &mut Runs<'_>) -> Result<(), Refused> {
    Encoder::new(runs, &[]).value(ty, value)
}

/// What takes the bytes of a walk.
trait Sink {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError>;
}

/// Counts them and stops at the limit.
struct Count {
    bytes: usize,
    limit: usize,
}

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > self.limit {
            let limit_bytes = self.limit;
            return Err(ValueError::TooLarge { limit_bytes }.into());
        }
        Ok(())
    }
}

impl Sink for Runs<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        Runs::put(self, bytes)
    }
}

/// One step into a value, kept so that an error can say where it is.
#[derive(Clone, Copy)]
enum Step<'v> {
    Name(&'v str),
    Index(usize),
    /// Into an option, which JSON does not show.
    Inside,
}

struct Encoder<'v, S> {
    sink: &'v mut S,
    path: Vec<Step<'v>>,
    kinds: &'v [Kind],
}

impl<'v, S: Sink> Encoder<'v, S> {
    fn new(sink: &'v mut S, kinds: &'v [Kind]) -> Self {
        Self {
            sink,
            path: Vec::new(),
            kinds,
        }
    }

    fn arguments(
        &mut self,
        params: &'v [(String, Type)],
        arguments: &'v Map<String, Value>,
    ) -> Result<(), Refused> {
        let names = || params.iter().map(|(name, _)| name.as_str());
        self.only(arguments, names)?;
        for (name, ty) in params {
            self.member(name, ty, arguments)?;
        }
        Ok(())
    }

    fn value(&mut self, ty: &Type, value: &'v Value) -> Result<(), Refused> {
        if self.path.len() > MAX_DEPTH {
            let place = self.place();
            return Err(ValueError::TooDeep { place }.into());
        }
        match (ty, value) {
            (Type::Bool, Value::Bool(bool)) => self.put(&[u8::from(*bool)]),
            (Type::U8, _) => self.integer::<u8, 1>(ty, value, u8::to_le_bytes),
            (Type::S8, _) => self.integer::<i8, 1>(ty, value, i8::to_le_bytes),
            (Type::U16, _) => self.integer::<u16, 2>(ty, value, u16::to_le_bytes),
            (Type::S16, _) => self.integer::<i16, 2>(ty, value, i16::to_le_bytes),
            (Type::U32, _) => self.integer::<u32, 4>(ty, value, u32::to_le_bytes),
            (Type::S32, _) => self.integer::<i32, 4>(ty, value, i32::to_le_bytes),
            (Type::U64, Value::String(text)) => self.digits::<u64, 8>(ty, text, u64::to_le_bytes),
            (Type::S64, Value::String(text)) => self.digits::<i64, 8>(ty, text, i64::to_le_bytes),
            (Type::U64, _) => self.integer::<u64, 8>(ty, value, u64::to_le_bytes),
            (Type::S64, _) => self.integer::<i64, 8>(ty, value, i64::to_le_bytes),
            (Type::Float32, _) => match float(value).and_then(narrow) {
                Some(float) => self.put(&float.to_le_bytes()),
                None => Err(self.mismatch(ty, value)),
            },
            (Type::Float64, _) => match float(value) {
                Some(float) => self.put(&float.to_le_bytes()),
                None => Err(self.mismatch(ty, value)),
            },
            (Type::Char, Value::String(text)) => {
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (Some(char), None) => self.put(&u32::from(char).to_le_bytes()),
                    _ => Err(self.mismatch(ty, value)),
                }
            }
            (Type::String, Value::String(text)) => {
                self.length(text.len())?;
                self.put(text.as_bytes())
            }
            (Type::List(list), Value::Array(values)) => {
                self.length(values.len())?;
                let element = list.ty();
                for (position, value) in values.iter().enumerate() {
                    self.inner(Step::Index(position), &element, value)?;
                }
                Ok(())
            }
            (Type::List(list), Value::String(text)) if list.ty() == Type::U8 => {
                self.base64(ty, value, text)
            }
            (Type::Record(record), Value::Object(object)) => self.record(record, object),
            (Type::Tuple(tuple), Value::Array(values)) => {
                if tuple.types().len() != values.len() {
                    return Err(self.mismatch(ty, value));
                }
                for (position, (ty, value)) in tuple.types().zip(values).enumerate() {
                    self.inner(Step::Index(position), &ty, value)?;
                }
                Ok(())
            }
            (Type::Variant(variant), Value::Object(object)) => self.variant(ty, variant, object),
            (Type::Enum(cases), Value::String(name)) => {
                match cases.names().position(|case| case == name) {
                    Some(position) => self.length(position),
                    None => Err(self.mismatch(ty, value)),
                }
            }
            (Type::Option(option), _) => self.option(ty, &option.ty(), value),
            (Type::Result(result), Value::Object(object)) => self.result(ty, result, object),
            (Type::Flags(flags), Value::Array(set)) => self.flags(ty, flags, set),
            (Type::Own(of) | Type::Borrow(of), _) if let Some(kind) = kind(self.kinds, of) => {
                self.handle(ty, kind, value)
            }
            (ty, _) if !travels(ty) => Err(ValueError::Unsupported {
                place: self.place(),
                ty: type_name(ty),
            }
            .into()),
            _ => Err(self.mismatch(ty, value)),
        }
    }

    fn integer<T: TryFrom<i128>, const N: usize>(
        &mut self,
        ty: &Type,
        value: &Value,
        bytes: impl Fn(T) -> [u8; N],
    ) -> Result<(), Refused> {
        let number = value.as_number().and_then(whole);
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => self.put(&bytes(number)),
            None => Err(self.mismatch(ty, value)),
        }
    }

    /// As JavaScript has to write integers that its numbers do not hold.
    fn digits<T: std::str::FromStr, const N: usize>(
        &mut self,
        ty: &Type,
        text: &str,
        bytes: impl Fn(T) -> [u8; N],
    ) -> Result<(), Refused> {
        let plain = !text.starts_with('+');
        match text.parse().ok().filter(|_| plain) {
            Some(number) => self.put(&bytes(number)),
            None => Err(self.found(ty, quoted(text))),
        }
    }

    fn base64(&mut self, ty: &Type, value: &Value, text: &str) -> Result<(), Refused> {
        let mut digits = text;
        if text.len().is_multiple_of(4) {
            let one = text.strip_suffix('=').unwrap_or(text);
            digits = one.strip_suffix('=').unwrap_or(one);
        }
        let digits = digits.as_bytes();
        let length = digits.len() / 4 * 3 + (digits.len() % 4).saturating_sub(1);
        self.length(length)?;
        let mut run = [0; BASE64_RUN / 4 * 3];
        for digits in digits.chunks(BASE64_RUN) {
            let Ok(length) = STANDARD_NO_PAD.decode_slice(digits, &mut run) else {
                return Err(self.mismatch(ty, value));
            };
            self.put(run.get(..length).unwrap_or_default())?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        record: &types::Record,
        object: &'v Map<String, Value>,
    ) -> Result<(), Refused> {
        self.only(object, || record.fields().map(|field| field.name))?;
        for field in record.fields() {
            self.member(field.name, &field.ty, object)?;
        }
        Ok(())
    }

    fn member(
        &mut self,
        name: &str,
        ty: &Type,
        object: &'v Map<String, Value>,
    ) -> Result<(), Refused> {
        // The object's name for it lives as long as the value.
        match object.get_key_value(name) {
            Some((name, value)) => self.inner(Step::Name(name), ty, value),
            None => self.left_out(name, ty),
        }
    }

    fn left_out(&mut self, name: &str, ty: &Type) -> Result<(), Refused> {
        if matches!(ty, Type::Option(_)) {
            return self.put(&[0]);
        }
        Err(Refused::Json(JsonError::Missing {
            place: self.below(name),
            expected: expected(ty),
        }))
    }

    /// Refuses an object with members of other names.
    fn only<'n, I: Iterator<Item = &'n str>>(
        &self,
        object: &Map<String, Value>,
        names: impl Fn() -> I,
    ) -> Result<(), Refused> {
        let mut given = object.keys();
        match given.find(|given| !names().any(|name| name == given.as_str())) {
            Some(name) => Err(Refused::Json(JsonError::Unknown {
                place: self.below(&short(name)),
                known: listed(names()),
            })),
            None => Ok(()),
        }
    }

    fn variant(
        &mut self,
        ty: &Type,
        variant: &types::Variant,
        object: &'v Map<String, Value>,
    ) -> Result<(), Refused> {
        let cases = || listed(variant.cases().map(|case| case.name));
        let Some(Value::String(tag)) = object.get("tag") else {
            return Err(self.found(ty, described(object)));
        };
        let case = variant.cases().enumerate().find(|(_, c)| c.name == tag);
        let Some((position, case)) = case else {
            return Err(Refused::Json(JsonError::Type {
                place: self.below("tag"),
                expected: format!("one of {}", cases()),
                found: quoted(tag),
            }));
        };
        self.length(position)?;
        match (case.ty, object.get("val"), object.len()) {
            (Some(ty), Some(value), 2) => self.inner(Step::Name("val"), &ty, value),
            (Some(ty), None, 1) => Err(Refused::Json(JsonError::Missing {
                place: self.below("val"),
                expected: expected(&ty),
            })),
            (None, None, 1) => Ok(()),
            (None, ..) => self.only(object, || ["tag"].into_iter()),
            (Some(_), ..) => self.only(object, || ["tag", "val"].into_iter()),
        }
    }

    fn handle(&mut self, ty: &Type, kind: &Kind, value: &Value) -> Result<(), Refused> {
        let Some(text) = value.as_str() else {
            return Err(self.mismatch(ty, value));
        };
        let handle = text.parse().and_then(|h: ResourceHandle| h.encode(kind));
        let handle = handle.map_err(|source| {
            let place = self.place().into();
            ValueError::Handle { place, source }
        })?;
        self.put(&handle)
    }

    fn option(&mut self, ty: &Type, inner: &Type, value: &'v Value) -> Result<(), Refused> {
        if value.is_null() {
            return self.put(&[0]);
        }
        self.put(&[1])?;
        if !matches!(inner, Type::Option(_)) {
            return self.inner(Step::Inside, inner, value);
        }
        // Else `null` could be either's.
        match value {
            Value::Object(object) if object.len() == 1 => match object.get("some") {
                Some(value) => self.inner(Step::Name("some"), inner, value),
                None => Err(self.mismatch(ty, value)),
            },
            _ => Err(self.mismatch(ty, value)),
        }
    }

    fn result(
        &mut self,
        ty: &Type,
        result: &types::ResultType,
        object: &'v Map<String, Value>,
    ) -> Result<(), Refused> {
        let mut members = object.iter();
        let (tag, name, payload, value) = match (members.next(), members.next()) {
            (Some((name, value)), None) if name == "ok" => (0, "ok", result.ok(), value),
            (Some((name, value)), None) if name == "err" => (1, "err", result.err(), value),
            _ => return Err(self.found(ty, described(object))),
        };
        self.put(&[tag])?;
        match payload {
            Some(ty) => self.inner(Step::Name(name), &ty, value),
            None if value.is_null() => Ok(()),
            None => Err(Refused::Json(JsonError::Type {
                place: self.below(name),
                expected: String::from("null"),
                found: shown(value),
            })),
        }
    }

    fn flags(
        &mut self,
        ty: &Type,
        flags: &types::Flags,
        given: &'v [Value],
    ) -> Result<(), Refused> {
        // A type has 32 flags at most.
        let mut seen = 0_u32;
        self.length(given.len())?;
        for (at, value) in given.iter().enumerate() {
            let mut names = flags.names();
            let known = value
                .as_str()
                .and_then(|name| names.position(|n| n == name));
            let bit = known.and_then(|flag| 1_u32.checked_shl(u32::try_from(flag).ok()?));
            match (known, bit) {
                (Some(flag), Some(bit)) if seen & bit == 0 => {
                    seen |= bit;
                    self.length(flag)?;
                }
                _ => {
                    self.path.push(Step::Index(at));
                    return Err(self.mismatch(ty, value));
                }
            }
        }
        Ok(())
    }

    fn inner(&mut self, step: Step<'v>, ty: &Type, value: &'v Value) -> Result<(), Refused> {
        self.path.push(step);
        self.value(ty, value)?;
        self.path.pop();
        Ok(())
    }

    fn length(&mut self, length: usize) -> Result<(), Refused> {
        self.put(&prefix(length)?)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        Ok(self.sink.put(bytes)?)
    }

    fn place(&self) -> String {
        let steps = self.path.iter().filter_map(|step| match step {
            Step::Name(name) => Some((*name).to_owned()),
            Step::Index(index) => Some(index.to_string()),
            Step::Inside => None,
        });
        let place = steps.collect::<Vec<_>>().join(".");
        if place.is_empty() {
            String::from("value")
        } else {
            place
        }
    }

    fn below(&self, name: &str) -> String {
        if self.path.is_empty() {
            return name.to_owned();
        }
        format!("{}.{name}", self.place())
    }

    fn mismatch(&self, ty: &Type, value: &Value) -> Refused {
        self.found(ty, shown(value))
    }

    fn found(&self, ty: &Type, found: String) -> Refused {
        Refused::Json(JsonError::Type {
            place: self.place(),
            expected: expected(ty),
            found,
        })
    }
}

/// The integer that a number is, in whatever way it is written: JSON Schema takes `1.0` for one.
fn whole(number: &Number) -> Option<i128> {
    if let Some(number) = number.as_i128() {
        return Some(number);
    }
    let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "whole, and one that does not fit saturates beyond every integer type"
    )]
    let number = float as i128;
    Some(number)
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "nan" => Some(f64::NAN),
            "inf" => Some(f64::INFINITY),
            "-inf" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// The nearest f32; none for a number out of its range.
fn narrow(float: f64) -> Option<f32> {
    if float.is_finite() && float.abs() > f64::from(f32::MAX) {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, reason = "rounds")]
    let float = float as f32;
    Some(float)
}

/// A type, and what it takes.
fn expected(ty: &Type) -> String {
    let taken = match ty {
        Type::U8 => "0 to 255",
        Type::S8 => "-128 to 127",
        Type::U16 => "0 to 65535",
        Type::S16 => "-32768 to 32767",
        Type::U32 => "0 to 4294967295",
        Type::S32 => "-2147483648 to 2147483647",
        Type::U64 => "0 to 18446744073709551615",
        Type::S64 => "-9223372036854775808 to 9223372036854775807",
        Type::Float32 | Type::Float64 => "a number, \"nan\", \"inf\" or \"-inf\"",
        Type::Char => "a string of one character",
        Type::List(list) if list.ty() == Type::U8 => "base64, or an array of bytes",
        Type::List(_) => "an array",
        Type::Record(record) => {
            let fields = listed(record.fields().map(|field| field.name));
            return format!("record (an object with {fields})");
        }
        Type::Tuple(tuple) => return format!("tuple (an array of {})", tuple.types().len()),
        Type::Variant(variant) => {
            let cases = listed(variant.cases().map(|case| case.name));
            return format!("variant ({{tag, val}}, with the tag one of {cases})");
        }
        Type::Enum(cases) => return format!("enum (one of {})", listed(cases.names())),
        Type::Flags(flags) => {
            let flags = listed(flags.names());
            return format!("flags (an array of different ones of {flags})");
        }
        Type::Option(option) if matches!(option.ty(), Type::Option(_)) => "null or {some}",
        Type::Option(_) => "null or a value",
        Type::Result(_) => "{ok} or {err}",
        Type::Own(_) | Type::Borrow(_) => "a handle, such as counter#3.7",
        _ => return type_name(ty).to_owned(),
    };
    format!("{} ({taken})", type_name(ty))
}

fn listed<'n>(mut names: impl Iterator<Item = &'n str>) -> String {
    let mut list: Vec<&str> = names.by_ref().take(SHOWN).collect();
    if names.next().is_some() {
        list.push("...");
    }
    if list.is_empty() {
        list.push("none");
    }
    list.join(", ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(values) => format!("an array of {}", values.len()),
        Value::Object(object) => described(object),
    }
}

fn described(object: &Map<String, Value>) -> String {
    if object.is_empty() {
        return String::from("an empty object");
    }
    let mut names = String::new();
    for name in object.keys().take(SHOWN) {
        if !names.is_empty() {
            names.push_str(", ");
        }
        names.push_str(name);
    }
    format!("an object with {}", short(&names))
}

fn quoted(text: &str) -> String {
    Value::String(short(text)).to_string()
}

fn short(text: &str) -> String {
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(SHOWN).collect();
    if chars.next().is_some() {
        short.push_str("...");
    }
    short
}
