//! What is wrong with a configuration file, and what to write instead.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use airssys_osl::ReadError;

use super::keys::Key;

/// Most problems reported for one file.
pub const MAX_PROBLEMS: usize = 100;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// The file is not UTF-8.
    #[error("{}: not UTF-8: {source}", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Where the text breaks off.
        source: std::str::Utf8Error,
    },
    /// The file was read and breaks rules.
    #[error("{}", Problem::list(problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Its text, for whoever wants to show the lines.
        text: String,
        /// Everything found wrong, in file order; at most [`MAX_PROBLEMS`].
        problems: Vec<Problem>,
    },
}

/// One thing wrong in one file.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// Bytes of the file it is about.
    pub span: Range<usize>,
    /// The key, where it is about one.
    pub key: Option<String>,
    /// The rule that is broken.
    pub broken: Rule,
    /// What the key's ADR says, where there is one.
    pub decision: Option<Decision>,
}

/// A key's rule as its ADR states it.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Type, unit, bounds, default.
    pub rule: String,
    /// The ADR's id.
    pub adr: &'static str,
    /// Lines to paste.
    pub snippet: String,
}

impl From<&Key> for Decision {
    fn from(key: &Key) -> Self {
        Self {
            rule: key.rule(),
            adr: key.adr,
            snippet: key.snippet(),
        }
    }
}

/// The rule a file breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(
    missing_docs,
    reason = "the message of each variant says what its fields are"
)]
pub enum Rule {
    #[error("not TOML: {message}")]
    Syntax { message: String },
    #[error("unknown key (ADR-SYS-001){}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey { nearest: Option<String> },
    #[error("missing")]
    Missing,
    #[error("expected {expected}, found {found}")]
    WrongType {
        expected: String,
        found: &'static str,
    },
    #[error("{value} is too low: the least is {min}")]
    TooLow { value: i128, min: i64 },
    #[error("{value} is too high: the most is {max}")]
    TooHigh { value: i128, max: i64 },
    #[error("\"{value}\" is not allowed")]
    NotAllowed { value: String },
    #[error("\"{value}\": {reason}")]
    Refused { value: String, reason: String },
    #[error("not together with {other}")]
    NotWith { other: &'static str },
    #[error("\"{name}\" is already the name of another child")]
    DuplicateName { name: String },
    #[error("\"{name}\" is the name of a replica of \"{component}\", and is taken in line {line}")]
    ReplicaName {
        name: String,
        component: String,
        line: usize,
    },
    #[error("{reason}")]
    Unreadable { reason: String },
}

impl Problem {
    /// Line and column of a byte offset, both counted from 1.
    pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).map_or(0, |l| l.chars().count()) + 1;
        (line, column)
    }

    fn list(problems: &[Problem]) -> String {
        let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
        all.join("\n")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if let Some(key) = &self.key {
            write!(f, "`{key}`: ")?;
        }
        write!(f, "{}", self.broken)?;
        if let Some(decision) = &self.decision {
            write!(f, "\n  rule: {} ({})", decision.rule, decision.adr)?;
            write!(f, "\n  for example:")?;
            for line in decision.snippet.lines() {
                write!(f, "\n    {line}")?;
            }
        }
        Ok(())
    }
}
