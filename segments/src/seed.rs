//! A log that begins with segments of another node's log, copied as files.
//!
//! A segment's file says whose log it is (cluster, region, the segments before it) and not which node wrote it: any node
//! of the cluster may go on from a copy. What of it may be believed:
//! - Everything in the segments before the last copied one is committed, or void by what follows: S4 held where they
//!   were sealed, and what voids their ends stands in a segment that was copied, too.
//! - Of the last one that is not known: the segment after it may begin by voiding its end. So the copy counts as full
//!   and not as sealed: what its own marks call committed is, the rest is this node's to lose like any other tail,
//!   and the seal is written again when it is known.
//! - The last vote in it becomes this node's. It promises to refuse older leaders than those whose entries are there,
//!   as a node must that holds them, and promises nothing to anybody: a vote counts when it is sent.
//!
//! The manifest comes last: until it is durable there is no log, only files that can be fetched again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use engine::limits::BLOCK;
use engine::log::{Digest, Lsn};

use crate::batch::Header;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::manifest::{MANIFEST, MANIFEST_BYTES, Manifest, Slots};
use crate::open::{SPARE, spare_bytes};
use crate::rotate::write_manifest;
use crate::segment::{Footer, SegmentHeader, segment_name};

/// Whether a directory holds a log: a manifest that says something, or one that is damaged. Segments alone are none.
///
/// # Errors
/// When the file system refuses.
pub fn is_begun(dir: &Path) -> io::Result<bool> {
    let bytes = match std::fs::read(dir.join(MANIFEST)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        bytes => bytes?,
    };
    if bytes.is_empty() {
        return Ok(false);
    }
    Ok(!matches!(Slots::decode(&bytes), Ok(Slots { newest: None, damaged: None, .. })))
}

/// Header and footer of a sealed segment below `dir`, from those two blocks alone.
///
/// # Errors
/// When the file cannot be read, or the blocks are not a header and a footer of that segment.
pub fn read_sealed(dir: &Path, number: u64) -> io::Result<(SegmentHeader, Footer)> {
    open_sealed(dir, number).map(|(_, ends)| ends)
}

/// The last record that the batches of a sealed segment know to be committed, from their headers alone: its last records
/// are agreed, or it would not be sealed, but only what comes after it says so.
///
/// # Errors
/// As [`read_sealed`], or when a header cannot be read.
pub fn agreed_in(dir: &Path, number: u64) -> io::Result<Lsn> {
    let (file, (header, footer)) = open_sealed(dir, number)?;
    let (stamp, mut at, mut agreed) = (header.stamp(), BLOCK as u64, Lsn::ZERO);
    while at < footer.end {
        let batch = Header::read(&stamp, at, footer.end - at, &block(&file, at)?)
            .map_err(|flaw| wrong(number, format!("batch at {at}: {flaw:?}")))?;
        agreed = batch.committed;
        at += u64::from(batch.bytes);
    }
    Ok(agreed)
}

fn open_sealed(dir: &Path, number: u64) -> io::Result<(File, (SegmentHeader, Footer))> {
    let file = File::open(dir.join(segment_name(number)))?;
    let ends = ends_of(&file, number)?.map_err(|why| wrong(number, why))?;
    Ok((file, ends))
}

/// Header and footer in the file of a sealed segment, or why they are not those of that segment.
pub(crate) fn ends_of(file: &File, number: u64) -> io::Result<Result<(SegmentHeader, Footer), String>> {
    let length = file.metadata()?.len();
    if length < 3 * BLOCK as u64 {
        return Ok(Err(format!("{length} bytes are no segment")));
    }
    let header = match SegmentHeader::decode(&block(file, 0)?) {
        Ok(header) if (header.number, header.bytes) == (number, length) => header,
        other => return Ok(Err(format!("begins with {other:?}"))),
    };
    Ok(match Footer::decode(&block(file, header.footer_at())?) {
        Ok(footer) if footer.number == number => Ok((header, footer)),
        other => Err(format!("ends with {other:?}")),
    })
}

fn block(file: &File, at: u64) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    file.read_exact_at(&mut block, at).map(|()| block)
}

fn wrong(number: u64, why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("segment {number}: {why}"))
}

/// Whether a sealed segment follows another, `None` for the beginning of a log, in the same log.
#[must_use]
pub fn follows(header: &SegmentHeader, before: Option<&(SegmentHeader, Footer)>) -> bool {
    match before {
        None => {
            let first = (header.number, header.first_batch, header.tip, header.previous);
            first == (1, 1, Lsn::ZERO, Digest::ZERO)
        }
        Some((other, footer)) => {
            let next = (footer.number + 1, footer.last_batch + 1, footer.last, other.name(footer.digest));
            header.identity == other.identity
                && (header.number, header.first_batch, header.tip, header.previous) == next
        }
    }
}

/// Makes a log of the segments up to `last`, which are on the disk, whole and durable, and follow each other. Its next
/// segment is empty and has `segment_bytes`. A crash in the middle leaves no log; then this is done again.
///
/// # Errors
/// When the disk refuses.
///
/// # Panics
/// On a disk that holds a log.
pub fn begin_after<D: Disk>(
    disk: &mut D,
    (before, last): &(SegmentHeader, Footer),
    segment_bytes: u64,
) -> Result<(), OpenError> {
    let doing = || OpenError::disk("begin the log after copied segments");
    let names = disk.list().map_err(doing())?;
    assert!(!names.iter().any(|name| name == MANIFEST && !is_blank(disk)), "S5: a log is there already");
    let active = SegmentHeader {
        identity: before.identity.clone(),
        number: last.number + 1,
        first_batch: last.last_batch + 1,
        tip: last.last,
        bytes: segment_bytes,
        previous: before.name(last.digest),
        stands_for: Digest::ZERO,
    };
    let spare = spare_bytes(&active);
    for (name, bytes) in [
        (segment_name(active.number), active.bytes),
        (SPARE.to_owned(), spare),
        (MANIFEST.to_owned(), MANIFEST_BYTES),
    ] {
        disk.prepare(&name, bytes).map_err(doing())?;
        disk.prepared(true).unwrap_or(Ok(())).map_err(doing())?;
    }
    let (sealed, sealed_digest) = (last.number - 1, before.previous);
    let manifest = Manifest { generation: 1, active, sealed, sealed_digest };
    write_manifest(disk, &manifest).map_err(doing())
}

/// Whether the manifest on the disk is one that says nothing.
fn is_blank<D: Disk>(disk: &mut D) -> bool {
    let mut bytes = crate::buffer::BlockBuf::new(MANIFEST_BYTES as usize);
    let Ok(file) = disk.open(MANIFEST) else { return false };
    let filled = disk.read(file, 0, &mut bytes);
    disk.close(file);
    filled.is_ok_and(|filled| crate::bytes::is_zero(&bytes[..filled]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Identity;
    use crate::{AnyDisk, Frame, Kind, Log, Options, Prefer, check_copy};

    const BYTES: u64 = 64 << 10;

    fn options() -> Options {
        let identity = Identity { cluster: [1; 16], region: "eu".into() };
        Options { segment_bytes: BYTES, ..Options::new(identity) }
    }

    fn open(dir: &Path) -> Log<AnyDisk> {
        open_seeing(dir, &mut |_| {})
    }

    fn open_seeing(dir: &Path, each: &mut dyn FnMut(&Frame<'_>)) -> Log<AnyDisk> {
        let (disk, _) = AnyDisk::open(dir, Prefer::Posix).unwrap();
        let each = |frame: &Frame<'_>| {
            each(frame);
            Ok::<(), std::convert::Infallible>(())
        };
        Log::open(disk, &options(), each).unwrap().0
    }

    fn payload(lsn: u64, term: u64) -> Vec<u8> {
        vec![(lsn ^ term) as u8; 900]
    }

    fn append(log: &mut Log<AnyDisk>, lsns: std::ops::RangeInclusive<u64>, term: u64) {
        for lsn in lsns {
            log.append(Frame::entry(Lsn(lsn), term, &payload(lsn, term))).unwrap();
            log.flush().unwrap();
        }
    }

    /// Copies the sealed segments up to `upto` as a new node does, and begins a log with them.
    fn copy(from: &Path, to: &Path, upto: u64) {
        let mut last = None;
        for number in 1..=upto {
            let path = to.join(segment_name(number));
            std::fs::copy(from.join(segment_name(number)), &path).unwrap();
            let checked = check_copy(&path, number, &mut |_, _| {}).unwrap();
            let good = (checked.header, checked.footer);
            assert!(follows(&good.0, last.as_ref()), "segment {number}");
            assert_eq!(read_sealed(to, number).unwrap(), good);
            assert_eq!(agreed_in(to, number).unwrap(), checked.committed);
            last = Some(good);
        }
        assert!(!is_begun(to).unwrap());
        let (mut disk, _) = AnyDisk::open(to, Prefer::Posix).unwrap();
        begin_after(&mut disk, &last.unwrap(), BYTES).unwrap();
        assert!(is_begun(to).unwrap());
    }

    #[test]
    fn a_copy_goes_on_where_its_segments_end() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut log = open(from.path());
        log.append(Frame::vote(3, b"three")).unwrap();
        append(&mut log, 1..=60, 3);
        log.set_committed(Lsn(60));
        log.flush().unwrap();
        let sealed = log.stats().sealed;
        assert!(sealed >= 3, "{sealed}");
        drop(log);
        for upto in 1..=sealed {
            let to = to.path().join(upto.to_string());
            std::fs::create_dir(&to).unwrap();
            copy(from.path(), &to, upto);
            let (mut tip, mut vote) = (0, Vec::new());
            let mut log = open_seeing(&to, &mut |frame| match frame.kind {
                Kind::Vote => vote = frame.payload.to_vec(),
                _ => tip = frame.lsn.0,
            });
            let (_, footer) = read_sealed(&to, upto).unwrap();
            assert_eq!((Lsn(tip), log.tip(), &vote[..]), (footer.last, footer.last, &b"three"[..]));
            // Each batch knows of those before it only.
            assert!(log.committed() < log.tip());
            append(&mut log, tip + 1..=tip + 20, 4);
            log.set_committed(Lsn(tip + 20));
            log.flush().unwrap();
            drop(log);
            let mut log = open(&to);
            for lsn in 1..=tip + 20 {
                let term = if lsn <= tip { 3 } else { 4 };
                let found = log.read_one(Lsn(lsn)).unwrap().unwrap();
                assert_eq!((found.0, &found.1[..]), (term, &payload(lsn, term)[..]));
            }
            drop(log);
            // The seal of the last copied segment was written again, and is the same.
            let (a, b) = (read_sealed(from.path(), upto).unwrap(), read_sealed(&to, upto).unwrap());
            assert_eq!(a, b);
        }
    }

    /// What a later segment voids is not committed by the seal before it.
    #[test]
    fn the_end_of_the_last_segment_may_turn_out_void() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut log = open(from.path());
        append(&mut log, 1..=5, 1);
        log.set_committed(Lsn(5));
        let mut last = 5;
        while log.stats().segments < 2 {
            last += 1;
            append(&mut log, last..=last, 1);
        }
        // The first segment ends with entries that nobody else has; another leader voids them.
        let kept = last - 4;
        log.append(Frame::truncate(Lsn(kept))).unwrap();
        append(&mut log, kept + 1..=kept + 10, 2);
        log.set_committed(Lsn(kept + 10));
        log.flush().unwrap();
        assert_eq!(log.stats().sealed, 1);
        drop(log);
        copy(from.path(), to.path(), 1);
        let mut log = open(to.path());
        assert!(log.committed() <= Lsn(5), "S4: {} is committed of a log up to {kept}", log.committed());
        assert!(log.tip() > Lsn(kept));
        log.append(Frame::truncate(Lsn(kept))).unwrap();
        append(&mut log, kept + 1..=kept + 10, 2);
        log.set_committed(Lsn(kept + 10));
        log.flush().unwrap();
        assert_eq!(log.stats().sealed, 1);
        drop(log);
        let mut log = open(to.path());
        let found = log.read_one(Lsn(kept + 1)).unwrap().unwrap();
        assert_eq!((found.0, log.tip()), (2, Lsn(kept + 10)));
    }

    #[test]
    fn a_copy_that_was_changed_or_does_not_follow_is_found_out() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut log = open(from.path());
        append(&mut log, 1..=50, 1);
        log.set_committed(Lsn(50));
        log.flush().unwrap();
        drop(log);
        let path = to.path().join("copy");
        let good = std::fs::read(from.path().join(segment_name(2))).unwrap();
        for at in (0..good.len()).step_by(4999).chain([good.len() - BLOCK + 41, good.len() - 1]) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(check_copy(&path, 2, &mut |_, _| {}).is_err(), "byte {at}");
        }
        // A footer with a right checksum that says something else than its segment.
        let (_, footer) = read_sealed(from.path(), 2).unwrap();
        let wrong = Footer { last: Lsn(footer.last.0 + 1), ..footer };
        let mut bad = good.clone();
        let at = bad.len() - BLOCK;
        bad[at..].copy_from_slice(&wrong.encode()[..]);
        std::fs::write(&path, &bad).unwrap();
        assert!(check_copy(&path, 2, &mut |_, _| {}).is_err());
        std::fs::write(&path, &good).unwrap();
        let checked = check_copy(&path, 2, &mut |_, _| {}).unwrap();
        assert!(checked.committed < checked.footer.last && checked.committed <= Lsn(50));
        let second = (checked.header, checked.footer);
        assert!(check_copy(&path, 3, &mut |_, _| {}).is_err());
        let first = read_sealed(from.path(), 1).unwrap();
        assert!(follows(&second.0, Some(&first)) && follows(&first.0, None));
        assert!(
            !follows(&second.0, None)
                && !follows(&second.0, Some(&second))
                && !follows(&first.0, Some(&first))
        );
    }
}
