//! How many faults a contender notices.

use crate::contender::Make;
use std::fmt;

const BYTES: usize = 1_000;
const FAULTS: usize = BYTES * 8;

/// Noticed of injected.
pub(crate) struct Share {
    noticed: usize,
    injected: usize,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.injected == 0 {
            return f.write_str("-");
        }
        write!(f, "{}/{}", self.noticed, self.injected)
    }
}

/// What was noticed.
pub(crate) struct Found {
    /// Of bits that flipped between the write and the read.
    pub(crate) at_rest: Share,
    /// Of bits that flipped between the copy and the checksum.
    pub(crate) in_the_copy: Share,
}

/// Every bit of a message, one at a time, in each of the two places.
pub(crate) fn count(make: Make) -> Found {
    let source: Vec<u8> = (0..BYTES).map(|at| (at * 37) as u8).collect();
    let mut destination = vec![0; BYTES];
    let mut contender = make(BYTES);
    let none = || Share {
        noticed: 0,
        injected: 0,
    };
    let (mut at_rest, mut in_the_copy) = (none(), none());
    for bit in 0..FAULTS {
        contender.write(&source);
        if contender.flip(bit) {
            at_rest.injected += 1;
            at_rest.noticed += usize::from(!contender.read(&mut destination));
        }
        if let Some(arrived) = contender.write_with_hit(&source, bit) {
            in_the_copy.injected += 1;
            let noticed = !arrived || !contender.read(&mut destination);
            in_the_copy.noticed += usize::from(noticed);
        }
    }
    Found {
        at_rest,
        in_the_copy,
    }
}
