//! What no two nodes may see differently: the wire's own account of votes, leaders and entries, and the agreed
//! records with everything that was made of them.
//!
//! Each promise of Raft is held against what can be seen from outside, at every message and at every record:
//! one leader a term; one vote a term; one log id, one payload; one log id, one predecessor (log matching); a
//! leader has what was agreed before its term; only entries of its own term are agreed by counting; what is
//! applied is durable on a majority of each set of voters; voters change one step at a time.

use std::collections::BTreeMap;

use engine::event::{Payload, Record as LogRecord};
use engine::log::Lsn;

use super::wire::{self, Answer, Append, Fetched, Id, Request, Vote};
use crate::sim::history::{History, Record};

/// No membership of a simulated group is longer, bytes.
const MEMBERSHIP_SHORT: usize = 1024;

/// What is known of one log id.
struct Known {
    before: Option<u64>,
    payload: u64,
}

/// See the module.
#[derive(Default)]
pub struct Truth {
    /// For the checkers of whole histories: every agreed record, and what clients were told.
    pub history: History,
    /// Promises of nodes, by node and term: to whom.
    votes: BTreeMap<(u64, u64), u64>,
    /// Who led, by term.
    leaders: BTreeMap<u64, u64>,
    /// Log ids, by position and term.
    ids: BTreeMap<(u64, u64), Known>,
    /// The end of what each node has said to hold, by node.
    acked: BTreeMap<u64, Id>,
    /// The end of what any leader has said to be agreed.
    announced: Option<Id>,
    /// The highest term heard when a record was first applied, by position.
    agreed_by: BTreeMap<u64, u64>,
    /// Memberships after each record that changes them.
    memberships: BTreeMap<Lsn, Vec<Vec<u64>>>,
    /// The same for records that were sent, agreed or not.
    proposed: BTreeMap<u64, Vec<Vec<u64>>>,
    /// Digest of the membership that each record was passed with.
    passed_with: BTreeMap<Lsn, u64>,
    highest_term: u64,
    broken: Vec<String>,
}

fn digest(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*blake3::hash(bytes).as_bytes().first_chunk().expect("a digest is longer"))
}

impl Truth {
    /// Broken promises since the last look.
    pub fn take_broken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.broken)
    }

    /// Terms in which a node led.
    pub fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// The last record that any node has applied.
    pub fn last(&self) -> Lsn {
        self.history.applied.last_key_value().map_or(Lsn::ZERO, |(lsn, _)| *lsn)
    }

    fn break_(&mut self, what: String) {
        self.broken.push(what);
    }

    /// `node` leads `term`, by its own word or by what it says to others.
    pub fn leads(&mut self, node: u64, term: u64) {
        self.highest_term = self.highest_term.max(term);
        let first = *self.leaders.entry(term).or_insert(node);
        if first != node {
            self.break_(format!("R1: nodes {first} and {node} both lead term {term}"));
        }
    }

    fn votes(&mut self, voter: u64, vote: Vote) {
        self.highest_term = self.highest_term.max(vote.term);
        let first = *self.votes.entry((voter, vote.term)).or_insert(vote.node);
        if first != vote.node {
            self.break_(format!(
                "R2: node {voter} voted for {first} and for {} in term {}",
                vote.node, vote.term
            ));
        }
    }

    /// `from` has sent this.
    pub fn heard(&mut self, from: u64, request: &Request) {
        match request {
            Request::Append(append) => self.entries(from, append),
            // Whoever asks for votes has given its own.
            Request::Vote { pre: false, vote, .. } => self.votes(from, *vote),
            Request::Vote { .. } | Request::Fetch(..) | Request::Other => {}
        }
    }

    fn entries(&mut self, from: u64, append: &Append) {
        let Append { vote, previous, committed, entries, .. } = append;
        self.leads(from, vote.term);
        let mut before = *previous;
        for (id, record) in entries {
            self.entry(vote.term, *id, before.map(|before| before.term), digest(record));
            if record.len() < MEMBERSHIP_SHORT
                && let Ok(Payload::Membership(bytes)) = LogRecord::decode(record).map(|record| record.payload)
                && let Ok(sets) = wire::voters(&bytes)
            {
                self.proposed.insert(id.lsn, sets);
            }
            before = Some(*id);
        }
        let Some(committed) = *committed else { return };
        if self.announced.is_none_or(|announced| announced.lsn < committed.lsn) {
            let applied = self.last().0;
            self.announced = Some(committed);
            if committed.term != vote.term && committed.lsn > applied {
                self.break_(format!(
                    "R6: the leader of term {} calls {} of term {} agreed, which nobody had",
                    vote.term, committed.lsn, committed.term
                ));
            }
        }
    }

    fn entry(&mut self, leader_term: u64, id: Id, before: Option<u64>, payload: u64) {
        let known = self.ids.entry((id.lsn, id.term)).or_insert(Known { before, payload });
        let (same, follows) = (known.payload == payload, known.before == before);
        if !same {
            self.break_(format!("R3: log id {} of term {} has two payloads", id.lsn, id.term));
        }
        if !follows {
            self.break_(format!("R4: log id {} of term {} has two predecessors", id.lsn, id.term));
        }
        let agreed = self.history.applied.get(&Lsn(id.lsn)).map(|record| record.term);
        let since = self.agreed_by.get(&id.lsn).copied().unwrap_or(u64::MAX);
        if agreed.is_some_and(|agreed| agreed != id.term) && leader_term > since {
            self.break_(format!(
                "R5: the leader of term {leader_term} has term {} at {}, agreed is {agreed:?}",
                id.term, id.lsn
            ));
        }
    }

    /// `from` has answered this.
    pub fn answered(&mut self, from: u64, asked: &Request, answer: &Answer) {
        match (asked, answer) {
            (Request::Vote { pre: false, vote: candidate, .. }, Answer::Voted { granted: true, .. }) => {
                self.votes(from, *candidate);
            }
            (Request::Append(_), Answer::Upto(Some(id))) => {
                let last = self.acked.entry(from).or_insert(*id);
                if (last.term, last.lsn) < (id.term, id.lsn) {
                    *last = *id;
                }
            }
            (_, Answer::Fetched(fetched)) => self.gives(from, fetched),
            _ => {}
        }
    }

    /// What is given to one that repairs its log is what was sent when it was new; and what is called agreed is.
    fn gives(&mut self, from: u64, fetched: &Fetched) {
        for (id, record) in &fetched.entries {
            let known = self.ids.get(&(id.lsn, id.term));
            if known.is_some_and(|known| known.payload != digest(record)) {
                self.break_(format!(
                    "F3: node {from} gives other bytes for log id {} of term {}",
                    id.lsn, id.term
                ));
            }
            let agreed = self.history.applied.get(&Lsn(id.lsn)).map(|record| record.term);
            if id.lsn <= fetched.committed && agreed.is_some_and(|agreed| agreed != id.term) {
                self.break_(format!(
                    "F3: node {from} calls {} of term {} agreed, and that is {agreed:?}",
                    id.lsn, id.term
                ));
            }
        }
    }

    /// Does `node`, by what it has said, hold this record?
    pub fn holds(&self, node: u64, lsn: Lsn, term: u64) -> bool {
        self.acked.get(&node).is_some_and(|acked| acked.lsn >= lsn.0 && acked.term >= term)
    }

    /// The last agreed record that `node` has said to hold, and its term.
    pub fn owes(&self, node: u64) -> Option<(Lsn, u64)> {
        let term_of = |lsn: u64| self.history.applied.get(&Lsn(lsn)).map(|record| record.term);
        // What it said to hold may end in entries that were never agreed: those before them are known by the log id.
        let (mut at, mut said) = (self.acked.get(&node).copied(), None);
        while let Some(id) = at {
            if term_of(id.lsn) == Some(id.term) {
                said = Some((Lsn(id.lsn), id.term));
                break;
            }
            let before = self.ids.get(&(id.lsn, id.term)).and_then(|known| known.before);
            at = before.map(|term| Id { lsn: id.lsn - 1, term });
        }
        said
    }

    /// The end of what `node` has said to hold.
    pub fn said(&self, node: u64) -> Option<Id> {
        self.acked.get(&node).copied()
    }

    /// Has `node` led this term or a later one?
    pub fn has_led(&self, node: u64, term: u64) -> bool {
        self.leaders.range(term..).any(|(_, leader)| *leader == node)
    }

    /// The sets of voters after the record at `lsn`.
    pub fn voters(&self, lsn: Lsn) -> Vec<Vec<u64>> {
        self.memberships.range(..=lsn).next_back().map_or_else(Vec::new, |(_, sets)| sets.clone())
    }

    /// The sets of voters that were proposed after the record at `lsn`: who leads counts by the newest in its log.
    pub fn proposed_after(&self, lsn: Lsn) -> impl Iterator<Item = &Vec<Vec<u64>>> {
        self.proposed.range(lsn.0..).map(|(_, sets)| sets)
    }

    /// A node has passed a record. `Ok` whether nobody had before it, an error if another one saw it otherwise.
    pub fn passed(
        &mut self,
        node: u64,
        lsn: Lsn,
        record: &Record,
        membership: &[u8],
    ) -> Result<bool, String> {
        let with = digest(membership);
        if *self.passed_with.entry(lsn).or_insert(with) != with {
            return Err(format!("R8: node {node} passed {lsn} with another membership than those before it"));
        }
        if let Some(agreed) = self.history.applied.get(&lsn) {
            if agreed.term != record.term || agreed.events != record.events {
                return Err(format!(
                    "R7: node {node} applied another record at {lsn}: term {} and not {}",
                    record.term, agreed.term
                ));
            }
            if agreed != record {
                return Err(format!("I3: node {node} made something else of record {lsn}"));
            }
            return Ok(false);
        }
        if lsn != self.last().next() {
            return Err(format!("R7: node {node} applied {lsn}, and the last was {}", self.last()));
        }
        self.agreed_by.insert(lsn.0, self.highest_term.max(record.term));
        self.history.applied.insert(lsn, record.clone());
        self.step(lsn, membership)?;
        Ok(true)
    }

    /// Voters change through both sets, one change at a time.
    fn step(&mut self, lsn: Lsn, membership: &[u8]) -> Result<(), String> {
        let unreadable = |error| format!("R8: the membership at {lsn} cannot be read: {error}");
        // The position of its entry stands before it.
        let Some(bytes) = membership.get(16..) else { return Ok(()) };
        let after = wire::voters(bytes).map_err(unreadable)?;
        let before = self.voters(lsn);
        if before == after {
            return Ok(());
        }
        let right = match (&before[..], &after[..]) {
            ([], _) => true,
            ([old], [left, _]) => left == old,
            ([_, new], [only]) => only == new,
            _ => false,
        };
        self.memberships.insert(lsn, after.clone());
        if right { Ok(()) } else { Err(format!("R8: voters went from {before:?} to {after:?} at {lsn}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_two_votes_and_two_payloads_are_seen() {
        let mut truth = Truth::default();
        let vote = |term, node| Vote { term, node, granted: false };
        let ask = |node| Request::Vote { pre: false, vote: vote(4, node), last: None, told: false };
        let yes = |node| Answer::Voted { vote: vote(4, node), granted: true, last: None };
        truth.answered(3, &ask(1), &yes(1));
        truth.answered(3, &ask(1), &yes(1));
        assert_eq!(truth.take_broken(), Vec::<String>::new());
        truth.answered(3, &ask(2), &yes(2));
        assert!(truth.take_broken()[0].starts_with("R2"));
        truth.leads(1, 4);
        truth.leads(2, 4);
        assert!(truth.take_broken()[0].starts_with("R1"));
        let id = |lsn| Id { lsn, term: 4 };
        truth.entry(4, id(2), Some(4), 10);
        truth.entry(4, id(2), Some(4), 11);
        assert!(truth.take_broken()[0].starts_with("R3"));
        truth.entry(4, id(2), Some(3), 10);
        assert!(truth.take_broken()[0].starts_with("R4"));
    }
}
