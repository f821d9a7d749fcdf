//! The runbooks about regions, as [`crate::runbooks`] runs the others: two regions of one node each.

use crate::node::{Node, Start};
use crate::pcs::{Draft, submission};
use crate::ports;
use crate::regions::{World, accepted, converged, metric, wait};
use crate::runbooks::Page;
use crate::trio::text;
use std::net::SocketAddr;
use std::ops::Range;

/// Two regions whose nodes keep their addresses, with a page about them.
struct Regions {
    // The page's units end before their directories go.
    page: Page,
    starts: [Start; 2],
    addresses: [SocketAddr; 2],
    world: World,
}

impl Regions {
    fn open(name: &'static str) -> Regions {
        let world = World::new();
        let here = world.directory.path();
        let mut page = Page::at(name, here);
        let addresses = [ports::free(), ports::free()];
        let port = |at: usize| addresses[at].port().to_string();
        let starts = [0, 1].map(|at| world.starts[at].clone().with("FLK_HTTP_PORT", &port(at)));
        for (at, region) in ["a", "b"].into_iter().enumerate() {
            page.unit(region, &starts[at], addresses[at]);
        }
        for (name, directory) in [("PLACE", "place"), ("BACKUP", "backup"), ("COPIES", "copies")] {
            std::fs::create_dir_all(here.join(directory)).expect("a directory");
            page.set(name, text(&here.join(directory)));
        }
        Regions { page, starts, addresses, world }
    }

    fn ready(&self) -> [Node; 2] {
        let nodes = [self.starts[0].ready(), self.starts[1].ready()];
        self.page.runs("a", &nodes[0]);
        self.page.runs("b", &nodes[1]);
        nodes
    }
}

fn fill(node: &Node, numbers: Range<u64>) {
    for n in numbers {
        accepted(&node.submit(&submission(n).body));
    }
}

#[test]
fn geo_failover() {
    let mut it = Regions::open("geo-failover.md");
    let [a, b] = it.ready();
    let firsts: Vec<Vec<u8>> = (0..20).map(|n| accepted(&b.submit(&submission(n).body)).to_vec()).collect();
    accepted(&a.submit(&submission(100).body));
    let nodes = [a, b];
    converged(&nodes);
    let [a, b] = nodes;
    b.kill();
    let said = it.page.run();
    assert!(said.contains("its entries are here"), "{said}");
    it.page.run();
    // The clients of `b` are answered here, with what `b` told them.
    for (n, first) in (0..20).zip(&firsts) {
        assert_eq!(&accepted(&a.submit(&submission(n).body)), first, "{n}");
    }
    fill(&a, 200..220);
    it.page.run_all();
    let again = crate::http::Connection::open(it.addresses[1])
        .and_then(|mut b| b.send("POST", "/v1/pcs/submit", &[], &submission(200).body))
        .expect("an answer");
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{}", again.text());
}

#[test]
fn geo_split_brain() {
    let mut it = Regions::open("geo-split-brain.md");
    let apart = [0, 1].map(|at| it.starts[at].clone().with("FLK_REGIONS_PEERS", "").ready());
    let mine = Draft::accepted(5);
    let other = Draft { budget: "0.41", ..mine.clone() }.signed();
    accepted(&apart[0].submit(&mine.signed().body));
    apart[1].submit(&other.body);
    apart.into_iter().for_each(Node::kill);
    let nodes = it.ready();
    let count = "dedup_divergence{region_a=\"a\",region_b=\"b\"}";
    wait("both know of it", || nodes.iter().all(|node| metric(node, count) == 1.0).then_some(()));
    let open = "flk_reconcile_cases{state=\"open\"}";
    wait("it is to be decided", || (metric(&nodes[1], open) == 1.0).then_some(()));
    let said = it.page.run();
    assert!(said.contains(&format!("{count} 1")), "{said}");
    it.page.run_all();
}

#[test]
fn geo_replay_verify() {
    let mut it = Regions::open("geo-replay-verify.md");
    let nodes = it.ready();
    fill(&nodes[0], 0..10);
    fill(&nodes[1], 10..20);
    converged(&nodes);
    it.page.run_all();
}

#[test]
fn wal_crr_ops() {
    let mut it = Regions::open("wal-crr-ops.md");
    let a = it.starts[0].ready();
    for n in 0..4 {
        let bills = it.world.shipped("a", "bills").len();
        fill(&a, 100 * n..100 * n + 10);
        wait("another range is shipped", || (it.world.shipped("a", "bills").len() > bills).then_some(()));
    }
    let here = it.world.directory.path();
    let copied = std::process::Command::new("cp")
        .args(["-r", text(&here.join("place/.")), text(&here.join("backup"))])
        .status();
    assert!(copied.expect("cp").success());
    std::fs::remove_file(&it.world.shipped("a", "bills")[1]).expect("removed");
    let b = it.starts[1].ready();
    it.page.runs("a", &a);
    it.page.runs("b", &b);
    wait("it is refused", || {
        (metric(&b, "flk_region_refused_total{source_region=\"a\"}") > 0.0).then_some(())
    });
    let said = it.page.run();
    assert!(said.contains("is missing"), "{said}");
    it.page.run_all();
    converged(&[a, b]);
}
