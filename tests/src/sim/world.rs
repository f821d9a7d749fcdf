//! One node, its disk, its clients, and whatever befalls them.

use std::sync::{Arc, Mutex, MutexGuard};

use engine::limits::RECORD_BYTES_MAX;
use raft::{Group, GroupConfig, OpenError};
use segments::{Identity, Options};
use tokio::sync::oneshot;

use super::door::{Door, Queue, Request};
use super::fold::{Fold, Shared};
use super::history::Told;
use super::mutants::{DoorMutant, Mutant};
use super::workload::Submission;
use super::{SimOptions, read};
use crate::checkers::{answer_after_durable, sealed_is_final};
use crate::disk::Device;
use crate::rt::{self, Owner, Rng, SimRt, sleep};

/// Batches that the group lets in at once.
pub const IN_FLIGHT: usize = 4;

/// A millisecond of virtual time.
pub const MS: u64 = 1_000_000;

/// Options of the simulated log.
pub fn options(segment_bytes: u64) -> Options {
    let identity = Identity { cluster: [9; 16], region: "default".into() };
    Options { segment_bytes, ..Options::new(identity) }
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process dies; what it wrote is still in the machine.
    Kill,
    /// The power goes.
    Power {
        /// So many of a hundred unsynced sectors survive.
        keep: u64,
        /// Others may hold anything.
        garble: bool,
    },
}

/// The node as it is now.
#[derive(Default)]
pub struct Node {
    /// Which life it is in; 0 before the first.
    pub life: u64,
    /// Its tasks belong to this owner while it lives.
    pub alive: Option<Owner>,
    /// Its group, once it leads.
    pub group: Option<Arc<Group<SimRt>>>,
    /// Where clients knock.
    pub queue: Arc<Queue>,
    /// How long a write and its sync take, in nanoseconds: least and spread.
    pub latency: (u64, u64),
    /// Why lives did not begin.
    pub failed_opens: Vec<String>,
    /// Lives that led.
    pub led: u64,
}

/// Everything there is.
#[derive(Clone)]
pub struct World {
    /// What this run is.
    pub options: SimOptions,
    /// Its disk.
    pub device: Device,
    /// What machines leave behind.
    pub shared: Arc<Mutex<Shared>>,
    node: Arc<Mutex<Node>>,
    violations: Arc<Mutex<Vec<String>>>,
    over: Arc<Mutex<bool>>,
    operations: Arc<Mutex<u64>>,
}

impl World {
    /// A world before its first life.
    pub fn new(options: SimOptions) -> World {
        let sloppy = match options.mutant {
            Mutant::Disk(sloppy) => sloppy,
            _ => Default::default(),
        };
        let node = Node { latency: (MS / 10, MS / 2), ..Node::default() };
        World {
            device: Device::new(options.seed ^ 0xD15C, sloppy),
            options,
            shared: Arc::default(),
            node: Arc::new(Mutex::new(node)),
            violations: Arc::default(),
            over: Arc::default(),
            operations: Arc::default(),
        }
    }

    /// The node, to look at or to change.
    pub fn node(&self) -> MutexGuard<'_, Node> {
        self.node.lock().unwrap()
    }

    /// A promise was broken.
    pub fn violation(&self, what: String) {
        rt::note(what.len() as u64);
        self.violations.lock().unwrap().push(what);
    }

    /// All broken promises so far.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap().clone()
    }

    /// No more clients and no more faults.
    pub fn finish(&self) {
        *self.over.lock().unwrap() = true;
    }

    /// Has [`World::finish`] been called?
    pub fn is_over(&self) -> bool {
        *self.over.lock().unwrap()
    }

    /// How often a client has asked.
    pub fn operations(&self) -> u64 {
        *self.operations.lock().unwrap()
    }

    /// Begin the next life, if none is lived.
    pub fn boot(&self) {
        let owner = {
            let mut node = self.node();
            if node.alive.is_some() {
                return;
            }
            node.life += 1;
            // Owner 0 is the world; no life has it.
            let owner = Owner(node.life);
            node.alive = Some(owner);
            node.queue = Arc::default();
            owner
        };
        rt::spawn(owner, live(self.clone(), owner));
    }

    /// End the life that is lived, if any.
    pub fn end(&self, end: End) {
        let (owner, group) = {
            let mut node = self.node();
            let Some(owner) = node.alive.take() else { return };
            (owner, node.group.take())
        };
        rt::kill(owner);
        drop(group);
        match end {
            End::Kill => self.device.kill(),
            End::Power { keep, garble } => self.device.power_loss(keep, garble),
        }
        let history = &mut self.shared.lock().unwrap().history;
        history.in_flight = 0;
        sealed_is_final::note(&mut history.sealed, &self.device);
    }
}

/// One life, from opening the log to whatever ends it.
async fn live(world: World, owner: Owner) {
    let snapshot = world.shared.lock().unwrap().snapshot.clone();
    // A snapshot may always be missing; the log is enough.
    let snapshot = snapshot.filter(|_| rt::chance(60));
    let mutant = world.options.mutant;
    let fold = Fold::new(world.shared.clone(), owner.0, mutant, snapshot, 7);
    let mut config = GroupConfig::new(1, options(world.options.segment_bytes));
    config.in_flight_bytes = RECORD_BYTES_MAX;
    config.in_flight_batches = if is_unbounded(&world.options) { 1 << 20 } else { IN_FLIGHT };
    let disk = world.device.attach();
    let hosted = world.clone();
    let opened = Group::<SimRt>::open_on(config, disk, fold, |mut actor| {
        rt::spawn(owner, async move {
            while actor.ready().await {
                let (least, spread) = hosted.node().latency;
                sleep(least + rt::below(spread.max(1))).await;
                if let Some(pause) = actor.step() {
                    sleep(pause.as_nanos() as u64).await;
                }
            }
        });
        Ok(())
    })
    .await;
    let group = match opened {
        Ok(group) => Arc::new(group),
        Err(error) => return refuse(&world, &error),
    };
    let queue = {
        let mut node = world.node();
        node.group = Some(group.clone());
        node.led += 1;
        world.shared.lock().unwrap().history.terms.push((owner.0, group.metrics().term));
        node.queue.clone()
    };
    let in_flight = 1 + rt::below(8) as usize;
    let shared = world.shared.clone();
    let door = Door { group: group.clone(), queue, shared, batch_most: 6, in_flight, mutant, last_ms: 0 };
    rt::spawn(owner, door.serve());
    group.failure().await;
    drop(group);
    exit(&world);
}

/// The log did not open.
fn refuse(world: &World, error: &OpenError) {
    let corrupt = matches!(
        error,
        OpenError::Log(segments::OpenError::Corrupt(_))
            | OpenError::Log(segments::OpenError::MissingSegment { .. })
    );
    if corrupt {
        world.violation(format!("S1: the log does not open: {error}"));
    }
    world.node().failed_opens.push(error.to_string());
    exit(world);
}

/// The process ends itself. If its disk died under it, the keeper says what became of the machine.
fn exit(world: &World) {
    if world.device.is_dead() {
        return;
    }
    let world = world.clone();
    // From outside of the life that ends.
    rt::spawn(Owner::default(), async move { world.end(End::Kill) });
}

/// One client: asks, waits, and asks again.
pub async fn client(world: World, seed: u64) {
    let mut rng = Rng(seed);
    let mut last: Option<Submission> = None;
    while !world.is_over() {
        sleep(rng.below(30 * MS)).await;
        let (queue, life, ready) = {
            let node = world.node();
            (node.queue.clone(), node.life, node.group.is_some())
        };
        if !ready {
            continue;
        }
        // Sometimes the same bytes again, as after a timeout.
        let sent = last.filter(|_| rng.chance(25)).unwrap_or_else(|| Submission::draw(&mut rng));
        last = Some(sent);
        *world.operations.lock().unwrap() += 1;
        let (answer, answered) = oneshot::channel();
        queue.put(Request { sent, answer });
        if let Ok(Ok((place, answer))) = rt::timeout(2000 * MS, answered).await {
            rt::note(place.0.0 ^ u64::from(place.1));
            let every = if world.options.mutant == Mutant::None { 5 } else { 100 };
            if rng.chance(every) {
                check_durable(&world, place, answer.first());
            }
            world.shared.lock().unwrap().history.told.push(Told { sent, place, answer, life });
        }
    }
}

/// I6 at the very moment of the answer: would it survive if the power went now?
fn check_durable(world: &World, place: super::history::Place, first: Option<super::history::Place>) {
    let end = match read::durable_end(&world.device, world.options.segment_bytes) {
        Ok(end) => end,
        Err(error) => return world.violation(format!("I6: an answer, and the log does not open: {error}")),
    };
    if let Err(broken) = answer_after_durable::check(place, first, end) {
        world.violation(broken);
    }
}

/// Is this world's door without bound?
fn is_unbounded(options: &SimOptions) -> bool {
    options.mutant == Mutant::Door(DoorMutant::Unbounded)
}
