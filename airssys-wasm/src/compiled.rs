//! A component made ready to run: read, compiled and linked once, instantiated many times.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use airssys_osl::{ReadError, read_identified_file};
use airssys_rt::CaughtPanic;
use sha2::{Digest, Sha256};
use wasmtime::ResourcesRequired;
use wasmtime::component::{Component, InstancePre};

use crate::engine::Engine;
use crate::exports::Exports;
use crate::library::Seen;
use crate::provenance::{NotGenuine, Provenance, WasmDigest};
use crate::services::GrantError;
use crate::state::ComponentState;

/// Most bytes of a component binary.
pub const MAX_WASM_BYTES: u64 = 64 * 1024 * 1024;

/// Why a component could not be made ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The binary could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not the binary that is meant.
    #[error("{} {reason}", path.display())]
    NotGenuine {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Arc<NotGenuine>,
    },
    /// A core module, not a component.
    #[error(
        "{} is a core WebAssembly module, not a component: build it for the target wasm32-wasip2, \
         or wrap it with a component encoder", path.display()
    )]
    CoreModule {
        /// The file.
        path: PathBuf,
    },
    /// Not WebAssembly at all.
    #[error("{} is not a WebAssembly binary", path.display())]
    NotWasm {
        /// The file.
        path: PathBuf,
    },
    /// Damaged, or not valid as a component.
    #[error("{} is not a valid component: {}", path.display(), Chain(reason.as_ref()))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What the validator or compiler said.
        reason: Arc<dyn Error + Send + Sync>,
    },
    /// It imports something the host does not offer.
    #[error("{} cannot be linked: {}", path.display(), Chain(reason.as_ref()))]
    Link {
        /// The file.
        path: PathBuf,
        /// The import that is missing or of another type.
        reason: Arc<dyn Error + Send + Sync>,
    },
    /// It cannot have what it was granted.
    #[error(transparent)]
    Grant(#[from] Arc<GrantError>),
    /// The compiler panicked on it.
    #[error("the compiler panicked on {}: {}", path.display(), panic.message)]
    CompilerPanic {
        /// The file.
        path: PathBuf,
        /// What it said.
        panic: CaughtPanic,
    },
}

/// An error with all that it was caused by: wasmtime's outermost message seldom says enough.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// A compiled and linked component.
pub(crate) struct Compiled {
    pub(crate) engine: Arc<Engine>,
    pub(crate) pre: InstancePre<ComponentState>,
    pub(crate) exports: Arc<Exports>,
    /// What every instance takes to begin with; `None` where it depends on its imports.
    pub(crate) required: Option<ResourcesRequired>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled")
            .field("exports", &self.exports)
            .finish_non_exhaustive()
    }
}

/// A binary that is what it must be.
pub(crate) struct Genuine {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: WasmDigest,
    /// `None` where nothing would tell that one of its files was exchanged.
    pub(crate) seen: Option<Seen>,
}

/// Reads a binary and takes its digest, if it is what it must be. Blocks.
pub(crate) fn read_wasm(path: &Path, provenance: &Provenance) -> Result<Genuine, LoadError> {
    let (bytes, wasm) = read_identified_file(path, MAX_WASM_BYTES)?;
    let digest = WasmDigest(Sha256::digest(&bytes).into());
    match provenance.check(&bytes, digest) {
        Ok(signed) => Ok(Genuine {
            bytes,
            digest,
            seen: wasm.and_then(|wasm| Seen::new(wasm, signed)),
        }),
        Err(reason) => Err(LoadError::NotGenuine {
            path: path.to_path_buf(),
            reason: Arc::new(reason),
        }),
    }
}

/// Why bytes did not become a component, wherever they came from.
#[derive(Debug, Clone)]
pub(crate) enum Unfit {
    CoreModule,
    NotWasm,
    Invalid(Arc<dyn Error + Send + Sync>),
    Link(Arc<dyn Error + Send + Sync>),
    CompilerPanic(CaughtPanic),
}

impl Unfit {
    /// The error for the file at `path`.
    pub(crate) fn at(self, path: &Path) -> LoadError {
        let path = path.to_path_buf();
        match self {
            Self::CoreModule => LoadError::CoreModule { path },
            Self::NotWasm => LoadError::NotWasm { path },
            Self::Invalid(reason) => LoadError::Invalid { path, reason },
            Self::Link(reason) => LoadError::Link { path, reason },
            Self::CompilerPanic(panic) => LoadError::CompilerPanic { path, panic },
        }
    }
}

/// Compiles. Blocks, for as long as the binary is large.
pub(crate) fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, Unfit> {
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => return Err(Unfit::CoreModule),
        Some([0, b'a', b's', b'm', ..]) => {}
        _ => return Err(Unfit::NotWasm),
    }
    Component::from_binary(&engine.wasmtime, bytes)
        .map_err(|error| Unfit::Invalid(Arc::from(Box::<dyn Error + Send + Sync>::from(error))))
}

/// Links what was compiled from these bytes, or was taken from the cache for them.
pub(crate) fn link(
    engine: &Arc<Engine>,
    component: &Component,
    bytes: &[u8],
) -> Result<Compiled, Unfit> {
    let pre = engine
        .linker
        .instantiate_pre(component)
        .map_err(|error| Unfit::Link(Arc::from(Box::<dyn Error + Send + Sync>::from(error))))?;
    Ok(Compiled {
        exports: Arc::new(Exports::of(component, &engine.wasmtime, bytes)),
        required: component.resources_required(),
        engine: Arc::clone(engine),
        pre,
    })
}
