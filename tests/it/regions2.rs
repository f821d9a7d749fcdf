//! Two real regions that differ: who finds it, who names it, and what is decided about it.

use crate::node::Node;
use crate::pcs::submission;
use crate::regions::{World, accepted, converged, metric, wait};
use crate::tools::{self, Said};
use crate::trio::text;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::checkpoint::Signer;
use serde_json::Value;
use std::ops::Range;

pub fn fill(node: &Node, numbers: Range<u64>) {
    for n in numbers {
        accepted(&node.submit(&submission(n).body));
    }
}

pub fn url(node: &Node) -> String {
    format!("http://{}", node.address)
}

pub fn token(world: &World) -> String {
    let token = world.directory.path().join("token");
    std::fs::write(&token, crate::regions::TOKEN).expect("written");
    text(&token).to_owned()
}

fn divergence(world: &World, nodes: [&Node; 2]) -> Said {
    let [one, other] = nodes.map(url);
    tools::flk(&["divergence", &one, &other, "--token-file", &token(world), "--json"])
}

pub fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.all()))
}

#[test]
fn regions_are_compared_where_both_have_something_and_what_differs_is_named() {
    let world = World::new();
    let nodes = world.ready();
    fill(&nodes[0], 0..60);
    fill(&nodes[1], 60..120);
    converged(&nodes);
    let said = divergence(&world, [&nodes[0], &nodes[1]]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let found = json(&said);
    assert!(found["data"]["questions"].as_u64().is_some_and(|asked| asked <= 16), "{}", said.all());
    assert!(said.out.contains("all equal"), "{}", said.all());
    for node in &nodes {
        let other = if std::ptr::eq(node, &nodes[0]) { "b" } else { "a" };
        let equal = format!("flk_region_equal_timestamp_seconds{{source_region=\"{other}\"}}");
        wait("each finds the other equal", || (metric(node, &equal) > 0.0).then_some(()));
        assert_eq!(metric(node, &format!("flk_region_diverged{{source_region=\"{other}\"}}")), 0.0);
    }
    // `b` loses everything but its keys, and begins another history under its name.
    let [a, b] = nodes;
    b.kill();
    for part in ["log", "proj", "worm", "tlog", "identity"] {
        let path = world.data("b").join(part);
        let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
    }
    let b = world.starts[1].ready();
    wait("somebody notices by itself", || {
        let seen = |node: &Node, other: &str| {
            metric(node, &format!("flk_region_diverged{{source_region=\"{other}\"}}")) == 1.0
        };
        (seen(&a, "b") || seen(&b, "a")).then_some(())
    });
    fill(&b, 200..230);
    let said = divergence(&world, [&a, &b]);
    assert_eq!(said.code, Some(2), "{}", said.all());
    let found = json(&said);
    let first = &found["data"]["first"];
    assert!(first["what"].as_str().is_some_and(|what| what.ends_with("of the log of b")), "{}", said.all());
    let events = |side: &str| first[side]["events"].clone();
    assert!(events("one").is_array() && events("one") != events("other"), "{}", said.all());
    // Of two nodes that have nothing to do with each other nothing can be said.
    let stranger = World::new();
    let c = stranger.starts[0].ready();
    let said = divergence(&world, [&a, &c]);
    assert_eq!(said.code, Some(1), "{}", said.all());
}

/// A standing of `b` that says of record `lsn` of its log what it did not compute, signed with its key.
fn lie(world: &World, lsn: u64) {
    let seed = std::fs::read(world.data("b").join("keys/log.key")).expect("the key");
    let seed = BASE64.decode(seed.trim_ascii()).expect("base64");
    let seed: [u8; 32] = seed.try_into().expect("a seed");
    let signer = Signer::new("localhost/pcs/b", &seed).expect("a signer");
    let digest = "11".repeat(32);
    let body = format!(
        "flk standing 1\nregion b\ntime 7\nmerged {digest}\nlog b {lsn} {digest} {digest} {digest}\n"
    );
    let note = format!("{body}\n{}", signer.sign(body.as_bytes()).line());
    std::fs::write(world.directory.path().join("place/b/standing"), note).expect("written");
}

#[test]
fn a_region_that_says_it_computed_something_else_is_noticed_without_being_asked() {
    let world = World::new();
    let nodes = world.ready();
    fill(&nodes[0], 0..5);
    fill(&nodes[1], 5..15);
    converged(&nodes);
    let [a, b] = nodes;
    b.kill();
    let silent = "flk_region_silent_seconds{source_region=\"b\"}";
    wait("its silence is heard", || (metric(&a, silent) > 2.0).then_some(()));
    assert_eq!(metric(&a, "flk_region_diverged{source_region=\"b\"}"), 0.0);
    lie(&world, 4);
    wait("it is noticed", || (metric(&a, "flk_region_diverged{source_region=\"b\"}") == 1.0).then_some(()));
    assert!(a.process.log().contains("REGIONS DIFFER"));
    let said = tools::flk(&["cluster", "status", "--url", &url(&a), "--token-file", &token(&world)]);
    assert!(said.out.contains("differ after record 4 of the log of b"), "{}", said.all());
    // Nobody but a person can say who is right; what is said stands in the log.
    let reconcile = |words: &[&str]| {
        let (url, token) = (url(&a), token(&world));
        tools::flk(&[&["reconcile"], words, &["--url", &url, "--token-file", &token, "--json"]].concat())
    };
    let case = wait("a person is asked", || {
        let cases = json(&reconcile(&["list"]))["data"]["cases"].clone();
        cases.as_array()?.iter().find(|case| case["remedy"] == "manual-review").cloned()
    });
    assert_eq!((&case["state"], &case["score"]), (&"open".into(), &"0.000".into()), "{case}");
    let name = case["case"].as_str().expect("a name");
    let said = reconcile(&["approve", name, "--reason", "b was rebuilt"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert_eq!(metric(&a, "flk_region_diverged{source_region=\"b\"}"), 1.0);
    // Somebody else's word changes nothing.
    let path = world.directory.path().join("place/b/standing");
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[60] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    wait("it is refused", || a.process.log().contains("is not known").then_some(()));
    fill(&a, 20..25);
}
