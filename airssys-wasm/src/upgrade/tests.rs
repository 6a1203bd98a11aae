#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use super::*;

const TEXT: &str = "[component]\nname = \"tool\"\nversion = \"0.1.0\"\nwasm = \"tool.wasm\"\n\
    [resources.memory]\nmax_bytes = 1048576\n";

/// A component that no actor serves, and a release for it.
fn unserved() -> (Arc<ComponentCell>, Arc<Release>) {
    let config = ComponentConfig::parse("Component.toml", TEXT).unwrap();
    let release = Release::new(config.clone());
    let cell = ComponentCell::new(config.name, Arc::clone(&release));
    (Arc::new(cell), release)
}

#[test]
fn an_order_whose_caller_has_gone_is_not_carried_out_and_is_in_nobodys_way() {
    let (cell, release) = unserved();
    let order = || {
        let (reply, answer) = oneshot::channel();
        cell.trial().order(Order {
            release: Arc::clone(&release),
            probation: Duration::ZERO,
            reply,
        });
        answer
    };
    let answer = order();
    assert!(cell.trial().begin().is_none());
    assert!(cell.trial().take_order().is_some());
    drop(answer);
    assert!(cell.trial().begin().is_some());
    drop(order());
    assert!(cell.trial().take_order().is_none());
    assert!(cell.trial().begin().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_order_that_nobody_takes_up_is_taken_back_in_time() {
    let (cell, release) = unserved();
    let turn = cell.trial().begin().unwrap();
    let expired = place(&cell, &release, Duration::ZERO).await;
    assert!(
        matches!(expired, Err(UpgradeError::Expired { .. })),
        "{expired:?}"
    );
    drop(turn);
    assert!(cell.trial().begin().is_some());
}

/// Tells of each message it gets.
struct Told(tokio::sync::mpsc::Sender<()>);

impl ractor::Actor for Told {
    type Msg = airssys_rt::Work;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ractor::ActorRef<airssys_rt::Work>,
        (): (),
    ) -> Result<(), ractor::ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ractor::ActorRef<airssys_rt::Work>,
        airssys_rt::Work: airssys_rt::Work,
        (): &mut (),
    ) -> Result<(), ractor::ActorProcessingErr> {
        self.0.send(()).await?;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_incarnation_that_comes_after_the_order_is_told_of_it_without_a_call() {
    for ordered in [true, false] {
        let (cell, release) = unserved();
        let (reply, _answer) = oneshot::channel();
        if ordered {
            cell.trial().order(Order {
                release,
                probation: Duration::ZERO,
                reply,
            });
            cell.wake();
        }
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let (actor, _) = ractor::Actor::spawn(None, Told(tell), ()).await.unwrap();
        cell.attach(1, actor);
        let heard = tokio::time::timeout(Duration::from_secs(1), told.recv()).await;
        assert_eq!(heard.is_ok(), ordered);
    }
}
