//! What the fault model promises, without a kernel in between.

use crate::control::{obey, report};
use crate::crash::Loss;
use crate::disk::{Disk, File, Ino, Node, ROOT};

fn file(disk: &mut Disk, name: &str) -> Ino {
    disk.create(ROOT, name, Node::File(File::default())).expect("a new name")
}

fn names(disk: &mut Disk) -> Vec<String> {
    disk.dir(ROOT).expect("root").seen.keys().cloned().collect()
}

#[test]
fn a_power_loss_keeps_exactly_what_was_synced() {
    let mut disk = Disk::new();
    let log = file(&mut disk, "log");
    disk.write(log, 0, &[1u8; 1024]).expect("write");
    disk.sync(log).expect("sync");
    disk.sync(ROOT).expect("sync of the name");
    disk.write(log, 1024, &[2u8; 1024]).expect("write");
    assert_eq!(disk.read(log, 0, 4096).expect("read").len(), 2048, "seen at once");
    disk.crash(Loss::Drop);
    assert_eq!(disk.read(log, 0, 4096).expect("read"), vec![1u8; 1024]);
    assert_eq!(disk.tally.lost_bytes, 1024);
}

#[test]
fn a_synced_file_without_a_synced_name_is_gone() {
    let mut disk = Disk::new();
    let log = file(&mut disk, "log");
    disk.write(log, 0, b"bytes").expect("write");
    disk.sync(log).expect("sync");
    disk.crash(Loss::Drop);
    assert!(names(&mut disk).is_empty());
    assert_eq!(disk.read(log, 0, 5), Err(libc::ENOENT));
}

#[test]
fn a_rename_that_was_not_synced_leaves_the_old_names() {
    let mut disk = Disk::new();
    let old = file(&mut disk, "state");
    disk.sync(old).expect("sync");
    disk.sync(ROOT).expect("sync");
    let new = file(&mut disk, "state.tmp");
    disk.sync(new).expect("sync");
    disk.rename((ROOT, "state.tmp"), (ROOT, "state"), false).expect("rename");
    assert_eq!(disk.lookup(ROOT, "state"), Ok(new));
    disk.crash(Loss::Drop);
    assert_eq!(disk.lookup(ROOT, "state"), Ok(old));
    assert_eq!(names(&mut disk), ["state"]);
}

#[test]
fn torn_sectors_are_whole_and_the_seed_decides_which() {
    let torn = |seed: u64| {
        let mut disk = Disk::new();
        let log = file(&mut disk, "log");
        disk.set_length(log, 16 * 512).expect("length");
        disk.sync(log).expect("sync");
        disk.sync(ROOT).expect("sync");
        disk.write(log, 100, &[9u8; 15 * 512]).expect("write");
        disk.crash(Loss::Torn(seed));
        disk.read(log, 0, 16 * 512).expect("read")
    };
    let mut survivors = std::collections::BTreeSet::new();
    for seed in 0..32 {
        let bytes = torn(seed);
        assert_eq!(bytes, torn(seed), "the same seed tears the same way");
        for (sector, piece) in bytes.chunks(512).enumerate() {
            // The write covers [100, 7780): all of sectors 1 to 14, parts of 0 and 15.
            let covered: &[u8] = match sector {
                0 => &piece[100..],
                15 => &piece[..100],
                _ => piece,
            };
            assert!(
                covered.iter().all(|byte| *byte == covered[0]),
                "sector {sector} of seed {seed} is half written"
            );
        }
        survivors.insert(bytes.chunks(512).map(|piece| piece[99..101].contains(&9)).collect::<Vec<_>>());
    }
    assert!(survivors.len() > 16, "seeds must differ, saw {} outcomes", survivors.len());
}

#[test]
fn torn_names_survive_one_by_one() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let mut disk = Disk::new();
        file(&mut disk, "a");
        file(&mut disk, "b");
        disk.crash(Loss::Torn(seed));
        seen.insert(names(&mut disk));
    }
    assert_eq!(seen.len(), 4, "none, one, the other, both");
}

#[test]
fn a_failed_fsync_keeps_or_reverts_and_never_writes_later() {
    for (mode, expected) in [("keep", b"new"), ("revert", b"old")] {
        let mut disk = Disk::new();
        let log = file(&mut disk, "log");
        disk.write(log, 0, b"old").expect("write");
        disk.sync(log).expect("sync");
        disk.sync(ROOT).expect("sync");
        obey(&mut disk, &format!("fsync-eio 2 {mode}")).expect("command");
        disk.sync(log).expect("the first of two succeeds");
        disk.write(log, 0, b"new").expect("write");
        assert_eq!(disk.sync(log), Err(libc::EIO));
        assert_eq!(disk.read(log, 0, 3).expect("read"), expected);
        disk.sync(log).expect("a retry lies");
        disk.crash(Loss::Drop);
        assert_eq!(
            disk.read(log, 0, 3).expect("read"),
            b"old",
            "{mode}: the failed write never reached the disk"
        );
    }
}

#[test]
fn a_planned_fsync_failure_can_be_bound_to_a_path() {
    let mut disk = Disk::new();
    let inside = disk.create(ROOT, "log", Node::Dir(Default::default())).expect("mkdir");
    let segment = disk.create(inside, "1.seg", Node::File(File::default())).expect("create");
    let other = file(&mut disk, "other");
    obey(&mut disk, "fsync-eio 1 keep log").expect("command");
    disk.sync(other).expect("not below the path");
    assert_eq!(disk.sync(segment), Err(libc::EIO));
    disk.sync(segment).expect("once only");
}

#[test]
fn a_full_disk_refuses_growth_and_nothing_else() {
    let mut disk = Disk::new();
    let log = file(&mut disk, "log");
    disk.set_length(log, 4096).expect("room");
    obey(&mut disk, "capacity 4096").expect("command");
    disk.write(log, 0, &[1u8; 4096]).expect("no growth");
    assert_eq!(disk.write(log, 4095, &[1u8; 2]), Err(libc::ENOSPC));
    assert_eq!(disk.set_length(log, 4097), Err(libc::ENOSPC));
    assert_eq!(disk.read(log, 0, 8192).expect("read").len(), 4096, "a refused write changes nothing");
    disk.remove(ROOT, "log", false).expect("unlink");
    let next = file(&mut disk, "next");
    disk.write(next, 0, &[1u8; 4096]).expect("the space is free again");
}

#[test]
fn rot_flips_bits_on_reading_and_heals() {
    let mut disk = Disk::new();
    let log = file(&mut disk, "log");
    disk.write(log, 0, &[0x10; 16]).expect("write");
    obey(&mut disk, "rot log 3 1").expect("command");
    obey(&mut disk, "read-eio log 8 4").expect("command");
    assert_eq!(disk.read(log, 2, 3).expect("read"), [0x10, 0x11, 0x10]);
    assert_eq!(disk.read(log, 0, 9), Err(libc::EIO));
    assert_eq!(disk.read(log, 12, 4).expect("read"), [0x10; 4]);
    obey(&mut disk, "heal").expect("command");
    assert_eq!(disk.read(log, 0, 16).expect("read"), [0x10; 16]);
}

#[test]
fn a_misdirected_write_lands_too_low_once() {
    let mut disk = Disk::new();
    let log = file(&mut disk, "log");
    disk.set_length(log, 8192).expect("length");
    obey(&mut disk, "misdirect 4096").expect("command");
    disk.write(log, 4096, &[5u8; 512]).expect("write");
    assert_eq!(disk.read(log, 0, 512).expect("read"), [5u8; 512]);
    assert_eq!(disk.read(log, 4096, 512).expect("read"), [0u8; 512]);
    disk.write(log, 4096, &[6u8; 512]).expect("write");
    assert_eq!(disk.read(log, 4096, 512).expect("read"), [6u8; 512]);
}

#[test]
fn the_nth_write_fails() {
    let mut disk = Disk::new();
    let log = file(&mut disk, "log");
    obey(&mut disk, "write-eio 2").expect("command");
    disk.write(log, 0, b"1").expect("first");
    assert_eq!(disk.write(log, 1, b"2"), Err(libc::EIO));
    disk.write(log, 1, b"3").expect("third");
    assert_eq!(disk.read(log, 0, 9).expect("read"), b"13");
}

#[test]
fn a_snapshot_shows_a_power_loss_without_one() {
    let mut disk = Disk::new();
    let log = file(&mut disk, "log");
    disk.write(log, 0, b"kept").expect("write");
    disk.sync(log).expect("sync");
    disk.write(log, 4, b"lost").expect("write");
    obey(&mut disk, "snap log image").expect("command");
    let image = disk.resolve("image").expect("there");
    assert_eq!(disk.read(image, 0, 9).expect("read"), b"kept");
    assert_eq!(disk.read(log, 0, 9).expect("read"), b"keptlost", "the original goes on");
    obey(&mut disk, "purge image").expect("command");
    assert_eq!(disk.resolve("image"), Err(libc::ENOENT));
}

#[test]
fn only_commands_are_obeyed() {
    let mut disk = Disk::new();
    for line in [
        "explode",
        "crash softly",
        "fsync-eio x keep",
        "fsync-eio 1 maybe",
        "write-eio 0",
        "capacity -1",
        "rot log 1",
    ] {
        assert_eq!(obey(&mut disk, line), Err(libc::EINVAL), "{line}");
    }
    assert_eq!(obey(&mut disk, "rot nowhere 1 1"), Err(libc::ENOENT));
    obey(&mut disk, "").expect("an empty line is nothing");
    assert!(report(&mut disk).starts_with("writes=0 fsyncs=0 "));
}
