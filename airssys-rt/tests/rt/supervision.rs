//! The supervisor and its slots.

use std::sync::atomic::Ordering;
use std::time::Duration;

use airssys_rt::{
    CallError, Change, ChildState, ExitCause, Intensity, Received, Refusal, Restart, Shutdown,
    Slot, Strategy, SupervisorError, SupervisorMessage, SupervisorSpec, TaskEnd, Tree,
};
use tokio::time::{Instant, sleep};

use crate::worker::{Log, Request, Worker, lines, often};

#[tokio::test(start_paused = true)]
async fn queued_calls_survive_a_restart() {
    let log = Log::default();
    let worker = Worker::new("w", &log);
    let spec = SupervisorSpec::new("s")
        .intensity(often())
        .child(worker.spec());
    let (sup, handle) = spec.start(Tree::new(())).await.unwrap();
    let (killer, queued, second) = tokio::join!(
        worker.call(Request::Die(7)),
        worker.call(Request::Answer(1)),
        worker.call(Request::Answer(2)),
    );
    let Err(CallError::Exited(cause)) = killer else {
        panic!("{killer:?}");
    };
    assert!(
        matches!(*cause, ExitCause::OutOfFuel { limit: 7 }),
        "the typed cause"
    );
    assert_eq!((queued.unwrap(), second.unwrap()), (1, 2));
    sup.actor().stop(None);
    assert_eq!(handle.await, TaskEnd::Finished(()));
}

#[tokio::test(start_paused = true)]
async fn a_panicking_actor_is_replaced_and_its_caller_told() {
    let worker = Worker::new("w", &Log::default());
    let spec = SupervisorSpec::new("s")
        .intensity(often())
        .child(worker.spec());
    let (_sup, _handle) = spec.start(Tree::new(())).await.unwrap();
    let died = worker.call(Request::Panic).await;
    assert!(matches!(died, Err(CallError::Exited(_))), "{died:?}");
    assert_eq!(worker.call(Request::Answer(3)).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn full_mailbox_hands_the_message_back() {
    let slot: Slot<Request, u32> = Slot::new(2);
    let later = Instant::now() + Duration::from_secs(5);
    let (a, b, c) = tokio::join!(
        slot.try_call(Request::Answer(1), later),
        slot.try_call(Request::Answer(2), later),
        slot.try_call(Request::Answer(3), later),
    );
    assert!(
        matches!(a, Err(CallError::Expired { .. })),
        "nobody serves it"
    );
    assert!(matches!(b, Err(CallError::Expired { .. })));
    let Err(CallError::Full {
        request,
        capacity: 2,
    }) = c
    else {
        panic!("{c:?}");
    };
    assert_eq!(request, Request::Answer(3));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_gets_room_when_one_leaves() {
    let worker = Worker::new("w", &Log::default());
    let (_sup, _handle) = SupervisorSpec::new("s")
        .child(worker.spec())
        .start(Tree::new(()))
        .await
        .unwrap();
    let calls = (0..100).map(|n| {
        let worker = worker.clone();
        tokio::spawn(async move { worker.call(Request::Answer(n)).await })
    });
    for (n, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap() as usize, n);
    }
    assert_eq!(worker.slot.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn every_call_ends() {
    let worker = Worker::new("w", &Log::default());
    let (_sup, _handle) = SupervisorSpec::new("s")
        .child(worker.spec())
        .start(Tree::new(()))
        .await
        .unwrap();
    let began = Instant::now();
    let deadline = began + Duration::from_secs(2);
    let slow = worker
        .slot
        .call(Request::Take(Duration::from_secs(3600)), deadline);
    let behind = worker.slot.call(Request::Answer(1), deadline);
    let (slow, behind) = tokio::join!(slow, behind);
    assert!(matches!(slow, Err(CallError::Expired { .. })), "{slow:?}");
    assert!(
        matches!(behind, Err(CallError::Expired { .. })),
        "{behind:?}"
    );
    assert!(began.elapsed() <= Duration::from_secs(2) + airssys_rt::DEADLINE_GRACE * 2);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_call_is_never_carried_out() {
    let worker = Worker::new("w", &Log::default());
    let (_sup, _handle) = SupervisorSpec::new("s")
        .child(worker.spec())
        .start(Tree::new(()))
        .await
        .unwrap();
    let busy = tokio::spawn({
        let worker = worker.clone();
        async move { worker.call(Request::Take(Duration::from_secs(1))).await }
    });
    tokio::task::yield_now().await;
    let dropped = worker.call(Request::Die(1));
    assert!(
        tokio::time::timeout(Duration::from_millis(1), dropped)
            .await
            .is_err()
    );
    busy.await.unwrap().unwrap();
    assert_eq!(
        worker.call(Request::Answer(5)).await.unwrap(),
        5,
        "nobody died of it"
    );
}

#[tokio::test(start_paused = true)]
async fn children_start_in_order_and_stop_in_reverse() {
    let log = Log::default();
    let spec = ["a", "b", "c"]
        .into_iter()
        .fold(SupervisorSpec::new("s"), |spec, name| {
            spec.child(Worker::new(name, &log).spec())
        });
    let nested = SupervisorSpec::new("n").child(Worker::new("d", &log).spec());
    let (sup, handle) = spec.supervisor(nested).start(Tree::new(())).await.unwrap();
    assert_eq!(lines(&log), "start a, start b, start c, start d");
    sup.actor().stop(None);
    assert_eq!(handle.await, TaskEnd::Finished(()));
    assert_eq!(lines(&log), "stop d, stop c, stop b, stop a");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_start_takes_the_started_ones_down_in_reverse() {
    let log = Log::default();
    let bad = Worker::new("c", &log);
    bad.fail_start.store(true, Ordering::SeqCst);
    let spec = SupervisorSpec::new("s")
        .child(Worker::new("a", &log).spec())
        .child(Worker::new("b", &log).spec())
        .child(bad.spec());
    let tree = Tree::new(());
    let mut stream = tree.events.subscribe();
    let cause = spec.start(tree).await.unwrap_err();
    let ExitCause::ChildStart { child, cause } = cause else {
        panic!("{cause}");
    };
    assert_eq!(child.as_str(), "c");
    assert!(matches!(*cause, ExitCause::OutOfFuel { .. }));
    assert_eq!(lines(&log), "start a, start b, stop b, stop a");
    let mut failed = Vec::new();
    while let Some(Received::Event(event)) = stream.next().await {
        if let Change::StartFailed { .. } = event.change {
            failed.push(event.child.to_string());
        }
    }
    assert_eq!(failed, ["c"]);
}

#[tokio::test(start_paused = true)]
async fn one_for_all_restarts_every_sibling_in_order() {
    let log = Log::default();
    let workers = ["a", "b", "c"].map(|name| Worker::new(name, &log));
    let spec = SupervisorSpec::new("s")
        .strategy(Strategy::OneForAll)
        .intensity(often());
    let spec = workers
        .iter()
        .fold(spec, |spec, worker| spec.child(worker.spec()));
    let (_sup, _handle) = spec.start(Tree::new(())).await.unwrap();
    lines(&log);
    workers[1].call(Request::Die(1)).await.unwrap_err();
    for worker in &workers {
        assert_eq!(worker.call(Request::Answer(9)).await.unwrap(), 9);
    }
    assert_eq!(lines(&log), "stop c, stop a, start a, start b, start c");
}

#[tokio::test(start_paused = true)]
async fn intensity_ends_the_supervisor_and_the_parent_starts_it_again() {
    let log = Log::default();
    let worker = Worker::new("w", &log);
    let nested = SupervisorSpec::new("n")
        .intensity(Intensity {
            restarts: 1,
            period: Duration::from_secs(60),
        })
        .child(worker.spec());
    let nested_handle = nested.clone();
    let tree = Tree::new(());
    let mut stream = tree.events.subscribe();
    let root = SupervisorSpec::new("root").supervisor(nested);
    let (root, _handle) = root.start(tree).await.unwrap();
    worker.call(Request::Die(1)).await.unwrap_err();
    worker.call(Request::Die(2)).await.unwrap_err();
    let mut escalated = None;
    while escalated.is_none() {
        if let Some(Received::Event(event)) = stream.next().await
            && let Change::Escalated { cause } = event.change
        {
            escalated = Some(cause);
        }
    }
    assert!(matches!(
        &*escalated.unwrap(),
        ExitCause::Escalated { intensity: 1, .. }
    ));
    // Calls are refused while the nested supervisor is down, and answered by its successor.
    loop {
        match worker.call(Request::Answer(4)).await {
            Ok(answer) => break assert_eq!(answer, 4),
            Err(CallError::Stopped { .. }) => sleep(Duration::from_millis(1)).await,
            Err(other) => panic!("{other:?}"),
        }
    }
    let status = root.which_child("n").await.unwrap().unwrap();
    assert_eq!((status.generation, status.state), (2, ChildState::Running));
    let count = nested_handle
        .handle()
        .unwrap()
        .count_children()
        .await
        .unwrap();
    assert_eq!((count.specs, count.active, count.workers), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_root_that_gives_up_tells_why_and_leaves_nothing_running() {
    let log = Log::default();
    let worker = Worker::new("w", &log);
    let sibling = Worker::new("v", &log);
    let spec = SupervisorSpec::new("root")
        .intensity(Intensity {
            restarts: 0,
            period: Duration::from_secs(5),
        })
        .child(worker.spec())
        .child(sibling.spec());
    let (sup, handle) = spec.start(Tree::new(())).await.unwrap();
    worker.call(Request::Die(1)).await.unwrap_err();
    assert_eq!(handle.await, TaskEnd::Finished(()));
    assert!(matches!(
        &*sup.gave_up().unwrap(),
        ExitCause::Escalated { .. }
    ));
    assert_eq!(
        worker.live.load(Ordering::SeqCst) + sibling.live.load(Ordering::SeqCst),
        0
    );
    assert!(matches!(
        sibling.call(Request::Answer(1)).await,
        Err(CallError::Stopped {
            request: Some(Request::Answer(1)),
            ..
        })
    ));
    assert!(matches!(
        sup.which_children().await,
        Err(SupervisorError::Gone(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_does_not_hold_up_a_siblings_restart() {
    let log = Log::default();
    let worker = Worker::new("w", &log);
    let mut slow = Worker::new("slow", &log);
    slow.start_takes = Duration::from_secs(30);
    let spec = SupervisorSpec::new("s")
        .intensity(often())
        .child(worker.spec());
    let (sup, _handle) = spec.start(Tree::new(())).await.unwrap();
    let starting = tokio::spawn({
        let (sup, spec) = (sup.clone(), slow.spec());
        async move { sup.start_child(spec).await }
    });
    tokio::task::yield_now().await;
    let began = Instant::now();
    worker.call(Request::Die(1)).await.unwrap_err();
    assert_eq!(worker.call(Request::Answer(1)).await.unwrap(), 1);
    assert!(began.elapsed() < Duration::from_secs(1));
    let status = sup.which_child("slow").await.unwrap().unwrap();
    assert_eq!(status.state, ChildState::Starting);
    starting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_too_long_is_given_up() {
    let mut slow = Worker::new("slow", &Log::default());
    slow.start_takes = airssys_rt::START_LIMIT * 2;
    let (sup, _handle) = SupervisorSpec::new("s").start(Tree::new(())).await.unwrap();
    let Err(SupervisorError::Refused(Refusal::StartFailed(_, cause))) =
        sup.start_child(slow.spec()).await
    else {
        panic!("it started");
    };
    assert!(matches!(*cause, ExitCause::Deadline { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_child_is_killed_when_its_shutdown_time_is_over() {
    let log = Log::default();
    let worker = Worker::new("w", &log);
    let spec = worker
        .spec()
        .shutdown(Shutdown::Timeout(Duration::from_secs(2)));
    let (sup, _handle) = SupervisorSpec::new("s")
        .child(spec)
        .start(Tree::new(()))
        .await
        .unwrap();
    let busy = tokio::spawn({
        let worker = worker.clone();
        async move { worker.call(Request::Take(Duration::from_secs(8))).await }
    });
    tokio::task::yield_now().await;
    let began = Instant::now();
    sup.terminate_child("w").await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 2);
    let Err(CallError::Exited(cause)) = busy.await.unwrap() else {
        panic!("the call in flight was answered");
    };
    assert!(matches!(*cause, ExitCause::Killed));
    assert_eq!(
        worker.live.load(Ordering::SeqCst),
        0,
        "joined, its state dropped"
    );
    assert!(matches!(
        worker.call(Request::Answer(1)).await,
        Err(CallError::Stopped { .. })
    ));
    sup.restart_child("w").await.unwrap();
    assert_eq!(worker.call(Request::Answer(1)).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_ends_while_it_is_being_stopped_keeps_its_own_reason() {
    let worker = Worker::new("w", &Log::default());
    let tree = Tree::new(());
    let mut stream = tree.events.subscribe();
    let (sup, _handle) = SupervisorSpec::new("s")
        .child(worker.spec())
        .start(tree)
        .await
        .unwrap();
    let (died, stopped) = tokio::join!(worker.call(Request::Die(9)), sup.terminate_child("w"));
    stopped.unwrap();
    assert!(died.is_err());
    loop {
        if let Some(Received::Event(event)) = stream.next().await
            && let Change::Exited { cause } = event.change
        {
            assert!(!matches!(*cause, ExitCause::Killed), "{cause}");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_obeys_plain_ractor_messages() {
    let log = Log::default();
    let worker = Worker::new("w", &log);
    let (sup, handle) = SupervisorSpec::new("s").start(Tree::new(())).await.unwrap();
    ractor::call!(sup.actor(), SupervisorMessage::StartChild, worker.spec())
        .unwrap()
        .unwrap();
    assert_eq!(worker.call(Request::Answer(2)).await.unwrap(), 2);
    let children = ractor::call!(sup.actor(), SupervisorMessage::WhichChildren).unwrap();
    assert_eq!(children.len(), 1);
    let refused = ractor::call!(sup.actor(), SupervisorMessage::StartChild, worker.spec()).unwrap();
    assert!(matches!(refused, Err(Refusal::AlreadyStarted(_))));
    sup.actor().send_message(SupervisorMessage::Stop).unwrap();
    assert_eq!(handle.await, TaskEnd::Finished(()));
    assert_eq!(lines(&log), "start w, stop w");
}

#[tokio::test(start_paused = true)]
async fn a_transient_child_that_stops_by_itself_stays_down() {
    let worker = Worker::new("w", &Log::default());
    let spec = worker.spec().restart(Restart::Transient);
    let (sup, _handle) = SupervisorSpec::new("s")
        .intensity(often())
        .child(spec)
        .start(Tree::new(()))
        .await
        .unwrap();
    worker.call(Request::Die(1)).await.unwrap_err();
    assert_eq!(
        worker.call(Request::Answer(1)).await.unwrap(),
        1,
        "abnormal: restarted"
    );
    sup.terminate_child("w").await.unwrap();
    assert!(matches!(
        worker.call(Request::Answer(1)).await,
        Err(CallError::Stopped { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_lags_is_told_how_much_it_missed() {
    let worker = Worker::new("w", &Log::default());
    let tree = Tree::new(());
    let mut stream = tree.events.subscribe();
    let intensity = Intensity {
        restarts: 100_000,
        period: Duration::from_secs(1),
    };
    let (_sup, _handle) = SupervisorSpec::new("s")
        .intensity(intensity)
        .child(worker.spec())
        .start(tree)
        .await
        .unwrap();
    for _ in 0..airssys_rt::EVENT_BUFFER {
        worker.call(Request::Die(1)).await.unwrap_err();
    }
    worker.call(Request::Answer(1)).await.unwrap();
    assert!(matches!(stream.next().await, Some(Received::Lagged(lost)) if lost > 0));
}

/// ractor reports a failure before it drops the actor's state; the worker asserts that it is alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_generation_starts_after_the_state_of_the_last_is_dropped() {
    let log = Log::default();
    let mut worker = Worker::new("w", &log);
    worker.drop_takes = Duration::from_millis(20);
    let spec = SupervisorSpec::new("s")
        .intensity(often())
        .child(worker.spec());
    let (sup, handle) = spec.start(Tree::new(())).await.unwrap();
    for _ in 0..5 {
        worker.call(Request::Die(1)).await.unwrap_err();
        assert_eq!(worker.call(Request::Answer(1)).await.unwrap(), 1);
    }
    let status = sup.which_child("w").await.unwrap().unwrap();
    assert_eq!(status.generation, 6, "one start for each death");
    sup.actor().stop(None);
    assert_eq!(handle.await, TaskEnd::Finished(()));
}

#[tokio::test(start_paused = true)]
async fn a_child_started_while_its_namesake_goes_with_its_group_gets_its_own_spec() {
    let log = Log::default();
    let (old, new) = (Worker::new("a", &log), Worker::new("a", &log));
    let other = Worker::new("b", &log);
    let (sup, _handle) = SupervisorSpec::new("s")
        .strategy(Strategy::OneForAll)
        .intensity(often())
        .child(old.spec().restart(Restart::Temporary))
        .child(other.spec())
        .start(Tree::new(()))
        .await
        .unwrap();
    let busy = old.call(Request::Take(Duration::from_secs(3)));
    let dying = other.call(Request::Die(1));
    let started = async {
        sleep(Duration::from_secs(1)).await;
        sup.start_child(new.spec()).await
    };
    let (busy, dying, started) = tokio::join!(busy, dying, started);
    busy.unwrap();
    dying.unwrap_err();
    started.unwrap();
    assert_eq!(new.call(Request::Answer(8)).await.unwrap(), 8);
    assert!(old.call(Request::Answer(8)).await.is_err());
}
