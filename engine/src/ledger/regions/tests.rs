//! Small histories of two and three regions in every order in which they can reach each other.

mod withheld;

use alloc::{format, vec};

use proptest::prelude::*;

use super::*;
use crate::checkpoint::{Checkpoint, Signer};
use crate::event::{
    Declaration, Declared, KeyKind, KeySpec, Payload, Record, Tenant, Withheld, ship, ship_but,
};
use crate::ids::KeyId;
use crate::ledger::{Applied, MemTable};
use crate::summary::{PcsId, Policy};

fn tenant() -> TenantId {
    TenantId::new("demo").unwrap()
}

/// A body under the name `id`; `content` is what tells two of that name apart.
fn body(id: u8, content: u8) -> Vec<u8> {
    let root = "a".repeat(64);
    let name = PcsId::derive(&root, i64::from(id), "shard");
    format!(
        r#"{{"pcs_id":"{name}","schema":"fractal-lba-kakeya","version":"0.1","shard_id":"shard","epoch":{id},"scales":[2,4,8,16,32],"N_j":{{"2":3,"4":5,"8":9,"16":17,"32":31}},"coh_star":0.73,"D_hat":0.87,"r":0.87,"regime":"sticky","budget":0.285,"merkle_root":"{root}","seed":{content},"sig":""}}"#
    )
    .into_bytes()
}

/// A region with its log.
struct Region {
    ledger: Ledger<MemTable>,
    log: Vec<Record>,
    /// The leaves of its records, by the places of their events.
    leaves: Vec<BTreeMap<u32, Vec<u8>>>,
    /// Whether it ships less than it has, where its log says so.
    withholds: bool,
    now_ms: u64,
    signer: Signer,
}

impl Region {
    fn new(name: &str, now_ms: u64) -> Region {
        let signer = Signer::new(&format!("test/pcs/{name}"), &[7; 32]).unwrap();
        let ledger = Ledger::new(name, MemTable::new());
        let (log, leaves) = (Vec::new(), Vec::new());
        let mut region = Region { ledger, log, leaves, withholds: true, now_ms, signer };
        region.record(vec![
            Event::TenantSet(Tenant {
                at_ms: now_ms,
                id: tenant(),
                display: String::new(),
                active: true,
                rate_per_s: 0,
                burst: 0,
                daily_quota: 0,
                region: name.into(),
            }),
            Event::KeySet(KeySpec {
                at_ms: now_ms,
                tenant: tenant(),
                key_id: KeyId::new("k").unwrap(),
                kind: KeyKind::Unsigned,
                not_before_ms: 0,
                not_after_ms: u64::MAX,
            }),
        ]);
        region
    }

    fn record(&mut self, events: Vec<Event>) -> Vec<(Outcome, Applied)> {
        let lsn = self.ledger.applied().next();
        let results = fold(&mut self.ledger, lsn, &events);
        let leaf = |(nth, (_, applied)): (u32, &(Outcome, Applied))| Some((nth, applied.leaf.clone()?));
        self.leaves.push((0..).zip(&results).filter_map(leaf).collect());
        let payload = if events.is_empty() { Payload::Blank } else { Payload::Events(events) };
        self.log.push(Record { leader: 1, payload });
        results
    }

    fn received(&mut self, id: u8, content: u8) -> Event {
        self.now_ms += 1;
        let body = body(id, content);
        Event::Received(Envelope { tenant: tenant(), received_at_ms: self.now_ms, salt: [content; 16], body })
    }

    fn submit(&mut self, id: u8, content: u8) -> Outcome {
        let event = self.received(id, content);
        self.record(vec![event]).remove(0).0
    }

    fn attest(&mut self) {
        let attested = Event::Attested(self.ledger.attest());
        let tree = self.ledger.tree();
        let origin = self.signer.name().into();
        let head = Checkpoint { origin, size: tree.size(), root: tree.root() };
        let note = head.sign(&self.signer);
        self.record(vec![attested, Event::Checkpoint(note)]);
    }

    fn withhold(&mut self) {
        let (region, at) = (self.ledger.region().into(), Position::FIRST);
        let what = Declaration::Withheld { tenant: tenant() };
        let declared = Declared { at_ms: 1, region, at, why: "regions.withhold".into(), what };
        self.record(vec![Event::Declared(declared)]);
    }

    /// A record as others get it.
    fn shipped(&self, lsn: Lsn) -> Vec<Item> {
        let at = lsn.0 as usize - 1;
        let (record, signatures) = (self.log[at].clone(), &mut core::iter::repeat(31));
        if !self.withholds {
            return ship(record, signatures);
        }
        let items = ship_but(record, signatures, |nth, envelope, signature| {
            let withheld = self.ledger.withholds(&envelope.tenant, Position { lsn, nth });
            let line = self.leaves[at].get(&nth).map(Vec::as_slice);
            // Nobody has signed what is refused.
            let refused = line.is_some_and(|line| line.windows(9).any(|bytes| bytes == b"malformed"));
            let signature = if refused { 0 } else { signature };
            withheld.then(|| Withheld::of(envelope, signature, line)).transpose()
        });
        items.unwrap()
    }

    /// The next `most` items of another region's log, as one range.
    fn range(&self, other: &Region, most: usize) -> Option<Imported> {
        let region = other.ledger.region();
        let from = self.ledger.seen.get(region).copied().unwrap_or(Position::FIRST);
        let mut items = Vec::new();
        for lsn in from.lsn.0..=other.log.len() as u64 {
            items.extend(other.shipped(Lsn(lsn)));
        }
        let items: Vec<Item> = items.into_iter().skip(from.nth as usize).take(most).collect();
        (!items.is_empty()).then(|| Imported { origin: region.into(), from, items })
    }

    /// Takes in what there is of another region, `most` items at a time. Whether anything came.
    fn import(&mut self, other: &Region, most: usize) -> bool {
        let Some(mut range) = self.range(other, most) else { return false };
        range.items.truncate(self.ledger.known_items(&range.items));
        if range.items.is_empty() {
            return false;
        }
        self.ledger.check_import(&range).unwrap();
        self.record(vec![Event::Imported(range)]);
        true
    }

    fn merged(&self) -> Digest {
        self.ledger.merged_digest()
    }

    fn first(&self, id: u8) -> Option<(String, u64, u64)> {
        let name = PcsId::derive(&"a".repeat(64), i64::from(id), "shard");
        let first = self.ledger.first_of(&First::key_of(&tenant(), &name.0)).unwrap()?;
        let region = self.ledger.region_of(&first).unwrap_or(self.ledger.region());
        Some((region.into(), first.seq, first.time_ms))
    }
}

fn fold(ledger: &mut Ledger<MemTable>, lsn: Lsn, events: &[Event]) -> Vec<(Outcome, Applied)> {
    let mut results = Vec::new();
    for (nth, event) in (0..).zip(events) {
        let judged = match event {
            Event::Received(envelope) => {
                let keys = ledger.tenant(&envelope.tenant).map(|state| KeyRing::public(&state.keys).unwrap());
                Some(judge_presigned(envelope, 31, keys.as_ref(), &Policy::default_1_0_0()))
            }
            _ => None,
        };
        let outcome = ledger.decide(lsn, nth, event, judged.as_ref()).unwrap();
        results.push((outcome.clone(), ledger.apply(lsn, nth, event, judged.as_ref(), &outcome)));
    }
    ledger.end_record(lsn);
    results
}

/// Lets everything that was said reach everybody. Whatever is imported is a record of the importer, which says nothing, so
/// this goes on only while somebody lacks a record that says something; a few rounds are enough for any history here.
fn heal(regions: &mut [Region]) {
    for _ in 0..6 {
        for to in 0..regions.len() {
            for from in (0..regions.len()).filter(|from| *from != to) {
                let (low, high) = regions.split_at_mut(from.max(to));
                let (to, from) =
                    if to < from { (&mut low[to], &high[0]) } else { (&mut high[0], &low[from]) };
                while to.import(from, 5) {}
            }
        }
    }
}

fn two() -> (Region, Region) {
    (Region::new("a", 1000), Region::new("b", 1000))
}

#[test]
fn the_earlier_one_wins_in_both_regions_and_a_later_retry_gets_it() {
    let (mut a, mut b) = two();
    b.now_ms = 5000;
    assert!(matches!(a.submit(1, 0), Outcome::First { .. }));
    assert!(matches!(b.submit(1, 0), Outcome::First { .. }));
    let mut regions = [a, b];
    heal(&mut regions);
    let [mut a, mut b] = regions;
    assert_eq!((a.first(1).unwrap().0, a.first(1)), ("a".into(), b.first(1)));
    assert_eq!(a.merged(), b.merged());
    for region in [&mut a, &mut b] {
        let Outcome::Duplicate { first } = region.submit(1, 0) else { panic!("it is known everywhere") };
        assert_eq!(first.time_ms, 1001);
    }
    // A retry that only the other region has seen is a conflict, and its leaf says where the first stands.
    assert!(matches!(a.submit(7, 0), Outcome::First { .. }));
    let mut regions = [a, b];
    heal(&mut regions);
    let [a, mut b] = regions;
    let event = b.received(7, 9);
    let (outcome, applied) = b.record(vec![event]).remove(0);
    assert!(matches!(outcome, Outcome::Conflict { first, .. } if first.origin() == 1));
    let line = String::from_utf8(applied.leaf.unwrap()).unwrap();
    assert!(line.contains("\"first_region\":\"a\",\"first_seq\":"), "{line}");
    assert_eq!(crate::leaf::Leaf::parse(line.as_bytes()).unwrap().encode(), line.as_bytes());
    let mut regions = [a, b];
    heal(&mut regions);
    assert_eq!(regions[0].merged(), regions[1].merged());
    assert!(regions.iter().all(|region| region.ledger.origins().all(|origin| origin.quarantine().is_none())));
}

#[test]
fn another_content_is_a_conflict_in_every_region_and_counts_once() {
    let (mut a, mut b) = two();
    a.submit(1, 0);
    b.submit(1, 5);
    let mut regions = [a, b];
    heal(&mut regions);
    for region in &regions {
        assert_eq!(region.ledger.region_conflicts().collect::<Vec<_>>(), [("a", "b", 1)]);
        let clash = region.ledger.clashes().next().unwrap();
        assert_eq!((clash.winner.0.as_str(), clash.other.0.as_str()), ("a", "b"));
    }
    assert_eq!(regions[0].merged(), regions[1].merged());
}

#[test]
fn gaps_and_repetitions_change_nothing() {
    let (mut a, mut b) = two();
    for id in 0..4 {
        b.submit(id, 0);
    }
    let first = a.range(&b, 4).unwrap();
    a.record(vec![Event::Imported(first.clone())]);
    let second = a.range(&b, 4).unwrap();
    let before = a.ledger.snapshot().unwrap();
    let skipped = Imported { from: second.end(), ..second.clone() };
    for wrong in [first, skipped, Imported { origin: "a".into(), ..second.clone() }] {
        assert!(a.ledger.check_import(&wrong).is_err());
        let merged = a.merged();
        a.record(vec![Event::Imported(wrong)]);
        assert_eq!(merged, a.merged());
    }
    a.record(vec![Event::Imported(second)]);
    assert_ne!(before, a.ledger.snapshot().unwrap());
    assert!(a.ledger.origin("b").unwrap().quarantine().is_none());
}

#[test]
fn a_log_that_contradicts_itself_is_believed_no_further() {
    type Lie = fn(&mut Event) -> bool;
    let lies: [(&str, Lie); 4] = [
        ("outcomes", |event| match event {
            Event::Received(envelope) => {
                envelope.salt[0] ^= 1;
                true
            }
            _ => false,
        }),
        ("ledger", |event| match event {
            Event::Attested(attested) => {
                attested.ledger = Digest::ZERO;
                true
            }
            _ => false,
        }),
        ("signatures", |event| match event {
            Event::Attested(attested) => attested.signatures.pop().is_some(),
            _ => false,
        }),
        ("checkpoint", |event| match event {
            Event::Checkpoint(note) => {
                let at = note.iter().position(|byte| *byte == b'\n').unwrap() + 1;
                note[at] = b'9';
                true
            }
            _ => false,
        }),
    ];
    for (part, lie) in lies {
        let (mut a, mut b) = two();
        b.submit(1, 0);
        b.attest();
        let told = b.log.iter_mut().any(|record| match &mut record.payload {
            Payload::Events(events) => events.iter_mut().any(lie),
            _ => false,
        });
        assert!(told);
        while a.import(&b, 100) {}
        let origin = a.ledger.origin("b").unwrap();
        assert_eq!(origin.quarantine().unwrap().part, part);
        b.submit(2, 0);
        let more = a.range(&b, 100).unwrap();
        assert!(matches!(a.ledger.check_import(&more), Err(NotYet::Quarantined(_))));
        // It is a state like any other: it is kept, and comes back.
        let bytes = a.ledger.snapshot().unwrap();
        let again = Ledger::restore(&bytes, a.ledger.table().clone()).unwrap();
        assert_eq!(again.origin("b").unwrap().quarantine(), origin.quarantine());
    }
}

#[test]
fn what_agrees_is_known_to_agree() {
    let (mut a, mut b) = two();
    b.submit(1, 0);
    b.submit(2, 3);
    b.attest();
    while a.import(&b, 3) {}
    let origin = a.ledger.origin("b").unwrap();
    assert_eq!(origin.quarantine(), None);
    assert_eq!(origin.agreed().unwrap().0, b.ledger.tree().size());
    assert_eq!((origin.attested(), origin.leaves()), (Lsn(3), b.ledger.tree().size()));
    let place = Position { lsn: Lsn(3), nth: 0 };
    let found = a.ledger.imported_at("b", place).unwrap();
    let Payload::Events(events) = &a.log[found.0 as usize - 1].payload else { panic!() };
    assert!(matches!(&events[0], Event::Imported(range) if range.from <= place && place < range.end()));
    assert_eq!(a.ledger.imported_at("b", origin.position()), None);
}

/// One step of a history of several regions.
#[derive(Clone, Debug)]
enum Step {
    Submit(usize, u8, u8),
    /// A region takes in some items of another.
    Import(usize, usize, usize),
    Attest(usize),
    Blank(usize),
    /// From here on its tenant is withheld.
    Withhold(usize),
}

fn steps(regions: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..regions, 0..4_u8, 0..3_u8).prop_map(|(r, id, content)| Step::Submit(r, id, content)),
        5 => (0..regions, 1..regions, 1..9_usize).prop_map(move |(to, by, most)| {
            Step::Import(to, (to + by) % regions, most)
        }),
        2 => (0..regions).prop_map(Step::Attest),
        1 => (0..regions).prop_map(Step::Blank),
        1 => (0..regions).prop_map(Step::Withhold),
    ];
    proptest::collection::vec(step, 1..40)
}

fn run(count: usize, steps: &[Step], withholds: bool) -> Vec<Region> {
    let names = ["a", "b", "c"];
    // Clocks differ: the first of a name is not always the one that was seen first.
    let mut regions: Vec<Region> =
        (0..count).map(|n| Region::new(names[n], 1000 + 17 * ((n as u64 + 1) % 3))).collect();
    regions.iter_mut().for_each(|region| region.withholds = withholds);
    for step in steps {
        match *step {
            Step::Submit(at, id, content) => drop(regions[at].submit(id, content)),
            Step::Attest(at) => regions[at].attest(),
            Step::Blank(at) => drop(regions[at].record(Vec::new())),
            Step::Withhold(at) => regions[at].withhold(),
            Step::Import(to, from, most) => {
                let range = {
                    let (to, from) = (&regions[to], &regions[from]);
                    to.range(from, most).filter(|range| to.ledger.check_import(range).is_ok())
                };
                if let Some(range) = range {
                    // Now and then it comes twice.
                    let twice = most % 3 == 0;
                    regions[to].record(vec![Event::Imported(range.clone())]);
                    if twice {
                        regions[to].record(vec![Event::Imported(range)]);
                    }
                }
            }
        }
    }
    regions
}

/// The steps of the first regions.
fn within(count: usize, mut steps: Vec<Step>) -> Vec<Step> {
    steps.retain(|step| match *step {
        Step::Submit(r, ..) | Step::Attest(r) | Step::Blank(r) | Step::Withhold(r) => r < count,
        Step::Import(to, from, _) => to < count && from < count,
    });
    steps
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// G2, G3: however small histories reach each other, in the end all regions have the same truth, and believe each
    /// other; and each region's state is a fold of its own log, with snapshots anywhere.
    #[test]
    fn regions_end_equal(count in 2..4_usize, raw in steps(3), at in any::<prop::sample::Index>()) {
        let mut regions = run(count, &within(count, raw), true);
        regions.iter_mut().for_each(Region::attest);
        heal(&mut regions);
        for region in &regions {
            prop_assert_eq!(region.merged(), regions[0].merged());
            for id in 0..4 {
                prop_assert_eq!(region.first(id), regions[0].first(id));
            }
            for origin in region.ledger.origins() {
                prop_assert_eq!(origin.quarantine(), None);
                prop_assert!(origin.attested() > Lsn::ZERO);
            }
            region.ledger.check_rows().unwrap();
            let cut = at.index(region.log.len());
            let mut again = Ledger::new(region.ledger.region(), MemTable::new());
            for (n, record) in region.log.iter().enumerate() {
                if n == cut {
                    let bytes = again.snapshot().unwrap();
                    again = Ledger::restore(&bytes, again.table().clone()).unwrap();
                    prop_assert_eq!(again.snapshot().unwrap(), bytes);
                }
                let events = match &record.payload {
                    Payload::Events(events) => events.as_slice(),
                    _ => &[],
                };
                fold(&mut again, Lsn(n as u64 + 1), events);
            }
            prop_assert_eq!(again.digest(), region.ledger.digest());
            prop_assert_eq!(again.merged_digest(), region.merged());
            prop_assert_eq!(again.snapshot().unwrap(), region.ledger.snapshot().unwrap());
        }
    }
}

/// An operator readmits the region `b`, which stood at `at`.
fn readmission(at: Position, count: u32) -> Event {
    let what = Declaration::Readmitted { count };
    Event::Declared(Declared { at_ms: 1, region: "b".into(), at, why: "because".into(), what })
}

#[test]
fn a_region_that_contradicted_itself_is_taken_in_again_when_an_operator_says_so() {
    let (mut a, mut b) = two();
    a.submit(1, 0);
    b.submit(2, 0);
    b.attest();
    a.import(&b, 100);
    let mut attested = b.ledger.attest();
    attested.ledger = Digest([1; 32]);
    b.record(vec![Event::Attested(attested)]);
    b.submit(3, 0);
    b.attest();
    // What stands behind the contradiction in the same range is not folded.
    a.import(&b, 100);
    let origin = a.ledger.origin("b").unwrap();
    let at = origin.position();
    assert!(origin.quarantine().is_some() && at < a.ledger.position_of("b"));
    assert_eq!(a.range(&b, 100), None);
    for (at, count) in [(at, 2), (at, 9), (Position::of(Lsn(99)), 1)] {
        a.record(vec![readmission(at, count)]);
        assert!(a.ledger.origin("b").unwrap().quarantine().is_some());
        assert_eq!(a.ledger.readmitted("b"), 0);
    }
    a.record(vec![readmission(at, 1)]);
    assert_eq!((a.ledger.readmitted("b"), a.ledger.position_of("b")), (1, at));
    a.record(vec![readmission(at, 1)]);
    assert_eq!(a.ledger.readmitted("b"), 1, "the same one again changes nothing");
    let bytes = a.ledger.snapshot().unwrap();
    assert!(
        Ledger::restore(&bytes, a.ledger.table().clone())
            .is_ok_and(|again| again.digest() == a.ledger.digest())
    );
    a.submit(4, 0);
    a.attest();
    // The other one folds our log again and knows what we knew at each place.
    let mut regions = [a, b];
    heal(&mut regions);
    for region in &mut regions {
        region.attest();
    }
    heal(&mut regions);
    let [a, b] = regions;
    for region in [&a, &b] {
        let origin = region.ledger.origins().next().unwrap();
        assert_eq!((origin.quarantine(), origin.attested() > Lsn::ZERO), (None, true));
    }
    assert_eq!(a.merged(), b.merged());
    assert_eq!(a.first(3), b.first(3));
}
