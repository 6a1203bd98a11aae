//! `[capabilities]`: what a component is granted (ADR-OSL-007).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use airssys_osl::grants::{
    DEFAULT_MAX_CONNECTIONS, DirectoryAccess, DirectoryGrant, EnvironmentGrants, EnvironmentName,
    HostPattern, MAX_DIRECTORIES, NamePattern, NameRules, NetworkGrants, NetworkRules, Variable,
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
    /// `[capabilities.messaging]`.
    pub messaging: MessagingConfig,
    /// `[capabilities.config]`: keys and values that the component finds in `wasi:config`.
    pub settings: Vec<(String, String)>,
    /// `[capabilities.secrets]`: secrets that it may be shown.
    pub secrets: Vec<NamePattern>,
    /// `[capabilities.keyvalue]`: most bytes it may keep in the host's store; nothing without it.
    pub key_value_bytes: Option<u64>,
    /// With it, clocks and randomness are the same in each run.
    pub seed: Option<u64>,
}

/// Most bytes of a message between components, where nothing else is said.
const DEFAULT_MESSAGE_BYTES: usize = 1024 * 1024;

/// Messages a component may send in a second, where nothing else is said.
const DEFAULT_PER_SECOND: u32 = 1000;

/// `[capabilities.messaging]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagingConfig {
    /// Components that it may send to and ask.
    pub call: NameRules,
    /// Topics it may publish to.
    pub publish: NameRules,
    /// Topics it is sent what is published to.
    pub subscribe: Vec<NamePattern>,
    /// Messages it may send in a second, all its instances together.
    pub max_per_second: u32,
    /// Most bytes of one.
    pub max_message_bytes: usize,
}

impl Default for MessagingConfig {
    fn default() -> Self {
        Self {
            call: NameRules::default(),
            publish: NameRules::default(),
            subscribe: Vec::new(),
            max_per_second: DEFAULT_PER_SECOND,
            max_message_bytes: DEFAULT_MESSAGE_BYTES,
        }
    }
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
    messaging: RawMessaging,
    #[serde(default)]
    config: RawSettings,
    #[serde(default)]
    secrets: RawSecrets,
    #[serde(default)]
    keyvalue: RawKeyValue,
    #[serde(default)]
    deterministic: RawDeterministic,
}

#[derive(Deserialize, Default)]
struct RawStdio {
    input: Option<String>,
    output: Option<OutputTo>,
}

#[derive(Deserialize, Default)]
struct RawMessaging {
    call: Option<Vec<Spanned<String>>>,
    publish: Option<Vec<Spanned<String>>>,
    deny: Option<Vec<Spanned<String>>>,
    subscribe: Option<Vec<Spanned<String>>>,
    max_per_second: Option<u32>,
    max_message_bytes: Option<usize>,
}

impl RawMessaging {
    fn checked(self, texts: &mut Texts<'_>) -> MessagingConfig {
        let default = MessagingConfig::default();
        let deny: Vec<NamePattern> = texts.parsed("capabilities.messaging.deny", self.deny);
        let mut rules = |key: &str, allow| NameRules {
            allow: texts.parsed(key, allow),
            deny: deny.clone(),
        };
        MessagingConfig {
            call: rules("capabilities.messaging.call", self.call),
            publish: rules("capabilities.messaging.publish", self.publish),
            subscribe: texts.parsed("capabilities.messaging.subscribe", self.subscribe),
            max_per_second: self.max_per_second.unwrap_or(default.max_per_second),
            max_message_bytes: self.max_message_bytes.unwrap_or(default.max_message_bytes),
        }
    }
}

#[derive(Deserialize, Default)]
struct RawSecrets {
    reveal: Option<Vec<Spanned<String>>>,
}

#[derive(Deserialize, Default)]
struct RawKeyValue {
    max_bytes: Option<u64>,
}

#[derive(Deserialize, Default)]
struct RawSettings {
    set: Option<Vec<Spanned<String>>>,
}

impl RawSettings {
    fn checked(self, texts: &mut Texts<'_>) -> Vec<(String, String)> {
        texts.each("capabilities.config.set", self.set, |text| {
            let form = || String::from("a key, `=` and a value: `colour=blue`");
            let (key, value) = text.split_once('=').ok_or_else(form)?;
            match key.is_empty() || text.len() > MAX_TEXT_BYTES {
                true => Err(format!("a key, and at most {MAX_TEXT_BYTES} bytes")),
                false => Ok((key.to_owned(), value.to_owned())),
            }
        })
    }
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
        let messaging = self.messaging.checked(&mut texts);
        let settings = self.config.checked(&mut texts);
        let secrets = texts.parsed("capabilities.secrets.reveal", self.secrets.reveal);
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
                messaging,
                settings,
                secrets,
                key_value_bytes: self.keyvalue.max_bytes,
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
