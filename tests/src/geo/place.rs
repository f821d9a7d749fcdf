//! Places of shipments, and the ways of regions to them: slow, cut, denied, and lying in every manner that a place can.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use engine::checkpoint::{Checkpoint, Signed, Signer};
use engine::event::{Event, Item};
use engine::log::{Digest, Lsn};
use server::ship::bill::Bill;
use server::ship::chunk;
use server::ship::ports::Place;
use server::ship::remote::Bills;
use sha2::{Digest as _, Sha256};

use super::machine::{NAMES, size_of};
use super::mutants::Mutant;
use super::world::{World, cosigner};
use crate::rt::{self, sleep};
use crate::sim::world::MS;

/// Something that lies at a place.
#[derive(Clone)]
pub struct Object {
    /// What it holds.
    pub bytes: Bytes,
    /// What it held before.
    pub before: Option<Bytes>,
    /// From when on others see it, nanoseconds.
    pub visible: u64,
}

/// One region's shipments.
#[derive(Default)]
pub struct Shelf {
    /// By name.
    pub objects: BTreeMap<String, Object>,
    /// Nobody gets anything here.
    pub denied: bool,
    /// So many of a hundred puts are only said to be done.
    pub lies: u64,
    /// So many of a hundred answers are lost after the work is done.
    pub mute: u64,
    /// So many of a hundred reads give other bytes than what was put.
    pub garbles: u64,
    /// So many of a hundred reads of what was replaced give what was there before.
    pub old: u64,
    /// Until when others do not see a new object, at most, nanoseconds.
    pub hides: u64,
    /// Listings show what was there when this began.
    pub listed: Option<BTreeSet<String>>,
    /// What the place has lost, or never stored though it said so.
    pub missing: BTreeMap<String, Option<Object>>,
    /// Bills that a planted bug takes for stored.
    pub promised: BTreeMap<String, Bytes>,
    /// What somebody else put here.
    pub forged: BTreeMap<String, Option<Object>>,
}

/// A way between a region and a place.
#[derive(Clone, Copy)]
pub struct Way {
    /// Nothing passes.
    pub cut: bool,
    /// How long a request takes at most, nanoseconds.
    pub spread: u64,
}

/// All places, one for each region's shipments, and all ways.
pub struct Places {
    /// By region.
    pub shelves: Vec<Shelf>,
    /// From region to place.
    pub ways: BTreeMap<(usize, usize), Way>,
    /// Requests made.
    pub requests: u64,
}

/// A way on a good day.
pub const GOOD: Way = Way { cut: false, spread: 8 * MS };

impl Places {
    /// Good places.
    pub fn new(count: usize) -> Places {
        let pairs = (0..count).flat_map(|region| (0..count).map(move |place| (region, place)));
        Places {
            shelves: (0..count).map(|_| Shelf::default()).collect(),
            ways: pairs.map(|pair| (pair, GOOD)).collect(),
            requests: 0,
        }
    }

    /// Everything works again. What was lost stays lost, and what was forged stays.
    pub fn heal(&mut self) {
        self.ways.values_mut().for_each(|way| *way = GOOD);
        for shelf in &mut self.shelves {
            (shelf.denied, shelf.lies, shelf.mute, shelf.garbles, shelf.old) = (false, 0, 0, 0, 0);
            (shelf.hides, shelf.listed) = (0, None);
            shelf.objects.values_mut().for_each(|object| object.visible = 0);
        }
    }
}

impl Shelf {
    fn put(&mut self, name: &str, bytes: Bytes) {
        let before = self.objects.remove(name).map(|object| object.bytes);
        let visible = rt::now() + if self.hides == 0 { 0 } else { rt::below(self.hides) };
        self.objects.insert(name.to_owned(), Object { bytes, before, visible });
    }

    /// Bills by the record they begin at.
    pub fn froms(&self) -> Vec<u64> {
        self.objects.keys().filter_map(|name| name.strip_prefix("bills/")?.parse().ok()).collect()
    }
}

/// See the module.
pub struct SimPlace {
    pub(super) world: World,
    /// Who asks.
    pub(super) viewer: usize,
    /// Whose shipments.
    pub(super) place: usize,
}

impl SimPlace {
    async fn pass(&self) -> Result<(), String> {
        let (way, denied) = {
            let mut state = self.world.state();
            state.places.requests += 1;
            (state.places.ways[&(self.viewer, self.place)], state.places.shelves[self.place].denied)
        };
        sleep(MS / 2 + rt::below(way.spread)).await;
        match (way.cut, denied) {
            (true, _) => Err("the place is not reached".into()),
            (false, true) => Err("the place denies it".into()),
            (false, false) => Ok(()),
        }
    }

    /// The way back: the work is done, and whoever asked may never hear of it.
    async fn answer(&self) -> Result<(), String> {
        let mute = self.world.state().places.shelves[self.place].mute;
        self.pass().await?;
        if rt::chance(mute) { Err("no answer within a minute".into()) } else { Ok(()) }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.world.options.mutant == mutant
    }

    /// A mirror's word leaves the region.
    fn check_mirror(&self, name: &str, bytes: &[u8]) {
        let Some(origin) = name.strip_prefix("mirrors/") else { return };
        if let Err(broken) = self.world.holds(self.place, super::machine::number(origin), size_of(bytes)) {
            self.world.violation(broken);
        }
    }

    fn store(&self, name: &str, bytes: Bytes) {
        let mut state = self.world.state();
        let shelf = &mut state.places.shelves[self.place];
        if rt::chance(shelf.lies) {
            shelf.missing.insert(name.to_owned(), None);
        } else {
            shelf.put(name, bytes);
        }
    }

    fn look(&self, name: &str) -> Option<Bytes> {
        let state = self.world.state();
        let shelf = &state.places.shelves[self.place];
        if let Some(bytes) = shelf.promised.get(name).filter(|_| self.viewer == self.place) {
            return Some(bytes.clone());
        }
        let object = shelf.objects.get(name)?;
        if self.viewer != self.place && object.visible > rt::now() {
            return None;
        }
        let mut bytes = object.bytes.clone();
        if let Some(before) = object.before.as_ref().filter(|_| rt::chance(shelf.old)) {
            bytes = before.clone();
        }
        if rt::chance(shelf.garbles) && !bytes.is_empty() {
            let mut other = bytes.to_vec();
            let at = rt::below(other.len() as u64) as usize;
            match rt::below(3) {
                0 => other.truncate(at),
                1 => other[at] ^= 1 << rt::below(8),
                _ => other.extend_from_slice(b"more"),
            }
            bytes = other.into();
        }
        Some(bytes)
    }
}

impl Place for SimPlace {
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, String> {
        if self.is(Mutant::BillNotAwaited) && name.starts_with("bills/") {
            let (own, name) = (SimPlace { world: self.world.clone(), ..*self }, name.to_owned());
            self.world.state().places.shelves[self.place].promised.insert(name.clone(), bytes.clone());
            rt::spawn(rt::current(), async move {
                sleep(rt::below(400 * MS)).await;
                if own.pass().await.is_ok() {
                    own.world.state().places.shelves[own.place].promised.remove(&name);
                    if own.look(&name).is_none() {
                        own.store(&name, bytes);
                    }
                }
            });
            return Ok(true);
        }
        self.pass().await?;
        let there = self.world.state().places.shelves[self.place].objects.contains_key(name);
        if !there {
            self.store(name, bytes);
        }
        self.answer().await.map(|()| !there)
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), String> {
        self.pass().await?;
        self.check_mirror(name, &bytes);
        self.store(name, bytes);
        self.answer().await
    }

    async fn get(&self, name: &str, most: u64) -> Result<Option<Bytes>, String> {
        self.pass().await?;
        let bytes = self.mutate(name);
        self.answer().await?;
        match bytes {
            Some(bytes) if bytes.len() as u64 > most => Err(format!("{name} has {} bytes", bytes.len())),
            bytes => Ok(bytes),
        }
    }

    async fn bills(&self, at: u64) -> Result<Bills, String> {
        self.pass().await?;
        let mut bills = Bills::default();
        {
            let state = self.world.state();
            let shelf = &state.places.shelves[self.place];
            let last = shelf.froms().into_iter().max();
            for from in shelf.froms() {
                let name = Bill::name(Lsn(from));
                let hidden = self.viewer != self.place && shelf.objects[&name].visible > rt::now();
                let lost = self.is(Mutant::LosesTheEnd) && Some(from) == last && self.viewer != self.place;
                if hidden || lost || shelf.listed.as_ref().is_some_and(|listed| !listed.contains(&name)) {
                    continue;
                }
                bills.take(from, at);
            }
        }
        self.answer().await.map(|()| bills)
    }
}

/// What mutants see instead.
impl SimPlace {
    fn mutate(&self, name: &str) -> Option<Bytes> {
        let found = self.look(name);
        let from = name.strip_prefix("bills/").and_then(|from| from.parse::<u64>().ok());
        match (self.world.options.mutant, from) {
            (Mutant::AcceptsAnothersBill, Some(from)) => {
                let bytes = found?;
                let mut bill = self.read(&bytes)?;
                (bill.region, bill.from) = (NAMES[self.place].to_owned(), Lsn(from));
                Some(self.sign(&bill))
            }
            (Mutant::ChunkNotVerified, Some(_)) if self.viewer != self.place => {
                let bytes = found?;
                let Some(mut bill) = self.read(&bytes) else { return Some(bytes) };
                let Some(packed) = self.look(&bill.chunk()) else { return Some(bytes) };
                // The bill says where the range lies and nothing else that counts.
                bill.bytes = packed.len() as u64;
                self.remember(&mut bill, &packed);
                Some(self.sign(&bill))
            }
            (Mutant::SkipsARange, Some(from)) if found.is_none() && self.viewer != self.place => {
                let after = {
                    let state = self.world.state();
                    let froms = state.places.shelves[self.place].froms();
                    froms.into_iter().filter(|after| *after > from).min()
                };
                let bytes = self.look(&Bill::name(Lsn(after?)))?;
                let mut bill = self.read(&bytes)?;
                let packed = self.look(&bill.chunk())?;
                let items = chunk::open(&packed, &bill).ok()?;
                (bill.to, bill.from) = (Lsn(bill.to.0 - bill.from.0 + from), Lsn(from));
                let raw = chunk::encode(bill.from, &items);
                let packed = chunk::pack(&raw).ok()?;
                (bill.bytes, bill.raw) = (packed.len() as u64, raw.len() as u64);
                self.remember(&mut bill, &packed);
                self.world.state().places.shelves[self.place].put(&bill.chunk(), packed.into());
                Some(self.sign(&bill))
            }
            (Mutant::SignsBeforeStoring, None) if name.starts_with("chunks/") => {
                self.sign_early(&found.clone()?);
                found
            }
            (Mutant::MirrorOfAnother, None) if name.starts_with("mirrors/") => self.own_word(),
            (Mutant::LosesTheEnd, Some(from)) if self.viewer != self.place => {
                let last = self.world.state().places.shelves[self.place].froms().into_iter().max();
                found.filter(|_| Some(from) != last)
            }
            _ => found,
        }
    }

    fn remember(&self, bill: &mut Bill, packed: &[u8]) {
        bill.digest = Digest(Sha256::digest(packed).into());
        let mut state = self.world.state();
        let shelf = &mut state.places.shelves[self.place];
        // It is looked for under the name that the digest gives.
        if !shelf.objects.contains_key(&bill.chunk()) {
            shelf.put(&bill.chunk(), Bytes::copy_from_slice(packed));
        }
    }

    /// A bill, whoever signed it.
    fn read(&self, note: &[u8]) -> Option<Bill> {
        let own = self.world.state().regions[self.place].signer.verifier();
        [own, stranger().verifier()].iter().find_map(|key| Bill::open(note, key).ok())
    }

    fn sign(&self, bill: &Bill) -> Bytes {
        bill.sign(&[&self.world.state().regions[self.place].signer]).into()
    }

    /// Cosigns the newest checkpoint in a range that was only fetched.
    fn sign_early(&self, packed: &[u8]) {
        let shelf = self.world.state().places.shelves[self.place].objects.clone();
        let bills = shelf.iter().filter(|(name, _)| name.starts_with("bills/"));
        let digest = Digest(Sha256::digest(packed).into());
        let mut bills = bills.filter_map(|(_, object)| self.read(&object.bytes));
        let Some(bill) = bills.find(|bill| bill.digest == digest) else { return };
        let Ok(items) = chunk::open(packed, &bill) else { return };
        let note = items.iter().rev().find_map(|item| match item {
            Item::Event { event: Event::Checkpoint(note), .. } => Some(note.clone()),
            _ => None,
        });
        let Some((note, signed)) = note.and_then(|note| Some((note.clone(), Signed::parse(&note).ok()?)))
        else {
            return;
        };
        let line = cosigner(self.viewer).cosign(&signed.checkpoint.text(), 1).line();
        let (name, bytes) = (format!("mirrors/{}", NAMES[self.place]), [&note[..], line.as_bytes()].concat());
        let own = SimPlace { world: self.world.clone(), viewer: self.viewer, place: self.viewer };
        own.check_mirror(&name, &bytes);
        own.store(&name, bytes.into());
    }

    /// Our newest tree, as if the other region held it.
    fn own_word(&self) -> Option<Bytes> {
        let state = self.world.state();
        let own = &state.regions[self.viewer];
        let tree = own.observer.ledger.tree();
        let (origin, size, root) = (own.signer.name().to_owned(), tree.size(), tree.root());
        let checkpoint = Checkpoint { origin, size, root };
        let line = cosigner(self.place).cosign(&checkpoint.text(), 1).line();
        Some([&checkpoint.sign(&own.signer)[..], line.as_bytes()].concat().into())
    }
}

/// Signs in nobody's name.
pub fn stranger() -> Signer {
    Signer::new("sim/pcs/stranger", &[99; 32]).expect("a plain name")
}
