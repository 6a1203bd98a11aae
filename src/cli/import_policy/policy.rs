//! The rules of a policy file, each with its line; what is not in the format is refused.

use super::ledger::Ledger;
use super::refusal::Why;
use super::yaml::{Entry, Node, Value};

/// A rule: where it stands, how it reads, and what it says.
#[derive(Debug)]
pub(super) struct Rule<T> {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) says: T,
}

/// What is allowed, and what is denied all the same.
#[derive(Debug)]
pub(super) struct Lists<T> {
    pub(super) allow: Vec<Rule<T>>,
    pub(super) deny: Vec<Rule<T>>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }
}

/// What may be done with files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) read: bool,
    pub(super) write: bool,
}

/// A rule of `storage`.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) uri: String,
    pub(super) access: Access,
}

/// A rule of `network`.
#[derive(Debug)]
pub(super) enum Peer {
    Host(String),
    Cidr(String),
}

/// A rule of `resources`.
#[derive(Debug)]
pub(super) enum Limit {
    /// Processors, in Kubernetes' notation.
    Cpu(String),
    /// Per cent of a processor.
    CpuPercent(String),
    /// Bytes, in Kubernetes' notation.
    Memory(String),
    /// Megabytes, or a quantity with its unit.
    Megabytes(String),
    Io,
}

/// A rule of `runtime.docker.security`.
#[derive(Debug)]
pub(super) enum Container {
    /// It asks for a privilege.
    Asks,
    /// It does without one.
    Spares,
}

/// All rules of a file.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub(super) description: Option<String>,
    pub(super) storage: Lists<Storage>,
    pub(super) network: Lists<Peer>,
    pub(super) environment: Lists<String>,
    pub(super) ipc: Lists<String>,
    pub(super) limits: Vec<Rule<Limit>>,
    pub(super) container: Vec<Rule<Container>>,
}

impl Policy {
    /// Reads a document; what is wrong with it goes to the ledger.
    pub(super) fn read(document: &Node, ledger: &mut Ledger) -> Self {
        let mut reader = Reader { ledger };
        let mut policy = Self::default();
        let [version, description, permissions] = reader.fields(
            "policy",
            document,
            ["version", "description", "permissions"],
        );
        match version {
            Some(entry) => reader.version(entry),
            None => reader.refuse(document.line, "version", Why::Missing),
        }
        policy.description = description.and_then(|entry| reader.text("description", &entry.node));
        let Some(permissions) = permissions else {
            // An empty map grants nothing, and says so; no map at all may be a mistake.
            reader.refuse(document.line, "permissions", Why::Missing);
            return policy;
        };
        let [storage, network, environment, runtime, resources, ipc] = reader.fields(
            "permissions",
            &permissions.node,
            [
                "storage",
                "network",
                "environment",
                "runtime",
                "resources",
                "ipc",
            ],
        );
        policy.storage = reader.lists("storage", storage, Reader::storage);
        policy.network = reader.lists("network", network, Reader::peer);
        policy.environment = reader.lists("environment", environment, |reader, at, node| {
            let [key] = reader.fields(at, node, ["key"]);
            reader.required(at, node, "key", key)
        });
        policy.ipc = reader.lists("ipc", ipc, |reader, at, node| {
            let [uri] = reader.fields(at, node, ["uri"]);
            reader.required(at, node, "uri", uri)
        });
        if let Some(resources) = resources {
            policy.limits = reader.limits(&resources.node);
        }
        if let Some(runtime) = runtime {
            policy.container = reader.container(&runtime.node);
        }
        policy
    }
}

struct Reader<'l> {
    ledger: &'l mut Ledger,
}

impl Reader<'_> {
    fn refuse(&mut self, line: usize, rule: &str, why: Why) {
        self.ledger.refuse(line, rule, why, false);
    }

    /// The values of a map under these keys, which are all it may have. A key without a value is as
    /// good as none.
    fn fields<'n, const N: usize>(
        &mut self,
        at: &str,
        node: &'n Node,
        known: [&str; N],
    ) -> [Option<&'n Entry>; N] {
        let entries: &[Entry] = match &node.value {
            Value::Null => &[],
            Value::Map(entries) => entries,
            Value::Text(_) | Value::List(_) => {
                self.refuse(node.line, at, Why::Shape { expected: "a map" });
                &[]
            }
        };
        for entry in entries {
            if !known.contains(&entry.key.as_str()) {
                let rule = format!("{at}.{}", entry.key);
                self.refuse(entry.line, &rule, Why::UnknownKey);
            }
        }
        known.map(|name| {
            let found = entries.iter().find(|entry| entry.key == name);
            found.filter(|entry| !matches!(entry.node.value, Value::Null))
        })
    }

    fn text(&mut self, at: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.refuse(node.line, at, Why::Shape { expected: "a text" });
                None
            }
        }
    }

    fn list<'n>(&mut self, at: &str, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            _ => {
                self.refuse(node.line, at, Why::Shape { expected: "a list" });
                &[]
            }
        }
    }

    fn required(
        &mut self,
        at: &str,
        node: &Node,
        key: &str,
        found: Option<&Entry>,
    ) -> Option<(String, String)> {
        let rule = format!("{at}.{key}");
        let Some(entry) = found else {
            // A value of another shape has been refused already.
            if matches!(node.value, Value::Map(_) | Value::Null) {
                self.refuse(node.line, &rule, Why::Missing);
            }
            return None;
        };
        let text = self.text(&rule, &entry.node)?;
        Some((text.clone(), text))
    }

    fn version(&mut self, entry: &Entry) {
        let Some(version) = self.text("version", &entry.node) else {
            return;
        };
        let minor = version.strip_prefix("1.");
        let digits = |minor: &str| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit());
        if !minor.is_some_and(digits) {
            self.refuse(entry.line, &format!("version {version}"), Why::Version);
        }
    }

    /// The `allow` and `deny` of a section; `read` tells what an item says, and how it reads.
    fn lists<T>(
        &mut self,
        section: &str,
        entry: Option<&Entry>,
        read: impl Fn(&mut Self, &str, &Node) -> Option<(T, String)>,
    ) -> Lists<T> {
        let Some(entry) = entry else {
            return Lists::default();
        };
        let [allow, deny] = self.fields(section, &entry.node, ["allow", "deny"]);
        let mut rules = |name: &str, entry: Option<&Entry>| {
            let at = format!("{section}.{name}");
            let items = entry.map_or(&[][..], |entry| self.list(&at, &entry.node));
            let mut rules = Vec::new();
            for node in items {
                if let Some((says, text)) = read(self, &at, node) {
                    let text = format!("{at} {text}");
                    rules.push(Rule {
                        line: node.line,
                        text,
                        says,
                    });
                }
            }
            rules
        };
        Lists {
            allow: rules("allow", allow),
            deny: rules("deny", deny),
        }
    }

    fn storage(&mut self, at: &str, node: &Node) -> Option<(Storage, String)> {
        let [uri, entry] = self.fields(at, node, ["uri", "access"]);
        let uri = self.required(at, node, "uri", uri);
        let mut access = Access::default();
        let mut words = Vec::new();
        let key = format!("{at}.access");
        for word in entry.map_or(&[][..], |entry| self.list(&key, &entry.node)) {
            match self.text(&key, word).as_deref() {
                Some("read") => access.read = true,
                Some("write") => access.write = true,
                Some(_) => {
                    let expected = "`read` or `write`";
                    self.refuse(word.line, &key, Why::Shape { expected });
                }
                None => {}
            }
            if let Value::Text(word) = &word.value {
                words.push(word.clone());
            }
        }
        let (uri, _) = uri?;
        if access == Access::default() {
            let expected = "a list of `read`, `write` or both";
            self.refuse(
                node.line,
                &format!("{key} of {uri}"),
                Why::Shape { expected },
            );
            return None;
        }
        let text = format!("{uri} [{}]", words.join(", "));
        Some((Storage { uri, access }, text))
    }

    fn peer(&mut self, at: &str, node: &Node) -> Option<(Peer, String)> {
        let [host, cidr] = self.fields(at, node, ["host", "cidr"]);
        match (host, cidr) {
            (Some(_), Some(second)) => {
                let expected = "`host` or `cidr`, not both";
                self.refuse(second.line, at, Why::Shape { expected });
                None
            }
            (None, Some(_)) => {
                let (cidr, text) = self.required(at, node, "cidr", cidr)?;
                Some((Peer::Cidr(cidr), text))
            }
            (host, None) => {
                let (host, text) = self.required(at, node, "host", host)?;
                Some((Peer::Host(host), text))
            }
        }
    }

    fn limits(&mut self, node: &Node) -> Vec<Rule<Limit>> {
        let [cpu, memory, io, limits] =
            self.fields("resources", node, ["cpu", "memory", "io", "limits"]);
        let [cpu_limit, memory_limit] = match limits {
            Some(limits) => self.fields("resources.limits", &limits.node, ["cpu", "memory"]),
            None => [None, None],
        };
        let mut rules = Vec::new();
        let mut add = |name: &str, entry: Option<&Entry>, says: fn(String) -> Limit| {
            if let Some(entry) = entry
                && let Some(text) = self.text(name, &entry.node)
            {
                rules.push(Rule {
                    line: entry.line,
                    text: format!("{name} {text}"),
                    says: says(text),
                });
            }
        };
        add("resources.cpu", cpu, Limit::CpuPercent);
        add("resources.memory", memory, Limit::Megabytes);
        add("resources.io", io, |_| Limit::Io);
        add("resources.limits.cpu", cpu_limit, Limit::Cpu);
        add("resources.limits.memory", memory_limit, Limit::Memory);
        rules
    }

    fn container(&mut self, node: &Node) -> Vec<Rule<Container>> {
        let [docker, hyperlight] = self.fields("runtime", node, ["docker", "hyperlight"]);
        if let Some(hyperlight) = hyperlight {
            self.fields("runtime.hyperlight", &hyperlight.node, []);
        }
        let mut rules = Vec::new();
        let Some(docker) = docker else { return rules };
        let [security] = self.fields("runtime.docker", &docker.node, ["security"]);
        let Some(security) = security else {
            return rules;
        };
        let at = "runtime.docker.security";
        let [privileged, no_new, capabilities] = self.fields(
            at,
            &security.node,
            ["privileged", "no_new_privileges", "capabilities"],
        );
        for (entry, spares) in [(privileged, "false"), (no_new, "true")] {
            let Some(entry) = entry else { continue };
            let name = format!("{at}.{}", entry.key);
            let Some(word) = self.text(&name, &entry.node) else {
                continue;
            };
            let says = match word.as_str() {
                "true" | "false" if word == spares => Container::Spares,
                "true" | "false" => Container::Asks,
                _ => {
                    let expected = "`true` or `false`";
                    self.refuse(entry.line, &name, Why::Shape { expected });
                    continue;
                }
            };
            let text = format!("{name} {word}");
            rules.push(Rule {
                line: entry.line,
                text,
                says,
            });
        }
        let Some(capabilities) = capabilities else {
            return rules;
        };
        let at = format!("{at}.capabilities");
        let [drop, add] = self.fields(&at, &capabilities.node, ["drop", "add"]);
        for (entry, says) in [
            (drop, (|| Container::Spares) as fn() -> Container),
            (add, || Container::Asks),
        ] {
            let Some(entry) = entry else { continue };
            let name = format!("{at}.{}", entry.key);
            for item in self.list(&name, &entry.node) {
                if let Some(word) = self.text(&name, item) {
                    let text = format!("{name} {word}");
                    rules.push(Rule {
                        line: item.line,
                        text,
                        says: says(),
                    });
                }
            }
        }
        rules
    }
}
