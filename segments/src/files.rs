//! A directory of block files on a real file system: everything but the hot path. An edge file: it may use
//! the clock's place of business, the file system and a thread.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use engine::limits::BLOCK;
use rustix::fs::{AtFlags, FlockOperation, StatxFlags};

use crate::buffer::BlockBuf;
use crate::disk::{Counters, FileId, Map};

/// Makes a directory and those above it, each with its name synced: a directory whose name is lost with the power takes
/// everything in it along, however well that was synced.
///
/// # Errors
/// A directory cannot be made, or the one above cannot be synced.
pub fn create_dir_synced(path: &Path) -> io::Result<()> {
    let above = match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => return Ok(()),
    };
    if !path.is_dir() {
        create_dir_synced(above)?;
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    // Also where it was there already: whoever made it may have been killed before this line.
    File::open(above)?.sync_all()
}

/// Zeros are written in pieces of this size: large enough to stream, small enough that a sync of the log
/// never waits long behind one.
const ZERO_PIECE: usize = 512 << 10;

/// Holds a directory for this process: a second process that tries is told so.
///
/// The lock is the kernel's (`flock` on the directory itself) and ends with the process, so a crash leaves
/// nothing behind to clean up.
#[derive(Debug)]
pub struct DirLock {
    dir: File,
}

impl DirLock {
    /// Takes the lock, or fails at once: `WouldBlock` where another process holds it.
    pub fn acquire(dir: &Path) -> io::Result<DirLock> {
        let dir = File::open(dir)?;
        rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
        Ok(DirLock { dir })
    }
}

/// Open files and the one that is being prepared.
pub(crate) struct Files {
    path: PathBuf,
    lock: DirLock,
    open: BTreeMap<FileId, File>,
    next: u32,
    direct: bool,
    preparing: Option<Preparing>,
    pub(crate) counters: Counters,
}

struct Preparing {
    done: Receiver<io::Result<()>>,
    thread: Option<JoinHandle<()>>,
    bytes: u64,
}

impl Files {
    /// Makes the directory where there is none, and locks it.
    pub(crate) fn open_dir(path: &Path) -> io::Result<Files> {
        create_dir_synced(path)?;
        let lock = DirLock::acquire(path)?;
        let direct = takes_direct_io(path);
        let counters = Counters::default();
        Ok(Files {
            path: path.to_owned(),
            lock,
            open: BTreeMap::new(),
            next: 0,
            direct,
            preparing: None,
            counters,
        })
    }

    /// Whether reads and writes go past the page cache.
    pub(crate) fn direct(&self) -> bool {
        self.direct
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    pub(crate) fn open(&mut self, name: &str) -> io::Result<FileId> {
        let file = open_file(&self.path.join(name), self.direct)?;
        let id = FileId(self.next);
        self.next += 1;
        self.open.insert(id, file);
        Ok(id)
    }

    pub(crate) fn close(&mut self, file: FileId) {
        self.open.remove(&file);
    }

    pub(crate) fn file(&self, file: FileId) -> io::Result<&File> {
        self.open.get(&file).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    pub(crate) fn len(&self, file: FileId) -> io::Result<u64> {
        Ok(self.file(file)?.metadata()?.len())
    }

    pub(crate) fn read(&self, file: FileId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let file = self.file(file)?;
        let mut filled = 0;
        while filled < buf.len() {
            match file.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if !filled.is_multiple_of(BLOCK) {
                break; // The end of a file of odd length: direct I/O cannot go on from here, nor is there more.
            }
        }
        Ok(filled)
    }

    pub(crate) fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut bounce = BlockBuf::new(bytes.len().min(1 << 20));
        for (nth, piece) in bytes.chunks(bounce.len()).enumerate() {
            let at = offset + (nth * bounce.len()) as u64;
            bounce[..piece.len()].copy_from_slice(piece);
            write_once(self.file(file)?, at, &bounce[..piece.len()])?;
        }
        self.counters.bytes_written += bytes.len() as u64;
        Ok(())
    }

    /// One batch: a write that takes all of it, then a sync.
    pub(crate) fn write_and_sync(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write_once(self.file(file)?, offset, bytes)?;
        self.sync(file)?;
        self.counters.bytes_written += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn sync(&mut self, file: FileId) -> io::Result<()> {
        self.file(file)?.sync_data()?;
        self.counters.syncs += 1;
        Ok(())
    }

    pub(crate) fn prepare(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        if self.preparing.is_some() {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "a file is being prepared"));
        }
        let (path, dir, direct) = (self.path.join(name), self.lock.dir.try_clone()?, self.direct);
        let (sender, done) = sync_channel(1);
        let work = move || {
            let made = make_zeroed(&path, bytes, direct).and_then(|()| dir.sync_all());
            if made.is_err() {
                // Gives back what a full disk has little of. Whether it worked is seen at the next attempt.
                let _ = std::fs::remove_file(&path);
            }
            let _ = sender.send(made);
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "zeros the next segment beside the log; owned by these files"
        )]
        let thread = std::thread::Builder::new().name("flk-prepare".into()).spawn(work)?;
        self.preparing = Some(Preparing { done, thread: Some(thread), bytes });
        Ok(())
    }

    pub(crate) fn prepared(&mut self, wait: bool) -> Option<io::Result<()>> {
        let preparing = self.preparing.as_mut()?;
        let made = match wait {
            true => preparing.done.recv().map_err(|_| TryRecvError::Disconnected),
            false => preparing.done.try_recv(),
        };
        let made = match made {
            Ok(made) => made,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(io::Error::other("the preparing thread died")),
        };
        if made.is_ok() {
            self.counters.bytes_zeroed += preparing.bytes;
            self.counters.syncs += 1;
        }
        self.preparing = None;
        Some(made)
    }

    pub(crate) fn remove(&mut self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))?;
        self.lock.dir.sync_all()
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))?;
        self.lock.dir.sync_all()
    }

    pub(crate) fn map(&self, name: &str) -> io::Result<Option<Map>> {
        map_finished(&self.path.join(name)).map(Some)
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        // The thread holds a file of this directory: nobody else may have the directory before it is done.
        while let Err(RecvTimeoutError::Timeout) = self.done.recv_timeout(std::time::Duration::from_secs(1)) {
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Maps a file that no process writes any more: a sealed segment.
pub(crate) fn map_finished(path: &Path) -> io::Result<Map> {
    let file = File::open(path)?;
    // SAFETY: a sealed segment never changes (S5), and `Map::read` asks the kernel for its pages before anybody touches
    // them, so that a bad sector or a file that was cut is an error.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Map::Mapped(map))
}

/// One write that must take everything. A short write is an error: nothing is known about the rest.
pub(crate) fn write_once(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    match file.write_at(bytes, offset)? {
        written if written == bytes.len() => Ok(()),
        written => Err(short_write(written, bytes.len())),
    }
}

pub(crate) fn short_write(written: usize, asked: usize) -> io::Error {
    io::Error::new(io::ErrorKind::WriteZero, format!("short write: {written} of {asked} bytes"))
}

fn open_file(path: &Path, direct: bool) -> io::Result<File> {
    let flags = if direct { libc::O_DIRECT } else { 0 };
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

fn make_zeroed(path: &Path, bytes: u64, direct: bool) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = if direct { libc::O_DIRECT } else { 0 };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o640)
        .custom_flags(flags)
        .open(path)?;
    // Asks for all the room at once, so that a full disk says no here and not in the middle.
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) | Ok(()) => {}
        Err(error) => return Err(error.into()),
    }
    // Written zeros, not only reserved room: the first write to a reserved block makes every sync of the log
    // wait for the file system's journal.
    let zeros = BlockBuf::new(ZERO_PIECE);
    let mut at = 0;
    while at < bytes {
        let piece = (bytes - at).min(ZERO_PIECE as u64);
        write_once(&file, at, &zeros[..piece as usize])?;
        at += piece;
    }
    file.sync_all()
}

/// Whether files in this directory can be read and written past the page cache in blocks of [`BLOCK`].
fn takes_direct_io(dir: &Path) -> bool {
    let probe = dir.join(".direct-io-probe");
    let options = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT);
        options.open(&probe)
    };
    let answer = options().and_then(|file| {
        let asked = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
        let fits = |align: u32| align as usize <= BLOCK;
        if asked.stx_mask & StatxFlags::DIOALIGN.bits() != 0 {
            // Zero means: no direct I/O on this file.
            let (memory, offset) = (asked.stx_dio_mem_align, asked.stx_dio_offset_align);
            return Ok(memory != 0 && offset != 0 && fits(memory) && fits(offset));
        }
        // The kernel does not know the question. Try.
        write_once(&file, 0, &BlockBuf::new(BLOCK)).map(|()| true)
    });
    let _ = std::fs::remove_file(&probe);
    answer.unwrap_or(false)
}
