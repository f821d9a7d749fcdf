//! A group of real nodes on this machine: started with one command each, asked with `flk cluster`.

use crate::http::Connection;
use crate::load::{Acked, insist_all_present};
use crate::node::{Node, Process, Start};
use crate::ports;
use crate::tools::{self, Said};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for anything a group does by itself.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Directories, ports and running nodes of one group, by name.
pub struct Group {
    pub directory: tempfile::TempDir,
    pub ports: BTreeMap<u64, (SocketAddr, SocketAddr)>,
    pub nodes: BTreeMap<u64, Node>,
    /// Data directories that stand elsewhere.
    homes: BTreeMap<u64, PathBuf>,
    /// Settings of all nodes beside what every group has.
    settings: Vec<(String, String)>,
    /// How a node is started, where it is not simply a process.
    wrap: Option<Wrap>,
}

/// Makes of a node's name and command another command.
type Wrap = Box<dyn Fn(u64, Start) -> Start>;

impl Group {
    /// Names 1 to `count` get certificates and ports; node 1 founds the group.
    pub fn new(count: u64) -> Group {
        Group::founded(count, BTreeMap::new(), &[], None)
    }

    fn founded(
        count: u64,
        homes: BTreeMap<u64, PathBuf>,
        settings: &[(&str, String)],
        wrap: Option<Wrap>,
    ) -> Group {
        let directory = tempfile::tempdir().expect("a directory");
        let names: Vec<String> = (1..=count).map(|node| node.to_string()).collect();
        let certs = directory.path().join("certs");
        let said = tools::flk(&["cluster", "certs", text(&certs), "--nodes", &names.join(",")]);
        assert_eq!(said.code, Some(0), "{}", said.all());
        std::fs::write(directory.path().join("token"), "operator\n").expect("a file");
        let ports = (1..=count).map(|node| (node, (ports::free(), ports::free()))).collect();
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let mut group = Group { directory, ports, nodes: BTreeMap::new(), homes, settings, wrap };
        group.start(1);
        group
    }

    /// The same with settings for all nodes.
    pub fn first_of(count: u64, settings: &[(&str, &str)]) -> Group {
        let owned: Vec<(&str, String)> =
            settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Group::founded(count, BTreeMap::new(), &owned, None)
    }

    /// Makes a node that was started a voter.
    pub fn take_in(&mut self, node: u64, process: Process) {
        let said = self.cluster(&["add", &node.to_string(), &self.ports[&node].1.to_string(), "--voter"]);
        assert_eq!(said.code, Some(0), "{}\n{}", said.all(), process.log());
        self.wait(node, process);
    }

    /// The same with all of them in the group, as voters.
    pub fn of(count: u64) -> Group {
        Group::at(count, BTreeMap::new())
    }

    /// The same with some of their data directories elsewhere.
    pub fn at(count: u64, homes: BTreeMap<u64, PathBuf>) -> Group {
        Group::with(count, homes, &[])
    }

    /// The same with settings of their own.
    pub fn with(count: u64, homes: BTreeMap<u64, PathBuf>, settings: &[(&str, String)]) -> Group {
        Group::founded(count, homes, settings, None).complete(count)
    }

    /// Nodes that are started in another way.
    pub fn wrapped(count: u64, wrap: impl Fn(u64, Start) -> Start + 'static) -> Group {
        Group::founded(count, BTreeMap::new(), &[], Some(Box::new(wrap))).complete(count)
    }

    /// All of them become voters.
    fn complete(self, count: u64) -> Group {
        let mut group = self;
        for node in 2..=count {
            group.copy_keys(node);
            let process = group.command(node).spawn();
            let add = ["add", &node.to_string(), &group.ports[&node].1.to_string(), "--voter"];
            // On a busy machine a node that was started a moment ago may not answer yet: an operator asks again.
            until("it is taken in", || group.cluster(&add).code == Some(0));
            group.wait(node, process);
        }
        group
    }

    pub fn data(&self, node: u64) -> PathBuf {
        self.homes.get(&node).cloned().unwrap_or_else(|| self.directory.path().join(format!("node-{node}")))
    }

    /// What an operator does before a node joins: the group's keys.
    pub fn copy_keys(&self, node: u64) {
        let (from, to) = (self.data(1).join("keys"), self.data(node).join("keys"));
        std::fs::create_dir_all(&to).expect("a directory");
        // The last one is there where there are other regions.
        for name in ["kek", "log.key", "mirror.key"].into_iter().filter(|name| from.join(name).exists()) {
            std::fs::copy(from.join(name), to.join(name)).expect("a key");
        }
    }

    pub fn command(&self, node: u64) -> Start {
        let (http, peer) = self.ports[&node];
        self.command_at(node, http, peer)
    }

    /// How a node is started that listens there.
    pub fn command_at(&self, node: u64, http: SocketAddr, peer: SocketAddr) -> Start {
        let certs = self.directory.path().join("certs");
        let start = Start::on(&self.data(node))
            .with("FLK_NODE_ID", &node.to_string())
            .with("FLK_HTTP_PORT", &http.port().to_string())
            .with("FLK_CLUSTER_LISTEN", &peer.to_string())
            .with("FLK_CLUSTER_CA_FILE", text(&certs.join("ca.pem")))
            .with("FLK_CLUSTER_CERT_FILE", text(&certs.join(format!("node-{node}.pem"))))
            .with("FLK_CLUSTER_KEY_FILE", text(&certs.join(format!("node-{node}.key"))))
            .with("FLK_ADMIN_TOKEN", "operator");
        let start = self.settings.iter().fold(start, |start, (name, value)| start.with(name, value));
        let start = match node {
            1 => start,
            _ => start.with("FLK_CLUSTER_JOIN", &format!("1={}", self.ports[&1].1)),
        };
        self.wrap.as_ref().map_or_else(|| start.clone(), |wrap| wrap(node, start.clone()))
    }

    pub fn start(&mut self, node: u64) {
        let process = self.command(node).spawn();
        self.wait(node, process);
    }

    /// Starts a node that is not expected to take submissions, and waits until it answers.
    pub fn start_alive(&self, node: u64) -> Node {
        let (process, address) = (self.command(node).spawn(), self.ports[&node].0);
        until("it answers", || {
            Connection::open(address)
                .and_then(|mut c| c.get("/metrics"))
                .is_ok_and(|answer| answer.status == 200)
        });
        Node { process, address }
    }

    /// Waits until a process takes submissions.
    pub fn wait(&mut self, node: u64, mut process: Process) {
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
    pub fn cluster(&self, arguments: &[&str]) -> Said {
        let url = format!("http://{}", self.nodes.values().next().expect("a node runs").address);
        let token = self.directory.path().join("token");
        let options = ["--url", &url, "--token-file", text(&token), "--json"];
        tools::flk(&[&["cluster"], arguments, &options].concat())
    }

    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let said = self.cluster(arguments);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.all()))
    }

    pub fn leader(&self) -> u64 {
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
    pub fn insist_equal(&self) {
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
    pub fn insist_sound(mut self, acked: &[Acked]) {
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

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

/// The line of `/readyz?verbose` that says where the ledger is.
pub fn ledger_line(node: &Node) -> String {
    let page = node.get("/readyz?verbose").text();
    page.lines().find(|line| line.contains("ledger:")).unwrap_or_default().to_owned()
}

/// Waits until it holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A number of a page of metrics.
pub fn number(page: &str, name: &str) -> u64 {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{page}"))
}
