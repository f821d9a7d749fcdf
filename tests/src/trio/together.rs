//! More nodes in repair at once than the group can do without, and more than one whose vote may be lost (F3).
//!
//! - [`apart`]: a majority has rotted, each node at places of its own, and nobody else is there. Each has what another one
//!   lacks, so they come back.
//! - [`votes`]: a majority has elected a leader that nobody else has heard of, and all of them lose their votes for it. Nobody is
//!   left who knows its term: they wait. When one of them has its bytes again all come back, in a group of five two that
//!   may both have lost a vote.

use std::collections::BTreeMap;

use engine::log::Lsn;
use segments::segment_name;

use super::world::World;
use super::{TrioOptions, TrioReport, clients, judge, operator, run_as};
use crate::checkers::RawSegment;
use crate::disk::Device;
use crate::rt::{self, Owner, Rng};
use crate::sim::world::MS;

/// How long nodes may take that have all they need, milliseconds of virtual time.
const COMES_BACK_WITHIN: u64 = 60_000;

/// See the module.
pub fn apart(options: &TrioOptions) -> TrioReport {
    let options = TrioOptions { segment_bytes: 64 << 10, steps: u64::MAX, ..options.clone() };
    run_as(&options, |world| rot_apart(world).unwrap_or_else(|broken| world.violation(broken)))
}

/// See the module.
pub fn votes(options: &TrioOptions) -> TrioReport {
    // Long segments: the votes of this story stand in the last one.
    let options = TrioOptions { segment_bytes: 512 << 10, steps: u64::MAX, ..options.clone() };
    run_as(&options, |world| lose_votes(world).unwrap_or_else(|broken| world.violation(broken)))
}

/// Waits; an error if it does not come to be. Without one when a promise was broken meanwhile.
fn until(world: &World, ms: u64, what: &str, done: impl Fn() -> bool) -> Result<(), String> {
    rt::run(rt::now() + ms * MS, || done() || world.is_broken());
    if done() || world.is_broken() { Ok(()) } else { Err(format!("R0: it does not come to be: {what}")) }
}

/// A group in peace that was asked so often.
fn at_work(world: &World, asked: u64) -> Result<(), String> {
    rt::spawn(Owner::default(), operator::set_up(world.clone()));
    until(world, 60_000, "the group is set up", || world.state().set_up)?;
    for n in 0..4 {
        rt::spawn(Owner::default(), clients::client(world.clone(), world.options.seed ^ (n << 8)));
    }
    until(world, 600_000, "clients are answered", || world.state().asked.0 >= asked)
}

fn device(world: &World, name: u64) -> Device {
    world.node(name, |node| node.device.clone())
}

/// Nothing is remembered but the log, so that all of it is read.
fn begin(world: &World, names: &[u64]) {
    for name in names {
        world.node(*name, |node| node.snapshot = None);
        world.boot(*name);
    }
}

fn up(world: &World, names: &[u64]) -> bool {
    names.iter().all(|name| world.group(*name).is_some())
}

/// Batches that are zeros now.
fn zero(device: &Device, segment: &RawSegment, at: usize) {
    let length = u32::from_le_bytes(segment.bytes[at + 8..at + 12].try_into().expect("four bytes")) as usize;
    (at..at + length).for_each(|at| device.rot(&segment_name(segment.number), at, segment.bytes[at]));
}

/// A batch of a sealed segment with entries, and the first and last of them.
type Spot = (usize, usize, u64, u64);

fn spots(segments: &[RawSegment]) -> Vec<Spot> {
    let sealed = segments.iter().enumerate().filter(|(_, segment)| segment.footer().is_some());
    let all = sealed.flat_map(|(nth, segment)| {
        // Not the first one: the next segment would have to say what a header was.
        segment
            .batches()
            .into_iter()
            .map(move |at| (nth, at, segment.u64_at(at + 72), segment.u64_at(at + 80)))
    });
    all.filter(|(_, _, first, last)| *first > 0 && first <= last).collect()
}

fn rot_apart(world: &World) -> Result<(), String> {
    at_work(world, 300)?;
    let mut rng = Rng(world.options.seed);
    let mut names = world.names();
    names.iter().for_each(|name| world.end(*name, None));
    // Whoever leads is among them as often as not.
    let turn = rng.below(names.len() as u64) as usize;
    names.rotate_left(turn);
    let (here, away) = names.split_at(names.len() / 2 + 1);
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for name in here.iter().chain(here) {
        let device = device(world, *name);
        let segments = RawSegment::all(&device);
        // The entry behind it shows that what fills it is right, so it is somebody else's, too.
        let free =
            |(_, _, first, last): &Spot| taken.iter().all(|(from, to)| *last + 1 < *from || *first > *to + 1);
        let free: Vec<Spot> = spots(&segments).into_iter().filter(free).collect();
        let Some((nth, at, first, last)) = free.get(rng.below(free.len().max(1) as u64) as usize) else {
            continue;
        };
        zero(&device, &segments[*nth], *at);
        taken.push((*first, *last));
        world.rotten(*name);
    }
    begin(world, here);
    until(world, COMES_BACK_WITHIN, "those that rotted at different places repair each other", || {
        up(world, here)
    })?;
    let agreed = world.truth().last();
    until(world, COMES_BACK_WITHIN, "they go on", || world.truth().last() > agreed)?;
    begin(world, away);
    judge::judge(world);
    Ok(())
}

/// Zeros in place of every batch of the last segment that holds a vote of a term after `term`. The segment as it was.
fn lose_votes_after(device: &Device, term: u64) -> Option<(String, Vec<u8>)> {
    let segments = RawSegment::all(device);
    let last = segments.last()?;
    let number =
        |at: usize| u32::from_le_bytes(last.bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    for at in last.batches() {
        let (mut frame, end) = (at + 128, at + number(at + 12));
        let mut votes = false;
        while frame < end {
            votes |= last.bytes[frame + 8] == 2 && last.u64_at(frame + 24) > term;
            frame += 32 + number(frame);
        }
        if votes {
            zero(device, last, at);
        }
    }
    Some((segment_name(last.number), last.bytes.clone()))
}

/// Nothing passes between `some` and anybody else.
fn cut_off(world: &World, some: &[u64]) {
    let names = world.names();
    let mut ways = world.ways();
    ways.cut.clear();
    for a in &names {
        for b in names.iter().filter(|b| some.contains(a) != some.contains(b)) {
            ways.cut.insert((*a, *b));
        }
    }
}

fn lose_votes(world: &World) -> Result<(), String> {
    at_work(world, 60)?;
    let names = world.names();
    let more = |world: &World, by: u64| {
        let agreed = world.truth().last();
        until(world, COMES_BACK_WITHIN, "more is agreed", || world.truth().last() >= Lsn(agreed.0 + by))
    };
    let (leader, group) = world.leader().ok_or("R0: nobody leads")?;
    let term = group.metrics().term;
    // Some lag, so that what stands behind their lost votes is known to those who never hear of the next leader.
    let followers: Vec<u64> = names.iter().copied().filter(|name| *name != leader).collect();
    let (lag, rest) = followers.split_at(names.len() / 2);
    cut_off(world, lag);
    more(world, 10)?;
    let next = rest[0];
    let others: Vec<u64> =
        names.iter().copied().filter(|name| *name != next && !lag.contains(name)).collect();
    cut_off(world, &others);
    let led = || world.group(next).and_then(|group| group.leads()).is_some_and(|now| now > term);
    until(world, COMES_BACK_WITHIN, "those who lagged elect the one that did not", led)?;
    more(world, 10)?;
    names.iter().for_each(|name| world.end(*name, None));
    let heard = |name: &u64| *name == next || lag.contains(name);
    let those: Vec<u64> = names.iter().copied().filter(heard).collect();
    let lost: BTreeMap<u64, _> = those
        .iter()
        .filter_map(|name| Some((*name, lose_votes_after(&device(world, *name), term)?)))
        .collect();
    those.iter().for_each(|name| world.rotten(*name));
    world.ways().heal();
    begin(world, &names);
    rt::run(rt::now() + COMES_BACK_WITHIN * MS, || world.is_broken());
    if let Some(name) = those.iter().find(|name| world.group(**name).is_some() && !world.is_broken()) {
        return Err(format!("F3: node {name} takes part, and nobody knows in which term it may have voted"));
    }
    world.end(next, None);
    let (file, bytes) = lost[&next].clone();
    world.node(next, |node| node.device.replace(&file, bytes));
    begin(world, &[next]);
    until(world, COMES_BACK_WITHIN, "those who may have lost a vote come back", || up(world, &those))?;
    judge::judge(world);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insist(what: fn(&TrioOptions) -> TrioReport, nodes: u64, seeds: std::ops::Range<u64>) -> u64 {
        let run = |seed| {
            let report = what(&TrioOptions { nodes, ..TrioOptions::new(seed, 0) });
            assert_eq!(report.violations, Vec::<String>::new(), "{nodes} nodes, seed {seed}");
            report.repairs.0
        };
        seeds.map(run).sum()
    }

    #[test]
    fn f3_a_majority_that_rotted_at_different_places_repairs_itself() {
        assert!(insist(apart, 3, 600..606) >= 12);
        assert!(insist(apart, 5, 610..613) >= 9);
    }

    #[test]
    fn f3_a_majority_that_lost_its_votes_waits_and_a_minority_comes_back() {
        assert!(insist(votes, 3, 620..624) >= 4);
        assert!(insist(votes, 5, 630..633) >= 6);
    }
}
