//! What all submissions add up to, in the order of the log.
//!
//! [`Ledger::decide`] says what an event means given everything before it and changes nothing;
//! [`Ledger::apply`] folds it into every projection and never fails; [`Ledger::end_record`] closes a record.
//! The caller goes through a record's events one by one, deciding and applying each before the next.
//!
//! - I1 verify-before-dedup: only a submission judged sound reaches the index.
//! - I2 first-write-wins: the first of a name is set once, by log order; later ones get its answer.
//! - I3 replay-identical: the ledger is a function of the log. Equal logs, equal digests.
//! - I5 log-before-parse: every event folded here has a place in the log.
//! - I7 tenants-apart: deleting other tenants' events changes no outcome of mine but its place.
//! - T1 tree-append-only: leaves are only appended, each at the index that was decided.
//!
//! Log time is the largest time any event has carried so far: what expires, expires by it alone.

mod ahead;
mod attest;
mod cases;
mod fold;
mod logkeys;
mod outcome;
mod recent;
mod regions;
mod rules;
mod snapshot;
mod table;
mod tally;
mod tenants;
#[cfg(test)]
mod tests;
mod withholding;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use attest::Attestations;
use cases::Cases;
use logkeys::LogKeyChanges;
use outcome::Chain;
use recent::Recent;
use regions::Origins;
use rules::Rules;
use tenants::Tenants;
use withholding::Withholding;

use crate::event::{Attested, Event, Position};
use crate::ids::TenantId;
use crate::limits::{RECENT_KEYS_MAX, REGION_MAX};
use crate::log::{Digest, Lsn};
use crate::summary::{Fingerprint, Judged, PcsId};
use crate::tree::Tree;

pub use ahead::{Ahead, Place, Written};
pub use attest::Divergence;
pub use cases::{Case, CaseState};
pub use fold::Applied;
pub use logkeys::KeyChange;
pub use outcome::{Outcome, RefusedReason};
pub use regions::{Clash, NotYet, Origin, Quarantine};
pub use rules::Rule;
pub use snapshot::{SnapshotError, inspect};
pub use table::{Content, First, MemTable, Table, TableError, tag_of};
pub use tally::Tally;
pub use tenants::TenantState;

/// Every projection of one region's log, up to [`Ledger::applied`].
#[derive(Debug)]
pub struct Ledger<T> {
    region: String,
    applied: Lsn,
    /// Events of the next record that were applied already.
    open: u32,
    now_ms: u64,
    tree: Tree,
    table: T,
    /// Keys of the rows at and beyond `table.demoted()`, and perhaps some below.
    recent: Recent,
    recent_max: u64,
    /// The table was asked to take the rows below this one.
    demoting: u64,
    /// Sum over all rows of the table.
    content: Content,
    tenants: Tenants,
    rules: Rules,
    rules_version: u64,
    log_keys: LogKeyChanges,
    cases: Cases,
    withholding: Withholding,
    tally: Tally,
    chain: Chain,
    attestations: Attestations,
    /// How far we know the logs of other regions.
    seen: BTreeMap<String, Position>,
    /// What follows from them.
    origins: Origins,
    /// The first error of the table. Everything is refused from then on.
    failed: Option<TableError>,
}

/// Which (tenant, pcs id) led to which record, judged how.
#[derive(Clone, Debug, PartialEq)]
pub struct Lineage<'a> {
    /// The first submission: its place, leaf, time and verdict.
    pub first: First,
    /// The policy that judged it.
    pub rule: &'a Rule,
}

impl<T: Table> Ledger<T> {
    /// The ledger of an empty log.
    ///
    /// # Panics
    /// If the region is not 1 to 64 of `[A-Za-z0-9._-]`, or the table holds rows.
    #[must_use]
    pub fn new(region: &str, table: T) -> Ledger<T> {
        assert!(is_region(region), "a region is named like a tenant");
        assert_eq!(table.rows(), 0, "an empty log has no rows");
        let mut ledger = Ledger {
            region: region.into(),
            applied: Lsn::ZERO,
            open: 0,
            now_ms: 0,
            tree: Tree::new(),
            table,
            recent: Recent::new(),
            recent_max: RECENT_KEYS_MAX,
            demoting: 0,
            content: Content::default(),
            tenants: Tenants::default(),
            rules: Rules::new(),
            rules_version: 0,
            log_keys: LogKeyChanges::default(),
            cases: Cases::default(),
            withholding: Withholding::default(),
            tally: Tally::default(),
            chain: Chain::resume(Digest::ZERO),
            attestations: Attestations::default(),
            seen: BTreeMap::new(),
            origins: Origins::default(),
            failed: None,
        };
        let (outcomes, digest) = (ledger.outcomes_digest(), ledger.digest());
        ledger.attestations.end_record(Lsn::ZERO, outcomes, digest);
        ledger
    }

    /// Sets how many keys stay in memory before the older half is demoted; changes no outcome.
    ///
    /// # Panics
    /// At 0.
    pub fn set_recent_max(&mut self, keys: u64) {
        assert!(keys > 0, "the newest keys are in memory");
        self.recent_max = keys;
    }

    /// What this event means, given everything before it.
    ///
    /// # Errors
    /// [`TableError`] if the index cannot answer; the ledger must then be rebuilt.
    ///
    /// # Panics
    /// If the event is not the next one, or a submission comes without its judgement.
    pub fn decide(
        &self,
        lsn: Lsn,
        nth: u32,
        event: &Event,
        judged: Option<&Judged>,
    ) -> Result<Outcome, TableError> {
        assert!(self.is_next(lsn, nth), "I5: the log has no holes: {lsn}.{nth} after {}", self.applied);
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.decide_with(event, judged, |key, now_ms| match self.origins.is_empty() {
            true => self.live(key, now_ms),
            false => self.winner(key, now_ms, None),
        })
    }

    /// As [`Ledger::decide`]; `find` gives the live first of a key at a log time.
    fn decide_with(
        &self,
        event: &Event,
        judged: Option<&Judged>,
        find: impl FnOnce(&[u8; 32], u64) -> Result<Option<First>, TableError>,
    ) -> Result<Outcome, TableError> {
        let seq = self.tree.size();
        let configured = |checked: Result<(), RefusedReason>| match checked {
            Ok(()) => Outcome::Configured { seq },
            Err(reason) => Outcome::Refused { seq, reason },
        };
        Ok(match event {
            Event::Received(envelope) => {
                let judged = judged.expect("I1: a submission is judged before it is decided");
                match fold::refusal(judged) {
                    Ok(sound) => {
                        let first = find(&sound.key, self.now_ms.max(envelope.received_at_ms))?;
                        let content = self.kept(&envelope.tenant, sound.fingerprint);
                        self.decide_sound(first, &sound.key, &content)
                    }
                    Err(reason) => Outcome::Refused { seq, reason },
                }
            }
            Event::TenantSet(tenant) => configured(self.tenants.check_tenant(tenant)),
            Event::KeySet(key) => configured(self.tenants.check_key(key, self.now_ms.max(key.at_ms))),
            Event::PolicySet(set) => configured(self.rules.check(&set.policy)),
            Event::LogKeySet(set) => configured(self.log_keys.check(set)),
            Event::Attested(_)
            | Event::Checkpoint(_)
            | Event::Anchored(_)
            | Event::Witnessed(_)
            | Event::Imported(_)
            | Event::Declared(_)
            | Event::Reconciled(_) => Outcome::Noted,
        })
    }

    fn decide_sound(&self, first: Option<First>, key: &[u8; 32], content: &Fingerprint) -> Outcome {
        let seq = self.tree.size();
        let Some(first) = first else {
            return Outcome::First { seq, row: self.own_rows() };
        };
        assert_eq!(first.key, *key, "I7: a first is of the same tenant and id");
        let fields = first.fingerprint().differs(content);
        if fields == 0 { Outcome::Duplicate { first } } else { Outcome::Conflict { first, seq, fields } }
    }

    /// The newest row under a key, unless it has expired.
    fn live(&self, key: &[u8; 32], now_ms: u64) -> Result<Option<First>, TableError> {
        let Some(first) = self.newest(key)? else { return Ok(None) };
        let rule = self
            .rules
            .get(first.policy)
            .ok_or(TableError::Damaged { part: "policy of row", number: first.seq })?;
        let expires_ms = first.time_ms.saturating_add(rule.policy.dedup_ttl_ms);
        Ok((now_ms < expires_ms).then_some(first))
    }

    fn newest(&self, key: &[u8; 32]) -> Result<Option<First>, TableError> {
        let tag = tag_of(key);
        let mut candidates = Vec::new();
        self.recent.find(tag, &mut candidates);
        if let Some(first) = self.confirm(key, &mut candidates)? {
            return Ok(Some(first));
        }
        candidates.clear();
        self.table.find(tag, &mut candidates)?;
        self.confirm(key, &mut candidates)
    }

    /// The newest candidate whose whole key agrees.
    fn confirm(&self, key: &[u8; 32], candidates: &mut [u64]) -> Result<Option<First>, TableError> {
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        for &row in candidates.iter() {
            let first = self.table.row(row)?;
            if first.key == *key {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }

    fn is_next(&self, lsn: Lsn, nth: u32) -> bool {
        lsn == self.applied.next() && nth == self.open
    }

    /// The last record folded in whole.
    #[must_use]
    pub fn applied(&self) -> Lsn {
        self.applied
    }

    /// The largest time any event has carried, milliseconds since the Unix epoch.
    #[must_use]
    pub fn log_time_ms(&self) -> u64 {
        self.now_ms
    }

    /// The log's region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The tree over the audit leaves.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The first rows and old keys.
    #[must_use]
    pub fn table(&self) -> &T {
        &self.table
    }

    /// The same for its upkeep, which must not change its rows.
    pub fn table_mut(&mut self) -> &mut T {
        &mut self.table
    }

    /// Lets the table finish what it does on its own, with `wait`, which must not change its rows: for
    /// measurements and orderly stops.
    ///
    /// # Errors
    /// What `wait` gives.
    pub fn settle<E>(&mut self, wait: impl FnOnce(&mut T) -> Result<(), E>) -> Result<(), E> {
        wait(&mut self.table)?;
        self.recent.forget_some_below(self.table.demoted(), usize::MAX);
        Ok(())
    }

    /// Changes with every tenant, key and policy that takes effect: a judgement made under another version
    /// must be made again.
    #[must_use]
    pub fn keys_version(&self) -> u64 {
        self.rules_version
    }

    /// A tenant with its keys and counts.
    #[must_use]
    pub fn tenant(&self, id: &TenantId) -> Option<&TenantState> {
        self.tenants.get(id)
    }

    /// All tenants, in the order of their names.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantState> {
        self.tenants.iter()
    }

    /// The policy that counts, with its number.
    #[must_use]
    pub fn current_policy(&self) -> (u16, &Rule) {
        self.rules.current()
    }

    /// A policy by its number.
    #[must_use]
    pub fn policy(&self, number: u16) -> Option<&Rule> {
        self.rules.get(number)
    }

    /// A policy by its version, with its number.
    #[must_use]
    pub fn policy_version(&self, version: &str) -> Option<(u16, &Rule)> {
        self.rules.find(version)
    }

    /// How the log went over from the keys it began with to others, in order.
    #[must_use]
    pub fn log_keys(&self) -> &[KeyChange] {
        self.log_keys.all()
    }

    /// Where regions differ, and what was proposed and decided about it, in the order in which it was proposed; at most
    /// [`crate::limits::CASES_MAX`].
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.cases.iter()
    }

    /// Conflicts between regions that were settled in this log.
    #[must_use]
    pub fn settled_conflicts(&self) -> u64 {
        self.cases.settled()
    }

    /// How often what happened, in the whole region.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How a tenant's summary came to its outcome; `None` if it is unknown or its key has expired from the
    /// index.
    ///
    /// # Errors
    /// [`TableError`] if the index cannot answer.
    pub fn lineage(&self, tenant: &TenantId, id: &PcsId) -> Result<Option<Lineage<'_>>, TableError> {
        let key = First::key_of(tenant, &id.0);
        let first = match self.origins.is_empty() {
            true => self.newest(&key)?,
            false => self.newest_own(&key)?,
        };
        Ok(first.and_then(|first| Some(Lineage { rule: self.rules.get(first.policy)?, first })))
    }

    /// Keys in memory and the bytes they take.
    #[must_use]
    pub fn recent_memory(&self) -> (u64, usize) {
        (self.recent.len(), self.recent.memory())
    }

    /// The chain over all outcomes and leaves so far.
    #[must_use]
    pub fn outcomes_digest(&self) -> Digest {
        self.chain.link()
    }

    /// Each projection's digest, in the order in which they depend on each other: what two ledgers compare to
    /// name the first that differs. Those of the log's keys, of cases and of what is withheld are the last, and only
    /// there if there ever was any.
    ///
    /// # Panics
    /// Between the events of a record.
    #[must_use]
    pub fn projections(&self) -> Vec<(&'static str, Digest)> {
        assert!(self.open == 0 && !self.chain.is_open(), "I3: digests are taken between records");
        let [tenants, policies, index, tree, tallies] = self.counted();
        let mut all = Vec::with_capacity(9);
        all.extend([tenants, policies, ("outcomes", self.chain.link()), index, tree, tallies]);
        // A log that has the keys it began with has the digest that it always had.
        all.extend(self.log_keys.digest().map(|digest| ("log keys", digest)));
        all.extend(self.cases.digest().map(|digest| ("cases", digest)));
        all.extend(self.withholding.digest().map(|digest| ("withheld", digest)));
        all
    }

    /// The projections that do not depend on how records were cut. Tallies must be up to date.
    fn counted(&self) -> [(&'static str, Digest); 5] {
        let mut bytes = Vec::with_capacity(8 + 32 * 64);
        bytes.extend_from_slice(&self.own_rows().to_le_bytes());
        bytes.extend_from_slice(&self.content.digest().0);
        let index = blake3::hash(&bytes);
        bytes.clear();
        bytes.extend_from_slice(&self.tree.size().to_le_bytes());
        self.tree.edge().iter().for_each(|hash| bytes.extend_from_slice(&hash.0));
        let tree = blake3::hash(&bytes);
        bytes.clear();
        bytes.extend_from_slice(&self.tenants.tallies_digest().0);
        self.tally.encode(&mut bytes);
        let tallies = blake3::hash(&bytes);
        [
            ("tenants", self.tenants.settings_digest()),
            ("policies", self.rules.digest()),
            ("index", Digest(*index.as_bytes())),
            ("tree", Digest(*tree.as_bytes())),
            ("tallies", Digest(*tallies.as_bytes())),
        ]
    }

    /// One value over all projections, log time and place: what replicas, regions and auditors compare.
    ///
    /// # Panics
    /// Between the events of a record.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"flk ledger 1\n");
        hasher.update(&[self.region.len() as u8]);
        hasher.update(self.region.as_bytes());
        hasher.update(&self.applied.0.to_le_bytes());
        hasher.update(&self.now_ms.to_le_bytes());
        for (_, digest) in self.projections() {
            hasher.update(&digest.0);
        }
        // Nothing is added where there is one region.
        self.hash_seen(&mut hasher);
        Digest(*hasher.finalize().as_bytes())
    }

    /// Submissions that no `Attested` has covered yet.
    #[must_use]
    pub fn unattested(&self) -> u64 {
        self.attestations.pending()
    }

    /// What a leader says about the state after the last record. Propose one at a time: while one is in
    /// flight, the next repeats its signature results.
    #[must_use]
    pub fn attest(&self) -> Attested {
        self.attestations.attest()
    }

    /// Compares what a leader said with what was computed here. Ask before applying the event.
    ///
    /// # Errors
    /// [`Divergence`]: stop, and say so loudly.
    pub fn check_attested(&self, attested: &Attested) -> Result<(), Divergence> {
        self.attestations.check(attested)
    }

    /// The digests of outcomes and ledger after a record, as far back as [`ATTESTED_LAG_MAX`] records.
    ///
    /// [`ATTESTED_LAG_MAX`]: crate::limits::ATTESTED_LAG_MAX
    #[must_use]
    pub fn computed_after(&self, lsn: Lsn) -> Option<(Digest, Digest)> {
        self.attestations.after(lsn)
    }
}

fn is_region(region: &str) -> bool {
    region.len() <= REGION_MAX && TenantId::new(region).is_ok()
}
