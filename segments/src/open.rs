//! Opening a log: find what survived, prove that it is a prefix of what was written, erase a torn tail, and only
//! then let anybody append.
//! The same walk reads sealed, full and active segments; [`crate::recover`] decides what a stop means.
//!
//! Recovery may die too, so it keeps one rule: nothing that something else depends on is overwritten while it is
//! the only copy. `newest` reads the manifest, `finished` the segments before the last, `tail` the last one, and
//! `spare` keeps the copy of a batch that is being written again.

mod finished;
mod newest;
mod spare;
mod tail;

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;

use engine::limits::{BLOCK, SEGMENT_SIZE, SEGMENT_SIZE_TEST_MIN};
use engine::log::{Digest, Lsn};

use crate::batch::Header;
use crate::buffer::BlockBuf;
use crate::bytes::{is_zero, u64_at};
use crate::damage::Flaw;
use crate::disk::{Disk, FileId};
use crate::error::OpenError;
use crate::frame::{Frame, Kind};
use crate::index::{Index, Span};
use crate::log::{Active, Log, Parts, Ticket};
use crate::manifest::{MANIFEST, MANIFEST_BYTES, Manifest, Slots};
use crate::place::Identity;
use crate::read::Prefix;
use crate::recover::{Found, State, Verdict, decide};
use crate::rotate::{Full, write_manifest};
use crate::segment::{Footer, SegmentHeader, segment_name, segment_number};
use crate::source::{Source, WINDOW};
use crate::standing::Standing;
use crate::walk::{Chain, Here, Later, Stop, Walk};

use newest::Newest;
pub(crate) use newest::read_slots;
pub use spare::SPARE;
pub(crate) use spare::bytes as spare_bytes;
pub(crate) use spare::find as find_copy;

/// Largest segment, bytes. One is read through in about a second.
pub const SEGMENT_SIZE_MAX: u64 = 1 << 30;

/// How to open a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whose log it is. Another log's files are refused.
    pub identity: Identity,
    /// Length of segments begun from now on, bytes: whole blocks.
    pub segment_bytes: u64,
    /// Sealed segments that hold nothing from here on are not read through: their headers and footers are.
    pub replay_from: Lsn,
    /// The log must reach at least this position: the caller knows it was durable, from a snapshot for example.
    pub at_least: Lsn,
    /// Batches that may be in flight at once, 1 to 64.
    pub depth: u16,
}

impl Options {
    /// Options with their defaults: segments of [`SEGMENT_SIZE`], everything replayed, two batches in flight.
    #[must_use]
    pub fn new(identity: Identity) -> Options {
        let segment_bytes = SEGMENT_SIZE as u64;
        Options { identity, segment_bytes, replay_from: Lsn::ZERO, at_least: Lsn::ZERO, depth: 2 }
    }

    fn check(&self) -> Result<(), OpenError> {
        let sizes = SEGMENT_SIZE_TEST_MIN as u64..=SEGMENT_SIZE_MAX;
        if !sizes.contains(&self.segment_bytes) || !self.segment_bytes.is_multiple_of(BLOCK as u64) {
            return Err(OpenError::Options("the size of a segment is out of bounds or not whole blocks"));
        }
        if !self.identity.is_valid() {
            return Err(OpenError::Options("the region's name is empty or too long"));
        }
        if !(1..=64).contains(&self.depth) {
            return Err(OpenError::Options("the number of batches in flight is not 1 to 64"));
        }
        Ok(())
    }
}

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segments there are.
    pub segments: u64,
    /// Of these, sealed.
    pub sealed: u64,
    /// Batches read through.
    pub batches: u64,
    /// Frames handed to the visitor.
    pub frames: u64,
    /// Last position.
    pub tip: Lsn,
    /// Highest position known committed.
    pub committed: Lsn,
    /// The torn tail that was erased.
    pub torn: Option<Torn>,
    /// Batches at the end that were whole but not known durable, and were written again.
    pub rewritten: u64,
    /// A recovery before this one died while it wrote a batch again; that batch came from its copy.
    pub restored: bool,
    /// A manifest slot was torn, or rotten where it did not matter, and has been written again: what was there.
    pub manifest_repaired: Option<String>,
}

/// A log that does not open.
pub struct Refused<D: Disk> {
    /// Why.
    pub error: OpenError,
    /// What stands before the damage, and with it the disk, unless something was written.
    pub prefix: Option<Prefix<D>>,
}

/// A tail that a crash left and nobody was promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Number of the segment.
    pub segment: u64,
    /// Where the log ends, bytes from the segment's beginning.
    pub offset: u64,
    /// Bytes erased after it, from the first to the last that was not zero, in whole blocks.
    pub erased: u64,
    /// What stood there.
    pub found: String,
}

/// Collects what is found on the way.
struct Opening<'a, D, F> {
    disk: D,
    options: &'a Options,
    each: F,
    index: Index,
    standing: Standing,
    /// The last segment in which a vote was seen.
    voted_in: u64,
    /// The last segment that was not read through; 0 when all were.
    skipped: u64,
    recovery: Recovery,
    /// Where the log stands behind the segments read so far.
    tip: Lsn,
    committed: Lsn,
    /// The mark of the last batch walked; the next one's may not be lower. Footers may know of more.
    mark: Lsn,
    next_batch: u64,
    previous: Digest,
    /// Files of segments that never began; removed once all else was found good.
    unused: Vec<String>,
}

impl<D: Disk> Log<D> {
    /// Opens the log of a disk, or begins one on an empty disk. `each` sees every frame of the segments that are
    /// read through, in log order, voided ones included: it resolves truncations itself.
    ///
    /// Returns when everything `each` saw is durable.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing has been written then, unless the disk failed while a torn tail was erased,
    /// which the next attempt does again.
    pub fn open<E: Display>(
        disk: D,
        options: &Options,
        each: impl FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(Log<D>, Recovery), OpenError> {
        Log::open_or_return(disk, options, each).map_err(|refused| refused.error)
    }

    /// The same; a log that does not open gives back what stands before the damage, and with it the disk, to be repaired.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_or_return<E: Display>(
        disk: D,
        options: &Options,
        mut each: impl FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(Log<D>, Recovery), Box<Refused<D>>> {
        let refused = |error, prefix| Box::new(Refused { error, prefix });
        if let Err(error) = options.check() {
            let prefix = Prefix { disk, index: Index::default(), committed: Lsn::ZERO };
            return Err(refused(error, Some(prefix)));
        }
        let mut opening = Opening {
            disk,
            options,
            each: |_: &Header, _: u64, frame: &Frame<'_>| each(frame),
            index: Index::default(),
            standing: Standing::default(),
            voted_in: 0,
            skipped: 0,
            recovery: Recovery::default(),
            tip: Lsn::ZERO,
            committed: Lsn::ZERO,
            mark: Lsn::ZERO,
            next_batch: 1,
            previous: Digest::ZERO,
            unused: Vec::new(),
        };
        match opening.find() {
            Ok((newest, full, active)) => {
                opening.finish(newest, full, active).map_err(|error| refused(error, None))
            }
            Err(error) => {
                let Opening { disk, index, mark, .. } = opening;
                // Not what footers say: what stands at the end of a segment may be void by what is damaged behind it.
                Err(refused(error, Some(Prefix { disk, index, committed: mark })))
            }
        }
    }
}

impl<D: Disk, E: Display, F> Opening<'_, D, F>
where
    F: FnMut(&Header, u64, &Frame<'_>) -> Result<(), E>,
{
    /// Goes through all segments, from the first to the last.
    fn find(&mut self) -> Result<(Newest, VecDeque<Full>, Active), OpenError> {
        let newest = self.newest()?;
        let manifest = &newest.manifest;
        let mut full = VecDeque::new();
        for number in 1..=manifest.active.number {
            if newest.missing == Some(number) {
                return Err(OpenError::MissingSegment { number, last: manifest.active.number });
            }
            if number == manifest.active.number {
                break;
            }
            if number <= manifest.sealed {
                self.sealed(number, manifest)?;
            } else {
                full.push_back(self.full(number, manifest)?);
            }
        }
        let active = self.active(&newest)?;
        self.look_back()?;
        Ok((newest, full, active))
    }

    /// Walks as far as there are good batches, and looks at what follows.
    fn walk(
        &mut self,
        walk: &mut Walk,
        source: &mut impl Source,
        header: &SegmentHeader,
    ) -> Result<(Here, Later), OpenError> {
        let number = header.number;
        self.index.begin(header.tip);
        let (each, standing, recovery) = (&mut self.each, &mut self.standing, &mut self.recovery);
        let voted_in = &mut self.voted_in;
        let (mut purged, mut place) = (Lsn::ZERO, 0);
        let here = loop {
            let step = walk.step(source, &mut |header, at, frame| {
                standing.note(frame);
                recovery.frames += 1;
                match frame.kind {
                    Kind::Purged => purged = purged.max(frame.lsn),
                    Kind::Vote => *voted_in = number,
                    Kind::Entry | Kind::Truncate => {}
                }
                place = at;
                each(header, at, frame)
            });
            match step {
                Ok(Here::Batch(batch)) => {
                    self.index.note(&batch);
                    self.mark = batch.committed;
                    recovery.batches += 1;
                }
                Ok(here) => break here,
                Err(Stop::Io(error)) => return Err(OpenError::unreadable(number)(error)),
                Err(Stop::Each(reason)) => {
                    return Err(OpenError::Refused {
                        segment: number,
                        offset: place,
                        reason: reason.to_string(),
                    });
                }
            }
        };
        let later = walk.later(source, &here).map_err(OpenError::unreadable(number))?;
        self.tip = walk.tip;
        self.committed = self.committed.max(walk.committed).max(purged);
        self.next_batch = walk.next_batch;
        Ok((here, later))
    }

    fn finish(
        mut self,
        newest: Newest,
        full: VecDeque<Full>,
        active: Active,
    ) -> Result<(Log<D>, Recovery), OpenError> {
        let mut manifest = newest.manifest;
        if let Some(flaw) = newest.damaged {
            // The other slot is the damaged one: the next generation goes there.
            manifest.generation += 1;
            write_manifest(&mut self.disk, &manifest).map_err(OpenError::disk("repair the manifest"))?;
            self.recovery.manifest_repaired = Some(format!("{flaw:?}"));
        }
        for name in &self.unused {
            self.disk.remove(name).map_err(OpenError::disk(format!("remove unused {name}")))?;
        }
        // What lives in a sealed segment was committed when it was sealed, whatever the marks had told by then.
        let sealed =
            manifest.sealed.checked_sub(1).map_or(Lsn::ZERO, |_| Lsn(self.index.span(manifest.sealed).last));
        let committed = self.committed.max(sealed).min(self.tip);
        let recovery = Recovery {
            segments: active.header.number,
            sealed: manifest.sealed,
            tip: self.tip,
            committed,
            ..self.recovery
        };
        let parts = Parts {
            disk: self.disk,
            manifest,
            active,
            full,
            index: self.index,
            standing: self.standing,
            segment_bytes: self.options.segment_bytes,
            depth: self.options.depth,
            durable: Ticket { batch: self.next_batch - 1, lsn: self.tip },
            committed,
        };
        let mut log = Log::new(parts).map_err(OpenError::disk("reserve buffers"))?;
        log.ask_next();
        Ok((log, recovery))
    }
}

/// What to say about the place where a walk stopped.
pub(crate) fn stop_flaw(here: &Here, later: Later, walk: &Walk) -> Flaw {
    match here {
        Here::Damaged(flaw) | Here::Stranger(flaw) => flaw.clone(),
        Here::Batch(_) | Here::End | Here::Zero => {
            let expected = match later {
                Later::Proof => format!("batch {}, which a later one knew to be durable", walk.next_batch),
                Later::Residue | Later::Nothing => "zeros up to the footer".into(),
            };
            Flaw::new(walk.offset, expected, format!("{here:?}, then {later:?}"))
        }
    }
}
