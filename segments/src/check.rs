//! Is a sealed segment still what was sealed? The scrubber's question, answered from the file alone.
//!
//! Reads with an ordinary file handle and a fixed window, so a damaged or truncated file is an error here and never
//! a signal, and a running log is not in the way: a sealed segment has no writer (S5).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use engine::limits::BLOCK;
use engine::log::{Digest, Lsn};

use crate::batch::Header;
use crate::buffer::BlockBuf;
use crate::damage::{Damage, Flaw};
use crate::frame::Frame;
use crate::index::Index;
use crate::place::Stamp;
use crate::recover::{Found, State, Verdict, decide};
use crate::seed::ends_of;
use crate::segment::{BlockFlaw, Footer, SegmentHeader, segment_name};
use crate::source::{Source, WINDOW, Windowed};
use crate::walk::{Chain, Stop, Walk};

/// What a whole segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whose log it is, and what stands before it.
    pub header: SegmentHeader,
    /// Where it ends.
    pub footer: Footer,
    /// The last position that its batches know to be committed.
    pub committed: Lsn,
}

/// What a check came to, when not to "whole".
#[derive(Debug)]
pub enum CheckError {
    /// The file is not there, or the device would not give it.
    Io(io::Error),
    /// It is there and is not what was sealed.
    Damaged(Damage),
    /// It has no footer yet.
    NotSealed,
}

impl std::fmt::Display for CheckError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CheckError::Io(error) => write!(f, "cannot be read: {error}"),
            CheckError::Damaged(damage) => damage.fmt(f),
            CheckError::NotSealed => f.write_str("is not sealed"),
        }
    }
}

impl std::error::Error for CheckError {}

impl From<io::Error> for CheckError {
    fn from(error: io::Error) -> CheckError {
        CheckError::Io(error)
    }
}

/// Reads every byte of sealed segment `number` below `dir` and holds them, and what the headers of the batches say,
/// against the footer, whose digest the caller can hold against the next segment's header or the manifest. Where the
/// digest holds, the bytes are those that were sealed, and their checksums are not asked; where not,
/// [`check_sealed_with`] says what is wrong. Memory: as there.
///
/// # Errors
/// [`CheckError`].
pub fn check_sealed(dir: &Path, number: u64) -> Result<Footer, CheckError> {
    match intact(&File::open(dir.join(segment_name(number)))?, number, &mut |_| Ok(()))? {
        Some(footer) => Ok(footer),
        None => check_sealed_with(dir, number, &mut |_, _| {}),
    }
}

/// Compares every byte with the segment's own sums: header, batches, frames, padding, digest, footer. `each` sees
/// every frame with its offset, voided ones included. What it saw counts only if the check comes to "whole". Memory: one
/// window of 512 KiB, or the largest batch, whatever the size of the segment.
///
/// # Errors
/// [`CheckError`].
pub fn check_sealed_with(
    dir: &Path,
    number: u64,
    each: &mut dyn FnMut(u64, &Frame<'_>),
) -> Result<Footer, CheckError> {
    check_copy(&dir.join(segment_name(number)), number, each).map(|checked| checked.footer)
}

/// The same for a copy in a file of any name, which need not be a log's yet. It also says whose log
/// it is and what stands before it.
///
/// # Errors
/// [`CheckError`].
pub fn check_copy(
    path: &Path,
    number: u64,
    each: &mut dyn FnMut(u64, &Frame<'_>),
) -> Result<Checked, CheckError> {
    check(&File::open(path)?, number, &mut |_| Ok(()), each)
}

/// [`check_sealed`] beside a running log: `pace` is told of every so many bytes before they are read, and may wait, or end the
/// check with an error. What the system has cached of the file is dropped before and after, so that the device is asked
/// and nobody else's pages are pushed out.
///
/// # Errors
/// [`CheckError`]; what `pace` gives as [`CheckError::Io`].
pub fn check_sealed_paced(
    dir: &Path,
    number: u64,
    pace: &mut dyn FnMut(usize) -> io::Result<()>,
) -> Result<Footer, CheckError> {
    let file = File::open(dir.join(segment_name(number)))?;
    // Advice only: a file system that does not take it gives what it has.
    let advise = |advice| {
        let _ = rustix::fs::fadvise(&file, 0, None, advice);
    };
    let uncache = || advise(rustix::fs::Advice::DontNeed);
    uncache();
    // What the system reads ahead, megabytes at once, a batch of the log would wait for.
    advise(rustix::fs::Advice::Random);
    let footer = match intact(&file, number, pace) {
        Ok(Some(footer)) => Ok(footer),
        Ok(None) => check(&file, number, pace, &mut |_, _| {}).map(|checked| checked.footer),
        Err(error) => Err(error.into()),
    };
    uncache();
    footer
}

/// Bytes read and hashed at once: enough for all lanes of the hash, and still in the processor's cache after the read.
const PIECE: usize = 128 << 10;

/// The headers of a segment's batches, looked at as its bytes go by.
struct Headers {
    stamp: Stamp,
    footer_at: u64,
    /// Where the next one stands.
    at: u64,
    next_batch: u64,
    frames: u64,
    index: Index,
    /// There are no more.
    over: bool,
}

impl Headers {
    fn of(header: &SegmentHeader) -> Headers {
        let mut index = Index::default();
        index.begin(header.tip);
        let (stamp, footer_at) = (header.stamp(), header.footer_at());
        let (at, next_batch) = (BLOCK as u64, header.first_batch);
        Headers { stamp, footer_at, at, next_batch, frames: 0, index, over: false }
    }

    /// Looks at those in `bytes`, whole blocks that stand at `from`. `None` where there should be another one.
    fn pass(&mut self, from: u64, bytes: &[u8]) -> Option<()> {
        while !self.over && self.at < from + bytes.len() as u64 {
            let block = &bytes[(self.at - from) as usize..][..BLOCK];
            self.over = crate::bytes::is_zero(block);
            if !self.over {
                let header = Header::read(&self.stamp, self.at, self.footer_at - self.at, block).ok()?;
                if header.number != self.next_batch {
                    return None;
                }
                self.index.note(&header);
                self.at += u64::from(header.bytes);
                self.next_batch += 1;
                self.frames += u64::from(header.frames);
            }
        }
        Some(())
    }
}

/// The footer that these batches lead to.
fn footer_of(
    header: &SegmentHeader,
    index: &Index,
    next_batch: u64,
    end: u64,
    frames: u64,
    digest: Digest,
) -> Footer {
    let span = index.span(1);
    Footer {
        number: header.number,
        first_batch: header.first_batch,
        last_batch: next_batch - 1,
        first: Lsn(span.first),
        last: Lsn(span.last),
        end,
        frames,
        digest,
    }
}

/// The footer, if it is the one that the bytes before it lead to, and they are those of its digest.
fn intact(
    file: &File,
    number: u64,
    pace: &mut dyn FnMut(usize) -> io::Result<()>,
) -> io::Result<Option<Footer>> {
    let Ok((header, footer)) = ends_of(file, number)? else { return Ok(None) };
    let (mut piece, end) = (BlockBuf::new(PIECE), header.footer_at());
    let (mut hasher, mut headers, mut at) = (blake3::Hasher::new(), Headers::of(&header), 0);
    while at < end {
        let bytes = (end - at).min(PIECE as u64) as usize;
        pace(bytes)?;
        file.read_exact_at(&mut piece[..bytes], at)?;
        hasher.update(&piece[..bytes]);
        if headers.pass(at, &piece[..bytes]).is_none() {
            return Ok(None);
        }
        at += bytes as u64;
    }
    let Headers { next_batch, at, frames, index, .. } = headers;
    let digest = Digest(*hasher.finalize().as_bytes());
    Ok((footer == footer_of(&header, &index, next_batch, at, frames, digest)).then_some(footer))
}

fn check(
    file: &File,
    number: u64,
    pace: &mut dyn FnMut(usize) -> io::Result<()>,
    each: &mut dyn FnMut(u64, &Frame<'_>),
) -> Result<Checked, CheckError> {
    let length = file.metadata()?.len();
    let source = Windowed::new(WINDOW, |offset, buf: &mut [u8]| {
        let wanted = buf.len().min(usize::try_from(length.saturating_sub(offset)).unwrap_or(buf.len()));
        pace(wanted)?;
        file.read_exact_at(&mut buf[..wanted], offset).map(|()| wanted)
    });
    check_source(source, length, number, each)
}

/// The same for a segment in memory.
///
/// # Errors
/// [`CheckError`].
pub fn check_sealed_bytes(bytes: &[u8], number: u64) -> Result<Footer, CheckError> {
    check_source(bytes, bytes.len() as u64, number, &mut |_, _| {}).map(|checked| checked.footer)
}

fn check_source(
    mut source: impl Source,
    length: u64,
    number: u64,
    each: &mut dyn FnMut(u64, &Frame<'_>),
) -> Result<Checked, CheckError> {
    let damaged = |flaw: Flaw| CheckError::Damaged(flaw.in_segment(number, Lsn::ZERO));
    let block_damaged = |at: u64| {
        move |flaw: BlockFlaw| match flaw {
            BlockFlaw::Bad(flaw) => CheckError::Damaged(flaw.within(at).in_segment(number, Lsn::ZERO)),
            other => CheckError::Io(io::Error::new(io::ErrorKind::InvalidData, format!("{other:?}"))),
        }
    };
    if length < 3 * BLOCK as u64 {
        return Err(damaged(Flaw::new(length, "a whole segment", format!("{length} bytes"))));
    }
    let header = SegmentHeader::decode(source.bytes(0, BLOCK)?.first_chunk().expect("a block"));
    let header = header.map_err(block_damaged(0))?;
    if header.number != number || header.bytes != length {
        let expected = format!("segment {number} of {length} bytes");
        return Err(damaged(Flaw::new(40, expected, format!("{} of {}", header.number, header.bytes))));
    }
    let at = header.footer_at();
    let block = source.bytes(at, BLOCK)?;
    if crate::bytes::is_zero(block) {
        return Err(CheckError::NotSealed);
    }
    let footer = Footer::decode(block.first_chunk().expect("a block")).map_err(block_damaged(at))?;

    let mut walk = Walk::new(&header, Lsn::ZERO, Chain::Whole);
    let mut index = Index::default();
    index.begin(header.tip);
    let here = loop {
        let step = walk.step(&mut source, &mut |_, offset, frame| {
            each(offset, frame);
            Ok::<(), std::convert::Infallible>(())
        });
        match step {
            Ok(crate::walk::Here::Batch(batch)) => index.note(&batch),
            Ok(here) => break here,
            Err(Stop::Io(error)) => return Err(error.into()),
            Err(Stop::Each(never)) => match never {},
        }
    };
    let later = walk.later(&mut source, &here)?;
    let found = Found::of(&here).expect("the walk stopped");
    if decide(State::Sealed, found, later, false) != Verdict::Clean {
        return Err(CheckError::Damaged(
            crate::open::stop_flaw(&here, later, &walk).in_segment(number, walk.tip),
        ));
    }
    let digest = walk.digest(&mut source)?;
    let found = footer_of(&header, &index, walk.next_batch, walk.offset, walk.frames, digest);
    if footer != found {
        let flaw = Flaw::new(at + 16, format!("{found:?}"), format!("{footer:?}"));
        return Err(CheckError::Damaged(flaw.in_segment(number, walk.tip)));
    }
    Ok(Checked { header, footer, committed: walk.committed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::close_block;
    use crate::{AnyDisk, Identity, Log, Options, Prefer};

    /// Whoever can close a block again can say anything in it, but not that it follows from the batches.
    #[test]
    fn a_footer_that_the_batches_do_not_lead_to_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = Options::new(Identity { cluster: [1; 16], region: "eu".into() });
        options.segment_bytes = 64 << 10;
        let (disk, _) = AnyDisk::open(folder.path(), Prefer::Posix).unwrap();
        let (mut log, _) = Log::open(disk, &options, |_| Ok::<(), std::convert::Infallible>(())).unwrap();
        for n in 1..=60 {
            log.append(Frame::entry(Lsn(n), 1, &[n as u8; 1500])).unwrap();
            log.flush().unwrap();
            log.set_committed(Lsn(n));
        }
        let closely = || check_sealed_with(folder.path(), 1, &mut |_, _| {});
        assert_eq!(check_sealed(folder.path(), 1).unwrap(), closely().unwrap());
        let path = folder.path().join(segment_name(1));
        let whole = std::fs::read(&path).unwrap();
        let footer_at = whole.len() - BLOCK;
        for at in 12..BLOCK {
            let mut forged = whole.clone();
            forged[footer_at + at] ^= 1;
            close_block(forged[footer_at..].first_chunk_mut().unwrap());
            std::fs::write(&path, &forged).unwrap();
            assert!(check_sealed(folder.path(), 1).is_err() && closely().is_err(), "byte {at}");
        }
    }
}
