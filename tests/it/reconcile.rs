//! Cases between two real regions: what is proposed, what goes by itself, who decides, and that nothing else changes.

use crate::node::Node;
use crate::pcs::{Draft, submission};
use crate::regions::{TOKEN, World, accepted, converged, metric, sound, wait};
use crate::regions2::{fill, json, token, url};
use crate::tools::{self, Said};
use serde_json::Value;

fn reconcile(world: &World, node: &Node, words: &[&str]) -> Said {
    let (url, token) = (url(node), token(world));
    tools::flk(&[&["reconcile"], words, &["--url", &url, "--token-file", &token, "--json"]].concat())
}

/// The cases that a node shows, closed ones too.
fn cases(world: &World, node: &Node) -> Vec<Value> {
    json(&reconcile(world, node, &["list", "--all"]))["data"]["cases"].as_array().expect("a list").clone()
}

fn case(world: &World, node: &Node, remedy: &str, state: &str) -> Option<Value> {
    cases(world, node).into_iter().find(|case| case["remedy"] == remedy && case["state"] == state)
}

#[test]
fn a_conflict_is_settled_by_a_person_and_nothing_else_changes() {
    let world = World::new();
    let apart = [0, 1].map(|at| world.starts[at].clone().with("FLK_REGIONS_PEERS", "").ready());
    let mine = Draft { shard_id: "s".into(), ..Draft::accepted(5) };
    let other = Draft { budget: "0.41", ..mine.clone() }.signed();
    let mine = mine.signed();
    let first = accepted(&apart[0].submit(&mine.body)).to_vec();
    apart[1].submit(&other.body);
    apart.into_iter().for_each(Node::kill);
    let nodes = world.ready();
    let [a, b] = &nodes;
    // It is a case of the region whose first does not stand, and both show it.
    let found = wait("it is proposed", || case(&world, b, "choose-first", "open"));
    let name = found["case"].as_str().expect("a name").to_owned();
    let score: f64 = found["score"].as_str().and_then(|score| score.parse().ok()).expect("a score");
    assert!((0.5..=0.9).contains(&score), "{found}");
    assert!(found["reason"].as_str().is_some_and(|why| why.contains("is earlier by")), "{found}");
    wait("the other region shows it", || cases(&world, a).into_iter().find(|case| case["case"] == name));
    assert_eq!(reconcile(&world, b, &["list"]).code, Some(6));
    assert_eq!(metric(b, "flk_reconcile_cases{state=\"open\"}"), 1.0);
    let shown = json(&reconcile(&world, b, &["show", &name]));
    let firsts = shown["data"]["firsts"].as_array().expect("both sides").clone();
    assert_eq!(firsts.len(), 2, "{shown}");
    assert!(firsts.iter().all(|first| first["pcs_id"] == mine.id.as_str()), "{shown}");
    assert_ne!(firsts[0]["content"], firsts[1]["content"], "{shown}");
    // Who may not, who has no reason, and the wrong region.
    let approve = ["approve", name.as_str(), "--reason", "the agent was told"];
    let said = reconcile(&world, a, &approve);
    assert!(said.code == Some(1) && said.all().contains("decide it there"), "{}", said.all());
    let said = reconcile(&world, b, &["approve", &name, "--reason", " "]);
    assert!(said.code == Some(1) && said.all().contains("has a reason"), "{}", said.all());
    let said = reconcile(&world, b, &["approve", "0011223344556677", "--reason", "x"]);
    assert!(said.code == Some(1) && said.all().contains("no such case"), "{}", said.all());
    let answer = b.connect().send("POST", "/v1/reconcile/change", &[], b"{}").expect("an answer");
    assert_eq!(answer.status, 401);
    let bearer = format!("Bearer {TOKEN}");
    let bad = b"{\"do\":\"add\",\"node\":2,\"address\":\"x:1\"}";
    let answer = b.connect().send("POST", "/v1/reconcile/change", &[("Authorization", &bearer)], bad);
    assert_eq!(answer.expect("an answer").status, 400);
    let said = reconcile(&world, b, &approve);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let said = reconcile(&world, b, &approve);
    assert!(said.code == Some(1) && said.all().contains("approved already"), "{}", said.all());
    assert_eq!(reconcile(&world, b, &["list"]).code, Some(0));
    assert_eq!(metric(b, "flk_reconcile_settled_total"), 1.0);
    let there = wait("the other region knows", || case(&world, a, "choose-first", "approved"));
    assert_eq!((&there["by"], &there["decision"]), (&"administrator".into(), &"the agent was told".into()));
    // Every answer is what it was, and the conflict is still told.
    for node in &nodes {
        assert_eq!(accepted(&node.submit(&mine.body)), first);
        assert_eq!(metric(node, "dedup_divergence{region_a=\"a\",region_b=\"b\"}"), 1.0);
    }
    let merged = converged(&nodes);
    nodes.into_iter().for_each(Node::stop);
    sound(&world, &merged);
    std::fs::remove_dir_all(world.data("b").join("proj")).expect("removed");
    let b = world.starts[1].ready();
    let again = wait("it comes back from the log", || case(&world, &b, "choose-first", "approved"));
    assert_eq!(again["decided_ms"], there["decided_ms"]);
}

#[test]
fn what_is_missing_is_fetched_again_by_itself() {
    let world = World::new();
    let a = world.starts[0].ready();
    for n in 0..4 {
        let bills = world.shipped("a", "bills").len();
        fill(&a, 100 * n..100 * n + 10);
        wait("another range is shipped", || (world.shipped("a", "bills").len() > bills).then_some(()));
    }
    let bill = world.shipped("a", "bills")[1].clone();
    let kept = std::fs::read(&bill).expect("read");
    std::fs::remove_file(&bill).expect("removed");
    let b = world.starts[1].ready();
    let found = wait("the rule approves it", || case(&world, &b, "replay-missing", "approved"));
    assert_eq!((&found["by"], &found["score"]), (&"rule".into(), &"0.990".into()));
    assert!(found["reason"].as_str().is_some_and(|why| why.contains("is missing")), "{found}");
    assert_eq!(reconcile(&world, &b, &["list"]).code, Some(6));
    std::fs::write(&bill, kept).expect("written");
    wait("it was taken in", || case(&world, &b, "replay-missing", "effected"));
    wait("nothing waits", || (reconcile(&world, &b, &["list"]).code == Some(0)).then_some(()));
    let nodes = [a, b];
    let merged = converged(&nodes);
    nodes.into_iter().for_each(Node::stop);
    sound(&world, &merged);
}

#[test]
fn with_a_bound_of_one_everything_waits_for_a_person() {
    let world = World::new();
    let a = world.starts[0].ready();
    for n in 0..3 {
        let bills = world.shipped("a", "bills").len();
        fill(&a, 100 * n..100 * n + 5);
        wait("another range is shipped", || (world.shipped("a", "bills").len() > bills).then_some(()));
    }
    std::fs::remove_file(&world.shipped("a", "bills")[1]).expect("removed");
    let strict = world.starts[1].clone().with("FLK_REGIONS_RECONCILE_ABOVE", "1");
    let b = strict.ready();
    let found = wait("it is proposed", || case(&world, &b, "replay-missing", "open"));
    let name = found["case"].as_str().expect("a name").to_owned();
    let said = reconcile(&world, &b, &["refuse", &name, "--reason", "the place is being restored"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert_eq!(reconcile(&world, &b, &["list"]).code, Some(0));
    accepted(&b.submit(&submission(900).body));
    let (_, log) = world.starts[1].clone().with("FLK_REGIONS_RECONCILE_ABOVE", "1.5").refused();
    assert!(log.contains("regions.reconcile_above"), "{log}");
}
