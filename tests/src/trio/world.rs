//! Three nodes, their disks, their ways to each other, their clients, and whatever befalls them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use engine::limits::RECORD_BYTES_MAX;
use raft::{Group, GroupConfig, Member};
use tokio::sync::oneshot;

use super::machine::{SetOnce, Truth, Waiting, Winners, proposal};
use super::net::{Net, Ways};
use super::{TrioOptions, TrioReport};
use crate::disk::{Death, Device, Faults};
use crate::rt::{self, Owner, Rng, SimRt, sleep};
use crate::sim::world::{MS, options};

/// How many nodes there are.
const NODES: u64 = 3;
/// Names that clients fight for.
const NAMES: u64 = 30;

#[derive(Default)]
struct Node {
    alive: Option<Owner>,
    winners: Arc<Mutex<Winners>>,
    /// How long a write and its sync take, nanoseconds: least and spread.
    latency: (u64, u64),
}

struct State {
    nodes: Vec<Node>,
    lives: u64,
    acknowledged: BTreeMap<u64, u64>,
    asked: u64,
    answered: u64,
    fresh: u64,
    next_value: u64,
    terms: std::collections::BTreeSet<u64>,
    set_up: bool,
    over: bool,
    violations: Vec<String>,
}

/// Everything there is.
#[derive(Clone)]
pub struct World {
    /// What this run is.
    pub options: TrioOptions,
    devices: Vec<Device>,
    ways: Arc<Mutex<Ways>>,
    truth: Arc<Mutex<Truth>>,
    state: Arc<Mutex<State>>,
}

impl World {
    /// A world before its first life.
    pub fn new(options: TrioOptions) -> World {
        let device = |node: u64| Device::new(options.seed ^ node << 40 ^ 0xD15C, Default::default());
        let nodes = (0..=NODES).map(|_| Node { latency: (MS / 10, MS / 2), ..Node::default() }).collect();
        let state = State {
            nodes,
            lives: 0,
            acknowledged: BTreeMap::new(),
            asked: 0,
            answered: 0,
            fresh: 0,
            next_value: 1,
            terms: Default::default(),
            set_up: false,
            over: false,
            violations: Vec::new(),
        };
        World {
            devices: (0..=NODES).map(device).collect(),
            options,
            ways: Arc::new(Mutex::new(Ways::new(NODES as usize))),
            truth: Arc::default(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A promise was broken.
    pub fn violation(&self, what: String) {
        self.state().violations.push(what);
    }

    pub fn is_broken(&self) -> bool {
        let broken = self.truth.lock().unwrap().take_broken();
        let mut state = self.state();
        state.violations.extend(broken);
        !state.violations.is_empty()
    }

    pub fn is_set_up(&self) -> bool {
        self.state().set_up
    }

    pub fn asked(&self) -> u64 {
        self.state().asked
    }

    /// What came of it.
    pub fn report(&self) -> TrioReport {
        let counts = self.ways.lock().unwrap().counts;
        let state = self.state();
        TrioReport {
            hash: rt::hash(),
            virtual_ms: rt::now() / MS,
            asked: (state.asked, state.answered, state.fresh),
            messages: counts,
            lives: state.lives,
            terms: state.terms.len() as u64,
            suffered: self.devices[1..].iter().map(Device::suffered).collect(),
            violations: state.violations.clone(),
        }
    }

    fn group(&self, node: u64) -> Option<Arc<Group<SimRt>>> {
        self.ways.lock().unwrap().up[node as usize].as_ref().map(|(_, group)| group.clone())
    }

    fn leader(&self) -> Option<(u64, Arc<Group<SimRt>>)> {
        let up = (1..=NODES).filter_map(|node| Some((node, self.group(node)?)));
        let led = up.filter_map(|(node, group)| Some((group.leads()?, node, group)));
        led.max_by_key(|(term, ..)| *term).map(|(_, node, group)| (node, group))
    }

    /// Begin the next life of a node, if it has none.
    fn boot(&self, node: u64) {
        let owner = {
            let mut state = self.state();
            if state.nodes[node as usize].alive.is_some() {
                return;
            }
            state.lives += 1;
            let owner = Owner(state.lives);
            let slot = &mut state.nodes[node as usize];
            slot.alive = Some(owner);
            slot.winners = Arc::default();
            owner
        };
        rt::spawn(owner, live(self.clone(), node, owner));
    }

    /// End a node's life, if it has one: a kill, or a power loss that keeps so many of a hundred unsynced sectors.
    fn end(&self, node: u64, power: Option<u64>) {
        let Some(owner) = self.state().nodes[node as usize].alive.take() else { return };
        let gone = self.ways.lock().unwrap().up[node as usize].take();
        rt::kill(owner);
        drop(gone);
        match power {
            None => self.devices[node as usize].kill(),
            Some(keep) => self.devices[node as usize].power_loss(keep, keep > 0 && keep < 100),
        }
    }

    /// No more clients and no more faults; everybody is there.
    pub fn heal(&self) {
        self.state().over = true;
        self.ways.lock().unwrap().heal();
        for node in 1..=NODES {
            self.devices[node as usize].set_faults(Faults::default());
            self.state().nodes[node as usize].latency = (MS / 10, MS / 2);
            if self.devices[node as usize].is_dead() {
                self.end(node, Some(0));
            }
            self.boot(node);
        }
    }

    /// Everybody has applied the same, a leader is there, and it takes something new.
    pub fn has_converged(&self) -> bool {
        let Some((_, leader)) = self.leader() else { return false };
        let last = leader.metrics().last;
        let state = self.state();
        state.nodes[1..].iter().all(|node| node.winners.lock().unwrap().applied == last)
    }

    /// Every acknowledged name is on every node.
    pub fn judge(&self) {
        if !self.has_converged() {
            return self.violation("the healed group does not converge within thirty seconds".into());
        }
        let state = self.state();
        let mut broken = Vec::new();
        for (node, slot) in state.nodes.iter().enumerate().skip(1) {
            let winners = slot.winners.lock().unwrap();
            for (name, winner) in &state.acknowledged {
                let found = winners.by_name.get(name);
                if found != Some(winner) {
                    broken
                        .push(format!("S1: node {node}: name {name} was won by {winner}, it has {found:?}"));
                }
            }
        }
        drop(state);
        broken.into_iter().for_each(|broken| self.violation(broken));
    }
}

fn member(node: u64) -> Member {
    Member { address: format!("node-{node}:1"), incarnation: 100 + node }
}

/// One life of one node.
async fn live(world: World, node: u64, owner: Owner) {
    let (winners, hosted) = (world.state().nodes[node as usize].winners.clone(), world.clone());
    let machine = SetOnce { node, winners, truth: world.truth.clone() };
    let mut config = GroupConfig::new(node, options(world.options.segment_bytes));
    config.in_flight_bytes = RECORD_BYTES_MAX;
    config.me = member(node);
    config.join = node != 1;
    config.transport = Arc::new(Net { ways: world.ways.clone(), node });
    let disk = world.devices[node as usize].attach();
    let opened = Group::<SimRt>::open_on(config, disk, machine, |mut actor| {
        rt::spawn(owner, async move {
            while actor.ready().await {
                let (least, spread) = hosted.state().nodes[node as usize].latency;
                sleep(least + rt::below(spread.max(1))).await;
                if let Some(pause) = actor.step() {
                    sleep(pause.as_nanos() as u64).await;
                }
            }
        });
        Ok(())
    })
    .await;
    match opened {
        Ok(group) => {
            let group = Arc::new(group);
            world.ways.lock().unwrap().up[node as usize] = Some((owner, group.clone()));
            let terms = world.clone();
            let led = group.clone();
            rt::spawn(owner, async move {
                let mut was = None;
                loop {
                    was = led.leads_unlike(was).await;
                    terms.state().terms.extend(was);
                }
            });
            let _ = group.failure().await;
        }
        Err(raft::OpenError::Log(segments::OpenError::Corrupt(damage))) => {
            world.violation(format!("S1: the log of node {node} does not open: {damage}"));
        }
        Err(_) => {}
    }
    if !world.devices[node as usize].is_dead() {
        let world = world.clone();
        // From outside of the life that ends.
        rt::spawn(Owner::default(), async move { world.end(node, None) });
    }
}

/// Node 1 founds the group and takes the others in, in peace.
pub async fn set_up(world: World) {
    (1..=NODES).for_each(|node| world.boot(node));
    for node in 2..=NODES {
        loop {
            sleep(5 * MS).await;
            let Some(group) = world.group(1) else { continue };
            if group.add(node, member(node)).await.is_ok() && group.promote(node).await.is_ok() {
                break;
            }
        }
    }
    world.state().set_up = true;
}

/// Do harm until the world is over.
pub async fn nemesis(world: World, seed: u64) {
    let mut rng = Rng(seed);
    while !world.state().over {
        sleep(30 * MS + rng.below(600 * MS)).await;
        if world.state().over {
            return;
        }
        let node = match rng.below(2) {
            0 => world.leader().map_or(1, |(node, _)| node),
            _ => 1 + rng.below(NODES),
        };
        let other = 1 + rng.below(NODES);
        match rng.below(12) {
            0..=2 => {
                let death = [Death::NothingLands, Death::HalfLands, Death::AllLands][rng.below(3) as usize];
                let faults = Faults { die_in: Some((rng.below(30), death)), ..Faults::default() };
                world.devices[node as usize].set_faults(faults);
            }
            3 => world.end(node, None),
            4 => world.end(node, Some([0, 100, 50][rng.below(3) as usize])),
            // All at once.
            5 => (1..=NODES).for_each(|node| world.end(node, Some(0))),
            6 => drop(world.ways.lock().unwrap().cut.insert((node, other))),
            7 => {
                let mut ways = world.ways.lock().unwrap();
                (1..=NODES).for_each(|other| ways.cut.extend([(node, other), (other, node)]));
            }
            8 => {
                let mut ways = world.ways.lock().unwrap();
                (ways.loss, ways.twice) = (rng.below(30), rng.below(20));
                ways.delay = (MS / 10, [MS, 20 * MS, 200 * MS][rng.below(3) as usize]);
            }
            9 => {
                let spread = [MS / 2, 5 * MS, 60 * MS][rng.below(3) as usize];
                world.state().nodes[node as usize].latency = (MS / 10, spread);
            }
            10 => {
                if let Some((_, leader)) = world.leader() {
                    rt::spawn(Owner::default(), async move {
                        let _ = leader.hand_over(None, std::time::Duration::from_secs(1)).await;
                    });
                }
            }
            _ => world.ways.lock().unwrap().heal(),
        }
    }
}

/// A dead disk takes its process with it, and somebody always starts the process again.
pub async fn keeper(world: World, seed: u64) {
    let mut rng = Rng(seed);
    loop {
        sleep(MS + rng.below(40 * MS)).await;
        for node in 1..=NODES {
            let alive = world.state().nodes[node as usize].alive.is_some();
            if alive && world.devices[node as usize].is_dead() {
                world.end(node, Some([0, 100, 50][rng.below(3) as usize]));
            } else if !alive && rng.chance(20) {
                world.boot(node);
            }
        }
    }
}

/// One client: proposes and reads, at any node.
pub async fn client(world: World, seed: u64) {
    let mut rng = Rng(seed);
    while !world.state().over {
        sleep(rng.below(40 * MS)).await;
        let at =
            if rng.chance(70) { world.leader().map(|(node, _)| node) } else { Some(1 + rng.below(NODES)) };
        let Some((node, group)) = at.and_then(|node| Some((node, world.group(node)?))) else { continue };
        let name = rng.below(NAMES);
        world.state().asked += 1;
        if rng.chance(30) {
            read(&world, node, &group, name).await
        } else {
            write(&world, &group, name).await
        }
    }
}

async fn write(world: &World, group: &Group<SimRt>, name: u64) {
    let value = {
        let mut state = world.state();
        state.next_value += 1;
        state.next_value
    };
    let (told, winner) = oneshot::channel();
    let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(told)));
    let Ok(Ok(_pending)) = rt::timeout(500 * MS, group.submit(proposal(name, value, Some(waiting)))).await
    else {
        return;
    };
    let Ok(Ok(winner)) = rt::timeout(2_000 * MS, winner).await else { return };
    let mut state = world.state();
    state.answered += 1;
    let first = *state.acknowledged.entry(name).or_insert(winner);
    if first != winner {
        state.violations.push(format!("I2: name {name} was won by {first} and by {winner}"));
    }
}

async fn read(world: &World, node: u64, group: &Group<SimRt>, name: u64) {
    let (acknowledged, winners) = {
        let state = world.state();
        (state.acknowledged.get(&name).copied(), state.nodes[node as usize].winners.clone())
    };
    let Ok(Ok(_)) = rt::timeout(3_000 * MS, group.read_index()).await else { return };
    let found = winners.lock().unwrap().by_name.get(&name).copied();
    let mut state = world.state();
    state.fresh += 1;
    if acknowledged.is_some() && found != acknowledged {
        state.violations.push(format!(
            "I6: a stale read at node {node}: name {name} was won by {acknowledged:?}, it shows {found:?}"
        ));
    }
}
