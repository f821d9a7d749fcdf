//! Does what the plan says, until the world is over.

use super::plan::{self, Event, Whom};
use super::world::World;
use super::{look, rot};
use crate::rt::{self, Owner, Rng, sleep};
use crate::sim::world::MS;

/// Follow the plan.
pub async fn nemesis(world: World) {
    for nth in 0.. {
        let (pause, event) = plan::event(world.options.seed, nth, world.options.rot);
        sleep(pause).await;
        let mut state = world.state();
        if state.over {
            return;
        }
        state.events.0 = nth + 1;
        // What is left out takes its time all the same, so that the others come when they came.
        if world.options.only.as_ref().is_some_and(|only| !only.contains(&nth)) {
            continue;
        }
        drop(state);
        let class = event.class();
        if befall(&world, event) {
            *world.state().events.1.entry(class).or_insert(0) += 1;
        }
    }
}

/// A dead disk takes its process with it, and somebody always starts the process again.
pub async fn keeper(world: World) {
    let mut rng = Rng(world.options.seed ^ 2);
    loop {
        sleep(MS + rng.below(40 * MS)).await;
        for name in world.names() {
            let (alive, dead) = world.node(name, |node| (node.alive.is_some(), node.device.is_dead()));
            if alive && dead {
                world.end(name, Some([0, 100, 50][rng.below(3) as usize]));
            } else if !alive && rng.chance(20) {
                world.boot(name);
            }
        }
    }
}

fn who(world: &World, whom: Whom) -> u64 {
    let names = world.names();
    match whom {
        Whom::Leader => world.leader().map_or(names[0], |(name, _)| name),
        Whom::Nth(n) => names[n as usize % names.len()],
    }
}

/// Whether it did anything.
fn befall(world: &World, event: Event) -> bool {
    let names = world.names();
    match event {
        Event::Rot(whom, ..) => return rot::befall(world, who(world, whom), &event),
        Event::Kill(whom) => world.end(who(world, whom), None),
        Event::Power(whom, keep) => world.end(who(world, whom), Some(keep)),
        Event::PowerOfAll(keep) => power_of_all(world, keep),
        Event::Storm(times) => rt::spawn(Owner::default(), storm(world.clone(), times)),
        Event::Pause(whom, nanos) => pause(world, who(world, whom), nanos),
        Event::Disk(whom, faults) => world.node(who(world, whom), |node| node.device.set_faults(faults)),
        Event::Full(whom, segments) => {
            let more = segments * world.options.segment_bytes;
            world.node(who(world, whom), |node| node.device.set_capacity(node.device.used() + more));
        }
        Event::Room => {
            names.iter().for_each(|name| world.node(*name, |node| node.device.set_capacity(u64::MAX)));
        }
        Event::Slow(whom, spread) => {
            world.node(who(world, whom), |node| node.latency = (MS / 10, spread));
        }
        Event::Clock(whom, skew_ms) => world.node(who(world, whom), |node| node.skew_ms = skew_ms),
        Event::AfterAck(whom) => world.node(who(world, whom), |node| node.dies_after.0 = true),
        Event::AfterSnapshot(whom) => world.node(who(world, whom), |node| node.dies_after.1 = true),
        Event::HandOver => {
            if let Some((_, leader)) = world.leader() {
                rt::spawn(Owner::default(), async move {
                    let _ = leader.hand_over(None, std::time::Duration::from_secs(1)).await;
                });
            }
        }
        Event::Diverge(n) => {
            let followers: Vec<u64> =
                names.into_iter().filter(|name| world.node(*name, |node| node.leading.is_none())).collect();
            if let Some(name) = followers.get(n as usize % followers.len().max(1)) {
                world.node(*name, |node| node.strike = true);
            }
        }
        Event::Grow | Event::Shrink(_) | Event::Replace(_) => {
            let mut state = world.state();
            // One thing at a time; who is busy is not asked.
            if !state.busy && state.wishes.is_empty() {
                state.wishes.push_back(event);
            }
        }
        Event::OneWay(..) | Event::Alone(_) | Event::Halves(_) | Event::Bridge(_) => cut(world, event),
        Event::Rough(loss, twice, spread) => {
            let mut ways = world.ways();
            (ways.loss, ways.twice, ways.delay) = (loss, twice, (MS / 10, spread));
        }
        Event::Open => world.ways().heal(),
    }
    true
}

fn cut(world: &World, event: Event) {
    let names = world.names();
    let pairs = || names.iter().flat_map(|a| names.iter().map(move |b| (*a, *b)));
    let cut: Vec<(u64, u64)> = match event {
        Event::OneWay(whom, other) => {
            let (from, to) = (who(world, whom), names[other as usize % names.len()]);
            vec![(from, to)]
        }
        Event::Alone(whom) => {
            let one = who(world, whom);
            pairs().filter(|(a, b)| *a == one || *b == one).collect()
        }
        Event::Halves(bits) => pairs().filter(|(a, b)| bits >> a & 1 != bits >> b & 1).collect(),
        Event::Bridge(whom) => {
            let one = who(world, whom);
            pairs().filter(|(a, b)| *a != one && *b != one).collect()
        }
        _ => Vec::new(),
    };
    world.ways().cut.extend(cut);
}

/// All at once; and what was agreed must be on a majority of disks at that moment.
fn power_of_all(world: &World, keep: u64) {
    let (last, sets) = {
        let truth = world.truth();
        (truth.last(), truth.voters(truth.last()))
    };
    if world.state().set_up && rt::chance(world.options.watch) {
        // What a rotten one lacks it must get back before it counts.
        let rotten = rot::rotten(world);
        let tip = |name: &u64| {
            let device = world.node(*name, |node| node.device.clone());
            world.has_lost_its_disk(*name)
                || rotten.contains(name)
                || look::durable_tip(&world.options, &device).is_ok_and(|tip| tip >= last)
        };
        let majority = |set: &Vec<u64>| 2 * set.iter().filter(|name| tip(name)).count() > set.len();
        // While voters change, one of the two sets may have decided.
        if !sets.iter().any(majority) {
            world.violation(format!("S1: record {last} is agreed, and no majority of {sets:?} holds it"));
        }
    }
    world.names().into_iter().for_each(|name| world.end(name, Some(keep)));
}

async fn storm(world: World, times: u64) {
    for _ in 0..times {
        for name in world.names() {
            if !world.state().over {
                world.end(name, if rt::chance(50) { Some(50) } else { None });
                world.boot(name);
            }
        }
        sleep(50 * MS + rt::below(500 * MS)).await;
    }
}

fn pause(world: &World, name: u64, nanos: u64) {
    let Some(owner) = world.node(name, |node| node.alive) else { return };
    rt::pause(owner);
    rt::spawn(Owner::default(), async move {
        sleep(nanos).await;
        rt::resume(owner);
    });
}
