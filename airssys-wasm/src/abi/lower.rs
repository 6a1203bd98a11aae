//! Arguments into a guest.
//!
//! The message has been checked as its level asks for; what it says is still taken for what the
//! types of the function allow, and anything else is a [`DecodeError`].

use std::slice::IterMut;

use wasmtime::ValRaw;
use wasmtime::component::__internal::wasmtime_environ::component::{MAX_FLAT_PARAMS, VariantInfo};
use wasmtime::component::__internal::{ComponentTypes, InterfaceType, LowerContext};
use wasmtime::component::{Lower, ResourceAny};

use super::lift::plain_size;
use crate::handles::{Handles, decoded};
use crate::message::{Message, Messages};
use crate::payload::{DecodeError, Reader};

/// Lowers all parameters, into `slots` or, where they are more than fit there, into the guest's
/// memory.
pub(super) fn parameters<T>(
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
    bytes: &[u8],
    slots: &mut [ValRaw; MAX_FLAT_PARAMS],
    handles: &Handles,
) -> wasmtime::Result<()> {
    let InterfaceType::Tuple(index) = ty else {
        return Err(DecodeError.into());
    };
    let types = cx.types;
    let params = &types[index];
    let mut lowering = Lowering {
        types,
        cx,
        message: Reader::new(bytes),
        handles,
    };
    let flat = params.abi.flat_count(MAX_FLAT_PARAMS).is_some();
    let all = params.types.iter().copied();
    if flat {
        lowering.fields(all, &mut Place::Flat(&mut slots.iter_mut()))?;
    } else {
        let size = usize::try_from(params.abi.size32)?;
        let at = lowering.cx.realloc(0, 0, params.abi.align32, size)?;
        lowering.fields(all, &mut Place::Memory(at))?;
        next(&mut slots.iter_mut(), pointer(at)?)?;
    }
    lowering.message.end()?;
    Ok(())
}

/// Whether the only parameter is a list of bytes.
pub(super) fn takes_bytes<T>(cx: &LowerContext<'_, T>, ty: InterfaceType) -> bool {
    let InterfaceType::Tuple(index) = ty else {
        return false;
    };
    match &cx.types[index].types[..] {
        [InterfaceType::List(list)] => cx.types[*list].element == InterfaceType::U8,
        _ => false,
    }
}

/// Lowers a list of bytes that is the only parameter. It is checked by the pass that copies it: bytes
/// that are damaged end the instance before it runs again.
pub(super) fn bytes<T>(
    cx: &mut LowerContext<'_, T>,
    messages: &Messages,
    message: &Message,
    slots: &mut [ValRaw; MAX_FLAT_PARAMS],
) -> wasmtime::Result<()> {
    let prefix = size_of::<u32>();
    let length = messages.len(message)?;
    let length = length.checked_sub(prefix).ok_or(DecodeError)?;
    let at = cx.realloc(0, 0, 1, length)?;
    let memory = cx.as_slice_mut().get_mut(at..);
    let target = memory.and_then(|memory| memory.get_mut(..length));
    messages.read_to(message, prefix, target.ok_or(DecodeError)?)?;
    // The prefix has been checked with the bytes behind it.
    if Reader::new(message.unverified()).length()? != length {
        return Err(DecodeError.into());
    }
    let mut slots = slots.iter_mut();
    next(&mut slots, pointer(at)?)?;
    next(&mut slots, pointer(length)?)
}

/// Where a value goes.
enum Place<'s, 'f> {
    /// The next slots.
    Flat(&'s mut IterMut<'f, ValRaw>),
    /// This offset in the guest's memory, within what its `realloc` has given and aligned for the
    /// value.
    Memory(usize),
}

impl<'f> Place<'_, 'f> {
    fn reborrow(&mut self) -> Place<'_, 'f> {
        match self {
            Place::Flat(slots) => Place::Flat(slots),
            Place::Memory(at) => Place::Memory(*at),
        }
    }
}

fn next(slots: &mut IterMut<'_, ValRaw>, value: ValRaw) -> wasmtime::Result<()> {
    *slots.next().ok_or(DecodeError)? = value;
    Ok(())
}

fn pointer(at: usize) -> wasmtime::Result<ValRaw> {
    Ok(ValRaw::u64(u64::try_from(at)?))
}

struct Lowering<'c, 'a, 'm, T: 'static> {
    types: &'a ComponentTypes,
    cx: &'c mut LowerContext<'a, T>,
    message: Reader<'m>,
    handles: &'m Handles,
}

impl<T: 'static> Lowering<'_, '_, '_, T> {
    fn value(&mut self, ty: InterfaceType, place: Place<'_, '_>) -> wasmtime::Result<()> {
        let types = self.types;
        match ty {
            InterfaceType::Bool => {
                let bytes = self.message.array()?;
                check_plain(ty, &bytes)?;
                self.scalar(place, ValRaw::u32(u8::from_le_bytes(bytes).into()), &bytes)
            }
            InterfaceType::U8 => {
                let bytes = self.message.array()?;
                self.scalar(place, ValRaw::u32(u8::from_le_bytes(bytes).into()), &bytes)
            }
            InterfaceType::S8 => {
                let bytes = self.message.array()?;
                self.scalar(place, ValRaw::i32(i8::from_le_bytes(bytes).into()), &bytes)
            }
            InterfaceType::U16 => {
                let bytes = self.message.array()?;
                self.scalar(place, ValRaw::u32(u16::from_le_bytes(bytes).into()), &bytes)
            }
            InterfaceType::S16 => {
                let bytes = self.message.array()?;
                self.scalar(place, ValRaw::i32(i16::from_le_bytes(bytes).into()), &bytes)
            }
            // A float travels as its bits, so that a NaN keeps its payload.
            InterfaceType::U32
            | InterfaceType::S32
            | InterfaceType::Float32
            | InterfaceType::Char => {
                let bytes = self.message.array()?;
                check_plain(ty, &bytes)?;
                self.scalar(place, ValRaw::u32(u32::from_le_bytes(bytes)), &bytes)
            }
            InterfaceType::U64 | InterfaceType::S64 | InterfaceType::Float64 => {
                let bytes = self.message.array()?;
                self.scalar(place, ValRaw::u64(u64::from_le_bytes(bytes)), &bytes)
            }
            InterfaceType::String => self.text(place),
            InterfaceType::List(index) => self.list(types[index].element, place),
            InterfaceType::Record(index) => {
                let fields = types[index].fields.iter().map(|field| field.ty);
                self.fields(fields, &mut { place })
            }
            InterfaceType::Tuple(index) => {
                self.fields(types[index].types.iter().copied(), &mut { place })
            }
            InterfaceType::Flags(index) => self.flags(ty, types[index].names.len(), place),
            InterfaceType::Enum(index) => {
                let of = &types[index];
                let case = self.message.length()?;
                let known = (case < of.names.len()).then_some(None);
                self.case(ty, &of.info, case, known, place)
            }
            InterfaceType::Variant(index) => {
                let of = &types[index];
                let case = self.message.length()?;
                let payload = of.cases.get_index(case).map(|(_, payload)| *payload);
                self.case(ty, &of.info, case, payload, place)
            }
            InterfaceType::Option(index) => {
                let of = &types[index];
                let [case] = self.message.array()?;
                let payload = [None, Some(of.ty)].get(usize::from(case)).copied();
                self.case(ty, &of.info, case.into(), payload, place)
            }
            InterfaceType::Result(index) => {
                let of = &types[index];
                let [case] = self.message.array()?;
                let payload = [of.ok, of.err].get(usize::from(case)).copied();
                self.case(ty, &of.info, case.into(), payload, place)
            }
            InterfaceType::Own(_) => {
                let (_, number) = decoded(&mut self.message)?;
                self.resource(ty, self.handles.give(number), place)
            }
            InterfaceType::Borrow(_) => {
                let (_, number) = decoded(&mut self.message)?;
                self.resource(ty, self.handles.lend(number), place)
            }
            // `Exports::callable` refuses functions with these.
            InterfaceType::Future(_)
            | InterfaceType::Stream(_)
            | InterfaceType::ErrorContext(_)
            | InterfaceType::Map(_)
            | InterfaceType::FixedLengthList(_) => Err(DecodeError.into()),
        }
    }

    /// Values one after the other, each aligned as its type asks for.
    fn fields(
        &mut self,
        fields: impl Iterator<Item = InterfaceType>,
        place: &mut Place<'_, '_>,
    ) -> wasmtime::Result<()> {
        for ty in fields {
            let here = match &mut *place {
                Place::Flat(slots) => Place::Flat(slots),
                Place::Memory(end) => {
                    Place::Memory(self.types.canonical_abi(&ty).next_field32_size(end))
                }
            };
            self.value(ty, here)?;
        }
        Ok(())
    }

    fn scalar(&mut self, place: Place<'_, '_>, flat: ValRaw, bytes: &[u8]) -> wasmtime::Result<()> {
        match place {
            Place::Flat(slots) => next(slots, flat),
            Place::Memory(at) => self.store(at, bytes),
        }
    }

    fn store(&mut self, at: usize, bytes: &[u8]) -> wasmtime::Result<()> {
        let memory = self.cx.as_slice_mut().get_mut(at..);
        let target = memory.and_then(|memory| memory.get_mut(..bytes.len()));
        target.ok_or(DecodeError)?.copy_from_slice(bytes);
        Ok(())
    }

    fn pair(&mut self, place: Place<'_, '_>, at: usize, length: usize) -> wasmtime::Result<()> {
        match place {
            Place::Flat(slots) => {
                next(slots, pointer(at)?)?;
                next(slots, pointer(length)?)
            }
            Place::Memory(into) => {
                self.store(into, &u32::try_from(at)?.to_le_bytes())?;
                self.store(into + 4, &u32::try_from(length)?.to_le_bytes())
            }
        }
    }

    /// wasmtime's own lowering of a resource, which `Handles::check` has found to be there.
    fn resource(
        &mut self,
        ty: InterfaceType,
        resource: Option<ResourceAny>,
        place: Place<'_, '_>,
    ) -> wasmtime::Result<()> {
        let resource = resource.ok_or(DecodeError)?;
        match place {
            Place::Flat(slots) => {
                let mut slot = std::mem::MaybeUninit::new(ValRaw::u64(0));
                resource.linear_lower_to_flat(self.cx, ty, &mut slot)?;
                // SAFETY: initialised above, before wasmtime wrote to it.
                next(slots, unsafe { slot.assume_init() })
            }
            Place::Memory(at) => resource.linear_lower_to_memory(self.cx, ty, at),
        }
    }

    /// wasmtime's own lowering of text, which knows the encodings a guest may ask for.
    fn text(&mut self, place: Place<'_, '_>) -> wasmtime::Result<()> {
        let length = self.message.length()?;
        let text = self.message.bytes(length)?;
        let text = std::str::from_utf8(text).map_err(|_| DecodeError)?;
        match place {
            Place::Flat(slots) => {
                let mut pair = std::mem::MaybeUninit::new([ValRaw::u64(0); 2]);
                text.linear_lower_to_flat(self.cx, InterfaceType::String, &mut pair)?;
                // SAFETY: initialised above, before wasmtime wrote to it.
                for value in unsafe { pair.assume_init() } {
                    next(slots, value)?;
                }
                Ok(())
            }
            Place::Memory(at) => text.linear_lower_to_memory(self.cx, InterfaceType::String, at),
        }
    }

    fn list(&mut self, element: InterfaceType, place: Place<'_, '_>) -> wasmtime::Result<()> {
        let length = self.message.length()?;
        // Each element takes a byte at least. A message of another function must not make the
        // guest look for gigabytes.
        if length > self.message.left() {
            return Err(DecodeError.into());
        }
        let abi = self.types.canonical_abi(&element);
        let size = usize::try_from(abi.size32)?;
        let total = length.checked_mul(size).ok_or(DecodeError)?;
        let at = self.cx.realloc(0, 0, abi.align32, total)?;
        if plain_size(element).is_some() {
            let elements = self.message.bytes(total)?;
            check_plain(element, elements)?;
            self.store(at, elements)?;
        } else {
            for index in 0..length {
                self.value(element, Place::Memory(at + index * size))?;
            }
        }
        self.pair(place, at, length)
    }

    fn flags(
        &mut self,
        ty: InterfaceType,
        count: usize,
        place: Place<'_, '_>,
    ) -> wasmtime::Result<()> {
        // A type has 32 flags at most.
        let mut word = 0_u32;
        for _ in 0..self.message.length()? {
            let flag = self.message.length()?;
            let known = u32::try_from(flag).ok().filter(|_| flag < count);
            word |= known
                .and_then(|flag| 1_u32.checked_shl(flag))
                .ok_or(DecodeError)?;
        }
        let size = usize::try_from(self.types.canonical_abi(&ty).size32)?;
        let bytes = word.to_le_bytes();
        let bytes = bytes.get(..size).ok_or(DecodeError)?;
        self.scalar(place, ValRaw::u32(word), bytes)
    }

    /// One case of a variant or the like. `payload` is none where there is no such case.
    fn case(
        &mut self,
        ty: InterfaceType,
        info: &VariantInfo,
        case: usize,
        payload: Option<Option<InterfaceType>>,
        mut place: Place<'_, '_>,
    ) -> wasmtime::Result<()> {
        let payload = payload.ok_or(DecodeError)?;
        let case = u32::try_from(case)?;
        match &mut place {
            Place::Flat(slots) => next(slots, ValRaw::u32(case))?,
            Place::Memory(at) => {
                let bytes = case.to_le_bytes();
                let bytes = bytes.get(..usize::from(info.size)).ok_or(DecodeError)?;
                self.store(*at, bytes)?;
                *at += usize::try_from(info.payload_offset32)?;
            }
        }
        if let Some(payload) = payload {
            self.value(payload, place.reborrow())?;
        }
        // The slots that only other cases use.
        if let Place::Flat(slots) = place {
            let flat = |ty: &InterfaceType| self.types.canonical_abi(ty).flat_count(usize::MAX);
            let all = flat(&ty).ok_or(DecodeError)?;
            let used = 1 + payload.as_ref().and_then(flat).unwrap_or(0);
            for _ in used..all {
                next(slots, ValRaw::u64(0))?;
            }
        }
        Ok(())
    }
}

/// Checks values of a type that has the same bytes in a message and in a guest's memory.
fn check_plain(ty: InterfaceType, bytes: &[u8]) -> Result<(), DecodeError> {
    let good = match ty {
        InterfaceType::Bool => bytes.iter().all(|byte| *byte < 2),
        InterfaceType::Char => {
            let (chars, _) = bytes.as_chunks::<4>();
            let mut chars = chars.iter().map(|char| u32::from_le_bytes(*char));
            chars.all(|char| char::from_u32(char).is_some())
        }
        _ => true,
    };
    if good { Ok(()) } else { Err(DecodeError) }
}
