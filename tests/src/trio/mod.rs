//! Whole groups in the simulator: the production group and log on simulated disks and a simulated network, under
//! clients, an operator and faults.
//!
//! One seed is one history, bit for bit. Nodes die at any operation of their disks and right after each kind of
//! write, power goes at one or at all of them, disks fail, fill up and stall, processes stand still, clocks jump
//! by years, logs rot, messages are lost, delayed, repeated, overtaken and cut in every shape, nodes are taken in, taken
//! out and replaced. Then everything is healed: the group must converge and answer within bounded time, and its
//! logs are read and held against everything that was seen. See `truth` for what is checked at every step.
//!
//! Read in this order: `plan` (what befalls a group), `nemesis`, `operator` and `clients` (who does it), `world`
//! and `life` (to whom), `net`, `replica` and `look` (where it is watched), `truth` and `judge` (against what),
//! `together` (several nodes in repair at once), `mutants`, `minimise`, and `resumed`, which shows why openraft's leaders may
//! not resume.

mod clients;
#[cfg(test)]
mod everywhere;
mod judge;
mod life;
mod look;
mod minimise;
mod mistreat;
pub mod mutants;
mod nemesis;
mod net;
mod operator;
pub mod plan;
mod replica;
pub mod resumed;
mod rot;
pub mod together;
mod truth;
mod wire;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::disk::Suffered;
use crate::rt::{self, Owner};
use crate::sim::world::MS;
pub use minimise::minimise;
use mutants::Mutant;
pub use net::Counts;
use world::World;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct TrioOptions {
    /// Everything follows from it.
    pub seed: u64,
    /// How often clients ask before the world is healed.
    pub steps: u64,
    /// How many nodes the group begins with.
    pub nodes: u64,
    /// How many clients there are.
    pub clients: u64,
    /// Length of a segment, bytes.
    pub segment_bytes: u64,
    /// So many of a hundred answers between nodes are held against the disk of who gave them.
    pub watch: u64,
    /// Whether logs rot.
    pub rot: bool,
    /// The events of the plan that take effect; all of them without it.
    pub only: Option<BTreeSet<u64>>,
    /// What is wrong on purpose.
    pub mutant: Mutant,
}

impl TrioOptions {
    /// Three nodes, and segments of a length drawn from the seed.
    pub fn new(seed: u64, steps: u64) -> TrioOptions {
        let mut rng = rt::Rng(seed ^ 0x3_0971);
        let segment_bytes = (64 << 10) << rng.below(3);
        let clients = 2 + rng.below(4);
        TrioOptions {
            seed,
            steps,
            nodes: 3,
            clients,
            segment_bytes,
            watch: 20,
            rot: false,
            only: None,
            mutant: Mutant::None,
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct TrioReport {
    /// The whole schedule as one number.
    pub hash: u64,
    /// Virtual time, milliseconds.
    pub virtual_ms: u64,
    /// Requests made, requests answered, and reads that were let through.
    pub asked: (u64, u64, u64),
    /// Records agreed.
    pub records: u64,
    /// What the ways did.
    pub counts: Counts,
    /// Lives begun by all nodes.
    pub lives: u64,
    /// Terms in which a node led.
    pub terms: u64,
    /// Nodes that stopped themselves because they had computed something else.
    pub alarms: u64,
    /// Repairs of segments from other nodes that ended well, and those that did not.
    pub repairs: (u64, u64),
    /// Events of the plan, whether they took effect or not.
    pub events: u64,
    /// Those that did, by class.
    pub befell: BTreeMap<&'static str, u64>,
    /// What the disks went through, all together.
    pub suffered: Suffered,
    /// Promises that were broken. None in a good world.
    pub violations: Vec<String>,
}

/// Run one world from its seed to its end.
pub fn run(options: &TrioOptions) -> TrioReport {
    run_as(options, act)
}

/// The same with something else that happens in it.
fn run_as(options: &TrioOptions, act: impl Fn(&World)) -> TrioReport {
    rt::reset(options.seed);
    let world = World::new(options.clone());
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| act(&world))) {
        world.violation(rt::panic_text(&*panic));
    }
    let report = world.report();
    // Tasks hold the world; let go of them before the next one.
    rt::reset(0);
    report
}

fn act(world: &World) {
    let options = &world.options;
    let until =
        |ms: u64, done: &dyn Fn() -> bool| rt::run(rt::now() + ms * MS, || done() || world.is_broken());
    rt::spawn(Owner::default(), operator::set_up(world.clone()));
    until(60_000, &|| world.state().set_up);
    if !world.state().set_up {
        return world.violation("R0: the group was never set up".into());
    }
    rt::spawn(Owner::default(), nemesis::nemesis(world.clone()));
    rt::spawn(Owner::default(), nemesis::keeper(world.clone()));
    rt::spawn(Owner::default(), operator::operator(world.clone()));
    for n in 0..options.clients {
        rt::spawn(Owner::default(), clients::client(world.clone(), options.seed ^ (n << 8) ^ 3));
    }
    until(3_600_000, &|| world.state().asked.0 >= options.steps);
    if !world.is_broken() {
        judge::judge(world);
    }
}

#[cfg(test)]
mod tests;
