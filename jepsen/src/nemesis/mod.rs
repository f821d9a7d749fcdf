//! Faults: which exist, in which order a seed brings them, and how each is written down.

mod act;

use crate::cluster::{Cluster, say};
use crate::history::{Event, Kind};
use crate::rng::Rng;
use crate::workload::Shared;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a fault did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there; what exactly.
    Installed(String),
    /// It was not brought, and why.
    Skipped(String),
    /// Nobody knows whether it had an effect.
    Indeterminate(String),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Installed(what) => write!(out, "installed: {what}"),
            Outcome::Skipped(why) => write!(out, "skipped: {why}"),
            Outcome::Indeterminate(why) => write!(out, "indeterminate: {why}"),
        }
    }
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Fault {
    Kill,
    Power,
    PowerAll,
    Pause,
    OneWay,
    Isolate,
    Bridge,
    Latency,
    Loss,
    Clock,
    Full,
    FsyncError,
    Slow,
    Truncate,
    Rot,
    Wipe,
    Upgrade,
    Everything,
}

/// Every kind with the name that it has on the command line and in a history, and what it does.
pub const FAULTS: &[(Fault, &str, &str)] = &[
    (Fault::Kill, "kill", "SIGKILL of one node"),
    (Fault::Power, "power", "SIGKILL, and its disk loses or tears what was not synced"),
    (Fault::PowerAll, "power-all", "the same for all nodes at once"),
    (Fault::Pause, "pause", "SIGSTOP of one node"),
    (Fault::OneWay, "one-way", "nothing gets from one node to another, but the other way"),
    (Fault::Isolate, "isolate", "one node against the majority"),
    (Fault::Bridge, "bridge", "two nodes see only the third"),
    (Fault::Latency, "latency", "delay and jitter between the nodes, which reorders"),
    (Fault::Loss, "loss", "packets between the nodes are lost, or come twice"),
    (Fault::Clock, "clock", "one node's wall clock jumps, strobes and jumps back"),
    (Fault::Full, "full", "one node's disk is full"),
    (Fault::FsyncError, "fsync-error", "one fsync of one node's log fails, then the node is restarted"),
    (Fault::Slow, "slow-disk", "every fsync of one node takes long"),
    (
        Fault::Truncate,
        "truncate",
        "a file of a stopped node loses its end: a sealed segment, or one that is made from the log",
    ),
    (
        Fault::Rot,
        "rot",
        "bits of a sealed segment of one node flip, until it has repaired itself from the others",
    ),
    (Fault::Wipe, "wipe", "one node's disk is lost; refused under its name, replaced under a new one"),
    (Fault::Upgrade, "upgrade", "the nodes are drained, stopped and started one by one"),
    (Fault::Everything, "everything", "several of these at once"),
];

impl Fault {
    /// Its name.
    pub fn name(self) -> &'static str {
        FAULTS.iter().find(|(fault, ..)| *fault == self).map_or("", |(_, name, _)| name)
    }

    /// The fault with this name.
    pub fn named(name: &str) -> Option<Fault> {
        FAULTS.iter().find(|(_, own, _)| *own == name).map(|(fault, ..)| *fault)
    }

    /// Whether it may be brought while another one lasts.
    fn mixes(self) -> bool {
        use Fault::*;
        matches!(
            self,
            Kill | Power | Pause | OneWay | Isolate | Bridge | Latency | Loss | Clock | Slow | Full
        )
    }
}

/// Faults that come together, and how long they last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is brought.
    pub faults: Vec<Fault>,
    /// For how long.
    pub hold: Duration,
    /// Whether the next step waits until all nodes are ready again.
    pub settle: bool,
}

/// The steps of a seed: rounds in which every kind comes once.
pub struct Plan {
    kinds: Vec<Fault>,
    rng: Rng,
    round: Vec<Step>,
}

impl Plan {
    /// The plan of these kinds.
    pub fn new(kinds: &[Fault], seed: u64) -> Plan {
        Plan { kinds: kinds.to_vec(), rng: Rng::new(seed, "plan"), round: Vec::new() }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.round.is_empty() {
            let mut kinds = self.kinds.clone();
            self.rng.shuffle(&mut kinds);
            for kind in kinds {
                let faults = if kind == Fault::Everything { self.mixture() } else { vec![kind] };
                let hold = Duration::from_millis(self.rng.between(1200, 2600));
                let settle = !faults.iter().all(|fault| fault.mixes()) || self.rng.chance(2, 3);
                self.round.push(Step { faults, hold, settle });
            }
        }
        self.round.pop()
    }
}

impl Plan {
    fn mixture(&mut self) -> Vec<Fault> {
        let mut few: Vec<Fault> =
            FAULTS.iter().map(|(fault, ..)| *fault).filter(|fault| fault.mixes()).collect();
        self.rng.shuffle(&mut few);
        few.truncate(3);
        few
    }
}

/// Longest wait for all nodes after a step.
const SETTLE: Duration = Duration::from_secs(30);

/// Brings the steps of a plan until it is over, and takes the last one away. Goes on beyond that, at most until
/// `latest`, for what has not come yet: on a slow machine a round takes longer.
pub fn run(
    cluster: &Cluster,
    shared: &Arc<Shared>,
    kinds: &[Fault],
    seed: u64,
    over: Instant,
    latest: Instant,
) {
    let mut rng = Rng::new(seed, "nemesis");
    let mut absent: BTreeSet<Fault> = kinds.iter().copied().collect();
    for step in Plan::new(kinds, seed) {
        let several = step.faults.len() > 1;
        let kind = if several { Fault::Everything } else { step.faults[0] };
        let now = Instant::now();
        if now >= latest || (now + step.hold >= over && absent.is_empty()) {
            return;
        }
        if now + step.hold >= over && !absent.contains(&kind) {
            continue;
        }
        let mut there = Vec::new();
        let mut came = true;
        for fault in &step.faults {
            note(shared, &format!("start-{}", fault.name()), None);
            let (outcome, undo) = act::begin(*fault, cluster, &mut rng);
            came &= several || matches!(outcome, Outcome::Installed(_));
            note(shared, &format!("start-{}", fault.name()), Some(&outcome));
            there.push((*fault, undo));
        }
        if several {
            let names: Vec<&str> = step.faults.iter().map(|fault| fault.name()).collect();
            note(shared, "start-everything", Some(&Outcome::Installed(names.join(", "))));
        }
        std::thread::sleep(step.hold);
        for (fault, undo) in there.into_iter().rev() {
            let outcome = act::end(undo, cluster, &mut rng);
            came &= several || matches!(outcome, Outcome::Installed(_));
            note(shared, &format!("stop-{}", fault.name()), Some(&outcome));
        }
        if several {
            note(shared, "stop-everything", Some(&Outcome::Installed("all of them".to_owned())));
        }
        if came {
            absent.remove(&kind);
        }
        if step.settle && !settled(cluster, SETTLE) {
            unsettled(cluster, shared);
        }
    }
}

/// Writes down which nodes stay away; the checker of recovery says what that means.
pub fn unsettled(cluster: &Cluster, shared: &Shared) {
    note(shared, "unsettled", Some(&Outcome::Indeterminate(waiting(cluster))));
}

/// Writes down, and shows, what was done.
pub fn note(shared: &Shared, f: &str, outcome: Option<&Outcome>) {
    let value = outcome.map(Outcome::to_string);
    if let Some(value) = &value {
        say(&format!("{:>7.2} s  {f} {value}", shared.recorder.nanos() as f64 / 1e9));
    }
    shared.recorder.note(Event {
        time: 0,
        kind: Kind::Info,
        process: None,
        f: f.to_owned(),
        node: 0,
        key: None,
        value,
        error: None,
    });
}

/// Waits until all nodes take submissions.
pub fn settled(cluster: &Cluster, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    loop {
        if cluster.hosts.iter().all(|host| host.ready()) {
            cluster.hosts.iter().for_each(|host| host.spoiled.store(false, Ordering::SeqCst));
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Which nodes do not take submissions, and what they say about it.
fn waiting(cluster: &Cluster) -> String {
    let ill = cluster.hosts.iter().filter(|host| !host.ready()).map(|host| {
        let page = host.client(Duration::from_secs(1)).get("/readyz?verbose");
        let page = page.map_or_else(|silence| silence.to_string(), |page| page.text().replace('\n', "; "));
        format!("host {}: {page}", host.number)
    });
    ill.collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_and_comes_in_every_round() {
        let kinds: Vec<Fault> = FAULTS.iter().map(|(fault, ..)| *fault).collect();
        assert!(kinds.iter().all(|kind| Fault::named(kind.name()) == Some(*kind)));
        assert_eq!(Fault::named("unheard-of"), None);
        for seed in 0..20 {
            let round: Vec<Step> = Plan::new(&kinds, seed).take(kinds.len()).collect();
            for kind in kinds.iter().filter(|kind| **kind != Fault::Everything) {
                assert!(round.iter().any(|step| step.faults == [*kind]), "{kind:?}");
            }
            assert!(round.iter().any(|step| step.faults.len() == 3));
        }
    }

    #[test]
    fn a_seed_decides_the_plan() {
        let steps = |seed| {
            Plan::new(&[Fault::Kill, Fault::Pause, Fault::Everything], seed).take(30).collect::<Vec<_>>()
        };
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
    }
}
