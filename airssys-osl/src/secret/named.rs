//! Secrets by name.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ProtectedSecret;
use super::memory::SecretMemory;
use super::source::{LoadError, SecretSource};

/// Most bytes of a [`SecretName`].
pub const MAX_SECRET_NAME_BYTES: usize = 64;

/// Not a name for a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not [a-z][a-z0-9-]* of at most {MAX_SECRET_NAME_BYTES} bytes")]
pub struct SecretNameError {
    /// What was given.
    pub text: String,
}

/// No secret has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no secret is named `{name}`")]
pub struct UnknownSecret {
    /// The name asked for.
    pub name: String,
}

/// What a secret is called: `[a-z][a-z0-9-]*`, at most [`MAX_SECRET_NAME_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

impl SecretName {
    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, SecretNameError> {
        let follows = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.len() <= MAX_SECRET_NAME_BYTES
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(follows)
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(SecretNameError {
                text: text.to_owned(),
            })
        }
    }
}

impl Borrow<str> for SecretName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Secrets by name, each taken from a [`SecretSource`] into one [`SecretMemory`]. Who has been handed
/// a secret keeps it when its name is forgotten.
///
/// ```
/// use airssys_osl::{NamedSecrets, SecretLimits, SecretMemory, SecretPolicy, SecretSource};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("token");
/// # std::fs::write(&path, "s3same")?;
/// # std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
///
/// let memory = SecretMemory::new(SecretPolicy::BestEffort, SecretLimits::default());
/// let secrets = NamedSecrets::new(memory);
/// secrets.load("api-token".parse()?, &SecretSource::File(path))?;
/// assert!(secrets.get("api-token")?.with_bytes(|value| value == b"s3same")?);
/// assert!(secrets.get("another").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct NamedSecrets {
    memory: SecretMemory,
    entries: Mutex<BTreeMap<SecretName, Entry>>,
}

#[derive(Debug)]
struct Entry {
    secret: Arc<ProtectedSecret>,
    /// The environment variable it came from.
    variable: Option<String>,
}

impl NamedSecrets {
    /// No secrets yet; those to come are put into `memory`.
    #[must_use]
    pub fn new(memory: SecretMemory) -> Self {
        Self {
            memory,
            entries: Mutex::default(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<SecretName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a secret from its source, now, and keeps it under this name.
    ///
    /// # Errors
    /// [`LoadError`]; a name that is taken stays what it was.
    pub fn load(
        &self,
        name: SecretName,
        source: &SecretSource,
    ) -> Result<Arc<ProtectedSecret>, LoadError> {
        // Without the lock: a source may be slow.
        let entry = Entry {
            secret: Arc::new(source.read(&self.memory)?),
            variable: match source {
                SecretSource::Environment(variable) => Some(variable.clone()),
                _ => None,
            },
        };
        let secret = Arc::clone(&entry.secret);
        let mut entries = self.entries();
        if entries.contains_key(name.as_str()) {
            return Err(LoadError::NameTaken { name });
        }
        entries.insert(name, entry);
        Ok(secret)
    }

    /// The secret of this name.
    ///
    /// # Errors
    /// [`UnknownSecret`].
    pub fn get(&self, name: &str) -> Result<Arc<ProtectedSecret>, UnknownSecret> {
        match self.entries().get(name) {
            Some(entry) => Ok(Arc::clone(&entry.secret)),
            None => Err(UnknownSecret {
                name: name.to_owned(),
            }),
        }
    }

    /// Forgets the secret of this name, and hands it out to be closed; dropped by its last holder,
    /// it is wiped.
    ///
    /// # Errors
    /// [`UnknownSecret`].
    pub fn remove(&self, name: &str) -> Result<Arc<ProtectedSecret>, UnknownSecret> {
        match self.entries().remove(name) {
            Some(entry) => Ok(entry.secret),
            None => Err(UnknownSecret {
                name: name.to_owned(),
            }),
        }
    }

    /// The names of its secrets, in order.
    #[must_use]
    pub fn names(&self) -> Vec<SecretName> {
        self.entries().keys().cloned().collect()
    }

    /// Keeps the environment variables that secrets came from out of what `command` inherits. Other
    /// commands inherit them.
    pub fn withhold_variables(&self, command: &mut Command) {
        for variable in self.entries().values().filter_map(|e| e.variable.as_ref()) {
            command.env_remove(variable);
        }
    }
}
