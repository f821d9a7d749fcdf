//! C6: nothing of one tenant shows in an answer to another, and one tenant's quota is nobody else's.

use super::Verdict;
use crate::evidence::Node;
use crate::history::{Event, Kind};

/// The checker.
pub fn check(history: &[Event], nodes: &[Node]) -> Verdict {
    let mut verdict = Verdict::new("C6", "tenants are apart");
    let (mut answers, mut guesses, mut limited) = (0, 0, 0);
    for event in history.iter().filter(|event| event.process.is_some()) {
        let Some(key) = event.key.as_deref() else { continue };
        let tenant = key.split('/').next().unwrap_or_default();
        let over = event
            .error
            .as_deref()
            .is_some_and(|error| error == "quota-exceeded" || error == "too-many-requests");
        match (event.f.as_str(), event.kind, event.value.as_deref()) {
            ("guess", Kind::Ok, Some(value)) => {
                verdict.wrong(format!(
                    "{key} belongs to another tenant, but host {} answered {value}",
                    event.node
                ));
            }
            ("guess", Kind::Ok, None) => guesses += 1,
            ("submit" | "read" | "final", Kind::Ok, Some(value)) => {
                answers += 1;
                if value.split('.').next() != Some(tenant) {
                    verdict.wrong(format!("{key}: host {} answered with {value}", event.node));
                }
            }
            ("submit", Kind::Fail, _) if over && tenant == "t3" => limited += 1,
            ("submit", Kind::Fail, _) if over => {
                verdict.wrong(format!(
                    "{key}: {tenant} has no limit, but host {} says it is used up",
                    event.node
                ));
            }
            _ => {}
        }
    }
    for node in nodes.iter().filter(|node| names(&node.metrics)) {
        verdict.wrong(format!("the metrics of host {} name a summary", node.host));
    }
    verdict.note = format!(
        "{answers} answers, {guesses} guesses that found nothing, {limited} submissions over a quota"
    );
    if guesses == 0 || limited == 0 || answers == 0 {
        verdict.unknown("no guess, no answer or no used up quota was seen");
    }
    verdict
}

/// Whether an id stands in a text.
fn names(text: &str) -> bool {
    text.split(|letter: char| !letter.is_ascii_hexdigit()).any(|word| word.len() == 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Valid;
    use crate::history::tests::event;

    fn history() -> Vec<Event> {
        let mut over = event(Kind::Fail, 3, "submit", "t3/c", Some("t3.0"));
        over.error = Some("quota-exceeded".to_owned());
        vec![
            event(Kind::Ok, 1, "submit", "t1/a", Some("t1.0@1#ff")),
            event(Kind::Ok, 2, "guess", "t2/b", None),
            over,
        ]
    }

    #[test]
    fn planted_violations_are_refused() {
        let says = |history: &[Event], metrics: &str| {
            check(history, &[Node { host: 1, metrics: metrics.to_owned(), ..Node::default() }]).valid
        };
        assert_eq!(says(&history(), "flk_records_total{tenant=\"t1\"} 3"), Valid::True);
        let planted = |at: usize, value: &str| {
            let mut history = history();
            history[at].value = Some(value.to_owned());
            says(&history, "")
        };
        assert_eq!(planted(0, "t2.0@1#ff"), Valid::False, "another tenant's body");
        assert_eq!(planted(1, "t1.0@1#ff"), Valid::False, "a guess that found something");
        let mut limited = history();
        limited[2].key = Some("t1/c".to_owned());
        assert_eq!(says(&limited, ""), Valid::False, "another tenant's quota");
        let id = "ab".repeat(32);
        assert_eq!(
            says(&history(), &format!("flk_last{{id=\"{id}\"}} 1")),
            Valid::False,
            "an id in the metrics"
        );
        assert_eq!(says(&[], ""), Valid::Unknown);
    }
}
