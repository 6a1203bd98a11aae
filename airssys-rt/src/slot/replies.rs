//! Who waits for an answer, and the answers nobody has fetched yet.

use std::task::{Context, Poll, Waker};

use slab::Slab;

/// So many places are kept when nobody waits.
const KEPT: usize = 16;

/// Whose reply it is: known to the caller, and to whoever is to answer it. The later of the two
/// to be done with it frees its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(usize);

/// The replies of one slot, under its lock.
pub(super) struct Replies<A>(Slab<Place<A>>);

/// With neither, the caller has gone and nobody has answered yet.
struct Place<A> {
    /// Until there is an answer, for as long as somebody waits for it.
    caller: Option<Waker>,
    answer: Option<A>,
}

/// What is left to be done with an answer once the lock is free.
#[must_use]
pub(super) enum Sent<A> {
    Wake(Waker),
    /// Nobody wants it. What is in it may do anything when it is dropped.
    Unwanted(A),
}

impl<A> Sent<A> {
    pub(super) fn finish(self) {
        if let Self::Wake(waker) = self {
            waker.wake();
        }
    }
}

impl<A> Replies<A> {
    pub(super) fn new() -> Self {
        Self(Slab::new())
    }

    /// A caller begins to wait.
    pub(super) fn await_by(&mut self, caller: Waker) -> Key {
        Key(self.0.insert(Place {
            caller: Some(caller),
            answer: None,
        }))
    }

    /// The answer, for its caller. Not to be asked again once it has come.
    pub(super) fn poll(&mut self, key: Key, context: &mut Context<'_>) -> Poll<Option<A>> {
        if let Some(Place {
            caller: Some(caller),
            ..
        }) = self.0.get_mut(key.0)
        {
            caller.clone_from(context.waker());
            return Poll::Pending;
        }
        Poll::Ready(self.free(key))
    }

    /// The caller goes; an answer it has not fetched comes back.
    pub(super) fn leave(&mut self, key: Key) -> Option<A> {
        match self.0.get_mut(key.0) {
            Some(place) if place.answer.is_none() => {
                place.caller = None;
                None
            }
            _ => self.free(key),
        }
    }

    /// Whether the caller still waits.
    pub(super) fn is_wanted(&self, key: Key) -> bool {
        let place = self.0.get(key.0);
        place.is_some_and(|place| place.caller.is_some())
    }

    /// Answers a caller, once.
    pub(super) fn send(&mut self, key: Key, answer: A) -> Sent<A> {
        let Some(place) = self.0.get_mut(key.0) else {
            return Sent::Unwanted(answer);
        };
        match place.caller.take() {
            Some(caller) => {
                place.answer = Some(answer);
                Sent::Wake(caller)
            }
            None => {
                self.free(key);
                Sent::Unwanted(answer)
            }
        }
    }

    fn free(&mut self, key: Key) -> Option<A> {
        let place = self.0.try_remove(key.0);
        if self.0.is_empty() && self.0.capacity() > KEPT {
            self.0 = Slab::new();
        }
        place?.answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_free_again_whoever_is_done_first() {
        let mut replies = Replies::new();
        let context = &mut Context::from_waker(Waker::noop());
        let began = || Waker::noop().clone();
        let fetched = replies.await_by(began());
        assert!(replies.poll(fetched, context).is_pending());
        assert!(matches!(replies.send(fetched, 1), Sent::Wake(_)));
        assert!(!replies.is_wanted(fetched));
        assert_eq!(replies.poll(fetched, context), Poll::Ready(Some(1)));
        let left = replies.await_by(began());
        assert_eq!(replies.leave(left), None);
        assert!(matches!(replies.send(left, 2), Sent::Unwanted(2)));
        let unfetched = replies.await_by(began());
        replies.send(unfetched, 3).finish();
        assert_eq!(replies.leave(unfetched), Some(3));
        assert!(replies.0.is_empty());
    }

    #[test]
    fn room_for_many_is_not_kept_once_nobody_waits() {
        let mut replies = Replies::new();
        let many: Vec<_> = (0..1_000)
            .map(|_| replies.await_by(Waker::noop().clone()))
            .collect();
        for key in many {
            replies.send(key, ()).finish();
            replies.leave(key);
        }
        assert!(replies.0.capacity() <= KEPT);
    }
}
