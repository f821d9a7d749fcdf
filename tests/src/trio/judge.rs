//! After the harm: everything is healed, all must converge and take something new, and then every log is read
//! by whoever had no part in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::world::World;
use super::{clients, look, mistreat, operator, rot};
use crate::checkers;
use crate::rt;
use crate::sim::world::MS;
use crate::sim::{history::Sight, read};

/// How long a healed group may take, milliseconds of virtual time: elections, and a change that was under way.
const CONVERGES_WITHIN: u64 = 60_000;
/// How long it may take to answer then.
const ANSWERS_WITHIN: u64 = 10_000;

/// No more clients and no more harm; everybody is there.
fn heal(world: &World) {
    world.state().over = true;
    world.ways().heal();
    for name in world.names() {
        world.mend(name);
        let (alive, over) = world.node(name, |node| (node.alive, node.diverged || node.device.is_dead()));
        alive.into_iter().for_each(rt::resume);
        if over {
            world.end(name, Some(0));
        }
        world.boot(name);
    }
}

/// Everybody has applied what the leader has, and nobody is on his way in or out.
fn has_converged(world: &World) -> bool {
    let Some((_, leader)) = world.leader() else { return false };
    let last = leader.metrics().last;
    let state = world.state();
    let idle = !state.busy && state.wishes.is_empty();
    let present = state.nodes.values().filter(|node| !node.off);
    idle && present.into_iter().all(|node| node.applied == last && !node.diverged)
}

fn converge(world: &World) -> bool {
    let done = || has_converged(world) || world.is_broken();
    rt::run(rt::now() + CONVERGES_WITHIN * MS, done);
    if !done() && rot::tell_those_who_wait(world) {
        rt::run(rt::now() + CONVERGES_WITHIN * MS, done);
    }
    if !done() {
        replace_those_beyond_repair(world);
        rt::run(rt::now() + CONVERGES_WITHIN * MS, done);
    }
    let standing: Vec<_> = world
        .names()
        .into_iter()
        .map(|name| {
            (name, world.group(name).map(|group| group.metrics().role), world.node(name, |node| node.applied))
        })
        .collect();
    if !has_converged(world) && !world.is_broken() {
        let busy = world.state().busy;
        world
            .violation(format!("R0: the healed group does not converge: {standing:?}, operator busy {busy}"));
    }
    !world.is_broken()
}

/// What the operator does with a node that says that nobody can repair its log.
fn replace_those_beyond_repair(world: &World) {
    for name in rot::beyond_repair(world) {
        let (over, told) = (Arc::new(AtomicBool::new(false)), world.clone());
        let done = over.clone();
        rt::spawn(rt::Owner::default(), async move {
            operator::give_up(told, name).await;
            done.store(true, Ordering::Relaxed);
        });
        rt::run(rt::now() + CONVERGES_WITHIN * MS, || over.load(Ordering::Relaxed) || world.is_broken());
    }
}

/// What nobody had to read may be rotten still.
fn scrubbed(world: &World) -> bool {
    let begun = rt::now();
    while !rot::rotten(world).is_empty() {
        if rt::now() > begun + CONVERGES_WITHIN * MS {
            let rotten = rot::rotten(world);
            world.violation(format!("F3: the healed group does not repair {rotten:?}"));
            return false;
        }
        rot::scrub(world);
        rt::run(rt::now() + 2_000 * MS, || world.is_broken());
        if world.is_broken() {
            return false;
        }
    }
    converge(world)
}

/// See the module.
pub fn judge(world: &World) {
    heal(world);
    if !converge(world) || !scrubbed(world) {
        return;
    }
    let answered = Arc::new(Mutex::new(false));
    clients::probe(world, answered.clone());
    rt::run(rt::now() + ANSWERS_WITHIN * MS, || *answered.lock().unwrap() || world.is_broken());
    if !*answered.lock().unwrap() {
        return world.violation("R0: the healed group answers nobody".into());
    }
    if converge(world) {
        read_logs(world);
    }
}

fn read_logs(world: &World) {
    let names = world.names();
    names.iter().for_each(|name| world.end(*name, Some(0)));
    let (mut first, mut frames): (Option<Sight>, Option<mistreat::Entries>) = (None, None);
    for name in names {
        let device = world.node(name, |node| node.device.clone());
        let sight = match read::sight(&device, world.options.segment_bytes) {
            Ok(sight) => sight,
            Err(error) => {
                return world.violation(format!("S1: the log of node {name} does not open: {error}"));
            }
        };
        // Frame by frame, and not only what they come to.
        match (&frames, mistreat::entries(&device, world.options.segment_bytes)) {
            (None, Ok(entries)) => frames = Some(entries),
            (Some(first), Ok(entries)) if *first == entries => {}
            _ => world.violation(format!("F3: the log of node {name} holds other frames")),
        }
        let sealed = world.sealed(name);
        let checks = [
            checkers::once_failed::check(&device.suffered()),
            checkers::sealed_is_committed::check_of_many(&device, &sight),
            checkers::sealed_is_final::check(&sealed, &device),
            checkers::chained::check(&device),
            look::votes_only_rise(&world.options, &device),
        ];
        let broken: Vec<String> = checks.into_iter().filter_map(Result::err).collect();
        broken.into_iter().for_each(|broken| world.violation(format!("node {name}: {broken}")));
        match &first {
            None => first = Some(sight),
            Some(first) if first.records == sight.records && first.leaves == sight.leaves => {}
            Some(_) => world.violation(format!("I3: the log of node {name} folds to something else")),
        }
    }
    let Some(sight) = first else { return };
    let truth = world.truth();
    let history = &truth.history;
    let checks = [
        checkers::prefix::check(history, &sight),
        checkers::durable::check(history, &sight),
        checkers::verify_before_dedup::check(history, &sight),
        checkers::first_write_wins::check(history, &sight),
        checkers::log_before_parse::check(history, &sight),
        checkers::tenants_apart::check(&sight),
        checkers::tree_append_only::check(history, &sight),
        checkers::one_canon::check(&sight),
    ];
    let lost = (history.applied.len() != sight.records.len()).then(|| {
        format!("R7: {} records were agreed, the logs hold {}", history.applied.len(), sight.records.len())
    });
    drop(truth);
    checks.into_iter().filter_map(Result::err).chain(lost).for_each(|broken| world.violation(broken));
}
