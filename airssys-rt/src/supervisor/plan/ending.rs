//! The way down: every child is stopped and heard to the end, then the supervisor ends.

use std::sync::Arc;

use super::group::Task;
use super::{Effect, Event, Phase, Plan};
use crate::ExitCause;

impl Plan {
    /// Begins it. Nothing is started and no command is carried out from now on.
    pub(super) fn wind_up(&mut self, cause: Arc<ExitCause>, effects: &mut Vec<Effect>) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Arc::clone(&cause));
        self.deferred.clear();
        let places = self.children.keys().copied();
        self.agenda = if self.dynamic() {
            places.map(Task::Stop).collect()
        } else {
            places.rev().map(Task::Stop).collect()
        };
        effects.push(Effect::Ending(cause));
    }

    /// Whether an event still counts on the way down: the reports of children do.
    pub(super) fn heeds(&self, event: &Event) -> bool {
        let report = matches!(
            event,
            Event::Started(..) | Event::Ignored(..) | Event::StartFailed(..) | Event::Exited(..)
        );
        report || self.ending.is_none()
    }

    /// Tells those of a template to stop all at once; one that is on its way up follows when it is
    /// there.
    pub(super) fn stop_all_at_once(&mut self, effects: &mut Vec<Effect>) {
        for task in std::mem::take(&mut self.agenda) {
            let (Task::Stop(place) | Task::Start(place)) = task;
            let Some(entry) = self.children.get_mut(&place) else {
                continue;
            };
            match &entry.phase {
                Phase::Running => self.begin_stop(place, Vec::new(), effects),
                Phase::Starting { .. } => self.agenda.push_back(task),
                Phase::Stopping { .. } => {}
                _ => entry.phase = Phase::Stopped,
            }
        }
    }

    /// Ends the supervisor once nobody is left.
    pub(super) fn end_if_nobody_is_left(&mut self, effects: &mut Vec<Effect>) {
        if self.over || !self.agenda.is_empty() || self.stopping > 0 {
            return;
        }
        if let Some(cause) = &self.ending {
            self.over = true;
            effects.push(Effect::End(Arc::clone(cause)));
        }
    }
}
