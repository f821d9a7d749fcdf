//! The disk that works everywhere: one `pwrite`, one `fdatasync`, on the caller's thread. An edge file.
//!
//! `RWF_DSYNC` saves a system call where the device has forced-unit-access writes; where it has not, each such
//! write waits for a flush issued from a worker, which collapses when the processors are busy.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use crate::buffer::BlockBuf;
use crate::disk::{Completion, Counters, Disk, FileId, Map, Slot};
use crate::files::{Files, short_write, write_once};

/// `pwrite` and `fdatasync`.
pub struct PosixDisk {
    files: Files,
    buffers: Vec<BlockBuf>,
    done: VecDeque<Completion>,
    forced_unit_access: bool,
}

impl PosixDisk {
    /// Opens a directory, made if need be, for this process alone: `WouldBlock` where another has it.
    pub fn open(dir: &Path) -> io::Result<PosixDisk> {
        Files::open_dir(dir).map(PosixDisk::new)
    }

    pub(crate) fn new(files: Files) -> PosixDisk {
        let forced_unit_access = has_forced_unit_access(files.path());
        PosixDisk { files, buffers: Vec::new(), done: VecDeque::new(), forced_unit_access }
    }

    /// Whether reads and writes go past the page cache.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.files.direct()
    }

    fn write_and_sync(&self, slot: Slot, file: FileId, offset: u64, len: usize) -> io::Result<()> {
        let file = self.files.file(file)?;
        let bytes = &self.buffers[usize::from(slot.0)][..len];
        if !self.forced_unit_access {
            write_once(file, offset, bytes)?;
            return file.sync_data();
        }
        let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: len };
        let at = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: the vector names `len` readable bytes that outlive the call.
        let written = unsafe { libc::pwritev2(file.as_raw_fd(), &vector, 1, at, libc::RWF_DSYNC) };
        match usize::try_from(written) {
            Ok(written) if written == len => Ok(()),
            Ok(written) => Err(short_write(written, len)),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

impl Disk for PosixDisk {
    fn list(&mut self) -> io::Result<Vec<String>> {
        self.files.list()
    }

    fn open(&mut self, name: &str) -> io::Result<FileId> {
        self.files.open(name)
    }

    fn close(&mut self, file: FileId) {
        self.files.close(file);
    }

    fn len(&mut self, file: FileId) -> io::Result<u64> {
        self.files.len(file)
    }

    fn read(&mut self, file: FileId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.files.read(file, offset, buf)
    }

    fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.files.write(file, offset, bytes)
    }

    fn sync(&mut self, file: FileId) -> io::Result<()> {
        self.files.sync(file)
    }

    fn prepare(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        self.files.prepare(name, bytes)
    }

    fn prepared(&mut self, wait: bool) -> Option<io::Result<()>> {
        self.files.prepared(wait)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn map(&mut self, name: &str) -> io::Result<Option<Map>> {
        self.files.map(name)
    }

    fn reserve(&mut self, slots: u16, bytes: usize) -> io::Result<()> {
        self.buffers = (0..slots).map(|_| BlockBuf::new(bytes)).collect();
        Ok(())
    }

    fn buffer(&mut self, slot: Slot) -> &mut [u8] {
        &mut self.buffers[usize::from(slot.0)]
    }

    fn submit(&mut self, slot: Slot, file: FileId, offset: u64, len: usize) -> io::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "measures the sync; nothing depends on it")]
        let started = Instant::now();
        let result = self.write_and_sync(slot, file, offset, len);
        if result.is_ok() {
            self.files.counters.bytes_written += len as u64;
            self.files.counters.syncs += 1;
        }
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.done.push_back(Completion { slot, result, nanos });
        Ok(())
    }

    fn complete(&mut self, _wait: bool) -> io::Result<Option<Completion>> {
        Ok(self.done.pop_front())
    }

    fn counters(&self) -> Counters {
        self.files.counters
    }
}

/// Whether the device under `dir` says it has forced-unit-access writes. Unknown counts as no.
fn has_forced_unit_access(dir: &Path) -> bool {
    let Ok(metadata) = std::fs::metadata(dir) else { return false };
    let (major, minor) = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    // A partition has no queue of its own: the disk it belongs to has.
    [
        format!("/sys/dev/block/{major}:{minor}/queue/fua"),
        format!("/sys/dev/block/{major}:{minor}/../queue/fua"),
    ]
    .iter()
    .find_map(|path| std::fs::read_to_string(path).ok())
    .is_some_and(|text| text.trim() == "1")
}
