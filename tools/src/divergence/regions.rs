//! `flk divergence` between nodes of two regions: every region's log as far as both have it, then the first rows of all of them, cut
//! by what both know, then what is made of them together.
//!
//! A log's records are the same wherever they lie, so regions that stand at different places can be compared; what only one
//! of them has is told as what it is, not as a difference.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Difference, Side, first, rows, text};
use crate::report::{Exit, Fault, Report, State, Table};
use crate::ui::{Ui, thousands};

/// Parts asked for at once: rows are all looked at for every question.
const KEY_PARTS: u64 = 256;
/// Where the first four bytes of a key end.
const KEYS_END: u64 = 1 << 32;

/// What one side knows of all regions.
struct Known<'a> {
    own: String,
    /// Of each region: one more than its last record there, and the rest of what is said of it.
    logs: BTreeMap<String, (u64, &'a Value)>,
}

impl<'a> Known<'a> {
    fn of(end: &'a Value) -> Option<Known<'a>> {
        let regions = &end["regions"];
        let own = regions["own"].as_str()?.to_owned();
        let row =
            |log: &'a Value| Some((log["region"].as_str()?.to_owned(), (log["records"].as_u64()?, log)));
        let logs = regions["logs"].as_array()?.iter().map(row).collect::<Option<_>>()?;
        Some(Known { own, logs })
    }

    fn end(&self, region: &str) -> u64 {
        self.logs.get(region).map_or(1, |(end, _)| *end)
    }
}

/// Whether these are nodes of two regions that know of regions.
pub(super) fn are_two(ends: &[Value; 2]) -> bool {
    match (Known::of(&ends[0]), Known::of(&ends[1])) {
        (Some(one), Some(other)) => one.own != other.own,
        _ => false,
    }
}

/// Compares.
pub(super) fn compare(
    sides: &mut [&mut dyn Side; 2],
    ends: &[Value; 2],
    from: u64,
    ui: Ui,
) -> Result<Report, Fault> {
    let (Some(one), Some(other)) = (Known::of(&ends[0]), Known::of(&ends[1])) else {
        unreachable!("asked before")
    };
    let known = [one, other];
    let mut report = Report::new("flk divergence");
    let mut names: Vec<&String> = known.iter().flat_map(|known| known.logs.keys()).collect();
    names.sort();
    names.dedup();
    let (mut questions, mut differs) = (0, None);
    let mut cut = Vec::new();
    for name in names {
        let [here, there] = [known[0].end(name), known[1].end(name)];
        let common = here.min(there);
        cut.push(format!("{name}:{common}"));
        ui.say(&format!("comparing {} records of region {name}", thousands(common - 1)));
        let of = format!("shipped&log={name}");
        let (found, rounds) = first(sides, &of, (from, common), super::PARTS)?;
        questions += 2 * rounds;
        let lacks = match here.cmp(&there) {
            std::cmp::Ordering::Equal => String::new(),
            unequal => {
                let less = usize::from(unequal.is_gt());
                let (end, most) = (common, here.max(there) - 1);
                format!("; not comparable yet: {} lacks records {end} to {most}", known[less].own)
            }
        };
        match found {
            None => report.check(
                format!("log of {name}"),
                State::Ok,
                format!("{} records compared, all equal{lacks}", thousands(common.saturating_sub(from))),
            ),
            Some(found) => {
                let detail = format!("record {} is the first that differs", found.at);
                report.check(format!("log of {name}"), State::Fail, detail);
                differs.get_or_insert((format!("record {} of the log of {name}", found.at), found));
            }
        }
    }
    if differs.is_none() {
        ui.say("comparing first rows");
        let of = format!("rows&cut={}", cut.join(","));
        let (found, rounds) = first(sides, &of, (0, KEYS_END), KEY_PARTS)?;
        questions += 2 * rounds;
        match found {
            None => {
                report.check("first rows", State::Ok, format!("equal, as far as {} count", cut.join(" ")))
            }
            Some(found) => {
                let key = key(&found.shown);
                report.check("first rows", State::Fail, format!("key {key} is the first that differs"));
                differs = Some((format!("the first row of key {key}"), found));
            }
        }
    }
    let apart = states(&mut report, &known, ends);
    report.verdict = match &differs {
        Some((what, found)) => {
            report.lines.push(format!("A is region {}, B is region {}", known[0].own, known[1].own));
            report.table = Some(Table { headings: vec!["what", "A", "B"], rows: rows(&found.shown) });
            format!("DIFFERENT: {what}; next: flk replay --check on both directories says whose was changed")
        }
        None if apart => {
            "DIFFERENT: the same logs and rows, another state; next: flk replay --check on both".into()
        }
        None => "equal as far as both go".into(),
    };
    if differs.is_some() || apart {
        report.exit = Exit::Tampered;
    }
    let shown = |(what, found): &(String, Difference)| json!({"what": what, "at": found.at, "one": found.shown[0], "other": found.shown[1]});
    report.data = json!({
        "nodes": ends, "equal": differs.is_none() && !apart, "cut": cut, "questions": questions,
        "first": differs.as_ref().map(shown),
    });
    Ok(report)
}

/// What each says of itself, and what both make of all logs, where they know the same of them. Whether anything is wrong.
fn states(report: &mut Report, known: &[Known<'_>; 2], ends: &[Value; 2]) -> bool {
    let mut wrong = false;
    for (known, end) in known.iter().zip(ends) {
        if end["diverged"].is_object() {
            wrong = true;
            let after = text(&end["diverged"]["after"]);
            let detail = format!("this node halted: it computed something else after record {after}");
            report.check(format!("region {}", known.own), State::Fail, detail);
        }
        for (name, (_, log)) in &known.logs {
            if let Some(record) = log["quarantine"]["record"].as_u64() {
                wrong = true;
                let part = text(&log["quarantine"]["part"]);
                let detail = format!("the log of {name} contradicts itself at record {record} ({part})");
                report.check(format!("region {}", known.own), State::Fail, detail);
            }
        }
    }
    let sums = |known: &Known<'_>| -> Vec<(String, Value)> {
        known.logs.iter().map(|(name, (_, log))| (name.clone(), log["digest"].clone())).collect()
    };
    if sums(&known[0]) != sums(&known[1]) {
        report.check(
            "merged",
            State::Skipped,
            "not comparable now: they know different amounts of each other",
        );
        return wrong;
    }
    let [one, other] = [&ends[0]["regions"]["merged"], &ends[1]["regions"]["merged"]];
    if one == other {
        report.check("merged", State::Ok, format!("both have {}", text(one)));
    } else {
        wrong = true;
        report.check("merged", State::Fail, format!("{} and {}", text(one), text(other)));
    }
    wrong
}

/// The key of the first row that either shows and the other does not.
fn key(shown: &[Value; 2]) -> String {
    let empty = Vec::new();
    let list = |side: &Value| side["rows"].as_array().unwrap_or(&empty).clone();
    let (one, other) = (list(&shown[0]), list(&shown[1]));
    let nth = (0..one.len().max(other.len())).find(|n| one.get(*n) != other.get(*n)).unwrap_or(0);
    let row = one.get(nth).or(other.get(nth)).cloned().unwrap_or(Value::Null);
    text(&row["key"])
}

#[cfg(test)]
mod tests {
    use super::super::tests::Numbers;
    use super::*;

    fn end(own: &str, a: u64, b: u64, sum: &str, merged: &str) -> Value {
        let log = |region: &str, records: u64| json!({"region": region, "records": records, "digest": sum});
        json!({"node": 1, "cluster": own, "regions": {"own": own, "logs": [log("a", a), log("b", b)], "merged": merged}})
    }

    #[test]
    fn what_one_lacks_is_no_difference() {
        let (mut one, mut other) = (Numbers::to(10), Numbers::to(10));
        let ends = [end("a", 9, 4, "x", "m"), end("b", 5, 9, "y", "n")];
        assert!(are_two(&ends));
        let report = compare(&mut [&mut one, &mut other], &ends, 1, Ui::quiet()).unwrap();
        assert_eq!(report.exit, Exit::Ok, "{:?}", report.checks);
        let said: Vec<&str> = report.checks.iter().map(|check| check.detail.as_str()).collect();
        assert!(
            said[0].contains("4 records compared, all equal; not comparable yet: b lacks records 5 to 8"),
            "{said:?}"
        );
        assert!(
            said[1].contains("3 records compared, all equal; not comparable yet: a lacks records 4 to 8"),
            "{said:?}"
        );
        assert!(said[3].contains("not comparable now"), "{said:?}");
    }

    #[test]
    fn the_first_record_or_the_state_that_differs_is_named() {
        let (mut one, mut other) = (Numbers::to(10), Numbers::wrong_at(10, 3));
        let ends = [end("a", 9, 9, "x", "m"), end("b", 9, 9, "x", "m")];
        let report = compare(&mut [&mut one, &mut other], &ends, 1, Ui::quiet()).unwrap();
        assert_eq!((report.exit, report.data["first"]["at"].as_u64()), (Exit::Tampered, Some(3)));
        assert!(report.verdict.contains("record 3 of the log of a"), "{}", report.verdict);
        let (mut one, mut other) = (Numbers::to(10), Numbers::to(10));
        let ends = [end("a", 9, 9, "x", "m"), end("b", 9, 9, "x", "n")];
        let report = compare(&mut [&mut one, &mut other], &ends, 1, Ui::quiet()).unwrap();
        assert_eq!(report.exit, Exit::Tampered, "{}", report.verdict);
        assert!(!are_two(&[ends[0].clone(), ends[0].clone()]) && !are_two(&[json!({}), ends[1].clone()]));
    }
}
