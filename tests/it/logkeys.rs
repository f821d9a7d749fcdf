//! The log's keys: both lines under what it publishes, judged by others and by `worm`.

use crate::bins;
use crate::node::{Node, Start};
use crate::outsiders::{run, tool};
use crate::pcs::submission;
use crate::tools;
use crate::trio::until;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

/// Submits so many summaries and waits for a checkpoint over the last of them; gives that checkpoint.
fn fill(node: &Node, numbers: std::ops::Range<u64>) -> String {
    let seqs = numbers.filter_map(|n| node.submit(&submission(n).body).json()["seq"].as_u64());
    let last = seqs.max().expect("entries");
    let checkpoint = || node.get("/tlog/default/checkpoint").text();
    let size = |note: &str| note.lines().nth(1).and_then(|size| size.parse::<u64>().ok()).unwrap_or(0);
    until("a checkpoint covers all", || size(&checkpoint()) > last);
    checkpoint()
}

fn openssl_says(checkpoint: &Path, keys: &Path) -> (Option<i32>, String) {
    let script = bins::root().join("tests/outsiders/mldsa.py");
    run(Command::new(tool("python")).arg(script).arg(checkpoint).arg(keys))
}

#[test]
fn both_signatures_of_a_checkpoint_hold_for_others_and_neither_can_be_left_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let data = at("data");
    let node = Start::on(&data).ready();
    let note = fill(&node, 0..40);
    let keys = at("keys");
    std::fs::write(&keys, node.get("/tlog/default/vkey").text()).expect("written");
    assert_eq!(std::fs::read(&keys).ok(), std::fs::read(data.join("keys/log.vkey")).ok(), "the same file");
    let file = at("checkpoint");
    std::fs::write(&file, &note).expect("written");
    let (code, said) = openssl_says(&file, &keys);
    assert!(code == Some(0) && said == "Ed25519 ok\nML-DSA-44 ok\n", "{said}");

    // A receipt by name stands under a published checkpoint, and has both lines.
    let answer = node.submit(&submission(3).body).json();
    let receipt = node.get(&format!("/v1/receipts/{}", answer["pcs_id"].as_str().expect("an id")));
    let proof = at("one.tlog-proof");
    std::fs::write(&proof, &receipt.body).expect("written");
    let said = tools::worm(&["check", text(&proof), "--vkey", text(&keys)]);
    assert!(said.code == Some(0) && said.out.contains("(Ed25519) and "), "{}", said.all());

    // What is served stands in memory first; the files of a node that was stopped are complete.
    node.stop();
    let pack = at("pack");
    let said = tools::worm(&["fetch", text(&data), "--out", text(&pack)]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let said = tools::flk(&["doctor", text(&data), "--offline", "--syncs", "2", "--json"]);
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let doctor = checks.iter().find(|check| check["name"] == "log keys").expect("a check of the keys");
    assert!(
        doctor["state"] == "ok" && doctor["detail"].as_str().is_some_and(|text| text.contains("ML-DSA-44"))
    );

    let verify = |place: &Path| tools::worm(&["verify", text(place), "--vkey", text(&keys)]);
    for place in [&data, &pack] {
        let said = verify(place);
        assert!(said.code == Some(0) && said.out.contains("(ML-DSA-44)"), "{}", said.all());
    }
    // Whoever has broken Ed25519 has neither the other line nor can leave it out.
    let shown = [data.join("tlog/default/checkpoint"), pack.join("checkpoint")];
    let good = std::fs::read_to_string(&shown[1]).expect("a note");
    let second = good.lines().find(|line| line.len() > 3000).expect("a second line");
    let mut bent = second.to_owned();
    let was = bent.remove(2000);
    bent.insert(2000, if was == 'A' { 'B' } else { 'A' });
    for (changed, why) in [
        (good.replace(&format!("{second}\n"), ""), "no signature of this key (ML-DSA-44"),
        (good.replace(second, &bent), "does not verify"),
    ] {
        std::fs::write(&file, &changed).expect("written");
        assert_eq!(openssl_says(&file, &keys).0, Some(1), "{why}");
        shown.iter().for_each(|path| std::fs::write(path, &changed).expect("written"));
        let sums = pack.join("SHA256SUMS");
        let listed = std::fs::read_to_string(&sums).expect("sums");
        let sum = |bytes: &[u8]| crate::pcs::hex(&<sha2::Sha256 as sha2::Digest>::digest(bytes));
        let old = listed.lines().find(|line| line.ends_with("  checkpoint")).expect("its sum").to_owned();
        std::fs::write(&sums, listed.replace(&old, &format!("{}  checkpoint", sum(changed.as_bytes()))))
            .expect("written");
        for place in [&data, &pack] {
            let said = verify(place);
            assert!(said.code == Some(2) && said.out.contains(why), "{}", said.all());
        }
    }
}
