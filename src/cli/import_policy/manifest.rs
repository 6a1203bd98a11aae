//! The Component.toml that a policy becomes.

use std::fmt::Write;

use airssys::config::ComponentName;

use super::ledger::{Ledger, shown};

/// Memory of a component whose policy says nothing of it: the most that a host allows by itself.
pub(super) const CEILING_BYTES: u64 = 4_194_304;

/// A text of a list, and the lines of the policy that it comes from.
#[derive(Debug)]
pub(super) struct Line {
    text: String,
    lines: Vec<usize>,
}

impl Line {
    /// Adds a text to a list, once.
    pub(super) fn add(list: &mut Vec<Self>, text: &str, line: usize) {
        match list.iter_mut().find(|known| known.text == text) {
            Some(known) => known.lines.push(line),
            None => list.push(Self {
                text: text.to_owned(),
                lines: vec![line],
            }),
        }
    }
}

/// One `[[capabilities.filesystem]]`.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: String,
    pub(super) guest: String,
    pub(super) write: bool,
    /// The line that asked for it first.
    pub(super) line: usize,
    pub(super) lines: Vec<usize>,
}

/// What the rules have come to.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) directories: Vec<Directory>,
    pub(super) outbound: Vec<Line>,
    pub(super) deny: Vec<Line>,
    pub(super) inherit: Vec<Line>,
    /// The least of the limits, and the lines that name one.
    pub(super) memory: Option<(u64, Vec<usize>)>,
}

/// Whose Component.toml it is.
#[derive(Debug)]
pub(super) struct Identity<'a> {
    pub(super) name: &'a ComponentName,
    pub(super) wasm: &'a str,
    pub(super) policy: &'a str,
    pub(super) description: Option<&'a str>,
}

impl Manifest {
    /// Most bytes of memory.
    pub(super) fn max_bytes(&self) -> u64 {
        self.memory
            .as_ref()
            .map_or(CEILING_BYTES, |(bytes, _)| *bytes)
    }

    /// The text, with this limit of memory.
    pub(super) fn text(&self, identity: &Identity<'_>, max_bytes: u64, ledger: &Ledger) -> String {
        let mut text = String::new();
        self.write(&mut text, identity, max_bytes, ledger).ok();
        text
    }

    fn write(
        &self,
        out: &mut String,
        identity: &Identity<'_>,
        max_bytes: u64,
        ledger: &Ledger,
    ) -> std::fmt::Result {
        writeln!(
            out,
            "# From {}, whose lines the comments name.",
            shown(identity.policy)
        )?;
        if let Some(description) = identity.description {
            writeln!(out, "# {}", shown(description))?;
        }
        for rule in ledger.enforced.iter().filter(|rule| !rule.keyed) {
            writeln!(out, "# line {}: {}: {}", rule.line, rule.rule, rule.by)?;
        }
        for refused in &ledger.refused {
            writeln!(
                out,
                "# line {}: {}: LEFT OUT: {}",
                refused.line,
                refused.rule,
                shown(&refused.why.to_string())
            )?;
        }
        writeln!(
            out,
            "[component]\nname = {}\nversion = \"0.1.0\"\nwasm = {}\n\n[resources.memory]",
            quoted(identity.name.as_str()),
            quoted(identity.wasm)
        )?;
        match &self.memory {
            Some((_, lines)) => writeln!(out, "# {}", numbers(lines))?,
            None => writeln!(out, "# The policy says nothing of it.")?,
        }
        writeln!(out, "max_bytes = {max_bytes}")?;
        for directory in &self.directories {
            writeln!(
                out,
                "\n# {}\n[[capabilities.filesystem]]\npath = {}\nguest = {}",
                numbers(&directory.lines),
                quoted(&directory.path),
                quoted(&directory.guest)
            )?;
            if directory.write {
                writeln!(out, "access = \"read-write\"")?;
            }
        }
        if !self.outbound.is_empty() || !self.deny.is_empty() {
            writeln!(
                out,
                "\n# Names lead to public addresses; to others only where an address or network is named.\n\
                 [capabilities.network]"
            )?;
        }
        list(out, "outbound", &self.outbound)?;
        list(out, "deny", &self.deny)?;
        if !self.inherit.is_empty() {
            writeln!(out, "\n[capabilities.environment]")?;
        }
        list(out, "inherit", &self.inherit)
    }
}

fn list(out: &mut String, key: &str, lines: &[Line]) -> std::fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "{key} = [")?;
    for line in lines {
        writeln!(
            out,
            "    {}, # {}",
            quoted(&line.text),
            numbers(&line.lines)
        )?;
    }
    writeln!(out, "]")
}

fn numbers(lines: &[usize]) -> String {
    let word = match lines.len() {
        1 => "line",
        _ => "lines",
    };
    let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
    format!("{word} {}", lines.join(", "))
}

/// A text as TOML, which takes what JSON makes of one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
