//! Results out of a guest, every byte of which may be a lie.
//!
//! They are walked twice: once to count what they take in a message, so that nothing is allocated
//! for more than may be, and once to write them. The guest does not run in between.

use airssys_integrity::Corrupt;
use airssys_rt::OutOfMemory;
use wasmtime::ValRaw;
use wasmtime::component::__internal::wasmtime_environ::component::{
    MAX_FLAT_RESULTS, StringEncoding, VariantInfo,
};
use wasmtime::component::__internal::{ComponentTypes, InterfaceType, LiftContext};
use wasmtime::component::{Lift, ResourceAny};

use super::{Lifted, Passage};
use crate::handles::{ENCODED_BYTES, Handles};
use crate::limits::Charge;
use crate::message::{Message, Runs, Way};
use crate::payload::{EncodeError, ValueError};

/// Set in the length of a text that is UTF-16 where a guest says its texts are Latin-1 or that.
const UTF16_TAG: usize = 1 << 31;

/// How a guest's result broke the canonical ABI. The instance has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AbiViolation {
    /// A pointer, or its length, leads out of the guest's memory.
    #[error("pointer {pointer:#x} with {length} elements is out of bounds of memory")]
    OutOfBounds {
        /// Where it points.
        pointer: usize,
        /// Elements said to be there; code units of a text.
        length: usize,
    },
    /// A pointer is not aligned as its type asks for.
    #[error("pointer {pointer:#x} is not aligned to {align}")]
    Misaligned {
        /// Where it points.
        pointer: usize,
        /// What it should be a multiple of, in bytes.
        align: usize,
    },
    /// No case of a variant, enum, option or result.
    #[error("discriminant {found} out of range, there are {cases} cases")]
    Discriminant {
        /// What was returned.
        found: u32,
        /// How many cases there are.
        cases: usize,
    },
    /// Not a Unicode scalar value.
    #[error("{0:#x} is not a char")]
    Char(u32),
    /// A text that is not in the encoding it should be in.
    #[error("invalid text")]
    Text,
    /// A type of value that does not travel in a message.
    #[error("a value of a type that does not travel in a message")]
    Type,
}

/// Reads all results into a message. Results that are as they should be and yet do not become a
/// message are no error; those that the instance's limit has no room for are.
pub(super) fn results(
    cx: &mut LiftContext<'_>,
    ty: InterfaceType,
    slot: ValRaw,
    passage: &Passage,
) -> wasmtime::Result<Lifted> {
    let guest = Guest {
        types: cx.types,
        memory: cx.memory(),
        encoding: cx.options().string_encoding,
    };
    let (mut charge, mut taken) = (None, Vec::new());
    let message = match message(guest, (ty, slot), passage, &mut charge, &mut taken) {
        Ok(message) => Ok(message),
        Err(Stop::Unfit(unfit)) => Err(unfit),
        Err(Stop::Guest(violation)) => return Err(violation.into()),
        Err(Stop::Damaged(corrupt)) => return Err(corrupt.into()),
        Err(Stop::NoRoom(refused)) => return Err(refused.into()),
    };
    hold(cx, &passage.handles, taken)?;
    Ok(Lifted {
        message,
        _charge: charge,
    })
}

fn message(
    guest: Guest<'_>,
    (ty, slot): (InterfaceType, ValRaw),
    passage: &Passage,
    charge: &mut Option<Charge>,
    taken: &mut Vec<Taken>,
) -> Result<Message, Stop> {
    let bytes = size(guest, (ty, slot), passage.messages.limit(Way::Out))?;
    *charge = passage.charge(bytes)?;
    let writer = passage.messages.writer(Way::Out, bytes);
    let mut writer = writer.map_err(Stop::Unfit)?;
    let mut runs = Runs::new(&mut writer);
    let mut writing = Writing {
        runs: &mut runs,
        handles: &passage.handles,
        taken,
    };
    guest.results(ty, slot, &mut writing)?;
    runs.end()?;
    Ok(writer.finish())
}

fn size(
    guest: Guest<'_>,
    (ty, slot): (InterfaceType, ValRaw),
    limit: usize,
) -> Result<usize, Stop> {
    let mut count = Count { bytes: 0, limit };
    guest.results(ty, slot, &mut count)?;
    Ok(count.bytes)
}

/// Takes from the guest what the message has handles of.
fn hold(cx: &mut LiftContext<'_>, handles: &Handles, taken: Vec<Taken>) -> wasmtime::Result<()> {
    for Taken { ty, index, number } in taken {
        let index = ValRaw::u32(index);
        let resource = ResourceAny::linear_lift_from_flat(cx, ty, &index)?;
        handles.hold(number, resource);
    }
    Ok(())
}

/// Why a walk ended early.
enum Stop {
    Unfit(ValueError),
    Guest(AbiViolation),
    Damaged(Corrupt),
    NoRoom(OutOfMemory),
}

impl From<OutOfMemory> for Stop {
    fn from(refused: OutOfMemory) -> Self {
        Self::NoRoom(refused)
    }
}

impl From<AbiViolation> for Stop {
    fn from(violation: AbiViolation) -> Self {
        Self::Guest(violation)
    }
}

impl From<EncodeError> for Stop {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::Value(unfit) => Self::Unfit(unfit),
            EncodeError::Damaged(corrupt) => Self::Damaged(corrupt),
        }
    }
}

/// A resource that goes from the guest to its callers once the message is whole.
struct Taken {
    ty: InterfaceType,
    /// The guest's own number for it.
    index: u32,
    /// The handle's.
    number: u64,
}

/// Writes the message.
struct Writing<'p, 'w> {
    runs: &'p mut Runs<'w>,
    handles: &'p Handles,
    taken: &'p mut Vec<Taken>,
}

/// What takes the bytes of a walk.
trait Sink {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stop>;

    /// Bytes that should be UTF-8.
    fn put_text(&mut self, bytes: &[u8]) -> Result<(), Stop>;

    /// Many values of a type with a [`plain_size`], as they lie in the guest's memory.
    fn put_plain(&mut self, ty: InterfaceType, bytes: &[u8]) -> Result<(), Stop>;

    /// A resource that the guest gives away, by its own number for it.
    fn put_resource(&mut self, ty: InterfaceType, index: u32) -> Result<(), Stop>;
}

/// Counts them and stops at the limit.
struct Count {
    bytes: usize,
    limit: usize,
}

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > self.limit {
            let limit_bytes = self.limit;
            return Err(Stop::Unfit(ValueError::TooLarge { limit_bytes }));
        }
        Ok(())
    }

    fn put_text(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.put(bytes)
    }

    fn put_plain(&mut self, _: InterfaceType, bytes: &[u8]) -> Result<(), Stop> {
        self.put(bytes)
    }

    fn put_resource(&mut self, _: InterfaceType, _: u32) -> Result<(), Stop> {
        self.put(&[0; ENCODED_BYTES])
    }
}

impl Sink for Writing<'_, '_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        Ok(self.runs.put(bytes)?)
    }

    fn put_resource(&mut self, ty: InterfaceType, index: u32) -> Result<(), Stop> {
        let (number, handle) = self.handles.next();
        self.taken.push(Taken { ty, index, number });
        self.put(&handle)
    }

    fn put_text(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        std::str::from_utf8(bytes).map_err(|_| AbiViolation::Text)?;
        Sink::put(self, bytes)
    }

    fn put_plain(&mut self, ty: InterfaceType, bytes: &[u8]) -> Result<(), Stop> {
        match ty {
            // Any byte but zero is true.
            InterfaceType::Bool => {
                let mut bools = bytes.iter().map(|byte| u8::from(*byte != 0));
                bools.try_for_each(|bool| Sink::put(self, &[bool]))
            }
            InterfaceType::Char => {
                let (chars, _) = bytes.as_chunks::<4>();
                for char in chars {
                    check_char(u32::from_le_bytes(*char))?;
                }
                Sink::put(self, bytes)
            }
            _ => Sink::put(self, bytes),
        }
    }
}

/// Bytes that a value of this type takes both in a message and in a guest's memory, where it has
/// the same bytes in both.
pub(super) fn plain_size(ty: InterfaceType) -> Option<usize> {
    match ty {
        InterfaceType::Bool | InterfaceType::U8 | InterfaceType::S8 => Some(1),
        InterfaceType::U16 | InterfaceType::S16 => Some(2),
        InterfaceType::U32 | InterfaceType::S32 | InterfaceType::Float32 | InterfaceType::Char => {
            Some(4)
        }
        InterfaceType::U64 | InterfaceType::S64 | InterfaceType::Float64 => Some(8),
        _ => None,
    }
}

/// A guest that has returned.
#[derive(Clone, Copy)]
struct Guest<'a> {
    types: &'a ComponentTypes,
    memory: &'a [u8],
    encoding: StringEncoding,
}

impl<'a> Guest<'a> {
    fn results(self, ty: InterfaceType, slot: ValRaw, sink: &mut impl Sink) -> Result<(), Stop> {
        let InterfaceType::Tuple(index) = ty else {
            return Err(AbiViolation::Type.into());
        };
        let results = &self.types[index];
        if results.abi.flat_count(MAX_FLAT_RESULTS).is_some() {
            return self.flat(ty, slot, sink);
        }
        let pointer = size_of_u32(slot.get_u32());
        let all = self.array(pointer, 1, results.abi.size32, results.abi.align32)?;
        self.load(ty, all, sink)
    }

    /// A value in one slot: a scalar, or what has nothing else in it.
    fn flat(self, ty: InterfaceType, slot: ValRaw, sink: &mut impl Sink) -> Result<(), Stop> {
        match ty {
            InterfaceType::Record(index) => {
                let mut fields = self.types[index].fields.iter();
                fields.try_for_each(|field| self.flat(field.ty, slot, sink))
            }
            InterfaceType::Tuple(index) => {
                let mut types = self.types[index].types.iter();
                types.try_for_each(|ty| self.flat(*ty, slot, sink))
            }
            InterfaceType::Bool => sink.put(&[u8::from(slot.get_u32() != 0)]),
            InterfaceType::Char => char(slot.get_u32(), sink),
            InterfaceType::Flags(index) => {
                let words = slot.get_u32().to_le_bytes();
                flags(self.types[index].names.len(), &words, sink)
            }
            InterfaceType::Enum(_)
            | InterfaceType::Variant(_)
            | InterfaceType::Option(_)
            | InterfaceType::Result(_) => {
                // One slot is taken by the case, so no case has a payload with a slot of its own.
                self.case(ty, slot.get_u32(), sink).map(|_| ())
            }
            InterfaceType::Own(_) => sink.put_resource(ty, slot.get_u32()),
            _ => {
                let size = plain_size(ty).ok_or(AbiViolation::Type)?;
                let wide = match size {
                    8 => slot.get_u64().to_le_bytes(),
                    _ => u64::from(slot.get_u32()).to_le_bytes(),
                };
                sink.put(wide.get(..size).unwrap_or_default())
            }
        }
    }

    /// A value in the guest's memory: `bytes` are as many as its type takes.
    fn load(self, ty: InterfaceType, bytes: &'a [u8], sink: &mut impl Sink) -> Result<(), Stop> {
        match ty {
            InterfaceType::Bool => {
                let [byte] = array(bytes)?;
                sink.put(&[u8::from(byte != 0)])
            }
            InterfaceType::Char => char(u32::from_le_bytes(array(bytes)?), sink),
            InterfaceType::String => {
                let (pointer, length) = pair(bytes)?;
                self.text(pointer, length, sink)
            }
            InterfaceType::List(index) => {
                let (pointer, length) = pair(bytes)?;
                self.list(self.types[index].element, pointer, length, sink)
            }
            InterfaceType::Record(index) => {
                let fields = self.types[index].fields.iter();
                self.fields(fields.map(|field| field.ty), bytes, sink)
            }
            InterfaceType::Tuple(index) => {
                self.fields(self.types[index].types.iter().copied(), bytes, sink)
            }
            InterfaceType::Flags(index) => flags(self.types[index].names.len(), bytes, sink),
            InterfaceType::Enum(index) => self.stored(ty, &self.types[index].info, bytes, sink),
            InterfaceType::Variant(index) => self.stored(ty, &self.types[index].info, bytes, sink),
            InterfaceType::Option(index) => self.stored(ty, &self.types[index].info, bytes, sink),
            InterfaceType::Result(index) => self.stored(ty, &self.types[index].info, bytes, sink),
            InterfaceType::Own(_) => sink.put_resource(ty, u32::from_le_bytes(array(bytes)?)),
            _ => {
                let size = plain_size(ty).ok_or(AbiViolation::Type)?;
                sink.put(part(bytes, 0, size)?)
            }
        }
    }

    fn fields(
        self,
        fields: impl Iterator<Item = InterfaceType>,
        bytes: &'a [u8],
        sink: &mut impl Sink,
    ) -> Result<(), Stop> {
        let mut end = 0;
        for ty in fields {
            let abi = self.types.canonical_abi(&ty);
            let start = abi.next_field32_size(&mut end);
            self.load(ty, part(bytes, start, end - start)?, sink)?;
        }
        Ok(())
    }

    /// A variant or the like in memory: its case, and the payload of that case.
    fn stored(
        self,
        ty: InterfaceType,
        info: &VariantInfo,
        bytes: &'a [u8],
        sink: &mut impl Sink,
    ) -> Result<(), Stop> {
        let mut found = [0; 4];
        let size = usize::from(info.size);
        let target = found.get_mut(..size).ok_or(AbiViolation::Type)?;
        target.copy_from_slice(part(bytes, 0, size)?);
        let found = u32::from_le_bytes(found);
        let Some(payload) = self.case(ty, found, sink)? else {
            return Ok(());
        };
        let size = size_of_u32(self.types.canonical_abi(&payload).size32);
        let payload_at = size_of_u32(info.payload_offset32);
        self.load(payload, part(bytes, payload_at, size)?, sink)
    }

    /// Puts the number of a case, and tells the type of its payload.
    fn case(
        self,
        ty: InterfaceType,
        found: u32,
        sink: &mut impl Sink,
    ) -> Result<Option<InterfaceType>, Stop> {
        let case = size_of_u32(found);
        let (cases, payload, bytes) = match ty {
            InterfaceType::Enum(index) => {
                let cases = self.types[index].names.len();
                (cases, (case < cases).then_some(None), 4)
            }
            InterfaceType::Variant(index) => {
                let cases = &self.types[index].cases;
                let payload = cases.get_index(case).map(|(_, payload)| *payload);
                (cases.len(), payload, 4)
            }
            InterfaceType::Option(index) => {
                let payloads = [None, Some(self.types[index].ty)];
                (2, payloads.get(case).copied(), 1)
            }
            InterfaceType::Result(index) => {
                let of = &self.types[index];
                (2, [of.ok, of.err].get(case).copied(), 1)
            }
            _ => return Err(AbiViolation::Type.into()),
        };
        let payload = payload.ok_or(AbiViolation::Discriminant { found, cases })?;
        sink.put(found.to_le_bytes().get(..bytes).unwrap_or_default())?;
        Ok(payload)
    }

    fn list(
        self,
        element: InterfaceType,
        pointer: usize,
        length: usize,
        sink: &mut impl Sink,
    ) -> Result<(), Stop> {
        let abi = self.types.canonical_abi(&element);
        let elements = self.array(pointer, length, abi.size32, abi.align32)?;
        put_length(length, sink)?;
        if plain_size(element).is_some() {
            return sink.put_plain(element, elements);
        }
        // A type takes a byte at least, so that there is nothing left over.
        let mut each = elements.chunks_exact(size_of_u32(abi.size32).max(1));
        each.try_for_each(|bytes| self.load(element, bytes, sink))
    }

    /// The bytes of `length` elements, where they lie in the guest's memory as they should.
    fn array(
        self,
        pointer: usize,
        length: usize,
        size: u32,
        align: u32,
    ) -> Result<&'a [u8], AbiViolation> {
        let total = length.checked_mul(size_of_u32(size));
        let end = total.and_then(|total| pointer.checked_add(total));
        let bytes = end.and_then(|end| self.memory.get(pointer..end));
        let bytes = bytes.ok_or(AbiViolation::OutOfBounds { pointer, length })?;
        let align = size_of_u32(align);
        if !pointer.is_multiple_of(align) {
            return Err(AbiViolation::Misaligned { pointer, align });
        }
        Ok(bytes)
    }

    fn text(self, pointer: usize, length: usize, sink: &mut impl Sink) -> Result<(), Stop> {
        match self.encoding {
            StringEncoding::Utf8 => {
                let bytes = self.array(pointer, length, 1, 1)?;
                put_length(length, sink)?;
                sink.put_text(bytes)
            }
            StringEncoding::Utf16 => self.utf16(pointer, length, sink),
            StringEncoding::CompactUtf16 if length & UTF16_TAG != 0 => {
                self.utf16(pointer, length ^ UTF16_TAG, sink)
            }
            StringEncoding::CompactUtf16 => {
                let bytes = self.array(pointer, length, 1, 2)?;
                put_chars(|| bytes.iter().map(|byte| Ok(char::from(*byte))), sink)
            }
        }
    }

    fn utf16(self, pointer: usize, units: usize, sink: &mut impl Sink) -> Result<(), Stop> {
        let (units, _) = self.array(pointer, units, 2, 2)?.as_chunks::<2>();
        let chars = || {
            let units = units.iter().map(|unit| u16::from_le_bytes(*unit));
            char::decode_utf16(units).map(|char| char.map_err(|_| AbiViolation::Text))
        };
        put_chars(chars, sink)
    }
}

/// Puts a text of these characters, which are told twice: a length goes before it.
fn put_chars<C>(chars: impl Fn() -> C, sink: &mut impl Sink) -> Result<(), Stop>
where
    C: Iterator<Item = Result<char, AbiViolation>>,
{
    let mut length = 0;
    for char in chars() {
        length += char?.len_utf8();
    }
    put_length(length, sink)?;
    for char in chars() {
        sink.put(char?.encode_utf8(&mut [0; 4]).as_bytes())?;
    }
    Ok(())
}

fn put_length(length: usize, sink: &mut impl Sink) -> Result<(), Stop> {
    // No length of a guest's is longer: it comes from 32 bits, or is of a text in its memory.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    sink.put(&length.to_le_bytes())
}

fn char(found: u32, sink: &mut impl Sink) -> Result<(), Stop> {
    check_char(found)?;
    sink.put(&found.to_le_bytes())
}

fn check_char(found: u32) -> Result<(), AbiViolation> {
    match char::from_u32(found) {
        Some(_) => Ok(()),
        None => Err(AbiViolation::Char(found)),
    }
}

/// Puts which of `count` flags are set; bits beyond them have no meaning.
fn flags(count: usize, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Stop> {
    let set = |flag: &usize| {
        let byte = bytes.get(flag / 8).copied().unwrap_or(0);
        byte & (1 << (flag % 8)) != 0
    };
    put_length((0..count).filter(set).count(), sink)?;
    (0..count)
        .filter(set)
        .try_for_each(|flag| put_length(flag, sink))
}

fn pair(bytes: &[u8]) -> Result<(usize, usize), AbiViolation> {
    let pointer = u32::from_le_bytes(array(bytes)?);
    let length = u32::from_le_bytes(array(part(bytes, 4, 4)?)?);
    Ok((size_of_u32(pointer), size_of_u32(length)))
}

fn part(bytes: &[u8], start: usize, length: usize) -> Result<&[u8], AbiViolation> {
    let rest = bytes.get(start..);
    rest.and_then(|rest| rest.get(..length))
        .ok_or(AbiViolation::Type)
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], AbiViolation> {
    bytes.first_chunk().copied().ok_or(AbiViolation::Type)
}

/// wasmtime runs on machines whose `usize` holds a u32.
fn size_of_u32(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
