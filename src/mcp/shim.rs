use crate::{ComponentRef, Message, Results, Val, ValueError, WasmError};
use serde_json::{Map, Value, json};
use wasmtime::component::Type;
pub(super) enum Outcome {
    Value(Option<Value>),
    Error(Value),
}
pub(super) struct FunctionSchema {
    pub description: Option<String>,
    pub input: Value,
    pub output: Option<Value>,
    pub error: Option<Value>,
}
pub(super) trait Shim {
    fn encode_json(&self, function: &str, args: &Map<String, Value>) -> Result<Message, WasmError>;
    fn schema(&self, function: &str) -> Result<FunctionSchema, WasmError>;
}
pub(super) trait ShimR {
    fn json(&self) -> Result<Outcome, WasmError>;
}
impl Shim for ComponentRef {
    fn encode_json(&self, function: &str, args: &Map<String, Value>) -> Result<Message, WasmError> {
        let e = self.exports()?;
        let (_, f) = e.find(function).map_err(|source| WasmError::Function {
            component: self.name().clone(),
            source,
        })?;
        let mut vals = vec![];
        for (name, ty) in &f.params {
            let bad = || WasmError::Arguments {
                component: self.name().clone(),
                source: ValueError::Type {
                    place: name.clone(),
                    expected: format!("{ty:?}"),
                    found: "other",
                },
            };
            vals.push(val(ty, args.get(name).unwrap_or(&Value::Null)).ok_or_else(bad)?);
        }
        self.encode(function, &vals)
    }
    fn schema(&self, function: &str) -> Result<FunctionSchema, WasmError> {
        let e = self.exports()?;
        let (_, f) = e.find(function).map_err(|source| WasmError::Function {
            component: self.name().clone(),
            source,
        })?;
        let mut props = Map::new();
        let mut req = vec![];
        for (n, t) in &f.params {
            props.insert(n.clone(), ty(t));
            req.push(n.clone());
        }
        let (output, error) = match f.results.first() {
            Some(Type::Result(r)) => (r.ok().map(|t| ty(&t)), r.err().map(|t| ty(&t))),
            Some(t) => (Some(ty(t)), None),
            None => (None, None),
        };
        Ok(FunctionSchema {
            description: None,
            input: json!({"type":"object","properties":props,"required":req,"additionalProperties":false}),
            output,
            error,
        })
    }
}
impl ShimR for Results {
    fn json(&self) -> Result<Outcome, WasmError> {
        let v = self.values()?;
        Ok(match v.first() {
            None => Outcome::Value(None),
            Some(Val::Result(Ok(v))) => Outcome::Value(v.as_ref().map(|v| js(v))),
            Some(Val::Result(Err(v))) => Outcome::Error(v.as_ref().map_or(Value::Null, |v| js(v))),
            Some(v) => Outcome::Value(Some(js(v))),
        })
    }
}
fn ty(t: &Type) -> Value {
    match t {
        Type::String => json!({"type":"string"}),
        Type::Bool => json!({"type":"boolean"}),
        Type::List(l) => json!({"type":"array","items":ty(&l.ty())}),
        Type::U8
        | Type::U16
        | Type::U32
        | Type::U64
        | Type::S8
        | Type::S16
        | Type::S32
        | Type::S64 => json!({"type":"integer"}),
        Type::Float32 | Type::Float64 => json!({"type":"number"}),
        _ => json!({}),
    }
}
fn val(t: &Type, v: &Value) -> Option<Val> {
    Some(match t {
        Type::String => Val::String(v.as_str()?.into()),
        Type::Bool => Val::Bool(v.as_bool()?),
        Type::U8 => Val::U8(v.as_u64()?.try_into().ok()?),
        Type::U32 => Val::U32(v.as_u64()?.try_into().ok()?),
        Type::U64 => Val::U64(v.as_u64()?),
        Type::S64 => Val::S64(v.as_i64()?),
        Type::Float64 => Val::Float64(v.as_f64()?),
        Type::List(l) => {
            let i = l.ty();
            Val::List(
                v.as_array()?
                    .iter()
                    .map(|v| val(&i, v))
                    .collect::<Option<_>>()?,
            )
        }
        _ => return None,
    })
}
fn js(v: &Val) -> Value {
    match v {
        Val::Bool(b) => json!(b),
        Val::U8(n) => json!(n),
        Val::U16(n) => json!(n),
        Val::U32(n) => json!(n),
        Val::U64(n) => json!(n),
        Val::S32(n) => json!(n),
        Val::S64(n) => json!(n),
        Val::Float64(n) => json!(n),
        Val::String(s) => json!(s),
        Val::Enum(s) => json!(s),
        Val::List(l) => Value::Array(l.iter().map(js).collect()),
        Val::Tuple(l) => Value::Array(l.iter().map(js).collect()),
        Val::Record(r) => Value::Object(r.iter().map(|(k, v)| (k.clone(), js(v))).collect()),
        Val::Option(o) => o.as_ref().map_or(Value::Null, |v| js(v)),
        _ => json!(format!("{v:?}")),
    }
}
