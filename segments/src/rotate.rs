//! From one segment to the next, and sealing.
//!
//! Keeps S4 (sealed is committed): a footer is written only when nothing in its segment can be voided any more.
//!
//! The order of a rotation, and what a crash between two steps leaves:
//! 1. every batch of the old segment is durable;
//! 2. the next file, zeros, is durable with its name (done ahead, in the background): an extra file, removed;
//! 3. the manifest says that the next segment is the last: a last segment of zeros, begun again;
//! 4. the next segment's header is durable, then its batches;
//! 5. footer of the old one, then the manifest says it is sealed: a footer nobody was promised, written again.

use std::io;

use engine::limits::BLOCK;
use engine::log::{Digest, Lsn};

use crate::batch::BATCH_HEADER;
use crate::disk::Disk;
use crate::error::LogError;
use crate::frame::FRAME_HEADER;
use crate::log::{Active, Log};
use crate::manifest::{MANIFEST, Manifest};
use crate::segment::{Footer, SegmentHeader, segment_name};
use crate::standing::Standing;

/// A full segment that waits for its seal.
pub(crate) struct Full {
    pub footer: Footer,
    pub footer_at: u64,
    /// What the manifest will call it by.
    pub name: Digest,
}

/// The segment after the active one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Not asked for, or refused.
    Idle,
    /// Being zeroed in the background.
    Preparing,
    /// Durable, zeros.
    Ready,
}

/// What the log can still take without asking the file system for anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Entries whose [`Room::cost`] adds up to this fit, in any grouping into batches. What votes, truncations and a
    /// new leader's own entries may need is kept back.
    pub bytes: u64,
    /// A whole segment waits to be used: any one entry fits, also one that costs more than `bytes`.
    pub whole: bool,
    /// Why the last attempt to prepare a segment failed, until one succeeds.
    pub refused: Option<String>,
}

impl Room {
    /// What an entry of so many payload bytes takes from a segment at most: a batch of its own.
    #[must_use]
    pub fn cost(payload: usize) -> u64 {
        (BATCH_HEADER + FRAME_HEADER + payload).next_multiple_of(BLOCK) as u64
    }
}

/// What is kept back at the end of a segment of so many bytes while no next one is ready.
pub(crate) fn reserve_of(segment_bytes: u64) -> usize {
    const RESERVE: usize = 16 * BLOCK;
    RESERVE.min(segment_bytes as usize / 8 / BLOCK * BLOCK)
}

/// Writes one block and syncs it.
pub(crate) fn write_block<D: Disk>(
    disk: &mut D,
    name: &str,
    offset: u64,
    block: &[u8; BLOCK],
) -> io::Result<()> {
    let file = disk.open(name)?;
    let written = disk.write(file, offset, block).and_then(|()| disk.sync(file));
    disk.close(file);
    written
}

pub(crate) fn write_manifest<D: Disk>(disk: &mut D, manifest: &Manifest) -> io::Result<()> {
    write_block(disk, MANIFEST, manifest.offset(), &manifest.encode())
}

impl<D: Disk> Log<D> {
    /// Starts to prepare the next segment, and learns what became of it, without waiting. A refusal is kept
    /// until room is needed: the append that needs it asks again and then says so.
    pub(crate) fn poll_next(&mut self) {
        if self.next == Next::Preparing {
            match self.disk.prepared(false) {
                None => {}
                Some(Ok(())) => self.ready(),
                Some(Err(error)) => self.refuse(&error),
            }
        }
    }

    /// Waits for a segment that is being prepared, whatever becomes of it.
    pub(crate) fn settle_next(&mut self) {
        if self.next == Next::Preparing {
            match self.disk.prepared(true) {
                Some(Ok(())) => self.ready(),
                Some(Err(error)) => self.refuse(&error),
                None => self.next = Next::Idle,
            }
        }
    }

    fn ready(&mut self) {
        self.next = Next::Ready;
        self.refused = None;
    }

    fn refuse(&mut self, error: &io::Error) {
        self.next = Next::Idle;
        self.refused = Some(error.to_string());
    }

    /// Asks for the next segment ahead of its use, unless it is there or on its way. Never waits, and changes nothing
    /// of the log; what became of it shows in [`Log::room`].
    pub fn ask_next(&mut self) {
        if self.next == Next::Idle && !self.has_failed() {
            let name = segment_name(self.active.header.number + 1);
            match self.disk.prepare(&name, self.segment_bytes) {
                Ok(()) => self.next = Next::Preparing,
                Err(error) => self.refuse(&error),
            }
        }
    }

    /// What is certain to fit now. Whoever appends no more than this never meets [`LogError::Full`], whatever becomes
    /// of the disk meanwhile. Does not wait.
    pub fn room(&mut self) -> Room {
        self.poll_next();
        let whole = self.next == Next::Ready;
        // Twice: once for votes and truncations, once for entries that nobody asked about.
        let kept = |segment: u64| 2 * reserve_of(segment) as u64;
        let bytes = if whole {
            // Whatever does not fit the active segment goes to the next, which begins with the frames that stand.
            let standing = (BATCH_HEADER + Standing::BYTES_MAX).next_multiple_of(BLOCK) as u64;
            self.segment_bytes.saturating_sub(2 * BLOCK as u64 + standing + kept(self.segment_bytes))
        } else {
            let drafted = self.drafted().max(self.head()).next_multiple_of(BLOCK) as u64;
            (self.active.room() as u64).saturating_sub(drafted + kept(self.active.header.bytes))
        };
        Room { bytes, whole, refused: self.refused.clone() }
    }

    /// Waits for the next segment, asking again if need be. Preparing touches no file of the log, so when it
    /// fails nothing has been changed, and the log has not failed.
    pub(crate) fn await_next(&mut self) -> Result<(), LogError> {
        let mut asked = false;
        loop {
            match self.next {
                Next::Ready => return Ok(()),
                Next::Preparing => match self.disk.prepared(true) {
                    Some(Ok(())) => self.ready(),
                    Some(Err(error)) => {
                        self.refuse(&error);
                        // One refusal may be old news; the second is the answer.
                        if asked {
                            return Err(LogError::Full(error));
                        }
                    }
                    None => self.next = Next::Idle,
                },
                Next::Idle => {
                    asked = true;
                    let name = segment_name(self.active.header.number + 1);
                    self.disk.prepare(&name, self.segment_bytes).map_err(LogError::Full)?;
                    self.next = Next::Preparing;
                }
            }
        }
    }

    /// Ends the active segment and begins the next. Nothing is in flight, and the next file is ready.
    pub(crate) fn rotate(&mut self) -> Result<(), LogError> {
        assert!(
            self.in_flight() == 0 && !self.has_open_batch(),
            "S2: a segment ends with everything in it durable"
        );
        let digest = self.finish_hash();
        let old = &self.active.header;
        let header = SegmentHeader {
            identity: old.identity.clone(),
            number: old.number + 1,
            first_batch: self.next_batch(),
            tip: self.tip(),
            bytes: self.segment_bytes,
            previous: digest,
            stands_for: Digest::ZERO,
        };
        // What its own bytes say. A truncation that is written later, into the next segment, changes none of them.
        let span = self.index.span(old.number);
        let footer = Footer {
            number: old.number,
            first_batch: old.first_batch,
            last_batch: self.next_batch() - 1,
            first: Lsn(span.first),
            last: Lsn(span.last),
            end: self.active.end,
            frames: self.active.frames,
            digest,
        };
        self.full.push_back(Full { footer, footer_at: old.footer_at(), name: digest });
        let old_file = self.active.file;
        // The footer comes when the manifest says that this segment is not the last one any more: a footer at
        // the end of the last one would be taken for damage.
        self.begin(header).map_err(|error| self.fail(error))?;
        self.disk.close(old_file);
        self.next = Next::Idle;
        self.ask_next();
        Ok(())
    }

    /// Hashes the zeros between the last batch and the footer, and returns the segment's digest.
    fn finish_hash(&mut self) -> Digest {
        self.hash_last();
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut rest = self.active.room();
        while rest > 0 {
            let piece = rest.min(ZEROS.len());
            self.active.hasher.update(&ZEROS[..piece]);
            rest -= piece;
        }
        Digest(*self.active.hasher.finalize().as_bytes())
    }

    fn begin(&mut self, header: SegmentHeader) -> io::Result<()> {
        let generation = self.manifest.generation + 1;
        let manifest = Manifest { generation, active: header.clone(), ..self.manifest };
        write_manifest(&mut self.disk, &manifest)?;
        self.manifest = manifest;
        let name = segment_name(header.number);
        let file = self.disk.open(&name)?;
        let block = header.encode();
        self.disk.write(file, 0, &block[..])?;
        self.disk.sync(file)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&block[..]);
        self.index.begin(header.tip);
        self.active = Active { stamp: header.stamp(), header, file, end: BLOCK as u64, hasher, frames: 0 };
        Ok(())
    }

    /// Seals what has become final since the last look.
    pub(crate) fn seal_committed(&mut self) -> Result<(), LogError> {
        if self.full.is_empty() {
            return Ok(());
        }
        let sealed = self.write_footers().map_err(|error| self.fail(error))?;
        let Some((sealed, sealed_digest)) = sealed else { return Ok(()) };
        let generation = self.manifest.generation + 1;
        let active = self.manifest.active.clone();
        let manifest = Manifest { generation, active, sealed, sealed_digest };
        write_manifest(&mut self.disk, &manifest).map_err(|error| self.fail(error))?;
        self.manifest = manifest;
        Ok(())
    }

    /// Writes the footers of full segments, oldest first, as far as everything in them is committed and that
    /// is durable. Returns number and name of the last one.
    fn write_footers(&mut self) -> io::Result<Option<(u64, Digest)>> {
        let mut written = None;
        while let Some(full) = self.full.front() {
            let span = self.index.span(full.footer.number);
            if self.committed.0 < span.last {
                break;
            }
            let (footer, name) = (full.footer, full.name);
            let last = Lsn(span.last);
            assert!(last <= self.committed, "S4: a segment is sealed when everything in it is committed");
            write_block(&mut self.disk, &segment_name(footer.number), full.footer_at, &footer.encode())?;
            self.full.pop_front();
            self.stats.sealed += 1;
            written = Some((footer.number, name));
        }
        Ok(written)
    }
}
