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

/// The checker.
pub fn check(history: &[Event], nodes: &[Node]) -> Verdict {
    let mut verdict = Verdict::new("C9", "no sign of a defect in logs and answers");
    let mut lines = 0;
    for node in nodes {
        for line in node.log.lines() {
            lines += 1;
            if SIGNS.iter().any(|sign| line.contains(sign)) {
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
        assert_eq!(check(&[odd.clone()], &node("{\"level\":\"INFO\"}\n")).valid, Valid::True);
        for sign in SIGNS {
            assert_eq!(check(&[], &node(&format!("one\nit {sign} here\n"))).valid, Valid::False, "{sign}");
        }
        odd.error = Some("unexpected: 400 what".to_owned());
        assert_eq!(check(&[odd], &node("one\n")).valid, Valid::False);
        assert_eq!(check(&[], &node("")).valid, Valid::Unknown);
        assert_eq!(check(&[], &[]).valid, Valid::Unknown);
    }
}
