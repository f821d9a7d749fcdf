//! What is left when a run is over: entries, states, replays and logs of every node.

use crate::cluster::{Cluster, PATIENCE, TOKEN, text};
use crate::http::Client;
use std::time::{Duration, Instant};

/// Entries of one bundle (C2SP tlog-tiles).
const BUNDLE: u64 = 256;

/// What one node left.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Number of its host.
    pub host: u64,
    /// The entries of its audit log, as it serves them.
    pub entries: Vec<Vec<u8>>,
    /// How far it has applied, and the digest of all that it derives.
    pub ledger: String,
    /// What each replay of its log from nothing said.
    pub replays: Vec<String>,
    /// How `worm verify` of its stopped directory ended.
    pub verify: Option<i32>,
    /// What it said.
    pub said: String,
    /// Its metrics page.
    pub metrics: String,
    /// Everything that it logged.
    pub log: String,
}

/// Looks at all nodes, first while they run and then after they have been stopped.
pub fn collect(cluster: &Cluster) -> Vec<Node> {
    let mut nodes = running(cluster);
    for host in &cluster.hosts {
        host.stop(Duration::from_secs(20));
    }
    for node in &mut nodes {
        node.replays.extend(replay(cluster, node.host as usize, false));
    }
    ended(cluster, &mut nodes);
    nodes
}

/// Looks at all nodes while they run.
pub fn running(cluster: &Cluster) -> Vec<Node> {
    let ledgers = agreed(cluster);
    let mut nodes: Vec<Node> = Vec::new();
    for (host, ledger) in cluster.hosts.iter().zip(ledgers) {
        let mut client = host.client(Duration::from_secs(10));
        let entries = entries(&mut client, cluster.region_name()).unwrap_or_default();
        let metrics = client.get("/metrics").map(|page| page.text()).unwrap_or_default();
        let replay = replay(cluster, host.number, true);
        let replays = replay.into_iter().collect();
        nodes.push(Node { host: host.number as u64, entries, ledger, replays, metrics, ..Node::default() });
    }
    nodes
}

/// Looks at what nodes that run no more have left.
pub fn ended(cluster: &Cluster, nodes: &mut [Node]) {
    for node in nodes {
        let host = cluster.host(node.host as usize);
        if let Ok(said) = cluster.worm(&["verify", text(&host.data()), "--vkey", text(&cluster.vkey())]) {
            node.verify = said.code;
            node.said = said.brief();
        }
        node.log = std::fs::read_to_string(cluster.log(host.number)).unwrap_or_default();
    }
}

/// Waits until all nodes say the same of what they have applied; gives what they say.
fn agreed(cluster: &Cluster) -> Vec<String> {
    let line = |host: &crate::cluster::Host| {
        let page = host.client(Duration::from_secs(2)).get("/readyz?verbose").map(|page| page.text());
        let page = page.unwrap_or_default();
        page.lines()
            .find_map(|line| line.split_once("ledger: "))
            .map(|(_, said)| said.to_owned())
            .unwrap_or_default()
    };
    let end = Instant::now() + PATIENCE;
    loop {
        let lines: Vec<String> = cluster.hosts.iter().map(line).collect();
        let equal = lines.iter().all(|other| *other == lines[0] && !other.is_empty());
        if equal || Instant::now() >= end {
            return lines;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn replay(cluster: &Cluster, host: usize, live: bool) -> Option<String> {
    let (data, kek) = (cluster.host(host).data(), cluster.out().join("keys/kek"));
    let url = format!("http://{}", crate::cluster::http(host));
    let mut arguments = vec!["replay", text(&data), "--kek", text(&kek)];
    if live {
        arguments.extend(["--live", &url]);
    }
    cluster.flk(&arguments).ok().map(|said| said.first(2000))
}

/// All entries that the newest checkpoint of a node covers.
fn entries(client: &mut Client, region: &str) -> Option<Vec<Vec<u8>>> {
    let checkpoint = client.get(&format!("/tlog/{region}/checkpoint")).ok()?.text();
    let size: u64 = checkpoint.lines().nth(1)?.parse().ok()?;
    let token = format!("Bearer {TOKEN}");
    let mut entries = Vec::new();
    while (entries.len() as u64) < size {
        let (number, left) = (entries.len() as u64 / BUNDLE, size - entries.len() as u64);
        let part = if left < BUNDLE { format!(".p/{left}") } else { String::new() };
        let path = format!("/tlog/{region}/tile/entries/{}{part}", place(number));
        let answer = client.send("GET", &path, &[("Authorization", &token)], b"").ok()?;
        if answer.status != 200 {
            return None;
        }
        let before = entries.len();
        let mut rest = &answer.body[..];
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            entries.push(entry.to_vec());
            rest = after;
        }
        if entries.len() == before {
            return None;
        }
    }
    Some(entries)
}

/// A number in groups of three digits, all but the last after an x: `x001/x234/067`.
fn place(number: u64) -> String {
    let last = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    let mut out = last;
    while rest > 0 {
        out = format!("x{:03}/{out}", rest % 1000);
        rest /= 1000;
    }
    out
}

#[test]
fn places_are_written_as_c2sp_says() {
    assert_eq!(place(0), "000");
    assert_eq!(place(67), "067");
    assert_eq!(place(1_234_067), "x001/x234/067");
}
