//! Which disk this machine gets, decided once at start and said once.

use std::fmt;
use std::io;
use std::path::Path;

use crate::disk::{Completion, Counters, Disk, FileId, Map, Slot};
use crate::files::Files;
use crate::posix::PosixDisk;
use crate::uring::{UringDisk, make_ring};

/// What the operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// io_uring where it is allowed, else `pwrite` and `fdatasync`.
    #[default]
    Auto,
    /// io_uring, or fail at start.
    Uring,
    /// `pwrite` and `fdatasync`.
    Posix,
}

/// What was chosen, for one line in the log and one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `io_uring` or `posix`.
    pub name: &'static str,
    /// Whether reads and writes go past the page cache.
    pub direct: bool,
    /// Why io_uring was not used, where it was wanted.
    pub fallback: Option<String>,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, if self.direct { ", direct" } else { ", buffered" })?;
        self.fallback.as_ref().map_or(Ok(()), |reason| write!(f, " (io_uring refused: {reason})"))
    }
}

/// One of the real disks.
pub enum AnyDisk {
    /// io_uring.
    Uring(Box<UringDisk>),
    /// `pwrite` and `fdatasync`.
    Posix(Box<PosixDisk>),
}

impl AnyDisk {
    /// Opens the directory of a log, made if need be, for this process alone.
    ///
    /// # Errors
    /// `WouldBlock` where another process has it. With [`Prefer::Uring`], the kernel's refusal.
    pub fn open(dir: &Path, prefer: Prefer) -> io::Result<(AnyDisk, Backend)> {
        let ring = match prefer {
            Prefer::Posix => None,
            Prefer::Auto | Prefer::Uring => Some(make_ring()),
        };
        let files = Files::open_dir(dir)?;
        let direct = files.direct();
        let posix = |files, fallback| {
            let disk = AnyDisk::Posix(Box::new(PosixDisk::new(files)));
            (disk, Backend { name: "posix", direct, fallback })
        };
        match ring {
            None => Ok(posix(files, None)),
            Some(Ok(ring)) => {
                let disk = AnyDisk::Uring(Box::new(UringDisk::new(files, ring)));
                Ok((disk, Backend { name: "io_uring", direct, fallback: None }))
            }
            Some(Err(error)) if prefer == Prefer::Auto && is_refusal(&error) => {
                Ok(posix(files, Some(error.to_string())))
            }
            Some(Err(error)) => Err(error),
        }
    }
}

/// What a kernel without io_uring, a seccomp profile, a sysctl or a memory limit says.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EACCES | libc::ENOMEM))
        || error.kind() == io::ErrorKind::Unsupported
}

macro_rules! each {
    ($any:expr, $disk:ident => $call:expr) => {
        match $any {
            AnyDisk::Uring($disk) => $call,
            AnyDisk::Posix($disk) => $call,
        }
    };
}

impl Disk for AnyDisk {
    fn list(&mut self) -> io::Result<Vec<String>> {
        each!(self, disk => disk.list())
    }

    fn open(&mut self, name: &str) -> io::Result<FileId> {
        each!(self, disk => Disk::open(&mut **disk, name))
    }

    fn close(&mut self, file: FileId) {
        each!(self, disk => disk.close(file))
    }

    fn len(&mut self, file: FileId) -> io::Result<u64> {
        each!(self, disk => disk.len(file))
    }

    fn read(&mut self, file: FileId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        each!(self, disk => disk.read(file, offset, buf))
    }

    fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        each!(self, disk => disk.write(file, offset, bytes))
    }

    fn sync(&mut self, file: FileId) -> io::Result<()> {
        each!(self, disk => disk.sync(file))
    }

    fn prepare(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        each!(self, disk => disk.prepare(name, bytes))
    }

    fn prepared(&mut self, wait: bool) -> Option<io::Result<()>> {
        each!(self, disk => disk.prepared(wait))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        each!(self, disk => disk.remove(name))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        each!(self, disk => disk.rename(from, to))
    }

    fn map(&mut self, name: &str) -> io::Result<Option<Map>> {
        each!(self, disk => disk.map(name))
    }

    fn reserve(&mut self, slots: u16, bytes: usize) -> io::Result<()> {
        each!(self, disk => disk.reserve(slots, bytes))
    }

    fn buffer(&mut self, slot: Slot) -> &mut [u8] {
        each!(self, disk => disk.buffer(slot))
    }

    fn submit(&mut self, slot: Slot, file: FileId, offset: u64, len: usize) -> io::Result<()> {
        each!(self, disk => disk.submit(slot, file, offset, len))
    }

    fn complete(&mut self, wait: bool) -> io::Result<Option<Completion>> {
        each!(self, disk => disk.complete(wait))
    }

    fn counters(&self) -> Counters {
        each!(self, disk => disk.counters())
    }
}
