//! One truth over all regions' rows: which first wins, what is a conflict, and one digest over everything.
//!
//! G2 regions-converge and G3 merge: everything here is a function of a set of rows, never of their order in the table.

use alloc::string::String;
use alloc::vec::Vec;

use super::Origin;
use crate::codec::put8;
use crate::ledger::{Clash, First, Ledger, Table, TableError, tag_of};
use crate::limits::{CLASHES_MAX, ORIGINS_MAX};
use crate::log::Digest;

/// Number of our own region in lookups on behalf of another, whose own rows have number 0 there.
const OURS: u8 = ORIGINS_MAX + 1;

impl<T: Table> Ledger<T> {
    /// The live first of a key: the earliest by (log time, name of the region), of the rows that `viewer` knew, or of all.
    pub(in crate::ledger) fn winner(
        &self,
        key: &[u8; 32],
        now_ms: u64,
        viewer: Option<u8>,
    ) -> Result<Option<First>, TableError> {
        let mut best: Option<First> = None;
        for first in self.rows_of(key)? {
            let live = now_ms < self.expires(&first)?;
            if live
                && self.is_known_to(&first, viewer)
                && best.is_none_or(|best| self.rank(&first) < self.rank(&best))
            {
                best = Some(first);
            }
        }
        Ok(best.map(|first| match viewer {
            Some(viewer) if first.origin() == viewer => first.of_origin(0),
            Some(_) if first.origin() == 0 => first.of_origin(OURS),
            _ => first,
        }))
    }

    /// The region of a first that was found on behalf of another; `None` if it is that one's own.
    pub(super) fn region_for(&self, viewer: u8, first: &First) -> Option<&str> {
        assert_ne!(first.origin(), viewer, "G2: a viewer's own rows have number 0");
        match first.origin() {
            0 => None,
            OURS => Some(&self.region),
            _ => self.region_of(first),
        }
    }

    /// Our own newest row of a key.
    pub(in crate::ledger) fn newest_own(&self, key: &[u8; 32]) -> Result<Option<First>, TableError> {
        let rows = self.rows_of(key)?;
        Ok(rows.into_iter().filter(|first| first.origin() == 0).max_by_key(|first| (first.lsn, first.nth)))
    }

    /// The first of a name that counts now over all regions, and the other region in whose log it stands, if it does.
    ///
    /// # Errors
    /// [`TableError`] if the index cannot answer.
    pub fn first_of(&self, key: &[u8; 32]) -> Result<Option<First>, TableError> {
        self.winner(key, self.now_ms, None)
    }

    /// All firsts of a name, of every region, whether they live or not.
    ///
    /// # Errors
    /// [`TableError`] if the index cannot answer.
    pub fn firsts_of(&self, key: &[u8; 32]) -> Result<Vec<First>, TableError> {
        self.rows_of(key)
    }

    /// What our own log adds up to: the same as where another region folded it.
    ///
    /// # Panics
    /// Between the events of a record.
    #[must_use]
    pub fn own_digest(&self) -> Digest {
        self.substance()
    }

    fn rows_of(&self, key: &[u8; 32]) -> Result<Vec<First>, TableError> {
        let tag = tag_of(key);
        let mut numbers = Vec::new();
        self.recent.find(tag, &mut numbers);
        self.table.find(tag, &mut numbers)?;
        numbers.sort_unstable();
        numbers.dedup();
        let mut rows = Vec::new();
        for number in numbers {
            let first = self.table.row(number)?;
            if first.key == *key {
                rows.push(first);
            }
        }
        Ok(rows)
    }

    fn rank(&self, first: &First) -> (u64, &str) {
        (first.time_ms, self.region_of(first).unwrap_or(&self.region))
    }

    fn expires(&self, first: &First) -> Result<u64, TableError> {
        let damaged = TableError::Damaged { part: "policy of row", number: first.seq };
        let rule = self.rule_of(first).ok_or(damaged)?;
        Ok(first.time_ms.saturating_add(rule.policy.dedup_ttl_ms))
    }

    fn is_known_to(&self, first: &First, viewer: Option<u8>) -> bool {
        let Some(viewer) = viewer else { return true };
        if first.origin() == viewer {
            return true;
        }
        let seen = &self.origins.list[usize::from(viewer) - 1].ledger.seen;
        let region = self.region_of(first).unwrap_or(&self.region);
        // Of a record that had not come whole nothing was folded.
        seen.get(region).is_some_and(|seen| first.lsn < seen.lsn)
    }

    /// Counts the rows of other regions that this one, which is new, contradicts: another content under the same name while
    /// both live.
    pub(super) fn note_clashes(&mut self, new: &First) -> Result<(), TableError> {
        let mut found = Vec::new();
        for old in self.rows_of(&new.key)? {
            let together = new.time_ms < self.expires(&old)? && old.time_ms < self.expires(new)?;
            if old.origin() == new.origin() || !together {
                continue;
            }
            let fields = old.fingerprint().differs(&new.fingerprint());
            if fields != 0 {
                let (winner, other) =
                    if self.rank(&old) < self.rank(new) { (&old, new) } else { (new, &old) };
                let name = |first: &First| {
                    let (time_ms, region) = self.rank(first);
                    (String::from(region), first.seq, time_ms)
                };
                found.push(Clash { key: new.key, winner: name(winner), other: name(other), fields });
            }
        }
        for clash in found {
            let (a, b) = (clash.winner.0.clone(), clash.other.0.clone());
            *self.origins.conflicts.entry(if a < b { (a, b) } else { (b, a) }).or_default() += 1;
            if self.origins.clashes.len() == CLASHES_MAX {
                self.origins.clashes.pop_front();
            }
            self.origins.clashes.push_back(clash);
        }
        Ok(())
    }

    /// One value over what all regions' logs add up to, as far as they are known here: equal in every region that knows the
    /// same of all of them. Records that say nothing (who was cosigned, what was imported when) are no part of it.
    ///
    /// # Panics
    /// Between the events of a record.
    #[must_use]
    pub fn merged_digest(&self) -> Digest {
        let mut regions: Vec<(&str, Digest)> =
            self.origins.list.iter().map(|origin| (origin.region(), origin.substance())).collect();
        regions.push((&self.region, self.substance()));
        regions.sort_unstable();
        assert!(regions.windows(2).all(|pair| pair[0].0 < pair[1].0), "G3: each region counts once");
        let mut bytes = Vec::with_capacity(128 * regions.len());
        bytes.extend_from_slice(b"flk regions 1\n");
        for (region, digest) in regions {
            put8(&mut bytes, region.as_bytes());
            bytes.extend_from_slice(&digest.0);
        }
        for (a, b, count) in self.region_conflicts() {
            put8(&mut bytes, a.as_bytes());
            put8(&mut bytes, b.as_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        Digest(*blake3::hash(&bytes).as_bytes())
    }

    /// What one region's log adds up to, without its places in the log.
    fn substance(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for (name, digest) in self.counted() {
            hasher.update(name.as_bytes());
            hasher.update(&digest.0);
        }
        Digest(*hasher.finalize().as_bytes())
    }
}

impl Origin {
    fn substance(&self) -> Digest {
        self.ledger.substance()
    }

    /// One value over what its log adds up to: the same as in that region, where it stands there.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.substance()
    }
}
