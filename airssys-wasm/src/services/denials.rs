//! Telling of accesses that were refused.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use airssys_osl::grants::Denial;
use airssys_rt::Events;

use crate::config::ComponentName;

/// Denials of one instance that are written to the log in a second; events tell of all of them.
const LOGGED_PER_SECOND: u32 = 10;

/// An access of a component that was refused.
#[derive(Debug, Clone)]
pub struct AccessDenied {
    /// The component.
    pub component: ComponentName,
    /// Which of its replicas, counted from 0.
    pub replica: u32,
    /// Which incarnation of that, counted from 1.
    pub generation: u64,
    /// What was refused and why, with the grant that is missing.
    pub denial: Denial,
}

/// How much is told of one instance's denials.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<Logged>);

#[derive(Debug, Default)]
struct Logged {
    /// When the second began that is counted in; none has yet.
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Denials {
    pub(crate) fn tell(&self, events: &Events<AccessDenied>, denied: &AccessDenied) {
        let denial = &denied.denial;
        if let Some(left_out) = self.line() {
            let missing = denial.missing.as_ref().map(ToString::to_string);
            tracing::warn!(
                component = %denied.component,
                replica = denied.replica,
                generation = denied.generation,
                capability = %denial.capability,
                // Made by the guest: its control characters are not the terminal's.
                subject = ?denial.subject,
                reason = ?denial.reason.to_string(),
                ?missing,
                left_out,
                "access denied"
            );
        }
        events.send(denied.clone());
    }

    /// How many were left out before this one, if this one may have a line.
    fn line(&self) -> Option<u64> {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |since: Instant| since.elapsed() >= Duration::from_secs(1);
        if logged.since.is_none_or(over) {
            logged.since = Some(Instant::now());
            logged.lines = 0;
        }
        if logged.lines == LOGGED_PER_SECOND {
            logged.left_out += 1;
            return None;
        }
        logged.lines += 1;
        Some(std::mem::take(&mut logged.left_out))
    }
}
