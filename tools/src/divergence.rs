//! `flk divergence`: where two nodes of a group, or of two regions, ceased to be equal.
//!
//! Both are asked for digests over the same ranges, first of the log and then of the leaves that came of it. Of the
//! ranges that differ the first is asked for in parts, until one record or one leaf is left, which both show: some
//! sixty-fold fewer places with every pair of questions.

mod regions;

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Admin, Server};
use crate::report::{Exit, Fault, Report, State, Table};
use crate::ui::{Ui, thousands};

/// Names the first record, row or projection in which two nodes of a group or of two regions differ
///
/// Exit codes: 0 they agree as far as both go, 1 a node cannot be asked, 2 they differ.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// One node
    pub one: String,
    /// Another one
    pub other: String,
    /// File with the certificates (PEM) of the authorities that addresses with https are held to [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<std::path::PathBuf>,
    /// File of the administrator's token; else the environment variable FLK_ADMIN_TOKEN
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<std::path::PathBuf>,
    /// Compare records from here on: the first ranges are as long as the log, and both nodes read all of it
    #[arg(long, value_name = "RECORD", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub from: u64,
    /// Seconds to wait for one answer
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
}

/// Parts asked for at once.
const PARTS: u64 = 64;
/// Tries while another comparison is under way.
const TRIES: u32 = 20;

/// Something that can be asked for digests.
trait Side {
    /// `GET /v1/cluster/compare` with this query.
    fn ask(&mut self, query: &str) -> Result<Value, Fault>;
}

impl Side for Admin {
    fn ask(&mut self, query: &str) -> Result<Value, Fault> {
        let path = format!("/v1/cluster/compare{query}");
        for _ in 1..TRIES {
            let answer = self.send("GET", &path, &[])?;
            if answer.status != 409 {
                return if answer.status == 200 { Ok(answer.json()) } else { Err(self.refused(&answer)) };
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        let answer = self.send("GET", &path, &[])?;
        if answer.status == 200 { Ok(answer.json()) } else { Err(self.refused(&answer)) }
    }
}

/// The first place that differs, as both sides show it.
#[derive(Debug, PartialEq)]
struct Difference {
    at: u64,
    shown: [Value; 2],
}

/// The first of `from..to` that differs, and how many pairs of questions it took.
fn first(
    sides: &mut [&mut dyn Side; 2],
    of: &str,
    (mut from, mut to): (u64, u64),
    parts: u64,
) -> Result<(Option<Difference>, u32), Fault> {
    let mut rounds = 0;
    while from < to {
        let query = format!("?of={of}&from={from}&to={to}&parts={parts}");
        let [one, other] = [sides[0].ask(&query)?, sides[1].ask(&query)?];
        rounds += 1;
        let empty = Vec::new();
        let parts = |answer: &Value| answer["parts"].as_array().unwrap_or(&empty).clone();
        let (ones, others) = (parts(&one), parts(&other));
        let unlike = || {
            Fault::new(
                "the nodes answer differently",
                of,
                "not the same ranges",
                "upgrade both to one version",
            )
        };
        if ones.len() != others.len() || ones.is_empty() {
            return Err(unlike());
        }
        let Some(part) = ones.iter().zip(&others).find(|(a, b)| a != b).map(|(a, _)| a) else {
            return Ok((None, rounds));
        };
        if to - from == 1 {
            let shown = [one["shown"].clone(), other["shown"].clone()];
            return Ok((Some(Difference { at: from, shown }), rounds));
        }
        let (Some(first), Some(last)) = (part["from"].as_u64(), part["to"].as_u64()) else {
            return Err(unlike());
        };
        // A part that is no smaller than the whole would be asked for again for ever.
        if first < from || last > to || first >= last || last - first >= to - from {
            return Err(unlike());
        }
        (from, to) = (first, last);
    }
    Ok((None, rounds))
}

/// Compares.
///
/// # Errors
/// A node cannot be asked, or they keep different logs.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let server = |url: &str| Server {
        url: url.to_owned(),
        ca: args.ca.clone(),
        token_file: args.token_file.clone(),
        timeout: args.timeout,
    };
    let (mut one, mut other) = (Admin::new(&server(&args.one))?, Admin::new(&server(&args.other))?);
    let ends = [one.ask("")?, other.ask("")?];
    if regions::are_two(&ends) {
        return regions::compare(&mut [&mut one, &mut other], &ends, args.from, ui);
    }
    if ends[0]["cluster"] != ends[1]["cluster"] {
        let why = format!("cluster {} and cluster {}", text(&ends[0]["cluster"]), text(&ends[1]["cluster"]));
        let what = "the nodes belong neither to one group nor to two regions";
        return Err(Fault::new(what, format!("{} and {}", args.one, args.other), why, "flk cluster members"));
    }
    compare(&mut [&mut one, &mut other], &ends, args.from, ui)
}

fn compare(sides: &mut [&mut dyn Side; 2], ends: &[Value; 2], from: u64, ui: Ui) -> Result<Report, Fault> {
    let mut report = Report::new("flk divergence");
    let number = |end: &Value, name: &str| end[name].as_u64().unwrap_or(0);
    let names = [0, 1].map(|n| format!("node {}", text(&ends[n]["node"])));
    let common = |name: &str| number(&ends[0], name).min(number(&ends[1], name));
    ui.say(&format!(
        "comparing the {} records that both have",
        thousands(common("records").saturating_sub(1))
    ));
    let (record, rounds) = first(sides, "records", (from, common("records")), PARTS)?;
    let (leaf, more) = first(sides, "leaves", (0, common("leaves")), PARTS)?;
    let count = common("records").saturating_sub(from);
    match &record {
        None => report.check("records", State::Ok, format!("{} compared, all equal", thousands(count))),
        Some(found) => {
            report.check("records", State::Fail, format!("record {} is the first that differs", found.at))
        }
    }
    match &leaf {
        None => {
            report.check("leaves", State::Ok, format!("{} compared, all equal", thousands(common("leaves"))))
        }
        Some(found) => {
            let of = text(&found.shown[0]["lsn"]);
            report.check(
                "leaves",
                State::Fail,
                format!("leaf {} is the first that differs, of record {of}", found.at),
            );
        }
    }
    let mut state_differs = false;
    for (name, end) in names.iter().zip(ends) {
        let halted = &end["diverged"];
        if halted.is_object() {
            state_differs = true;
            let by = match halted["attested_in"].as_u64() {
                Some(record) => format!("record {record} attests"),
                None => "while it led, the other voters computed".into(),
            };
            let (projection, after) = (text(&halted["projection"]), text(&halted["after"]));
            let detail = format!("halted: {by} another {projection} after record {after}");
            report.check(name.clone(), State::Fail, detail);
        } else {
            report.check(
                name.clone(),
                State::Ok,
                format!("agrees after record {}", text(&end["agreed_after"])),
            );
        }
    }
    if ends[0]["applied"] == ends[1]["applied"] {
        let equal = ends[0]["ledger"] == ends[1]["ledger"];
        state_differs |= !equal;
        let word = if equal { "equal" } else { "different" };
        let at = text(&ends[0]["applied"]);
        report.check(
            "ledger",
            if equal { State::Ok } else { State::Fail },
            format!("{word} after record {at}"),
        );
    } else {
        let detail = format!("at records {} and {}", text(&ends[0]["applied"]), text(&ends[1]["applied"]));
        report.check("ledger", State::Skipped, detail);
    }
    let rows = match (&record, &leaf) {
        (Some(found), _) | (None, Some(found)) => rows(&found.shown),
        (None, None) => state_rows(ends),
    };
    let differs = record.is_some() || leaf.is_some() || state_differs;
    if differs {
        // The names of the nodes are data; the headings of a table are not.
        report.lines.push(format!("A is {}, B is {}", names[0], names[1]));
        report.table = Some(Table { headings: vec!["what", "A", "B"], rows });
        report.exit = Exit::Tampered;
    }
    report.verdict = match (&record, &leaf, state_differs) {
        (Some(found), ..) => format!(
            "DIFFERENT: the logs part at record {}; next: flk replay --check on both directories says whose log was changed",
            found.at
        ),
        (None, Some(found), _) => format!(
            "DIFFERENT: the same log, and leaf {} made of it differs: one of the two misjudged it",
            found.at
        ),
        (None, None, true) => {
            "DIFFERENT: the same log and leaves, another state: one of the two has a bad snapshot or index"
                .into()
        }
        (None, None, false) => "equal as far as both go".into(),
    };
    let shown = |found: &Option<Difference>| {
        found.as_ref().map(|found| json!({"at": found.at, "one": found.shown[0], "other": found.shown[1]}))
    };
    report.data = json!({
        "nodes": ends, "equal": !differs, "record": shown(&record), "leaf": shown(&leaf), "questions": 2 * (rounds + more),
    });
    Ok(report)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What differs between two records or leaves, member by member; of many events the first that differs.
fn rows(shown: &[Value; 2]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let empty = serde_json::Map::new();
    let [one, other] = [0, 1].map(|n| shown[n].as_object().unwrap_or(&empty));
    let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (a, b) = (&shown[0][name.as_str()], &shown[1][name.as_str()]);
        if let (Some(a), Some(b)) = (a.as_array(), b.as_array()) {
            let nth = (0..a.len().max(b.len())).find(|n| a.get(*n) != b.get(*n));
            let Some(nth) = nth else { continue };
            let at = |list: &[Value]| list.get(nth).cloned().unwrap_or(Value::Null);
            rows.push(vec![format!("{name}: the first that differs"), format!("{nth}"), format!("{nth}")]);
            rows.extend(self::rows(&[at(a), at(b)]).into_iter().filter(|row| row[1] != row[2]));
        } else {
            rows.push(vec![name.clone(), text(a), text(b)]);
        }
    }
    rows
}

/// The states of two nodes whose logs agree.
fn state_rows(ends: &[Value; 2]) -> Vec<Vec<String>> {
    let row = |name: &str, of: &dyn Fn(&Value) -> String| vec![name.to_owned(), of(&ends[0]), of(&ends[1])];
    let mut rows = vec![
        row("applied", &|end| text(&end["applied"])),
        row("ledger", &|end| text(&end["ledger"])),
        row("version", &|end| text(&end["version"])),
    ];
    for end in ends.iter().filter(|end| end["diverged"].is_object()) {
        let found = &end["diverged"];
        rows.push(vec![
            "projection".into(),
            text(&found["projection"]),
            format!("after {}", text(&found["after"])),
        ]);
        rows.push(vec!["attested".into(), text(&found["attested"]), String::new()]);
        rows.push(vec!["computed".into(), text(&found["computed"]), String::new()]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that holds these numbers in both of its logs, counts its questions, and answers as a server does.
    pub(super) struct Numbers(Vec<u64>, u32);

    impl Numbers {
        pub(super) fn to(end: u64) -> Numbers {
            Numbers((0..end).collect(), 0)
        }

        pub(super) fn wrong_at(end: u64, at: usize) -> Numbers {
            let mut numbers = Numbers::to(end);
            numbers.0[at] += 1000;
            numbers
        }
    }

    impl Side for Numbers {
        fn ask(&mut self, query: &str) -> Result<Value, Fault> {
            self.1 += 1;
            let of = |name: &str| {
                let text = query
                    .trim_start_matches('?')
                    .split('&')
                    .find_map(|part| part.strip_prefix(name))
                    .unwrap();
                text.parse::<u64>().unwrap()
            };
            let (from, to, parts) = (of("from="), of("to="), of("parts=").min(of("to=") - of("from=")));
            let edge = |n: u64| from + (to - from) * n / parts;
            let parts: Vec<Value> = (0..parts)
                .map(|n| {
                    // Nothing stands behind the last number.
                    let end = self.0.len();
                    let held = &self.0[end.min(edge(n) as usize)..end.min(edge(n + 1) as usize)];
                    json!({"from": edge(n), "to": edge(n + 1), "digest": format!("{held:?}")})
                })
                .collect();
            let shown = match self.0.get(from as usize) {
                Some(value) if to - from == 1 => json!({"value": value}),
                _ => Value::Null,
            };
            Ok(json!({"parts": parts, "shown": shown}))
        }
    }

    #[test]
    fn the_first_difference_is_found_wherever_it_is_in_few_questions() {
        let sound: Vec<u64> = (0..10_000).collect();
        for at in [0, 1, 63, 64, 65, 4_999, 9_998, 9_999] {
            let mut wrong = sound.clone();
            wrong[at..].iter_mut().for_each(|value| *value += 1);
            let (mut one, mut other) = (Numbers(sound.clone(), 0), Numbers(wrong, 0));
            let (found, rounds) = first(&mut [&mut one, &mut other], "records", (0, 10_000), PARTS).unwrap();
            let found = found.unwrap();
            assert_eq!(found.at, at as u64);
            assert_eq!(found.shown, [json!({"value": at}), json!({"value": at + 1})]);
            // 10,000 places, 64 parts: three rounds of narrowing and one to show.
            assert!(rounds <= 4 && one.1 == rounds && other.1 == rounds, "{rounds} rounds");
        }
        let (mut one, mut other) = (Numbers(sound.clone(), 0), Numbers(sound, 0));
        assert_eq!(first(&mut [&mut one, &mut other], "records", (0, 10_000), PARTS).unwrap(), (None, 1));
    }

    fn end(ledger: &str, diverged: Value) -> Value {
        json!({"node": 1, "cluster": "c", "records": 6, "leaves": 5, "applied": 4, "ledger": ledger, "agreed_after": 3, "diverged": diverged})
    }

    #[test]
    fn records_come_before_leaves_and_leaves_before_state() {
        let sides = |wrong: Option<usize>| {
            let mut numbers: Vec<u64> = (0..6).collect();
            if let Some(at) = wrong {
                numbers[at] = 99;
            }
            (Numbers((0..6).collect(), 0), Numbers(numbers, 0))
        };
        let (mut one, mut other) = sides(Some(3));
        let ends = [end("a", Value::Null), end("b", Value::Null)];
        let report = compare(&mut [&mut one, &mut other], &ends, 1, Ui::quiet()).unwrap();
        assert_eq!((report.exit, report.data["record"]["at"].as_u64()), (Exit::Tampered, Some(3)));
        assert!(report.verdict.contains("record 3"), "{}", report.verdict);
        let (mut one, mut other) = sides(None);
        let halted =
            json!({"attested_in": 5, "after": 4, "projection": "index", "attested": "x", "computed": "y"});
        let ends = [end("a", Value::Null), end("b", halted)];
        let report = compare(&mut [&mut one, &mut other], &ends, 1, Ui::quiet()).unwrap();
        assert_eq!((report.exit, report.data["record"].is_null()), (Exit::Tampered, true));
        assert!(
            report.checks.iter().any(|check| check.detail.contains("attests another index after record 4"))
        );
        let (mut one, mut other) = sides(None);
        let ends = [end("a", Value::Null), end("a", Value::Null)];
        let report = compare(&mut [&mut one, &mut other], &ends, 1, Ui::quiet()).unwrap();
        assert_eq!((report.exit, report.data["equal"].as_bool()), (Exit::Ok, Some(true)));
    }
}
