//! The worker that every ractor contender supervises.

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::mpsc;

pub(crate) enum Ask {
    Answer(RpcReplyPort<u32>),
    Die,
}

/// Where a new incarnation announces itself, once it has started.
pub(crate) type Announced = mpsc::Sender<ActorRef<Ask>>;

/// Answers, or dies when told.
pub(crate) struct Worker;

impl Actor for Worker {
    type Msg = Ask;
    type State = ();
    type Arguments = Option<Announced>;

    async fn pre_start(
        &self,
        myself: ActorRef<Ask>,
        announced: Option<Announced>,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(announced) = announced {
            announced.try_send(myself).unwrap();
        }
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        ask: Ask,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match ask {
            Ask::Answer(reply) => Ok(reply.send(5)?),
            Ask::Die => Err("told to".into()),
        }
    }
}

/// A parent that does nothing about its children.
pub(crate) struct Parent;

impl Actor for Parent {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        _: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[inline(never)]
pub(crate) fn plain(number: u64) -> u64 {
    number.wrapping_mul(3)
}
