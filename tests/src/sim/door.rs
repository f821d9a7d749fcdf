//! From clients to the group: stamps log time, batches, proposes.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use engine::event::{Envelope, Event};
use engine::log::Lsn;
use raft::{Batch, Group};
use tokio::sync::oneshot;

use super::clock::wall_ms;
use super::fold::{Shared, Waiting};
use super::history::{Answer, Place};
use super::mutants::{DoorMutant, Mutant};
use super::workload::{Flaw, Submission, settings};
use crate::rt::{self, SimRt};

/// One client's submission and where the answer goes.
pub struct Request {
    /// What it sends.
    pub sent: Submission,
    /// Who waits.
    pub answer: oneshot::Sender<(Place, Answer)>,
}

/// What clients put in and the door takes out.
#[derive(Default)]
pub struct Queue(Mutex<(VecDeque<Request>, Option<Waker>)>);

impl Queue {
    /// Put one in.
    pub fn put(&self, request: Request) {
        let mut inner = self.0.lock().unwrap();
        inner.0.push_back(request);
        let waker = inner.1.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }

    /// At least one and at most `most`.
    async fn take(&self, most: usize) -> Vec<Request> {
        poll_fn(|cx| {
            let mut inner = self.0.lock().unwrap();
            if inner.0.is_empty() {
                inner.1 = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let count = most.min(inner.0.len());
            Poll::Ready(inner.0.drain(..count).collect())
        })
        .await
    }
}

/// One life's door.
pub struct Door {
    /// The group it proposes to.
    pub group: Arc<Group<SimRt>>,
    /// What clients ask of it.
    pub queue: Arc<Queue>,
    /// What the machine tells it.
    pub shared: Arc<Mutex<Shared>>,
    /// How many requests go into one batch at most.
    pub batch_most: usize,
    /// How many batches may be on their way.
    pub in_flight: usize,
    /// What is wrong with it.
    pub mutant: Mutant,
    /// The last stamp it gave.
    pub last_ms: u64,
}

impl Door {
    /// Log time: the wall's, but never backwards in one log.
    fn stamp(&mut self) -> u64 {
        let log_ms = self.shared.lock().unwrap().log_time_ms;
        self.last_ms = self.last_ms.max(log_ms).max(wall_ms());
        self.last_ms
    }

    fn is(&self, mutant: DoorMutant) -> bool {
        self.mutant == Mutant::Door(mutant)
    }

    /// Propose until the process ends.
    pub async fn serve(mut self) {
        while !self.shared.lock().unwrap().configured {
            let events = settings(self.stamp());
            if self.group.propose(Batch { events: events.into(), local: None }).await.is_err() {
                return;
            }
        }
        let mut pending = VecDeque::new();
        let mut early: BTreeMap<(u8, u16), Place> = BTreeMap::new();
        loop {
            let most = 1 + rt::below(self.batch_most as u64) as usize;
            let requests = self.queue.take(most).await;
            let lsn = self.group.metrics().last.max(Lsn(self.last_lsn(&pending))).next();
            let (batch, sent) = self.batch(requests);
            let waiting = batch.local.clone();
            {
                let history = &mut self.shared.lock().unwrap().history;
                history.in_flight += 1;
                history.in_flight_most = history.in_flight_most.max(history.in_flight);
            }
            let Ok(taken) = self.group.submit(batch).await else { return };
            self.answer_early(lsn, &sent, waiting, &mut early);
            pending.push_back((lsn.0, taken));
            let limit = if self.is(DoorMutant::Unbounded) { usize::MAX } else { self.in_flight };
            while pending.len() >= limit {
                let Some((_, oldest)) = pending.pop_front() else { break };
                if oldest.await.is_err() {
                    return;
                }
            }
        }
    }

    fn last_lsn<T>(&self, pending: &VecDeque<(u64, T)>) -> u64 {
        pending.back().map_or(0, |(lsn, _)| *lsn)
    }

    fn batch(&mut self, requests: Vec<Request>) -> (Batch, Vec<Submission>) {
        let received_at_ms = self.stamp();
        let (mut events, mut waiting, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        for request in requests {
            let mut body = request.sent.body();
            if self.is(DoorMutant::LogsWhatItParsed) {
                body.retain(|byte| !byte.is_ascii_whitespace());
            }
            let salt = [rt::rand() as u8; 16];
            events.push(Event::Received(Envelope {
                tenant: request.sent.tenant_id(),
                received_at_ms,
                salt,
                body,
            }));
            waiting.push(Some(request.answer));
            sent.push(request.sent);
        }
        let waiting: Waiting = Mutex::new(waiting);
        (Batch { events: events.into(), local: Some(Arc::new(waiting)) }, sent)
    }

    /// Two mutants do not wait for the log.
    fn answer_early(
        &self,
        lsn: Lsn,
        sent: &[Submission],
        waiting: Option<raft::Local>,
        early: &mut BTreeMap<(u8, u16), Place>,
    ) {
        let Mutant::Door(DoorMutant::AnswersAtOnce | DoorMutant::AnswersDuplicatesEarly) = self.mutant else {
            return;
        };
        let waiting = waiting.and_then(|local| local.downcast::<Waiting>().ok()).expect("we made it");
        let mut waiting = waiting.lock().unwrap();
        for (nth, sent) in sent.iter().enumerate().filter(|(_, sent)| sent.flaw == Flaw::None) {
            let place = (lsn, nth as u32);
            let known = early.get(&(sent.tenant, sent.name)).copied();
            let answer = match known {
                Some(first) => Answer::Duplicate { first, accepted: false },
                None if self.is(DoorMutant::AnswersAtOnce) => Answer::First { accepted: false },
                None => {
                    early.insert((sent.tenant, sent.name), place);
                    continue;
                }
            };
            let _ = waiting.get_mut(nth).and_then(Option::take).map(|waiting| waiting.send((place, answer)));
        }
    }
}
