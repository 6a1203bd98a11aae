//! The way through a segment, record by record, that names what does not belong.
//!
//! A record in its place is proven by the record before it. Where that fails, the record after it,
//! or the tag at the segment's end, tells what its place is.

use super::chain::{AuditTag, ChainKey, Frame, NoFrame, TAG_BYTES, frame_at};
use super::finding::{AuditFault, AuditFinding};
use super::record::{AuditRecord, sequence_of};
use super::segment::Header;

/// Gaps that are remembered, to tell a record that was moved from one that is there twice.
const GAPS: usize = 64;

/// A record that is known from elsewhere: from the next segment's header, or from the head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) sequence: u64,
    pub(crate) tag: AuditTag,
}

/// Where in the chain a segment has been read to.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    pub(crate) segment: u64,
    /// Sequence number of the next record; 0 where nothing tells.
    pub(crate) expected: u64,
    /// What it is chained to.
    pub(crate) previous: AuditTag,
    /// Tag of the last record so far, be it of the segment before.
    pub(crate) last: AuditTag,
    /// A record of this segment that is known from elsewhere.
    pub(crate) known: Option<Known>,
    gaps: Vec<(u64, u64)>,
}

#[derive(Debug)]
pub(crate) enum Step {
    Record(AuditRecord),
    Finding(AuditFinding),
    /// No record follows, in these last bytes.
    Rest {
        bytes: u64,
        why: NoFrame,
    },
    End,
}

impl Walk {
    /// At the first record of a segment, whose header is `previous`; `last` is the record's before.
    pub(crate) fn new(segment: u64, expected: u64, previous: AuditTag, last: AuditTag) -> Self {
        Self {
            segment,
            expected,
            previous,
            last,
            known: None,
            gaps: Vec::new(),
        }
    }

    /// At the first record of a segment whose header is whole.
    pub(crate) fn behind(header: &Header, key: &ChainKey) -> Self {
        let tag = header.tag(key);
        Self::new(header.number, header.first, tag, header.previous)
    }

    fn link(&mut self, tag: AuditTag) {
        (self.previous, self.last) = (tag, tag);
    }

    pub(crate) fn finding(&self, sequence: u64, fault: AuditFault) -> AuditFinding {
        AuditFinding {
            segment: self.segment,
            sequence,
            fault,
        }
    }

    /// The next record of `bytes` from `at` on, which moves behind it.
    pub(crate) fn step(&mut self, key: &ChainKey, bytes: &[u8], at: &mut usize) -> Step {
        if bytes.len() <= *at {
            return Step::End;
        }
        let frame = match frame_at(bytes, *at) {
            Ok(frame) => frame,
            Err(why) => return self.find_again(key, bytes, at, why),
        };
        if self.expected == 0 {
            self.expected = sequence_of(frame.body);
        }
        let tag = key.record(&self.previous, frame.signed);
        if tag != frame.tag {
            let fault = self.misfit(key, bytes, &frame, tag);
            *at = frame.next;
            return Step::Finding(fault);
        }
        *at = frame.next;
        self.link(tag);
        let sequence = self.expected;
        self.expected += 1;
        if self
            .known
            .is_some_and(|k| k.sequence == sequence && k.tag != tag)
        {
            return Step::Finding(self.finding(sequence, AuditFault::HeadDiffers));
        }
        match AuditRecord::decode(frame.body) {
            Some(record) if record.sequence == sequence => Step::Record(record),
            _ => Step::Finding(self.finding(sequence, AuditFault::Unknown)),
        }
    }

    /// What is wrong with a whole record that is not chained to the one before it.
    fn misfit(
        &mut self,
        key: &ChainKey,
        bytes: &[u8],
        frame: &Frame<'_>,
        computed: AuditTag,
    ) -> AuditFinding {
        let next = frame_at(bytes, frame.next).ok();
        let follows = |tag: &AuditTag| {
            let next = next.filter(|next| key.record(tag, next.signed) == next.tag);
            let next = next.map(|next| sequence_of(next.body).saturating_sub(1));
            let known = self.known.filter(|known| known.tag == *tag);
            next.or(known.map(|known| known.sequence))
        };
        // In its place, and only its own tag is wrong.
        if follows(&computed) == Some(self.expected) {
            self.link(computed);
            self.expected += 1;
            return self.finding(self.expected - 1, AuditFault::Altered);
        }
        let claimed = sequence_of(frame.body);
        // The chain goes on behind it as if it were not there.
        if claimed == self.expected && follows(&self.previous) == Some(claimed - 1) {
            let bytes = (frame.signed.len() + TAG_BYTES) as u64;
            return self.finding(claimed, AuditFault::Inserted { bytes });
        }
        let plausible = self.known.map_or(0, |known| known.sequence);
        let place = follows(&frame.tag).unwrap_or(match claimed {
            later if later > self.expected && later > plausible => self.expected,
            claimed => claimed,
        });
        if place < self.expected {
            let moved = self.gaps.iter().any(|gap| (gap.0..=gap.1).contains(&place));
            let fault = match moved {
                true => AuditFault::OutOfPlace {
                    after: self.expected - 1,
                },
                false => AuditFault::Repeated,
            };
            return self.finding(place, fault);
        }
        let sequence = std::mem::replace(&mut self.expected, place.saturating_add(1));
        self.link(frame.tag);
        if place == sequence {
            return self.finding(sequence, AuditFault::Altered);
        }
        let through = place - 1;
        if self.gaps.len() < GAPS {
            self.gaps.push((sequence, through));
        }
        self.finding(sequence, AuditFault::Missing { through })
    }

    /// Looks for the next record behind bytes that are none: one that the 32 bytes before it prove.
    fn find_again(&mut self, key: &ChainKey, bytes: &[u8], at: &mut usize, why: NoFrame) -> Step {
        let proven = |place: usize| {
            let frame = frame_at(bytes, place).ok()?;
            let before = AuditTag::before(bytes, place)?;
            let proven = key.record(&before, frame.signed) == frame.tag;
            proven.then(|| (place, before, sequence_of(frame.body)))
        };
        let Some((place, before, sequence)) = (*at + 1..bytes.len()).find_map(proven) else {
            let bytes = (bytes.len() - *at) as u64;
            return Step::Rest { bytes, why };
        };
        let bytes = (place - *at) as u64;
        *at = place;
        if self.expected == 0 {
            self.expected = sequence.saturating_sub(1);
        }
        let first = self.expected;
        if sequence <= first {
            return Step::Finding(self.finding(sequence, AuditFault::Inserted { bytes }));
        }
        self.expected = sequence;
        self.link(before);
        let through = sequence - 1;
        Step::Finding(self.finding(first, AuditFault::Damaged { through, bytes }))
    }
}
