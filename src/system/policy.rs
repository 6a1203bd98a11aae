//! `[policy]` of an airssys.toml (ADR-OSL-007).

use std::path::PathBuf;

use airssys_wasm::PublicKey;
use airssys_wasm::config::{Document, Problem, Texts, listen_address};
use airssys_wasm::grants::{HostPattern, NamePattern, NameRules, NetworkRules, Policy};
use serde::Deserialize;
use toml::Spanned;

type List = Option<Vec<Spanned<String>>>;

#[derive(Deserialize, Default)]
pub(super) struct RawPolicy {
    #[serde(default)]
    unnamed: Unnamed,
    #[serde(default)]
    filesystem: RawFilesystem,
    #[serde(default)]
    network: RawNetwork,
    #[serde(default)]
    environment: RawEnvironment,
    #[serde(default)]
    messaging: RawMessaging,
    #[serde(default)]
    keyvalue: RawKeyValue,
    #[serde(default)]
    secrets: RawSecrets,
    #[serde(default)]
    signatures: RawSignatures,
}

#[derive(Deserialize, Default)]
struct RawSignatures {
    keys: List,
}

#[derive(Deserialize, Default)]
struct RawKeyValue {
    max_bytes: Option<u64>,
}

#[derive(Deserialize, Default)]
struct RawSecrets {
    reveal: List,
}

#[derive(Deserialize, Default)]
struct RawMessaging {
    topics: List,
    call: List,
    deny: List,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Unnamed {
    #[default]
    Allow,
    Deny,
}

#[derive(Deserialize, Default)]
struct RawFilesystem {
    read: List,
    write: List,
    max_bytes: Option<u64>,
}

#[derive(Deserialize, Default)]
struct RawNetwork {
    outbound: List,
    deny: List,
    inbound: List,
    max_connections: Option<u32>,
}

#[derive(Deserialize, Default)]
struct RawEnvironment {
    inherit: List,
}

impl RawPolicy {
    /// Whoever may have signed what is loaded.
    pub(super) fn keys(&mut self, document: &Document) -> Result<Vec<PublicKey>, Vec<Problem>> {
        let mut texts = Texts::of(document);
        let keys = texts.parsed("policy.signatures.keys", self.signatures.keys.take());
        match texts.problems.is_empty() {
            true => Ok(keys),
            false => Err(texts.problems),
        }
    }

    pub(super) fn checked(self, document: &Document) -> Result<Policy, Vec<Problem>> {
        let mut texts = Texts::of(document);
        let directory = |path: &str| match path.is_empty() || path.contains('\0') {
            true => Err(String::from("not a path")),
            false => Ok(document.resolve(path)),
        };
        let mut directories = |key: &str, list: List| -> Option<Vec<PathBuf>> {
            list.map(|list| texts.each(key, Some(list), directory))
        };
        let read = directories("policy.filesystem.read", self.filesystem.read);
        let write = directories("policy.filesystem.write", self.filesystem.write);
        let RawNetwork {
            outbound,
            deny,
            inbound,
            max_connections,
        } = self.network;
        let closed = self.unnamed == Unnamed::Deny;
        // A list of whom to deny says nothing of whom to allow.
        let named = outbound.is_some() || deny.is_some();
        let nobody = closed.then(Vec::new);
        let network = NetworkRules {
            allow: outbound.map_or(nobody, |list| {
                Some(texts.parsed::<HostPattern>("policy.network.outbound", Some(list)))
            }),
            deny: texts.parsed::<HostPattern>("policy.network.deny", deny),
        };
        let inherit = self.environment.inherit;
        let denied: Vec<NamePattern> = texts.parsed("policy.messaging.deny", self.messaging.deny);
        let mut names = |key: &str, list: List| {
            let nothing = (!denied.is_empty() && !closed).then(|| vec![NamePattern::any()]);
            let allow = list.map(|list| texts.parsed(key, Some(list))).or(nothing);
            allow.map(|allow| NameRules {
                allow,
                deny: denied.clone(),
            })
        };
        let topics = names("policy.messaging.topics", self.messaging.topics);
        let call = names("policy.messaging.call", self.messaging.call);
        let policy = Policy {
            closed,
            topics,
            call,
            max_key_value_bytes: self.keyvalue.max_bytes,
            secrets: self.secrets.reveal.map(|list| NameRules {
                allow: texts.parsed("policy.secrets.reveal", Some(list)),
                deny: Vec::new(),
            }),
            read,
            write,
            max_directory_bytes: self.filesystem.max_bytes,
            network: named.then_some(network),
            inbound: inbound
                .map(|list| texts.each("policy.network.inbound", Some(list), listen_address)),
            max_connections,
            environment: inherit.map(|list| texts.parsed("policy.environment.inherit", Some(list))),
        };
        match texts.problems.is_empty() {
            true => Ok(policy),
            false => Err(texts.problems),
        }
    }
}
