//! The authority and all certificates of a group are replaced while it runs, and a mistake in between changes nothing.

use crate::pcs::submission;
use crate::tools;
use crate::trio::{Group, number, text, until};

/// Times a node has taken new certificates.
fn taken(group: &Group, node: u64) -> usize {
    group.nodes[&node].process.log().matches("new certificates: the next connections use them").count()
}

fn taken_by_all(group: &Group, times: usize) {
    until("every node takes them", || (1..=3).all(|node| taken(group, node) >= times));
}

#[test]
fn certificates_are_replaced_without_a_restart() {
    let mut group = Group::of(3);
    let (old, new) = (group.directory.path().join("certs"), group.directory.path().join("certs-new"));
    let said = tools::flk(&["cluster", "certs", text(&new), "--nodes", "1,2,3", "--years", "5"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let ends = |group: &Group| {
        number(&group.nodes[&2].get("/metrics").text(), "flk_certificate_end_timestamp_seconds")
    };
    let before = ends(&group);
    assert!(before > 1_700_000_000, "{before}");

    // Both authorities, then the new certificates, then the new authority alone.
    let pem = |path: &std::path::Path| std::fs::read_to_string(path.join("ca.pem")).expect("an authority");
    std::fs::write(old.join("ca.pem"), pem(&old) + &pem(&new)).expect("written");
    taken_by_all(&group, 1);
    for node in 1..=3 {
        for end in ["key", "pem"] {
            let name = format!("node-{node}.{end}");
            std::fs::copy(new.join(&name), old.join(&name)).expect("copied");
        }
    }
    taken_by_all(&group, 2);
    std::fs::copy(new.join("ca.pem"), old.join("ca.pem")).expect("copied");
    taken_by_all(&group, 3);
    assert!(ends(&group) > before);

    // Another node's certificate is refused, loudly, and the group does not notice.
    std::fs::copy(new.join("node-3.pem"), old.join("node-2.pem")).expect("copied");
    let refused = |group: &Group| number(&group.nodes[&2].get("/metrics").text(), "flk_certificates_refused");
    until("it is refused", || refused(&group) == 1);
    let page = group.nodes[&2].get("/readyz?verbose").text();
    assert!(page.contains("NEW ONES REFUSED") && page.contains("it is not for node-2.flk"), "{page}");
    assert!(group.nodes[&2].process.log().contains("the old ones stay in force"));
    assert_eq!(group.nodes[&2].submit(&submission(1).body).status, 200);
    std::fs::copy(new.join("node-2.pem"), old.join("node-2.pem")).expect("copied");
    until("it is mended", || refused(&group) == 0);

    // A node that knows only the new authority speaks with two that were not restarted.
    group.nodes.remove(&1).expect("it runs").stop();
    group.start(1);
    assert_eq!(group.nodes[&1].submit(&submission(2).body).status, 200);
    until("it leads", || group.leader() == 1 || group.cluster(&["transfer", "1"]).code == Some(0));
    assert_eq!(group.nodes[&3].submit(&submission(3).body).status, 200);
    group.insist_equal();
}
