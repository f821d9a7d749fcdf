//! A real node whose disk runs full, and gets room again.

use crate::load::{Acked, Load, insist_all_present};
use crate::lossy::{Lossy, mount};
use crate::node::{Node, Start};
use crate::pcs::{Submission, submission};
use crate::tools;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);

fn on(disk: &Lossy) -> Start {
    // Small segments, so that a full disk is met soon.
    Start::on(&disk.path("data")).with("FLK_SEGMENT_BYTES", "262144")
}

/// Nothing that grows a file succeeds any more.
fn fill(disk: &Lossy) {
    disk.order(&format!("capacity {}", disk.tally("used")));
}

/// Submits until a submission is refused, and gives that one. Any answer but an acknowledgement and this refusal is
/// wrong, `outcome-unknown` too: it would mean that something was appended and waits.
fn submit_until_refused(node: &Node, first: u64) -> Submission {
    let deadline = Instant::now() + PATIENCE;
    for number in first.. {
        let submission = submission(number);
        let answer = node.submit(&submission.body);
        if answer.status == 200 {
            assert!(Instant::now() < deadline, "still acknowledged on a full disk");
            continue;
        }
        insist_refused_for_room(&answer);
        return submission;
    }
    unreachable!("numbers do not end");
}

fn insist_refused_for_room(answer: &crate::http::Response) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert!(answer.header("retry-after").is_some(), "503 says when to come back");
    let problem = answer.json();
    assert_eq!(problem["type"], "/problems/log-unavailable", "{problem}");
    assert_eq!(problem["detail"], "the disk is full", "{problem}");
    assert!(problem["error"].is_string(), "old clients read the member error: {problem}");
}

/// Waits until something holds.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One number of the metrics page.
fn metric(node: &Node, name: &str) -> u64 {
    let page = node.get("/metrics").text();
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{page}"))
}

/// The node says of itself that it is full, and still answers reads.
fn insist_reads_only(node: &Node, acked: &[Acked]) {
    for Acked { submission, .. } in acked.iter().take(5) {
        assert_eq!(node.get(&format!("/v1/pcs/{}", submission.id)).status, 200, "reads go on");
    }
    assert_eq!(node.get("/livez").status, 200);
    let ready = node.get("/readyz?verbose");
    assert_eq!(ready.status, 503, "a node that cannot write is not ready");
    assert!(ready.text().contains("[-] room: no room for submissions"), "{}", ready.text());
    assert_eq!(metric(node, "flk_disk_full"), 1);
    assert_eq!(metric(node, "flk_log_failed"), 0, "a full disk is not a failed one");
}

/// Room is there: without being asked to, and without a restart, the node is ready, takes submissions and writes what it
/// owes.
fn insist_it_goes_on(node: &Node, first: u64) {
    wait_until("space is back, but the node is not ready", || node.get("/readyz").status == 200);
    for number in first..first + 20 {
        assert_eq!(node.submit(&submission(number).body).status, 200, "submission {number}");
    }
    wait_until("the audit files and the checkpoint do not catch up", || {
        let leaves = metric(node, "flk_tree_leaves");
        metric(node, "flk_checkpoint_leaves") == leaves && metric(node, "flk_worm_entries_total") == leaves
    });
}

/// A node whose disk ran full under load, and what it had acknowledged by then.
fn filled(disk: &Lossy, start: &Start) -> (Node, Vec<Acked>) {
    let node = start.ready();
    let load = Load::start(node.address, CLIENTS, &Arc::new(AtomicU64::new(0)));
    load.wait_for(100);
    fill(disk);
    submit_until_refused(&node, 1 << 40);
    let acked = load.end();
    (node, acked)
}

#[test]
fn a_full_disk_refuses_before_the_record_and_reads_go_on() {
    let Some(disk) = mount() else { return };
    let start = on(&disk);
    let (node, acked) = filled(&disk, &start);
    // What the load had asked room for is used or given back by now, and the last of it is taken here.
    let refused = submit_until_refused(&node, 2 << 40);
    insist_reads_only(&node, &acked);
    // Many at once are refused like one: nothing waits for room that nobody makes.
    std::thread::scope(|scope| {
        for _ in 0..4 * CLIENTS {
            scope.spawn(|| insist_refused_for_room(&node.submit(&refused.body)));
        }
    });
    disk.order("heal");
    insist_it_goes_on(&node, 3 << 40);
    insist_all_present(&node, &acked);
    // What was refused was not appended: it is nowhere, and its first answer is still to come.
    assert_eq!(node.get(&format!("/v1/pcs/{}", refused.id)).status, 404);
    let answer = node.submit(&refused.body);
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, None));
    node.kill();
    let node = start.ready();
    insist_all_present(&node, &acked);
    node.stop();
    tools::insist_sound(&disk.path("data"));
}

#[test]
fn a_node_starts_on_a_full_disk_and_serves_what_it_has() {
    let Some(disk) = mount() else { return };
    let start = on(&disk);
    let (node, acked) = filled(&disk, &start);
    node.kill();
    for life in 0..4 {
        // Not even the segment that was ready before can be made again.
        fill(&disk);
        let node = start.alive();
        submit_until_refused(&node, (2 + life) << 40);
        insist_reads_only(&node, &acked);
        node.kill();
    }
    disk.order("heal");
    let node = start.ready();
    insist_it_goes_on(&node, 9 << 40);
    insist_all_present(&node, &acked);
    node.stop();
    tools::insist_sound(&disk.path("data"));
}
