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

/// Takes a second.
const BUSY: u32 = 1_000;

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
                    if n == BUSY {
                        sleep(Duration::from_secs(1)).await;
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
        Self::with_room_for(2_000)
    }

    fn with_room_for(capacity: usize) -> Self {
        Self {
            slot: Arc::new(Slot::new(capacity)),
            entered: Arc::default(),
            nudged: Arc::default(),
            leaves: Arc::default(),
        }
    }

    async fn start() -> (Self, ActorRef<Work>) {
        Self::new().started().await
    }

    async fn started(self) -> (Self, ActorRef<Work>) {
        let staying = self;
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

/// Whether the future waits.
fn waits<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    let context = &mut Context::from_waker(Waker::noop());
    future.poll(context).is_pending()
}

/// A slot with room for one, whose actor is busy for a second.
async fn busy_with_room_for_one() -> Staying {
    let (staying, _) = Staying::with_room_for(1).started().await;
    let busy = staying.clone();
    tokio::spawn(async move { busy.call(BUSY).await });
    while staying.slot.waiting() > 0 || staying.entered.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    staying
}

/// There is room for one request, and for no second.
async fn has_room_for_one(staying: &Staying) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let busy = staying.slot.try_call(Number(BUSY), deadline);
    let (busy, second) = tokio::join!(busy, async {
        while staying.slot.waiting() > 0 {
            tokio::task::yield_now().await;
        }
        let queued = staying.slot.try_call(Number(1), deadline);
        let refused = staying.slot.try_call(Number(2), deadline);
        tokio::join!(queued, refused)
    });
    assert_eq!(busy.unwrap(), BUSY + 1);
    assert_eq!(second.0.unwrap(), 2);
    assert!(matches!(second.1, Err(CallError::Full { .. })));
}

#[tokio::test(start_paused = true)]
async fn callers_get_room_in_the_order_in_which_they_have_come() {
    let staying = busy_with_room_for_one().await;
    let calls = (1..=20).map(|n| staying.call(n));
    let answers = futures_util::future::join_all(calls).await;
    for (n, answer) in (2..=21).zip(answers) {
        assert_eq!(answer.unwrap(), n);
    }
    has_room_for_one(&staying).await;
}

#[tokio::test(start_paused = true)]
async fn room_that_was_for_a_caller_that_has_gone_is_for_the_next_or_free() {
    for next_waits in [false, true] {
        for goes_before_its_turn in [false, true] {
            let staying = busy_with_room_for_one().await;
            let mut queued = pin!(staying.call(1));
            assert!(waits(queued.as_mut()));
            let (mut goes, mut next) = (Box::pin(staying.call(2)), pin!(staying.call(3)));
            assert!(waits(goes.as_mut()));
            if next_waits {
                assert!(waits(next.as_mut()));
            }
            if goes_before_its_turn {
                drop(goes);
                assert_eq!(queued.await.unwrap(), 2);
            } else {
                // It is given room, and is not polled any more.
                assert_eq!(queued.await.unwrap(), 2);
                drop(goes);
            }
            if next_waits {
                assert_eq!(next.await.unwrap(), 4);
            }
            has_room_for_one(&staying).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_for_room_is_told_when_its_time_is_over() {
    let staying = busy_with_room_for_one().await;
    let mut queued = pin!(staying.call(1));
    assert!(waits(queued.as_mut()));
    let soon = Instant::now() + Duration::from_millis(10);
    let expired = staying.slot.call(Number(2), soon).await;
    assert!(matches!(expired, Err(CallError::Expired { .. })));
    assert_eq!(queued.await.unwrap(), 2);
    has_room_for_one(&staying).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_left_unanswered_is_over_when_the_next_is_taken() {
    let slot: Slot<Number, u32> = Slot::new(4);
    let (actor, _) = Actor::spawn(None, Staying::new(), ()).await.unwrap();
    slot.attach(GENERATION, actor);
    let deadline = Instant::now() + Duration::from_secs(3_600);
    let (mut left, mut next) = (
        pin!(slot.call(Number(1), deadline)),
        pin!(slot.call(Number(2), deadline)),
    );
    assert!(waits(left.as_mut()) && waits(next.as_mut()));
    assert!(slot.take(GENERATION).is_some() && slot.take(GENERATION).is_some());
    slot.answer(GENERATION, 7);
    let began = Instant::now();
    assert!(matches!(left.await, Err(CallError::Expired { .. })));
    assert_eq!(next.await.unwrap(), 7);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// Calls its slot when it is dropped.
struct Inquisitive(Arc<Slot<Asking, u32>>);

struct Asking(#[allow(dead_code, reason = "kept until the request goes")] Option<Inquisitive>);

impl airssys_rt::Request for Asking {
    fn name(&self) -> Arc<str> {
        Arc::from("asking")
    }
}

impl Drop for Inquisitive {
    fn drop(&mut self) {
        // Would wait for ever for a lock that is held.
        assert!(self.0.waiting() <= self.0.capacity());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_a_request_may_ask_its_slot_when_it_is_dropped() {
    let slot = Arc::new(Slot::<Asking, u32>::new(4));
    let (actor, _) = Actor::spawn(None, Staying::new(), ()).await.unwrap();
    slot.attach(GENERATION, actor);
    let deadline = Instant::now() + Duration::from_secs(10);
    let asking = || Asking(Some(Inquisitive(Arc::clone(&slot))));
    // Passed, since its caller has gone; and refused by a close.
    {
        let mut gone = Box::pin(slot.call(asking(), deadline));
        assert!(waits(gone.as_mut()));
    }
    assert!(slot.take(GENERATION).is_none());
    let mut closed = pin!(slot.call(asking(), deadline));
    assert!(waits(closed.as_mut()));
    slot.close(&Arc::new(airssys_rt::ExitCause::Shutdown));
    assert!(matches!(closed.await, Err(CallError::Stopped { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_close_leaves_the_room_of_all_that_it_refuses() {
    let (staying, actor) = Staying::with_room_for(1).started().await;
    let mut busy = pin!(staying.call(BUSY));
    assert!(waits(busy.as_mut()));
    while staying.slot.waiting() > 0 {
        tokio::task::yield_now().await;
    }
    let (mut queued, mut behind) = (pin!(staying.call(1)), pin!(staying.call(2)));
    assert!(waits(queued.as_mut()) && waits(behind.as_mut()));
    staying
        .slot
        .close(&Arc::new(airssys_rt::ExitCause::Shutdown));
    assert!(matches!(queued.await, Err(CallError::Stopped { .. })));
    assert!(matches!(behind.await, Err(CallError::Stopped { .. })));
    staying.slot.attach(GENERATION, actor);
    assert_eq!(busy.await.unwrap(), BUSY + 1);
    has_room_for_one(&staying).await;
}

struct Rung(AtomicUsize);

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_task_that_asked_is_woken_when_a_caller_goes() {
    let slot: Slot<Number, u32> = Slot::new(4);
    let (actor, _) = Actor::spawn(None, Staying::new(), ()).await.unwrap();
    slot.attach(GENERATION, actor);
    let mut call = Box::pin(slot.call(Number(1), Instant::now() + Duration::from_secs(10)));
    assert!(waits(call.as_mut()));
    assert!(slot.take(GENERATION).is_some());
    let tasks = [(); 2].map(|()| Arc::new(Rung(AtomicUsize::new(0))));
    for task in &tasks {
        let waker = Waker::from(Arc::clone(task));
        let context = &mut Context::from_waker(&waker);
        assert!(slot.poll_abandoned(GENERATION, context).is_pending());
    }
    drop(call);
    assert_eq!(tasks.map(|task| task.0.load(Ordering::SeqCst)), [0, 1]);
    let context = &mut Context::from_waker(Waker::noop());
    assert!(slot.poll_abandoned(GENERATION, context).is_ready());
}
