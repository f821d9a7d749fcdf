//! One log on one simulated disk, and everything that was appended to it.

use engine::log::Lsn;
use segments::{Disk, Frame, Identity, Kind, Log, LogError, OpenError, Options, Recovery};

use super::mutants::{Forgetful, Step};
use crate::disk::{Death, Device, Faults, Loss, SimDisk, Sloppy};

/// Small, so that two or three operations fill one.
pub const SEGMENT: u64 = 64 << 10;

/// The log of all worlds.
pub fn options() -> Options {
    let identity = Identity { cluster: [42; 16], region: "crash".into() };
    Options { segment_bytes: SEGMENT, ..Options::new(identity) }
}

/// One frame with its own payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    kind: Kind,
    lsn: Lsn,
    term: u64,
    payload: Vec<u8>,
}

impl Owned {
    /// A copy of a frame.
    pub fn of(frame: &Frame<'_>) -> Owned {
        let Frame { kind, lsn, term, payload } = *frame;
        Owned { kind, lsn, term, payload: payload.to_vec() }
    }

    fn borrow(&self) -> Frame<'_> {
        Frame { kind: self.kind, lsn: self.lsn, term: self.term, payload: &self.payload }
    }
}

/// How many of the appended frames were found, if what was found is a prefix of them. The vote that stands is found
/// again at the beginning of a segment.
pub fn survived(appended: &[Owned], found: &[Owned]) -> Result<usize, Violation> {
    let (mut survived, mut vote) = (0, None);
    for frame in found {
        if appended.get(survived) == Some(frame) {
            survived += 1;
            if frame.kind == Kind::Vote {
                vote = Some(frame);
            }
        } else if vote != Some(frame) {
            return Err(Violation(format!(
                "S2: frame {survived} was {:?}, found {:?} {}",
                appended.get(survived).map(|frame| (frame.kind, frame.lsn, frame.term)),
                frame.kind,
                frame.lsn
            )));
        }
    }
    Ok(survived)
}

/// What may be done to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// One entry, durable and committed.
    One,
    /// Three batches in flight at a time, then all durable and committed.
    Three,
    /// Two entries, durable and not committed.
    Loose,
    /// A vote, durable.
    Vote,
    /// Void what is not committed, and write one entry in its place.
    Void,
    /// Entries until the next segment has begun; all committed, so that the last one is sealed.
    Fill,
    /// Close and open again.
    Reopen,
}

/// All of them.
pub const OPS: [Op; 7] = [Op::One, Op::Three, Op::Loose, Op::Vote, Op::Void, Op::Fill, Op::Reopen];

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// What an operation came to.
pub type Outcome = Result<(), LogError>;

/// A log, what its recovery says, and every frame that was found.
type Life = (Log<Forgetful<SimDisk>>, Recovery, Vec<Owned>);

/// One log and its history.
pub struct World {
    /// Its disk.
    pub device: Device,
    step: Step,
    log: Option<Log<Forgetful<SimDisk>>>,
    appended: Vec<Owned>,
    /// How many of them were acknowledged as durable.
    acked: usize,
    /// For each batch sent and not acknowledged: its number and how many frames had been appended then.
    sent: Vec<(u64, usize)>,
    term: u64,
}

impl World {
    /// A new log on a new disk.
    pub fn new(seed: u64, sloppy: Sloppy, step: Step) -> Result<World, OpenError> {
        World::on(Device::new(seed, sloppy), step)
    }

    /// A new log on this disk.
    pub fn on(device: Device, step: Step) -> Result<World, OpenError> {
        let mut world = World::unborn(device, step);
        world.log = Some(world.attach().map(|(log, _, _)| log)?);
        Ok(world)
    }

    /// A disk on which no log has come up yet.
    pub fn unborn(device: Device, step: Step) -> World {
        World { device, step, log: None, appended: Vec::new(), acked: 0, sent: Vec::new(), term: 1 }
    }

    /// A new life on the same disk.
    fn attach(&self) -> Result<Life, OpenError> {
        let mut frames = Vec::new();
        let disk = Forgetful::new(self.device.attach(), self.step);
        let (log, recovery) = Log::open(disk, &options(), |frame| {
            frames.push(Owned::of(frame));
            Ok::<(), std::convert::Infallible>(())
        })?;
        Ok((log, recovery, frames))
    }

    /// The log of this life.
    pub fn log(&mut self) -> &mut Log<impl Disk + use<>> {
        self.log.as_mut().expect("the world has a log")
    }

    /// The log of this life, if it came up.
    pub fn log_if_any(&mut self) -> Option<&mut Log<impl Disk + use<>>> {
        self.log.as_mut()
    }

    /// Everything that was appended.
    pub fn appended(&self) -> &[Owned] {
        &self.appended
    }

    fn append(&mut self, kind: Kind, lsn: Lsn, term: u64, length: usize) -> Outcome {
        let payload = (0..length).map(|at| (lsn.0 * 31 + term * 7 + at as u64 * 3) as u8).collect();
        let frame = Owned { kind, lsn, term, payload };
        self.log.as_mut().expect("the world has a log").append(frame.borrow())?;
        self.appended.push(frame);
        Ok(())
    }

    /// Entries of one length each.
    fn entries(&mut self, count: usize, length: usize) -> Outcome {
        for _ in 0..count {
            let lsn = self.log().tip().next();
            self.append(Kind::Entry, lsn, self.term, length)?;
        }
        Ok(())
    }

    fn submit(&mut self) -> Outcome {
        let ticket = self.log().submit()?;
        self.sent.push((ticket.batch, self.appended.len()));
        self.note();
        Ok(())
    }

    fn note(&mut self) {
        let durable = self.log().durable().batch;
        let durable = self.sent.iter().filter(|(batch, _)| *batch <= durable).map(|(_, upto)| *upto);
        self.acked = durable.max().unwrap_or(0).max(self.acked);
    }

    fn flush(&mut self) -> Outcome {
        self.submit()?;
        while self.log().complete(true)?.is_some() {
            self.note();
        }
        self.note();
        Ok(())
    }

    fn commit(&mut self) -> Outcome {
        let tip = self.log().durable().lsn;
        self.log().set_committed(tip);
        self.log().complete(false).map(drop)
    }

    /// Does one thing. After an error the log is as it then is.
    pub fn run(&mut self, op: Op) -> Outcome {
        match op {
            Op::One => {
                self.entries(1, 100)?;
                self.flush()?;
                self.commit()
            }
            Op::Three => {
                for length in [10, 5000, 700] {
                    self.entries(1, length)?;
                    self.submit()?;
                }
                self.flush()?;
                self.commit()
            }
            Op::Loose => {
                self.entries(2, 300)?;
                self.flush()
            }
            Op::Vote => {
                self.term += 1;
                self.append(Kind::Vote, Lsn::ZERO, self.term, 24)?;
                self.flush()
            }
            Op::Void => {
                let kept = self.log().committed();
                self.term += 1;
                self.append(Kind::Truncate, kept, 0, 0)?;
                self.entries(1, 50)?;
                self.flush()
            }
            Op::Fill => {
                let segment = self.log().stats().segments;
                while self.log().stats().segments == segment {
                    self.entries(1, 12_000)?;
                }
                self.flush()?;
                self.commit()
            }
            Op::Reopen => {
                self.flush()?;
                self.log = None;
                self.sent.clear();
                match self.attach() {
                    Ok((log, _, _)) => self.log = Some(log),
                    // It died on the way up; whoever looks next sees what is left.
                    Err(error) => return Err(LogError::Disk(std::io::Error::other(error.to_string()))),
                }
                Ok(())
            }
        }
    }

    /// The process ends; what it appended and was promised is remembered.
    pub fn die(&mut self) {
        self.log = None;
        self.sent.clear();
    }

    /// The same history on another disk.
    pub fn elsewhere(&self, device: Device) -> World {
        let World { step, ref appended, acked, term, .. } = *self;
        World { device, step, log: None, appended: appended.clone(), acked, sent: Vec::new(), term }
    }

    /// Opens what a crash left and holds it against the history: S1 and S2. The history then is what survived.
    pub fn recover(&mut self) -> Result<Recovery, Violation> {
        let (log, recovery, frames) =
            self.attach().map_err(|error| Violation(format!("the log does not open: {error}")))?;
        self.log = Some(log);
        let survived = survived(&self.appended, &frames)?;
        if survived < self.acked {
            return Err(Violation(format!(
                "S1: {} frames were acknowledged, {survived} survived",
                self.acked
            )));
        }
        self.appended.truncate(survived);
        self.acked = survived;
        self.read_back()?;
        Ok(recovery)
    }

    /// The entries that live, by the history.
    fn living(&self) -> Vec<&Owned> {
        let mut living: Vec<&Owned> = Vec::new();
        for frame in &self.appended {
            match frame.kind {
                Kind::Entry => living.push(frame),
                Kind::Truncate => living.retain(|entry| entry.lsn <= frame.lsn),
                Kind::Vote | Kind::Purged => {}
            }
        }
        living
    }

    /// Reads every living entry, in a row and by itself, and one that is not there.
    fn read_back(&mut self) -> Result<(), Violation> {
        let expected: Vec<Owned> = self.living().into_iter().cloned().collect();
        let wrong = |what: &str, error: LogError| Violation(format!("{what}: {error}"));
        let mut found = Vec::new();
        let log = self.log.as_mut().expect("recover has opened it");
        let mut keep = |frame: &Frame<'_>| {
            found.push(Owned::of(frame));
            true
        };
        log.read(Lsn(1), &mut keep).map_err(|error| wrong("read", error))?;
        if found != expected {
            return Err(Violation(format!("read {} entries, {} live", found.len(), expected.len())));
        }
        let last = Lsn(expected.len() as u64);
        if log.tip() != last || log.durable().lsn != last {
            return Err(Violation(format!("the tip is {}, {last} lives", log.tip())));
        }
        for entry in expected.iter().rev().step_by(3) {
            let one = log.read_one(entry.lsn).map_err(|error| wrong("read one", error))?;
            if one != Some((entry.term, entry.payload.clone())) {
                return Err(Violation(format!("entry {} reads as another", entry.lsn)));
            }
        }
        match log.read_one(last.next()).map_err(|error| wrong("read one", error))? {
            None => Ok(()),
            Some(_) => Err(Violation(format!("there is an entry after {last}"))),
        }
    }

    /// Recovers and does `op`, and dies at operation `nth` of that, power and all: whether there were so many.
    pub fn dies_again(&mut self, nth: u64, op: Op, seed: u64) -> Result<bool, Violation> {
        let device = self.device.clone();
        device.set_faults(Faults { die_in: Some((nth, Death::HalfLands)), ..Faults::default() });
        match self.recover() {
            // Not without a reason, whatever it says.
            Err(_) if device.is_dead() => {}
            Err(violation) => return Err(violation),
            Ok(_) => match self.run(op) {
                Err(_) if device.is_dead() => {}
                Err(error) => return Err(Violation(format!("refused without a reason: {error}"))),
                Ok(()) if device.is_dead() => {}
                Ok(()) => return Ok(false),
            },
        }
        self.die();
        self.device = device.fork(seed);
        self.device.power_loss(50, true);
        Ok(true)
    }

    /// Recovers, writes more, loses power again with everything that is in doubt, and recovers again: what was
    /// reported once stays, and nothing comes back.
    pub fn live_on(mut self) -> Result<Recovery, Violation> {
        let recovery = self.recover()?;
        let stop = |error: LogError| Violation(format!("a recovered log refuses: {error}"));
        for op in [Op::One, Op::Vote] {
            self.run(op).map_err(stop)?;
        }
        self.die();
        self.device.lose(Loss::Everything);
        self.recover()?;
        Ok(recovery)
    }
}
