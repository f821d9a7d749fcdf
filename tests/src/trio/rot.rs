//! Rot: durable bytes of a node's log that are not what was written any more, or that the disk does not give.
//!
//! - Atlas: as many nodes of each set of voters as the group can do without may be rotten at a time, and a node is, from
//!   the moment it is hurt until all of its log reads as a new process would read it. So what was agreed is whole on all
//!   others, and the group must come back and lack nothing.
//! - Only what is known to have been durable rots: of the very last batch nobody can say whether a crash tore it
//!   (`docs/decisions/repair.md`). The manifest is let alone for the same reason: it is not repaired. So are, of what is
//!   not sealed, logs that end in entries which nobody agreed to.
//! - More nodes than that, at different places: see `together`.

use std::ops::Range;

use engine::limits::BLOCK;
use segments::{Disk as _, segment_name};

use super::plan::{Before, Decay, Event};
use super::world::World;
use super::{look, mistreat};
use crate::checkers::RawSegment;
use crate::disk::{Death, Device, Faults};
use crate::rt::{self, Rng};

/// Something in a log that was durable.
#[derive(Clone, Debug)]
struct Spot {
    segment: u64,
    bytes: Range<usize>,
    /// A batch; otherwise all of a sealed segment's file.
    batch: bool,
    /// In a segment that is not sealed.
    open: bool,
}

/// What of a log is known to be durable, by its own marks.
fn durable(device: &Device) -> Vec<Spot> {
    // What a power loss would leave.
    let segments = RawSegment::all(&device.image());
    let (mut batches, mut proven) = (Vec::new(), 0);
    let mut spots = Vec::new();
    for segment in &segments {
        let open = segment.footer().is_none();
        if !open {
            let bytes = 0..segment.bytes.len();
            spots.push(Spot { segment: segment.number, bytes, batch: false, open });
        }
        for at in segment.batches() {
            let length =
                u32::from_le_bytes(segment.bytes[at + 8..at + 12].try_into().expect("four")) as usize;
            proven = proven.max(segment.u64_at(at + 48));
            let spot = Spot { segment: segment.number, bytes: at..at + length, batch: true, open };
            batches.push((segment.u64_at(at + 40), spot));
        }
    }
    spots.extend(batches.into_iter().filter(|(number, _)| *number <= proven).map(|(_, spot)| spot));
    spots
}

/// Hurts what is durable on this disk. Whether anything there is another one now.
fn hurt(device: &Device, decay: Decay, (running, unsealed): (bool, bool), rng: &mut Rng) -> bool {
    let mut spots = durable(device);
    spots.retain(|spot| unsealed || !spot.open);
    let of = |rng: &mut Rng, which: &dyn Fn(&&Spot) -> bool| {
        let some: Vec<&Spot> = spots.iter().filter(which).collect();
        some.get(rng.below(some.len().max(1) as u64) as usize).copied().cloned()
    };
    // What is not sealed as often as all others together.
    let open = rng.chance(50);
    let batch = |rng: &mut Rng| of(rng, &|spot| spot.batch && spot.open == open);
    let sealed = |rng: &mut Rng| of(rng, &|spot| !spot.batch);
    let whole = rng.chance(20);
    let Some(spot) = (if whole { sealed(rng) } else { batch(rng) }) else { return false };
    let name = segment_name(spot.segment);
    let before = device.bytes(&name).expect("it is there");
    let change = |range: Range<usize>, to: &mut dyn FnMut(usize) -> u8| {
        range.for_each(|at| device.rot(&name, at, before[at] ^ to(at)));
    };
    let block = spot.bytes.start + rng.below((spot.bytes.len() / BLOCK) as u64) as usize * BLOCK;
    match decay {
        Decay::Bit => {
            let (at, bit) = (block + rng.below(BLOCK as u64) as usize, 1 << rng.below(8));
            change(at..at + 1, &mut |at| before[at] ^ bit);
        }
        Decay::Garbled => {
            let sector = block + rng.below(8) as usize * 512;
            let range = if rng.chance(50) { sector..sector + 512 } else { block..block + BLOCK };
            change(range, &mut |_| rng.draw() as u8);
        }
        Decay::Zeroed => change(block..(block + 3 * BLOCK).min(spot.bytes.end), &mut |_| 0),
        Decay::Swapped | Decay::Elsewhere => {
            let Some(other) = of(rng, &|spot| spot.batch) else { return false };
            let theirs = device.bytes(&segment_name(other.segment)).expect("it is there");
            let length = other.bytes.len().min(spot.bytes.len());
            let (here, there) = (spot.bytes.start, other.bytes.start);
            if here == there && spot.segment == other.segment {
                return false;
            }
            change(here..here + length, &mut |at| theirs[there + at - here]);
            // Its own place has what was written to the other one, or what was there before.
            let lost = decay == Decay::Elsewhere;
            for at in 0..length {
                let new = if lost { 0 } else { before[here + at] };
                device.rot(&segment_name(other.segment), there + at, theirs[there + at] ^ new);
            }
        }
        Decay::Unreadable => {
            device.make_unreadable(&name, block..block + [512, BLOCK][rng.below(2) as usize]);
            return true;
        }
        Decay::Gone => {
            let Some(spot) = sealed(rng).filter(|_| !running) else { return false };
            device.lose_file(&segment_name(spot.segment));
            return true;
        }
    }
    device.bytes(&name) != Some(before)
}

/// Does what the plan says, if the atlas allows it; whether it did.
pub fn befall(world: &World, name: u64, event: &Event) -> bool {
    let Event::Rot(_, before, decay, seed) = event else { return false };
    if !may(world, name) {
        return false;
    }
    match before {
        Before::Running => {}
        Before::Killed => world.end(name, None),
        Before::WithoutPower => world.end(name, Some(50)),
    }
    let (device, running) = world.node(name, |node| (node.device.clone(), node.alive.is_some()));
    let mut rng = Rng(*seed);
    // One whose log ends in entries that nobody agreed to waits for somebody who has them.
    let unsealed = !running && ends_in_what_is_agreed(world, &device);
    let changed = hurt(&device, *decay, (running, unsealed), &mut rng);
    if changed {
        world.rotten(name);
        if !running && rng.chance(50) {
            let death = [Death::NothingLands, Death::HalfLands, Death::AllLands][rng.below(3) as usize];
            let in_repair = (rng.below(14), death);
            device.set_faults(Faults { die_in_repair: Some(in_repair), ..Faults::default() });
        }
    }
    changed
}

/// Is all of this log agreed?
fn ends_in_what_is_agreed(world: &World, device: &Device) -> bool {
    let entries = mistreat::entries(device, world.options.segment_bytes).unwrap_or_default();
    let Some((lsn, (term, _))) = entries.last_key_value() else { return false };
    world.truth().history.applied.get(lsn).is_some_and(|record| record.term == *term)
}

/// The nodes that are rotten now: those that were hurt and do not read whole yet.
pub fn rotten(world: &World) -> Vec<u64> {
    let hurt: Vec<u64> = world.state().rotten.iter().copied().collect();
    for name in hurt {
        let (device, off) = world.node(name, |node| (node.device.clone(), node.off));
        if off || look::durable_tip(&world.options, &device).is_ok() {
            world.state().rotten.remove(&name);
        }
    }
    world.state().rotten.iter().copied().collect()
}

/// Can the group do without this one too?
fn may(world: &World, name: u64) -> bool {
    let mut without = rotten(world);
    without.extend(world.names().into_iter().filter(|name| world.has_lost_its_disk(*name)));
    without.push(name);
    let truth = world.truth();
    truth.voters(truth.last()).iter().all(|set| {
        let missing = set.iter().filter(|voter| without.contains(voter)).count();
        missing <= (set.len() - 1) / 2
    })
}

/// What the operator does when all else is healed: sealed segments are read, and what is damaged is repaired, while the
/// node runs or by a start that reads everything.
pub fn scrub(world: &World) {
    for name in rotten(world) {
        let (device, group) = (world.node(name, |node| node.device.clone()), world.group(name));
        if let Some(group) = group.filter(|_| rt::chance(50)) {
            let sealed = group.metrics().sealed;
            let damaged = |number: &u64| {
                let bytes = device.bytes(&segment_name(*number));
                bytes.is_none_or(|bytes| segments::check_sealed_bytes(&bytes, *number).is_err())
            };
            let damaged: Vec<u64> = (1..=sealed).filter(damaged).collect();
            rt::spawn(rt::Owner::default(), async move {
                for number in damaged {
                    // What is not repaired now is by the next start.
                    let _ = group.mend(number, "found by the scrubber").await;
                }
            });
        } else {
            world.end(name, None);
            world.node(name, |node| node.snapshot = None);
            world.boot(name);
        }
    }
}

/// An operator names the members to a node that is in repair and knows none of them.
pub fn tell(world: &World, name: u64) {
    let truth = world.truth();
    let voters = truth.voters(truth.last());
    let told: Vec<u64> = voters.iter().flatten().copied().collect();
    drop(truth);
    world.node(name, |node| node.told = told);
}

/// Does so with all that still wait when everything is healed, and starts them again. Whether there were any.
pub fn tell_those_who_wait(world: &World) -> bool {
    let mut waiting = rotten(world);
    waiting.retain(|name| world.group(*name).is_none());
    for name in &waiting {
        tell(world, *name);
        world.end(*name, None);
        world.boot(*name);
    }
    !waiting.is_empty()
}

/// The nodes that wait although they know whom to ask, because of what is said in [`is_beyond_repair`].
pub fn beyond_repair(world: &World) -> Vec<u64> {
    let mut waiting = rotten(world);
    waiting.retain(|name| {
        world.group(*name).is_none() && is_beyond_repair(&world.node(*name, |node| node.device.clone()))
    });
    waiting
}

/// Whether somewhere the end of a segment and the beginning of the next one are both damaged: then nothing on this disk
/// says what the first of them was called, and the node is to be replaced (`docs/decisions/repair.md`).
fn is_beyond_repair(device: &Device) -> bool {
    let mut disk = device.image().attach();
    let last = disk
        .list()
        .unwrap_or_default()
        .iter()
        .filter_map(|name| name.strip_suffix(".seg")?.parse().ok())
        .max();
    let mut is_good = |number: u64, magic: &[u8; 8], footer: bool| {
        let Ok(file) = disk.open(&segment_name(number)) else { return false };
        let at = disk.len(file).map(|len| if footer { len - BLOCK as u64 } else { 0 });
        let mut block = [0; BLOCK];
        let read = at.and_then(|at| disk.read(file, at, &mut block));
        let mut sum = crc32fast::Hasher::new();
        sum.update(&block[..8]);
        sum.update(&block[12..]);
        read.is_ok() && block.starts_with(magic) && block[8..12] == sum.finalize().to_le_bytes()
    };
    (1..last.unwrap_or(0))
        .any(|number| !is_good(number, b"FLKSEAL\0", true) && !is_good(number + 1, b"FLKSEGMT", false))
}

/// Before a node opens its log: what a wrong repair makes of it.
pub fn before_life(world: &World, name: u64) {
    if world.state().rotten.contains(&name) {
        let others = world.names().into_iter().filter(|other| *other != name);
        let others: Vec<Device> = others.map(|other| world.node(other, |node| node.device.clone())).collect();
        let device = world.node(name, |node| node.device.clone());
        mistreat::mistreat(&world.options, &device, &others);
    }
}
