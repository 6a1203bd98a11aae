//! Topics, secrets and components as rules name them.

use std::fmt;
use std::str::FromStr;

/// Longest pattern, and longest name it may be held against, in bytes.
pub const MAX_PATTERN_BYTES: usize = 256;

/// A text that is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name is made of segments of letters, digits, `-` and `_` with dots between them, at most 256 \
     bytes; in a pattern `*` stands for one segment, and `**` at the end for one or more"
)]
pub struct NamePatternError;

/// A name such as `orders.created`, or a pattern of them: `orders.*`, `orders.**`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(Box<str>);

fn is_segment(segment: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !segment.is_empty() && segment.bytes().all(allowed)
}

impl NamePattern {
    /// Whether a text is a name, of which a pattern may speak.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        text.len() <= MAX_PATTERN_BYTES && text.split('.').all(is_segment)
    }

    /// The pattern that every name fits.
    #[must_use]
    pub fn any() -> Self {
        Self(Box::from("**"))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it speaks of one name only.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether `name` is a name and fits.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        if !Self::is_name(name) {
            return false;
        }
        let mut segments = name.split('.');
        for part in self.0.split('.') {
            match (part, segments.next()) {
                ("**", Some(_)) => return true,
                ("*", Some(_)) => {}
                (part, Some(segment)) if part == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }

    /// Whether every name that fits `other` fits this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mut theirs = other.0.split('.');
        for part in self.0.split('.') {
            match (part, theirs.next()) {
                ("**", Some(_)) => return true,
                ("*", Some(their)) if their != "**" => {}
                (part, Some(their)) if part == their => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }
}

impl FromStr for NamePattern {
    type Err = NamePatternError;

    fn from_str(text: &str) -> Result<Self, NamePatternError> {
        let mut segments = text.split('.').peekable();
        while let Some(segment) = segments.next() {
            let fits = match segment {
                "*" => true,
                "**" => segments.peek().is_none(),
                name => is_segment(name),
            };
            if !fits {
                return Err(NamePatternError);
            }
        }
        if text.len() > MAX_PATTERN_BYTES {
            return Err(NamePatternError);
        }
        Ok(Self(Box::from(text)))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Patterns that allow, and patterns that deny and win.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameRules {
    /// What is allowed.
    pub allow: Vec<NamePattern>,
    /// What is denied all the same.
    pub deny: Vec<NamePattern>,
}

impl NameRules {
    /// The rule that allows a name.
    ///
    /// # Errors
    /// The rule that denies it; `None` where no rule speaks of it.
    pub fn check(&self, name: &str) -> Result<&NamePattern, Option<&NamePattern>> {
        if let Some(rule) = self.deny.iter().find(|rule| rule.has(name)) {
            return Err(Some(rule));
        }
        self.allow.iter().find(|rule| rule.has(name)).ok_or(None)
    }
}
