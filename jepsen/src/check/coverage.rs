//! C8: what a run has to have seen before it may say anything: every fault that was asked for, and enough answers
//! while faults lasted.

use super::Verdict;
use crate::history::{Event, Kind};

/// Acknowledged submissions while a fault lasts, at least.
const ENOUGH: usize = 100;

/// The checker; `faults` are the names of those that must have come. Of those that are in `by_end` only the end says whether they did.
pub fn check(history: &[Event], faults: &[&str], by_end: &[&str]) -> Verdict {
    let mut verdict = Verdict::new("C8", "every fault came, and clients were answered meanwhile");
    let mut came: Vec<&str> = Vec::new();
    let (mut lasting, mut faulty, mut unknown, mut steps) = (0usize, 0usize, 0usize, 0usize);
    for event in history {
        let value = event.value.as_deref().unwrap_or_default();
        match event.process {
            None if value.is_empty() => {}
            None => {
                if let Some(name) = event.f.strip_prefix("start-") {
                    steps += 1;
                    lasting += 1;
                    if value.starts_with("installed") && !by_end.contains(&name) {
                        came.push(name);
                    }
                } else if let Some(name) = event.f.strip_prefix("stop-") {
                    lasting = lasting.saturating_sub(1);
                    if value.starts_with("installed") && by_end.contains(&name) {
                        came.push(name);
                    }
                }
            }
            Some(_) if event.f == "submit" && event.kind == Kind::Ok && lasting > 0 => faulty += 1,
            Some(_) if event.kind == Kind::Info => unknown += 1,
            Some(_) => {}
        }
    }
    let absent: Vec<&str> = faults.iter().copied().filter(|fault| !came.contains(fault)).collect();
    if !absent.is_empty() {
        verdict.unknown(format!("never installed: {}", absent.join(", ")));
    }
    if !faults.is_empty() && faulty < ENOUGH {
        verdict.unknown(format!("only {faulty} submissions were acknowledged while a fault lasted"));
    }
    verdict.note = format!(
        "{} of {} kinds in {steps} starts; {faulty} submissions acknowledged under faults, {unknown} without an answer",
        faults.len() - absent.len(),
        faults.len()
    );
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Valid;
    use crate::history::tests::event;

    fn history(start: &str, stop: &str, f: &str) -> Vec<Event> {
        let fault = |f: String, value: &str| Event {
            process: None,
            key: None,
            ..event(Kind::Info, 0, &f, "", Some(value))
        };
        let mut history = vec![fault(format!("start-{f}"), start)];
        history.extend(vec![event(Kind::Ok, 1, "submit", "k", Some("t1.0@1")); ENOUGH]);
        history.push(fault(format!("stop-{f}"), stop));
        history
    }

    #[test]
    fn a_fault_that_did_not_come_is_unknown() {
        let says = |history: &[Event], faults: &[&str]| check(history, faults, &["fsync-error"]).valid;
        assert_eq!(says(&history("installed: host 1", "installed: up", "kill"), &["kill"]), Valid::True);
        assert_eq!(says(&history("skipped: down", "installed: up", "kill"), &["kill"]), Valid::Unknown);
        assert_eq!(
            says(&history("installed: host 1", "installed: up", "kill"), &["kill", "pause"]),
            Valid::Unknown
        );
        let failed = history("installed: host 1", "indeterminate: no fsync failed", "fsync-error");
        assert_eq!(says(&failed, &["fsync-error"]), Valid::Unknown);
        let few: Vec<Event> = history("installed: host 1", "installed: up", "kill").split_off(ENOUGH);
        assert_eq!(says(&few, &["kill"]), Valid::Unknown);
    }
}
