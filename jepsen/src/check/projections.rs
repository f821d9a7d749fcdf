//! C4: what nodes derive from the log is equal everywhere, and equal to a replay of each node's log from nothing,
//! twice; and every copy that an auditor took of a running or a crashed node verifies.

use super::Verdict;
use crate::evidence::Node;
use crate::history::{Event, Kind};

/// The checker.
pub fn check(history: &[Event], nodes: &[Node]) -> Verdict {
    let mut verdict = Verdict::new("C4", "projections equal everywhere, and equal to replays");
    for node in nodes {
        let host = node.host;
        if node.ledger.is_empty() {
            verdict.unknown(format!("host {host} did not say what it has applied"));
        } else if node.ledger != nodes[0].ledger {
            verdict
                .wrong(format!("host {host}: {}, host {}: {}", node.ledger, nodes[0].host, nodes[0].ledger));
        }
        if node.replays.len() < 2 {
            verdict.unknown(format!("host {host} was not replayed twice"));
        }
        for replay in node.replays.iter().filter(|replay| !replay.starts_with("exit Some(0)")) {
            verdict.wrong(format!("host {host}: replay: {replay}"));
        }
    }
    let copies: Vec<&Event> =
        history.iter().filter(|event| event.f == "copy" && event.kind == Kind::Ok).collect();
    for event in &copies {
        let said = event.value.as_deref().unwrap_or_default();
        if !said.starts_with("exit Some(0)") {
            let key = event.key.as_deref().unwrap_or_default();
            verdict.wrong(format!("{key} of host {}: worm verify: {said}", event.node));
        }
    }
    verdict.note = format!("{} nodes, {} copies verified", nodes.len(), copies.len());
    if nodes.is_empty() || copies.is_empty() {
        verdict.unknown("no node or no copy was looked at");
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Valid;
    use crate::history::tests::event;

    fn node(host: u64, ledger: &str) -> Node {
        let replays = vec!["exit Some(0): same".to_owned(); 2];
        Node { host, ledger: ledger.to_owned(), replays, ..Node::default() }
    }

    #[test]
    fn planted_differences_are_refused() {
        let copied = [event(Kind::Ok, 1, "copy", "running", Some("exit Some(0): fine"))];
        let says = |nodes: &[Node]| check(&copied, nodes).valid;
        assert_eq!(says(&[node(1, "5 ab"), node(2, "5 ab")]), Valid::True);
        assert_eq!(says(&[node(1, "5 ab"), node(2, "5 ac")]), Valid::False);
        let mut other = node(2, "5 ab");
        other.replays[1] = "exit Some(2): it differs".to_owned();
        assert_eq!(says(&[node(1, "5 ab"), other]), Valid::False);
        let tampered = [event(Kind::Ok, 1, "copy", "running", Some("exit Some(2): tampered"))];
        assert_eq!(check(&tampered, &[node(1, "5 ab")]).valid, Valid::False);
        assert_eq!(says(&[Node { replays: Vec::new(), ..node(1, "5 ab") }]), Valid::Unknown);
        assert_eq!(says(&[]), Valid::Unknown);
    }
}
