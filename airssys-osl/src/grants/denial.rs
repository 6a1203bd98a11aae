//! An access that was refused, and what would have allowed it.

use std::fmt;

use super::quota::QuotaExceeded;

/// A kind of access that needs a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// Directories and what is in them.
    Filesystem,
    /// Addresses, names and ports.
    Network,
    /// Keys and values of a store.
    KeyValue,
    /// Topics and other components.
    Messaging,
    /// Secrets.
    Secrets,
}

impl Capability {
    /// Its name: that of its table in `[capabilities]`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Filesystem => "filesystem",
            Self::Network => "network",
            Self::KeyValue => "keyvalue",
            Self::Messaging => "messaging",
            Self::Secrets => "secrets",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What would have allowed an access, as TOML to paste.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Table of Component.toml, for example `[capabilities.network]`; that of airssys.toml where the
    /// component has the grant and the policy lacks it.
    pub table: &'static str,
    /// Key in it.
    pub key: &'static str,
    /// The value, as TOML.
    pub value: String,
    /// What else has to stand there, as keys and values.
    pub beside: Vec<(&'static str, String)>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{} = {}", self.table, self.key, self.value)?;
        for (key, value) in &self.beside {
            write!(f, "\n{key} = {value}")?;
        }
        Ok(())
    }
}

/// Why an access was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DenialReason {
    /// The component was not granted it.
    #[error("not granted")]
    NotGranted,
    /// A rule of the component's own denies it.
    #[error("denied by its rule \"{0}\"")]
    Denied(String),
    /// The component has the grant, the host's policy does not allow it.
    #[error("not allowed by the host's policy")]
    NotAllowed,
    /// The host's policy denies it by a rule.
    #[error("denied by the policy's rule \"{0}\"")]
    Forbidden(String),
    /// The address is not a public one, and no rule names it as an address.
    #[error("the address is not public, and no rule names it as one")]
    NotPublic,
    /// It may have no more of them.
    #[error("{most} are open, and no more may be")]
    TooMany {
        /// How many there may be.
        most: u32,
    },
    /// There is no more room.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// The audit log takes no more records, and is set to refuse what it cannot record.
    #[error("the audit log is full")]
    Unrecorded,
}

/// An access that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{capability}: {subject}: {reason}")]
pub struct Denial {
    /// What kind of access.
    pub capability: Capability,
    /// To what, for example `connect 10.0.0.1:80`. At most a few hundred bytes; it may hold what a
    /// guest made up.
    pub subject: String,
    /// Why.
    pub reason: DenialReason,
    /// What would allow it, where a grant would.
    pub missing: Option<Box<Missing>>,
}
