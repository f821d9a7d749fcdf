//! C1: every summary is a register that is set once, and the clients' histories of it are linearizable.
//!
//! For such a register linearizability is a comparison of a few places, no search: all that was seen is one winner;
//! somebody whose submission has not failed sent it; and there is a moment after the first submission of the winner
//! and after the beginning of every read that saw nothing, before the end of every operation that saw the winner.
//! A brute-force search over all orders agrees on small random histories (see the test).

use super::Verdict;
use crate::history::{Event, Kind, Op, operations};
use crate::pcs::label;
use std::collections::BTreeMap;

/// One operation on one register.
#[derive(Clone, Debug)]
struct Access<'a> {
    /// What is submitted; `None` is a read.
    sets: Option<&'a str>,
    from: usize,
    /// Past every place if it may not have ended.
    until: usize,
    /// What it saw, if that is known.
    saw: Option<Option<&'a str>>,
}

fn access<'a>(op: &Op<'a>) -> Option<Access<'a>> {
    let sets = match op.call.f.as_str() {
        "submit" => Some(label(op.call.value.as_deref()?)),
        "read" | "final" => None,
        _ => return None,
    };
    let saw = match op.kind() {
        // It did not happen; if its value is seen nevertheless, nobody has sent it.
        Kind::Fail => return None,
        Kind::Ok => Some(op.end?.value.as_deref().map(label)),
        Kind::Info | Kind::Invoke => None,
    };
    Some(Access { sets, from: op.from, until: op.until, saw })
}

/// Checks one register; says what contradicts.
fn register(accesses: &[Access<'_>]) -> Result<(), String> {
    let mut winner: Option<&str> = None;
    // The beginnings and ends between which the winner must have been set.
    let (mut after, mut before) = (0, usize::MAX);
    for access in accesses {
        match access.saw {
            None => {}
            Some(None) if access.sets.is_some() => {
                return Err("a submission was answered without a winner".to_owned());
            }
            Some(None) => after = after.max(access.from),
            Some(Some(seen)) => {
                if let Some(other) = winner.filter(|other| *other != seen) {
                    return Err(format!("two winners: {other} and {seen}"));
                }
                winner = Some(seen);
                before = before.min(access.until);
            }
        }
    }
    let Some(winner) = winner else { return Ok(()) };
    let sent = accesses.iter().filter(|access| access.sets == Some(winner)).map(|access| access.from).min();
    let sent =
        sent.ok_or_else(|| format!("{winner} won, but nobody sent it, or all who did were told it failed"))?;
    if sent.max(after) >= before {
        return Err(format!(
            "{winner} was seen at {before}, but was sent first at {sent} and was not there at {after}"
        ));
    }
    Ok(())
}

/// The checker.
pub fn check(history: &[Event]) -> Verdict {
    let mut verdict = Verdict::new("C1", "set once, linearizable");
    let ops = match operations(history) {
        Ok(ops) => ops,
        Err(why) => {
            verdict.wrong(why);
            return verdict;
        }
    };
    let mut registers: BTreeMap<&str, Vec<Access<'_>>> = BTreeMap::new();
    for op in &ops {
        if let (Some(key), Some(access)) = (op.call.key.as_deref(), access(op)) {
            registers.entry(key).or_default().push(access);
        }
    }
    let contested = |accesses: &&Vec<Access<'_>>| {
        let mut sent: Vec<&str> = accesses.iter().filter_map(|access| access.sets).collect();
        sent.sort_unstable();
        sent.dedup();
        sent.len() > 1
    };
    let known = registers.values().flatten().filter(|access| access.saw.is_some()).count();
    let many = registers.values().filter(contested).count();
    verdict.note = format!("{known} operations on {} ids, {many} of them contested", registers.len());
    for (key, accesses) in &registers {
        if let Err(why) = register(accesses) {
            verdict.wrong(format!("{key}: {why}"));
        }
    }
    if many == 0 {
        verdict.unknown("no id had rivals");
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Valid;
    use crate::history::tests::event;
    use crate::rng::Rng;

    /// Tries every order that keeps "ended before began".
    fn brute<'a>(left: &[Access<'a>], state: Option<&'a str>) -> bool {
        if left.iter().all(|access| access.until == usize::MAX) {
            return true;
        }
        let first_end = left.iter().map(|access| access.until).min().unwrap_or(usize::MAX);
        (0..left.len()).any(|nth| {
            let access = &left[nth];
            if access.from > first_end {
                return false;
            }
            let next = state.or(access.sets);
            if access.saw.is_some_and(|saw| saw != next) {
                return false;
            }
            let mut rest = left.to_vec();
            rest.swap_remove(nth);
            brute(&rest, next)
        })
    }

    fn random(rng: &mut Rng) -> Vec<Access<'static>> {
        let names = ["a", "b", "c", "d", "e", "f"];
        let count = rng.between(1, 6) as usize;
        let mut places: Vec<usize> = (0..2 * count).collect();
        rng.shuffle(&mut places);
        let one = |nth: usize| {
            let (from, until) =
                (places[2 * nth].min(places[2 * nth + 1]), places[2 * nth].max(places[2 * nth + 1]));
            let sets = rng.chance(1, 2).then_some(names[nth]);
            let lost = rng.chance(1, 5);
            let few = [Some("a"), Some("a"), Some("b"), None];
            let all = names.map(Some);
            let saw = if rng.chance(1, 3) { *rng.pick(&all[..count]) } else { *rng.pick(&few) };
            Access { sets, from, until: if lost { usize::MAX } else { until }, saw: (!lost).then_some(saw) }
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn it_agrees_with_a_search_of_all_orders() {
        let mut rng = Rng::new(1, "brute force");
        let (mut good, mut bad) = (0, 0);
        for _ in 0..60_000 {
            let accesses = random(&mut rng);
            let (fast, slow) = (register(&accesses).is_ok(), brute(&accesses, None));
            assert_eq!(fast, slow, "{accesses:#?}");
            if slow { good += 1 } else { bad += 1 }
        }
        assert!(good > 5_000 && bad > 5_000, "{good} linearizable, {bad} not: too few of one kind");
    }

    fn history() -> Vec<Event> {
        let (call, ok) = (Kind::Invoke, Kind::Ok);
        vec![
            event(call, 1, "read", "k", None),
            event(call, 2, "submit", "k", Some("t1.0")),
            event(call, 3, "submit", "k", Some("t1.1")),
            event(ok, 1, "read", "k", None),
            event(ok, 3, "submit", "k", Some("t1.0@5#aa")),
            event(Kind::Info, 2, "submit", "k", Some("t1.0")),
            event(call, 4, "read", "k", None),
            event(ok, 4, "read", "k", Some("t1.0@5#aa")),
        ]
    }

    #[test]
    fn a_good_history_passes_and_an_uncontested_one_says_nothing() {
        assert_eq!(check(&history()).valid, Valid::True);
        assert_eq!(check(&[]).valid, Valid::Unknown);
    }

    #[test]
    fn planted_violations_are_refused() {
        let planted = |at: usize, value: Option<&str>| {
            let mut history = history();
            history[at].value = value.map(str::to_owned);
            check(&history).valid
        };
        assert_eq!(planted(7, Some("t1.1@6#bb")), Valid::False, "two winners");
        assert_eq!(planted(7, None), Valid::False, "a stale read");
        assert_eq!(planted(4, None), Valid::False, "a submission without a winner");
        let mut unsent = history();
        unsent[4].value = Some("t1.4@5#aa".to_owned());
        unsent[7].value = Some("t1.4@5#aa".to_owned());
        assert_eq!(check(&unsent).valid, Valid::False, "a winner that nobody sent");
        let mut failed = history();
        failed[5].kind = Kind::Fail;
        assert_eq!(check(&failed).valid, Valid::False, "a failed submission took effect");
        let mut torn = history();
        torn.remove(2);
        assert_eq!(check(&torn).valid, Valid::False, "no history");
    }
}
