//! Where results and errors go: results to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;

use super::Exit;
use super::error::{CliError, Failure};
use super::report;

/// The program's two streams, and whether results are JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Whether a person watches standard error.
    pub(crate) fn is_watched(self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Writes a line (or several) to standard output.
    pub(crate) fn line(self, text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", printable(text.trim_end_matches('\n')))
            .and_then(|()| stdout.flush())
            .map_err(|source| Failure::Output { source }.into())
    }

    /// Writes one JSON value as a line.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value).map_err(|source| Failure::Json { source })?;
        self.line(&text)
    }

    /// Tells a person something. Nobody there to read it is no failure.
    pub(crate) fn note(self, text: &str) {
        writeln!(io::stderr().lock(), "{text}").ok();
    }

    /// A sign of life for work that may take seconds; it goes when dropped.
    pub(crate) fn busy(self, doing: String) -> Busy {
        let bar = if self.is_watched() {
            let bar = ProgressBar::new_spinner().with_message(doing);
            bar.enable_steady_tick(Duration::from_millis(150));
            bar
        } else {
            ProgressBar::hidden()
        };
        Busy(bar)
    }

    /// Reports an error on standard error, and with `--json` as an object on standard output.
    pub(crate) fn error(self, error: &CliError) -> Exit {
        let nobody_reads = matches!(
            error,
            CliError::Failed(Failure::Output { source }) if source.kind() == io::ErrorKind::BrokenPipe
        );
        if !nobody_reads {
            if self.json {
                // It went wrong already; a second failure to say so changes nothing.
                self.json(&serde_json::json!({ "error": error.json() }))
                    .ok();
            }
            self.note(report::text(error).trim_end());
        }
        error.exit()
    }

    /// Says that somebody ended it.
    pub(crate) fn interrupted(self) -> Exit {
        if self.json {
            let error = serde_json::json!({ "kind": "interrupted", "message": "interrupted" });
            self.json(&serde_json::json!({ "error": error })).ok();
        }
        self.note("interrupted");
        Exit::Interrupted
    }

    /// As [`Output::error`], for what has no type of its own.
    pub(crate) fn other_error(self, message: &str) -> Exit {
        if self.json {
            let error = serde_json::json!({ "kind": "internal", "message": message });
            self.json(&serde_json::json!({ "error": error })).ok();
        }
        self.note(&format!("error: {message}"));
        Exit::Failed
    }
}

/// Text that cannot drive a terminal: names and messages of a guest may hold control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// See [`Output::busy`].
pub(crate) struct Busy(ProgressBar);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
