//! The tools there are.

/// A tool: a folder of `guests/tools`.
pub(crate) struct Tool {
    /// Its folder and its component.
    pub(crate) name: &'static str,
    /// What it is written in.
    pub(crate) language: Language,
}

/// What a tool is written in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    C,
    JavaScript,
    Python,
    Zig,
}

impl Language {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::C => "C",
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
            Self::Zig => "Zig",
        }
    }
}

pub(crate) const TOOLS: [Tool; 6] = [
    Tool {
        name: "search",
        language: Language::Rust,
    },
    Tool {
        name: "fetch",
        language: Language::Rust,
    },
    Tool {
        name: "csv",
        language: Language::C,
    },
    Tool {
        name: "json-query",
        language: Language::JavaScript,
    },
    Tool {
        name: "statistics",
        language: Language::Python,
    },
    Tool {
        name: "diff",
        language: Language::Zig,
    },
];
