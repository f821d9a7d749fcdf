//! Reading a log's segments in place: no lock, no repair, nothing written. For auditors and replays.
//!
//! Frames come with where they stand and with what their batch knew to be committed. Every batch is checked by its
//! own sums as it is read; how segments follow each other, and what a tail means, is the business of
//! [`crate::check_sealed`] and [`crate::Log::open`], which a reader who has not seen the log before asks first.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use engine::limits::BLOCK;
use engine::log::Lsn;

use crate::error::OpenError;
use crate::frame::Frame;
use crate::manifest::{MANIFEST, Manifest, Slots};
use crate::place::Identity;
use crate::recover::{Found, State, Verdict, decide};
use crate::segment::{SegmentHeader, segment_name};
use crate::source::{Source, WINDOW, Windowed};
use crate::walk::{Chain, Here, Stop, Walk};

/// Why a scan stopped.
#[derive(Debug)]
pub enum ScanError<E> {
    /// The log cannot be read, or is not what was written.
    Log(OpenError),
    /// The visitor said so.
    Each(E),
}

impl<E> From<OpenError> for ScanError<E> {
    fn from(error: OpenError) -> ScanError<E> {
        ScanError::Log(error)
    }
}

/// A frame and its surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Scanned<'a> {
    /// Number of the segment.
    pub segment: u64,
    /// Offset of the frame in it, bytes.
    pub offset: u64,
    /// The last position its batch knew to be committed.
    pub committed: Lsn,
    /// The frame.
    pub frame: Frame<'a>,
}

/// A log's directory, opened for reading only.
#[derive(Debug)]
pub struct Scan {
    dir: PathBuf,
    manifest: Manifest,
}

fn reading(name: &str) -> impl FnOnce(io::Error) -> OpenError {
    OpenError::disk(format!("read {name}"))
}

impl Scan {
    /// Reads the manifest of the log in `dir`.
    ///
    /// # Errors
    /// [`OpenError::MissingManifest`], [`OpenError::Corrupt`], or that it is of another version or other limits.
    pub fn open(dir: &Path) -> Result<Scan, OpenError> {
        let bytes = match std::fs::read(dir.join(MANIFEST)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(OpenError::MissingManifest),
            Err(error) => return Err(reading(MANIFEST)(error)),
        };
        let slots = Slots::decode(&bytes).map_err(|flaw| OpenError::block(flaw, 0, 0, Lsn::ZERO))?;
        match (slots.newest, slots.damaged) {
            (Some(manifest), _) => Ok(Scan { dir: dir.to_owned(), manifest }),
            (None, Some(flaw)) => Err(OpenError::Corrupt(flaw.in_segment(0, Lsn::ZERO))),
            (None, None) => Err(OpenError::MissingManifest),
        }
    }

    /// Whose log it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.manifest.active.identity
    }

    /// Number of the last segment; the first is 1.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.manifest.active.number
    }

    /// Number of the last sealed segment, 0 for none.
    #[must_use]
    pub fn sealed(&self) -> u64 {
        self.manifest.sealed
    }

    /// Length of a segment's file, bytes.
    ///
    /// # Errors
    /// [`OpenError::MissingSegment`], or the file system's.
    pub fn length(&self, number: u64) -> Result<u64, OpenError> {
        let name = segment_name(number);
        match std::fs::metadata(self.dir.join(&name)) {
            Ok(meta) => Ok(meta.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(OpenError::MissingSegment { number, last: self.last() })
            }
            Err(error) => Err(reading(&name)(error)),
        }
    }

    /// Hands every frame of a segment to `each`, in order, voided ones included. Of the last segment the good
    /// batches come, up to the first place without one. Memory: one window, and one batch where it is larger.
    ///
    /// # Errors
    /// [`ScanError::Log`]: the segment is missing, or before the last one and not whole.
    pub fn frames<E>(
        &self,
        number: u64,
        each: &mut dyn FnMut(&Scanned<'_>) -> Result<(), E>,
    ) -> Result<(), ScanError<E>> {
        let length = self.length(number)?;
        let name = segment_name(number);
        let file = File::open(self.dir.join(&name)).map_err(reading(&name))?;
        let mut source = Windowed::new(WINDOW, |offset, buf: &mut [u8]| {
            let wanted = buf.len().min(usize::try_from(length.saturating_sub(offset)).unwrap_or(buf.len()));
            file.read_exact_at(&mut buf[..wanted], offset).map(|()| wanted)
        });
        let header = self.header(number, length, &mut source)?;
        let state = if number < self.last() { State::Full } else { State::Active };
        let chain = if number <= self.sealed() { Chain::Trusted } else { Chain::EachBatch };
        let mut walk = Walk::new(&header, Lsn::ZERO, chain);
        let here = loop {
            let step = walk.step(&mut source, &mut |batch, offset, frame| {
                each(&Scanned { segment: number, offset, committed: batch.committed, frame: *frame })
            });
            match step {
                Ok(Here::Batch(_)) => {}
                Ok(here) => break here,
                Err(Stop::Io(error)) => return Err(reading(&name)(error).into()),
                Err(Stop::Each(error)) => return Err(ScanError::Each(error)),
            }
        };
        if state == State::Full {
            let later = walk.later(&mut source, &here).map_err(reading(&name))?;
            let found = Found::of(&here).expect("the walk stopped");
            if decide(state, found, later, false) != Verdict::Clean {
                let flaw = crate::open::stop_flaw(&here, later, &walk);
                return Err(OpenError::Corrupt(flaw.in_segment(number, walk.tip)).into());
            }
        }
        Ok(())
    }

    /// A segment's header. That of the last one is also in the manifest, and durable there before it is written.
    fn header(&self, number: u64, length: u64, source: &mut impl Source) -> Result<SegmentHeader, OpenError> {
        let header = if number == self.last() {
            self.manifest.active.clone()
        } else {
            let name = segment_name(number);
            if length < BLOCK as u64 {
                let flaw = crate::damage::Flaw::new(length, "a whole segment", format!("{length} bytes"));
                return Err(OpenError::Corrupt(flaw.in_segment(number, Lsn::ZERO)));
            }
            let block = source.bytes(0, BLOCK).map_err(reading(&name))?;
            SegmentHeader::decode(block.first_chunk().expect("a block was read"))
                .map_err(|flaw| OpenError::block(flaw, number, 0, Lsn::ZERO))?
        };
        if header.number != number || header.bytes != length {
            let expected = format!("segment {} of {} bytes", number, header.bytes);
            let flaw = crate::damage::Flaw::new(40, expected, format!("{} of {length}", header.number));
            return Err(OpenError::Corrupt(flaw.in_segment(number, Lsn::ZERO)));
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnyDisk, Log, Options, Prefer};

    fn write(dir: &Path, entries: u64) {
        let identity = Identity { cluster: [1; 16], region: "eu".into() };
        let (disk, _) = AnyDisk::open(dir, Prefer::Posix).unwrap();
        let mut options = Options::new(identity);
        options.segment_bytes = 64 << 10;
        let (mut log, _) = Log::open(disk, &options, |_| Ok::<(), std::convert::Infallible>(())).unwrap();
        for n in 1..=entries {
            log.append(Frame::entry(Lsn(n), 1, &vec![n as u8; 700])).unwrap();
            log.flush().unwrap();
            log.set_committed(Lsn(n));
        }
    }

    fn scan(dir: &Path) -> Result<Vec<(u64, u64, u64)>, ScanError<()>> {
        let scan = Scan::open(dir)?;
        let mut seen = Vec::new();
        for number in 1..=scan.last() {
            scan.frames(number, &mut |scanned| {
                let Frame { lsn, payload, .. } = scanned.frame;
                assert_eq!(payload, vec![lsn.0 as u8; 700]);
                assert!(scanned.committed < lsn);
                seen.push((scanned.segment, scanned.offset, lsn.0));
                Ok(())
            })?;
        }
        Ok(seen)
    }

    #[test]
    fn every_frame_comes_in_order_with_its_place_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 40);
        let before: Vec<_> =
            (1..=3).map(|n| std::fs::read(folder.path().join(segment_name(n))).unwrap()).collect();
        let seen = scan(folder.path()).unwrap();
        assert_eq!(seen.iter().map(|(.., lsn)| *lsn).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
        for (segment, offset, lsn) in seen {
            let bytes = std::fs::read(folder.path().join(segment_name(segment))).unwrap();
            assert_eq!(crate::bytes::u64_at(&bytes, offset as usize + 16), lsn, "the offset is the frame's");
        }
        let after: Vec<_> =
            (1..=3).map(|n| std::fs::read(folder.path().join(segment_name(n))).unwrap()).collect();
        assert_eq!(before, after);
    }

    #[test]
    fn damage_is_named_where_it_stands_and_a_tail_ends_the_log() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 40);
        let (first, last) = (1, Scan::open(folder.path()).unwrap().last());
        for (number, whole) in [(first, false), (last, true)] {
            let path = folder.path().join(segment_name(number));
            let good = std::fs::read(&path).unwrap();
            let end = good[..good.len() - BLOCK].iter().rposition(|byte| *byte != 0).unwrap();
            let mut bad = good.clone();
            bad[end] ^= 1;
            std::fs::write(&path, bad).unwrap();
            match scan(folder.path()) {
                Ok(seen) => assert!(whole && seen.len() == 39, "{number}: {} frames", seen.len()),
                Err(ScanError::Log(OpenError::Corrupt(damage))) => {
                    assert!(!whole && damage.segment == number)
                }
                Err(error) => panic!("{error:?}"),
            }
            std::fs::write(&path, good).unwrap();
        }
        std::fs::remove_file(folder.path().join(segment_name(1))).unwrap();
        assert!(matches!(
            scan(folder.path()),
            Err(ScanError::Log(OpenError::MissingSegment { number: 1, .. }))
        ));
        std::fs::remove_file(folder.path().join(MANIFEST)).unwrap();
        assert!(matches!(scan(folder.path()), Err(ScanError::Log(OpenError::MissingManifest))));
    }
}
