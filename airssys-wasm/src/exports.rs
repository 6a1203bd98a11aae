//! The functions a component exports, found by name before any instance exists.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, Type};

use crate::handles::{Kind, kind, kinds};
use crate::payload::{travels, type_name};

/// A function a component exports.
#[derive(Debug)]
pub struct Function {
    /// `pkg:name/iface@ver#func`, or the bare name for a function of the world itself.
    pub name: Arc<str>,
    /// Names and types of its parameters.
    pub params: Vec<(String, Type)>,
    /// Types of its results: none or one.
    pub results: Vec<Type>,
    pub(crate) index: ComponentExportIndex,
    /// The first type in its signature that does not travel in a message.
    bound: Option<&'static str>,
    /// Whether there are handles of the component's own resources in its signature.
    pub(crate) has_handles: bool,
}

/// All functions a component exports.
#[derive(Debug)]
pub struct Exports {
    functions: Vec<Function>,
    by_name: HashMap<String, Found>,
    kinds: Vec<Kind>,
    #[cfg(feature = "json")]
    docs: crate::json::Docs,
}

#[derive(Debug, Clone, Copy)]
enum Found {
    One(usize),
    Many,
}

/// Why a name leads to no function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FunctionError {
    /// No function of that name.
    #[error("no function `{name}`; there are: {}", list(known))]
    Unknown {
        /// The name asked for.
        name: String,
        /// All functions there are.
        known: Vec<String>,
    },
    /// A bare name that several interfaces export.
    #[error("`{name}` is ambiguous; write one of: {}", list(candidates))]
    Ambiguous {
        /// The name asked for.
        name: String,
        /// The functions it could mean.
        candidates: Vec<String>,
    },
    /// The component was replaced by one without it, or with one of another type, since the call
    /// was made.
    #[error("`{name}` is gone or of another type since the component was upgraded")]
    Changed {
        /// The function.
        name: String,
    },
    /// It takes or returns resources of the host, futures, streams or the like, which live in an
    /// instance.
    #[error("`{name}` has a value of type {ty}, which cannot travel in a message; use `run`")]
    Bound {
        /// The function.
        name: String,
        /// The type.
        ty: &'static str,
    },
    /// It takes or returns handles, and no instance of the component lasts for them.
    #[error("`{name}` has handles, which live in one instance; {reason}")]
    Homeless {
        /// The function.
        name: String,
        /// Why none lasts.
        reason: Homeless,
    },
    /// Its schema would be larger than what anybody reads.
    #[error("the schema of `{name}` takes more than {limit_bytes} bytes")]
    SchemaTooLarge {
        /// The function.
        name: String,
        /// [`MAX_SCHEMA_BYTES`](crate::json::MAX_SCHEMA_BYTES).
        limit_bytes: usize,
    },
}

/// Why handles have no instance to live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Homeless {
    /// `instance.mode` is `per-call`.
    #[error("each call has an instance of its own (`instance.mode`)")]
    PerCall,
    /// `instance.park_after_seconds` is set.
    #[error("idle instances are let go of (`instance.park_after_seconds`)")]
    Parked,
    /// There are replicas, of which any may be called: call one of `ComponentRef::replicas`.
    #[error("any of its replicas may be called; call one of them")]
    Replicas,
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return String::from("none");
    }
    names.join(", ")
}

impl Exports {
    /// Of a component that was compiled from these bytes.
    pub(crate) fn of(component: &Component, engine: &Engine, bytes: &[u8]) -> Self {
        #[cfg(not(feature = "json"))]
        let _ = bytes;
        let kinds = kinds(component, engine);
        let function = |name, func: &ComponentFunc, index| function(name, func, index, &kinds);
        let mut functions = Vec::new();
        for (name, item) in component.component_type().exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(func) => {
                    if let Some(index) = component.get_export_index(None, name) {
                        functions.push(function(name.to_owned(), &func, index));
                    }
                }
                ComponentItem::ComponentInstance(instance) => {
                    let Some(parent) = component.get_export_index(None, name) else {
                        continue;
                    };
                    for (inner, item) in instance.exports(engine) {
                        let ComponentItem::ComponentFunc(func) = item.ty else {
                            continue;
                        };
                        if let Some(index) = component.get_export_index(Some(&parent), inner) {
                            functions.push(function(format!("{name}#{inner}"), &func, index));
                        }
                    }
                }
                _ => {}
            }
        }
        let mut by_name = HashMap::new();
        for (position, function) in functions.iter().enumerate() {
            if let Some((_, bare)) = function.name.split_once('#') {
                by_name
                    .entry(bare.to_owned())
                    .and_modify(|found| *found = Found::Many)
                    .or_insert(Found::One(position));
            }
        }
        // Full names are unique and win over a bare name that looks the same.
        for (position, function) in functions.iter().enumerate() {
            by_name.insert(function.name.to_string(), Found::One(position));
        }
        Self {
            #[cfg(feature = "json")]
            docs: crate::json::Docs::of(bytes, component, engine),
            functions,
            by_name,
            kinds,
        }
    }

    /// The functions of a component that nobody runs. Compiles it, which blocks.
    ///
    /// # Errors
    /// What wasmtime finds wrong with the component.
    #[cfg(feature = "json")]
    pub fn read(wasm: &[u8]) -> wasmtime::Result<Self> {
        let engine = Engine::default();
        let component = Component::from_binary(&engine, wasm)?;
        Ok(Self::of(&component, &engine, wasm))
    }

    /// The JSON Schema of a function's parameters and results.
    ///
    /// # Errors
    /// [`FunctionError`].
    #[cfg(feature = "json")]
    pub fn schema(&self, name: &str) -> Result<crate::json::FunctionSchema, FunctionError> {
        let (_, function) = self.callable(name)?;
        crate::json::schema(function, &self.docs, &self.kinds)
    }

    /// The resources it exports.
    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// All functions, in the order of the component's exports.
    #[must_use]
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// As [`Exports::find`], of functions whose values travel in messages. The others must not be
    /// entered that way: handles they return could never be given back.
    pub(crate) fn callable(&self, name: &str) -> Result<(usize, &Function), FunctionError> {
        let (position, function) = self.find(name)?;
        match function.bound {
            None => Ok((position, function)),
            Some(ty) => Err(FunctionError::Bound {
                name: function.name.to_string(),
                ty,
            }),
        }
    }

    /// Where the same function stands here: of the same full name and type.
    pub(crate) fn same(&self, function: &Function) -> Result<usize, FunctionError> {
        let types = |of: &Function| -> Vec<Type> {
            let params = of.params.iter().map(|(_, ty)| ty.clone());
            params.chain(of.results.iter().cloned()).collect()
        };
        let place = match self.by_name.get(&*function.name) {
            Some(Found::One(place)) => Some(*place),
            _ => None,
        };
        let here = place.and_then(|place| self.functions.get(place));
        place
            .filter(|_| {
                here.is_some_and(|here| {
                    here.params.len() == function.params.len() && types(here) == types(function)
                })
            })
            .ok_or_else(|| FunctionError::Changed {
                name: function.name.to_string(),
            })
    }

    /// The function of that full name, or of that bare name where only one has it.
    ///
    /// # Errors
    /// [`FunctionError`], with the names that would do.
    pub fn find(&self, name: &str) -> Result<(usize, &Function), FunctionError> {
        let found = match self.by_name.get(name) {
            Some(Found::One(position)) => self.functions.get(*position).map(|f| (*position, f)),
            Some(Found::Many) => {
                let bare = format!("#{name}");
                return Err(FunctionError::Ambiguous {
                    name: name.to_owned(),
                    candidates: self.names(|full| full.ends_with(&bare)),
                });
            }
            None => None,
        };
        found.ok_or_else(|| FunctionError::Unknown {
            name: name.chars().take(200).collect(),
            known: self.names(|_| true),
        })
    }

    fn names(&self, keep: impl Fn(&str) -> bool) -> Vec<String> {
        self.functions
            .iter()
            .filter(|function| keep(&function.name))
            .map(|function| function.name.to_string())
            .collect()
    }
}

fn function(
    name: String,
    func: &ComponentFunc,
    index: ComponentExportIndex,
    kinds: &[Kind],
) -> Function {
    let params: Vec<(String, Type)> = func
        .params()
        .map(|(name, ty)| (name.to_owned(), ty))
        .collect();
    let results: Vec<Type> = func.results().collect();
    let mut has_handles = false;
    let mut travels_not = |ty: &Type| match ty {
        Type::Own(of) | Type::Borrow(of) if kind(kinds, of).is_some() => {
            has_handles = true;
            None
        }
        ty if travels(ty) => None,
        ty => Some(type_name(ty)),
    };
    let mut types = params.iter().map(|(_, ty)| ty).chain(&results);
    Function {
        name: Arc::from(name),
        bound: types.find_map(|ty| within(ty, &mut travels_not)),
        has_handles,
        params,
        results,
        index,
    }
}

/// The first of what `find` says of the types within this one.
fn within(ty: &Type, find: &mut impl FnMut(&Type) -> Option<&'static str>) -> Option<&'static str> {
    match ty {
        Type::List(list) => within(&list.ty(), find),
        Type::Record(record) => record.fields().find_map(|field| within(&field.ty, find)),
        Type::Tuple(tuple) => tuple.types().find_map(|ty| within(&ty, find)),
        Type::Variant(variant) => variant
            .cases()
            .find_map(|case| case.ty.as_ref().and_then(|ty| within(ty, find))),
        Type::Option(option) => within(&option.ty(), find),
        Type::Result(result) => [result.ok(), result.err()]
            .iter()
            .flatten()
            .find_map(|ty| within(ty, find)),
        ty => find(ty),
    }
}
