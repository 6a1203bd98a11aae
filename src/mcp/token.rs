//! The token that a client over HTTP shows.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use airssys_osl::{
    AccessError, LoadError, NamedSecrets, ProtectedSecret, SecretError, SecretLimits, SecretMemory,
    SecretPolicy, SecretSource,
};
use subtle::ConstantTimeEq;

/// Fewest bytes of a token.
const MIN_BYTES: usize = 16;

/// Most bytes of a token, with white space around it.
const MAX_BYTES: usize = 4096;

/// A secret of at least 16 visible ASCII characters, in protected memory as far as the system has it.
#[derive(Clone)]
pub struct Token(Arc<ProtectedSecret>);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file or the variable does not give one.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It cannot be kept.
    #[error(transparent)]
    Memory(#[from] SecretError),
    /// It cannot be read where it is kept.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Too short, or with characters that no header has.
    #[error("a token is at least {MIN_BYTES} visible ASCII characters")]
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
    /// [`TokenError::Unfit`] and [`TokenError::Memory`].
    pub fn new(text: String) -> Result<Self, TokenError> {
        let secret = ProtectedSecret::from_vec(&memory(), text.into_bytes())?;
        Self::checked(Arc::new(secret))
    }

    /// The token in a regular file of the user this process acts under, which nobody else may use.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        Self::load(&SecretSource::File(path.to_path_buf()))
    }

    /// The token in an environment variable; `None` where that is not set.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn from_environment(variable: &str) -> Result<Option<Self>, TokenError> {
        match Self::load(&SecretSource::Environment(variable.to_owned())) {
            Err(TokenError::Load(LoadError::MissingVariable { .. })) => Ok(None),
            token => token.map(Some),
        }
    }

    fn load(source: &SecretSource) -> Result<Self, TokenError> {
        let name = "token".parse().map_err(|_| TokenError::Unfit)?;
        Self::checked(NamedSecrets::new(memory()).load(name, source)?)
    }

    fn checked(secret: Arc<ProtectedSecret>) -> Result<Self, TokenError> {
        let fits = secret.with_bytes(|bytes| {
            let token = bytes.trim_ascii();
            token.len() >= MIN_BYTES && token.iter().all(u8::is_ascii_graphic)
        })?;
        match fits {
            true => Ok(Self(secret)),
            false => Err(TokenError::Unfit),
        }
    }

    /// Whether this is the token. The time it takes tells nothing but the length.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        let equal = |token: &[u8]| token.trim_ascii().ct_eq(shown).into();
        // What cannot be read is nobody's token.
        self.0.with_bytes(equal).unwrap_or(false)
    }
}

fn memory() -> SecretMemory {
    let limits = SecretLimits {
        max_bytes: MAX_BYTES,
        max_secrets: 1,
    };
    SecretMemory::new(SecretPolicy::BestEffort, limits)
}
