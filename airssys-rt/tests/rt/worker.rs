//! A worker whose slot outlives it, and what it can be asked.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use airssys_rt::{
    BoxFuture, CallError, Child, ChildId, ChildSpec, DeadLetter, ExitCause, Intensity, Running,
    Slot, SlotLimits, StartContext, Started, Work,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, sleep};

/// What a request asks of the test's worker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Request {
    Answer(u32),
    Die(u32),
    /// Works this long, then answers.
    Take(Duration),
    /// The same, unless nobody waits for the answer any more.
    Heed(Duration),
    Panic,
    /// Computes this long without a pause, then answers.
    Spin(Duration),
    /// Ends the first so many incarnations, then answers with its mark; may be carried out twice.
    Again {
        deaths: usize,
        mark: u32,
    },
}

impl airssys_rt::Request for Request {
    fn name(&self) -> Arc<str> {
        Arc::from(match self {
            Self::Die(_) => "die",
            _ => "request",
        })
    }

    fn again(&self) -> Option<Self> {
        matches!(self, Self::Again { .. }).then(|| self.clone())
    }

    fn fingerprint(&self) -> Option<u64> {
        match self {
            Self::Die(n) => Some(u64::from(*n)),
            _ => None,
        }
    }
}

pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// A worker whose slot outlives it.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) name: &'static str,
    pub(crate) slot: Arc<Slot<Request, u32>>,
    pub(crate) log: Log,
    pub(crate) live: Arc<AtomicUsize>,
    pub(crate) fail_start: Arc<AtomicBool>,
    pub(crate) start_takes: Duration,
    pub(crate) drop_takes: Duration,
    /// Requests of the kind `Again` it has taken.
    pub(crate) told: Arc<AtomicUsize>,
    /// It does not answer probes.
    pub(crate) deaf: Arc<AtomicBool>,
}

pub(crate) struct WorkerActor(Worker);

pub(crate) struct Incarnation {
    generation: u64,
    pub(crate) live: Arc<AtomicUsize>,
    pub(crate) drop_takes: Duration,
}

impl Drop for Incarnation {
    fn drop(&mut self) {
        let began = std::time::Instant::now();
        while began.elapsed() < self.drop_takes {
            std::hint::spin_loop();
        }
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Actor for WorkerActor {
    type Msg = Work;
    type State = Incarnation;
    type Arguments = u64;

    async fn pre_start(
        &self,
        _: ActorRef<Work>,
        generation: u64,
    ) -> Result<Incarnation, ActorProcessingErr> {
        assert_eq!(self.0.live.fetch_add(1, Ordering::SeqCst), 0, "two live");
        let live = Arc::clone(&self.0.live);
        let incarnation = Incarnation {
            generation,
            live,
            drop_takes: self.0.drop_takes,
        };
        sleep(self.0.start_takes).await;
        if self.0.fail_start.load(Ordering::SeqCst) {
            return Err(Box::new(ExitCause::OutOfFuel { limit: 1 }));
        }
        self.0.say(format!("start {}", self.0.name));
        Ok(incarnation)
    }

    async fn handle(
        &self,
        _: ActorRef<Work>,
        Work: Work,
        state: &mut Incarnation,
    ) -> Result<(), ActorProcessingErr> {
        match self.0.slot.take(state.generation) {
            Some(Request::Answer(n)) => self.0.slot.answer(state.generation, n),
            Some(Request::Take(time)) => {
                sleep(time).await;
                self.0.slot.answer(state.generation, 0);
            }
            Some(Request::Heed(time)) => {
                let (slot, generation) = (&self.0.slot, state.generation);
                let abandoned = poll_fn(|context| slot.poll_abandoned(generation, context));
                tokio::select! {
                    () = sleep(time) => slot.answer(generation, 0),
                    () = abandoned => return Err(Box::new(ExitCause::Cancelled)),
                }
            }
            Some(Request::Die(n)) => {
                return Err(Box::new(ExitCause::OutOfFuel { limit: n.into() }));
            }
            Some(Request::Panic) => panic!("worker panics"),
            Some(Request::Spin(time)) => {
                self.0.told.fetch_add(1, Ordering::SeqCst);
                let began = std::time::Instant::now();
                while began.elapsed() < time {
                    std::hint::spin_loop();
                }
                self.0.slot.answer(state.generation, 0);
            }
            Some(Request::Again { deaths, mark }) => {
                if self.0.told.fetch_add(1, Ordering::SeqCst) < deaths {
                    return Err(Box::new(ExitCause::OutOfFuel { limit: 1 }));
                }
                self.0.slot.answer(state.generation, mark);
            }
            None => {}
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Work>,
        _: &mut Incarnation,
    ) -> Result<(), ActorProcessingErr> {
        self.0.say(format!("stop {}", self.0.name));
        Ok(())
    }
}

impl Worker {
    pub(crate) fn new(name: &'static str, log: &Log) -> Self {
        let limits = SlotLimits {
            capacity: 4,
            attempts: 3,
            poison: None,
        };
        Self::with_limits(name, log, limits)
    }

    pub(crate) fn with_limits(name: &'static str, log: &Log, limits: SlotLimits) -> Self {
        Self {
            name,
            slot: Arc::new(Slot::with_limits(limits)),
            log: Arc::clone(log),
            live: Arc::default(),
            fail_start: Arc::default(),
            start_takes: Duration::ZERO,
            drop_takes: Duration::ZERO,
            told: Arc::default(),
            deaf: Arc::default(),
        }
    }

    pub(crate) fn say(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }

    pub(crate) fn spec(&self) -> ChildSpec {
        ChildSpec::new(self.name, self.clone())
    }

    pub(crate) async fn call(&self, request: Request) -> Result<u32, CallError<Request>> {
        self.slot
            .call(request, Instant::now() + Duration::from_secs(10))
            .await
    }
}

impl Child<()> for Worker {
    fn start(&self, context: StartContext<()>) -> BoxFuture<'_, Result<Started, ExitCause>> {
        Box::pin(async move {
            let actor = WorkerActor(self.clone());
            let (actor, handle) =
                WorkerActor::spawn_linked(None, actor, context.generation, context.supervisor)
                    .await?;
            self.slot.attach(context.generation, actor.clone());
            Ok(Running::new(actor, handle).into())
        })
    }

    fn exited(&self, _: &ChildId, generation: u64, cause: &Arc<ExitCause>) -> Option<DeadLetter> {
        self.slot.exited(generation, cause)
    }

    fn probe(&self, _: &ChildId) -> BoxFuture<'_, bool> {
        let deaf = self.deaf.load(Ordering::SeqCst);
        Box::pin(async move {
            if deaf {
                std::future::pending::<()>().await;
            }
            true
        })
    }

    fn stopped(&self, _: &ChildId, cause: &Arc<ExitCause>) {
        self.slot.close(cause);
    }
}

pub(crate) fn often() -> Intensity {
    Intensity {
        restarts: 1000,
        period: Duration::from_secs(1),
    }
}

pub(crate) fn lines(log: &Log) -> String {
    std::mem::take(&mut *log.lock().unwrap()).join(", ")
}

/// Does nothing with its work.
pub(crate) struct Idle;

impl Actor for Idle {
    type Msg = Work;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Work>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}
