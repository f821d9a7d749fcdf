//! One life of one node, from opening its log to whatever ends it.

use std::sync::Arc;

use engine::event::Event;
use engine::limits::RECORD_BYTES_MAX;
use engine::log::Lsn;
use raft::{Batch, Group, GroupConfig, Machine, OpenError, Peer, ReadError};

use super::mutants::Mutant;
use super::net::{Net, Starting, Up};
use super::replica::Replica;
use super::rot;
use super::world::World;
use crate::rt::{self, Owner, SimRt, sleep};
use crate::sim::fold::Fold;
use crate::sim::mutants::Mutant as SimMutant;
use crate::sim::workload::settings;
use crate::sim::world::{MS, options};

/// Between two tries of something that the group may allow soon.
const PAUSE: u64 = 20 * MS;

/// See the module.
pub async fn live(world: World, name: u64, owner: Owner) {
    let mutant = world.options.mutant;
    let (device, shared, snapshot, incarnation, join) = world.node(name, |node| {
        (node.device.clone(), node.shared.clone(), node.snapshot.clone(), node.incarnation, node.join)
    });
    rot::before_life(&world, name);
    // A snapshot may always be missing; the log is enough.
    let mut snapshot = snapshot.filter(|_| rt::chance(60));
    if mutant == Mutant::EmptyTable {
        snapshot = snapshot.map(|snapshot| snapshot.without_names());
    }
    let wrong = match mutant {
        Mutant::Fold(wrong) => SimMutant::Fold(wrong),
        _ => SimMutant::None,
    };
    let fold = Fold::new(shared, owner.0, wrong, snapshot, 7);
    let begins = fold.standing().lsn;
    world.node(name, |node| (node.applied, node.begins) = (begins, begins));
    let replica = Replica {
        fold,
        world: world.clone(),
        node: name,
        halted: false,
        diverged: false,
        digests: Default::default(),
    };
    let mut config = GroupConfig::new(name, options(world.options.segment_bytes));
    config.in_flight_bytes = RECORD_BYTES_MAX;
    config.me = world.member(name);
    config.join = join;
    // `cluster.join`: every node but the founder was told of the founder.
    // One whose log names nobody any more, or only nodes that are gone, is told by its operator.
    let mut seeds = world.node(name, |node| node.told.clone());
    if seeds.is_empty() && name != 1 {
        seeds.push(1);
    }
    let peer = |node: u64| Peer { node, address: format!("node-{node}:1"), incarnation: 0 };
    config.seeds = seeds.into_iter().filter(|node| *node != name).map(peer).collect();
    config.transport = Arc::new(Net { world: world.clone(), node: name, incarnation });
    let starting = Starting { owner, door: config.in_repair.clone(), incarnation };
    world.ways().starting.insert(name, starting);
    let hosted = world.clone();
    let opened = Group::<SimRt>::open_on(config, device.attach(), replica, |mut actor| {
        rt::spawn(owner, async move {
            while actor.ready().await {
                let (least, spread) = hosted.node(name, |node| node.latency);
                sleep(least + rt::below(spread.max(1))).await;
                if let Some(pause) = actor.step() {
                    sleep(pause.as_nanos() as u64).await;
                }
            }
        });
        Ok(())
    })
    .await;
    world.ways().starting.remove(&name);
    match opened {
        Ok(group) => {
            let group = Arc::new(group);
            world.ways().up.insert(name, Up { owner, group: group.clone(), incarnation });
            rt::spawn(owner, lead(world.clone(), name, group.clone()));
            rt::spawn(owner, watch(world.clone(), name, group.clone()));
            group.failure().await;
        }
        Err(OpenError::Log(error)) if !device.is_dead() => {
            let corrupt =
                matches!(error, segments::OpenError::Corrupt(_) | segments::OpenError::MissingSegment { .. });
            let missing = matches!(error, segments::OpenError::MissingSegment { .. });
            let first = matches!(&error, segments::OpenError::Corrupt(damage) if damage.segment == 1);
            let hurt = missing || first && world.state().rotten.contains(&name);
            let told = world.node(name, |node| !node.told.is_empty());
            if corrupt && (!hurt || told) {
                world.violation(format!("S1: the log of node {name} does not open: {error}"));
            } else if corrupt {
                rot::tell(&world, name);
            }
        }
        Err(error) => tracing::warn!(node = name, %error, "it does not open"),
    }
    if !device.is_dead() {
        world.end_soon(name, None);
    }
}

/// What a node does when it begins to lead, as `server/src/lead.rs` does it.
async fn lead(world: World, name: u64, group: Arc<Group<SimRt>>) {
    let mut was = None;
    loop {
        was = group.leads_unlike(was).await;
        world.node(name, |node| node.leading = None);
        let Some(term) = was else { continue };
        world.truth().leads(name, term);
        loop {
            match group.read_index().await {
                Ok(_) => break,
                Err(ReadError::Stopped) => return,
                Err(_) if group.leads() != Some(term) => break,
                Err(_) => sleep(PAUSE).await,
            }
        }
        // Refused only when it leads no more; the next one tries.
        let _ = group.finish_change().await;
        let shared = world.node(name, |node| node.shared.clone());
        let (configured, log_ms) = {
            let shared = shared.lock().unwrap();
            (shared.configured, shared.log_time_ms)
        };
        if !configured {
            let events = settings(world.wall_ms(name).max(log_ms));
            let proposed = group.propose(Batch { events: events.into(), local: None }).await;
            if proposed.is_err() {
                continue;
            }
        }
        if world.node(name, |node| node.diverged) {
            // One that computed something else would have all others stop themselves.
            world.end_soon(name, None);
        } else if group.leads() == Some(term) {
            world.node(name, |node| node.leading = Some(term));
        }
    }
}

/// Attests while it leads, and looks that nothing goes backwards.
async fn watch(world: World, name: u64, group: Arc<Group<SimRt>>) {
    let mut before = (0, Lsn::ZERO, Lsn::ZERO, Lsn::ZERO);
    loop {
        sleep(200 * MS + rt::below(200 * MS)).await;
        let now = group.metrics();
        let now = (now.term, now.committed, now.applied, now.durable.min(now.applied));
        if now.0 < before.0 || now.1 < before.1 || now.2 < before.2 || now.3 < before.3 {
            world.violation(format!("R9: node {name} went from {before:?} back to {now:?}"));
        }
        before = now;
        let (leading, attest) =
            world.node(name, |node| (node.leading.is_some(), node.leading.and_then(|_| node.attest.take())));
        if leading {
            believes(&world, name, &group);
        }
        if let Some(attested) = attest {
            let batch = Batch { events: vec![Event::Attested(attested)].into(), local: None };
            // Another one leads, or the disk is full: the next one attests.
            let _ = rt::timeout(1_000 * MS, group.submit(batch)).await;
        }
    }
}

/// What a leader believes that others hold, they have said.
fn believes(world: &World, name: u64, group: &Group<SimRt>) {
    let members = group.members();
    // What it holds of a node that has lost its disk since is an older story, and harmless: that one is refused.
    let here =
        |member: &raft::MemberStanding| world.node(member.node, |node| node.incarnation == node.known_as);
    let members: Vec<_> = members.into_iter().filter(here).collect();
    let truth = world.truth();
    for member in members.into_iter().filter(|member| member.node != name) {
        let (Some(matched), Some(term)) = (member.matched, group.leads()) else { continue };
        let said = truth.said(member.node);
        if said.is_none_or(|said| said.term <= term && said.lsn < matched.0) {
            drop(truth);
            return world.violation(format!(
                "R9: leader {name} believes that node {} holds {matched}, which said {said:?}",
                member.node
            ));
        }
    }
}
