//! Opening a log: find what survived, prove that it is a prefix of what was written, erase a torn tail, and only
//! then let anybody append.
//! The same walk reads sealed, full and active segments; [`crate::recover`] decides what a stop means.

mod tail;

use std::collections::VecDeque;
use std::fmt::Display;

use engine::limits::{BLOCK, SEGMENT_SIZE, SEGMENT_SIZE_TEST_MIN};
use engine::log::{Digest, Lsn};

use crate::batch::Header;
use crate::buffer::BlockBuf;
use crate::bytes::is_zero;
use crate::damage::Flaw;
use crate::disk::{Disk, FileId};
use crate::error::OpenError;
use crate::frame::{Frame, Kind};
use crate::index::{Index, Span};
use crate::log::{Active, Log, Parts, Ticket};
use crate::manifest::{MANIFEST, MANIFEST_BYTES, Manifest, Slots};
use crate::place::Identity;
use crate::recover::{Found, State, Verdict, decide};
use crate::rotate::{Full, write_manifest};
use crate::segment::{Footer, SegmentHeader, segment_name, segment_number};
use crate::source::{Source, WINDOW};
use crate::standing::Standing;
use crate::walk::{Chain, Here, Later, Stop, Walk};

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
    /// A manifest slot was torn, or rotten where it did not matter, and has been written again: what was there.
    pub manifest_repaired: Option<String>,
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
        mut each: impl FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(Log<D>, Recovery), OpenError> {
        options.check()?;
        let mut opening = Opening {
            disk,
            options,
            each: |_: &Header, _: u64, frame: &Frame<'_>| each(frame),
            index: Index::default(),
            standing: Standing::default(),
            recovery: Recovery::default(),
            tip: Lsn::ZERO,
            committed: Lsn::ZERO,
            mark: Lsn::ZERO,
            next_batch: 1,
            previous: Digest::ZERO,
            unused: Vec::new(),
        };
        let (manifest, repair) = opening.manifest()?;
        let mut full = VecDeque::new();
        for number in 1..manifest.active.number {
            if number <= manifest.sealed {
                opening.sealed(number, &manifest)?;
            } else {
                full.push_back(opening.full(number)?);
            }
        }
        let active = opening.active(&manifest)?;
        opening.finish(manifest, repair, full, active)
    }
}

impl<D: Disk, E: Display, F> Opening<'_, D, F>
where
    F: FnMut(&Header, u64, &Frame<'_>) -> Result<(), E>,
{
    /// The manifest, begun on an empty disk; and what was wrong with one of its slots.
    fn manifest(&mut self) -> Result<(Manifest, Option<Flaw>), OpenError> {
        let names = self.disk.list().map_err(OpenError::disk("list the log's directory"))?;
        let segments: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
        let slots = match names.iter().any(|name| name == MANIFEST) {
            true => self.read_slots()?,
            false => None,
        };
        let Some(Slots { newest: Some(manifest), damaged }) = slots else {
            // A first start that did not get as far as a manifest leaves at most an unused file.
            for number in segments {
                if self.is_used(number)? {
                    return Err(match slots.and_then(|slots| slots.damaged) {
                        Some(flaw) => OpenError::Corrupt(flaw.in_segment(0, Lsn::ZERO)),
                        None => OpenError::MissingManifest,
                    });
                }
            }
            return self.begin().map(|manifest| (manifest, None));
        };
        let found = &manifest.active.identity;
        if *found != self.options.identity {
            let cluster = engine::codec::hex(&found.cluster);
            return Err(OpenError::Foreign { cluster, region: found.region.clone() });
        }
        let last = manifest.active.number;
        if let Some(number) = (1..=last).find(|number| !segments.contains(number)) {
            return Err(OpenError::MissingSegment { number, last });
        }
        for number in segments.into_iter().filter(|number| *number > last) {
            // Only a manifest that was durable lets a segment begin.
            if self.is_used(number)? {
                let flaw = damaged
                    .unwrap_or_else(|| Flaw::new(48, format!("segment {number} or a later one"), last));
                return Err(OpenError::Corrupt(flaw.in_segment(0, Lsn::ZERO)));
            }
            self.unused.push(segment_name(number));
        }
        Ok((manifest, damaged))
    }

    fn read_slots(&mut self) -> Result<Option<Slots>, OpenError> {
        let doing = || OpenError::disk("read the manifest");
        let file = self.disk.open(MANIFEST).map_err(doing())?;
        let mut bytes = BlockBuf::new(MANIFEST_BYTES as usize);
        let length = self.disk.len(file).map_err(doing())?;
        let filled = self.disk.read(file, 0, &mut bytes).map_err(doing())?;
        self.disk.close(file);
        if length == 0 {
            return Ok(None);
        }
        if length != MANIFEST_BYTES || filled as u64 != length {
            let flaw = Flaw::new(0, format!("{MANIFEST_BYTES} bytes"), length);
            return Ok(Some(Slots { newest: None, damaged: Some(flaw) }));
        }
        Slots::decode(&bytes).map(Some).map_err(|flaw| OpenError::block(flaw, 0, 0, Lsn::ZERO))
    }

    /// Whether a segment's file holds anything but zeros at its beginning.
    fn is_used(&mut self, number: u64) -> Result<bool, OpenError> {
        let name = segment_name(number);
        let doing = || OpenError::disk(format!("read {name}"));
        let file = self.disk.open(&name).map_err(doing())?;
        let mut blocks = BlockBuf::new(2 * BLOCK);
        let filled = self.disk.read(file, 0, &mut blocks).map_err(doing())?;
        self.disk.close(file);
        Ok(!is_zero(&blocks[..filled]))
    }

    /// Begins a log: first segment, then manifest, then the segment's header.
    fn begin(&mut self) -> Result<Manifest, OpenError> {
        let doing = || OpenError::disk("begin the log");
        let header = SegmentHeader {
            identity: self.options.identity.clone(),
            number: 1,
            first_batch: 1,
            tip: Lsn::ZERO,
            bytes: self.options.segment_bytes,
            previous: Digest::ZERO,
        };
        for (name, bytes) in [(segment_name(1), header.bytes), (MANIFEST.to_owned(), MANIFEST_BYTES)] {
            self.disk.prepare(&name, bytes).map_err(doing())?;
            self.disk.prepared(true).unwrap_or(Ok(())).map_err(doing())?;
        }
        let manifest = Manifest { generation: 1, active: header, sealed: 0, sealed_digest: Digest::ZERO };
        write_manifest(&mut self.disk, &manifest).map_err(doing())?;
        Ok(manifest)
    }

    /// Opens a segment's file and its header.
    fn open_segment(&mut self, number: u64) -> Result<(FileId, Result<SegmentHeader, Flaw>), OpenError> {
        let name = segment_name(number);
        let doing = || OpenError::disk(format!("read {name}"));
        let file = self.disk.open(&name).map_err(doing())?;
        let length = self.disk.len(file).map_err(doing())?;
        let mut block = BlockBuf::new(BLOCK);
        if length < BLOCK as u64 || self.disk.read(file, 0, &mut block).map_err(doing())? != BLOCK {
            return Ok((file, Err(Flaw::new(length, "a whole segment", format!("{length} bytes")))));
        }
        let header = SegmentHeader::decode(block.first_chunk().expect("a block was read"));
        let header = match header {
            Ok(header) => header,
            Err(crate::segment::BlockFlaw::Bad(flaw)) => return Ok((file, Err(flaw))),
            Err(other) => return Err(OpenError::block(other, number, 0, self.tip)),
        };
        if header.bytes != length {
            return Ok((
                file,
                Err(Flaw::new(length.min(header.bytes), format!("{} bytes", header.bytes), length)),
            ));
        }
        Ok((file, Ok(header)))
    }

    fn corrupt<T>(&self, flaw: Flaw, segment: u64) -> Result<T, OpenError> {
        Err(OpenError::Corrupt(flaw.in_segment(segment, self.tip)))
    }

    /// The header this log must have written for the next segment.
    fn expected(&self, number: u64, bytes: u64) -> SegmentHeader {
        SegmentHeader {
            identity: self.options.identity.clone(),
            number,
            first_batch: self.next_batch,
            tip: self.tip,
            bytes,
            previous: self.previous,
        }
    }

    /// A file and header of a segment that a later one follows: anything but the expected is corruption.
    fn finished(&mut self, number: u64) -> Result<(FileId, SegmentHeader), OpenError> {
        let (file, header) = self.open_segment(number)?;
        let header = header.or_else(|flaw| self.corrupt(flaw, number))?;
        if header != self.expected(number, header.bytes) {
            let expected = format!("{:?}", self.expected(number, header.bytes));
            return self.corrupt(Flaw::new(24, expected, format!("{header:?}")), number);
        }
        Ok((file, header))
    }

    fn sealed(&mut self, number: u64, manifest: &Manifest) -> Result<(), OpenError> {
        let (file, header) = self.finished(number)?;
        let doing = || OpenError::disk(format!("read segment {number}"));
        let at = header.footer_at();
        let mut block = BlockBuf::new(BLOCK);
        self.disk.read(file, at, &mut block).map_err(doing())?;
        let footer = Footer::decode(block.first_chunk().expect("a block was read"));
        let footer = footer.map_err(|flaw| OpenError::block(flaw, number, at, self.tip))?;
        if number == manifest.sealed && footer.digest != manifest.sealed_digest {
            self.disk.close(file);
            return self.corrupt(Flaw::new(at + 72, manifest.sealed_digest, footer.digest), number);
        }
        if footer.last < self.options.replay_from {
            self.disk.close(file);
            if footer.number != number || footer.first_batch != header.first_batch {
                return self.corrupt(
                    Flaw::new(at + 16, format!("the footer of segment {number}"), footer.number),
                    number,
                );
            }
            self.index.skip(Span { first: footer.first.0, last: footer.last.0 });
            self.tip = self.tip.max(footer.last);
            self.committed = self.committed.max(footer.last);
            self.next_batch = footer.last_batch + 1;
            self.previous = footer.digest;
            return Ok(());
        }
        let mapped = self.disk.map(&segment_name(number)).map_err(doing())?;
        let found = match mapped {
            Some(map) => self.walk_finished(&mut &map[..], &header, State::Sealed)?,
            None => {
                // The source borrows the disk, and so does nothing else of this opening during the walk.
                let mut bytes = BlockBuf::new(header.bytes as usize);
                self.disk.read(file, 0, &mut bytes).map_err(doing())?;
                self.walk_finished(&mut &bytes[..], &header, State::Sealed)?
            }
        };
        self.disk.close(file);
        if footer != found {
            return self.corrupt(Flaw::new(at + 16, format!("{found:?}"), format!("{footer:?}")), number);
        }
        self.committed = self.committed.max(footer.last);
        Ok(())
    }

    fn full(&mut self, number: u64) -> Result<Full, OpenError> {
        let (file, header) = self.finished(number)?;
        let mut bytes = BlockBuf::new(header.bytes as usize);
        let doing = OpenError::disk(format!("read segment {number}"));
        self.disk.read(file, 0, &mut bytes).map_err(doing)?;
        self.disk.close(file);
        let footer = self.walk_finished(&mut &bytes[..], &header, State::Full)?;
        Ok(Full { footer, footer_at: header.footer_at() })
    }

    /// Walks a finished segment to its end and returns the footer it must have.
    fn walk_finished(
        &mut self,
        source: &mut impl Source,
        header: &SegmentHeader,
        state: State,
    ) -> Result<Footer, OpenError> {
        let chain = if state == State::Sealed { Chain::Whole } else { Chain::EachBatch };
        let mut walk = Walk::new(header, self.mark, chain);
        let (here, later) = self.walk(&mut walk, source, header)?;
        let found = Found::of(&here).expect("the walk stopped");
        if decide(state, found, later, false) != Verdict::Clean {
            return self.corrupt(stop_flaw(&here, later, &walk), header.number);
        }
        let doing = OpenError::disk(format!("read segment {}", header.number));
        let digest = walk.digest(source).map_err(doing)?;
        self.previous = digest;
        let span = self.index.span(header.number);
        Ok(Footer {
            number: header.number,
            first_batch: header.first_batch,
            last_batch: walk.next_batch - 1,
            first: Lsn(span.first),
            last: Lsn(span.last),
            end: walk.offset,
            frames: walk.frames,
            digest,
        })
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
        let (mut purged, mut place) = (Lsn::ZERO, 0);
        let here = loop {
            let step = walk.step(source, &mut |header, at, frame| {
                standing.note(frame);
                recovery.frames += 1;
                if frame.kind == Kind::Purged {
                    purged = purged.max(frame.lsn);
                }
                place = at;
                each(header, at, frame)
            });
            match step {
                Ok(Here::Batch(batch)) => {
                    self.index.note(&batch);
                    recovery.batches += 1;
                }
                Ok(here) => break here,
                Err(Stop::Io(error)) => return Err(OpenError::disk(format!("read segment {number}"))(error)),
                Err(Stop::Each(reason)) => {
                    return Err(OpenError::Refused {
                        segment: number,
                        offset: place,
                        reason: reason.to_string(),
                    });
                }
            }
        };
        let doing = OpenError::disk(format!("read segment {number}"));
        let later = walk.later(source, &here).map_err(doing)?;
        self.tip = walk.tip;
        self.mark = walk.committed;
        self.committed = self.committed.max(walk.committed).max(purged);
        self.next_batch = walk.next_batch;
        Ok((here, later))
    }

    fn finish(
        mut self,
        mut manifest: Manifest,
        repair: Option<Flaw>,
        full: VecDeque<Full>,
        active: Active,
    ) -> Result<(Log<D>, Recovery), OpenError> {
        if let Some(flaw) = repair {
            // The other slot is the damaged one: the next generation goes there.
            manifest.generation += 1;
            write_manifest(&mut self.disk, &manifest).map_err(OpenError::disk("repair the manifest"))?;
            self.recovery.manifest_repaired = Some(format!("{flaw:?}"));
        }
        for name in &self.unused {
            self.disk.remove(name).map_err(OpenError::disk(format!("remove unused {name}")))?;
        }
        let committed = self.committed.min(self.tip);
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
