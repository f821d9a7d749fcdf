//! Which batches of a damaged segment are good, and what is missing between them.

use super::*;
use crate::batch::{Frames, Header};
use crate::frame::Kind;
use crate::place::Stamp;

/// A part of a segment, in order.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// A good batch, where it stands.
    Batch(Header),
    /// Where batches are missing.
    Hole(Hole),
}

/// Batches that are missing, and what was known before them.
#[derive(Clone, Debug)]
pub(super) struct Hole {
    /// Where the first one stood.
    pub at: u64,
    /// Where the last one ended; the place of the footer where nothing follows.
    pub end: u64,
    /// Number of the first one.
    pub first: u64,
    /// How many.
    pub batches: u64,
    /// Last position before.
    pub tip: Lsn,
    /// The mark of the batch before.
    pub committed: Lsn,
    /// The highest batch before that was known durable, and its last position.
    pub durable: (u64, Lsn),
}

/// What a look came to.
pub(super) struct Found {
    pub pieces: Vec<Piece>,
    pub gaps: Vec<Gap>,
    pub votes_later: bool,
    pub voted: u64,
}

/// What is known of the log where a segment begins: the mark there, and the entries after it.
#[derive(Clone, Debug, Default)]
pub(super) struct LeadIn {
    since: Lsn,
    /// The mark of the last batch.
    mark: Lsn,
    held: Vec<Known>,
}

impl LeadIn {
    fn note(&mut self, header: &Header, frames: &[Frame<'_>]) {
        self.since = self.since.max(header.committed);
        self.mark = header.committed;
        for frame in frames {
            match frame.kind {
                Kind::Entry => self.held.push(Known::of(frame.lsn, frame.term, frame.payload)),
                Kind::Truncate => self.held.retain(|held| held.lsn <= frame.lsn),
                Kind::Vote | Kind::Purged => {}
            }
        }
        self.held.retain(|held| held.lsn > self.since);
    }
}

/// The good batches of another segment, as far as it can be read.
pub(super) fn each_good<D: Disk>(
    disk: &mut D,
    number: u64,
    each: &mut dyn FnMut(&Header, &[Frame<'_>]),
) -> io::Result<()> {
    let Some(header) = read_header(disk, number) else { return Ok(()) };
    let (bytes, _) = read_what_can_be(disk, number, header.bytes)?;
    let mut at = BLOCK as u64;
    while at < header.footer_at().min(bytes.len() as u64) {
        match good(&header.stamp(), &bytes, at, header.footer_at()) {
            Some((batch, frames)) => {
                each(&batch, &frames);
                at += u64::from(batch.bytes);
            }
            None => at += BLOCK as u64,
        }
    }
    Ok(())
}

/// Whether a vote can be read in another segment.
pub(super) fn has_a_vote<D: Disk>(disk: &mut D, number: u64) -> io::Result<bool> {
    let mut found = false;
    each_good(disk, number, &mut |_, frames| found |= frames.iter().any(|frame| frame.kind == Kind::Vote))?;
    Ok(found)
}

/// What is known at the beginning of a segment: what the ones before it say, back to one that is sealed. Its last
/// entries may still be voided by a batch of this one, so that not more counts as committed than a mark says.
pub(super) fn lead_in<D: Disk>(
    disk: &mut D,
    manifest: &Manifest,
    header: &SegmentHeader,
) -> io::Result<LeadIn> {
    let before = header.number - 1;
    let mut known = LeadIn::default();
    // Full ones are few.
    for number in before.min(manifest.sealed).max(1)..=before {
        each_good(disk, number, &mut |batch, frames| known.note(batch, frames))?;
    }
    Ok(known)
}

/// An entry or a truncation behind a gap.
#[derive(Clone, Copy, Debug)]
pub(super) enum Later {
    Entry(Known),
    Truncate(Lsn),
}

fn later(frame: &Frame<'_>) -> Option<Later> {
    match frame.kind {
        Kind::Entry => Some(Later::Entry(Known::of(frame.lsn, frame.term, frame.payload))),
        Kind::Truncate => Some(Later::Truncate(frame.lsn)),
        Kind::Vote | Kind::Purged => None,
    }
}

/// What the segment after this one says about it: it may begin by voiding entries that stand here.
pub(super) fn lead_out<D: Disk>(
    disk: &mut D,
    manifest: &Manifest,
    header: &SegmentHeader,
) -> io::Result<Vec<Later>> {
    let mut out = Vec::new();
    if header.number < manifest.active.number {
        each_good(disk, header.number + 1, &mut |_, frames| out.extend(frames.iter().filter_map(later)))?;
    }
    Ok(out)
}

/// Of what follows a gap: how much of what stood there is still in the log at its end, and the entry behind that.
fn lives(until: Lsn, later: &[Later]) -> (Lsn, Option<Known>) {
    let voided = later.iter().filter_map(|later| match later {
        Later::Truncate(kept) => Some(*kept),
        Later::Entry(_) => None,
    });
    let until = voided.min().map_or(until, |kept| kept.min(until));
    let after = later.iter().fold(None, |after, later| match later {
        Later::Entry(known) if known.lsn == until.next() => Some(*known),
        Later::Truncate(kept) if *kept <= until => None,
        _ => after,
    });
    (until, after)
}

/// The batch at `at` if all of its sums hold.
fn good<'a>(stamp: &Stamp, bytes: &'a [u8], at: u64, footer_at: u64) -> Option<(Header, Vec<Frame<'a>>)> {
    let from = bytes.get(at as usize..)?;
    let header = Header::read(stamp, at, footer_at - at, from.get(..BLOCK)?).ok()?;
    let batch = from.get(..header.bytes as usize)?;
    header.check(stamp, batch).ok()?;
    let frames: Result<Vec<_>, _> = Frames::new(*stamp, &header, batch).collect();
    Some((header, frames.ok()?.into_iter().map(|(_, frame)| frame).collect()))
}

/// Where the log must have stood before the first of these frames that cares, if it says so.
fn stood_before(header: &Header, frames: &[Frame<'_>], tip: Lsn) -> Lsn {
    frames
        .iter()
        .find_map(|frame| match frame.kind {
            Kind::Entry => Some(Lsn(frame.lsn.0 - 1)),
            // At least there; what was beyond is void.
            Kind::Truncate => Some(frame.lsn.max(tip)),
            Kind::Vote | Kind::Purged => None,
        })
        .unwrap_or(header.tip)
}

/// Looks for good batches, and between them for gaps. `end` is how a segment that others follow must end; of the last
/// one, batches up to `proven` and positions up to `promised` are known to have been durable.
pub(super) fn look(
    header: &SegmentHeader,
    bytes: &[u8],
    state: State,
    end: Option<&End>,
    (before, behind): (LeadIn, &[Later]),
    proven: u64,
    promised: Lsn,
) -> Found {
    let (stamp, footer_at) = (header.stamp(), header.footer_at());
    let mut batches = Vec::new();
    let mut at = BLOCK as u64;
    // While nothing is missing, the chain is known too.
    let mut chain = Some(blake3::Hasher::new());
    if let Some(hasher) = &mut chain {
        hasher.update(&header.encode()[..]);
    }
    let mut next = header.first_batch;
    while at < footer_at {
        let linked = |found: &Header| {
            let number = found.number >= next && end.is_none_or(|end| found.number < end.batch);
            number && chain.as_ref().is_none_or(|hasher| found.chain.0 == *hasher.finalize().as_bytes())
        };
        match good(&stamp, bytes, at, footer_at).filter(|(found, _)| linked(found)) {
            Some((found, frames)) => {
                if found.number != next {
                    chain = None;
                }
                if let Some(hasher) = &mut chain {
                    hasher.update(&bytes[at as usize..at as usize + found.bytes as usize]);
                }
                next = found.number + 1;
                at += u64::from(found.bytes);
                batches.push((found, frames));
            }
            None => {
                at += BLOCK as u64;
                chain = None;
            }
        }
    }
    // What was durable by their own word.
    let newest = batches.iter().map(|(found, _)| (found.durable, found.durable_lsn)).max();
    let (durable, durable_lsn) = newest.unwrap_or_default();
    let proven = proven.max(durable);

    let mut found = Found { pieces: Vec::new(), gaps: Vec::new(), votes_later: false, voted: 0 };
    let mut known = before;
    let (mut at, mut next, mut tip) = (BLOCK as u64, header.first_batch, header.tip);
    let mut sure = (header.first_batch - 1, header.tip);
    let mut marks = batches.iter().map(|(found, _)| found.committed).max().unwrap_or_default();
    marks = marks.max(known.since);
    let gap = |known: &LeadIn, tip: Lsn, stands: Lsn, nth: usize| {
        let here = batches[nth..].iter().flat_map(|(_, frames)| frames.iter().filter_map(later));
        let all: Vec<Later> = here.chain(behind.iter().copied()).collect();
        let (until, after) = lives(stands, &all);
        let settled = state == State::Sealed || until <= marks;
        Gap { since: known.since, tip, stands, until, before: known.held.clone(), after, settled }
    };
    for (nth, (batch, frames)) in batches.iter().enumerate() {
        if batch.number != next {
            if state == State::Active && next > proven {
                // It was on its way when power went, and so was what stands behind it.
                break;
            }
            let missing = batch.number - next;
            let hole = Hole {
                at,
                end: batch.offset,
                first: next,
                batches: missing,
                tip,
                committed: known.mark,
                durable: sure,
            };
            found.gaps.push(gap(&known, tip, stood_before(batch, frames, tip), nth));
            found.pieces.push(Piece::Hole(hole));
            found.votes_later = false;
        }
        for vote in frames.iter().filter(|frame| frame.kind == Kind::Vote) {
            found.votes_later = true;
            found.voted = found.voted.max(vote.term);
        }
        known.note(batch, frames);
        sure = sure.max((batch.durable, batch.durable_lsn));
        found.pieces.push(Piece::Batch(*batch));
        (at, next, tip) = (batch.offset + u64::from(batch.bytes), batch.number + 1, batch.tip);
    }
    let missing = match end {
        Some(end) => (end.batch > next).then(|| (end.batch - next, end.tip)),
        None if next <= proven => Some((proven + 1 - next, durable_lsn.max(promised))),
        None => (tip < promised).then_some((1, promised)),
    };
    if let Some((missing, stands)) = missing {
        found.gaps.push(gap(&known, tip, stands, batches.len()));
        let committed = known.mark;
        let hole = Hole { at, end: footer_at, first: next, batches: missing, tip, committed, durable: sure };
        found.pieces.push(Piece::Hole(hole));
        found.votes_later = false;
    }
    found
}
