//! How a read that may not wait ended.

/// How a read that may not wait, or not for long, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "without `Ready` there are no bytes"]
pub enum Readiness {
    /// The bytes are there.
    Ready,
    /// A writer was storing. There are no bytes.
    NotReady,
    /// A writer was storing each time, and the time is over. There are no bytes.
    Timeout,
}
