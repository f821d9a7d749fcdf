//! What happened in one record, counted aside and added to the metrics once: the counters are shared by all
//! threads, and a record holds many submissions.

use crate::door::{Door, TenantDoor};
use crate::metrics::Metrics;
use engine::ids::TenantId;
use engine::ledger::Outcome;
use engine::summary::{Judged, SignatureForm};
use std::sync::Arc;

/// Counts of one record.
#[derive(Default)]
pub struct Tally {
    all: Counts,
    forms: Vec<(SignatureForm, u64)>,
    tenants: Vec<(TenantId, Option<Arc<TenantDoor>>, Counts)>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    replays: u64,
    conflicts: u64,
    invalid: u64,
    unsigned: u64,
    accepted: u64,
    escalated: u64,
}

impl Counts {
    fn add(&mut self, outcome: &Outcome, judged: Option<&Judged>) {
        let counter = match (outcome, judged) {
            (Outcome::Duplicate { .. }, _) => &mut self.replays,
            (Outcome::Conflict { .. }, _) => &mut self.conflicts,
            (_, Some(Judged::Malformed(_))) => &mut self.invalid,
            (_, Some(Judged::NoKey | Judged::BadSignature(_))) => &mut self.unsigned,
            (_, Some(judged)) if judged.verdict().is_some_and(|v| v.accepted && !v.escalated) => {
                &mut self.accepted
            }
            (_, Some(_)) => &mut self.escalated,
            (_, None) => return,
        };
        *counter += 1;
    }
}

impl Tally {
    /// Counts one submission.
    pub fn count(&mut self, door: &Door, tenant: &TenantId, outcome: &Outcome, judged: Option<&Judged>) {
        self.all.add(outcome, judged);
        if let Some(Judged::Sound(sound)) = judged {
            let form = sound.signed.form;
            match self.forms.iter_mut().find(|(other, _)| *other == form) {
                Some((_, count)) => *count += 1,
                None => self.forms.push((form, 1)),
            }
        }
        // A record holds the submissions of few tenants, and often the last one's again.
        match self.tenants.iter_mut().rev().find(|(other, ..)| other == tenant) {
            Some((.., counts)) => counts.add(outcome, judged),
            None => {
                let mut counts = Counts::default();
                counts.add(outcome, judged);
                self.tenants.push((*tenant, door.tenant(tenant), counts));
            }
        }
    }

    /// Adds everything to the metrics.
    pub fn add_to(&self, metrics: &Metrics) {
        metrics.dedup_replays.inc_by(self.all.replays);
        metrics.dedup_conflicts.inc_by(self.all.conflicts);
        metrics.invalid.inc_by(self.all.invalid);
        metrics.signature_errors.inc_by(self.all.unsigned);
        metrics.accepted.inc_by(self.all.accepted);
        metrics.escalated.inc_by(self.all.escalated);
        for (form, count) in &self.forms {
            metrics.form(*form).inc_by(*count);
        }
        for (_, door, counts) in &self.tenants {
            let Some(tenant) = door.as_ref().map(|door| &door.metrics) else { continue };
            tenant.dedup.inc_by(counts.replays + counts.conflicts);
            tenant.signature_errors.inc_by(counts.unsigned);
            tenant.accepted.inc_by(counts.accepted);
            tenant.escalated.inc_by(counts.escalated);
        }
    }
}
