//! Raft's machine: the ledger, fed in log order.
//!
//! What comes next and was proposed elsewhere, or in another life, is judged ahead on the threads that judge submissions. I1
//! holds as it does for those: the fold uses such a judgement only if the keys that count at that place are the ones it was
//! made under.

use super::{Shared, Tally};
use crate::proposer::InFlight;
use crate::receipts::Round;
use crate::verdicts::{Judging, Pool};
use engine::event::Event;
use engine::log::Lsn;
use raft::{Batch, Machine, Standing};
use std::collections::VecDeque;
use std::sync::Arc;

/// The ledger, and what is judged ahead for it.
pub struct Fold {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    /// L1: as many records as were announced at once.
    ahead: VecDeque<(Lsn, Arc<Judging>)>,
}

impl Fold {
    /// A machine over the ledger in `shared`.
    pub fn new(shared: Arc<Shared>, pool: Arc<Pool>) -> Fold {
        Fold { shared, pool, ahead: VecDeque::new() }
    }

    /// What was judged ahead of this record.
    fn judged_ahead(&mut self, lsn: Lsn) -> Option<Arc<Judging>> {
        while self.ahead.front().is_some_and(|(at, _)| *at < lsn) {
            self.ahead.pop_front();
        }
        self.ahead.pop_front_if(|(at, _)| *at == lsn).map(|(_, judging)| judging)
    }
}

impl Machine for Fold {
    fn standing(&self) -> Standing {
        self.shared.core().standing.clone()
    }

    fn coming(&mut self, batches: &[(Lsn, &Batch)]) {
        let keys = self.shared.keys.load_full();
        let judgings: Vec<(Lsn, Arc<Judging>)> = batches
            .iter()
            .filter(|(_, batch)| batch.local::<InFlight>().is_none())
            .filter(|(_, batch)| batch.events.iter().any(|event| matches!(event, Event::Received(_))))
            .map(|(lsn, batch)| (*lsn, Arc::new(Judging::new(batch.events.clone(), keys.clone()))))
            .collect();
        self.pool.offer(judgings.iter().map(|(_, judging)| judging));
        self.ahead = judgings.into();
    }

    fn apply(&mut self, lsn: Lsn, _term: u64, batch: &Batch) {
        let ahead = self.judged_ahead(lsn);
        let shared = &self.shared;
        if shared.fatal().is_some() {
            return;
        }
        let in_flight = batch.local::<InFlight>();
        let judging = match in_flight {
            Some(in_flight) => (Some(&in_flight.judging), true),
            None => (ahead.as_ref(), false),
        };
        let mut told = Vec::with_capacity(batch.events.len());
        let mut tally = Tally::default();
        let round = {
            let mut core = shared.core();
            assert!(lsn > core.standing.lsn, "I6: record {lsn} is told twice or out of order");
            if let Err(why) = shared.compare(&mut core, lsn, &batch.events) {
                return shared.die(why);
            }
            core.inside = true;
            let before = in_flight.filter(|batch| batch.receipts).map(|_| core.ledger.tree().clone());
            let mut leaves = Vec::new();
            let mut keys = shared.keys.load_full();
            for (nth, event) in batch.events.iter().enumerate() {
                match shared.step(&mut core, &mut keys, (lsn, nth), event, judging, &mut tally) {
                    Ok((decided, leaf)) => {
                        told.push(decided);
                        leaves.extend(leaf.filter(|_| before.is_some()));
                    }
                    Err(why) => return shared.die(why),
                }
            }
            before.map(|before| Arc::new(Round::new(lsn, batch.events.clone(), before, leaves)))
        };
        tally.add_to(&shared.metrics);
        shared.anchored.folded(lsn, &batch.events);
        shared.tail.folded(lsn, &batch.events);
        if let Some(in_flight) = in_flight {
            for (reply, decided) in in_flight.take().into_iter().zip(told) {
                if let Some(mut decided) = decided {
                    if let Ok(decision) = &mut decided {
                        decision.round = round.clone();
                    }
                    reply.tell(decided);
                }
            }
            shared.metrics.commit_seconds.observe(in_flight.begun.elapsed().as_secs_f64());
        }
    }

    fn passed(&mut self, standing: &Standing) {
        if self.shared.fatal().is_some() {
            return;
        }
        let mut core = self.shared.core();
        core.ledger.end_record(standing.lsn);
        core.inside = false;
        core.standing = standing.clone();
        self.shared.tail.passed(standing.lsn);
    }

    fn settled(&mut self) {
        let shared = &self.shared;
        if shared.fatal().is_some() {
            return;
        }
        let mut core = shared.core();
        shared.hand_leaves(&mut core);
        shared.note_room(&mut core);
        if core.ledger.unattested() >= shared.terms.attest_records {
            shared.attest_due.notify_one();
        }
        if core.since_snapshot >= shared.terms.snapshot_records {
            shared.snapshot_locked(&mut core);
        }
        if core.live {
            shared.metrics.tree_size.set(i64::try_from(core.ledger.tree().size()).unwrap_or(i64::MAX));
        }
    }
}
