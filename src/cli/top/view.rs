//! What of a snapshot is shown, in which order: a function from snapshot, wishes and size to
//! lines. No line is longer or further down than the size.

use std::cmp::Reverse;
use std::collections::HashMap;

use airssys::{ComponentNodeStatus, Snapshot};
use clap::ValueEnum;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::columns::{COLUMNS, Column, age, bytes, fitting, number, refusals};
use super::screen::{Line, Weight};

/// An exit this long ago, in milliseconds, no longer makes a component unhealthy.
const RECENT_MS: u64 = 60_000;

/// Share of its limit from which a component is unhealthy, in percent.
const NEAR_LIMIT_PERCENT: usize = 90;

/// Lines above the components: host, totals, supervisors, wishes, headings.
const HEAD: usize = 5;

/// Widest column of names where nobody says how wide the screen is.
const WIDEST_NAME: usize = 64;

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// What does not run, has just ended, or is near its limit
    Health,
    /// Most calls since the last look, then most calls
    Calls,
    /// Most failed and refused calls
    Errors,
    /// Longest service time of 99 in 100 calls
    Latency,
    /// Most of its memory limit in use
    Memory,
    /// Most restarts
    Restarts,
    /// By name
    Name,
}

/// What somebody who looks has asked for.
#[derive(Debug)]
pub(super) struct View {
    sort: Sort,
    filter: String,
    /// The filter is being typed.
    typing: bool,
    /// Components above the first one shown.
    skipped: usize,
    /// Components shown at a time.
    page: usize,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Stay,
    Leave,
}

impl View {
    pub(super) fn new(sort: Sort, filter: String) -> Self {
        Self {
            sort,
            filter,
            typing: false,
            skipped: 0,
            page: 1,
        }
    }

    /// Takes a key; `None` is a change of size.
    pub(super) fn press(&mut self, key: Option<KeyEvent>) -> Wish {
        let Some(key) = key else {
            return Wish::Stay;
        };
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Wish::Leave,
                _ => Wish::Stay,
            };
        }
        if self.typing {
            self.type_filter(key.code);
            return Wish::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return Wish::Leave,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('h') => self.sort_by(Sort::Health),
            KeyCode::Char('c') => self.sort_by(Sort::Calls),
            KeyCode::Char('e') => self.sort_by(Sort::Errors),
            KeyCode::Char('l') => self.sort_by(Sort::Latency),
            KeyCode::Char('m') => self.sort_by(Sort::Memory),
            KeyCode::Char('r') => self.sort_by(Sort::Restarts),
            KeyCode::Char('n') => self.sort_by(Sort::Name),
            KeyCode::Down | KeyCode::Char('j') => self.skipped = self.skipped.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.skipped = self.skipped.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => {
                self.skipped = self.skipped.saturating_add(self.page);
            }
            KeyCode::PageUp => self.skipped = self.skipped.saturating_sub(self.page),
            KeyCode::Home => self.skipped = 0,
            KeyCode::End => self.skipped = usize::MAX,
            _ => {}
        }
        Wish::Stay
    }

    fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.skipped = 0;
    }

    /// Only what names are made of.
    fn type_filter(&mut self, code: KeyCode) {
        self.skipped = 0;
        match code {
            KeyCode::Char(c) if c.is_ascii_alphanumeric() || c == '-' => self.filter.push(c),
            KeyCode::Backspace => _ = self.filter.pop(),
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.typing = false;
            }
            _ => {}
        }
    }
}

/// A component, with what follows from two snapshots.
pub(super) struct Row<'a> {
    pub(super) status: &'a ComponentNodeStatus,
    /// Calls a second since the last look.
    pub(super) rate: u64,
    /// Share of the time since the last look in which the guest was polled.
    pub(super) busy_percent: u64,
    pub(super) memory_percent: usize,
    /// 0: well; more is worse.
    illness: u8,
}

/// A snapshot made ready to be shown.
pub(super) struct Table<'a> {
    snapshot: &'a Snapshot,
    /// Of all components, filtered or not.
    rate: u64,
    ill: usize,
    rows: Vec<Row<'a>>,
}

impl<'a> Table<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, before: Option<&Snapshot>, view: &View) -> Self {
        let passed_ms = before.map_or(0, |before| {
            let uptime_ms = snapshot.host.uptime_ms;
            uptime_ms.saturating_sub(before.host.uptime_ms)
        });
        let known = before.iter().flat_map(|before| &before.components);
        let known: HashMap<&str, &ComponentNodeStatus> = known
            .map(|status| (status.metrics.name.as_str(), status))
            .collect();
        let row = |status: &'a ComponentNodeStatus| {
            let before = known.get(status.metrics.name.as_str());
            Row::new(status, before.copied(), passed_ms)
        };
        let mut rows: Vec<Row<'a>> = snapshot.components.iter().map(row).collect();
        let rate = rows.iter().map(|row| row.rate).sum();
        let ill = rows.iter().filter(|row| row.illness > 0).count();
        rows.retain(|row| row.status.metrics.name.contains(&view.filter));
        // The snapshot is in the order of names, and sorting keeps it among equals.
        rows.sort_by_key(|row| Reverse(row.weight(view.sort)));
        Self {
            snapshot,
            rate,
            ill,
            rows,
        }
    }

    /// The whole table, where nobody scrolls.
    pub(super) fn text(&self) -> String {
        let names = self.rows.iter().map(|row| row.status.metrics.name.len());
        let name = names.max().unwrap_or(0).clamp(4, WIDEST_NAME);
        let columns: Vec<&Column> = COLUMNS.iter().collect();
        let mut text = format!("{}\n{}\n", self.host(), self.totals());
        text.push_str(&headings(&columns, name));
        for row in &self.rows {
            text.push('\n');
            text.push_str(row.text(&columns, name).trim_end());
        }
        text
    }

    /// What fits a screen, as many lines as it has rows.
    pub(super) fn lines(&self, view: &mut View, width: usize, height: usize) -> Vec<Line> {
        let (columns, name) = fitting(width);
        view.page = height.saturating_sub(HEAD).max(1);
        view.skipped = view.skipped.min(self.rows.len().saturating_sub(view.page));
        let line = |text: String, weight| Line {
            text: text.chars().take(width).map(printable).collect(),
            weight,
        };
        let mut lines = vec![
            line(self.host(), Weight::Plain),
            line(self.totals(), Weight::Plain),
            line(self.supervisors(), Weight::Plain),
            line(self.wishes(view), Weight::Plain),
            line(headings(&columns, name), Weight::Reverse),
        ];
        for row in self.rows.iter().skip(view.skipped).take(view.page) {
            let weight = if row.illness > 0 {
                Weight::Bold
            } else {
                Weight::Plain
            };
            lines.push(line(row.text(&columns, name), weight));
        }
        lines.resize(height, line(String::new(), Weight::Plain));
        lines
    }

    fn host(&self) -> String {
        let host = &self.snapshot.host;
        format!(
            "up {}  instances {}/{}  compiled {}  tasks {}/{}  panics {}",
            age(host.uptime_ms),
            host.instances,
            host.max_instances,
            host.compiled,
            number(host.tasks_active),
            number(host.tasks_total),
            host.panics
        )
    }

    fn totals(&self) -> String {
        let all = &self.snapshot.components;
        let sum = |of: fn(&ComponentNodeStatus) -> u64| {
            number(all.iter().map(of).fold(0, u64::saturating_add))
        };
        let memory = all.iter().filter_map(|status| status.metrics.memory);
        format!(
            "components {}  unhealthy {}  calls {} ({}/s)  failed {}  refused {}  queued {}  \
             memory {}  restarts {}",
            all.len(),
            self.ill,
            sum(|status| status.metrics.total.calls),
            number(self.rate),
            sum(|status| status.metrics.total.failures()),
            sum(refusals),
            sum(|status| status.metrics.queued as u64),
            bytes(memory.map(|memory| memory.current_bytes).sum()),
            sum(|status| status.metrics.restarts),
        )
    }

    /// Those that restart children or are away, the worst first.
    fn supervisors(&self) -> String {
        let mut told: Vec<(Reverse<usize>, String)> = Vec::new();
        for node in &self.snapshot.supervisors {
            match &node.status {
                None => told.push((Reverse(usize::MAX), format!("{}: away", node.name))),
                Some(status) if status.restarts + status.host_restarts > 0 => {
                    let window = age(status.period_ms);
                    let (restarts, hosts) = (status.restarts, status.host_restarts);
                    let of = status.intensity;
                    let mut text = format!("{}: {restarts}/{of} in {window}", node.name);
                    if hosts > 0 {
                        text.push_str(&format!(" (host {hosts}/{of})"));
                    }
                    told.push((Reverse(restarts.max(hosts)), text));
                }
                Some(_) => {}
            }
        }
        told.sort();
        let told: Vec<String> = told.into_iter().map(|(_, text)| text).collect();
        match told.is_empty() {
            true => format!("supervisors {}", self.snapshot.supervisors.len()),
            false => format!("restarting: {}", told.join("  ")),
        }
    }

    fn wishes(&self, view: &View) -> String {
        if view.typing {
            return format!("/{}_  Enter keeps it, Esc drops it", view.filter);
        }
        let sort = view.sort.to_possible_value();
        let sort = sort.map_or_else(String::new, |sort| sort.get_name().to_owned());
        let filter = match view.filter.as_str() {
            "" => String::new(),
            filter => format!("  only *{filter}*"),
        };
        let first = view.skipped + usize::from(!self.rows.is_empty());
        let last = (view.skipped + view.page).min(self.rows.len());
        format!(
            "{first}-{last} of {}  by {sort}{filter}  h c e l m r n sort  / filter  q quit",
            self.rows.len()
        )
    }
}

impl<'a> Row<'a> {
    fn new(
        status: &'a ComponentNodeStatus,
        before: Option<&ComponentNodeStatus>,
        passed_ms: u64,
    ) -> Self {
        let total = &status.metrics.total;
        let since = |now: u64, of: fn(&ComponentNodeStatus) -> u64| {
            before.map_or(0, |before| now.saturating_sub(of(before)))
        };
        let calls = since(total.calls, |before| before.metrics.total.calls);
        let busy_us = since(total.busy_us, |before| before.metrics.total.busy_us);
        let memory_percent = status.metrics.memory.map_or(0, |memory| {
            let per_cent = memory.current_bytes.saturating_mul(100);
            per_cent.checked_div(memory.max_bytes).unwrap_or(0)
        });
        Self {
            status,
            rate: calls
                .saturating_mul(1_000)
                .checked_div(passed_ms)
                .unwrap_or(0),
            busy_percent: busy_us
                .checked_div(passed_ms.saturating_mul(10))
                .unwrap_or(0)
                .min(999),
            memory_percent,
            illness: illness(status, memory_percent),
        }
    }

    fn weight(&self, sort: Sort) -> (u64, u64) {
        let metrics = &self.status.metrics;
        match sort {
            Sort::Health => (self.illness.into(), 0),
            Sort::Calls => (self.rate, metrics.total.calls),
            Sort::Errors => (metrics.total.failures() + refusals(self.status), 0),
            Sort::Latency => (metrics.current.service.map_or(0, |times| times.p99_ns), 0),
            Sort::Memory => (
                self.memory_percent as u64,
                metrics.memory.map_or(0, |memory| memory.current_bytes) as u64,
            ),
            Sort::Restarts => (metrics.restarts, 0),
            Sort::Name => (0, 0),
        }
    }

    fn text(&self, columns: &[&Column], name: usize) -> String {
        let cut: String = self.status.metrics.name.chars().take(name).collect();
        let mut text = format!("{cut:<name$}");
        for column in columns {
            cell(&mut text, column, &(column.cell)(self));
        }
        text.chars().map(printable).collect()
    }
}

fn headings(columns: &[&Column], name: usize) -> String {
    let mut text = format!("{:<name$}", "NAME");
    for column in columns {
        cell(&mut text, column, column.heading);
    }
    text
}

/// Numbers to the right, words to the left.
fn cell(text: &mut String, column: &Column, content: &str) {
    let width = column.width;
    let cut: String = content.chars().take(width).collect();
    let words = matches!(column.heading, "STATE" | "LAST EXIT");
    text.push(' ');
    text.push_str(&if words {
        format!("{cut:<width$}")
    } else {
        format!("{cut:>width$}")
    });
}

fn illness(status: &ComponentNodeStatus, memory_percent: usize) -> u8 {
    match status.state.as_str() {
        "running" => {}
        "stopped" | "quarantined" => return 3,
        _ => return 2,
    }
    let ended = status.metrics.last_exit.as_ref().is_some_and(|exit| {
        let by_itself = matches!(exit.kind.as_str(), "normal" | "shutdown" | "cancelled");
        exit.ago_ms < RECENT_MS && !by_itself
    });
    u8::from(ended || memory_percent >= NEAR_LIMIT_PERCENT)
}

/// One column wide, and nothing a terminal obeys.
fn printable(c: char) -> char {
    match c {
        ' '..='~' => c,
        _ => '?',
    }
}
