//! Data directories that are not what they should be: each gets a clear refusal, and nothing is written over.

use crate::load::Load;
use crate::node::Start;
use crate::tools;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A stopped directory with several segments.
fn filled() -> (tempfile::TempDir, Start) {
    let directory = tempfile::tempdir().expect("a directory");
    let start = Start::on(directory.path()).with("FLK_SEGMENT_BYTES", "262144");
    let node = start.ready();
    let load = Load::start(node.address, 8, &Arc::new(AtomicU64::new(0)));
    load.wait_for(600);
    drop(load.end());
    node.stop();
    assert!(segments(directory.path()).len() >= 3, "a run crosses segments");
    (directory, start)
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(data.join("log"))
        .expect("the log")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .collect();
    found.sort();
    found
}

fn contents(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let log =
        std::fs::read_dir(data.join("log")).expect("the log").map(|entry| entry.expect("an entry").path());
    log.filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(&path).expect("read")))
        .collect()
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).expect("read");
    bytes[offset] ^= 0x40;
    std::fs::write(path, bytes).expect("write");
}

fn name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("a text name").to_owned()
}

/// A refusal in order: an exit code of its own, the words, no panic, and not a byte of the log changed.
fn insist_refused(start: &Start, words: &[&str]) -> ExitStatus {
    let before = contents(&start.data);
    let (status, log) = start.refused();
    assert!(status.code().is_some_and(|code| code != 0 && code != 101), "{status}:\n{log}");
    assert!(!log.contains("panicked"), "{log}");
    for word in words {
        assert!(log.contains(word), "the refusal does not say {word:?}:\n{log}");
    }
    assert!(contents(&start.data) == before, "a refused start changed the log");
    status
}

#[test]
fn two_processes_do_not_share_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = Start::on(directory.path());
    let node = start.ready();
    let (status, log) = start.refused();
    assert!(status.code().is_some_and(|code| code != 0 && code != 101), "{status}:\n{log}");
    assert!(log.contains("LOCK") || log.contains("another process"), "{log}");
    assert_eq!(node.get("/readyz").status, 200, "the first goes on");
    node.kill();
    start.ready().stop();
}

#[test]
fn an_ordinary_start_warns_of_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = Start::on(directory.path());
    for life in ["first", "second"] {
        let node = start.ready();
        let log = node.process.log();
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "the {life} start:\n{log}");
        node.stop();
    }
}

#[test]
fn a_corrupted_segment_is_named_with_its_offset() {
    let (directory, start) = filled();
    let segment = segments(directory.path())[0].clone();
    flip(&segment, 40_000);
    // With its snapshot a start reads only what came after it; without, the whole log.
    std::fs::remove_dir_all(directory.path().join("proj")).expect("the projections are there");
    insist_refused(&start, &[&name(&segment), "offset", "expected", "found"]);
    let said = tools::verify(directory.path());
    assert_eq!(said.code, Some(2), "{}", said.all());
    assert!(said.all().contains(&name(&segment)), "{}", said.all());
    flip(&segment, 40_000);
    start.ready().stop();
    tools::insist_sound(directory.path());
}

#[test]
fn every_kind_of_place_in_a_sealed_segment_is_covered() {
    let (directory, _) = filled();
    let segment = segments(directory.path())[1].clone();
    let length = std::fs::metadata(&segment).expect("there").len() as usize;
    // The header, its padding, the first frame, the middle, the footer and the last byte.
    for offset in [0, 9, 60, 300, 4095, 4096, 4120, length / 2, length - 4096, length - 60, length - 1] {
        flip(&segment, offset);
        let said = tools::verify(directory.path());
        assert_eq!(said.code, Some(2), "offset {offset}: {}", said.all());
        flip(&segment, offset);
    }
    tools::insist_sound(directory.path());
}

#[test]
fn a_missing_segment_is_named() {
    let (directory, start) = filled();
    let segment = segments(directory.path())[1].clone();
    let aside = directory.path().join("aside");
    std::fs::rename(&segment, &aside).expect("moved");
    insist_refused(&start, &[&name(&segment)]);
    let said = tools::verify(directory.path());
    assert_eq!(said.code, Some(3), "{}", said.all());
    assert!(said.all().contains(&name(&segment)), "{}", said.all());
    std::fs::rename(&aside, &segment).expect("moved back");
    start.ready().stop();
}

#[test]
fn a_segment_of_another_log_is_refused() {
    let (directory, start) = filled();
    let (stranger, _) = filled();
    let ours = segments(directory.path())[1].clone();
    std::fs::copy(&segments(stranger.path())[1], &ours).expect("copied");
    insist_refused(&start, &[&name(&ours)]);
    let said = tools::verify(directory.path());
    assert_eq!(said.code, Some(2), "{}", said.all());
}

#[test]
fn two_swapped_segments_are_refused() {
    let (directory, start) = filled();
    let (one, two) = (segments(directory.path())[0].clone(), segments(directory.path())[1].clone());
    let aside = directory.path().join("aside");
    for (from, to) in [(&one, &aside), (&two, &one), (&aside, &two)] {
        std::fs::rename(from, to).expect("moved");
    }
    insist_refused(&start, &[&name(&one)]);
    assert_eq!(tools::verify(directory.path()).code, Some(2));
}

#[test]
fn a_segment_cut_short_is_refused() {
    let (directory, start) = filled();
    let segment = segments(directory.path())[0].clone();
    let whole = std::fs::read(&segment).expect("read");
    std::fs::write(&segment, &whole[..whole.len() / 2]).expect("write");
    insist_refused(&start, &[&name(&segment)]);
    let code = tools::verify(directory.path()).code;
    assert!(matches!(code, Some(2 | 3)), "exit {code:?}");
}

#[test]
fn a_foreign_region_is_refused() {
    let (_directory, start) = filled();
    insist_refused(&start.with("FLK_REGION", "elsewhere"), &["default", "elsewhere"]);
}

/// Says of a file's first block that a later version wrote it, with a sum that holds.
fn claim_a_later_format(path: &Path) {
    let mut bytes = std::fs::read(path).expect("read");
    bytes[12..16].copy_from_slice(&2_u32.to_le_bytes());
    let mut sum = crc32fast::Hasher::new();
    sum.update(&bytes[..8]);
    sum.update(&bytes[12..4096]);
    bytes[8..12].copy_from_slice(&sum.finalize().to_le_bytes());
    std::fs::write(path, bytes).expect("write");
}

#[test]
fn a_later_format_is_refused_and_not_called_damage() {
    let (directory, start) = filled();
    let oldest = segments(directory.path())[0].clone();
    for path in [oldest, directory.path().join("log/MANIFEST")] {
        let whole = std::fs::read(&path).expect("read");
        claim_a_later_format(&path);
        std::fs::remove_dir_all(directory.path().join("proj")).expect("the projections are there");
        insist_refused(&start, &["written in format 2", "this program reads 1", "newer program"]);
        assert_ne!(tools::verify(directory.path()).code, Some(0));
        std::fs::write(&path, whole).expect("write");
        start.ready().stop();
    }
}

#[test]
fn worm_verify_has_an_exit_code_for_each_ending() {
    let (directory, _) = filled();
    assert_eq!(tools::verify(directory.path()).code, Some(0));
    assert_eq!(tools::verify(Path::new("/nowhere/at/all")).code, Some(1), "no such directory");
    assert_eq!(tools::worm(&["verify"]).code, Some(1), "no argument");
    assert_eq!(tools::worm(&["verify", "--nonsense", "."]).code, Some(1), "an unknown flag");
    let json = tools::worm(&["verify", "--json", directory.path().to_str().expect("text")]);
    assert_eq!(json.code, Some(0), "{}", json.all());
    serde_json::from_str::<serde_json::Value>(&json.out).expect("--json prints JSON");
    let days = std::fs::read_dir(directory.path().join("worm")).expect("the audit files").count();
    assert!(days > 0, "audit files were written");
}

#[test]
fn a_tampered_audit_file_is_found() {
    let (directory, _) = filled();
    let mut open = vec![directory.path().join("worm")];
    let mut file = None;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).expect("list").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|ending| ending == "jsonl") {
            file = Some(path);
        }
    }
    let file = file.expect("an audit file");
    let text = std::fs::read_to_string(&file).expect("read");
    std::fs::write(&file, text.replacen("accepted", "rejected", 1)).expect("write");
    let said = tools::verify(directory.path());
    assert_eq!(said.code, Some(2), "{}", said.all());
    assert!(said.all().contains(&name(&file)), "{}", said.all());
}
