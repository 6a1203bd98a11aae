//! The task registry, mostly under paused time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test that meets something unexpected should fail there"
)]

use std::future::pending;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use airssys_rt::{
    DEFAULT_TASK_TIMEOUT, TASK_ABORT_GRACE, TASK_SWEEP, TaskCounts, TaskEnd, TaskLimit,
    TaskRegistry, TasksLeft,
};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

const TASKS: u64 = 10_000;
const GRACE: Duration = Duration::from_secs(1);

/// Counts those not dropped yet.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn other_runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn paused_runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

/// Tasks of the runtime besides the test itself, which is none.
fn tasks_alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn each_end_is_typed_and_counted() {
    let tasks = TaskRegistry::new();
    let finished = tasks.spawn("finishes", async { 7 }).unwrap();
    let late = tasks.spawn("is late", pending::<()>()).unwrap();
    let panicked = tasks.spawn("panics", async { panic!("at once") }).unwrap();
    let aborted = tasks.spawn("is aborted", pending::<()>()).unwrap();
    let began = Instant::now();
    assert_eq!(finished.await, TaskEnd::Finished(7));
    aborted.abort();
    assert_eq!(aborted.await, TaskEnd::Aborted);
    let message = String::from("at once");
    assert_eq!(panicked.await, TaskEnd::<()>::Panicked { message });
    assert_eq!(late.await, TaskEnd::TimedOut);
    assert_eq!(began.elapsed(), DEFAULT_TASK_TIMEOUT);
    let expected = TaskCounts {
        active: 0,
        total: 4,
        finished: 1,
        timed_out: 1,
        panicked: 1,
        aborted: 1,
    };
    assert_eq!(tasks.counts(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_task_has_the_limit_it_was_given() {
    let tasks = TaskRegistry::new();
    let began = Instant::now();
    let short = TaskLimit::Timeout(Duration::from_millis(10));
    let short = tasks.spawn_within(short, "short", pending::<()>()).unwrap();
    let day = Duration::from_secs(60 * 60 * 24);
    let long = tasks
        .spawn_within(TaskLimit::Unlimited, "long", sleep(day))
        .unwrap();
    assert_eq!(short.await, TaskEnd::TimedOut);
    assert_eq!(began.elapsed(), Duration::from_millis(10));
    assert_eq!(long.await, TaskEnd::Finished(()));
    assert_eq!(began.elapsed(), day);
}

#[tokio::test(start_paused = true)]
async fn tasks_are_listed_with_name_and_age() {
    let tasks = TaskRegistry::new();
    let old = tasks.spawn("old", pending::<()>()).unwrap();
    sleep(Duration::from_secs(2)).await;
    let _young = tasks
        .spawn(format!("young {}", 1), pending::<()>())
        .unwrap();
    let list: Vec<_> = tasks.tasks().into_iter().map(|t| (t.name, t.age)).collect();
    let expected = [
        ("old".into(), Duration::from_secs(2)),
        ("young 1".into(), Duration::ZERO),
    ];
    assert_eq!(list, expected);
    old.abort();
    old.await;
    assert_eq!(tasks.tasks().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_goes_on_without_its_handle() {
    let tasks = TaskRegistry::new();
    let (done, finished) = oneshot::channel();
    let task = async {
        sleep(Duration::from_secs(1)).await;
        done.send(()).unwrap();
    };
    drop(tasks.spawn("alone", task).unwrap());
    finished.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_tasks_leave_nothing_on_the_list() {
    let tasks = TaskRegistry::new();
    let mut handles = Vec::new();
    for number in 0..TASKS {
        let task = async move {
            for _ in 0..number % 3 {
                tokio::task::yield_now().await;
            }
        };
        handles.push(tasks.spawn("one of many", task).unwrap());
    }
    for handle in handles {
        assert_eq!(handle.await, TaskEnd::Finished(()));
    }
    assert_eq!(tasks.shutdown(GRACE).await, TasksLeft::default());
    let counts = tasks.counts();
    assert_eq!(
        (counts.active, counts.total, counts.finished),
        (0, TASKS, TASKS)
    );
    assert_eq!(tasks.tasks(), []);
}

#[test]
fn the_sweep_takes_overdue_tasks_off_the_list() {
    // Nobody drives this runtime once the task has begun, so neither its timer nor the sweeper,
    // which is there as well, does anything.
    let starved = other_runtime();
    let tasks = TaskRegistry::new();
    // Long enough for a busy machine to come to the first look.
    let time = Duration::from_millis(500);
    let limit = TaskLimit::Timeout(time);
    let mut handle = None;
    starved.block_on(async {
        handle = tasks.spawn_within(limit, "starved", pending::<()>()).ok();
        tokio::task::yield_now().await;
    });
    let handle = handle.unwrap();
    paused_runtime().block_on(async {
        assert_eq!(tasks.sweep(), 0, "not overdue yet");
        assert_eq!(tasks.counts().active, 1);
        sleep(TASK_SWEEP).await;
        assert_eq!(tasks.sweep(), 1);
    });
    assert_eq!((tasks.counts().active, tasks.counts().timed_out), (0, 1));
    assert_eq!(tasks.tasks(), []);

    // Its end is counted once, and as what it was.
    std::thread::park_timeout(time);
    assert_eq!(starved.block_on(handle), TaskEnd::TimedOut);
    let counts = tasks.counts();
    assert_eq!((counts.total, counts.timed_out, counts.aborted), (1, 1, 0));
}

#[test]
fn the_sweep_happens_by_itself() {
    let (starved, driven) = (other_runtime(), paused_runtime());
    let tasks = TaskRegistry::new();
    driven.block_on(async {
        let _ours = tasks.spawn("ours", pending::<()>()).unwrap();
        let limit = TaskLimit::Timeout(Duration::from_millis(1));
        let _theirs = {
            let _entered = starved.enter();
            tasks
                .spawn_within(limit, "theirs", pending::<()>())
                .unwrap()
        };
        assert_eq!(tasks.counts().active, 2);
        sleep(TASK_SWEEP * 2).await;
        assert_eq!((tasks.counts().active, tasks.counts().timed_out), (1, 1));
    });
}

#[test]
fn a_runtime_takes_its_tasks_off_the_list_when_it_goes() {
    let tasks = TaskRegistry::new();
    let runtime = other_runtime();
    let handle = {
        let _entered = runtime.enter();
        tasks.spawn("left", pending::<()>()).unwrap()
    };
    drop(runtime);
    assert_eq!((tasks.counts().active, tasks.counts().aborted), (0, 1));
    other_runtime().block_on(async {
        assert_eq!(handle.await, TaskEnd::Aborted);
        // The sweeper went with the first runtime; this one has its own.
        let task = tasks.spawn("next", tokio::task::yield_now()).unwrap();
        assert_eq!(tasks_alive(), 2, "the task and a sweeper");
        task.await;
    });
}

#[tokio::test(start_paused = true)]
async fn no_sweeper_is_left_without_a_task_or_a_registry() {
    let tasks = TaskRegistry::new();
    assert_eq!(tasks_alive(), 0);
    tasks.spawn("short", async {}).unwrap().await;
    sleep(TASK_SWEEP * 2).await;
    assert_eq!(tasks_alive(), 0, "the list is empty");

    let task = tasks.spawn("long", sleep(TASK_SWEEP * 4)).unwrap();
    sleep(TASK_SWEEP * 3).await;
    assert_eq!(tasks_alive(), 2, "the sweeper stays for the task");
    task.await;
    tasks.shutdown(GRACE).await;
    assert_eq!(tasks_alive(), 0, "the registry is shut down");

    let tasks = TaskRegistry::new();
    let task = tasks.spawn("orphan", pending::<()>()).unwrap();
    assert_eq!(tasks_alive(), 2);
    drop(tasks);
    assert_eq!(task.await, TaskEnd::Aborted);
    tokio::task::yield_now().await;
    assert_eq!(tasks_alive(), 0, "the registry is gone");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_then_aborts_then_joins() {
    let (tasks, alive) = (TaskRegistry::new(), Arc::default());
    let in_time = Alive::new(&alive);
    let in_time = tasks.spawn("in time", async move {
        let _in_time = in_time;
        sleep(GRACE / 2).await;
    });
    let endless = Alive::new(&alive);
    let endless = tasks.spawn("endless", async move {
        let _endless = endless;
        pending::<()>().await;
    });
    let began = Instant::now();
    let left = tasks.shutdown(GRACE).await;
    assert_eq!(began.elapsed(), GRACE);
    let expected = TasksLeft {
        aborted: 1,
        left_behind: 0,
    };
    assert_eq!(left, expected);
    assert_eq!(alive.load(Ordering::SeqCst), 0, "joined");
    assert_eq!(in_time.unwrap().await, TaskEnd::Finished(()));
    assert_eq!(endless.unwrap().await, TaskEnd::Aborted);
    assert_eq!(tasks_alive(), 0);
}

#[tokio::test]
async fn a_registry_that_is_shut_down_hands_the_future_back() {
    let tasks = TaskRegistry::new();
    tasks.shutdown(Duration::MAX).await;
    let refused = tasks.spawn("late", async { 3 }).unwrap_err();
    assert_eq!(refused.name, "late");
    assert_eq!(refused.future.await, 3);
    assert_eq!(tasks.counts(), TaskCounts::default());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_although_a_task_never_yields() {
    let (tasks, stop) = (TaskRegistry::new(), Arc::new(AtomicBool::new(false)));
    let elsewhere = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let (began, begun) = oneshot::channel();
    let spin = {
        let _entered = elsewhere.enter();
        let stop = stop.clone();
        tasks.spawn("spins", async move {
            began.send(()).unwrap();
            while !stop.load(Ordering::SeqCst) {
                std::hint::spin_loop();
            }
        })
    };
    begun.await.unwrap();
    let start = Instant::now();
    let left = tasks.shutdown(GRACE).await;
    stop.store(true, Ordering::SeqCst);
    let expected = TasksLeft {
        aborted: 1,
        left_behind: 1,
    };
    assert_eq!(left, expected);
    assert_eq!(
        start.elapsed(),
        GRACE + TASK_ABORT_GRACE * 2,
        "the sweeper is stuck there too"
    );
    spin.unwrap().await;
    elsewhere.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_task_slips_through_a_shutdown() {
    for _ in 0..200 {
        let (tasks, alive) = (TaskRegistry::new(), Arc::default());
        let spawner = tokio::task::spawn_blocking({
            let (tasks, alive) = (tasks.clone(), Arc::clone(&alive));
            move || {
                loop {
                    let one = Alive::new(&alive);
                    let task = async move {
                        let _one = one;
                        pending::<()>().await;
                    };
                    if tasks.spawn("racing", task).is_err() {
                        return;
                    }
                }
            }
        });
        while tasks.counts().total == 0 {
            std::hint::spin_loop();
        }
        let left = tasks.shutdown(Duration::ZERO).await;
        spawner.await.unwrap();
        assert_eq!((left.left_behind, alive.load(Ordering::SeqCst)), (0, 0));
    }
}

#[tokio::test]
async fn a_task_runs_in_a_span_of_its_name() {
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);
    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let tasks = TaskRegistry::new();
    let task = async { tracing::info!("inside") };
    tasks.spawn("named task", task).unwrap().await;
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(
        text.contains("task{name=named task}") && text.contains("inside"),
        "{text}"
    );
}
