//! The writer: a thread that chains what waits, writes it and has the disk confirm it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;

use crate::PrivateDirectory;

use super::AuditState;
use super::chain::{AuditTag, ChainKey, FRAME_BYTES, seal};
use super::error::AuditFailure;
use super::head::{HEAD_FILE, Head};
use super::queue::{Batch, Queue, Work};
use super::reader::End;
use super::record::{Event, MAX_BODY_BYTES, wall_time_us};
use super::segment::{HEADER_BYTES, Header, file_name};

/// The segments of a log and where they end. What it says is on disk is.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) directory: PrivateDirectory,
    pub(crate) key: ChainKey,
    pub(crate) max_segment_bytes: u64,
    pub(crate) max_segments: u64,
    pub(crate) head: Head,
    /// Sequence numbers of the first records of the segments that are kept, the oldest first.
    pub(crate) firsts: VecDeque<u64>,
    pub(crate) file: File,
    pub(crate) end: End,
    /// Records that are chained and not on disk yet.
    pub(crate) chained: Vec<u8>,
}

impl Segments {
    /// Writes the records of a batch from `at` on and moves it behind those that are on disk.
    /// After an error it goes on where the disk has confirmed, with the same bytes.
    fn write(&mut self, batch: &Batch, at: &mut usize) -> Result<(), AuditFailure> {
        let (mut to, mut next) = (*at, self.end.next);
        let (mut previous, mut last) = (self.end.previous, self.end.last);
        self.chained.clear();
        loop {
            let before = to;
            let Some(body) = batch.next(&mut to) else {
                self.commit(next, previous, last)?;
                *at = before;
                return Ok(());
            };
            let used = self.end.bytes + self.chained.len() as u64;
            let is_empty = used == HEADER_BYTES as u64;
            if used + (FRAME_BYTES + body.len()) as u64 > self.max_segment_bytes && !is_empty {
                self.commit(next, previous, last)?;
                *at = before;
                self.rotate()?;
                (to, previous, last) = (before, self.end.previous, self.end.last);
                continue;
            }
            let mut numbered = [0; MAX_BODY_BYTES];
            let Some(numbered) = numbered.get_mut(..body.len()) else {
                continue;
            };
            numbered.copy_from_slice(body);
            for (to, from) in numbered.iter_mut().zip(next.to_le_bytes()) {
                *to = from;
            }
            seal(&self.key, &mut previous, numbered, &mut self.chained);
            (next, last) = (next + 1, previous);
        }
    }

    /// Has the disk take what is chained. Where it does not, the segment ends where it did.
    fn commit(
        &mut self,
        next: u64,
        previous: AuditTag,
        last: AuditTag,
    ) -> Result<(), AuditFailure> {
        if self.chained.is_empty() {
            return Ok(());
        }
        let written = |error: io::Error| AuditFailure::Write(Arc::new(error));
        // What an attempt that failed left behind the end is the beginning of these very bytes.
        self.file
            .seek(SeekFrom::Start(self.end.bytes))
            .map_err(written)?;
        self.file.write_all(&self.chained).map_err(written)?;
        let synced = self.file.sync_data();
        synced.map_err(|error| AuditFailure::Sync(Arc::new(error)))?;
        self.end = End {
            segment: self.end.segment,
            bytes: self.end.bytes + self.chained.len() as u64,
            next,
            previous,
            last,
        };
        self.chained.clear();
        Ok(())
    }

    /// Removes the oldest segments and begins a new one.
    fn rotate(&mut self) -> Result<(), AuditFailure> {
        while self.firsts.len() as u64 >= self.max_segments {
            let Some(first) = self.firsts.get(1).copied() else {
                break;
            };
            let oldest = self.head.first_segment;
            // First said, then done: whoever reads in between finds nothing missing.
            self.tell(Head {
                first_segment: oldest + 1,
                first,
                ..self.here()
            })?;
            self.firsts.pop_front();
            self.directory.remove(&file_name(oldest))?;
        }
        let header = Header {
            number: self.end.segment + 1,
            first: self.end.next,
            previous: self.end.last,
        };
        let name = file_name(header.number);
        // It is there already after an attempt that failed later.
        self.directory.create(&name, &header.bytes(&self.key))?;
        self.file = self.directory.open_or_create(&name)?;
        self.firsts.push_back(header.first);
        self.end = End {
            segment: header.number,
            bytes: HEADER_BYTES as u64,
            next: header.first,
            previous: header.tag(&self.key),
            last: header.previous,
        };
        Ok(())
    }

    /// The head as it should be.
    fn here(&self) -> Head {
        Head {
            first_segment: self.head.first_segment,
            first: self.head.first,
            segment: self.end.segment,
            sequence: self.end.next - 1,
            tag: self.end.last,
        }
    }

    fn tell(&mut self, head: Head) -> Result<(), AuditFailure> {
        if head != self.head {
            self.directory
                .replace(HEAD_FILE, &[&head.bytes(&self.key)])?;
            self.head = head;
        }
        Ok(())
    }

    /// Writes what is left of a batch and then the head.
    pub(crate) fn settle(&mut self, batch: &Batch, at: &mut usize) -> Result<(), AuditFailure> {
        self.write(batch, at)?;
        self.tell(self.here())
    }

    /// Notes how far the log is on disk.
    pub(crate) fn tell_state(&self, told: &mut AuditState) {
        told.sequence = self.head.sequence;
        told.tag = self.head.tag;
        told.segment = self.head.segment;
    }
}

/// What the writer's thread does until the log is closed.
pub(crate) fn run(mut segments: Segments, queue: &Queue) {
    let _ends = Ends(queue);
    let mut batch = queue.empty_batch();
    loop {
        let work = queue.take(&mut batch);
        let entries = batch.records() as u64;
        let (Work::Write { lost } | Work::Close { lost }) = work;
        if lost > 0 {
            batch.push(wall_time_us(), &Event::Lost { entries: lost });
        }
        let closes = matches!(work, Work::Close { .. });
        if closes {
            batch.push(wall_time_us(), &Event::Closed);
        }
        let (mut at, mut attempt) = (0, 0);
        while let Err(failure) = segments.settle(&batch, &mut at) {
            if !queue.fail(failure, attempt) {
                return;
            }
            attempt += 1;
        }
        queue.settle(entries, |told| segments.tell_state(told));
        if closes {
            return;
        }
        batch.clear();
    }
}

/// Says that the writer has ended, also where it panicked.
struct Ends<'a>(&'a Queue);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
