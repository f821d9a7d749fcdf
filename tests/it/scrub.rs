//! Rot in a sealed segment of a running node: found by the scrubber, named, and survived.

use crate::load::{Load, insist_all_present};
use crate::lossy::mount;
use crate::node::{Node, Start};
use crate::pcs::submission;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

const SEGMENT: &str = "00000000000000000001.seg";

fn wait_until(node: &Node, what: &str, mut holds: impl FnMut(&str) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let page = node.get("/metrics").text();
        if holds(&page) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}:\n{page}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn has(page: &str, line: &str) -> bool {
    page.lines().any(|one| one == line)
}

/// A number of the page that only grows.
fn count(page: &str, name: &str) -> u64 {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{page}"))
}

#[test]
fn rot_in_a_sealed_segment_of_a_running_node_is_found_and_named() {
    let Some(disk) = mount() else { return };
    let start = Start::on(&disk.path("data"))
        .with("FLK_SEGMENT_BYTES", "262144")
        .with("FLK_SCRUB_BYTES_PER_S", "1073741824")
        .with("FLK_SCRUB_EVERY_MS", "50");
    let node = start.ready();
    let load = Load::start(node.address, 8, &Arc::new(AtomicU64::new(0)));
    load.wait_for(400);
    let acked = load.end();
    wait_until(&node, "no pass over a sealed segment", |page| {
        count(page, "flk_scrub_passes_total") > 0 && count(page, "flk_scrub_bytes_total") >= 262_144
    });
    let page = node.get("/metrics").text();
    assert!(has(&page, "flk_scrub_damage 0"), "a sound log has no damage:\n{page}");
    assert_eq!(node.get("/readyz").status, 200);

    disk.order(&format!("rot data/log/{SEGMENT} 40000 16"));
    wait_until(&node, "the rot is not found", |page| has(page, "flk_scrub_damage 1"));
    let ready = node.get("/readyz?verbose");
    assert_eq!(ready.status, 503);
    let line = ready.text();
    let line = line.lines().find(|line| line.starts_with("[-] segments:")).expect("the check that failed");
    for word in [SEGMENT, "offset", "after lsn", "expected", "found"] {
        assert!(line.contains(word), "{word} is missing in {line}");
    }
    let log = node.process.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("a sealed segment is damaged")).collect();
    assert_eq!(said.len(), 1, "said once, not on every pass:\n{log}");
    for field in ["\"segment\":1", "\"offset\":", "\"lsn\":", "\"expected\":", "\"found\":"] {
        assert!(said[0].contains(field), "{field} is missing in {}", said[0]);
    }

    let refused = node.submit(&submission(1 << 40).body);
    assert_eq!(refused.status, 503, "a single node refuses to write: {}", refused.text());
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.json()["type"], "/problems/log-unavailable");
    let newest = &acked.last().expect("some").submission;
    assert_eq!(node.get(&format!("/v1/pcs/{}", newest.id)).status, 200, "reads go on");
    assert_eq!(node.get("/livez").status, 200);

    disk.order("heal");
    wait_until(&node, "the restored segment is not seen", |page| has(page, "flk_scrub_damage 0"));
    assert_eq!(node.get("/readyz").status, 200);
    assert_eq!(
        node.submit(&submission(1 << 40).body).status,
        200,
        "nothing was appended when it was refused"
    );
    insist_all_present(&node, &acked);
    node.stop();
}
