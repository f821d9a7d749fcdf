//! Rot in the logs of real nodes (F3, F4): one that rotted while it was away is repaired from the others before it takes
//! part, and ends equal; what all have lost is skipped by nobody.

use crate::http::Connection;
use crate::load::Load;
use crate::node::Process;
use crate::tools;
use crate::trio::{Group, number, text, until};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const BLOCK: usize = 4096;

fn segment(group: &Group, node: u64, number: u64) -> PathBuf {
    group.data(node).join("log").join(format!("{number:020}.seg"))
}

/// Numbers of the segments that were begun, in order.
fn begun(group: &Group, node: u64) -> Vec<u64> {
    let head = |path: &Path| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"FLKSEGMT"));
    (1..1000).take_while(|number| head(&segment(group, node, *number))).collect()
}

/// Other bytes in a stretch of a file, which keeps its length all the time.
fn rot(path: &Path, range: std::ops::Range<usize>) {
    let mut bytes = std::fs::read(path).expect("it reads")[range.clone()].to_vec();
    bytes.iter_mut().for_each(|byte| *byte ^= 0x5A);
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("it opens");
    file.write_all_at(&bytes, range.start as u64).expect("it writes");
}

/// Where the batches of a segment stand.
fn batches(path: &Path) -> Vec<usize> {
    let bytes = std::fs::read(path).expect("it reads");
    let at = |block: &usize| bytes[*block..*block + 4] == *b"FLKB";
    (BLOCK..bytes.len()).step_by(BLOCK).filter(at).collect()
}

/// Three nodes with small segments, read again without pause, and submissions that all of them have.
fn group_at_work() -> (Group, Vec<crate::load::Acked>) {
    let settings = [
        ("FLK_SEGMENT_BYTES", "262144".to_owned()),
        ("FLK_SCRUB_BYTES_PER_S", "1073741824".to_owned()),
        ("FLK_SCRUB_EVERY_MS", "50".to_owned()),
    ];
    let group = Group::with(3, BTreeMap::new(), &settings);
    let load = Load::start(group.nodes[&1].address, 6, &Arc::new(AtomicU64::new(0)));
    load.wait_for(700);
    // How much of a segment they fill depends on how many went into a batch.
    until("some segments are full", || begun(&group, 3).len() > 4);
    let acked = load.end();
    group.insist_equal();
    (group, acked)
}

#[test]
fn f3_a_node_that_rotted_while_it_was_away_is_repaired_before_it_takes_part() {
    let (mut group, acked) = group_at_work();
    group.nodes.remove(&3).expect("it runs").stop();
    // Nothing is remembered but the log, so that all of it is read.
    std::fs::remove_dir_all(group.data(3).join("proj")).expect("it is there");
    let numbers = begun(&group, 3);
    let (first, last) = (segment(&group, 3, 1), segment(&group, 3, *numbers.last().expect("some")));
    assert!(numbers.len() > 2, "{numbers:?}");
    let whole = std::fs::read(&first).expect("it reads");
    let at = batches(&first)[2];
    rot(&first, at + 300..at + 340);
    // In the last segment only what later batches knew to be durable can be told from a torn end.
    let in_last = batches(&last);
    let proven = in_last.len() > 8;
    if proven {
        rot(&last, in_last[0]..in_last[0] + BLOCK);
    }
    group.start(3);
    let page = group.nodes[&3].get("/metrics").text();
    assert_eq!(number(&page, "flk_repairs_done_total"), 1 + u64::from(proven), "{page}");
    assert_eq!(number(&page, "flk_repairs_failed_total"), 0, "{page}");
    assert!(std::fs::read(&first).expect("it reads") == whole, "the sealed segment is not what it was");
    let said = group.nodes[&3].process.log();
    assert!(said.contains("has been repaired from the other nodes"), "{said}");
    group.insist_sound(&acked);
}

/// Each of the two has what the other one lacks, and the third one is away: they answer each other while they wait.
#[test]
fn f3_two_that_rotted_at_different_places_repair_each_other() {
    let (mut group, mut acked) = group_at_work();
    std::mem::take(&mut group.nodes).into_values().for_each(crate::node::Node::stop);
    let rotten = [(1, segment(&group, 1, 2)), (2, segment(&group, 2, 1))];
    let whole = rotten.clone().map(|(node, path)| {
        assert!(begun(&group, node).len() > 3, "both must be sealed");
        std::fs::remove_dir_all(group.data(node).join("proj")).expect("it is there");
        let bytes = std::fs::read(&path).expect("it reads");
        let at = batches(&path)[3];
        rot(&path, at + 300..at + 340);
        bytes
    });
    let processes = [1, 2].map(|node| (node, group.command(node).spawn()));
    for (node, process) in processes {
        group.wait(node, process);
    }
    for ((node, path), whole) in rotten.iter().zip(whole) {
        let page = group.nodes[node].get("/metrics").text();
        assert_eq!(number(&page, "flk_repairs_done_total"), 1, "{page}");
        assert!(
            std::fs::read(path).expect("it reads") == whole,
            "the segment of node {node} is not what it was"
        );
    }
    let load = Load::start(group.nodes[&1].address, 6, &Arc::new(AtomicU64::new(1 << 20)));
    load.wait_for(100);
    acked.extend(load.end());
    // Without them it would have found nobody to agree with.
    group.start(3);
    // `worm verify` of each of them, too.
    group.insist_sound(&acked);
}

#[test]
fn f3_segments_that_were_cut_short_or_are_gone_are_made_again() {
    let (mut group, acked) = group_at_work();
    group.nodes.remove(&3).expect("it runs").stop();
    std::fs::remove_dir_all(group.data(3).join("proj")).expect("it is there");
    // Next to each other they could not be: each is known by its neighbours.
    let (first, second) = (segment(&group, 3, 1), segment(&group, 3, 3));
    assert!(begun(&group, 3).len() > 3);
    let cut = std::fs::OpenOptions::new().write(true).open(&first).expect("it opens");
    cut.set_len(10 * BLOCK as u64).expect("it is cut");
    std::fs::remove_file(&second).expect("it is there");
    group.start(3);
    // Its votes and marks nobody else has, so one of them has got other bytes and says what it stands for.
    let said = group.nodes[&3].process.log();
    assert!(said.contains("\"exact\":false"), "{said}");
    assert!(second.exists());
    let copy = group.directory.path().join("copy");
    for args in
        [vec!["snapshot", "save", text(&group.data(3)), text(&copy)], vec!["snapshot", "verify", text(&copy)]]
    {
        let done = tools::flk(&args);
        assert_eq!(done.code, Some(0), "{args:?}: {}", done.all());
    }
    group.insist_sound(&acked);
}

#[test]
fn f3_rot_under_a_running_node_is_repaired_as_soon_as_somebody_can_help() {
    let (mut group, acked) = group_at_work();
    let first = segment(&group, 3, 1);
    let whole = std::fs::read(&first).expect("it reads");
    let at = batches(&first)[2];
    let metric = |group: &Group, name: &str| number(&group.nodes[&3].get("/metrics").text(), name);

    rot(&first, at + 300..at + 340);
    until("it is repaired", || metric(&group, "flk_repairs_done_total") == 1);
    until("it is seen to be whole", || metric(&group, "flk_scrub_damage") == 0);
    assert!(std::fs::read(&first).expect("it reads") == whole, "the sealed segment is not what it was");

    for node in [1, 2] {
        group.nodes.remove(&node).expect("it runs").kill();
    }
    rot(&first, at + 300..at + 340);
    until("nobody can help", || metric(&group, "flk_repairs_failed_total") > 0);
    assert_eq!(metric(&group, "flk_scrub_damage"), 1);
    let ready = group.nodes[&3].get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("[-] segments:"), "{}", ready.text());
    for node in [1, 2] {
        let started = group.start_alive(node);
        group.nodes.insert(node, started);
    }
    until("they can", || metric(&group, "flk_repairs_done_total") == 2);
    assert!(std::fs::read(&first).expect("it reads") == whole, "the sealed segment is not what it was");
    group.insist_sound(&acked);
}

#[test]
fn f4_what_all_nodes_have_lost_is_skipped_by_nobody() {
    let (mut group, _) = group_at_work();
    std::mem::take(&mut group.nodes).into_values().for_each(crate::node::Node::stop);
    for node in 1..=3 {
        std::fs::remove_dir_all(group.data(node).join("proj")).expect("it is there");
        // At another place in each file, and the same records in all of them.
        rot(&segment(&group, node, 1), 2 * BLOCK..40 * BLOCK);
    }
    let processes: Vec<Process> = (1..=3).map(|node| group.command(node).spawn()).collect();
    for process in &processes {
        // The founder may have lost the record that says whom it could ask: it refuses, and names the place.
        until("it says what it waits for, or refuses", || {
            let log = process.log();
            log.contains("takes no part in the group until its log is repaired")
                || log.contains("the log cannot be opened")
        });
    }
    until("probes are told", || {
        [2, 3].into_iter().any(|node| {
            let get = |path: &str| Connection::open(group.ports[&node].0).and_then(|mut c| c.get(path));
            let told = get("/readyz").is_ok_and(|page| {
                page.status == 503
                    && page.text().starts_with("[-] start: segment 1 is damaged and not repaired yet")
            });
            told && get("/livez").is_ok_and(|page| page.status == 200)
                && get("/v1/pcs/x").is_ok_and(|page| {
                    page.status == 503 && page.json()["type"] == "/problems/log-unavailable"
                })
        })
    });
    drop(processes);
    let said = tools::worm(&["verify", text(&group.data(1))]);
    assert_eq!(said.code, Some(2), "nothing was made up: {}", said.all());
}
