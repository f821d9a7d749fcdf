//! Two real regions, each a node of its own, which ship their logs to each other through a directory.

use crate::direct::through_changes_of_leader;
use crate::http::{Connection, Response};
use crate::load::{Load, insist_all_present};
use crate::node::{Node, Start};
use crate::pcs::{Draft, submission};
use crate::tools;
use crate::trio::Group;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// Longest wait for what happens within a second or two.
const PATIENCE: Duration = Duration::from_secs(60);
pub const TOKEN: &str = "operator";

/// Two regions, `a` and `b`, and what is between them.
pub struct World {
    pub directory: tempfile::TempDir,
    pub starts: [Start; 2],
}

fn text(path: PathBuf) -> String {
    path.to_str().expect("a text path").to_owned()
}

impl World {
    /// Both ship to one directory, have their keys and know each other.
    pub fn new() -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("place");
        std::fs::create_dir(&place).expect("a place");
        World::at(directory, &text(place), [&[], &[]])
    }

    /// The same with another place and more settings for each.
    pub fn at(directory: tempfile::TempDir, place: &str, more: [&[(&str, &str)]; 2]) -> World {
        World::between(directory, place, [place, place], more)
    }

    /// Both ship to a place of this name, and each finds the other's shipments where `found` says.
    pub fn between(
        directory: tempfile::TempDir,
        place: &str,
        found: [&str; 2],
        more: [&[(&str, &str)]; 2],
    ) -> World {
        let start = |region: &str, more: &[(&str, &str)]| {
            let start = Start::on(&directory.path().join(region))
                .with("FLK_REGION", region)
                .with("FLK_ADMIN_TOKEN", TOKEN)
                .with("FLK_REGIONS_PLACE", place);
            more.iter().fold(start, |start, (name, value)| start.with(name, value))
        };
        let starts = [start("a", more[0]), start("b", more[1])];
        // A first start alone makes the keys that the other region is given.
        for start in &starts {
            start.ready().stop();
        }
        let peered = |at: usize, other: &str| {
            let vkeys = text(directory.path().join(other).join("keys/region.vkey"));
            starts[at].clone().with("FLK_REGIONS_PEERS", &format!("{other} {} {vkeys}", found[at]))
        };
        let starts = [peered(0, "b"), peered(1, "a")];
        World { directory, starts }
    }

    pub fn data(&self, region: &str) -> PathBuf {
        self.directory.path().join(region)
    }

    pub fn shipped(&self, region: &str, kind: &str) -> Vec<PathBuf> {
        files(&self.directory.path().join("place").join(region).join(kind))
    }

    /// The chunk that a bill names, in the same place.
    fn chunk(&self, bill: &Path) -> PathBuf {
        let note = std::fs::read_to_string(bill).expect("a bill");
        let field = |name: &str| note.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        let from: u64 = field("from ").parse().expect("a number");
        let name = format!("{from:020}-{}", &field("chunk ")[..16]);
        bill.parent().and_then(Path::parent).expect("a place").join("chunks").join(name)
    }

    pub fn ready(&self) -> [Node; 2] {
        [self.starts[0].ready(), self.starts[1].ready()]
    }
}

/// Objects of a directory in the order of their names. One that is being put has two names for a moment.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let list = std::fs::read_dir(directory).map(|list| list.map(|entry| entry.expect("an entry").path()));
    let mut files: Vec<PathBuf> = list.map(Iterator::collect).unwrap_or_default();
    files.retain(|path| !path.to_string_lossy().contains('#'));
    files.sort();
    files
}

/// What the node says of its regions.
pub fn regions(node: &Node) -> Value {
    let head = format!("GET /v1/cluster HTTP/1.1\r\nHost: it\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let mut connection = Connection::open(node.address).expect("a connection");
    connection.raw(head.as_bytes()).expect("sent");
    let answer = connection.answer(false).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["group"]["regions"].clone()
}

pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until both regions have the same truth and each has proved to hold all of the other; gives the digest.
pub fn converged(nodes: &[Node; 2]) -> String {
    wait("both regions are the same", || {
        let [a, b] = [regions(&nodes[0]), regions(&nodes[1])];
        let held = |region: &Value, other: &Value| {
            let peer = &region["peers"][0];
            peer["leaves"] == other["newest"]
                && peer["proven"] == region["newest"]
                && peer["quarantine"].is_null()
        };
        let same = a["merged"].is_string() && a["merged"] == b["merged"];
        (same && held(&a, &b) && held(&b, &a)).then(|| a["merged"].as_str().expect("text").to_owned())
    })
}

pub fn accepted(answer: &Response) -> &[u8] {
    assert_eq!(answer.status, 200, "{}", answer.text());
    &answer.body
}

pub fn metric(node: &Node, line: &str) -> f64 {
    let page = node.get("/metrics").text();
    let found = page.lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("no {line} in\n{page}"))
}

pub fn sound(world: &World, merged: &str) {
    for region in ["a", "b"] {
        let data = world.data(region);
        tools::insist_sound(&data);
        let said = tools::flk(&["replay", data.to_str().expect("a text path"), "--json"]);
        assert_eq!(said.code, Some(0), "{}", said.all());
        assert!(
            said.out.contains(merged),
            "a replay of {region} from nothing ends with {merged}: {}",
            said.all()
        );
    }
}

#[test]
fn both_take_writes_and_one_truth_is_left() {
    let world = World::new();
    let nodes = world.ready();
    let [a, b] = &nodes;
    // The same in both, before either can know of the other's; then one of each.
    let both = submission(1);
    let first = accepted(&a.submit(&both.body)).to_vec();
    let second = accepted(&b.submit(&both.body)).to_vec();
    let ours: Vec<Vec<u8>> = (10..40).map(|n| accepted(&a.submit(&submission(n).body)).to_vec()).collect();
    let theirs: Vec<Vec<u8>> = (40..70).map(|n| accepted(&b.submit(&submission(n).body)).to_vec()).collect();
    converged(&nodes);
    // A client that retries elsewhere gets the first answer, byte for byte.
    for (n, answer) in (10..40).zip(&ours) {
        assert_eq!(&accepted(&b.submit(&submission(n).body)), answer, "{n} in b");
    }
    for (n, answer) in (40..70).zip(&theirs) {
        assert_eq!(&accepted(&a.submit(&submission(n).body)), answer, "{n} in a");
    }
    let [told_a, told_b] = [a, b].map(|node| accepted(&node.submit(&both.body)).to_vec());
    assert_eq!(told_a, told_b, "the earlier of {first:?} and {second:?}");
    assert!(told_a == first || told_a == second);
    assert_eq!(a.get(&format!("/v1/pcs/{}", both.id)).body, b.get(&format!("/v1/pcs/{}", both.id)).body);
    // Another content under an id that the other region knows is a conflict; before, both take one.
    let other = Draft { budget: "0.41", ..Draft::accepted(10) }.signed();
    let answer = b.submit(&other.body);
    assert_eq!(answer.header("idempotent-replayed"), Some("conflict"), "{}", answer.text());
    let merged = converged(&nodes);
    assert!(metric(a, "wal_replay_applied_total{source_region=\"b\"}") > 0.0);
    assert_eq!(metric(a, "flk_region_quarantined{source_region=\"b\"}"), 0.0);
    assert_eq!(metric(a, "wal_replication_lag_seconds{source_region=\"a\",target_region=\"b\"}"), 0.0);
    assert_eq!(metric(a, "wal_ship_errors_total"), 0.0);
    assert_eq!(metric(b, "dedup_divergence{region_a=\"a\",region_b=\"b\"}"), 0.0);
    insist_witnessed(&world, a, &submission(10).id);
    let token = world.directory.path().join("token");
    std::fs::write(&token, TOKEN).expect("written");
    let said = tools::flk(&[
        "cluster",
        "status",
        "--url",
        &format!("http://{}", a.address),
        "--token-file",
        token.to_str().expect("text"),
    ]);
    assert!(said.out.contains("region b"), "{}", said.all());
    let [a, b] = nodes;
    a.stop();
    b.stop();
    sound(&world, &merged);
    // From nothing but the logs it is the same.
    for region in ["a", "b"] {
        std::fs::remove_dir_all(world.data(region).join("proj")).expect("removed");
    }
    let nodes = world.ready();
    assert_eq!(converged(&nodes), merged);
    nodes.into_iter().for_each(Node::stop);
}

/// The receipt that `a` gives is cosigned by `b`, whom nobody had to ask: for an auditor it is a witness like any other.
fn insist_witnessed(world: &World, a: &Node, id: &str) {
    let home = world.directory.path();
    let lines =
        |region: &str| std::fs::read_to_string(world.data(region).join("keys/region.vkey")).expect("keys");
    let (ours, theirs) = (lines("a"), lines("b"));
    let (log, mirror) = (ours.lines().next().expect("a key"), theirs.lines().last().expect("a key"));
    let policy = home.join("policy");
    std::fs::write(&policy, format!("log {log}\nwitness b {mirror}\nquorum b\n")).expect("written");
    let proof = home.join("one.tlog-proof");
    wait("the receipt is cosigned", || {
        std::fs::write(&proof, a.get(&format!("/v1/receipts/{id}")).body).expect("written");
        let [proof, policy] = [&proof, &policy].map(|path| path.to_str().expect("a text path"));
        let said = tools::worm(&["check", proof, "--vkey", log, "--policy", policy]);
        assert!(matches!(said.code, Some(0 | 4)), "{}", said.all());
        (said.code == Some(0)).then_some(())
    });
}

#[test]
fn different_contents_while_apart_are_a_conflict_that_both_name() {
    let world = World::new();
    // Neither takes in anything of the other yet.
    let apart = [0, 1].map(|at| world.starts[at].clone().with("FLK_REGIONS_PEERS", "").ready());
    let mine = Draft { shard_id: "s".into(), ..Draft::accepted(5) };
    let other = Draft { budget: "0.41", ..mine.clone() }.signed();
    let mine = mine.signed();
    assert_eq!(mine.id, other.id);
    let first = accepted(&apart[0].submit(&mine.body)).to_vec();
    let second = apart[1].submit(&other.body);
    assert_eq!(second.header("idempotent-replayed"), None, "{}", second.text());
    apart.into_iter().for_each(Node::kill);
    let nodes = world.ready();
    let merged = converged(&nodes);
    for node in &nodes {
        assert_eq!(metric(node, "dedup_divergence{region_a=\"a\",region_b=\"b\"}"), 1.0);
        // The earlier one stands everywhere, for either content.
        assert_eq!(accepted(&node.submit(&mine.body)), first);
        let answer = node.submit(&other.body);
        assert_eq!(answer.header("idempotent-replayed"), Some("conflict"));
        assert_eq!(answer.body, first);
    }
    assert_ne!(converged(&nodes), merged, "two conflicts more are told");
    let merged = converged(&nodes);
    nodes.into_iter().for_each(Node::stop);
    sound(&world, &merged);
}

#[test]
fn killed_at_any_time_nothing_is_lost_and_both_end_equal() {
    let world = World::new();
    let numbers = Arc::new(AtomicU64::new(0));
    let mut acked = Vec::new();
    for round in 0..4 {
        let nodes = world.ready();
        let loads = [&nodes[0], &nodes[1]].map(|node| Load::start(node.address, 2, &numbers));
        loads.iter().for_each(|load| load.wait_for(60 + 23 * round));
        let [a, b] = nodes;
        if round % 2 == 0 {
            a.kill();
            b.kill();
        } else {
            b.kill();
            a.kill();
        }
        let [mine, theirs] = loads.map(Load::end);
        acked.push((mine, theirs));
    }
    let nodes = world.ready();
    converged(&nodes);
    for (mine, theirs) in &acked {
        for node in &nodes {
            // Also what the other region was told.
            insist_all_present(node, mine);
            insist_all_present(node, theirs);
        }
    }
    let merged = converged(&nodes);
    nodes.into_iter().for_each(Node::stop);
    sound(&world, &merged);
}

#[test]
fn a_change_of_leader_neither_skips_nor_repeats() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("place");
    std::fs::create_dir(&place).expect("a place");
    let place = place.to_str().expect("a text path");
    let alone =
        Start::on(&directory.path().join("s")).with("FLK_REGION", "s").with("FLK_REGIONS_PLACE", place);
    let alone = alone.with("FLK_ADMIN_TOKEN", TOKEN);
    alone.ready().stop();
    let vkey = |data: &Path| data.join("keys/region.vkey").to_str().expect("a text path").to_owned();
    let peer = format!("s {place} {}", vkey(&directory.path().join("s")));
    let settings =
        [("FLK_REGION", "g".into()), ("FLK_REGIONS_PLACE", place.into()), ("FLK_REGIONS_PEERS", peer)];
    let group = Group::with(3, Default::default(), &settings);
    let peer = format!("g {place} {}", vkey(&group.data(1)));
    let single = alone.with("FLK_REGIONS_PEERS", &peer).ready();
    through_changes_of_leader(group, single);
}

#[test]
fn a_log_that_goes_over_to_other_keys_is_still_taken_in_and_proven() {
    let world = World::new();
    let nodes = world.ready();
    accepted(&nodes[0].submit(&submission(1).body));
    converged(&nodes);
    let token = world.directory.path().join("token");
    std::fs::write(&token, TOKEN).expect("written");
    let given = std::fs::read(world.data("a").join("keys/region.vkey")).expect("keys");
    for round in 0..2 {
        let url = format!("http://{}", nodes[0].address);
        let token = token.to_str().expect("text");
        let words = ["keys", "rotate", "--both", "0s", "--url", &url, "--token-file", token];
        let said = tools::flk(&words);
        assert_eq!(said.code, Some(0), "{}", said.all());
        accepted(&nodes[0].submit(&submission(10 + round).body));
        accepted(&nodes[1].submit(&submission(20 + round).body));
        // Proven is what the other region cosigned, which it does under the key that the log has then.
        converged(&nodes);
    }
    nodes.into_iter().for_each(Node::stop);
    let nodes = world.ready();
    accepted(&nodes[0].submit(&submission(30).body));
    let merged = converged(&nodes);
    nodes.into_iter().for_each(Node::stop);
    assert_eq!(
        std::fs::read(world.data("a").join("keys/region.vkey")).ok(),
        Some(given),
        "nobody needs another"
    );
    sound(&world, &merged);
}

#[test]
fn what_was_changed_in_the_place_is_refused_and_told() {
    let world = World::new();
    // Only `a` runs, so that everything of it lies there before `b` looks. It knows nothing of `b`, whose log begins anew below.
    let a = world.starts[0].clone().with("FLK_REGIONS_PEERS", "").ready();
    for n in 0..5 {
        let bills = world.shipped("a", "bills").len();
        for k in 0..20 {
            accepted(&a.submit(&submission(100 * n + k).body));
        }
        wait("another range is shipped", || (world.shipped("a", "bills").len() > bills).then_some(()));
    }
    wait("all is shipped", || (metric(&a, "wal_crr_lag_seconds") == 0.0).then_some(()));
    a.kill();
    let bills = world.shipped("a", "bills");
    assert!(bills.len() >= 4, "{bills:?}");
    let b = world.starts[1].ready();
    let whole = wait("b has all", || {
        let peer = regions(&b)["peers"][0].clone();
        let newest = last(&bills);
        (peer["records"].as_u64() >= Some(newest)).then_some(peer["digest"].clone())
    });
    b.kill();
    let keep = tempfile::tempdir().expect("a directory");
    // By what the bills say: a node that was stopped between the two leaves a chunk that no bill names.
    let (chunk, another) = (&world.chunk(&bills[2]), &world.chunk(&bills[3]));
    let bill = &bills[2];
    let bent = |path: &Path| {
        let mut bytes = std::fs::read(path).expect("read");
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(path, bytes).expect("written");
    };
    type Harm<'a> = Box<dyn Fn() + 'a>;
    let remove = |path: &Path| std::fs::remove_file(path).expect("removed");
    let harms: Vec<(&str, Harm)> = vec![
        ("a bill is bent", Box::new(|| bent(bill))),
        ("a chunk is bent", Box::new(|| bent(chunk))),
        ("a bill is gone", Box::new(|| remove(bill))),
        ("a chunk is gone", Box::new(|| remove(chunk))),
        ("a bill stands where another should", Box::new(|| copy(&bills[3], bill))),
        ("a chunk is another", Box::new(|| copy(another, chunk))),
        (
            "a chunk is cut",
            Box::new(|| {
                let bytes = std::fs::read(chunk).expect("read");
                std::fs::write(chunk, &bytes[..bytes.len() / 2]).expect("written");
            }),
        ),
    ];
    let good: Vec<(PathBuf, PathBuf)> = [bill, chunk]
        .into_iter()
        .map(|path| (path.clone(), keep.path().join(path.file_name().expect("a name"))))
        .collect();
    for (path, kept) in &good {
        copy(path, kept);
    }
    for (what, harm) in harms {
        for part in ["log", "proj", "worm", "tlog", "identity"] {
            let path = world.data("b").join(part);
            let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        }
        let _ = std::fs::remove_dir_all(world.directory.path().join("place/b"));
        harm();
        let b = world.starts[1].ready();
        let refused = "flk_region_refused_total{source_region=\"a\"}";
        wait(what, || (metric(&b, refused) > 0.0).then_some(()));
        let peer = regions(&b)["peers"][0].clone();
        assert!(peer["records"].as_u64() < Some(number(&bills[2])), "{what}: {peer}");
        assert!(peer["waits"].is_string() && peer["quarantine"].is_null(), "{what}: {peer}");
        // Ingest does not feel it.
        accepted(&b.submit(&submission(9000).body));
        for (path, kept) in &good {
            copy(kept, path);
        }
        wait("it goes on when the place is whole again", || {
            let peer = regions(&b)["peers"][0].clone();
            (peer["digest"] == whole).then_some(())
        });
        b.kill();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("copied");
}

fn number(path: &Path) -> u64 {
    path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()).expect("a number")
}

/// The last record that the bills cover.
fn last(bills: &[PathBuf]) -> u64 {
    let text = std::fs::read_to_string(bills.last().expect("a bill")).expect("read");
    text.lines().find_map(|line| line.strip_prefix("to ")).and_then(|to| to.parse().ok()).expect("its end")
}

#[test]
fn bad_settings_are_refused_by_name() {
    let world = World::new();
    let place = world.directory.path().join("place");
    let vkey = world.data("b").join("keys/region.vkey");
    let (place, vkey) = (place.to_str().expect("text"), vkey.to_str().expect("text"));
    let log_only = world.data("b").join("keys/log.vkey");
    let cases = [
        ("b".to_owned(), "is not: name place vkey_file"),
        (format!("b /nowhere {vkey}"), "/nowhere"),
        (format!("b {place} /nowhere"), "/nowhere"),
        (format!("c {place} {vkey}"), "holds the key of"),
        (format!("a {place} {vkey}"), "that is this region"),
        (format!("b {place} {vkey},b {place} {vkey}"), "it stands twice"),
        (format!("b {place} {}", log_only.display()), "holds no mirror's key"),
        (format!("b/ {place} {vkey}"), "must be 1 to 64"),
        (format!("b s3://ship/x {vkey}"), "no [[store]] of regions.stores_file has the bucket 'ship'"),
        (format!("b gs://ship {vkey}"), "of kind gcs"),
        (format!("b az://ship {vkey}"), "not az://"),
        (format!("b https://h:1 {vkey}"), "needs regions.ca_file"),
        (format!("b {place} {place} {vkey}"), "is not: name place vkey_file"),
    ];
    for (peers, told) in cases {
        let (status, log) = world.starts[0].clone().with("FLK_REGIONS_PEERS", &peers).refused();
        assert!(!status.success() && log.contains(told), "{peers}: {log}");
    }
    for (name, value, told) in [
        ("FLK_REGIONS_PLACE", "direct", "needs regions.listen"),
        ("FLK_REGIONS_LISTEN", "127.0.0.1:0", "needs regions.place direct"),
        ("FLK_REGIONS_CA_FILE", "/nowhere", "are set together"),
        ("FLK_REGIONS_BYTES_PER_S", "1000", "at least 65536"),
    ] {
        let (status, log) = world.starts[0].clone().with(name, value).refused();
        assert!(!status.success() && log.contains(told), "{name}: {log}");
    }
    let (_, log) = world.starts[0].clone().with("FLK_REGIONS_PLACE", "/nowhere/at/all").refused();
    assert!(log.contains("regions.place /nowhere/at/all"), "{log}");
    let alone = Start::on(&world.data("c")).with("FLK_REGIONS_PEERS", &format!("b {place} {vkey}"));
    assert!(alone.refused().1.contains("regions.peers needs regions.place"));
}
