//! A real node on a failing disk: power loss, a failed fsync, a full disk, rot.

use crate::load::{Acked, Load, insist_all_present};
use crate::lossy::{Lossy, mount};
use crate::node::{Node, Start};
use crate::pcs::submission;
use crate::tools;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
const FIRST_SEGMENT: &str = "data/log/00000000000000000001.seg";

fn on(disk: &Lossy) -> Start {
    // Smaller segments, so that power is lost near their ends, too.
    Start::on(&disk.path("data")).with("FLK_SEGMENT_BYTES", "262144")
}

#[test]
fn a_power_loss_takes_nothing_that_was_acknowledged() {
    let Some(disk) = mount() else { return };
    let start = on(&disk);
    let numbers = Arc::new(AtomicU64::new(0));
    let mut acked: Vec<Acked> = Vec::new();
    for seed in 0..6 {
        let node = start.ready();
        insist_all_present(&node, &acked);
        let load = Load::start(node.address, CLIENTS, &numbers);
        load.wait_for(150 + 41 * seed);
        node.kill();
        // The first loses all that was not synced, the others a different part each.
        disk.order(&if seed == 0 { "crash".to_owned() } else { format!("crash torn {seed}") });
        acked.extend(load.end());
    }
    assert!(disk.tally("lost_changes") + disk.tally("torn_writes") > 0, "no crash lost anything");
    let node = start.ready();
    insist_all_present(&node, &acked);
    node.stop();
    tools::insist_sound(&disk.path("data"));
}

#[test]
fn the_first_start_survives_a_power_loss() {
    // Nothing is older than the first segment and the identity: their names must be synced before an answer.
    for seed in 0..4 {
        let Some(disk) = mount() else { return };
        let start = on(&disk);
        let node = start.ready();
        let load = Load::start(node.address, 1, &Arc::new(AtomicU64::new(0)));
        load.wait_for(1);
        node.kill();
        disk.order(&if seed == 0 { "crash".to_owned() } else { format!("crash torn {seed}") });
        let acked = load.end();
        let node = start.ready();
        insist_all_present(&node, &acked);
    }
}

/// Waits until a submission is refused with 503 and gives that answer's body.
fn wait_for_refusal(node: &Node) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut number = 1 << 40;
    loop {
        let answer = node.submit(&submission(number).body);
        match answer.status {
            503 => {
                assert!(answer.header("retry-after").is_some(), "503 says when to come back");
                assert_eq!(answer.header("content-type"), Some("application/problem+json"));
                return answer.text();
            }
            200 => assert!(Instant::now() < deadline, "still acknowledged after the fault"),
            other => panic!("{other}: {}", answer.text()),
        }
        number += 1;
    }
}

#[test]
fn a_failed_fsync_stops_the_log_until_it_is_opened_again() {
    for mode in ["keep", "revert"] {
        let Some(disk) = mount() else { return };
        // One large segment and the fault bound to it: the preparation of a next one may fail without harm.
        let start = on(&disk).with("FLK_SEGMENT_BYTES", "16777216");
        let node = start.ready();
        let load = Load::start(node.address, CLIENTS, &Arc::new(AtomicU64::new(0)));
        load.wait_for(100);
        disk.order(&format!("fsync-eio 1 {mode} {FIRST_SEGMENT}"));
        wait_for_refusal(&node);
        let acked = load.end();
        assert_eq!(disk.tally("fsync_errors"), 1);
        // The next fsync would succeed, and lie: the node must not try.
        for number in 0..20 {
            assert_eq!(
                node.submit(&submission((2 << 40) + number).body).status,
                503,
                "after the failed fsync"
            );
        }
        let known = node.get(&format!("/v1/pcs/{}", acked[0].submission.id));
        assert_eq!(known.status, 200, "reads go on");
        assert_eq!(node.get("/readyz").status, 503, "a node that cannot write is not ready");
        assert_eq!(node.get("/livez").status, 200, "but it is alive");
        node.kill();
        disk.order("crash");
        let node = start.ready();
        insist_all_present(&node, &acked);
        assert_eq!(node.submit(&submission(3 << 40).body).status, 200, "a restart heals it");
        node.stop();
        tools::insist_sound(&disk.path("data"));
    }
}

#[test]
fn a_failed_write_stops_the_log_like_a_failed_fsync() {
    let Some(disk) = mount() else { return };
    let start = on(&disk).with("FLK_SEGMENT_BYTES", "16777216");
    let node = start.ready();
    let load = Load::start(node.address, CLIENTS, &Arc::new(AtomicU64::new(0)));
    load.wait_for(50);
    disk.order(&format!("write-eio 1 {FIRST_SEGMENT}"));
    wait_for_refusal(&node);
    let acked = load.end();
    node.kill();
    disk.order("crash");
    let node = start.ready();
    insist_all_present(&node, &acked);
}

#[test]
fn rot_below_a_durable_record_is_named_and_never_skipped() {
    let Some(disk) = mount() else { return };
    let start = on(&disk);
    let node = start.ready();
    let load = Load::start(node.address, CLIENTS, &Arc::new(AtomicU64::new(0)));
    load.wait_for(300);
    node.kill();
    drop(load.end());
    disk.order(&format!("rot {FIRST_SEGMENT} 20000 16"));
    let (status, log) = start.refused();
    assert!(status.code().is_some_and(|code| code != 0 && code != 101), "{status}:\n{log}");
    for word in ["00000000000000000001.seg", "offset"] {
        assert!(log.contains(word), "the refusal does not say {word}:\n{log}");
    }
    let said = tools::verify(&disk.path("data"));
    assert_eq!(said.code, Some(2), "{}", said.all());
    disk.order("heal");
    start.ready().stop();
}
