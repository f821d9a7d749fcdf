//! The machine of one node in one life: the simulator's ledger, held against what all others made of the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::event::Event;
use engine::log::{Digest, Lsn};
use raft::{Batch, Machine, Standing};

use super::mutants::Mutant;
use super::world::World;
use crate::rt;
use crate::sim::clock;
use crate::sim::fold::Fold;

/// See the module.
pub struct Replica {
    pub(super) fold: Fold,
    pub(super) world: World,
    pub(super) node: u64,
    /// It has stopped itself: what it computed is not what the leader attested.
    pub(super) halted: bool,
    /// It may have made something else of a record.
    pub(super) diverged: bool,
    /// What it made of the records since.
    pub(super) digests: BTreeMap<Lsn, Digest>,
}

/// Every so many records a mutant errs.
const NOW_AND_THEN: u64 = 11;

impl Replica {
    fn mutant(&self) -> Mutant {
        self.world.options.mutant
    }

    /// The records from here on are folded otherwise: what a bit that flipped in memory does.
    fn strike(&mut self, batch: &Batch) -> Option<Batch> {
        let may = batch.events.iter().any(|event| matches!(event, Event::Received(_)));
        // One that has just been elected attests soon, and is not struck.
        let leads = self.world.group(self.node).is_none_or(|group| group.leads().is_some());
        let struck = may
            && self.world.node(self.node, |node| {
                let struck = node.strike && !leads;
                node.strike &= !struck;
                node.diverged |= struck;
                struck
            });
        if !struck {
            return None;
        }
        self.diverged = true;
        let last = batch.events.iter().rposition(|event| matches!(event, Event::Received(_)));
        let mut events = batch.events.to_vec();
        last.map(|last| events.remove(last));
        Some(Batch { events: Arc::new(events), local: None })
    }

    /// Compares with what the leader attested; false when this node must stop.
    fn agrees(&mut self, lsn: Lsn, batch: &Batch) -> bool {
        for event in batch.events.iter() {
            let Event::Attested(attested) = event else { continue };
            if self.mutant() == Mutant::ComparesNothing {
                break;
            }
            let Err(divergence) = self.fold.ledger().check_attested(attested) else { continue };
            if !self.diverged {
                self.world.violation(format!("I3: node {} says that it diverged: {divergence}", self.node));
            }
            if self.mutant() != Mutant::IgnoresAlarm {
                return false;
            }
        }
        // What was left out may have changed nothing, and then there is nothing to say.
        let truth = self.world.truth();
        let differs = |event: &Event| {
            let Event::Attested(attested) = event else { return false };
            let right = truth.history.applied.get(&attested.upto).map(|record| record.digest);
            let mine = self.digests.get(&attested.upto).copied();
            mine.is_some() && right.is_some() && mine != right
        };
        let goes_on = batch.events.iter().any(differs);
        drop(truth);
        if goes_on {
            self.world.violation(format!(
                "I3: node {} computed something else and goes on after the attestation at {lsn}",
                self.node
            ));
        }
        true
    }
}

impl Machine for Replica {
    fn standing(&self) -> Standing {
        let mut standing = self.fold.standing();
        if self.mutant() == Mutant::StaleMembership && standing.lsn > Lsn::ZERO {
            let before = self.world.node(self.node, |node| node.membership_before.clone());
            standing.membership = if before.is_empty() { standing.membership } else { before };
        }
        standing
    }

    fn apply(&mut self, lsn: Lsn, term: u64, batch: &Batch) {
        if self.halted {
            return;
        }
        let (skew, leading) = self.world.node(self.node, |node| (node.skew_ms, node.leading.is_some()));
        clock::set_skew(skew);
        if !self.agrees(lsn, batch) {
            self.halted = true;
            self.world.state().alarms += 1;
            // Nothing that it kept may be trusted; the log may.
            self.world.node(self.node, |node| node.snapshot = None);
            return self.world.end_soon(self.node, None);
        }
        let errs = !leading && lsn.0.is_multiple_of(NOW_AND_THEN);
        match self.mutant() {
            Mutant::SkipsEntry if errs => return,
            Mutant::AppliesTwice if errs => self.fold.apply(lsn, term, batch),
            _ => {}
        }
        match self.strike(batch) {
            Some(struck) => self.fold.apply(lsn, term, &struck),
            None => self.fold.apply(lsn, term, batch),
        }
    }

    fn passed(&mut self, standing: &Standing) {
        if self.halted {
            return;
        }
        let before = self.fold.standing().membership;
        self.fold.passed(standing);
        let (lsn, attest) = (standing.lsn, self.fold.ledger().unattested() > 0);
        let attest = (attest && lsn.0.is_multiple_of(3)).then(|| self.fold.ledger().attest());
        let diverged = self.diverged;
        let (record, dies) = self.world.node(self.node, |node| {
            node.applied = lsn;
            if before != standing.membership {
                node.membership_before = before;
            }
            node.attest = attest.or(node.attest.take());
            let mut shared = node.shared.lock().unwrap();
            let snapshot = shared.snapshot.take().filter(|_| !diverged);
            let dies = snapshot.is_some() && std::mem::take(&mut node.dies_after.1);
            node.snapshot = snapshot.or(node.snapshot.take());
            (shared.history.applied.remove(&lsn), dies)
        });
        if dies {
            self.world.end_soon(self.node, Some(0));
        }
        let record = record.expect("every record is noted as it is passed");
        rt::note(lsn.0 << 8 ^ self.node ^ u64::from(record.digest.0[0]) << 50);
        if diverged {
            self.digests.insert(lsn, record.digest);
            return;
        }
        let passed = self.world.truth().passed(self.node, lsn, &record, &standing.membership);
        match passed {
            Ok(true) if self.world.state().set_up => self.world.check_quorum(lsn, standing.term),
            Ok(_) => {}
            Err(broken) => self.world.violation(broken),
        }
    }
}
