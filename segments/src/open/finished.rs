//! Segments that a later one follows: nothing in them is in doubt, and anything but the expected is corruption.

use super::*;

impl<D: Disk, E: Display, F> Opening<'_, D, F>
where
    F: FnMut(&Header, u64, &Frame<'_>) -> Result<(), E>,
{
    /// Opens a segment's file and its header.
    pub(super) fn open_segment(
        &mut self,
        number: u64,
    ) -> Result<(FileId, Result<SegmentHeader, Flaw>), OpenError> {
        let name = segment_name(number);
        let doing = || OpenError::disk(format!("read {name}"));
        let file = self.disk.open(&name).map_err(doing())?;
        let length = self.disk.len(file).map_err(doing())?;
        let mut block = BlockBuf::new(BLOCK);
        let read = self.disk.read(file, 0, &mut block).map_err(OpenError::unreadable(number))?;
        if length < BLOCK as u64 || read != BLOCK {
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

    pub(super) fn corrupt<T>(&self, flaw: Flaw, segment: u64) -> Result<T, OpenError> {
        Err(OpenError::Corrupt(flaw.in_segment(segment, self.tip)))
    }

    /// The header this log must have written for the next segment.
    pub(super) fn expected(&self, number: u64, bytes: u64, stands_for: Digest) -> SegmentHeader {
        SegmentHeader {
            identity: self.options.identity.clone(),
            number,
            first_batch: self.next_batch,
            tip: self.tip,
            bytes,
            previous: self.previous,
            stands_for,
        }
    }

    /// A file and header of a segment that a later one follows: anything but the expected is corruption.
    fn finished(&mut self, number: u64) -> Result<(FileId, SegmentHeader), OpenError> {
        let (file, header) = self.open_segment(number)?;
        let header = header.or_else(|flaw| self.corrupt(flaw, number))?;
        let expected = self.expected(number, header.bytes, header.stands_for);
        if header != expected {
            let expected = format!("{expected:?}");
            return self.corrupt(Flaw::new(24, expected, format!("{header:?}")), number);
        }
        Ok((file, header))
    }

    pub(super) fn sealed(&mut self, number: u64, manifest: &Manifest) -> Result<(), OpenError> {
        let (file, header) = self.finished(number)?;
        let unreadable = OpenError::unreadable(number);
        let at = header.footer_at();
        let mut block = BlockBuf::new(BLOCK);
        self.disk.read(file, at, &mut block).map_err(&unreadable)?;
        let footer = Footer::decode(block.first_chunk().expect("a block was read"));
        let footer = footer.map_err(|flaw| OpenError::block(flaw, number, at, self.tip))?;
        let name = header.name(footer.digest);
        if number == manifest.sealed && name != manifest.sealed_digest {
            self.disk.close(file);
            return self.corrupt(Flaw::new(at + 72, manifest.sealed_digest, name), number);
        }
        if footer.last < self.options.replay_from {
            self.disk.close(file);
            if footer.number != number || footer.first_batch != header.first_batch {
                return self.corrupt(
                    Flaw::new(at + 16, format!("the footer of segment {number}"), footer.number),
                    number,
                );
            }
            self.skipped = number;
            self.index.skip(Span { first: footer.first.0, last: footer.last.0 });
            // A segment may begin by voiding what stands before it: its end is the log's end, higher or lower.
            self.tip = footer.last;
            self.committed = self.committed.max(footer.last);
            self.next_batch = footer.last_batch + 1;
            self.previous = name;
            return Ok(());
        }
        // Not mapped: a block that the disk refuses must be an error here and not a signal.
        let mut bytes = BlockBuf::new(header.bytes as usize);
        self.disk.read(file, 0, &mut bytes).map_err(unreadable)?;
        let found = self.walk_finished(&mut &bytes[..], &header, State::Sealed)?;
        self.disk.close(file);
        if footer != found {
            return self.corrupt(Flaw::new(at + 16, format!("{found:?}"), format!("{footer:?}")), number);
        }
        Ok(())
    }

    /// Finds the frames that stand where no segment that was read through tells them: the last one may have been begun,
    /// and hold nothing yet. A segment begins with them, so nearly always one is enough.
    pub(super) fn look_back(&mut self) -> Result<(), OpenError> {
        for number in (self.voted_in + 1..=self.skipped).rev() {
            let (file, header) = self.open_segment(number)?;
            let header = header.or_else(|flaw| self.corrupt(flaw, number))?;
            let unreadable = OpenError::unreadable(number);
            let mut bytes = BlockBuf::new(header.bytes as usize);
            self.disk.read(file, 0, &mut bytes).map_err(unreadable)?;
            self.disk.close(file);
            let (mut found, purged) = (Standing::default(), self.standing.has_purged());
            let mut walk = Walk::new(&header, Lsn::ZERO, Chain::EachBatch);
            let here = loop {
                let step = walk.step(&mut &bytes[..], &mut |batch, at, frame| {
                    let stands = frame.kind == Kind::Vote || frame.kind == Kind::Purged && !purged;
                    if !stands {
                        return Ok(());
                    }
                    found.note(frame);
                    (self.each)(batch, at, frame)
                });
                match step {
                    Ok(Here::Batch(_)) => {}
                    Ok(here) => break here,
                    Err(Stop::Io(error)) => return Err(OpenError::unreadable(number)(error)),
                    Err(Stop::Each(reason)) => {
                        let (segment, offset) = (number, walk.offset);
                        return Err(OpenError::Refused { segment, offset, reason: reason.to_string() });
                    }
                }
            };
            let later = walk.later(&mut &bytes[..], &here).map_err(OpenError::unreadable(number))?;
            let stopped = Found::of(&here).expect("the walk stopped");
            if decide(State::Sealed, stopped, later, false) != Verdict::Clean {
                return self.corrupt(stop_flaw(&here, later, &walk), number);
            }
            found.frames().iter().for_each(|frame| self.standing.note(&frame.borrow()));
            if found.has_vote() {
                break;
            }
        }
        Ok(())
    }

    /// A segment that another one follows and that the manifest does not call sealed.
    pub(super) fn full(&mut self, number: u64, manifest: &Manifest) -> Result<Full, OpenError> {
        let (file, header) = self.finished(number)?;
        let mut bytes = BlockBuf::new(header.bytes as usize);
        self.disk.read(file, 0, &mut bytes).map_err(OpenError::unreadable(number))?;
        self.disk.close(file);
        let footer = self.walk_finished(&mut &bytes[..], &header, State::Full)?;
        // Zeros where its last batches stood are no damage that a walk sees. The next one says how it ended; one that
        // cannot be read has its own turn.
        let next = match number + 1 == manifest.active.number {
            true => Some(manifest.active.clone()),
            false => self.open_segment(number + 1).ok().and_then(|(file, next)| {
                self.disk.close(file);
                next.ok()
            }),
        };
        let found = |next: &SegmentHeader| self.expected(number + 1, next.bytes, next.stands_for);
        if let Some(next) = next.filter(|next| *next != found(next)) {
            let flaw = Flaw::new(footer.end, format!("what {next:?} follows"), format!("{:?}", found(&next)));
            return self.corrupt(flaw, number);
        }
        Ok(Full { footer, footer_at: header.footer_at(), name: header.name(footer.digest) })
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
        let digest = walk.digest(source).map_err(OpenError::unreadable(header.number))?;
        self.previous = header.name(digest);
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
}
