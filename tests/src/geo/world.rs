//! Regions, their nodes and their agreed logs.
//!
//! How a group agrees is checked elsewhere; here a region has an agreed log, which loses nothing, and nodes that follow
//! it at their own pace. What is under way when the lead changes is agreed or lost, from its beginning to some place, and whoever
//! led goes on for a while and does not know.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use engine::checkpoint::{Checkpoint, Cosigner, Signer};
use engine::event::{Declaration, Declared, Event, Item, Position};
use engine::log::{Digest, Lsn};
use tokio::sync::oneshot;

use super::home::At;
use super::machine::{Machine, NAMES, Said, Seen, Snapshot, bytes_of, size_of};
use super::mutants::Mutant;
use super::place::{Places, SimPlace};
use super::{GeoOptions, Told};
use crate::regions::Own;
use crate::rt::{self, Owner, sleep};
use crate::sim::clock::BEGIN_MS;
use crate::sim::workload::{settings, tenant_id};
use crate::sim::world::MS;
use server::ship::{self, Peer, Regions};

/// Proposed and not agreed yet.
struct Flight {
    events: Vec<Event>,
    node: usize,
    life: Owner,
    done: oneshot::Sender<(Lsn, Vec<Said>)>,
}

/// One node in all of its lives.
pub struct Node {
    /// Its tasks belong to this owner while it lives.
    pub alive: Option<Owner>,
    /// It takes itself for the leader.
    pub believes: bool,
    /// What it has folded.
    pub machine: Machine,
    snapshot: Option<Snapshot>,
    waiting: BTreeMap<Lsn, oneshot::Sender<(Lsn, Vec<Said>)>>,
    /// The last stamp its door gave.
    pub last_ms: u64,
    /// How wrong its wall clock is.
    pub skew_ms: i64,
}

/// One region.
pub struct Region {
    /// What its log is signed with.
    pub signer: Signer,
    /// The node that leads, whether it knows it or not.
    pub leader: Option<usize>,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Its agreed records.
    pub agreed: Vec<Vec<Event>>,
    /// What it says of every event.
    pub says: Vec<Vec<Said>>,
    /// Its agreed records, as others may get them.
    pub shipped: Vec<Item>,
    /// Its own firsts.
    pub firsts: Vec<Own>,
    /// Folds what is agreed at once.
    pub observer: Machine,
    /// It is gone for good.
    pub lost: bool,
    digests: Vec<Digest>,
    heads: BTreeMap<u64, Digest>,
    flight: VecDeque<Flight>,
}

/// What changes.
pub struct State {
    /// Regions by number.
    pub regions: Vec<Region>,
    /// Where shipments lie.
    pub places: Places,
    /// Lives begun.
    pub lives: u64,
    /// Asked, answered.
    pub asked: (u64, u64),
    /// What clients were told.
    pub told: Vec<Told>,
    /// What befell, by class.
    pub befell: BTreeMap<&'static str, u64>,
    /// No more clients and no more harm.
    pub over: bool,
    /// Promises that were broken.
    pub violations: Vec<String>,
}

/// Everything there is.
#[derive(Clone)]
pub struct World {
    /// What this run is.
    pub options: GeoOptions,
    state: Arc<Mutex<State>>,
}

fn seed_of(region: usize, what: u8) -> [u8; 32] {
    [1 + 16 * what + region as u8; 32]
}

/// The key that a region cosigns with.
pub fn cosigner(region: usize) -> Cosigner {
    Cosigner::new(&format!("sim/mirror/{}", NAMES[region]), &seed_of(region, 1)).expect("a plain name")
}

impl World {
    /// A world before its first life.
    pub fn new(options: GeoOptions) -> World {
        let (count, nodes, mutant) = (options.regions, options.nodes, options.mutant);
        let node = |region| Node {
            alive: None,
            believes: false,
            machine: Machine::new(region, mutant),
            snapshot: None,
            waiting: BTreeMap::new(),
            last_ms: 0,
            skew_ms: 0,
        };
        let region = |n: usize| Region {
            signer: Signer::new(&format!("sim/pcs/{}", NAMES[n]), &seed_of(n, 0)).expect("a plain name"),
            leader: None,
            nodes: (0..nodes).map(|_| node(n)).collect(),
            agreed: Vec::new(),
            says: Vec::new(),
            shipped: Vec::new(),
            firsts: Vec::new(),
            observer: Machine::new(n, mutant),
            lost: false,
            digests: Vec::new(),
            heads: BTreeMap::new(),
            flight: VecDeque::new(),
        };
        let state = State {
            regions: (0..count).map(region).collect(),
            places: Places::new(count),
            lives: 0,
            asked: (0, 0),
            told: Vec::new(),
            befell: BTreeMap::new(),
            over: false,
            violations: Vec::new(),
        };
        World { options, state: Arc::new(Mutex::new(state)) }
    }

    /// What changes.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Is any promise broken?
    pub fn is_broken(&self) -> bool {
        !self.state().violations.is_empty()
    }

    /// A promise was broken.
    pub fn violation(&self, what: String) {
        rt::note(what.len() as u64);
        self.state().violations.push(what);
    }

    /// What a node's wall clock shows.
    pub fn wall_ms(&self, region: usize, node: usize) -> u64 {
        let skew = self.state().regions[region].nodes[node].skew_ms;
        (BEGIN_MS + rt::now() / MS).saturating_add_signed(skew)
    }

    /// Begins the next life of a node, if it has none.
    pub fn boot(&self, region: usize, node: usize) {
        let owner = {
            let mut state = self.state();
            if state.regions[region].nodes[node].alive.is_some() || state.regions[region].lost {
                return;
            }
            state.lives += 1;
            let owner = Owner(state.lives);
            let mutant = self.options.mutant;
            let one = &mut state.regions[region].nodes[node];
            one.alive = Some(owner);
            let snapshot =
                one.snapshot.clone().filter(|_| rt::chance(60) && mutant != Mutant::ShipsWhatStays);
            one.machine = match snapshot {
                Some(snapshot) => Machine::from(region, mutant, snapshot),
                None => Machine::new(region, mutant),
            };
            owner
        };
        rt::spawn(owner, follow(self.clone(), region, node));
        rt::spawn(owner, attest(self.clone(), region, node));
        let place = |of| SimPlace { world: self.clone(), viewer: region, place: of };
        let others = (0..self.options.regions).filter(|other| *other != region);
        let peers = others.map(|other| {
            let key = self.state().regions[other].signer.verifier();
            Peer::new(NAMES[other], place(other), key, cosigner(other).witness())
        });
        let regions = Regions::new(NAMES[region], place(region), peers.collect(), cosigner(region), 1000);
        let home = Arc::new(At { world: self.clone(), region, node });
        ship::work(home, &Arc::new(regions), |task| rt::spawn(owner, task));
    }

    /// Ends the life of a node, if it has one.
    pub fn end(&self, region: usize, node: usize) {
        let gone = {
            let mut state = self.state();
            let one = &mut state.regions[region].nodes[node];
            one.believes = false;
            (one.alive.take(), std::mem::take(&mut one.waiting))
        };
        gone.0.into_iter().for_each(rt::kill);
    }

    /// A record is agreed.
    fn agree(&self, region: usize, events: Vec<Event>) -> Lsn {
        let mut state = self.state();
        let state = &mut *state;
        for event in &events {
            if let Err(broken) = check_anchored(&state.regions, region, event) {
                state.violations.push(broken);
            }
        }
        let one = &mut state.regions[region];
        let (mut signatures, mut firsts) = (Vec::new(), Vec::new());
        let says = one.observer.apply(&events, BEGIN_MS + rt::now() / MS, &mut |seen| match seen {
            Seen::Signature(byte) => signatures.push(byte),
            Seen::First(own) => firsts.push(own),
        });
        match says {
            Ok(says) => one.says.push(says),
            Err(why) => {
                state.violations.push(format!("I3: the log of {}: {why}", NAMES[region]));
                one.says.push(Vec::new());
            }
        }
        one.firsts.extend(firsts);
        one.shipped.extend(one.observer.shipped(&events, &mut signatures.into_iter()));
        one.digests.push(one.observer.digests().0);
        let tree = one.observer.ledger.tree();
        one.heads.insert(tree.size(), tree.root());
        one.agreed.push(events);
        Lsn(one.agreed.len() as u64)
    }

    /// Agrees on the next of what is under way.
    fn commit(&self, region: usize) {
        let Some(next) = self.state().regions[region].flight.pop_front() else { return };
        let lsn = self.agree(region, next.events);
        let mut state = self.state();
        let node = &mut state.regions[region].nodes[next.node];
        if node.alive == Some(next.life) {
            node.waiting.insert(lsn, next.done);
        }
    }

    /// Another node leads. What is under way is agreed up to some place, and the rest of it is lost.
    pub fn elect(&self, region: usize, node: usize) {
        let under_way = self.state().regions[region].flight.len() as u64;
        for _ in 0..rt::below(under_way + 1) {
            self.commit(region);
        }
        let lost = std::mem::take(&mut self.state().regions[region].flight);
        drop(lost);
        self.agree(region, Vec::new());
        let old = self.state().regions[region].leader.replace(node);
        let Some(old) = old.filter(|old| *old != node) else { return };
        let world = self.clone();
        rt::spawn(Owner::default(), async move {
            sleep(rt::below(3_000) * MS).await;
            let mut state = world.state();
            let one = &mut state.regions[region];
            if one.leader != Some(old) {
                one.nodes[old].believes = false;
            }
        });
    }

    /// Proposes in a node's name; the record and what was said of each event, when it
    /// is agreed and folded there.
    pub async fn propose(
        &self,
        region: usize,
        node: usize,
        events: Vec<Event>,
    ) -> Result<(Lsn, Vec<Said>), String> {
        let (done, told) = oneshot::channel();
        let leads = {
            let mut state = self.state();
            let one = &mut state.regions[region];
            let leads = one.leader == Some(node) && one.nodes[node].believes && one.flight.len() < 64;
            if let Some(life) = one.nodes[node].alive.filter(|_| leads) {
                one.flight.push_back(Flight { events, node, life, done });
            }
            leads
        };
        if !leads {
            sleep(500 * MS).await;
            return Err("it does not lead".into());
        }
        told.await.map_err(|_| "nobody knows whether it is agreed".into())
    }

    /// Is a mirror's word true: does `mirror` hold so many leaves of `origin`, agreed, with the root that it has?
    pub fn holds(&self, mirror: usize, origin: usize, size: u64) -> Result<(), String> {
        check_held(&self.state().regions, mirror, origin, size)
    }
}

/// See [`World::holds`].
fn check_held(regions: &[Region], mirror: usize, origin: usize, size: u64) -> Result<(), String> {
    let (who, whose) = (NAMES[mirror], NAMES[origin]);
    let held = regions[mirror].observer.ledger.origin(whose).map_or(0, |origin| origin.leaves());
    if held < size {
        return Err(format!("G1: {who} says that it holds {size} entries of {whose}, it holds {held}"));
    }
    if !regions[origin].heads.contains_key(&size) {
        return Err(format!("G1: {who} has cosigned a tree of {size} entries, {whose} had none"));
    }
    Ok(())
}

/// What a log says is proven must be held.
fn check_anchored(regions: &[Region], region: usize, event: &Event) -> Result<(), String> {
    let Event::Anchored(anchored) = event else { return Ok(()) };
    let mirror = (0..regions.len()).find(|other| cosigner(*other).witness().name() == anchored.target);
    let mirror = mirror.ok_or_else(|| format!("G1: {} is no mirror", anchored.target))?;
    check_held(regions, mirror, region, size_of(&anchored.note))
}

/// A node folds what is agreed, a little behind.
async fn follow(world: World, region: usize, node: usize) {
    loop {
        sleep(MS + rt::below(12 * MS)).await;
        for _ in 0..1 + rt::below(40) {
            let wall_ms = world.wall_ms(region, node);
            let mut state = world.state();
            let state = &mut *state;
            let one = &mut state.regions[region];
            let at = &mut one.nodes[node];
            let applied = at.machine.ledger.applied();
            let Some(events) = one.agreed.get(applied.0 as usize) else { break };
            let forgets = world.options.mutant == Mutant::ForgetsImports && at.snapshot.is_some();
            let known = applied.0 + 40 < one.agreed.len() as u64;
            let empty = forgets && known && events.iter().any(|event| matches!(event, Event::Imported(_)));
            let says = at.machine.apply(if empty { &[] } else { events }, wall_ms, &mut |_| ());
            let digest = at.machine.digests().0;
            if digest != one.digests[applied.0 as usize] {
                let who = NAMES[region];
                state.violations.push(format!("I3: node {node} of {who} differs after {}", applied.next()));
                return;
            }
            rt::note(u64::from(digest.0[0]) << 8 | region as u64);
            if let (Some(waiting), Ok(says)) = (at.waiting.remove(&applied.next()), says) {
                let _ = waiting.send((applied.next(), says));
            }
            if rt::chance(4) {
                at.snapshot = Some(at.machine.snapshot());
            }
        }
        let mut state = world.state();
        let one = &mut state.regions[region];
        let level = one.nodes[node].machine.ledger.applied().0 == one.agreed.len() as u64;
        if one.leader == Some(node) && level {
            one.nodes[node].believes = true;
        }
    }
}

/// What a leading node says of its log.
async fn attest(world: World, region: usize, node: usize) {
    loop {
        sleep(40 * MS + rt::below(300 * MS)).await;
        let next = {
            let wall_ms = world.wall_ms(region, node);
            let state = world.state();
            let one = &state.regions[region];
            let at = &one.nodes[node];
            let ledger = &at.machine.ledger;
            let tree = ledger.tree();
            if !at.believes {
                None
            } else if ledger.policy_version("sim").is_none() {
                Some(settings(wall_ms))
            } else if world.options.withholds && region == 0 && ledger.withheld_tenants().next().is_none() {
                Some(vec![withheld(ledger.applied().next(), wall_ms)])
            } else if ledger.unattested() > 0 {
                Some(vec![Event::Attested(ledger.attest())])
            } else if tree.size() > at.machine.newest {
                let (origin, size, root) = (one.signer.name().to_owned(), tree.size(), tree.root());
                Some(vec![Event::Checkpoint(Checkpoint { origin, size, root }.sign(&one.signer))])
            } else {
                None
            }
        };
        if let Some(events) = next {
            let _ = world.propose(region, node, events).await;
        }
    }
}

/// Says that what the second tenant sends to region a stays there from here on.
fn withheld(lsn: Lsn, at_ms: u64) -> Event {
    Event::Declared(Declared {
        at_ms,
        region: NAMES[0].into(),
        at: Position::of(lsn),
        why: "regions.withhold".into(),
        what: Declaration::Withheld { tenant: tenant_id(1) },
    })
}

/// Agrees on what is proposed, and elects.
pub async fn group(world: World, region: usize) {
    loop {
        sleep(MS + rt::below(15 * MS)).await;
        let (leader, up, quorum) = {
            let state = world.state();
            let one = &state.regions[region];
            let up: Vec<usize> = (0..one.nodes.len()).filter(|n| one.nodes[*n].alive.is_some()).collect();
            (one.leader.filter(|leader| up.contains(leader)), up, one.nodes.len() / 2 + 1)
        };
        if up.len() < quorum {
            continue;
        }
        match leader {
            Some(_) => (0..1 + rt::below(6)).for_each(|_| world.commit(region)),
            None => {
                sleep(rt::below(400 * MS)).await;
                world.elect(region, up[rt::below(up.len() as u64) as usize]);
            }
        }
    }
}

/// Somebody always starts a node again.
pub async fn keeper(world: World) {
    loop {
        sleep(20 * MS + rt::below(200 * MS)).await;
        for (region, node) in world.nodes() {
            if rt::chance(20) {
                world.boot(region, node);
            }
        }
    }
}

impl World {
    /// All nodes: region and number.
    pub fn nodes(&self) -> Vec<(usize, usize)> {
        let nodes = self.options.nodes;
        (0..self.options.regions).flat_map(|region| (0..nodes).map(move |node| (region, node))).collect()
    }

    /// The bytes of agreed records that a node has folded.
    pub fn records(&self, region: usize, node: usize, from: Lsn, to: Lsn, most: u64) -> Vec<(Lsn, Vec<u8>)> {
        let state = self.state();
        let one = &state.regions[region];
        let end = to.min(one.nodes[node].machine.ledger.applied()).0.min(from.0 + most - 1);
        let strip = |events: &[Event]| match self.options.mutant {
            Mutant::ForgetsSeen => {
                let kept = events.iter().filter(|event| !matches!(event, Event::Imported(_)));
                kept.cloned().collect()
            }
            Mutant::ForgetsWhatStays => {
                let kept = events.iter().filter(|event| !matches!(event, Event::Declared(_)));
                kept.cloned().collect()
            }
            _ => events.to_vec(),
        };
        (from.0..=end).map(|lsn| (Lsn(lsn), bytes_of(&strip(&one.agreed[lsn as usize - 1])))).collect()
    }
}
