//! Environment variables and arguments.

use std::fmt;
use std::str::FromStr;

/// A text that is no name of an environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a variable's name is made of letters, digits and `_`, not beginning with a digit")]
pub struct EnvironmentNameError;

/// Name of an environment variable: `[A-Za-z_][A-Za-z0-9_]*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentName(Box<str>);

impl EnvironmentName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EnvironmentName {
    type Err = EnvironmentNameError;

    fn from_str(text: &str) -> Result<Self, EnvironmentNameError> {
        let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let goes_on = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match starts && goes_on {
            true => Ok(Self(Box::from(text))),
            false => Err(EnvironmentNameError),
        }
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A variable that a component sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: EnvironmentName,
    /// Its value; `None` for what the host's own environment says when the component is loaded,
    /// and nothing where that has no such variable.
    pub value: Option<String>,
}

/// `[capabilities.environment]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentGrants {
    /// What it sees of an environment, and nothing else.
    pub variables: Vec<Variable>,
    /// Its arguments.
    pub arguments: Vec<String>,
}
