//! Where a walk gets a segment's bytes from: memory, or a file in windows.

use std::io;

use crate::buffer::BlockBuf;
use crate::disk::{Disk, FileId, Map};

/// Bytes read ahead from a file: what was read is still in the processor's cache when it is hashed and checked.
pub(crate) const WINDOW: usize = 512 << 10;

/// The bytes of one segment.
pub(crate) trait Source {
    /// The `len` bytes at `offset`, both whole blocks and inside the file.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]>;
}

impl Source for &[u8] {
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = from.checked_add(len).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.get(from..end).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}

impl Source for &Map {
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        self.read(offset, len)
    }
}

/// A file behind a read function, seen through a window that moves with the reader.
pub(crate) struct Windowed<F> {
    read: F,
    window: BlockBuf,
    start: u64,
    filled: usize,
}

impl<F: FnMut(u64, &mut [u8]) -> io::Result<usize>> Windowed<F> {
    pub(crate) fn new(window: usize, read: F) -> Windowed<F> {
        Windowed { read, window: BlockBuf::new(window), start: 0, filled: 0 }
    }
}

impl<F: FnMut(u64, &mut [u8]) -> io::Result<usize>> Source for Windowed<F> {
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let inside =
            |start: u64, filled: usize| offset >= start && offset + len as u64 <= start + filled as u64;
        if !inside(self.start, self.filled) {
            if len > self.window.len() {
                self.window = BlockBuf::new(len);
            }
            (self.start, self.filled) = (offset, 0);
            self.filled = (self.read)(offset, &mut self.window)?;
            if !inside(self.start, self.filled) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let from = (offset - self.start) as usize;
        Ok(&self.window[from..from + len])
    }
}

/// A file of a disk, with `window` bytes of read-ahead.
pub(crate) fn from_disk<D: Disk>(disk: &mut D, file: FileId, window: usize) -> impl Source + use<'_, D> {
    Windowed::new(window, move |offset, buf: &mut [u8]| disk.read(file, offset, buf))
}
