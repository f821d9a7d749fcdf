//! The disk for loaded machines: io_uring, a write linked to its sync, several batches in flight. An edge file.
//!
//! - The buffers belong to the ring and live until the kernel has answered for them, whatever happens to the
//!   caller. If a ring breaks with writes in flight, its buffers are leaked, never freed.
//! - Every completion is read. A short write breaks the link, so its sync arrives cancelled (-125); both are
//!   failures, and a batch counts only when its write was whole and its sync returned 0.
//! - A batch that is alone and not huge goes by `pwrite` and `fdatasync`: the ring would only add the wake-up of the
//!   kernel's worker that syncs for it.
//! - The ring starts disabled and is enabled by the first submission: only that thread may use it from then on.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Instant;

use io_uring::{IoUring, Probe, opcode, squeue, types};

use crate::buffer::BlockBuf;
use crate::disk::{Completion, Counters, Disk, FileId, Map, Slot};
use crate::files::{Files, short_write};

/// Marks the completion of a sync; the low bits are the slot.
const SYNC: u64 = 1 << 32;

/// Batches up to this size are written by the caller itself when nothing is in flight, bytes. Only behind a larger one
/// is there so much hashing to do while the disk works that it pays for the worker's wake-up.
const ALONE_MAX: usize = 512 << 10;

/// io_uring.
pub struct UringDisk {
    files: Files,
    ring: IoUring,
    buffers: Vec<BlockBuf>,
    registered: bool,
    enabled: bool,
    /// The file that entry 0 of the ring's file table stands for.
    file: Option<FileId>,
    flights: Vec<Option<Flight>>,
    done: VecDeque<Completion>,
}

struct Flight {
    started: Instant,
    len: usize,
    write: Option<i32>,
    sync: Option<i32>,
}

impl UringDisk {
    /// Opens a directory, made if need be, for this process alone. Fails where the kernel or a seccomp profile
    /// refuses io_uring (EPERM, ENOSYS, EACCES, ENOMEM): then use [`crate::PosixDisk`].
    pub fn open(dir: &Path) -> io::Result<UringDisk> {
        let ring = make_ring()?;
        Ok(UringDisk::new(Files::open_dir(dir)?, ring))
    }

    pub(crate) fn new(files: Files, ring: IoUring) -> UringDisk {
        UringDisk {
            files,
            ring,
            buffers: Vec::new(),
            registered: false,
            enabled: false,
            file: None,
            flights: Vec::new(),
            done: VecDeque::new(),
        }
    }

    /// Whether reads and writes go past the page cache.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.files.direct()
    }

    fn in_flight(&self) -> bool {
        self.flights.iter().any(Option::is_some)
    }

    /// Makes entry 0 of the file table stand for `file`. Nothing is in flight on another file: a log finishes
    /// a segment before it begins the next.
    fn use_file(&mut self, file: FileId) -> io::Result<()> {
        if self.file != Some(file) {
            let fd = self.files.file(file)?.as_raw_fd();
            self.ring.submitter().register_files_update(0, &[fd])?;
            self.file = Some(file);
        }
        if !self.enabled {
            self.ring.submitter().register_enable_rings()?;
            self.enabled = true;
        }
        Ok(())
    }

    /// Writes and syncs on this thread.
    fn write_alone(&mut self, slot: Slot, file: FileId, offset: u64, len: usize) {
        #[expect(clippy::disallowed_methods, reason = "measures the sync; nothing depends on it")]
        let started = Instant::now();
        let result = self.files.write_and_sync(file, offset, &self.buffers[usize::from(slot.0)][..len]);
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.done.push_back(Completion { slot, result, nanos });
    }

    /// Sorts arrived completions to their flights, and moves finished ones to `done`.
    fn reap(&mut self) {
        let arrived: Vec<(u64, i32)> =
            self.ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
        for (tag, result) in arrived {
            let nth = (tag & 0xffff) as usize;
            let Some(flight) = self.flights.get_mut(nth).and_then(Option::as_mut) else { continue };
            match tag & SYNC {
                0 => flight.write = Some(result),
                _ => flight.sync = Some(result),
            }
            if let (Some(write), Some(sync)) = (flight.write, flight.sync) {
                let result = outcome(write, sync, flight.len);
                let nanos = u64::try_from(flight.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                if result.is_ok() {
                    self.files.counters.bytes_written += flight.len as u64;
                    self.files.counters.syncs += 1;
                }
                self.flights[nth] = None;
                self.done.push_back(Completion { slot: Slot(nth as u16), result, nanos });
            }
        }
    }

    /// Hands queued entries to the kernel, and waits for at least `want` completions.
    fn enter(&mut self, want: usize) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(want) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel is short of memory for now; entries stay queued and go with the next call.
                Err(error)
                    if want == 0 && matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// What a linked write and sync amount to: whole and synced, or an error.
fn outcome(write: i32, sync: i32, len: usize) -> io::Result<()> {
    match usize::try_from(write) {
        Err(_) => Err(io::Error::from_raw_os_error(-write)),
        Ok(written) if written != len => Err(short_write(written, len)),
        Ok(_) if sync < 0 => Err(io::Error::from_raw_os_error(-sync)),
        Ok(_) => Ok(()),
    }
}

/// A disabled ring with room for one file, or why this kernel gives none.
pub(crate) fn make_ring() -> io::Result<IoUring> {
    let ring = match IoUring::builder().setup_single_issuer().setup_r_disabled().build(64) {
        // A kernel before 6.0 does not know the single-issuer promise.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            IoUring::builder().setup_r_disabled().build(64)?
        }
        ring => ring?,
    };
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [opcode::Write::CODE, opcode::WriteFixed::CODE, opcode::Fsync::CODE];
    if needed.iter().any(|code| !probe.is_supported(*code)) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring without write or fsync"));
    }
    ring.submitter().register_files_sparse(1)?;
    Ok(ring)
}

impl Drop for UringDisk {
    fn drop(&mut self) {
        while self.in_flight() {
            if self.enter(1).is_err() {
                // The kernel may still read them: leaking is safe, freeing is not.
                self.buffers.drain(..).for_each(std::mem::forget);
                return;
            }
            self.reap();
        }
    }
}

impl Disk for UringDisk {
    fn list(&mut self) -> io::Result<Vec<String>> {
        self.files.list()
    }

    fn open(&mut self, name: &str) -> io::Result<FileId> {
        self.files.open(name)
    }

    fn close(&mut self, file: FileId) {
        if self.file == Some(file) {
            // The table keeps the file open until another takes its entry; nothing is written to it any more.
            self.file = None;
        }
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
        assert!(self.buffers.is_empty(), "L1: buffers are reserved once");
        self.buffers = (0..slots).map(|_| BlockBuf::new(bytes)).collect();
        self.flights = (0..slots).map(|_| None).collect();
        let vector = |buffer: &mut BlockBuf| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let vectors: Vec<libc::iovec> = self.buffers.iter_mut().map(vector).collect();
        // SAFETY: the buffers live as long as the ring, or are leaked (see `drop`).
        // Pinned memory counts against RLIMIT_MEMLOCK. Where that is too small, plain writes do.
        self.registered = unsafe { self.ring.submitter().register_buffers(&vectors) }.is_ok();
        Ok(())
    }

    fn buffer(&mut self, slot: Slot) -> &mut [u8] {
        &mut self.buffers[usize::from(slot.0)]
    }

    fn submit(&mut self, slot: Slot, file: FileId, offset: u64, len: usize) -> io::Result<()> {
        let nth = usize::from(slot.0);
        assert!(
            self.flights[nth].is_none() && len <= self.buffers[nth].len(),
            "S1: one write at a time from a buffer"
        );
        if len <= ALONE_MAX && !self.in_flight() {
            self.write_alone(slot, file, offset, len);
            return Ok(());
        }
        self.use_file(file)?;
        let length = u32::try_from(len).map_err(io::Error::other)?;
        let (fixed, start, tag) = (types::Fixed(0), self.buffers[nth].as_ptr(), u64::from(slot.0));
        let write = match self.registered {
            true => opcode::WriteFixed::new(fixed, start, length, slot.0).offset(offset).build(),
            false => opcode::Write::new(fixed, start, length).offset(offset).build(),
        };
        let write = write.flags(squeue::Flags::IO_LINK).user_data(tag);
        let sync = opcode::Fsync::new(fixed).flags(types::FsyncFlags::DATASYNC).build().user_data(tag | SYNC);
        // SAFETY: the buffer belongs to this disk, is not touched while in flight, and outlives the ring.
        unsafe { self.ring.submission().push_multiple(&[write, sync]) }.map_err(io::Error::other)?;
        #[expect(clippy::disallowed_methods, reason = "measures the sync; nothing depends on it")]
        let started = Instant::now();
        self.flights[nth] = Some(Flight { started, len, write: None, sync: None });
        self.enter(0)
    }

    fn complete(&mut self, wait: bool) -> io::Result<Option<Completion>> {
        loop {
            self.reap();
            if let Some(completion) = self.done.pop_front() {
                return Ok(Some(completion));
            }
            if !wait || !self.in_flight() {
                return Ok(None);
            }
            self.enter(1)?;
        }
    }

    fn counters(&self) -> Counters {
        self.files.counters
    }
}
