//! What a supervisor tells: cases 93 to 97.

use std::sync::Arc;

use airssys_rt::{
    ChildId, ChildKind, ChildState, ChildStatus, ExitCause, Frame, Refusal, Restart, Strategy,
    SupervisorSpec, Trap,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::kit::{Exit, House, Kid, cell, dynamic, refusal, settle, sup};

/// The longest line a cause of its own makes; around it, one name for each supervisor passed.
const LONGEST: usize = 8192;

/// Reports are text made of causes here: each is one line, however much it is about.
#[test]
fn case_93_format_log_1() {
    let frame = Frame {
        module: Some("m".repeat(100)),
        function: Some("f\n".repeat(10_000)),
        offset: Some(usize::MAX),
    };
    let trap = ExitCause::Trap(Trap {
        code: "unreachable",
        backtrace: vec![frame; 20],
    });
    let text = trap.to_string();
    assert!(text.len() <= LONGEST && !text.contains('\n'), "{text}");
    let mut cause = Arc::new(trap);
    for depth in 0..10 {
        cause = Arc::new(ExitCause::ChildStart {
            child: ChildId::from(format!("level {depth}")),
            cause,
        });
    }
    let text = cause.to_string();
    assert!(text.starts_with("child `level 9` did not start: child `level 8`"));
    assert!(text.contains("guest trap: unreachable"));
    assert!(text.len() <= LONGEST + 10 * 40 && !text.contains('\n'));
}

/// The same of text that comes from others: cut, and on one line.
#[test]
fn case_94_format_log_2() {
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Foreign(String);
    let long = "a line\r\nand another\n\u{1b}[31m".repeat(10_000);
    let source = || Arc::new(Foreign(long.clone()));
    let panicked = ExitCause::HostPanic {
        entry: None,
        message: long.clone(),
    };
    let causes = [
        ExitCause::Failed { source: source() },
        ExitCause::HostError { source: source() },
        ExitCause::Integrity { source: source() },
        ExitCause::Capacity { source: source() },
        panicked,
    ];
    for cause in causes {
        let text = cause.to_string();
        assert!(text.len() <= LONGEST, "{} bytes", text.len());
        assert!(text.contains("a line  and another  [31m"), "{text}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    let short = ExitCause::Failed {
        source: Arc::new(Foreign("as it is: é".to_owned())),
    };
    assert_eq!(short.to_string(), "failed: as it is: é");
}

/// An actor of somebody else's.
struct Foreign;

impl Actor for Foreign {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn case_95_already_started_outside_supervisor() {
    let name = "case_95_foreign".to_owned();
    let (foreign, _handle) = Actor::spawn(Some(name.clone()), Foreign, ()).await.unwrap();
    let kid = Kid::new("a");
    kid.will(|c| c.registered = Some(name.clone()));
    let mut house = House::open(SupervisorSpec::new("sup")).await;
    let Refusal::StartFailed(_, cause) = refusal(house.sup.start_child(kid.spec()).await) else {
        panic!("another refusal");
    };
    let ExitCause::Failed { source } = &*cause else {
        panic!("{cause}");
    };
    let error = source.downcast_ref::<ractor::SpawnErr>();
    assert!(
        matches!(error, Some(ractor::SpawnErr::ActorAlreadyRegistered(of)) if *of == name),
        "{error:?}"
    );
    assert_eq!(house.counts().await, [0, 0, 0, 0]);
    assert_eq!(foreign.get_status(), ractor::ActorStatus::Running);
    house.shut().await;
    settle().await;
    assert_eq!(foreign.get_status(), ractor::ActorStatus::Running);
    let found = ractor::registry::where_is(name).unwrap();
    assert_eq!(found.get_id(), foreign.get_id());
    foreign.stop(None);
}

fn row(children: &[ChildStatus]) -> Vec<(&str, ChildState, bool)> {
    let row = |child: &'_ ChildStatus| (child.state, child.actor.is_some());
    let rows = children.iter().map(|child| (child.id.as_str(), row(child)));
    rows.map(|(id, (state, runs))| (id, state, runs)).collect()
}

#[tokio::test(start_paused = true)]
async fn case_96_which_children() {
    let (a, b) = (Kid::new("a"), Kid::new("b"));
    let house = House::open(sup(Strategy::OneForOne, 9, &[])).await;
    assert_eq!(house.sup.which_children().await.unwrap(), []);
    assert_eq!(house.sup.which_child("a").await.unwrap(), None);
    house.sup.start_child(a.spec()).await.unwrap();
    house.sup.start_child(b.spec()).await.unwrap();
    let (running, stopped) = (ChildState::Running, ChildState::Stopped);
    let children = house.sup.which_children().await.unwrap();
    assert_eq!(row(&children), [("a", running, true), ("b", running, true)]);
    let first = ChildStatus {
        id: ChildId::from("a"),
        generation: 1,
        state: running,
        kind: ChildKind::Worker,
        actor: Some(a.actor().get_id()),
    };
    assert_eq!(children[0], first);
    assert_eq!(house.sup.which_child("a").await.unwrap(), Some(first));
    // Each view is the same one: the list and the single child.
    house.sup.terminate_child("a").await.unwrap();
    let children = house.sup.which_children().await.unwrap();
    assert_eq!(
        row(&children),
        [("a", stopped, false), ("b", running, true)]
    );
    let single = house.sup.which_child("a").await.unwrap();
    assert_eq!(single.as_ref(), children.first());
    house.sup.restart_child("a").await.unwrap();
    let again = house.sup.which_child("a").await.unwrap().unwrap();
    assert_eq!((again.generation, again.state), (2, running));
    assert_eq!(again.actor, Some(a.actor().get_id()));
    b.end(Exit::Abnormal).await;
    let other = house.sup.which_child("b").await.unwrap().unwrap();
    assert_eq!((other.generation, other.state), (2, running));
    house.sup.terminate_child("a").await.unwrap();
    house.sup.delete_child("a").await.unwrap();
    assert_eq!(house.sup.which_child("a").await.unwrap(), None);
    let children = house.sup.which_children().await.unwrap();
    assert_eq!(row(&children), [("b", running, true)]);
}

#[tokio::test(start_paused = true)]
async fn case_97_which_children_simple_one_for_one() {
    let kid = Kid::new("t");
    let house = House::open(dynamic(&kid, Restart::Temporary, 1)).await;
    assert_eq!(house.sup.which_children().await.unwrap(), []);
    let started = house.start_dynamic(2).await;
    let children = house.sup.which_children().await.unwrap();
    for (child, status) in started.iter().zip(&children) {
        let expected = ChildStatus {
            id: child.id.clone(),
            generation: 1,
            state: ChildState::Running,
            kind: ChildKind::Worker,
            actor: Some(cell(child).get_id()),
        };
        assert_eq!(*status, expected);
        let single = house.sup.which_child(child.id.clone()).await.unwrap();
        assert_eq!(single, Some(expected));
    }
    assert_eq!(children.len(), 2);
    let unknown = house.sup.which_child("t").await.unwrap();
    assert_eq!(unknown, None, "the template is no child");
    kid.end_of("t#1", Exit::Normal).await;
    assert_eq!(house.sup.which_child("t#1").await.unwrap(), None);
    assert_eq!(house.sup.which_children().await.unwrap().len(), 1);
}
