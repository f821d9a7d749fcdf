//! Copies that nobody can delete: in a directory, and in a bucket of a server that we did not write.

use crate::moto::Moto;
use crate::node::{Node, Start};
use crate::outsiders::{gotlog, run};
use crate::pcs::submission;
use crate::tools::{self, insist_sound};
use crate::witness::{eventually, metric};
use std::path::{Path, PathBuf};
use std::process::Command;

fn text(path: &Path) -> String {
    path.to_str().expect("a text path").to_owned()
}

fn submit(node: &Node, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert_eq!(node.submit(&submission(number).body).status, 200);
    }
}

/// A node with these targets, whose audit files are closed after a second.
fn start(home: &Path, targets: &str) -> Start {
    let list = home.join("targets.toml");
    std::fs::write(&list, targets).expect("a file");
    Start::on(&home.join("data"))
        .with("FLK_ANCHOR_TARGETS_FILE", &text(&list))
        .with("FLK_ANCHOR_TRIES", "2")
        .with("FLK_ADMIN_TOKEN", "operator")
        .with("FLK_WORM_BOX_S", "1")
}

fn audit(home: &Path, node: &Node, arguments: &[&str]) -> tools::Said {
    let token = home.join("token");
    std::fs::write(&token, "operator\n").expect("a file");
    let url = format!("http://{}", node.address);
    tools::flk(&[&["audit"], arguments, &["--url", &url, "--token-file", &text(&token)]].concat())
}

/// Files below a directory, with their paths in it.
fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(here) = pending.pop() {
        for entry in std::fs::read_dir(&here).into_iter().flatten().flatten() {
            let path = entry.path();
            // What is being put has two names for a moment.
            if path.to_string_lossy().contains('#') {
                continue;
            }
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = text(path.strip_prefix(root).expect("below the root"));
                out.push((name, std::fs::read(&path).expect("a file")));
            }
        }
    }
    out.sort();
    out
}

/// The newest checkpoint of a copy.
fn newest(copy: &Path) -> PathBuf {
    let names = files(&copy.join("anchors"));
    let name = names.iter().rev().find(|(name, _)| name.ends_with(".checkpoint"));
    copy.join("anchors").join(&name.expect("a checkpoint").0)
}

/// The outsider's verifier accepts the tiles and bundles of a copy under its newest checkpoint; every audit file of the
/// copy is one of the node, byte for byte; growth is shown.
fn insist_whole(copy: &Path, data: &Path) {
    std::fs::copy(newest(copy), copy.join("checkpoint")).expect("a checkpoint");
    let (code, said) = run(Command::new(gotlog()).arg(copy).arg(data.join("keys/log.vkey")));
    assert_eq!(code, Some(0), "{said}");
    let worm = files(&copy.join("worm"));
    assert!(
        worm.len() >= 2 && worm.len().is_multiple_of(2),
        "audit files come with their roots: {}",
        worm.len()
    );
    for (name, bytes) in worm {
        let own = std::fs::read(data.join("worm").join(&name)).expect("the node's file");
        assert!(own == bytes, "{name} differs");
    }
    let grown = files(&copy.join("anchors"));
    let grown = grown.iter().find(|(name, _)| name.ends_with(".growth")).expect("a proof of growth");
    assert!(grown.1.starts_with(b"old "), "a request as witnesses read it");
}

/// Leaves under the checkpoint that the node shows.
fn published(node: &Node) -> u64 {
    let text = node.get("/tlog/default/checkpoint").text();
    text.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0)
}

#[test]
fn a_directory_gets_everything_once_though_the_node_is_killed() {
    let home = tempfile::tempdir().expect("a directory");
    let copy = home.path().join("copy");
    std::fs::create_dir(&copy).expect("a directory");
    let target = format!(
        "[[target]]\nname = \"mirror\"\nkind = \"directory\"\npath = \"{}\"\nevery_s = 1\nexport = true\n",
        text(&copy)
    );
    let start = start(home.path(), &target);
    let node = start.ready();
    submit(&node, 0..300);
    eventually("a copy", || home.path().join("data/proj/anchors").exists() && copy.join("anchors").is_dir());
    submit(&node, 300..310);
    node.kill();
    let before = files(&copy);
    // What is known of the log is lost, too: it comes again from the log.
    std::fs::remove_file(home.path().join("data/proj/anchors")).expect("a cache");
    let node = start.ready();
    submit(&node, 310..700);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    submit(&node, 700..710);
    let behind = r#"flk_anchor_backlog_leaves{kind="copy",target="mirror"} 0"#;
    eventually("nothing is behind", || published(&node) > 710 && metric(&node, behind));
    for (name, bytes) in &before {
        assert!(std::fs::read(copy.join(name)).expect("it stays") == *bytes, "{name} has changed");
    }
    insist_whole(&copy, &home.path().join("data"));

    // The log goes over to other keys: why they are believed is copied, too.
    let address = format!("http://{}", node.address);
    let token = text(&home.path().join("token"));
    std::fs::write(&token, "operator\n").expect("a file");
    let said = tools::flk(&["keys", "rotate", "--both", "1h", "--url", &address, "--token-file", &token]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let statement = "keys/2.tlog-proof";
    eventually("the statement is copied", || copy.join(statement).exists() && metric(&node, behind));
    let own = std::fs::read(home.path().join("data/tlog/default").join(statement)).expect("the node's");
    assert!(std::fs::read(copy.join(statement)).expect("copied") == own, "it is the same");

    // Somebody put something else where the next checkpoint's bundle belongs: it is not touched, and it is said.
    let (_, size) = newest_size(&copy);
    for next in size + 1..size + 20 {
        let name = format!("{next:020}.checkpoint");
        std::fs::write(copy.join("anchors").join(name), "something else").expect("a file");
    }
    submit(&node, 710..711);
    eventually("a dead letter", || metric(&node, "flk_anchor_dead_letters 1"));
    let said = audit(home.path(), &node, &["dlq", "list"]);
    assert!(said.code == Some(6) && said.out.contains("something else lies at"), "{}", said.all());
    assert_eq!(node.get("/readyz").status, 200, "nothing waits for it");
    node.stop();
    insist_sound(&home.path().join("data"));
}

fn newest_size(copy: &Path) -> (PathBuf, u64) {
    let path = newest(copy);
    let size = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
    (path, size.expect("a size"))
}

#[test]
fn a_bucket_with_object_lock_keeps_copies_that_nobody_can_delete() {
    let moto = Moto::start();
    moto.say("make", "vault", &[]);
    moto.say("make", "open", &["plain"]);
    let home = tempfile::tempdir().expect("a directory");
    let key = home.path().join("vault.key");
    std::fs::write(&key, "id\nsecret\n").expect("a file");
    let target = |name: &str, bucket: &str, export: bool| {
        format!(
            "[[target]]\nname = \"{name}\"\nkind = \"s3\"\nurl = \"{}\"\nbucket = \"{bucket}\"\nprefix = \"eu/log\"\n\
             region = \"us-east-1\"\nkey_file = \"{}\"\nretain_days = 30\nevery_s = 1\nexport = {export}\n",
            moto.url,
            text(&key)
        )
    };
    let both = target("vault", "vault", true) + &target("loose", "open", false);
    let start = start(home.path(), &both);
    let node = start.ready();
    submit(&node, 0..300);
    let behind = r#"flk_anchor_backlog_leaves{kind="copy",target="vault"} 0"#;
    eventually("a copy", || published(&node) > 300 && metric(&node, behind));
    node.kill();
    let node = start.ready();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    submit(&node, 300..310);
    eventually("a newer copy", || published(&node) > 310 && metric(&node, behind));

    // A bucket that locks nothing is no place for copies.
    eventually("a dead letter", || metric(&node, "flk_anchor_dead_letters 1"));
    let said = audit(home.path(), &node, &["dlq", "list"]);
    assert!(said.code == Some(6) && said.out.contains("loose"), "{}", said.all());
    assert!(!said.out.contains("vault "), "{}", said.all());
    node.stop();

    let said = moto.say("judge", "vault", &["30"]);
    assert!(said.starts_with("OK objects="), "{said}");
    let taken = home.path().join("taken");
    moto.say("take", "vault", &["eu/log/", &text(&taken)]);
    insist_whole(&taken, &home.path().join("data"));
    insist_sound(&home.path().join("data"));
}

#[test]
fn a_plan_picks_targets_says_why_and_turns_to_another_when_one_fails() {
    let home = tempfile::tempdir().expect("a directory");
    let (near, far) = (home.path().join("near"), home.path().join("far"));
    std::fs::create_dir(&near).expect("a directory");
    std::fs::create_dir(&far).expect("a directory");
    let target = |name: &str, path: &Path, cost: &str| {
        format!(
            "[[target]]\nname = \"{name}\"\nkind = \"directory\"\npath = \"{}\"\nevery_s = 1\n\
             price = {{ cost = {cost}, delay_s = 1, reliability = 0.95, durability = 0.5 }}\n",
            text(path)
        )
    };
    let list = "[plan]\nreliability = 0.9\ndelay_s = 60\n".to_owned()
        + &target("near", &near, "0.0001")
        + &target("far", &far, "0.01");
    let node = start(home.path(), &list).ready();
    submit(&node, 0..3);
    eventually("the cheap one has it", || near.join("anchors").is_dir());
    let said = audit(home.path(), &node, &["plan"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(said.out.contains("without it reliability would be 0.000000"), "{}", said.all());
    assert!(said.out.contains("not needed: a cheaper set reaches the goals"), "{}", said.all());
    assert!(!far.join("anchors").exists(), "the dear one is spared");
    let spared = r#"flk_anchor_backlog_leaves{kind="copy",target="far"} 0"#;
    assert!(metric(&node, spared), "who is spared is not behind");

    // The cheap one holds something else: nothing is expected of it any more.
    let (_, size) = newest_size(&near);
    for next in size + 1..size + 20 {
        std::fs::write(near.join(format!("anchors/{next:020}.checkpoint")), "something else")
            .expect("a file");
    }
    submit(&node, 3..5);
    eventually("the dear one has it", || far.join("anchors").is_dir());
    let said = audit(home.path(), &node, &["plan", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    let choices = &plan["data"]["plan"]["choices"];
    let used: Vec<bool> = (0..2).map(|nth| choices[nth]["used"] == true).collect();
    assert_eq!(used, [false, true], "{}", said.all());
    assert!(choices[0]["why"].as_str().is_some_and(|why| why.contains("another history")), "{}", said.all());
    node.stop();
}

#[test]
fn closed_audit_files_get_an_overview_that_follows_from_them() {
    let home = tempfile::tempdir().expect("a directory");
    let node = start(home.path(), "").ready();
    let data = home.path().join("data");
    submit(&node, 0..20);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    submit(&node, 20..21);
    let overviews = || {
        let names = files(&data.join("worm")).into_iter().map(|(name, _)| name);
        names.filter(|name| name.ends_with(".overview")).collect::<Vec<_>>()
    };
    eventually("an overview", || !overviews().is_empty());
    node.kill();
    let path = data.join("worm").join(&overviews()[0]);
    let whole = std::fs::read(&path).expect("an overview");
    // It is lost; the next start makes the same again.
    std::fs::remove_file(&path).expect("a file");
    let node = start(home.path(), "").ready();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    submit(&node, 21..22);
    eventually("it is made again", || path.exists());
    node.stop();
    assert_eq!(std::fs::read(&path).expect("an overview"), whole);
    let overview = || tools::worm(&["overview", &text(&data)]);
    let said = overview();
    assert!(
        said.code == Some(0) && said.out.contains("default") && said.out.contains("all agree"),
        "{}",
        said.all()
    );
    let pack = home.path().join("pack");
    let made = tools::worm(&["export", &text(&data), "--out", &text(&pack)]);
    assert_eq!(made.code, Some(0), "{}", made.all());
    let days = |place: &std::path::Path| {
        let said = tools::worm(&["overview", &text(place), "--json"]);
        assert_eq!(said.code, Some(0), "{}", said.all());
        serde_json::from_str::<serde_json::Value>(&said.out).expect("JSON")["data"]["days"].clone()
    };
    assert_eq!(days(&pack), days(&data), "a pack adds up to the same");
    let bundle = files(&pack.join("tile/entries")).into_iter().map(|(name, _)| name).next().expect("entries");
    let bundle = pack.join("tile/entries").join(bundle);
    let entries = std::fs::read(&bundle).expect("entries");
    let bent = String::from_utf8_lossy(&entries).replacen("accepted", "rejected", 1);
    std::fs::write(&bundle, bent).expect("a file");
    let said = tools::worm(&["overview", &text(&pack)]);
    assert!(matches!(said.code, Some(2 | 3)), "{}", said.all());
    let bent = String::from_utf8(whole).expect("text").replacen("\"leaves\":", "\"leaves\":1", 1);
    std::fs::write(&path, bent).expect("a file");
    let said = overview();
    assert!(said.code == Some(2) && said.all().contains("does not follow"), "{}", said.all());
    std::fs::remove_file(&path).expect("a file");
    insist_sound(&data);
}
