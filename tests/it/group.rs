//! Three real nodes: any of them takes submissions, any of them may go, and none of them differs.

use crate::http::Connection;
use crate::load::{Acked, Load, insist_all_present};
use crate::node::{Node, Process, Start};
use crate::pcs::submission;
use crate::ports;
use crate::tools::{self, Said};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// Longest wait for anything a group does by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Directories, ports and running nodes of one group, by name.
struct Group {
    directory: tempfile::TempDir,
    ports: BTreeMap<u64, (SocketAddr, SocketAddr)>,
    nodes: BTreeMap<u64, Node>,
}

impl Group {
    /// Names 1 to `count` get certificates and ports; node 1 founds the group.
    fn new(count: u64) -> Group {
        let directory = tempfile::tempdir().expect("a directory");
        let names: Vec<String> = (1..=count).map(|node| node.to_string()).collect();
        let certs = directory.path().join("certs");
        let said = tools::flk(&["cluster", "certs", text(&certs), "--nodes", &names.join(",")]);
        assert_eq!(said.code, Some(0), "{}", said.all());
        std::fs::write(directory.path().join("token"), "operator\n").expect("a file");
        let ports = (1..=count).map(|node| (node, (ports::free(), ports::free()))).collect();
        let mut group = Group { directory, ports, nodes: BTreeMap::new() };
        group.start(1);
        group
    }

    /// The same with all of them in the group, as voters.
    fn of(count: u64) -> Group {
        let mut group = Group::new(count);
        for node in 2..=count {
            group.copy_keys(node);
            let process = group.command(node).spawn();
            let said =
                group.cluster(&["add", &node.to_string(), &group.ports[&node].1.to_string(), "--voter"]);
            assert_eq!(said.code, Some(0), "{}\n{}", said.all(), process.log());
            group.wait(node, process);
        }
        group
    }

    fn data(&self, node: u64) -> PathBuf {
        self.directory.path().join(format!("node-{node}"))
    }

    /// What an operator does before a node joins: the group's keys.
    fn copy_keys(&self, node: u64) {
        let (from, to) = (self.data(1).join("keys"), self.data(node).join("keys"));
        std::fs::create_dir_all(&to).expect("a directory");
        for name in ["kek", "log.key"] {
            std::fs::copy(from.join(name), to.join(name)).expect("a key");
        }
    }

    fn command(&self, node: u64) -> Start {
        let certs = self.directory.path().join("certs");
        let (http, peer) = self.ports[&node];
        let start = Start::on(&self.data(node))
            .with("FLK_NODE_ID", &node.to_string())
            .with("FLK_HTTP_PORT", &http.port().to_string())
            .with("FLK_CLUSTER_LISTEN", &peer.to_string())
            .with("FLK_CLUSTER_CA_FILE", text(&certs.join("ca.pem")))
            .with("FLK_CLUSTER_CERT_FILE", text(&certs.join(format!("node-{node}.pem"))))
            .with("FLK_CLUSTER_KEY_FILE", text(&certs.join(format!("node-{node}.key"))))
            .with("FLK_ADMIN_TOKEN", "operator");
        if node == 1 { start } else { start.with("FLK_CLUSTER_JOIN", &format!("1={}", self.ports[&1].1)) }
    }

    fn start(&mut self, node: u64) {
        let process = self.command(node).spawn();
        self.wait(node, process);
    }

    /// Waits until a process takes submissions.
    fn wait(&mut self, node: u64, mut process: Process) {
        let address = self.ports[&node].0;
        let end = Instant::now() + PATIENCE;
        loop {
            if Connection::open(address)
                .and_then(|mut connection| connection.get("/readyz"))
                .is_ok_and(|answer| answer.status == 200)
            {
                self.nodes.insert(node, Node { process, address });
                return;
            }
            assert!(Instant::now() < end && process.runs(), "node {node} is not ready:\n{}", process.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `flk cluster`, asked of the first node that runs.
    fn cluster(&self, arguments: &[&str]) -> Said {
        let url = format!("http://{}", self.nodes.values().next().expect("a node runs").address);
        let token = self.directory.path().join("token");
        let options = ["--url", &url, "--token-file", text(&token), "--json"];
        tools::flk(&[&["cluster"], arguments, &options].concat())
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let said = self.cluster(arguments);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.all()))
    }

    fn leader(&self) -> u64 {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(leader) = self.json(&["members"])["data"]["leader"].as_u64()
                && self.nodes.contains_key(&leader)
            {
                return leader;
            }
            assert!(Instant::now() < end, "nobody leads");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// All nodes stand at the same record with the same digest.
    fn insist_equal(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let lines: Vec<String> = self.nodes.values().map(ledger_line).collect();
            if lines.windows(2).all(|pair| pair[0] == pair[1]) {
                return;
            }
            assert!(Instant::now() < end, "the nodes differ: {lines:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Everything that was promised is on every node, and every node's log gives the state that it shows.
    fn insist_sound(mut self, acked: &[Acked]) {
        for node in self.nodes.values() {
            insist_all_present(node, acked);
        }
        self.insist_equal();
        for (name, node) in &self.nodes {
            let url = format!("http://{}", node.address);
            let kek = self.data(*name).join("keys").join("kek");
            let said = tools::flk(&["replay", text(&self.data(*name)), "--live", &url, "--kek", text(&kek)]);
            assert_eq!(said.code, Some(0), "{}", said.all());
            assert!(said.out.contains("same digest"), "{}", said.all());
        }
        // Cut off in the middle: a log's tail may hold what was not agreed.
        for (_, node) in std::mem::take(&mut self.nodes) {
            node.kill();
        }
        for name in self.ports.keys().filter(|name| self.data(**name).join("log").exists()) {
            tools::insist_sound(&self.data(*name));
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

fn ledger_line(node: &Node) -> String {
    let page = node.get("/readyz?verbose").text();
    page.lines().find(|line| line.contains("ledger:")).unwrap_or_default().to_owned()
}

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

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}
