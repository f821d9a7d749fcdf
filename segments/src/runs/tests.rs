//! What a restart, a crash and damage may do to the table, and what they may not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use engine::ledger::{First, Table, TableError};
use engine::log::Lsn;

use super::*;

fn row(number: u64) -> First {
    First {
        key: *blake3::hash(&number.to_le_bytes()).as_bytes(),
        digest: [number as u8; 16],
        lanes: [number as u16; 13],
        lsn: Lsn(number + 1),
        nth: 0,
        seq: number,
        time_ms: number,
        policy: 0,
        code: 0,
        flags: 1,
    }
}

fn options() -> TableOptions {
    TableOptions { id: 11, piece_groups: 4, background: false }
}

fn push(table: &mut DiskTable, upto: u64) {
    for number in table.rows()..upto {
        assert_eq!(table.push(&row(number)), Ok(number));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// All rows read back, and all demoted ones are found.
fn check(table: &DiskTable) -> Result<(), TableError> {
    for number in 0..table.rows() {
        assert_eq!(table.row(number)?, row(number));
    }
    for number in 0..table.demoted() {
        let mut found = Vec::new();
        table.find(row(number).tag(), &mut found)?;
        assert!(found.contains(&number), "row {number}");
    }
    Ok(())
}

#[test]
fn what_was_synced_is_there_after_a_restart_and_nothing_else_is_claimed() {
    let dir = tempfile::tempdir().unwrap();
    for upto in [0, 5, 39, 40, 500, 1000, 1001] {
        let mut table = DiskTable::open(dir.path(), &options()).unwrap();
        check(&table).unwrap();
        push(&mut table, upto);
        assert_eq!(table.sync().unwrap().wait(), Ok(upto));
        push(&mut table, upto + 200);
        drop(table);
        let mut table = DiskTable::open(dir.path(), &options()).unwrap();
        assert_eq!(table.rows(), upto);
        table.demote(upto).unwrap();
        check(&table).unwrap();
    }
}

#[test]
fn a_process_that_dies_anywhere_leaves_a_table_that_is_right() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut table = DiskTable::open(dir.path(), &options()).unwrap();
    for round in 1..30_u64 {
        push(&mut table, round * 53);
        if round % 3 == 0 {
            table.demote(round * 40).unwrap();
        }
        if round % 7 == 0 {
            table.sync().unwrap().wait().unwrap();
        }
        let image = other.path().join(round.to_string());
        copy(dir.path(), &image);
        let mut again = DiskTable::open(&image, &options()).unwrap();
        assert!(again.rows() <= table.rows() && again.demoted() <= again.rows());
        check(&again).unwrap();
        // The log is applied again from some record before: the same rows come again.
        again.rewind(again.rows() / 2).unwrap();
        check(&again).unwrap();
        push(&mut again, round * 53 + 10);
        again.demote(again.rows() / 2).unwrap();
        check(&again).unwrap();
    }
}

#[test]
fn runs_stay_few_and_keys_expire_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = DiskTable::open(dir.path(), &options()).unwrap();
    for round in 1..=40 {
        push(&mut table, round * 78);
        table.demote(round * 78).unwrap();
        assert!(table.run_count() <= 7, "{} runs after {round} demotions", table.run_count());
        check(&table).unwrap();
    }
    let (keys, _) = table.run_memory();
    assert_eq!(keys, 40 * 78);
    table.expire(40 * 78);
    push(&mut table, 41 * 78);
    table.demote(41 * 78).unwrap();
    assert_eq!(table.run_memory().0, 78, "what has expired is gone");
    let files = fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("run-"));
    assert_eq!(files.count(), table.run_count());
}

#[test]
fn another_logs_table_is_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = DiskTable::open(dir.path(), &options()).unwrap();
    push(&mut table, 100);
    table.sync().unwrap().wait().unwrap();
    drop(table);
    fs::write(dir.path().join("kept.txt"), b"not ours").unwrap();
    let table = DiskTable::open(dir.path(), &TableOptions { id: 12, ..options() }).unwrap();
    assert_eq!(table.rows(), 0);
    assert!(dir.path().join("kept.txt").exists());
}

/// Whatever byte is wrong, in whatever file: the table is empty, gives an error, or is still right.
#[test]
fn a_damaged_byte_never_becomes_an_answer() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut table = DiskTable::open(dir.path(), &options()).unwrap();
    push(&mut table, 300);
    table.demote(200).unwrap();
    table.sync().unwrap().wait().unwrap();
    let demoted = table.demoted();
    drop(table);
    let mut verdicts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let length = fs::metadata(dir.path().join(&name)).unwrap().len() as usize;
        // Every byte of the manifest, a spread of the others with both ends of each block.
        let step = if name == "manifest" { 3 } else { 523 };
        let places = (0..length).step_by(step).chain((0..length).step_by(512).flat_map(|at| [at, at + 511]));
        for at in places.filter(|&at| at < length) {
            let image = other.path().join("image");
            copy(dir.path(), &image);
            let path = image.join(&name);
            let mut bytes = fs::read(&path).unwrap();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            let table = DiskTable::open(&image, &options()).unwrap();
            let verdict = if table.rows() == 0 {
                "thrown away"
            } else {
                assert_eq!((table.rows(), table.demoted()), (300, demoted), "{name:?} at {at}");
                match check(&table) {
                    Ok(()) => "still right",
                    Err(TableError::Damaged { .. }) => {
                        drop(table);
                        assert_eq!(
                            DiskTable::open(&image, &options()).unwrap().rows(),
                            0,
                            "doubted once, gone"
                        );
                        "noticed"
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            *verdicts.entry(verdict).or_default() += 1;
        }
    }
    // The unused end of the last file of rows is the only place where a byte may be wrong unnoticed.
    assert!(verdicts["thrown away"] > 20 && verdicts["noticed"] > 20, "{verdicts:?}");
}

#[test]
fn a_missing_or_short_file_throws_the_table_away() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut table = DiskTable::open(dir.path(), &options()).unwrap();
    push(&mut table, 300);
    table.demote(200).unwrap();
    table.sync().unwrap().wait().unwrap();
    drop(table);
    for (number, entry) in fs::read_dir(dir.path()).unwrap().enumerate() {
        let name = entry.unwrap().file_name();
        for shorten in [true, false] {
            let image = other.path().join(format!("{number}-{shorten}"));
            copy(dir.path(), &image);
            let path = image.join(&name);
            if shorten {
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len(file.metadata().unwrap().len() - 1).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            assert_eq!(DiskTable::open(&image, &options()).unwrap().rows(), 0, "{name:?}");
        }
    }
}

#[test]
fn filters_of_any_size_keep_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    for keys in (0..80).chain([255, 256, 257, 1000, 4096]) {
        let mut tags: Vec<u64> = (0..keys).map(|number| row(number).tag()).collect();
        tags.sort_unstable();
        let mut builder = build::Builder::new(dir.path(), 1, 0, keys.max(1), keys).unwrap();
        for (number, &tag) in tags.iter().enumerate() {
            builder.push(tag, number as u64).unwrap();
        }
        let run = builder.finish().unwrap();
        for (number, &tag) in tags.iter().enumerate() {
            let mut found = Vec::new();
            run.find(tag, &mut found).unwrap();
            assert_eq!(found, [number as u64], "{keys} keys");
        }
        let strangers = (0..1000).filter(|number| {
            let mut found = Vec::new();
            run.find(row(1_000_000 + number).tag(), &mut found).unwrap();
            !found.is_empty()
        });
        assert_eq!(strangers.count(), 0);
    }
}

#[test]
fn one_tag_may_run_over_many_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = build::Builder::new(dir.path(), 1, 0, 2000, 2000).unwrap();
    for number in 0..2000 {
        builder
            .push(
                if number < 500 {
                    3
                } else if number < 1500 {
                    9
                } else {
                    u64::MAX
                },
                number,
            )
            .unwrap();
    }
    let run = builder.finish().unwrap();
    for (tag, range) in [(3, 0..500), (9, 500..1500), (u64::MAX, 1500..2000)] {
        let mut found = Vec::new();
        run.find(tag, &mut found).unwrap();
        assert_eq!(found, range.collect::<Vec<_>>());
    }
}
