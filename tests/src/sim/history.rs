//! What was seen: by clients, by the machines as they ran, and by whoever reads the log afterwards.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use engine::event::Event;
use engine::ledger::{First, Outcome};
use engine::log::{Digest, Lsn};

use super::workload::Submission;
use crate::checkers::sealed_is_final::Sealed;

/// A place in the log: record and event.
pub type Place = (Lsn, u32);

/// What a client was told, in as few words as the checkers need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The first of its name.
    First {
        /// Its numbers were accepted.
        accepted: bool,
    },
    /// The same again: the answer of the first one.
    Duplicate {
        /// Where the first one stands.
        first: Place,
        /// Its numbers were accepted.
        accepted: bool,
    },
    /// Another content: the answer of the first one.
    Conflict {
        /// Where the first one stands.
        first: Place,
        /// Its numbers were accepted.
        accepted: bool,
    },
    /// Not let in, with the code of the reason.
    Refused(u8),
    /// A setting took effect, or an event about the log itself.
    Other,
}

impl Answer {
    /// The answer to an outcome; `accepted` is the submission's own verdict.
    pub fn of(outcome: &Outcome, accepted: bool) -> Answer {
        let place = |first: &First| (first.lsn, first.nth);
        match outcome {
            Outcome::First { .. } => Answer::First { accepted },
            Outcome::Duplicate { first } => {
                Answer::Duplicate { first: place(first), accepted: first.accepted() }
            }
            Outcome::Conflict { first, .. } => {
                Answer::Conflict { first: place(first), accepted: first.accepted() }
            }
            Outcome::Refused { reason, .. } => Answer::Refused(*reason as u8),
            Outcome::Configured { .. } | Outcome::Noted => Answer::Other,
        }
    }

    /// The earlier record it depends on.
    pub fn first(&self) -> Option<Place> {
        match self {
            Answer::Duplicate { first, .. } | Answer::Conflict { first, .. } => Some(*first),
            _ => None,
        }
    }
}

/// One answer as a client got it.
#[derive(Clone, Debug)]
pub struct Told {
    /// What it had sent.
    pub sent: Submission,
    /// Where it was told that this stands.
    pub place: Place,
    /// What it was told.
    pub answer: Answer,
    /// Which life of the node said so.
    pub life: u64,
}

/// One record as a machine applied it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Raft's term.
    pub term: u64,
    /// Its events; none in the records that only Raft reads.
    pub events: Vec<Event>,
    /// What became of them.
    pub answers: Vec<Answer>,
    /// The ledger after it.
    pub digest: Digest,
    /// Size and root of the tree after it.
    pub head: (u64, Digest),
}

/// Everything the checkers may look at.
#[derive(Default)]
pub struct History {
    /// Answers, in the order in which clients got them.
    pub told: Vec<Told>,
    /// Every record any life has applied.
    pub applied: BTreeMap<Lsn, Record>,
    /// Where one life applied something else than a life before it.
    pub rewritten: Vec<(Lsn, u64)>,
    /// Lives that led, with their terms.
    pub terms: Vec<(u64, u64)>,
    /// Segments as they were first seen sealed.
    pub sealed: Sealed,
    /// Batches submitted and not applied, now.
    pub in_flight: u64,
    /// The most there ever were.
    pub in_flight_most: u64,
}

impl History {
    /// A life has applied a record.
    pub fn note(&mut self, life: u64, lsn: Lsn, record: Record) {
        match self.applied.entry(lsn) {
            Entry::Vacant(vacant) => drop(vacant.insert(record)),
            Entry::Occupied(old) if *old.get() != record => self.rewritten.push((lsn, life)),
            Entry::Occupied(_) => {}
        }
    }
}

/// The log as it stands at the end, read by an independent fold.
#[derive(Default)]
pub struct Sight {
    /// Every record from the first to the last.
    pub records: Vec<(Lsn, Record)>,
    /// The leaves, in order.
    pub leaves: Vec<Vec<u8>>,
}

impl Sight {
    /// Events and their answers with their places.
    pub fn events(&self) -> impl Iterator<Item = (Place, &Event, &Answer)> {
        self.records.iter().flat_map(|(lsn, record)| {
            let pairs = record.events.iter().zip(&record.answers);
            pairs.enumerate().map(|(nth, (event, answer))| ((*lsn, nth as u32), event, answer))
        })
    }
}
