//! The instances that serve one name: which of them a call goes to.
//!
//! Guarantees: a call waits in one mailbox once it has been queued, and is carried out once; on its
//! way to a replica it takes no lock but that replica's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use airssys_rt::{CallError, SupervisorRef, SupervisorSpec};
use tokio::time::Instant;

use crate::component_cell::ComponentCell;
use crate::config::ComponentName;
use crate::instance::{Answer, Invocation};
use crate::runtime::Runtime;

/// How often a caller looks for another replica when others come first, before it takes the one it
/// sees.
const CLAIM_TRIES: usize = 8;

/// What is tried: for each replica a bit.
type Set = u64;

/// A name and those who serve it.
pub(crate) struct Replicas {
    pub(crate) name: ComponentName,
    pub(crate) first: Arc<ComponentCell>,
    /// All of them, the first included; at most as many as a [`Set`] has bits.
    pub(crate) cells: Box<[Arc<ComponentCell>]>,
    /// Searches so far, so that replicas that are equally busy take turns.
    turn: AtomicU64,
    /// Where there is more than one: the supervisor they have for themselves.
    supervisor: Option<SupervisorSpec<Runtime>>,
}

/// What to do where no replica has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    Wait,
    HandBack,
}

/// When a call began and by when it is to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) began: Instant,
    pub(crate) deadline: Instant,
}

/// Who served a call, and what came of it.
pub(crate) type Served<'a> = (
    &'a Arc<ComponentCell>,
    Result<Answer, CallError<Invocation>>,
);

/// One call more for a replica, for as long as somebody waits for it.
struct Claim<'a> {
    cell: &'a Arc<ComponentCell>,
    bit: Set,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.cell.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Replicas {
    /// One component, or one replica by itself.
    pub(crate) fn one(cell: Arc<ComponentCell>) -> Self {
        Self {
            name: cell.name.clone(),
            cells: Box::from([Arc::clone(&cell)]),
            first: cell,
            turn: AtomicU64::new(1),
            supervisor: None,
        }
    }

    /// Several under one name, and their supervisor; `None` where there is none of them.
    pub(crate) fn several(
        name: ComponentName,
        cells: Box<[Arc<ComponentCell>]>,
        supervisor: SupervisorSpec<Runtime>,
    ) -> Option<Self> {
        Some(Self {
            name,
            first: Arc::clone(cells.first()?),
            cells,
            turn: AtomicU64::new(1),
            supervisor: Some(supervisor),
        })
    }

    /// Whether both are the same incarnations under one name.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.first, &other.first) && self.cells.len() == other.cells.len()
    }

    pub(crate) fn supervisor(&self) -> Option<SupervisorRef<Runtime>> {
        self.supervisor.as_ref()?.handle()
    }

    /// Calls the replica with the fewest calls, waiting and in flight. One that has stopped or is
    /// full is passed over.
    pub(crate) async fn call(
        &self,
        request: Invocation,
        times: Times,
        no_room: NoRoom,
    ) -> Served<'_> {
        if self.cells.len() > 1 {
            // Its future is large, and most components have no replicas.
            return Box::pin(self.spread(request, times, no_room)).await;
        }
        let Times { began, deadline } = times;
        let only = &self.first;
        let _claim = only.replica.and_then(|_| self.claim(0));
        let served = match no_room {
            NoRoom::Wait => only.slot.call_since(request, began, deadline).await,
            NoRoom::HandBack => only.slot.try_call_since(request, began, deadline).await,
        };
        (only, served)
    }

    async fn spread(
        &self,
        mut request: Invocation,
        Times { began, deadline }: Times,
        no_room: NoRoom,
    ) -> Served<'_> {
        let (mut full, mut stopped): (Set, Set) = (0, 0);
        let mut cause = None;
        let mut capacity = 0;
        loop {
            let (claim, waits) = match self.claim(full | stopped) {
                Some(claim) => (claim, false),
                None => match self.claim(stopped) {
                    Some(claim) if no_room == NoRoom::Wait => (claim, true),
                    _ => break,
                },
            };
            let slot = &claim.cell.slot;
            let served = match waits {
                true => slot.call_since(request, began, deadline).await,
                false => slot.try_call_since(request, began, deadline).await,
            };
            // What comes back has not been queued; all else has, and stays where it was.
            match served {
                Err(CallError::Full {
                    request: back,
                    capacity: of_one,
                }) => {
                    request = back;
                    full |= claim.bit;
                    capacity += of_one;
                }
                Err(CallError::Stopped {
                    request: Some(back),
                    cause: why,
                }) => {
                    request = back;
                    stopped |= claim.bit;
                    cause = Some(why);
                }
                served => return (claim.cell, served),
            }
        }
        let refused = match cause {
            Some(cause) if capacity == 0 => CallError::Stopped {
                request: Some(request),
                cause,
            },
            _ => CallError::Full { request, capacity },
        };
        (&self.first, Err(refused))
    }

    /// The replica with the fewest calls of those that are not in `refused`; of those that are
    /// equally busy the one that was not chosen for the longest. One that nobody serves at the moment
    /// comes last.
    fn claim(&self, refused: Set) -> Option<Claim<'_>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for tries in 1.. {
            let open = (0..)
                .zip(&self.cells)
                .map(|(place, cell)| (1 << place, cell));
            let open = open.filter(|(bit, _)| refused & bit == 0);
            let open = open.map(|(bit, cell)| (cell.busy(), bit, cell));
            let ((_, calls, _), bit, cell) = open.min_by_key(|(busy, _, _)| *busy)?;
            let seen = (tries < CLAIM_TRIES).then_some(calls);
            if one_more(cell, seen) {
                cell.turn.store(turn, Ordering::Relaxed);
                return Some(Claim { cell, bit });
            }
        }
        None
    }
}

/// Marks one call more, if the replica still has as many as were seen; whether it did.
fn one_more(cell: &ComponentCell, seen: Option<usize>) -> bool {
    let one_more = |calls| seen.is_none_or(|seen| seen == calls).then_some(calls + 1);
    cell.calls
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
        .is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a panic fails the test"
    )]

    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;
    use crate::config::ComponentConfig;

    const TEXT: &str = "[component]\nname = \"tool\"\nversion = \"0.1.0\"\nwasm = \"tool.wasm\"\n\
        [resources.memory]\nmax_bytes = 1048576\n[instance]\nreplicas = 2\n";

    /// As many rounds as come to pass; thousands, where both have a processor.
    const LIMIT: Duration = Duration::from_millis(500);

    fn pair() -> Replicas {
        let config = ComponentConfig::parse("Component.toml", TEXT).unwrap();
        let cells = ComponentCell::replicas(&config.name, &config);
        Replicas {
            name: config.name,
            first: Arc::clone(&cells[0]),
            cells,
            turn: AtomicU64::new(1),
            supervisor: None,
        }
    }

    #[test]
    fn a_replica_that_somebody_has_taken_since_it_was_looked_at_is_not_taken() {
        let replicas = pair();
        let cell = &replicas.first;
        assert!(one_more(cell, Some(0)));
        assert!(!one_more(cell, Some(0)) && !one_more(cell, Some(2)));
        assert_eq!(cell.busy().1, 1);
        assert!(one_more(cell, Some(1)) && one_more(cell, None));
        assert_eq!(cell.busy().1, 3);
    }

    /// Where two threads wait for each other, without sleeping: they go on in the same moment.
    struct Crossing(AtomicU64);

    impl Crossing {
        fn meet(&self, meeting: &mut u64) {
            *meeting += 1;
            self.0.fetch_add(1, Ordering::SeqCst);
            while self.0.load(Ordering::SeqCst) < 2 * *meeting {
                std::hint::spin_loop();
            }
        }
    }

    #[test]
    fn callers_at_the_same_moment_take_different_idle_replicas() {
        let replicas = pair();
        let (crossing, over) = (Crossing(AtomicU64::new(0)), AtomicBool::new(false));
        let deadline = Instant::now() + LIMIT;
        let clashes = || {
            let (mut meeting, mut clashes) = (0, 0);
            while !over.load(Ordering::SeqCst) {
                crossing.meet(&mut meeting);
                let claim = replicas.claim(0);
                crossing.meet(&mut meeting);
                let calls = |cell: &Arc<ComponentCell>| cell.calls.load(Ordering::SeqCst);
                let is_apart = replicas.cells.iter().map(calls).eq([1, 1]);
                clashes += u64::from(!is_apart);
                if Instant::now() > deadline {
                    over.store(true, Ordering::SeqCst);
                }
                crossing.meet(&mut meeting);
                drop(claim);
            }
            clashes
        };
        let all = std::thread::scope(|scope| {
            let other = scope.spawn(clashes);
            clashes() + other.join().unwrap()
        });
        assert_eq!(all, 0);
    }
}
