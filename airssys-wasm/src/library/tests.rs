#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed set-up should fail the test"
)]

use std::sync::atomic::AtomicUsize;

use airssys_rt::{EventStream, PanicBoundary, Received};

use super::*;
use crate::engine::Metering;
use crate::limits::ResourceLimits;
use crate::ticker::Ticker;

const KIND: EngineKind = EngineKind {
    metering: Metering::Time,
    stack_bytes: ResourceLimits::DEFAULT_STACK_BYTES,
};

struct Set {
    library: Arc<Library>,
    boundary: PanicBoundary,
    heard: EventStream<LoadEvent>,
    dir: tempfile::TempDir,
    ticker: Ticker,
    name: ComponentName,
}

impl Set {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let wasm = wat::parse_str("(component (core module $m (memory 1)))").unwrap();
        std::fs::write(dir.path().join("a.wasm"), wasm).unwrap();
        let boundary = PanicBoundary::new();
        let events = Events::default();
        let heard = events.subscribe();
        Self {
            library: Arc::new(Library::new(boundary.entry("compile"), None, events)),
            boundary,
            heard,
            dir,
            ticker: Ticker::start().unwrap(),
            name: "a".parse().unwrap(),
        }
    }

    fn engine(&self) -> Arc<Engine> {
        Arc::new(Engine::new(1, KIND, 0, false, self.ticker.pulse()).unwrap())
    }

    async fn load<E>(&self, engine: E) -> Result<Arc<Compiled>, LoadFailed>
    where
        E: FnOnce() -> Result<Arc<Engine>, EngineError> + Clone + Send + Sync + 'static,
    {
        let path = self.dir.path().join("a.wasm");
        let any = Provenance::default();
        self.library
            .load(&self.name, &path, any, KIND, engine)
            .await
    }

    async fn compiled(&mut self, times: usize) -> usize {
        let mut compiled = 0;
        for _ in 0..times {
            match self.heard.next().await {
                Some(Received::Event(event)) => {
                    compiled += usize::from(matches!(event.change, LoadChange::Compiled { .. }));
                }
                other => panic!("{other:?}"),
            }
        }
        compiled
    }
}

#[tokio::test]
async fn a_panic_while_compiling_is_counted_and_told_and_the_next_load_tries_again() {
    let set = Set::new();
    let failed = set.load(|| panic!("a bad day")).await.unwrap_err();
    let LoadFailed::Load(LoadError::CompilerPanic { panic, path }) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!((&*panic.entry, &*panic.message), ("compile", "a bad day"));
    assert!(path.ends_with("a.wasm"));
    assert_eq!(set.boundary.counts().panicked, 1);
    let engine = set.engine();
    set.load(move || Ok(engine)).await.unwrap();
}

#[tokio::test]
async fn those_who_wait_get_the_failure_of_the_one_who_tried() {
    let set = Set::new();
    let tries = Arc::new(AtomicUsize::new(0));
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let attempt = || {
        let (tries, held) = (Arc::clone(&tries), Arc::clone(&held));
        set.load(move || {
            tries.fetch_add(1, Ordering::SeqCst);
            // Until everybody waits.
            held.lock().unwrap().recv().ok();
            Err(EngineError::Ticker(std::io::Error::other("no")))
        })
    };
    let release = async {
        while set
            .library
            .volumes
            .iter()
            .next()
            // The list, whoever makes, and ten who wait.
            .is_none_or(|volume| Arc::strong_count(&volume) < 12)
        {
            tokio::task::yield_now().await;
        }
        drop(hold);
    };
    let attempts = futures_util::future::join_all((0..10).map(|_| attempt()));
    let (outcomes, ()) = tokio::join!(attempts, release);
    assert!(
        outcomes
            .iter()
            .all(|o| matches!(o, Err(LoadFailed::Engine(_))))
    );
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn code_that_nobody_took_in_time_is_there_for_the_next_and_is_weeded_in_the_end() {
    let mut set = Set::new();
    let engine = set.engine();
    let take = || {
        let engine = Arc::clone(&engine);
        move || Ok(engine)
    };
    drop(set.load(take()).await.unwrap());
    drop(set.load(take()).await.unwrap());
    // Began and compiled, began and shared.
    assert_eq!(set.compiled(4).await, 1);
    // Other ones than the first, which has one page.
    for n in 2..UNUSED_KEPT + 2 {
        let wasm = wat::parse_str(format!("(component (core module $m (memory {n})))")).unwrap();
        std::fs::write(set.dir.path().join("a.wasm"), wasm).unwrap();
        drop(set.load(take()).await.unwrap());
    }
    set.library.weed();
    assert_eq!(set.library.volumes.len(), UNUSED_KEPT);
}
