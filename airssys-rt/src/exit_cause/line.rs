//! Text of others inside a cause's own line.

use std::fmt::{self, Write};

/// Most bytes of an error's or a panic's text in a cause.
pub(super) const TEXT_BYTES: usize = 1024;
/// Most bytes of a guest's own name for a function.
pub(super) const NAME_BYTES: usize = 256;

/// `text` on one line, cut: a report that a guest has a say in must not forge another one, nor
/// fill the log.
pub(super) fn line<T: fmt::Display>(text: T, bytes: usize) -> Line<T> {
    Line { text, bytes }
}

pub(super) struct Line<T> {
    text: T,
    bytes: usize,
}

impl<T: fmt::Display> fmt::Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cut = Cut {
            to: f,
            left: Some(self.bytes),
        };
        write!(cut, "{}", self.text)?;
        if cut.left.is_none() {
            f.write_str("...")?;
        }
        Ok(())
    }
}

struct Cut<'a, 'f> {
    to: &'a mut fmt::Formatter<'f>,
    /// `None` once something had to be left out.
    left: Option<usize>,
}

impl fmt::Write for Cut<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let c = if c.is_control() { ' ' } else { c };
            self.left = self.left.and_then(|left| left.checked_sub(c.len_utf8()));
            // What is left out is no error: the text's own writer might take it for one of its own.
            if self.left.is_none() {
                return Ok(());
            }
            self.to.write_char(c)?;
        }
        Ok(())
    }
}
