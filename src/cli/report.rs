//! Errors that show the line, and the same facts as JSON.

use std::io::{self, IsTerminal};
use std::ops::Range;
use std::path::Path;

use airssys::ConfigError;
use airssys::config::Problem;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::{CliError, ExpectedError};
use super::import_policy::{PolicyError, Refusal};
use super::output::printable;

/// An error as text for standard error.
pub(crate) fn text(error: &CliError) -> String {
    if let CliError::Expected(ExpectedError::Config(errors)) = error {
        return errors
            .0
            .iter()
            .map(config_text)
            .collect::<Vec<_>>()
            .join("\n\n");
    }
    if let CliError::Expected(ExpectedError::Policy(error)) = error {
        let refused = error.refusals.iter();
        let texts: Vec<String> = refused.map(|r| refusal_text(error, r, false)).collect();
        return texts.join("\n\n");
    }
    let message = printable(&error.to_string());
    let mut group = Group::with_title(Level::ERROR.primary_title(message));
    if let Some(help) = error.help() {
        group = group.element(Level::HELP.message(help));
    }
    renderer().render(&[group])
}

/// One file's problems, each with its line.
pub(crate) fn config_text(error: &ConfigError) -> String {
    let ConfigError::Invalid { text, problems, .. } = error else {
        let title = Level::ERROR.primary_title(printable(&error.to_string()));
        return renderer().render(&[Group::with_title(title)]);
    };
    let renderer = renderer();
    problems
        .iter()
        .map(|problem| renderer.render(&[group(problem, text)]))
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// A rule of a policy that is not enforced, with its line; `skipped` where it is left out.
pub(crate) fn refusal_text(error: &PolicyError, refusal: &Refusal, skipped: bool) -> String {
    let level = match skipped {
        true => Level::WARNING,
        false => Level::ERROR,
    };
    let message = format!("`{}`: {}", refusal.rule, refusal.why);
    let mut lines = error.text.split_inclusive('\n');
    let before = lines.by_ref().take(refusal.line.saturating_sub(1));
    let start: usize = before.map(str::len).sum();
    let line = lines.next().unwrap_or_default();
    let start = start + (line.len() - line.trim_start().len());
    let span = start..start + line.trim().len();
    let group = level
        .primary_title(printable(&message))
        .element(
            Snippet::source(error.text.as_str())
                .path(error.path.display().to_string())
                .annotation(AnnotationKind::Primary.span(first_line(&error.text, &span))),
        )
        .element(Level::HELP.message(refusal.why.help()));
    renderer().render(&[group])
}

fn renderer() -> Renderer {
    let coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if coloured {
        Renderer::styled()
    } else {
        Renderer::plain()
    }
}

fn group<'a>(problem: &'a Problem, text: &'a str) -> Group<'a> {
    let mut title = Level::ERROR.primary_title(message(problem));
    if let Some(decision) = &problem.decision {
        title = title.id(decision.adr);
    }
    let marked = AnnotationKind::Primary.span(first_line(text, &problem.span));
    let mut group = title.element(
        Snippet::source(text)
            .path(problem.file.display().to_string())
            .annotation(marked),
    );
    if let Some(decision) = &problem.decision {
        group = group
            .element(Level::NOTE.message(format!("rule: {} ({})", decision.rule, decision.adr)))
            .element(Level::HELP.message(format!("for example:\n{}", decision.snippet)));
    }
    group
}

fn message(problem: &Problem) -> String {
    printable(&match &problem.key {
        Some(key) => format!("`{key}`: {}", problem.broken),
        None => problem.broken.to_string(),
    })
}

/// The part of the span that stands on its first line, kept inside the text: what is drawn must
/// not depend on how far a table reaches.
fn first_line(text: &str, span: &Range<usize>) -> Range<usize> {
    let on_boundary = |offset: usize| {
        let offset = offset.min(text.len());
        (0..=offset)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0)
    };
    let start = on_boundary(span.start);
    let end = on_boundary(span.end).max(start);
    let length = text
        .get(start..end)
        .and_then(|marked| marked.find('\n'))
        .unwrap_or(end - start);
    start..start + length
}

/// What is wrong with one file, as `validate --json` tells it.
#[derive(Debug, Serialize)]
pub(crate) struct FileReport {
    /// Absent where only the message names it.
    file: Option<String>,
    ok: bool,
    problems: Vec<Value>,
}

impl FileReport {
    /// A file without problems.
    pub(crate) fn ok(file: &Path) -> Self {
        Self {
            file: Some(file.display().to_string()),
            ok: true,
            problems: Vec::new(),
        }
    }

    /// A file that was refused. `asked` names it where the error does not.
    pub(crate) fn refused(asked: Option<&Path>, error: &ConfigError) -> Self {
        let (file, problems) = match error {
            ConfigError::Invalid { path, problems, .. } => (
                Some(path.as_path()),
                problems.iter().map(problem_json).collect(),
            ),
            other => (asked, vec![json!({ "message": other.to_string() })]),
        };
        Self {
            file: file.map(|file| file.display().to_string()),
            ok: false,
            problems,
        }
    }
}

/// Everything wrong in these files.
pub(crate) fn files_json(errors: &[ConfigError]) -> Vec<FileReport> {
    errors
        .iter()
        .map(|error| FileReport::refused(None, error))
        .collect()
}

fn problem_json(problem: &Problem) -> Value {
    let decision = problem.decision.as_ref();
    json!({
        "line": problem.line,
        "column": problem.column,
        "key": problem.key,
        "message": problem.broken.to_string(),
        "rule": decision.map(|decision| &decision.rule),
        "adr": decision.map(|decision| decision.adr),
        "snippet": decision.map(|decision| &decision.snippet),
    })
}
