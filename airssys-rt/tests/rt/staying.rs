//! Actors that stay with their slot between requests.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use airssys_rt::{CallError, Next, Slot, Work};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, sleep};

const GENERATION: u64 = 1;

struct Number(u32);

impl airssys_rt::Request for Number {
    fn name(&self) -> Arc<str> {
        Arc::from("number")
    }
}

#[derive(Clone)]
struct Staying {
    slot: Arc<Slot<Number, u32>>,
    /// `Work` messages it was given.
    entered: Arc<AtomicUsize>,
    nudged: Arc<AtomicUsize>,
    /// It is to leave at the next nudge.
    leaves: Arc<AtomicBool>,
}

impl Actor for Staying {
    type Msg = Work;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Work>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Work>,
        Work: Work,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.entered.fetch_add(1, Ordering::SeqCst);
        loop {
            match poll_fn(|context| self.slot.poll_next(GENERATION, context)).await {
                Next::Request(Number(n), turn) => {
                    assert!(turn.taken <= Instant::now());
                    if n == 0 {
                        sleep(Duration::from_secs(3600)).await;
                    }
                    self.slot.answer(GENERATION, n + 1);
                }
                Next::Nudged => {
                    self.nudged.fetch_add(1, Ordering::SeqCst);
                    if self.leaves.swap(false, Ordering::SeqCst) {
                        self.slot.leave(GENERATION);
                        return Ok(());
                    }
                }
            }
        }
    }
}

impl Staying {
    fn new() -> Self {
        Self {
            slot: Arc::new(Slot::new(2_000)),
            entered: Arc::default(),
            nudged: Arc::default(),
            leaves: Arc::default(),
        }
    }

    async fn start() -> (Self, ActorRef<Work>) {
        let staying = Self::new();
        let (actor, _) = Actor::spawn(None, staying.clone(), ()).await.unwrap();
        staying.slot.attach(GENERATION, actor.clone());
        (staying, actor)
    }

    async fn call(&self, n: u32) -> Result<u32, CallError<Number>> {
        let deadline = Instant::now() + Duration::from_secs(10);
        self.slot.call(Number(n), deadline).await
    }

    async fn nudges(&self, count: usize) {
        while self.nudged.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }

    fn entered(&self) -> usize {
        self.entered.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn an_actor_that_stays_is_given_one_message_for_all_requests() {
    let (staying, _) = Staying::start().await;
    for n in 1..100 {
        assert_eq!(staying.call(n).await.unwrap(), n + 1);
    }
    let together: Vec<_> = (1..100)
        .map(|n| {
            let staying = staying.clone();
            tokio::spawn(async move { staying.call(n).await })
        })
        .collect();
    for (n, call) in (1..100).zip(together) {
        assert_eq!(call.await.unwrap().unwrap(), n + 1);
    }
    assert_eq!(staying.entered(), 1);
}

#[tokio::test]
async fn a_nudge_reaches_an_actor_wherever_it_is() {
    let (staying, _) = Staying::start().await;
    // It has not come yet: a message brings it.
    assert!(staying.slot.nudge(GENERATION));
    staying.nudges(1).await;
    // It waits.
    assert!(staying.slot.nudge(GENERATION));
    staying.nudges(2).await;
    // It works, and looks up before the next request.
    let busy = tokio::spawn({
        let staying = staying.clone();
        async move { staying.call(5).await }
    });
    assert!(staying.slot.nudge(GENERATION));
    staying.nudges(3).await;
    assert_eq!(busy.await.unwrap().unwrap(), 6);
    assert_eq!(staying.entered(), 1);
    assert!(!staying.slot.nudge(GENERATION + 1), "no such incarnation");
}

#[tokio::test]
async fn an_actor_that_has_left_is_told_by_message_again() {
    let (staying, _) = Staying::start().await;
    assert_eq!(staying.call(1).await.unwrap(), 2);
    staying.leaves.store(true, Ordering::SeqCst);
    // What waits when it leaves is announced at once.
    let waiting = staying.call(7);
    let leaving = async { staying.slot.nudge(GENERATION) };
    let (left, answer) = tokio::join!(leaving, waiting);
    assert!(left);
    assert_eq!(answer.unwrap(), 8);
    assert_eq!(staying.entered(), 2);
}

#[tokio::test]
async fn an_actor_that_stays_hears_a_kill() {
    let (staying, actor) = Staying::start().await;
    assert_eq!(staying.call(1).await.unwrap(), 2);
    actor
        .kill_and_wait(Some(Duration::from_secs(10)))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_actor_that_never_runs_out_of_requests_leaves_its_worker_to_others() {
    let (staying, _) = Staying::start().await;
    assert_eq!(staying.call(1).await.unwrap(), 2);
    let all: Vec<_> = (0..1_000)
        .map(|n| {
            let staying = staying.clone();
            tokio::spawn(async move { staying.call(n + 1).await })
        })
        .collect();
    while staying.slot.waiting() < 900 {
        tokio::task::yield_now().await;
    }
    // One worker: this task runs again before all of them have been answered.
    tokio::task::yield_now().await;
    let left = staying.slot.waiting();
    assert!(left > 0, "{left}");
    for call in all {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn each_call_ends_by_its_own_deadline_whatever_the_one_before_had() {
    let (staying, _) = Staying::start().await;
    for (seconds, request) in [(600, 1), (5, 2), (60, 3), (1, 0)] {
        let began = Instant::now();
        let limit = Duration::from_secs(seconds);
        let answer = staying.slot.call(Number(request), began + limit).await;
        match request {
            0 => {
                assert!(matches!(answer, Err(CallError::Expired { .. })));
                let over = began.elapsed() - limit;
                assert!(over <= airssys_rt::DEADLINE_GRACE * 2, "{over:?}");
            }
            n => assert_eq!(answer.unwrap(), n + 1),
        }
    }
    // A timer that has fired serves the next call as well.
    let began = Instant::now();
    let answer = staying
        .slot
        .call(Number(4), began + Duration::from_secs(2))
        .await;
    assert!(matches!(answer, Err(CallError::Expired { .. })), "busy");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_slot_outlives_the_runtime_whose_timer_it_has_kept() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let staying = Staying::new();
    for _ in 0..2 {
        runtime().block_on(async {
            let (actor, _) = Actor::spawn(None, staying.clone(), ()).await.unwrap();
            staying.slot.attach(GENERATION, actor);
            assert_eq!(staying.call(1).await.unwrap(), 2);
        });
    }
}

struct Count;

impl Wake for Count {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test]
async fn a_call_that_is_over_leaves_nothing_of_its_task_behind() {
    let (staying, _) = Staying::start().await;
    let count = Arc::new(Count);
    let waker = Waker::from(Arc::clone(&count));
    {
        let mut call = pin!(staying.call(1));
        let mut context = Context::from_waker(&waker);
        let answer = loop {
            match call.as_mut().poll(&mut context) {
                Poll::Ready(answer) => break answer,
                Poll::Pending => tokio::task::yield_now().await,
            }
        };
        assert_eq!(answer.unwrap(), 2);
    }
    drop(waker);
    assert_eq!(Arc::strong_count(&count), 1);
}
