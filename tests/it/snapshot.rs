//! Snapshots of real nodes: saved while they run, checked, changed, restored, started.

use crate::load::{Load, insist_all_present};
use crate::node::Start;
use crate::pcs::submission;
use crate::tools::{self, flk};
use crate::trio::{Group, text};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const SMALL: &[(&str, &str)] = &[("FLK_SEGMENT_BYTES", "262144")];

fn save(from: &Path, to: &Path) -> serde_json::Value {
    let said = flk(&["snapshot", "save", text(from), text(to), "--json"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    serde_json::from_str(&said.out).expect("JSON")
}

fn copy_keys(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("keys")).expect("a directory");
    for name in ["kek", "log.key"] {
        std::fs::copy(from.join("keys").join(name), to.join("keys").join(name)).expect("a key");
    }
}

#[test]
fn what_is_saved_is_restored_with_the_digest_that_its_log_gives() {
    let folder = tempfile::tempdir().expect("a directory");
    let at = |name: &str| folder.path().join(name);
    let start = |name: &str| Start::on(&at(name)).with("FLK_SEGMENT_BYTES", "262144");
    let node = start("node").ready();
    let numbers = Arc::new(AtomicU64::new(0));
    let load = Load::start(node.address, 8, &numbers);
    load.wait_for(800);
    // Nothing of the running node is in the way, and it is in nobody's.
    let early = save(&at("node"), &at("early"));
    assert_eq!(early["data"]["stopped"], false, "{early}");
    load.wait_for(load.count() + 100);
    let acked = load.end();
    node.stop();
    let late = save(&at("node"), &at("late"));
    assert_eq!(late["data"]["stopped"], true, "{late}");
    assert!(late["data"]["sealed"].as_u64() > Some(2) && late["data"]["left_out"] == 0, "{late}");
    assert!(early["data"]["last"].as_u64() < late["data"]["last"].as_u64());
    let kek = at("node").join("keys").join("kek");
    for copy in ["early", "late"] {
        let said = flk(&["snapshot", "verify", text(&at(copy)), "--kek", text(&kek)]);
        assert_eq!(said.code, Some(0), "{}", said.all());
    }

    let said = flk(&["snapshot", "restore", text(&at("late")), text(&at("new")), "--node", "5"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(said.out.contains("copy kek and log.key"), "{}", said.out);
    copy_keys(&at("node"), &at("new"));
    let node = start("new").with("FLK_NODE_ID", "5").ready();
    insist_all_present(&node, &acked);
    assert_eq!(node.submit(&submission(2_000_000).body).status, 200);
    let url = format!("http://{}", node.address);
    let said = flk(&["replay", text(&at("new")), "--live", &url, "--kek", text(&kek)]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(said.out.contains("same digest"), "{}", said.all());
    node.stop();
    // It is a node like any other: it comes back by itself.
    let node = start("new").with("FLK_NODE_ID", "5").ready();
    insist_all_present(&node, &acked);
    node.stop();
    tools::insist_sound(&at("new"));

    // One bit of it, and it is nobody's any more.
    let path = at("late").join("log").join(format!("{:020}.seg", 2));
    let mut bytes = std::fs::read(&path).expect("a segment");
    bytes[70_000] ^= 4;
    std::fs::write(&path, bytes).expect("written");
    let said = flk(&["snapshot", "verify", text(&at("late"))]);
    assert_eq!(said.code, Some(2), "{}", said.all());
    assert!(said.out.contains("00000000000000000002.seg") && said.out.contains("segment 2"), "{}", said.out);
    let said = flk(&["snapshot", "restore", text(&at("late")), text(&at("bad")), "--node", "5"]);
    assert_eq!(said.code, Some(2), "{}", said.all());
    assert!(!at("bad").exists());
    // What was saved before it is none the worse.
    assert_eq!(flk(&["snapshot", "verify", text(&at("early"))]).code, Some(0));
}

#[test]
fn a_member_is_made_of_a_copy_and_never_speaks_for_the_node_it_was_copied_from() {
    let mut group = Group::first_of(3, SMALL);
    let load = Load::start(group.nodes[&1].address, 8, &Arc::new(AtomicU64::new(0)));
    load.wait_for(500);
    let mut acked = load.end();
    let copy = group.data(1).with_file_name("copy");
    save(&group.data(1), &copy);
    let restore = |node: &str, to: &Path, more: &[&str]| {
        flk(&[&["snapshot", "restore", text(&copy), text(to), "--node", node], more].concat())
    };
    // Under the name of a member there is none.
    let said = restore("1", &group.data(3), &["--member"]);
    assert_eq!(said.code, Some(1), "{}", said.all());
    assert!(said.all().contains("mentions a node of that name"), "{}", said.all());
    // Under a new one it waits, and the leader sends what it lacks.
    let said = restore("2", &group.data(2), &["--member"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    group.copy_keys(2);
    let process = group.command(2).spawn();
    group.take_in(2, process);
    let page = group.nodes[&2].get("/metrics").text();
    assert!(page.contains("flk_seed_bytes_total 0\n"), "the files were there: {page}");

    // A group of its own is a stranger to this one.
    let said = restore("3", &group.data(3), &[]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    group.copy_keys(3);
    let stranger = group.command(3).with("FLK_CLUSTER_JOIN", "").ready();
    insist_all_present(&stranger, &acked[..100]);
    let said = group.cluster(&["add", "3", &group.ports[&3].1.to_string()]);
    assert_ne!(said.code, Some(0), "{}", said.all());
    assert!(said.all().contains("cluster"), "{}", said.all());
    stranger.stop();
    std::fs::remove_dir_all(group.data(3)).expect("removed");

    let load = Load::start(group.nodes[&2].address, 4, &Arc::new(AtomicU64::new(3_000_000)));
    load.wait_for(100);
    acked.extend(load.end());
    group.insist_sound(&acked);
}
