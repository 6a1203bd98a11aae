//! Values as bytes: how the arguments and results of a call travel in a checked buffer.
//!
//! The function's type is known on both sides, so only values travel, little-endian and without
//! padding: integers and floats as themselves, `char` as u32, lengths and case numbers as u32,
//! `bool`, `option` and `result` with one byte in front. Encoding checks each value against its
//! type, so a wrong argument never reaches a guest.

use airssys_integrity::{AppendError, BLOCK_BYTES, Corrupt};
use wasmtime::component::{Type, Val};

use crate::message::{Message, Messages, Way, Writer};

/// Most bytes the arguments of a call, or its results, may take.
pub const MAX_PAYLOAD_BYTES: usize = 4 * 1024 * 1024;

/// Deepest nesting of values.
const MAX_DEPTH: usize = 64;

/// Why values were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Not as many values as the function takes.
    #[error("expected {expected} arguments, got {found}")]
    Arity {
        /// Parameters of the function.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A value of another type than the function takes.
    #[error("{place}: expected {expected}, found {found}")]
    Type {
        /// The parameter, and the way into it.
        place: String,
        /// The type it has.
        expected: String,
        /// What was given.
        found: &'static str,
    },
    /// Resources, futures, streams and the like do not travel in a message.
    #[error("{place}: values of type {ty} cannot travel in a message; use `run`")]
    Unsupported {
        /// The parameter, and the way into it.
        place: String,
        /// Its type.
        ty: &'static str,
    },
    /// More than [`MAX_PAYLOAD_BYTES`].
    #[error("the values take more than {MAX_PAYLOAD_BYTES} bytes")]
    TooLarge,
    /// Nested deeper than 64 levels.
    #[error("{place}: nested too deeply")]
    TooDeep {
        /// The parameter, and the way into it.
        place: String,
    },
    /// The host has no memory for the message.
    #[error("no memory for the message")]
    NoMemory,
}

/// Why values did not become a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EncodeError {
    Value(ValueError),
    /// What arrived in the message is not what was sent.
    Damaged(Corrupt),
}

impl From<ValueError> for EncodeError {
    fn from(error: ValueError) -> Self {
        Self::Value(error)
    }
}

impl From<AppendError> for EncodeError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::LimitExceeded { .. } => Self::Value(ValueError::TooLarge),
            AppendError::Corrupt(corrupt) => Self::Damaged(corrupt),
            _ => Self::Value(ValueError::NoMemory),
        }
    }
}

/// Bytes that do not decode as the type they were encoded by: a defect of ours, never the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message does not decode as its type")]
pub struct DecodeError;

/// The arguments of a call, checked against its parameters.
pub(crate) fn encode_arguments(
    messages: &Messages,
    params: &[(String, Type)],
    values: &[Val],
) -> Result<Message, EncodeError> {
    let encoder = Encoder::new(messages.writer(Way::In, bytes_of_all(values, 0)));
    encoder.arguments(params, values)
}

/// As [`encode_arguments`], with a hit on the way.
#[cfg(feature = "fault-injection")]
pub(crate) fn encode_with_hit(
    messages: &Messages,
    params: &[(String, Type)],
    values: &[Val],
    hit: crate::fault::Hit,
) -> Result<Message, EncodeError> {
    let mut encoder = Encoder::new(messages.writer(Way::In, bytes_of_all(values, 0)));
    encoder.hit = Some(hit);
    encoder.arguments(params, values)
}

/// The results of a call.
pub(crate) fn encode_results(
    messages: &Messages,
    types: &[Type],
    values: &[Val],
) -> Result<Message, EncodeError> {
    let mut encoder = Encoder::new(messages.writer(Way::Out, bytes_of_all(values, 0)));
    for (ty, value) in types.iter().zip(values) {
        encoder.path.push(Step::Name("result"));
        encoder.value(ty, value)?;
        encoder.path.pop();
    }
    Ok(encoder.writer.finish())
}

/// Values of these types, from bytes that have just been checked as their level asks for.
pub(crate) fn decode<'a>(
    types: impl Iterator<Item = &'a Type>,
    bytes: &[u8],
) -> Result<Vec<Val>, DecodeError> {
    let mut decoder = Decoder { rest: bytes };
    let values = types
        .map(|ty| decoder.value(ty))
        .collect::<Result<_, _>>()?;
    if decoder.rest.is_empty() {
        Ok(values)
    } else {
        Err(DecodeError)
    }
}

/// The bytes that values take once encoded, as far as they are of one type each: the encoder
/// refuses the others, and what is nested too deeply.
fn bytes_of(value: &Val, depth: usize) -> usize {
    let boxed = |inner: &Option<Box<Val>>| match inner {
        Some(inner) => bytes_of(inner, depth + 1),
        None => 0,
    };
    if depth > MAX_DEPTH {
        return 0;
    }
    match value {
        Val::Bool(_) | Val::U8(_) | Val::S8(_) => 1,
        Val::U16(_) | Val::S16(_) => 2,
        Val::U32(_) | Val::S32(_) | Val::Float32(_) | Val::Char(_) | Val::Enum(_) => 4,
        Val::U64(_) | Val::S64(_) | Val::Float64(_) => 8,
        Val::String(text) => 4 + text.len(),
        // Most long lists are of bytes.
        Val::List(values) if matches!(values.first(), Some(Val::U8(_))) => 4 + values.len(),
        Val::List(values) => bytes_of_all(values, depth + 1).saturating_add(4),
        Val::Tuple(values) => bytes_of_all(values, depth + 1),
        Val::Record(fields) => fields.iter().fold(0, |sum: usize, (_, field)| {
            sum.saturating_add(bytes_of(field, depth + 1))
        }),
        Val::Variant(_, payload) => boxed(payload).saturating_add(4),
        Val::Option(inner) => boxed(inner).saturating_add(1),
        Val::Result(Ok(payload) | Err(payload)) => boxed(payload).saturating_add(1),
        Val::Flags(set) => 4 + 4 * set.len(),
        _ => 0,
    }
}

fn bytes_of_all(values: &[Val], depth: usize) -> usize {
    values
        .iter()
        .fold(0, |sum, value| sum.saturating_add(bytes_of(value, depth)))
}

/// One step into a value, kept so that an error can say where it is.
#[derive(Clone, Copy)]
enum Step<'v> {
    Name(&'v str),
    Index(usize),
}

struct Encoder<'v> {
    writer: Writer,
    path: Vec<Step<'v>>,
    /// Happens once, to the bytes it falls on.
    #[cfg(feature = "fault-injection")]
    hit: Option<crate::fault::Hit>,
}

impl<'v> Encoder<'v> {
    fn new(writer: Writer) -> Self {
        Self {
            writer,
            path: Vec::new(),
            #[cfg(feature = "fault-injection")]
            hit: None,
        }
    }

    fn arguments(
        mut self,
        params: &'v [(String, Type)],
        values: &'v [Val],
    ) -> Result<Message, EncodeError> {
        if params.len() != values.len() {
            return Err(EncodeError::Value(ValueError::Arity {
                expected: params.len(),
                found: values.len(),
            }));
        }
        for ((name, ty), value) in params.iter().zip(values) {
            self.path.push(Step::Name(name));
            self.value(ty, value)?;
            self.path.pop();
        }
        Ok(self.writer.finish())
    }

    fn value(&mut self, ty: &Type, value: &'v Val) -> Result<(), EncodeError> {
        if self.path.len() > MAX_DEPTH {
            return Err(EncodeError::Value(ValueError::TooDeep {
                place: self.place(),
            }));
        }
        match (ty, value) {
            (Type::Bool, Val::Bool(v)) => self.put(&[u8::from(*v)]),
            (Type::U8, Val::U8(v)) => self.put(&[*v]),
            (Type::S8, Val::S8(v)) => self.put(&v.to_le_bytes()),
            (Type::U16, Val::U16(v)) => self.put(&v.to_le_bytes()),
            (Type::S16, Val::S16(v)) => self.put(&v.to_le_bytes()),
            (Type::U32, Val::U32(v)) => self.put(&v.to_le_bytes()),
            (Type::S32, Val::S32(v)) => self.put(&v.to_le_bytes()),
            (Type::U64, Val::U64(v)) => self.put(&v.to_le_bytes()),
            (Type::S64, Val::S64(v)) => self.put(&v.to_le_bytes()),
            (Type::Float32, Val::Float32(v)) => self.put(&v.to_le_bytes()),
            (Type::Float64, Val::Float64(v)) => self.put(&v.to_le_bytes()),
            (Type::Char, Val::Char(v)) => self.put(&u32::from(*v).to_le_bytes()),
            (Type::String, Val::String(v)) => {
                self.length(v.len())?;
                self.put(v.as_bytes())
            }
            (Type::List(list), Val::List(values)) => {
                self.length(values.len())?;
                self.elements(&list.ty(), values)
            }
            (Type::Record(record), Val::Record(fields)) => {
                if record.fields().len() != fields.len() {
                    return Err(self.mismatch(ty, value));
                }
                for (field, (name, inner)) in record.fields().zip(fields) {
                    if field.name != name {
                        return Err(self.mismatch(ty, value));
                    }
                    self.inner(Step::Name(name), &field.ty, inner)?;
                }
                Ok(())
            }
            (Type::Tuple(tuple), Val::Tuple(values)) => {
                if tuple.types().len() != values.len() {
                    return Err(self.mismatch(ty, value));
                }
                for (position, (inner_ty, inner)) in tuple.types().zip(values).enumerate() {
                    self.inner(Step::Index(position), &inner_ty, inner)?;
                }
                Ok(())
            }
            (Type::Variant(variant), Val::Variant(name, payload)) => {
                let case = variant.cases().enumerate().find(|(_, c)| c.name == name);
                let Some((position, case)) = case else {
                    return Err(self.mismatch(ty, value));
                };
                self.length(position)?;
                self.payload(ty, value, name, case.ty.as_ref(), payload.as_deref())
            }
            (Type::Enum(cases), Val::Enum(name)) => {
                match cases.names().position(|case| case == name) {
                    Some(position) => self.length(position),
                    None => Err(self.mismatch(ty, value)),
                }
            }
            (Type::Option(option), Val::Option(inner)) => {
                self.put(&[u8::from(inner.is_some())])?;
                match inner {
                    Some(inner) => self.inner(Step::Name("some"), &option.ty(), inner),
                    None => Ok(()),
                }
            }
            (Type::Result(result), Val::Result(outcome)) => {
                let (tag, name, case, payload) = match outcome {
                    Ok(payload) => (0, "ok", result.ok(), payload),
                    Err(payload) => (1, "err", result.err(), payload),
                };
                self.put(&[tag])?;
                self.payload(ty, value, name, case.as_ref(), payload.as_deref())
            }
            (Type::Flags(flags), Val::Flags(set)) => {
                self.length(set.len())?;
                for name in set {
                    match flags.names().position(|flag| flag == name) {
                        Some(position) => self.length(position)?,
                        None => return Err(self.mismatch(ty, value)),
                    }
                }
                Ok(())
            }
            (ty, _) if !travels(ty) => Err(EncodeError::Value(ValueError::Unsupported {
                place: self.place(),
                ty: type_name(ty),
            })),
            _ => Err(self.mismatch(ty, value)),
        }
    }

    /// Elements of a list. Bytes go in runs, since a list of them is how most data travels.
    fn elements(&mut self, ty: &Type, values: &'v [Val]) -> Result<(), EncodeError> {
        if !matches!(ty, Type::U8) {
            for (position, value) in values.iter().enumerate() {
                self.inner(Step::Index(position), ty, value)?;
            }
            return Ok(());
        }
        let mut run = [0; BLOCK_BYTES];
        for values in values.chunks(BLOCK_BYTES) {
            let mut length = 0;
            for (slot, value) in run.iter_mut().zip(values) {
                let Val::U8(byte) = value else {
                    return Err(self.mismatch(ty, value));
                };
                *slot = *byte;
                length += 1;
            }
            self.put(run.get(..length).unwrap_or_default())?;
        }
        Ok(())
    }

    fn payload(
        &mut self,
        ty: &Type,
        value: &Val,
        name: &'v str,
        case: Option<&Type>,
        payload: Option<&'v Val>,
    ) -> Result<(), EncodeError> {
        match (case, payload) {
            (Some(case), Some(payload)) => self.inner(Step::Name(name), case, payload),
            (None, None) => Ok(()),
            _ => Err(self.mismatch(ty, value)),
        }
    }

    fn inner(&mut self, step: Step<'v>, ty: &Type, value: &'v Val) -> Result<(), EncodeError> {
        self.path.push(step);
        self.value(ty, value)?;
        self.path.pop();
        Ok(())
    }

    fn length(&mut self, length: usize) -> Result<(), EncodeError> {
        let length = u32::try_from(length).map_err(|_| ValueError::TooLarge)?;
        self.put(&length.to_le_bytes())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        #[cfg(feature = "fault-injection")]
        if let Some(hit) = self.hit
            && let Some(hit) = hit.within(self.writer.len(), bytes.len())
        {
            self.hit = None;
            return Ok(self.writer.append_with(bytes, hit)?);
        }
        Ok(self.writer.append(bytes)?)
    }

    fn place(&self) -> String {
        let steps = self.path.iter().map(|step| match step {
            Step::Name(name) => (*name).to_owned(),
            Step::Index(index) => index.to_string(),
        });
        steps.collect::<Vec<_>>().join(".")
    }

    fn mismatch(&self, ty: &Type, value: &Val) -> EncodeError {
        EncodeError::Value(ValueError::Type {
            place: self.place(),
            expected: type_name(ty).to_owned(),
            found: value_name(value),
        })
    }
}

struct Decoder<'a> {
    rest: &'a [u8],
}

impl Decoder<'_> {
    fn value(&mut self, ty: &Type) -> Result<Val, DecodeError> {
        Ok(match ty {
            Type::Bool => match self.array()? {
                [0] => Val::Bool(false),
                [1] => Val::Bool(true),
                _ => return Err(DecodeError),
            },
            Type::U8 => Val::U8(u8::from_le_bytes(self.array()?)),
            Type::S8 => Val::S8(i8::from_le_bytes(self.array()?)),
            Type::U16 => Val::U16(u16::from_le_bytes(self.array()?)),
            Type::S16 => Val::S16(i16::from_le_bytes(self.array()?)),
            Type::U32 => Val::U32(u32::from_le_bytes(self.array()?)),
            Type::S32 => Val::S32(i32::from_le_bytes(self.array()?)),
            Type::U64 => Val::U64(u64::from_le_bytes(self.array()?)),
            Type::S64 => Val::S64(i64::from_le_bytes(self.array()?)),
            Type::Float32 => Val::Float32(f32::from_le_bytes(self.array()?)),
            Type::Float64 => Val::Float64(f64::from_le_bytes(self.array()?)),
            Type::Char => {
                Val::Char(char::from_u32(u32::from_le_bytes(self.array()?)).ok_or(DecodeError)?)
            }
            Type::String => {
                let length = self.length()?;
                let bytes = self.bytes(length)?.to_vec();
                Val::String(String::from_utf8(bytes).map_err(|_| DecodeError)?)
            }
            Type::List(list) => {
                let length = self.length()?;
                let ty = list.ty();
                if matches!(ty, Type::U8) {
                    Val::List(self.bytes(length)?.iter().copied().map(Val::U8).collect())
                } else {
                    // Not reserved up front: the length is only as good as what follows it.
                    let values = (0..length).map(|_| self.value(&ty));
                    Val::List(values.collect::<Result<_, _>>()?)
                }
            }
            Type::Record(record) => Val::Record(
                record
                    .fields()
                    .map(|field| Ok((field.name.to_owned(), self.value(&field.ty)?)))
                    .collect::<Result<_, _>>()?,
            ),
            Type::Tuple(tuple) => Val::Tuple(
                tuple
                    .types()
                    .map(|ty| self.value(&ty))
                    .collect::<Result<_, _>>()?,
            ),
            Type::Variant(variant) => {
                let case = self.length()?;
                let case = variant.cases().nth(case).ok_or(DecodeError)?;
                Val::Variant(case.name.to_owned(), self.payload(case.ty.as_ref())?)
            }
            Type::Enum(cases) => {
                let case = self.length()?;
                Val::Enum(cases.names().nth(case).ok_or(DecodeError)?.to_owned())
            }
            Type::Option(option) => match self.array()? {
                [0] => Val::Option(None),
                [1] => Val::Option(self.payload(Some(&option.ty()))?),
                _ => return Err(DecodeError),
            },
            Type::Result(result) => match self.array()? {
                [0] => Val::Result(Ok(self.payload(result.ok().as_ref())?)),
                [1] => Val::Result(Err(self.payload(result.err().as_ref())?)),
                _ => return Err(DecodeError),
            },
            Type::Flags(flags) => {
                let count = self.length()?;
                let names = (0..count).map(|_| {
                    let position = self.length()?;
                    Ok(flags.names().nth(position).ok_or(DecodeError)?.to_owned())
                });
                Val::Flags(names.collect::<Result<_, _>>()?)
            }
            _ => return Err(DecodeError),
        })
    }

    fn payload(&mut self, ty: Option<&Type>) -> Result<Option<Box<Val>>, DecodeError> {
        ty.map(|ty| self.value(ty).map(Box::new)).transpose()
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| DecodeError)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(DecodeError)?;
        self.rest = rest;
        Ok(*array)
    }

    fn bytes(&mut self, length: usize) -> Result<&[u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(DecodeError)?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// Whether values of the type itself, whatever is in them, travel in a message.
pub(crate) fn travels(ty: &Type) -> bool {
    !matches!(
        ty,
        Type::Own(_)
            | Type::Borrow(_)
            | Type::Future(_)
            | Type::Stream(_)
            | Type::ErrorContext
            | Type::Map(_)
            | Type::FixedLengthList(_)
    )
}

pub(crate) fn type_name(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::S8 => "s8",
        Type::U8 => "u8",
        Type::S16 => "s16",
        Type::U16 => "u16",
        Type::S32 => "s32",
        Type::U32 => "u32",
        Type::S64 => "s64",
        Type::U64 => "u64",
        Type::Float32 => "f32",
        Type::Float64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::List(_) => "list",
        Type::Map(_) => "map",
        Type::FixedLengthList(_) => "fixed-length list",
        Type::Record(_) => "record",
        Type::Tuple(_) => "tuple",
        Type::Variant(_) => "variant",
        Type::Enum(_) => "enum",
        Type::Option(_) => "option",
        Type::Result(_) => "result",
        Type::Flags(_) => "flags",
        Type::Own(_) => "own",
        Type::Borrow(_) => "borrow",
        Type::Future(_) => "future",
        Type::Stream(_) => "stream",
        Type::ErrorContext => "error-context",
    }
}

fn value_name(value: &Val) -> &'static str {
    match value {
        Val::Bool(_) => "bool",
        Val::S8(_) => "s8",
        Val::U8(_) => "u8",
        Val::S16(_) => "s16",
        Val::U16(_) => "u16",
        Val::S32(_) => "s32",
        Val::U32(_) => "u32",
        Val::S64(_) => "s64",
        Val::U64(_) => "u64",
        Val::Float32(_) => "f32",
        Val::Float64(_) => "f64",
        Val::Char(_) => "char",
        Val::String(_) => "string",
        Val::List(_) => "list",
        Val::Map(_) => "map",
        Val::Record(_) => "record",
        Val::Tuple(_) => "tuple",
        Val::Variant(..) => "variant",
        Val::Enum(_) => "enum",
        Val::Option(_) => "option",
        Val::Result(_) => "result",
        Val::Flags(_) => "flags",
        Val::Resource(_) => "resource",
        Val::Future(_) => "future",
        Val::Stream(_) => "stream",
        Val::ErrorContext(_) => "error-context",
        Val::FixedLengthList(_) => "fixed-length list",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic fails the test")]

    use airssys_integrity::VerificationLevel;

    use super::*;
    use crate::message::Pools;

    #[test]
    fn a_result_is_written_into_the_smallest_slot_that_holds_it() {
        let (name, pools) = ("component".parse().unwrap(), Pools::default());
        let messages = Messages::new(VerificationLevel::Full, &name, &pools);
        for (length, pooled) in [(0, true), (500, true), (65_532, true), (65_533, false)] {
            let value = [Val::String("x".repeat(length))];
            let message = encode_results(&messages, &[Type::String], &value).unwrap();
            assert_eq!(message.is_pooled(), pooled, "{length}");
            let bytes = messages.read(&message).unwrap();
            let back = decode([Type::String].iter(), bytes).unwrap();
            assert_eq!(back, value);
        }
    }

    #[test]
    fn values_are_counted_as_they_are_written() {
        let (name, pools) = ("component".parse().unwrap(), Pools::default());
        let messages = Messages::new(VerificationLevel::Standard, &name, &pools);
        for (ty, value) in [
            (Type::Bool, Val::Bool(true)),
            (Type::S8, Val::S8(-1)),
            (Type::U16, Val::U16(1)),
            (Type::Float32, Val::Float32(1.5)),
            (Type::Char, Val::Char('a')),
            (Type::Float64, Val::Float64(1.5)),
            (Type::String, Val::String(String::from("three"))),
        ] {
            let value = [value];
            let message = encode_results(&messages, &[ty], &value).unwrap();
            assert_eq!(message.len(), bytes_of_all(&value, 0), "{value:?}");
        }
    }
}
