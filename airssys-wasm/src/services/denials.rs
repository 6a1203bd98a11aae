//! Telling of accesses that were refused.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use airssys_osl::grants::Denial;
use airssys_rt::Events;

use crate::config::ComponentName;
use crate::host_functions::Caller;

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

/// Where one instance's denials are told.
#[derive(Debug)]
pub(crate) struct Denials {
    events: Events<AccessDenied>,
    logged: Mutex<Logged>,
}

#[derive(Debug)]
struct Logged {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Denials {
    pub(crate) fn new(events: Events<AccessDenied>) -> Self {
        Self {
            events,
            logged: Mutex::new(Logged {
                since: Instant::now(),
                lines: 0,
                left_out: 0,
            }),
        }
    }

    pub(crate) fn tell(&self, caller: &Caller, denial: &Denial) {
        if let Some(left_out) = self.line() {
            let missing = denial.missing.as_ref().map(ToString::to_string);
            tracing::warn!(
                component = %caller.component,
                replica = caller.replica,
                generation = caller.generation,
                capability = %denial.capability,
                // Made by the guest: its control characters are not the terminal's.
                subject = ?denial.subject,
                reason = ?denial.reason.to_string(),
                ?missing,
                left_out,
                "access denied"
            );
        }
        self.events.send(AccessDenied {
            component: caller.component.clone(),
            replica: caller.replica,
            generation: caller.generation,
            denial: denial.clone(),
        });
    }

    /// How many were left out before this one, if this one may have a line.
    fn line(&self) -> Option<u64> {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.since.elapsed() >= Duration::from_secs(1) {
            logged.since = Instant::now();
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
