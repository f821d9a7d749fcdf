//! The order of appends that are under way at the same time.
//!
//! A leader sends the next append before the last is answered, and a transport may carry them on different
//! ways. Raft would take one that arrives early for a gap and ask for all of it again: slow, never wrong.
//! So appends of one session are handed to Raft in the order in which they were sent, as long as the one
//! that is missing comes soon.
//!
//! L1: one place for each node, and nobody waits longer than [`PATIENCE`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::types::Runtime;

/// How long an append waits for the one before it.
const PATIENCE: Duration = Duration::from_millis(500);
/// Nodes that are remembered: as many as a membership may name.
const NODES_MAX: usize = 64;

/// Where an append stands: the session it belongs to, and how many of that session came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) session: u64,
    pub(crate) nth: u32,
}

/// By node, the session it is in and the append that comes next.
#[derive(Default)]
pub(crate) struct Turns {
    next: Mutex<BTreeMap<u64, Place>>,
    moved: Notify,
}

impl Turns {
    /// Returns when everything before `place` was handed on, or it is no use to wait.
    pub(crate) async fn wait<R: Runtime>(&self, from: u64, place: Place) {
        if self.is_due(from, place) {
            return;
        }
        let turn = async {
            loop {
                let mut moved = std::pin::pin!(self.moved.notified());
                moved.as_mut().enable();
                if self.is_due(from, place) {
                    return;
                }
                moved.await;
            }
        };
        // Out of its turn it is refused, and sent again.
        let _ = R::timeout(PATIENCE, turn).await;
    }

    fn is_due(&self, from: u64, place: Place) -> bool {
        let mut next = self.lock();
        if place.nth == 0 {
            if next.len() >= NODES_MAX {
                next.clear();
            }
            next.insert(from, place);
            return true;
        }
        match next.get(&from) {
            // What came before it has not come at all yet.
            None => false,
            Some(due) if due.session < place.session => false,
            Some(due) => due.session > place.session || due.nth >= place.nth,
        }
    }

    /// `place` was handed on.
    pub(crate) fn done(&self, from: u64, place: Place) {
        if let Some(due) = self.lock().get_mut(&from)
            && due.session == place.session
        {
            due.nth = due.nth.max(place.nth + 1);
        }
        self.moved.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Place>> {
        // Nothing inside the lock can panic half way through a change.
        self.next.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use openraft_rt::AsyncRuntime;

    use super::*;
    use crate::types::Tokio;

    fn at(session: u64, nth: u32) -> Place {
        Place { session, nth }
    }

    #[tokio::test]
    async fn appends_of_a_session_follow_each_other_whatever_way_they_came() {
        let turns = std::sync::Arc::new(Turns::default());
        let order = std::sync::Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for nth in [3, 1, 2, 0] {
            let (turns, order) = (turns.clone(), order.clone());
            tasks.push(Tokio::spawn(async move {
                turns.wait::<Tokio>(7, at(1, nth)).await;
                order.lock().unwrap().push(nth);
                turns.done(7, at(1, nth));
            }));
            tokio::task::yield_now().await;
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn nobody_waits_for_what_never_comes_or_for_a_session_that_is_over() {
        let turns = Turns::default();
        turns.wait::<Tokio>(7, at(1, 5)).await;
        turns.wait::<Tokio>(7, at(2, 0)).await;
        assert!(turns.is_due(7, at(1, 9)), "its session is over");
        assert!(!turns.is_due(7, at(2, 1)), "the one before it may come");
        turns.done(7, at(2, 0));
        assert!(turns.is_due(7, at(2, 1)));
        for node in 0..1000 {
            turns.wait::<Tokio>(node, at(1, 0)).await;
        }
        assert!(turns.lock().len() <= NODES_MAX);
    }
}
