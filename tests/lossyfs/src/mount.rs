//! The kernel's side: translates FUSE requests into calls of the fault model. No fault is decided here.

use crate::control;
use crate::disk::{Dir, Disk, Errno as Code, File, Ino, Node, ROOT};
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Inode of the control file, far above any that the model hands out.
const CONTROL: Ino = u64::MAX - 1;
/// Name of the control file in the root directory.
const CONTROL_NAME: &str = ".ctl";
/// The kernel may remember nothing: a crash changes names and attributes behind its back.
const TTL: Duration = Duration::ZERO;
const RENAME_NOREPLACE: u32 = 1;
const FALLOC_KEEP_SIZE: i32 = 1;
const BLOCK: u64 = 4096;
/// What `statfs` shows when no capacity is set.
const UNLIMITED: u64 = 1 << 36;

/// The mounted file system.
pub struct Lossy(Mutex<Disk>);

impl Lossy {
    /// Wraps a disk for mounting.
    pub fn new(disk: Disk) -> Lossy {
        Lossy(Mutex::new(disk))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // The model panics only on a defect of its own; the tally is still worth reading then.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a handle that was opened before the last power loss.
    fn current(disk: &Disk, handle: FileHandle) -> Result<(), Code> {
        if handle.0 == disk.life { Ok(()) } else { Err(libc::EIO) }
    }
}

fn text(name: &OsStr) -> Result<&str, Code> {
    name.to_str().ok_or(libc::EILSEQ)
}

fn errno(code: Code) -> Errno {
    Errno::from_i32(code)
}

fn attributes(ino: Ino, kind: FileType, mode: u32, size: u64) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: (mode & 0o7777) as u16,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        flags: 0,
        blksize: BLOCK as u32,
    }
}

fn attr(disk: &Disk, ino: Ino) -> Result<FileAttr, Code> {
    if ino == CONTROL {
        return Ok(attributes(ino, FileType::RegularFile, 0o600, BLOCK));
    }
    match disk.nodes.get(&ino).ok_or(libc::ENOENT)? {
        Node::Dir(dir) => Ok(attributes(ino, FileType::Directory, dir.mode, 0)),
        Node::File(file) => Ok(attributes(ino, FileType::RegularFile, file.mode, file.seen.length())),
    }
}

/// Answers with an entry or an error.
fn entry(reply: ReplyEntry, result: Result<FileAttr, Code>) {
    match result {
        Ok(found) => reply.entry(&TTL, &found, Generation(0)),
        Err(code) => reply.error(errno(code)),
    }
}

fn empty(reply: ReplyEmpty, result: Result<(), Code>) {
    match result {
        Ok(()) => reply.ok(),
        Err(code) => reply.error(errno(code)),
    }
}

impl Filesystem for Lossy {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut disk = self.disk();
        let found = text(name).and_then(|name| {
            if parent.0 == ROOT && name == CONTROL_NAME { Ok(CONTROL) } else { disk.lookup(parent.0, name) }
        });
        let found = found.and_then(|ino| attr(&disk, ino));
        entry(reply, found);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attr(&self.disk(), ino.0) {
            Ok(found) => reply.attr(&TTL, &found),
            Err(code) => reply.error(errno(code)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk();
        let change = |disk: &mut Disk| -> Result<FileAttr, Code> {
            if ino.0 != CONTROL {
                handle.map_or(Ok(()), |handle| Lossy::current(disk, handle))?;
                if let Some(size) = size {
                    disk.set_length(ino.0, size)?;
                }
                if let Some(mode) = mode {
                    match disk.nodes.get_mut(&ino.0).ok_or(libc::ENOENT)? {
                        Node::File(file) => file.mode = mode,
                        Node::Dir(dir) => dir.mode = mode,
                    }
                }
            }
            attr(disk, ino.0)
        };
        match change(&mut disk) {
            Ok(found) => reply.attr(&TTL, &found),
            Err(code) => reply.error(errno(code)),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let mut disk = self.disk();
        let node = Node::Dir(Dir { mode, ..Dir::default() });
        let made = text(name).and_then(|name| disk.create(parent.0, name, node));
        let made = made.and_then(|ino| attr(&disk, ino));
        entry(reply, made);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut disk = self.disk();
        let node = Node::File(File { mode, ..File::default() });
        let made = text(name).and_then(|name| disk.create(parent.0, name, node));
        match made.and_then(|ino| attr(&disk, ino)) {
            Ok(found) => {
                let handle = FileHandle(disk.life);
                reply.created(&TTL, &found, Generation(0), handle, FopenFlags::empty());
            }
            Err(code) => reply.error(errno(code)),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // The tally changes between reads, so the kernel must not answer them from its cache.
        let flags = if ino.0 == CONTROL { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() };
        reply.opened(FileHandle(self.disk().life), flags);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(self.disk().life), FopenFlags::empty());
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut disk = self.disk();
        empty(reply, text(name).and_then(|name| disk.remove(parent.0, name, false)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut disk = self.disk();
        empty(reply, text(name).and_then(|name| disk.remove(parent.0, name, true)));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut disk = self.disk();
        let mut change = || {
            if flags.bits() & !RENAME_NOREPLACE != 0 {
                return Err(libc::EINVAL);
            }
            let keep = flags.bits() & RENAME_NOREPLACE != 0;
            disk.rename((parent.0, text(name)?), (new_parent.0, text(new_name)?), keep)
        };
        let result = change();
        empty(reply, result);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut disk = self.disk();
        if ino.0 == CONTROL {
            let report = control::report(&mut disk);
            return reply.data(report.as_bytes().get(offset as usize..).unwrap_or_default());
        }
        match Lossy::current(&disk, handle).and_then(|()| disk.read(ino.0, offset, size as usize)) {
            Ok(bytes) => reply.data(&bytes),
            Err(code) => reply.error(errno(code)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut disk = self.disk();
        let result = if ino.0 == CONTROL {
            String::from_utf8_lossy(data).lines().try_for_each(|line| control::obey(&mut disk, line))
        } else {
            Lossy::current(&disk, handle).and_then(|()| disk.write(ino.0, offset, data))
        };
        match result {
            Ok(()) => reply.written(data.len() as u32),
            Err(code) => reply.error(errno(code)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        if ino.0 == CONTROL {
            return reply.ok();
        }
        let delay = self.disk().fsync_delay_ms;
        if delay > 0 {
            std::thread::sleep(Duration::from_millis(delay));
        }
        let mut disk = self.disk();
        let result = Lossy::current(&disk, handle).and_then(|()| disk.sync(ino.0));
        empty(reply, result);
    }

    fn fsyncdir(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.fsync(request, ino, handle, datasync, reply);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mut disk = self.disk();
        let mut grow = || {
            Lossy::current(&disk, handle)?;
            if mode & !FALLOC_KEEP_SIZE != 0 {
                return Err(libc::EOPNOTSUPP);
            }
            let end = offset.checked_add(length).ok_or(libc::EFBIG)?;
            let present = disk.file(ino.0)?.seen.length();
            if mode == 0 && end > present { disk.set_length(ino.0, end) } else { Ok(()) }
        };
        let result = grow();
        empty(reply, result);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let disk = self.disk();
        let Some(Node::Dir(dir)) = disk.nodes.get(&ino.0) else {
            return reply.error(errno(libc::ENOTDIR));
        };
        for (place, (name, child)) in dir.seen.iter().enumerate().skip(offset as usize) {
            let kind = match disk.nodes.get(child) {
                Some(Node::Dir(_)) => FileType::Directory,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(*child), place as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let mut disk = self.disk();
        let capacity = disk.capacity.unwrap_or(UNLIMITED);
        let free = capacity.saturating_sub(disk.used()) / BLOCK;
        reply.statfs(capacity / BLOCK, free, free, 1 << 20, 1 << 20, BLOCK as u32, 255, BLOCK as u32);
    }
}
