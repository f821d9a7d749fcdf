//! Regions that take writes and import each other's logs, in one thread and in an order that a seed draws.
//!
//! Ledger and ranges are the product's; what carries them here is a few lines, and can be told to be wrong
//! ([`Mutant`]). What a run leaves behind is a [`Sight`], which the checkers G1 to G3 judge.

use engine::event::{Envelope, Event, Imported, Item, Payload, Position, Record, ship};
use engine::ledger::{First, Ledger, MemTable, Outcome};
use engine::log::{Digest, Lsn};
use engine::summary::{KeyRing, judge};

use crate::rt::Rng;
use crate::sim::workload::{Flaw, OpenSecrets, Submission, settings, tenant_id};

/// How a run is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Not at all.
    None,
    /// An importer leaves out a record and counts on as if it were not there.
    SkipsARecord,
    /// An importer takes the same record in twice, as if it were the next.
    AppliesTwice,
    /// A region that never takes what came last.
    LosesTheEnd,
    /// Of two firsts, the one that was seen here first wins.
    TieByArrival,
}

/// A first, as its own region decided: what nobody else needs to know to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The deduplication key.
    pub key: [u8; 32],
    /// Log time.
    pub time_ms: u64,
    /// Its leaf.
    pub seq: u64,
    /// Fingerprint of its content.
    pub digest: [u8; 16],
    /// How long it lives, milliseconds.
    pub ttl_ms: u64,
}

/// A key, with region and leaf of what is said to be its first.
pub type Says = ([u8; 32], Option<(String, u64)>);

/// One region after a run.
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Its log.
    pub log: Vec<Vec<Event>>,
    /// Its log as others may get it.
    pub shipped: Vec<Item>,
    /// Where it says that it knows each other region's log to.
    pub known: Vec<(String, Position)>,
    /// Firsts that it decided itself.
    pub firsts: Vec<Own>,
    /// Its log time.
    pub now_ms: u64,
    /// What it says is the first of each key: region and leaf.
    pub says: Vec<Says>,
    /// How many conflicts it counts.
    pub conflicts: u64,
    /// Its digest over all regions.
    pub merged: Digest,
}

/// All regions after a run.
pub struct Sight(pub Vec<Seen>);

struct Region {
    name: String,
    ledger: Ledger<MemTable>,
    log: Vec<Vec<Event>>,
    shipped: Vec<Item>,
    firsts: Vec<Own>,
    now_ms: u64,
}

impl Region {
    fn new(name: &str, now_ms: u64) -> Region {
        let mut region = Region {
            name: name.to_owned(),
            ledger: Ledger::new(name, MemTable::new()),
            log: Vec::new(),
            shipped: Vec::new(),
            firsts: Vec::new(),
            now_ms,
        };
        region.record(settings(now_ms));
        region
    }

    fn record(&mut self, events: Vec<Event>) {
        let lsn = self.ledger.applied().next();
        let mut signatures = Vec::new();
        for (nth, event) in (0..).zip(&events) {
            let judged = match event {
                Event::Received(envelope) => {
                    let keys = self.ledger.tenant(&envelope.tenant);
                    let keys = keys.and_then(|state| KeyRing::new(&state.keys, &OpenSecrets).ok());
                    let policy = &self.ledger.current_policy().1.policy;
                    let judged = judge(envelope, keys.as_ref(), policy);
                    signatures.push(judged.signature_byte());
                    Some(judged)
                }
                _ => None,
            };
            let outcome = self.ledger.decide(lsn, nth, event, judged.as_ref()).expect("a table in memory");
            self.ledger.apply(lsn, nth, event, judged.as_ref(), &outcome);
            if let Outcome::First { seq, .. } = outcome {
                let rows = engine::ledger::Table::rows(self.ledger.table());
                let row = engine::ledger::Table::row(self.ledger.table(), rows - 1).expect("just pushed");
                let ttl_ms = self.ledger.rule_of(&row).expect("its rule").policy.dedup_ttl_ms;
                let (key, time_ms, digest) = (row.key, row.time_ms, row.digest);
                self.firsts.push(Own { key, time_ms, seq, digest, ttl_ms });
            }
        }
        self.ledger.end_record(lsn);
        let payload = if events.is_empty() { Payload::Blank } else { Payload::Events(events.clone()) };
        self.shipped.extend(ship(Record { leader: 1, payload }, &mut signatures.into_iter()));
        self.log.push(events);
    }

    fn submit(&mut self, rng: &mut Rng) {
        self.now_ms += rng.below(900);
        let mut sent = Submission::draw(rng);
        sent.name %= 4;
        if rng.chance(80) {
            sent.flaw = Flaw::None;
        }
        let envelope = Envelope {
            tenant: sent.tenant_id(),
            received_at_ms: self.now_ms,
            salt: [rng.draw() as u8; 16],
            body: sent.body(),
        };
        self.record(vec![Event::Received(envelope)]);
    }

    fn import(&mut self, other: &Region, most: usize, mutant: Mutant) {
        let from = self.ledger.position_of(&other.name);
        let skip = engine::event::positioned(Position::FIRST, &other.shipped)
            .take_while(|(place, _)| *place < from)
            .count();
        let mut items: Vec<Item> = other.shipped[skip..].iter().take(most).cloned().collect();
        let whole = items.iter().position(|item| *item == Item::End);
        match (mutant, whole) {
            (Mutant::SkipsARecord, Some(end)) if from.nth == 0 && from.lsn > Lsn(2) => {
                items.drain(..=end);
            }
            (Mutant::AppliesTwice, Some(end)) if from.nth == 0 && from.lsn > Lsn(2) => {
                items.truncate(end + 1);
                let again = items.clone();
                items.extend(again);
            }
            (Mutant::LosesTheEnd, _) if self.name == "a" => {
                let last = other
                    .shipped
                    .iter()
                    .rposition(|item| matches!(item, Item::Event { event: Event::Received(_), .. }));
                items.truncate(last.unwrap_or(0).saturating_sub(skip));
            }
            _ => {}
        }
        items.truncate(self.ledger.known_items(&items));
        if !items.is_empty() {
            self.record(vec![Event::Imported(Imported { origin: other.name.clone(), from, items })]);
        }
    }

    fn seen(self, mutant: Mutant, others: &[String]) -> Seen {
        let mut says = Vec::new();
        for (tenant, name) in (0..3).flat_map(|tenant| (0..4_u16).map(move |name| (tenant, name))) {
            let sent = Submission { tenant, name, variant: 0, attempt: 0, flaw: Flaw::None };
            let body = sent.body();
            let pcs = engine::summary::parse(&body).expect("a whole body");
            let id = engine::summary::PcsId::from_hex(&pcs.pcs_id).expect("an id");
            let key = First::key_of(&tenant_id(tenant), &id.0);
            let place =
                |first: First| (self.ledger.region_of(&first).unwrap_or(&self.name).to_owned(), first.seq);
            let first = match mutant {
                Mutant::TieByArrival => {
                    engine::ledger::Table::rows(self.ledger.table()).checked_sub(1).and_then(|last| {
                        (0..=last).find_map(|row| {
                            let row = engine::ledger::Table::row(self.ledger.table(), row).ok()?;
                            (row.key == key && self.now_ms < row.time_ms + crate::sim::workload::TTL_MS)
                                .then_some(row)
                        })
                    })
                }
                _ => self.ledger.first_of(&key).expect("a table in memory"),
            };
            says.push((key, first.map(place)));
        }
        Seen {
            known: others.iter().map(|other| (other.clone(), self.ledger.position_of(other))).collect(),
            now_ms: self.ledger.log_time_ms(),
            conflicts: self.ledger.region_conflicts().map(|(_, _, count)| count).sum(),
            merged: self.ledger.merged_digest(),
            says,
            name: self.name,
            log: self.log,
            shipped: self.shipped,
            firsts: self.firsts,
        }
    }
}

/// Runs `steps` steps of two or three regions and lets everything reach everybody.
pub fn run(seed: u64, steps: usize, mutant: Mutant) -> Sight {
    let mut rng = Rng(seed);
    let count = 2 + rng.below(2) as usize;
    let mut regions: Vec<Region> =
        ["a", "b", "c"].iter().take(count).map(|name| Region::new(name, 10_000 + rng.below(3000))).collect();
    let import = |regions: &mut Vec<Region>, to: usize, from: usize, most: usize| {
        let mut one = regions.swap_remove(to);
        let at =
            regions.iter().position(|region| region.name != one.name && region.name == ["a", "b", "c"][from]);
        one.import(&regions[at.expect("another region")], most, mutant);
        regions.push(one);
        regions.sort_by(|a, b| a.name.cmp(&b.name));
    };
    for _ in 0..steps {
        let at = rng.below(count as u64) as usize;
        match rng.below(10) {
            0..=4 => regions[at].submit(&mut rng),
            5 => regions[at].record(Vec::new()),
            _ => {
                let from = (at + 1 + rng.below(count as u64 - 1) as usize) % count;
                import(&mut regions, at, from, 1 + rng.below(12) as usize);
            }
        }
    }
    for _ in 0..5 {
        for to in 0..count {
            for from in (0..count).filter(|from| *from != to) {
                for _ in 0..4 {
                    import(&mut regions, to, from, 4000);
                }
            }
        }
    }
    let names: Vec<String> = regions.iter().map(|region| region.name.clone()).collect();
    let others = |own: &str| names.iter().filter(|name| *name != own).cloned().collect::<Vec<_>>();
    Sight(
        regions
            .into_iter()
            .map(|region| {
                let others = others(&region.name);
                region.seen(mutant, &others)
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::{merge, regions_converge, ship_in_order};

    /// What the checkers say of many runs.
    fn broken(mutant: Mutant) -> Vec<String> {
        let check = |seed| {
            let sight = run(seed, 60, mutant);
            let all = [ship_in_order::check(&sight), regions_converge::check(&sight), merge::check(&sight)];
            all.into_iter()
                .filter_map(Result::err)
                .map(|why| format!("seed {seed}: {why}"))
                .collect::<Vec<_>>()
        };
        (0..60).flat_map(check).collect()
    }

    #[test]
    fn regions_keep_their_promises() {
        assert_eq!(broken(Mutant::None), Vec::<String>::new());
    }

    #[test]
    fn every_mutant_is_caught_by_its_checker() {
        for (mutant, id) in [
            (Mutant::SkipsARecord, "G1"),
            (Mutant::AppliesTwice, "G1"),
            (Mutant::LosesTheEnd, "G2"),
            (Mutant::TieByArrival, "G3"),
        ] {
            let found = broken(mutant);
            assert!(found.iter().any(|why| why.contains(id)), "{mutant:?}: {found:?}");
        }
    }
}
