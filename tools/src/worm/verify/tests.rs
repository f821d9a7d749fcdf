//! `worm verify` on sound, changed, shortened and foreign logs.

use std::os::unix::fs::FileExt;
use std::path::Path;

use super::args::{parse_from, parse_to};
use super::*;
use crate::world::World;
use crate::worm::lines::files;

fn written(world: &World) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    world.write(folder.path());
    folder
}

fn verify(dir: &Path) -> Report {
    run(&Args::of(dir), Ui::quiet()).unwrap()
}

fn failed(report: &Report) -> Vec<&str> {
    report.checks.iter().filter(|check| check.state == State::Fail).map(|check| check.name.as_str()).collect()
}

fn flip(path: &Path, offset: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn a_sound_log_is_called_sound_with_and_without_secrets() {
    let world = World::busy(300);
    let folder = written(&world);
    let report = verify(folder.path());
    assert_eq!((report.exit, failed(&report)), (Exit::Ok, vec![]), "{:?}", report.checks);
    let digest = world.ledger.digest().to_string();
    assert_eq!(report.data["ledger_digest"], digest.as_str());
    assert!(report.data["counts"]["hmac_taken"].as_u64().unwrap() > 100);
    let names: Vec<&str> = report.checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["format", "bytes", "records", "log on itself", "WORM files", "checkpoint"]);
    let report = run(&Args { kek: Some(world.kek()), ..Args::of(folder.path()) }, Ui::quiet()).unwrap();
    assert_eq!((report.exit, report.data["counts"]["hmac_taken"].as_u64()), (Exit::Ok, Some(0)));
    assert_eq!(report.data["ledger_digest"], digest.as_str());
}

/// One bit changed anywhere in what is written is found, and the segment and offset are named.
#[test]
fn any_changed_bit_of_the_log_is_found() {
    let world = World::busy(60);
    let folder = written(&world);
    let segment = folder.path().join("log").join(segments::segment_name(1));
    let bytes = std::fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    for nth in 0..40 {
        let offset = end * nth / 40;
        flip(&segment, offset);
        let report = verify(folder.path());
        assert_eq!(report.exit, Exit::Tampered, "offset {offset}: {:?}", report.checks);
        assert_eq!(report.data["damage"]["segment"], 1, "offset {offset}");
        let named = report.data["damage"]["offset"].as_u64().unwrap();
        assert!(named.abs_diff(offset) <= 64 << 10, "offset {offset}, named {named}");
        flip(&segment, offset);
    }
    assert_eq!(verify(folder.path()).exit, Exit::Ok);
}

#[test]
fn what_is_missing_is_told_from_what_is_changed() {
    let world = World::busy(300);
    let folder = written(&world);
    let log = folder.path().join("log");
    let held = folder.path().join("held");
    for name in [segments::segment_name(1), segments::segment_name(2), segments::MANIFEST.to_owned()] {
        std::fs::rename(log.join(&name), &held).unwrap();
        let report = verify(folder.path());
        assert_eq!(report.exit, Exit::Missing, "{name}: {:?}", report.checks);
        std::fs::rename(&held, log.join(&name)).unwrap();
    }
    std::fs::rename(&log, &held).unwrap();
    assert_eq!(run(&Args::of(folder.path()), Ui::quiet()).unwrap_err().exit, Exit::Missing);
}

#[test]
fn worm_files_are_compared_line_by_line() {
    let world = World::busy(100);
    let folder = written(&world);
    let list = files(&folder.path().join("worm")).unwrap();
    assert!(list.len() > 2);
    let text = std::fs::read_to_string(&list[1]).unwrap();
    std::fs::write(&list[1], text.replacen("\"time\":1", "\"time\":2", 1)).unwrap();
    let report = verify(folder.path());
    assert_eq!((report.exit, failed(&report)), (Exit::Tampered, vec!["WORM files"]));
    assert!(report.data["worm_difference"]["place"].as_str().unwrap().contains(".jsonl, offset 0x"));
    std::fs::write(&list[1], &text).unwrap();
    // A copy that is behind is no tampering: the log is the truth and the rest is written again.
    std::fs::remove_file(list.last().unwrap()).unwrap();
    let report = verify(folder.path());
    assert_eq!(report.exit, Exit::Ok);
    assert!(report.checks.iter().any(|check| check.name == "WORM files" && check.state == State::Warn));
}

#[test]
fn a_saved_checkpoint_must_be_continued() {
    let mut world = World::busy(50);
    let early = world.checkpoint.clone();
    world.submit(5);
    world.attest();
    let folder = written(&world);
    let saved = folder.path().join("saved");
    let with = |note: &[u8]| {
        std::fs::write(&saved, note).unwrap();
        run(&Args { checkpoint: Some(saved.clone()), ..Args::of(folder.path()) }, Ui::quiet()).unwrap()
    };
    assert_eq!(with(&early).exit, Exit::Ok);
    // Another log of the same name, signed with the same key.
    let mut other = World::new();
    for _ in 0..30 {
        other.submit(2);
    }
    other.attest();
    let report = with(&other.checkpoint);
    assert_eq!((report.exit, failed(&report)), (Exit::Inconsistent, vec!["append-only"]));
    // A log that was cut back to before the checkpoint.
    let short = written(&World::busy(20));
    std::fs::write(&saved, &early).unwrap();
    let args = Args { checkpoint: Some(saved.clone()), ..Args::of(short.path()) };
    let report = run(&args, Ui::quiet()).unwrap();
    assert_eq!(report.exit, Exit::Inconsistent, "{:?}", report.checks);
}

/// A log that ends in records nobody attested: a checkpoint over their entries is left open, one beyond them is not.
#[test]
fn a_checkpoint_beyond_what_can_be_read_is_not_excused() {
    let mut world = World::busy(30);
    world.submit(3);
    let folder = written(&world);
    let saved = folder.path().join("saved");
    let leaves = world.leaves.len() as u64;
    for (size, exit) in [(leaves, Exit::Ok), (leaves + 100, Exit::Inconsistent)] {
        let root = world.ledger.tree().root();
        let head = engine::checkpoint::Checkpoint { origin: crate::world::ORIGIN.into(), size, root };
        std::fs::write(&saved, head.sign(&world.signer)).unwrap();
        let args = Args { checkpoint: Some(saved.clone()), ..Args::of(folder.path()) };
        let report = run(&args, Ui::quiet()).unwrap();
        assert_eq!(report.exit, exit, "{size}: {:?}", report.checks);
    }
}

#[test]
fn a_checkpoint_of_another_key_is_refused() {
    let world = World::busy(30);
    let folder = written(&world);
    let other = engine::checkpoint::Signer::new(crate::world::ORIGIN, &[1; 32]).unwrap();
    let args = Args { vkey: Some(other.verifier().vkey()), ..Args::of(folder.path()) };
    let report = run(&args, Ui::quiet()).unwrap();
    assert_eq!((report.exit, failed(&report)), (Exit::Tampered, vec!["log on itself", "checkpoint"]));
}

#[test]
fn a_period_counts_its_entries_only() {
    let world = World::busy(100);
    let folder = written(&world);
    let times: Vec<u64> = world.leaves.iter().map(|(time, _)| *time).collect();
    let (from, to) = (times[20], times[40]);
    let report =
        run(&Args { from: Some(from), to: Some(to), ..Args::of(folder.path()) }, Ui::quiet()).unwrap();
    let want = times.iter().filter(|time| (from..=to).contains(*time)).count() as u64;
    assert_eq!(report.data["period"]["count"].as_u64(), Some(want));
    assert_eq!(parse_from("1970-01-02"), Ok(86_400_000));
    assert_eq!(parse_to("1970-01-02"), Ok(2 * 86_400_000 - 1));
    assert_eq!(parse_from("1970-01-01T00:00:01Z"), Ok(1000));
    assert!(parse_from("soon").is_err());
}

fn at_depth(dir: &Path, depth: Depth) -> Report {
    run(&Args { depth, ..Args::of(dir) }, Ui::quiet()).unwrap()
}

#[test]
fn each_depth_says_how_far_it_looked() {
    let folder = written(&World::busy(100));
    let words = |depth| {
        let report = at_depth(folder.path(), depth);
        assert_eq!(report.exit, Exit::Ok, "{:?}", report.checks);
        let names: Vec<String> = report.checks.iter().map(|check| check.name.clone()).collect();
        (names.join(", "), report.verdict)
    };
    let (names, verdict) = words(Depth::Bytes);
    assert_eq!(names, "format, bytes");
    assert!(verdict.contains("not looked at"), "{verdict}");
    let (names, verdict) = words(Depth::Leaves);
    assert_eq!(names, "format, bytes, leaves, log on itself, checkpoint, not checked");
    assert!(verdict.contains("no submission was judged again"), "{verdict}");
    assert!(words(Depth::All).1.starts_with("intact: every"));
    for (depth, flag) in [(Depth::Bytes, "--checkpoint"), (Depth::Leaves, "--from")] {
        let checkpoint = (flag == "--checkpoint").then(|| folder.path().join("tlog/default/checkpoint"));
        let from = (flag == "--from").then_some(1);
        let args = Args { depth, checkpoint, from, ..Args::of(folder.path()) };
        let fault = run(&args, Ui::quiet()).unwrap_err();
        assert_eq!((fault.exit, fault.place.as_str()), (Exit::Failed, flag));
    }
}

/// What the roots do not cover is said, and lines that a checkpoint is over and that are not there are missing.
#[test]
fn leaves_that_no_root_covers_and_roots_that_no_leaf_reaches() {
    let mut world = World::busy(40);
    let signed = world.leaves.len() as u64;
    world.submit(5);
    let folder = written(&world);
    let report = at_depth(folder.path(), Depth::Leaves);
    assert_eq!((report.exit, report.data["leaves"]["signed"].as_u64()), (Exit::Ok, Some(signed)));
    assert!(report.checks.iter().any(|check| check.name == "newest" && check.state == State::Warn));
    for path in files(&folder.path().join("worm")).unwrap().iter().skip(1) {
        std::fs::remove_file(path).unwrap();
    }
    let report = at_depth(folder.path(), Depth::Leaves);
    assert_eq!((report.exit, failed(&report)), (Exit::Missing, vec!["log on itself", "checkpoint"]));
}

/// A checkpoint in the log whose signature is another key's, or whose root is not the lines', is refused.
#[test]
fn checkpoints_in_the_log_are_held_against_the_lines() {
    let folder = written(&World::busy(30));
    let other = engine::checkpoint::Signer::new(crate::world::ORIGIN, &[1; 32]).unwrap();
    let vkey = Some(other.verifier().vkey());
    let report = run(&Args { vkey, depth: Depth::Leaves, ..Args::of(folder.path()) }, Ui::quiet()).unwrap();
    assert_eq!((report.exit, failed(&report)), (Exit::Tampered, vec!["log on itself", "checkpoint"]));
    let mut world = World::busy(30);
    let head = engine::checkpoint::Checkpoint {
        origin: crate::world::ORIGIN.into(),
        size: 20,
        root: engine::log::Digest::ZERO,
    };
    world.events(vec![engine::event::Event::Checkpoint(head.sign(&world.signer))]);
    let folder = written(&world);
    let report = at_depth(folder.path(), Depth::Leaves);
    assert_eq!((report.exit, failed(&report)), (Exit::Tampered, vec!["log on itself"]));
}
