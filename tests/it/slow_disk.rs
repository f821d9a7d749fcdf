//! One slow disk of three costs the group its leader once, and nothing more; three slow ones cost it nothing more.

use crate::load::Load;
use crate::lossy::mount;
use crate::tools;
use crate::trio::{Group, number, text, until};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const SLOW: &str = "fsync-delay 150";

/// A limit below that.
fn limit() -> [(&'static str, String); 1] {
    [("FLK_CLUSTER_SLOW_SYNC_MS", "100".to_owned())]
}

fn metric(group: &Group, node: u64, name: &str) -> u64 {
    number(&group.nodes[&node].get("/metrics").text(), name)
}

#[test]
fn a_leader_with_a_slow_disk_hands_over_once_and_says_so() {
    let Some(disk) = mount() else { return };
    let group = Group::with(3, BTreeMap::from([(1, disk.path("data"))]), &limit());
    until("it leads", || group.leader() == 1 || group.cluster(&["transfer", "1"]).code == Some(0));
    let load = Load::start(group.nodes[&2].address, 4, &Arc::new(AtomicU64::new(0)));
    load.wait_for(50);
    assert_eq!(metric(&group, 1, "flk_disk_slow"), 0);
    disk.order(SLOW);
    until("the lead is handed over", || group.leader() != 1);
    until("that is counted", || metric(&group, 1, "flk_disk_hand_overs_total{reason=\"slow\"}") == 1);
    assert_eq!(metric(&group, 1, "flk_disk_slow"), 1);
    let page = group.nodes[&1].get("/readyz?verbose");
    assert!(page.status == 200 && page.text().contains("disk: SLOW"), "it follows: {}", page.text());
    let url = format!("http://{}", group.nodes[&1].address);
    let token = group.directory.path().join("token");
    let said = tools::flk(&["doctor", "--cluster", "--url", &url, "--token-file", text(&token)]);
    assert_eq!(said.code, Some(6), "{}", said.all());
    assert!(said.out.contains("disk: slow"), "{}", said.all());
    // Its disk does not hold up the others.
    load.wait_for(load.count() + 200);
    let acked = load.end();
    disk.order("heal");
    group.insist_sound(&acked);
}

#[test]
fn between_slow_disks_nothing_moves() {
    let disks: Vec<_> = (0..3).map_while(|_| mount()).collect();
    if disks.len() < 3 {
        return;
    }
    let homes = (1..).zip(disks.iter().map(|disk| disk.path("data"))).collect();
    let group = Group::with(3, homes, &limit());
    let leader = group.leader();
    let load = Load::start(group.nodes[&1].address, 4, &Arc::new(AtomicU64::new(0)));
    load.wait_for(50);
    disks.iter().for_each(|disk| disk.order(SLOW));
    until("the leader looks for another one", || {
        group.nodes[&leader].process.log().contains("no other voter's is better")
    });
    assert!(!group.nodes[&leader].get("/metrics").text().contains("flk_disk_hand_overs_total{"));
    assert_eq!(group.leader(), leader);
    drop(load.end());
}

#[test]
fn a_leader_with_a_full_disk_lets_one_with_room_lead() {
    let Some(disk) = mount() else { return };
    let group = Group::at(3, BTreeMap::from([(1, disk.path("data"))]));
    until("it leads", || group.leader() == 1 || group.cluster(&["transfer", "1"]).code == Some(0));
    let load = Load::start(group.nodes[&2].address, 8, &Arc::new(AtomicU64::new(0)));
    load.wait_for(100);
    disk.order(&format!("capacity {}", disk.tally("used")));
    until("the lead is handed over", || group.leader() != 1);
    until("that is counted", || metric(&group, 1, "flk_disk_hand_overs_total{reason=\"full\"}") == 1);
    load.wait_for(load.count() + 200);
    let acked = load.end();
    disk.order("heal");
    group.insist_sound(&acked);
}
