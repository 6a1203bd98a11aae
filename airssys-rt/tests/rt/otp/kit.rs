//! A child that does what a test says, and the place where its supervisor is tried.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use airssys_rt::{
    Argument, BoxFuture, Change, Child, ChildSpec, ChildState, EventStream, ExitCause, ExitKind,
    Intensity, LifecycleEvent, Received, Refusal, Restart, Running, StartContext, Started,
    StartedChild, Strategy, SupervisorError, SupervisorRef, SupervisorSpec, Tree,
};
use futures_util::FutureExt;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef};
use tokio::time::sleep;

/// What children and their ends have said, oldest first.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// What was said since the last look.
pub(crate) fn said(log: &Log) -> String {
    std::mem::take(&mut *log.lock().unwrap()).join(", ")
}

/// How a child is made to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Normal,
    Shutdown,
    Abnormal,
    Killed,
}

pub(crate) const EXITS: [Exit; 4] = [Exit::Normal, Exit::Shutdown, Exit::Abnormal, Exit::Killed];
pub(crate) const RESTARTS: [Restart; 3] =
    [Restart::Permanent, Restart::Transient, Restart::Temporary];
pub(crate) const STRATEGIES: [Strategy; 3] = [
    Strategy::OneForOne,
    Strategy::OneForAll,
    Strategy::RestForOne,
];

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What a child does when it starts and stops; read anew each time.
#[derive(Debug, Default, Clone)]
pub(crate) struct Conduct {
    /// How many of the next starts fail.
    pub(crate) failing: usize,
    pub(crate) ignoring: bool,
    pub(crate) start_takes: Duration,
    pub(crate) stop_takes: Duration,
    pub(crate) fails_at_stop: bool,
    pub(crate) info: Option<u32>,
    pub(crate) registered: Option<String>,
    /// Starts that were tried.
    pub(crate) starts: usize,
}

/// A scripted child; the children of a template share one script.
#[derive(Clone, Default)]
pub(crate) struct Kid(Arc<Script>);

#[derive(Default)]
struct Script {
    name: String,
    log: Log,
    conduct: Mutex<Conduct>,
    actors: Mutex<HashMap<String, ActorRef<Exit>>>,
}

impl Kid {
    pub(crate) fn new(name: &str) -> Self {
        Self::logged(name, &Log::default())
    }

    pub(crate) fn logged(name: &str, log: &Log) -> Self {
        Self(Arc::new(Script {
            name: name.to_owned(),
            log: Arc::clone(log),
            ..Script::default()
        }))
    }

    /// Changes what it does from now on.
    pub(crate) fn will(&self, change: impl FnOnce(&mut Conduct)) -> &Self {
        change(&mut self.0.conduct.lock().unwrap());
        self
    }

    pub(crate) fn conduct(&self) -> Conduct {
        self.0.conduct.lock().unwrap().clone()
    }

    /// A permanent worker.
    pub(crate) fn spec(&self) -> ChildSpec {
        ChildSpec::new(self.0.name.as_str(), self.clone())
    }

    pub(crate) fn log(&self) -> Log {
        Arc::clone(&self.0.log)
    }

    /// The incarnation started last under `id`.
    pub(crate) fn actor_of(&self, id: &str) -> ActorRef<Exit> {
        self.0.actors.lock().unwrap()[id].clone()
    }

    pub(crate) fn actor(&self) -> ActorRef<Exit> {
        self.actor_of(&self.0.name)
    }

    /// Ends it, and returns when everything that follows has happened.
    pub(crate) async fn end(&self, exit: Exit) {
        end(&self.actor(), exit);
        settle().await;
    }

    pub(crate) async fn end_of(&self, id: &str, exit: Exit) {
        end(&self.actor_of(id), exit);
        settle().await;
    }

    fn say(&self, what: &str, id: &str) {
        self.0.log.lock().unwrap().push(format!("{what} {id}"));
    }
}

/// Tells an actor to end; does not wait.
pub(crate) fn end(actor: &ActorRef<Exit>, exit: Exit) {
    match exit {
        Exit::Killed => actor.kill(),
        other => actor.send_message(other).unwrap(),
    }
}

/// Returns once nothing is left to do: paused time moves only then.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

impl Child<()> for Kid {
    fn start(&self, context: StartContext<()>) -> BoxFuture<'_, Result<Started, ExitCause>> {
        Box::pin(async move {
            let id = context.id.as_str();
            let Conduct {
                start_takes,
                ignoring,
                registered,
                info,
                ..
            } = self.will(|conduct| conduct.starts += 1).conduct();
            sleep(start_takes).await;
            let mut fails = false;
            self.will(|conduct| {
                fails = conduct.failing > 0;
                conduct.failing = conduct.failing.saturating_sub(1);
            });
            if fails {
                self.say("fail", id);
                return Err(failure());
            }
            if ignoring {
                self.say("ignore", id);
                return Ok(Started::Ignored);
            }
            let actor = KidActor(self.clone(), id.to_owned());
            let argument = context.argument.clone();
            let (actor, handle) =
                KidActor::spawn_linked(registered, actor, argument, context.supervisor).await?;
            self.say("start", id);
            let mut actors = self.0.actors.lock().unwrap();
            actors.insert(id.to_owned(), actor.clone());
            let running = Running::new(actor, handle);
            Ok(Started::Running(match info {
                Some(info) => running.with_info(info),
                None => running,
            }))
        })
    }
}

/// What a kid fails with, at its start and later.
pub(crate) fn failure() -> ExitCause {
    ExitCause::OutOfFuel { limit: 7 }
}

pub(crate) fn is_failure(cause: &ExitCause) -> bool {
    matches!(cause, ExitCause::OutOfFuel { limit: 7 })
}

struct KidActor(Kid, String);

impl Actor for KidActor {
    type Msg = Exit;
    type State = ();
    type Arguments = Option<Argument>;

    async fn pre_start(
        &self,
        _: ActorRef<Exit>,
        _: Option<Argument>,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Exit>,
        exit: Exit,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match exit {
            Exit::Normal => myself.stop(None),
            Exit::Shutdown => return Err(Box::new(ExitCause::Shutdown)),
            Exit::Abnormal => return Err(Box::new(failure())),
            Exit::Killed => myself.kill(),
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Exit>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let Self(kid, id) = self;
        let conduct = kid.conduct();
        sleep(conduct.stop_takes).await;
        kid.say("stop", id);
        if conduct.fails_at_stop {
            return Err(Box::new(failure()));
        }
        Ok(())
    }
}

/// A supervisor `sup` of this strategy and of as many restarts in 10 s, with permanent children.
pub(crate) fn sup(strategy: Strategy, restarts: u32, kids: &[&Kid]) -> SupervisorSpec {
    let spec = SupervisorSpec::new("sup")
        .strategy(strategy)
        .intensity(intensity(restarts));
    kids.iter().fold(spec, |spec, kid| spec.child(kid.spec()))
}

pub(crate) fn intensity(restarts: u32) -> Intensity {
    Intensity {
        restarts,
        period: 10 * SECOND,
    }
}

/// A dynamic supervisor `sup` whose children follow this kid's script.
pub(crate) fn dynamic(kid: &Kid, restart: Restart, restarts: u32) -> SupervisorSpec {
    SupervisorSpec::dynamic("sup", kid.spec().restart(restart)).intensity(intensity(restarts))
}

/// The supervisor under test, as a temporary child of another one that sees how it ends.
pub(crate) struct House {
    pub(crate) top: SupervisorRef,
    pub(crate) sup: SupervisorRef,
    events: EventStream,
    told: Vec<LifecycleEvent>,
}

impl House {
    pub(crate) async fn open(spec: SupervisorSpec) -> Self {
        Self::try_open(spec).await.unwrap()
    }

    /// The cause where it does not start; that it did not end either is checked here.
    pub(crate) async fn try_open(spec: SupervisorSpec) -> Result<Self, Arc<ExitCause>> {
        let tree = Tree::new(());
        let mut events = tree.events.subscribe();
        let (top, _) = SupervisorSpec::new("top").start(tree).await.unwrap();
        let started = top
            .start_child(spec.clone().into_child().restart(Restart::Temporary))
            .await;
        match started {
            Ok(_) => Ok(Self {
                top,
                sup: spec.handle().unwrap(),
                events,
                told: Vec::new(),
            }),
            Err(SupervisorError::Refused(Refusal::StartFailed(_, cause))) => {
                settle().await;
                while let Some(Some(received)) = events.next().now_or_never() {
                    let Received::Event(event) = received else {
                        panic!("lagged");
                    };
                    let exited = matches!(event.change, Change::Exited { .. });
                    assert!(!exited || event.supervisor.as_str() != "top", "{event:?}");
                }
                assert_eq!(counts(&top).await, [0, 0, 0, 0]);
                Err(cause)
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn listen(&mut self) {
        while let Some(Some(received)) = self.events.next().now_or_never() {
            if let Received::Event(event) = received {
                self.told.push(event);
            }
        }
    }

    fn exited(&mut self, of: &str) -> Vec<(String, ExitKind)> {
        self.listen();
        let mut found = Vec::new();
        self.told.retain(|event| match &event.change {
            Change::Exited { cause } if event.supervisor.as_str() == of => {
                found.push((event.child.to_string(), cause.kind()));
                false
            }
            _ => true,
        });
        found
    }

    /// The exits of its children since the last look, in order, as `name: kind`.
    pub(crate) fn exits(&mut self) -> Vec<String> {
        let exits = self.exited("sup").into_iter();
        exits.map(|(id, kind)| format!("{id}: {kind}")).collect()
    }

    /// How the supervisor ended, if it did.
    pub(crate) fn end(&mut self) -> Option<ExitKind> {
        let mut exits = self.exited("top");
        assert!(exits.len() <= 1, "{exits:?}");
        exits.pop().map(|(_, kind)| kind)
    }

    /// Has its parent stop it.
    pub(crate) async fn shut(&mut self) -> Option<ExitKind> {
        self.top.terminate_child("sup").await.unwrap();
        self.end()
    }

    /// [specs, active, supervisors, workers]
    pub(crate) async fn counts(&self) -> [usize; 4] {
        counts(&self.sup).await
    }

    pub(crate) async fn state(&self, id: &str) -> Option<ChildState> {
        let child = self.sup.which_child(id).await.unwrap();
        child.map(|child| child.state)
    }

    /// The actor of a child that runs.
    pub(crate) async fn pid(&self, id: &str) -> ActorId {
        let child = self.sup.which_child(id).await.unwrap().unwrap();
        assert_eq!(child.state, ChildState::Running, "{id}");
        child.actor.unwrap()
    }

    pub(crate) async fn pids<const N: usize>(&self, ids: [&str; N]) -> [ActorId; N] {
        let mut pids = Vec::new();
        for id in ids {
            pids.push(self.pid(id).await);
        }
        pids.try_into().unwrap()
    }

    /// Starts so many from the template.
    pub(crate) async fn start_dynamic(&self, count: usize) -> Vec<StartedChild> {
        let mut started = Vec::new();
        for n in 0..count {
            started.push(self.sup.start_dynamic(n).await.unwrap());
        }
        started
    }
}

pub(crate) async fn counts(sup: &SupervisorRef) -> [usize; 4] {
    let counts = sup.count_children().await.unwrap();
    [
        counts.specs,
        counts.active,
        counts.supervisors,
        counts.workers,
    ]
}

/// The refusal a command was answered with.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T, SupervisorError>) -> Refusal {
    match answer {
        Err(SupervisorError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// The actor that a start gave back.
pub(crate) fn cell(started: &StartedChild) -> ActorCell {
    started.actor.clone().unwrap()
}
