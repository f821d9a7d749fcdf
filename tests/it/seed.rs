//! A new node begins with a member's files: over a link that breaks, through restarts of both ends, and from a member whose
//! files are not what they should be.

use crate::load::{Acked, Load};
use crate::node::Node;
use crate::tools;
use crate::trio::{Group, until};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Small, so that a short load makes many.
const SMALL: &[(&str, &str)] = &[("FLK_SEGMENT_BYTES", "262144")];

const WHOLE: &str = "a segment came whole";
const BEGINS: &str = "the log begins with a member's segments";

fn metric(node: &Node, name: &str) -> u64 {
    let page = node.get("/metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{page}"))
}

/// Has a group acknowledge something until one of its nodes has sealed that many segments.
fn fill(group: &Group, node: u64, sealed: u64) -> Vec<Acked> {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let numbers = Arc::new(AtomicU64::new(NUMBERS.fetch_add(1_000_000, Ordering::Relaxed)));
    let load = Load::start(group.nodes[&node].address, 8, &numbers);
    until("segments are sealed", || metric(&group.nodes[&node], "flk_log_sealed_segments") >= sealed);
    load.end()
}

fn count(log: &str, what: &str) -> usize {
    log.matches(what).count()
}

fn has_log(directory: &Path) -> bool {
    directory.join("log").join("MANIFEST").exists()
}

#[test]
fn a_new_node_begins_with_files_and_is_as_good_as_the_others() {
    let mut group = Group::first_of(3, SMALL);
    let mut acked = fill(&group, 1, 12);
    for node in [2, 3] {
        group.copy_keys(node);
        let process = group.command(node).spawn();
        until("it has its files", || process.log().contains(BEGINS));
        group.take_in(node, process);
        let (seeded, all) =
            (metric(&group.nodes[&node], "flk_seed_lsn"), metric(&group.nodes[&node], "flk_log_last_lsn"));
        assert!(seeded * 10 > all * 8, "only {seeded} of {all} records came as files");
    }
    assert!(metric(&group.nodes[&1], "flk_files_sent_bytes_total") >= 2 * 12 * 262_144);
    let leader = group.leader();
    group.nodes.remove(&leader).expect("it runs").kill();
    let other = *group.nodes.keys().next().expect("two run");
    let now = metric(&group.nodes[&other], "flk_log_sealed_segments");
    acked.extend(fill(&group, other, now + 2));
    group.start(leader);
    group.insist_sound(&acked);
}

#[test]
fn broken_links_and_restarts_of_either_end_cost_only_what_was_under_way() {
    let mut group = Group::first_of(2, SMALL);
    let acked = fill(&group, 1, 20);
    group.copy_keys(2);
    let link = Link::to(group.ports[&1].1, 1_300_000, 2_200_000);
    let join = format!("1={}", link.address);
    let command = group.command(2).with("FLK_CLUSTER_JOIN", &join);

    let process = command.spawn();
    until("the link broke and a little more came", || {
        count(&process.log(), WHOLE) >= 7 || has_log(&group.data(2))
    });
    let first = process.log();
    drop(process);
    assert!(link.broke.load(Ordering::Relaxed), "{first}");
    assert!(count(&first, "waiting for a member to go on") >= 1, "{first}");
    assert!(!has_log(&group.data(2)), "half a log looks like one");

    // The other end goes away in the middle, too, and comes back.
    link.allow(3_200_000);
    let process = command.spawn();
    until("it goes on", || count(&process.log(), WHOLE) >= 3 || has_log(&group.data(2)));
    group.nodes.remove(&1).expect("it runs").kill();
    assert!(!has_log(&group.data(2)), "{}", process.log());
    group.start(1);
    link.allow(u64::MAX);
    until("it has its files", || process.log().contains(BEGINS));
    let second = process.log();
    let fetched = count(&first, WHOLE) + count(&second, WHOLE);
    let there = std::fs::read_dir(group.data(2).join("log")).expect("a directory").count();
    // Beside the copies: the manifest, the spare, the next segment and perhaps the one after it.
    assert!(fetched <= there - 3, "{fetched} segments were fetched for a log of {there} files\n{second}");
    group.take_in(2, process);
    let bytes = metric(&group.nodes[&2], "flk_seed_bytes_total");
    let left = (there - count(&first, WHOLE)) as u64;
    assert!(bytes <= left * 262_144, "what was there was fetched again: {bytes} bytes for {left} segments");
    group.insist_sound(&acked);
}

#[test]
fn a_member_whose_files_do_not_hold_is_refused_and_another_one_asked() {
    let mut group = Group::first_of(3, SMALL);
    group.copy_keys(2);
    let process = group.command(2).spawn();
    group.take_in(2, process);
    let acked = fill(&group, 1, 6);
    until("node 2 has sealed some", || metric(&group.nodes[&2], "flk_log_sealed_segments") >= 4);
    let path = group.data(2).join("log").join(format!("{:020}.seg", 3));
    let mut bytes = std::fs::read(&path).expect("a segment");
    bytes[100_000] ^= 1;
    std::fs::write(&path, bytes).expect("written");

    group.copy_keys(3);
    let both = format!("2={},1={}", group.ports[&2].1, group.ports[&1].1);
    let process = group.command(3).with("FLK_CLUSTER_JOIN", &both).spawn();
    until("it has its files", || process.log().contains(BEGINS));
    let log = process.log();
    assert!(log.contains("is refused") && log.contains("segment 3"), "{log}");
    group.take_in(3, process);
    assert_eq!(metric(&group.nodes[&3], "flk_seed_refused_total"), 1);
    crate::load::insist_all_present(&group.nodes[&3], &acked);
    for (_, node) in std::mem::take(&mut group.nodes) {
        node.kill();
    }
    tools::insist_sound(&group.data(3));
}

/// A way to a node that breaks once, in the middle of something, and lets so many bytes through and no more.
struct Link {
    address: SocketAddr,
    broke: Arc<AtomicBool>,
    allowed: Arc<AtomicU64>,
}

impl Link {
    /// Breaks after so many bytes have come from the node, and stops after so many.
    fn to(node: SocketAddr, breaks: u64, allowed: u64) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (broke, allowed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(allowed)));
        let (broken, limit) = (broke.clone(), allowed.clone());
        std::thread::spawn(move || {
            let passed = Arc::new(AtomicU64::new(0));
            let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(node) else { continue };
                let clone = |stream: &TcpStream| stream.try_clone().expect("a handle");
                open.lock().expect("the list").extend([clone(&near), clone(&far)]);
                let (to_far, to_near) = ((clone(&near), clone(&far)), (far, near));
                std::thread::spawn(move || carry(to_far.0, to_far.1, |_| {}));
                let (passed, open, broken, limit) =
                    (passed.clone(), open.clone(), broken.clone(), limit.clone());
                std::thread::spawn(move || {
                    carry(to_near.0, to_near.1, |bytes| {
                        let all = passed.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
                        if all > breaks && !broken.swap(true, Ordering::Relaxed) {
                            for stream in open.lock().expect("the list").drain(..) {
                                let _ = stream.shutdown(Shutdown::Both);
                            }
                        }
                        while passed.load(Ordering::Relaxed) > limit.load(Ordering::Relaxed) {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    });
                });
            }
        });
        Link { address, broke, allowed }
    }

    /// From now on it lets so many bytes through, all in all.
    fn allow(&self, bytes: u64) {
        self.allowed.store(bytes, Ordering::Relaxed);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, mut seen: impl FnMut(usize)) {
    let mut buffer = [0; 32 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        seen(bytes);
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[test]
fn a_members_ledger_is_taken_up_and_confirmed_by_the_log() {
    let settings = [SMALL, &[("FLK_SNAPSHOT_RECORDS", "150"), ("FLK_ATTEST_RECORDS", "64")]].concat();
    let mut group = Group::first_of(3, &settings);
    let mut acked = fill(&group, 1, 8);
    let kept = group.data(1).join("proj").join("snapshot.sealed");
    until("a ledger within the sealed segments is kept", || {
        let now = metric(&group.nodes[&1], "flk_log_sealed_segments");
        kept.exists() || fill(&group, 1, now + 1).is_empty()
    });
    group.copy_keys(2);
    let process = group.command(2).spawn();
    until("it has its files", || process.log().contains(BEGINS));
    assert!(process.log().contains("holds together and is taken up"), "{}", process.log());
    group.take_in(2, process);
    acked.extend(fill(&group, 2, metric(&group.nodes[&2], "flk_log_sealed_segments") + 2));
    let log = group.nodes[&2].process.log();
    assert!(log.contains("is what the log attests"), "{log}");
    assert!(!group.data(2).join("proj").join("unconfirmed").exists());

    // A member whose audit files were changed has no ledger for others, but its log is good.
    let mut files = vec![group.data(1).join("worm")];
    while files[0].is_dir() {
        let list = std::fs::read_dir(&files[0]).expect("a directory");
        files = list
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_dir() || path.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        files.sort();
    }
    let text = std::fs::read_to_string(&files[0]).expect("an audit file");
    std::fs::set_permissions(&files[0], std::fs::Permissions::from_mode(0o644)).expect("a mode");
    std::fs::write(&files[0], text.replacen("\"time\":1", "\"time\":2", 1)).expect("written");
    group.copy_keys(3);
    let process = group.command(3).spawn();
    until("it has its files", || process.log().contains(BEGINS));
    assert!(process.log().contains("ledger is refused"), "{}", process.log());
    group.take_in(3, process);
    crate::load::insist_all_present(&group.nodes[&3], &acked);
    group.insist_equal();
    for (_, node) in std::mem::take(&mut group.nodes) {
        node.kill();
    }
    tools::insist_sound(&group.data(2));
    tools::insist_sound(&group.data(3));
}
