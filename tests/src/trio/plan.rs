//! What befalls a group, drawn from the seed: an endless list whose n-th event is the same whatever came of
//! those before it, so that single events can be left out.

use crate::disk::{AfterFailure, Death, Faults, Point};
use crate::rt::Rng;
use crate::sim::world::MS;

/// Whom an event befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Whoever leads.
    Leader,
    /// One of all, by number.
    Nth(u64),
}

/// How a node goes down before its disk rots, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It does not.
    Running,
    /// Its process dies.
    Killed,
    /// Its power goes.
    WithoutPower,
}

/// What rot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// One bit is another one.
    Bit,
    /// A sector or a block is anything.
    Garbled,
    /// Up to three blocks are zeros.
    Zeroed,
    /// Two batches stand in each other's place.
    Swapped,
    /// A batch was written in the place of another one, and never in its own.
    Elsewhere,
    /// The disk does not give a sector or a block, until it is written again.
    Unreadable,
    /// A sealed segment's file is gone.
    Gone,
}

/// One event.
#[derive(Clone, Debug)]
pub enum Event {
    /// The process dies.
    Kill(Whom),
    /// The power goes; so many of a hundred unsynced sectors survive.
    Power(Whom, u64),
    /// The power of all goes at once.
    PowerOfAll(u64),
    /// All die again and again within seconds.
    Storm(u64),
    /// The process stands still for so long, nanoseconds.
    Pause(Whom, u64),
    /// The disk fails in this way next.
    Disk(Whom, Faults),
    /// No room on the disk for so many more segments.
    Full(Whom, u64),
    /// Room again, everywhere.
    Room,
    /// Writes take up to so long, nanoseconds.
    Slow(Whom, u64),
    /// The wall clock is put wrong by so many milliseconds.
    Clock(Whom, i64),
    /// The process dies right after its next answer.
    AfterAck(Whom),
    /// The process dies right after its next snapshot.
    AfterSnapshot(Whom),
    /// Nothing passes from one to another.
    OneWay(Whom, u64),
    /// One is cut off from all.
    Alone(Whom),
    /// Two halves, by the bits of a number.
    Halves(u64),
    /// One is seen by all, who do not see each other.
    Bridge(Whom),
    /// Of a hundred messages so many are lost and so many arrive twice; others are late by up to so long.
    Rough(u64, u64, u64),
    /// All ways are open and quick.
    Open,
    /// The leader hands over.
    HandOver,
    /// A follower computes something else from now on.
    Diverge(u64),
    /// One more node is taken in and made a voter.
    Grow,
    /// One is taken out.
    Shrink(u64),
    /// One loses its disk, comes back under its name, is taken out, and another one is taken in.
    Replace(u64),
    /// Durable bytes of a log rot, drawn from a number.
    Rot(Whom, Before, Decay, u64),
}

impl Event {
    /// Its class, for counting.
    pub fn class(&self) -> &'static str {
        match self {
            Event::Kill(_) => "kill",
            Event::Power(..) => "power loss",
            Event::PowerOfAll(_) => "power loss of all",
            Event::Storm(_) => "restart storm",
            Event::Pause(..) => "pause",
            Event::Disk(_, faults) => match faults {
                Faults { die_at: Some(_), .. } => "death at a point",
                Faults { die_in: Some(_), .. } => "death in an operation",
                Faults { sync_fails_in: Some(_), .. } => "failing sync",
                Faults { write_fails_in: Some(_), .. } => "failing write",
                Faults { short_write_in: Some(_), .. } => "short write",
                _ => "failing read",
            },
            Event::Full(..) => "full disk",
            Event::Room => "room again",
            Event::Slow(..) => "slow disk",
            Event::Clock(..) => "clock jump",
            Event::AfterAck(_) => "death after an answer",
            Event::AfterSnapshot(_) => "death after a snapshot",
            Event::OneWay(..) => "one-way cut",
            Event::Alone(_) => "node cut off",
            Event::Halves(_) => "halves",
            Event::Bridge(_) => "bridge",
            Event::Rough(..) => "loss, copies, delay",
            Event::Open => "ways open",
            Event::HandOver => "hand-over",
            Event::Diverge(_) => "divergence",
            Event::Grow => "node taken in",
            Event::Shrink(_) => "node taken out",
            Event::Replace(_) => "disk lost",
            Event::Rot(_, _, decay, _) => match decay {
                Decay::Bit => "rot: a bit",
                Decay::Garbled => "rot: garbled",
                Decay::Zeroed => "rot: zeros",
                Decay::Swapped => "rot: batches swapped",
                Decay::Elsewhere => "rot: written elsewhere",
                Decay::Unreadable => "rot: unreadable",
                Decay::Gone => "rot: segment gone",
            },
        }
    }

    /// Is it one of those that end another?
    pub fn mends(&self) -> bool {
        matches!(self, Event::Open | Event::Room)
    }
}

/// The `nth` event of a seed, and the time before it, nanoseconds; with or without rot among what may befall.
pub fn event(seed: u64, nth: u64, rot: bool) -> (u64, Event) {
    let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ nth.wrapping_mul(0xD6E8_FEB8_6659_FD93));
    rng.draw();
    let rng = &mut rng;
    // Storms and lulls: a group that never elects anybody proves little.
    let pause =
        if rng.chance(35) { 2_000 * MS + rng.below(4_000 * MS) } else { 20 * MS + rng.below(500 * MS) };
    let death = [Death::NothingLands, Death::HalfLands, Death::AllLands][rng.below(3) as usize];
    let points = [Point::Vote, Point::Append, Point::Truncate, Point::Prepare, Point::Manifest, Point::Mark];
    let whom = if rng.chance(50) { Whom::Leader } else { Whom::Nth(rng.draw()) };
    let keep = [0, 100, 50][rng.below(3) as usize];
    let day = 86_400_000;
    let event = match rng.below(if rot { 112 } else { 100 }) {
        0..=4 => Event::Kill(whom),
        5..=9 => Event::Power(whom, keep),
        10..=13 => Event::PowerOfAll(keep),
        14 => Event::Storm(2 + rng.below(4)),
        15..=18 => Event::Pause(whom, 100 * MS + rng.below(8_000 * MS)),
        19..=26 => Event::Disk(whom, Faults { die_in: Some((rng.below(30), death)), ..Faults::default() }),
        27..=40 => {
            let point = points[rng.below(6) as usize];
            Event::Disk(whom, Faults { die_at: Some((point, death)), ..Faults::default() })
        }
        41..=43 => {
            let after = if rng.chance(50) { AfterFailure::KeepsNew } else { AfterFailure::Reverts };
            let faults = Faults { sync_fails_in: Some((rng.below(6), after)), ..Faults::default() };
            Event::Disk(whom, faults)
        }
        44 | 45 => Event::Disk(whom, Faults { write_fails_in: Some(rng.below(6)), ..Faults::default() }),
        46 | 47 => Event::Disk(whom, Faults { short_write_in: Some(rng.below(6)), ..Faults::default() }),
        48 => Event::Disk(whom, Faults { read_fails_in: Some(rng.below(30)), ..Faults::default() }),
        49..=51 => Event::Full(whom, rng.below(3)),
        52..=54 => Event::Room,
        55..=58 => Event::Slow(whom, [MS / 2, 5 * MS, 60 * MS][rng.below(3) as usize]),
        59 | 60 => {
            let far = [60_000, day, 3650 * day][rng.below(3) as usize];
            Event::Clock(whom, rng.below(2 * far) as i64 - far as i64)
        }
        61..=63 => Event::AfterAck(whom),
        64 | 65 => Event::AfterSnapshot(whom),
        66..=68 => Event::OneWay(whom, rng.draw()),
        69..=72 => Event::Alone(whom),
        73..=75 => Event::Halves(rng.draw()),
        76 | 77 => Event::Bridge(whom),
        78..=81 => {
            let late = [MS, 20 * MS, 200 * MS][rng.below(3) as usize];
            Event::Rough(rng.below(30), rng.below(20), late)
        }
        82..=89 => Event::Open,
        90 | 91 => Event::HandOver,
        92 | 93 => Event::Diverge(rng.draw()),
        94 | 95 => Event::Grow,
        96 => Event::Shrink(rng.draw()),
        97..=99 => Event::Replace(rng.draw()),
        _ => {
            let before = [Before::Running, Before::Killed, Before::WithoutPower][rng.below(3) as usize];
            let decay = match rng.below(16) {
                0..=2 => Decay::Bit,
                3..=5 => Decay::Garbled,
                6..=9 => Decay::Zeroed,
                10 | 11 => Decay::Swapped,
                12 | 13 => Decay::Elsewhere,
                14 => Decay::Unreadable,
                _ => Decay::Gone,
            };
            Event::Rot(whom, before, decay, rng.draw())
        }
    };
    (pause, event)
}
