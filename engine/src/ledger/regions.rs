//! Other regions: their logs, folded again from what came of them, and one truth over all.
//!
//! Each region's log stays its own: its records decide its outcomes, its leaves and its digests. What we import of another
//! log is folded by the same code into a ledger of that region (without a table of its own), and compared with what that log
//! attests of itself. Its first rows stand in our table beside ours, and whoever looks up a key sees them all: the earlier
//! one wins by (log time, name of the region).
//!
//! - G1 ship-in-order: a range continues exactly where the last one of that log ended; anything else changes nothing.
//! - G2 regions-converge: regions that know the same of each other's logs have the same [`Ledger::merged_digest`].
//! - G3 merge: which of two rows wins, and what counts as a conflict, depends on the rows and not on the order in which
//!   they came; to have a range twice is to have it once.
//!
//! What another region had imported when it decided is part of why it decided so. Its log says how far it knew whose log
//! ([`Item::Seen`]), and a lookup on its behalf sees the rows up to there and no others; a range that speaks of what we do
//! not know yet has to wait.

mod declare;
mod ghost;
mod keep;
mod not_yet;
mod truth;
mod withheld;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use ghost::Ghost;
pub(super) use keep::{encode, read};
pub use not_yet::{NotYet, Quarantine};

use super::outcome::Outcome;
use super::{Case, Content, Divergence, First, KeyChange, Ledger, Table, TableError, Tally};
use crate::checkpoint::Signed;
use crate::event::{Envelope, Event, Imported, Item, Position};
use crate::ids::TenantId;
use crate::limits::{ATTESTED_LAG_MAX, IMPORT_PLACES_MAX, ORIGINS_MAX, RECORD_BYTES_MAX, RECORD_EVENTS_MAX};
use crate::log::{Digest, Lsn};
use crate::summary::{Judged, KeyRing, judge_presigned};

/// Two regions took different contents under one name before they knew of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The deduplication key, see [`First::key`].
    pub key: [u8; 32],
    /// Region, leaf there and log time of the one that wins.
    pub winner: (String, u64, u64),
    /// The same of the other.
    pub other: (String, u64, u64),
    /// Which fields differ: the mask that [`crate::summary::Fingerprint::differs`] gives.
    pub fields: u16,
}

/// Another region's log, as far as it came.
#[derive(Debug)]
pub struct Origin {
    ledger: Box<Ledger<Ghost>>,
    /// Items of a record that has not come whole.
    pending: Vec<Item>,
    /// Tree heads after recent records, which checkpoints are compared with.
    heads: VecDeque<(u64, Digest)>,
    /// The newest checkpoint that agreed: its size and note.
    agreed: Option<(u64, Vec<u8>)>,
    attested: Lsn,
    quarantine: Option<Quarantine>,
    /// Where its ranges stand in our log.
    places: Vec<(Position, Lsn)>,
    rings: BTreeMap<TenantId, KeyRing>,
    rings_version: u64,
}

impl Origin {
    fn new(region: &str) -> Origin {
        Origin::of(Ledger::new(region, Ghost::default()))
    }

    fn of(ledger: Ledger<Ghost>) -> Origin {
        Origin {
            ledger: Box::new(ledger),
            pending: Vec::new(),
            heads: VecDeque::new(),
            agreed: None,
            attested: Lsn::ZERO,
            quarantine: None,
            places: Vec::new(),
            rings: BTreeMap::new(),
            rings_version: 0,
        }
    }

    /// Its name.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.ledger.region
    }

    /// Where what came of it ends.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { lsn: self.ledger.applied.next(), nth: self.pending.len() as u32 }
    }

    /// Its log time there, milliseconds since the Unix epoch.
    #[must_use]
    pub fn log_time_ms(&self) -> u64 {
        self.ledger.now_ms
    }

    /// Leaves of its tree.
    #[must_use]
    pub fn leaves(&self) -> u64 {
        self.ledger.tree.size()
    }

    /// How its own keys followed each other.
    #[must_use]
    pub fn log_keys(&self) -> &[KeyChange] {
        self.ledger.log_keys()
    }

    /// Where its operators and its nodes saw that regions differ.
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.ledger.cases()
    }

    /// Conflicts between regions that were settled there.
    #[must_use]
    pub fn settled_conflicts(&self) -> u64 {
        self.ledger.settled_conflicts()
    }

    /// The digests of outcomes and ledger after one of its records, as far back as they are kept.
    #[must_use]
    pub fn computed_after(&self, lsn: Lsn) -> Option<(Digest, Digest)> {
        self.ledger.computed_after(lsn)
    }

    /// What happened there, in numbers.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.ledger.tally
    }

    /// The newest of its checkpoints whose root is that of the tree we made: its size, and the note as its log holds it.
    #[must_use]
    pub fn agreed(&self) -> Option<(u64, &[u8])> {
        self.agreed.as_ref().map(|(size, note)| (*size, note.as_slice()))
    }

    /// The last of its records whose attested digests are those computed here; 0 if none yet.
    #[must_use]
    pub fn attested(&self) -> Lsn {
        self.attested
    }

    /// Why it is believed no further, if so.
    #[must_use]
    pub fn quarantine(&self) -> Option<&Quarantine> {
        self.quarantine.as_ref()
    }

    fn judge(&mut self, envelope: &Envelope, signature: u8) -> Judged {
        let ledger = &self.ledger;
        if self.rings_version != ledger.rules_version {
            self.rings.clear();
            self.rings_version = ledger.rules_version;
        }
        if let Some(state) = ledger.tenant(&envelope.tenant)
            && !self.rings.contains_key(&envelope.tenant)
            && let Ok(ring) = KeyRing::public(&state.keys)
        {
            self.rings.insert(envelope.tenant, ring);
        }
        let ring = self.rings.get(&envelope.tenant);
        judge_presigned(envelope, signature, ring, &ledger.current_policy().1.policy)
    }

    /// Notes where a range begins; forgets every second place when there are too many.
    fn note_place(&mut self, from: Position, lsn: Lsn) {
        if self.places.len() == IMPORT_PLACES_MAX {
            let mut nth = 0;
            self.places.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
        }
        self.places.push((from, lsn));
    }

    /// What a log says of itself, held against what was computed here.
    fn compare(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Attested(attested) => {
                let checked = self.ledger.check_attested(attested);
                checked.map_err(|Divergence { projection, .. }| String::from(projection))?;
                self.attested = self.attested.max(attested.upto);
            }
            Event::Checkpoint(note) => {
                let signed = Signed::parse(note).map_err(|_| String::from("checkpoint"))?;
                let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
                if !self.heads.iter().rev().any(|head| *head == (size, root)) {
                    return Err("checkpoint".into());
                }
                self.agreed = Some((size, note.clone()));
            }
            _ => {}
        }
        Ok(())
    }

    /// L1: a record that never ends is not waited for.
    fn check_pending(&mut self) {
        let mut bytes = Vec::new();
        for item in &self.pending {
            item.encode(&mut bytes);
            if bytes.len() > 2 * RECORD_BYTES_MAX || self.pending.len() > RECORD_EVENTS_MAX {
                self.quarantine = Some(Quarantine { at: self.position(), part: "record".into() });
                self.pending.clear();
                break;
            }
        }
    }

    fn end_record(&mut self) {
        self.ledger.end_record(self.ledger.applied.next());
        let size = self.ledger.tree.size();
        if self.heads.back().is_none_or(|(last, _)| *last != size) {
            if self.heads.len() == ATTESTED_LAG_MAX {
                self.heads.pop_front();
            }
            self.heads.push_back((size, self.ledger.tree.root()));
        }
    }
}

/// All other regions, in the order in which their logs first came; their numbers begin at 1.
#[derive(Debug, Default)]
pub(super) struct Origins {
    list: Vec<Origin>,
    /// Their rows in the table.
    rows: u64,
    /// Rows before the first of them.
    before: u64,
    /// Conflicts between two regions, by their names in order.
    conflicts: BTreeMap<(String, String), u64>,
    clashes: VecDeque<Clash>,
}

impl Origins {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    /// Whether a table of so many rows can hold theirs.
    pub(super) fn fit(&self, rows: u64) -> bool {
        self.before.checked_add(self.rows).is_some_and(|theirs| theirs <= rows)
    }

    /// Whether these are the sums over all rows of each.
    pub(super) fn have_rows(&self, sums: &[Content]) -> bool {
        self.list.iter().zip(sums).all(|(origin, sum)| origin.ledger.content == *sum)
    }
}

impl<T: Table> Ledger<T> {
    /// Whether a range would be folded in if it were the next event, and if not, why.
    ///
    /// # Errors
    /// [`NotYet`].
    pub fn check_import(&self, imported: &Imported) -> Result<(), NotYet> {
        if imported.origin == self.region {
            return Err(NotYet::Own);
        }
        let expected = self.position_of(&imported.origin);
        if imported.from != expected {
            return Err(NotYet::Elsewhere { expected });
        }
        match self.origin(&imported.origin) {
            Some(Origin { quarantine: Some(why), .. }) => return Err(NotYet::Quarantined(why.clone())),
            None if self.origins.list.len() == usize::from(ORIGINS_MAX) => return Err(NotYet::TooMany),
            Some(_) | None => {}
        }
        match imported.items.get(self.known_items(&imported.items)) {
            Some(Item::Seen { origin, to, .. }) => Err(NotYet::Unknown { origin: origin.clone(), to: *to }),
            _ => Ok(()),
        }
    }

    /// How many items stand before the first that speaks of what is not known here. Up to there a range can be taken in; what
    /// it lacks may in turn lack what stands before it, so a range that waited as a whole might wait for ever.
    #[must_use]
    pub fn known_items(&self, items: &[Item]) -> usize {
        let unknown = |item: &Item| matches!(item, Item::Seen { origin, to, .. } if !self.knows(origin, *to));
        items.iter().position(unknown).unwrap_or(items.len())
    }

    fn knows(&self, region: &str, to: Position) -> bool {
        if region == self.region {
            return to <= Position::of(self.applied.next());
        }
        self.seen.get(region).is_some_and(|seen| to <= *seen)
    }

    /// Folds a range in. One that does not fit here changes nothing.
    pub(super) fn import(&mut self, lsn: Lsn, imported: &Imported) {
        if self.failed.is_some() || self.check_import(imported).is_err() {
            return;
        }
        let at = self.origins.list.iter().position(|origin| origin.region() == imported.origin);
        let at = at.unwrap_or_else(|| {
            if self.origins.is_empty() {
                self.origins.before = self.table.rows();
            }
            self.origins.list.push(Origin::new(&imported.origin));
            self.origins.list.len() - 1
        });
        let origin = &mut self.origins.list[at];
        assert_eq!(origin.position(), imported.from, "G1: a range continues the one before it");
        origin.note_place(imported.from, lsn);
        self.seen.insert(imported.origin.clone(), imported.end());
        for item in &imported.items {
            self.origins.list[at].pending.push(item.clone());
            if *item != Item::End {
                continue;
            }
            // A record is folded when it is there whole: between its events a ledger has no digest.
            let record = core::mem::take(&mut self.origins.list[at].pending);
            for (nth, item) in (0..).zip(&record) {
                if let Err(error) = self.import_item(at, nth, item) {
                    self.failed = Some(error);
                }
                if self.failed.is_some() {
                    return;
                }
            }
            if self.origins.list[at].quarantine.is_some() {
                return;
            }
        }
        self.origins.list[at].check_pending();
    }

    fn import_item(&mut self, at: usize, nth: u32, item: &Item) -> Result<(), TableError> {
        let number = at as u8 + 1;
        let origin = &mut self.origins.list[at];
        let lsn = origin.ledger.applied.next();
        match item {
            Item::End => origin.end_record(),
            Item::Withheld(withheld) => self.import_withheld(at, (lsn, nth), withheld)?,
            Item::Seen { origin: third, from, to } => {
                let ledger = &mut origin.ledger;
                let known = ledger.seen.get(third).copied().unwrap_or(Position::FIRST);
                if known == *from && *third != ledger.region {
                    ledger.seen.insert(third.clone(), *to);
                }
                let event =
                    Event::Imported(Imported { origin: third.clone(), from: *from, items: Vec::new() });
                ledger.apply_one(lsn, nth, &event, None, &Outcome::Noted, None);
            }
            Item::Event { signature, event } => {
                if let Err(part) = origin.compare(event) {
                    // The record is folded to its end all the same, so that what is kept is whole.
                    let why = Quarantine { at: Position { lsn, nth }, part };
                    origin.quarantine.get_or_insert(why);
                }
                let judged = match event {
                    Event::Received(envelope) => Some(origin.judge(envelope, *signature)),
                    _ => None,
                };
                let ledger = &self.origins.list[at].ledger;
                let outcome = ledger.decide_with(event, judged.as_ref(), |key, now_ms| {
                    self.winner(key, now_ms, Some(number))
                })?;
                let elsewhere = outcome.earlier().and_then(|first| self.region_for(number, first));
                let elsewhere = elsewhere.map(String::from);
                let ledger = &mut self.origins.list[at].ledger;
                ledger.apply_one(lsn, nth, event, judged.as_ref(), &outcome, elsewhere.as_deref());
                if let Some(first) = ledger.table.take() {
                    self.take_row(&first.of_origin(number))?;
                }
            }
        }
        Ok(())
    }

    /// Takes another region's first row into the table.
    fn take_row(&mut self, first: &First) -> Result<(), TableError> {
        self.note_clashes(first)?;
        self.push_row(first);
        self.origins.rows += 1;
        Ok(())
    }

    /// Where what is known of a region's log ends.
    #[must_use]
    pub fn position_of(&self, region: &str) -> Position {
        self.seen.get(region).copied().unwrap_or(Position::FIRST)
    }

    /// Other regions whose logs came here, in the order in which they did.
    pub fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.origins.list.iter()
    }

    /// Another region's log, by its name.
    #[must_use]
    pub fn origin(&self, region: &str) -> Option<&Origin> {
        self.origins.list.iter().find(|origin| origin.region() == region)
    }

    /// A record of ours at or after which the range stands that holds this place of another region's log; it is not far
    /// behind it.
    #[must_use]
    pub fn imported_at(&self, region: &str, place: Position) -> Option<Lsn> {
        self.range_of(region, place).map(|(_, lsn)| lsn)
    }

    /// The same, with the place at which the range in that record begins.
    #[must_use]
    pub fn range_of(&self, region: &str, place: Position) -> Option<(Position, Lsn)> {
        let origin = self.origin(region).filter(|origin| place < origin.position())?;
        let after = origin.places.partition_point(|(from, _)| *from <= place);
        after.checked_sub(1).map(|at| origin.places[at])
    }

    /// How often two regions, named in order, took different contents under one name.
    pub fn region_conflicts(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.origins.conflicts.iter().map(|((a, b), count)| (a.as_str(), b.as_str(), *count))
    }

    /// The last of these, at most [`crate::limits::CLASHES_MAX`].
    pub fn clashes(&self) -> impl Iterator<Item = &Clash> {
        self.origins.clashes.iter()
    }

    /// The other region in whose log a first row stands.
    #[must_use]
    pub fn region_of(&self, first: &First) -> Option<&str> {
        let at = usize::from(first.origin()).checked_sub(1)?;
        self.origins.list.get(at).map(Origin::region)
    }

    /// The policy that judged a first row, here or in its region.
    #[must_use]
    pub fn rule_of(&self, first: &First) -> Option<&super::Rule> {
        match usize::from(first.origin()).checked_sub(1) {
            None => self.rules.get(first.policy),
            Some(at) => self.origins.list.get(at)?.ledger.rules.get(first.policy),
        }
    }

    /// Rows of our own log.
    pub(super) fn own_rows(&self) -> u64 {
        self.table.rows() - self.origins.rows
    }

    /// Rows that are in the order of log time: those before the first of another region.
    pub(super) fn ordered_rows(&self) -> u64 {
        if self.origins.is_empty() { self.table.rows() } else { self.origins.before }
    }

    /// What another region must have known to decide as we did.
    pub(super) fn hash_seen(&self, hasher: &mut blake3::Hasher) {
        for (region, position) in &self.seen {
            let mut bytes = Vec::with_capacity(80);
            crate::codec::put8(&mut bytes, region.as_bytes());
            position.encode(&mut bytes);
            hasher.update(&bytes);
        }
    }
}

#[cfg(test)]
mod tests;
