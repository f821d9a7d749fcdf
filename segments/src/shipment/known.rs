//! What of a log may be shipped.
//!
//! A submission travels with what the log's `Attested` says of its signature, so a record may be shipped when an `Attested`
//! covers it. [`Known`] follows the log and says up to where that is so.

use engine::event::{Event, Payload, Record};
use engine::log::Lsn;
use std::collections::VecDeque;

/// Signature results read ahead of what is shipped, at most about so many.
pub const AHEAD_MAX: usize = 1 << 20;

/// Signature results of the records after those that are shipped.
#[derive(Debug)]
pub struct Known {
    /// The last record that was looked at.
    pub read: Lsn,
    /// Records whose submissions no `Attested` covers yet, and how many they have.
    open: VecDeque<(Lsn, usize)>,
    signatures: VecDeque<u8>,
    /// The last record that says something.
    pub substance: Lsn,
}

impl Known {
    /// Nothing after `shipped` was looked at.
    pub fn after(shipped: Lsn) -> Known {
        Known { read: shipped, open: VecDeque::new(), signatures: VecDeque::new(), substance: Lsn::ZERO }
    }

    /// Up to here everything is known.
    pub fn upto(&self) -> Lsn {
        self.open.front().map_or(self.read, |(lsn, _)| Lsn(lsn.0 - 1))
    }

    /// Whether enough was read ahead.
    pub fn is_full(&self) -> bool {
        self.signatures.len() >= AHEAD_MAX
    }

    /// The next record of the log.
    ///
    /// # Errors
    /// When an `Attested` covers less than it must: the log is not what it should be.
    pub fn look(&mut self, lsn: Lsn, record: &Record) -> Result<(), String> {
        assert_eq!(lsn, self.read.next(), "G1: the log is shipped in its order");
        self.read = lsn;
        let Payload::Events(events) = &record.payload else { return Ok(()) };
        let submissions = events.iter().filter(|event| matches!(event, Event::Received(_))).count();
        if submissions > 0 {
            self.open.push_back((lsn, submissions));
        }
        if events.iter().any(says_something) {
            self.substance = lsn;
        }
        for event in events {
            let Event::Attested(attested) = event else { continue };
            let covered = self.open.iter().take_while(|(lsn, _)| *lsn <= attested.upto);
            let (records, open) = covered.fold((0, 0), |(n, sum), (_, count)| (n + 1, sum + count));
            // What was in flight with an earlier one repeats it; its last results count.
            let skip = attested.signatures.len().checked_sub(open);
            let skip = skip.ok_or_else(|| format!("the Attested in record {lsn} covers too little"))?;
            self.signatures.extend(&attested.signatures[skip..]);
            self.open.drain(..records);
        }
        Ok(())
    }

    /// Hands out the results of the next submissions, in order.
    pub fn take(&mut self) -> impl Iterator<Item = u8> + '_ {
        std::iter::from_fn(|| self.signatures.pop_front())
    }
}

/// Whether other regions have to hear of it. What a region imported, or who attested what, is shipped with what comes next:
/// if it were shipped for itself, two regions would tell each other for ever that they heard of each other.
pub fn says_something(event: &Event) -> bool {
    match event {
        Event::Received(_)
        | Event::TenantSet(_)
        | Event::KeySet(_)
        | Event::PolicySet(_)
        | Event::LogKeySet(_)
        | Event::Checkpoint(_)
        | Event::Declared(_)
        | Event::Reconciled(_) => true,
        Event::Attested(_) | Event::Anchored(_) | Event::Witnessed(_) | Event::Imported(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::event::{Attested, Envelope};
    use engine::ids::TenantId;

    fn received() -> Event {
        let tenant = TenantId::new("t").unwrap();
        Event::Received(Envelope { tenant, received_at_ms: 1, salt: [0; 16], body: vec![1; 1000] })
    }

    fn attested(upto: u64, signatures: &[u8]) -> Event {
        let (outcomes, ledger) = Default::default();
        Event::Attested(Attested { upto: Lsn(upto), signatures: signatures.to_vec(), outcomes, ledger })
    }

    fn record(events: Vec<Event>) -> Record {
        Record { leader: 1, payload: Payload::Events(events) }
    }

    #[test]
    fn a_record_may_go_when_an_attested_covers_it() {
        let mut known = Known::after(Lsn(4));
        known.look(Lsn(5), &Record { leader: 1, payload: Payload::Blank }).unwrap();
        assert_eq!((known.upto(), known.substance), (Lsn(5), Lsn(0)));
        known.look(Lsn(6), &record(vec![received(), received()])).unwrap();
        known.look(Lsn(7), &record(vec![received()])).unwrap();
        assert_eq!((known.upto(), known.substance), (Lsn(5), Lsn(7)));
        // It covers more than was read: what came before is shipped already.
        known.look(Lsn(8), &record(vec![attested(6, &[9, 1, 2])])).unwrap();
        assert_eq!((known.upto(), known.take().collect::<Vec<_>>()), (Lsn(6), vec![1, 2]));
        known.look(Lsn(9), &record(vec![attested(8, &[3])])).unwrap();
        assert_eq!((known.upto(), known.take().collect::<Vec<_>>()), (Lsn(9), vec![3]));
        known.look(Lsn(10), &record(vec![received()])).unwrap();
        assert!(known.look(Lsn(11), &record(vec![attested(10, &[])])).is_err());
    }
}
