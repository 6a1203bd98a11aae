//! The bytes of a message into JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use wasmtime::component::Type;

use super::Outcome;
use crate::payload::{DecodeError, MAX_VALUES_BYTES, Reader, Undecoded};

/// Members that a node of an object has room for, at least half of which it uses but for the first.
const MEMBERS: usize = 11;

/// What a function with these results returned.
pub(super) fn outcome(types: &[Type], bytes: &[u8]) -> Result<Outcome, Undecoded> {
    let mut decoder = Decoder::new(bytes);
    let outcome = match types {
        [] => Outcome::Value(None),
        [Type::Result(result)] => match decoder.bytes.array()? {
            [0] => Outcome::Value(match result.ok() {
                Some(ty) => Some(decoder.value(&ty)?),
                None => None,
            }),
            [1] => Outcome::Error(decoder.payload(result.err().as_ref())?),
            _ => return Err(DecodeError.into()),
        },
        [ty] => Outcome::Value(Some(decoder.value(ty)?)),
        _ => return Err(DecodeError.into()),
    };
    decoder.bytes.end()?;
    Ok(outcome)
}

/// One value.
pub(super) fn value(ty: &Type, bytes: &[u8]) -> Result<Value, Undecoded> {
    let mut decoder = Decoder::new(bytes);
    let value = decoder.value(ty)?;
    decoder.bytes.end()?;
    Ok(value)
}

struct Decoder<'a> {
    bytes: Reader<'a>,
    /// What the JSON may still take of the host's memory, in bytes.
    room: usize,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes: Reader::new(bytes),
            room: MAX_VALUES_BYTES,
        }
    }

    /// Counts host memory before it is taken.
    fn take(&mut self, bytes: usize) -> Result<(), Undecoded> {
        self.room = self.room.checked_sub(bytes).ok_or(Undecoded::TooLarge)?;
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<Value, Undecoded> {
        self.take(text.len())?;
        Ok(Value::String(text.to_owned()))
    }

    fn value(&mut self, ty: &Type) -> Result<Value, Undecoded> {
        self.take(size_of::<Value>())?;
        Ok(match ty {
            Type::Bool => match self.bytes.array()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(DecodeError.into()),
            },
            Type::U8 => u8::from_le_bytes(self.bytes.array()?).into(),
            Type::S8 => i8::from_le_bytes(self.bytes.array()?).into(),
            Type::U16 => u16::from_le_bytes(self.bytes.array()?).into(),
            Type::S16 => i16::from_le_bytes(self.bytes.array()?).into(),
            Type::U32 => u32::from_le_bytes(self.bytes.array()?).into(),
            Type::S32 => i32::from_le_bytes(self.bytes.array()?).into(),
            Type::U64 => u64::from_le_bytes(self.bytes.array()?).into(),
            Type::S64 => i64::from_le_bytes(self.bytes.array()?).into(),
            Type::Float32 => float(widen(f32::from_le_bytes(self.bytes.array()?))),
            Type::Float64 => float(f64::from_le_bytes(self.bytes.array()?)),
            Type::Char => {
                let char = u32::from_le_bytes(self.bytes.array()?);
                let char = char::from_u32(char).ok_or(DecodeError)?;
                self.text(char.encode_utf8(&mut [0; 4]))?
            }
            Type::String => {
                let length = self.bytes.length()?;
                let text = self.bytes.bytes(length)?;
                self.text(std::str::from_utf8(text).map_err(|_| DecodeError)?)?
            }
            Type::List(list) => self.list(&list.ty())?,
            Type::Record(record) => {
                let mut object = Map::new();
                for field in record.fields() {
                    let value = self.value(&field.ty)?;
                    self.insert(&mut object, field.name, value)?;
                }
                Value::Object(object)
            }
            Type::Tuple(tuple) => Value::Array(
                tuple
                    .types()
                    .map(|ty| self.value(&ty))
                    .collect::<Result<_, Undecoded>>()?,
            ),
            Type::Variant(variant) => {
                let case = self.bytes.length()?;
                let case = variant.cases().nth(case).ok_or(DecodeError)?;
                let mut object = Map::new();
                let tag = self.text(case.name)?;
                self.insert(&mut object, "tag", tag)?;
                if let Some(ty) = &case.ty {
                    let value = self.value(ty)?;
                    self.insert(&mut object, "val", value)?;
                }
                Value::Object(object)
            }
            Type::Enum(cases) => {
                let case = self.bytes.length()?;
                self.text(cases.names().nth(case).ok_or(DecodeError)?)?
            }
            Type::Option(option) => {
                let inner = option.ty();
                match self.bytes.array()? {
                    [0] => Value::Null,
                    [1] if matches!(inner, Type::Option(_)) => {
                        let value = self.value(&inner)?;
                        self.alone("some", value)?
                    }
                    [1] => self.value(&inner)?,
                    _ => return Err(DecodeError.into()),
                }
            }
            Type::Result(result) => {
                let (name, payload) = match self.bytes.array()? {
                    [0] => ("ok", result.ok()),
                    [1] => ("err", result.err()),
                    _ => return Err(DecodeError.into()),
                };
                let value = self.payload(payload.as_ref())?;
                self.alone(name, value)?
            }
            Type::Flags(flags) => {
                let count = self.bytes.length()?;
                let names = (0..count).map(|_| {
                    self.take(size_of::<Value>())?;
                    let position = self.bytes.length()?;
                    self.text(flags.names().nth(position).ok_or(DecodeError)?)
                });
                Value::Array(names.collect::<Result<_, Undecoded>>()?)
            }
            _ => return Err(DecodeError.into()),
        })
    }

    fn list(&mut self, element: &Type) -> Result<Value, Undecoded> {
        let length = self.bytes.length()?;
        if *element == Type::U8 {
            let bytes = self.bytes.bytes(length)?;
            self.take(length.div_ceil(3).saturating_mul(4))?;
            return Ok(Value::String(STANDARD.encode(bytes)));
        }
        // Not reserved up front: the length is only as good as what follows it.
        let values = (0..length).map(|_| self.value(element));
        Ok(Value::Array(values.collect::<Result<_, Undecoded>>()?))
    }

    fn payload(&mut self, ty: Option<&Type>) -> Result<Value, Undecoded> {
        ty.map_or(Ok(Value::Null), |ty| self.value(ty))
    }

    fn alone(&mut self, name: &str, value: Value) -> Result<Value, Undecoded> {
        let mut object = Map::new();
        self.insert(&mut object, name, value)?;
        Ok(Value::Object(object))
    }

    /// Puts a member into an object. The value has been counted.
    fn insert(
        &mut self,
        object: &mut Map<String, Value>,
        name: &str,
        value: Value,
    ) -> Result<(), Undecoded> {
        if object.len().is_multiple_of(MEMBERS / 2) {
            self.take(MEMBERS * (size_of::<String>() + size_of::<Value>()))?;
        }
        self.take(name.len())?;
        object.insert(name.to_owned(), value);
        Ok(())
    }
}

/// The shortest decimal number that is this f32, as f64 has it: 0.1, not 0.10000000149011612.
fn widen(float: f32) -> f64 {
    let exact = f64::from(float);
    let short: f64 = float.to_string().parse().unwrap_or(exact);
    // The shortest way to write the largest one is larger.
    let fits = short.abs() <= f64::from(f32::MAX);
    #[allow(
        clippy::cast_possible_truncation,
        reason = "compared with what it should be"
    )]
    let same = short as f32 == float;
    if same && fits { short } else { exact }
}

fn float(float: f64) -> Value {
    match serde_json::Number::from_f64(float) {
        Some(number) => Value::Number(number),
        None if float.is_nan() => Value::from("nan"),
        None if float.is_sign_positive() => Value::from("inf"),
        None => Value::from("-inf"),
    }
}
