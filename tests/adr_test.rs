//! The configuration keys, the ADRs that decide them, and the code that obeys them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use airssys::config::{ConfigFile, Key, KeyType, Rule, keys};
use airssys::{
    ComponentConfig, ConfigError, Counted, CountsConfig, Intensity, MAX_MEMORY_BYTES,
    MIN_MEMORY_BYTES, OnLimit, ResourceLimitError, ResourceLimits, Restart, Strategy, SystemConfig,
    VerificationLevel,
};
use airssys_guests::CALCULATOR;
use airssys_wasm::{
    DEFAULT_CACHE_BYTES, DEFAULT_COREDUMP_BYTES, DEFAULT_COREDUMP_FILES, MAX_CORE_INSTANCES,
    MAX_HANDLES, MAX_MEMORIES, MAX_STACK_BYTES, MAX_TABLE_ELEMENTS, MAX_TABLES, MIN_STACK_BYTES,
};
use tempfile::TempDir;

/// Front matter of every file in docs/adr: its id and its keys.
fn decisions() -> Vec<(String, toml::Table)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/adr");
    let mut decisions = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(id) = file
            .starts_with("ADR-")
            .then(|| file.splitn(4, '-').take(3).collect::<Vec<_>>().join("-"))
        else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let matter = text
            .strip_prefix("+++\n")
            .and_then(|rest| rest.split_once("\n+++\n"))
            .unwrap_or_else(|| panic!("{file}: no front matter"))
            .0;
        decisions.push((id, toml::from_str(matter).unwrap()));
    }
    assert!(decisions.len() >= 5);
    decisions
}

fn key(file: ConfigFile, name: &str) -> &'static Key {
    keys()
        .get(file, name)
        .unwrap_or_else(|| panic!("no key `{name}`"))
}

/// A value the key also takes, other than its example and its default.
fn another_value(key: &Key) -> String {
    match key.kind {
        KeyType::Integer => key.max.unwrap().to_string(),
        KeyType::Name => String::from("\"another\""),
        KeyType::Version => String::from("\"9.8.7\""),
        KeyType::Path if key.file == ConfigFile::System => String::from("\"other/Component.toml\""),
        KeyType::Path => String::from("\"/another.wasm\""),
        KeyType::Text if key.name == "component.digest" => {
            format!("\"sha256:{}\"", "0".repeat(64))
        }
        KeyType::Text => String::from("\"another text\""),
        KeyType::List => {
            let inside = key.example.trim_matches(['[', ']']);
            format!("[{inside}, {inside}]")
        }
        KeyType::Choice => format!("\"{}\"", key.choices.last().unwrap()),
        KeyType::Shutdown => String::from("\"brutal\""),
    }
}

/// A whole file of that kind with `value` for `key` and examples for what is mandatory besides.
fn document(file: ConfigFile, key: &str, value: Option<&str>) -> String {
    let mut sections: Vec<(&str, String)> = Vec::new();
    let sets = |other: &Key| other.name == key && value.is_some();
    for other in keys()
        .of(file)
        .filter(|other| other.required || sets(other))
    {
        let value = value
            .filter(|_| other.name == key)
            .unwrap_or(&other.example);
        let line = format!("{} = {value}\n", other.leaf());
        match sections
            .iter_mut()
            .find(|(section, _)| *section == other.section())
        {
            Some((_, lines)) => lines.push_str(&line),
            None => sections.push((other.section(), line)),
        }
    }
    let mut text = String::new();
    sections.sort_by_key(|(section, _)| *section);
    for (section, mut lines) in sections {
        if key == "capabilities.filesystem.max_bytes" && section == "capabilities.filesystem" {
            lines.push_str("access = \"read-write\"\n");
        }
        // A secret comes from one place, and an identity belongs to an encrypted one.
        if section == "secret" {
            let source = [
                "secret.file",
                "secret.environment",
                "secret.keyring",
                "secret.age",
            ];
            lines.push_str(match key {
                "secret.age" if value.is_some() => "identity = \"id.txt\"\n",
                "secret.identity" if value.is_some() => "age = \"x.age\"\n",
                key if value.is_some() && source.contains(&key) => "",
                _ => "file = \"x\"\n",
            });
        }
        let lists = ["capabilities.filesystem", "secret"];
        let list = section.starts_with("supervisor") || lists.contains(&section);
        match (file, list) {
            (_, true) => writeln!(text, "[[{section}]]\n{lines}").unwrap(),
            _ => writeln!(text, "[{section}]\n{lines}").unwrap(),
        }
    }
    text
}

/// A folder in which every path of an example leads somewhere.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [("calculator", "2097152"), ("other", "1048576")] {
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("calculator.wasm"), CALCULATOR.wasm).unwrap();
        let text = document(
            ConfigFile::Component,
            "resources.memory.max_bytes",
            Some(bytes),
        );
        std::fs::write(folder.join("Component.toml"), text).unwrap();
    }
    dir
}

/// What the loader makes of a file, whole, as text.
fn load(dir: &TempDir, file: ConfigFile, text: &str) -> Result<String, Vec<ConfigError>> {
    let path = dir.path().join(file.to_string());
    std::fs::write(&path, text).unwrap();
    match file {
        ConfigFile::Component => ComponentConfig::load(&path)
            .map(|config| format!("{config:?}"))
            .map_err(|error| vec![error]),
        ConfigFile::System => SystemConfig::load(&path)
            .map(|config| format!("{config:?}"))
            .map_err(|errors| errors.0),
    }
}

fn broken_rule(errors: &[ConfigError], key: &Key) -> Rule {
    let [ConfigError::Invalid { problems, .. }] = errors else {
        panic!("{errors:?}");
    };
    let [problem] = &problems[..] else {
        panic!("{problems:?}");
    };
    assert_eq!(problem.key.as_deref(), Some(&*key.name));
    assert_eq!(problem.decision.as_ref().unwrap().adr, key.adr);
    problem.broken.clone()
}

#[test]
fn no_key_without_an_adr() {
    let dir = folder();
    let mut decided = BTreeSet::new();
    for (id, matter) in decisions() {
        for entry in matter
            .get("key")
            .and_then(|keys| keys.as_array())
            .into_iter()
            .flatten()
        {
            let text = |name: &str| {
                entry
                    .get(name)
                    .and_then(toml::Value::as_str)
                    .unwrap()
                    .to_owned()
            };
            decided.insert((text("file"), text("name"), id.clone()));
        }
    }
    let registered: BTreeSet<_> = keys()
        .iter()
        .map(|key| (key.file.to_string(), key.name.clone(), key.adr.to_owned()))
        .collect();
    assert_eq!(registered, decided);
    for key in keys().iter() {
        let with_example = load(
            &dir,
            key.file,
            &document(key.file, &key.name, Some(&key.example)),
        );
        let another = another_value(key);
        let with_another = load(
            &dir,
            key.file,
            &document(key.file, &key.name, Some(&another)),
        );
        let without = load(&dir, key.file, &document(key.file, &key.name, None));
        let with_example = with_example.unwrap_or_else(|e| panic!("`{}`: {e:?}", key.name));
        let with_another = with_another.unwrap_or_else(|e| panic!("`{}`: {e:?}", key.name));
        assert_ne!(with_example, with_another, "`{}` changes nothing", key.name);
        if !key.required {
            let without = without.unwrap_or_else(|e| panic!("`{}`: {e:?}", key.name));
            assert_ne!(without, with_another, "`{}` changes nothing", key.name);
        }
    }
}

#[test]
fn a_key_without_a_value_has_the_default_its_adr_gives() {
    let dir = folder();
    for key in keys().iter().filter(|key| !key.required) {
        let Some(default) = &key.default else {
            continue;
        };
        let without = load(&dir, key.file, &document(key.file, &key.name, None)).unwrap();
        let with = load(
            &dir,
            key.file,
            &document(key.file, &key.name, Some(default)),
        )
        .unwrap();
        assert_eq!(without, with, "`{}`", key.name);
    }
}

#[test]
fn a_mandatory_key_that_is_missing_is_refused() {
    let dir = folder();
    for key in keys().iter().filter(|key| key.required) {
        let text = document(key.file, &key.name, None);
        let line = format!("{} = {}\n", key.leaf(), key.example);
        let cut = text.replacen(&line, "", 1);
        assert_ne!(text, cut);
        let errors = load(&dir, key.file, &cut).unwrap_err();
        assert_eq!(broken_rule(&errors, key), Rule::Missing, "`{}`", key.name);
    }
}

#[test]
fn an_integer_is_taken_from_its_least_to_its_most_and_no_further() {
    let dir = folder();
    for key in keys().iter().filter(|key| key.kind == KeyType::Integer) {
        let (least, most) = (key.min.unwrap(), key.max.unwrap());
        let load = |value: i64| {
            load(
                &dir,
                key.file,
                &document(key.file, &key.name, Some(&value.to_string())),
            )
        };
        load(least).unwrap();
        load(most).unwrap();
        let low = broken_rule(&load(least - 1).unwrap_err(), key);
        assert_eq!(
            low,
            Rule::TooLow {
                value: i128::from(least) - 1,
                min: least
            }
        );
        let high = broken_rule(&load(most + 1).unwrap_err(), key);
        assert_eq!(
            high,
            Rule::TooHigh {
                value: i128::from(most) + 1,
                max: most
            }
        );
    }
}

#[test]
fn every_choice_is_taken_and_no_other() {
    let dir = folder();
    for key in keys().iter().filter(|key| key.kind == KeyType::Choice) {
        let load = |value: &str| {
            load(
                &dir,
                key.file,
                &document(key.file, &key.name, Some(&format!("\"{value}\""))),
            )
        };
        let taken: BTreeSet<_> = key
            .choices
            .iter()
            .map(|choice| load(choice).unwrap())
            .collect();
        assert_eq!(taken.len(), key.choices.len());
        let value = String::from("sometimes");
        let rule = broken_rule(&load(&value).unwrap_err(), key);
        assert_eq!(rule, Rule::NotAllowed { value });
    }
}

#[test]
fn the_figures_in_the_code_are_those_of_the_adrs() {
    let integer = |text: &Option<String>| text.as_ref().unwrap().parse::<u64>().unwrap();
    let bytes = key(ConfigFile::Component, "resources.memory.max_bytes");
    assert_eq!(bytes.min, i64::try_from(MIN_MEMORY_BYTES).ok());
    assert_eq!(bytes.max, i64::try_from(MAX_MEMORY_BYTES).ok());
    assert!(bytes.required && bytes.default.is_none());
    assert_eq!(bytes.adr, "ADR-WASM-002");
    let timeout = key(ConfigFile::Component, "resources.cpu.timeout_seconds");
    assert_eq!(
        ResourceLimits::DEFAULT_TIMEOUT,
        Duration::from_secs(integer(&timeout.default))
    );
    let load = key(ConfigFile::Component, "resources.cpu.load_timeout_seconds");
    assert_eq!(
        ResourceLimits::DEFAULT_LOAD_TIMEOUT,
        Duration::from_secs(integer(&load.default))
    );
    let start = key(ConfigFile::Component, "resources.cpu.start_timeout_seconds");
    assert_eq!(
        ResourceLimits::DEFAULT_START_TIMEOUT,
        Duration::from_secs(integer(&start.default))
    );
    let stack = key(ConfigFile::Component, "resources.stack.max_bytes");
    assert_eq!(stack.min, i64::try_from(MIN_STACK_BYTES).ok());
    assert_eq!(stack.max, i64::try_from(MAX_STACK_BYTES).ok());
    assert_eq!(
        Some(ResourceLimits::DEFAULT_STACK_BYTES),
        integer(&stack.default).try_into().ok()
    );
    let waiting = key(ConfigFile::Component, "resources.message.max_waiting_bytes");
    assert_eq!(waiting.min, Some(airssys_wasm::MIN_WAITING_BYTES.into()));
    assert_eq!(waiting.max, Some(airssys_wasm::MAX_WAITING_BYTES.into()));
    for (what, ceiling) in [
        (Counted::Memories, MAX_MEMORIES),
        (Counted::Tables, MAX_TABLES),
        (Counted::Instances, MAX_CORE_INSTANCES),
        (Counted::TableElements, MAX_TABLE_ELEMENTS),
        (Counted::Handles, MAX_HANDLES),
    ] {
        let count = key(ConfigFile::Component, CountsConfig::key(what));
        assert_eq!(
            (count.min, count.max),
            (Some(1), i64::try_from(ceiling).ok())
        );
        let default = CountsConfig::default().most(what);
        assert_eq!(u64::try_from(default).unwrap(), integer(&count.default));
        let counts = CountsConfig::default();
        assert_eq!(counts.with(what, ceiling).unwrap().most(what), ceiling);
        for requested in [0, ceiling + 1] {
            let refused = ResourceLimitError::Count {
                what,
                requested,
                ceiling,
            };
            assert_eq!(counts.with(what, requested), Err(refused));
        }
    }
    let on_limit = key(ConfigFile::Component, "resources.memory.on_limit");
    assert_eq!(on_limit.default.as_deref(), Some("\"deny\""));
    assert_eq!(OnLimit::default(), OnLimit::Deny);
    let cache = key(ConfigFile::System, "system.cache.max_bytes");
    assert_eq!(DEFAULT_CACHE_BYTES, integer(&cache.default));
    let dumps = key(ConfigFile::System, "system.coredumps.max_bytes");
    assert_eq!(DEFAULT_COREDUMP_BYTES, integer(&dumps.default));
    let dumps = key(ConfigFile::System, "system.coredumps.max_files");
    assert_eq!(u64::from(DEFAULT_COREDUMP_FILES), integer(&dumps.default));
    let audit = airssys::AuditConfig::new("audit");
    for (name, default) in [
        ("audit.max_segment_bytes", audit.max_segment_bytes),
        ("audit.max_segments", u64::from(audit.max_segments)),
        ("audit.queue_records", audit.queue_records as u64),
        (
            "audit.sync_milliseconds",
            u64::try_from(audit.sync_interval.as_millis()).unwrap(),
        ),
    ] {
        assert_eq!(default, integer(&key(ConfigFile::System, name).default));
    }
    let on_full = key(ConfigFile::System, "audit.on_full");
    assert_eq!(on_full.default.as_deref(), Some("\"refuse\""));
    assert_eq!(audit.on_full, airssys::OnFull::Refuse);
    let components = key(ConfigFile::System, "system.max_components");
    assert_eq!(
        u64::from(airssys_wasm::DEFAULT_MAX_COMPONENTS),
        integer(&components.default)
    );
    let intensity = key(ConfigFile::System, "supervisor.intensity");
    assert_eq!(
        u64::from(Intensity::default().restarts),
        integer(&intensity.default)
    );
    let period = key(ConfigFile::System, "supervisor.period_seconds");
    assert_eq!(
        Intensity::default().period,
        Duration::from_secs(integer(&period.default))
    );
    let shutdown = key(ConfigFile::System, "supervisor.child.shutdown");
    let default = shutdown.default.as_ref().unwrap().trim_matches('"');
    let stop = airssys::config::parse_shutdown(default);
    assert_eq!(
        stop,
        Some(airssys::Shutdown::Timeout(airssys_rt::DEFAULT_SHUTDOWN))
    );
    let strategy = key(ConfigFile::System, "supervisor.strategy");
    assert_eq!(strategy.default.as_deref(), Some("\"one_for_one\""));
    assert_eq!(Strategy::default(), Strategy::OneForOne);
    let restart = key(ConfigFile::System, "supervisor.child.restart");
    assert_eq!(restart.default.as_deref(), Some("\"permanent\""));
    assert_eq!(Restart::default(), Restart::Permanent);
    let level = key(ConfigFile::Component, "integrity.level");
    assert_eq!(level.default.as_deref(), Some("\"standard\""));
    assert_eq!(VerificationLevel::default(), VerificationLevel::Standard);
}

#[test]
fn what_an_error_offers_to_paste_is_accepted_for_every_key() {
    let dir = folder();
    for key in keys().iter() {
        let text = document(key.file, &key.name, Some(&key.example));
        let offered = key.snippet();
        let line = offered.lines().last().unwrap();
        let bare = format!("{} = {}", key.leaf(), key.example);
        assert!(text.contains(&bare));
        load(&dir, key.file, &text.replace(&bare, line)).unwrap();
    }
}
