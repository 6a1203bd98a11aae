//! What an exit means: a restart, a delay, a quarantine, or the end of the supervisor.

use std::sync::Arc;
use std::time::Duration;

use super::super::window::{Intensity, Window};
use super::{AutoShutdown, Budget, Effect, Entry, Event, Origin, Phase, Place, Plan};
use crate::{CauseRestart, ChildId, ExitCause, ExitKind, Restart};

/// What is left to do once a restart has been paid for, or could not be.
enum Verdict {
    Go,
    Quarantine,
    GiveUp(Intensity),
}

impl Plan {
    pub(super) fn exited(
        &mut self,
        id: &ChildId,
        generation: u64,
        cause: Arc<ExitCause>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let (busy, in_group) = (self.busy(), !self.agenda.is_empty());
        let Some((place, _)) = self.current(id, generation) else {
            return;
        };
        let Some(entry) = self.children.get_mut(&place) else {
            return;
        };
        match &mut entry.phase {
            Phase::Stopping { tokens } => {
                let tokens = std::mem::take(tokens);
                entry.phase = Phase::Stopped;
                self.stopping -= 1;
                if in_group {
                    self.loose = true;
                } else {
                    entry.park(cause, effects);
                }
                self.drop_if_not_kept(place, effects);
                effects.extend(tokens.into_iter().map(|t| Effect::Answer(t, Ok(()))));
            }
            Phase::Running if self.ending.is_some() => entry.phase = Phase::Stopped,
            Phase::Running if busy => {
                entry.phase = Phase::Dead;
                self.deferred
                    .push_back(Event::Exited(id.clone(), generation, cause));
            }
            Phase::Running | Phase::Dead => self.died(place, cause, now, effects),
            Phase::Stopped | Phase::Starting { .. } | Phase::Waiting | Phase::Quarantined => {}
        }
    }

    /// A child ended that nobody had asked to.
    fn died(
        &mut self,
        place: Place,
        cause: Arc<ExitCause>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.children.get_mut(&place) else {
            return;
        };
        if entry.is_restarted_after(&cause) {
            entry.phase = Phase::Waiting;
            entry.last_exit = Some(cause);
            let cancelled = entry.was_cancelled();
            if cancelled && entry.policy.cause(ExitKind::Cancelled).is_none() {
                self.launch(place, effects);
            } else if entry.probation && now.saturating_sub(entry.since) < entry.probation_time() {
                self.quarantine(place, effects);
            } else {
                self.restart(place, now, effects);
            }
            return;
        }
        let significant = entry.policy.significant;
        let child = entry.id();
        entry.phase = Phase::Stopped;
        entry.park(cause, effects);
        self.drop_if_not_kept(place, effects);
        let ends = significant
            && match self.flags.auto_shutdown {
                AutoShutdown::Never => false,
                AutoShutdown::AnySignificant => true,
                AutoShutdown::AllSignificant => !self.children.values().any(Entry::holds_up),
            };
        if ends {
            self.wind_up(Arc::new(ExitCause::AutoShutdown { child }), effects);
        }
    }

    /// The next attempt after a failed one.
    pub(super) fn retry(
        &mut self,
        id: &ChildId,
        generation: u64,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some((place, entry)) = self.current(id, generation) else {
            return;
        };
        if !matches!(entry.phase, Phase::Waiting) {
            return;
        }
        if entry.probation {
            self.quarantine(place, effects);
        } else {
            self.restart(place, now, effects);
        }
    }

    /// A delay, a cool-down or a probation is over.
    pub(super) fn due(&mut self, id: &ChildId, generation: u64, effects: &mut Vec<Effect>) {
        let Some((place, entry)) = self.current(id, generation) else {
            return;
        };
        match entry.phase {
            Phase::Waiting => self.launch(place, effects),
            Phase::Quarantined => {
                entry.probation = entry.policy.quarantine.is_some();
                self.begin_start(place, Origin::Restart, effects);
            }
            Phase::Running if entry.probation => {
                entry.probation = false;
                entry.budgets.clear();
                effects.push(Effect::Readmitted(id.clone(), generation));
            }
            _ => {}
        }
    }

    /// Pays for a restart and begins it, at once or after a delay.
    fn restart(&mut self, place: Place, now: Duration, effects: &mut Vec<Effect>) {
        match self.spend(place, now) {
            Verdict::Go => {}
            Verdict::Quarantine => return self.quarantine(place, effects),
            Verdict::GiveUp(limit) => return self.give_up(place, limit, effects),
        }
        match self.delay(place, now) {
            None => self.launch(place, effects),
            Some(delay) => {
                if let Some(entry) = self.children.get_mut(&place) {
                    entry.phase = Phase::Waiting;
                    let (id, generation) = (entry.id(), entry.generation);
                    effects.push(Effect::BackedOff(id.clone(), generation, delay));
                    effects.push(Effect::Later(id, generation, delay));
                }
            }
        }
    }

    /// Takes one restart out of the budget that the last exit belongs to: the child's own for
    /// that cause, else the one of its quarantine, else the supervisor's for faults of the host,
    /// else the supervisor's.
    fn spend(&mut self, place: Place, now: Duration) -> Verdict {
        let Some(entry) = self.children.get_mut(&place) else {
            return Verdict::Go;
        };
        let kind = entry.last_exit.as_ref().map(|cause| cause.kind());
        let own = kind
            .and_then(|kind| Some((kind, entry.policy.cause(kind)?.budget?)))
            .map(|(kind, limit)| (Budget::Cause(kind), limit));
        let quarantine = entry.policy.quarantine.as_ref();
        let own = own.or_else(|| quarantine.map(|q| (Budget::Quarantine, q.budget)));
        if let Some((budget, limit)) = own {
            return if entry.own_window(budget, limit).allow(now) {
                Verdict::Go
            } else if entry.policy.quarantine.is_some() {
                Verdict::Quarantine
            } else {
                Verdict::GiveUp(limit)
            };
        }
        let window = if kind.is_some_and(crate::ExitKind::is_the_hosts) {
            &mut self.host_window
        } else {
            &mut self.window
        };
        if window.allow(now) {
            Verdict::Go
        } else {
            Verdict::GiveUp(window.limit())
        }
    }

    fn give_up(&mut self, place: Place, limit: Intensity, effects: &mut Vec<Effect>) {
        let Some(entry) = self.children.get(&place) else {
            return;
        };
        let last_exit = entry.last_exit.clone();
        let cause = Arc::new(ExitCause::Escalated {
            child: entry.id(),
            intensity: limit.restarts,
            period: limit.period,
            cause: last_exit.unwrap_or_else(|| Arc::new(ExitCause::Shutdown)),
        });
        self.wind_up(cause, effects);
    }

    fn quarantine(&mut self, place: Place, effects: &mut Vec<Effect>) {
        let Some(entry) = self.children.get_mut(&place) else {
            return;
        };
        let Some(quarantine) = &entry.policy.quarantine else {
            return;
        };
        let cool_down = quarantine.cool_down;
        entry.phase = Phase::Quarantined;
        entry.probation = false;
        // Outdates a probation that has not run out.
        entry.generation += 1;
        let id = entry.id();
        let cause = Arc::new(ExitCause::Quarantined {
            child: id.clone(),
            cool_down,
            cause: entry
                .last_exit
                .clone()
                .unwrap_or_else(|| Arc::new(ExitCause::Shutdown)),
        });
        let generation = entry.generation;
        effects.push(Effect::Quarantined(id.clone(), generation, cause));
        effects.push(Effect::Later(id, generation, cool_down));
    }

    /// How long the next restart of this child is put off.
    fn delay(&mut self, place: Place, now: Duration) -> Option<Duration> {
        let random = self.roll();
        let entry = self.children.get_mut(&place)?;
        let backoff = entry.policy.backoff.as_ref()?;
        if now.saturating_sub(entry.since) >= backoff.reset_after {
            entry.delays = 0;
        }
        let delay = backoff.delay(entry.delays, random);
        entry.delays = entry.delays.saturating_add(1);
        Some(delay)
    }

    /// splitmix64: the same seed gives the same delays everywhere.
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Entry {
    /// Its caller ended it, which says nothing against it.
    fn was_cancelled(&self) -> bool {
        let cause = self.last_exit.as_ref();
        cause.is_some_and(|cause| cause.kind() == ExitKind::Cancelled)
    }

    fn is_restarted_after(&self, cause: &ExitCause) -> bool {
        let ruled = self.policy.cause(cause.kind()).map(|ruled| ruled.restart);
        match (self.policy.restart, ruled) {
            (Restart::Temporary, _) | (_, Some(CauseRestart::Never)) => false,
            (_, Some(CauseRestart::Always)) => true,
            (Restart::Permanent, _) => true,
            (Restart::Transient, _) => cause.is_abnormal(),
        }
    }

    /// A significant child that keeps its supervisor from shutting down by itself.
    fn holds_up(&self) -> bool {
        self.policy.significant && !matches!(self.phase, Phase::Stopped)
    }

    fn probation_time(&self) -> Duration {
        let quarantine = self.policy.quarantine.as_ref();
        quarantine.map_or(Duration::ZERO, |q| q.probation)
    }

    fn own_window(&mut self, budget: Budget, limit: Intensity) -> &mut Window {
        let position = self.budgets.iter().position(|(b, _)| *b == budget);
        let position = position.unwrap_or_else(|| {
            self.budgets.push((budget, Window::new(limit)));
            self.budgets.len() - 1
        });
        #[allow(
            clippy::indexing_slicing,
            reason = "the position was found or made just now"
        )]
        &mut self.budgets[position].1
    }
}
