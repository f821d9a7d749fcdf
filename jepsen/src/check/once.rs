//! C5: at most one effect for each name, and every acknowledged one stands in the audit log where its answer says.

use super::Verdict;
use crate::evidence::Node;
use crate::history::{Event, Kind};
use serde_json::Value;
use std::collections::BTreeMap;

/// The checker.
pub fn check(history: &[Event], nodes: &[Node]) -> Verdict {
    let mut verdict = Verdict::new("C5", "at most one effect for each name");
    let Some(node) = nodes.iter().max_by_key(|node| node.entries.len()) else {
        verdict.unknown("no node showed its entries");
        return verdict;
    };
    // Name to place, for the entries that are effects.
    let mut effects: BTreeMap<String, usize> = BTreeMap::new();
    for (place, entry) in node.entries.iter().enumerate() {
        let Ok(entry) = serde_json::from_slice::<Value>(entry) else {
            verdict.wrong(format!("entry {place} is no JSON"));
            continue;
        };
        if entry["type"] != "pcs" {
            continue;
        }
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let name = format!("{}/{}", text("tenant"), text("pcs_id"));
        if let Some(first) = effects.insert(name.clone(), place) {
            verdict.wrong(format!("{name} took effect at entry {first} and again at {place}"));
        }
    }
    let mut acked: BTreeMap<&str, &str> = BTreeMap::new();
    for event in history.iter().filter(|event| event.f == "submit" && event.kind == Kind::Ok) {
        if let (Some(key), Some(value)) = (&event.key, &event.value) {
            acked.insert(key, value);
        }
    }
    for (key, value) in &acked {
        let said = value.split(['@', '#']).nth(1).and_then(|place| place.parse::<usize>().ok());
        let found = effects.get(*key).copied();
        if found.is_none() || found != said {
            verdict.wrong(format!("{key}: answered {value}, and its entry is {found:?}"));
        }
    }
    verdict.note = format!("{} effects, {} of them acknowledged to a client", effects.len(), acked.len());
    if acked.is_empty() {
        verdict.unknown("nothing was acknowledged");
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Valid;
    use crate::history::tests::event;

    #[test]
    fn planted_violations_are_refused() {
        let entry = |kind: &str, id: &str| {
            format!(r#"{{"pcs_id":"{id}","tenant":"t1","type":"{kind}"}}"#).into_bytes()
        };
        let node = |entries: Vec<Vec<u8>>| [Node { host: 1, entries, ..Node::default() }];
        let acked = [event(Kind::Ok, 1, "submit", "t1/a", Some("t1.0@1#ff"))];
        let says = |entries| check(&acked, &node(entries)).valid;
        let (policy, a, b) = (entry("policy", ""), entry("pcs", "a"), entry("pcs", "b"));
        assert_eq!(says(vec![policy.clone(), a.clone(), b.clone(), entry("conflict", "a")]), Valid::True);
        assert_eq!(says(vec![policy.clone(), a.clone(), b.clone(), a.clone()]), Valid::False, "twice");
        assert_eq!(says(vec![policy.clone(), b.clone()]), Valid::False, "lost");
        assert_eq!(says(vec![policy.clone(), b, a.clone()]), Valid::False, "elsewhere");
        assert_eq!(says(vec![policy, a, b"{".to_vec()]), Valid::False, "no entry");
        assert_eq!(check(&[], &node(Vec::new())).valid, Valid::Unknown);
        assert_eq!(check(&acked, &[]).valid, Valid::Unknown);
    }
}
