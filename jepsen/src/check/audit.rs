//! C3: the audit log only grows, is the same everywhere, and holds what its receipts and checkpoints promised.

use super::Verdict;
use super::merkle::{Hash, Tree, leaf};
use crate::evidence::Node;
use crate::history::{Event, Kind};
use crate::pcs::hex;
use std::collections::BTreeMap;

/// The checker: every checkpoint and receipt that a client saw, against the entries that every node shows at the end.
pub fn check(history: &[Event], nodes: &[Node]) -> Verdict {
    let mut verdict = Verdict::new("C3", "the audit log grows only, equal everywhere, receipts hold");
    let Some(longest) = nodes.iter().max_by_key(|node| node.entries.len()) else {
        verdict.unknown("no node showed its entries");
        return verdict;
    };
    for node in nodes {
        let equal = node.entries.iter().zip(&longest.entries).position(|(one, other)| one != other);
        if let Some(at) = equal {
            verdict.wrong(format!("hosts {} and {} differ at entry {at}", node.host, longest.host));
        }
        if node.entries.len() != longest.entries.len() {
            verdict.unknown(format!(
                "host {} shows {} of {} entries",
                node.host,
                node.entries.len(),
                longest.entries.len()
            ));
        }
        match node.verify {
            Some(0) => {}
            Some(code) => {
                verdict.wrong(format!("worm verify of host {} ended with {code}: {}", node.host, node.said))
            }
            None => verdict.unknown(format!("worm verify of host {} did not run to its end", node.host)),
        }
    }
    let leaves: Vec<Hash> = longest.entries.iter().map(|entry| leaf(entry)).collect();
    let seen = |f: &str| {
        let f = f.to_owned();
        let ended = history.iter().filter(move |event| event.kind == Kind::Ok && event.f == f);
        ended.filter_map(|event| Some((event, event.value.as_deref()?)))
    };
    let mut roots: BTreeMap<u64, BTreeMap<&str, &Event>> = BTreeMap::new();
    let mut checkpoints = 0;
    for (event, value) in seen("checkpoint") {
        let Some((size, root)) = pair(value) else {
            verdict.wrong(format!("a checkpoint without size or root: {value}"));
            continue;
        };
        checkpoints += 1;
        roots.entry(size).or_default().insert(root, event);
    }
    let mut receipts = 0;
    for (event, value) in seen("receipt") {
        let parts: Vec<&str> = value.split(' ').collect();
        let [index, hash, checkpoint] = parts[..] else {
            verdict.wrong(format!("a receipt that says {value}"));
            continue;
        };
        receipts += 1;
        let at = index.parse::<usize>().ok().and_then(|index| leaves.get(index));
        if at.is_none_or(|at| hex(at) != hash) {
            let key = event.key.as_deref().unwrap_or_default();
            verdict.wrong(format!(
                "{key}: host {} gave a receipt for entry {index}, which is another one",
                event.node
            ));
        }
        if let Some((size, root)) = pair(checkpoint) {
            roots.entry(size).or_default().insert(root, event);
        }
    }
    let mut tree = Tree::default();
    let mut grown = 0;
    for (size, seen) in &roots {
        let Ok(whole) = usize::try_from(*size) else { continue };
        if whole > leaves.len() {
            verdict
                .wrong(format!("a checkpoint over {size} entries was shown, and {} are left", leaves.len()));
            break;
        }
        leaves[grown..whole].iter().for_each(|leaf| tree.push(*leaf));
        grown = whole;
        let root = hex(&tree.root());
        for (other, event) in seen.iter().filter(|(other, _)| **other != root) {
            verdict.wrong(format!(
                "host {} showed the root {other} over {size} entries, not {root}",
                event.node
            ));
        }
    }
    verdict.note = format!(
        "{} entries, {checkpoints} checkpoints and {receipts} receipts seen by clients",
        leaves.len()
    );
    if checkpoints == 0 || receipts == 0 {
        verdict.unknown("no checkpoint or no receipt was seen");
    }
    verdict
}

/// `size:root`.
fn pair(text: &str) -> Option<(u64, &str)> {
    let (size, root) = text.split_once(':')?;
    Some((size.parse().ok()?, root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Valid;
    use crate::check::merkle;
    use crate::history::tests::event;

    fn node(host: u64, entries: &[&str]) -> Node {
        let entries = entries.iter().map(|entry| entry.as_bytes().to_vec()).collect();
        Node { host, entries, verify: Some(0), ..Node::default() }
    }

    fn root(entries: &[&str]) -> String {
        let mut tree = Tree::default();
        entries.iter().for_each(|entry| tree.push(merkle::leaf(entry.as_bytes())));
        format!("{}:{}", entries.len(), hex(&tree.root()))
    }

    fn history(checkpoints: &[String], receipt: &str) -> Vec<Event> {
        let mut history: Vec<Event> = Vec::new();
        for value in checkpoints {
            history.push(event(Kind::Ok, 1, "checkpoint", "log", Some(value)));
        }
        history.push(event(Kind::Ok, 2, "receipt", "t1/k", Some(receipt)));
        history
    }

    fn receipt(index: u64, entry: &str, checkpoint: &str) -> String {
        format!("{index} {} {checkpoint}", hex(&merkle::leaf(entry.as_bytes())))
    }

    #[test]
    fn planted_violations_are_refused() {
        let all = ["a", "b", "c", "d", "e"];
        let (two, five) = (root(&all[..2]), root(&all));
        let good = receipt(1, "b", &five);
        let both = [node(1, &all), node(2, &all)];
        let says = |history: &[Event], nodes: &[Node]| check(history, nodes).valid;
        assert_eq!(says(&history(&[two.clone(), five.clone()], &good), &both), Valid::True);
        let other = [node(1, &all), node(2, &["a", "b", "X", "d", "e"])];
        assert_eq!(says(&history(std::slice::from_ref(&two), &good), &other), Valid::False, "entries differ");
        let forged = root(&["a", "X"]);
        assert_eq!(says(&history(&[forged], &good), &both), Valid::False, "another root");
        let longer = root(&["a", "b", "c", "d", "e", "f"]);
        assert_eq!(says(&history(&[longer], &good), &both), Valid::False, "entries are gone");
        assert_eq!(
            says(&history(std::slice::from_ref(&two), &receipt(1, "X", &five)), &both),
            Valid::False,
            "a receipt for nothing"
        );
        let bad = [node(1, &all), Node { verify: Some(2), ..node(2, &all) }];
        assert_eq!(
            says(&history(std::slice::from_ref(&two), &good), &bad),
            Valid::False,
            "worm verify says no"
        );
        let short = [node(1, &all), node(2, &all[..4])];
        assert_eq!(
            says(&history(std::slice::from_ref(&two), &good), &short),
            Valid::Unknown,
            "a node is behind"
        );
        assert_eq!(says(&[], &both), Valid::Unknown);
        assert_eq!(says(&history(&[two], &good), &[]), Valid::Unknown);
    }
}
