//! What a run of entries says in numbers, and whether it is in order. Two runs that follow each other add up to one.
//!
//! Memory does not grow with the entries: time is counted in at most [`BUCKETS_MAX`] buckets, which double their width
//! when they run out; tenants beyond [`TENANTS_SHOWN`] are counted together.

use std::collections::BTreeMap;

use engine::ids::TenantId;
use engine::leaf::{Leaf, What, outcome_name};
use serde::{Deserialize, Serialize};

/// Most buckets of time.
pub const BUCKETS_MAX: usize = 720;

/// Most tenants counted one by one.
pub const TENANTS_SHOWN: usize = 1000;

/// Most gaps listed; the others are counted.
pub const GAPS_SHOWN: usize = 50;

/// Narrowest bucket, milliseconds.
const BUCKET_MS: u64 = 1000;

/// An entry at the border of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its number.
    pub seq: u64,
    /// Its time, milliseconds.
    pub time_ms: u64,
    /// Its record, and its place there.
    pub record: (u64, u32),
}

/// A time without entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The entry before it.
    pub after: u64,
    /// Time of the entry before it, milliseconds.
    pub from_ms: u64,
    /// Time of the entry after it.
    pub to_ms: u64,
}

/// What is asked of a run of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The period, milliseconds, both ends included.
    pub period: (u64, u64),
    /// From which length on a time without entries is listed.
    pub gap_ms: u64,
}

/// A run of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The first.
    pub first: Option<Mark>,
    /// The last.
    pub last: Option<Mark>,
    /// Accepted, escalated and rejected summaries, and the other entries by their type.
    pub kinds: BTreeMap<String, u64>,
    /// Reasons of summaries and refusals.
    pub reasons: BTreeMap<String, u64>,
    /// Entries of each tenant.
    pub tenants: BTreeMap<String, u64>,
    /// Entries of tenants that are not listed.
    pub other_tenants: u64,
    /// Width of a bucket, milliseconds.
    pub bucket_ms: u64,
    /// Bucket number to accepted, escalated, rejected, other.
    pub buckets: BTreeMap<u64, [u64; 4]>,
    /// The first gaps.
    pub gaps: Vec<Gap>,
    /// How many there are.
    pub gap_count: u64,
    /// The first entry that stands where it cannot: its number, and why.
    pub disorder: Option<(u64, String)>,
    /// The last entry before the period.
    pub before: Option<u64>,
    /// Entries in the period: the first, the last, and how many.
    pub within: Option<(u64, u64, u64)>,
    /// The first entry after the period.
    pub after: Option<u64>,
}

/// Whom an entry is about.
#[must_use]
pub fn tenant_of<'a>(what: &'a What<'_>) -> Option<&'a TenantId> {
    match what {
        What::Pcs(pcs) => Some(&pcs.tenant),
        What::Conflict(conflict) => Some(&conflict.tenant),
        What::Refused { tenant, .. } => tenant.as_ref(),
        What::Tenant { tenant, .. } | What::Key { tenant, .. } => Some(tenant),
        What::Policy { .. } | What::LogKey { .. } => None,
    }
}

/// What happened, in a word: the outcome of a summary, the type of everything else.
#[must_use]
pub fn kind_of(what: &What<'_>) -> &'static str {
    match what {
        What::Pcs(pcs) => outcome_name(pcs.accepted, pcs.escalated),
        other => other.name(),
    }
}

/// Why, in a word, where there is one.
#[must_use]
pub fn reason_of(what: &What<'_>) -> Option<&'static str> {
    match what {
        What::Pcs(pcs) => Some(pcs.code.name()),
        What::Refused { reason, .. } => Some(reason.name()),
        _ => None,
    }
}

fn count(map: &mut BTreeMap<String, u64>, key: &str, more: u64) {
    match map.get_mut(key) {
        Some(have) => *have += more,
        None => {
            map.insert(key.to_owned(), more);
        }
    }
}

impl Summary {
    /// Takes up the next entry.
    pub fn add(&mut self, ask: &Ask, seq: u64, leaf: &Leaf<'_>, bytes: usize) {
        let mark = Mark { seq, time_ms: leaf.time_ms, record: (leaf.lsn.0, leaf.nth) };
        self.follow(ask, mark);
        self.entries += 1;
        self.bytes += bytes as u64;
        let kind = kind_of(&leaf.what);
        count(&mut self.kinds, kind, 1);
        if let Some(reason) = reason_of(&leaf.what) {
            count(&mut self.reasons, reason, 1);
        }
        if let Some(tenant) = tenant_of(&leaf.what) {
            self.tenant(tenant.as_str(), 1);
        }
        let lane = ["accepted", "escalated", "rejected"].iter().position(|name| *name == kind).unwrap_or(3);
        let width = self.bucket_ms.max(BUCKET_MS);
        self.bucket_ms = width;
        self.buckets.entry(leaf.time_ms / width).or_default()[lane] += 1;
        self.narrow();
        if mark.time_ms < ask.period.0 {
            self.before = Some(seq);
        } else if mark.time_ms > ask.period.1 {
            self.after = self.after.or(Some(seq));
        } else {
            let (first, _, many) = self.within.unwrap_or((seq, seq, 0));
            self.within = Some((first, seq, many + 1));
        }
        self.first = self.first.or(Some(mark));
        self.last = Some(mark);
    }

    /// Holds an entry against the one before it.
    fn follow(&mut self, ask: &Ask, mark: Mark) {
        let Some(last) = self.last else { return };
        if last.seq + 1 != mark.seq {
            return;
        }
        if mark.time_ms < last.time_ms && self.disorder.is_none() {
            let why =
                format!("its time is {} ms before that of the entry before it", last.time_ms - mark.time_ms);
            self.disorder = Some((mark.seq, why));
        }
        if mark.record <= last.record && self.disorder.is_none() {
            let (have, before) = (mark.record, last.record);
            let why = format!(
                "it is of record {}.{}, the entry before it of {}.{}",
                have.0, have.1, before.0, before.1
            );
            self.disorder = Some((mark.seq, why));
        }
        if mark.time_ms.saturating_sub(last.time_ms) > ask.gap_ms {
            self.gap_count += 1;
            if self.gaps.len() < GAPS_SHOWN {
                self.gaps.push(Gap { after: last.seq, from_ms: last.time_ms, to_ms: mark.time_ms });
            }
        }
    }

    fn tenant(&mut self, name: &str, more: u64) {
        if self.tenants.contains_key(name) || self.tenants.len() < TENANTS_SHOWN {
            count(&mut self.tenants, name, more);
        } else {
            self.other_tenants += more;
        }
    }

    fn narrow(&mut self) {
        while self.buckets.len() > BUCKETS_MAX {
            self.widen();
        }
    }

    fn widen(&mut self) {
        self.bucket_ms *= 2;
        for (number, lanes) in std::mem::take(&mut self.buckets) {
            let bucket = self.buckets.entry(number / 2).or_default();
            bucket.iter_mut().zip(lanes).for_each(|(sum, more)| *sum += more);
        }
    }

    /// Takes up a later run.
    pub fn append(&mut self, ask: &Ask, mut later: Summary) {
        let Some(first) = later.first else { return };
        if self.first.is_none() {
            *self = later;
            return;
        }
        self.follow(ask, first);
        self.entries += later.entries;
        self.bytes += later.bytes;
        later.kinds.iter().for_each(|(kind, more)| count(&mut self.kinds, kind, *more));
        later.reasons.iter().for_each(|(reason, more)| count(&mut self.reasons, reason, *more));
        later.tenants.iter().for_each(|(tenant, more)| self.tenant(tenant, *more));
        self.other_tenants += later.other_tenants;
        while later.bucket_ms < self.bucket_ms {
            later.widen();
        }
        while self.bucket_ms < later.bucket_ms {
            self.widen();
        }
        for (number, lanes) in later.buckets {
            let bucket = self.buckets.entry(number).or_default();
            bucket.iter_mut().zip(lanes).for_each(|(sum, more)| *sum += more);
        }
        self.narrow();
        self.gap_count += later.gap_count;
        let room = GAPS_SHOWN - self.gaps.len();
        self.gaps.extend(later.gaps.into_iter().take(room));
        self.disorder = self.disorder.take().or(later.disorder);
        self.before = later.before.or(self.before);
        self.after = self.after.or(later.after);
        self.within = match (self.within, later.within) {
            (Some((first, _, a)), Some((_, last, b))) => Some((first, last, a + b)),
            (have, other) => have.or(other),
        };
        self.last = later.last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn runs_add_up_however_they_are_cut() {
        let world = World::busy(120);
        let leaves: Vec<Leaf<'_>> = world.leaves.iter().map(|(_, line)| Leaf::parse(line).unwrap()).collect();
        let middle = leaves[leaves.len() / 2].time_ms;
        let ask = Ask { period: (leaves[9].time_ms, middle), gap_ms: 650 };
        let run = |range: std::ops::Range<usize>| {
            let mut summary = Summary::default();
            range.for_each(|seq| summary.add(&ask, seq as u64, &leaves[seq], world.leaves[seq].1.len()));
            summary
        };
        let whole = run(0..leaves.len());
        assert_eq!(whole.disorder, None);
        assert!(whole.gap_count > 0 && whole.after.is_some() && whole.before.is_some());
        assert_eq!(whole.entries, leaves.len() as u64);
        for cut in [1, 7, leaves.len() / 2, leaves.len() - 1] {
            let mut sum = run(0..cut);
            sum.append(&ask, run(cut..leaves.len()));
            assert_eq!(sum, whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_goes_back_is_named_and_memory_is_bounded() {
        let world = World::busy(60);
        let leaves: Vec<Leaf<'_>> = world.leaves.iter().map(|(_, line)| Leaf::parse(line).unwrap()).collect();
        let ask = Ask { period: (0, u64::MAX), gap_ms: u64::MAX };
        let mut summary = Summary::default();
        for seq in 0..leaves.len() as u64 {
            let mut leaf = leaves[seq as usize].clone();
            leaf.time_ms = if seq == 20 { 5 } else { leaf.time_ms * (1 + seq) };
            summary.add(&ask, seq, &leaf, 1);
        }
        assert_eq!(summary.disorder.as_ref().map(|(seq, _)| *seq), Some(20));
        let mut many = Summary::default();
        for seq in 0..5000 {
            let mut leaf = leaves[1].clone();
            leaf.time_ms = seq * 60_000;
            leaf.lsn.0 = seq + 1;
            many.add(&ask, seq, &leaf, 1);
        }
        assert!(many.buckets.len() <= BUCKETS_MAX && many.disorder.is_none());
        assert_eq!(many.buckets.values().flatten().sum::<u64>(), 5000);
    }
}
