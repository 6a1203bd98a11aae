//! Values as bytes: how the arguments and results of a call travel in a checked buffer.
//!
//! The function's type is known on both sides, so only values travel, little-endian and without
//! padding: integers and floats as themselves, `char` as u32, lengths and case numbers as u32,
//! `bool`, `option` and `result` with one byte in front. Encoding checks each value against its
//! type, so a wrong argument never reaches a guest.

mod decode;
mod encode;

use airssys_integrity::{AppendError, Corrupt};
use airssys_rt::OutOfMemory;
use wasmtime::component::{Type, Val};

pub(crate) use decode::{Reader, Undecoded, decode};
#[cfg(feature = "fault-injection")]
pub(crate) use encode::encode_with_hit;
pub(crate) use encode::{encode_arguments, encode_run};
#[cfg(feature = "json")]
pub(crate) use encode::{encode_one, prefix};

/// Most bytes of the host's memory that results may take once they are values: a byte takes 40 as
/// one.
pub const MAX_VALUES_BYTES: usize = 64 * 1024 * 1024;

/// Deepest nesting of values.
pub(crate) const MAX_DEPTH: usize = 64;

/// Why values were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Not as many values as the function takes.
    #[error("expected {expected} arguments, got {found}")]
    Arity {
        /// Parameters of the function.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A value of another type than the function takes.
    #[error("{place}: expected {expected}, found {found}")]
    Type {
        /// The parameter, and the way into it.
        place: String,
        /// The type it has.
        expected: String,
        /// What was given.
        found: &'static str,
    },
    /// Resources, futures, streams and the like do not travel in a message.
    #[error("{place}: values of type {ty} cannot travel in a message; use `run`")]
    Unsupported {
        /// The parameter, and the way into it.
        place: String,
        /// Its type.
        ty: &'static str,
    },
    /// More than `[resources.message]` allows.
    #[error("more than {limit_bytes} bytes of message")]
    TooLarge {
        /// Most bytes the message may take.
        limit_bytes: usize,
    },
    /// Results that would take more of the host's memory as values than they may: read them as
    /// bytes or text.
    #[error("more than {limit_bytes} bytes as values")]
    TooLargeAsValues {
        /// [`MAX_VALUES_BYTES`].
        limit_bytes: usize,
    },
    /// Arguments that do not fit under the instance's memory limit beside what it holds. The guest
    /// was not entered.
    #[error("no room in the instance: {0}")]
    NoRoom(OutOfMemory),
    /// Nested deeper than 64 levels.
    #[error("{place}: nested too deeply")]
    TooDeep {
        /// The parameter, and the way into it.
        place: String,
    },
    /// The host has no memory for the message.
    #[error("no memory for the message")]
    NoMemory,
}

/// Why values did not become a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EncodeError {
    Value(ValueError),
    /// What arrived in the message is not what was sent.
    Damaged(Corrupt),
}

impl From<ValueError> for EncodeError {
    fn from(error: ValueError) -> Self {
        Self::Value(error)
    }
}

impl From<AppendError> for EncodeError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::LimitExceeded { limit, .. } => {
                Self::Value(ValueError::TooLarge { limit_bytes: limit })
            }
            AppendError::Corrupt(corrupt) => Self::Damaged(corrupt),
            _ => Self::Value(ValueError::NoMemory),
        }
    }
}

/// Bytes that do not decode as the type they were encoded by: a defect of ours, never the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message does not decode as its type")]
pub struct DecodeError;

/// Whether values of the type itself, whatever is in them, travel in a message.
pub(crate) fn travels(ty: &Type) -> bool {
    !matches!(
        ty,
        Type::Own(_)
            | Type::Borrow(_)
            | Type::Future(_)
            | Type::Stream(_)
            | Type::ErrorContext
            | Type::Map(_)
            | Type::FixedLengthList(_)
    )
}

pub(crate) fn type_name(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::S8 => "s8",
        Type::U8 => "u8",
        Type::S16 => "s16",
        Type::U16 => "u16",
        Type::S32 => "s32",
        Type::U32 => "u32",
        Type::S64 => "s64",
        Type::U64 => "u64",
        Type::Float32 => "f32",
        Type::Float64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::List(_) => "list",
        Type::Map(_) => "map",
        Type::FixedLengthList(_) => "fixed-length list",
        Type::Record(_) => "record",
        Type::Tuple(_) => "tuple",
        Type::Variant(_) => "variant",
        Type::Enum(_) => "enum",
        Type::Option(_) => "option",
        Type::Result(_) => "result",
        Type::Flags(_) => "flags",
        Type::Own(_) => "own",
        Type::Borrow(_) => "borrow",
        Type::Future(_) => "future",
        Type::Stream(_) => "stream",
        Type::ErrorContext => "error-context",
    }
}

fn value_name(value: &Val) -> &'static str {
    match value {
        Val::Bool(_) => "bool",
        Val::S8(_) => "s8",
        Val::U8(_) => "u8",
        Val::S16(_) => "s16",
        Val::U16(_) => "u16",
        Val::S32(_) => "s32",
        Val::U32(_) => "u32",
        Val::S64(_) => "s64",
        Val::U64(_) => "u64",
        Val::Float32(_) => "f32",
        Val::Float64(_) => "f64",
        Val::Char(_) => "char",
        Val::String(_) => "string",
        Val::List(_) => "list",
        Val::Map(_) => "map",
        Val::Record(_) => "record",
        Val::Tuple(_) => "tuple",
        Val::Variant(..) => "variant",
        Val::Enum(_) => "enum",
        Val::Option(_) => "option",
        Val::Result(_) => "result",
        Val::Flags(_) => "flags",
        Val::Resource(_) => "resource",
        Val::Future(_) => "future",
        Val::Stream(_) => "stream",
        Val::ErrorContext(_) => "error-context",
        Val::FixedLengthList(_) => "fixed-length list",
    }
}
