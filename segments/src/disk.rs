//! The port to the machine: [`Disk`], a directory of fixed-size files.
//!
//! Production: [`crate::UringDisk`] and [`crate::PosixDisk`]. Tests: a simulated disk that loses, tears,
//! garbles and refuses. One contract suite (`tests/src/disk_contract.rs`) runs against all of them.
//!
//! Two ways to write. `write` and `sync` block and are for rare things: headers, seals, the manifest,
//! recovery. `submit` and `complete` are the hot path: one write and its sync, several in flight, from
//! buffers the disk itself owns, so that no buffer can be freed while a kernel still reads it.

use std::io;

/// A file opened by a [`Disk`], valid until closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// One of the disk's own write buffers, numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// What became of one submitted write.
#[derive(Debug)]
pub struct Completion {
    /// The buffer, which is free again.
    pub slot: Slot,
    /// `Ok`: every byte was written and the sync after it returned. Anything else, a short write and a
    /// cancelled link included, is an error and promises nothing.
    pub result: io::Result<()>,
    /// From submission to completion, nanoseconds; 0 where the disk has no clock.
    pub nanos: u64,
}

/// The bytes of a finished file in memory, read only.
pub enum Map {
    /// Mapped from a file that nobody writes any more.
    Mapped(memmap2::Mmap),
    /// Held in memory, by a simulated disk.
    Held(Vec<u8>),
}

impl Map {
    /// A stretch of it, fetched from the device where memory does not hold it yet. What the device does not give, or
    /// what the file lost since it was mapped, is an error here; touched unfetched it would be the end of the process.
    /// Kernels before 5.14 cannot be asked, and there it is.
    ///
    /// # Errors
    /// The device's, or `UnexpectedEof` for what lies outside.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let outside = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let from = usize::try_from(offset).map_err(|_| outside())?;
        let range = from..from.checked_add(length).ok_or_else(outside)?;
        match self {
            Map::Held(bytes) => bytes.get(range).ok_or_else(outside),
            Map::Mapped(map) => {
                let bytes = map.get(range).ok_or_else(outside)?;
                match map.advise_range(memmap2::Advice::PopulateRead, from, length) {
                    Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                        Err(io::Error::other("the device does not give these bytes, or the file was cut"))
                    }
                    Err(error) if error.raw_os_error() != Some(libc::EINVAL) => Err(error),
                    _ => Ok(bytes),
                }
            }
        }
    }
}

/// A directory of fixed-size files, written in whole blocks of [`engine::limits::BLOCK`] bytes.
///
/// Obligations of every implementation:
/// - Offsets and lengths of `read`, `write` and `submit` are multiples of the block, and the memory given
///   to `read` is a [`crate::BlockBuf`]; a disk may rely on it (`O_DIRECT` does).
/// - A write is durable only once a later `sync` of the same file returned `Ok`. Until then a crash may
///   keep any subset of its sectors, in any order, garbled or not.
/// - After an error from a write or a sync nothing is known about what the file holds. The caller never
///   retries on the same handle.
/// - One thread uses a disk at a time. Dropping it waits for what is in flight.
pub trait Disk {
    /// The names in the directory, in no order. An empty directory gives an empty list.
    fn list(&mut self) -> io::Result<Vec<String>>;

    /// Opens an existing file for reading and writing. `NotFound` where there is none.
    fn open(&mut self, name: &str) -> io::Result<FileId>;

    /// Forgets an open file. Nothing may be in flight on it.
    fn close(&mut self, file: FileId);

    /// The length of an open file, bytes.
    fn len(&mut self, file: FileId) -> io::Result<u64>;

    /// Fills `buf` from `offset` on; short only at the end of the file. Returns how many bytes.
    fn read(&mut self, file: FileId, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, inside the file's length. Not durable until `sync`.
    fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes every completed write of this file durable. Never retried after an error.
    fn sync(&mut self, file: FileId) -> io::Result<()>;

    /// Begins to make the file `name`: `bytes` of zeros. One at a time. An older file of that name is replaced.
    fn prepare(&mut self, name: &str, bytes: u64) -> io::Result<()>;

    /// What became of the last `prepare`: `None` while it runs (never, with `wait`) or when none was begun;
    /// `Some(Ok)` once, when zeros, length and name are all durable; `Some(Err)` once, when no file was made.
    fn prepared(&mut self, wait: bool) -> Option<io::Result<()>>;

    /// Removes a file and makes that durable. `NotFound` where there is none.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Gives the file `from` the name `to`, in one step: a file that had it is gone. Durable when it returns; a crash
    /// before that leaves either. `NotFound` where there is no `from`.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// A finished file as memory, or `None` where the disk prefers to be read.
    fn map(&mut self, name: &str) -> io::Result<Option<Map>>;

    /// Makes `slots` buffers of `bytes` each (a multiple of the block), zeroed. Called once.
    fn reserve(&mut self, slots: u16, bytes: usize) -> io::Result<()>;

    /// A buffer's memory. The caller changes it only while it is not in flight.
    fn buffer(&mut self, slot: Slot) -> &mut [u8];

    /// Writes the first `len` bytes of the buffer at `offset` and syncs the file after it. The outcome comes
    /// from [`Disk::complete`], also when the disk did the work at once. An error means it never began.
    fn submit(&mut self, slot: Slot, file: FileId, offset: u64, len: usize) -> io::Result<()>;

    /// The outcome of some submission, in any order. Without `wait`, `None` when none is known yet; with it,
    /// `None` only when nothing is in flight. An error means the disk itself broke: trust nothing in flight.
    fn complete(&mut self, wait: bool) -> io::Result<Option<Completion>>;

    /// What this disk has done so far.
    fn counters(&self) -> Counters;
}

/// What a disk has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes handed to the device by `write` and `submit`.
    pub bytes_written: u64,
    /// Bytes of zeros written to prepare files.
    pub bytes_zeroed: u64,
    /// Syncs of files that returned, by `sync`, by `submit` and to prepare files.
    pub syncs: u64,
}
