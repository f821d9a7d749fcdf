//! What befalls a node, drawn from the seed.

use super::clock;
use super::world::{End, MS, World};
use crate::disk::{AfterFailure, Death, Faults};
use crate::rt::{self, Rng, sleep};

/// Faults by class that the disk does not count itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Befell {
    /// Clocks moved.
    pub clocks: u64,
    /// Slow spells of the disk.
    pub slow: u64,
    /// Spells without room.
    pub full: u64,
}

/// Do harm until the world is over.
pub async fn nemesis(world: World, seed: u64, befell: std::sync::Arc<std::sync::Mutex<Befell>>) {
    let mut rng = Rng(seed);
    while !world.is_over() {
        sleep(20 * MS + rng.below(400 * MS)).await;
        if world.is_over() {
            return;
        }
        match rng.below(12) {
            0..=2 => {
                let death = [Death::NothingLands, Death::HalfLands, Death::AllLands][rng.below(3) as usize];
                world.device.set_faults(Faults { die_in: Some((rng.below(40), death)), ..Faults::default() });
            }
            3 | 4 => world.end(end(&mut rng)),
            5 => {
                let after = if rng.chance(50) { AfterFailure::KeepsNew } else { AfterFailure::Reverts };
                world
                    .device
                    .set_faults(Faults { sync_fails_in: Some((rng.below(6), after)), ..Faults::default() });
            }
            6 => world.device.set_faults(Faults { write_fails_in: Some(rng.below(6)), ..Faults::default() }),
            7 => world.device.set_faults(Faults { short_write_in: Some(rng.below(6)), ..Faults::default() }),
            8 => {
                befell.lock().unwrap().full += 1;
                world.device.set_capacity(world.device.used() + rng.below(3) * world.options.segment_bytes);
            }
            9 => world.device.set_capacity(u64::MAX),
            10 => {
                befell.lock().unwrap().clocks += 1;
                clock::set_skew(rng.below(60_000) as i64 - 30_000);
            }
            _ => {
                befell.lock().unwrap().slow += 1;
                let spread = [MS / 2, 5 * MS, 60 * MS][rng.below(3) as usize];
                world.node().latency = (MS / 10, spread);
            }
        }
    }
}

/// A dead disk takes its process with it, and somebody always starts the process again.
pub async fn keeper(world: World, seed: u64) {
    let mut rng = Rng(seed);
    loop {
        sleep(MS + rng.below(5 * MS)).await;
        if world.node().alive.is_some() && world.device.is_dead() {
            world.end(end(&mut rng));
        }
        if world.node().alive.is_none() {
            sleep(rng.below(200 * MS)).await;
            if !world.is_over() || rt::chance(50) {
                world.boot();
            }
        }
    }
}

fn end(rng: &mut Rng) -> End {
    match rng.below(4) {
        0 => End::Kill,
        1 => End::Power { keep: 0, garble: false },
        2 => End::Power { keep: 100, garble: false },
        _ => End::Power { keep: rng.below(100), garble: rng.chance(50) },
    }
}
