//! Files whose code is known: read, found genuine and compiled, and as they were ever since
//! (ADR-WASM-028).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use airssys_osl::FileIdentity;

use crate::compiled::Compiled;
use crate::engine::EngineKind;
use crate::provenance::{Provenance, Signed};

/// Sources that are known at a time; what comes on top is read at each start.
pub(super) const MAX_KNOWN: usize = 4096;

/// What a component is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) kind: EngineKind,
    pub(crate) provenance: Provenance,
}

/// The state its files were in when they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    wasm: FileIdentity,
    signature: Option<FileIdentity>,
}

impl Seen {
    /// `None` where a signature was needed whose exchange nothing would tell.
    pub(crate) fn new(wasm: FileIdentity, signed: Signed) -> Option<Self> {
        let signature = match signed {
            Signed::Unasked => None,
            Signed::By(identity) => Some(identity?),
        };
        Some(Self { wasm, signature })
    }

    fn holds(&self, source: &Source) -> bool {
        let signature = source.provenance.signature.as_deref();
        FileIdentity::at(&source.path) == Some(self.wasm)
            && signature.and_then(FileIdentity::at) == self.signature
    }

    /// Whether a read that began at `began` came long enough after they had been like that.
    fn is_settled(&self, since: Instant, began: Instant) -> bool {
        let lag = self.signature.map_or(self.wasm.lag(), |signature| {
            signature.lag().max(self.wasm.lag())
        });
        began.saturating_duration_since(since) >= lag
    }
}

struct Entry {
    seen: Seen,
    /// By when they were like that.
    since: Instant,
    /// Read again since then, long enough after.
    is_settled: bool,
    compiled: Weak<Compiled>,
}

/// The code of sources, for as long as somebody runs it.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<Source, Entry>>);

impl Known {
    /// The code of a source whose files are as they were. Asks for their metadata.
    pub(super) fn find(&self, source: &Source) -> Option<Arc<Compiled>> {
        let (seen, compiled) = {
            let entries = self.lock();
            let entry = entries.get(source).filter(|entry| entry.is_settled)?;
            (entry.seen, entry.compiled.upgrade()?)
        };
        seen.holds(source).then_some(compiled)
    }

    /// Takes note of code whose files were read from `began` to `ended`. It is found once they have
    /// been read a second time, some time later, and were the same.
    pub(super) fn note(
        &self,
        source: Source,
        seen: Seen,
        (began, ended): (Instant, Instant),
        compiled: &Arc<Compiled>,
    ) {
        let mut entries = self.lock();
        let before = entries.get(&source);
        let same = before.filter(|before| before.seen == seen);
        let fresh = Entry {
            since: same.map_or(ended, |same| same.since),
            is_settled: same.is_some_and(|same| seen.is_settled(same.since, began)),
            seen,
            compiled: Arc::downgrade(compiled),
        };
        // Of a read that began too early, and took longer than one that did not.
        let is_late = same.is_some_and(|same| same.is_settled && !fresh.is_settled);
        if !is_late && (before.is_some() || entries.len() < MAX_KNOWN) {
            entries.insert(source, fresh);
        }
    }

    /// Forgets what nobody runs any more.
    pub(super) fn weed(&self) {
        self.lock()
            .retain(|_, entry| entry.compiled.strong_count() > 0);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Source, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
