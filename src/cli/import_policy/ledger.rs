//! What became of each rule: nothing is lost between the two files.

use super::refusal::{Refusal, Why};

/// A rule that holds, and what holds it.
#[derive(Debug)]
pub(super) struct Enforced {
    pub(super) line: usize,
    pub(super) rule: String,
    /// The key and value in the Component.toml, or why none is needed.
    pub(super) by: String,
    /// Whether it is by a key; others are told in comments of their own.
    pub(super) keyed: bool,
}

/// Rules that hold, and rules that are refused.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) enforced: Vec<Enforced>,
    pub(super) refused: Vec<Refusal>,
}

impl Ledger {
    /// Notes that a key holds a rule.
    pub(super) fn keyed(&mut self, line: usize, rule: &str, by: String) {
        self.enforce(line, rule, by, true);
    }

    /// Notes that a rule holds without a key of its own.
    pub(super) fn holds(&mut self, line: usize, rule: &str, by: String) {
        self.enforce(line, rule, by, false);
    }

    fn enforce(&mut self, line: usize, rule: &str, by: String, keyed: bool) {
        let rule = shown(rule);
        self.enforced.push(Enforced {
            line,
            rule,
            by,
            keyed,
        });
    }

    /// Notes that a rule does not hold; one that `allows` can be left out.
    pub(super) fn refuse(&mut self, line: usize, rule: &str, why: Why, allows: bool) {
        let rule = shown(rule);
        self.refused.push(Refusal {
            line,
            rule,
            why,
            allows,
        });
    }
}

/// Most characters of a rule that are shown.
const MAX_SHOWN: usize = 300;

/// A text that fits in a comment and cannot leave it.
pub(super) fn shown(text: &str) -> String {
    let safe = |c: char| match c {
        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().take(MAX_SHOWN).map(safe).collect()
}
