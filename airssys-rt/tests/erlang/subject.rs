//! The scenarios as played by our supervisor, with ractor actors under paused time. All contact
//! with the crate under test is in this file.
//!
//! Paused time moves only when no task can go on, so a sleep of [`REST`] is exactly "until
//! everything has come to rest".

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use airssys_rt::{
    AutoShutdown, BoxFuture, Child, ChildId, ChildKind, ChildSpec, ChildState, ChildStatus,
    ExitCause, Intensity, Refusal, Restart, Running, Shutdown, StartContext, Started, StartedChild,
    Strategy, SupervisorError, SupervisorRef, SupervisorSpec, TaskHandle, Tree,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, ActorStatus};
use tokio::sync::{Notify, oneshot};

use super::scenario::{Command, Group, Kind, Node, Operation, Scenario, Stop};

/// Longer than all stops of one operation, shorter than the limit of a start that waits at a gate.
const REST: Duration = Duration::from_secs(10);
/// Long enough for a scenario to lie within one window.
const PERIOD: Duration = Duration::from_secs(1_000_000);

/// More than all rests of a scenario.
const LIMIT: Duration = Duration::from_secs(100_000);

/// What the workers of one scenario share.
#[derive(Default)]
struct Stage {
    events: Mutex<Vec<String>>,
    failing: Mutex<HashMap<String, u32>>,
    ignoring: Mutex<HashMap<String, u32>>,
    live: Mutex<HashMap<String, Live>>,
    gate: Mutex<Option<(String, &'static str, Arc<Gate>)>>,
    /// The spec that each supervisor was last started from.
    supervisors: Mutex<HashMap<String, SupervisorSpec>>,
    /// The keys of dynamic children, by the supervisor's path and the child's id.
    keys: Mutex<HashMap<(String, ChildId), String>>,
}

#[derive(Default)]
struct Gate {
    reached: AtomicBool,
    open: Notify,
}

/// The last incarnation of a worker.
struct Live {
    actor: ActorRef<Ending>,
    /// How a stubborn one, which reads no messages, is told to end.
    order: Option<oneshot::Sender<Ending>>,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Crash,
    Normal,
    Shutdown,
}

impl Stage {
    fn say(&self, event: String) {
        self.events.lock().unwrap().push(event);
    }

    fn begin(&self, path: &str, spec: &SupervisorSpec) {
        self.say(format!("^{path}"));
        let mut supervisors = self.supervisors.lock().unwrap();
        supervisors.insert(path.to_owned(), spec.clone());
        self.keys.lock().unwrap().retain(|(sup, _), _| sup != path);
    }

    fn supervisor(&self, path: &str) -> Option<SupervisorRef> {
        self.supervisors.lock().unwrap().get(path)?.handle()
    }

    /// What a child is called in the scenario.
    fn name(&self, sup: &str, id: &ChildId) -> String {
        let keys = self.keys.lock().unwrap();
        let key = keys.get(&(sup.to_owned(), id.clone()));
        key.map_or_else(|| id.to_string(), String::clone)
    }

    /// The reverse of [`Stage::name`].
    fn id(&self, sup: &str, name: &str) -> ChildId {
        let keys = self.keys.lock().unwrap();
        let mut known = keys.iter();
        let found = known.find(|((of, _), key)| of == sup && *key == name);
        found.map_or_else(|| ChildId::from(name), |((_, id), _)| id.clone())
    }

    /// Whether this start of the worker goes well, and leads to anything.
    async fn verdict(&self, path: &str) -> Result<bool, ExitCause> {
        let fails = take(&self.failing, path);
        let ignores = take(&self.ignoring, path);
        let outcome = match (fails, ignores) {
            (true, _) => "fail",
            (false, true) => "ignore",
            (false, false) => "go",
        };
        let here = |gate: &mut (String, &str, Arc<Gate>)| gate.0 == path && gate.1 == outcome;
        let gate = self.gate.lock().unwrap().take_if(here);
        if let Some((_, _, gate)) = gate {
            gate.reached.store(true, Ordering::SeqCst);
            gate.open.notified().await;
        }
        if fails {
            self.say(format!("!{path}"));
            return Err(ExitCause::GuestExit { status: 1 });
        }
        if ignores {
            self.say(format!("~{path}"));
        }
        Ok(!ignores)
    }
}

/// Counts one down; false where none is left.
fn take(left: &Mutex<HashMap<String, u32>>, path: &str) -> bool {
    let mut left = left.lock().unwrap();
    let Some(left) = left.get_mut(path).filter(|left| **left > 0) else {
        return false;
    };
    *left -= 1;
    true
}

#[derive(Clone)]
struct Worker {
    /// Its supervisor's path.
    parent: String,
    stubborn: bool,
    stage: Arc<Stage>,
}

/// One incarnation. It says why it ended when the actor itself is dropped, which is before anybody
/// who joins it goes on; ractor may hand the state of an actor on to its supervisor.
struct Incarnation {
    path: String,
    stage: Arc<Stage>,
    reason: Mutex<&'static str>,
}

impl Drop for Incarnation {
    fn drop(&mut self) {
        let reason = *self.reason.lock().unwrap();
        self.stage.say(format!("-{} {reason}", self.path));
    }
}

impl Incarnation {
    fn obey(&self, myself: &ActorRef<Ending>, ending: Ending) -> Result<(), ActorProcessingErr> {
        let (reason, result) = match ending {
            Ending::Crash => ("crash", Err(ExitCause::GuestExit { status: 2 })),
            Ending::Shutdown => ("shutdown", Err(ExitCause::Shutdown)),
            Ending::Normal => {
                myself.stop(None);
                ("normal", Ok(()))
            }
        };
        *self.reason.lock().unwrap() = reason;
        Ok(result?)
    }
}

impl Actor for Incarnation {
    type Msg = Ending;
    type State = Option<oneshot::Receiver<Ending>>;
    type Arguments = Self::State;

    async fn pre_start(
        &self,
        _: ActorRef<Ending>,
        order: Self::State,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(order)
    }

    async fn post_start(
        &self,
        myself: ActorRef<Ending>,
        order: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match order.take() {
            Some(order) => self.obey(&myself, order.await?),
            None => Ok(()),
        }
    }

    async fn handle(
        &self,
        myself: ActorRef<Ending>,
        ending: Ending,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.obey(&myself, ending)
    }

    async fn post_stop(
        &self,
        _: ActorRef<Ending>,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let mut reason = self.reason.lock().unwrap();
        if *reason == "killed" {
            *reason = "shutdown";
        }
        Ok(())
    }
}

impl Child<()> for Worker {
    fn start(&self, context: StartContext<()>) -> BoxFuture<'_, Result<Started, ExitCause>> {
        Box::pin(async move {
            let key = context.argument.as_ref();
            let key = key.and_then(|argument| argument.downcast_ref::<String>());
            let name = key.map_or(context.id.as_str(), String::as_str);
            let path = format!("{}/{name}", self.parent);
            if !self.stage.verdict(&path).await? {
                return Ok(Started::Ignored);
            }
            if let Some(key) = key {
                let place = (self.parent.clone(), context.id.clone());
                self.stage.keys.lock().unwrap().insert(place, key.clone());
            }
            let incarnation = Incarnation {
                path: path.clone(),
                stage: Arc::clone(&self.stage),
                reason: Mutex::new("killed"),
            };
            self.stage.say(format!("+{path}"));
            let (sender, receiver) = oneshot::channel();
            let order = self.stubborn.then_some(receiver);
            let (actor, handle) =
                Incarnation::spawn_linked(None, incarnation, order, context.supervisor).await?;
            let live = Live {
                actor: actor.clone(),
                order: self.stubborn.then_some(sender),
            };
            self.stage.live.lock().unwrap().insert(path, live);
            Ok(Running::new(actor, handle).into())
        })
    }
}

/// A nested supervisor that says when it begins.
struct Nested {
    path: String,
    spec: SupervisorSpec,
    stage: Arc<Stage>,
}

impl Child<()> for Nested {
    fn start(&self, context: StartContext<()>) -> BoxFuture<'_, Result<Started, ExitCause>> {
        self.stage.begin(&self.path, &self.spec);
        Child::start(&self.spec, context)
    }
}

/// One scenario being played.
struct Play {
    stage: Arc<Stage>,
    root: Option<(SupervisorRef, TaskHandle<()>)>,
    trace: String,
}

/// The trace of one scenario.
pub(crate) fn play(scenario: &Scenario) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut play = Play {
        stage: Arc::default(),
        root: None,
        trace: format!("scenario {}\n", scenario.seed),
    };
    runtime.block_on(async {
        let all = play.all(&scenario.operations);
        if tokio::time::timeout(LIMIT, all).await.is_err() {
            play.trace.push_str("@stuck\n");
        }
    });
    // The specs hold the stage in their turn.
    play.stage.supervisors.lock().unwrap().clear();
    play.trace.push_str("end\n");
    play.trace
}

impl Play {
    async fn all(&mut self, operations: &[Operation]) {
        for operation in operations {
            writeln!(self.trace, "> {operation}").unwrap();
            let replies = self.act(operation).await;
            tokio::time::sleep(REST).await;
            for event in self.stage.events.lock().unwrap().drain(..) {
                writeln!(self.trace, "{event}").unwrap();
            }
            for reply in replies {
                writeln!(self.trace, "= {reply}").unwrap();
            }
            if !self.snapshot("root").await {
                self.trace.push_str("@gone\n");
                break;
            }
        }
    }

    async fn act(&mut self, operation: &Operation) -> Vec<String> {
        match operation {
            Operation::Start(root) => vec![self.start(root).await],
            Operation::Fail(path, times) => {
                let mut failing = self.stage.failing.lock().unwrap();
                failing.insert(path.clone(), *times);
                vec!["ok".into()]
            }
            Operation::Ignore(path, times) => {
                let mut ignoring = self.stage.ignoring.lock().unwrap();
                ignoring.insert(path.clone(), *times);
                vec!["ok".into()]
            }
            Operation::Exit(sup, exits) => exits
                .iter()
                .map(|(id, reason)| self.exit(&format!("{sup}/{id}"), reason).into())
                .collect(),
            Operation::Gate(sup, id, outcome, commands) => {
                self.gate(sup, id, outcome, commands).await
            }
            Operation::Command(command) => vec![ask(&self.stage, command).await],
            Operation::Stop => {
                if let Some((root, handle)) = self.root.take() {
                    root.actor().stop(None);
                    handle.await;
                }
                vec!["ok".into()]
            }
        }
    }

    async fn start(&mut self, root: &Node) -> String {
        let Kind::Supervisor(group) = &root.kind else {
            panic!("the root is a supervisor");
        };
        let spec = supervisor("root", root, group, &self.stage);
        self.stage.begin("root", &spec);
        match spec.start(Tree::new(())).await {
            Ok(root) => {
                self.root = Some(root);
                "ok".into()
            }
            Err(_) => "error".into(),
        }
    }

    fn exit(&self, path: &str, reason: &str) -> &'static str {
        let mut live = self.stage.live.lock().unwrap();
        let Some(worker) = live.get_mut(path) else {
            return "not_running";
        };
        if worker.actor.get_status() >= ActorStatus::Stopping {
            return "not_running";
        }
        let ending = match reason {
            "crash" => Ending::Crash,
            "normal" => Ending::Normal,
            "shutdown" => Ending::Shutdown,
            _ => {
                worker.actor.kill();
                return "ok";
            }
        };
        match worker.order.take() {
            Some(order) => order.send(ending).unwrap(),
            None => worker.actor.send_message(ending).unwrap(),
        }
        "ok"
    }

    async fn gate(
        &mut self,
        sup: &str,
        id: &str,
        outcome: &'static str,
        commands: &[Command],
    ) -> Vec<String> {
        let path = format!("{sup}/{id}");
        let gate = Arc::<Gate>::default();
        *self.stage.gate.lock().unwrap() = Some((path.clone(), outcome, Arc::clone(&gate)));
        let exit = self.exit(&path, "crash");
        tokio::time::sleep(REST).await;
        self.stage.gate.lock().unwrap().take();
        if exit != "ok" {
            return vec![exit.into()];
        }
        if !gate.reached.load(Ordering::SeqCst) {
            return vec!["not_reached".into()];
        }
        let open = async {
            // After the first poll of each command, which sends it.
            tokio::task::yield_now().await;
            gate.open.notify_one();
        };
        let asked: Vec<_> = commands
            .iter()
            .map(|command| ask(&self.stage, command))
            .collect();
        let (replies, ()) = tokio::join!(futures_util::future::join_all(asked), open);
        replies
    }

    /// Writes down the supervisor of this path and those below it; false if it is gone.
    async fn snapshot(&mut self, path: &str) -> bool {
        let Some(sup) = self.stage.supervisor(path) else {
            return false;
        };
        let (Ok(counts), Ok(children)) = (sup.count_children().await, sup.which_children().await)
        else {
            return false;
        };
        let states = states(&self.stage, path, &children);
        writeln!(self.trace, "@{path}{} |{states}", figures(counts)).unwrap();
        for child in children {
            if child.kind == ChildKind::Supervisor && child.state == ChildState::Running {
                let below = format!("{path}/{}", child.id);
                if !Box::pin(self.snapshot(&below)).await {
                    writeln!(self.trace, "@{below} gone").unwrap();
                }
            }
        }
        true
    }
}

/// Sends a command with its first poll.
fn ask<'a>(stage: &Arc<Stage>, command: &'a Command) -> impl Future<Output = String> + use<'a> {
    let (Command::Add(path, _)
    | Command::Terminate(path, _)
    | Command::Restart(path, _)
    | Command::Delete(path, _)
    | Command::Which(path)
    | Command::Count(path)
    | Command::Spawn(path, _)
    | Command::Drop(path, _)
    | Command::Upgrade(path, _)) = command;
    let sup = stage.supervisor(path);
    let stage = Arc::clone(stage);
    async move {
        let Some(sup) = sup else {
            return "gone".into();
        };
        match command {
            Command::Add(_, node) => started(sup.start_child(child(path, node, &stage)).await),
            Command::Spawn(_, key) => started(sup.start_dynamic(key.clone()).await),
            Command::Restart(_, id) => started(sup.restart_child(id.as_str()).await),
            Command::Terminate(_, id) => reply(sup.terminate_child(id.as_str()).await),
            Command::Delete(_, id) => reply(sup.delete_child(id.as_str()).await),
            Command::Drop(_, key) => reply(sup.terminate_child(stage.id(path, key)).await),
            Command::Upgrade(_, node) => match &node.kind {
                Kind::Supervisor(group) => {
                    let spec = supervisor(path, node, group, &stage);
                    reply(sup.code_change(spec).await)
                }
                Kind::Worker { .. } => "invalid",
            },
            Command::Which(_) => {
                return match sup.which_children().await {
                    Ok(children) => format!("which{}", states(&stage, path, &children)),
                    Err(_) => "gone".into(),
                };
            }
            Command::Count(_) => {
                return match sup.count_children().await {
                    Ok(counts) => format!("count{}", figures(counts)),
                    Err(_) => "gone".into(),
                };
            }
        }
        .into()
    }
}

fn started(answer: Result<StartedChild, SupervisorError>) -> &'static str {
    match answer {
        Ok(child) if child.actor.is_none() => "ignored",
        answer => reply(answer.map(drop)),
    }
}

fn reply(answer: Result<(), SupervisorError>) -> &'static str {
    match answer {
        Ok(()) => "ok",
        Err(SupervisorError::Refused(refusal)) => match refusal {
            Refusal::NotFound(_) => "not_found",
            Refusal::AlreadyStarted(_) => "already_started",
            Refusal::AlreadyPresent(_) => "already_present",
            Refusal::Running(_) => "running",
            Refusal::Restarting(_) => "restarting",
            Refusal::StartFailed(..) => "error",
            Refusal::Invalid(_) | Refusal::Dynamic | Refusal::NotDynamic => "invalid",
            _ => "unknown refusal",
        },
        Err(_) => "gone",
    }
}

fn figures(counts: airssys_rt::ChildCounts) -> String {
    let airssys_rt::ChildCounts {
        specs,
        active,
        supervisors,
        workers,
    } = counts;
    format!(" {specs} {active} {supervisors} {workers}")
}

/// In start order; dynamic children, which have none, by name.
fn states(stage: &Stage, sup: &str, children: &[ChildStatus]) -> String {
    let state = |child: &ChildStatus| match child.state {
        ChildState::Stopped => "undefined",
        ChildState::Starting => "starting",
        ChildState::Running => "running",
        ChildState::Restarting => "restarting",
        ChildState::Stopping => "stopping",
        ChildState::Quarantined => "quarantined",
    };
    let kind = |child: &ChildStatus| match child.kind {
        ChildKind::Worker => "worker",
        ChildKind::Supervisor => "supervisor",
    };
    let name = |child: &ChildStatus| stage.name(sup, &child.id);
    let mut children: Vec<_> = children.iter().map(|child| (name(child), child)).collect();
    if children
        .iter()
        .any(|(name, child)| name != child.id.as_str())
    {
        children.sort_by(|(one, _), (other, _)| one.cmp(other));
    }
    children
        .iter()
        .map(|(name, child)| format!(" {name}:{}:{}", state(child), kind(child)))
        .collect()
}

fn supervisor(path: &str, node: &Node, group: &Group, stage: &Arc<Stage>) -> SupervisorSpec {
    let strategy = match group.strategy {
        "one_for_one" => Strategy::OneForOne,
        "one_for_all" => Strategy::OneForAll,
        "rest_for_one" => Strategy::RestForOne,
        "simple_one_for_one" => Strategy::SimpleOneForOne,
        other => panic!("{other}"),
    };
    let spec = SupervisorSpec::new(node.id.as_str())
        .strategy(strategy)
        .auto_shutdown(match group.auto_shutdown {
            "any_significant" => AutoShutdown::AnySignificant,
            "all_significant" => AutoShutdown::AllSignificant,
            _ => AutoShutdown::Never,
        })
        .intensity(Intensity {
            restarts: group.intensity,
            period: PERIOD,
        });
    group
        .children
        .iter()
        .fold(spec, |spec, node| spec.child(child(path, node, stage)))
}

fn child(parent: &str, node: &Node, stage: &Arc<Stage>) -> ChildSpec {
    let stage = Arc::clone(stage);
    let spec = match &node.kind {
        Kind::Worker { stubborn } => {
            let worker = Worker {
                parent: parent.to_owned(),
                stubborn: *stubborn,
                stage,
            };
            ChildSpec::new(node.id.as_str(), worker)
        }
        Kind::Supervisor(group) => {
            let path = format!("{parent}/{}", node.id);
            let spec = supervisor(&path, node, group, &stage);
            let nested = Nested { path, spec, stage };
            ChildSpec::new(node.id.as_str(), nested).kind(ChildKind::Supervisor)
        }
    };
    spec.significant(node.significant)
        .restart(match node.restart {
            "permanent" => Restart::Permanent,
            "transient" => Restart::Transient,
            _ => Restart::Temporary,
        })
        .shutdown(match node.shutdown {
            Stop::Brutal => Shutdown::Brutal,
            Stop::Millis(time) => Shutdown::Timeout(Duration::from_millis(time)),
            Stop::Infinity => Shutdown::Infinity,
        })
}
