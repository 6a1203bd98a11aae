//! A component of a core module.

use wit_component::{ComponentEncoder, metadata};

/// WASI preview 1 with nothing behind it, as text: descriptors are closed, lists are empty, clocks
/// and randomness are not supported, and an exit traps.
pub const NULL_WASI: &str = include_str!("null_wasi.wat");

/// The name under which C libraries import it.
const WASI: &str = "wasi_snapshot_preview1";

/// Why a core module became no component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentizeError {
    /// It is no core module, or does not export what its world says.
    #[error("no component can be made of it: {reason:#}")]
    Module {
        /// What the encoder said.
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was not linked with the object file of its bindings, and would be a component that exports
    /// nothing.
    #[error("the module carries no world")]
    NoWorld,
    /// The text of [`NULL_WASI`] is wrong: a defect of this crate.
    #[error("the adapter does not parse: {0}")]
    Adapter(#[from] wat::Error),
}

/// Makes a validated component of a core module that was linked with the object file of its
/// bindings. What it imports of WASI preview 1 it gets from [`NULL_WASI`].
///
/// # Errors
/// [`ComponentizeError`].
pub fn componentize(core: &[u8]) -> Result<Vec<u8>, ComponentizeError> {
    let adapter = wat::parse_str(NULL_WASI)?;
    let refused =
        |reason: Box<dyn std::error::Error + Send + Sync>| ComponentizeError::Module { reason };
    let (without_world, _) = metadata::decode(core).map_err(|error| refused(error.into()))?;
    if without_world.is_none() {
        return Err(ComponentizeError::NoWorld);
    }
    let encode = || {
        ComponentEncoder::default()
            .validate(true)
            .module(core)?
            .adapter(WASI, &adapter)?
            .encode()
    };
    encode().map_err(|error| refused(error.into()))
}
