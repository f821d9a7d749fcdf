//! `kill -9` under load: nothing that was acknowledged is lost or changed, and a clean stop loses nothing at all.

use crate::load::{Acked, Load, insist_all_present};
use crate::node::Start;
use crate::tools;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const CLIENTS: usize = 8;
const ROUNDS: usize = 5;
/// Acknowledged before each kill; enough to cross a segment of 1 MiB in a round.
const A_ROUND: usize = 400;

#[test]
fn a_killed_node_keeps_every_acknowledged_record() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = Start::on(directory.path());
    let numbers = Arc::new(AtomicU64::new(0));
    let mut acked: Vec<Acked> = Vec::new();
    for round in 0..ROUNDS {
        let node = start.ready();
        insist_all_present(&node, &acked);
        let load = Load::start(node.address, CLIENTS, &numbers);
        // Different places in the life of a batch: the kill is not aligned with anything.
        load.wait_for(A_ROUND + 37 * round);
        node.kill();
        acked.extend(load.end());
    }
    let node = start.ready();
    insist_all_present(&node, &acked);
    node.stop();
    tools::insist_sound(directory.path());
    let node = start.ready();
    insist_all_present(&node, &acked);
    node.kill();
    tools::insist_sound(directory.path());
}

#[test]
fn a_terminated_node_finishes_what_it_has_accepted() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = Start::on(directory.path());
    let node = start.ready();
    let load = Load::start(node.address, CLIENTS, &Arc::new(AtomicU64::new(0)));
    load.wait_for(200);
    node.stop();
    let acked = load.end();
    tools::insist_sound(directory.path());
    let node = start.ready();
    insist_all_present(&node, &acked);
}

#[test]
fn projections_come_back_from_the_log_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = Start::on(directory.path());
    let node = start.ready();
    let load = Load::start(node.address, CLIENTS, &Arc::new(AtomicU64::new(0)));
    load.wait_for(500);
    let acked = load.end();
    let before = node.get("/tlog/default/checkpoint");
    node.kill();
    for projection in ["proj", "tlog", "worm"] {
        let path = directory.path().join(projection);
        if path.exists() {
            std::fs::remove_dir_all(&path).expect("removed");
        }
    }
    let node = start.ready();
    insist_all_present(&node, &acked);
    assert_eq!(before.status, 200);
    node.stop();
    tools::insist_sound(directory.path());
}
