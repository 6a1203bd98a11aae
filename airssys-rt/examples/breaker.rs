//! A worker that fails on odd numbers, behind a slot, a backoff and a circuit breaker.
//!
//! `cargo run -p airssys-rt --example breaker`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::sync::Arc;
use std::time::Duration;

use airssys_rt::{
    BoxFuture, Child, ChildId, ChildSpec, DeadLetter, ExitCause, Intensity, Quarantine, Received,
    Request, Running, Slot, StartContext, Started, SupervisorSpec, Tree, Work,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

/// What callers ask for: a number, halved.
struct Halve(u32);

impl Request for Halve {
    fn name(&self) -> Arc<str> {
        Arc::from("halve")
    }
}

type Calls = Arc<Slot<Halve, u32>>;

/// Serves the slot; an odd number is the end of it.
struct Halver(Calls);

impl Actor for Halver {
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
            Some(Halve(number)) if number % 2 == 1 => Err(Box::new(ExitCause::GuestExit {
                status: number.cast_signed(),
            })),
            Some(Halve(number)) => {
                self.0.answer(*generation, number / 2);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// The halver as a supervisor's child.
struct HalverChild(Calls);

impl Child<()> for HalverChild {
    fn start(&self, context: StartContext<()>) -> BoxFuture<'_, Result<Started, ExitCause>> {
        Box::pin(async move {
            let actor = Halver(Arc::clone(&self.0));
            let (actor, handle) =
                Halver::spawn_linked(None, actor, context.generation, context.supervisor).await?;
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

async fn halve(calls: &Calls, number: u32) {
    let deadline = Instant::now() + Duration::from_secs(1);
    match calls.call(Halve(number), deadline).await {
        Ok(half) => println!("{number} / 2 = {half}"),
        Err(error) => println!("{number}: {error}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let calls: Calls = Arc::new(Slot::new(16));
    let breaker = Quarantine {
        budget: Intensity {
            restarts: 1,
            period: Duration::from_secs(10),
        },
        cool_down: Duration::from_millis(200),
        probation: Duration::from_millis(100),
    };
    let halver = ChildSpec::new("halver", HalverChild(Arc::clone(&calls))).quarantine(breaker);
    let tree = Tree::new(());
    let mut events = tree.events.subscribe();
    let (tools, end) = SupervisorSpec::new("tools")
        .child(halver)
        .start(tree)
        .await?;

    halve(&calls, 8).await;
    halve(&calls, 7).await;
    // The next incarnation answers; then one exit too many opens the breaker.
    halve(&calls, 6).await;
    halve(&calls, 5).await;
    halve(&calls, 4).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    halve(&calls, 2).await;

    tools.stop(Duration::from_secs(5)).await?;
    end.await;
    println!("\nwhat the tree told:");
    while let Some(received) = events.next().await {
        if let Received::Event(event) = received {
            println!(
                "  {} #{}: {:?}",
                event.child, event.generation, event.change
            );
        }
    }
    Ok(())
}
