//! T4: the n-th write, sync, read or preparation of a file fails, for every n, in every way.

use segments::LogError;

use super::mutants::Step;
use super::world::{Op, Violation, World};
use crate::disk::{AfterFailure, Device, Faults, Loss, Sloppy};

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A sync, and the pages count as clean.
    SyncKeeps,
    /// A sync, and the pages are as they were before.
    SyncReverts,
    /// A write, with EIO.
    Write,
    /// A write, with ENOSPC.
    WriteFull,
    /// A write, which takes half.
    Short,
    /// A read, with EIO.
    Read,
    /// The preparation of a file, with ENOSPC, and those after it.
    NoRoom,
}

/// All of them.
pub const FAILURES: [Failure; 7] = [
    Failure::SyncKeeps,
    Failure::SyncReverts,
    Failure::Write,
    Failure::WriteFull,
    Failure::Short,
    Failure::Read,
    Failure::NoRoom,
];

/// Refusals in a row: one more than an append takes for old news.
const REFUSALS: u64 = 3;

impl Failure {
    fn happened(self, device: &Device) -> bool {
        match self {
            // The first of several in a row is enough.
            Failure::NoRoom => device.suffered().refusals > 0,
            _ => !device.faults_pending(),
        }
    }

    fn after(self, nth: u64) -> Faults {
        let none = Faults::default();
        match self {
            Failure::SyncKeeps => Faults { sync_fails_in: Some((nth, AfterFailure::KeepsNew)), ..none },
            Failure::SyncReverts => Faults { sync_fails_in: Some((nth, AfterFailure::Reverts)), ..none },
            Failure::Write => Faults { write_fails_in: Some(nth), ..none },
            Failure::WriteFull => Faults { write_full_in: Some(nth), ..none },
            Failure::Short => Faults { short_write_in: Some(nth), ..none },
            Failure::Read => Faults { read_fails_in: Some(nth), ..none },
            Failure::NoRoom => Faults { no_room_in: Some((nth, REFUSALS)), ..none },
        }
    }
}

/// A little of everything.
const STORY: [Op; 16] = [
    Op::One,
    Op::Three,
    Op::Vote,
    Op::Loose,
    Op::Void,
    Op::Reopen,
    Op::Three,
    Op::Fill,
    Op::One,
    Op::Loose,
    Op::Fill,
    Op::Void,
    Op::Reopen,
    Op::Vote,
    Op::Fill,
    Op::Three,
];

/// How the machine comes back: `None` keeps the page cache, and `Some(None)` tears.
const ENDINGS: [Option<Option<Loss>>; 4] =
    [None, Some(None), Some(Some(Loss::Everything)), Some(Some(Loss::Nothing))];

/// What the worlds of one failure came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Places at which it happened.
    pub places: u64,
    /// Worlds ended and recovered.
    pub worlds: u64,
}

/// The story with one failure in it, then every ending. `None` when the story has fewer such operations.
fn world(failure: Failure, nth: u64, sloppy: Sloppy, step: Step) -> Result<Option<u64>, Violation> {
    let device = Device::new(nth + 1, sloppy);
    device.set_faults(failure.after(nth));
    let mut world = match World::on(device.clone(), step) {
        Ok(world) => world,
        // The very first start failed: the next one finds what it left.
        Err(error) if !failure.happened(&device) => {
            return Err(Violation(format!("does not begin: {error}")));
        }
        Err(_) => World::unborn(device, step),
    };
    let story = if world.log_if_any().is_some() { &STORY[..] } else { &[] };
    for op in story {
        match world.run(*op) {
            Ok(()) => {}
            Err(LogError::Full(_)) if failure == Failure::NoRoom => {
                if world.log().has_failed() {
                    return Err(Violation("F8: a full disk stopped the log".into()));
                }
            }
            Err(error) if !failure.happened(&world.device) => {
                return Err(Violation(format!("refused without a reason: {error}")));
            }
            Err(_) => {
                if !matches!(failure, Failure::Read | Failure::NoRoom) {
                    insist_stopped(&mut world)?;
                }
                break;
            }
        }
    }
    if !failure.happened(&world.device) {
        return Ok(None);
    }
    world.die();
    let mut worlds = 0;
    for ending in ENDINGS {
        let device = world.device.fork(nth + 5);
        match ending {
            None => {}
            Some(None) => device.power_loss(50, true),
            Some(Some(loss)) => device.lose(loss),
        }
        let named = |violation: Violation| Violation(format!("then {ending:?}: {}", violation.0));
        world.elsewhere(device).live_on().map_err(named)?;
        worlds += 1;
    }
    Ok(Some(worlds + page_cache_lies(&world, nth)?))
}

/// The page cache is kept, with what a failed sync left in it, and the process that recovers from that dies at every
/// operation, power and all.
fn page_cache_lies(world: &World, nth: u64) -> Result<u64, Violation> {
    for again in 0.. {
        let named = |violation: Violation| {
            Violation(format!("then recovered and dead at operation {again}: {}", violation.0))
        };
        let mut other = world.elsewhere(world.device.fork(nth + 7));
        if !other.dies_again(again, Op::Fill, nth * 100 + again).map_err(named)? {
            return Ok(again);
        }
        other.live_on().map_err(named)?;
    }
    unreachable!("a life has an end")
}

/// S3: a log that has failed accepts nothing and writes nothing.
fn insist_stopped(world: &mut World) -> Result<(), Violation> {
    // A log that did not come up is none.
    let Some(log) = world.log_if_any() else { return Ok(()) };
    let lsn = log.tip().next();
    let answers = [
        log.append(segments::Frame::entry(lsn, 9, b"after the end")),
        log.submit().map(drop),
        log.complete(true).map(drop),
        log.flush(),
    ];
    if !answers.iter().all(|answer| matches!(answer, Err(LogError::Failed))) {
        return Err(Violation(format!("S3: a failed log answers {answers:?}")));
    }
    match world.device.suffered().writes_after_failure {
        0 => Ok(()),
        more => Err(Violation(format!("S3: {more} writes after a failure"))),
    }
}

/// One failure at every place, or the first violation.
pub fn every_place(failure: Failure, sloppy: Sloppy, step: Step) -> Result<Tally, String> {
    let mut tally = Tally::default();
    loop {
        match world(failure, tally.places, sloppy, step) {
            Ok(Some(more)) => tally = Tally { places: tally.places + 1, worlds: tally.worlds + more },
            Ok(None) => return Ok(tally),
            Err(violation) => return Err(format!("{failure:?} {}: {}", tally.places, violation.0)),
        }
    }
}

/// The first violation.
pub fn first_violation(sloppy: Sloppy, step: Step) -> Option<String> {
    FAILURES.into_iter().find_map(|failure| every_place(failure, sloppy, step).err())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S1, S2, S3.
    #[test]
    fn every_failure_at_every_place_loses_nothing() {
        for failure in FAILURES {
            let tally = every_place(failure, Sloppy::default(), Step::None)
                .unwrap_or_else(|violation| panic!("{violation}"));
            println!("T4 {failure:?}: {tally:?}");
            assert!(tally.places >= 4, "{failure:?}: {tally:?}");
        }
    }

    /// F8: a full disk refuses before anything is appended, votes still get in, reads go on, and with room again
    /// the same append succeeds.
    #[test]
    fn a_full_disk_refuses_and_recovers() {
        let mut world = World::new(3, Sloppy::default(), Step::None).expect("opens");
        world.run(Op::Fill).expect("there is room");
        world.device.set_capacity(world.device.used());
        let full = loop {
            if let Err(error) = world.run(Op::Three) {
                break error;
            }
        };
        assert!(matches!(full, LogError::Full(_)), "{full}");
        // An eighth of a segment this small is two blocks, and a vote by itself takes one.
        for _ in 0..2 {
            world.run(Op::Vote).expect("a vote still fits");
        }
        assert!(matches!(world.run(Op::Vote), Err(LogError::Full(_))), "then the segment is full");
        let committed = world.log().durable().lsn;
        assert!(world.log().read_one(committed).expect("reads go on").is_some());
        assert!(!world.log().has_failed());
        world.device.set_capacity(u64::MAX);
        world.run(Op::Three).expect("there is room again");
        world.die();
        world.device.lose(Loss::Everything);
        world.live_on().unwrap_or_else(|violation| panic!("{}", violation.0));
    }
}
