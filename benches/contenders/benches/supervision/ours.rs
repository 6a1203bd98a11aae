//! airssys-rt: a supervisor, its children and a slot.

use std::sync::Arc;
use std::time::Duration;

use airssys_rt::{
    BoxFuture, Child, ChildId, ChildSpec, DeadLetter, ExitCause, Intensity, Restart, Running, Slot,
    StartContext, Started, Strategy, SupervisorRef, SupervisorSpec, TaskEnd, TaskHandle, Tree,
    Work,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use super::{Taken, rounds};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Request {
    Answer,
    Die,
}

impl airssys_rt::Request for Request {
    fn name(&self) -> Arc<str> {
        Arc::from("request")
    }
}

type Calls = Arc<Slot<Request, u32>>;

/// Serves a slot, as a component's actor does.
#[derive(Clone)]
struct Serving(Calls);

impl Actor for Serving {
    type Msg = Work;
    type State = u64;
    type Arguments = u64;

    async fn pre_start(
        &self,
        _: ActorRef<Work>,
        generation: u64,
    ) -> Result<u64, ActorProcessingErr> {
        Ok(generation)
    }

    async fn handle(
        &self,
        _: ActorRef<Work>,
        Work: Work,
        generation: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match self.0.take(*generation) {
            Some(Request::Answer) => self.0.answer(*generation, 5),
            Some(Request::Die) => return Err(Box::new(ExitCause::GuestExit { status: 1 })),
            None => {}
        }
        Ok(())
    }
}

impl Child<()> for Serving {
    fn start(&self, context: StartContext<()>) -> BoxFuture<'_, Result<Started, ExitCause>> {
        Box::pin(async move {
            let (actor, handle) =
                Self::spawn_linked(None, self.clone(), context.generation, context.supervisor)
                    .await?;
            self.0.attach(context.generation, actor.clone());
            Ok(Running::new(actor, handle).into())
        })
    }

    fn exited(&self, _: &ChildId, generation: u64, cause: &Arc<ExitCause>) -> Option<DeadLetter> {
        self.0.exited(generation, cause)
    }

    fn stopped(&self, _: &ChildId, cause: &Arc<ExitCause>) {
        self.0.close(cause);
    }
}

fn child(name: String) -> (Calls, ChildSpec) {
    let calls = Arc::new(Slot::new(16));
    (calls.clone(), ChildSpec::new(name, Serving(calls)))
}

fn tree() -> SupervisorSpec {
    SupervisorSpec::new("bench").intensity(Intensity {
        restarts: u32::MAX,
        period: Duration::from_millis(1),
    })
}

async fn stop(supervisor: &SupervisorRef, handle: TaskHandle<()>) {
    supervisor.actor().stop(None);
    assert_eq!(handle.await, TaskEnd::Finished(()));
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// As children of a supervisor that starts.
pub(crate) async fn spawn_at_start(times: u64) -> Taken {
    let mut taken = Taken::default();
    for children in rounds(times) {
        let (slots, specs): (Vec<_>, Vec<_>) = (0..children)
            .map(|number| child(number.to_string()))
            .unzip();
        let spec = specs.into_iter().fold(tree(), SupervisorSpec::child);
        let spawned = async {
            let started = spec.start(Tree::new(())).await.unwrap();
            let last = slots.last().unwrap();
            last.call(Request::Answer, soon()).await.unwrap();
            started
        };
        let (supervisor, handle) = taken.measure(spawned).await;
        stop(&supervisor, handle).await;
    }
    taken
}

/// One after the other, by message.
pub(crate) async fn spawn(times: u64) -> Taken {
    let mut taken = Taken::default();
    for children in rounds(times) {
        let (supervisor, handle) = tree().start(Tree::new(())).await.unwrap();
        let (slots, specs): (Vec<_>, Vec<_>) = (0..children)
            .map(|number| child(number.to_string()))
            .unzip();
        let spawned = async {
            for spec in specs {
                supervisor.start_child(spec).await.unwrap();
            }
            let last = slots.last().unwrap();
            last.call(Request::Answer, soon()).await.unwrap();
        };
        taken.measure(spawned).await;
        stop(&supervisor, handle).await;
    }
    taken
}

pub(crate) async fn call(times: u64) -> Taken {
    let (calls, spec) = child(String::from("child"));
    let (supervisor, handle) = tree().child(spec).start(Tree::new(())).await.unwrap();
    let mut taken = Taken::default();
    let called = async {
        for _ in 0..times {
            calls.call(Request::Answer, soon()).await.unwrap();
        }
    };
    taken.measure(called).await;
    stop(&supervisor, handle).await;
    taken
}

pub(crate) async fn recovery(times: u64) -> Taken {
    let (calls, spec) = child(String::from("child"));
    let (supervisor, handle) = tree().child(spec).start(Tree::new(())).await.unwrap();
    let mut taken = Taken::default();
    let crashes = async {
        for _ in 0..times {
            calls.call(Request::Die, soon()).await.unwrap_err();
            calls.call(Request::Answer, soon()).await.unwrap();
        }
    };
    taken.measure(crashes).await;
    stop(&supervisor, handle).await;
    taken
}

/// One group restart of so many children, counted per child.
pub(crate) async fn group_restart(times: u64, children: u64) -> Taken {
    let mut spec = tree().strategy(Strategy::OneForAll);
    let mut slots = Vec::new();
    for number in 0..children {
        let (calls, child) = child(number.to_string());
        slots.push(calls);
        spec = spec.child(child);
    }
    let (supervisor, handle) = spec.start(Tree::new(())).await.unwrap();
    let mut taken = Taken::default();
    let rounds = times.div_ceil(children);
    for _ in 0..rounds {
        let restarted = async {
            slots
                .first()
                .unwrap()
                .call(Request::Die, soon())
                .await
                .unwrap_err();
            let last = Instant::now() + Duration::from_secs(600);
            slots
                .last()
                .unwrap()
                .call(Request::Answer, last)
                .await
                .unwrap();
        };
        taken.measure(restarted).await;
    }
    stop(&supervisor, handle).await;
    taken.scaled(times, rounds * children)
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Phase {
    Start,
    Exit,
    Stop,
}

/// So many temporary children started, failing at once, or stopped; counted per child.
pub(crate) async fn mass(times: u64, children: u64, phase: Phase) -> Taken {
    let mut taken = Taken::default();
    let rounds = times.div_ceil(children);
    for _ in 0..rounds {
        let (supervisor, handle) = tree().start(Tree::new(())).await.unwrap();
        let (slots, specs): (Vec<_>, Vec<_>) = (0..children)
            .map(|number| child(number.to_string()))
            .map(|(calls, spec)| (calls, spec.restart(Restart::Temporary)))
            .unzip();
        let start = async {
            for spec in specs {
                supervisor.start_child(spec).await.unwrap();
            }
        };
        match phase {
            Phase::Start => taken.measure(start).await,
            _ => start.await,
        }
        if phase == Phase::Exit {
            let exits = async {
                let dying: Vec<_> = slots
                    .iter()
                    .cloned()
                    .map(|slot| tokio::spawn(async move { slot.call(Request::Die, soon()).await }))
                    .collect();
                for call in dying {
                    call.await.unwrap().unwrap_err();
                }
            };
            taken.measure(exits).await;
        }
        match phase {
            Phase::Stop => taken.measure(stop(&supervisor, handle)).await,
            _ => stop(&supervisor, handle).await,
        }
    }
    taken.scaled(times, rounds * children)
}
