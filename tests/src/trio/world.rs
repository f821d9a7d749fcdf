//! The nodes, their disks, the ways between them, and what was seen of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use engine::event::Attested;
use engine::log::Lsn;
use raft::{Group, Member};

use super::mutants::Mutant;
use super::net::{Up, Ways};
use super::plan::Event;
use super::truth::Truth;
use super::wire::{Answer, Request};
use super::{TrioOptions, TrioReport, life, look};
use crate::checkers::sealed_is_final::{self, Sealed};
use crate::disk::{Device, Faults, Suffered};
use crate::rt::{self, Owner, SimRt};
use crate::sim::clock::BEGIN_MS;
use crate::sim::fold::{Shared, Snapshot};
use crate::sim::world::MS;

/// How long a write and its sync take on a good disk, nanoseconds: least and spread.
const QUICK: (u64, u64) = (MS / 10, MS / 2);

/// One node, in all of its lives.
pub struct Node {
    /// Its disk.
    pub device: Device,
    /// Which directory it has.
    pub incarnation: u64,
    /// The directory it was taken in with.
    pub known_as: u64,
    /// Its tasks belong to this owner while it lives.
    pub alive: Option<Owner>,
    /// A disk without a log waits to be taken in.
    pub join: bool,
    /// It is out of the group for good.
    pub off: bool,
    /// What its machine tells the door, in this life.
    pub shared: Arc<Mutex<Shared>>,
    /// The newest snapshot of any life.
    pub snapshot: Option<Snapshot>,
    /// The last record its machine has passed in this life.
    pub applied: Lsn,
    /// Where its machine began in this life: what stands before it is not read at its start.
    pub begins: Lsn,
    /// The last record it had synced as far as anybody knows.
    pub durable: Lsn,
    /// The term in which it leads and takes submissions.
    pub leading: Option<u64>,
    /// One submission is stamped and handed on at a time, so that the order of stamps is that of the log.
    pub door: Arc<tokio::sync::Mutex<()>>,
    /// The last stamp its door gave in this life.
    pub last_ms: u64,
    /// How long a write takes, nanoseconds: least and spread.
    pub latency: (u64, u64),
    /// How wrong its wall clock is.
    pub skew_ms: i64,
    /// What it would attest now, if there is anything.
    pub attest: Option<Attested>,
    /// The membership before the one it knows, for a mutant.
    pub membership_before: Arc<[u8]>,
    /// It computes something else from its next record on.
    pub strike: bool,
    /// It has computed something else in this life.
    pub diverged: bool,
    /// It dies after its next answer to a peer; after its next snapshot.
    pub dies_after: (bool, bool),
    /// Whom its operator has told it to ask.
    pub told: Vec<u64>,
    /// So many of its next promises are held against a disk that was rotten when this life began.
    pub suspect: u64,
    sealed: Sealed,
}

/// What changes.
pub struct State {
    /// Everybody there ever was, by name.
    pub nodes: BTreeMap<u64, Node>,
    /// Lives begun.
    pub lives: u64,
    /// Requests made, answered, and reads that were let through.
    pub asked: (u64, u64, u64),
    /// Events of the plan so far, and how many of each class took effect.
    pub events: (u64, BTreeMap<&'static str, u64>),
    /// What the operator is asked to do.
    pub wishes: VecDeque<Event>,
    /// The operator is at work.
    pub busy: bool,
    /// Nodes that stopped themselves because they had computed something else.
    pub alarms: u64,
    /// Nodes whose log was hurt, and has not been seen whole since.
    pub rotten: BTreeSet<u64>,
    /// Repairs of segments that ended well, and those that did not.
    pub repairs: (u64, u64),
    /// The last record that anybody outside has seen.
    pub floor: Lsn,
    /// The group is complete; it is over.
    pub set_up: bool,
    /// No more clients and no more harm.
    pub over: bool,
    violations: Vec<String>,
}

/// Everything there is.
#[derive(Clone)]
pub struct World {
    /// What this run is.
    pub options: TrioOptions,
    ways: Arc<Mutex<Ways>>,
    truth: Arc<Mutex<Truth>>,
    state: Arc<Mutex<State>>,
}

impl World {
    /// A world before its first life.
    pub fn new(options: TrioOptions) -> World {
        let state = State {
            nodes: BTreeMap::new(),
            lives: 0,
            asked: (0, 0, 0),
            events: Default::default(),
            wishes: VecDeque::new(),
            busy: false,
            alarms: 0,
            rotten: BTreeSet::new(),
            repairs: (0, 0),
            floor: Lsn::ZERO,
            set_up: false,
            over: false,
            violations: Vec::new(),
        };
        let world = World {
            options,
            ways: Arc::default(),
            truth: Arc::default(),
            state: Arc::new(Mutex::new(state)),
        };
        for _ in 0..world.options.nodes {
            world.create();
        }
        world
    }

    /// What changes.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The ways between nodes.
    pub fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap()
    }

    /// What no two nodes may see differently.
    pub fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }

    /// Look at one node or change it.
    pub fn node<T>(&self, node: u64, f: impl FnOnce(&mut Node) -> T) -> T {
        f(self.state().nodes.get_mut(&node).expect("nobody asks for a node that never was"))
    }

    /// A node under a name never used, with an empty disk.
    pub fn create(&self) -> u64 {
        let mut state = self.state();
        let name = state.nodes.len() as u64 + 1;
        let node = Node {
            device: self.new_disk(name),
            incarnation: 100 + name,
            known_as: 100 + name,
            alive: None,
            join: name != 1,
            off: false,
            shared: Arc::default(),
            snapshot: None,
            applied: Lsn::ZERO,
            begins: Lsn::ZERO,
            durable: Lsn::ZERO,
            leading: None,
            door: Arc::default(),
            last_ms: 0,
            latency: QUICK,
            skew_ms: 0,
            attest: None,
            membership_before: Arc::default(),
            strike: false,
            diverged: false,
            dies_after: (false, false),
            told: Vec::new(),
            suspect: 0,
            sealed: Sealed::default(),
        };
        state.nodes.insert(name, node);
        name
    }

    fn new_disk(&self, name: u64) -> Device {
        let sloppy = match self.options.mutant {
            Mutant::Disk(sloppy) => sloppy,
            _ => Default::default(),
        };
        Device::new(rt::rand() ^ name << 40, sloppy)
    }

    /// A node's disk is replaced by an empty one, and it will come back under its name.
    pub fn wipe(&self, name: u64) {
        self.end(name, Some(0));
        self.state().rotten.remove(&name);
        let device = self.new_disk(name);
        self.node(name, |node| {
            node.device = device;
            node.incarnation += 1000;
            // What it held, and what it had said to hold, was agreed with it all the same.
            (node.join, node.snapshot) = (true, None);
            node.sealed.clear();
        });
    }

    /// A promise was broken.
    pub fn violation(&self, what: String) {
        rt::note(what.len() as u64);
        self.state().violations.push(what);
    }

    /// Is any promise broken?
    pub fn is_broken(&self) -> bool {
        let broken = self.truth().take_broken();
        let mut state = self.state();
        state.violations.extend(broken);
        !state.violations.is_empty()
    }

    /// What came of it.
    pub fn report(&self) -> TrioReport {
        let counts = self.ways().counts;
        let terms = self.truth().terms();
        let records = self.truth().last().0;
        let running: Vec<_> = self.ways().up.values().map(|up| up.group.metrics().repairs).collect();
        let state = self.state();
        let mut suffered = Suffered::default();
        state.nodes.values().for_each(|node| suffered.add(&node.device.suffered()));
        TrioReport {
            hash: rt::hash(),
            virtual_ms: rt::now() / MS,
            asked: state.asked,
            records,
            counts,
            lives: state.lives,
            terms,
            alarms: state.alarms,
            repairs: running.iter().fold(state.repairs, |(done, failed), repairs| {
                (done + repairs.done, failed + repairs.failed)
            }),
            events: state.events.0,
            befell: state.events.1.clone(),
            suffered,
            violations: state.violations.clone(),
        }
    }

    /// Names of those that are in the group or on their way into it.
    pub fn names(&self) -> Vec<u64> {
        self.state().nodes.iter().filter(|(_, node)| !node.off).map(|(name, _)| *name).collect()
    }

    /// The group of a node that is up.
    pub fn group(&self, node: u64) -> Option<Arc<Group<SimRt>>> {
        self.ways().up.get(&node).map(|up| up.group.clone())
    }

    /// Who leads in the highest term.
    pub fn leader(&self) -> Option<(u64, Arc<Group<SimRt>>)> {
        let up: Vec<(u64, Up)> = self.ways().up.iter().map(|(name, up)| (*name, up.clone())).collect();
        let led = up.into_iter().filter_map(|(name, up)| Some((up.group.leads()?, name, up.group)));
        led.max_by_key(|(term, ..)| *term).map(|(_, name, group)| (name, group))
    }

    /// Does this node vote, by the agreed membership?
    pub fn is_voter(&self, node: u64) -> bool {
        let truth = self.truth();
        truth.voters(truth.last()).iter().flatten().any(|voter| *voter == node)
    }

    /// Has a voter lost its disk since it was taken in?
    pub fn has_lost_its_disk(&self, name: u64) -> bool {
        self.node(name, |node| node.incarnation != node.known_as)
    }

    /// What the membership should say of a node.
    pub fn member(&self, node: u64) -> Member {
        let incarnation = self.node(node, |node| node.known_as);
        Member { address: format!("node-{node}:1"), incarnation }
    }

    /// What a node's wall clock shows, milliseconds since the Unix epoch.
    pub fn wall_ms(&self, node: u64) -> u64 {
        let skew = self.node(node, |node| node.skew_ms);
        (BEGIN_MS + rt::now() / MS).saturating_add_signed(skew)
    }

    /// Where a mutant's message goes instead.
    pub fn misdirected(&self, to: u64, from: u64) -> u64 {
        if self.options.mutant != Mutant::Misdelivers || !rt::chance(20) {
            return to;
        }
        let others: Vec<u64> = self.names().into_iter().filter(|name| *name != from).collect();
        others.get(rt::below(others.len().max(1) as u64) as usize).copied().unwrap_or(to)
    }

    /// Begin the next life of a node, if it has none.
    pub fn boot(&self, name: u64) {
        let owner = {
            let mut state = self.state();
            let owner = Owner(state.lives + 1);
            let rotten = state.rotten.contains(&name);
            let node = state.nodes.get_mut(&name).expect("it was made");
            if node.alive.is_some() || node.off {
                return;
            }
            node.alive = Some(owner);
            node.shared = Arc::default();
            (node.applied, node.last_ms) = (Lsn::ZERO, 0);
            node.door = Arc::default();
            (node.attest, node.diverged) = (None, false);
            node.suspect = if rotten { 5 } else { 0 };
            state.lives += 1;
            owner
        };
        rt::spawn(owner, life::live(self.clone(), name, owner));
    }

    /// End a node's life, if it has one: a kill, or a power loss that keeps so many of a hundred unsynced sectors.
    pub fn end(&self, name: u64, power: Option<u64>) {
        let Some(owner) = self.node(name, |node| node.alive.take()) else { return };
        self.ways().starting.remove(&name);
        let gone = self.ways().up.remove(&name);
        let last = gone.as_ref().map(|up| up.group.metrics());
        let durable = last.as_ref().map_or(Lsn::ZERO, |last| last.durable);
        if let Some(last) = last {
            let mut state = self.state();
            state.repairs.0 += last.repairs.done;
            state.repairs.1 += last.repairs.failed;
        }
        let rotten = self.state().rotten.contains(&name);
        rt::kill(owner);
        drop(gone);
        let note = rt::chance(10);
        self.node(name, |node| {
            node.leading = None;
            node.dies_after = (false, false);
            node.durable = node.durable.max(durable);
            match power {
                None => node.device.kill(),
                Some(keep) => node.device.power_loss(keep, keep > 0 && keep < 100),
            }
            if note && !rotten {
                sealed_is_final::note(&mut node.sealed, &node.device);
            }
        });
    }

    /// The same from a task of the life that ends.
    pub fn end_soon(&self, name: u64, power: Option<u64>) {
        let world = self.clone();
        rt::spawn(Owner::default(), async move { world.end(name, power) });
    }

    /// The disk of a node is good again and its clock right.
    pub fn mend(&self, name: u64) {
        self.node(name, |node| {
            node.device.set_faults(Faults::default());
            node.device.set_capacity(u64::MAX);
            (node.latency, node.skew_ms, node.strike) = (QUICK, 0, false);
        });
    }

    /// Durable bytes of this node's log are no longer what was written.
    pub fn rotten(&self, name: u64) {
        let mut state = self.state();
        state.rotten.insert(name);
        if let Some(node) = state.nodes.get_mut(&name) {
            // What this life has read may have been good.
            node.suspect = 0;
        }
    }

    /// A node whose log was rotten when it began takes part: has it all that it has promised to hold?
    fn check_suspect(&self, name: u64) {
        let (device, begins) = self.node(name, |node| {
            node.suspect -= 1;
            (node.device.clone(), node.begins)
        });
        let owes = self.truth().owes(name);
        if let Err(broken) = look::holds(&self.options, &device, begins, owes) {
            self.violation(format!("F3: node {name} takes part and lacks what it had: {broken}"));
        }
    }

    /// Digests of a node's sealed segments as they were first seen.
    pub fn sealed(&self, name: u64) -> Sealed {
        self.node(name, |node| node.sealed.clone())
    }

    /// A node has answered a peer.
    pub fn observe(&self, name: u64, incarnation: u64, asked: &Request, answer: &[u8]) {
        let answer = match Answer::read(answer) {
            Ok(answer) => answer,
            Err(error) => {
                return self.violation(format!("an answer that a second reader cannot read: {error}"));
            }
        };
        let (device, known_as) = self.node(name, |node| (node.device.clone(), node.known_as));
        if incarnation != known_as && !matches!(answer, Answer::Other) {
            self.violation(format!(
                "F16: node {name} answers with directory {incarnation}, taken in was {known_as}"
            ));
        }
        let promises = matches!(answer, Answer::Upto(_) | Answer::Voted { granted: true, .. });
        if promises && self.node(name, |node| node.suspect > 0) {
            self.check_suspect(name);
        }
        let looks = device.doubts() > 0 && rt::chance(self.options.watch);
        let broken = match (asked, &answer) {
            (Request::Vote { pre: false, .. }, Answer::Voted { vote, granted: true, .. })
                if device.doubts() > 0 =>
            {
                look::vote_is_durable(&self.options, &device, *vote)
            }
            (Request::Append(_), Answer::Upto(Some(id))) if looks => {
                look::entry_is_durable(&self.options, &device, Lsn(id.lsn))
            }
            _ => Ok(()),
        };
        // A log that rotted under a process opens for the next one, repaired: see `check_suspect`. One that opens counts.
        let rotten = || self.state().rotten.contains(&name);
        if let Err(broken) = broken
            && !(broken.starts_with(look::DOES_NOT_OPEN) && rotten())
        {
            self.violation(format!("I6: node {name}: {broken}"));
        }
        self.truth().answered(name, asked, &answer);
    }

    /// The answer is on its way; some nodes do not survive that.
    pub fn after_answer(&self, name: u64, asked: &Request) {
        let dies = self.node(name, |node| {
            matches!(asked, Request::Append(_) | Request::Vote { .. })
                && std::mem::take(&mut node.dies_after.0)
        });
        if dies {
            self.end_soon(name, Some(0));
        }
    }

    /// The first node has applied this record: is it durable on a majority of each set of voters?
    pub fn check_quorum(&self, lsn: Lsn, term: u64) {
        let up: BTreeMap<u64, Arc<Group<SimRt>>> =
            self.ways().up.iter().map(|(name, up)| (*name, up.group.clone())).collect();
        let durable = |name: u64| {
            let now = up.get(&name).map_or(Lsn::ZERO, |group| group.metrics().durable);
            now.max(self.node(name, |node| node.durable))
        };
        let truth = self.truth();
        // What a voter held before it lost its disk was agreed with it all the same.
        let holds = |name: u64| {
            self.has_lost_its_disk(name)
                || truth.holds(name, lsn, term)
                || (truth.has_led(name, term) && durable(name) >= lsn)
        };
        let majority = |set: &Vec<u64>| 2 * set.iter().filter(|name| holds(**name)).count() > set.len();
        let sets = truth.voters(lsn);
        // One that was agreed under a membership that came after it counts by that one.
        let later = truth.proposed_after(lsn).any(|sets| sets.iter().all(majority));
        // Its leader counts by it as soon as it has written it, before anybody was asked.
        let counts_so =
            |group: &Group<SimRt>| group.leads() >= Some(term) && group.voter_sets().iter().all(majority);
        let later = later || up.values().any(|group| counts_so(group));
        if !sets.iter().all(majority) && !later {
            let held: Vec<u64> = sets.iter().flatten().copied().filter(|name| holds(*name)).collect();
            drop(truth);
            self.violation(format!(
                "I6: record {lsn} of term {term} is applied, and no majority of {sets:?} holds it, only {held:?}"
            ));
        }
    }
}
