//! kameo's spawn, ask and supervision.

use std::time::Duration;

use kameo::Actor;
use kameo::actor::{ActorRef, Spawn};
use kameo::error::Infallible;
use kameo::message::{Context, Message};
use kameo::supervision::RestartPolicy;
use tokio::sync::mpsc;

use super::Taken;

struct Supervisor;

impl Actor for Supervisor {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

#[derive(Clone)]
struct Worker(Option<mpsc::Sender<ActorRef<Worker>>>);

#[derive(Debug)]
struct Told;

impl Actor for Worker {
    type Args = Self;
    type Error = Told;

    async fn on_start(worker: Self, myself: ActorRef<Self>) -> Result<Self, Told> {
        if let Some(announced) = &worker.0 {
            announced.try_send(myself).unwrap();
        }
        Ok(worker)
    }
}

struct Ask;
struct Die;

impl Message<Ask> for Worker {
    type Reply = u32;

    async fn handle(&mut self, _: Ask, _: &mut Context<Self, u32>) -> u32 {
        5
    }
}

impl Message<Die> for Worker {
    type Reply = Result<(), Told>;

    async fn handle(&mut self, _: Die, _: &mut Context<Self, Self::Reply>) -> Result<(), Told> {
        Err(Told)
    }
}

pub(crate) async fn spawn(times: u64) -> Taken {
    let supervisor = Supervisor::spawn(());
    let mut children = Vec::with_capacity(times as usize);
    let mut taken = Taken::default();
    let spawned = async {
        for _ in 0..times {
            let child = Worker::supervise(&supervisor, Worker(None)).spawn().await;
            child.wait_for_startup().await;
            children.push(child);
        }
    };
    taken.measure(spawned).await;
    supervisor.stop_gracefully().await.unwrap();
    supervisor.wait_for_shutdown().await;
    taken
}

pub(crate) async fn ask(times: u64) -> Taken {
    let worker = Worker::spawn(Worker(None));
    let mut taken = Taken::default();
    let asked = async {
        for _ in 0..times {
            worker.ask(Ask).await.unwrap();
        }
    };
    taken.measure(asked).await;
    worker.stop_gracefully().await.unwrap();
    worker.wait_for_shutdown().await;
    taken
}

pub(crate) async fn recovery(times: u64) -> Taken {
    let (announced, mut incarnations) = mpsc::channel(8);
    let supervisor = Supervisor::spawn(());
    let _first = Worker::supervise(&supervisor, Worker(Some(announced)))
        .restart_policy(RestartPolicy::Permanent)
        .restart_limit(u32::MAX, Duration::from_millis(1))
        .spawn()
        .await;
    let mut worker = incarnations.recv().await.unwrap();
    worker.ask(Ask).await.unwrap();
    let mut taken = Taken::default();
    let crashes = async {
        for _ in 0..times {
            worker.tell(Die).await.unwrap();
            worker = incarnations.recv().await.unwrap();
            worker.ask(Ask).await.unwrap();
        }
    };
    taken.measure(crashes).await;
    supervisor.stop_gracefully().await.unwrap();
    supervisor.wait_for_shutdown().await;
    taken
}
