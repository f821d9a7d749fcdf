//! Whole groups in the simulator: the production group and log on three simulated disks and a simulated
//! network, under clients and faults.
//!
//! One seed is one history, bit for bit. Nodes die at any operation of their disks, power goes at one or at
//! all of them, messages are lost, delayed, repeated, overtaken and cut one way; then everything is healed,
//! and the group must converge. What is checked at every step: one log id has one payload, on every node and
//! in every life (F15); a name is won once; a read that ReadIndex lets through shows what was acknowledged
//! before it began. At the end every acknowledged name is on every node.

mod machine;
mod net;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::disk::Suffered;
use crate::rt::{self, Owner};
use crate::sim::world::MS;
use world::World;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct TrioOptions {
    /// Everything follows from it.
    pub seed: u64,
    /// How often clients ask before the world is healed.
    pub steps: u64,
    /// Length of a segment, bytes.
    pub segment_bytes: u64,
}

impl TrioOptions {
    /// Segments of a length drawn from the seed.
    pub fn new(seed: u64, steps: u64) -> TrioOptions {
        let segment_bytes = (64 << 10) << rt::Rng(seed ^ 0x3_0971).below(3);
        TrioOptions { seed, steps, segment_bytes }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct TrioReport {
    /// The whole schedule as one number.
    pub hash: u64,
    /// Virtual time, milliseconds.
    pub virtual_ms: u64,
    /// How often clients asked, were acknowledged, and read something fresh.
    pub asked: (u64, u64, u64),
    /// Messages sent, and of these, lost.
    pub messages: (u64, u64),
    /// Lives begun by all nodes.
    pub lives: u64,
    /// Terms in which a node led.
    pub terms: u64,
    /// What the disks went through, summed.
    pub suffered: Vec<Suffered>,
    /// Promises that were broken. None in a good world.
    pub violations: Vec<String>,
}

/// Run one world from its seed to its end.
pub fn run(options: &TrioOptions) -> TrioReport {
    rt::reset(options.seed);
    let world = World::new(options.clone());
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| act(&world))) {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        world.violation(format!("panic: {}", text.unwrap_or("of unknown kind")));
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
    rt::spawn(Owner::default(), world::set_up(world.clone()));
    until(60_000, &|| world.is_set_up());
    if !world.is_set_up() {
        return world.violation("the group was never set up".into());
    }
    rt::spawn(Owner::default(), world::nemesis(world.clone(), options.seed ^ 1));
    rt::spawn(Owner::default(), world::keeper(world.clone(), options.seed ^ 2));
    for n in 0..4 {
        rt::spawn(Owner::default(), world::client(world.clone(), options.seed ^ (n << 8) ^ 3));
    }
    until(3_600_000, &|| world.asked() >= options.steps);
    world.heal();
    until(30_000, &|| world.has_converged());
    if !world.is_broken() {
        world.judge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_nodes_keep_every_promise_whatever_befalls_them() {
        let (mut acknowledged, mut read, mut lost, mut lives, mut terms) = (0, 0, 0, 0, 0);
        for seed in 100..110 {
            let report = run(&TrioOptions::new(seed, 3000));
            assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
            acknowledged += report.asked.1;
            read += report.asked.2;
            lost += report.messages.1;
            lives += report.lives;
            terms += report.terms;
        }
        // A world in which nothing happens proves nothing.
        assert!(acknowledged > 2_000 && read > 1_000, "{acknowledged} and {read}");
        assert!(lost > 100 && lives > 60 && terms > 20, "{lost}, {lives}, {terms}");
    }

    #[test]
    fn one_seed_is_one_history() {
        let options = TrioOptions::new(7, 1000);
        let (first, second) = (run(&options), run(&options));
        assert_eq!((first.hash, first.messages, first.asked), (second.hash, second.messages, second.asked));
        assert_ne!(first.hash, run(&TrioOptions::new(8, 1000)).hash);
    }
}
