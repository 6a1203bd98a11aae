//! The rules of every configuration key, read from the front matter of the ADRs that decide them.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;

/// The ADRs that decide keys, by id. `no_key_without_an_adr` fails when one is left out.
const DECISIONS: &[(&str, &str)] = &[
    (
        "ADR-SYS-001",
        include_str!("../../../docs/adr/ADR-SYS-001-configuration-comes-from-adrs.md"),
    ),
    (
        "ADR-WASM-002",
        include_str!("../../../docs/adr/ADR-WASM-002-engine-and-mandatory-memory-limits.md"),
    ),
    (
        "ADR-WASM-007",
        include_str!("../../../docs/adr/ADR-WASM-007-values-cross-by-the-canonical-abi.md"),
    ),
    (
        "ADR-WASM-009",
        include_str!(
            "../../../docs/adr/ADR-WASM-009-compiled-once-and-kept-on-disk-under-a-mac.md"
        ),
    ),
    (
        "ADR-WASM-010",
        include_str!("../../../docs/adr/ADR-WASM-010-capacity-before-the-engine-says-so.md"),
    ),
    (
        "ADR-RT-001",
        include_str!("../../../docs/adr/ADR-RT-001-supervisor-core-of-our-own-on-ractor.md"),
    ),
    (
        "ADR-INT-004",
        include_str!("../../../docs/adr/ADR-INT-004-messages-of-components-in-pools-by-level.md"),
    ),
    (
        "ADR-WASM-012",
        include_str!(
            "../../../docs/adr/ADR-WASM-012-figures-without-locks-and-a-socket-to-read-them.md"
        ),
    ),
    (
        "ADR-WASM-013",
        include_str!("../../../docs/adr/ADR-WASM-013-counts-are-the-components-own.md"),
    ),
    (
        "ADR-WASM-017",
        include_str!("../../../docs/adr/ADR-WASM-017-refused-growth-and-waits-for-the-host.md"),
    ),
    (
        "ADR-WASM-011",
        include_str!("../../../docs/adr/ADR-WASM-011-life-of-an-instance.md"),
    ),
    (
        "ADR-WASM-016",
        include_str!("../../../docs/adr/ADR-WASM-016-coredumps-in-a-private-directory.md"),
    ),
    (
        "ADR-OSL-007",
        include_str!("../../../docs/adr/ADR-OSL-007-nothing-without-a-grant.md"),
    ),
    (
        "ADR-WASM-018",
        include_str!("../../../docs/adr/ADR-WASM-018-host-calls-through-a-gate.md"),
    ),
    (
        "ADR-OSL-004",
        include_str!("../../../docs/adr/ADR-OSL-004-what-components-keep.md"),
    ),
    (
        "ADR-OSL-005",
        include_str!("../../../docs/adr/ADR-OSL-005-room-for-memory-as-the-kernel-tells-it.md"),
    ),
    (
        "ADR-OSL-006",
        include_str!("../../../docs/adr/ADR-OSL-006-a-sandbox-around-the-host.md"),
    ),
    (
        "ADR-WASM-019",
        include_str!("../../../docs/adr/ADR-WASM-019-components-that-send-to-components.md"),
    ),
    (
        "ADR-WASM-020",
        include_str!("../../../docs/adr/ADR-WASM-020-keys-and-values-in-a-space-of-ones-own.md"),
    ),
    (
        "ADR-WASM-021",
        include_str!("../../../docs/adr/ADR-WASM-021-secrets-shown-by-name.md"),
    ),
    (
        "ADR-WASM-025",
        include_str!("../../../docs/adr/ADR-WASM-025-a-new-release-between-two-calls.md"),
    ),
    (
        "ADR-WASM-026",
        include_str!("../../../docs/adr/ADR-WASM-026-the-binary-that-is-meant.md"),
    ),
    (
        "ADR-WASM-014",
        include_str!("../../../docs/adr/ADR-WASM-014-replicas-under-one-name.md"),
    ),
    (
        "ADR-WASM-029",
        include_str!("../../../docs/adr/ADR-WASM-029-room-for-arguments-that-wait.md"),
    ),
    (
        "ADR-SYS-003",
        include_str!("../../../docs/adr/ADR-SYS-003-tools-in-other-languages.md"),
    ),
    (
        "ADR-OSL-003",
        include_str!("../../../docs/adr/ADR-OSL-003-audit-log-whose-records-prove-one-another.md"),
    ),
];

/// Which of the two configuration files a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum ConfigFile {
    /// Describes one component.
    #[serde(rename = "Component.toml")]
    Component,
    /// Describes a tree of them.
    #[serde(rename = "airssys.toml")]
    System,
}

impl fmt::Display for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "Component.toml",
            Self::System => "airssys.toml",
        })
    }
}

/// What a key's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// A whole number from `min` to `max`.
    Integer,
    /// `[a-z][a-z0-9-]*`, at most 64 characters.
    Name,
    /// A semantic version.
    Version,
    /// A path; a relative one counts from the folder of the file it stands in.
    Path,
    /// One of `choices`.
    Choice,
    /// Any text of at most 4096 bytes.
    Text,
    /// Texts, at most `max` of them; what each may be is its section's to say.
    List,
    /// `brutal`, `infinity` or a time such as `5s`.
    Shutdown,
}

/// One key's rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The file it stands in.
    pub file: ConfigFile,
    /// Its path, for example `resources.memory.max_bytes`; nested supervisors share the keys of
    /// `supervisor`.
    pub name: String,
    /// What its value is.
    #[serde(rename = "type")]
    pub kind: KeyType,
    /// Unit of an integer.
    pub unit: Option<String>,
    /// Whether a file without it is refused.
    #[serde(default)]
    pub required: bool,
    /// Smallest value of an integer.
    pub min: Option<i64>,
    /// Largest value of an integer, or most texts of a list.
    pub max: Option<i64>,
    /// What holds where the key is absent, as TOML text.
    pub default: Option<String>,
    /// The values of a choice.
    #[serde(default)]
    pub choices: Vec<String>,
    /// The key of Component.toml whose largest value this key of airssys.toml sets.
    pub raises: Option<String>,
    /// A value to paste, as TOML text.
    pub example: String,
    /// What the key does, in a line.
    pub summary: String,
    /// The ADR that decides it.
    #[serde(skip)]
    pub adr: &'static str,
}

impl Key {
    /// The table the key stands in, for example `resources.memory`; empty at the top.
    #[must_use]
    pub fn section(&self) -> &str {
        self.name
            .rsplit_once('.')
            .map_or("", |(section, _)| section)
    }

    /// The last part of its name.
    #[must_use]
    pub fn leaf(&self) -> &str {
        self.name
            .rsplit_once('.')
            .map_or(self.name.as_str(), |(_, leaf)| leaf)
    }

    /// The key of airssys.toml that sets another largest value, where there is one.
    #[must_use]
    pub fn ceiling(&self) -> Option<&'static Key> {
        if self.file != ConfigFile::Component {
            return None;
        }
        keys()
            .of(ConfigFile::System)
            .find(|key| key.raises.as_deref() == Some(&self.name))
    }

    /// The rule as a line: type, unit, bounds, default.
    #[must_use]
    pub fn rule(&self) -> String {
        let mut rule = match self.kind {
            KeyType::Integer => String::from("integer"),
            KeyType::Name => String::from("name: [a-z][a-z0-9-]*, at most 64 characters"),
            KeyType::Version => String::from("semantic version such as \"0.1.0\""),
            KeyType::Path => String::from("path, relative to the folder of this file"),
            KeyType::Text => String::from("text"),
            KeyType::List => match self.max {
                Some(most) => format!("list of texts, at most {most}"),
                None => String::from("list of texts"),
            },
            KeyType::Choice => format!("one of \"{}\"", self.choices.join("\", \"")),
            KeyType::Shutdown => {
                String::from("\"brutal\", \"infinity\" or a time such as \"5s\" or \"500ms\"")
            }
        };
        if let Some(unit) = &self.unit {
            rule.push_str(&format!(", {unit}"));
        }
        if let (Some(min), Some(max)) = (self.min, self.max) {
            rule.push_str(&format!(", {min}..={max}"));
        }
        if let Some(ceiling) = self.ceiling() {
            rule.push_str(&format!(" or as {} of {} says", ceiling.name, ceiling.file));
        }
        match (&self.default, self.required) {
            (_, true) => rule.push_str(", MANDATORY: there is no default"),
            (Some(default), false) => rule.push_str(&format!(", default {default}")),
            (None, false) => rule.push_str(", optional"),
        }
        rule
    }

    /// Lines to paste: the section's header and the key with its example value.
    #[must_use]
    pub fn snippet(&self) -> String {
        let section = self.section();
        let header = match (self.file, section) {
            (_, "") => String::new(),
            (file, section) if is_list(file, section) => format!("[[{section}]]\n"),
            _ => format!("[{section}]\n"),
        };
        let bounds = match (self.min, self.max) {
            (Some(min), Some(max)) => format!("   # {min}..={max}"),
            _ => String::new(),
        };
        format!("{header}{} = {}{bounds}", self.leaf(), self.example)
    }
}

/// Whether a section stands in a file any number of times, as `[[section]]`.
pub(crate) fn is_list(file: ConfigFile, section: &str) -> bool {
    match file {
        ConfigFile::System => matches!(section, "supervisor" | "supervisor.child" | "secret"),
        ConfigFile::Component => section == "capabilities.filesystem",
    }
}

/// Every key there is.
#[derive(Debug)]
pub struct Keys {
    all: Vec<Key>,
    /// Where each stands in `all`.
    places: HashMap<ConfigFile, HashMap<String, usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontMatter {
    #[allow(dead_code, reason = "read by people; checked for presence only")]
    status: String,
    #[allow(dead_code, reason = "read by people; checked for presence only")]
    date: String,
    #[serde(default)]
    key: Vec<Key>,
}

impl Keys {
    fn new(all: Vec<Key>) -> Self {
        let mut places: HashMap<ConfigFile, HashMap<String, usize>> = HashMap::new();
        for (place, key) in all.iter().enumerate() {
            let file = places.entry(key.file).or_default();
            file.insert(key.name.clone(), place);
        }
        Self { all, places }
    }

    /// The key of that name in that file.
    #[must_use]
    pub fn get(&self, file: ConfigFile, name: &str) -> Option<&Key> {
        let place = self.places.get(&file)?.get(name)?;
        self.all.get(*place)
    }

    /// All keys of a file, in the order of their ADRs.
    pub fn of(&self, file: ConfigFile) -> impl Iterator<Item = &Key> {
        self.all.iter().filter(move |key| key.file == file)
    }

    /// All keys of all files.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.all.iter()
    }

    /// Whether keys stand below `section` in that file.
    #[must_use]
    pub fn is_section(&self, file: ConfigFile, section: &str) -> bool {
        self.of(file).any(|key| {
            key.name
                .strip_prefix(section)
                .is_some_and(|rest| rest.starts_with('.'))
        })
    }

    /// Reads the keys out of one ADR's front matter.
    fn read(adr: &'static str, text: &str) -> Result<Vec<Key>, String> {
        let matter = text
            .strip_prefix("+++\n")
            .and_then(|rest| rest.split_once("\n+++\n"))
            .map(|(matter, _)| matter)
            .ok_or_else(|| format!("{adr}: no front matter between +++ lines"))?;
        let matter: FrontMatter =
            toml::from_str(matter).map_err(|error| format!("{adr}: {error}"))?;
        Ok(matter
            .key
            .into_iter()
            .map(|key| Key { adr, ..key })
            .collect())
    }
}

/// The registry. An ADR that does not parse leaves its keys out, which
/// `the_front_matter_of_every_adr_parses` turns into a failing test.
pub fn keys() -> &'static Keys {
    static KEYS: LazyLock<Keys> = LazyLock::new(|| {
        let adrs = DECISIONS.iter();
        let all = adrs.flat_map(|(adr, text)| Keys::read(adr, text).unwrap_or_default());
        Keys::new(all.collect())
    });
    &KEYS
}

/// What an ADR decides, in the words of its heading.
#[must_use]
pub fn decision_title(adr: &str) -> Option<&'static str> {
    let (_, text) = DECISIONS.iter().find(|(id, _)| *id == adr)?;
    let heading = text.lines().find_map(|line| line.strip_prefix("# ADR-"))?;
    heading.split_once(": ").map(|(_, title)| title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_matter_of_every_adr_parses() {
        for (adr, text) in DECISIONS.iter().copied() {
            assert_eq!(Keys::read(adr, text).map(|_| ()), Ok(()));
        }
    }

    #[test]
    fn every_key_has_a_name_of_its_own() {
        let mut names: Vec<_> = keys()
            .iter()
            .map(|k| (k.file.to_string(), &k.name))
            .collect();
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
