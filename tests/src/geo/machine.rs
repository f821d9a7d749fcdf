//! The machine of a region: the engine's ledger, folded as the server folds it, with what shipping asks of it.

use std::collections::BTreeMap;

use engine::checkpoint::Signed;
use engine::event::{Envelope, Event, Item, Payload, Position, Record, Withheld, ship_but};
use engine::ids::TenantId;
use engine::leaf::Leaf;
use engine::ledger::{First, Ledger, MemTable, Outcome, Table};
use engine::log::{Digest, Lsn};
use engine::summary::{Judged, KeyRing, judge};

use super::mutants::Mutant;
use crate::regions::Own;
use crate::sim::workload::OpenSecrets;

/// An event of a region's log: the region's number, record, event.
pub type Spot = (usize, Lsn, u32);

/// What a region says of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The first of its name, as far as is known here.
    First,
    /// The same as this one.
    Duplicate(Spot),
    /// Another content than this one.
    Conflict(Spot),
    /// Not let in.
    Refused(u8),
    /// Nothing that a client asked for.
    Other,
}

/// Names of regions by number.
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// The number of a region.
pub fn number(name: &str) -> usize {
    NAMES.iter().position(|known| *known == name).expect("a region of this world")
}

/// What a life leaves to the next one.
#[derive(Clone)]
pub struct Snapshot {
    ledger: Vec<u8>,
    table: MemTable,
    proven: BTreeMap<String, u64>,
    newest: u64,
    lines: Vec<(Lsn, Vec<u8>)>,
}

/// See the module.
pub struct Machine {
    region: usize,
    /// The ledger.
    pub ledger: Ledger<MemTable>,
    rings: BTreeMap<TenantId, (u64, Option<KeyRing>)>,
    /// Leaves under the newest checkpoint that each mirror has cosigned, by its key's name.
    pub proven: BTreeMap<String, u64>,
    /// Leaves under our newest checkpoint.
    pub newest: u64,
    mutant: Mutant,
    /// When this machine's wall clock said that a row came, for a mutant.
    came: Vec<u64>,
    /// Leaves of what is withheld, by their records.
    lines: Vec<(Lsn, Vec<u8>)>,
    /// The same ledger, but for what is withheld: nothing is. For a mutant.
    careless: Option<Box<Ledger<MemTable>>>,
}

impl Machine {
    /// Before the first record.
    pub fn new(region: usize, mutant: Mutant) -> Machine {
        Machine {
            region,
            ledger: Ledger::new(NAMES[region], MemTable::new()),
            rings: BTreeMap::new(),
            proven: BTreeMap::new(),
            newest: 0,
            mutant,
            came: Vec::new(),
            lines: Vec::new(),
            careless: (mutant == Mutant::ShipsWhatStays)
                .then(|| Box::new(Ledger::new(NAMES[region], MemTable::new()))),
        }
    }

    /// Goes on from a snapshot.
    pub fn from(region: usize, mutant: Mutant, snapshot: Snapshot) -> Machine {
        let ledger = Ledger::restore(&snapshot.ledger, snapshot.table).expect("it was just taken");
        let came = vec![0; ledger.table().rows() as usize];
        Machine {
            ledger,
            proven: snapshot.proven,
            newest: snapshot.newest,
            came,
            lines: snapshot.lines,
            ..Machine::new(region, mutant)
        }
    }

    /// What the next life may begin with.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            ledger: self.ledger.snapshot().expect("a table in memory"),
            table: self.ledger.table().clone(),
            proven: self.proven.clone(),
            newest: self.newest,
            lines: self.lines.clone(),
        }
    }

    /// Digest of everything, and of what all regions add up to.
    pub fn digests(&self) -> (Digest, Digest) {
        (self.ledger.digest(), self.ledger.merged_digest())
    }

    fn judge(&mut self, envelope: &Envelope) -> Judged {
        let version = self.ledger.keys_version();
        let (made, ring) = self.rings.entry(envelope.tenant).or_insert((u64::MAX, None));
        if *made != version {
            let keys = self.ledger.tenant(&envelope.tenant);
            let keys = keys.map(|tenant| tenant.keys_at(0).cloned().collect::<Vec<_>>());
            *ring = keys.and_then(|keys| KeyRing::new(&keys, &OpenSecrets).ok());
            *made = version;
        }
        judge(envelope, ring.as_ref(), &self.ledger.current_policy().1.policy)
    }

    fn spot(&self, first: &First) -> Spot {
        let region = self.ledger.region_of(first).map_or(self.region, number);
        (region, first.lsn, first.nth)
    }

    /// Folds the next record. `seen` is told of every new first of our own and of every signature.
    ///
    /// # Errors
    /// When what the log attests is not what is computed here.
    pub fn apply(
        &mut self,
        events: &[Event],
        wall_ms: u64,
        seen: &mut dyn FnMut(Seen),
    ) -> Result<Vec<Said>, String> {
        let lsn = self.ledger.applied().next();
        let mut says = Vec::new();
        for (nth, event) in (0..).zip(events) {
            let judged = match event {
                Event::Received(envelope) => Some(self.judge(envelope)),
                _ => None,
            };
            judged.iter().for_each(|judged| seen(Seen::Signature(judged.signature_byte())));
            match event {
                Event::Attested(attested) => {
                    self.ledger.check_attested(attested).map_err(|why| why.to_string())?;
                }
                Event::Checkpoint(note) => self.newest = self.newest.max(size_of(note)),
                Event::Anchored(anchored) => {
                    let proven = self.proven.entry(anchored.target.clone()).or_insert(0);
                    *proven = (*proven).max(size_of(&anchored.note));
                }
                _ => {}
            }
            let outcome = self.ledger.decide(lsn, nth, event, judged.as_ref()).expect("a table in memory");
            let applied = self.ledger.apply(lsn, nth, event, judged.as_ref(), &outcome);
            if let (Event::Received(envelope), Some(line)) = (event, applied.leaf)
                && self.ledger.withholds(&envelope.tenant, Position { lsn, nth })
            {
                self.lines.push((lsn, line));
            }
            if let Some(careless) = &mut self.careless {
                let nothing = Event::Checkpoint(Vec::new());
                let event = if matches!(event, Event::Declared(_)) { &nothing } else { event };
                let outcome = careless.decide(lsn, nth, event, judged.as_ref()).expect("a table in memory");
                careless.apply(lsn, nth, event, judged.as_ref(), &outcome);
            }
            self.came.resize(self.ledger.table().rows() as usize, wall_ms);
            let said = match &outcome {
                Outcome::First { seq, .. } => {
                    let table = self.ledger.table();
                    let row = table.row(table.rows() - 1).expect("just pushed");
                    let ttl_ms = self.ledger.rule_of(&row).expect("its rule").policy.dedup_ttl_ms;
                    let (key, time_ms, digest) = (row.key, row.time_ms, row.digest);
                    seen(Seen::First(Own { key, time_ms, seq: *seq, digest, ttl_ms }));
                    Said::First
                }
                Outcome::Duplicate { first } => Said::Duplicate(self.spot(first)),
                Outcome::Conflict { first, .. } => Said::Conflict(self.spot(first)),
                Outcome::Refused { reason, .. } => Said::Refused(*reason as u8),
                Outcome::Configured { .. } | Outcome::Noted => Said::Other,
            };
            says.push(self.missay(said));
        }
        self.ledger.end_record(lsn);
        self.careless.iter_mut().for_each(|careless| careless.end_record(lsn));
        Ok(says)
    }

    /// What a mutant tells a client instead.
    fn missay(&self, right: Said) -> Said {
        let spot = match right {
            Said::Duplicate(spot) | Said::Conflict(spot) => spot,
            _ => return right,
        };
        match self.mutant {
            Mutant::OwnLogOnly if spot.0 != self.region => Said::First,
            Mutant::TieByWallClock => {
                let rows = (0..self.ledger.table().rows())
                    .map(|row| (self.came[row as usize], self.ledger.table().row(row).expect("it is there")));
                let rows: Vec<(u64, First)> = rows.collect();
                let key = rows.iter().find(|(_, row)| self.spot(row) == spot).map(|(_, row)| row.key);
                let now_ms = self.ledger.log_time_ms();
                let live = |row: &First| now_ms < row.time_ms + crate::sim::workload::TTL_MS;
                let same = rows.iter().filter(|(_, row)| Some(row.key) == key && live(row));
                let first = same.min_by_key(|(came, _)| *came).map_or(spot, |(_, row)| self.spot(row));
                match right {
                    Said::Duplicate(_) => Said::Duplicate(first),
                    _ => Said::Conflict(first),
                }
            }
            _ => right,
        }
    }

    /// What shipping is shown of the ledger.
    pub fn told(&self) -> &Ledger<MemTable> {
        self.careless.as_deref().unwrap_or(&self.ledger)
    }

    /// A record as others may get it. It has been folded.
    pub fn shipped(&self, events: &[Event], signatures: &mut dyn Iterator<Item = u8>) -> Vec<Item> {
        let lsn = self.ledger.applied();
        let lines = self.lines(lsn, lsn);
        let shipped = ship_but(record_of(events), signatures, |nth, envelope, signature| {
            if !self.ledger.withholds(&envelope.tenant, Position { lsn, nth }) {
                return Ok(None);
            }
            let of = |line: &&Vec<u8>| Leaf::parse(line).is_ok_and(|leaf| leaf.nth == nth);
            let line = lines.iter().find(of).map(Vec::as_slice);
            Withheld::of(envelope, signature, line).map(Some)
        });
        shipped.expect("its leaf was just made")
    }

    /// This leaf, as if its submission were an earlier one of the same kind.
    pub fn line_of_another(&self, line: &[u8]) -> Vec<u8> {
        let Ok(right) = Leaf::parse(line) else { return line.to_vec() };
        let mut others = self.lines.iter().filter_map(|(_, other)| Leaf::parse(other).ok());
        let kind = std::mem::discriminant(&right.what);
        let other = others.find(|other| std::mem::discriminant(&other.what) == kind);
        other.map_or_else(|| line.to_vec(), |other| Leaf { what: other.what, ..right }.encode())
    }

    /// The leaves of what is withheld in these records.
    pub fn lines(&self, from: Lsn, to: Lsn) -> Vec<Vec<u8>> {
        let of = self.lines.iter().filter(|(lsn, _)| (from..=to).contains(lsn));
        of.map(|(_, line)| line.clone()).collect()
    }

    /// Where it says that another region's log is known to.
    pub fn position(&self, other: usize) -> Position {
        self.ledger.position_of(NAMES[other])
    }
}

/// What a machine tells whoever watches.
pub enum Seen {
    /// What `Attested` will say of a signature.
    Signature(u8),
    /// A first of its own log.
    First(Own),
}

/// Leaves under a note; 0 if it is none.
pub fn size_of(note: &[u8]) -> u64 {
    Signed::parse(note).map_or(0, |signed| signed.checkpoint.size)
}

/// The bytes of a record.
pub fn bytes_of(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    record_of(events).encode(&mut bytes);
    bytes
}

fn record_of(events: &[Event]) -> Record {
    let payload = if events.is_empty() { Payload::Blank } else { Payload::Events(events.to_vec()) };
    Record { leader: 1, payload }
}
