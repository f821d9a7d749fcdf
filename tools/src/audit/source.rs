//! The segments of a log, as an auditor reads them: every byte against its own sums, then record by record.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use engine::ledger::Table;
use engine::log::Lsn;
use segments::{
    CheckError, Damage, Footer, Log, OpenError, Options, Recovery, Scan, ScanError, check_sealed,
    check_sealed_with, segment_name,
};

use super::fold::{Fold, Watch};
use super::notes::Notes;
use super::quiet::QuietDisk;
use super::resolve::{Each, Resolver, Tail};
use super::{Place, Wrong};
use crate::report::{Exit, Fault};
use crate::ui::{Ui, Unit};

/// Where a reading of the log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Number of the segment.
    pub segment: u64,
    /// Whether more than one node voted before that.
    pub group: bool,
}

impl Begin {
    /// With the first record.
    pub const FIRST: Begin = Begin { segment: 1, group: false };
}

/// What a segment says that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its number.
    pub number: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The last record before it.
    pub before: Lsn,
    /// Its last record; `None` while it is not sealed.
    pub last: Option<Lsn>,
}

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

/// What recovery says of the log, and the notes it came by.
type Opened = (Result<Recovery, OpenError>, Notes);

/// What became of one segment.
struct Checked {
    footer: Result<Footer, CheckError>,
    notes: Notes,
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

    /// Every segment against its own sums, on so many threads, and how they follow each other. `notes` takes up the
    /// checkpoints that count, in log order; `done` hears how many bytes more were read.
    ///
    /// # Errors
    /// [`Faulty`]: of several the one in the lowest segment.
    pub fn check(
        &self,
        threads: usize,
        mut notes: Option<&mut Notes>,
        done: &mut dyn FnMut(u64),
    ) -> Result<Bytes, Faulty> {
        let known = self.scan.sealed();
        let (opened, mut checked) = self.check_all(known, threads, notes.is_some(), done);
        let (opened, mut end) = opened;
        // Where the log as a whole is broken, look at what stands before that place: the first damage is named.
        let last = match &opened {
            Ok(recovery) => recovery.sealed,
            Err(OpenError::Corrupt(damage)) => damage.segment.saturating_sub(1).min(self.segments()),
            Err(_) => 0,
        };
        for number in known + 1..=last {
            // Sealed since, or not sealed any more as far as the manifest goes.
            checked.insert(number, self.check_one(number, notes.is_some()));
        }
        let mut frames = 0;
        for (number, checked) in checked.range_mut(..=last) {
            match &mut checked.footer {
                Ok(footer) => frames += footer.frames,
                // Full, and its footer not written yet: the log as a whole was asked about it.
                Err(CheckError::NotSealed) => {}
                Err(_) => return Err(self.unsound(*number, checked)),
            }
            if let Some(notes) = &mut notes {
                notes.append(&mut checked.notes);
            }
        }
        let recovery = opened.map_err(|error| faulty(&self.dir, error))?;
        if let Some(notes) = &mut notes {
            notes.append(&mut end);
        }
        let torn = recovery.torn.map(|torn| {
            format!(
                "a tail of {} bytes at offset {:#x} of segment {} was being written when the node stopped; nobody \
                 was promised it",
                torn.erased, torn.offset, torn.segment
            )
        });
        Ok(Bytes { frames: frames + recovery.frames, sealed: recovery.sealed, bytes: self.bytes(), torn })
    }

    fn unsound(&self, number: u64, checked: &mut Checked) -> Faulty {
        match std::mem::replace(&mut checked.footer, Err(CheckError::NotSealed)) {
            Err(CheckError::Damaged(damage)) => Faulty::Damaged(damage),
            Err(CheckError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                Faulty::Missing(format!("segment {number} is missing"))
            }
            Err(error) => Faulty::Unusable(Fault::read(&self.dir.join(segment_name(number)), error)),
            Ok(_) => unreachable!("asked only about segments that are not whole"),
        }
    }

    /// Headers, footers and digests of all segments, and every byte of those that are not sealed: which of two ends a
    /// crash left, and which damage did.
    ///
    /// # Errors
    /// [`Faulty`].
    pub fn check_end(&self) -> Result<(), Faulty> {
        self.opened(false).0.map(|_| ()).map_err(|error| faulty(&self.dir, error))
    }

    /// The log as recovery finds it, with nothing written, and the notes in the segments that are not sealed.
    fn opened(&self, keep: bool) -> (Result<Recovery, OpenError>, Notes) {
        // A running node appends meanwhile, and what is read of its tail may be half of a write: look again before
        // calling it damage.
        let mut options = Options::new(self.scan.identity().clone());
        options.replay_from = Lsn(u64::MAX);
        let mut tries = 0;
        loop {
            let mut notes = Notes::default();
            let each = |frame: &segments::Frame<'_>| {
                if keep {
                    notes.frame(frame);
                }
                Ok::<(), std::convert::Infallible>(())
            };
            tries += 1;
            match Log::open(QuietDisk::new(&self.dir), &options, each) {
                Err(OpenError::Corrupt(damage)) if damage.segment >= self.segments() && tries < 5 => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                result => return (result.map(|(_, recovery)| recovery), notes),
            }
        }
    }

    fn check_one(&self, number: u64, keep: bool) -> Checked {
        let mut notes = Notes::default();
        let footer = match keep {
            true => check_sealed_with(&self.dir, number, &mut |_, frame| notes.frame(frame)),
            false => check_sealed(&self.dir, number),
        };
        Checked { footer, notes }
    }

    /// The log as recovery finds it, and every byte of the segments 1 to `sealed`: each thread takes the next piece of
    /// work when it has time.
    fn check_all(
        &self,
        sealed: u64,
        threads: usize,
        keep: bool,
        done: &mut dyn FnMut(u64),
    ) -> (Opened, BTreeMap<u64, Checked>) {
        enum Part {
            End(Opened),
            Segment(u64, Checked),
        }
        let next = AtomicU64::new(0);
        let (sender, results) = mpsc::channel();
        let (mut end, mut checked) = (None, BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..(threads as u64).min(sealed + 1) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let part = match next.fetch_add(1, Ordering::Relaxed) {
                            0 => Part::End(self.opened(keep)),
                            number if number <= sealed => Part::Segment(number, self.check_one(number, keep)),
                            _ => return,
                        };
                        if sender.send(part).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for part in results {
                done(self.bytes() / self.segments());
                match part {
                    Part::End(opened) => end = Some(opened),
                    Part::Segment(number, result) => {
                        checked.insert(number, result);
                    }
                }
            }
        });
        (end.expect("the end is the first piece of work"), checked)
    }

    /// Folds every record that counts, in order, and shows `what` is under way; returns what is at the end.
    ///
    /// # Errors
    /// As [`LogFiles::records`]; what the fold finds comes back as [`Faulty::Wrong`].
    pub fn fold<T: Table>(
        &self,
        what: &'static str,
        from: Begin,
        ui: Ui,
        fold: &mut Fold<'_, T>,
        watch: &mut dyn Watch,
    ) -> Result<Tail, Faulty> {
        let mut at = self.starts[from.segment as usize - 1];
        let mut progress = ui.progress(what, self.bytes() - at, Unit::Bytes);
        let tail = self.records(from, &mut |lsn, place, payload| {
            let read = self.read_up_to(place);
            progress.add(read.saturating_sub(at));
            at = at.max(read);
            fold.push(lsn, place, payload, watch)
        });
        let tail = tail.and_then(|tail| fold.finish(watch).map(|()| tail).map_err(Faulty::Wrong));
        progress.finish();
        tail
    }

    /// Where to begin so that every record after `after` is read: in the last sealed segment that begins at or before it.
    /// `group`: whether more than one node voted there.
    ///
    /// # Errors
    /// [`Faulty`].
    pub fn from(&self, after: Lsn, group: bool) -> Result<Begin, Faulty> {
        let mut segment = self.scan.sealed().max(1);
        while segment > 1 && self.span(segment)?.before > after {
            segment -= 1;
        }
        Ok(Begin { segment, group })
    }

    /// What the header and the footer of a segment say that it holds.
    ///
    /// # Errors
    /// [`Faulty`].
    pub fn span(&self, number: u64) -> Result<Span, Faulty> {
        let start = |number: u64| self.starts[number as usize];
        let bytes = start(number) - start(number - 1);
        if number > self.scan.sealed() {
            let before =
                if number == 1 { Lsn::ZERO } else { self.span(number - 1)?.last.unwrap_or(Lsn::ZERO) };
            return Ok(Span { number, bytes, before, last: None });
        }
        let read = segments::seed::read_sealed(&self.dir, number);
        let (header, footer) = read.map_err(|error| {
            Faulty::Unusable(Fault::read(&self.dir.join(segment_name(number)), error).exit(Exit::Tampered))
        })?;
        Ok(Span { number, bytes, before: header.tip, last: Some(footer.last) })
    }

    /// Every record that counts, in order, from some place on; returns what is at the end.
    ///
    /// # Errors
    /// [`Faulty`]; what `each` says comes back as [`Faulty::Wrong`].
    pub fn records(&self, from: Begin, each: &mut Each<'_>) -> Result<Tail, Faulty> {
        self.resolve(from, self.segments(), each)?.finish(each).map_err(Faulty::Wrong)
    }

    /// Every record up to and with a segment of which that segment's end knows that it counts.
    ///
    /// # Errors
    /// As [`LogFiles::records`].
    pub fn records_of(&self, from: Begin, last: u64, each: &mut Each<'_>) -> Result<(), Faulty> {
        self.resolve(from, last, each).map(drop)
    }

    fn resolve(&self, from: Begin, last: u64, each: &mut Each<'_>) -> Result<Resolver, Faulty> {
        let mut resolver = Resolver::within(from.group);
        for number in from.segment..=last {
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
        Ok(resolver)
    }
}
