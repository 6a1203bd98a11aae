//! Values into messages, each checked against its type.

use airssys_integrity::BLOCK_BYTES;
use wasmtime::component::{Type, Val};

use super::{EncodeError, MAX_DEPTH, ValueError, travels, type_name, value_name};
use crate::handles::{ENCODED_BYTES, Kind, ResourceHandle, kind};
use crate::message::{Message, Messages, Runs, Way, Writer};

/// The arguments of a call, checked against its parameters; `kinds` are the resources that may be
/// among them.
pub(crate) fn encode_arguments(
    messages: &Messages,
    params: &[(String, Type)],
    values: &[Val],
    kinds: &[Kind],
) -> Result<Message, EncodeError> {
    let mut bytes = bytes_of_all(values, 0);
    if !kinds.is_empty() {
        // The shortest text of a handle counts as half of it at least.
        let most = messages.limit(Way::In).max(bytes);
        bytes = bytes.saturating_mul(2).min(most);
    }
    let mut writer = messages.writer(Way::In, bytes)?;
    Encoder::new(&mut writer, kinds).arguments(params, values)?;
    Ok(writer.finish())
}

/// One value by itself.
#[cfg(feature = "json")]
pub(crate) fn encode_one(
    mut writer: Writer,
    ty: &Type,
    value: &Val,
) -> Result<Message, EncodeError> {
    let mut encoder = Encoder::new(&mut writer, &[]);
    encoder.value(ty, value)?;
    encoder.runs.end()?;
    Ok(writer.finish())
}

/// The one argument of a function that takes bytes or a text.
pub(crate) fn encode_run(messages: &Messages, run: &[u8]) -> Result<Message, EncodeError> {
    let bytes = run.len().saturating_add(size_of::<u32>());
    let mut writer = messages.writer(Way::In, bytes)?;
    let mut runs = Runs::new(&mut writer);
    runs.put(&prefix(run.len())?)?;
    runs.put(run)?;
    runs.end()?;
    Ok(writer.finish())
}

pub(crate) fn prefix(length: usize) -> Result<[u8; 4], ValueError> {
    let limit_bytes = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
    let length = u32::try_from(length).map_err(|_| ValueError::TooLarge { limit_bytes })?;
    Ok(length.to_le_bytes())
}

/// As [`encode_arguments`], with a hit on the way.
#[cfg(feature = "fault-injection")]
pub(crate) fn encode_with_hit(
    messages: &Messages,
    params: &[(String, Type)],
    values: &[Val],
    hit: crate::fault::Hit,
) -> Result<Message, EncodeError> {
    let mut writer = messages.writer(Way::In, bytes_of_all(values, 0))?;
    let mut encoder = Encoder::new(&mut writer, &[]);
    encoder.runs.hit(hit);
    encoder.arguments(params, values)?;
    Ok(writer.finish())
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
    runs: Runs<'v>,
    path: Vec<Step<'v>>,
    kinds: &'v [Kind],
}

impl<'v> Encoder<'v> {
    fn new(writer: &'v mut Writer, kinds: &'v [Kind]) -> Self {
        Self {
            runs: Runs::new(writer),
            path: Vec::new(),
            kinds,
        }
    }

    fn arguments(
        mut self,
        params: &'v [(String, Type)],
        values: &'v [Val],
    ) -> Result<(), EncodeError> {
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
        self.runs.end()
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
            (Type::Own(of) | Type::Borrow(of), Val::String(text)) => {
                let Some(kind) = kind(self.kinds, of) else {
                    return Err(self.unsupported(ty));
                };
                let handle = text.parse().and_then(|h: ResourceHandle| h.encode(kind));
                let handle: [u8; ENCODED_BYTES] = handle.map_err(|source| {
                    let place = self.place().into();
                    ValueError::Handle { place, source }
                })?;
                self.put(&handle)
            }
            (Type::Own(of) | Type::Borrow(of), _) if kind(self.kinds, of).is_some() => {
                Err(self.mismatch(ty, value))
            }
            (ty, _) if !travels(ty) => Err(self.unsupported(ty)),
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
        self.put(&prefix(length)?)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.runs.put(bytes)
    }

    fn place(&self) -> String {
        let steps = self.path.iter().map(|step| match step {
            Step::Name(name) => (*name).to_owned(),
            Step::Index(index) => index.to_string(),
        });
        steps.collect::<Vec<_>>().join(".")
    }

    fn unsupported(&self, ty: &Type) -> EncodeError {
        EncodeError::Value(ValueError::Unsupported {
            place: self.place(),
            ty: type_name(ty),
        })
    }

    fn mismatch(&self, ty: &Type, value: &Val) -> EncodeError {
        EncodeError::Value(ValueError::Type {
            place: self.place(),
            expected: type_name(ty).to_owned(),
            found: value_name(value),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic fails the test")]

    use airssys_integrity::VerificationLevel;

    use super::*;
    use crate::limits::MessageConfig;
    use crate::message::Pools;

    #[test]
    fn values_are_counted_as_they_are_written() {
        let (name, pools) = ("component".parse().unwrap(), Pools::default());
        let messages = Messages::new(
            VerificationLevel::Standard,
            MessageConfig::default(),
            &name,
            &pools,
        );
        for (ty, value) in [
            (Type::Bool, Val::Bool(true)),
            (Type::S8, Val::S8(-1)),
            (Type::U16, Val::U16(1)),
            (Type::Float32, Val::Float32(1.5)),
            (Type::Char, Val::Char('a')),
            (Type::Float64, Val::Float64(1.5)),
            (Type::String, Val::String(String::from("three"))),
        ] {
            let (param, value) = ([(String::from("value"), ty)], [value]);
            let message = encode_arguments(&messages, &param, &value, &[]).unwrap();
            assert_eq!(message.len(), bytes_of_all(&value, 0), "{value:?}");
        }
    }
}
