//! After everything is healed: one truth, in bounded time, and what a replay from nothing says.

use engine::log::Lsn;
use server::ship::bill::Bill;

use super::machine::{Machine, NAMES, Said};
use super::mutants::Mutant;
use super::world::{Region, World, cosigner};
use super::{nemesis, rule};
use crate::checkers::{merge, regions_converge, ship_in_order};
use crate::regions::{Says, Seen, Sight};
use crate::rt;
use crate::sim::workload::{Flaw, Submission, tenant_id};
use crate::sim::world::MS;
use engine::ledger::First;

/// How long regions may take to agree once everything works, milliseconds of virtual time.
const AGREES_WITHIN: u64 = 180_000;

/// See the module.
pub fn judge(world: &World) {
    world.state().over = true;
    // What is under way comes to its end.
    rt::run(rt::now() + 5_000 * MS, || false);
    if let Err(broken) = nemesis::heal(world) {
        return world.violation(broken);
    }
    let end = rt::now() + AGREES_WITHIN * MS;
    // To look is dear, and nothing hangs on the moment.
    while rt::now() < end && !world.is_broken() && agree(world).is_err() {
        rt::run(rt::now() + 250 * MS, || world.is_broken());
    }
    if world.is_broken() {
        return;
    }
    if let Err(why) = agree(world) {
        return world.violation(format!("G2: healed, and not one truth after {AGREES_WITHIN} ms: {why}"));
    }
    let broken = look(world);
    broken.into_iter().for_each(|broken| world.violation(broken));
}

/// Does every region that is left know everything, and is it proven to?
fn agree(world: &World) -> Result<(), String> {
    let state = world.state();
    let left: Vec<usize> = (0..state.regions.len()).filter(|region| !state.regions[*region].lost).collect();
    // Who is not believed says more than that there are two truths.
    for region in &left {
        let mut origins = state.regions[*region].observer.ledger.origins();
        if let Some((name, why)) =
            origins.find_map(|origin| Some((origin.region().to_owned(), origin.quarantine()?)))
        {
            return Err(format!("{} does not believe {name}: {why:?}", NAMES[*region]));
        }
    }
    for region in &left {
        let one = &state.regions[*region];
        for (other, origin) in state.regions.iter().enumerate().filter(|(other, _)| other != region) {
            let known = one.observer.position(other);
            if origin.lost {
                let shelf = &state.places.shelves[other];
                let last = shelf.froms().into_iter().max().and_then(|from| {
                    let object = shelf.objects.get(&Bill::name(Lsn(from)))?;
                    Bill::open(&object.bytes, &origin.signer.verifier()).ok()
                });
                let shipped = last.map_or(Lsn(1), |bill| bill.to.next());
                // The place may have lost since what is here.
                if known.lsn < shipped {
                    return Err(format!(
                        "{} is lost and had shipped up to {shipped}, {} has {known:?}",
                        NAMES[other], NAMES[*region]
                    ));
                }
                continue;
            }
            let (ours, theirs) = (one.observer.digests().1, origin.observer.digests().1);
            if ours != theirs {
                return Err(format!(
                    "{} has {known:?} of {} records of {}",
                    NAMES[*region],
                    origin.agreed.len(),
                    NAMES[other]
                ));
            }
            let proven = one.observer.proven.get(cosigner(other).witness().name()).copied().unwrap_or(0);
            if proven < one.observer.newest || one.observer.newest < one.observer.ledger.tree().size() {
                let newest = one.observer.newest;
                return Err(format!("{} of {newest} entries of {} are proven", proven, NAMES[*region]));
            }
        }
        // Every node has all of it.
        let level = |node: &super::world::Node| node.machine.ledger.applied().0 == one.agreed.len() as u64;
        if !one.nodes.iter().all(level) {
            return Err(format!("nodes of {} are behind", NAMES[*region]));
        }
    }
    Ok(())
}

fn look(world: &World) -> Vec<String> {
    let state = world.state();
    let mut broken = Vec::new();
    for (number, region) in state.regions.iter().enumerate() {
        if let Err(why) = replay(number, region) {
            broken.push(why);
        }
    }
    let whole = state.regions.iter().all(|region| !region.lost);
    let sight =
        Sight(state.regions.iter().enumerate().map(|(n, region)| seen(n, region, &state.regions)).collect());
    broken.extend(ship_in_order::check(&sight).err());
    if whole {
        broken.extend(regions_converge::check(&sight).err());
        broken.extend(merge::check(&sight).err());
    }
    broken.extend(rule::check(&state.regions, &state.told).err());
    broken
}

/// The same log from nothing, by a machine that nobody has tampered with.
fn replay(number: usize, region: &Region) -> Result<(), String> {
    let mut machine = Machine::new(number, Mutant::None);
    let mut says: Vec<Vec<Said>> = Vec::new();
    for events in &region.agreed {
        let said = machine.apply(events, 0, &mut |_| ());
        says.push(said.map_err(|why| format!("I3: {} again: {why}", NAMES[number]))?);
    }
    if machine.digests() != region.observer.digests() {
        return Err(format!("I3: {} folded again has another digest", NAMES[number]));
    }
    match says.iter().zip(&region.says).position(|(again, said)| again != said) {
        Some(at) => Err(format!("I3: {} says something else of record {} again", NAMES[number], at + 1)),
        None => Ok(()),
    }
}

fn seen(number: usize, region: &Region, all: &[Region]) -> Seen {
    let ledger = &region.observer.ledger;
    let others = (0..all.len()).filter(|other| *other != number);
    Seen {
        name: NAMES[number].to_owned(),
        log: region.agreed.clone(),
        shipped: region.shipped.clone(),
        known: others.map(|other| (NAMES[other].to_owned(), region.observer.position(other))).collect(),
        firsts: region.firsts.clone(),
        now_ms: ledger.log_time_ms(),
        says: says(region, number),
        conflicts: ledger.region_conflicts().map(|(_, _, count)| count).sum(),
        merged: region.observer.digests().1,
    }
}

fn says(region: &Region, number: usize) -> Vec<Says> {
    let ledger = &region.observer.ledger;
    let names = (0..3).flat_map(|tenant| (0..12_u16).map(move |name| (tenant, name)));
    names
        .map(|(tenant, name)| {
            let sent = Submission { tenant, name, variant: 0, attempt: 0, flaw: Flaw::None };
            let pcs = sent.body();
            let pcs = engine::summary::parse(&pcs).expect("a whole body");
            let id = engine::summary::PcsId::from_hex(&pcs.pcs_id).expect("an id");
            let key = First::key_of(&tenant_id(tenant), &id.0);
            let first = ledger.first_of(&key).expect("a table in memory");
            let place =
                |first: First| (ledger.region_of(&first).unwrap_or(NAMES[number]).to_owned(), first.seq);
            (key, first.map(place))
        })
        .collect()
}
