//! C7: after a fault is taken away, every node answers submissions again in bounded time.

use super::Verdict;
use crate::history::{Event, Kind};

/// Longest time without an acknowledged submission after a fault, nanoseconds.
const BOUND: u64 = 30_000_000_000;

/// The checker; `over` is when clients were told to stop.
pub fn check(history: &[Event], over: u64) -> Verdict {
    let mut verdict = Verdict::new("C7", "answers again within 30 s of the end of a fault");
    let mut times = Vec::new();
    let nemesis = |event: &&Event| event.process.is_none() && event.value.is_some();
    for event in history.iter().filter(nemesis) {
        if event.f == "unsettled" {
            let why = event.value.as_deref().unwrap_or_default();
            verdict.wrong(format!(
                "{:.1} s: not all nodes were ready 30 s after a fault: {why}",
                seconds(event.time)
            ));
        }
        if !event.f.starts_with("stop-") {
            continue;
        }
        // The next fault may come first; then what it breaks is not held against this one.
        let later = history.iter().filter(|other| other.time > event.time);
        let next = later.clone().filter(nemesis).find(|other| other.f.starts_with("start-"));
        let acked = later.clone().find(|other| other.f == "submit" && other.kind == Kind::Ok);
        let until = next.map_or(over, |next| next.time).min(over);
        match acked.map(|acked| acked.time - event.time) {
            Some(time) if time <= BOUND => times.push(time),
            _ if until.saturating_sub(event.time) <= BOUND => {}
            _ => verdict.wrong(format!(
                "{:.1} s: after {} nothing was acknowledged for 30 s",
                seconds(event.time),
                event.f
            )),
        }
    }
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(longest)) => {
            verdict.note = format!(
                "{} faults ended; first answer after {:.2} s (median), {:.2} s (longest)",
                times.len(),
                seconds(*median),
                seconds(*longest)
            );
        }
        _ => verdict.unknown("no answer was seen after a fault"),
    }
    verdict
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Valid;
    use crate::history::tests::event;

    fn at(second: u64, event: Event) -> Event {
        Event { time: second * 1_000_000_000, ..event }
    }

    fn fault(second: u64, f: &str) -> Event {
        let nemesis = Event { process: None, key: None, ..event(Kind::Info, 0, f, "", Some("installed")) };
        at(second, nemesis)
    }

    fn ok(second: u64) -> Event {
        at(second, event(Kind::Ok, 1, "submit", "k", Some("t1.0@1")))
    }

    #[test]
    fn planted_outages_are_refused() {
        let says = |history: &[Event], over: u64| check(history, over * 1_000_000_000).valid;
        let begin = [ok(1), fault(2, "start-kill"), fault(5, "stop-kill")];
        let with = |rest: &[Event]| [&begin[..], rest].concat();
        assert_eq!(says(&with(&[ok(34)]), 100), Valid::True);
        assert_eq!(says(&with(&[ok(36)]), 100), Valid::False, "too late");
        assert_eq!(says(&with(&[]), 100), Valid::False, "never");
        assert_eq!(says(&with(&[ok(6), fault(40, "unsettled")]), 100), Valid::False, "a node stayed away");
        assert_eq!(says(&begin, 20), Valid::Unknown, "it was over first");
        assert_eq!(says(&[ok(1)], 100), Valid::Unknown);
    }
}
