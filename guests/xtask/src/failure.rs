//! Why a tool was not built.

use std::io;
use std::path::{Path, PathBuf};

use airssys_componentize::{BindingsError, ComponentizeError};

/// What ends `cargo xtask guests`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error("{problem}")]
    Usage { problem: String },
    #[error("cannot {verb} {}: {source}", path.display())]
    Io {
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A tool chain is not there and could not be installed.
    #[error("cannot install {what}: run `{by_hand}` by hand\n{told}")]
    Toolchain {
        what: &'static str,
        by_hand: String,
        told: String,
    },
    #[error("cannot run `{line}`: {source}")]
    Start { line: String, source: io::Error },
    #[error("`{line}` in {} failed ({status}):\n{told}", folder.display())]
    Command {
        line: String,
        folder: PathBuf,
        status: std::process::ExitStatus,
        told: String,
    },
    #[error(transparent)]
    Bindings(#[from] BindingsError),
    #[error(transparent)]
    Componentize(#[from] ComponentizeError),
}

impl BuildError {
    pub(crate) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { verb, path, source }
    }
}
