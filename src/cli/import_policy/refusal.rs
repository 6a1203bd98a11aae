//! Why a rule of a policy is not enforced, and what to do about it.

use std::path::PathBuf;

use airssys_osl::grants::HostPatternError;
use serde_json::{Value, json};

use super::yaml::YamlError;

/// What stands in the way of a file: nothing was written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {} rule(s) cannot be enforced", path.display(), refusals.len())]
pub(crate) struct PolicyError {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its text.
    pub(crate) text: String,
    /// In the order of their lines.
    pub(crate) refusals: Vec<Refusal>,
}

/// A rule that is not enforced.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Where it stands, counted from 1.
    pub(crate) line: usize,
    /// The rule, for example `storage.allow fs://work/*.log [read]`.
    pub(crate) rule: String,
    /// Why not.
    pub(crate) why: Why,
    /// Whether it allows something, so that less is granted without it.
    pub(crate) allows: bool,
}

/// Why a rule is not enforced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Why {
    #[error(transparent)]
    Yaml(YamlError),
    #[error("unknown key")]
    UnknownKey,
    #[error("expected {expected}")]
    Shape { expected: &'static str },
    #[error("missing")]
    Missing,
    #[error("a version that is not known: this reads 1.x")]
    Version,

    #[error("not a directory of the host: a URI begins with `fs://` and a path follows")]
    NoDirectory,
    #[error(
        "a path with an empty part, `.`, `..`, quotes, `\\` or control characters, or too long"
    )]
    Path,
    #[error("a directory is granted whole, with all below; this pattern picks from it")]
    Glob,
    #[error("a file by itself cannot be granted, only a directory")]
    File,
    #[error("a directory that may be written to may be read as well; this one may not")]
    WriteOnly,
    #[error("line {line} grants another directory that a component would know by the same path")]
    GuestTaken { line: usize },
    #[error("line {line} grants a directory that this is a part of, and a part cannot be denied")]
    PartDenied { line: usize },

    #[error(transparent)]
    Host(HostPatternError),
    #[error("`http` and `https` are the schemes that stand for a port, and other schemes do not")]
    Scheme,
    #[error("a scheme by itself cannot be denied, only a host or one of its ports")]
    SchemeDenied,
    #[error("a host is granted or denied as a whole: paths, queries and users are not looked at")]
    UrlPath,
    #[error("not a network: an address, `/` and a prefix")]
    Cidr,
    #[error("the name leads to this machine, and names lead to public addresses only")]
    Loopback,

    #[error("a variable's name is made of letters, digits and `_`, not beginning with a digit")]
    Variable,

    #[error("not a quantity: digits, and k, M, G, T, Ki, Mi, Gi, Ti or nothing behind them")]
    Quantity,
    #[error("{bytes} bytes are fewer than the {least} a component has at least")]
    MemoryTooLow { bytes: u64, least: u64 },
    #[error("{bytes} bytes are more than the {most} that any host allows")]
    MemoryTooHigh { bytes: u64, most: u64 },
    #[error("a share of a processor is not measured, so it cannot be kept")]
    CpuShare,
    #[error("operations on storage are not counted, so they cannot be limited")]
    Io,

    #[error("there is no container, and a component cannot be given privileges of the host's")]
    Privileges,
    #[error("components have no pipes and no sockets of this machine")]
    Ipc,
}

impl Why {
    /// What to do about it.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Yaml(_) | Self::Shape { .. } | Self::Missing => {
                "write the policy as YAML in wassette's format"
            }
            Self::UnknownKey => "take it out, or spell it as the format does",
            Self::Version => "write `version: \"1.0\"`",
            Self::NoDirectory => {
                "write `fs:///srv/data/**`, or `fs://data/**` for one beside the component"
            }
            Self::Path => "write the path without them",
            Self::Glob => "write the directory, `fs://data/**`, if all in it may be reached",
            Self::File => {
                "move it into a directory of its own and write that; make a directory first that is not there"
            }
            Self::WriteOnly => "add `read`, if what is written there may be read",
            Self::GuestTaken { .. } => "write both as absolute paths, or give them other names",
            Self::PartDenied { .. } => {
                "allow the parts that are meant instead of the whole, or move the denied part out of it"
            }
            Self::Host(_) | Self::Scheme | Self::UrlPath => {
                "write the host alone: `api.example.com`, `*.example.com`"
            }
            Self::SchemeDenied => "write the host alone; it is then denied at all its ports",
            Self::Cidr => "write, for example, `10.0.0.0/8`",
            Self::Loopback => "add `cidr: \"127.0.0.1/32\"` beside it, if this machine is meant",
            Self::Variable => "write the name of one variable",
            Self::Quantity => "write, for example, `512Mi`",
            Self::MemoryTooLow { .. } => "raise it: `airssys explain resources.memory.max_bytes`",
            Self::MemoryTooHigh { .. } => {
                "lower it: 1 GiB is the most that policy.memory.max_bytes may say"
            }
            Self::CpuShare => {
                "take it out, or write a whole processor (`1`, or 100 per cent), which is what one instance \
                 has at most; resources.cpu.timeout_seconds and max_fuel limit each call"
            }
            Self::Io => "take it out; capabilities.filesystem.max_bytes limits what is written",
            Self::Privileges => {
                "take it out; what a component may reach is said by storage and network"
            }
            Self::Ipc => "take it out; components ask one another by capabilities.messaging",
        }
    }
}

impl Refusal {
    /// The refusal as an object.
    pub(crate) fn json(&self) -> Value {
        json!({
            "line": self.line,
            "rule": self.rule,
            "message": self.why.to_string(),
            "help": self.why.help(),
            "skippable": self.allows,
        })
    }
}
