//! Three `flkd` on this machine that form one group, with certificates and keys as an operator hands them out.

use crate::context::Context;
use crate::flkd::Flkd;
use crate::ingest::Target;
use crate::process::{free_port, tied};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for an election.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running group.
pub struct Trio<'a> {
    context: &'a Context,
    dir: PathBuf,
    /// Where each node serves clients, and where the other nodes.
    addrs: BTreeMap<u64, (SocketAddr, SocketAddr)>,
    nodes: BTreeMap<u64, Flkd>,
    /// Serves clients of the group; found anew by [`Trio::find_leader`].
    leader: u64,
}

impl<'a> Trio<'a> {
    /// Starts three nodes below `dir`, which is empty, and waits until all of them are ready.
    pub fn start(context: &'a Context, dir: &Path) -> io::Result<Trio<'a>> {
        let mut addrs = BTreeMap::new();
        for node in 1..=3 {
            let addr = || Ok::<_, io::Error>(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)));
            addrs.insert(node, (addr()?, addr()?));
        }
        let mut trio = Trio { context, dir: dir.to_owned(), addrs, nodes: BTreeMap::new(), leader: 1 };
        std::fs::write(dir.join("token"), "operator\n")?;
        trio.flk(&["certs", &dir.join("certs").to_string_lossy(), "--nodes", "1,2,3"], false)?;
        trio.launch(1)?;
        trio.nodes[&1].wait_ready()?;
        for node in 2..=3 {
            let (from, to) = (trio.data(1).join("keys"), trio.data(node).join("keys"));
            std::fs::create_dir_all(&to)?;
            for key in ["kek", "log.key"] {
                std::fs::copy(from.join(key), to.join(key))?;
            }
            trio.launch(node)?;
            let address = trio.addrs[&node].1.to_string();
            // A node that was started a moment ago may not listen yet: an operator asks again.
            let mut tries = 0;
            while let Err(error) = trio.flk(&["add", &node.to_string(), &address, "--voter"], true) {
                tries += 1;
                if tries == 50 {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            trio.nodes[&node].wait_ready()?;
        }
        trio.find_leader()?;
        Ok(trio)
    }

    fn data(&self, node: u64) -> PathBuf {
        self.dir.join(format!("node-{node}"))
    }

    fn launch(&mut self, node: u64) -> io::Result<()> {
        let (http, peer) = self.addrs[&node];
        let (dir, certs) = (self.data(node), self.dir.join("certs"));
        let mut command = Flkd::command(self.context, &dir, http);
        command
            .env("FLK_NODE_ID", node.to_string())
            .env("FLK_CLUSTER_LISTEN", peer.to_string())
            .env("FLK_CLUSTER_CA_FILE", certs.join("ca.pem"))
            .env("FLK_CLUSTER_CERT_FILE", certs.join(format!("node-{node}.pem")))
            .env("FLK_CLUSTER_KEY_FILE", certs.join(format!("node-{node}.key")))
            .env("FLK_ADMIN_TOKEN", "operator");
        if node != 1 {
            command.env("FLK_CLUSTER_JOIN", format!("1={}", self.addrs[&1].1));
        }
        self.nodes.insert(node, Flkd::launch(self.context, &mut command, &dir, http)?);
        Ok(())
    }

    /// `flk cluster`, asked of a node that runs where it asks one; its JSON.
    fn flk(&self, arguments: &[&str], asks: bool) -> io::Result<serde_json::Value> {
        let mut command = Command::new(self.context.binaries.join("flk"));
        command.arg("cluster").args(arguments).arg("--json").stdin(Stdio::null());
        if asks {
            let node = self.nodes.values().next().ok_or_else(|| io::Error::other("no node runs"))?;
            command.arg("--url").arg(format!("http://{}", node.addr()));
            command.arg("--token-file").arg(self.dir.join("token"));
        }
        let out = tied(&mut command).output()?;
        if !out.status.success() {
            let said = [out.stdout, out.stderr].concat();
            return Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&said).trim())));
        }
        serde_json::from_slice(&out.stdout).map_err(io::Error::other)
    }

    /// Asks until one of the running nodes leads.
    pub fn find_leader(&mut self) -> io::Result<u64> {
        let end = Instant::now() + PATIENCE;
        loop {
            let members = self.flk(&["members"], true)?;
            if let Some(leader) = members["data"]["leader"].as_u64()
                && self.nodes.contains_key(&leader)
            {
                self.leader = leader;
                return Ok(leader);
            }
            if Instant::now() > end {
                return Err(io::Error::other("no node leads"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL for one node; it keeps its directory.
    pub fn kill(&mut self, node: u64) -> io::Result<()> {
        self.nodes.remove(&node).map_or(Ok(()), Flkd::kill)
    }

    /// Starts a node that was killed and waits until it is ready.
    pub fn revive(&mut self, node: u64) -> io::Result<()> {
        self.launch(node)?;
        self.nodes[&node].wait_ready()
    }

    /// Where clients may go, every node.
    pub fn clients(&self) -> Vec<SocketAddr> {
        self.addrs.values().map(|(http, _)| *http).collect()
    }

    /// Bytes that all nodes have caused to be written.
    pub fn written(&self) -> io::Result<u64> {
        self.nodes.values().map(|node| Ok(node.usage()?.written)).sum()
    }

    /// SIGTERM for all, those that follow first.
    pub fn stop(mut self) -> io::Result<()> {
        let leader = self.nodes.remove(&self.leader);
        let followers = std::mem::take(&mut self.nodes);
        followers.into_values().chain(leader).try_for_each(Flkd::stop)
    }
}

impl Target for Trio<'_> {
    fn addr(&self) -> SocketAddr {
        self.addrs[&self.leader].0
    }
    fn cpu(&self) -> io::Result<f64> {
        self.nodes.values().map(|node| Ok(node.usage()?.cpu)).sum()
    }
    fn expect(&self) -> &'static str {
        "\"accepted\":true"
    }
}
