//! A region whose log once says of itself what is not so: it is taken in again when an operator says so.

use crate::node::Node;
use crate::pcs::submission;
use crate::regions::{TOKEN, World, accepted, converged, metric, regions, wait};
use crate::tools::{Said, flk};
use crate::trio::text;
use base64::Engine as _;
use engine::checkpoint::{Checkpoint, Signer};
use engine::event::{Event, Payload, Record};
use engine::log::Digest;
use segments::{AnyDisk, Frame, Log, Options, Prefer, Scan};
use std::path::Path;

/// Writes a checkpoint over one entry into the log of a node that does not run, under its own key and with a root that
/// its tree never had: what a leader whose memory was bent might have signed.
fn sign_another_tree(data: &Path) {
    let seed = std::fs::read_to_string(data.join("keys/log.key")).expect("a key");
    let seed = base64::engine::general_purpose::STANDARD.decode(seed.trim()).expect("base64");
    let signer = Signer::new("localhost/pcs/b", &seed.try_into().expect("32 bytes")).expect("a key");
    let head = Checkpoint { origin: "localhost/pcs/b".into(), size: 1, root: Digest([7; 32]) };
    let event = Event::Checkpoint(head.sign(&signer));
    let mut bytes = Vec::new();
    Record { leader: 1, payload: Payload::Events(vec![event]) }.encode(&mut bytes);
    let log = data.join("log");
    let identity = Scan::open(&log).expect("a log").identity().clone();
    let (disk, _) = AnyDisk::open(&log, Prefer::Posix).expect("a disk");
    let options = Options { segment_bytes: 2 << 20, ..Options::new(identity) };
    let mut term = 0;
    let opened = Log::open(disk, &options, |frame: &Frame<'_>| {
        term = term.max(frame.term);
        Ok::<(), std::convert::Infallible>(())
    });
    let (mut log, _) = opened.expect("it opens");
    log.append(Frame::entry(log.tip().next(), term, &bytes)).expect("taken");
    log.flush().expect("durable");
}

fn readmit(world: &World, node: &Node, region: &str, why: &str) -> Said {
    let token = world.directory.path().join("token");
    std::fs::write(&token, TOKEN).expect("written");
    let url = format!("http://{}", node.address);
    flk(&["region", "readmit", region, "--why", why, "--url", &url, "--token-file", text(&token)])
}

#[test]
fn a_region_in_quarantine_is_taken_in_again_when_an_operator_says_so() {
    let world = World::new();
    let [a, b] = world.ready();
    let submit = |node: &Node, numbers: std::ops::Range<u64>| {
        for number in numbers {
            accepted(&node.submit(&submission(number).body));
        }
    };
    submit(&a, 0..10);
    submit(&b, 10..20);
    let nodes = [a, b];
    converged(&nodes);
    let said = readmit(&world, &nodes[0], "b", "for nothing");
    assert!(said.code == Some(1) && said.all().contains("not in quarantine"), "{}", said.all());
    let [a, b] = nodes;
    b.stop();
    sign_another_tree(&world.data("b"));
    let b = world.starts[1].ready();
    submit(&b, 20..40);
    let why = wait("it is in quarantine", || {
        let quarantine = regions(&a)["peers"][0]["quarantine"].clone();
        quarantine.is_object().then_some(quarantine)
    });
    assert_eq!(why["part"], "checkpoint", "{why}");
    assert_eq!(metric(&a, "flk_region_quarantined{source_region=\"b\"}"), 1.0);
    // It takes submissions still, and should get few: it does not know what the other region takes.
    let routing = |node: &Node| node.get("/v1/routing").json();
    let said = routing(&a);
    assert_eq!((&said["weight"], &said["ready"]), (&10.into(), &true.into()), "{said}");
    assert!(said["why"][0].as_str().is_some_and(|why| why.contains("quarantine")), "{said}");
    assert_eq!(routing(&b)["weight"], 100);
    for (region, why, told) in
        [("c", "who is it", "nothing came of a region 'c'"), ("b", " ", "why is 1 to 1024 bytes")]
    {
        let said = readmit(&world, &a, region, why);
        assert!(said.code == Some(1) && said.all().contains(told), "{}", said.all());
    }
    let said = readmit(&world, &a, "b", "its leader's memory was bent; the node is replaced");
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert_eq!(metric(&a, "flk_region_quarantined{source_region=\"b\"}"), 0.0);
    submit(&b, 40..50);
    submit(&a, 50..60);
    let nodes = [a, b];
    let merged = converged(&nodes);
    assert_eq!(routing(&nodes[0])["weight"], 100);
    // From nothing but its log it comes to the same.
    let [a, b] = nodes;
    a.stop();
    std::fs::remove_dir_all(world.data("a").join("proj")).expect("removed");
    let nodes = [world.starts[0].ready(), b];
    assert_eq!(converged(&nodes), merged);
    nodes.into_iter().for_each(Node::stop);
    let said = flk(&["replay", text(&world.data("a")), "--json"]);
    assert!(said.code == Some(0) && said.out.contains(&merged), "{}", said.all());
}
