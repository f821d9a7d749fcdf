//! Three real nodes: any of them takes submissions, any of them may go, and none of them differs.

use crate::http::{Connection, Response};
use crate::load::{Load, insist_all_present};
use crate::node::{Node, Process};
use crate::pcs::submission;
use crate::tools;
use crate::trio::{Group, PATIENCE, text, until};
use engine::checkpoint::{Receipt, Verifier};
use engine::log::Digest;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

#[test]
fn a_killed_leader_takes_nothing_with_it() {
    let mut group = Group::of(3);
    let numbers = Arc::new(AtomicU64::new(0));
    let mut acked = Vec::new();
    for round in 0..3 {
        let loads: Vec<Load> =
            group.nodes.values().map(|node| Load::start(node.address, 3, &numbers)).collect();
        loads.iter().for_each(|load| load.wait_for(100 + 13 * round));
        let leader = group.leader();
        group.nodes.remove(&leader).expect("it runs").kill();
        // Those who asked the others notice nothing but a pause.
        let others: Vec<&Load> =
            loads.iter().zip(1..).filter(|(_, name)| *name != leader).map(|(load, _)| load).collect();
        for load in others {
            load.wait_for(load.count() + 100);
        }
        acked.extend(loads.into_iter().flat_map(Load::end));
        group.start(leader);
    }
    // The same submission at every node gets the same answer.
    let again = submission(3);
    let answers: Vec<String> = group.nodes.values().map(|node| node.submit(&again.body).text()).collect();
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:#?}");
    group.insist_sound(&acked);
}

/// What an answer's receipt proves: the number of its entry, and the size and root that are signed.
fn receipt_in(answer: &Response, vkey: &str) -> (u64, u64, Digest) {
    assert_eq!(answer.header("preference-applied"), Some("receipt"), "{}", answer.text());
    let json = answer.json();
    let receipt =
        Receipt::parse(json["tlog_proof"].as_str().expect("a proof").as_bytes()).expect("a receipt");
    let extra: serde_json::Value =
        serde_json::from_slice(receipt.extra.as_deref().expect("what opens it")).expect("JSON");
    let verifier = Verifier::parse(vkey.lines().next().expect("a line")).expect("a key");
    let signed = receipt.verify(extra["leaf"].as_str().expect("a leaf").as_bytes(), &verifier);
    let checkpoint = signed.expect("it holds").checkpoint;
    assert_eq!(Some(receipt.index), json["seq"].as_u64());
    (receipt.index, checkpoint.size, checkpoint.root)
}

#[test]
fn receipts_in_answers_come_through_any_node_and_never_contradict_each_other() {
    let mut group = Group::of(3);
    let vkey = group.nodes[&2].get("/tlog/default/vkey").text();
    let ask = |node: &Node, number| {
        let body = submission(number).body;
        node.connect().send("POST", "/v1/pcs/submit", &[("Prefer", "receipt")], &body).expect("an answer")
    };
    let mut roots: BTreeMap<u64, Digest> = BTreeMap::new();
    let mut note = |(_, size, root): (u64, u64, Digest)| {
        assert_eq!(*roots.entry(size).or_insert(root), root, "two roots over {size} entries");
    };
    for number in 0..30 {
        note(receipt_in(&ask(&group.nodes[&(number % 3 + 1)], number), &vkey));
    }
    // The next leader signs with the same key, and nothing else over the same sizes.
    let leader = group.leader();
    group.nodes.remove(&leader).expect("it runs").kill();
    for (number, node) in (20..50).zip(group.nodes.values().cycle()) {
        let answer = ask(node, number);
        assert_eq!(answer.header("idempotent-replayed").is_some(), number < 30, "{number}");
        note(receipt_in(&answer, &vkey));
    }
    group.start(leader);
    group.insist_sound(&[]);
}

#[test]
fn nodes_are_restarted_one_by_one_under_load() {
    let mut group = Group::of(3);
    let numbers = Arc::new(AtomicU64::new(0));
    let mut acked = Vec::new();
    for name in [2, 3, 1] {
        let loads: Vec<Load> = group
            .nodes
            .iter()
            .filter(|(other, _)| **other != name)
            .map(|(_, node)| Load::start(node.address, 4, &numbers))
            .collect();
        loads.iter().for_each(|load| load.wait_for(50));
        group.nodes.remove(&name).expect("it runs").stop();
        loads.iter().for_each(|load| load.wait_for(load.count() + 50));
        group.start(name);
        loads.iter().for_each(|load| load.wait_for(load.count() + 50));
        acked.extend(loads.into_iter().flat_map(Load::end));
    }
    group.insist_sound(&acked);
}

#[test]
fn a_whole_group_is_stopped_and_comes_back() {
    let mut group = Group::of(3);
    let load = Load::start(group.nodes[&1].address, 4, &Arc::new(AtomicU64::new(0)));
    load.wait_for(100);
    let acked = load.end();
    // The leader last: nobody is left to agree with what it would like to write at its end.
    let leader = group.leader();
    let last = group.nodes.remove(&leader).expect("it runs");
    std::mem::take(&mut group.nodes).into_values().for_each(Node::stop);
    last.stop();
    let started: Vec<(u64, Process)> = (1..=3).map(|node| (node, group.command(node).spawn())).collect();
    for (node, process) in started {
        group.wait(node, process);
    }
    group.insist_sound(&acked);
}

#[test]
fn a_learner_is_taken_in_promoted_and_removed() {
    let mut group = Group::new(3);
    let load = Load::start(group.nodes[&1].address, 4, &Arc::new(AtomicU64::new(0)));
    load.wait_for(300);
    group.copy_keys(2);
    let process = group.command(2).spawn();
    let address = group.ports[&2].1.to_string();
    let said = group.cluster(&["add", "2", &address]);
    assert_eq!(said.code, Some(0), "{}\n{}", said.all(), process.log());
    group.wait(2, process);
    let members = group.json(&["members"]);
    assert_eq!(members["data"]["members"][1]["role"], "learner", "{members}");
    let end = Instant::now() + PATIENCE;
    while group.cluster(&["promote", "2"]).code != Some(0) {
        assert!(Instant::now() < end, "it never catches up");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(group.json(&["members"])["data"]["members"][1]["role"], "voter");
    assert_eq!(group.cluster(&["status"]).code, Some(0));
    // A node that nobody told the token changes nothing.
    let refused =
        group.nodes[&2].connect().send("POST", "/v1/cluster/change", &[], b"{}").expect("an answer");
    assert_eq!(refused.status, 401);

    let said = group.cluster(&["transfer", "2"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert_eq!(group.leader(), 2);
    let acked = load.end();
    assert_eq!(group.cluster(&["remove", "1"]).code, Some(0));
    // Node 2 is alone now, and all there is to it.
    group.nodes.remove(&1).expect("it runs").stop();
    insist_all_present(&group.nodes[&2], &acked);
    assert_eq!(group.nodes[&2].submit(&submission(1_000_000).body).status, 200);
    group.nodes.remove(&2).expect("it runs").stop();
    tools::insist_sound(&group.data(2));
}

#[test]
fn a_drained_node_leads_no_more_until_it_is_started_again() {
    let mut group = Group::of(3);
    // The first node is the one that `cluster` asks.
    until("it leads", || group.leader() == 1 || group.cluster(&["transfer", "1"]).code == Some(0));
    let load = Load::start(group.nodes[&1].address, 4, &Arc::new(AtomicU64::new(0)));
    load.wait_for(50);
    let said = group.cluster(&["drain"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert_ne!(group.leader(), 1);
    load.wait_for(load.count() + 50);
    let said = group.cluster(&["transfer", "1"]);
    assert_ne!(said.code, Some(0), "it stood back: {}", said.all());
    assert_ne!(group.leader(), 1);
    let acked = load.end();
    group.nodes.remove(&1).expect("it runs").stop();
    group.start(1);
    // On a busy machine another one may be elected before it: then an operator asks again.
    until("it leads again", || group.cluster(&["transfer", "1"]).code == Some(0) && group.leader() == 1);
    group.insist_sound(&acked);
}

#[test]
fn strangers_are_refused_and_told_why() {
    let group = Group::new(3);
    // Without the group's keys it could judge nothing.
    let (_, log) = group.command(2).refused();
    assert!(log.contains("copy them from a member"), "{log}");
    // With others' keys it would judge differently.
    let other = group.data(3).join("keys");
    std::fs::create_dir_all(&other).expect("a directory");
    for name in ["kek", "log.key"] {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(other.join(name), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").expect("a key");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(other.join(name), mode).expect("a mode");
    }
    let process = group.command(3).spawn();
    until("node 3 is told", || process.log().contains("copy the file from a member of the group"));
    drop(process);
    // A node's certificate is good for that node alone.
    group.copy_keys(2);
    let certs = group.directory.path().join("certs");
    let (_, log) = group
        .command(2)
        .with("FLK_CLUSTER_CERT_FILE", text(&certs.join("node-3.pem")))
        .with("FLK_CLUSTER_KEY_FILE", text(&certs.join("node-3.key")))
        .refused();
    assert!(log.contains("it is not for node-2.flk"), "{log}");
    // Nobody comes in without one.
    let mut plain = Connection::open(group.ports[&1].1).expect("a connection");
    assert!(plain.get("/readyz").is_err());
    let page = group.nodes[&1].get("/metrics").text();
    let count = |reason: &str| {
        let name = format!("flk_peers_refused_total{{reason=\"{reason}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).unwrap_or(0)
    };
    assert!(count("keys") > 0 && count("tls") > 0, "{page}");
}

#[test]
fn a_wiped_node_does_not_come_back_under_its_name() {
    let mut group = Group::of(3);
    group.nodes.remove(&3).expect("it runs").kill();
    std::fs::remove_dir_all(group.data(3)).expect("removed");
    group.copy_keys(3);
    let process = group.command(3).spawn();
    until("node 3 is told", || process.log().contains("join under a name never used"));
    assert_eq!(group.cluster(&["remove", "3"]).code, Some(0));
    assert_eq!(group.nodes[&2].submit(&submission(1).body).status, 200);
}
