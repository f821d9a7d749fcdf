//! Regions that ask each other's nodes, with nothing between them.

use crate::load::{Load, insist_all_present};
use crate::lost::{Grown, submit};
use crate::node::{Node, Start};
use crate::pcs::submission;
use crate::regions::{TOKEN, World, accepted, converged, metric, regions, sound, wait};
use crate::trio::Group;
use crate::{ports, tools};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Certificates for these regions, from one authority.
fn certificates(at: &Path, regions: &str) -> PathBuf {
    let directory = at.join("certs");
    let said = tools::flk(&["cluster", "certs", text(&directory), "--regions", regions]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    directory
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

/// What a node of this region is started with.
fn settings(certificates: &Path, region: &str, listen: SocketAddr) -> Vec<(&'static str, String)> {
    let file = |name: &str| text(&certificates.join(name)).to_owned();
    vec![
        ("FLK_REGION", region.to_owned()),
        ("FLK_REGIONS_PLACE", "direct".to_owned()),
        ("FLK_REGIONS_LISTEN", listen.to_string()),
        ("FLK_REGIONS_CA_FILE", file("ca.pem")),
        ("FLK_REGIONS_CERT_FILE", file(&format!("region-{region}.pem"))),
        ("FLK_REGIONS_KEY_FILE", file(&format!("region-{region}.key"))),
    ]
}

fn with(start: Start, settings: &[(&str, String)]) -> Start {
    settings.iter().fold(start, |start, (name, value)| start.with(name, value))
}

fn world() -> (World, PathBuf, [SocketAddr; 2]) {
    let directory = tempfile::tempdir().expect("a directory");
    let certificates = certificates(directory.path(), "a,b,c");
    let at = [ports::free(), ports::free()];
    let of = |region: &str, at: SocketAddr| settings(&certificates, region, at);
    let (a, b) = (of("a", at[0]), of("b", at[1]));
    let [more_a, more_b] =
        [&a, &b].map(|more| more.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>());
    // The first node of each list is one that nobody runs.
    let found = at.map(|at| format!("https://127.0.0.1:1 https://{at}"));
    let world = World::between(directory, "direct", [&found[1], &found[0]], [&more_a, &more_b]);
    (world, certificates, at)
}

#[test]
fn regions_that_ask_each_other_end_with_one_truth() {
    let (world, certificates, at) = world();
    let numbers = Arc::new(AtomicU64::new(1000));
    let nodes = world.ready();
    let first = accepted(&nodes[0].submit(&submission(1).body)).to_vec();
    converged(&nodes);
    assert_eq!(accepted(&nodes[1].submit(&submission(1).body)), first);
    // One dies in the middle, and goes on.
    let mut acked = Vec::new();
    let [a, mut b] = nodes;
    for _ in 0..2 {
        let loads = [&a, &b].map(|node| Load::start(node.address, 2, &numbers));
        loads.iter().for_each(|load| load.wait_for(80));
        b.kill();
        acked.extend(loads.map(Load::end));
        b = world.starts[1].ready();
    }
    let nodes = [a, b];
    converged(&nodes);
    for node in &nodes {
        acked.iter().for_each(|acked| insist_all_present(node, acked));
        wait("the other one has asked for all", || {
            (metric(node, "wal_crr_lag_seconds") == 0.0).then_some(())
        });
    }
    let ready = String::from_utf8_lossy(&nodes[0].get("/readyz?verbose").body).into_owned();
    assert!(ready.contains("regions: valid until "), "{ready}");
    // Who is not known gets nothing: no certificate at all, and one that is good, of a region that nobody here has named.
    let mut plain = std::net::TcpStream::connect(at[0]).expect("a connection");
    let asked = plain.write_all(b"GET /standing HTTP/1.1\r\nHost: it\r\n\r\n");
    let mut told = Vec::new();
    let read = plain.read_to_end(&mut told);
    assert!(!String::from_utf8_lossy(&told).contains("flk standing"), "{asked:?} {read:?}");
    let vkeys = world.data("a").join("keys/region.vkey");
    let stranger = Start::on(&world.directory.path().join("c")).with("FLK_ADMIN_TOKEN", TOKEN);
    let stranger = with(stranger, &settings(&certificates, "c", ports::free()))
        .with("FLK_REGIONS_PEERS", &format!("a https://{} {}", at[0], text(&vkeys)))
        .ready();
    wait("the stranger is refused", || regions(&stranger)["peers"][0]["waits"].is_string().then_some(()));
    assert_eq!(regions(&stranger)["peers"][0]["records"], 0);
    stranger.stop();
    let merged = converged(&nodes);
    nodes.into_iter().for_each(Node::stop);
    sound(&world, &merged);
}

#[test]
fn a_lost_region_that_shipped_to_no_place_is_restored_from_a_survivor() {
    let (world, _, _) = world();
    let Grown { nodes, ours, theirs, known } = Grown::of(&world);
    let [a, b] = nodes;
    a.kill();
    let (data, kept) = (world.data("a"), world.directory.path().join("kept"));
    std::fs::create_dir(&kept).expect("a directory");
    for name in ["kek", "log.key", "mirror.key", "region.vkey"] {
        std::fs::copy(data.join("keys").join(name), kept.join(name)).expect("a key");
    }
    std::fs::remove_dir_all(&data).expect("removed");
    let restore = |survivor: &Path, more: &[&str]| {
        let vkey = kept.join("region.vkey");
        let words =
            ["region", "restore", "--survivor", text(survivor), "--region", "a", "--keys", text(&vkey)];
        let to = ["--to", text(&data), "--segment-bytes", "2097152", "--json"];
        tools::flk(&[&words[..], &to, more].concat())
    };
    // From nobody that had it, and under another log's key, nothing comes.
    let empty = world.directory.path().join("empty");
    let other = Start::on(&empty).with("FLK_REGION", "e");
    other.ready().stop();
    let said = restore(&empty, &[]);
    assert!(said.code == Some(3) && said.all().contains("has taken in nothing of a"), "{}", said.all());
    let vkeys = std::fs::read(kept.join("region.vkey")).expect("keys");
    let theirs_key = std::fs::read_to_string(world.data("b").join("keys/region.vkey")).expect("keys");
    std::fs::write(kept.join("region.vkey"), theirs_key.replace("/pcs/b", "/pcs/a")).expect("written");
    let said = restore(&world.data("b"), &[]);
    assert!(matches!(said.code, Some(1 | 2)), "{}", said.all());
    std::fs::write(kept.join("region.vkey"), vkeys).expect("written");
    assert!(!data.join("log").exists() && !data.join("identity").exists());

    // The survivor is at work meanwhile.
    let said = restore(&world.data("b"), &["--known", text(&known)]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let told: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(told["data"]["proven_lost"], 0, "{}", said.all());
    std::fs::create_dir(data.join("keys")).expect("a directory");
    for name in ["kek", "log.key", "mirror.key"] {
        std::fs::copy(kept.join(name), data.join("keys").join(name)).expect("a key");
    }
    tools::insist_sound(&data);
    let a = world.starts[0].ready();
    for (number, answer) in (0..40).zip(&ours).chain((100..120).zip(&theirs)) {
        assert_eq!(&accepted(&a.submit(&submission(number).body)), answer, "{number}");
    }
    let nodes = [a, b];
    submit(&nodes[0], 200..220);
    submit(&nodes[1], 220..240);
    let merged = converged(&nodes);
    assert!(regions(&nodes[1])["peers"][0]["quarantine"].is_null());
    nodes.into_iter().for_each(Node::stop);
    sound(&world, &merged);
}

#[test]
fn whoever_leads_is_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let certificates = certificates(directory.path(), "g,s");
    let doors: BTreeMap<u64, SocketAddr> = (1..=3).map(|node| (node, ports::free())).collect();
    let single = ports::free();
    let alone = Start::on(&directory.path().join("s")).with("FLK_ADMIN_TOKEN", TOKEN);
    let alone = with(alone, &settings(&certificates, "s", single));
    alone.ready().stop();
    let vkey = |data: &Path| text(&data.join("keys/region.vkey")).to_owned();
    let peer = format!("s https://{single} {}", vkey(&directory.path().join("s")));
    let nodes: String = doors.values().map(|door| format!("https://{door} ")).collect();
    let group = Group::wrapped(3, move |node, start| {
        with(start, &settings(&certificates, "g", doors[&node])).with("FLK_REGIONS_PEERS", &peer)
    });
    let single = alone.with("FLK_REGIONS_PEERS", &format!("g {nodes}{}", vkey(&group.data(1)))).ready();
    through_changes_of_leader(group, single);
}

/// Both regions take submissions while whoever leads the group is killed, twice; then they are one, and nothing is lost.
pub fn through_changes_of_leader(mut group: Group, single: Node) {
    let numbers = Arc::new(AtomicU64::new(0));
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let leader = group.leader();
        let loads = [&group.nodes[&leader], &single].map(|node| Load::start(node.address, 2, &numbers));
        loads.iter().for_each(|load| load.wait_for(150));
        group.nodes.remove(&leader).expect("it leads").kill();
        let [mine, theirs] = loads.map(Load::end);
        here.extend(mine);
        there.extend(theirs);
        group.leader();
        group.start(leader);
    }
    wait("both regions are the same", || {
        let (g, s) = (group.json(&["status"])["data"]["group"]["regions"].clone(), regions(&single));
        let held = |region: &Value, other: &Value| {
            let peer = &region["peers"][0];
            peer["leaves"] == other["newest"] && peer["proven"] == region["newest"]
        };
        (g["merged"] == s["merged"] && g["merged"].is_string() && held(&g, &s) && held(&s, &g)).then_some(())
    });
    insist_all_present(&single, &here);
    let leader = group.leader();
    insist_all_present(&group.nodes[&leader], &there);
    single.stop();
    group.insist_sound(&here);
}
