//! The end of the last segment: the one place where a crash can have left less than what was written.

use super::*;

impl<D: Disk, E: Display, F> Opening<'_, D, F>
where
    F: FnMut(&Header, u64, &Frame<'_>) -> Result<(), E>,
{
    /// The last segment: decide about its tail, erase what is torn, make sure of the rest.
    pub(super) fn active(&mut self, newest: &Newest) -> Result<Active, OpenError> {
        let manifest = &newest.manifest;
        let number = manifest.active.number;
        let header = self.expected(number, manifest.active.bytes, Digest::ZERO);
        if manifest.active != header {
            let flaw = Flaw::new(48, format!("{header:?}"), format!("{:?}", manifest.active));
            return self.corrupt(flaw, 0);
        }
        let (file, found) = self.open_segment(number)?;
        let doing = || OpenError::disk(format!("recover segment {number}"));
        if self.disk.len(file).map_err(doing())? != header.bytes {
            return self.corrupt(
                found.err().unwrap_or_else(|| Flaw::new(0, header.bytes, "another length")),
                number,
            );
        }
        // The whole segment: it is walked, searched, and its end written again.
        let mut bytes = BlockBuf::new(header.bytes as usize);
        self.disk.read(file, 0, &mut bytes).map_err(OpenError::unreadable(number))?;
        let footer_at = header.footer_at() as usize;
        if !is_zero(&bytes[footer_at..]) {
            let flaw =
                Flaw::new(footer_at as u64, "zeros: nothing has sealed the last segment", "something else");
            return self.corrupt(flaw, number);
        }
        match found {
            Ok(found) if found == header => {}
            // A header is durable before the first batch is written.
            Err(_) if is_zero(&bytes[BLOCK..]) => {}
            Ok(found) => {
                return self.corrupt(Flaw::new(24, format!("{header:?}"), format!("{found:?}")), number);
            }
            Err(flaw) => return self.corrupt(flaw, number),
        }
        let (block, blank) = (header.encode(), is_zero(&bytes[..BLOCK]));
        bytes[..BLOCK].copy_from_slice(&block[..]);
        let spare = spare::find(&mut self.disk, &header)?;
        let restored = spare.as_ref().is_some_and(|copy| copy.restore(&header, &mut bytes));
        let mut walk = Walk::new(&header, self.mark, Chain::EachBatch);
        let (here, mut later) = self.walk(&mut walk, &mut &bytes[..], &header)?;
        if spare.as_ref().is_some_and(|copy| copy.offset as u64 >= walk.offset) {
            // Copied when everything before it was durable, and found good then.
            later = Later::Proof;
        }
        let found = Found::of(&here).expect("the walk stopped");
        match decide(State::Active, found, later, self.tip < self.options.at_least) {
            Verdict::Clean => {}
            Verdict::Torn => self.erase(file, number, &walk, &here, &mut bytes)?,
            Verdict::Corrupt => {
                let flaw = match self.tip < self.options.at_least {
                    true => {
                        Flaw::new(walk.offset, format!("a log up to {}", self.options.at_least), self.tip)
                    }
                    false => stop_flaw(&here, later, &walk),
                };
                return self.corrupt(flaw, number);
            }
        }
        if newest.in_doubt(blank) {
            write_manifest(&mut self.disk, manifest).map_err(doing())?;
        }
        if walk.offset == BLOCK as u64 {
            // Without batches nothing depends on it. With them, it is durable: they were written after it.
            self.disk.write(file, 0, &block[..]).map_err(doing())?;
        }
        self.disk.sync(file).map_err(doing())?;
        if let Some(copy) = spare.filter(|_| restored) {
            // Before the spare is used again.
            self.disk.write(file, copy.offset as u64, copy.batch()).map_err(doing())?;
            self.disk.sync(file).map_err(doing())?;
            self.recovery.restored = true;
        }
        self.again(file, &walk, &header, &bytes).map_err(doing())?;
        let (end, frames) = (walk.offset, walk.frames);
        let hasher = walk.into_hasher(&mut &bytes[..]).map_err(doing())?;
        Ok(Active { stamp: header.stamp(), header, file, end, hasher, frames })
    }

    /// Writes the batches again that no later one proves durable. They may exist in a page cache only, even in one
    /// that calls them clean after a failed sync; the same bytes written again are on their way to the device
    /// like any others. Each may as well be durable and acknowledged: a copy of it comes first.
    fn again(&mut self, file: FileId, walk: &Walk, header: &SegmentHeader, bytes: &[u8]) -> io::Result<()> {
        let (mut at, mut number, stamp) = (BLOCK, header.first_batch, header.stamp());
        let mut spare = None;
        while at < walk.offset as usize {
            let room = header.footer_at() - at as u64;
            let batch = Header::read(&stamp, at as u64, room, &bytes[at..]).expect("the walk accepted it");
            let batch = &bytes[at..at + batch.bytes as usize];
            if number > walk.durable {
                let copy = match spare {
                    Some(copy) => copy,
                    None => *spare.insert(self.open_spare(header)?),
                };
                for (file, place) in [(copy, 0), (file, at as u64)] {
                    self.disk.write(file, place, batch)?;
                    self.disk.sync(file)?;
                }
                self.recovery.rewritten += 1;
            }
            at += batch.len();
            number += 1;
        }
        if let Some(copy) = spare {
            self.disk.close(copy);
        }
        Ok(())
    }

    /// Zeros everything after the last good batch, durably: bytes of a batch that never was must not come back
    /// under one that will be written before them.
    fn erase(
        &mut self,
        file: FileId,
        number: u64,
        walk: &Walk,
        here: &Here,
        bytes: &mut [u8],
    ) -> Result<(), OpenError> {
        let doing = || OpenError::disk(format!("erase the torn tail of segment {number}"));
        let start = walk.offset as usize;
        let last = bytes[start..].rchunks_exact(BLOCK).position(|block| !is_zero(block));
        let end = last.map_or(start, |from_the_end| bytes.len() - from_the_end * BLOCK);
        let tail = &mut bytes[start..end];
        tail.fill(0);
        let erased = tail.len() as u64;
        for (nth, piece) in tail.chunks(WINDOW).enumerate() {
            self.disk.write(file, (start + nth * WINDOW) as u64, piece).map_err(doing())?;
        }
        self.disk.sync(file).map_err(doing())?;
        let found = match here {
            Here::Damaged(flaw) => format!("{flaw:?}"),
            _ => "zeros before a batch that was in flight".into(),
        };
        self.recovery.torn = Some(Torn { segment: number, offset: walk.offset, erased, found });
        Ok(())
    }
}
