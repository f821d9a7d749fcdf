//! The fault model: a small file system that keeps, for every file and directory, what a reader sees and what
//! would survive a power loss, and the faults that an operator's disk may show.
//!
//! The model is as unkind as POSIX allows: only `fsync` of a file makes its bytes and length durable, only
//! `fsync` of a directory makes its names durable, and an operation that was not synced may survive in part.

use crate::pages::Pages;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What the disk promises to write whole: the unit in which an un-synced write tears.
pub const SECTOR: u64 = 512;

/// Number of an inode; the root directory is [`ROOT`].
pub type Ino = u64;

/// The root directory.
pub const ROOT: Ino = 1;

/// An `errno` value.
pub type Errno = i32;

/// A change of a file that no `fsync` has covered yet.
#[derive(Clone)]
pub enum FileChange {
    /// Bytes at an offset.
    Bytes(u64, Vec<u8>),
    /// A new length.
    Length(u64),
}

/// A change of a directory that no `fsync` has covered yet. A rename inside one directory is one change.
#[derive(Clone)]
pub enum NameChange {
    /// The name now leads to the inode; a second name is gone in the same moment.
    Put { name: String, ino: Ino, gone: Option<String> },
    /// The name is gone.
    Remove(String),
}

/// A file or a directory.
#[derive(Clone)]
pub enum Node {
    /// A regular file.
    File(File),
    /// A directory.
    Dir(Dir),
}

/// A regular file.
#[derive(Clone, Default)]
pub struct File {
    pub mode: u32,
    pub seen: Pages,
    pub durable: Pages,
    pub pending: Vec<FileChange>,
    /// Bytes that read wrong: offset and the bits that are flipped. The stored bytes stay pristine.
    pub rot: BTreeMap<u64, u8>,
    /// Ranges that fail to read.
    pub unreadable: Vec<Range<u64>>,
}

/// A directory.
#[derive(Clone, Default)]
pub struct Dir {
    pub mode: u32,
    pub seen: BTreeMap<String, Ino>,
    pub durable: BTreeMap<String, Ino>,
    pub pending: Vec<NameChange>,
}

/// What a file holds after its `fsync` has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AfterFailure {
    /// The reader still sees the new bytes, they are marked clean and never written (ext4, xfs).
    KeepNew,
    /// The reader sees the old bytes again (btrfs).
    Revert,
}

/// A failure that is planned for the n-th call of its kind.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Fails the n-th call from now; 1 is the next.
    pub countdown: u32,
    /// Only files and directories at or below this path count; empty means all.
    pub below: String,
}

/// What has been done to the disk since it was mounted.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    pub writes: u64,
    pub fsyncs: u64,
    pub fsync_errors: u64,
    pub refused_full: u64,
    pub crashes: u64,
    pub lost_changes: u64,
    pub torn_writes: u64,
    pub lost_bytes: u64,
}

/// The whole disk.
pub struct Disk {
    pub nodes: BTreeMap<Ino, Node>,
    next: Ino,
    /// Largest sum of file lengths; nothing counts as sparse.
    pub capacity: Option<u64>,
    /// An `fsync` that fails with EIO, and what the file holds afterwards.
    pub fsync_fault: Option<(Fault, AfterFailure)>,
    /// A write that fails with EIO.
    pub write_fault: Option<Fault>,
    pub fsync_delay_ms: u64,
    /// The next write lands this many bytes too low.
    pub misdirect: Option<u64>,
    /// Counts power losses; a handle opened before one belongs to a process that no longer exists.
    pub life: u64,
    pub tally: Tally,
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Disk {
        let root = Node::Dir(Dir { mode: 0o755, ..Dir::default() });
        Disk {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            capacity: None,
            fsync_fault: None,
            write_fault: None,
            fsync_delay_ms: 0,
            misdirect: None,
            life: 1,
            tally: Tally::default(),
        }
    }

    /// The directory with this number.
    pub fn dir(&mut self, ino: Ino) -> Result<&mut Dir, Errno> {
        match self.nodes.get_mut(&ino) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(libc::ENOTDIR),
            None => Err(libc::ENOENT),
        }
    }

    /// The file with this number.
    pub fn file(&mut self, ino: Ino) -> Result<&mut File, Errno> {
        match self.nodes.get_mut(&ino) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(libc::EISDIR),
            None => Err(libc::ENOENT),
        }
    }

    /// The inode that `name` leads to.
    pub fn lookup(&mut self, parent: Ino, name: &str) -> Result<Ino, Errno> {
        self.dir(parent)?.seen.get(name).copied().ok_or(libc::ENOENT)
    }

    /// The inode that a path from the root leads to.
    pub fn resolve(&mut self, path: &str) -> Result<Ino, Errno> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(ROOT, |at, part| self.lookup(at, part))
    }

    /// Adds a node under a new name.
    pub fn create(&mut self, parent: Ino, name: &str, node: Node) -> Result<Ino, Errno> {
        let ino = self.next;
        let dir = self.dir(parent)?;
        if dir.seen.contains_key(name) {
            return Err(libc::EEXIST);
        }
        dir.seen.insert(name.to_owned(), ino);
        dir.pending.push(NameChange::Put { name: name.to_owned(), ino, gone: None });
        self.next += 1;
        self.nodes.insert(ino, node);
        Ok(ino)
    }

    /// Adds a node whose name is durable at once.
    pub fn plant(&mut self, name: &str, node: Node) -> Ino {
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, node);
        let root = self.dir(ROOT).expect("the root is a directory");
        root.seen.insert(name.to_owned(), ino);
        root.durable.insert(name.to_owned(), ino);
        ino
    }

    /// Removes a name; `directory` says which kind the caller believes it to be.
    pub fn remove(&mut self, parent: Ino, name: &str, directory: bool) -> Result<(), Errno> {
        let ino = self.lookup(parent, name)?;
        match (self.nodes.get(&ino), directory) {
            (Some(Node::Dir(_)), false) => return Err(libc::EISDIR),
            (Some(Node::File(_)), true) => return Err(libc::ENOTDIR),
            (Some(Node::Dir(dir)), true) if !dir.seen.is_empty() => return Err(libc::ENOTEMPTY),
            _ => {}
        }
        let dir = self.dir(parent)?;
        dir.seen.remove(name);
        dir.pending.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    /// Renames. Inside one directory this is atomic; between two it is an addition and a removal.
    pub fn rename(&mut self, from: (Ino, &str), to: (Ino, &str), keep_target: bool) -> Result<(), Errno> {
        let ino = self.lookup(from.0, from.1)?;
        if keep_target && self.lookup(to.0, to.1).is_ok() {
            return Err(libc::EEXIST);
        }
        if from == to {
            return Ok(());
        }
        self.dir(to.0)?;
        self.dir(from.0)?.seen.remove(from.1);
        let same = from.0 == to.0;
        if !same {
            self.dir(from.0)?.pending.push(NameChange::Remove(from.1.to_owned()));
        }
        let gone = same.then(|| from.1.to_owned());
        let target = self.dir(to.0)?;
        target.seen.insert(to.1.to_owned(), ino);
        target.pending.push(NameChange::Put { name: to.1.to_owned(), ino, gone });
        Ok(())
    }

    /// The inodes that a path reaches, itself included.
    fn below(&mut self, path: &str) -> BTreeSet<Ino> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<Ino> = self.resolve(path).into_iter().collect();
        while let Some(ino) = open.pop() {
            if reached.insert(ino)
                && let Some(Node::Dir(dir)) = self.nodes.get(&ino)
            {
                open.extend(dir.seen.values().copied());
            }
        }
        reached
    }

    /// Bytes charged against the capacity: the lengths of all files that have a name.
    pub fn used(&mut self) -> u64 {
        let named = self.below("");
        let length = |ino: &Ino| match self.nodes.get(ino) {
            Some(Node::File(file)) => file.seen.length(),
            _ => 0,
        };
        named.iter().map(length).sum()
    }

    /// One call nearer to a fault; `None` when this call is the one.
    fn count_down(&mut self, mut fault: Fault, ino: Ino) -> Option<Fault> {
        let counts = fault.below.is_empty() || self.below(&fault.below).contains(&ino);
        fault.countdown = fault.countdown.saturating_sub(u32::from(counts));
        (fault.countdown > 0).then_some(fault)
    }

    fn admit_growth(&mut self, ino: Ino, new_length: u64) -> Result<(), Errno> {
        let growth = new_length.saturating_sub(self.file(ino)?.seen.length());
        if let Some(capacity) = self.capacity
            && growth > 0
            && self.used() + growth > capacity
        {
            self.tally.refused_full += 1;
            return Err(libc::ENOSPC);
        }
        Ok(())
    }

    /// Writes bytes; they are seen at once and durable after the next successful [`Disk::sync`].
    pub fn write(&mut self, ino: Ino, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.tally.writes += 1;
        if let Some(fault) = self.write_fault.take() {
            self.write_fault = self.count_down(fault, ino);
            if self.write_fault.is_none() {
                return Err(libc::EIO);
            }
        }
        let end = at.checked_add(bytes.len() as u64).ok_or(libc::EFBIG)?;
        self.admit_growth(ino, end)?;
        let at = self.misdirect.take().map_or(at, |delta| at.saturating_sub(delta));
        let file = self.file(ino)?;
        file.seen.write(at, bytes);
        file.pending.push(FileChange::Bytes(at, bytes.to_vec()));
        Ok(())
    }

    /// Cuts or extends a file.
    pub fn set_length(&mut self, ino: Ino, length: u64) -> Result<(), Errno> {
        self.admit_growth(ino, length)?;
        let file = self.file(ino)?;
        file.seen.set_length(length);
        file.pending.push(FileChange::Length(length));
        Ok(())
    }

    /// Reads bytes, with rot applied; a range that overlaps an unreadable one fails.
    pub fn read(&mut self, ino: Ino, at: u64, want: usize) -> Result<Vec<u8>, Errno> {
        let file = self.file(ino)?;
        let end = at.saturating_add(want as u64);
        if file.unreadable.iter().any(|bad| bad.start < end && at < bad.end) {
            return Err(libc::EIO);
        }
        let mut bytes = file.seen.read(at, want);
        for (place, bits) in file.rot.range(at..at + bytes.len() as u64) {
            bytes[(place - at) as usize] ^= bits;
        }
        Ok(bytes)
    }

    /// `fsync`: makes the pending changes of one file or directory durable, or fails as planned.
    pub fn sync(&mut self, ino: Ino) -> Result<(), Errno> {
        self.tally.fsyncs += 1;
        if let Some((fault, after)) = self.fsync_fault.take() {
            self.fsync_fault = self.count_down(fault, ino).map(|fault| (fault, after));
            if self.fsync_fault.is_none() {
                self.tally.fsync_errors += 1;
                self.fail_sync(ino, after)?;
                return Err(libc::EIO);
            }
        }
        match self.nodes.get_mut(&ino).ok_or(libc::ENOENT)? {
            Node::Dir(dir) => {
                dir.durable = dir.seen.clone();
                dir.pending.clear();
            }
            Node::File(file) => {
                for change in std::mem::take(&mut file.pending) {
                    apply(&mut file.durable, &change);
                }
            }
        }
        Ok(())
    }

    fn fail_sync(&mut self, ino: Ino, after: AfterFailure) -> Result<(), Errno> {
        match self.nodes.get_mut(&ino).ok_or(libc::ENOENT)? {
            // The names stay seen and are durable only if a later fsync of the directory succeeds.
            Node::Dir(_) => {}
            Node::File(file) => {
                file.pending.clear();
                if after == AfterFailure::Revert {
                    file.seen = file.durable.clone();
                }
            }
        }
        Ok(())
    }

    /// Takes every fault away; what has been lost stays lost.
    pub fn heal(&mut self) {
        self.capacity = None;
        self.fsync_fault = None;
        self.write_fault = None;
        self.fsync_delay_ms = 0;
        self.misdirect = None;
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node {
                file.rot.clear();
                file.unreadable.clear();
            }
        }
    }
}

/// Folds one change into a content.
pub fn apply(pages: &mut Pages, change: &FileChange) {
    match change {
        FileChange::Bytes(at, bytes) => pages.write(*at, bytes),
        FileChange::Length(length) => pages.set_length(*length),
    }
}
