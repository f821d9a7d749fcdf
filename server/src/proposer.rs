//! From the queue to the log: everything that is ready becomes one batch, several batches are in flight.
//!
//! There is no commit timer. A batch takes what is there once every request that is ready has run; while the log
//! is busy the queue grows and the next batch is larger.

use crate::fold::Shared;
use crate::http::refusal::{Problem, Refusal};
use crate::metrics::Metrics;
use crate::queue::{Drained, Item, Queue, ReplyTo};
use crate::verdicts::{Judging, KeyTable, Pool};
use arc_swap::ArcSwap;
use engine::limits::RECORD_EVENTS_MAX;
use raft::{Batch, Group, ProposeError};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::Semaphore;

/// What the proposing node remembers of a batch until it is applied. Never written, never sent.
pub struct InFlight {
    /// Its judgements.
    pub judging: Arc<Judging>,
    /// When it was proposed.
    pub begun: Instant,
    /// Whether any answer is to carry a receipt.
    pub receipts: bool,
    replies: Mutex<Vec<ReplyTo>>,
}

impl InFlight {
    /// Takes those who wait, in the order of the events.
    pub fn take(&self) -> Vec<ReplyTo> {
        std::mem::take(&mut *self.replies.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Tells all who still wait that the batch failed.
    fn fail(&self, error: &ProposeError, metrics: &Metrics) {
        let problem = match error {
            ProposeError::Unknown => Problem::from(Refusal::OutcomeUnknown).elsewhere(),
            ProposeError::OutOfBounds { .. } => Problem::from(Refusal::Internal),
            // A full disk does not empty itself within a second.
            ProposeError::NoSpace => {
                Problem::from(Refusal::LogUnavailable).detail("the disk is full").retry_after(10)
            }
            ProposeError::NotLeader { .. } => {
                Problem::from(Refusal::LogUnavailable).detail("this node does not lead").elsewhere()
            }
            ProposeError::Stopped => Problem::from(Refusal::LogUnavailable).detail("the log has stopped"),
        };
        self.refuse(&problem, metrics);
    }

    /// Tells all who still wait that the log did not take the batch.
    fn refuse(&self, problem: &Problem, metrics: &Metrics) {
        let replies = self.take();
        metrics.log_errors.inc_by(replies.len() as u64);
        for reply in replies {
            reply.tell(Err(Box::new(problem.clone())));
        }
    }
}

/// Hands what is queued to the log, in records of at most `record_max` bytes, until the queue is closed and empty, then until all of it is answered.
pub async fn run(
    queue: Arc<Queue>,
    group: Arc<Group>,
    fold: Arc<Shared>,
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
    in_flight: usize,
    record_max: usize,
) {
    let permits = Arc::new(Semaphore::new(in_flight));
    let mut waiting = Drained::default();
    loop {
        if waiting.items.is_empty() && !queue.wait().await {
            break;
        }
        let Ok(permit) = permits.clone().acquire_owned().await else { break };
        for _ in 0..ROUNDS {
            tokio::task::yield_now().await;
        }
        queue.drain(&mut waiting);
        let (batch, in_flight) = take_batch(&mut waiting.items, &fold.keys, record_max);
        pool.offer([&in_flight.judging].into_iter());
        metrics.batch_events.observe(batch.events.len() as f64);
        if fold.damages.any() {
            let detail = "a sealed segment of the log is damaged; /readyz?verbose names it";
            fold.not_logged(in_flight.judging.events());
            in_flight
                .refuse(&Problem::from(Refusal::LogUnavailable).detail(detail).retry_after(60), &metrics);
            continue;
        }
        if fold.stalled() {
            report(&in_flight, &ProposeError::NoSpace, &metrics, &fold);
            continue;
        }
        match group.submit_in(waiting.term(), batch).await {
            Err(error) => report(&in_flight, &error, &metrics, &fold),
            Ok(pending) => {
                let (metrics, fold) = (metrics.clone(), fold.clone());
                tokio::spawn(async move {
                    // Raft hands the batch to the log first; then there is time until the disk answers.
                    tokio::task::yield_now().await;
                    while in_flight.judging.help(&metrics) {
                        tokio::task::yield_now().await;
                    }
                    if let Err(error) = pending.await {
                        report(&in_flight, &error, &metrics, &fold);
                    }
                    drop(permit);
                });
            }
        }
    }
    // Every permit back means every batch was answered one way or the other.
    let _ = permits.acquire_many(u32::try_from(in_flight).unwrap_or(u32::MAX)).await;
}

fn report(in_flight: &InFlight, error: &ProposeError, metrics: &Metrics, fold: &Shared) {
    // If its fate is not known, one more `Attested` does no harm; none at all would.
    fold.not_logged(in_flight.judging.events());
    if matches!(error, ProposeError::NoSpace) {
        // The log has said it once; saying it for every submission would only fill what is full.
        return in_flight.fail(error, metrics);
    }
    tracing::warn!(%error, events = in_flight.judging.events().len(), "a batch was not taken by the log");
    in_flight.fail(error, metrics);
}

/// Moves as many items as one record holds out of `waiting`.
fn take_batch(
    waiting: &mut Vec<Item>,
    keys: &ArcSwap<KeyTable>,
    record_max: usize,
) -> (Batch, Arc<InFlight>) {
    let mut bytes = RECORD_OVERHEAD;
    let mut n = 0;
    for item in waiting.iter().take(RECORD_EVENTS_MAX) {
        bytes += raft::weight(&item.event);
        if bytes > record_max && n > 0 {
            break;
        }
        n += 1;
    }
    assert!(n > 0, "L1: a batch is never empty");
    let mut events = Vec::with_capacity(n);
    let mut replies = Vec::with_capacity(n);
    let mut receipts = false;
    for item in waiting.drain(..n) {
        receipts |= item.receipt;
        events.push(item.event);
        replies.push(item.reply);
    }
    let events = Arc::new(events);
    let judging = Arc::new(Judging::new(events.clone(), keys.load_full()));
    let in_flight =
        Arc::new(InFlight { judging, begun: Instant::now(), receipts, replies: Mutex::new(replies) });
    (Batch { events, local: Some(in_flight.clone()) }, in_flight)
}

/// How often all that is ready may run before a batch is taken. The first submission wakes the proposer, which would run
/// at once and leave with it alone; the requests that were answered or read together with it follow within
/// microseconds. Where nothing else is ready this takes no time.
const ROUNDS: usize = 2;

/// Bytes of a record beside its events, with room to spare.
const RECORD_OVERHEAD: usize = 64;
