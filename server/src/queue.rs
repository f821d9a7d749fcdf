//! The queue between the requests and the log: bounded in bytes, stamped in order.
//!
//! L1: above the bound a submission is refused and nothing is held. Time is stamped under the queue's lock,
//! so the order of the queue, of the log and of the stamps is one order.

use crate::clock::Clock;
use crate::decision::Decided;
use engine::event::{Envelope, Event};
use engine::ids::TenantId;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

/// Whom to tell.
pub enum ReplyTo {
    /// One request with one submission.
    One(oneshot::Sender<Decided>),
    /// One line of a batch.
    Line(Arc<Lines>, usize),
    /// Nobody: the server's own events.
    Nobody,
}

impl ReplyTo {
    /// Hands over what was decided. A client that has gone away does not matter.
    pub fn tell(self, decided: Decided) {
        match self {
            ReplyTo::One(sender) => drop(sender.send(decided)),
            ReplyTo::Line(lines, nth) => lines.tell(nth, decided),
            ReplyTo::Nobody => {}
        }
    }
}

/// The lines of one batch, gathered until the last is there; the request is woken once.
pub struct Lines {
    decided: Mutex<Vec<Option<Decided>>>,
    missing: AtomicUsize,
    done: Notify,
}

impl Lines {
    /// Room for `n` lines.
    pub fn new(n: usize) -> Arc<Lines> {
        let decided = Mutex::new((0..n).map(|_| None).collect());
        Arc::new(Lines { decided, missing: AtomicUsize::new(n), done: Notify::new() })
    }

    /// Enters one line.
    pub fn tell(&self, nth: usize, decided: Decided) {
        let mut all = self.decided.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if all[nth].replace(decided).is_none() && self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            drop(all);
            self.done.notify_one();
        }
    }

    /// Waits for the last line and takes all of them.
    pub async fn wait(&self) -> Vec<Decided> {
        while self.missing.load(Ordering::Acquire) > 0 {
            self.done.notified().await;
        }
        let mut all = self.decided.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        all.drain(..).flatten().collect()
    }
}

/// One event on its way to the log.
pub struct Item {
    /// The event.
    pub event: Event,
    /// Who waits for it.
    pub reply: ReplyTo,
    /// Whether the answer is to carry a receipt.
    pub receipt: bool,
}

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The bound in bytes is reached.
    Bytes,
    /// The server takes nothing more.
    Closed,
}

struct Inner {
    items: Vec<Item>,
    bytes: usize,
    last_ms: u64,
    lead: Lead,
    closed: bool,
}

/// The term whose leader the stamps are good for: everything that was logged before it is stamped no later than `from_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lead {
    /// The term.
    pub term: u64,
    from_ms: u64,
}

/// What was taken from the queue and is not logged yet.
#[derive(Default)]
pub struct Drained {
    /// In the order of the queue.
    pub items: Vec<Item>,
    lead: Lead,
}

impl Drained {
    /// The term whose leader may log them.
    pub fn term(&self) -> u64 {
        self.lead.term
    }

    /// Stamps what was stamped for an earlier lead no earlier than this one allows.
    fn renew(&mut self, lead: Lead) {
        if std::mem::replace(&mut self.lead, lead) != lead {
            restamp(&mut self.items, lead.from_ms);
        }
    }
}

fn restamp(items: &mut [Item], from_ms: u64) {
    for item in items {
        if let Event::Received(envelope) = &mut item.event {
            envelope.received_at_ms = envelope.received_at_ms.max(from_ms);
        }
    }
}

/// The queue.
pub struct Queue {
    inner: Mutex<Inner>,
    bound: usize,
    ready: Notify,
    clock: Arc<dyn Clock>,
}

/// What an item occupies beside its body.
const OVERHEAD: usize = 256;

impl Queue {
    /// An empty queue whose first stamp is not before `last_ms`.
    pub fn new(bound: usize, last_ms: u64, clock: Arc<dyn Clock>) -> Queue {
        let inner = Inner { items: Vec::new(), bytes: 0, last_ms, lead: Lead::default(), closed: false };
        Queue { inner: Mutex::new(inner), bound, ready: Notify::new(), clock }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Stamps and takes submissions of one tenant: all of them or none. `receipt` says whether their answers are to carry
    /// receipts.
    ///
    /// # Errors
    /// When there is no room or the server is stopping; the waiters are given back untouched by dropping them.
    pub fn push(
        &self,
        tenant: TenantId,
        submissions: impl ExactSizeIterator<Item = (Vec<u8>, [u8; 16], ReplyTo)>,
        bytes: usize,
        receipt: bool,
    ) -> Result<(), Full> {
        let size = bytes + submissions.len() * OVERHEAD;
        let now = self.clock.wall_ms();
        let mut inner = self.lock();
        if inner.closed {
            return Err(Full::Closed);
        }
        if inner.bytes + size > self.bound {
            return Err(Full::Bytes);
        }
        let was_empty = inner.items.is_empty();
        inner.bytes += size;
        inner.last_ms = inner.last_ms.max(now);
        let received_at_ms = inner.last_ms;
        for (body, salt, reply) in submissions {
            let event = Event::Received(Envelope { tenant, received_at_ms, salt, body });
            inner.items.push(Item { event, reply, receipt });
        }
        drop(inner);
        if was_empty {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Takes events of the server's own. They pass the bound: there are few.
    pub fn push_own(&self, events: Vec<Event>) {
        let mut inner = self.lock();
        inner.items.extend(events.into_iter().map(|event| Item {
            event,
            reply: ReplyTo::Nobody,
            receipt: false,
        }));
        drop(inner);
        self.ready.notify_one();
    }

    /// This node leads `term`, and everything logged before is stamped no later than `ms`: from now on nothing is stamped
    /// earlier, and what waits here is stamped again.
    pub fn lead(&self, term: u64, ms: u64) {
        let mut inner = self.lock();
        inner.last_ms = inner.last_ms.max(ms);
        inner.lead = Lead { term, from_ms: ms };
        restamp(&mut inner.items, ms);
    }

    /// Moves everything queued to the end of `into`.
    pub fn drain(&self, into: &mut Drained) {
        let mut inner = self.lock();
        inner.bytes = 0;
        into.renew(inner.lead);
        if into.items.is_empty() {
            std::mem::swap(&mut into.items, &mut inner.items);
        } else {
            into.items.append(&mut inner.items);
        }
    }

    /// Waits until something is queued (`true`) or the queue is closed and empty (`false`).
    pub async fn wait(&self) -> bool {
        loop {
            {
                let inner = self.lock();
                if !inner.items.is_empty() {
                    return true;
                }
                if inner.closed {
                    return false;
                }
            }
            self.ready.notified().await;
        }
    }

    /// Takes nothing from clients from now on.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn one(queue: &Queue, body: usize) -> Result<(), Full> {
        let tenant = TenantId::new("t").unwrap();
        queue.push(tenant, std::iter::once((vec![0; body], [0; 16], ReplyTo::Nobody)), body, false)
    }

    #[test]
    fn full_is_refused_and_room_comes_back() {
        let queue = Queue::new(4096, 0, Arc::new(ManualClock::default()));
        for _ in 0..3 {
            one(&queue, 1000).unwrap();
        }
        assert_eq!(one(&queue, 1000), Err(Full::Bytes));
        let mut drained = Drained::default();
        queue.drain(&mut drained);
        assert_eq!((drained.items.len(), queue.bytes()), (3, 0));
        one(&queue, 1000).unwrap();
        queue.close();
        assert_eq!(one(&queue, 1), Err(Full::Closed));
    }

    #[test]
    fn stamps_never_go_back() {
        let clock = Arc::new(ManualClock::default());
        let queue = Queue::new(1 << 20, 500, clock.clone());
        for wall in [100, 600, 550, 700] {
            clock.wall.store(wall, Ordering::Relaxed);
            one(&queue, 1).unwrap();
        }
        let mut drained = Drained::default();
        queue.drain(&mut drained);
        assert_eq!(stamps(&drained), [500, 600, 600, 700]);
    }

    fn stamps(drained: &Drained) -> Vec<u64> {
        let stamp = |item: &Item| match &item.event {
            Event::Received(envelope) => envelope.received_at_ms,
            _ => 0,
        };
        drained.items.iter().map(stamp).collect()
    }

    /// I7: behind what another leader stamped later, a submission would be judged by that one's time.
    #[test]
    fn what_waits_while_another_one_leads_is_stamped_again() {
        let clock = Arc::new(ManualClock::default());
        let queue = Queue::new(1 << 20, 0, clock.clone());
        queue.lead(3, 40);
        clock.wall.store(100, Ordering::Relaxed);
        one(&queue, 1).unwrap();
        let mut drained = Drained::default();
        queue.drain(&mut drained);
        one(&queue, 1).unwrap();
        assert_eq!((drained.term(), stamps(&drained)), (3, vec![100]));
        queue.lead(5, 170);
        one(&queue, 1).unwrap();
        clock.wall.store(180, Ordering::Relaxed);
        one(&queue, 1).unwrap();
        queue.drain(&mut drained);
        assert_eq!((drained.term(), stamps(&drained)), (5, vec![170, 170, 170, 180]));
        // A lead that goes on changes nothing.
        queue.drain(&mut drained);
        assert_eq!((drained.term(), stamps(&drained)), (5, vec![170, 170, 170, 180]));
    }

    #[tokio::test]
    async fn lines_wake_their_request_once_all_are_there() {
        let lines = Lines::new(3);
        for nth in [2, 0, 1] {
            lines.tell(nth, Err(crate::http::refusal::Refusal::Internal.into()));
        }
        assert_eq!(lines.wait().await.len(), 3);
    }
}
