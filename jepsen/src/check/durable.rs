//! C2: what was acknowledged is on every node after everything has been healed, with the same answer, byte for byte.

use super::Verdict;
use crate::history::{Event, Kind, operations};
use std::collections::{BTreeMap, BTreeSet};

/// The checker; `hosts` are those that must have it.
pub fn check(history: &[Event], hosts: &[u64]) -> Verdict {
    let mut verdict = Verdict::new("C2", "acknowledged is durable on every node");
    let ops = operations(history).unwrap_or_default();
    let mut acked: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut found: BTreeMap<(&str, u64), Option<&str>> = BTreeMap::new();
    for op in &ops {
        let (Some(key), Some(end), Kind::Ok) = (op.call.key.as_deref(), op.end, op.kind()) else { continue };
        match (op.call.f.as_str(), end.value.as_deref()) {
            ("submit", Some(value)) => drop(acked.entry(key).or_default().insert(value)),
            // What a read saw once must not go away either.
            ("read", Some(value)) => drop(acked.entry(key).or_default().insert(value)),
            ("final", value) => drop(found.insert((key, end.node), value)),
            _ => {}
        }
    }
    verdict.note = format!("{} ids on {} nodes", acked.len(), hosts.len());
    for (key, answers) in &acked {
        if answers.len() > 1 {
            verdict.wrong(format!("{key}: the answer has changed: {answers:?}"));
        }
        for host in hosts {
            match found.get(&(key, *host)) {
                Some(Some(value)) if answers.contains(value) => {}
                Some(Some(value)) => {
                    verdict.wrong(format!("{key}: host {host} says {value}, not {answers:?}"))
                }
                Some(None) => verdict.wrong(format!("{key}: {answers:?} is lost on host {host}")),
                None => verdict.unknown(format!("{key}: host {host} was not read")),
            }
        }
    }
    if acked.is_empty() || hosts.is_empty() {
        verdict.unknown("nothing was acknowledged");
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Valid;
    use crate::history::tests::event;

    fn read(process: u64, node: u64, value: Option<&str>) -> [Event; 2] {
        let with = |kind, value| Event { node, ..event(kind, process, "final", "k", value) };
        [with(Kind::Invoke, None), with(Kind::Ok, value)]
    }

    fn history(first: Option<&str>, second: Option<&str>) -> Vec<Event> {
        let mut history = vec![
            event(Kind::Invoke, 1, "submit", "k", Some("t1.0")),
            event(Kind::Ok, 1, "submit", "k", Some("t1.0@5#aa")),
        ];
        history.extend(read(2, 1, first));
        history.extend(read(3, 2, second));
        history
    }

    #[test]
    fn planted_losses_are_refused() {
        let same = Some("t1.0@5#aa");
        assert_eq!(check(&history(same, same), &[1, 2]).valid, Valid::True);
        assert_eq!(check(&history(same, None), &[1, 2]).valid, Valid::False, "lost on one node");
        assert_eq!(check(&history(same, Some("t1.0@6#aa")), &[1, 2]).valid, Valid::False, "another place");
        assert_eq!(check(&history(same, Some("t1.0@5#ab")), &[1, 2]).valid, Valid::False, "other bytes");
        let mut changed = history(same, same);
        changed.extend([
            event(Kind::Invoke, 9, "submit", "k", Some("t1.0")),
            event(Kind::Ok, 9, "submit", "k", Some("t1.0@7#cc")),
        ]);
        assert_eq!(check(&changed, &[1, 2]).valid, Valid::False, "two answers");
    }

    #[test]
    fn what_was_not_read_is_unknown() {
        let same = Some("t1.0@5#aa");
        assert_eq!(check(&history(same, same), &[1, 2, 3]).valid, Valid::Unknown);
        assert_eq!(check(&[], &[1]).valid, Valid::Unknown);
    }
}
