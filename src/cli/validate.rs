//! `airssys validate`: every problem of every file, and of the files those name.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use airssys::config::{ConfigFile, Document, Rule};
use airssys::{ComponentConfig, ConfigError, MemoryCeiling, SystemConfig};
use serde_json::json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Exit;
use super::error::CliError;
use super::output::Output;
use super::report::{self, FileReport};

pub(super) fn validate(files: &[PathBuf], output: Output) -> Result<Exit, CliError> {
    let mut checked = Checked::default();
    for file in files {
        checked.file(file);
    }
    let Checked { results, .. } = checked;
    let wrong = results.iter().filter(|(_, error)| error.is_some()).count();
    if output.is_json() {
        let reports: Vec<FileReport> = results
            .iter()
            .map(|(file, error)| match error {
                Some(error) => FileReport::refused(Some(file), error),
                None => FileReport::ok(file),
            })
            .collect();
        output.json(&json!({ "files": reports }))?;
    } else {
        for (file, error) in &results {
            match error {
                Some(error) => output.note(&format!("{}\n", report::config_text(error).trim_end())),
                None => output.line(&format!("ok  {}", file.display()))?,
            }
        }
        if wrong > 0 {
            let problems: usize = results.iter().map(|(_, error)| problems(error)).sum();
            output.note(&format!("{problems} problem(s) in {wrong} file(s)"));
        }
    }
    Ok(if wrong == 0 { Exit::Ok } else { Exit::Usage })
}

fn problems(error: &Option<ConfigError>) -> usize {
    match error {
        None => 0,
        Some(ConfigError::Invalid { problems, .. }) => problems.len(),
        Some(_) => 1,
    }
}

/// Files in the order they were met, each once, with what is wrong.
#[derive(Default)]
struct Checked {
    seen: HashSet<PathBuf>,
    results: Vec<(PathBuf, Option<ConfigError>)>,
}

impl Checked {
    fn file(&mut self, file: &Path) {
        let document = match Document::read(file, ConfigFile::System) {
            Ok(document) => document,
            Err(error) => return self.add(file, Some(error)),
        };
        if document.tables().have("component") {
            return self.component(file, MemoryCeiling::default());
        }
        if self.seen.contains(file) {
            return;
        }
        // The loader also tells what is wrong in the files below; those have their own turn.
        let own = |error: &ConfigError| match error {
            ConfigError::Invalid { path, .. } => path == file,
            _ => false,
        };
        let error = match SystemConfig::load(file) {
            Ok(_) => None,
            Err(errors) => errors.0.into_iter().find(own),
        };
        let components = component_files(&document);
        let key = "supervisor.child.component";
        let error = with_missing(&document, error, key, &components);
        self.add(file, error);
        let ceiling = memory_ceiling(&document).unwrap_or_default();
        for (_, component) in components {
            if component.is_file() {
                self.component(&component, ceiling);
            }
        }
    }

    fn component(&mut self, file: &Path, ceiling: MemoryCeiling) {
        if self.seen.contains(file) {
            return;
        }
        let mut error = ComponentConfig::load_under(file, ceiling).err();
        if let Ok(document) = Document::read(file, ConfigFile::Component) {
            let wasm = wasm_file(&document);
            error = with_missing(&document, error, "component.wasm", wasm.as_slice());
        }
        self.add(file, error);
    }

    fn add(&mut self, file: &Path, error: Option<ConfigError>) {
        if self.seen.insert(file.to_path_buf()) {
            self.results.push((file.to_path_buf(), error));
        }
    }
}

/// A file that a document names, and where it does.
type Named = (Range<usize>, PathBuf);

/// Adds the files that `key` names and that are not there: the line that names one is the one to
/// mend.
fn with_missing(
    document: &Document,
    error: Option<ConfigError>,
    key: &str,
    named: &[Named],
) -> Option<ConfigError> {
    let mut problems = match error {
        Some(ConfigError::Invalid { problems, .. }) => problems,
        Some(other) => return Some(other),
        None => Vec::new(),
    };
    for (span, path) in named {
        let known = problems.iter().any(|problem| problem.span == *span);
        if known || path.is_file() {
            continue;
        }
        let what = if path.exists() {
            "is not a regular file"
        } else {
            "does not exist"
        };
        let reason = format!("{} {what}", path.display());
        let rule = Rule::Unreadable { reason };
        problems.push(document.problem(span.clone(), Some(key), rule));
    }
    problems.sort_by_key(|problem| problem.span.start);
    (!problems.is_empty()).then(|| document.invalid(problems))
}

fn wasm_file(document: &Document) -> Option<Named> {
    let table = DeTable::parse(document.text()).ok()?;
    let DeValue::Table(component) = table.get_ref().get("component")?.get_ref() else {
        return None;
    };
    named(document, component.get("wasm")?)
}

fn named(document: &Document, value: &Spanned<DeValue<'_>>) -> Option<Named> {
    let path = value.get_ref().as_str()?;
    Some((value.span(), document.resolve(path)))
}

/// The ceiling an airssys.toml sets on the memory of its components, whatever else is wrong in it.
fn memory_ceiling(document: &Document) -> Option<MemoryCeiling> {
    let table: toml::Table = document.text().parse().ok()?;
    let bytes = table.get("policy")?.get("memory")?.get("max_bytes")?;
    MemoryCeiling::new(usize::try_from(bytes.as_integer()?).ok()?).ok()
}

/// The Component.toml files an airssys.toml names, whatever else is wrong in it.
fn component_files(document: &Document) -> Vec<Named> {
    let Ok(table) = DeTable::parse(document.text()) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    let mut open: Vec<&DeTable<'_>> = vec![table.get_ref()];
    while let Some(table) = open.pop() {
        let children = tables(table, "child");
        let values = children.filter_map(|child| child.get("component"));
        files.extend(values.filter_map(|value| named(document, value)));
        open.extend(tables(table, "supervisor").rev());
    }
    files
}

/// The tables of the list of that name.
fn tables<'a, 'b>(
    table: &'a DeTable<'b>,
    name: &str,
) -> impl DoubleEndedIterator<Item = &'a DeTable<'b>> {
    let list = table.get(name).and_then(|value| match value.get_ref() {
        DeValue::Array(array) => Some(array),
        _ => None,
    });
    let items = list.into_iter().flat_map(|array| array.iter());
    items.filter_map(|item: &Spanned<DeValue<'b>>| match item.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    })
}
