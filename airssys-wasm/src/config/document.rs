//! Reading a configuration file against the rules of its keys, all problems at once.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use airssys_rt::Shutdown;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::keys::{ConfigFile, Key, KeyType, is_list, keys};
use super::name::ComponentName;
use super::problem::{ConfigError, Decision, MAX_PROBLEMS, Problem, Rule};
use crate::limits::MemoryCeiling;

/// Most bytes of a configuration file.
pub const CONFIG_FILE_LIMIT: u64 = 1024 * 1024;

/// Longest value of a text key, in bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// Longest time a child may be given to stop.
const MAX_SHUTDOWN: Duration = Duration::from_secs(3600);

/// A configuration file's text and where it came from.
#[derive(Debug, Clone)]
pub struct Document {
    path: PathBuf,
    text: String,
    file: ConfigFile,
    memory_ceiling: MemoryCeiling,
}

impl Document {
    /// Reads a file of at most [`CONFIG_FILE_LIMIT`] bytes.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] or [`ConfigError::NotText`].
    pub fn read(path: &Path, file: ConfigFile) -> Result<Self, ConfigError> {
        let bytes = airssys_osl::read_regular_file(path, CONFIG_FILE_LIMIT)?;
        let text = String::from_utf8(bytes).map_err(|error| ConfigError::NotText {
            path: path.to_path_buf(),
            source: error.utf8_error(),
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            text,
            file,
            memory_ceiling: MemoryCeiling::default(),
        })
    }

    /// A document from text; relative paths in it count from the folder of `path`.
    #[must_use]
    pub fn from_text(path: &Path, text: &str, file: ConfigFile) -> Self {
        Self {
            path: path.to_path_buf(),
            text: text.to_owned(),
            file,
            memory_ceiling: MemoryCeiling::default(),
        }
    }

    /// The same document under a host's own ceiling on memory limits.
    #[must_use]
    pub fn under(self, memory_ceiling: MemoryCeiling) -> Self {
        Self {
            memory_ceiling,
            ..self
        }
    }

    /// The host's ceiling on memory limits.
    pub(super) fn memory_ceiling(&self) -> MemoryCeiling {
        self.memory_ceiling
    }

    /// The largest value of an integer key in this document.
    fn most(&self, key: &Key) -> i64 {
        if key.ceiling().is_some() {
            return i64::try_from(self.memory_ceiling.bytes()).unwrap_or(i64::MAX);
        }
        key.max.unwrap_or(i64::MAX)
    }

    /// Where it came from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands in it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its tables, parsed. What is no TOML is told by [`Tables::values`].
    #[must_use]
    pub fn tables(&self) -> Tables<'_> {
        Tables {
            document: self,
            table: DeTable::parse(&self.text),
        }
    }

    /// A path that stands in the document, taken from the document's own folder.
    #[must_use]
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.path
            .parent()
            .map_or_else(|| PathBuf::from(path), |folder| folder.join(path))
    }

    /// The values, once every rule of every key holds.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything found wrong.
    pub fn values<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.tables().values()
    }

    /// A problem at a place in this document.
    #[must_use]
    pub fn problem(&self, span: Range<usize>, key: Option<&str>, broken: Rule) -> Problem {
        let (line, column) = Problem::position(&self.text, span.start);
        // An unknown key has no rule of its own; the one that was probably meant has.
        let ruled = match &broken {
            Rule::UnknownKey { nearest } => nearest.as_deref(),
            _ => key,
        };
        let decision = ruled
            .and_then(|key| keys().get(self.file, key))
            .map(Decision::from);
        Problem {
            file: self.path.clone(),
            line,
            column,
            span,
            key: key.map(str::to_owned),
            broken,
            decision,
        }
    }

    /// The error that refuses this document.
    #[must_use]
    pub fn invalid(&self, mut problems: Vec<Problem>) -> ConfigError {
        problems.truncate(MAX_PROBLEMS);
        ConfigError::Invalid {
            path: self.path.clone(),
            text: self.text.clone(),
            problems,
        }
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let message = error.message().to_owned();
        self.problem(error.span().unwrap_or(0..0), None, Rule::Syntax { message })
    }
}

/// A document's text, parsed once.
#[derive(Debug)]
pub struct Tables<'a> {
    document: &'a Document,
    table: Result<Spanned<DeTable<'a>>, toml::de::Error>,
}

impl Tables<'_> {
    /// Whether there is a table of that name at the top; false where it is not even TOML.
    #[must_use]
    pub fn have(&self, name: &str) -> bool {
        let table = self.table.as_ref().ok();
        let value = table.and_then(|table| table.get_ref().get(name));
        value.is_some_and(|value| matches!(value.get_ref(), DeValue::Table(_)))
    }

    /// The values, once every rule of every key holds.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything found wrong.
    pub fn values<T: DeserializeOwned>(self) -> Result<T, ConfigError> {
        let document = self.document;
        let wrong = |error| document.invalid(vec![document.syntax(&error)]);
        let table = self.table.map_err(wrong)?;
        let mut check = Check {
            document,
            problems: Vec::new(),
        };
        check.table("", table.get_ref(), 0..0);
        if !check.problems.is_empty() {
            let mut problems = check.problems;
            problems.sort_by_key(|problem| problem.span.start);
            return Err(document.invalid(problems));
        }
        // The rules cover every key of `T`; a mismatch is a defect of ours, and still no panic.
        T::deserialize(Deserializer::from(table)).map_err(wrong)
    }
}

struct Check<'a> {
    document: &'a Document,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn table(&mut self, section: &str, table: &DeTable<'_>, header: Range<usize>) {
        // In written order, since a file with more problems than are kept shows its first ones.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name = canonical(section, key.get_ref());
            if let Some(rule) = keys().get(self.document.file, &name) {
                self.value(rule, value);
            } else if keys().is_section(self.document.file, &name) {
                self.section(&name, value);
            } else {
                let nearest = self.nearest(&name);
                self.report(key.span(), &name, Rule::UnknownKey { nearest });
            }
        }
        self.missing(section, table, header);
    }

    /// Reports the mandatory keys that are not there, down into sections that are not there.
    fn missing(&mut self, section: &str, table: &DeTable<'_>, header: Range<usize>) {
        let file = self.document.file;
        for key in keys().of(file).filter(|key| key.required) {
            let Some(rest) = strip_section(&key.name, section) else {
                continue;
            };
            let first = rest.split('.').next().unwrap_or(rest);
            // A tree needs a supervisor, but a supervisor needs neither children nor supervisors.
            let list = first != rest && is_list(file, key.section());
            let needed = section.is_empty() && key.name.starts_with("supervisor");
            let optional_list = list && !needed;
            if !optional_list && !table.contains_key(first) {
                self.report(header.clone(), &key.name, Rule::Missing);
            }
        }
    }

    fn section(&mut self, name: &str, value: &Spanned<DeValue<'_>>) {
        let list = is_list(self.document.file, name);
        match value.get_ref() {
            DeValue::Table(table) if !list => self.table(name, table, value.span()),
            DeValue::Array(array) if list => {
                for item in array.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => self.table(name, table, item.span()),
                        other => self.wrong_type(item.span(), name, "a table", other),
                    }
                }
            }
            other if list => {
                self.wrong_type(
                    value.span(),
                    name,
                    &format!("a list of [[{name}]] tables"),
                    other,
                );
            }
            other => self.wrong_type(value.span(), name, "a table", other),
        }
    }

    fn value(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) {
        let span = value.span();
        match (key.kind, value.get_ref()) {
            (KeyType::Integer, DeValue::Integer(integer)) => {
                let digits = integer.as_str();
                let parsed = i128::from_str_radix(digits, integer.radix());
                // What does not even fit 128 bits is out of any bound on the side of its sign.
                let number = parsed.unwrap_or(if digits.starts_with('-') {
                    i128::MIN
                } else {
                    i128::MAX
                });
                let (min, max) = (key.min.unwrap_or(i64::MIN), self.document.most(key));
                if number < i128::from(min) {
                    self.report(span, &key.name, Rule::TooLow { value: number, min });
                } else if number > i128::from(max) {
                    self.report(span, &key.name, Rule::TooHigh { value: number, max });
                }
            }
            (KeyType::List, DeValue::Array(items)) => self.list(key, span, items),
            (KeyType::List, other) => self.wrong_type(span, &key.name, "a list of strings", other),
            (KeyType::Integer, other) => self.wrong_type(span, &key.name, "an integer", other),
            (kind, DeValue::String(text)) => {
                let allowed = match kind {
                    KeyType::Integer | KeyType::List => false,
                    KeyType::Name => text.parse::<ComponentName>().is_ok(),
                    KeyType::Version => semver::Version::parse(text).is_ok(),
                    KeyType::Text => text.len() <= MAX_TEXT_BYTES && !text.contains('\0'),
                    KeyType::Path => !text.is_empty() && !text.contains('\0'),
                    KeyType::Choice => key.choices.iter().any(|choice| choice == text),
                    KeyType::Shutdown => parse_shutdown(text).is_some(),
                };
                if !allowed {
                    let value = text.chars().take(80).collect();
                    self.report(span, &key.name, Rule::NotAllowed { value });
                }
            }
            (_, other) => self.wrong_type(span, &key.name, "a string", other),
        }
    }

    fn list(&mut self, key: &Key, span: Range<usize>, items: &[Spanned<DeValue<'_>>]) {
        let max = key.max.unwrap_or(i64::MAX);
        let items_there = i128::try_from(items.len()).unwrap_or(i128::MAX);
        if items_there > i128::from(max) {
            let value = items_there;
            self.report(span, &key.name, Rule::TooHigh { value, max });
        }
        for item in items {
            if !matches!(item.get_ref(), DeValue::String(_)) {
                self.wrong_type(item.span(), &key.name, "a string", item.get_ref());
            }
        }
    }

    fn wrong_type(&mut self, span: Range<usize>, name: &str, expected: &str, found: &DeValue<'_>) {
        let found = match found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let expected = expected.to_owned();
        self.report(span, name, Rule::WrongType { expected, found });
    }

    fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    fn report(&mut self, span: Range<usize>, key: &str, broken: Rule) {
        if !self.is_full() {
            self.problems
                .push(self.document.problem(span, Some(key), broken));
        }
    }

    /// The known key of this file that looks most like `name`, if one does.
    fn nearest(&self, name: &str) -> Option<String> {
        // Long names are nobody's typing error, and comparing them would take long, as it would for
        // each of many keys of which nobody will be told.
        if name.len() > 128 || self.is_full() {
            return None;
        }
        keys()
            .of(self.document.file)
            .map(|key| (edit_distance(&key.name, name), &key.name))
            .min()
            .filter(|(distance, _)| *distance <= 4)
            .map(|(_, nearest)| nearest.clone())
    }
}

/// `key` below `section`; supervisors in supervisors share one set of keys.
fn canonical(section: &str, key: &str) -> String {
    match (section, key) {
        ("", key) => key.to_owned(),
        ("supervisor", "supervisor") => String::from("supervisor"),
        (section, key) => format!("{section}.{key}"),
    }
}

fn strip_section<'a>(name: &'a str, section: &str) -> Option<&'a str> {
    if section.is_empty() {
        return Some(name);
    }
    name.strip_prefix(section)?.strip_prefix('.')
}

/// Levenshtein distance, one row at a time.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut previous = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(&b) {
            let substituted = diagonal + usize::from(left != *right);
            diagonal = *cell;
            *cell = substituted.min(diagonal + 1).min(previous + 1);
            previous = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// `brutal`, `infinity` or a time from 1 ms to an hour.
#[must_use]
pub fn parse_shutdown(text: &str) -> Option<Shutdown> {
    match text {
        "brutal" => Some(Shutdown::Brutal),
        "infinity" => Some(Shutdown::Infinity),
        time => humantime::parse_duration(time)
            .ok()
            .filter(|limit| (Duration::from_millis(1)..=MAX_SHUTDOWN).contains(limit))
            .map(Shutdown::Timeout),
    }
}
