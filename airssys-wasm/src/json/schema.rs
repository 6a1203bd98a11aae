//! JSON Schema, draft 2020-12, of what functions take and return.

use serde_json::{Map, Value, json};
use wasmtime::component::{Type, types};

use super::docs::{Docs, TypeDocs};
use crate::exports::{Function, FunctionError};

/// Most bytes of one function's schema, by an estimate from above: types share their parts, and a
/// schema repeats them.
pub const MAX_SCHEMA_BYTES: usize = 256 * 1024;

/// What a keyword and its punctuation take at most, for the estimate.
const NODE_BYTES: usize = 128;

/// What a function takes and returns, for clients that speak JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionSchema {
    /// What its author says of it, or else of its interface; where the component carries that.
    pub description: Option<String>,
    /// Of the object with its arguments by name.
    pub input: Value,
    /// Of [`Outcome::Value`](super::Outcome::Value); none for a function that returns nothing.
    pub output: Option<Value>,
    /// Of [`Outcome::Error`](super::Outcome::Error); none for a function that returns no `result`.
    pub error: Option<Value>,
}

/// The schema of a function whose values travel.
pub(crate) fn schema(function: &Function, docs: &Docs) -> Result<FunctionSchema, FunctionError> {
    let mut builder = Builder {
        room: MAX_SCHEMA_BYTES,
        docs: docs.types(&function.name),
    };
    let build = || {
        let members = function
            .params
            .iter()
            .map(|(name, ty)| (name.as_str(), ty.clone()));
        let input = builder.object(members, None)?;
        let (output, error) = match &function.results[..] {
            [Type::Result(result)] => {
                let output = result.ok().map(|ty| builder.ty(&ty)).transpose()?;
                (output, Some(builder.payload(result.err())?))
            }
            [ty] => (Some(builder.ty(ty)?), None),
            _ => (None, None),
        };
        Ok(FunctionSchema {
            description: docs.about(&function.name),
            input,
            output,
            error,
        })
    };
    let mut build = build;
    build().map_err(|TooLarge| FunctionError::SchemaTooLarge {
        name: function.name.to_string(),
        limit_bytes: MAX_SCHEMA_BYTES,
    })
}

struct TooLarge;

struct Builder<'d> {
    /// What the schema may still take, in bytes.
    room: usize,
    docs: &'d [(Type, TypeDocs)],
}

impl<'d> Builder<'d> {
    fn take(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.room = self.room.checked_sub(bytes).ok_or(TooLarge)?;
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<Value, TooLarge> {
        self.take(text.len())?;
        Ok(Value::from(text))
    }

    fn ty(&mut self, ty: &Type) -> Result<Value, TooLarge> {
        self.take(NODE_BYTES)?;
        let docs = self.about(ty);
        let mut schema = match ty {
            Type::Bool => json!({"type": "boolean"}),
            Type::U8 => integer(u8::MIN, u8::MAX),
            Type::S8 => integer(i8::MIN, i8::MAX),
            Type::U16 => integer(u16::MIN, u16::MAX),
            Type::S16 => integer(i16::MIN, i16::MAX),
            Type::U32 => integer(u32::MIN, u32::MAX),
            Type::S32 => integer(i32::MIN, i32::MAX),
            Type::U64 => integer(u64::MIN, u64::MAX),
            Type::S64 => integer(i64::MIN, i64::MAX),
            Type::Float32 => {
                let most = f64::from(f32::MAX);
                float(&json!({"type": "number", "minimum": -most, "maximum": most}))
            }
            Type::Float64 => float(&json!({"type": "number"})),
            Type::Char => json!({"type": "string", "minLength": 1, "maxLength": 1}),
            Type::String => json!({"type": "string"}),
            Type::List(list) if list.ty() == Type::U8 => {
                json!({"type": "string", "contentEncoding": "base64"})
            }
            Type::List(list) => json!({"type": "array", "items": self.ty(&list.ty())?}),
            Type::Record(record) => {
                let fields = record.fields().map(|field| (field.name, field.ty));
                self.object(fields, docs)?
            }
            Type::Tuple(tuple) => {
                let length = tuple.types().len();
                let items = tuple.types().map(|ty| self.ty(&ty));
                let items: Vec<Value> = items.collect::<Result<_, _>>()?;
                json!({
                    "type": "array", "prefixItems": items, "items": false,
                    "minItems": length, "maxItems": length,
                })
            }
            Type::Variant(variant) => self.variant(variant, docs)?,
            Type::Enum(cases) => {
                let names = self.names(cases.names())?;
                json!({"type": "string", "enum": names})
            }
            Type::Option(option) => self.option(&option.ty())?,
            Type::Result(result) => {
                let ok = self.payload(result.ok())?;
                let err = self.payload(result.err())?;
                json!({"oneOf": [alone("ok", &ok), alone("err", &err)]})
            }
            Type::Flags(flags) => {
                let names = self.names(flags.names())?;
                let items = json!({"type": "string", "enum": names});
                json!({"type": "array", "items": items, "uniqueItems": true})
            }
            // `Exports::callable` refuses functions with others.
            _ => json!(false),
        };
        let listed = match ty {
            Type::Enum(cases) => docs.map(|docs| docs.listing(cases.names())),
            Type::Flags(flags) => docs.map(|docs| docs.listing(flags.names())),
            _ => docs.and_then(|docs| docs.docs.clone()),
        };
        self.describe(&mut schema, listed.as_deref())?;
        Ok(schema)
    }

    /// What is said of the type; nothing where others look alike and have something else said.
    fn about(&self, ty: &Type) -> Option<&'d TypeDocs> {
        if !matches!(
            ty,
            Type::Record(_) | Type::Variant(_) | Type::Enum(_) | Type::Flags(_)
        ) {
            return None;
        }
        let mut alike = self
            .docs
            .iter()
            .filter(|(of, _)| of == ty)
            .map(|(_, docs)| docs);
        let first = alike.next()?;
        alike.all(|docs| docs == first).then_some(first)
    }

    fn describe(&mut self, schema: &mut Value, text: Option<&str>) -> Result<(), TooLarge> {
        if let (Some(text), Value::Object(schema)) = (text.filter(|text| !text.is_empty()), schema)
        {
            let text = self.text(text)?;
            schema.insert(String::from("description"), text);
        }
        Ok(())
    }

    fn names<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> Result<Vec<Value>, TooLarge> {
        let taken = names.map(|name| {
            self.take("\"\",".len())?;
            self.text(name)
        });
        taken.collect()
    }

    fn object<'n>(
        &mut self,
        members: impl Iterator<Item = (&'n str, Type)>,
        docs: Option<&TypeDocs>,
    ) -> Result<Value, TooLarge> {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for (name, ty) in members {
            let mut schema = self.ty(&ty)?;
            let text = docs.and_then(|docs| docs.items.get(name));
            self.describe(&mut schema, text.map(String::as_str))?;
            if !matches!(ty, Type::Option(_)) {
                required.push(self.text(name)?);
            }
            self.take(name.len())?;
            properties.insert(name.to_owned(), schema);
        }
        Ok(json!({
            "type": "object", "properties": properties, "required": required,
            "additionalProperties": false,
        }))
    }

    fn variant(
        &mut self,
        variant: &types::Variant,
        docs: Option<&TypeDocs>,
    ) -> Result<Value, TooLarge> {
        let mut cases = Vec::new();
        for case in variant.cases() {
            self.take(NODE_BYTES)?;
            let tag = json!({"const": self.text(case.name)?});
            let mut schema = match &case.ty {
                Some(ty) => {
                    let value = self.ty(ty)?;
                    json!({
                        "type": "object", "properties": {"tag": tag, "val": value},
                        "required": ["tag", "val"], "additionalProperties": false,
                    })
                }
                None => alone("tag", &tag),
            };
            let text = docs.and_then(|docs| docs.items.get(case.name));
            self.describe(&mut schema, text.map(String::as_str))?;
            cases.push(schema);
        }
        Ok(json!({"oneOf": cases}))
    }

    fn option(&mut self, inner: &Type) -> Result<Value, TooLarge> {
        let schema = self.ty(inner)?;
        let some = match inner {
            Type::Option(_) => alone("some", &schema),
            _ => schema,
        };
        Ok(json!({"anyOf": [some, {"type": "null"}]}))
    }

    fn payload(&mut self, ty: Option<Type>) -> Result<Value, TooLarge> {
        match ty {
            Some(ty) => self.ty(&ty),
            None => Ok(json!({"type": "null"})),
        }
    }
}

impl TypeDocs {
    /// With a line for each case that something is said of.
    fn listing<'n>(&self, names: impl Iterator<Item = &'n str>) -> String {
        let mut text = self.docs.clone().unwrap_or_default();
        for name in names {
            if let Some(about) = self.items.get(name) {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&format!("- {name}: {about}"));
            }
        }
        text
    }
}

fn integer<T: Into<Value>>(minimum: T, maximum: T) -> Value {
    json!({"type": "integer", "minimum": minimum.into(), "maximum": maximum.into()})
}

fn float(number: &Value) -> Value {
    json!({"anyOf": [number, {"type": "string", "enum": ["nan", "inf", "-inf"]}]})
}

/// An object with this one member.
fn alone(name: &str, schema: &Value) -> Value {
    json!({
        "type": "object", "properties": {name: schema}, "required": [name],
        "additionalProperties": false,
    })
}
