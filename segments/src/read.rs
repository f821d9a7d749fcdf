//! Reading entries back by position: the last segment from its file, finished ones through a map where the disk
//! gives one. Every batch is checked again before anything in it is handed over.

use engine::limits::BLOCK;
use engine::log::Lsn;

use crate::batch::{Frames, Header};
use crate::damage::{Damage, Flaw};
use crate::disk::Disk;
use crate::error::LogError;
use crate::frame::{Frame, Kind};
use crate::index::{Index, Marks};
use crate::log::Log;
use crate::place::Stamp;
use crate::segment::{BlockFlaw, SegmentHeader, segment_name};
use crate::source::{Source, from_disk};

/// Read-ahead of a look-up: a few batches of a lightly loaded log.
const READ_AHEAD: usize = 128 << 10;

/// One look into a segment.
struct Look<'a> {
    stamp: Stamp,
    segment: u64,
    /// Where the durable batches end.
    end: u64,
    index: &'a mut Index,
}

/// How a look ended.
#[derive(PartialEq, Eq)]
enum Looked {
    /// The visitor has enough, or the position is not there.
    Done,
    /// Go on at the next position, which may live elsewhere.
    More,
}

impl<D: Disk> Log<D> {
    /// First position that can be read, [`Lsn::ZERO`] when there is none.
    #[must_use]
    pub fn first(&self) -> Lsn {
        self.index.first()
    }

    /// Hands living entries from `from` on to `each`, in order, while it returns true and they are durable.
    /// Returns the position after the last one handed over. A position that is not in the log ends it.
    ///
    /// # Errors
    /// [`LogError::Disk`], [`LogError::Corrupt`]. A failed read does not stop the log.
    pub fn read(&mut self, from: Lsn, each: &mut dyn FnMut(&Frame<'_>) -> bool) -> Result<Lsn, LogError> {
        let mut next = from.max(Lsn(1));
        while let Some(segment) = self.index.segment_of(next) {
            let looked = match segment == self.active.header.number {
                true => {
                    let (stamp, end) = (self.active.stamp, self.durable_end());
                    let source = from_disk(&mut self.disk, self.active.file, READ_AHEAD);
                    Look { stamp, segment, end, index: &mut self.index }.run(source, &mut next, each)
                }
                false => self.look_finished(segment, &mut next, each),
            };
            if looked? == Looked::Done {
                break;
            }
        }
        Ok(next)
    }

    /// One entry: its term and payload. `None` where the position is not in the log or not durable yet.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn read_one(&mut self, lsn: Lsn) -> Result<Option<(u64, Vec<u8>)>, LogError> {
        let mut found = None;
        self.read(lsn, &mut |frame| {
            found = Some((frame.term, frame.payload.to_vec()));
            false
        })?;
        Ok(found)
    }

    fn look_finished(
        &mut self,
        segment: u64,
        next: &mut Lsn,
        each: &mut dyn FnMut(&Frame<'_>) -> bool,
    ) -> Result<Looked, LogError> {
        let name = segment_name(segment);
        let index = &mut self.index;
        // A full segment still awaits its footer, and a map is for files that never change.
        if segment <= self.manifest.sealed
            && let Some(map) = self.disk.map(&name)?
        {
            let looked = Look::new(segment, &mut &map, index).and_then(|look| look.run(&map, next, each));
            return looked.map_err(|error| damaged(error, segment, *next));
        }
        look_at_file(&mut self.disk, index, segment, next, each)
    }
}

/// A look into a segment's file.
fn look_at_file<D: Disk>(
    disk: &mut D,
    index: &mut Index,
    segment: u64,
    next: &mut Lsn,
    each: &mut dyn FnMut(&Frame<'_>) -> bool,
) -> Result<Looked, LogError> {
    let file = disk.open(&segment_name(segment))?;
    let mut source = from_disk(disk, file, READ_AHEAD);
    let looked = Look::new(segment, &mut source, index).and_then(|look| look.run(source, next, each));
    disk.close(file);
    looked.map_err(|error| damaged(error, segment, *next))
}

/// What a disk refuses to give is as damaged as what it gives wrongly.
fn damaged(error: LogError, segment: u64, next: Lsn) -> LogError {
    match error {
        LogError::Disk(error) => {
            LogError::Corrupt(Flaw::new(0, "bytes that can be read", error).in_segment(segment, next))
        }
        error => error,
    }
}

/// What stands before the damage in a log that does not open: as it once was, when its last good batch had been written.
/// What the damage hides may have voided some of it since.
///
/// Nothing behind the damage is looked at, and every batch is checked again when it is read.
pub struct Prefix<D: Disk> {
    pub(crate) disk: D,
    pub(crate) index: Index,
    pub(crate) committed: Lsn,
}

impl<D: Disk> Prefix<D> {
    /// The disk, which the log that did not open has not written to.
    pub fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    /// The same, and nothing else any more.
    #[must_use]
    pub fn into_disk(self) -> D {
        self.disk
    }

    /// Everything up to here is good, agreed, and so in the log for good: the batches that stand before the damage say so.
    #[must_use]
    pub fn committed(&self) -> Lsn {
        self.committed
    }

    /// [`Log::read`] as far as the damage.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn read(&mut self, from: Lsn, each: &mut dyn FnMut(&Frame<'_>) -> bool) -> Result<Lsn, LogError> {
        let mut next = from.max(Lsn(1));
        while let Some(segment) = self.index.segment_of(next) {
            let looked = look_at_file(&mut self.disk, &mut self.index, segment, &mut next, each);
            if looked? == Looked::Done {
                break;
            }
        }
        Ok(next)
    }
}

impl<'a> Look<'a> {
    fn new(segment: u64, source: &mut impl Source, index: &'a mut Index) -> Result<Look<'a>, LogError> {
        let block = source.bytes(0, BLOCK)?.first_chunk().expect("a block was asked for");
        let header = SegmentHeader::decode(block).map_err(|flaw| {
            let flaw = match flaw {
                BlockFlaw::Bad(flaw) => flaw,
                other => Flaw::new(0, "the header this log wrote", format!("{other:?}")),
            };
            LogError::Corrupt(flaw.in_segment(segment, Lsn::ZERO))
        })?;
        Ok(Look { stamp: header.stamp(), segment, end: header.footer_at(), index })
    }

    fn run(
        self,
        mut source: impl Source,
        next: &mut Lsn,
        each: &mut dyn FnMut(&Frame<'_>) -> bool,
    ) -> Result<Looked, LogError> {
        if self.index.marks(self.segment).is_none() {
            let marks = self.mark(&mut source)?;
            self.index.remember(self.segment, marks);
        }
        let marks = self.index.marks(self.segment);
        let Some((mut at, beyond)) = marks.and_then(|marks| marks.locate(next.0)) else {
            return Ok(Looked::Done);
        };
        // What comes after it in this segment was voided by a later one, perhaps in the middle of a batch.
        let last = self.index.span(self.segment).last;
        let mut expected = None;
        while let Some(header) = self.header_at(&mut source, at, expected)? {
            expected = Some(header.number + 1);
            if header.kept < u64::MAX || header.tip >= *next {
                let batch = source.bytes(at, header.bytes as usize)?;
                header.check(&self.stamp, batch).map_err(|flaw| self.damage(flaw.within(at), *next))?;
                for frame in self.living(&header, batch)? {
                    if frame.lsn != *next || next.0 >= beyond || next.0 > last {
                        continue;
                    }
                    *next = next.next();
                    if !each(&frame) {
                        return Ok(Looked::Done);
                    }
                }
            }
            if next.0 >= beyond || next.0 > last {
                return Ok(Looked::More);
            }
            at += u64::from(header.bytes);
        }
        Ok(Looked::Done)
    }

    /// Walks the headers of a segment that nobody walked since the log was opened.
    fn mark(&self, source: &mut impl Source) -> Result<Marks, LogError> {
        let mut marks = Marks::default();
        let (mut at, mut expected) = (BLOCK as u64, None);
        while let Some(header) = self.header_at(source, at, expected)? {
            marks.note(&header);
            expected = Some(header.number + 1);
            at += u64::from(header.bytes);
        }
        Ok(marks)
    }

    /// The batch header at `at`, `None` where the batches end.
    fn header_at(
        &self,
        source: &mut impl Source,
        at: u64,
        number: Option<u64>,
    ) -> Result<Option<Header>, LogError> {
        if at >= self.end {
            return Ok(None);
        }
        let block = source.bytes(at, BLOCK)?;
        if crate::bytes::is_zero(block) {
            return Ok(None);
        }
        let header = Header::read(&self.stamp, at, self.end - at, block)
            .map_err(|flaw| self.damage(flaw.within(at), Lsn::ZERO))?;
        match number {
            Some(number) if number != header.number => {
                Err(self.damage(Flaw::new(at + 40, format!("batch {number}"), header.number), Lsn::ZERO))
            }
            _ => Ok(Some(header)),
        }
    }

    /// The entries of a batch that it does not itself void.
    fn living<'b>(&self, header: &Header, batch: &'b [u8]) -> Result<Vec<Frame<'b>>, LogError> {
        let mut living: Vec<Frame<'b>> = Vec::with_capacity(header.frames.min(1024) as usize);
        for item in Frames::new(self.stamp, header, batch) {
            let (_, frame) = item.map_err(|flaw| self.damage(flaw.within(header.offset), header.tip))?;
            match frame.kind {
                Kind::Entry => living.push(frame),
                Kind::Truncate => living.retain(|entry| entry.lsn <= frame.lsn),
                Kind::Vote | Kind::Purged => {}
            }
        }
        Ok(living)
    }

    fn damage(&self, flaw: Flaw, lsn: Lsn) -> LogError {
        let damage: Damage = flaw.in_segment(self.segment, lsn);
        LogError::Corrupt(damage)
    }
}
