//! What an auditor does with a node's directory, command by command, and which exit code each ending has.

use crate::load::{Acked, Load};
use crate::node::{Node, Start};
use crate::pcs::Draft;
use crate::tools::{self, Said};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

/// Loads a node until so many were answered.
fn fill(node: &Node, from: u64, count: usize) -> Vec<Acked> {
    let load = Load::start(node.address, 4, &Arc::new(AtomicU64::new(from)));
    load.wait_for(count);
    load.end()
}

/// Waits until a checkpoint, and with it an `Attested`, covers these answers and `more` entries behind them.
fn covered(node: &Node, acked: &[Acked], more: u64) {
    let last = acked.iter().filter_map(|acked| acked.answer.json()["seq"].as_u64()).max().expect("an entry");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let checkpoint = node.get("/tlog/default/checkpoint").text();
        let size: u64 = checkpoint.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0);
        if size > last + more {
            return;
        }
        assert!(Instant::now() < deadline, "no checkpoint covers entry {}", last + more);
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.all()))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[test]
fn one_entry_is_shown_proved_and_checked_elsewhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Start::on(&data).ready();
    let acked = fill(&node, 0, 300);
    let one = &acked[acked.len() / 2].submission;
    // `regime` is not signed, so this is a conflict with a good signature.
    let other = String::from_utf8(one.body.clone()).expect("text").replace("\"sticky\"", "\"mixed\"");
    assert_eq!(node.submit(other.as_bytes()).header("idempotent-replayed"), Some("conflict"));
    covered(&node, &acked, 1);
    let receipt = node.get(&format!("/v1/receipts/{}", one.id));
    node.stop();

    let said = tools::worm(&["get", text(&data), &one.id]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    for words in [&one.id, "outcome   accepted", "conflict  with entry ", "VERDICT  2 entries"] {
        assert!(said.out.contains(words), "{words} in {}", said.all());
    }
    let entries = json(&tools::worm(&["get", text(&data), &one.id, "--json"]))["data"]["entries"].clone();
    assert_eq!(
        (entries[0]["leaf"]["type"].as_str(), entries[1]["leaf"]["type"].as_str()),
        (Some("pcs"), Some("conflict"))
    );
    let absent = tools::worm(&["get", text(&data), &"0".repeat(64)]);
    assert!(absent.code == Some(1) && absent.err.contains("no such entry"), "{}", absent.all());

    let out = directory.path().join("proof");
    let said = tools::worm(&["prove", text(&data), &one.id, "--out", text(&out)]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let proof = out.join(format!("{}.tlog-proof", one.id));
    let entry = out.join(format!("{}.entry", one.id));
    let key = data.join("keys/log.vkey");
    let check = |proof: &Path| tools::worm(&["check", text(proof), "--vkey", text(&key)]);
    assert_eq!(check(&proof).code, Some(0), "{}", check(&proof).all());
    let seq =
        json(&tools::worm(&["check", text(&proof), "--vkey", text(&key), "--json"]))["data"]["seq"].clone();
    assert_eq!(seq, entries[0]["seq"]);
    // The receipt that the server gave proves the same with nothing beside it.
    assert_eq!(receipt.status, 200);
    let kept = directory.path().join("kept.tlog-proof");
    std::fs::write(&kept, &receipt.body).expect("written");
    assert_eq!(check(&kept).code, Some(0), "{}", check(&kept).all());
    let mut bytes = std::fs::read(&entry).expect("the entry");
    bytes[20] ^= 1;
    std::fs::write(&entry, bytes).expect("written");
    let bent = check(&proof);
    assert!(bent.code == Some(2) && bent.out.contains("FAIL"), "{}", bent.all());
    let said = tools::worm(&["prove", text(&data), "--seq", "0", "--out", text(&out)]);
    assert_eq!((said.code, check(&out.join("0.tlog-proof")).code), (Some(0), Some(0)), "{}", said.all());
}

#[test]
fn a_period_counts_what_lies_in_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Start::on(directory.path()).ready();
    fill(&node, 0, 50);
    node.stop();
    let verify = |from: &str, to: &str| {
        json(&tools::worm(&["verify", text(directory.path()), "--from", from, "--to", to, "--json"]))
    };
    let all = verify("2020-01-01", "2100-01-01");
    assert!(all["data"]["period"]["count"].as_u64().is_some_and(|count| count > 50), "{all}");
    let none = verify("2020-01-01", "2020-12-31T23:59:59Z");
    assert_eq!(
        (none["exit"].as_u64(), none["data"]["period"]["count"].as_u64()),
        (Some(0), Some(0)),
        "{none}"
    );
    let wrong = tools::worm(&["verify", text(directory.path()), "--from", "yesterday"]);
    assert!(wrong.code == Some(1) && wrong.err.contains("2026-10-01"), "{}", wrong.all());
}

#[test]
fn a_log_that_does_not_continue_a_saved_checkpoint_has_an_exit_code_of_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let (ours, fork) = (directory.path().join("ours"), directory.path().join("fork"));
    let node = Start::on(&ours).ready();
    fill(&node, 0, 50);
    node.stop();
    copy(&ours, &fork);
    let saved = directory.path().join("saved");
    for (data, from) in [(&ours, 10_000), (&fork, 20_000)] {
        let node = Start::on(data).ready();
        covered(&node, &fill(&node, from, 50), 0);
        let checkpoint = node.get("/tlog/default/checkpoint");
        if from == 10_000 {
            std::fs::write(&saved, checkpoint.body).expect("written");
        }
        // More than the saved checkpoint covers.
        fill(&node, from + 5_000, 100);
        node.stop();
    }
    let verify = |data: &Path| tools::worm(&["verify", text(data), "--checkpoint", text(&saved)]);
    assert_eq!(verify(&ours).code, Some(0), "{}", verify(&ours).all());
    let said = verify(&fork);
    assert_eq!(said.code, Some(5), "{}", said.all());
    assert!(said.out.contains("append-only    FAIL"), "{}", said.all());
    assert_eq!(tools::verify(&fork).code, Some(0), "by itself the other history is sound");
}

/// The only file below `dir` with such a name.
fn find(dir: &Path, suffix: &str) -> PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path())
        {
            if entry.is_dir() {
                folders.push(entry);
            } else if text(&entry).ends_with(suffix) {
                found.push(entry);
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn first_segment(data: &Path) -> PathBuf {
    data.join("log/00000000000000000001.seg")
}

#[test]
fn damage_is_named_by_segment_offset_and_record_and_absence_has_its_own_code() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path();
    let node = Start::on(data).ready();
    fill(&node, 0, 200);
    node.stop();
    let whole = std::fs::read(first_segment(data)).expect("the segment");
    let place = whole.windows(9).rposition(|bytes| bytes == b"\"pcs_id\":" || bytes == b"\"pcs_id\": ");
    let place = place.expect("a body in the log");
    let mut bytes = whole.clone();
    bytes[place] ^= 1;
    std::fs::write(first_segment(data), &bytes).expect("written");
    let said = tools::worm(&["verify", text(data), "--json"]);
    assert_eq!(said.code, Some(2), "{}", said.all());
    let damage = json(&said)["data"]["damage"].clone();
    assert_eq!(damage["segment"], 1);
    let offset = damage["offset"].as_u64().expect("an offset");
    assert!(offset <= place as u64 && place as u64 - offset < 2 << 20, "{damage} for {place}");
    assert!(damage["after_lsn"].as_u64().is_some_and(|lsn| lsn > 0), "{damage}");
    let said = tools::verify(data);
    assert!(said.out.contains("00000000000000000001.seg") && said.out.contains("offset"), "{}", said.all());
    assert_eq!(tools::flk(&["replay", text(data)]).code, Some(2));
    std::fs::remove_file(first_segment(data)).expect("removed");
    assert_eq!(tools::verify(data).code, Some(3), "{}", tools::verify(data).all());
    assert_eq!(tools::flk(&["replay", text(data)]).code, Some(3));
    assert_eq!(tools::flk(&["replay", "/nowhere/at/all"]).code, Some(1));
}

#[test]
fn a_replay_from_a_snapshot_ends_where_the_running_node_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path();
    let node = Start::on(data).with("FLK_SNAPSHOT_RECORDS", "100").ready();
    let acked = fill(&node, 0, 400);
    let snapshot = data.join("proj/snapshot");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !snapshot.exists() {
        assert!(Instant::now() < deadline, "no snapshot was written");
        std::thread::sleep(Duration::from_millis(20));
    }
    covered(&node, &acked, 0);
    let url = format!("http://{}", node.address);
    let live = tools::flk(&["replay", text(data), "--live", &url]);
    assert_eq!(live.code, Some(0), "{}", live.all());
    assert!(live.out.contains("the running node has the same digest"), "{}", live.all());
    node.stop();
    let full = json(&tools::flk(&["replay", text(data), "--json"]));
    let short = tools::flk(&["replay", text(data), "--from-snapshot", text(&snapshot), "--json"]);
    assert_eq!(short.code, Some(0), "{}", short.all());
    let short = json(&short);
    assert_eq!(
        (&full["data"]["digest"], &full["data"]["applied"]),
        (&short["data"]["digest"], &short["data"]["applied"])
    );
    let start = short["checks"][0]["detail"].as_str().unwrap_or_default().to_owned();
    assert!(start.starts_with("from the snapshot at record "), "{start}");
    planned(data, &snapshot, full["data"]["digest"].as_str().expect("a digest"));
    let mut bytes = std::fs::read(&snapshot).expect("the snapshot");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let bent = directory.path().join("bent");
    std::fs::write(&bent, bytes).expect("written");
    let said = tools::flk(&["replay", text(data), "--from-snapshot", text(&bent)]);
    assert!(said.code == Some(2) && said.err.contains("no snapshot"), "{}", said.all());
    // Signatures are checked again with the node's key; without it their results come from the log.
    let said = tools::flk(&["replay", text(data), "--kek", text(&data.join("keys/kek"))]);
    assert_eq!(said.code, Some(0), "{}", said.all());
}

/// A plan says what would be read and compares nothing; done with `--out`, the page holds plan and findings.
fn planned(data: &Path, snapshot: &Path, digest: &str) {
    let page = data.join("plan.html");
    let plan = tools::flk(&["replay", text(data), "--plan", "--json"]);
    assert_eq!(plan.code, Some(0), "{}", plan.all());
    let plan = json(&plan);
    let said = &plan["data"]["plan"];
    let segments = said["segments"].as_array().expect("the segments");
    let bytes: u64 = segments.iter().map(|segment| segment["bytes"].as_u64().expect("bytes")).sum();
    assert_eq!((said["start"]["after"].as_u64(), said["start"]["bytes"].as_u64()), (Some(0), Some(bytes)));
    assert_eq!(said["instead"][0]["snapshot"].as_str(), Some(text(snapshot)), "{plan}");
    assert!(said["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{plan}");
    assert!(plan["data"]["digest"].is_null() && plan["verdict"].as_str().unwrap().contains("a plan only"));
    let done = tools::flk(&["replay", text(data), "--from-snapshot", text(snapshot), "--out", text(&page)]);
    assert_eq!(done.code, Some(0), "{}", done.all());
    let page = std::fs::read_to_string(page).expect("the page");
    for part in [digest, "identical", "default-src 'none'", "segment 1:", text(snapshot)] {
        assert!(page.contains(part), "{part} is not on {page}");
    }
    let both = tools::flk(&["replay", text(data), "--plan", "--check"]);
    assert!(both.code == Some(1) && both.err.contains("--plan"), "{}", both.all());
}

#[test]
fn an_escalated_outcome_is_shown_as_such() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Start::on(directory.path()).ready();
    // The claimed slope is 1, this one says 2: rejected, and recorded with the reason.
    let wrong = Draft { d_hat: "2.0", ..Draft::accepted(7) }.signed();
    assert_eq!(node.submit(&wrong.body).status, 202);
    fill(&node, 100, 20);
    node.stop();
    let said = tools::worm(&["get", text(directory.path()), &wrong.id]);
    assert!(said.code == Some(0) && said.out.contains("outcome   rejected, reason "), "{}", said.all());
}

/// `--depth leaves` accepts what a node wrote, and names the place of an edited line, a line that was taken out, and a
/// checkpoint that was moved.
#[test]
fn lines_are_held_against_the_checkpoints_without_judging_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path();
    let node = Start::on(data).ready();
    covered(&node, &fill(&node, 0, 300), 0);
    covered(&node, &fill(&node, 5_000, 300), 0);
    node.stop();
    let verify = |depth: &str| tools::worm(&["verify", text(data), "--depth", depth]);
    let said = verify("leaves");
    assert_eq!(said.code, Some(0), "{}", said.all());
    for words in [
        "lines hashed",
        "checkpoints agree with the lines, all signed",
        "not checked",
        "no submission was judged",
    ] {
        assert!(said.out.contains(words), "{words} in {}", said.all());
    }
    assert!(!said.out.contains("intact: every"), "{}", said.all());
    assert_eq!(verify("bytes").code, Some(0), "{}", verify("bytes").all());

    let file = find(&data.join("worm"), ".jsonl");
    let lines = std::fs::read_to_string(&file).expect("lines");
    let refused = |changed: &str| {
        std::fs::write(&file, changed).expect("written");
        let said = verify("leaves");
        assert_eq!(said.code, Some(2), "{}", said.all());
        assert!(said.out.contains("leaves") && said.out.contains("FAIL"), "{}", said.all());
        assert!(said.out.contains(".jsonl, offset 0x"), "{}", said.all());
        let difference = json(&tools::worm(&["verify", text(data), "--depth", "leaves", "--json"]));
        let difference = &difference["data"]["worm_difference"];
        let between =
            difference["from"].as_u64().expect("an entry")..=difference["to"].as_u64().expect("an entry");
        std::fs::write(&file, &lines).expect("written");
        between
    };
    let edited = lines.replacen("\"outcome\":\"accepted\"", "\"outcome\":\"rejected\"", 1);
    let nth =
        lines.lines().position(|line| line.contains("\"outcome\":\"accepted\"")).expect("an outcome") as u64;
    assert!(refused(&edited).contains(&nth));
    let dropped: String =
        lines.split_inclusive('\n').enumerate().filter(|(n, _)| *n != 9).map(|(_, line)| line).collect();
    assert!(refused(&dropped).contains(&9));
    assert_eq!(verify("leaves").code, Some(0));

    // The same signed text over another size.
    let checkpoint = data.join("tlog/default/checkpoint");
    let good = std::fs::read_to_string(&checkpoint).expect("a checkpoint");
    let size: u64 = good.lines().nth(1).and_then(|size| size.parse().ok()).expect("a size");
    let moved = good.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size - 1), 1);
    std::fs::write(&checkpoint, moved).expect("written");
    let said = verify("leaves");
    assert_eq!(said.code, Some(2), "{}", said.all());
    let why = "entries it says root ";
    assert!(said.out.contains(why) && !said.out.contains("line that differs"), "{}", said.all());
}
