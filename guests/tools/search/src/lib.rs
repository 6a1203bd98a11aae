//! Finds what matches a regular expression in the files of a directory.

mod bindings {
    #![allow(
        missing_docs,
        unsafe_code,
        reason = "the generated canonical ABI glue is unsafe by nature"
    )]
    wit_bindgen::generate!({ path: "wit", world: "search" });
    use super::Search;
    export!(Search);
}

use std::fs::{self, DirEntry, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use bindings::exports::tools::search::text_search::{Found, Guest, Match, Query, SearchError};
use regex::{Regex, RegexBuilder};

/// Longest pattern, in bytes.
const PATTERN_BYTES: usize = 1000;

/// Most bytes of a compiled pattern, and of what matching keeps of it.
const PROGRAM_BYTES: usize = 256 * 1024;

/// How deep groups of a pattern may lie in one another; the stack is for so many.
const NESTING: u32 = 50;

/// Most matches that are returned.
const MOST_MATCHES: u32 = 1000;

/// Longest file that is read, in bytes.
const FILE_BYTES: u64 = 1024 * 1024;

/// Most files and directories that are looked at.
const ENTRIES: usize = 20_000;

/// Most characters of a line that are returned.
const LINE_CHARS: usize = 300;

/// The errno of a path that no granted directory leads to.
const NOT_CAPABLE: i32 = 76;

struct Search;

impl Guest for Search {
    fn find(query: Query) -> Result<Found, SearchError> {
        let most = query.max_matches;
        if !(1..=MOST_MATCHES).contains(&most) {
            return Err(SearchError::BadLimit(most));
        }
        let pattern = compiled(&query)?;
        let directory = PathBuf::from(&query.directory);
        let mut files = Vec::new();
        let mut skipped = 0;
        walk(&directory, &mut files, &mut skipped).map_err(|error| refused(&directory, &error))?;
        files.sort();
        let mut found = Found {
            matches: Vec::new(),
            more: false,
            skipped,
        };
        for file in files {
            let Some(text) = text(&file) else {
                found.skipped += 1;
                continue;
            };
            let path = file.strip_prefix(&directory).unwrap_or(&file);
            if !lines(&pattern, path, &text, most, &mut found) {
                break;
            }
        }
        Ok(found)
    }
}

fn compiled(query: &Query) -> Result<Regex, SearchError> {
    if query.pattern.len() > PATTERN_BYTES {
        let told = format!("longer than {PATTERN_BYTES} bytes");
        return Err(SearchError::BadPattern(told));
    }
    RegexBuilder::new(&query.pattern)
        .case_insensitive(query.ignore_case)
        .size_limit(PROGRAM_BYTES)
        .dfa_size_limit(PROGRAM_BYTES)
        .nest_limit(NESTING)
        .build()
        .map_err(|error| SearchError::BadPattern(error.to_string()))
}

fn refused(directory: &Path, error: &io::Error) -> SearchError {
    let path = directory.display().to_string();
    match error.kind() {
        ErrorKind::NotFound => SearchError::NoSuchDirectory(path),
        ErrorKind::PermissionDenied => SearchError::NotGranted(path),
        _ if error.raw_os_error() == Some(NOT_CAPABLE) => SearchError::NotGranted(path),
        _ => SearchError::Unreadable(error.to_string()),
    }
}

/// Collects the files below a directory. Links are not followed: they may lead round in circles.
fn walk(directory: &Path, files: &mut Vec<PathBuf>, skipped: &mut u32) -> io::Result<()> {
    let mut open = vec![fs::read_dir(directory)?];
    let mut seen = 0;
    while let Some(entries) = open.last_mut() {
        let Some(entry) = entries.next() else {
            open.pop();
            continue;
        };
        seen += 1;
        if seen > ENTRIES {
            return Err(io::Error::other(format!("more than {ENTRIES} entries")));
        }
        let below = |entry: DirEntry| -> io::Result<_> { Ok((entry.file_type()?, entry.path())) };
        match entry.and_then(below) {
            Ok((kind, path)) if kind.is_dir() => match fs::read_dir(path) {
                Ok(entries) => open.push(entries),
                Err(_) => *skipped += 1,
            },
            Ok((kind, path)) if kind.is_file() => files.push(path),
            Ok(_) => {}
            Err(_) => *skipped += 1,
        }
    }
    Ok(())
}

/// A file's text, where it is short enough and is text.
fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    if file.metadata().ok()?.len() > FILE_BYTES {
        return None;
    }
    file.take(FILE_BYTES).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

/// Adds the lines that match; false where there are more than may be.
fn lines(pattern: &Regex, path: &Path, text: &str, most: u32, found: &mut Found) -> bool {
    for (number, line) in (1_u32..).zip(text.lines()) {
        let Some(hit) = pattern.find(line) else {
            continue;
        };
        if found.matches.len() >= most as usize {
            found.more = true;
            return false;
        }
        let before = line.get(..hit.start()).unwrap_or_default();
        found.matches.push(Match {
            path: path.display().to_string(),
            line: number,
            // A line is at most as long as a file.
            column: before.chars().count() as u32 + 1,
            text: line.chars().take(LINE_CHARS).collect(),
        });
    }
    true
}
