//! Group restarts: stops in reverse start order, then starts in start order, one at a time.

use std::sync::Arc;

use super::{Effect, Origin, Phase, Place, Plan, Strategy};
use crate::ExitCause;

/// One step of a group restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Stop(Place),
    Start(Place),
}

impl Plan {
    /// Starts the child at `place` again, with whom its exit concerns.
    pub(super) fn launch(&mut self, place: Place, effects: &mut Vec<Effect>) {
        let first = match self.flags.strategy {
            Strategy::OneForOne | Strategy::SimpleOneForOne => {
                self.begin_start(place, Origin::Restart, effects);
                return;
            }
            Strategy::OneForAll => 0,
            Strategy::RestForOne => place,
        };
        #[cfg(test)]
        {
            self.groups += 1;
        }
        let group = || self.children.range(first..).map(|(place, _)| *place);
        let stops: Vec<Task> = group().rev().map(Task::Stop).collect();
        let starts: Vec<Task> = group().map(Task::Start).collect();
        self.agenda.extend(stops);
        self.agenda.extend(starts);
    }

    /// Works the agenda as far as it goes without waiting.
    pub(super) fn proceed(&mut self, effects: &mut Vec<Effect>) {
        if self.ending.is_some() && self.dynamic() {
            return self.stop_all_at_once(effects);
        }
        if self.ending.is_some() && self.stopping > 0 {
            return;
        }
        while let Some(task) = self.agenda.front().copied() {
            let (Task::Stop(place) | Task::Start(place)) = task;
            let Some(entry) = self.children.get_mut(&place) else {
                self.agenda.pop_front();
                continue;
            };
            match (&entry.phase, task) {
                // Still on its way up or down: wait for the report.
                (Phase::Starting { .. } | Phase::Stopping { .. }, _) => return,
                // A quarantine is the child's own and outlasts what its siblings go through.
                (Phase::Quarantined, _) | (Phase::Running, Task::Start(_)) => {
                    self.agenda.pop_front();
                }
                (Phase::Running, Task::Stop(_)) => {
                    self.begin_stop(place, Vec::new(), effects);
                    return;
                }
                (Phase::Stopped | Phase::Waiting | Phase::Dead, Task::Stop(_)) => {
                    entry.phase = Phase::Stopped;
                    self.loose = true;
                    self.agenda.pop_front();
                    self.drop_if_not_kept(place, effects);
                }
                (Phase::Stopped | Phase::Waiting | Phase::Dead, Task::Start(_)) => {
                    // Stays at the front until a report says how it went.
                    self.begin_start(place, Origin::Group, effects);
                    return;
                }
            }
        }
    }

    /// A start has failed. Where a group waits for it, the rest of the group is dropped: the retry
    /// does it again from there.
    pub(super) fn call_off_group(&mut self, place: Place) {
        if self.agenda.front() == Some(&Task::Start(place)) {
            self.agenda.clear();
        }
    }

    /// A start that a group waits for has ended without a running child.
    pub(super) fn group_start_done(&mut self, place: Place) {
        if self.agenda.front() == Some(&Task::Start(place)) {
            self.agenda.pop_front();
        }
    }

    /// Once nothing is on its way any more, those that a group restart has stopped and nobody has
    /// started again stay down, and their callers are to know.
    pub(super) fn park_left_behind(&mut self, effects: &mut Vec<Effect>) {
        let coming = |phase: &Phase| matches!(phase, Phase::Starting { .. } | Phase::Waiting);
        if !self.agenda.is_empty() || self.children.values().any(|e| coming(&e.phase)) {
            return;
        }
        self.loose = false;
        for entry in self.children.values_mut() {
            if matches!(entry.phase, Phase::Stopped) && !entry.parked {
                entry.park(Arc::new(ExitCause::Shutdown), effects);
            }
        }
    }
}
