//! Bare ractor, a one_for_one written by hand on it, and ractor-supervisor.

use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_supervisor::{
    ChildSpec, DynamicSupervisor, DynamicSupervisorMsg, DynamicSupervisorOptions, Restart, SpawnFn,
};
use tokio::sync::mpsc;

use super::Taken;
use super::actors::{Announced, Ask, Parent, Worker};

pub(crate) async fn spawn(times: u64) -> Taken {
    let (parent, handle) = Parent::spawn(None, Parent, ()).await.unwrap();
    let mut children = Vec::with_capacity(times as usize);
    let mut taken = Taken::default();
    let spawned = async {
        for _ in 0..times {
            let child = Worker::spawn_linked(None, Worker, None, parent.get_cell()).await;
            children.push(child.unwrap().1);
        }
    };
    taken.measure(spawned).await;
    parent.stop_children(None);
    for child in children {
        child.await.unwrap();
    }
    parent.stop(None);
    handle.await.unwrap();
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
    let (supervisor, handle) = dynamic().await;
    let mut taken = Taken::default();
    let spawned = async {
        for number in 0..times {
            let child = dynamic_child(number.to_string(), None);
            DynamicSupervisor::spawn_child(supervisor.clone(), child)
                .await
                .unwrap();
        }
    };
    taken.measure(spawned).await;
    supervisor.stop(None);
    handle.await.unwrap();
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
