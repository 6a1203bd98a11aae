#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed set-up should fail the test"
)]

use std::sync::atomic::AtomicUsize;

use airssys_rt::{EventStream, PanicBoundary, Received};

use super::known::MAX_KNOWN;
use super::*;
use crate::engine::Metering;
use crate::limits::ResourceLimits;
use crate::provenance::{NotGenuine, Provenance, PublicKey};
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

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("a.wasm")
    }

    fn source(&self) -> Source {
        Source {
            path: self.path(),
            kind: KIND,
            provenance: Provenance::default(),
        }
    }

    /// Loads a source until it is known.
    async fn settle(&self, source: &Source, engine: &Arc<Engine>) -> Arc<Compiled> {
        let began = Instant::now();
        loop {
            let engine = Arc::clone(engine);
            let load = self
                .library
                .load(&self.name, source.clone(), move || Ok(engine));
            let compiled = load.await.unwrap();
            if let Some(known) = self.library.known(&self.name, source) {
                assert!(Arc::ptr_eq(&known, &compiled));
                return compiled;
            }
            assert!(began.elapsed() < Duration::from_secs(20));
        }
    }

    fn engine(&self) -> Arc<Engine> {
        Arc::new(Engine::new(1, KIND, 0, false, self.ticker.pulse()).unwrap())
    }

    async fn load<E>(&self, engine: E) -> Result<Arc<Compiled>, LoadFailed>
    where
        E: FnOnce() -> Result<Arc<Engine>, EngineError> + Clone + Send + Sync + 'static,
    {
        self.library.load(&self.name, self.source(), engine).await
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

/// Of `pages` pages of memory, in as many bytes for each one-digit number.
fn component(pages: u32) -> Vec<u8> {
    wat::parse_str(format!("(component (core module $m (memory {pages})))")).unwrap()
}

#[tokio::test]
async fn no_exchange_of_a_known_file_goes_unnoticed() {
    let set = Set::new();
    let (engine, source, path) = (set.engine(), set.source(), set.path());
    let modified = || std::fs::metadata(set.path()).unwrap().modified().unwrap();
    let in_place = || {
        // Neither its length nor its time tells.
        let (before, bytes) = (modified(), component(2));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes.len() as u64);
        std::fs::write(&path, bytes).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(before).unwrap();
        assert_eq!(modified(), before);
    };
    let by_rename = || {
        let before = modified();
        let other = set.dir.path().join("b.wasm");
        std::fs::write(&other, component(3)).unwrap();
        let file = std::fs::File::options().write(true).open(&other).unwrap();
        file.set_modified(before).unwrap();
        std::fs::rename(&other, &path).unwrap();
    };
    let gone = || std::fs::remove_file(&path).unwrap();
    let exchanges: [&dyn Fn(); 3] = [&in_place, &by_rename, &gone];
    for exchange in exchanges {
        let _running = set.settle(&source, &engine).await;
        exchange();
        assert!(set.library.known(&set.name, &source).is_none());
    }
}

#[tokio::test]
async fn a_file_is_known_once_it_was_read_long_enough_after_it_was_seen_like_that() {
    let set = Set::new();
    let (engine, source) = (set.engine(), set.source());
    let compiled = set.settle(&source, &engine).await;
    let other = set.source();
    let other = Source {
        path: other.path.with_extension("link"),
        ..other
    };
    std::fs::hard_link(set.path(), &other.path).unwrap();
    let read = read_wasm(&other.path, &other.provenance).unwrap();
    let (seen, lag) = (read.seen.unwrap(), Duration::from_millis(20));
    let (known, at) = (Known::default(), Instant::now());
    let note = |began| {
        known.note(other.clone(), seen, (began, began), &compiled);
        known.find(&other).is_some()
    };
    assert!(!note(at));
    assert!(!note(at + lag - Duration::from_nanos(1)));
    assert!(note(at + lag));
    // A read that began too early and ends late changes nothing.
    let late = {
        let bytes = component(9);
        std::fs::write(set.path().with_extension("late"), &bytes).unwrap();
        let source = Source {
            path: set.path().with_extension("late"),
            ..set.source()
        };
        set.settle(&source, &engine).await
    };
    known.note(other.clone(), seen, (at, at + lag), &late);
    assert!(Arc::ptr_eq(&known.find(&other).unwrap(), &compiled));
}

#[tokio::test]
async fn no_more_sources_are_known_than_may_be_and_those_that_are_stay() {
    let set = Set::new();
    let (engine, source) = (set.engine(), set.source());
    let compiled = set.settle(&source, &engine).await;
    let seen = read_wasm(&source.path, &source.provenance);
    let seen = seen.unwrap().seen.unwrap();
    let (known, at) = (Known::default(), Instant::now());
    let lag = Duration::from_secs(10);
    let of = |number: usize| {
        let mut source = source.clone();
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        source.provenance.digest = Some(WasmDigest(digest));
        source
    };
    for began in [at, at + lag] {
        for number in 0..=MAX_KNOWN {
            known.note(of(number), seen, (began, began), &compiled);
        }
    }
    let found = (0..=MAX_KNOWN).filter(|number| known.find(&of(*number)).is_some());
    assert_eq!(
        found.collect::<Vec<_>>(),
        (0..MAX_KNOWN).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn code_is_known_for_what_was_asked_of_it_and_no_longer_than_somebody_runs_it() {
    let set = Set::new();
    let (engine, source) = (set.engine(), set.source());
    let running = set.settle(&source, &engine).await;
    let mut pinned = source.clone();
    pinned.provenance.digest = Some(WasmDigest([7; 32]));
    assert!(set.library.known(&set.name, &pinned).is_none());
    let fueled = Source {
        kind: EngineKind {
            metering: Metering::TimeAndFuel,
            ..KIND
        },
        ..source.clone()
    };
    assert!(set.library.known(&set.name, &fueled).is_none());
    drop(running);
    set.library.kept.lock().unwrap().clear();
    set.library.weed();
    assert!(set.library.known(&set.name, &source).is_none());
    assert!(set.library.known.is_empty());
}

#[tokio::test]
async fn a_signature_that_was_exchanged_is_looked_at_again() {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    let set = Set::new();
    let (engine, mut source) = (set.engine(), set.source());
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = PublicKey::new(pair.public_key().as_ref().try_into().unwrap());
    let signature = set.dir.path().join("a.sig");
    let signed = pair.sign(&std::fs::read(set.path()).unwrap());
    std::fs::write(&signature, signed.as_ref()).unwrap();
    source.provenance.keys = Arc::from([public]);
    source.provenance.signature = Some(signature.clone());
    let _running = set.settle(&source, &engine).await;
    let mut stranger = source.clone();
    stranger.provenance.keys = Arc::from([PublicKey::new([9; 32])]);
    assert!(set.library.known(&set.name, &stranger).is_none());
    std::fs::write(&signature, [1; 64]).unwrap();
    assert!(set.library.known(&set.name, &source).is_none());
    let load = set.library.load(&set.name, source, move || Ok(engine));
    let LoadFailed::Load(LoadError::NotGenuine { reason, .. }) = load.await.unwrap_err() else {
        panic!("loaded");
    };
    assert!(matches!(*reason, NotGenuine::Wrong { .. }));
}
