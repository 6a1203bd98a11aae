//! `airssys explain`: a key's rule and the decision behind it.

use airssys::config::{ConfigFile, Key, decision_title, keys};
use serde_json::{Value, json};

use super::Exit;
use super::error::{CliError, ExpectedError};
use super::output::Output;

/// Most names suggested for one that is not known.
const SUGGESTIONS: usize = 3;

pub(super) fn explain(asked: Option<&str>, output: Output) -> Result<Exit, CliError> {
    let found = match asked {
        None => Found::Section(keys().iter().collect()),
        Some(asked) => find(asked)?,
    };
    match found {
        Found::Key(key) if output.is_json() => output.json(&key_json(key))?,
        Found::Key(key) => output.line(&key_text(key))?,
        Found::Section(keys) if output.is_json() => {
            let keys: Vec<Value> = keys.into_iter().map(key_json).collect();
            output.json(&json!({ "keys": keys }))?;
        }
        Found::Section(keys) => output.line(&list_text(&keys))?,
    }
    Ok(Exit::Ok)
}

enum Found {
    Key(&'static Key),
    Section(Vec<&'static Key>),
}

fn find(asked: &str) -> Result<Found, ExpectedError> {
    let (file, name) = split_file(asked);
    let candidates: Vec<&'static Key> = keys()
        .iter()
        .filter(|key| file.is_none_or(|file| key.file == file))
        .collect();
    if let Some(key) = candidates.iter().find(|key| key.name == name) {
        return Ok(Found::Key(key));
    }
    let below = format!("{name}.");
    let section: Vec<&'static Key> = candidates
        .iter()
        .copied()
        .filter(|key| name.is_empty() || key.name.starts_with(&below))
        .collect();
    if !section.is_empty() {
        return Ok(Found::Section(section));
    }
    let tail = format!(".{name}");
    let mut ending: Vec<&'static Key> = candidates
        .iter()
        .copied()
        .filter(|key| key.name.ends_with(&tail))
        .collect();
    match (ending.pop(), ending.is_empty()) {
        (Some(key), true) => Ok(Found::Key(key)),
        (Some(last), false) => Err(ExpectedError::AmbiguousKey {
            key: asked.to_owned(),
            candidates: ending
                .into_iter()
                .chain([last])
                .map(|key| (key.file, key.name.clone()))
                .collect(),
        }),
        (None, _) => Err(ExpectedError::UnknownKey {
            key: asked.to_owned(),
            nearest: nearest(name, &candidates),
        }),
    }
}

/// Takes `Component.toml:` or `airssys.toml:` off the front.
fn split_file(asked: &str) -> (Option<ConfigFile>, &str) {
    for file in [ConfigFile::Component, ConfigFile::System] {
        let rest = asked.strip_prefix(&file.to_string());
        if let Some(name) = rest.and_then(|rest| rest.strip_prefix(':')) {
            return (Some(file), name);
        }
    }
    (None, asked)
}

/// Keys that share a part with the name, or whose last part looks most like it.
fn nearest(name: &str, candidates: &[&Key]) -> Vec<String> {
    let leaf = name.rsplit('.').next().unwrap_or(name);
    let mut scored: Vec<(usize, &str)> = candidates
        .iter()
        .map(|key| {
            let score = common_pairs(leaf, key.leaf()).max(common_pairs(name, &key.name));
            (score, key.name.as_str())
        })
        .filter(|(score, _)| *score >= 50)
        .collect();
    scored.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    scored
        .into_iter()
        .take(SUGGESTIONS)
        .map(|(_, name)| format!("`{name}`"))
        .collect()
}

/// How many pairs of neighbouring letters two names share, in percent (Dice's coefficient).
fn common_pairs(a: &str, b: &str) -> usize {
    let pairs = |text: &str| -> Vec<(char, char)> {
        // Long names are nobody's typing error.
        let text: Vec<char> = text.chars().take(128).collect();
        text.iter()
            .copied()
            .zip(text.iter().copied().skip(1))
            .collect()
    };
    let (left, mut right) = (pairs(a), pairs(b));
    let all = left.len() + right.len();
    let mut shared = 0_usize;
    for pair in left {
        if let Some(at) = right.iter().position(|other| *other == pair) {
            right.swap_remove(at);
            shared += 1;
        }
    }
    (200 * shared).checked_div(all).unwrap_or(0)
}

fn key_text(key: &Key) -> String {
    let title = decision_title(key.adr).unwrap_or_default();
    let snippet: Vec<String> = key
        .snippet()
        .lines()
        .map(|line| format!("    {line}"))
        .collect();
    format!(
        "{name} ({file})\n  {summary}\n\n  rule:     {rule}\n  default:  {default}\n  \
         decided:  {adr}: {title}\n\n  for example:\n{snippet}",
        name = key.name,
        file = key.file,
        summary = key.summary,
        rule = key.rule(),
        default = key.default.as_deref().unwrap_or("none"),
        adr = key.adr,
        snippet = snippet.join("\n"),
    )
}

fn list_text(keys: &[&Key]) -> String {
    let width = keys.iter().map(|key| key.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for file in [ConfigFile::Component, ConfigFile::System] {
        let of_file: Vec<&&Key> = keys.iter().filter(|key| key.file == file).collect();
        if of_file.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{file}\n"));
        for key in of_file {
            text.push_str(&format!("  {:width$}  {}\n", key.name, key.summary));
        }
    }
    text
}

fn key_json(key: &Key) -> Value {
    json!({
        "key": key.name,
        "file": key.file.to_string(),
        "summary": key.summary,
        "rule": key.rule(),
        "unit": key.unit,
        "required": key.required,
        "min": key.min,
        "max": key.max,
        "default": key.default,
        "choices": key.choices,
        "adr": key.adr,
        "adr_title": decision_title(key.adr),
        "snippet": key.snippet(),
    })
}
