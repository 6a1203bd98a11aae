//! Resources that an instance has handed to its callers, and the handles that stand for them
//! (ADR-WASM-024).
//!
//! In a message a handle is two u64: the generation of the instance and a number that this process
//! gives once, counted from anywhere. So what another instance, another component, an earlier host
//! or nobody ever gave out is found to be unknown before a guest is entered.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, ResourceAny, ResourceType, Type};
use wasmtime::{AsContextMut, Engine, component};

use crate::payload::{DecodeError, Reader, ValueError};

/// Bytes of a handle in a message.
pub(crate) const ENCODED_BYTES: usize = 2 * size_of::<u64>();

/// The next handle's number: never one that was given before. It begins somewhere in 48 bits.
static NEXT: LazyLock<AtomicU64> =
    LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(()) >> 16));

/// Stands for a resource that an instance of a component holds for its callers; nobody holds it
/// twice. Told as text: `counter#3.7` is number 7, of the third incarnation. Cheap to clone.
///
/// Dropping it does nothing: the resource lives until it is given back to the component, dropped
/// with `ComponentRef::drop_resource`, or gone with its instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResourceHandle {
    kind: Arc<str>,
    generation: u64,
    number: u64,
}

/// Why a handle was not accepted. The guest was not entered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// Not the text of a handle.
    #[error("no handle, which is told as in `counter#3.7`")]
    Malformed,
    /// Of another resource type than is asked for.
    #[error("a handle of `{found}` where one of `{expected}` is expected")]
    Kind {
        /// The resource that is asked for.
        expected: Arc<str>,
        /// The resource that the handle stands for.
        found: Arc<str>,
    },
    /// Of an instance that is no more, and what it stood for with it.
    #[error("a handle of incarnation {found}, and this is incarnation {current}")]
    Generation {
        /// The handle's.
        found: u64,
        /// The one that serves the component now.
        current: u64,
    },
    /// Given away or dropped already, another component's, or nobody's ever.
    #[error("no such handle: given away, dropped, or another component's")]
    Unknown,
    /// Given away and used besides, in one call.
    #[error("given away and used again in one call")]
    Twice,
}

impl ResourceHandle {
    pub(crate) fn new(kind: &Arc<str>, generation: u64, number: u64) -> Self {
        Self {
            kind: Arc::clone(kind),
            generation,
            number,
        }
    }

    /// The resource's name in its interface.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Which incarnation of the component holds it, counted from 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The handle in a message, where it is of this kind.
    pub(crate) fn encode(&self, kind: &Kind) -> Result<[u8; ENCODED_BYTES], HandleError> {
        if self.kind != kind.name {
            return Err(HandleError::Kind {
                expected: Arc::clone(&kind.name),
                found: Arc::clone(&self.kind),
            });
        }
        Ok(encoded(self.generation, self.number))
    }

    pub(crate) fn decode(kind: &Kind, bytes: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (generation, number) = decoded(bytes)?;
        Ok(Self::new(&kind.name, generation, number))
    }
}

impl fmt::Display for ResourceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}.{}", self.kind, self.generation, self.number)
    }
}

impl FromStr for ResourceHandle {
    type Err = HandleError;

    fn from_str(text: &str) -> Result<Self, HandleError> {
        let parse = || {
            let (kind, numbers) = text.split_once('#')?;
            let (generation, number) = numbers.split_once('.')?;
            let kind = Arc::from(kind);
            Some(Self::new(
                &kind,
                generation.parse().ok()?,
                number.parse().ok()?,
            ))
        };
        // There is one way to write it.
        let handle = parse().filter(|handle| handle.to_string() == text);
        handle.ok_or(HandleError::Malformed)
    }
}

fn encoded(generation: u64, number: u64) -> [u8; ENCODED_BYTES] {
    let mut bytes = [0; ENCODED_BYTES];
    let (first, second) = bytes.split_at_mut(size_of::<u64>());
    first.copy_from_slice(&generation.to_le_bytes());
    second.copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Generation and number.
pub(crate) fn decoded(bytes: &mut Reader<'_>) -> Result<(u64, u64), DecodeError> {
    let generation = u64::from_le_bytes(bytes.array()?);
    Ok((generation, u64::from_le_bytes(bytes.array()?)))
}

/// A resource type that a component defines and exports.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: Arc<str>,
    ty: ResourceType,
    index: ComponentExportIndex,
}

/// The kinds that a component exports. One that it imports is the host's, which callers have
/// nothing of.
pub(crate) fn kinds(component: &Component, engine: &Engine) -> Vec<Kind> {
    let ty = component.component_type();
    let mut imported = Vec::new();
    for (_, item) in ty.imports(engine) {
        match item.ty {
            ComponentItem::Resource(ty) => imported.push(ty),
            ComponentItem::ComponentInstance(instance) => {
                imported.extend(
                    instance
                        .exports(engine)
                        .filter_map(|(_, item)| resource(item.ty)),
                );
            }
            _ => {}
        }
    }
    let mut kinds: Vec<Kind> = Vec::new();
    let mut add = |parent: Option<&ComponentExportIndex>, name: &str, ty: ResourceType| {
        let is_new = !imported.contains(&ty) && !kinds.iter().any(|kind| kind.ty == ty);
        if is_new && let Some(index) = component.get_export_index(parent, name) {
            let name = Arc::from(name);
            kinds.push(Kind { name, ty, index });
        }
    };
    for (name, item) in ty.exports(engine) {
        match item.ty {
            ComponentItem::Resource(ty) => add(None, name, ty),
            ComponentItem::ComponentInstance(instance) => {
                let parent = component.get_export_index(None, name);
                for (inner, item) in instance.exports(engine) {
                    if let Some(ty) = resource(item.ty) {
                        add(parent.as_ref(), inner, ty);
                    }
                }
            }
            _ => {}
        }
    }
    kinds
}

fn resource(item: ComponentItem) -> Option<ResourceType> {
    match item {
        ComponentItem::Resource(ty) => Some(ty),
        _ => None,
    }
}

/// Which kind a handle of this type stands for.
pub(crate) fn kind<'k>(kinds: &'k [Kind], ty: &ResourceType) -> Option<&'k Kind> {
    kinds.iter().find(|kind| kind.ty == *ty)
}

/// What one instance holds for its callers.
#[derive(Debug)]
pub(crate) struct Handles {
    generation: u64,
    /// The kinds as types of this instance, in their order.
    types: OnceLock<Box<[Option<ResourceType>]>>,
    held: Mutex<HashMap<u64, ResourceAny>>,
    /// How many those are, for who does not want the lock. Changes under it.
    count: AtomicUsize,
}

/// Why the bytes of arguments do not name what may be used.
enum Stop {
    Refused(ValueError),
    Malformed,
}

impl From<DecodeError> for Stop {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

impl Handles {
    pub(crate) fn new(generation: u64) -> Self {
        Self {
            generation,
            types: OnceLock::new(),
            held: Mutex::default(),
            count: AtomicUsize::new(0),
        }
    }

    /// Finds the types of the instance.
    pub(crate) fn instantiated(
        &self,
        kinds: &[Kind],
        mut store: impl AsContextMut,
        instance: &component::Instance,
    ) {
        let types = kinds
            .iter()
            .map(|kind| instance.get_resource(&mut store, kind.index));
        self.types.get_or_init(|| types.collect());
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Names one that is about to be held.
    pub(crate) fn next(&self) -> (u64, [u8; ENCODED_BYTES]) {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        (number, encoded(self.generation, number))
    }

    pub(crate) fn hold(&self, number: u64, resource: ResourceAny) {
        let mut held = self.held();
        held.insert(number, resource);
        self.count.store(held.len(), Ordering::Relaxed);
    }

    /// One that is lent to the guest.
    pub(crate) fn lend(&self, number: u64) -> Option<ResourceAny> {
        self.held().get(&number).copied()
    }

    /// One that is given to the guest, or dropped.
    pub(crate) fn give(&self, number: u64) -> Option<ResourceAny> {
        let mut held = self.held();
        let given = held.remove(&number);
        self.count.store(held.len(), Ordering::Relaxed);
        given
    }

    /// Whether all handles in the arguments may be used as the parameters say. Bytes that do not
    /// decode are left to whoever lowers them.
    pub(crate) fn check(
        &self,
        kinds: &[Kind],
        params: &[(String, Type)],
        bytes: &[u8],
    ) -> Result<(), ValueError> {
        let mut bytes = Reader::new(bytes);
        let (mut lent, mut given) = (HashSet::new(), HashSet::new());
        for (name, ty) in params {
            let mut each = |ty: &ResourceType, own: bool, generation, number| {
                let checked = self.known(kinds, ty, generation, number).and_then(|()| {
                    let again = match own {
                        true => lent.contains(&number) || !given.insert(number),
                        false => {
                            lent.insert(number);
                            given.contains(&number)
                        }
                    };
                    if again {
                        Err(HandleError::Twice)
                    } else {
                        Ok(())
                    }
                });
                checked.map_err(|source| ValueError::Handle {
                    place: name.as_str().into(),
                    source,
                })
            };
            match walk(ty, &mut bytes, &mut each) {
                Ok(()) => {}
                Err(Stop::Refused(refused)) => return Err(refused),
                Err(Stop::Malformed) => return Ok(()),
            }
        }
        Ok(())
    }

    fn known(
        &self,
        kinds: &[Kind],
        ty: &ResourceType,
        generation: u64,
        number: u64,
    ) -> Result<(), HandleError> {
        if generation != self.generation {
            return Err(HandleError::Generation {
                found: generation,
                current: self.generation,
            });
        }
        let resource = self.lend(number).ok_or(HandleError::Unknown)?;
        let types = self.types.get().map_or(&[][..], |types| types);
        let found = types.iter().zip(kinds);
        let found = found.filter(|(of, _)| **of == Some(resource.ty()));
        match found.map(|(_, kind)| kind).next() {
            Some(found) if found.ty == *ty => Ok(()),
            Some(found) => Err(HandleError::Kind {
                expected: kind(kinds, ty)
                    .map_or_else(|| Arc::from("another"), |k| Arc::clone(&k.name)),
                found: Arc::clone(&found.name),
            }),
            None => Err(HandleError::Unknown),
        }
    }

    /// Takes out one that is to be dropped.
    pub(crate) fn remove(
        &self,
        kinds: &[Kind],
        handle: &ResourceHandle,
    ) -> Result<ResourceAny, ValueError> {
        let refused = |source| ValueError::Handle {
            place: handle.to_string().into(),
            source,
        };
        let mut of_name = kinds.iter().filter(|kind| kind.name == handle.kind);
        let mut result = Err(HandleError::Unknown);
        // Two interfaces may have a resource of that name.
        while let (Err(_), Some(kind)) = (&result, of_name.next()) {
            result = self.known(kinds, &kind.ty, handle.generation, handle.number);
        }
        result.map_err(refused)?;
        self.give(handle.number)
            .ok_or_else(|| refused(HandleError::Unknown))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u64, ResourceAny>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is told of a handle: its type, whether it is given, its generation and its number.
type Each<'e> = dyn FnMut(&ResourceType, bool, u64, u64) -> Result<(), ValueError> + 'e;

/// Tells of each handle in a value.
fn walk(ty: &Type, bytes: &mut Reader<'_>, each: &mut Each<'_>) -> Result<(), Stop> {
    match ty {
        Type::Own(of) | Type::Borrow(of) => {
            let (generation, number) = decoded(bytes)?;
            let given = matches!(ty, Type::Own(_));
            each(of, given, generation, number).map_err(Stop::Refused)
        }
        Type::String => {
            let length = bytes.length()?;
            bytes.bytes(length)?;
            Ok(())
        }
        Type::Flags(_) => {
            for _ in 0..bytes.length()? {
                bytes.length()?;
            }
            Ok(())
        }
        Type::List(list) => {
            let (length, element) = (bytes.length()?, list.ty());
            (0..length).try_for_each(|_| walk(&element, bytes, each))
        }
        Type::Record(record) => {
            let mut fields = record.fields();
            fields.try_for_each(|field| walk(&field.ty, bytes, each))
        }
        Type::Tuple(tuple) => tuple.types().try_for_each(|ty| walk(&ty, bytes, each)),
        Type::Variant(variant) => {
            let case = bytes.length()?;
            let case = variant.cases().nth(case).ok_or(Stop::Malformed)?;
            case.ty.map_or(Ok(()), |ty| walk(&ty, bytes, each))
        }
        Type::Option(option) => match bytes.array()? {
            [0] => Ok(()),
            _ => walk(&option.ty(), bytes, each),
        },
        Type::Result(result) => {
            let payload = match bytes.array()? {
                [0] => result.ok(),
                _ => result.err(),
            };
            payload.map_or(Ok(()), |ty| walk(&ty, bytes, each))
        }
        ty => {
            let size = match ty {
                Type::Bool | Type::U8 | Type::S8 => 1,
                Type::U16 | Type::S16 => 2,
                Type::U64 | Type::S64 | Type::Float64 => 8,
                _ => 4,
            };
            bytes.bytes(size)?;
            Ok(())
        }
    }
}
