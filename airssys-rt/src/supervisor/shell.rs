//! The ractor shell: carries the plan's effects out and reports back to it.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use ractor::SupervisionEvent;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::{Mutex, MutexGuard, TryLockError};
use tokio::time::Instant;

use super::errand::Bound;
use super::message::{ArgumentOf, Finished, Report, StartedChild, SupervisorMessage};
use super::plan::{Effect, Event, Flags, Plan, Refusal, Strategy, Token};
use super::reference::SupervisorCell;
use super::spec::SupervisorSpec;
use crate::{Change, Child, ChildId, ChildSpec, ExitCause, Started, Tree};

mod starts;
mod stops;
mod telling;

use starts::Start;
use stops::{Live, Stop};

/// ractor's word for a kill. An actor that is killed while it works ends without its state; for
/// one that is idle, this word is all that tells the kill from a stop.
const KILLED: &str = "killed";

/// A supervisor: a ractor actor whose children restart as its [`SupervisorSpec`] says.
///
/// What ractor calls an actor's state is sent to the parent when an idle actor is killed, and may
/// stay in the queue of a parent that is dead too. What is in here is dropped before the actor's
/// handle resolves, and leaves those to be joined that were supervised ([`State`]'s drop).
pub(crate) struct Supervisor<E: Clone + Send + Sync + 'static>(Mutex<State<E>>);

impl<E: Clone + Send + Sync + 'static> Supervisor<E> {
    /// `root`: nobody starts it again; what it leaves down stays down.
    pub(crate) fn new(spec: &SupervisorSpec<E>, tree: Tree<E>, root: bool) -> Self {
        Self(Mutex::new(State::new(spec, tree, root)))
    }

    /// Nobody waits for it: ractor runs one handler of an actor at a time.
    fn state(&self) -> Result<MutexGuard<'_, State<E>>, TryLockError> {
        self.0.try_lock()
    }
}

/// Who waits for the answer to a command, and what came with it.
enum Asker<E> {
    /// A spec that is the child's once the command is carried out; `None` where it has one.
    Start(
        ChildId,
        Option<ChildSpec<E>>,
        RpcReplyPort<Result<StartedChild, Refusal>>,
    ),
    Done(RpcReplyPort<Result<(), Refusal>>),
    Changed(Box<Offer<E>>, RpcReplyPort<Result<(), Refusal>>),
}

/// What holds from a change of code on.
struct Offer<E> {
    flags: Flags,
    /// Of a dynamic supervisor.
    template: Option<ChildSpec<E>>,
    specs: HashMap<ChildId, ChildSpec<E>>,
}

pub(crate) struct State<E: Clone + Send + Sync + 'static> {
    name: ChildId,
    flags: Flags,
    /// Nobody starts it again.
    root: bool,
    tree: Tree<E>,
    cell: Arc<SupervisorCell<E>>,
    plan: Plan,
    /// What children are made from where the strategy is dynamic.
    template: Option<ChildSpec<E>>,
    made: u64,
    /// Those that a restart of this supervisor brings back.
    initial: HashMap<ChildId, Arc<dyn Child<E>>>,
    wards: HashMap<ChildId, Ward<E>>,
    /// Those whose start is under way.
    starting: usize,
    /// Kept for its room.
    effects: Vec<Effect>,
    /// Starts that were over with their first poll.
    settled: VecDeque<(ChildId, u64, Result<Started, ExitCause>)>,
    /// Running and stopping children.
    by_actor: HashMap<ActorId, ChildId>,
    /// Exits of children whose start has not been reported yet.
    early: HashMap<ActorId, ExitCause>,
    /// Why those are killed that the supervisor itself found wanting.
    doomed: HashMap<ActorId, ExitCause>,
    askers: HashMap<Token, Asker<E>>,
    next_token: Token,
    began: Instant,
    /// Since then, when it last looked.
    now: Duration,
}

/// A child as the shell knows it.
struct Ward<E> {
    spec: ChildSpec<E>,
    life: Life<E>,
    /// Of a restart that is put off, a cool-down or a probation.
    timer: Option<Bound>,
    /// Its starts are slow before they wait for anything.
    slow: bool,
}

/// What there is of a child's incarnation.
enum Life<E> {
    Down,
    Starting(Start),
    Running(Live<E>),
    Stopping(Box<Stop<E>>),
}

impl<E> Ward<E> {
    fn new(spec: ChildSpec<E>) -> Self {
        Self {
            spec,
            life: Life::Down,
            timer: None,
            slow: false,
        }
    }

    /// The incarnation, where it runs; the child is down then.
    fn take_running(&mut self) -> Option<Live<E>> {
        match std::mem::replace(&mut self.life, Life::Down) {
            Life::Running(live) => Some(live),
            other => {
                self.life = other;
                None
            }
        }
    }
}

impl<E: Clone + Send + Sync + 'static> Actor for Supervisor<E> {
    type Msg = SupervisorMessage<E>;
    type State = ();
    type Arguments = SupervisorSpec<E>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        spec: SupervisorSpec<E>,
    ) -> Result<(), ActorProcessingErr> {
        // Not boxed here: `?` does that, and twice boxed it would be no ExitCause to anybody.
        spec.check().map_err(|error| ExitCause::Failed {
            source: Arc::new(error),
        })?;
        spec.cell.join_orphans().await;
        let mut state = self.state()?;
        for child in spec.children {
            if state.flags.strategy == Strategy::SimpleOneForOne {
                state.template = Some(child);
            } else if let Err(cause) = state.start_in_order(&myself, child).await {
                let cause = Arc::new(cause);
                state.stop_all(&cause).await;
                return Err(Box::new((*cause).clone()));
            }
        }
        state.cell.started(myself);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let mut state = self.state()?;
        let event = match message {
            SupervisorMessage::StartChild(spec, reply) => state.start_child(spec, reply),
            SupervisorMessage::StartDynamic(argument, reply) => {
                state.start_dynamic(argument, reply)
            }
            SupervisorMessage::TerminateChild(id, reply) => {
                if state.has_gone(&id) {
                    reply.send(Ok(())).ok();
                    None
                } else {
                    Some(Event::TerminateChild(id, state.token(Asker::Done(reply))))
                }
            }
            SupervisorMessage::RestartChild(id, reply) => {
                let token = state.token(Asker::Start(id.clone(), None, reply));
                Some(Event::RestartChild(id, token))
            }
            SupervisorMessage::DeleteChild(id, reply) => {
                Some(Event::DeleteChild(id, state.token(Asker::Done(reply))))
            }
            SupervisorMessage::CodeChange(spec, reply) => state.code_change(*spec, reply),
            SupervisorMessage::WhichChildren(reply) => {
                reply.send(state.statuses()).ok();
                None
            }
            SupervisorMessage::Describe(reply) => {
                reply.send(state.describe()).ok();
                None
            }
            SupervisorMessage::WhichChild(id, reply) => {
                reply.send(state.status(&id)).ok();
                None
            }
            SupervisorMessage::CountChildren(reply) => {
                reply.send(state.counts()).ok();
                None
            }
            SupervisorMessage::GetChildSpec(id, reply) => {
                reply.send(state.spec(&id)).ok();
                None
            }
            SupervisorMessage::Stop => Some(Event::Shutdown),
            SupervisorMessage::Report(Report(finished)) => {
                return Box::pin(state.finished(&myself, finished)).await;
            }
        };
        match event {
            Some(event) => state.apply(&myself, event).await,
            None => Ok(()),
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let (actor, cause) = match event {
            SupervisionEvent::ActorFailed(actor, error) => (actor, ExitCause::from(error)),
            SupervisionEvent::ActorTerminated(actor, state, reason) => {
                let killed = state.is_none() || reason.as_deref() == Some(KILLED);
                // It would live on in here while its successor starts.
                drop(state);
                let cause = if killed {
                    ExitCause::Killed
                } else {
                    ExitCause::Normal
                };
                (actor, cause)
            }
            _ => return Ok(()),
        };
        let mut state = self.state()?;
        // Its future is not to be moved for each start that is told as well.
        Box::pin(state.child_ended(&myself, actor.get_id(), cause)).await
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let mut state = self.state()?;
        state.stop_all(&Arc::new(ExitCause::Shutdown)).await;
        Ok(())
    }
}

impl<E: Clone + Send + Sync + 'static> State<E> {
    fn new(spec: &SupervisorSpec<E>, tree: Tree<E>, root: bool) -> Self {
        let dynamic = spec.flags.strategy == Strategy::SimpleOneForOne;
        let initial = spec.children.iter().filter(|_| !dynamic);
        Self {
            name: spec.name.clone(),
            flags: spec.flags,
            root,
            tree,
            cell: Arc::clone(&spec.cell),
            // Two supervisors are not to put their restarts off alike.
            plan: Plan::new(spec.flags, RandomState::new().hash_one(())),
            template: None,
            made: 0,
            initial: initial
                .map(|child| (child.policy.id.clone(), Arc::clone(&child.child)))
                .collect(),
            wards: HashMap::default(),
            starting: 0,
            effects: Vec::new(),
            settled: VecDeque::new(),
            by_actor: HashMap::default(),
            early: HashMap::default(),
            doomed: HashMap::default(),
            askers: HashMap::default(),
            next_token: 0,
            began: Instant::now(),
            now: Duration::ZERO,
        }
    }

    fn start_child(
        &mut self,
        spec: ChildSpec<E>,
        reply: RpcReplyPort<Result<StartedChild, Refusal>>,
    ) -> Option<Event> {
        let refusal = if self.template.is_some() {
            Some(Refusal::Dynamic)
        } else {
            self.flags.admits(&spec.policy).err().map(Refusal::Invalid)
        };
        if let Some(refusal) = refusal {
            reply.send(Err(refusal)).ok();
            return None;
        }
        Some(self.offer(spec, reply))
    }

    fn start_dynamic(
        &mut self,
        argument: ArgumentOf,
        reply: RpcReplyPort<Result<StartedChild, Refusal>>,
    ) -> Option<Event> {
        let Some(template) = &self.template else {
            reply.send(Err(Refusal::NotDynamic)).ok();
            return None;
        };
        let mut spec = template.clone();
        self.made += 1;
        Arc::make_mut(&mut spec.policy).id =
            ChildId::from(format!("{}#{}", template.policy.id, self.made));
        spec.argument = Some(argument.0);
        Some(self.offer(spec, reply))
    }

    /// Whether it was made from the template and is not there any more. Its spec went with it.
    fn has_gone(&self, id: &ChildId) -> bool {
        let Some(template) = &self.template else {
            return false;
        };
        let number = id.as_str().strip_prefix(template.policy.id.as_str());
        let number = number.and_then(|rest| rest.strip_prefix('#')?.parse().ok());
        number.is_some_and(|number: u64| (1..=self.made).contains(&number))
            && self.plan.child(id).is_none()
    }

    fn offer(
        &mut self,
        spec: ChildSpec<E>,
        reply: RpcReplyPort<Result<StartedChild, Refusal>>,
    ) -> Event {
        let policy = Arc::clone(&spec.policy);
        let token = self.token(Asker::Start(policy.id.clone(), Some(spec), reply));
        Event::StartChild(policy, token)
    }

    fn code_change(
        &mut self,
        spec: SupervisorSpec<E>,
        reply: RpcReplyPort<Result<(), Refusal>>,
    ) -> Option<Event> {
        if let Err(error) = spec.check() {
            reply.send(Err(Refusal::Invalid(error))).ok();
            return None;
        }
        let policies = spec
            .children
            .iter()
            .map(|c| Arc::clone(&c.policy))
            .collect();
        let dynamic = spec.flags.strategy == Strategy::SimpleOneForOne;
        let template = spec.children.first().filter(|_| dynamic).cloned();
        let specs = if let Some(template) = &template {
            let known = self.wards.iter();
            let made = known.map(|(id, known)| {
                let mut child = template.clone();
                Arc::make_mut(&mut child.policy).id = id.clone();
                child.argument = known.spec.argument.clone();
                (id.clone(), child)
            });
            made.collect()
        } else {
            let children = spec.children.into_iter();
            children
                .map(|child| (child.policy.id.clone(), child))
                .collect()
        };
        let flags = spec.flags;
        let offer = Offer {
            flags,
            template,
            specs,
        };
        let token = self.token(Asker::Changed(Box::new(offer), reply));
        Some(Event::CodeChange(flags, policies, token))
    }

    fn token(&mut self, asker: Asker<E>) -> Token {
        self.next_token += 1;
        self.askers.insert(self.next_token, asker);
        self.next_token
    }

    /// Takes one event to the plan, carries its effects out, and so on with what comes of them at
    /// once. The event is no part of the future: ractor moves that, with all that is in it, several
    /// times for each message.
    fn apply<'a>(
        &'a mut self,
        myself: &'a ActorRef<SupervisorMessage<E>>,
        event: Event,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send + 'a {
        self.now = self.began.elapsed();
        let mut end = self.take_in(myself, event);
        async move {
            while end.is_none() && !self.settled.is_empty() {
                // Thousands of starts in a row are not to hold a worker of the runtime.
                tokio::task::coop::consume_budget().await;
                end = self.take_in_settled(myself);
            }
            match end {
                Some(cause) => Box::pin(self.end(myself, cause)).await,
                None => Ok(()),
            }
        }
    }

    /// What the supervisor ends with, where it does.
    fn take_in(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        event: Event,
    ) -> Option<Arc<ExitCause>> {
        let mut effects = std::mem::take(&mut self.effects);
        self.plan.step(event, self.now, &mut effects);
        let mut end = None;
        for effect in effects.drain(..) {
            end = end.or(self.carry_out(myself, effect));
        }
        self.effects = effects;
        end
    }

    /// As [`State::take_in`], of a start that was over with its first poll.
    fn take_in_settled(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
    ) -> Option<Arc<ExitCause>> {
        let (id, generation, outcome) = self.settled.pop_front()?;
        self.note_if_slow(&id);
        let event = self.settle(myself, id, generation, outcome);
        self.take_in(myself, event)
    }

    /// Does one thing; what the supervisor ends with, if that is it.
    fn carry_out(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        effect: Effect,
    ) -> Option<Arc<ExitCause>> {
        match effect {
            Effect::Adopt(id, token) => self.adopt(id, token),
            Effect::Start(id, generation) => self.begin_start(myself, id, generation),
            Effect::Stop(id, generation, shutdown) => {
                self.begin_stop(myself, &id, generation, shutdown);
            }
            Effect::Retry(id, generation) => report(myself, Finished::Retry(id, generation)),
            Effect::Later(id, generation, delay) => {
                self.set_timer(myself, id, generation, delay);
            }
            Effect::BackedOff(id, generation, delay) => {
                self.tell(&id, generation, Change::BackedOff { delay });
            }
            Effect::Parked(id, generation, cause) => {
                self.close(&id, &cause);
                self.tell(&id, generation, Change::Stopped);
            }
            Effect::Quarantined(id, generation, cause) => {
                self.close(&id, &cause);
                self.tell(&id, generation, Change::Quarantined { cause });
            }
            Effect::Readmitted(id, generation) => self.tell(&id, generation, Change::Readmitted),
            Effect::Removed(id) => self.forget(&id),
            Effect::Answer(token, answer) => self.answer(token, answer),
            Effect::Ending(cause) => self.tell_ending(&cause),
            Effect::End(cause) => return Some(cause),
        }
        None
    }

    fn adopt(&mut self, id: ChildId, token: Token) {
        let offered = match self.askers.get_mut(&token) {
            Some(Asker::Start(_, spec, _)) => spec.take(),
            Some(Asker::Changed(offer, _)) => offer.specs.remove(&id),
            Some(Asker::Done(_)) | None => None,
        };
        let Some(spec) = offered else {
            return;
        };
        let Some(ward) = self.wards.get_mut(&id) else {
            self.wards.insert(id, Ward::new(spec));
            return;
        };
        let before = std::mem::replace(&mut ward.spec, spec);
        // One that runs is let go when its incarnation ends.
        if matches!(ward.life, Life::Down | Life::Starting(_)) {
            self.let_go(&id, &before.child);
        }
    }

    /// The spec is gone.
    fn forget(&mut self, id: &ChildId) {
        if let Some(ward) = self.wards.remove(id) {
            let child = ward.spec.child;
            child.stopped(id, &Arc::new(ExitCause::Shutdown));
            child.removed(id);
        }
    }

    /// Tells a child that is no longer the one of that name, if it is not.
    fn let_go(&self, id: &ChildId, before: &Arc<dyn Child<E>>) {
        let now = self.wards.get(id).map(|ward| &ward.spec.child);
        if !now.is_some_and(|now| same(now, before)) {
            before.stopped(id, &Arc::new(ExitCause::Shutdown));
            before.removed(id);
        }
    }

    fn close(&self, id: &ChildId, cause: &Arc<ExitCause>) {
        if let Some(ward) = self.wards.get(id) {
            ward.spec.child.stopped(id, cause);
        }
    }

    fn answer(&mut self, token: Token, answer: Result<(), Refusal>) {
        match self.askers.remove(&token) {
            Some(Asker::Start(id, _, reply)) => {
                reply.send(answer.map(|()| self.started_child(id))).ok();
            }
            Some(Asker::Done(reply)) => {
                reply.send(answer).ok();
            }
            Some(Asker::Changed(offer, reply)) => {
                if answer.is_ok() {
                    self.flags = offer.flags;
                    self.template = offer.template;
                }
                reply.send(answer).ok();
            }
            None => {}
        }
    }

    /// Every child is down, and the supervisor ends.
    async fn end(
        &mut self,
        myself: &ActorRef<SupervisorMessage<E>>,
        cause: Arc<ExitCause>,
    ) -> Result<(), ActorProcessingErr> {
        self.stop_all(&cause).await;
        match &*cause {
            ExitCause::Shutdown => {
                myself.stop(None);
                return Ok(());
            }
            ExitCause::Escalated { .. } => self.cell.gave_up(&cause),
            _ => {}
        }
        Err(Box::new((*cause).clone()))
    }
}

fn report<E: Clone + Send + Sync + 'static>(
    myself: &ActorRef<SupervisorMessage<E>>,
    finished: Finished,
) {
    // A supervisor that has ended needs no report: it joins what it had begun.
    myself
        .send_message(SupervisorMessage::Report(Report(finished)))
        .ok();
}

fn same<E>(one: &Arc<dyn Child<E>>, other: &Arc<dyn Child<E>>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}
