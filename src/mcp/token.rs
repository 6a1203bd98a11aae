//! The token that a client over HTTP shows.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Fewest bytes of a token.
const MIN_BYTES: usize = 16;

/// Most bytes of a token.
const MAX_BYTES: usize = 4096;

/// A secret of 16 to 4096 visible ASCII characters. Wiped when it is dropped.
#[derive(Clone)]
pub struct Token(Zeroizing<Vec<u8>>);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read the file, or write to it.
    #[error("{} has mode {mode:03o}: only its owner may have access, as with mode 600", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Too short, too long, or with characters that no header has.
    #[error("a token is {MIN_BYTES} to {MAX_BYTES} visible ASCII characters")]
    Unfit,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token in a text; white space around it does not count.
    ///
    /// # Errors
    /// [`TokenError::Unfit`].
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let fits = (MIN_BYTES..=MAX_BYTES).contains(&text.len());
        match fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(Zeroizing::new(text.as_bytes().to_vec()))),
            false => Err(TokenError::Unfit),
        }
    }

    /// The token in a file that only its owner has access to.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let unreadable = |source| TokenError::Unreadable {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        only_the_owners(&file, path)?;
        let mut text = Zeroizing::new(String::with_capacity(2 * MAX_BYTES));
        let mut file = file.take(2 * MAX_BYTES as u64);
        file.read_to_string(&mut text).map_err(unreadable)?;
        Self::new(&text)
    }

    /// Whether this is the token. The time it takes tells nothing but the length.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        self.0.ct_eq(shown).into()
    }
}

#[cfg(unix)]
fn only_the_owners(file: &File, path: &Path) -> Result<(), TokenError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().map_err(|source| TokenError::Unreadable {
        path: path.to_path_buf(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(TokenError::Open {
            path: path.to_path_buf(),
            mode,
        }),
    }
}

#[cfg(not(unix))]
fn only_the_owners(_: &File, _: &Path) -> Result<(), TokenError> {
    Ok(())
}
