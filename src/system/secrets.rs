//! `[[secret]]` of an airssys.toml (ADR-WASM-021).

use std::path::PathBuf;

use airssys_osl::{SecretKeyring, SecretName, SecretSource};
use airssys_wasm::config::{Document, Problem, Rule};
use serde::Deserialize;
use toml::Spanned;

/// A secret of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretConfig {
    /// What components know it by.
    pub name: SecretName,
    /// Where it is taken from.
    pub from: SecretFrom,
}

/// Where a secret is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFrom {
    /// A file that nobody but its owner may use.
    File(PathBuf),
    /// A variable of the host's environment.
    Environment(String),
    /// The user's kernel keyring, by description.
    Keyring(String),
    /// A file encrypted with age, and the file with the identity that opens it.
    #[cfg(feature = "age")]
    Age {
        /// The encrypted file.
        path: PathBuf,
        /// The identity's.
        identity: PathBuf,
    },
}

impl SecretFrom {
    pub(crate) fn source(&self) -> SecretSource {
        match self {
            Self::File(path) => SecretSource::File(path.clone()),
            Self::Environment(variable) => SecretSource::Environment(variable.clone()),
            Self::Keyring(description) => SecretSource::Keyring {
                keyring: SecretKeyring::User,
                description: description.clone(),
            },
            #[cfg(feature = "age")]
            Self::Age { path, identity } => SecretSource::Age {
                path: path.clone(),
                key: airssys_osl::AgeKey::IdentityFile(identity.clone()),
            },
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RawSecret {
    name: Spanned<String>,
    file: Option<String>,
    environment: Option<String>,
    keyring: Option<String>,
    age: Option<String>,
    identity: Option<String>,
}

impl RawSecret {
    pub(super) fn checked(
        self,
        document: &Document,
        known: &[SecretConfig],
    ) -> Result<SecretConfig, Box<Problem>> {
        let span = self.name.span();
        let refused = |key: &str, reason: &str| {
            let value = self.name.get_ref().clone();
            let reason = reason.to_owned();
            Box::new(document.problem(span.clone(), Some(key), Rule::Refused { value, reason }))
        };
        let name: SecretName = self
            .name
            .get_ref()
            .parse()
            .map_err(|_| refused("secret.name", "not a name"))?;
        if known.iter().any(|secret| secret.name == name) {
            return Err(refused(
                "secret.name",
                "is the name of another secret already",
            ));
        }
        let from = match (self.file, self.environment, self.keyring, self.age) {
            (Some(path), None, None, None) => SecretFrom::File(document.resolve(&path)),
            (None, Some(variable), None, None) => SecretFrom::Environment(variable),
            (None, None, Some(description), None) => SecretFrom::Keyring(description),
            #[cfg(feature = "age")]
            (None, None, None, Some(path)) => {
                let identity = self.identity.as_deref();
                SecretFrom::Age {
                    path: document.resolve(&path),
                    identity: identity
                        .map(|identity| document.resolve(identity))
                        .ok_or_else(|| refused("secret.identity", "needed beside `age`"))?,
                }
            }
            #[cfg(not(feature = "age"))]
            (None, None, None, Some(_)) => {
                return Err(refused("secret.age", "this program was built without age"));
            }
            _ => {
                let reason = "needs one of `file`, `environment`, `keyring` and `age`";
                return Err(refused("secret.name", reason));
            }
        };
        match (&from, self.identity) {
            #[cfg(feature = "age")]
            (SecretFrom::Age { .. }, _) => {}
            (_, Some(_)) => return Err(refused("secret.identity", "belongs to `age`")),
            (_, None) => {}
        }
        Ok(SecretConfig { name, from })
    }
}
