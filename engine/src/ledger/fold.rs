//! Folding decided events into every projection.

use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::{First, Ledger, Outcome, RefusedReason, Rule, Table, TableError};
use crate::event::{Envelope, Event, KeyKind, KeySpec};
use crate::ids::TenantId;
use crate::leaf::{self, KeyName, Leaf, What};
use crate::limits::EXPIRY_MARGIN_MS;
use crate::log::{Digest, Lsn};
use crate::summary::decimal::nine;
use crate::summary::{Fingerprint, Judged, Sound};
use crate::tree::leaf_hash;

/// What applying an event added to the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The leaf: one line without its newline. `None` for duplicates and for events about the log itself.
    pub leaf: Option<Vec<u8>>,
    /// Its hash in the tree.
    pub leaf_hash: Option<Digest>,
}

/// How much of the index one record tidies at most, so that no record waits for all of it.
const TIDY_PARTITIONS: usize = 16;

impl<T: Table> Ledger<T> {
    /// Folds one decided event into every projection. If the table fails, the ledger says so at the next
    /// [`Ledger::decide`] and stays refused; the projections in memory are still those of the log.
    ///
    /// # Panics
    /// If the event is not the next one, or the outcome was decided in another state.
    pub fn apply(
        &mut self,
        lsn: Lsn,
        nth: u32,
        event: &Event,
        judged: Option<&Judged>,
        outcome: &Outcome,
    ) -> Applied {
        assert!(self.is_next(lsn, nth), "I5: the log has no holes: {lsn}.{nth} after {}", self.applied);
        let elsewhere = outcome.earlier().and_then(|first| self.region_of(first)).map(String::from);
        let applied = self.apply_one(lsn, nth, event, judged, outcome, elsewhere.as_deref());
        if let Event::Imported(imported) = event {
            self.import(lsn, imported);
        }
        applied
    }

    /// As [`Ledger::apply`]; `elsewhere` is the region of the first one that the outcome speaks of, if it is another.
    pub(super) fn apply_one(
        &mut self,
        lsn: Lsn,
        nth: u32,
        event: &Event,
        judged: Option<&Judged>,
        outcome: &Outcome,
        elsewhere: Option<&str>,
    ) -> Applied {
        if let Some(seq) = outcome.seq() {
            assert_eq!(seq, self.tree.size(), "T1: a leaf goes where it was decided");
        }
        if let Some(time_ms) = event.at_ms() {
            self.now_ms = self.now_ms.max(time_ms);
        }
        let (leaf, leaf_hash) = match self.written(lsn, nth, judged, outcome) {
            Some(written) => (Some(written.line.clone()), Some(written.hash)),
            None => {
                let leaf = self.leaf(lsn, nth, event, judged, outcome, elsewhere);
                let hash = leaf.as_deref().map(leaf_hash);
                (leaf, hash)
            }
        };
        match event {
            Event::Received(envelope) => {
                let judged = judged.expect("I1: a submission is judged before it is applied");
                self.apply_received(lsn, nth, envelope, judged, outcome);
            }
            Event::Attested(attested) => self.attestations.cover(attested.upto),
            Event::Checkpoint(note) if self.log_keys.lacks_note() => {
                self.log_keys.noted(note, self.tree.size());
            }
            Event::Checkpoint(_) | Event::Anchored(_) | Event::Witnessed(_) | Event::Imported(_) => {}
            Event::Declared(declared) => {
                self.withhold(lsn, nth, declared);
                self.declare(declared);
            }
            Event::Reconciled(step) => self.cases.step(step),
            Event::TenantSet(_) | Event::KeySet(_) | Event::PolicySet(_) => {
                if let Outcome::Configured { .. } = outcome {
                    self.configure(event);
                }
            }
            Event::LogKeySet(set) => {
                if let (Outcome::Configured { seq }, Some(entry)) = (outcome, &leaf) {
                    self.log_keys.set(set, *seq, entry.clone());
                }
            }
        }
        if let Some(hash) = leaf_hash {
            self.tree.append(hash);
        }
        self.chain.add(outcome, leaf_hash.as_ref(), elsewhere);
        self.open += 1;
        Applied { leaf, leaf_hash }
    }

    /// Closes a record: blank and membership records, which have no events, too.
    ///
    /// # Panics
    /// If it is not the next one.
    pub fn end_record(&mut self, lsn: Lsn) {
        assert_eq!(lsn, self.applied.next(), "I5: the log has no holes");
        self.applied = lsn;
        self.open = 0;
        self.chain.close(lsn);
        self.tenants.end_record();
        let (outcomes, digest) = (self.outcomes_digest(), self.digest());
        self.attestations.end_record(lsn, outcomes, digest);
        if self.failed.is_none()
            && let Err(error) = self.tidy()
        {
            self.failed = Some(error);
        }
    }

    fn apply_received(
        &mut self,
        lsn: Lsn,
        nth: u32,
        envelope: &Envelope,
        judged: &Judged,
        outcome: &Outcome,
    ) {
        let mut verdict = (false, false);
        if let Outcome::First { row, .. } = outcome {
            assert!(matches!(judged, Judged::Sound(_)), "I1: only a sound submission reaches the index");
            let Judged::Sound(sound) = judged else { unreachable!("asserted just now") };
            verdict = (sound.verdict.accepted, sound.verdict.escalated);
            assert_eq!(*row, self.own_rows(), "I2: decided as first in another state");
            self.push(&self.first(lsn, nth, &envelope.tenant, sound));
        }
        let body = envelope.body.len();
        self.tally.count(body, outcome, verdict);
        self.tenants.count(&envelope.tenant, |tally| tally.count(body, outcome, verdict));
        self.withholding.count(&envelope.tenant);
        self.attestations.signature(judged.signature_byte());
    }

    fn configure(&mut self, event: &Event) {
        self.rules_version += 1;
        match event {
            Event::TenantSet(tenant) => self.tenants.set_tenant(tenant),
            Event::KeySet(key) => self.tenants.set_key(key),
            Event::PolicySet(set) => self.rules.set(set),
            Event::Received(_)
            | Event::Attested(_)
            | Event::Checkpoint(_)
            | Event::Anchored(_)
            | Event::Witnessed(_)
            | Event::LogKeySet(_)
            | Event::Imported(_)
            | Event::Declared(_)
            | Event::Reconciled(_) => {
                unreachable!("only settings are configured")
            }
        }
    }

    fn first(&self, lsn: Lsn, nth: u32, tenant: &TenantId, sound: &Sound) -> First {
        let Fingerprint { digest, lanes } = self.kept(tenant, sound.fingerprint);
        let withheld = self.withholding.holds(tenant);
        First {
            key: sound.key,
            digest,
            lanes,
            lsn,
            nth,
            seq: self.tree.size(),
            time_ms: self.now_ms,
            policy: self.rules.current().0,
            code: if withheld { 0 } else { sound.verdict.code.code() },
            flags: u8::from(sound.verdict.accepted) | u8::from(sound.verdict.escalated) << 1,
        }
    }

    pub(super) fn push(&mut self, first: &First) {
        self.content.add(&first.encode());
        self.push_row(first);
    }

    /// A row of our log or another region's goes into the table.
    pub(super) fn push_row(&mut self, first: &First) {
        if self.failed.is_some() {
            return;
        }
        match self.table.push(first) {
            // After a restart from an older snapshot the table may know this row's key already.
            Ok(row) if row < self.table.demoted() => {}
            Ok(row) => self.recent.insert(first.tag(), row),
            Err(error) => self.failed = Some(error),
        }
    }

    /// Hands the older half of the keys to the table when there are many, and forgets those it has.
    fn tidy(&mut self) -> Result<(), TableError> {
        let demoted = self.table.demoted();
        self.recent.forget_some_below(demoted, TIDY_PARTITIONS);
        let held = self.table.rows().saturating_sub(self.demoting.max(demoted));
        if held >= self.recent_max {
            self.table.expire(self.first_live_row(EXPIRY_MARGIN_MS)?);
            self.demoting = self.table.rows() - held / 2;
            self.table.demote(self.demoting)?;
        }
        Ok(())
    }

    /// The first row that may still matter, or that did within the last `margin_ms`: rows are in the order of
    /// log time, and none lives longer than the longest time any policy gives.
    pub(super) fn first_live_row(&self, margin_ms: u64) -> Result<u64, TableError> {
        let longest_ms = self.rules.ttl_max_ms().saturating_add(margin_ms);
        let Some(dead_ms) = self.now_ms.checked_sub(longest_ms) else { return Ok(0) };
        // From the first row of another region on, rows are in no order of time.
        let (mut low, mut high) = (0, self.ordered_rows());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.table.row(middle)?.time_ms <= dead_ms { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    fn leaf(
        &self,
        lsn: Lsn,
        nth: u32,
        event: &Event,
        judged: Option<&Judged>,
        outcome: &Outcome,
        elsewhere: Option<&str>,
    ) -> Option<Vec<u8>> {
        let what = match (event, outcome) {
            (_, Outcome::Noted | Outcome::Duplicate { .. }) => return None,
            (Event::Received(envelope), Outcome::First { .. }) => {
                let sound = judged.and_then(|judged| refusal(judged).ok()).expect("I1: a first is sound");
                What::Pcs(pcs(self.rules.current().1, envelope.tenant, sound))
            }
            (Event::Received(envelope), Outcome::Conflict { first, fields, .. }) => {
                let sound = judged.and_then(|judged| refusal(judged).ok()).expect("I1: a conflict is sound");
                What::Conflict(leaf::Conflict {
                    tenant: envelope.tenant,
                    pcs_id: sound.id,
                    commitment: sound.commitment,
                    first_region: elsewhere.map(Into::into),
                    first_seq: first.seq,
                    fields: *fields,
                    form: sound.signed.form,
                    key_id: sound.signed.key_id,
                })
            }
            (Event::Received(envelope), Outcome::Refused { reason, .. }) => What::Refused {
                tenant: Some(envelope.tenant),
                reason: *reason,
                commitment: envelope.commitment(),
            },
            (_, Outcome::Refused { reason, .. }) => {
                What::Refused { tenant: tenant_of(event), reason: *reason, commitment: event_hash(event) }
            }
            (Event::TenantSet(tenant), _) => {
                What::Tenant { tenant: tenant.id, active: tenant.active, commitment: event_hash(event) }
            }
            (Event::KeySet(key), _) => key_leaf(key, event_hash(event)),
            (Event::PolicySet(set), _) => What::Policy {
                policy: set.policy.version.as_str().into(),
                hash: set.policy.hash(),
                params_hash: set.policy.params_hash(),
            },
            (Event::LogKeySet(set), _) => What::LogKey {
                number: self.log_keys.next_number(),
                follows: line_of(&set.follows).into(),
                keys: line_of(&set.keys).into(),
                both_until_ms: set.both_until_ms,
                commitment: event_hash(event),
            },
            (
                Event::Received(_)
                | Event::Attested(_)
                | Event::Checkpoint(_)
                | Event::Anchored(_)
                | Event::Witnessed(_)
                | Event::Imported(_)
                | Event::Declared(_)
                | Event::Reconciled(_),
                Outcome::Configured { .. },
            )
            | (
                Event::Attested(_)
                | Event::Checkpoint(_)
                | Event::Anchored(_)
                | Event::Witnessed(_)
                | Event::Imported(_)
                | Event::Declared(_)
                | Event::Reconciled(_),
                Outcome::First { .. } | Outcome::Conflict { .. },
            ) => {
                unreachable!("an outcome belongs to its kind of event")
            }
        };
        let leaf = Leaf { lsn, nth, time_ms: self.now_ms, region: self.region.as_str().into(), what };
        Some(leaf.encode())
    }
}

/// What the leaf of the first submission of its name says of it.
pub(super) fn pcs<'a>(rule: &'a Rule, tenant: TenantId, sound: &Sound) -> leaf::Pcs<'a> {
    leaf::Pcs {
        tenant,
        pcs_id: sound.id,
        commitment: sound.commitment,
        accepted: sound.verdict.accepted,
        escalated: sound.verdict.escalated,
        code: sound.verdict.code,
        d_hat: nine(sound.signals.d_hat),
        d_hat_recomputed: sound.verdict.recomputed_d_hat.map(nine),
        coh_star: nine(sound.signals.coh_star),
        r: nine(sound.signals.r),
        budget: nine(sound.signals.budget),
        budget_recomputed: sound.verdict.recomputed_budget.map(nine),
        regime: sound.signals.regime,
        policy: rule.policy.version.as_str().into(),
        policy_hash: rule.hash,
        params_hash: rule.params_hash,
        form: sound.signed.form,
        key_id: sound.signed.key_id,
    }
}

/// A sound submission, or why it is refused.
pub(super) fn refusal(judged: &Judged) -> Result<&Sound, RefusedReason> {
    match judged {
        Judged::Sound(sound) => Ok(sound),
        Judged::Malformed(_) => Err(RefusedReason::Malformed),
        Judged::NoKey => Err(RefusedReason::NoKey),
        Judged::BadSignature(_) => Err(RefusedReason::BadSignature),
        Judged::Structure(_) => Err(RefusedReason::Structure),
    }
}

/// Keys as a leaf holds them: between spaces instead of on lines.
fn line_of(keys: &str) -> alloc::string::String {
    keys.trim_end().replace('\n', " ")
}

fn event_hash(event: &Event) -> Digest {
    let mut bytes = Vec::new();
    event.encode(&mut bytes);
    Digest(Sha256::digest(&bytes).into())
}

fn tenant_of(event: &Event) -> Option<TenantId> {
    match event {
        Event::TenantSet(tenant) => Some(tenant.id),
        Event::KeySet(key) => Some(key.tenant),
        _ => None,
    }
}

fn key_leaf(key: &KeySpec, commitment: Digest) -> What<'static> {
    What::Key {
        tenant: key.tenant,
        key_id: key.key_id,
        kind: match key.kind {
            KeyKind::HmacSealed(_) => KeyName::Hmac,
            KeyKind::Ed25519(_) => KeyName::Ed25519,
            KeyKind::Unsigned => KeyName::Unsigned,
        },
        not_before_ms: key.not_before_ms,
        not_after_ms: key.not_after_ms,
        commitment,
    }
}
