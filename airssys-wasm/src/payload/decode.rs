//! Messages into values.

use wasmtime::component::{Type, Val};

use super::{DecodeError, MAX_VALUES_BYTES};
use crate::handles::{Kind, ResourceHandle, kind};

/// Why a message did not become values.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Undecoded {
    Malformed(DecodeError),
    /// They would take more than [`MAX_VALUES_BYTES`].
    TooLarge,
}

impl From<DecodeError> for Undecoded {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

/// Values of these types, from bytes that have just been checked as their level asks for. Handles
/// of these kinds become text.
pub(crate) fn decode<'a>(
    types: impl Iterator<Item = &'a Type>,
    kinds: &[Kind],
    bytes: &[u8],
) -> Result<Vec<Val>, Undecoded> {
    let mut decoder = Decoder {
        kinds,
        bytes: Reader::new(bytes),
        room: MAX_VALUES_BYTES,
    };
    let values = types
        .map(|ty| decoder.value(ty))
        .collect::<Result<_, _>>()?;
    decoder.bytes.end()?;
    Ok(values)
}

/// The bytes of a message, front to back.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn length(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| DecodeError)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(DecodeError)?;
        self.rest = rest;
        Ok(*array)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(DecodeError)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// How many bytes are still to come.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// That nothing is left.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError)
        }
    }
}

struct Decoder<'a> {
    kinds: &'a [Kind],
    bytes: Reader<'a>,
    /// What the values may still take, in bytes.
    room: usize,
}

impl Decoder<'_> {
    /// Counts host memory before it is taken.
    fn take(&mut self, bytes: usize) -> Result<(), Undecoded> {
        self.room = self.room.checked_sub(bytes).ok_or(Undecoded::TooLarge)?;
        Ok(())
    }

    fn name(&mut self, name: &str) -> Result<String, Undecoded> {
        self.take(size_of::<String>() + name.len())?;
        Ok(name.to_owned())
    }

    fn value(&mut self, ty: &Type) -> Result<Val, Undecoded> {
        self.take(size_of::<Val>())?;
        Ok(match ty {
            Type::Bool => match self.bytes.array()? {
                [0] => Val::Bool(false),
                [1] => Val::Bool(true),
                _ => return Err(DecodeError.into()),
            },
            Type::U8 => Val::U8(u8::from_le_bytes(self.bytes.array()?)),
            Type::S8 => Val::S8(i8::from_le_bytes(self.bytes.array()?)),
            Type::U16 => Val::U16(u16::from_le_bytes(self.bytes.array()?)),
            Type::S16 => Val::S16(i16::from_le_bytes(self.bytes.array()?)),
            Type::U32 => Val::U32(u32::from_le_bytes(self.bytes.array()?)),
            Type::S32 => Val::S32(i32::from_le_bytes(self.bytes.array()?)),
            Type::U64 => Val::U64(u64::from_le_bytes(self.bytes.array()?)),
            Type::S64 => Val::S64(i64::from_le_bytes(self.bytes.array()?)),
            Type::Float32 => Val::Float32(f32::from_le_bytes(self.bytes.array()?)),
            Type::Float64 => Val::Float64(f64::from_le_bytes(self.bytes.array()?)),
            Type::Char => Val::Char(
                char::from_u32(u32::from_le_bytes(self.bytes.array()?)).ok_or(DecodeError)?,
            ),
            Type::String => {
                let length = self.bytes.length()?;
                let text = self.bytes.bytes(length)?;
                let text = std::str::from_utf8(text).map_err(|_| DecodeError)?;
                Val::String(self.name(text)?)
            }
            Type::List(list) => {
                let length = self.bytes.length()?;
                let ty = list.ty();
                if matches!(ty, Type::U8) {
                    self.take(length.saturating_mul(size_of::<Val>()))?;
                    Val::List(
                        self.bytes
                            .bytes(length)?
                            .iter()
                            .copied()
                            .map(Val::U8)
                            .collect(),
                    )
                } else {
                    // Not reserved up front: the length is only as good as what follows it.
                    let values = (0..length).map(|_| self.value(&ty));
                    Val::List(values.collect::<Result<_, Undecoded>>()?)
                }
            }
            Type::Record(record) => Val::Record(
                record
                    .fields()
                    .map(|field| Ok((self.name(field.name)?, self.value(&field.ty)?)))
                    .collect::<Result<_, Undecoded>>()?,
            ),
            Type::Tuple(tuple) => Val::Tuple(
                tuple
                    .types()
                    .map(|ty| self.value(&ty))
                    .collect::<Result<_, Undecoded>>()?,
            ),
            Type::Variant(variant) => {
                let case = self.bytes.length()?;
                let case = variant.cases().nth(case).ok_or(DecodeError)?;
                Val::Variant(self.name(case.name)?, self.payload(case.ty.as_ref())?)
            }
            Type::Enum(cases) => {
                let case = self.bytes.length()?;
                Val::Enum(self.name(cases.names().nth(case).ok_or(DecodeError)?)?)
            }
            Type::Option(option) => match self.bytes.array()? {
                [0] => Val::Option(None),
                [1] => Val::Option(self.payload(Some(&option.ty()))?),
                _ => return Err(DecodeError.into()),
            },
            Type::Result(result) => match self.bytes.array()? {
                [0] => Val::Result(Ok(self.payload(result.ok().as_ref())?)),
                [1] => Val::Result(Err(self.payload(result.err().as_ref())?)),
                _ => return Err(DecodeError.into()),
            },
            Type::Flags(flags) => {
                let count = self.bytes.length()?;
                let names = (0..count).map(|_| {
                    let position = self.bytes.length()?;
                    self.name(flags.names().nth(position).ok_or(DecodeError)?)
                });
                Val::Flags(names.collect::<Result<_, Undecoded>>()?)
            }
            Type::Own(of) | Type::Borrow(of) => {
                let kind = kind(self.kinds, of).ok_or(DecodeError)?;
                let handle = ResourceHandle::decode(kind, &mut self.bytes)?;
                Val::String(self.name(&handle.to_string())?)
            }
            _ => return Err(DecodeError.into()),
        })
    }

    fn payload(&mut self, ty: Option<&Type>) -> Result<Option<Box<Val>>, Undecoded> {
        ty.map(|ty| self.value(ty).map(Box::new)).transpose()
    }
}
