//! The audit log: every host call that needed a grant, append-only, each record proven by the one
//! before it.
//!
//! A log is a private directory: `key`, `lock`, `head`, and segments `0000000001.audit` and on.
//!
//! What is promised, with the test of that name:
//! - `whatever_a_flush_confirmed_is_there_after_a_kill`: what [`AuditLog::flush`] confirmed is on
//!   disk.
//! - `every_flipped_bit_is_found_and_named`, `records_removed_doubled_or_swapped_are_named`,
//!   `segments_removed_or_exchanged_are_named`, `a_tail_cut_anywhere_is_found`: whoever cannot read
//!   the key changes nothing without its being found.
//! - `a_full_queue_refuses_or_counts_as_told`, `a_disk_that_takes_nothing_refuses_until_it_does`: an
//!   entry is taken, refused or counted, and a call never waits for the disk.
//!
//! What is not:
//! - Whoever can read the key (mode 0600: this user and root) can write another log.
//! - The end is proven up to the head, which is written with every sync. Records behind it, which no
//!   flush has confirmed, can be cut off unseen; the next writer says so where it cuts.
//! - An older copy of the whole directory is a log too, and so is a new one. Note the last record's
//!   number and tag elsewhere ([`AuditLog::state`]) to tell.

mod chain;
mod entry;
mod error;
mod finding;
mod follower;
mod head;
mod queue;
mod reader;
mod record;
mod recovery;
mod segment;
mod survey;
mod walk;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use chain::AuditTag;
pub use entry::{AuditDecision, AuditEntry};
pub use error::{AuditError, AuditFailure, AuditFull, Unsettled};
pub use finding::{AuditFault, AuditFinding};
pub use follower::{AUDIT_POLL, AuditFollower};
pub use reader::{AuditItem, AuditReader, AuditSummary, AuditVerdict, verify_audit};
pub use record::{AuditEvent, AuditRecord, AuditText, AuditedCall};

use queue::Queue;
use record::{Event, wall_time_us};

const KEY_FILE: &str = "key";
const LOCK_FILE: &str = "lock";
/// Fewest bytes of a segment; several of the largest records fit.
const MIN_SEGMENT_BYTES: u64 = 64 * 1024;
/// Most bytes of a segment: a reader holds one in memory.
const MAX_SEGMENT_BYTES: u64 = 256 * 1024 * 1024;
/// Fewest records of a queue; the largest record fits.
const MIN_QUEUE_RECORDS: usize = 16;

/// `[audit]`: where the log is and how much it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// A directory of its own, made where there is none.
    pub directory: PathBuf,
    /// Most bytes of a segment, from 64 KiB to 256 MiB; others count as the nearest of these.
    pub max_segment_bytes: u64,
    /// Most segments, at least 2; the oldest go first.
    pub max_segments: u32,
    /// Most entries that wait to be written, at least 16. They may take 512 bytes each on average;
    /// twice as much memory is held.
    pub queue_records: usize,
    /// How long an entry waits at most before it is written and synced, where the disk does it.
    pub sync_interval: Duration,
    /// What becomes of an entry that finds no room.
    pub on_full: OnFull,
}

impl AuditConfig {
    /// Bytes of a segment where nothing else is said.
    pub const DEFAULT_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
    /// Segments where nothing else is said.
    pub const DEFAULT_SEGMENTS: u32 = 16;
    /// Entries of the queue where nothing else is said.
    pub const DEFAULT_QUEUE_RECORDS: usize = 4096;
    /// Time between two syncs where nothing else is said.
    pub const DEFAULT_SYNC_INTERVAL: Duration = Duration::from_millis(100);

    /// The defaults for a log in this directory.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            max_segment_bytes: Self::DEFAULT_SEGMENT_BYTES,
            max_segments: Self::DEFAULT_SEGMENTS,
            queue_records: Self::DEFAULT_QUEUE_RECORDS,
            sync_interval: Self::DEFAULT_SYNC_INTERVAL,
            on_full: OnFull::default(),
        }
    }
}

/// What becomes of an entry that finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFull {
    /// The append is refused, and the host call with it.
    #[default]
    Refuse,
    /// It is counted, and a record with the count follows as soon as there is room.
    Drop,
}

/// How a log is doing.
#[derive(Debug, Clone, Default)]
pub enum AuditHealth {
    /// The disk takes what it is given.
    #[default]
    Writing,
    /// It does not, and entries are refused or dropped. It is tried again after 100 ms, then after
    /// twice as long each time, at most 5 s.
    Failing(AuditFailure),
    /// Closed.
    Closed,
}

/// What is known of a log.
#[derive(Debug, Clone)]
pub struct AuditState {
    /// How it is doing.
    pub health: AuditHealth,
    /// Entries that were taken.
    pub accepted: u64,
    /// Entries of those that are on disk.
    pub on_disk: u64,
    /// Entries that were refused.
    pub refused: u64,
    /// Entries that were dropped.
    pub lost: u64,
    /// Attempts to write that failed.
    pub failures: u64,
    /// Sequence number of the last record on disk; the writer's own records count too.
    pub sequence: u64,
    /// Its tag.
    pub tag: AuditTag,
    /// The segment it is in.
    pub segment: u64,
    /// Bytes of an unfinished record that were cut off when the log was opened.
    pub cut_bytes: u64,
}

impl Default for AuditState {
    fn default() -> Self {
        Self {
            health: AuditHealth::default(),
            accepted: 0,
            on_disk: 0,
            refused: 0,
            lost: 0,
            failures: 0,
            sequence: 0,
            tag: AuditTag::NONE,
            segment: 0,
            cut_bytes: 0,
        }
    }
}

/// The one writer of a log. Dropped, it writes what it has accepted as far as the disk takes it at
/// once, and ends its thread; [`AuditLog::close`] tells whether that was all.
///
/// ```
/// use airssys_osl::{AuditConfig, AuditDecision, AuditEntry, AuditLog, verify_audit};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let directory = folder.path().join("audit");
/// let log = AuditLog::open(&AuditConfig::new(&directory))?;
/// log.append(AuditEntry {
///     component: "calculator",
///     generation: 1,
///     capability: "filesystem",
///     subject: "read data/x.txt",
///     decision: AuditDecision::Deny,
///     rule: "[[capabilities.filesystem]]\npath = \"data\"",
/// })?;
/// log.close(Duration::from_secs(5))?;
/// assert!(verify_audit(&directory)?.is_whole());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AuditLog {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    _lock: recovery::Lock,
}

impl AuditLog {
    /// Takes the log in a directory up, or begins one. What the last writer left unfinished is cut
    /// off; [`AuditState::cut_bytes`] and the first record tell how much. Blocks: reads the last
    /// segment.
    ///
    /// # Errors
    /// [`AuditError::Locked`] where there is a writer. [`AuditError::Damaged`] where a segment is
    /// missing or has no header, the head is not what was written, or a record from the head's
    /// segment on is not; the log is left as it is then. Records of earlier segments are for
    /// [`verify_audit`]. The others.
    pub fn open(config: &AuditConfig) -> Result<Self, AuditError> {
        let taken = recovery::take_up(config)?;
        let records = config.queue_records.max(MIN_QUEUE_RECORDS);
        let queue = Arc::new(Queue::new(records, config.on_full, config.sync_interval));
        queue.settle(0, |told| {
            taken.segments.tell_state(told);
            told.cut_bytes = taken.cut_bytes;
        });
        let segments = taken.segments;
        let writers = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name(String::from("airssys-audit"))
            .spawn(move || writer::run(segments, &writers))
            .map_err(AuditError::Thread)?;
        Ok(Self {
            queue,
            thread: Some(thread),
            _lock: taken.lock,
        })
    }

    /// Adds an entry; it is on disk after the sync interval, as a rule. Does not wait for the disk
    /// and allocates nothing.
    ///
    /// # Errors
    /// [`AuditFull`], and the host call must be refused. Under [`OnFull::Drop`] only
    /// [`AuditFull::Closed`].
    pub fn append(&self, entry: AuditEntry<'_>) -> Result<(), AuditFull> {
        let event = Event::Call(entry.into());
        self.queue.push(wall_time_us(), &event)
    }

    /// Returns once all that was accepted before is on disk. Blocks, for `timeout` at most.
    ///
    /// # Errors
    /// [`Unsettled`].
    pub fn flush(&self, timeout: Duration) -> Result<(), Unsettled> {
        self.queue.flush(timeout)
    }

    /// Takes no more entries, writes those it has and that it was closed, and ends the writer.
    /// Blocks, for `timeout` at most.
    ///
    /// # Errors
    /// [`Unsettled`]: those entries are lost where the writer has ended.
    pub fn close(&self, timeout: Duration) -> Result<(), Unsettled> {
        self.queue.close(timeout)
    }

    /// How it is doing.
    #[must_use]
    pub fn state(&self) -> AuditState {
        self.queue.told()
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        // Nobody is told any more what was lost; who wants to know closes first.
        self.queue.close(Duration::ZERO).ok();
        if let Some(thread) = self.thread.take() {
            // A panic of the writer's was told by its absence.
            thread.join().ok();
        }
    }
}
