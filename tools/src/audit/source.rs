//! The segments of a log, as an auditor reads them: every byte against its own sums, then record by record.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use engine::log::Lsn;
use segments::{
    CheckError, Damage, Log, OpenError, Options, Recovery, Scan, ScanError, check_sealed, segment_name,
};

use super::quiet::QuietDisk;
use super::resolve::{Each, Resolver, Tail};
use super::{Place, Wrong};
use crate::report::Fault;

/// Why a log is not sound, or cannot be looked at.
#[derive(Debug)]
pub enum Faulty {
    /// It cannot be read here, or not by this program.
    Unusable(Fault),
    /// Something that must be there is not.
    Missing(String),
    /// Bytes are not what was written.
    Damaged(Damage),
    /// The bytes hold, what they say does not.
    Wrong(Wrong),
}

/// What a pass over the bytes found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Frames.
    pub frames: u64,
    /// Segments that are sealed.
    pub sealed: u64,
    /// Bytes read.
    pub bytes: u64,
    /// A tail that a crash left, in words.
    pub torn: Option<String>,
}

/// A log's directory.
#[derive(Debug)]
pub struct LogFiles {
    dir: PathBuf,
    scan: Scan,
    /// Where each segment begins, counted over all of them, and last their whole length.
    starts: Vec<u64>,
}

fn fault(dir: &Path, error: &OpenError) -> Faulty {
    let next = match error {
        OpenError::Limits { .. } | OpenError::Version { .. } => {
            "use the program that wrote it, or a newer one"
        }
        _ => "check the directory and its permissions",
    };
    Faulty::Unusable(Fault::new("cannot read the log", dir.display(), error, next))
}

fn faulty(dir: &Path, error: OpenError) -> Faulty {
    match error {
        OpenError::Corrupt(damage) => Faulty::Damaged(damage),
        OpenError::MissingSegment { .. } | OpenError::MissingManifest => Faulty::Missing(error.to_string()),
        other => fault(dir, &other),
    }
}

impl LogFiles {
    /// Looks at the manifest and whether the segments it speaks of are there.
    ///
    /// # Errors
    /// [`Faulty`].
    pub fn open(dir: &Path) -> Result<LogFiles, Faulty> {
        let scan = Scan::open(dir).map_err(|error| faulty(dir, error))?;
        let mut starts = vec![0];
        for number in 1..=scan.last() {
            let length = scan.length(number).map_err(|error| faulty(dir, error))?;
            starts.push(starts.last().copied().unwrap_or(0) + length);
        }
        Ok(LogFiles { dir: dir.to_owned(), scan, starts })
    }

    /// Segments there are.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.scan.last()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The log's region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.scan.identity().region
    }

    /// Bytes up to a place, of [`LogFiles::bytes`].
    #[must_use]
    pub fn read_up_to(&self, place: Place) -> u64 {
        let start = self.starts.get(place.segment.saturating_sub(1) as usize).copied().unwrap_or(0);
        start + place.offset
    }

    /// Every segment against its own sums, sealed ones on so many threads, then how they follow each other and the
    /// open one. `done` hears how many bytes more were read.
    ///
    /// # Errors
    /// [`Faulty`]: of several the one in the lowest segment.
    pub fn check(&self, threads: usize, done: &mut dyn FnMut(u64)) -> Result<Bytes, Faulty> {
        let (opened, read) = self.opened();
        done(read);
        // Where the log as a whole is broken, look at what stands before that place: the first damage is named.
        let last = match &opened {
            Ok(recovery) => recovery.sealed,
            Err(OpenError::Corrupt(damage)) => damage.segment.saturating_sub(1).min(self.segments()),
            Err(_) => 0,
        };
        let (frames, first) = self.check_sealed(last, threads, done);
        match (first, opened) {
            (Some((_, CheckError::Damaged(damage))), _) => Err(Faulty::Damaged(damage)),
            (Some((number, CheckError::Io(error))), _) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Faulty::Missing(format!("segment {number} is missing")))
            }
            (Some((number, error)), _) => {
                Err(Faulty::Unusable(Fault::read(&self.dir.join(segment_name(number)), error)))
            }
            (None, Err(error)) => Err(faulty(&self.dir, error)),
            (None, Ok(recovery)) => {
                let torn = recovery.torn.map(|torn| {
                    format!(
                        "a tail of {} bytes at offset {:#x} of segment {} was being written when the node stopped; nobody \
                         was promised it",
                        torn.erased, torn.offset, torn.segment
                    )
                });
                Ok(Bytes {
                    frames: frames + recovery.frames,
                    sealed: recovery.sealed,
                    bytes: self.bytes(),
                    torn,
                })
            }
        }
    }

    /// Headers, footers and digests of all segments, and every byte of those that are not sealed: which of two ends a
    /// crash left, and which damage did.
    ///
    /// # Errors
    /// [`Faulty`].
    pub fn check_end(&self) -> Result<(), Faulty> {
        self.opened().0.map(|_| ()).map_err(|error| faulty(&self.dir, error))
    }

    /// The log as recovery finds it, with nothing written, and how many bytes were read.
    fn opened(&self) -> (Result<Recovery, OpenError>, u64) {
        // A running node appends meanwhile, and what is read of its tail may be half of a write: look again before
        // calling it damage.
        let mut options = Options::new(self.scan.identity().clone());
        options.replay_from = Lsn(u64::MAX);
        let mut tries = 0;
        loop {
            let (disk, progress) = QuietDisk::new(&self.dir);
            let nothing = |_: &segments::Frame<'_>| Ok::<(), std::convert::Infallible>(());
            tries += 1;
            match Log::open(disk, &options, nothing) {
                Err(OpenError::Corrupt(damage)) if damage.segment >= self.segments() && tries < 5 => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return (Err(error), 0),
                Ok((_, recovery)) => return (Ok(recovery), progress.0.get()),
            }
        }
    }

    /// Every byte of the segments 1 to `last`: frames in those that are whole, and the first that is not.
    fn check_sealed(
        &self,
        last: u64,
        threads: usize,
        done: &mut dyn FnMut(u64),
    ) -> (u64, Option<(u64, CheckError)>) {
        let next = AtomicU64::new(1);
        let (sender, results) = mpsc::channel();
        let (mut frames, mut first): (u64, Option<(u64, CheckError)>) = (0, None);
        std::thread::scope(|scope| {
            for _ in 0..(threads as u64).min(last) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number > last || sender.send((number, check_sealed(&self.dir, number))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (number, result) in results {
                done(self.bytes() / self.segments());
                match result {
                    Ok(footer) => frames += footer.frames,
                    // Full, and its footer not written yet: the log as a whole was asked about it.
                    Err(CheckError::NotSealed) => {}
                    Err(error) if first.as_ref().is_none_or(|(have, _)| number < *have) => {
                        first = Some((number, error));
                    }
                    Err(_) => {}
                }
            }
        });
        (frames, first)
    }

    /// Every record that counts, in order; returns what is at the end.
    ///
    /// # Errors
    /// [`Faulty`]; what `each` says comes back as [`Faulty::Wrong`].
    pub fn records(&self, each: &mut Each<'_>) -> Result<Tail, Faulty> {
        let mut resolver = Resolver::default();
        for number in 1..=self.segments() {
            let result = self.scan.frames(number, &mut |scanned| {
                let place = Place { segment: scanned.segment, offset: scanned.offset };
                resolver.frame(&scanned.frame, place, scanned.committed, each)
            });
            match result {
                Ok(()) => {}
                Err(ScanError::Log(error)) => return Err(faulty(&self.dir, error)),
                Err(ScanError::Each(wrong)) => return Err(Faulty::Wrong(wrong)),
            }
        }
        resolver.finish(each).map_err(Faulty::Wrong)
    }
}
