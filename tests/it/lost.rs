//! A region whose disks are gone: its log is made again from what it had shipped, and goes on.

use crate::node::Node;
use crate::pcs::submission;
use crate::regions::{World, accepted, converged, files, regions, sound, wait};
use crate::tools::{Said, flk, insist_sound, worm};
use crate::trio::text;
use std::path::{Path, PathBuf};

/// Submits each of these; returns the answers.
pub fn submit(node: &Node, numbers: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    numbers.map(|number| accepted(&node.submit(&submission(number).body)).to_vec()).collect()
}

/// Two regions that know of each other while they decide, so that each log holds what it took in of the other one's.
pub struct Grown {
    pub nodes: [Node; 2],
    /// The first region's answers to submissions 0 to 39.
    pub ours: Vec<Vec<u8>>,
    /// The second region's answers to submissions 100 to 119; it has those up to 139.
    pub theirs: Vec<Vec<u8>>,
    /// A file with a checkpoint of the first region's log over all of it.
    pub known: PathBuf,
}

impl Grown {
    pub fn of(world: &World) -> Grown {
        let nodes = world.ready();
        let mut ours = submit(&nodes[0], 0..20);
        let theirs = submit(&nodes[1], 100..120);
        converged(&nodes);
        ours.extend(submit(&nodes[0], 20..40));
        submit(&nodes[1], 120..140);
        converged(&nodes);
        let known = world.directory.path().join("known");
        std::fs::write(&known, nodes[0].get("/tlog/a/checkpoint").body).expect("a file");
        Grown { nodes, ours, theirs, known }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for path in files(from) {
        let there = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &there);
        } else {
            std::fs::copy(&path, &there).expect("copied");
        }
    }
}

struct Lost {
    world: World,
    /// Copies of the keys of `a`.
    keys: PathBuf,
}

impl Lost {
    fn restore(&self, place: &Path, to: &Path, more: &[&str]) -> Said {
        let vkey = self.keys.join("region.vkey");
        let given = [
            "region",
            "restore",
            "--place",
            text(place),
            "--region",
            "a",
            "--keys",
            text(&vkey),
            "--to",
            text(to),
            "--segment-bytes",
            "2097152",
            "--json",
        ];
        flk(&[&given[..], more].concat())
    }

    fn place(&self) -> PathBuf {
        self.world.directory.path().join("place")
    }

    fn peer(&self, place: &Path) -> String {
        format!("b {} {}", text(place), text(&self.world.data("b").join("keys/region.vkey")))
    }

    /// A copy of the place that may be changed.
    fn copied(&self, name: &str) -> PathBuf {
        let to = self.world.directory.path().join(name);
        copy(&self.place(), &to);
        to
    }
}

#[test]
fn a_lost_region_is_restored_from_its_shipments_and_goes_on() {
    let world = World::new();
    let Grown { nodes, ours, theirs, known } = Grown::of(&world);
    let [a, b] = nodes;
    a.kill();
    let keys = world.directory.path().join("kept");
    copy(&world.data("a").join("keys"), &keys);
    std::fs::remove_dir_all(world.data("a")).expect("removed");
    let lost = Lost { world, keys };
    let (place, to) = (lost.place(), lost.world.data("a"));
    let peer = lost.peer(&place);

    // Its clients go to the other region and get their first answers.
    for (number, answer) in (0..40).zip(&ours) {
        assert_eq!(&accepted(&b.submit(&submission(number).body)), answer, "{number}");
    }

    // What is not whole is refused, by name, and leaves nothing.
    let bills = lost.world.shipped("a", "bills");
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let gap = lost.copied("gap");
    std::fs::remove_file(gap.join("a/bills").join(name(&bills[1]))).expect("removed");
    let bent = lost.copied("bent");
    let chunk = files(&bent.join("a/chunks")).pop().expect("a chunk");
    let mut bytes = std::fs::read(&chunk).expect("read");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&chunk, bytes).expect("written");
    // The newer half of its bills is gone; in one of the two also what the other region said of it.
    let (mirrored, alone) = (lost.copied("mirrored"), lost.copied("alone"));
    for place in [&mirrored, &alone] {
        for bill in &bills[bills.len() / 2..] {
            std::fs::remove_file(place.join("a/bills").join(name(bill))).expect("removed");
        }
    }
    std::fs::remove_file(alone.join("b/mirrors/a")).expect("removed");
    let no_checkpoint = lost.keys.join("log.vkey");
    let cases: [(&Path, Vec<&str>, i32, &str); 5] = [
        (&place, vec![], 3, "region b, which is not named"),
        (&gap, vec!["--peer", &peer], 3, "there is one from record"),
        (&bent, vec!["--peer", &peer], 2, "it is not what its bill says"),
        (&mirrored, vec!["--peer", &peer], 3, "the place is not whole"),
        (&place, vec!["--peer", &peer, "--known", text(&no_checkpoint)], 2, "checkpoint"),
    ];
    for (place, more, code, told) in cases {
        let said = lost.restore(place, &to, &more);
        assert!(said.code == Some(code) && said.all().contains(told), "{told}: {}", said.all());
        assert!(!to.join("log").exists() && !to.join("identity").exists(), "{told}");
    }
    // Nobody holds more, and somebody has a checkpoint over more: that is a loss, which is proven.
    let other = lost.peer(&alone);
    let more = ["--peer", &other, "--known", text(&known)];
    let said = lost.restore(&alone, &to, &more);
    assert!(said.code == Some(5) && said.all().contains("are proven lost"), "{}", said.all());
    let archive = lost.world.directory.path().join("archive");
    let said = lost.restore(&alone, &archive, &[&more[..], &["--accept-loss"]].concat());
    assert_eq!(said.code, Some(0), "{}", said.all());
    let told: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert!(told["data"]["proven_lost"].as_u64() > Some(0), "{}", said.all());
    assert_eq!(told["data"]["keys_missing"].as_array().map(Vec::len), Some(3), "{}", said.all());
    // Without keys it is an archive that an auditor reads.
    insist_sound(&archive);

    let said = lost.restore(&place, &to, &["--peer", &peer, "--known", text(&known)]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let told: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(told["data"]["proven_lost"], 0, "{}", said.all());
    let said = lost.restore(&place, &to, &["--peer", &peer]);
    assert!(said.code == Some(1) && said.all().contains("the directory is in use"), "{}", said.all());
    std::fs::create_dir(to.join("keys")).expect("a directory");
    for key in ["kek", "log.key", "mirror.key"] {
        std::fs::copy(lost.keys.join(key), to.join("keys").join(key)).expect("a key");
    }
    insist_sound(&to);
    let said = worm(&["verify", text(&to), "--checkpoint", text(&known)]);
    assert_eq!(said.code, Some(0), "the tree goes on: {}", said.all());

    // It is the region that it was: its clients get their first answers, and so do the other's.
    let a = lost.world.starts[0].ready();
    for (number, answer) in (0..40).zip(&ours).chain((100..120).zip(&theirs)) {
        assert_eq!(&accepted(&a.submit(&submission(number).body)), answer, "{number}");
    }
    let nodes = [a, b];
    submit(&nodes[0], 200..220);
    submit(&nodes[1], 220..240);
    let merged = converged(&nodes);
    wait("the other one holds it as before", || {
        regions(&nodes[1])["peers"][0]["quarantine"].is_null().then_some(())
    });
    nodes.into_iter().for_each(Node::stop);
    sound(&lost.world, &merged);
}
