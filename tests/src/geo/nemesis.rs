//! What befalls regions and their places, drawn from the seed; and the operator, who puts right what no region can.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use engine::event::{Event, Item};
use engine::log::{Digest, Lsn};
use server::ship::bill::Bill;
use server::ship::chunk;
use sha2::{Digest as _, Sha256};

use super::machine::NAMES;
use super::place::{GOOD, Object, Way, stranger};
use super::world::World;
use crate::rt::{self, Owner, Rng, sleep};
use crate::sim::world::MS;

/// Does harm until the world is over.
pub async fn nemesis(world: World) {
    let mut rng = Rng(world.options.seed ^ 0x6E0);
    while !world.state().over {
        sleep(20 * MS + rng.below(700 * MS)).await;
        if world.state().over {
            return;
        }
        let class = befall(&world, &mut rng);
        *world.state().befell.entry(class).or_insert(0) += 1;
    }
}

fn befall(world: &World, rng: &mut Rng) -> &'static str {
    let (count, nodes) = (world.options.regions as u64, world.options.nodes as u64);
    let (region, place) = (rng.below(count) as usize, rng.below(count) as usize);
    let node = rng.below(nodes) as usize;
    let way = |cut, spread| {
        world.state().places.ways.insert((region, place), Way { cut, spread });
    };
    let shelf = |change: &dyn Fn(&mut super::place::Shelf)| change(&mut world.state().places.shelves[place]);
    match rng.below(26) {
        0 | 1 => {
            world.end(region, node);
            "node killed"
        }
        2 => {
            let leader = world.state().regions[region].leader.unwrap_or(0);
            world.end(region, leader);
            "leader killed"
        }
        3 => {
            (0..world.options.nodes).for_each(|node| world.end(region, node));
            "region down"
        }
        4 | 5 => {
            let up = world.state().regions[region].nodes[node].alive.is_some();
            if up {
                world.elect(region, node);
            }
            "lead changed"
        }
        6 => {
            way(true, GOOD.spread);
            "way cut"
        }
        7 => {
            cut_off(world, region);
            "region cut off"
        }
        8 => {
            way(false, [200 * MS, 3_000 * MS, 20_000 * MS][rng.below(3) as usize]);
            "lag"
        }
        9 => {
            shelf(&|shelf| shelf.denied = true);
            "place denied"
        }
        10 if world.options.lies => {
            shelf(&|shelf| shelf.lies = 30);
            "place lies"
        }
        11 => {
            let most = rng.below(60);
            shelf(&|shelf| shelf.mute = most);
            "answers lost"
        }
        12 => {
            shelf(&|shelf| shelf.garbles = 25);
            "reads garbled"
        }
        13 => {
            shelf(&|shelf| shelf.old = 60);
            "old objects"
        }
        14 => {
            let most = [300 * MS, 8_000 * MS][rng.below(2) as usize];
            shelf(&|shelf| shelf.hides = most);
            "seen out of order"
        }
        15 => {
            shelf(&|shelf| shelf.listed = Some(shelf.objects.keys().cloned().collect()));
            "stale listing"
        }
        16 if world.options.lies => {
            lose(world, place, rng);
            "object lost"
        }
        17 => {
            forge(world, place, rng);
            "bill forged"
        }
        18 => {
            swap(world, place, rng);
            "chunk swapped"
        }
        19 => {
            let skew = rng.below(240_000) as i64 - 120_000;
            world.state().regions[region].nodes.iter_mut().for_each(|node| node.skew_ms = skew);
            "clock of a region"
        }
        20 => {
            let skew = rng.below(20_000) as i64 - 10_000;
            world.state().regions[region].nodes[node].skew_ms = skew;
            "clock of a node"
        }
        21 => {
            restore_forged(world);
            "forgeries removed"
        }
        _ => {
            world.state().places.heal();
            "places healed"
        }
    }
}

/// Neither reaches the other's shipments.
fn cut_off(world: &World, region: usize) {
    for ((from, to), way) in world.state().places.ways.iter_mut() {
        if (*from == region) != (*to == region) {
            way.cut = true;
        }
    }
}

/// The place has lost something that it had.
fn lose(world: &World, place: usize, rng: &mut Rng) {
    let shelf = &mut world.state().places.shelves[place];
    let ours = |name: &&String| !shelf.forged.contains_key(*name);
    let names: Vec<String> = shelf.objects.keys().filter(ours).cloned().collect();
    if names.is_empty() {
        return;
    }
    let name = names[rng.below(names.len() as u64) as usize].clone();
    let object = shelf.objects.remove(&name);
    // Half of the time there is a backup of it.
    shelf.missing.insert(name, object.filter(|_| rng.chance(50)));
}

fn own(world: &World, place: usize) -> engine::checkpoint::Signer {
    world.state().regions[place].signer.clone()
}

/// Items that say something else than these.
fn altered(items: &[Item]) -> Option<Vec<Item>> {
    let mut items = items.to_vec();
    let envelope = items.iter_mut().find_map(|item| match item {
        Item::Event { event: Event::Received(envelope), .. } => Some(envelope),
        _ => None,
    })?;
    // An attempt is nothing that anybody signs.
    let at = envelope.body.windows(9).position(|bytes| bytes == b"\"attempt\"")? + 10;
    envelope.body[at] = if envelope.body[at] == b'1' { b'2' } else { b'1' };
    Some(items)
}

/// Somebody puts a bill of their own where the next one will be, or an earlier bill once more.
fn forge(world: &World, place: usize, rng: &mut Rng) {
    let signer = own(world, place);
    let mut state = world.state();
    let shelf = &mut state.places.shelves[place];
    let bills = shelf.froms().into_iter().max().and_then(|from| {
        let object = shelf.objects.get(&Bill::name(Lsn(from)))?;
        Bill::open(&object.bytes, &signer.verifier()).ok()
    });
    let Some(last) = bills else { return };
    let packed = shelf.objects.get(&last.chunk()).map(|object| object.bytes.clone());
    let items = packed.and_then(|packed| chunk::open(&packed, &last).ok());
    let name = Bill::name(last.to.next());
    let (bytes, packed) = match items.and_then(|items| altered(&items)) {
        Some(items) if rng.chance(60) => {
            let from = last.to.next();
            let raw = chunk::encode(from, &items);
            let packed = chunk::pack(&raw).expect("it packs");
            let to = Lsn(last.to.0 + last.to.0 - last.from.0 + 1);
            let digest = Digest(Sha256::digest(&packed).into());
            let (bytes, raw) = (packed.len() as u64, raw.len() as u64);
            let bill = Bill { from, to, digest, bytes, raw, ..last };
            (bill.sign(&[&stranger()]), Some((bill.chunk(), packed)))
        }
        // What was read may itself be an earlier bill put once more.
        _ => match shelf.objects.get(&Bill::name(last.from)) {
            Some(again) => (again.bytes.to_vec(), None),
            None => return,
        },
    };
    for (name, bytes) in [Some((name, bytes)), packed].into_iter().flatten() {
        if !shelf.objects.contains_key(&name) && !shelf.forged.contains_key(&name) {
            shelf.forged.insert(name.clone(), None);
            shelf.objects.insert(name, Object { bytes: bytes.into(), before: None, visible: 0 });
        }
    }
}

/// Somebody puts other contents in the place of a range.
fn swap(world: &World, place: usize, rng: &mut Rng) {
    let signer = own(world, place);
    let mut state = world.state();
    let shelf = &mut state.places.shelves[place];
    let mut froms = shelf.froms();
    // The newest ones: what was read already is read by nobody.
    froms.sort_unstable();
    let Some(from) = froms.iter().rev().nth(rng.below(2) as usize) else { return };
    let bytes = &shelf.objects[&Bill::name(Lsn(*from))].bytes;
    let Ok(bill) = Bill::open(bytes, &signer.verifier()) else { return };
    let Some(object) = shelf.objects.get(&bill.chunk()).cloned() else { return };
    let items = chunk::open(&object.bytes, &bill).ok();
    let Some(items) = items.and_then(|items| altered(&items)) else { return };
    let packed = chunk::pack(&chunk::encode(bill.from, &items)).expect("it packs");
    let other = Object { bytes: packed.into(), ..object.clone() };
    if let Entry::Vacant(first) = shelf.forged.entry(bill.chunk()) {
        first.insert(Some(object));
        shelf.objects.insert(bill.chunk(), other);
    }
}

/// What others put there is taken away, and what they replaced is put back.
fn restore_forged(world: &World) {
    for shelf in &mut world.state().places.shelves {
        for (name, object) in std::mem::take(&mut shelf.forged) {
            match object {
                Some(object) => drop(shelf.objects.insert(name, object)),
                None => drop(shelf.objects.remove(&name)),
            }
        }
    }
}

/// Puts back what there is a backup of, and removes the bills from the first on that is not whole: the region ships them again.
/// Whether there was anything to mend; unless they are `expected`, the place must have lost something for that.
fn mend_place(world: &World, place: usize, expected: bool) -> Result<bool, String> {
    let signer = own(world, place);
    let mut state = world.state();
    let shelf = &mut state.places.shelves[place];
    let missing: BTreeMap<_, _> = std::mem::take(&mut shelf.missing);
    for (name, object) in &missing {
        if let Some(object) = object
            && !shelf.objects.contains_key(name)
        {
            shelf.objects.insert(name.clone(), Object { visible: 0, ..object.clone() });
        }
    }
    let mut next = Lsn(1);
    while let Some(object) = shelf.objects.get(&Bill::name(next)) {
        let bill = Bill::open(&object.bytes, &signer.verifier());
        let bill = bill.map_err(|why| format!("G1: {} has put a bill from {next}: {why}", NAMES[place]))?;
        let there = shelf.objects.get(&bill.chunk());
        if there.is_none_or(|object| Digest(Sha256::digest(&object.bytes).into()) != bill.digest) {
            break;
        }
        next = bill.to.next();
    }
    let behind: Vec<u64> = shelf.froms().into_iter().filter(|from| *from >= next.0).collect();
    if !behind.is_empty() && missing.is_empty() && !expected {
        return Err(format!("G1: {} has left out record {next} and shipped {behind:?}", NAMES[place]));
    }
    for from in &behind {
        shelf.objects.remove(&Bill::name(Lsn(*from)));
    }
    Ok(!behind.is_empty() || !missing.is_empty())
}

/// Everything works again, and an operator has been there.
pub fn heal(world: &World) -> Result<(), String> {
    world.state().places.heal();
    restore_forged(world);
    for region in &mut world.state().regions {
        region.nodes.iter_mut().for_each(|node| node.skew_ms = 0);
    }
    for (region, node) in world.nodes() {
        world.boot(region, node);
    }
    let keep = world.clone();
    rt::spawn(Owner::default(), async move {
        loop {
            sleep(50 * MS).await;
            keep.nodes().into_iter().for_each(|(region, node)| keep.boot(region, node));
        }
    });
    for place in 0..world.options.regions {
        if mend_place(world, place, false)? {
            // A bill that was being put meanwhile stands behind a gap now. Whoever mends a place looks again.
            rt::run(rt::now() + 60_000 * MS, || false);
            mend_place(world, place, true)?;
        }
    }
    Ok(())
}

/// A region is gone for good: its nodes, its disks and its clocks. What it shipped lies where it lies.
pub fn lose_region(world: &World, region: usize) {
    (0..world.options.nodes).for_each(|node| world.end(region, node));
    world.state().regions[region].lost = true;
}
