//! The spare: a file that holds a copy of the one batch that recovery is writing again.
//!
//! Recovery writes unproven batches again in their place (see `tail`), and any of them may have been acknowledged.
//! A write that a power loss interrupts may leave anything, so before each one a copy is made durable here. The copy
//! has no header of its own: a batch carries its place and its checksum. It stays when the work is done, and is
//! looked at only where the batch itself is not good any more.

use super::*;
use crate::batch::BATCH_MAX;

/// File name of the spare.
pub const SPARE: &str = "SPARE";

/// Length of the file that has room for any batch of this segment, bytes.
pub(crate) fn bytes(header: &SegmentHeader) -> u64 {
    (BATCH_MAX as u64).min(header.footer_at() - BLOCK as u64)
}

/// A copy that was found.
pub(crate) struct Copy {
    /// Where in the segment its batch belongs.
    pub offset: usize,
    batch: BlockBuf,
    len: usize,
}

impl Copy {
    /// The number of its batch, from 1.
    pub(crate) fn number(&self) -> u64 {
        u64_at(&self.batch, 40).max(1)
    }

    pub(super) fn batch(&self) -> &[u8] {
        &self.batch[..self.len]
    }

    /// Puts the batch into its place in the bytes of the segment if there is no good one; says whether it did.
    pub(crate) fn restore(&self, header: &SegmentHeader, segment: &mut [u8]) -> bool {
        let (stamp, at) = (header.stamp(), self.offset);
        let room = header.footer_at() - at as u64;
        let found = Header::read(&stamp, at as u64, room, &segment[at..]);
        let good =
            found.and_then(|found| found.check(&stamp, &segment[at..at + found.bytes as usize])).is_ok();
        if !good {
            segment[at..at + self.len].copy_from_slice(self.batch());
        }
        !good
    }
}

impl<D: Disk, E: Display, F> Opening<'_, D, F>
where
    F: FnMut(&Header, u64, &Frame<'_>) -> Result<(), E>,
{
    /// Opens the file for copies, made where there is none with enough room.
    pub(super) fn open_spare(&mut self, header: &SegmentHeader) -> io::Result<FileId> {
        let needed = bytes(header);
        match self.disk.open(SPARE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => {
                let file = file?;
                if self.disk.len(file)? >= needed {
                    return Ok(file);
                }
                self.disk.close(file);
            }
        }
        self.prepare(SPARE, needed)?;
        self.disk.open(SPARE)
    }
}

/// The copy, if it is whole and of a batch of this segment. A torn one was not needed: the batch itself is
/// written only when its copy is durable.
pub(crate) fn find<D: Disk>(disk: &mut D, header: &SegmentHeader) -> Result<Option<Copy>, OpenError> {
    let doing = || OpenError::disk(format!("read {SPARE}"));
    let file = match disk.open(SPARE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(doing())?,
    };
    let mut batch = BlockBuf::new(bytes(header) as usize);
    let filled = disk.read(file, 0, &mut batch).map_err(doing())?;
    disk.close(file);
    if filled < BLOCK {
        return Ok(None);
    }
    let (stamp, offset) = (header.stamp(), u64_at(&batch, 32));
    if !(BLOCK as u64..header.footer_at()).contains(&offset) || !offset.is_multiple_of(BLOCK as u64) {
        return Ok(None);
    }
    let room = (header.footer_at() - offset).min(filled as u64);
    let Ok(found) = Header::read(&stamp, offset, room, &batch) else { return Ok(None) };
    let len = found.bytes as usize;
    Ok(found.check(&stamp, &batch[..len]).ok().map(|()| Copy { offset: offset as usize, batch, len }))
}
