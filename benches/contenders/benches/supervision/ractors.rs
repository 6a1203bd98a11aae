//! Bare ractor, a one_for_one written by hand on it, and ractor-supervisor.

use std::collections::HashMap;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use ractor_supervisor::{
    ChildSpec, DynamicSupervisor, DynamicSupervisorMsg, DynamicSupervisorOptions, Restart, SpawnFn,
};
use tokio::sync::mpsc;

use super::actors::{Announced, Ask, Parent, Worker};
use super::{Taken, rounds};

pub(crate) async fn spawn(times: u64) -> Taken {
    let mut taken = Taken::default();
    for children in rounds(times) {
        let (parent, handle) = Parent::spawn(None, Parent, ()).await.unwrap();
        let mut handles = Vec::with_capacity(children);
        let spawned = async {
            let mut last = None;
            for _ in 0..children {
                let child = Worker::spawn_linked(None, Worker, None, parent.get_cell()).await;
                let (worker, handle) = child.unwrap();
                last = Some(worker);
                handles.push(handle);
            }
            // A child that runs has run its own first steps, not only its spawner's.
            ractor::call!(last.unwrap(), Ask::Answer).unwrap();
        };
        taken.measure(spawned).await;
        parent.stop_children(None);
        for child in handles {
            child.await.unwrap();
        }
        parent.stop(None);
        handle.await.unwrap();
    }
    taken
}

/// Starts children when it is told to, and knows them by name.
struct Starter;

struct StartWorker(String, RpcReplyPort<ActorRef<Ask>>);

impl Actor for Starter {
    type Msg = StartWorker;
    type State = HashMap<String, ActorRef<Ask>>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<StartWorker>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(HashMap::new())
    }

    async fn handle(
        &self,
        myself: ActorRef<StartWorker>,
        StartWorker(name, reply): StartWorker,
        children: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (worker, _) = Worker::spawn_linked(None, Worker, None, myself.get_cell()).await?;
        children.insert(name, worker.clone());
        Ok(reply.send(worker)?)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<StartWorker>,
        _: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

pub(crate) async fn spawn_by_message(times: u64) -> Taken {
    let mut taken = Taken::default();
    for children in rounds(times) {
        let (parent, handle) = Starter::spawn(None, Starter, ()).await.unwrap();
        let names: Vec<_> = (0..children).map(|number| number.to_string()).collect();
        let spawned = async {
            let mut last = None;
            for name in names {
                let worker = parent.call(|reply| StartWorker(name, reply), None).await;
                last = Some(worker.unwrap().unwrap());
            }
            ractor::call!(last.unwrap(), Ask::Answer).unwrap();
        };
        taken.measure(spawned).await;
        parent.stop_children(None);
        parent.stop(None);
        handle.await.unwrap();
    }
    taken
}

pub(crate) async fn call(times: u64) -> Taken {
    let (worker, handle) = Worker::spawn(None, Worker, None).await.unwrap();
    let mut taken = Taken::default();
    let calls = async {
        for _ in 0..times {
            ractor::call!(worker, Ask::Answer).unwrap();
        }
    };
    taken.measure(calls).await;
    worker.stop(None);
    handle.await.unwrap();
    taken
}

/// One child, started again whenever it fails.
struct ByHand;

impl Actor for ByHand {
    type Msg = ();
    type State = Announced;
    type Arguments = Announced;

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        announced: Announced,
    ) -> Result<Announced, ActorProcessingErr> {
        Worker::spawn_linked(None, Worker, Some(announced.clone()), myself.into()).await?;
        Ok(announced)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        announced: &mut Announced,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(..) = event {
            Worker::spawn_linked(None, Worker, Some(announced.clone()), myself.into()).await?;
        }
        Ok(())
    }
}

pub(crate) async fn recovery(times: u64) -> Taken {
    let (announced, incarnations) = mpsc::channel(8);
    let (supervisor, handle) = ByHand::spawn(None, ByHand, announced).await.unwrap();
    let taken = crash(times, incarnations).await;
    supervisor.stop(None);
    handle.await.unwrap();
    taken
}

/// From the order to die to the answer of the next incarnation.
async fn crash(times: u64, mut incarnations: mpsc::Receiver<ActorRef<Ask>>) -> Taken {
    let mut worker = incarnations.recv().await.unwrap();
    ractor::call!(worker, Ask::Answer).unwrap();
    let mut taken = Taken::default();
    let crashes = async {
        for _ in 0..times {
            worker.cast(Ask::Die).unwrap();
            worker = incarnations.recv().await.unwrap();
            ractor::call!(worker, Ask::Answer).unwrap();
        }
    };
    taken.measure(crashes).await;
    taken
}

async fn dynamic() -> (ActorRef<DynamicSupervisorMsg>, tokio::task::JoinHandle<()>) {
    let options = DynamicSupervisorOptions {
        max_children: None,
        max_restarts: usize::MAX,
        max_window: Duration::from_millis(1),
        reset_after: None,
    };
    DynamicSupervisor::spawn(String::from("dynamic"), options)
        .await
        .unwrap()
}

fn dynamic_child(id: String, announced: Option<Announced>) -> ChildSpec {
    // It finds its children by their actors' names.
    let start = move |supervisor: ActorCell, id: String| {
        let announced = announced.clone();
        async move {
            let child = Worker::spawn_linked(Some(id), Worker, announced, supervisor).await?;
            Ok(child.0.get_cell())
        }
    };
    ChildSpec {
        id,
        restart: Restart::Permanent,
        spawn_fn: SpawnFn::new(start),
        backoff_fn: None,
        reset_after: None,
    }
}

pub(crate) async fn spawn_dynamic(times: u64) -> Taken {
    let mut taken = Taken::default();
    for children in rounds(times) {
        let (supervisor, handle) = dynamic().await;
        let spawned = async {
            for number in 0..children {
                let child = dynamic_child(number.to_string(), None);
                DynamicSupervisor::spawn_child(supervisor.clone(), child)
                    .await
                    .unwrap();
            }
        };
        taken.measure(spawned).await;
        supervisor.stop(None);
        handle.await.unwrap();
    }
    taken
}

pub(crate) async fn recovery_dynamic(times: u64) -> Taken {
    let (announced, incarnations) = mpsc::channel(8);
    let (supervisor, handle) = dynamic().await;
    let child = dynamic_child(String::from("child"), Some(announced));
    DynamicSupervisor::spawn_child(supervisor.clone(), child)
        .await
        .unwrap();
    let taken = crash(times, incarnations).await;
    supervisor.stop(None);
    handle.await.unwrap();
    taken
}
