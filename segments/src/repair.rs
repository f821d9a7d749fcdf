//! Repair of one segment from what other nodes hold.
//!
//! Nodes write the same entries and not the same bytes: batches, votes and marks are each node's own. So what is asked
//! of others is entries, by position and term, and the segment is made again here: every batch that is good stays, and
//! what was lost between two good ones (a [`Gap`]) is filled. Where only entries were damaged, the bytes come out as they
//! were, which the sums of the batch and the segment's own BLAKE3 digest show. Otherwise (a vote or a mark was lost too)
//! the segment gets other bytes and says in its header which digest it stands for, and no other segment changes.
//!
//! - S2 (prefix): nothing is cut off that was durable. A gap ends where the next good batch begins, or where later ones
//!   prove that the log was; bytes after that which prove nothing are a torn tail, as in [`crate::recover`].
//! - S5 (sealed is final): the damaged file is not written to. The new one is made beside it, synced, read back and
//!   walked, and takes its name in one step.
//! - S6 (chained): what is made keeps number and place of every batch, and a chain without a break.
//!
//! Who may say what fills a gap is not known here: see `raft`.

mod build;
mod salvage;

use std::io;

use engine::limits::BLOCK;
use engine::log::{Digest, Lsn};

use crate::buffer::BlockBuf;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::frame::Frame;
use crate::log::Log;
use crate::manifest::{MANIFEST, Manifest};
use crate::open::{Options, SPARE, find_copy, read_slots};
use crate::recover::State;
use crate::segment::{Footer, SegmentHeader, segment_name};
use crate::source::WINDOW;

pub(crate) use build::SUFFIX;
pub use build::{Fill, Mended};
use salvage::{Hole, Piece};

/// Why a segment cannot be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The disk refused, or the log is not ours to repair.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What would say how the segment must be is damaged too, or what was brought does not fit.
    #[error("segment {segment} cannot be repaired: {why}")]
    Hopeless {
        /// Number of the segment.
        segment: u64,
        /// For people.
        why: String,
    },
}

impl RepairError {
    fn disk(number: u64) -> impl Fn(io::Error) -> RepairError {
        move |error| RepairError::Open(OpenError::Disk { doing: format!("repair segment {number}"), error })
    }
}

/// An entry this node holds beside a gap: what must be found at whoever fills the gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its position.
    pub lsn: Lsn,
    /// Its term.
    pub term: u64,
    /// BLAKE3 of its payload.
    pub digest: Digest,
}

impl Known {
    /// What would be known of such an entry.
    #[must_use]
    pub fn of(lsn: Lsn, term: u64, payload: &[u8]) -> Known {
        Known { lsn, term, digest: Digest(*blake3::hash(payload).as_bytes()) }
    }
}

/// What is missing between two good batches of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Everything up to here is known to be committed and good.
    pub since: Lsn,
    /// Where the log stood before the gap.
    pub tip: Lsn,
    /// Where it stood after the gap. Lower than `tip` when the gap hides that entries were voided.
    pub stands: Lsn,
    /// The last position whose entry is missing: `stands`, or less if what stood there was voided later.
    pub until: Lsn,
    /// The entries held after `since` and before the gap, in order. The gap may hide that some of them were voided.
    pub before: Vec<Known>,
    /// The entry after `until` that is in the log at its end, where one is held.
    pub after: Option<Known>,
    /// Everything up to `until` is known to be committed, so that there is only one truth about it.
    pub settled: bool,
}

/// A segment that was looked through, and what it lacks.
pub struct Repair {
    state: State,
    /// As it must be, up to its length and what it stands for.
    header: SegmentHeader,
    /// How it must end; `None` of the last one.
    end: Option<End>,
    /// The digest of the bytes that were written first, if they can be made again.
    digest: Option<Digest>,
    /// What could be read; zeros where nothing could.
    bytes: BlockBuf,
    pieces: Vec<Piece>,
    gaps: Vec<Gap>,
    /// A good vote stands behind the last gap, in this segment or in a later one.
    votes_later: bool,
    /// The highest term of the votes that can be read.
    voted: u64,
    /// The disk did not give all of it: what stands there must be written anew, whatever it was.
    unread: bool,
}

impl Repair {
    /// Looks through segment `number` of the log on `disk`. Writes nothing.
    ///
    /// # Errors
    /// [`RepairError`].
    pub fn examine<D: Disk>(disk: &mut D, options: &Options, number: u64) -> Result<Repair, RepairError> {
        let hopeless = |why: &str| RepairError::Hopeless { segment: number, why: why.to_owned() };
        let slots = read_slots(disk)?.and_then(|slots| slots.newest);
        let manifest = slots.ok_or_else(|| hopeless(&format!("the {MANIFEST} is damaged")))?;
        if manifest.active.identity != options.identity {
            return Err(hopeless("it belongs to another log"));
        }
        let active = manifest.active.number;
        if number == 0 || number > active {
            return Err(hopeless(&format!("the log has the segments 1 to {active}")));
        }
        let state = match number {
            _ if number == active => State::Active,
            _ if number <= manifest.sealed => State::Sealed,
            _ => State::Full,
        };
        let disk_failed = RepairError::disk(number);
        let (mut bytes, unread) =
            read_what_can_be(disk, number, manifest.active.bytes).map_err(&disk_failed)?;
        let header = header_of(disk, &manifest, &bytes, number)?.ok_or_else(|| {
            hopeless(
                "its header is damaged, and so is the end of the segment before, which would say what it was",
            )
        })?;
        if bytes.len() as u64 != header.bytes {
            let mut whole = BlockBuf::new(header.bytes as usize);
            let there = bytes.len().min(whole.len());
            whole[..there].copy_from_slice(&bytes[..there]);
            bytes = whole;
        }
        let footer = footer_of(&header, &bytes);
        let end = match state {
            State::Active => None,
            State::Full | State::Sealed => {
                let end = end_of(disk, &manifest, &header, footer)?;
                Some(end.ok_or_else(|| {
                    hopeless("its footer is damaged, and so is the header of the segment after it")
                })?)
            }
        };
        // S4: a footer is written when all before it is committed. The manifest follows, and a crash may have come first.
        let ends = |footer: Footer, end: End| footer.last == end.tip && footer.last_batch + 1 == end.batch;
        let state = match footer.zip(end) {
            Some((footer, end)) if ends(footer, end) => State::Sealed,
            _ => state,
        };
        let mut proven = 0;
        if state == State::Active
            && let Some(copy) = find_copy(disk, &header)?
        {
            copy.restore(&header, &mut bytes);
            // Made when everything before its batch was durable.
            proven = copy.number() - 1;
        }
        let before = salvage::lead_in(disk, &manifest, &header).map_err(&disk_failed)?;
        let behind = salvage::lead_out(disk, &manifest, &header).map_err(&disk_failed)?;
        let promised = if state == State::Active { options.at_least } else { Lsn::ZERO };
        let found = salvage::look(&header, &bytes, state, end.as_ref(), (before, &behind), proven, promised);
        let digest = match end {
            Some(end) if header.stands_for == Digest::ZERO => Some(end.name),
            _ => footer.map(|footer| footer.digest),
        };
        let salvage::Found { pieces, gaps, mut votes_later, voted } = found;
        // Only a gap can have held a vote that nobody sees.
        for later in (number + 1..=active).take_while(|_| !gaps.is_empty()) {
            votes_later = votes_later || salvage::has_a_vote(disk, later).map_err(&disk_failed)?;
        }
        let behind_all = pieces.iter().rev().find_map(|piece| match piece {
            Piece::Batch(batch) => Some(batch.offset + u64::from(batch.bytes)),
            Piece::Hole(_) => None,
        });
        if state == State::Active
            && let Some(lost) = unread.iter().find(|at| **at >= behind_all.unwrap_or(BLOCK as u64))
        {
            // A crash does not do that, and nothing says how much stood there.
            return Err(hopeless(&format!("the disk does not give what may be its end, at {lost}")));
        }
        let unread = !unread.is_empty();
        Ok(Repair { state, header, end, digest, bytes, pieces, gaps, votes_later, voted, unread })
    }

    /// Number of the segment.
    #[must_use]
    pub fn segment(&self) -> u64 {
        self.header.number
    }

    /// What it lacks, in order; nothing, when all of it can be made again from what is there.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The highest term of the votes in it that can be read; 0 if there are none.
    #[must_use]
    pub fn voted(&self) -> u64 {
        self.voted
    }

    /// Whether a vote may have been lost that no later one replaces, if the gaps are filled with these. Every segment
    /// begins with the vote that stands, so it is nearly always the last one that may hide one; or the one before it, while
    /// the last holds nothing yet.
    #[must_use]
    pub fn hides_a_vote(&self, fills: &[Fill]) -> bool {
        let exact = || self.make(fills, None).is_ok_and(|made| self.is_as_it_was(&made));
        !self.votes_later && !self.gaps.is_empty() && !exact()
    }
}

/// How a segment that others follow must end.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Number of the next segment's first batch.
    batch: u64,
    /// Last position before the next segment.
    tip: Lsn,
    /// What the next segment calls this one.
    name: Digest,
}

/// The bytes of a segment's file as far as the disk gives them: a block it refuses, or a file that is not there, is
/// zeros. And where the blocks are that it refuses.
fn read_what_can_be<D: Disk>(disk: &mut D, number: u64, usual: u64) -> io::Result<(BlockBuf, Vec<u64>)> {
    let file = match disk.open(&segment_name(number)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((BlockBuf::new(usual as usize), Vec::new()));
        }
        file => file?,
    };
    let length = disk.len(file)?.clamp(4 * BLOCK as u64, crate::SEGMENT_SIZE_MAX + WINDOW as u64);
    let (mut bytes, mut refused) = (BlockBuf::new(length as usize), Vec::new());
    for at in (0..bytes.len()).step_by(WINDOW) {
        let mut window = BlockBuf::new(WINDOW.min(bytes.len() - at));
        if disk.read(file, at as u64, &mut window).is_ok() {
            bytes[at..at + window.len()].copy_from_slice(&window);
            continue;
        }
        for block in (at..at + window.len()).step_by(BLOCK) {
            let mut one = BlockBuf::new(BLOCK);
            // Otherwise zeros: what stood there is as lost as if it were changed.
            match disk.read(file, block as u64, &mut one) {
                Ok(_) => bytes[block..block + BLOCK].copy_from_slice(&one),
                Err(_) => refused.push(block as u64),
            }
        }
    }
    disk.close(file);
    Ok((bytes, refused))
}

/// The first block of a segment, if it can be read.
fn read_header<D: Disk>(disk: &mut D, number: u64) -> Option<SegmentHeader> {
    let file = disk.open(&segment_name(number)).ok()?;
    let mut block = BlockBuf::new(BLOCK);
    let read = disk.read(file, 0, &mut block);
    disk.close(file);
    let header = SegmentHeader::decode(block.first_chunk()?).ok()?;
    (read.ok()? == BLOCK && header.number == number).then_some(header)
}

/// What the segment's header must be: it says so itself, or the manifest does, or the segment before.
fn header_of<D: Disk>(
    disk: &mut D,
    manifest: &Manifest,
    bytes: &[u8],
    number: u64,
) -> Result<Option<SegmentHeader>, OpenError> {
    let identity = &manifest.active.identity;
    if number == manifest.active.number {
        return Ok(Some(manifest.active.clone()));
    }
    let found = bytes.first_chunk().and_then(|block| SegmentHeader::decode(block).ok());
    if let Some(found) = found.filter(|found| found.number == number && found.identity == *identity) {
        return Ok(Some(found));
    }
    let mut header = SegmentHeader {
        identity: identity.clone(),
        number,
        first_batch: 1,
        tip: Lsn::ZERO,
        bytes: bytes.len() as u64,
        previous: Digest::ZERO,
        stands_for: Digest::ZERO,
    };
    if number > 1 {
        let Some(before) = read_header(disk, number - 1) else { return Ok(None) };
        let doing = || OpenError::disk(format!("read segment {}", number - 1));
        let file = disk.open(&segment_name(number - 1)).map_err(doing())?;
        let mut block = BlockBuf::new(BLOCK);
        let read = disk.read(file, before.footer_at(), &mut block);
        disk.close(file);
        let footer = Footer::decode(block.first_chunk().expect("a block"));
        let (Ok(_), Ok(footer)) = (read, footer) else { return Ok(None) };
        header.first_batch = footer.last_batch + 1;
        header.tip = footer.last;
        header.previous = before.name(footer.digest);
    }
    Ok(Some(header))
}

fn footer_of(header: &SegmentHeader, bytes: &[u8]) -> Option<Footer> {
    let block = bytes.get(header.footer_at() as usize..)?.first_chunk()?;
    Footer::decode(block).ok().filter(|footer| footer.number == header.number)
}

/// How the segment must end: the next one says so, or its own footer.
fn end_of<D: Disk>(
    disk: &mut D,
    manifest: &Manifest,
    header: &SegmentHeader,
    footer: Option<Footer>,
) -> Result<Option<End>, OpenError> {
    let number = header.number + 1;
    let next = if number == manifest.active.number {
        Some(manifest.active.clone())
    } else {
        read_header(disk, number).filter(|next| next.identity == header.identity)
    };
    let of_next = next.map(|next| End { batch: next.first_batch, tip: next.tip, name: next.previous });
    let of_footer = footer.map(|footer| End {
        batch: footer.last_batch + 1,
        tip: footer.last,
        name: header.name(footer.digest),
    });
    Ok(of_next.or(of_footer))
}

/// The frames of the good batches of a log that does not open, segment by segment from the newest back, up to the first whose
/// number is `enough`.
///
/// # Errors
/// When the manifest cannot be read, or the disk gives no more.
pub fn glean<D: Disk>(
    disk: &mut D,
    each: &mut dyn FnMut(&Frame<'_>),
    enough: &dyn Fn(u64) -> bool,
) -> Result<(), RepairError> {
    let Some(manifest) = read_slots(disk)?.and_then(|slots| slots.newest) else { return Ok(()) };
    for number in (1..=manifest.active.number).rev().take_while(|number| !enough(*number)) {
        let gleaned = salvage::each_good(disk, number, &mut |_, frames| frames.iter().for_each(&mut *each));
        gleaned.map_err(RepairError::disk(number))?;
    }
    Ok(())
}

impl<D: Disk> Log<D> {
    /// [`Repair::examine`] of a sealed segment, while the log goes on.
    ///
    /// # Errors
    /// [`RepairError`].
    pub fn examine(&mut self, number: u64) -> Result<Repair, RepairError> {
        if number > self.manifest.sealed {
            let why = "it is not sealed: the log must be opened again for that".to_owned();
            return Err(RepairError::Hopeless { segment: number, why });
        }
        let options = Options::new(self.manifest.active.identity.clone());
        Repair::examine(&mut self.disk, &options, number)
    }

    /// [`Repair::mend`] of what [`Log::examine`] returned.
    ///
    /// # Errors
    /// [`RepairError`]; the segment is as it was then.
    pub fn mend(&mut self, repair: Repair, fills: &[Fill]) -> Result<Mended, RepairError> {
        let number = repair.segment();
        // Files are prepared one at a time.
        self.settle_next();
        // The last segment may hold nothing yet, and so not the vote that stands.
        let standing = self.standing.vote().filter(|_| repair.hides_a_vote(fills));
        let vote = standing.map(|vote| (vote.term, vote.payload));
        let mended = repair.mend(&mut self.disk, fills, vote)?;
        self.index.forget(number);
        Ok(mended)
    }
}
