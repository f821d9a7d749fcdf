//! Room on the disk, promised before anything is proposed.
//!
//! Raft cannot take an entry back, and a log that cannot write one has failed. So a batch asks for its room first, and
//! one that finds none is refused while nothing of it is anywhere (FAULTS F8). The log says what is certain to fit, each
//! batch holds its share until it is durable and applied, and the two together never promise more than there is.
//!
//! L1: what waits here is what the group's bounds let in; nobody is queued.

use std::sync::{Arc, Mutex, MutexGuard};

/// What became of a batch that asked.
pub(crate) enum Answer {
    /// It fits whatever happens; the room comes back when this is dropped.
    Promised(Promise),
    /// A further segment is being made, or others have to finish first: ask again.
    Later,
    /// There is no room and none is being made.
    Full,
}

/// Room of the log, and who holds how much of it.
#[derive(Debug)]
pub(crate) struct Room {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: segments::Room,
    promised: u64,
    /// The last batch that asked was refused, and no room has come since.
    full: bool,
}

/// A share of the room.
#[derive(Debug)]
pub(crate) struct Promise {
    room: Arc<Room>,
    cost: u64,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.room.lock().promised -= self.cost;
    }
}

impl Room {
    /// Nothing fits until the log has said what does.
    pub(crate) fn new() -> Arc<Room> {
        let log = segments::Room { bytes: 0, whole: false, refused: None };
        Arc::new(Room { inner: Mutex::new(Inner { log, promised: 0, full: false }) })
    }

    /// A share for an entry of so many payload bytes. An entry that finds a whole segment to itself always fits.
    pub(crate) fn ask(self: &Arc<Self>, payload: usize) -> Answer {
        let cost = segments::Room::cost(payload);
        let mut inner = self.lock();
        let fits = inner.promised + cost <= inner.log.bytes || (inner.promised == 0 && inner.log.whole);
        if fits {
            inner.promised += cost;
            inner.full = false;
            return Answer::Promised(Promise { room: self.clone(), cost });
        }
        if inner.log.refused.is_none() {
            return Answer::Later;
        }
        inner.full = true;
        Answer::Full
    }

    /// What the log says now. Called by the actor only.
    pub(crate) fn publish(&self, log: segments::Room) {
        let mut inner = self.lock();
        inner.full &= log.refused.is_some();
        if inner.log != log {
            inner.log = log;
        }
    }

    /// Whether the disk has refused the last batch, with the reason.
    pub(crate) fn full(&self) -> Option<String> {
        let inner = self.lock();
        inner.log.refused.clone().filter(|_| inner.full)
    }

    /// Bytes that the next batches can have, and why no further segment could be made, if so.
    pub(crate) fn left(&self) -> (u64, Option<String>) {
        let inner = self.lock();
        (inner.log.bytes.saturating_sub(inner.promised), inner.log.refused.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing inside the lock can panic half way through a change.
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(bytes: u64, whole: bool, refused: bool) -> segments::Room {
        segments::Room { bytes, whole, refused: refused.then(|| "no space".to_owned()) }
    }

    fn promised(answer: Answer) -> Promise {
        let Answer::Promised(promise) = answer else { panic!("there is room") };
        promise
    }

    #[test]
    fn no_more_is_promised_than_there_is_and_shares_come_back() {
        let (here, cost) = (Room::new(), segments::Room::cost(100));
        assert!(matches!(here.ask(100), Answer::Later), "the log has not spoken yet");
        here.publish(room(2 * cost, false, false));
        let (first, _second) = (promised(here.ask(100)), promised(here.ask(100)));
        assert!(matches!(here.ask(100), Answer::Later));
        drop(first);
        promised(here.ask(100));
    }

    #[test]
    fn a_refused_segment_means_full_only_for_what_does_not_fit() {
        let (here, cost) = (Room::new(), segments::Room::cost(100));
        here.publish(room(cost, false, true));
        let first = promised(here.ask(100));
        assert_eq!(here.full(), None);
        assert!(matches!(here.ask(100), Answer::Full));
        assert_eq!(here.full().as_deref(), Some("no space"));
        drop(first);
        promised(here.ask(100));
        assert_eq!(here.full(), None, "it took one again");
        assert!(matches!(here.ask(1 << 20), Answer::Full));
        here.publish(room(cost, false, false));
        assert_eq!(here.full(), None, "a segment is on its way");
    }

    #[test]
    fn a_whole_segment_takes_any_one_entry() {
        let here = Room::new();
        here.publish(room(0, true, false));
        let alone = promised(here.ask(1 << 20));
        assert!(matches!(here.ask(1), Answer::Later), "but only one");
        drop(alone);
        promised(here.ask(1));
    }
}
