//! What OTP does not have: backoff, quarantine, probes, redelivery, poison, partitions, and
//! callers that keep waiting while a supervisor is replaced.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use airssys_rt::{
    Backoff, BoxFuture, CallError, Change, Child, ChildSpec, ChildState, EventStream, ExitCause,
    ExitKind, Partitions, Poison, Probe, Quarantine, Received, SlotLimits, StartContext, Started,
    Strategy, SupervisorSpec, TaskEnd, Tree,
};
use ractor::{ActorCell, ActorStatus};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::worker::{Log, Request, Worker, lines, often};

fn never() -> airssys_rt::Intensity {
    airssys_rt::Intensity {
        restarts: 0,
        period: Duration::from_secs(60),
    }
}

/// The next change of one child that `wanted` takes.
async fn next<T>(
    stream: &mut EventStream,
    child: &str,
    mut wanted: impl FnMut(&Change) -> Option<T>,
) -> T {
    loop {
        match stream.next().await {
            Some(Received::Event(event)) if event.child.as_str() == child => {
                if let Some(found) = wanted(&event.change) {
                    return found;
                }
            }
            Some(_) => {}
            None => panic!("the tree is gone"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_waits_out_its_backoff() {
    let log = Log::default();
    let worker = Worker::new("w", &log);
    let backoff = Backoff {
        first: Duration::from_secs(3),
        jitter: 0.0,
        ..Backoff::default()
    };
    let spec = SupervisorSpec::new("s")
        .intensity(often())
        .child(worker.spec().backoff(backoff));
    let (_sup, _handle) = spec.start(Tree::new(())).await.unwrap();
    let began = Instant::now();
    worker.call(Request::Die(1)).await.unwrap_err();
    assert_eq!(worker.call(Request::Answer(7)).await.unwrap(), 7);
    assert_eq!(began.elapsed().as_secs(), 3);
}

/// No budget, a backoff of a minute and a quarantine: none of them is for an end like this.
#[tokio::test(start_paused = true)]
async fn an_abandoned_call_in_flight_is_cancelled_and_its_actor_replaced_free_of_charge() {
    let worker = Worker::new("w", &Log::default());
    let backoff = Backoff {
        first: Duration::from_secs(60),
        longest: Duration::from_secs(60),
        ..Backoff::default()
    };
    let quarantine = Quarantine {
        budget: never(),
        cool_down: Duration::from_secs(60),
        probation: Duration::from_secs(60),
    };
    let tree = Tree::new(());
    let mut events = tree.events.subscribe();
    let (_sup, _handle) = SupervisorSpec::new("s")
        .intensity(never())
        .child(worker.spec().backoff(backoff).quarantine(quarantine))
        .start(tree)
        .await
        .unwrap();
    let began = Instant::now();
    for _ in 0..50 {
        let dropped = worker.call(Request::Heed(Duration::from_secs(9)));
        let dropped = tokio::time::timeout(Duration::from_millis(1), dropped);
        let (dropped, behind) = tokio::join!(dropped, worker.call(Request::Answer(5)));
        assert!(dropped.is_err());
        assert_eq!(behind.unwrap(), 5, "of the next incarnation");
        let kind = next(&mut events, "w", |change| match change {
            Change::Exited { cause, .. } => Some(cause.kind()),
            _ => None,
        });
        assert_eq!(kind.await, ExitKind::Cancelled);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "none was put off");
}

/// A deadline of the caller's own ends the work as well.
#[tokio::test(start_paused = true)]
async fn a_call_in_flight_whose_deadline_has_passed_is_cancelled() {
    let worker = Worker::new("w", &Log::default());
    let (_sup, _handle) = SupervisorSpec::new("s")
        .intensity(never())
        .child(worker.spec())
        .start(Tree::new(()))
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_millis(10);
    let request = Request::Heed(Duration::from_secs(9));
    let expired = worker.slot.call(request, deadline).await.unwrap_err();
    assert!(matches!(expired, CallError::Expired { .. }), "{expired:?}");
    let began = Instant::now();
    assert_eq!(worker.call(Request::Answer(5)).await.unwrap(), 5);
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "not after the work"
    );
}

#[tokio::test(start_paused = true)]
async fn a_quarantined_child_refuses_calls_until_its_cool_down_is_over() {
    let log = Log::default();
    let (bad, good) = (Worker::new("bad", &log), Worker::new("good", &log));
    let quarantine = Quarantine {
        budget: never(),
        cool_down: Duration::from_secs(30),
        probation: Duration::from_secs(1),
    };
    let spec = SupervisorSpec::new("s")
        .intensity(never())
        .child(bad.spec().quarantine(quarantine))
        .child(good.spec());
    let tree = Tree::new(());
    let mut events = tree.events.subscribe();
    let (sup, _handle) = spec.start(tree).await.unwrap();
    bad.call(Request::Die(1)).await.unwrap_err();
    next(&mut events, "bad", |change| {
        matches!(change, Change::Quarantined { .. }).then_some(())
    })
    .await;
    let CallError::Stopped {
        request: Some(Request::Answer(1)),
        cause,
    } = bad.call(Request::Answer(1)).await.unwrap_err()
    else {
        panic!("not refused");
    };
    assert_eq!(cause.kind(), ExitKind::Quarantined);
    assert_eq!(good.call(Request::Answer(2)).await.unwrap(), 2);
    let status = sup.which_child("bad").await.unwrap().unwrap();
    assert_eq!(status.state, ChildState::Quarantined);
    let closed = Instant::now();
    next(&mut events, "bad", |change| {
        matches!(change, Change::Started { .. }).then_some(())
    })
    .await;
    assert_eq!(closed.elapsed().as_secs(), 30);
    assert_eq!(bad.call(Request::Answer(3)).await.unwrap(), 3, "half open");
    next(&mut events, "bad", |change| {
        matches!(change, Change::Readmitted).then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_answer_its_probe_is_replaced() {
    let log = Log::default();
    let worker = Worker::new("w", &log);
    worker.deaf.store(true, Ordering::SeqCst);
    let probe = Probe {
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(100),
        misses: 3,
    };
    let spec = SupervisorSpec::new("s")
        .intensity(often())
        .child(worker.spec().probe(probe));
    let tree = Tree::new(());
    let mut events = tree.events.subscribe();
    let began = Instant::now();
    let (_sup, _handle) = spec.start(tree).await.unwrap();
    let cause = next(&mut events, "w", |change| match change {
        Change::Exited { cause } => Some(Arc::clone(cause)),
        _ => None,
    })
    .await;
    assert!(
        matches!(&*cause, ExitCause::Unresponsive { misses: 3, .. }),
        "{cause}"
    );
    assert_eq!(began.elapsed().as_millis(), 3 * 1100);
    // Twice two misses, with an answer between.
    for _ in 0..2 {
        worker.deaf.store(true, Ordering::SeqCst);
        sleep(Duration::from_millis(2250)).await;
        worker.deaf.store(false, Ordering::SeqCst);
        sleep(Duration::from_millis(1000)).await;
    }
    assert_eq!(
        lines(&log),
        "start w, start w",
        "an answer starts the count again"
    );
}

fn with_limits(name: &'static str, log: &Log, poison: Option<Poison>) -> Worker {
    Worker::with_limits(
        name,
        log,
        SlotLimits {
            capacity: 4,
            attempts: 3,
            poison,
        },
    )
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_request_is_handed_out_again_up_to_its_attempts() {
    let log = Log::default();
    let worker = with_limits("w", &log, None);
    let spec = SupervisorSpec::new("s")
        .intensity(often())
        .child(worker.spec());
    let tree = Tree::new(());
    let mut events = tree.events.subscribe();
    let (_sup, _handle) = spec.start(tree).await.unwrap();
    let again = |deaths| Request::Again { deaths, mark: 5 };
    assert_eq!(
        worker.call(again(2)).await.unwrap(),
        5,
        "two deaths, then an answer"
    );
    assert_eq!(lines(&log), "start w, start w, start w");
    worker.told.store(0, Ordering::SeqCst);
    let error = worker.call(again(9)).await.unwrap_err();
    assert!(matches!(error, CallError::Exited(_)), "{error}");
    let letter = next(&mut events, "w", |change| match change {
        Change::DeadLetter(letter) => Some(letter.clone()),
        _ => None,
    })
    .await;
    assert_eq!((letter.deaths, letter.evicted), (3, false));
    assert_eq!(
        worker.told.load(Ordering::SeqCst),
        3,
        "handed out three times"
    );
    assert_eq!(worker.call(Request::Answer(1)).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_idempotent_is_handed_out_once() {
    let log = Log::default();
    let worker = with_limits("w", &log, None);
    let spec = SupervisorSpec::new("s")
        .intensity(often())
        .child(worker.spec());
    let (_sup, _handle) = spec.start(Tree::new(())).await.unwrap();
    worker.call(Request::Die(1)).await.unwrap_err();
    worker.call(Request::Answer(1)).await.unwrap();
    assert_eq!(lines(&log), "start w, start w");
}

#[tokio::test(start_paused = true)]
async fn a_poisonous_request_is_named_evicted_and_later_forgotten() {
    let log = Log::default();
    let poison = Poison {
        deaths: 2,
        forget_after: Duration::from_secs(60),
    };
    let worker = with_limits("w", &log, Some(poison));
    let spec = SupervisorSpec::new("s")
        .intensity(often())
        .child(worker.spec());
    let tree = Tree::new(());
    let mut events = tree.events.subscribe();
    let (_sup, _handle) = spec.start(tree).await.unwrap();
    worker.call(Request::Die(1)).await.unwrap_err();
    let third = {
        let waiting = worker.clone();
        // In the queue behind the one that makes it poison.
        let second = worker.call(Request::Die(1));
        let third = waiting.call(Request::Die(1));
        let (second, third) = tokio::join!(second, third);
        assert!(matches!(second, Err(CallError::Exited(_))));
        third.unwrap_err()
    };
    assert!(
        matches!(
            third,
            CallError::Poisonous {
                request: None,
                deaths: 2,
                ..
            }
        ),
        "{third}"
    );
    let letter = next(&mut events, "w", |change| match change {
        Change::DeadLetter(letter) => Some(letter.clone()),
        _ => None,
    })
    .await;
    assert_eq!((&*letter.message, letter.evicted), ("die", true));
    let refused = worker.call(Request::Die(1)).await.unwrap_err();
    assert!(matches!(
        refused,
        CallError::Poisonous {
            request: Some(Request::Die(1)),
            ..
        }
    ));
    worker.call(Request::Die(2)).await.unwrap_err();
    assert_eq!(worker.call(Request::Answer(1)).await.unwrap(), 1);
    sleep(Duration::from_secs(60)).await;
    let heard = worker.call(Request::Die(1)).await.unwrap_err();
    assert!(matches!(heard, CallError::Exited(_)), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn calls_wait_while_a_supervisor_is_replaced() {
    let log = Log::default();
    let worker = Worker::new("w", &log);
    let tools = SupervisorSpec::new("tools")
        .intensity(never())
        .child(worker.spec());
    let root = SupervisorSpec::new("root")
        .intensity(often())
        .supervisor(tools);
    let (root, handle) = root.start(Tree::new(())).await.unwrap();
    let (died, answered) = tokio::join!(
        worker.call(Request::Die(1)),
        worker.call(Request::Answer(2))
    );
    assert!(matches!(died, Err(CallError::Exited(_))));
    assert_eq!(
        answered.unwrap(),
        2,
        "by an instance of the next supervisor"
    );
    root.terminate_child("tools").await.unwrap();
    let refused = worker.call(Request::Answer(3)).await.unwrap_err();
    assert!(
        matches!(refused, CallError::Stopped { .. }),
        "nobody starts it again: {refused}"
    );
    root.restart_child("tools").await.unwrap();
    assert_eq!(worker.call(Request::Answer(4)).await.unwrap(), 4);
    root.stop(Duration::from_secs(1)).await.unwrap();
    assert_eq!(handle.await, TaskEnd::Finished(()));
    let refused = worker.call(Request::Answer(5)).await.unwrap_err();
    assert!(matches!(refused, CallError::Stopped { .. }), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_killed_supervisors_children_are_joined_before_their_successors_start() {
    let log = Log::default();
    let mut worker = Worker::new("w", &log);
    worker.drop_takes = Duration::from_millis(20);
    let tools = SupervisorSpec::new("tools").child(worker.spec());
    let root = SupervisorSpec::new("root")
        .intensity(often())
        .supervisor(tools.clone());
    let (root, handle) = root.start(Tree::new(())).await.unwrap();
    let before = tools.handle().unwrap().actor();
    let (in_flight, ()) = tokio::join!(worker.call(Request::Take(Duration::from_secs(5))), async {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        before.kill();
    });
    let Err(CallError::Exited(cause)) = in_flight else {
        panic!("in flight when the supervisor was killed");
    };
    assert_eq!(cause.kind(), ExitKind::Killed);
    // The worker itself panics should two incarnations of it be alive.
    assert_eq!(worker.call(Request::Answer(1)).await.unwrap(), 1);
    root.actor().kill();
    assert_eq!(handle.await, TaskEnd::Finished(()));
    assert_eq!(worker.live.load(Ordering::SeqCst), 0, "joined");
    let refused = worker.call(Request::Answer(2)).await.unwrap_err();
    assert!(matches!(refused, CallError::Stopped { .. }), "{refused}");
}

/// On threads, so that a killed worker can go on computing while its supervisor is replaced, and
/// that supervisors which are killed together end side by side.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_killed_supervisors_busy_child_is_waited_for() {
    let log = Log::default();
    let worker = Worker::new("w", &log);
    let tools = SupervisorSpec::new("tools").child(worker.spec());
    let root = SupervisorSpec::new("root")
        .intensity(often())
        .supervisor(tools.clone());
    let tree = Tree::new(());
    let mut events = tree.events.subscribe();
    let (root, handle) = root.start(tree).await.unwrap();
    let busy = Duration::from_millis(300);
    let spin = || async {
        let (spinning, began) = (worker.clone(), Instant::now());
        let in_flight = tokio::spawn(async move { spinning.call(Request::Spin(busy)).await });
        while worker.told.swap(0, Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        (in_flight, began)
    };
    let (in_flight, began) = spin().await;
    tools.handle().unwrap().actor().kill();
    // Killed or, on a busy machine, answered just before.
    drop(in_flight.await.unwrap());
    assert_eq!(worker.call(Request::Answer(1)).await.unwrap(), 1);
    assert!(began.elapsed() >= busy, "{:?}", began.elapsed());

    let (in_flight, began) = spin().await;
    root.actor().kill();
    assert_eq!(handle.await, TaskEnd::Finished(()));
    assert_eq!(worker.live.load(Ordering::SeqCst), 0, "joined");
    assert!(began.elapsed() >= busy, "{:?}", began.elapsed());
    drop(in_flight.await.unwrap());
    while let Some(received) = events.next().await {
        let Received::Event(event) = received else {
            continue;
        };
        let change = event.change;
        assert!(!matches!(change, Change::StartFailed { .. }), "{change:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_supervisor_killed_while_it_stops_leaves_no_child_behind() {
    let worker = Worker::new("w", &Log::default());
    let spec = SupervisorSpec::new("root").child(worker.spec());
    let (root, handle) = spec.start(Tree::new(())).await.unwrap();
    let (spinning, busy) = (worker.clone(), Duration::from_millis(300));
    let in_flight = tokio::spawn(async move { spinning.call(Request::Spin(busy)).await });
    while worker.told.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    root.actor().stop(None);
    while root.actor().get_status() < ActorStatus::Stopping {
        tokio::task::yield_now().await;
    }
    root.actor().kill();
    assert_eq!(handle.await, TaskEnd::Finished(()));
    assert_eq!(worker.live.load(Ordering::SeqCst), 0, "joined");
    drop(in_flight.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_supervisor_whose_parent_is_killed_while_it_starts_leaves_no_child_behind() {
    let worker = Worker::new("w", &Log::default());
    let mut slow = Worker::new("slow", &Log::default());
    slow.start_takes = Duration::from_millis(100);
    let tools = SupervisorSpec::new("tools")
        .child(worker.spec())
        .child(slow.spec());
    let root = SupervisorSpec::new("root");
    let (root, handle) = root.start(Tree::new(())).await.unwrap();
    let asked = root.clone();
    let starting = tokio::spawn(async move { asked.start_child(tools.into_child()).await });
    let (spinning, busy) = (worker.clone(), Duration::from_millis(300));
    let in_flight = tokio::spawn(async move { spinning.call(Request::Spin(busy)).await });
    while worker.told.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    root.actor().kill();
    assert_eq!(handle.await, TaskEnd::Finished(()));
    assert_eq!(worker.live.load(Ordering::SeqCst), 0, "joined");
    assert_eq!(slow.live.load(Ordering::SeqCst), 0, "joined");
    starting.await.unwrap().unwrap_err();
    drop(in_flight.await.unwrap());
}

/// Says which supervisor it is for, and does not come up.
struct Telling(mpsc::Sender<ActorCell>);

impl Child<()> for Telling {
    fn start(&self, context: StartContext<()>) -> BoxFuture<'_, Result<Started, ExitCause>> {
        Box::pin(async move {
            self.0.send(context.supervisor).await.unwrap();
            std::future::pending().await
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_supervisor_killed_while_it_starts_leaves_no_child_behind() {
    let worker = Worker::new("w", &Log::default());
    let (telling, mut told) = mpsc::channel(1);
    let tools = SupervisorSpec::new("tools")
        .child(worker.spec())
        .child(ChildSpec::new("telling", Telling(telling)));
    let root = SupervisorSpec::new("root");
    let (root, handle) = root.start(Tree::new(())).await.unwrap();
    let asked = root.clone();
    let starting = tokio::spawn(async move { asked.start_child(tools.into_child()).await });
    let half_up = told.recv().await.unwrap();
    let (spinning, busy) = (worker.clone(), Duration::from_millis(300));
    let in_flight = tokio::spawn(async move { spinning.call(Request::Spin(busy)).await });
    while worker.told.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    half_up.kill();
    starting.await.unwrap().unwrap_err();
    root.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(handle.await, TaskEnd::Finished(()));
    assert_eq!(worker.live.load(Ordering::SeqCst), 0, "joined");
    drop(in_flight.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_actor_left_behind_by_its_supervisor_takes_no_request() {
    let log = Log::default();
    let worker = Worker::new("w", &log);
    worker.slot.attach(1, {
        let (actor, _) = ractor::Actor::spawn(None, crate::worker::Idle, ())
            .await
            .unwrap();
        actor
    });
    worker.slot.exited(1, &Arc::new(ExitCause::Killed));
    let call = worker.call(Request::Answer(1));
    let taking = async {
        tokio::task::yield_now().await;
        worker.slot.take(1)
    };
    let (answer, taken) = tokio::join!(call, taking);
    assert_eq!(taken, None);
    assert!(matches!(answer, Err(CallError::Expired { .. })));
}

#[tokio::test(start_paused = true)]
async fn calls_refused_by_a_close_leave_their_room_behind() {
    let log = Log::default();
    let worker = Worker::new("w", &log);
    // Nobody serves yet: the mailbox of four fills up.
    let waiting: Vec<_> = (0..4)
        .map(|n| {
            let worker = worker.clone();
            tokio::spawn(async move { worker.call(Request::Answer(n)).await })
        })
        .collect();
    while worker.slot.waiting() < 4 {
        tokio::task::yield_now().await;
    }
    worker.slot.close(&Arc::new(ExitCause::Shutdown));
    for call in waiting {
        let refused = call.await.unwrap().unwrap_err();
        assert!(matches!(refused, CallError::Stopped { .. }), "{refused}");
    }
    let soon = Instant::now() + Duration::from_secs(1);
    let refused = worker.slot.try_call(Request::Answer(9), soon).await;
    assert!(
        matches!(refused, Err(CallError::Stopped { .. })),
        "not full"
    );
}

#[tokio::test(start_paused = true)]
async fn partitions_route_a_key_to_the_same_child_and_use_all_of_them() {
    let log = Log::default();
    const NAMES: [&str; 4] = ["p-0", "p-1", "p-2", "p-3"];
    let (spec, partitions) = Partitions::new("p", NonZeroUsize::new(4).unwrap(), |id, index| {
        assert_eq!(id.as_str(), NAMES[index]);
        let worker = Worker::new(NAMES[index], &log);
        (worker.spec(), worker)
    });
    let (sup, _handle) = spec
        .intensity(often())
        .strategy(Strategy::OneForOne)
        .start(Tree::new(()))
        .await
        .unwrap();
    assert_eq!(sup.count_children().await.unwrap().workers, 4);
    let mut used = [0; 4];
    for key in 0..1000 {
        let name = partitions.of(&key).name;
        assert_eq!(name, partitions.of(&key).name);
        used[NAMES.iter().position(|n| *n == name).unwrap()] += 1;
    }
    assert!(used.iter().all(|keys| *keys > 150), "{used:?}");
    partitions.of("a").call(Request::Die(1)).await.unwrap_err();
    assert_eq!(
        partitions.of("a").call(Request::Answer(3)).await.unwrap(),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn every_task_of_a_tree_is_registered_and_gone_after_it() {
    let log = Log::default();
    let (slow, probed) = (Worker::new("slow", &log), Worker::new("probed", &log));
    let probe = Probe {
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        misses: 1,
    };
    let spec = SupervisorSpec::new("s")
        .intensity(often())
        .child(slow.spec().backoff(Backoff::default()))
        .child(probed.spec().probe(probe));
    let tree = Tree::new(());
    let tasks = tree.tasks.clone();
    let (sup, handle) = spec.start(tree).await.unwrap();
    slow.call(Request::Die(1)).await.unwrap_err();
    while sup
        .which_child("slow")
        .await
        .unwrap()
        .unwrap()
        .actor
        .is_some()
    {
        tokio::task::yield_now().await;
    }
    let mut names: Vec<String> = tasks.tasks().into_iter().map(|t| t.name.into()).collect();
    names.sort();
    assert_eq!(names, ["probe", "supervisor", "timer"]);
    sup.stop(Duration::from_secs(1)).await.unwrap();
    handle.await;
    let left = tasks.shutdown(Duration::from_secs(1)).await;
    assert_eq!((left.aborted, left.left_behind), (0, 0));
    assert_eq!(tasks.counts().active, 0);
}

/// Notes which task each of its starts runs on; computes for as long as it is told before.
struct Tasked {
    takes: Duration,
    tasks: Arc<std::sync::Mutex<Vec<Option<tokio::task::Id>>>>,
    worker: Worker,
}

impl airssys_rt::Child<()> for Tasked {
    fn start(
        &self,
        context: airssys_rt::StartContext<()>,
    ) -> airssys_rt::BoxFuture<'_, Result<airssys_rt::Started, ExitCause>> {
        Box::pin(async move {
            let began = std::time::Instant::now();
            while began.elapsed() < self.takes {
                std::hint::spin_loop();
            }
            self.tasks.lock().unwrap().push(tokio::task::try_id());
            airssys_rt::Child::start(&self.worker, context).await
        })
    }

    fn exited(
        &self,
        id: &airssys_rt::ChildId,
        generation: u64,
        cause: &Arc<ExitCause>,
    ) -> Option<airssys_rt::DeadLetter> {
        airssys_rt::Child::<()>::exited(&self.worker, id, generation, cause)
    }
}

/// The tasks of the second, third and fourth start.
async fn tasks_of_restarts(takes: Duration) -> Vec<Option<tokio::task::Id>> {
    let log = Log::default();
    let worker = Worker::new("w", &log);
    let tasks = Arc::default();
    let child = Tasked {
        takes,
        tasks: Arc::clone(&tasks),
        worker: worker.clone(),
    };
    let spec = SupervisorSpec::new("s")
        .intensity(often())
        .child(airssys_rt::ChildSpec::new("w", child));
    let (_sup, _handle) = spec.start(Tree::new(())).await.unwrap();
    for _ in 0..3 {
        worker.call(Request::Die(1)).await.unwrap_err();
        worker.call(Request::Answer(1)).await.unwrap();
    }
    let tasks = tasks.lock().unwrap();
    tasks[1..].to_vec()
}

#[tokio::test]
async fn a_child_whose_start_computes_for_long_is_started_beside_its_supervisor_from_then_on() {
    let fast = tasks_of_restarts(Duration::ZERO).await;
    assert!(
        fast.iter().all(|task| *task == fast[0]),
        "on the supervisor's own"
    );
    let slow = tasks_of_restarts(Duration::from_millis(5)).await;
    assert!(slow[0] != slow[1] && slow[1] != slow[2], "{slow:?}");
}
