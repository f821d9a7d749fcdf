//! C9: no node's log holds a sign of a defect, and no answer was one that a client of a sound server never gets.

use super::Verdict;
use crate::evidence::Node;
use crate::history::Event;

/// What only a defect writes.
const SIGNS: &[&str] = &[
    "panicked at",
    "stack backtrace",
    "assertion failed",
    "RUST_BACKTRACE",
    "memory allocation of",
    "DIVERGENCE",
    "computed something else",
];

/// What a node whose disk neither fails nor rots never writes.
pub const OF_SOUND_DISKS: &[&str] = &["no longer written", "cannot be read back"];

/// The checker. `more` are signs beside those that any node would give.
pub fn check(history: &[Event], nodes: &[Node], more: &[&str]) -> Verdict {
    let mut verdict = Verdict::new("C9", "no sign of a defect in logs and answers");
    let mut lines = 0;
    for node in nodes {
        for line in node.log.lines() {
            lines += 1;
            if SIGNS.iter().chain(more).any(|sign| line.contains(sign)) {
                let line: String = line.chars().take(300).collect();
                verdict.wrong(format!("host {}: {line}", node.host));
            }
        }
        if node.log.is_empty() {
            verdict.unknown(format!("host {} has no log", node.host));
        }
    }
    for event in history.iter().filter(|event| event.process.is_some()) {
        if let Some(error) = event.error.as_deref().filter(|error| error.starts_with("unexpected")) {
            verdict.wrong(format!("host {} at {}: {error}", event.node, event.f));
        }
    }
    verdict.note = format!("{lines} lines of {} nodes", nodes.len());
    if nodes.is_empty() {
        verdict.unknown("no log was read");
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Valid;
    use crate::history::Kind;
    use crate::history::tests::event;

    #[test]
    fn planted_signs_are_refused() {
        let node = |log: &str| [Node { host: 1, log: log.to_owned(), ..Node::default() }];
        let mut odd = event(Kind::Info, 1, "submit", "k", None);
        assert_eq!(check(&[odd.clone()], &node("{\"level\":\"INFO\"}\n"), &[]).valid, Valid::True);
        for sign in SIGNS {
            assert_eq!(
                check(&[], &node(&format!("one\nit {sign} here\n")), &[]).valid,
                Valid::False,
                "{sign}"
            );
        }
        let stopped = node("projections are no longer written");
        assert_eq!(check(&[], &stopped, &[]).valid, Valid::True, "a disk may have failed");
        assert_eq!(check(&[], &stopped, OF_SOUND_DISKS).valid, Valid::False);
        odd.error = Some("unexpected: 400 what".to_owned());
        assert_eq!(check(&[odd], &node("one\n"), &[]).valid, Valid::False);
        assert_eq!(check(&[], &node(""), &[]).valid, Valid::Unknown);
        assert_eq!(check(&[], &[], &[]).valid, Valid::Unknown);
    }
}
