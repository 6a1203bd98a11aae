//! What a host allows its components, whatever they are granted.

use std::path::{Path, PathBuf};

use super::directory::{DirectoryAccess, DirectoryGrant};
use super::environment::{EnvironmentGrants, EnvironmentName};
use super::name_pattern::{NamePattern, NameRules};
use super::network::{NetworkGrants, NetworkRules};

/// What a host allows. What it says nothing of, it leaves to the grants, unless it is a
/// [`closed`](Policy::closed) one. It never grants anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether what it says nothing of is refused.
    pub closed: bool,
    /// Directories in and below which grants to read may lie; those of `write` are among them. Where
    /// one of the two is there, the other is empty rather than absent.
    pub read: Option<Vec<PathBuf>>,
    /// Directories in and below which grants to write may lie.
    pub write: Option<Vec<PathBuf>>,
    /// Most bytes that a directory's quota may be.
    pub max_directory_bytes: Option<u64>,
    /// Whom components may talk to.
    pub network: Option<NetworkRules>,
    /// Addresses and ports at which components may be turned to; none where `network` says whom they
    /// may turn to.
    pub inbound: Option<Vec<std::net::SocketAddr>>,
    /// Most bytes that a component's memory limit may be.
    pub max_memory_bytes: Option<u64>,
    /// Most sockets and requests of one component.
    pub max_connections: Option<u32>,
    /// Variables of the host's own environment that components may see.
    pub environment: Option<Vec<EnvironmentName>>,
    /// Most bytes that a component's key-value quota may be.
    pub max_key_value_bytes: Option<u64>,
    /// Secrets that components may be shown.
    pub secrets: Option<NameRules>,
    /// Topics that components may publish to and subscribe to.
    pub topics: Option<NameRules>,
    /// Components that components may call.
    pub call: Option<NameRules>,
}

/// A grant that goes beyond the policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{grant}` goes beyond the host's policy: {policy}")]
pub struct Excess {
    /// The grant, as it is written.
    pub grant: String,
    /// The policy's key and what it allows.
    pub policy: String,
}

impl Policy {
    /// The rules for network access; those of a closed policy without any allow nobody.
    #[must_use]
    pub fn network_rules(&self) -> Option<NetworkRules> {
        let closed = || NetworkRules {
            allow: Some(Vec::new()),
            deny: Vec::new(),
        };
        self.network.clone().or_else(|| self.closed.then(closed))
    }

    /// The rules for topics; those of a closed policy without any allow none.
    #[must_use]
    pub fn topics(&self) -> Option<NameRules> {
        let closed = || self.closed.then(NameRules::default);
        self.topics.clone().or_else(closed)
    }

    /// The rules for components that call components; those of a closed policy without any allow
    /// none.
    #[must_use]
    pub fn calls(&self) -> Option<NameRules> {
        let closed = || self.closed.then(NameRules::default);
        self.call.clone().or_else(closed)
    }

    /// The rules for secrets; those of a closed policy without any allow none.
    #[must_use]
    pub fn reveals(&self) -> Option<NameRules> {
        let closed = || self.closed.then(NameRules::default);
        self.secrets.clone().or_else(closed)
    }

    /// Subscriptions to topics that the policy does not allow, or not all of them.
    #[must_use]
    pub fn subscriptions(&self, topics: &[NamePattern]) -> Vec<Excess> {
        let Some(rules) = self.topics() else {
            return Vec::new();
        };
        let allowed = |topic: &&NamePattern| rules.allow.iter().any(|rule| rule.covers(topic));
        let beyond = topics.iter().filter(|topic| !allowed(topic));
        let excess = |topic: &NamePattern| Excess {
            grant: format!("capabilities.messaging.subscribe = [\"{topic}\"]"),
            policy: String::from("policy.messaging.topics does not allow all of it"),
        };
        beyond.map(excess).collect()
    }

    /// Whether a memory limit of `asked` bytes may be given; `unless_said` is the most where the
    /// policy has none.
    ///
    /// # Errors
    /// [`Excess`].
    pub fn memory(&self, asked: u64, unless_said: u64) -> Result<(), Excess> {
        let most = self.max_memory_bytes.unwrap_or(unless_said);
        if asked <= most {
            return Ok(());
        }
        Err(Excess {
            grant: format!("resources.memory.max_bytes = {asked}"),
            policy: format!("policy.memory.max_bytes = {most}"),
        })
    }

    /// Whether a file may be read, at the path it really has; `grant` is the key that names it.
    ///
    /// # Errors
    /// [`Excess`].
    pub fn readable(&self, grant: &str, real: &Path) -> Result<(), Excess> {
        let lists = [self.read.as_deref(), self.write.as_deref()];
        self.within("policy.filesystem.read", &lists, grant, real)
    }

    /// Whether `real` is in or below a directory of the lists. A policy that has one list for files
    /// says something of all of them.
    fn within(
        &self,
        key: &str,
        lists: &[Option<&[PathBuf]>],
        grant: &str,
        real: &Path,
    ) -> Result<(), Excess> {
        let allowed = || lists.iter().flatten().copied().flatten();
        let speaks = self.closed || self.read.is_some() || self.write.is_some();
        if !speaks || allowed().any(|allowed| real.starts_with(real_path(allowed))) {
            return Ok(());
        }
        Err(Excess {
            grant: format!("{grant} = {:?}", real.display().to_string()),
            policy: format!("{key} = {:?}", allowed().collect::<Vec<_>>()),
        })
    }

    /// Whether a directory, at the path it really has, may be granted.
    ///
    /// # Errors
    /// [`Excess`].
    pub fn directory(&self, grant: &DirectoryGrant, real: &Path) -> Result<(), Excess> {
        let named = "capabilities.filesystem.path";
        match grant.access {
            DirectoryAccess::Read => self.readable(named, real)?,
            DirectoryAccess::ReadWrite { .. } => {
                let lists = [self.write.as_deref()];
                self.within("policy.filesystem.write", &lists, named, real)?;
            }
        }
        match (grant.access, self.max_directory_bytes) {
            (DirectoryAccess::ReadWrite { max_bytes }, Some(most)) if max_bytes > most => {
                Err(Excess {
                    grant: format!("capabilities.filesystem.max_bytes = {max_bytes}"),
                    policy: format!("policy.filesystem.max_bytes = {most}"),
                })
            }
            _ => Ok(()),
        }
    }

    /// All that can be told beforehand of grants that go beyond it; directories are asked for with
    /// [`Policy::directory`] once they are open, hosts at each access.
    #[must_use]
    pub fn excesses(
        &self,
        network: &NetworkGrants,
        environment: &EnvironmentGrants,
        key_value_bytes: Option<u64>,
    ) -> Vec<Excess> {
        let mut found = Vec::new();
        let mut tell = |grant: String, policy: String| found.push(Excess { grant, policy });
        // Whoever says whom to turn to says that nobody may be turned to, unless told otherwise.
        let outbound = self
            .network
            .as_ref()
            .is_some_and(|rules| rules.allow.is_some());
        let inbound = match (&self.inbound, self.closed || outbound) {
            (None, true) => Some([].as_slice()),
            (allowed, _) => allowed.as_deref(),
        };
        for address in &network.inbound {
            if inbound.is_some_and(|allowed| !allowed.contains(address)) {
                tell(
                    format!("capabilities.network.inbound = [\"{address}\"]"),
                    format!("policy.network.inbound = {:?}", inbound.unwrap_or_default()),
                );
            }
        }
        let asked = network.max_connections;
        if let Some(most) = self.max_connections.filter(|most| asked > *most) {
            tell(
                format!("capabilities.network.max_connections = {asked}"),
                format!("policy.network.max_connections = {most}"),
            );
        }
        let inherited = match (&self.environment, self.closed) {
            (None, true) => Some([].as_slice()),
            (allowed, _) => allowed.as_deref(),
        };
        for variable in &environment.variables {
            let name = &variable.name;
            let refused = inherited.is_some_and(|allowed| !allowed.contains(name));
            if variable.value.is_none() && refused {
                tell(
                    format!("capabilities.environment.inherit = [\"{name}\"]"),
                    String::from("policy.environment.inherit does not name it"),
                );
            }
        }
        let most = self.max_key_value_bytes.or(self.closed.then_some(0));
        if let (Some(asked), Some(most)) = (key_value_bytes, most)
            && asked > most
        {
            tell(
                format!("capabilities.keyvalue.max_bytes = {asked}"),
                format!("policy.keyvalue.max_bytes = {most}"),
            );
        }
        found
    }
}

/// The path without links in it, as far as it exists.
fn real_path(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}
