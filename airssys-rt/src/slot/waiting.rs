//! A caller that waits for its answer.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::alarm::Alarm;
use super::replies::Key;
use super::{Outcome, Request, Slot};

/// A call's place in a slot, given up when its caller goes.
pub(super) struct Waiting<'s, T: Request, R: Send> {
    slot: &'s Slot<T, R>,
    reply: Option<Key>,
    alarm: Option<Alarm>,
}

impl<'s, T: Request, R: Send> Waiting<'s, T, R> {
    pub(super) fn new(slot: &'s Slot<T, R>) -> Self {
        Self {
            slot,
            reply: None,
            alarm: None,
        }
    }

    /// The request waits in the slot from now on, `until` then.
    pub(super) fn begin(
        &mut self,
        reply: Key,
        kept: Option<Alarm>,
        until: Instant,
        context: &mut Context<'_>,
    ) -> Poll<Outcome<R>> {
        self.reply = Some(reply);
        self.alarm = Some(Alarm::at(kept, until));
        self.poll_alarm(context)
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome<R>> {
        let Some(reply) = self.reply else {
            return Poll::Ready(Outcome::Expired);
        };
        let mut inner = self.slot.lock();
        let Poll::Ready(outcome) = inner.replies.poll(reply, context) else {
            drop(inner);
            return self.poll_alarm(context);
        };
        if let Some(mut alarm) = self.alarm.take() {
            alarm.rest();
            inner.alarm = Some(alarm);
        }
        self.reply = None;
        Poll::Ready(outcome.unwrap_or(Outcome::Expired))
    }

    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Poll<Outcome<R>> {
        match &mut self.alarm {
            Some(alarm) => alarm.poll(context).map(|()| Outcome::Expired),
            None => Poll::Pending,
        }
    }
}

impl<T: Request, R: Send> Drop for Waiting<'_, T, R> {
    fn drop(&mut self) {
        let Some(reply) = self.reply else {
            return;
        };
        let mut inner = self.slot.lock();
        let unfetched = inner.replies.leave(reply);
        let in_flight = inner.in_flight.as_mut();
        let watched = in_flight.filter(|in_flight| in_flight.reply == reply);
        let watcher = watched.and_then(|in_flight| in_flight.watcher.take());
        drop(inner);
        drop(unfetched);
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }
}
