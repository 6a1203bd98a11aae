//! What the author of a component wrote about it: the doc comments of its WIT.
//!
//! They lie in custom sections named `package-docs`: a byte for the version, 0 or 1, and JSON, as
//! `wit-parser` writes it for WIT packages. An interface of another package than the component's
//! own is named in full, such as `docs:adder/add@0.1.0`. A section that is too large or says
//! something else is passed over: documentation is no reason to refuse a component.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use wasmparser::{Chunk, Parser, Payload};
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Type};

/// Most bytes of documentation that are read of one component; what is beyond is passed over.
pub const MAX_DOCS_BYTES: usize = 256 * 1024;

const SECTION: &str = "package-docs";

/// Of a component's exports.
#[derive(Debug, Default)]
pub(crate) struct Docs {
    /// By the function's full name.
    functions: HashMap<String, String>,
    /// By the interface's full name: types look alike where they have the same structure.
    types: HashMap<String, Vec<(Type, TypeDocs)>>,
}

/// Of a type, and of its fields, cases or flags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct TypeDocs {
    pub(super) docs: Option<String>,
    pub(super) items: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Package {
    worlds: BTreeMap<String, World>,
    interfaces: BTreeMap<String, Interface>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct World {
    funcs: BTreeMap<String, Item>,
    func_exports: BTreeMap<String, Item>,
    interfaces: BTreeMap<String, Interface>,
    interface_exports: BTreeMap<String, Interface>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Interface {
    docs: Option<String>,
    funcs: BTreeMap<String, Item>,
    types: BTreeMap<String, TypeDocs>,
}

/// Version 0 has a text where version 1 has an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Item {
    Text(Option<String>),
    Object { docs: Option<String> },
}

impl Item {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(docs) | Self::Object { docs } => docs.as_deref(),
        }
    }
}

impl Docs {
    /// Of the exports that there are; nothing else is kept.
    pub(crate) fn of(bytes: &[u8], component: &Component, engine: &Engine) -> Self {
        let Some(package) = read(bytes) else {
            return Self::default();
        };
        let mut docs = Self::default();
        for (name, item) in component.component_type().exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    let text = package
                        .worlds
                        .values()
                        .find_map(|world| world.function(name));
                    docs.function(name.to_owned(), text);
                }
                ComponentItem::ComponentInstance(instance) => {
                    let Some(interface) = package.interface(name) else {
                        continue;
                    };
                    let mut types = Vec::new();
                    for (inner, item) in instance.exports(engine) {
                        match item.ty {
                            ComponentItem::ComponentFunc(_) => {
                                let own = interface.funcs.get(inner).and_then(Item::text);
                                let text = own.or(interface.docs.as_deref());
                                docs.function(format!("{name}#{inner}"), text);
                            }
                            ComponentItem::Type(ty) => {
                                if let Some(text) = package.ty(interface, inner) {
                                    types.push((ty, text.clone()));
                                }
                            }
                            _ => {}
                        }
                    }
                    docs.types.insert(name.to_owned(), types);
                }
                _ => {}
            }
        }
        docs
    }

    fn function(&mut self, name: String, text: Option<&str>) {
        if let Some(text) = text {
            self.functions.insert(name, text.to_owned());
        }
    }

    /// Of a function, by its full name.
    pub(super) fn about(&self, function: &str) -> Option<String> {
        self.functions.get(function).cloned()
    }

    /// Of the types in a function's signature.
    pub(super) fn types(&self, function: &str) -> &[(Type, TypeDocs)] {
        let interface = function.split_once('#').map(|(interface, _)| interface);
        let types = interface.and_then(|interface| self.types.get(interface));
        types.map_or(&[], Vec::as_slice)
    }
}

impl Package {
    /// An interface that a component exports under this name.
    fn interface(&self, name: &str) -> Option<&Interface> {
        // `docs:adder/add@0.1.0`, or the name that a world gives it.
        let bare = name.rsplit_once('/').map_or(name, |(_, bare)| bare);
        let bare = bare.split_once('@').map_or(bare, |(bare, _)| bare);
        let own = self
            .interfaces
            .get(name)
            .or_else(|| self.interfaces.get(bare));
        own.or_else(|| {
            let mut worlds = self.worlds.values();
            worlds.find_map(|world| {
                let exported = world.interface_exports.get(name);
                exported.or_else(|| world.interfaces.get(name))
            })
        })
    }

    /// A type of this interface, or of the one other interface that it may have been taken from.
    fn ty<'p>(&'p self, interface: &'p Interface, name: &str) -> Option<&'p TypeDocs> {
        interface.types.get(name).or_else(|| {
            let mut others = self.interfaces.values().filter_map(|i| i.types.get(name));
            let first = others.next();
            first.filter(|_| others.next().is_none())
        })
    }
}

impl World {
    fn function(&self, name: &str) -> Option<&str> {
        let exported = self.func_exports.get(name);
        exported
            .or_else(|| self.funcs.get(name))
            .and_then(Item::text)
    }
}

/// A component without its documentation. Tools that read its WIT stumble over the section: they
/// take it for that of a WIT package.
#[must_use]
pub fn without_docs(wasm: &[u8]) -> Vec<u8> {
    let (mut kept, mut rest) = (Vec::with_capacity(wasm.len()), wasm);
    for (section, length) in sections(wasm) {
        let (bytes, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if section.is_none() {
            kept.extend_from_slice(bytes);
        }
        rest = after;
    }
    kept.extend_from_slice(rest);
    kept
}

/// What the sections together say, as far as they are read.
fn read(wasm: &[u8]) -> Option<Package> {
    let mut found: Option<Package> = None;
    let mut room = MAX_DOCS_BYTES;
    for data in sections(wasm).filter_map(|(data, _)| data) {
        let Some(left) = room.checked_sub(data.len()) else {
            continue;
        };
        room = left;
        if let Some((0 | 1, text)) = data.split_first()
            && let Ok(package) = serde_json::from_slice::<Package>(text)
        {
            let all = found.get_or_insert_default();
            all.worlds.extend(package.worlds);
            all.interfaces.extend(package.interfaces);
        }
    }
    found
}

/// Each part of a component and the bytes it takes, with what is in it where it is documentation.
/// What is inside a nested component is none of its own interface, and is passed over.
fn sections(wasm: &[u8]) -> impl Iterator<Item = (Option<&[u8]>, usize)> {
    let (mut parser, mut rest) = (Parser::new(0), wasm);
    std::iter::from_fn(move || {
        let Ok(Chunk::Parsed { consumed, payload }) = parser.parse(rest, true) else {
            return None;
        };
        let (data, length) = match payload {
            Payload::End(_) => return None,
            Payload::CustomSection(section) if section.name() == SECTION => {
                (Some(section.data()), consumed)
            }
            Payload::ModuleSection {
                unchecked_range, ..
            }
            | Payload::ComponentSection {
                unchecked_range, ..
            } => (None, consumed + unchecked_range.len()),
            _ => (None, consumed),
        };
        rest = rest.get(length..)?;
        Some((data, length))
    })
}
