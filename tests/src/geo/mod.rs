//! Regions in the simulator: the production shipper, receiver and ledger between places that cut, lag, deny and lie.
//!
//! One seed is one history, bit for bit. Nodes and whole regions die at any request of theirs, the lead changes in the middle
//! of a put and the old leader goes on, clocks of regions are minutes apart, places lose what they said to hold, show
//! old listings, old and garbled objects, others' bills. Then everything is healed, by an operator where it takes one: all
//! regions must come to one truth in bounded time, and their logs are folded from nothing and held against everything that was
//! seen. In some runs a region is lost for good instead.
//!
//! How a group agrees is no part of this world (see [`crate::trio`]): a region has one agreed log. Read in this order: `world`,
//! `machine`, `home` and `place` (the ports of shipping), `nemesis` and `clients`, `rule` and `judge`, `mutants`.

mod clients;
mod home;
mod judge;
mod machine;
pub mod mutants;
mod nemesis;
mod place;
mod rule;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::log::Lsn;

use crate::rt::{self, Owner};
use crate::sim::workload::Submission;
use crate::sim::world::MS;
use machine::Said;
use mutants::Mutant;
use world::World;

/// What a client was told.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    region: usize,
    lsn: Lsn,
    sent: Submission,
    said: Said,
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct GeoOptions {
    /// Everything follows from it.
    pub seed: u64,
    /// How often clients ask before the world is healed.
    pub steps: u64,
    /// Regions, two or three.
    pub regions: usize,
    /// Nodes of each.
    pub nodes: usize,
    /// How many clients there are.
    pub clients: u64,
    /// Places lose what they said to hold.
    pub lies: bool,
    /// One region is lost for good.
    pub loss: bool,
    /// What a tenant sends to region a stays there.
    pub withholds: bool,
    /// What is wrong on purpose.
    pub mutant: Mutant,
}

impl GeoOptions {
    /// The defaults, some of them drawn from the seed.
    pub fn new(seed: u64, steps: u64, regions: usize, nodes: usize) -> GeoOptions {
        let mut rng = rt::Rng(seed ^ 0x6E0_0971);
        let (clients, lies) = (2 + rng.below(4), rng.chance(50));
        // What a lost region had told one of two others, the third may wait for.
        let loss = rng.chance(20) && regions == 2;
        let withholds = rng.chance(50);
        GeoOptions { seed, steps, regions, nodes, clients, lies, loss, withholds, mutant: Mutant::None }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct GeoReport {
    /// The whole schedule as one number.
    pub hash: u64,
    /// Virtual time, milliseconds.
    pub virtual_ms: u64,
    /// Requests made and answered.
    pub asked: (u64, u64),
    /// Records agreed, by region.
    pub records: Vec<u64>,
    /// Records of others that each region holds.
    pub imported: Vec<u64>,
    /// Conflicts between regions.
    pub conflicts: u64,
    /// Submissions that stayed in their region.
    pub withheld: u64,
    /// Requests to places.
    pub requests: u64,
    /// Lives begun by all nodes.
    pub lives: u64,
    /// What befell, by class.
    pub befell: BTreeMap<&'static str, u64>,
    /// Promises that were broken. None in a good world.
    pub violations: Vec<String>,
}

/// Runs one world from its seed to its end.
pub fn run(options: &GeoOptions) -> GeoReport {
    rt::reset(options.seed);
    let world = World::new(options.clone());
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| act(&world))) {
        world.violation(rt::panic_text(&*panic));
    }
    let report = {
        let state = world.state();
        let others = |region: &world::Region| {
            region.observer.ledger.origins().map(|origin| origin.position().lsn.0 - 1).sum()
        };
        GeoReport {
            hash: rt::hash(),
            virtual_ms: rt::now() / MS,
            asked: state.asked,
            records: state.regions.iter().map(|region| region.agreed.len() as u64).collect(),
            imported: state.regions.iter().map(others).collect(),
            conflicts: state.regions[0].observer.ledger.region_conflicts().map(|(_, _, count)| count).sum(),
            withheld: state.regions.iter().map(|region| region.observer.ledger.withheld()).sum(),
            requests: state.places.requests,
            lives: state.lives,
            befell: state.befell.clone(),
            violations: state.violations.clone(),
        }
    };
    // Tasks hold the world; let go of them before the next one.
    rt::reset(0);
    report
}

fn act(world: &World) {
    let options = &world.options;
    for region in 0..options.regions {
        rt::spawn(Owner::default(), world::group(world.clone(), region));
    }
    world.nodes().into_iter().for_each(|(region, node)| world.boot(region, node));
    rt::spawn(Owner::default(), world::keeper(world.clone()));
    rt::spawn(Owner::default(), nemesis::nemesis(world.clone()));
    for n in 0..options.clients {
        rt::spawn(Owner::default(), clients::client(world.clone(), options.seed ^ (n << 8) ^ 3));
    }
    let loss = options.loss.then_some(options.steps / 2);
    let asked = |steps| move || world.state().asked.0 >= steps || world.is_broken();
    if let Some(at) = loss {
        rt::run(3_600_000 * MS, asked(at));
        nemesis::lose_region(world, (options.seed % options.regions as u64) as usize);
    }
    rt::run(3_600_000 * MS, asked(options.steps));
    if !world.is_broken() {
        judge::judge(world);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_come_to_one_truth_whatever_befalls_them() {
        let (mut answered, mut imported, mut conflicts, mut withheld) = (0, 0, 0, 0);
        for seed in 100..112 {
            let nodes = if seed % 2 == 0 { 3 } else { 1 };
            let report = run(&GeoOptions::new(seed, 150, 2, nodes));
            assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
            answered += report.asked.1;
            imported += report.imported.iter().sum::<u64>();
            conflicts += report.conflicts;
            withheld += report.withheld;
        }
        assert!(answered > 500 && imported > 500 && conflicts > 0, "{answered} {imported} {conflicts}");
        assert!(withheld > 50, "{withheld}");
    }

    #[test]
    fn one_seed_is_one_history() {
        let options = GeoOptions::new(7, 150, 2, 3);
        let (first, second) = (run(&options), run(&options));
        assert_eq!((first.hash, first.requests, first.asked), (second.hash, second.requests, second.asked));
        assert_ne!(first.hash, run(&GeoOptions { seed: 8, ..options }).hash);
    }
}
