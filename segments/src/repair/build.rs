//! Making the segment again, beside the damaged one, and giving it the name.

use super::*;
use crate::batch::{BATCH_HEADER, BATCH_MAX, Frames, Header, Sum};
use crate::bytes::{is_zero, put, u32_at, u64_at};
use crate::damage::Flaw;
use crate::index::Index;
use crate::walk::{Chain, Here, Stop, Walk};

/// What fills one gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Entries after this position and before the gap are void, which the gap hid; at or after the gap's tip nothing is.
    pub keep: Lsn,
    /// Entries with term and payload, from the one after `keep`, or after the gap's tip if that is lower, to the last one that
    /// is missing.
    pub entries: Vec<(Lsn, u64, Vec<u8>)>,
}

/// What a repair came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mended {
    /// The bytes are those that were written first.
    pub exact: bool,
    /// Length of the file, bytes.
    pub bytes: u64,
}

/// The name of the file in which a segment is made again.
pub(crate) fn repair_name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

/// What such names end with.
pub(crate) const SUFFIX: &str = ".repair";

/// A segment being made.
pub(super) struct Made {
    bytes: Vec<u8>,
    hasher: blake3::Hasher,
    index: Index,
    frames: u64,
    tip: Lsn,
    /// What filled the gaps is what was there.
    pub exact: bool,
}

impl Made {
    fn begin(header: &SegmentHeader) -> Made {
        let block = header.encode();
        let mut index = Index::default();
        index.begin(header.tip);
        let mut made = Made {
            bytes: Vec::with_capacity(header.bytes as usize),
            hasher: blake3::Hasher::new(),
            index,
            frames: 0,
            tip: header.tip,
            exact: true,
        };
        made.append(&block[..]);
        made
    }

    fn append(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes.extend_from_slice(bytes);
    }

    fn chain(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }

    fn stands_at(&self, offset: u64) -> bool {
        self.bytes.len() as u64 == offset
    }

    /// A batch as it stands.
    fn copy(&mut self, header: &Header, batch: &[u8]) {
        self.append(batch);
        self.index.note(header);
        self.frames += u64::from(header.frames);
        self.tip = header.tip;
    }

    /// A batch with the marks of `like`, made of these frames; why not, if they do not follow.
    fn batch(&mut self, header: &SegmentHeader, like: Header, frames: &[Frame<'_>]) -> Result<(), String> {
        let (stamp, at) = (header.stamp(), self.bytes.len() as u64);
        let used = BATCH_HEADER + frames.iter().map(Frame::size).sum::<usize>();
        if used > BATCH_MAX {
            return Err(format!("batch {} would be too large", like.number));
        }
        let mut batch = vec![0; used.next_multiple_of(BLOCK)];
        let (mut place, mut sum) = (BATCH_HEADER, Sum::new(self.tip));
        for frame in frames {
            frame.encode(&stamp, at + place as u64, sum.frames, &mut batch[place..]);
            place += frame.size();
            let follows = sum.with(frame, like.committed);
            sum = follows.map_err(|lsn| format!("{} in batch {}, expected {lsn}", frame.lsn, like.number))?;
        }
        let made = Header {
            bytes: batch.len() as u32,
            used: used as u32,
            frames: sum.frames,
            offset: at,
            first: sum.first,
            tip: sum.tip,
            kept: sum.kept,
            chain: self.chain(),
            ..like
        };
        made.close(&stamp, &mut batch);
        self.copy(&made, &batch);
        Ok(())
    }
}

impl Repair {
    /// Fills the gaps, and swaps the segment for what came out. `vote` (its term and its bytes) goes behind the last gap:
    /// it is needed where [`Repair::hides_a_vote`]. The damaged file is gone afterwards: a disk that is full has
    /// no room for it, and what it held that is good is in the new one.
    ///
    /// # Errors
    /// [`RepairError`]; the segment is as it was then.
    pub fn mend<D: Disk>(
        mut self,
        disk: &mut D,
        fills: &[Fill],
        vote: Option<(u64, &[u8])>,
    ) -> Result<Mended, RepairError> {
        let number = self.header.number;
        let hopeless = |why: String| RepairError::Hopeless { segment: number, why };
        if fills.len() != self.gaps.len() {
            return Err(hopeless(format!("{} gaps and {} fills", self.gaps.len(), fills.len())));
        }
        // Once as it was; once more if that is not what comes out, or does not fit.
        let mut exact = true;
        let mut made = self.make(fills, vote).map_err(&hopeless)?;
        let needed = made.bytes.len() as u64 + BLOCK as u64;
        let whole = needed <= self.header.bytes && self.is_as_it_was(&made);
        if !whole {
            exact = false;
            if let Some(end) = self.end {
                self.header.stands_for = end.name;
                self.header.bytes = needed.max(self.header.bytes);
                made = self.make(fills, vote).map_err(&hopeless)?;
            } else if needed > self.header.bytes {
                return Err(hopeless("what is missing does not fit between what is there".into()));
            }
        }
        let bytes = self.close(made);
        if *bytes == *self.bytes && !self.unread {
            // Somebody was quicker, or the disk gives today what it refused yesterday.
            return Ok(Mended { exact: true, bytes: bytes.len() as u64 });
        }
        self.check(&bytes).map_err(|flaw| {
            hopeless(format!("what was made is not good: {}", flaw.in_segment(number, Lsn::ZERO)))
        })?;
        self.swap(disk, &bytes, exact).map_err(RepairError::disk(number))?;
        Ok(Mended { exact, bytes: bytes.len() as u64 })
    }

    /// Whether nothing but the damaged bytes differs: the segment's own digest says so, and where there is none yet, the
    /// checksum or the chain at every gap has.
    pub(super) fn is_as_it_was(&self, made: &Made) -> bool {
        let Some(digest) = self.digest else { return self.end.is_none() && made.exact };
        let Some(zeros) = (self.header.footer_at() as usize).checked_sub(made.bytes.len()) else {
            return false;
        };
        let mut hasher = made.hasher.clone();
        hash_zeros(&mut hasher, zeros);
        hasher.finalize().as_bytes() == &digest.0
    }

    fn raw(&self, batch: &Header) -> &[u8] {
        &self.bytes[batch.offset as usize..][..batch.bytes as usize]
    }

    /// Header and batches, without zeros and footer.
    pub(super) fn make(&self, fills: &[Fill], vote: Option<(u64, &[u8])>) -> Result<Made, String> {
        let stamp = self.header.stamp();
        let mut made = Made::begin(&self.header);
        let mut gaps = 0;
        for (nth, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Batch(batch) if made.stands_at(batch.offset) && made.chain() == batch.chain => {
                    made.copy(batch, self.raw(batch));
                }
                Piece::Batch(batch) => {
                    let frames = Frames::new(stamp, batch, self.raw(batch));
                    let frames: Result<Vec<_>, Flaw> =
                        frames.map(|item| item.map(|(_, frame)| frame)).collect();
                    made.batch(&self.header, *batch, &frames.map_err(|flaw| format!("{flaw:?}"))?)?;
                }
                Piece::Hole(hole) => {
                    let fill = fills.get(gaps).ok_or("a gap without a fill")?;
                    gaps += 1;
                    let next = match self.pieces.get(nth + 1) {
                        Some(Piece::Batch(batch)) => Some(batch.chain),
                        _ => None,
                    };
                    let vote = vote.filter(|_| gaps == fills.len());
                    let stands = self.gaps[gaps - 1].stands;
                    match self.restored(&made, hole, fill, next) {
                        Some((header, batch)) if vote.is_none() => made.copy(&header, &batch),
                        _ => {
                            made.exact = false;
                            pack(&mut made, &self.header, (hole, stands), fill, vote)?;
                        }
                    }
                }
            }
        }
        Ok(made)
    }

    /// The one batch of a hole as it was written, if only entries in it, or its own sums, were damaged: what is good in
    /// it stays in its place, entries that are not come from the fill, and its checksum, or the chain in the next batch,
    /// shows that nothing else was there.
    fn restored(
        &self,
        made: &Made,
        hole: &Hole,
        fill: &Fill,
        next: Option<Digest>,
    ) -> Option<(Header, Vec<u8>)> {
        if hole.batches != 1 || fill.keep < hole.tip || !made.stands_at(hole.at) {
            return None;
        }
        let stamp = self.header.stamp();
        let raw = &self.bytes[hole.at as usize..hole.end as usize];
        // Where nothing follows, its own header may say how long it was.
        let length = match u32_at(raw, 8) as usize {
            length if next.is_none() && length > 0 && length.is_multiple_of(BLOCK) => length,
            _ => raw.len(),
        };
        let mut batch = raw.get(..length.min(BATCH_MAX))?.to_vec();
        let (mut at, mut sum) = (BATCH_HEADER, Sum::new(hole.tip));
        while at < batch.len() {
            let place = hole.at + at as u64;
            let there = Frame::decode(&stamp, place, sum.frames, &batch[at..]).ok();
            let there = there.and_then(|frame| Some((sum.with(&frame, hole.committed).ok()?, frame.size())));
            if let Some((with, size)) = there {
                (sum, at) = (with, at + size);
                continue;
            }
            let lost = fill.entries.iter().find(|(lsn, _, _)| *lsn == sum.tip.next());
            let Some((lsn, term, payload)) = lost else { break };
            let frame = Frame::entry(*lsn, *term, payload);
            if at + frame.size() > batch.len() {
                return None;
            }
            frame.encode(&stamp, place, sum.frames, &mut batch[at..]);
            (sum, at) = (sum.with(&frame, hole.committed).ok()?, at + frame.size());
        }
        if sum.frames == 0 || at.next_multiple_of(BLOCK) != batch.len() {
            return None;
        }
        batch[at..].fill(0);
        let header = Header {
            bytes: batch.len() as u32,
            used: at as u32,
            frames: sum.frames,
            offset: hole.at,
            number: hole.first,
            durable: u64_at(&batch, 48),
            durable_lsn: Lsn(u64_at(&batch, 56)),
            committed: Lsn(u64_at(&batch, 64)),
            first: sum.first,
            tip: sum.tip,
            kept: sum.kept,
            chain: made.chain(),
        };
        let checksum = u32_at(&batch, 4);
        header.close(&stamp, &mut batch);
        let linked = || {
            let mut hasher = made.hasher.clone();
            hasher.update(&batch);
            next.is_some_and(|next| hasher.finalize().as_bytes() == &next.0)
        };
        (u32_at(&batch, 4) == checksum || linked()).then_some((header, batch))
    }

    /// The whole file: what was made, zeros, and the footer where there was one.
    fn close(&self, made: Made) -> Vec<u8> {
        let Made { mut bytes, mut hasher, index, frames, .. } = made;
        let (header, end) = (&self.header, bytes.len());
        let footer_at = header.footer_at() as usize;
        bytes.resize(header.bytes as usize, 0);
        hasher.update(&bytes[end..footer_at]);
        if self.state == State::Sealed {
            let span = index.span(1);
            let batches = self.pieces.iter().map(|piece| match piece {
                Piece::Batch(_) => 1,
                Piece::Hole(hole) => hole.batches,
            });
            let footer = Footer {
                number: header.number,
                first_batch: header.first_batch,
                last_batch: header.first_batch + batches.sum::<u64>() - 1,
                first: Lsn(span.first),
                last: Lsn(span.last),
                end: end as u64,
                frames,
                digest: Digest(*hasher.finalize().as_bytes()),
            };
            put(&mut bytes, footer_at, &footer.encode()[..]);
        }
        bytes
    }

    /// Walks what was made as recovery will: S6.
    fn check(&self, bytes: &[u8]) -> Result<(), Flaw> {
        let header = &self.header;
        let mut walk = Walk::new(header, Lsn::ZERO, Chain::EachBatch);
        let mut source = bytes;
        loop {
            match walk.step(&mut source, &mut |_, _, _| Ok::<(), std::convert::Infallible>(())) {
                Ok(Here::Batch(_)) => {}
                Ok(Here::End | Here::Zero) => break,
                Ok(Here::Damaged(flaw) | Here::Stranger(flaw)) => return Err(flaw),
                Err(Stop::Io(error)) => return Err(Flaw::new(walk.offset, "a batch", error)),
                Err(Stop::Each(never)) => match never {},
            }
        }
        let rest = &bytes[walk.offset as usize..header.footer_at() as usize];
        let (batch, tip) = match self.end {
            Some(end) => (end.batch, end.tip),
            None => (walk.next_batch, walk.tip),
        };
        if !is_zero(rest) || (walk.next_batch, walk.tip) != (batch, tip) {
            let found = format!("{} at {}", walk.next_batch, walk.tip);
            return Err(Flaw::new(walk.offset, format!("the end before batch {batch} at {tip}"), found));
        }
        Ok(())
    }

    /// Writes the file beside the damaged one, reads it back, and gives it the name.
    fn swap<D: Disk>(&self, disk: &mut D, bytes: &[u8], exact: bool) -> io::Result<()> {
        let (beside, name) = (repair_name(self.header.number), segment_name(self.header.number));
        disk.prepare(&beside, bytes.len() as u64)?;
        disk.prepared(true).unwrap_or(Ok(()))?;
        let file = disk.open(&beside)?;
        let mut written = Ok(());
        for (nth, piece) in bytes.chunks(WINDOW).enumerate() {
            let at = (nth * WINDOW) as u64;
            written =
                written.and_then(|()| if is_zero(piece) { Ok(()) } else { disk.write(file, at, piece) });
        }
        written = written.and_then(|()| disk.sync(file));
        for (nth, piece) in bytes.chunks(WINDOW).enumerate() {
            let mut back = BlockBuf::new(piece.len());
            written = written.and_then(|()| {
                disk.read(file, (nth * WINDOW) as u64, &mut back)?;
                if back[..piece.len()] == *piece { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
            });
        }
        disk.close(file);
        written?;
        if self.state == State::Active && !exact {
            // A copy of a batch in the old layout would be taken for one that is missing in the new one.
            match disk.remove(SPARE) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        disk.rename(&beside, &name)
    }
}

fn hash_zeros(hasher: &mut blake3::Hasher, mut bytes: usize) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while bytes > 0 {
        let piece = bytes.min(ZEROS.len());
        hasher.update(&ZEROS[..piece]);
        bytes -= piece;
    }
}

/// As many batches as were lost, with what fills the gap: their numbers are spoken for.
fn pack(
    made: &mut Made,
    header: &SegmentHeader,
    (hole, stands): (&Hole, Lsn),
    fill: &Fill,
    vote: Option<(u64, &[u8])>,
) -> Result<(), String> {
    let mut frames = Vec::with_capacity(fill.entries.len() + 2);
    if fill.keep < hole.tip {
        frames.push(Frame::truncate(fill.keep));
    }
    frames.extend(fill.entries.iter().map(|(lsn, term, payload)| Frame::entry(*lsn, *term, payload)));
    // What was voided later is nowhere any more; something must stand in its place until it is voided again.
    let (term, tip) =
        fill.entries.last().map_or((0, fill.keep.min(hole.tip)), |(lsn, term, _)| (*term, *lsn));
    frames.extend((tip.0 + 1..=stands.0).map(|lsn| Frame::entry(Lsn(lsn), term, &[])));
    frames.extend(vote.map(|(term, bytes)| Frame::vote(term, bytes)));
    let mut left: usize = frames.iter().map(Frame::size).sum();
    let mut frames = frames.as_slice();
    for nth in 0..hole.batches {
        let share = left.div_ceil((hole.batches - nth) as usize) + BATCH_HEADER;
        let room = share.next_multiple_of(BLOCK).min(BATCH_MAX) - BATCH_HEADER;
        let mut used = 0;
        let fits = |frame: &&Frame<'_>| {
            used += frame.size();
            used <= room || used == frame.size()
        };
        let count = frames.iter().take_while(fits).count();
        let (these, rest) = frames.split_at(count);
        // Nothing is left that was lost: one that says nothing new keeps the number.
        let idle = [Frame::truncate(made.tip)];
        let these = if these.is_empty() { &idle[..] } else { these };
        let like = Header {
            bytes: 0,
            used: 0,
            frames: 0,
            offset: 0,
            number: hole.first + nth,
            durable: hole.durable.0,
            durable_lsn: hole.durable.1,
            committed: hole.committed,
            first: 0,
            tip: Lsn::ZERO,
            kept: 0,
            chain: Digest::ZERO,
        };
        made.batch(header, like, these)?;
        left = rest.iter().map(Frame::size).sum();
        frames = rest;
    }
    if frames.is_empty() { Ok(()) } else { Err("what fills a gap is larger than what was lost".into()) }
}
