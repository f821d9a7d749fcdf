//! What the leader says about the state of all, and how everybody compares.
//!
//! An `Attested` lies some records behind the one it speaks about, so the digests of the last
//! [`ATTESTED_LAG_MAX`] records are kept.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use crate::codec::{DecodeError, Reader, put32};
use crate::event::Attested;
use crate::limits::{ATTESTED_LAG_MAX, ATTESTED_MAX};
use crate::log::{Digest, Lsn};

/// Two computations of the same log differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The first projection that differs, in the order in which they depend on each other.
    pub projection: &'static str,
    /// The record after which it was compared.
    pub upto: Lsn,
    /// What the log says.
    pub expected: Digest,
    /// What we computed.
    pub found: Digest,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Divergence { projection, upto, expected, found } = self;
        write!(f, "{projection} differs after record {upto}: the log says {expected}, computed {found}")
    }
}

impl core::error::Error for Divergence {}

/// The state after one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    lsn: Lsn,
    /// Submissions received so far.
    received: u64,
    outcomes: Digest,
    ledger: Digest,
}

const MARK_SIZE: usize = 8 + 8 + 32 + 32;

/// Recent digests, and the signature results that no `Attested` has covered yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attestations {
    marks: VecDeque<Mark>,
    signatures: VecDeque<u8>,
    /// Submissions received before the first of `signatures`.
    covered: u64,
}

impl Attestations {
    /// Notes the signature result of the next submission. Beyond [`ATTESTED_MAX`] the oldest are given up:
    /// a leader attests long before.
    pub(super) fn signature(&mut self, code: u8) {
        if self.signatures.len() == ATTESTED_MAX {
            self.signatures.pop_front();
            self.covered += 1;
        }
        self.signatures.push_back(code);
    }

    pub(super) fn end_record(&mut self, lsn: Lsn, outcomes: Digest, ledger: Digest) {
        if self.marks.len() == ATTESTED_LAG_MAX {
            self.marks.pop_front();
        }
        let received = self.covered + self.signatures.len() as u64;
        self.marks.push_back(Mark { lsn, received, outcomes, ledger });
    }

    /// Submissions that no `Attested` has covered yet.
    pub(super) fn pending(&self) -> u64 {
        self.signatures.len() as u64
    }

    /// The digests after the last record.
    pub(super) fn attest(&self) -> Attested {
        match self.marks.back() {
            None => {
                let nothing = Digest::ZERO;
                Attested { upto: Lsn::ZERO, signatures: Vec::new(), outcomes: nothing, ledger: nothing }
            }
            Some(mark) => Attested {
                upto: mark.lsn,
                signatures: self.signatures.iter().copied().collect(),
                outcomes: mark.outcomes,
                ledger: mark.ledger,
            },
        }
    }

    /// Compares. An `Attested` that was in flight with an earlier one repeats results that one covered; they
    /// are at its front and were compared then, so what is left is compared from its end.
    pub(super) fn check(&self, attested: &Attested) -> Result<(), Divergence> {
        let differs = |projection, expected, found| {
            Err(Divergence { projection, upto: attested.upto, expected, found })
        };
        let Some(mark) = self.mark(attested.upto) else {
            return differs("log", attested.ledger, Digest::ZERO);
        };
        let open = usize::try_from(mark.received.saturating_sub(self.covered)).unwrap_or(usize::MAX);
        let ours: Vec<u8> = self.signatures.iter().copied().take(open).collect();
        let theirs = &attested.signatures[attested.signatures.len().saturating_sub(ours.len())..];
        if theirs != ours {
            return differs("signatures", hash(theirs), hash(&ours));
        }
        if attested.outcomes != mark.outcomes {
            return differs("outcomes", attested.outcomes, mark.outcomes);
        }
        if attested.ledger != mark.ledger {
            return differs("ledger", attested.ledger, mark.ledger);
        }
        Ok(())
    }

    /// From now on the results up to there are covered.
    pub(super) fn cover(&mut self, upto: Lsn) {
        let Some(received) = self.mark(upto).map(|mark| mark.received) else { return };
        let covered = received.saturating_sub(self.covered).min(self.signatures.len() as u64);
        self.signatures.drain(..covered as usize);
        self.covered += covered;
    }

    /// The digests of outcomes and ledger after a record.
    pub(super) fn after(&self, lsn: Lsn) -> Option<(Digest, Digest)> {
        self.mark(lsn).map(|mark| (mark.outcomes, mark.ledger))
    }

    fn mark(&self, lsn: Lsn) -> Option<&Mark> {
        let index = self.marks.binary_search_by_key(&lsn, |mark| mark.lsn).ok()?;
        self.marks.get(index)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.covered.to_le_bytes());
        put32(out, &self.signatures.iter().copied().collect::<Vec<u8>>());
        out.extend_from_slice(&(self.marks.len() as u32).to_le_bytes());
        for mark in &self.marks {
            out.extend_from_slice(&mark.lsn.0.to_le_bytes());
            out.extend_from_slice(&mark.received.to_le_bytes());
            out.extend_from_slice(&mark.outcomes.0);
            out.extend_from_slice(&mark.ledger.0);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Attestations, DecodeError> {
        let covered = reader.u64("covered")?;
        let signatures = reader.bytes32(ATTESTED_MAX, "signatures")?.iter().copied().collect();
        let count = reader.u32("marks")? as usize;
        if count > ATTESTED_LAG_MAX || count * MARK_SIZE > reader.left() {
            return Err(DecodeError::OutOfBounds("marks"));
        }
        let mut marks = VecDeque::with_capacity(count);
        for _ in 0..count {
            let mark = Mark {
                lsn: Lsn(reader.u64("mark")?),
                received: reader.u64("mark")?,
                outcomes: Digest(reader.array("mark")?),
                ledger: Digest(reader.array("mark")?),
            };
            if marks.back().is_some_and(|before: &Mark| before.lsn >= mark.lsn) {
                return Err(DecodeError::OutOfBounds("order of marks"));
            }
            marks.push_back(mark);
        }
        Ok(Attestations { marks, signatures, covered })
    }
}

fn hash(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    fn three_records() -> Attestations {
        let mut attestations = Attestations::default();
        for lsn in 1..=3_u8 {
            attestations.signature(lsn);
            attestations.end_record(Lsn(lsn.into()), digest(lsn), digest(lsn + 10));
        }
        attestations
    }

    #[test]
    fn what_the_leader_attests_its_followers_confirm() {
        let mut ours = three_records();
        let attested = ours.attest();
        assert_eq!(attested.signatures, [1, 2, 3]);
        assert_eq!(ours.check(&attested), Ok(()));
        ours.signature(9);
        ours.end_record(Lsn(4), digest(4), digest(14));
        assert_eq!(ours.check(&attested), Ok(()));
        ours.cover(attested.upto);
        assert_eq!(ours.pending(), 1);
        assert_eq!(ours.attest().signatures, [9]);
    }

    #[test]
    fn the_first_difference_is_named() {
        let ours = three_records();
        let name = |change: fn(&mut Attested)| {
            let mut attested = ours.attest();
            change(&mut attested);
            ours.check(&attested).unwrap_err().projection
        };
        assert_eq!(name(|attested| attested.upto = Lsn(7)), "log");
        assert_eq!(name(|attested| attested.signatures[1] = 0), "signatures");
        assert_eq!(name(|attested| attested.signatures.clear()), "signatures");
        assert_eq!(name(|attested| attested.outcomes = Digest::ZERO), "outcomes");
        assert_eq!(name(|attested| attested.ledger = Digest::ZERO), "ledger");
    }

    #[test]
    fn one_in_flight_with_another_is_compared_from_its_end() {
        let mut ours = three_records();
        let late = ours.attest();
        ours.cover(Lsn(2));
        assert_eq!(ours.check(&late), Ok(()));
        let mut wrong = late.clone();
        wrong.signatures[2] = 0;
        assert_eq!(ours.check(&wrong).unwrap_err().projection, "signatures");
    }

    #[test]
    fn both_rings_are_bounded() {
        let mut attestations = Attestations::default();
        for lsn in 0..ATTESTED_LAG_MAX as u64 + 10 {
            attestations.end_record(Lsn(lsn + 1), Digest::ZERO, Digest::ZERO);
        }
        assert_eq!(attestations.marks.len(), ATTESTED_LAG_MAX);
        for _ in 0..ATTESTED_MAX + 10 {
            attestations.signature(1);
        }
        assert_eq!((attestations.pending(), attestations.covered), (ATTESTED_MAX as u64, 10));
    }

    #[test]
    fn attestations_come_back() {
        let ours = three_records();
        let mut bytes = Vec::new();
        ours.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Attestations::read(&mut reader), Ok(ours));
        assert_eq!(reader.end(), Ok(()));
    }
}
