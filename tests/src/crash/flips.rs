//! T2 and T3: every bit changed, every length cut, and nothing goes unnoticed.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::log::Lsn;
use segments::{Log, Options};

use super::mutants::Step;
use super::world::{Op, Owned, World, options, survived};
use crate::disk::{Device, Sloppy};

/// What opening a changed log came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It does not open.
    Refused,
    /// It opens with everything in it, and says what it found and put right.
    Repaired,
    /// It opens with everything in it, and saw nothing: what was changed says nothing, or no more than a crash
    /// could have left.
    Harmless,
}

/// A finished log whose files are then changed.
pub struct Reference {
    /// Its disk: segment 1 sealed, segment 2 open.
    pub device: Device,
    frames: Vec<Owned>,
    at_least: Lsn,
}

impl Reference {
    /// Writes one.
    pub fn new(ops: &[Op]) -> Reference {
        let mut world = World::new(11, Sloppy::default(), Step::None).expect("opens");
        for op in ops {
            world.run(*op).expect("the disk is good");
        }
        let at_least = world.log().durable().lsn;
        let frames = world.appended().to_vec();
        world.die();
        world.device.kill();
        Reference { device: world.device.image(), frames, at_least }
    }

    /// Opens a changed copy. The caller was promised everything that was written, as a node with a snapshot was.
    ///
    /// # Errors
    /// In words, when something is missing or wrong and nobody says so.
    pub fn judge(&self, changed: &Device) -> Result<Seen, String> {
        let mut frames = Vec::new();
        let promised = Options { at_least: self.at_least, ..options() };
        let opened = Log::open(changed.attach(), &promised, |frame| {
            frames.push(Owned::of(frame));
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok((_, recovery)) = opened else { return Ok(Seen::Refused) };
        let survived = survived(&self.frames, &frames).map_err(|violation| violation.0)?;
        if survived != self.frames.len() {
            return Err(format!("opens with {survived} frames, {} were written", self.frames.len()));
        }
        if recovery.torn.is_none() && recovery.manifest_repaired.is_none() && !recovery.restored {
            return Ok(Seen::Harmless);
        }
        Ok(Seen::Repaired)
    }
}

/// How many changes were tried and what they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Refused to open.
    pub refused: usize,
    /// Repaired and said so.
    pub repaired: usize,
}

/// Runs `judge` for every number below `cases` on all cores; stops at the first that goes unnoticed.
///
/// # Panics
/// When one does.
pub fn everywhere<S>(
    cases: usize,
    start: impl Fn() -> S + Sync,
    judge: impl Fn(&mut S, usize) -> Result<Seen, String> + Sync,
) -> Tally {
    let (next, total) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let (mut state, mut tally) = (start(), Tally::default());
                loop {
                    let chunk = next.fetch_add(64, Ordering::Relaxed);
                    if chunk >= cases {
                        break;
                    }
                    for case in chunk..cases.min(chunk + 64) {
                        match judge(&mut state, case) {
                            Ok(Seen::Refused) => tally.refused += 1,
                            Ok(Seen::Repaired) => tally.repaired += 1,
                            Ok(Seen::Harmless) => panic!("case {case}: opens and says nothing"),
                            Err(unnoticed) => panic!("case {case}: {unnoticed}"),
                        }
                    }
                }
                let mut total = total.lock().expect("no thread panicked");
                total.refused += tally.refused;
                total.repaired += tally.repaired;
            });
        }
    });
    total.into_inner().expect("no thread panicked")
}

/// Flips every bit of these bytes of a file, one at a time, and opens the log.
pub fn flip(reference: &Reference, name: &str, bits: Range<usize>, every: usize) -> Tally {
    let count = bits.len().div_ceil(every);
    everywhere(
        count,
        || reference.device.fork(1),
        |device, case| {
            let bit = bits.start + case * every;
            device.rot(name, bit / 8, 1 << (bit % 8));
            let seen = reference.judge(device).map_err(|error| format!("{name}, bit {bit}: {error}"))?;
            match seen {
                Seen::Refused => device.rot(name, bit / 8, 1 << (bit % 8)),
                Seen::Repaired | Seen::Harmless => *device = reference.device.fork(1),
            }
            Ok(seen)
        },
    )
}

#[cfg(test)]
mod tests {
    use segments::{MANIFEST, check_sealed_bytes, segment_name};

    use super::super::{depth, stride};
    use super::*;

    fn reference() -> Reference {
        Reference::new(&[
            Op::One,
            Op::Vote,
            Op::Three,
            Op::Loose,
            Op::Void,
            Op::Fill,
            Op::One,
            Op::Vote,
            Op::One,
        ])
    }

    /// A segment checked by itself, as the scrubber and an auditor do.
    #[test]
    fn every_bit_of_a_sealed_segment_counts() {
        let bytes = reference().device.bytes(&segment_name(1)).expect("it is there");
        check_sealed_bytes(&bytes, 1).expect("it is whole");
        let every = stride(61);
        let tally = everywhere(
            (bytes.len() * 8).div_ceil(every),
            || bytes.clone(),
            |bytes, case| {
                let bit = case * every;
                bytes[bit / 8] ^= 1 << (bit % 8);
                let whole = check_sealed_bytes(bytes, 1).is_ok();
                bytes[bit / 8] ^= 1 << (bit % 8);
                if whole { Err(format!("bit {bit} goes unnoticed")) } else { Ok(Seen::Refused) }
            },
        );
        println!("T2 sealed segment: {tally:?}");
    }

    #[test]
    fn every_bit_of_the_open_segment_and_the_manifest_counts() {
        let reference = reference();
        let (open, every) = (segment_name(2), stride(61));
        let used = 4 * 4096 * 8;
        let all = reference.device.bytes(&open).expect("it is there").len() * 8;
        println!("T2 open segment: {:?}", flip(&reference, &open, 0..used, every));
        let sparse = if depth(3) > 3 { every } else { 127 * every };
        println!("T2 its zeros: {:?}", flip(&reference, &open, used..all, sparse));
        println!("T2 manifest: {:?}", flip(&reference, MANIFEST, 0..2 * 4096 * 8, every));
        println!(
            "T2 sealed segment, by the log: {:?}",
            flip(&reference, &segment_name(1), 0..all, 127 * every)
        );
    }

    #[test]
    fn every_length_counts() {
        let reference = reference();
        for name in [segment_name(1), segment_name(2), MANIFEST.to_owned()] {
            let whole = reference.device.bytes(&name).expect("it is there");
            let longer = [whole.len() + 1, whole.len() + 512, whole.len() + 4096];
            let lengths: Vec<usize> = (0..whole.len()).step_by(stride(31)).chain(longer).collect();
            let tally = everywhere(
                lengths.len(),
                || reference.device.fork(1),
                |device, case| {
                    let mut bytes = whole.clone();
                    bytes.resize(lengths[case], 0);
                    device.replace(&name, bytes);
                    match reference.judge(device) {
                        Ok(Seen::Refused) => Ok(Seen::Refused),
                        other => Err(format!("{name} of {} bytes: {other:?}", lengths[case])),
                    }
                },
            );
            println!("T3 {name}: {tally:?}");
        }
    }
}
