//! The contract of `segments::Disk`, as checks that every implementation passes: `pwrite`, io_uring, simulated.

use std::io::ErrorKind;

use engine::limits::BLOCK;
use segments::{BlockBuf, Completion, Disk, FileId, Slot};

/// Blocks of each file made here.
const BLOCKS: usize = 24;

/// Blocks of a submission: a small one, and one that io_uring does not write on the caller's thread.
const SIZES: [usize; 2] = [1, 5];

/// A block whose bytes all differ from those of other seeds somewhere.
fn block(seed: u8) -> BlockBuf {
    let mut block = BlockBuf::new(BLOCK);
    block.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at as u8).wrapping_mul(31) ^ seed);
    block
}

/// So many blocks, all different.
fn blocks(seed: u8, count: usize) -> Vec<u8> {
    (0..count).flat_map(|nth| block(seed.wrapping_add(nth as u8 * 16)).to_vec()).collect()
}

fn submit(disk: &mut impl Disk, slot: u16, file: FileId, place: usize, bytes: &[u8]) {
    disk.buffer(Slot(slot))[..bytes.len()].copy_from_slice(bytes);
    disk.submit(Slot(slot), file, (place * BLOCK) as u64, bytes.len()).expect("begins");
}

fn make(disk: &mut impl Disk, name: &str) -> FileId {
    disk.prepare(name, (BLOCKS * BLOCK) as u64).expect("begins to prepare");
    disk.prepared(true).expect("one was begun").expect("there is room");
    disk.open(name).expect("it is there")
}

fn read(disk: &mut impl Disk, file: FileId, first: usize, blocks: usize) -> Vec<u8> {
    let mut bytes = BlockBuf::new(blocks * BLOCK);
    bytes.fill(0xee);
    let filled = disk.read(file, (first * BLOCK) as u64, &mut bytes).expect("reads");
    bytes[..filled].to_vec()
}

fn complete(disk: &mut impl Disk) -> Completion {
    disk.complete(true).expect("the disk is good").expect("something is in flight")
}

/// Files come into being whole, zeroed and named, one at a time, and go away.
pub fn names(disk: &mut impl Disk) {
    assert_eq!(disk.list().expect("lists"), Vec::<String>::new());
    assert_eq!(disk.open("a").expect_err("there is none").kind(), ErrorKind::NotFound);
    assert_eq!(disk.remove("a").expect_err("there is none").kind(), ErrorKind::NotFound);
    assert!(disk.prepared(true).is_none(), "none was begun");

    let file = make(disk, "a");
    assert!(disk.prepared(true).is_none(), "it is said once");
    assert_eq!(disk.len(file).expect("has a length"), (BLOCKS * BLOCK) as u64);
    assert_eq!(read(disk, file, 0, BLOCKS), vec![0; BLOCKS * BLOCK]);
    disk.close(file);

    disk.prepare("b", BLOCK as u64).expect("begins to prepare");
    let second = disk.prepare("c", BLOCK as u64).expect_err("one at a time");
    assert_eq!(second.kind(), ErrorKind::ResourceBusy);
    disk.prepared(true).expect("one was begun").expect("there is room");
    let mut names = disk.list().expect("lists");
    names.sort();
    assert_eq!(names, ["a", "b"]);

    disk.remove("a").expect("removes");
    assert_eq!(disk.open("a").expect_err("it is gone").kind(), ErrorKind::NotFound);
    assert_eq!(disk.list().expect("lists"), ["b"]);
}

/// What is written is read, elsewhere nothing changes, and a read is short only at the end.
pub fn bytes(disk: &mut impl Disk) {
    let file = make(disk, "a");
    let two = [&block(1)[..], &block(2)[..]].concat();
    disk.write(file, (2 * BLOCK) as u64, &two).expect("writes");
    disk.sync(file).expect("syncs");
    disk.sync(file).expect("nothing to sync is no error");
    assert_eq!(read(disk, file, 2, 2), two);
    assert_eq!(read(disk, file, 0, 2), vec![0; 2 * BLOCK]);
    assert_eq!(read(disk, file, 4, BLOCKS - 4), vec![0; (BLOCKS - 4) * BLOCK]);
    disk.write(file, (3 * BLOCK) as u64, &block(3)).expect("writes over");
    assert_eq!(read(disk, file, 2, 2), [&block(1)[..], &block(3)[..]].concat());

    assert_eq!(read(disk, file, BLOCKS - 1, 3).len(), BLOCK, "the end of the file is short");
    assert_eq!(read(disk, file, BLOCKS, 1).len(), 0, "there is nothing after it");
    assert_eq!(read(disk, file, BLOCKS + 5, 1).len(), 0);
    assert_eq!(disk.len(file).expect("has a length"), (BLOCKS * BLOCK) as u64, "reading made it no longer");

    let other = disk.open("a").expect("opens twice");
    assert_ne!(other, file);
    assert_eq!(read(disk, other, 2, 1), &block(1)[..], "both see the same file");
    disk.close(file);
    assert_eq!(read(disk, other, 3, 1), &block(3)[..], "the other stays open");
    let mut buf = BlockBuf::new(BLOCK);
    assert!(disk.read(file, 0, &mut buf).is_err(), "a closed file is none");
    assert!(disk.write(file, 0, &block(1)).is_err());
    assert!(disk.sync(file).is_err());
    assert!(disk.len(file).is_err());

    if let Some(map) = disk.map("a").expect("maps or prefers to be read") {
        assert_eq!(map.read(2 * BLOCK as u64, BLOCK).expect("reads"), &block(1)[..]);
        assert_eq!(map.read(0, BLOCKS * BLOCK).expect("reads").len(), BLOCKS * BLOCK);
        for (offset, length) in
            [(BLOCKS * BLOCK, 1), (0, BLOCKS * BLOCK + 1), (1, usize::MAX), (usize::MAX, 1)]
        {
            let outside = map.read(offset as u64, length).expect_err("there is no more");
            assert_eq!(outside.kind(), std::io::ErrorKind::UnexpectedEof);
        }
    }
}

/// A file made again under its name begins with zeros.
pub fn replacing(disk: &mut impl Disk) {
    let old = make(disk, "a");
    disk.write(old, 0, &block(9)).expect("writes");
    disk.sync(old).expect("syncs");
    disk.close(old);
    let new = make(disk, "a");
    assert_eq!(read(disk, new, 0, BLOCKS), vec![0; BLOCKS * BLOCK]);
    assert_eq!(disk.list().expect("lists"), ["a"]);
}

/// Submissions are told of once each, by their slot, in whatever order, and are then durable and readable.
pub fn submissions(disk: &mut impl Disk, size: usize) {
    const SLOTS: u16 = 3;
    disk.reserve(SLOTS, size * BLOCK).expect("reserves");
    let file = make(disk, "a");
    assert!(disk.complete(false).expect("good").is_none(), "nothing is in flight");
    assert!(disk.complete(true).expect("good").is_none(), "and nobody waits for it");
    let before = disk.counters();
    for round in 0..4_u8 {
        for slot in 0..SLOTS {
            assert!(disk.buffer(Slot(slot)).len() >= size * BLOCK);
            let place = 1 + usize::from(slot) * size;
            submit(disk, slot, file, place, &blocks(round * 10 + slot as u8, size));
        }
        let mut told: Vec<u16> = (0..SLOTS)
            .map(|_| {
                let Completion { slot, result, .. } = complete(disk);
                result.expect("written and synced");
                slot.0
            })
            .collect();
        told.sort_unstable();
        assert_eq!(told, [0, 1, 2], "each slot once");
        assert!(disk.complete(true).expect("good").is_none(), "and no more");
        for slot in 0..SLOTS {
            let place = 1 + usize::from(slot) * size;
            assert_eq!(read(disk, file, place, size), blocks(round * 10 + slot as u8, size));
        }
    }
    assert_eq!(read(disk, file, 0, 1), vec![0; BLOCK]);
    let (after, count) = (disk.counters(), 4 * u64::from(SLOTS));
    assert_eq!(after.syncs - before.syncs, count);
    assert_eq!(after.bytes_written - before.bytes_written, count * (size * BLOCK) as u64);
}

/// A submission to one file, then to another: each goes where it should.
pub fn two_files(disk: &mut impl Disk, size: usize) {
    disk.reserve(1, size * BLOCK).expect("reserves");
    for (name, seed) in [("a", 1), ("b", 2), ("a", 3)] {
        let file = match disk.open(name) {
            Ok(file) => file,
            Err(_) => make(disk, name),
        };
        submit(disk, 0, file, usize::from(seed) * size, &blocks(seed, size));
        complete(disk).result.expect("written and synced");
        disk.close(file);
    }
    let (a, b) = (disk.open("a").expect("is there"), disk.open("b").expect("is there"));
    let zeros = || vec![0; size * BLOCK];
    let expected = [
        (a, 1, blocks(1, size)),
        (a, 2, zeros()),
        (a, 3, blocks(3, size)),
        (b, 1, zeros()),
        (b, 2, blocks(2, size)),
    ];
    for (file, place, bytes) in expected {
        assert!(read(disk, file, place * size, size) == bytes, "{file:?}, place {place}");
    }
}

/// A submission to a file that is not open fails, at once or when it completes, and the disk goes on.
pub fn refusals(disk: &mut impl Disk, size: usize) {
    disk.reserve(2, size * BLOCK).expect("reserves");
    let file = make(disk, "a");
    submit(disk, 0, file, 0, &blocks(3, size));
    complete(disk).result.expect("written and synced");
    disk.close(file);
    let refused = match disk.submit(Slot(0), file, 0, size * BLOCK) {
        Err(_) => true,
        Ok(()) => complete(disk).result.is_err(),
    };
    assert!(refused, "a closed file takes no write");
    assert!(disk.complete(true).expect("good").is_none(), "it is told once");
    let file = disk.open("a").expect("opens again");
    submit(disk, 1, file, 0, &blocks(4, size));
    complete(disk).result.expect("written and synced");
    assert_eq!(read(disk, file, 0, size), blocks(4, size));
}

/// All checks, each on a fresh disk.
pub fn all<D: Disk>(mut fresh: impl FnMut() -> D) {
    names(&mut fresh());
    bytes(&mut fresh());
    replacing(&mut fresh());
    for size in SIZES {
        submissions(&mut fresh(), size);
        two_files(&mut fresh(), size);
        refusals(&mut fresh(), size);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use segments::{DirLock, PosixDisk, UringDisk};
    use tempfile::TempDir;

    use super::*;
    use crate::disk::{Device, Sloppy};

    fn folder(kept: &mut Vec<TempDir>) -> std::path::PathBuf {
        kept.push(tempfile::tempdir().expect("a directory"));
        kept.last().expect("one was made").path().to_owned()
    }

    #[test]
    fn the_simulated_disk() {
        for seed in 0..50 {
            all(|| Device::new(seed, Sloppy::default()).attach());
        }
    }

    #[test]
    fn pwrite_and_fdatasync() {
        let mut kept = Vec::new();
        all(|| PosixDisk::open(&folder(&mut kept)).expect("the directory is free"));
    }

    #[test]
    fn io_uring() {
        let mut kept = Vec::new();
        if let Err(error) = UringDisk::open(&folder(&mut kept)) {
            return skip(&format!("the kernel refuses io_uring: {error}"));
        }
        all(|| UringDisk::open(&folder(&mut kept)).expect("it did before"));
    }

    /// What a dropped disk was told to write is there, and the directory is free for the next process.
    #[test]
    fn dropping_waits_for_what_is_in_flight() {
        const SIZE: usize = SIZES[1];
        fn leave(mut disk: impl Disk) {
            disk.reserve(1, SIZE * BLOCK).expect("reserves");
            let file = make(&mut disk, "a");
            submit(&mut disk, 0, file, 0, &blocks(7, SIZE));
            disk.prepare("b", (4 * BLOCK) as u64).expect("begins to prepare");
        }
        let mut kept = Vec::new();
        let (posix, uring) = (folder(&mut kept), folder(&mut kept));
        leave(PosixDisk::open(&posix).expect("the directory is free"));
        let mut used = vec![posix];
        match UringDisk::open(&uring) {
            Ok(disk) => {
                leave(disk);
                used.push(uring);
            }
            Err(error) => skip(&format!("the kernel refuses io_uring: {error}")),
        }
        for path in used {
            DirLock::acquire(&path).expect("nobody holds it any more");
            assert_eq!(std::fs::read(path.join("a")).expect("is there")[..SIZE * BLOCK], blocks(7, SIZE));
            assert_eq!(std::fs::read(path.join("b")).expect("is there").len(), 4 * BLOCK);
        }
    }

    /// Counts as not run: said past the harness, and in the list that the test command prints.
    fn skip(reason: &str) {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        let line = format!("SKIPPED {name} (counts as not run): {reason}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        let list = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/skipped.txt");
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(list);
        opened.and_then(|mut list| list.write_all(line.as_bytes())).expect("the list of skipped tests");
    }
}
