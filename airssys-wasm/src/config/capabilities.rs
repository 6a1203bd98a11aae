//! `[capabilities]`: what a component is granted (ADR-OSL-007).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use airssys_osl::grants::{
    DEFAULT_MAX_CONNECTIONS, DirectoryAccess, DirectoryGrant, EnvironmentGrants, EnvironmentName,
    HostPattern, MAX_DIRECTORIES, NetworkGrants, NetworkRules, Variable,
};
use serde::Deserialize;
use toml::Spanned;

use super::document::Document;
use super::problem::{Problem, Rule};

/// Most bytes of an environment variable's value, and of an argument.
const MAX_TEXT_BYTES: usize = 4096;

/// Bytes a directory that is written to may hold, where nothing else is said.
const DEFAULT_DIRECTORY_BYTES: u64 = 16 * 1024 * 1024;

/// `[capabilities]`. Nothing is granted that is not in here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CapabilitiesConfig {
    /// `[[capabilities.filesystem]]`.
    pub directories: Vec<DirectoryGrant>,
    /// `[capabilities.network]`.
    pub network: NetworkGrants,
    /// `[capabilities.environment]`.
    pub environment: EnvironmentGrants,
    /// `[capabilities.stdio]`.
    pub stdio: StdioConfig,
    /// With it, clocks and randomness are the same in each run.
    pub seed: Option<u64>,
}

/// `[capabilities.stdio]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StdioConfig {
    /// A file whose content each instance finds in its standard input, at most 1 MiB.
    pub input: Option<PathBuf>,
    /// What becomes of standard output and standard error.
    pub output: OutputTo,
}

/// What becomes of what a guest writes to its standard streams. It never is the host's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputTo {
    /// Told by the line, as events and in the log.
    #[default]
    Log,
    /// Nothing.
    Discard,
}

#[derive(Deserialize, Default)]
pub(super) struct RawCapabilities {
    #[serde(default)]
    filesystem: Vec<RawDirectory>,
    #[serde(default)]
    network: RawNetwork,
    #[serde(default)]
    environment: RawEnvironment,
    #[serde(default)]
    stdio: RawStdio,
    #[serde(default)]
    deterministic: RawDeterministic,
}

#[derive(Deserialize, Default)]
struct RawStdio {
    input: Option<String>,
    output: Option<OutputTo>,
}

#[derive(Deserialize, Default)]
struct RawDeterministic {
    seed: Option<u64>,
}

#[derive(Deserialize)]
struct RawDirectory {
    path: Spanned<String>,
    guest: Spanned<String>,
    #[serde(default)]
    access: RawAccess,
    max_bytes: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum RawAccess {
    #[default]
    Read,
    ReadWrite,
}

#[derive(Deserialize, Default)]
struct RawNetwork {
    outbound: Option<Vec<Spanned<String>>>,
    deny: Option<Vec<Spanned<String>>>,
    inbound: Option<Vec<Spanned<String>>>,
    max_connections: Option<u32>,
}

#[derive(Deserialize, Default)]
struct RawEnvironment {
    inherit: Option<Vec<Spanned<String>>>,
    set: Option<Vec<Spanned<String>>>,
    arguments: Option<Vec<Spanned<String>>>,
}

/// Collects what is wrong with the texts of lists, each at its place.
#[derive(Debug)]
pub struct Texts<'a> {
    document: &'a Document,
    /// What was found wrong.
    pub problems: Vec<Problem>,
}

impl<'a> Texts<'a> {
    /// For the lists of one document.
    #[must_use]
    pub fn of(document: &'a Document) -> Self {
        Self {
            document,
            problems: Vec::new(),
        }
    }

    /// What each text of the list stands for; those that stand for nothing are noted.
    pub fn each<T>(
        &mut self,
        key: &str,
        texts: Option<Vec<Spanned<String>>>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let texts = texts.unwrap_or_default();
        let read = |text: Spanned<String>| match read(text.get_ref()) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.refuse(key, &text, reason);
                None
            }
        };
        texts.into_iter().filter_map(read).collect()
    }

    /// As [`Texts::each`], by a type's own rule.
    pub fn parsed<T: FromStr>(&mut self, key: &str, texts: Option<Vec<Spanned<String>>>) -> Vec<T>
    where
        T::Err: ToString,
    {
        self.each(key, texts, |text| {
            text.parse().map_err(|e: T::Err| e.to_string())
        })
    }

    /// Notes that a text may not be what it is.
    pub fn refuse(&mut self, key: &str, text: &Spanned<String>, reason: String) {
        let value = text.get_ref().chars().take(80).collect();
        let rule = Rule::Refused { value, reason };
        let problem = self.document.problem(text.span(), Some(key), rule);
        self.problems.push(problem);
    }
}

/// An address to listen at.
///
/// # Errors
/// What it has to look like.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(address),
        _ => Err(String::from(
            "an address and a port: `127.0.0.1:8080`, `[::1]:8080`",
        )),
    }
}

impl RawCapabilities {
    pub(super) fn checked(self, document: &Document) -> Result<CapabilitiesConfig, Vec<Problem>> {
        let mut texts = Texts::of(document);
        let directories = directories(self.filesystem, &mut texts);
        let RawNetwork {
            outbound,
            deny,
            inbound,
            max_connections,
        } = self.network;
        let network = NetworkGrants {
            outbound: NetworkRules {
                allow: Some(texts.parsed::<HostPattern>("capabilities.network.outbound", outbound)),
                deny: texts.parsed::<HostPattern>("capabilities.network.deny", deny),
            },
            inbound: texts.each("capabilities.network.inbound", inbound, listen_address),
            max_connections: max_connections.unwrap_or(DEFAULT_MAX_CONNECTIONS),
        };
        let environment = environment(self.environment, &mut texts);
        let input = self.stdio.input;
        let stdio = StdioConfig {
            input: input.map(|path| document.resolve(&path)),
            output: self.stdio.output.unwrap_or_default(),
        };
        match texts.problems.is_empty() {
            true => Ok(CapabilitiesConfig {
                directories,
                network,
                environment,
                stdio,
                seed: self.deterministic.seed,
            }),
            false => Err(texts.problems),
        }
    }
}

fn directories(raw: Vec<RawDirectory>, texts: &mut Texts<'_>) -> Vec<DirectoryGrant> {
    let mut known = HashSet::new();
    let mut directories = Vec::new();
    for (position, raw) in raw.into_iter().enumerate() {
        let key = "capabilities.filesystem.guest";
        let guest = raw.guest.get_ref();
        if let Err(error) = DirectoryGrant::check_guest_path(guest) {
            texts.refuse(key, &raw.guest, error.to_string());
        } else if !known.insert(guest.clone()) {
            texts.refuse(
                key,
                &raw.guest,
                String::from("stands for another directory already"),
            );
        }
        if position == MAX_DIRECTORIES {
            let reason = format!("more than {MAX_DIRECTORIES} directories");
            texts.refuse("capabilities.filesystem.path", &raw.path, reason);
        }
        let access = match (raw.access, raw.max_bytes) {
            (RawAccess::Read, None) => DirectoryAccess::Read,
            (RawAccess::Read, Some(max_bytes)) => {
                let text = max_bytes.get_ref().to_string();
                let text = Spanned::new(max_bytes.span(), text);
                let reason = String::from("a directory that is only read has no quota");
                texts.refuse("capabilities.filesystem.max_bytes", &text, reason);
                DirectoryAccess::Read
            }
            (RawAccess::ReadWrite, max_bytes) => DirectoryAccess::ReadWrite {
                max_bytes: max_bytes.map_or(DEFAULT_DIRECTORY_BYTES, Spanned::into_inner),
            },
        };
        directories.push(DirectoryGrant {
            host: texts.document.resolve(raw.path.get_ref()),
            guest: raw.guest.into_inner(),
            access,
        });
    }
    directories
}

fn environment(raw: RawEnvironment, texts: &mut Texts<'_>) -> EnvironmentGrants {
    let RawEnvironment {
        inherit,
        set,
        arguments,
    } = raw;
    let name = |text: &str| text.parse().map_err(|e| format!("{e}"));
    let value = |text: &str| match text.len() <= MAX_TEXT_BYTES && !text.contains('\0') {
        true => Ok(text.to_owned()),
        false => Err(format!("at most {MAX_TEXT_BYTES} bytes, none of them zero")),
    };
    let mut variables = texts.each("capabilities.environment.inherit", inherit, |text| {
        name(text).map(|name: EnvironmentName| Variable { name, value: None })
    });
    let set = texts.each("capabilities.environment.set", set, |text| {
        let form = || String::from("a name, `=` and a value: `MODE=fast`");
        let (key, text) = text.split_once('=').ok_or_else(form)?;
        Ok(Variable {
            name: name(key)?,
            value: Some(value(text)?),
        })
    });
    // What is set here wins over what is inherited.
    variables.retain(|inherited| set.iter().all(|own| own.name != inherited.name));
    variables.extend(set);
    EnvironmentGrants {
        variables,
        arguments: texts.each("capabilities.environment.arguments", arguments, value),
    }
}
