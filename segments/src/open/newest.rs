//! What the manifest says, and the very beginning of a log.

use super::*;

/// The newest manifest, and what its other slot holds.
pub(super) struct Newest {
    pub manifest: Manifest,
    /// What is wrong with the other slot.
    pub damaged: Option<Flaw>,
    /// The first segment that should be there and is not.
    pub missing: Option<u64>,
    /// This generation began the active segment; the one before had another, or none.
    begins: bool,
}

impl Newest {
    /// Whether it may exist in a page cache only. Then nothing can have followed from it yet, so that losing it while
    /// it is written again costs nothing: the generation before it will do. With `blank`, the active segment has no
    /// header. A header is written when the manifest that begins its segment is durable, and the next generation
    /// when the one before it is.
    pub(super) fn in_doubt(&self, blank: bool) -> bool {
        self.damaged.is_none() && (blank || !self.begins)
    }
}

impl<D: Disk, E: Display, F> Opening<'_, D, F>
where
    F: FnMut(&Header, u64, &Frame<'_>) -> Result<(), E>,
{
    /// The manifest, begun on an empty disk.
    pub(super) fn newest(&mut self) -> Result<Newest, OpenError> {
        let names = self.disk.list().map_err(OpenError::disk("list the log's directory"))?;
        let segments: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
        let slots = match names.iter().any(|name| name == MANIFEST) {
            true => read_slots(&mut self.disk)?,
            false => None,
        };
        let Some(Slots { newest: Some(manifest), older, damaged }) = slots else {
            // A first start that did not get as far as a manifest leaves at most an unused file.
            for number in segments {
                if self.is_used(number)? {
                    return Err(match slots.and_then(|slots| slots.damaged) {
                        Some(flaw) => OpenError::Corrupt(flaw.in_segment(0, Lsn::ZERO)),
                        None => OpenError::MissingManifest,
                    });
                }
            }
            return Ok(Newest { manifest: self.begin()?, damaged: None, missing: None, begins: true });
        };
        let found = &manifest.active.identity;
        if *found != self.options.identity {
            let cluster = engine::codec::hex(&found.cluster);
            return Err(OpenError::Foreign { cluster, region: found.region.clone() });
        }
        let last = manifest.active.number;
        // Said when those before it have been read.
        let missing = (1..=last).find(|number| !segments.contains(number));
        for number in segments.into_iter().filter(|number| *number > last) {
            // Only a manifest that was durable lets a segment begin.
            if self.is_used(number)? {
                let flaw = damaged
                    .unwrap_or_else(|| Flaw::new(48, format!("segment {number} or a later one"), last));
                return Err(OpenError::Corrupt(flaw.in_segment(0, Lsn::ZERO)));
            }
            self.unused.push(segment_name(number));
        }
        // A repair that did not come to its end.
        self.unused.extend(names.into_iter().filter(|name| name.ends_with(crate::repair::SUFFIX)));
        let begins = older.is_none_or(|older| older.active != manifest.active);
        Ok(Newest { manifest, damaged, missing, begins })
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

    /// Begins a log: first segment and spare, then manifest, then the segment's header.
    fn begin(&mut self) -> Result<Manifest, OpenError> {
        let doing = || OpenError::disk("begin the log");
        let header = SegmentHeader {
            identity: self.options.identity.clone(),
            number: 1,
            first_batch: 1,
            tip: Lsn::ZERO,
            bytes: self.options.segment_bytes,
            previous: Digest::ZERO,
            stands_for: Digest::ZERO,
        };
        self.prepare(&segment_name(1), header.bytes).map_err(doing())?;
        self.prepare(SPARE, spare::bytes(&header)).map_err(doing())?;
        self.prepare(MANIFEST, MANIFEST_BYTES).map_err(doing())?;
        let manifest = Manifest { generation: 1, active: header, sealed: 0, sealed_digest: Digest::ZERO };
        write_manifest(&mut self.disk, &manifest).map_err(doing())?;
        Ok(manifest)
    }

    /// Makes a file of zeros, and waits for it.
    pub(super) fn prepare(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        self.disk.prepare(name, bytes)?;
        self.disk.prepared(true).unwrap_or(Ok(()))
    }
}

/// Both slots of the manifest, `None` where its file is empty.
pub(crate) fn read_slots<D: Disk>(disk: &mut D) -> Result<Option<Slots>, OpenError> {
    let doing = || OpenError::disk("read the manifest");
    let file = disk.open(MANIFEST).map_err(doing())?;
    let mut bytes = BlockBuf::new(MANIFEST_BYTES as usize);
    let length = disk.len(file).map_err(doing())?;
    let filled = disk.read(file, 0, &mut bytes).map_err(doing())?;
    disk.close(file);
    if length == 0 {
        return Ok(None);
    }
    if length != MANIFEST_BYTES || filled as u64 != length {
        let flaw = Flaw::new(0, format!("{MANIFEST_BYTES} bytes"), length);
        return Ok(Some(Slots { newest: None, older: None, damaged: Some(flaw) }));
    }
    Slots::decode(&bytes).map(Some).map_err(|flaw| OpenError::block(flaw, 0, 0, Lsn::ZERO))
}
