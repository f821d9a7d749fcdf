//! The simulator: the production group, log and ledger on a simulated disk, under clients and faults.
//!
//! One seed is one history, bit for bit: `cargo run -p tests --bin sim -- --seed N --steps M`. After
//! the faults the node is healed, must lead again, and what clients were told is held against the log.

pub mod clock;
pub mod door;
pub mod every_operation;
pub mod fold;
pub mod history;
pub mod mutants;
pub mod nemesis;
pub mod read;
pub mod workload;
pub mod world;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once};

use crate::checkers;
use crate::disk::Suffered;
use crate::rt::{self, Owner};
use mutants::Mutant;
use nemesis::Befell;
use world::{End, MS, World};

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Everything follows from it.
    pub seed: u64,
    /// How often clients ask before the world is healed.
    pub steps: u64,
    /// Length of a segment, bytes.
    pub segment_bytes: u64,
    /// How many clients there are.
    pub clients: u64,
    /// What is wrong on purpose.
    pub mutant: Mutant,
}

impl SimOptions {
    /// The defaults, some of them drawn from the seed.
    pub fn new(seed: u64, steps: u64) -> SimOptions {
        let mut rng = rt::Rng(seed ^ 0x0971);
        let segment_bytes = (64 << 10) << rng.below(3);
        SimOptions { seed, steps, segment_bytes, clients: 3 + rng.below(6), mutant: Mutant::None }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The whole schedule as one number.
    pub hash: u64,
    /// How often a task was polled.
    pub polls: u64,
    /// Virtual time, milliseconds.
    pub virtual_ms: u64,
    /// Lives begun, and of these, those that led.
    pub lives: (u64, u64),
    /// How often clients asked, and how often they were answered.
    pub asked: (u64, u64),
    /// Records in the log at the end.
    pub records: u64,
    /// What the disk went through.
    pub suffered: Suffered,
    /// What else befell the node.
    pub befell: Befell,
    /// Promises that were broken. None in a good world.
    pub violations: Vec<String>,
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Call `f` without the messages of panics on this thread: a mutant that trips an assertion is caught, and
/// its backtrace is no news.
pub fn quietly<T>(f: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                loud(panic);
            }
        }));
    });
    QUIET.set(true);
    let value = f();
    QUIET.set(false);
    value
}

/// Run one world from its seed to its end.
pub fn run(options: &SimOptions) -> Report {
    rt::reset(options.seed);
    clock::set_skew(0);
    let world = World::new(options.clone());
    let befell = Arc::new(Mutex::new(Befell::default()));
    let outcome = catch_unwind(AssertUnwindSafe(|| act(&world, &befell)));
    if let Err(panic) = outcome {
        world.violation(rt::panic_text(&*panic));
    }
    let (lives, led) = {
        let node = world.node();
        (node.life, node.led)
    };
    let shared = world.shared.lock().unwrap();
    let report = Report {
        hash: rt::hash(),
        polls: rt::polls(),
        virtual_ms: rt::now() / MS,
        lives: (lives, led),
        asked: (world.operations(), shared.history.told.len() as u64),
        records: shared.history.applied.len() as u64,
        suffered: world.device.suffered(),
        befell: *befell.lock().unwrap(),
        violations: world.violations(),
    };
    drop(shared);
    // Tasks hold the world; let go of them before the next one.
    rt::reset(0);
    report
}

fn act(world: &World, befell: &Arc<Mutex<Befell>>) {
    let options = &world.options;
    rt::spawn(Owner::default(), nemesis::nemesis(world.clone(), options.seed ^ 1, befell.clone()));
    rt::spawn(Owner::default(), nemesis::keeper(world.clone(), options.seed ^ 2));
    for n in 0..options.clients {
        rt::spawn(Owner::default(), world::client(world.clone(), options.seed ^ (n << 8) ^ 3));
    }
    world.boot();
    let broken = || !world.violations().is_empty();
    rt::run(3_600_000 * MS, || world.operations() >= options.steps || broken());
    if broken() {
        return;
    }
    world.finish();
    heal(world);
    if !broken() {
        judge(world);
    }
}

/// Everything works again: the node must lead within fifteen seconds.
fn heal(world: &World) {
    world.device.set_faults(Default::default());
    world.device.set_capacity(u64::MAX);
    world.node().latency = (MS / 10, MS / 2);
    world.end(End::Power { keep: 0, garble: false });
    world.boot();
    let deadline = rt::now() + 15_000 * MS;
    rt::run(deadline, || world.node().group.is_some());
    if world.node().group.is_none() {
        world.violation(format!("S2: the healed node does not lead: {:?}", world.node().failed_opens.last()));
    }
    // Let what was queued settle, then switch off for good.
    rt::run(rt::now() + 1_000 * MS, || false);
    world.end(End::Power { keep: 0, garble: false });
}

/// Hold what was told and seen against the log.
fn judge(world: &World) {
    let read = || read::sight(&world.device, world.options.segment_bytes);
    let (sight, again) = match (read(), read()) {
        (Ok(sight), Ok(again)) => (sight, again),
        (Err(error), _) | (_, Err(error)) => {
            return world.violation(format!("S1: the log does not open: {error}"));
        }
    };
    let shared = world.shared.lock().unwrap();
    let broken = checkers::all(&world.device, &shared.history, &sight, &again);
    drop(shared);
    broken.into_iter().for_each(|broken| world.violation(broken));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_holds_whatever_befalls_the_node() {
        for seed in 100..115 {
            let report = run(&SimOptions::new(seed, 150));
            assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
            assert!(report.asked.1 > 0 && report.records > 0, "seed {seed} did nothing");
        }
    }

    #[test]
    fn one_seed_is_one_history() {
        let options = SimOptions::new(7, 200);
        let (first, second) = (run(&options), run(&options));
        assert_eq!((first.hash, first.polls, first.suffered), (second.hash, second.polls, second.suffered));
        assert_ne!(first.hash, run(&SimOptions::new(8, 200)).hash);
    }

    /// The regression named `enable_leader_restore`: with openraft's default a restarted leader goes on in
    /// its old term and gives log ids of its lost tail to other payloads. Every life must lead in a new term,
    /// also when the power takes its last vote's successors away.
    #[test]
    fn enable_leader_restore() {
        rt::reset(101);
        let world = World::new(SimOptions::new(101, 0));
        for life in 1..=6 {
            world.boot();
            rt::run(rt::now() + 15_000 * MS, || world.node().led == life);
            world.end(End::Power { keep: 0, garble: false });
        }
        let terms = world.shared.lock().unwrap().history.terms.clone();
        assert_eq!(terms.len(), 6);
        assert!(terms.windows(2).all(|pair| pair[0].1 < pair[1].1), "{terms:?}");
    }

    #[test]
    fn every_mutant_is_caught() {
        let caught = |mutant| {
            (1..=30)
                .any(|seed| !run(&SimOptions { mutant, ..SimOptions::new(seed, 300) }).violations.is_empty())
        };
        let alive: Vec<_> =
            quietly(|| mutants::all().into_iter().filter(|(_, mutant)| !caught(*mutant)).collect());
        assert!(alive.is_empty(), "{alive:?} survived thirty seeds");
    }
}
