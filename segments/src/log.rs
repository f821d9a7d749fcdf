//! The log: frames go into an open batch, a batch goes to the disk in one write and one sync.
//!
//! Keeps S1 (durable): a completed ticket speaks of bytes that were written whole and synced. Keeps S3 (once
//! failed, stays failed): after a failed write or sync nothing is accepted until the log has been reopened.
//!
//! One thread owns a log. Several batches may be in flight; they complete in order. Positions become readable
//! when they are durable.

use std::collections::VecDeque;
use std::io;

use engine::limits::BLOCK;
use engine::log::Lsn;

use crate::batch::{BATCH_HEADER, BATCH_MAX, Header, Sum};
use crate::disk::{Disk, FileId, Slot};
use crate::error::LogError;
use crate::frame::{FRAME_HEADER, Frame, Kind};
use crate::index::Index;
use crate::manifest::Manifest;
use crate::place::Stamp;
use crate::rotate::{Full, Next, reserve_of};
use crate::segment::SegmentHeader;
use crate::standing::{Owned, Standing};
use crate::stats::Stats;

/// A promise to come: everything up to `lsn`, and every frame appended before it, is durable once a ticket with
/// this batch or a later one has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// Number of the batch, counted over the whole log.
    pub batch: u64,
    /// Last position of the log at the end of that batch.
    pub lsn: Lsn,
}

/// The segment being written.
pub(crate) struct Active {
    pub header: SegmentHeader,
    pub stamp: Stamp,
    pub file: FileId,
    /// Where the next batch goes.
    pub end: u64,
    /// BLAKE3 of the bytes before `end`, but for those of the batch that is still to be hashed.
    pub hasher: blake3::Hasher,
    pub frames: u64,
}

impl Active {
    pub(crate) fn room(&self) -> usize {
        (self.header.footer_at() - self.end) as usize
    }
}

/// The batch being filled.
struct Draft {
    slot: Slot,
    used: usize,
    sum: Sum,
    committed: Lsn,
}

/// A batch on its way.
struct Flight {
    slot: Slot,
    header: Header,
    landed: bool,
}

/// An append-only log on one disk. Made by [`Log::open`].
pub struct Log<D: Disk> {
    pub(crate) disk: D,
    pub(crate) manifest: Manifest,
    pub(crate) active: Active,
    pub(crate) full: VecDeque<Full>,
    pub(crate) next: Next,
    pub(crate) refused: Option<String>,
    pub(crate) index: Index,
    pub(crate) standing: Standing,
    pub(crate) stats: Stats,
    pub(crate) segment_bytes: u64,
    draft: Option<Draft>,
    flights: VecDeque<Flight>,
    /// The last batch sent and its length: its bytes join the chain when there is time, at the latest before
    /// anything changes its buffer or asks for the chain.
    unhashed: Option<(Slot, usize)>,
    free: Vec<Slot>,
    depth: usize,
    slot_bytes: usize,
    next_batch: u64,
    tip: Lsn,
    pub(crate) durable: Ticket,
    pub(crate) committed: Lsn,
    announced: u64,
    failed: bool,
}

/// What recovery hands over to a new log.
pub(crate) struct Parts<D> {
    pub disk: D,
    pub manifest: Manifest,
    pub active: Active,
    pub full: VecDeque<Full>,
    pub index: Index,
    pub standing: Standing,
    pub segment_bytes: u64,
    pub depth: u16,
    pub durable: Ticket,
    pub committed: Lsn,
}

impl<D: Disk> Log<D> {
    pub(crate) fn new(parts: Parts<D>) -> io::Result<Log<D>> {
        let Parts {
            mut disk,
            manifest,
            active,
            full,
            index,
            standing,
            segment_bytes,
            depth,
            durable,
            committed,
        } = parts;
        let smallest = segment_bytes.min(active.header.bytes);
        let slot_bytes = BATCH_MAX.min(smallest as usize - 2 * BLOCK);
        // One more than can be in flight: the batch being filled.
        let slots = depth + 1;
        disk.reserve(slots, slot_bytes)?;
        Ok(Log {
            disk,
            manifest,
            active,
            full,
            next: Next::Idle,
            refused: None,
            index,
            standing,
            stats: Stats::default(),
            segment_bytes,
            draft: None,
            flights: VecDeque::with_capacity(usize::from(depth)),
            unhashed: None,
            free: (0..slots).rev().map(Slot).collect(),
            depth: usize::from(depth),
            slot_bytes,
            next_batch: durable.batch + 1,
            tip: durable.lsn,
            announced: durable.batch,
            durable,
            committed,
            failed: false,
        })
    }

    /// Last position appended, durable or not.
    #[must_use]
    pub fn tip(&self) -> Lsn {
        self.tip
    }

    /// Everything up to here survives any crash.
    #[must_use]
    pub fn durable(&self) -> Ticket {
        self.durable
    }

    /// Highest position known committed.
    #[must_use]
    pub fn committed(&self) -> Lsn {
        self.committed
    }

    /// Number of the last sealed segment, 0 when none is: all up to it are sealed.
    #[must_use]
    pub fn sealed(&self) -> u64 {
        self.manifest.sealed
    }

    /// Whether the log has stopped for good (S3).
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Batches on their way to the disk.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Whether frames wait in the open batch for the next [`Log::submit`].
    #[must_use]
    pub fn has_open_batch(&self) -> bool {
        self.draft.is_some()
    }

    /// Tells the log that everything up to `lsn` is committed: it may seal segments, and will refuse to void
    /// it. Marks only grow; one beyond the tip counts up to the tip. With one voter, call it with each
    /// completed ticket.
    pub fn set_committed(&mut self, lsn: Lsn) {
        self.committed = self.committed.max(lsn.min(self.tip));
    }

    /// Puts a frame into the open batch. Writes only when the batch or the segment is full.
    ///
    /// # Errors
    /// [`LogError::Full`], [`LogError::TooLarge`] and [`LogError::OutOfOrder`] leave the log as it was.
    /// After [`LogError::Disk`] it has stopped (S3).
    pub fn append(&mut self, frame: Frame<'_>) -> Result<(), LogError> {
        self.check_alive()?;
        let max = self.largest_frame();
        if frame.size() > max || !Standing::fits(&frame) {
            let max =
                max.min(if frame.kind == Kind::Entry { max } else { FRAME_HEADER + Standing::PAYLOAD_MAX });
            return Err(LogError::TooLarge { bytes: frame.size(), max });
        }
        if let Err(expected) = Sum::new(self.tip).with(&frame, self.committed) {
            return Err(LogError::OutOfOrder { expected, found: frame.lsn });
        }
        self.make_room(frame.kind, frame.size())?;
        self.put(&frame);
        self.standing.note(&frame);
        if frame.kind == Kind::Purged {
            // A snapshot holds committed entries only.
            self.set_committed(frame.lsn);
        }
        Ok(())
    }

    /// Largest frame that fits a batch of this log, bytes, its header included.
    #[must_use]
    pub fn largest_frame(&self) -> usize {
        // A new segment's first batch begins with the frames that stand; the rest of it must still fit one.
        self.slot_bytes - BATCH_HEADER - Standing::BYTES_MAX
    }

    fn check_alive(&self) -> Result<(), LogError> {
        if self.failed { Err(LogError::Failed) } else { Ok(()) }
    }

    /// From now on the log refuses everything (S3).
    pub(crate) fn fail(&mut self, error: io::Error) -> LogError {
        self.failed = true;
        LogError::Disk(error)
    }

    /// Sees to it that the open batch has room for a frame of `size` bytes.
    fn make_room(&mut self, kind: Kind, size: usize) -> Result<(), LogError> {
        loop {
            let used = self.draft.as_ref().map_or(BATCH_HEADER + self.head(), |draft| draft.used);
            // A segment that holds nothing yet keeps nothing back, or the largest frame would fit nowhere.
            let fresh = self.active.frames == 0;
            let reserve = if kind == Kind::Entry && !fresh { self.reserve() } else { 0 };
            if used + size <= self.slot_bytes.min(self.active.room().saturating_sub(reserve)) {
                if self.draft.is_none() {
                    let slot = self.take_slot()?;
                    let committed = self.committed.min(self.tip);
                    let first = self.head() > 0;
                    self.draft = Some(Draft { slot, used: BATCH_HEADER, sum: Sum::new(self.tip), committed });
                    if first {
                        self.standing.frames().iter().for_each(|frame| self.put(&frame.borrow()));
                    }
                }
                return Ok(());
            }
            // A draft that holds anything goes first: what was appended is kept whatever comes of the rotation.
            if self.draft.is_some() && used + size > self.slot_bytes {
                self.submit()?;
                continue;
            }
            self.await_next()?;
            if self.draft.is_some() {
                self.submit()?;
            }
            while self.retire(true)? {}
            self.rotate()?;
        }
    }

    /// What the frames that stand take in the next batch, bytes: the first one of a segment begins with them, whoever
    /// began the segment. A crash may have come between its header and its first batch.
    pub(crate) fn head(&self) -> usize {
        match self.active.end == BLOCK as u64 && self.draft.is_none() {
            true => self.standing.frames().iter().map(Owned::size).sum(),
            false => 0,
        }
    }

    /// While no next segment is ready, the last blocks of this one are kept for votes and truncations: a full
    /// disk must not silence a node that its group needs to elect a leader.
    fn reserve(&mut self) -> usize {
        self.poll_next();
        match self.next {
            Next::Ready => 0,
            Next::Idle | Next::Preparing => reserve_of(self.active.header.bytes),
        }
    }

    /// Bytes of the open batch.
    pub(crate) fn drafted(&self) -> usize {
        self.draft.as_ref().map_or(0, |draft| draft.used)
    }

    fn put(&mut self, frame: &Frame<'_>) {
        let draft = self.draft.as_mut().expect("make_room opened a batch");
        let place = self.active.end + draft.used as u64;
        let buffer = self.disk.buffer(draft.slot);
        frame.encode(&self.active.stamp, place, draft.sum.frames, &mut buffer[draft.used..]);
        draft.used += frame.size();
        draft.sum = draft.sum.with(frame, draft.committed).expect("the order was checked before");
        self.tip = draft.sum.tip;
        self.stats.payload_bytes += frame.payload.len() as u64;
    }

    fn take_slot(&mut self) -> Result<Slot, LogError> {
        // It may be the buffer of the batch that is not hashed yet.
        self.hash_last();
        while self.free.is_empty() {
            self.retire(true)?;
        }
        Ok(self.free.pop().expect("a completed batch gave its buffer back"))
    }

    /// Sends the open batch to the disk and returns without waiting for it, unless as many are in flight as the
    /// log may have. Returns the ticket of the last batch; without an open batch, of the last one sent.
    ///
    /// # Errors
    /// [`LogError::Disk`]: the log has stopped.
    pub fn submit(&mut self) -> Result<Ticket, LogError> {
        self.check_alive()?;
        while self.draft.is_some()
            && self.flights.iter().filter(|flight| !flight.landed).count() >= self.depth
        {
            self.land(true)?;
        }
        let Some(draft) = self.draft.take() else {
            return Ok(self.flights.back().map_or(self.durable, |flight| flight.ticket()));
        };
        let bytes = draft.used.next_multiple_of(BLOCK);
        self.hash_last();
        let header = Header {
            bytes: bytes as u32,
            used: draft.used as u32,
            frames: draft.sum.frames,
            offset: self.active.end,
            number: self.next_batch,
            durable: self.durable.batch,
            durable_lsn: self.durable.lsn,
            committed: draft.committed,
            first: draft.sum.first,
            tip: draft.sum.tip,
            kept: draft.sum.kept,
            chain: engine::log::Digest(*self.active.hasher.finalize().as_bytes()),
        };
        let batch = &mut self.disk.buffer(draft.slot)[..bytes];
        batch[draft.used..].fill(0);
        header.close(&self.active.stamp, batch);
        self.disk
            .submit(draft.slot, self.active.file, self.active.end, bytes)
            .map_err(|error| self.fail(error))?;
        self.unhashed = Some((draft.slot, bytes));
        self.active.end += bytes as u64;
        self.active.frames += u64::from(header.frames);
        self.next_batch += 1;
        self.flights.push_back(Flight { slot: draft.slot, header, landed: false });
        self.stats.batches += 1;
        self.stats.frames += u64::from(header.frames);
        Ok(Ticket { batch: header.number, lsn: header.tip })
    }

    /// How far the log has become durable since the last call that said so: the newest ticket that completed, with
    /// every batch before it. Without `wait`, `None` when nothing new has; with it, waits for at least one
    /// batch, and `None` only when nothing is in flight and all was said.
    ///
    /// # Errors
    /// [`LogError::Disk`]: a write or sync failed and the log has stopped; batches after [`Log::durable`] are lost.
    pub fn complete(&mut self, wait: bool) -> Result<Option<Ticket>, LogError> {
        self.check_alive()?;
        self.poll_next();
        while self.retire(false)? {}
        if self.durable.batch == self.announced {
            // Nobody waits for news that are here already: the disk works, or those who were answered do.
            self.hash_last();
            self.retire(wait)?;
            while self.retire(false)? {}
        }
        self.seal_committed()?;
        if self.durable.batch == self.announced {
            return Ok(None);
        }
        self.announced = self.durable.batch;
        Ok(Some(self.durable))
    }

    /// Adds the last batch sent to the chain, if that was put off: hashing it may take as long as writing it.
    pub(crate) fn hash_last(&mut self) {
        if let Some((slot, bytes)) = self.unhashed.take() {
            self.active.hasher.update(&self.disk.buffer(slot)[..bytes]);
        }
    }

    /// Takes note of the oldest batch in flight if it has landed, or, with `wait`, once it has.
    fn retire(&mut self, wait: bool) -> Result<bool, LogError> {
        loop {
            let Some(front) = self.flights.front() else { return Ok(false) };
            if front.landed {
                let flight = self.flights.pop_front().expect("the front is there");
                self.free.push(flight.slot);
                self.durable = flight.ticket();
                self.index.note(&flight.header);
                return Ok(true);
            }
            if !self.land(wait)? {
                return Ok(false);
            }
        }
    }

    /// Takes one completion from the disk, in whatever order they come.
    fn land(&mut self, wait: bool) -> Result<bool, LogError> {
        let completion = self.disk.complete(wait).map_err(|error| self.fail(error))?;
        let Some(completion) = completion else { return Ok(false) };
        completion.result.map_err(|error| self.fail(error))?;
        self.stats.note_sync(completion.nanos);
        let flight = self.flights.iter_mut().find(|flight| flight.slot == completion.slot && !flight.landed);
        flight.expect("S1: a completion belongs to a batch in flight").landed = true;
        Ok(true)
    }

    /// Sends the open batch and waits until everything appended is durable: one write, one sync.
    ///
    /// # Errors
    /// [`LogError::Disk`]: the log has stopped.
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.submit()?;
        while self.retire(true)? {}
        self.seal_committed()
    }

    /// What this log has done since it was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counters = self.disk.counters();
        Stats {
            bytes_written: counters.bytes_written,
            bytes_zeroed: counters.bytes_zeroed,
            syncs: counters.syncs,
            segments: self.active.header.number,
            ..self.stats
        }
    }

    /// The disk, to ask what it knows.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Where the durable batches of the active segment end.
    pub(crate) fn durable_end(&self) -> u64 {
        self.flights.front().map_or(self.active.end, |flight| flight.header.offset)
    }

    pub(crate) fn next_batch(&self) -> u64 {
        self.next_batch
    }
}

impl Flight {
    fn ticket(&self) -> Ticket {
        Ticket { batch: self.header.number, lsn: self.header.tip }
    }
}
