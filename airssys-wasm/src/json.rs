//! Arguments and results as JSON, straight between JSON and the bytes of a message, and a JSON
//! Schema of each function (ADR-WASM-023).
//!
//! | WIT | JSON |
//! |---|---|
//! | `bool`, `string` | boolean, string |
//! | integers | integer; 64 bits are taken as a string of decimal digits too |
//! | `f32`, `f64` | number, or one of the strings `"nan"`, `"inf"`, `"-inf"` |
//! | `char` | string of one Unicode scalar value |
//! | `list<u8>` | string of base64; an array of integers is taken too |
//! | `list`, `tuple` | array |
//! | `record` | object; a field that is an option may be left out |
//! | `variant` | `{"tag": "case"}`, with `"val"` where the case has a payload |
//! | `enum`, `flags` | string, array of unique strings |
//! | `option<T>` | `null` or `T`; where `T` is an option itself, `null` or `{"some": T}` |
//! | `result` | `{"ok": T}` or `{"err": E}`, with `null` where there is no payload |
//! | handles | string, as [`ResourceHandle`](crate::ResourceHandle) is told: `counter#3.7` |
//!
//! As the whole result of a function, a `result` is an [`Outcome`] instead. Which of its bits a
//! NaN has set is lost.

mod decode;
mod docs;
mod encode;
mod schema;

use airssys_integrity::{BufferWriter, VerificationLevel};
use serde_json::{Map, Value};
use wasmtime::component::{Type, Val};

use crate::component::{ComponentRef, kinds_of};
use crate::error::WasmError;
use crate::message::{Messages, Runs, Writer};
use crate::payload::{self, EncodeError, MAX_VALUES_BYTES, Undecoded, ValueError};
use crate::results::{Reading, Results};
use crate::watch::CallOptions;

pub(crate) use docs::Docs;
pub use docs::{MAX_DOCS_BYTES, without_docs};
pub(crate) use schema::schema;
pub use schema::{FunctionSchema, MAX_SCHEMA_BYTES};

/// What a call returned, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The result, or what is in its `ok`. `None` where there is none.
    Value(Option<Value>),
    /// What is in the `err` of a function that returns a `result`; `null` where that is empty.
    Error(Value),
}

/// Why JSON did not become values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Another value than the type takes.
    #[error("{place}: expected {expected}, found {found}")]
    Type {
        /// The parameter, and the way into it, such as `point.x` or `lines.3`.
        place: String,
        /// The type, and what it takes.
        expected: String,
        /// What was given, cut short.
        found: String,
    },
    /// A parameter or field that is no option was left out.
    #[error("{place}: missing, expected {expected}")]
    Missing {
        /// The parameter, and the way into it.
        place: String,
        /// The type, and what it takes.
        expected: String,
    },
    /// No parameter or field of that name.
    #[error("{place}: unknown; there are: {known}")]
    Unknown {
        /// The name, and the way to it.
        place: String,
        /// The names there are.
        known: String,
    },
    /// Too large, nested too deeply, or of a type that does not travel.
    #[error(transparent)]
    Value(#[from] ValueError),
}

/// Why JSON did not become a message.
enum Refused {
    Json(JsonError),
    Encode(EncodeError),
}

impl From<JsonError> for Refused {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

impl<E: Into<EncodeError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Encode(error.into())
    }
}

impl Refused {
    /// Where nothing checks the bytes on their way, so that none can be found damaged.
    fn unchecked(self) -> JsonError {
        match self {
            Self::Json(error) => error,
            Self::Encode(EncodeError::Value(error)) => error.into(),
            Self::Encode(EncodeError::Damaged(_)) => ValueError::NoMemory.into(),
        }
    }
}

/// The JSON of a value of this type. Handles belong to a component, and are no such values.
///
/// # Errors
/// [`JsonError::Value`] where the value is not of the type, does not travel in a message, or takes
/// more than [`MAX_VALUES_BYTES`] as JSON.
pub fn from_val(value: &Val, ty: &Type) -> Result<Value, JsonError> {
    let bytes = payload::encode_one(unchecked(), ty, value)
        .map_err(|error| Refused::Encode(error).unchecked())?;
    decode::value(ty, bytes.unverified()).map_err(too_large)
}

/// The value of this type that JSON tells.
///
/// # Errors
/// [`JsonError`].
pub fn to_val(value: &Value, ty: &Type) -> Result<Val, JsonError> {
    let mut writer = unchecked();
    let mut runs = Runs::new(&mut writer);
    encode::value(ty, value, &mut runs).map_err(Refused::unchecked)?;
    let ended = runs.end();
    ended.map_err(|error| Refused::Encode(error).unchecked())?;
    let bytes = writer.finish();
    let mut values =
        payload::decode(std::iter::once(ty), &[], bytes.unverified()).map_err(too_large)?;
    values.pop().ok_or(JsonError::Value(ValueError::NoMemory))
}

/// For bytes that are read again at once.
fn unchecked() -> Writer {
    Writer::Heap(BufferWriter::with_limit(MAX_VALUES_BYTES).level(VerificationLevel::Off))
}

fn too_large(undecoded: Undecoded) -> JsonError {
    JsonError::Value(match undecoded {
        Undecoded::TooLarge => ValueError::TooLargeAsValues {
            limit_bytes: MAX_VALUES_BYTES,
        },
        // What has just been encoded decodes.
        Undecoded::Malformed(_) => ValueError::NoMemory,
    })
}

impl ComponentRef {
    /// Encodes the arguments of a call from an object with a member for each parameter. One that is
    /// an option may be left out. No `Val` is made in between.
    ///
    /// # Errors
    /// [`WasmError::Json`] with the place and what is expected there; otherwise as
    /// [`ComponentRef::encode`].
    pub fn encode_json(
        &self,
        function: &str,
        arguments: &Map<String, Value>,
    ) -> Result<crate::Message, WasmError> {
        let loaded = self.loaded()?;
        let (_, function) = self.callable(&loaded, function)?;
        let messages: &Messages = &loaded.messages;
        let kinds = kinds_of(&loaded, function);
        encode::message(messages, &function.params, arguments, kinds).map_err(|refused| {
            match refused {
                Refused::Encode(error) => self.not_encoded(error),
                Refused::Json(JsonError::Value(error)) => self.not_encoded(error.into()),
                Refused::Json(source) => self.not_from_json(source),
            }
        })
    }

    /// Calls with arguments by name, as [`ComponentRef::encode_json`] takes them.
    ///
    /// # Errors
    /// As [`ComponentRef::call`], [`ComponentRef::encode_json`] and [`Results::json`].
    pub async fn call_json(
        &self,
        function: &str,
        arguments: &Map<String, Value>,
    ) -> Result<Outcome, WasmError> {
        self.call_json_with(function, arguments, CallOptions::default())
            .await
    }

    /// As [`ComponentRef::call_json`], with a deadline of its own, or told of while it goes on.
    ///
    /// # Errors
    /// As [`ComponentRef::call_json`], and as the options say.
    pub async fn call_json_with(
        &self,
        function: &str,
        arguments: &Map<String, Value>,
        options: CallOptions,
    ) -> Result<Outcome, WasmError> {
        let make = || self.with_message(function, self.encode_json(function, arguments)?);
        self.call_made(options, make).await?.reading().json()
    }

    /// The JSON Schema of a function's parameters and results.
    ///
    /// # Errors
    /// [`WasmError::NotStarted`] or [`WasmError::Function`].
    pub fn schema(&self, function: &str) -> Result<FunctionSchema, WasmError> {
        let schema = self.exports()?.schema(function);
        schema.map_err(|source| WasmError::Function {
            component: self.name().clone(),
            source,
        })
    }
}

impl Results {
    /// The results as JSON, which takes at most [`MAX_VALUES_BYTES`]. No `Val` is made in between.
    ///
    /// # Errors
    /// [`WasmError::Results`] with [`ValueError::TooLargeAsValues`], [`WasmError::Damaged`].
    pub fn json(&self) -> Result<Outcome, WasmError> {
        self.reading().json()
    }
}

impl Reading<'_> {
    pub(crate) fn json(self) -> Result<Outcome, WasmError> {
        let bytes = self.read()?;
        decode::outcome(self.types(), self.kinds(), bytes)
            .map_err(|undecoded| self.not_read(undecoded))
    }
}
