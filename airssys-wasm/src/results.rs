//! What a call returned, as it came.

use std::fmt;
use std::sync::Arc;

use airssys_integrity::Corrupt;
use wasmtime::component::{Type, Val};

use crate::component_cell::ComponentCell;
use crate::config::ComponentName;
use crate::error::WasmError;
use crate::handles::Kind;
use crate::instance::Returned;
use crate::message::Message;
use crate::payload::{
    DecodeError, MAX_VALUES_BYTES, Reader, Undecoded, ValueError, decode, type_name,
};

/// The results of one call, in the message they came in. Each reading checks it as the component's
/// level says.
#[derive(Clone)]
pub struct Results {
    component: ComponentName,
    /// Who returned it.
    cell: Arc<ComponentCell>,
    generation: u64,
    returned: Returned,
}

/// What a call returned, where nobody keeps it.
pub(crate) struct Reply<'c> {
    pub(crate) component: &'c ComponentName,
    pub(crate) cell: &'c Arc<ComponentCell>,
    pub(crate) generation: u64,
    pub(crate) returned: Returned,
}

/// What is read of either.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'r> {
    component: &'r ComponentName,
    cell: &'r ComponentCell,
    generation: u64,
    returned: &'r Returned,
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results")
            .field("component", &self.component)
            .field("message", &self.returned.message)
            .finish_non_exhaustive()
    }
}

impl Results {
    pub(crate) fn reading(&self) -> Reading<'_> {
        Reading {
            component: &self.component,
            cell: &self.cell,
            generation: self.generation,
            returned: &self.returned,
        }
    }

    /// The message itself.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.returned.message
    }

    /// The bytes of a function that returns one `list<u8>`, where they lie.
    ///
    /// # Errors
    /// [`WasmError::Results`] if it returns something else, [`WasmError::Damaged`].
    pub fn bytes(&self) -> Result<&[u8], WasmError> {
        self.reading().run("list<u8>", is_bytes)
    }

    /// As [`Results::bytes`], copied out in one pass with the check.
    ///
    /// # Errors
    /// As [`Results::bytes`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, WasmError> {
        self.reading().to_bytes()
    }

    /// The text of a function that returns one `string`, where it lies.
    ///
    /// # Errors
    /// As [`Results::bytes`].
    pub fn text(&self) -> Result<&str, WasmError> {
        self.reading().text()
    }

    /// The results as values, which take at most [`MAX_VALUES_BYTES`]. A handle is a string, which
    /// parses as a [`ResourceHandle`](crate::ResourceHandle).
    ///
    /// # Errors
    /// [`WasmError::Results`] with [`ValueError::TooLargeAsValues`], [`WasmError::Damaged`].
    pub fn values(&self) -> Result<Vec<Val>, WasmError> {
        self.reading().values()
    }
}

impl Reply<'_> {
    pub(crate) fn reading(&self) -> Reading<'_> {
        Reading {
            component: self.component,
            cell: self.cell,
            generation: self.generation,
            returned: &self.returned,
        }
    }

    pub(crate) fn kept(self) -> Results {
        Results {
            component: self.component.clone(),
            cell: Arc::clone(self.cell),
            generation: self.generation,
            returned: self.returned,
        }
    }
}

impl<'r> Reading<'r> {
    pub(crate) fn to_bytes(self) -> Result<Vec<u8>, WasmError> {
        self.one("list<u8>", is_bytes)?;
        let Returned {
            loaded, message, ..
        } = self.returned;
        let copy = loaded.messages.read_vec(message, size_of::<u32>());
        let copy = copy.map_err(|source| self.damaged(source))?;
        // It has been checked with the bytes behind it.
        let length = Reader::new(message.unverified()).length();
        match length {
            Ok(length) if length == copy.len() => Ok(copy),
            _ => Err(self.undecodable(DecodeError)),
        }
    }

    pub(crate) fn text(self) -> Result<&'r str, WasmError> {
        let bytes = self.run("string", |ty| *ty == Type::String)?;
        std::str::from_utf8(bytes).map_err(|_| self.undecodable(DecodeError))
    }

    pub(crate) fn values(self) -> Result<Vec<Val>, WasmError> {
        let bytes = self.read()?;
        decode(self.types().iter(), self.kinds(), bytes)
            .map_err(|undecoded| self.not_read(undecoded))
    }

    pub(crate) fn not_read(self, undecoded: Undecoded) -> WasmError {
        match undecoded {
            Undecoded::Malformed(source) => self.undecodable(source),
            Undecoded::TooLarge => self.unfit(ValueError::TooLargeAsValues {
                limit_bytes: MAX_VALUES_BYTES,
            }),
        }
    }

    /// What follows the length of a list of bytes or a text.
    fn run(self, expected: &str, is: impl Fn(&Type) -> bool) -> Result<&'r [u8], WasmError> {
        self.one(expected, is)?;
        let mut reader = Reader::new(self.read()?);
        let mut run = || {
            let length = reader.length()?;
            let bytes = reader.bytes(length)?;
            reader.end()?;
            Ok(bytes)
        };
        run().map_err(|source| self.undecodable(source))
    }

    /// That there is one result, of a type that `is` tells.
    fn one(self, expected: &str, is: impl Fn(&Type) -> bool) -> Result<(), WasmError> {
        match self.types() {
            [ty] if is(ty) => Ok(()),
            types => Err(self.unfit(ValueError::Type {
                place: String::from("result"),
                expected: expected.to_owned(),
                found: types.first().map_or("none", type_name),
            })),
        }
    }

    pub(crate) fn kinds(self) -> &'r [Kind] {
        self.returned.loaded.compiled.exports.kinds()
    }

    pub(crate) fn types(self) -> &'r [Type] {
        let functions = self.returned.loaded.compiled.exports.functions();
        let function = functions.get(self.returned.function);
        function.map_or(&[], |function| &function.results)
    }

    pub(crate) fn read(self) -> Result<&'r [u8], WasmError> {
        let Returned {
            loaded, message, ..
        } = self.returned;
        let read = loaded.messages.read(message);
        read.map_err(|source| self.damaged(source))
    }

    /// Ends the instance whose results they are.
    fn damaged(self, source: Corrupt) -> WasmError {
        self.cell.condemn(self.generation, source);
        let component = self.component.clone();
        WasmError::Damaged { component, source }
    }

    fn unfit(self, source: ValueError) -> WasmError {
        let component = self.component.clone();
        WasmError::Results { component, source }
    }

    fn undecodable(self, source: DecodeError) -> WasmError {
        let component = self.component.clone();
        WasmError::Undecodable { component, source }
    }
}

fn is_bytes(ty: &Type) -> bool {
    matches!(ty, Type::List(list) if list.ty() == Type::U8)
}
