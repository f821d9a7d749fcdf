//! What of our log stays here, and what other regions get in its place.
//!
//! Which submissions those are is said by the log; what became of each is said by its leaf, or by there being none. So what stands in
//! their place is the same whoever makes it and however often, and needs nothing that is not in every node's files.

use super::ports::Home;
use engine::event::{Event, Item, Payload, Position, Record, Withheld, ship_but};
use engine::leaf::Leaf;
use engine::log::Lsn;
use std::collections::{BTreeMap, BTreeSet};

/// What is withheld of some records.
#[derive(Debug, Default)]
pub struct Stays {
    places: BTreeSet<Position>,
    /// The leaves of those records.
    lines: BTreeMap<Position, Vec<u8>>,
}

impl Stays {
    /// Looks at these records, the leaves of which are written.
    ///
    /// # Errors
    /// Why their leaves cannot be read.
    pub async fn of<H: Home>(home: &H, records: &[(Lsn, Record)]) -> Result<Stays, String> {
        let places = home.ledger(|ledger| {
            if ledger.withheld() == 0 {
                return BTreeSet::new();
            }
            let places = records.iter().flat_map(|(lsn, record)| {
                let events = match &record.payload {
                    Payload::Events(events) => events.as_slice(),
                    Payload::Blank | Payload::Membership(_) => &[],
                };
                (0..).zip(events).filter_map(|(nth, event)| {
                    let at = Position { lsn: *lsn, nth };
                    matches!(event, Event::Received(envelope) if ledger.withholds(&envelope.tenant, at))
                        .then_some(at)
                })
            });
            places.collect()
        });
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return Ok(Stays::default()) };
        let mut lines = BTreeMap::new();
        for line in home.leaves(first.lsn, last.lsn).await? {
            let leaf = Leaf::parse(&line).map_err(|error| format!("a leaf of record {first:?}: {error}"))?;
            let at = Position { lsn: leaf.lsn, nth: leaf.nth };
            if places.contains(&at) {
                lines.insert(at, line);
            }
        }
        Ok(Stays { places, lines })
    }

    /// One of them as other regions get it.
    ///
    /// # Errors
    /// When a leaf is not that of its submission.
    pub fn ship(
        &self,
        lsn: Lsn,
        record: Record,
        signatures: &mut dyn Iterator<Item = u8>,
    ) -> Result<Vec<Item>, String> {
        ship_but(record, signatures, |nth, envelope, signature| {
            let at = Position { lsn, nth };
            if !self.places.contains(&at) {
                return Ok(None);
            }
            let withheld = Withheld::of(envelope, signature, self.lines.get(&at).map(Vec::as_slice));
            withheld.map(Some).map_err(|why| format!("event {nth} of record {lsn}: {why}"))
        })
    }
}
