//! What a supervisor is asked to do with its children.

use std::sync::Arc;

use foldhash::HashMap;

use super::{ChildState, Effect, Entry, Flags, Origin, Phase, Place, Plan, Refusal, Token};
use super::{Strategy, Window};
use crate::{ChildId, ChildPolicy, ExitCause};

impl Plan {
    pub(super) fn start_child(
        &mut self,
        policy: Arc<ChildPolicy>,
        token: Token,
        effects: &mut Vec<Effect>,
    ) {
        let id = policy.id.clone();
        let known = self.child(&id).map(|(_, _, state)| state);
        let refusal = match known {
            Some(ChildState::Stopped | ChildState::Restarting) => {
                Some(Refusal::AlreadyPresent(id.clone()))
            }
            Some(_) => Some(Refusal::AlreadyStarted(id.clone())),
            None if self.dynamic() && self.children.len() >= self.flags.max_children => {
                Some(Refusal::MaxChildren(self.flags.max_children))
            }
            None => None,
        };
        if let Some(refusal) = refusal {
            effects.push(Effect::Answer(token, Err(refusal)));
            return;
        }
        // Names of a template's children are not used again.
        let before = if self.dynamic() { 0 } else { self.retired };
        let mut entry = Entry::new(policy, before);
        effects.push(Effect::Adopt(id, token));
        effects.push(entry.begin_start(Origin::New(token)));
        self.append(entry);
    }

    pub(super) fn terminate(&mut self, id: &ChildId, token: Token, effects: &mut Vec<Effect>) {
        let Some(place) = self.place(id) else {
            effects.push(Effect::Answer(token, Err(Refusal::NotFound(id.clone()))));
            return;
        };
        let Some(entry) = self.children.get_mut(&place) else {
            return;
        };
        match &mut entry.phase {
            Phase::Stopped => {
                // A temporary one that a change of code has brought and nobody has started.
                self.drop_if_not_kept(place, effects);
                effects.push(Effect::Answer(token, Ok(())));
            }
            Phase::Waiting | Phase::Dead | Phase::Quarantined => {
                self.call_off(place, effects);
                effects.push(Effect::Answer(token, Ok(())));
            }
            Phase::Running => self.begin_stop(place, vec![token], effects),
            Phase::Starting { stop_for, .. } => stop_for.push(token),
            Phase::Stopping { tokens } => tokens.push(token),
        }
    }

    /// Ends a wait for the next incarnation.
    fn call_off(&mut self, place: Place, effects: &mut Vec<Effect>) {
        if let Some(entry) = self.children.get_mut(&place) {
            // Outdates the report that is on its way.
            entry.generation += 1;
            entry.phase = Phase::Stopped;
            entry.probation = false;
            entry.park(Arc::new(ExitCause::Shutdown), effects);
        }
        self.drop_if_not_kept(place, effects);
    }

    pub(super) fn restart_child(&mut self, id: &ChildId, token: Token, effects: &mut Vec<Effect>) {
        let refusal = match self.child(id).map(|(_, _, state)| state) {
            _ if self.dynamic() => Refusal::Dynamic,
            None => Refusal::NotFound(id.clone()),
            Some(ChildState::Stopped | ChildState::Quarantined) => {
                if let Some(place) = self.place(id) {
                    self.begin_start(place, Origin::Asked(token), effects);
                }
                return;
            }
            Some(ChildState::Running) => Refusal::Running(id.clone()),
            Some(_) => Refusal::Restarting(id.clone()),
        };
        effects.push(Effect::Answer(token, Err(refusal)));
    }

    pub(super) fn delete(&mut self, id: &ChildId, token: Token, effects: &mut Vec<Effect>) {
        let answer = match self.child(id).map(|(_, _, state)| state) {
            _ if self.dynamic() => Err(Refusal::Dynamic),
            None => Err(Refusal::NotFound(id.clone())),
            Some(ChildState::Stopped) => {
                if let Some(place) = self.place(id) {
                    self.remove(place, effects);
                }
                Ok(())
            }
            Some(ChildState::Running) => Err(Refusal::Running(id.clone())),
            Some(_) => Err(Refusal::Restarting(id.clone())),
        };
        effects.push(Effect::Answer(token, answer));
    }

    /// New flags and policies. Known children keep running, new ones wait to be started, missing
    /// ones stay, last in the order.
    pub(super) fn code_change(
        &mut self,
        flags: Flags,
        policies: Vec<Arc<ChildPolicy>>,
        token: Token,
        effects: &mut Vec<Effect>,
    ) {
        let dynamic = flags.strategy == Strategy::SimpleOneForOne;
        if dynamic != self.dynamic() {
            let refusal = if dynamic {
                Refusal::NotDynamic
            } else {
                Refusal::Dynamic
            };
            effects.push(Effect::Answer(token, Err(refusal)));
            return;
        }
        if flags.intensity != self.flags.intensity {
            self.window.change(flags.intensity);
            self.host_window.change(flags.intensity);
        }
        self.flags = flags;
        if dynamic {
            for (entry, policy) in self
                .children
                .values_mut()
                .zip(policies.iter().cycle().cloned())
            {
                effects.push(Effect::Adopt(entry.id(), token));
                entry.change(Arc::new(ChildPolicy {
                    id: entry.id(),
                    ..(*policy).clone()
                }));
            }
        } else {
            self.reorder(policies, token, effects);
        }
        effects.push(Effect::Answer(token, Ok(())));
    }

    fn reorder(
        &mut self,
        policies: Vec<Arc<ChildPolicy>>,
        token: Token,
        effects: &mut Vec<Effect>,
    ) {
        let mut missing: HashMap<ChildId, Entry> = HashMap::default();
        let before = std::mem::take(&mut self.children);
        let order: Vec<ChildId> = before.values().map(Entry::id).collect();
        missing.extend(before.into_values().map(|entry| (entry.id(), entry)));
        self.index.clear();
        for policy in policies {
            effects.push(Effect::Adopt(policy.id.clone(), token));
            match missing.remove(&policy.id) {
                Some(mut entry) => {
                    entry.change(policy);
                    self.append(entry);
                }
                None => {
                    let mut entry = Entry::new(policy, self.retired);
                    entry.park(Arc::new(ExitCause::Shutdown), effects);
                    self.append(entry);
                }
            }
        }
        for id in order {
            if let Some(entry) = missing.remove(&id) {
                self.append(entry);
            }
        }
    }
}

impl Entry {
    /// A new policy for the same child. What its own budgets had counted is forgotten if their
    /// limits changed.
    fn change(&mut self, policy: Arc<ChildPolicy>) {
        if policy.causes != self.policy.causes || policy.quarantine != self.policy.quarantine {
            self.budgets = Vec::<(super::Budget, Window)>::new();
        }
        self.probation &= policy.quarantine.is_some();
        self.policy = policy;
    }
}
