//! Whose submissions stay in their region, since when, and how one is folded where it is not.
//!
//! That a tenant is withheld is said in its region's log ([`Declaration::Withheld`]), so all nodes, all regions and every replay
//! agree from which event on. From there on its rows hold no lanes and no code, in its own region, too: what a region keeps
//! to compare later ones with is exactly what the others get, and each decides alike (G2). The price is that a conflict with one
//! of them names no field.
//!
//! - Nothing of a withheld submission is believed that can be made again: whether it is a first, a duplicate or a conflict follows
//!   from its name and from what is in the index; its row is made here. What cannot (its size, signature and verdict, its leaf's
//!   hash, why it was refused) is part of what the log's `Attested` covers, and is held against that.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::outcome::Outcome;
use super::{First, Ledger, Table};
use crate::codec::{DecodeError, Reader, put8};
use crate::event::{Became, Declaration, Declared, Name, Position, Withheld};
use crate::ids::TenantId;
use crate::limits::TENANTS_MAX;
use crate::log::{Digest, Lsn};
use crate::summary::Fingerprint;

/// Tenants whose submissions stay in their region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Withholding {
    /// Where that was said.
    since: BTreeMap<TenantId, Position>,
    /// Their submissions since then.
    submissions: u64,
    /// Over `since`, kept as it changes: every record's digest needs it.
    tenants: Digest,
}

impl Withholding {
    /// `None` for a log in which nothing was ever withheld.
    pub(super) fn digest(&self) -> Option<Digest> {
        let mut bytes = self.tenants.0.to_vec();
        bytes.extend_from_slice(&self.submissions.to_le_bytes());
        (!self.since.is_empty()).then(|| Digest(*blake3::hash(&bytes).as_bytes()))
    }

    pub(super) fn holds(&self, tenant: &TenantId) -> bool {
        !self.since.is_empty() && self.since.contains_key(tenant)
    }

    /// Counts a submission of a tenant, if it is withheld.
    pub(super) fn count(&mut self, tenant: &TenantId) {
        self.submissions += u64::from(self.holds(tenant));
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.since.len() as u32).to_le_bytes());
        for (tenant, since) in &self.since {
            put8(out, tenant.as_bytes());
            since.encode(out);
        }
        out.extend_from_slice(&self.submissions.to_le_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Withholding, DecodeError> {
        let count = reader.u32("withheld tenants")? as usize;
        if count == 0 || count > TENANTS_MAX {
            return Err(DecodeError::OutOfBounds("withheld tenants"));
        }
        let mut since = BTreeMap::new();
        for _ in 0..count {
            let tenant = TenantId::read(reader)?;
            if since.last_key_value().is_some_and(|(last, _)| *last >= tenant) {
                return Err(DecodeError::OutOfBounds("order of withheld tenants"));
            }
            since.insert(tenant, Position::read(reader)?);
        }
        let mut withholding =
            Withholding { since, submissions: reader.u64("withheld submissions")?, tenants: Digest::ZERO };
        withholding.tenants = withholding.hash();
        Ok(withholding)
    }

    fn hash(&self) -> Digest {
        let mut bytes = Vec::new();
        for (tenant, since) in &self.since {
            put8(&mut bytes, tenant.as_bytes());
            since.encode(&mut bytes);
        }
        Digest(*blake3::hash(&bytes).as_bytes())
    }
}

impl<T: Table> Ledger<T> {
    /// Whether a submission of this tenant at a place of this log stays in its region.
    #[must_use]
    pub fn withholds(&self, tenant: &TenantId, at: Position) -> bool {
        self.withholding.since.get(tenant).is_some_and(|since| *since < at)
    }

    /// Tenants whose submissions stay in their region, in the order of their names.
    pub fn withheld_tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.withholding.since.keys()
    }

    /// Submissions of this log that stay in its region.
    #[must_use]
    pub fn withheld(&self) -> u64 {
        self.withholding.submissions
    }

    /// Folds in that a tenant of this log is withheld from now on. Said of another log, of nobody, or again, it changes nothing.
    pub(super) fn withhold(&mut self, lsn: Lsn, nth: u32, declared: &Declared) {
        let Declaration::Withheld { tenant } = &declared.what else { return };
        if declared.region == self.region
            && self.tenants.get(tenant).is_some()
            && !self.withholding.holds(tenant)
        {
            self.withholding.since.insert(*tenant, Position { lsn, nth });
            self.withholding.tenants = self.withholding.hash();
        }
    }

    /// What is kept of a content to compare later ones with.
    pub(super) fn kept(&self, tenant: &TenantId, content: Fingerprint) -> Fingerprint {
        if self.withholding.holds(tenant) { content.unnamed() } else { content }
    }

    /// What became of a submission that stayed in its region; `first` is the live first of its name. `None` if its region says
    /// otherwise, or never said that this tenant is withheld.
    pub(super) fn decide_withheld(&self, withheld: &Withheld, first: Option<First>) -> Option<Outcome> {
        if !self.withholding.holds(&withheld.tenant) {
            return None;
        }
        let outcome = match withheld.became.name() {
            None => {
                let Became::Refused { reason, .. } = withheld.became else { return None };
                return Some(Outcome::Refused { seq: self.tree.size(), reason });
            }
            Some(name) => self.decide_sound(first, &name.key, &content(name)),
        };
        let says = matches!(
            (&withheld.became, &outcome),
            (Became::First { .. }, Outcome::First { .. })
                | (Became::Duplicate { .. }, Outcome::Duplicate { .. })
                | (Became::Conflict { .. }, Outcome::Conflict { .. })
        );
        says.then_some(outcome)
    }

    /// Folds in a submission that stayed in its region, as [`Ledger::apply_one`] does one that did not.
    pub(super) fn apply_withheld(
        &mut self,
        lsn: Lsn,
        nth: u32,
        withheld: &Withheld,
        outcome: &Outcome,
        elsewhere: Option<&str>,
    ) {
        let seq = self.tree.size();
        assert!(outcome.seq().is_none_or(|decided| decided == seq), "T1: a leaf goes where it was decided");
        self.now_ms = self.now_ms.max(withheld.at_ms);
        let mut verdict = (false, false);
        if let Became::First { name, accepted, escalated, .. } = &withheld.became {
            verdict = (*accepted, *escalated);
            let Fingerprint { digest, lanes } = content(name);
            self.push(&First {
                key: name.key,
                digest,
                lanes,
                lsn,
                nth,
                seq,
                time_ms: self.now_ms,
                policy: self.rules.current().0,
                code: 0,
                flags: u8::from(*accepted) | u8::from(*escalated) << 1,
            });
        }
        let bytes = withheld.bytes as usize;
        self.tally.count(bytes, outcome, verdict);
        self.tenants.count(&withheld.tenant, |tally| tally.count(bytes, outcome, verdict));
        self.withholding.count(&withheld.tenant);
        self.attestations.signature(withheld.signature);
        let leaf = withheld.became.leaf();
        if let Some(leaf) = leaf {
            self.tree.append(leaf);
        }
        self.chain.add(outcome, leaf.as_ref(), elsewhere);
        self.open += 1;
    }
}

fn content(name: &Name) -> Fingerprint {
    Fingerprint { digest: name.content, lanes: Default::default() }
}
