//! Messages into values.

use wasmtime::component::{Type, Val};

use super::DecodeError;

/// Values of these types, from bytes that have just been checked as their level asks for.
pub(crate) fn decode<'a>(
    types: impl Iterator<Item = &'a Type>,
    bytes: &[u8],
) -> Result<Vec<Val>, DecodeError> {
    let mut decoder = Decoder {
        bytes: Reader::new(bytes),
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
    bytes: Reader<'a>,
}

impl Decoder<'_> {
    fn value(&mut self, ty: &Type) -> Result<Val, DecodeError> {
        Ok(match ty {
            Type::Bool => match self.bytes.array()? {
                [0] => Val::Bool(false),
                [1] => Val::Bool(true),
                _ => return Err(DecodeError),
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
                let bytes = self.bytes.bytes(length)?.to_vec();
                Val::String(String::from_utf8(bytes).map_err(|_| DecodeError)?)
            }
            Type::List(list) => {
                let length = self.bytes.length()?;
                let ty = list.ty();
                if matches!(ty, Type::U8) {
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
                let case = self.bytes.length()?;
                let case = variant.cases().nth(case).ok_or(DecodeError)?;
                Val::Variant(case.name.to_owned(), self.payload(case.ty.as_ref())?)
            }
            Type::Enum(cases) => {
                let case = self.bytes.length()?;
                Val::Enum(cases.names().nth(case).ok_or(DecodeError)?.to_owned())
            }
            Type::Option(option) => match self.bytes.array()? {
                [0] => Val::Option(None),
                [1] => Val::Option(self.payload(Some(&option.ty()))?),
                _ => return Err(DecodeError),
            },
            Type::Result(result) => match self.bytes.array()? {
                [0] => Val::Result(Ok(self.payload(result.ok().as_ref())?)),
                [1] => Val::Result(Err(self.payload(result.err().as_ref())?)),
                _ => return Err(DecodeError),
            },
            Type::Flags(flags) => {
                let count = self.bytes.length()?;
                let names = (0..count).map(|_| {
                    let position = self.bytes.length()?;
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
}
