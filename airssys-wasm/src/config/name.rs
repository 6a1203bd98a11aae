//! The name of a component, or of a supervisor of them.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest component name, in characters.
const MAX_NAME_CHARS: usize = 64;

/// A component's name: `[a-z][a-z0-9-]*`, at most 64 characters, unique in its tree. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentName(Arc<str>);

/// A text that is no component name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name is [a-z][a-z0-9-]*, at most 64 characters")]
pub struct NameError;

impl ComponentName {
    /// The name of a replica, counted from 0; up to three characters longer than others may be.
    pub(crate) fn replica(&self, number: u32) -> Self {
        Self(Arc::from(format!("{self}-{number}")))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ComponentName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for ComponentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        let goes_on = text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if starts && goes_on && text.len() <= MAX_NAME_CHARS {
            Ok(Self(Arc::from(text)))
        } else {
            Err(NameError)
        }
    }
}

impl fmt::Display for ComponentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
