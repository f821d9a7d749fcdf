//! `flk doctor --cluster`: every node of a group as it sees itself, and what is wrong between them.

use std::path::Path;

use serde_json::Value;

use super::{Admin, Server};
use crate::report::{Exit, Fault, Report, State, Table};
use crate::ui::thousands;

/// A voter that lacks more records than this would hold up the group if another one went.
const BEHIND: u64 = 10_000;
/// A clock this far off, ms, moves a record into another box of the audit log.
const CLOCK_WARN_MS: u64 = 500;
/// A clock this far off, ms, moves expiry and quotas, too.
const CLOCK_FAIL_MS: u64 = 5_000;
/// A certificate that ends within this many days is worth a day's notice; the second is worth a night's.
const ENDS_DAYS: (i64, i64) = (30, 3);
const DAY_S: i64 = 86_400;

/// Asks one node about all of them.
///
/// # Errors
/// The node cannot be asked.
pub fn run(url: &str, ca: Option<&Path>, token_file: Option<&Path>) -> Result<Report, Fault> {
    let owned = |path: Option<&Path>| path.map(Path::to_owned);
    let server = Server { url: url.to_owned(), ca: owned(ca), token_file: owned(token_file), timeout: 30 };
    let mut admin = Admin::new(&server)?;
    let answer = admin.send("GET", "/v1/cluster/checkup", &[])?;
    if answer.status != 200 {
        return Err(admin.refused(&answer));
    }
    Ok(judge(&answer.json()))
}

/// One node's line of the answer.
struct Line<'a> {
    name: String,
    all: &'a Value,
    /// What it says of itself; null when it was not reached.
    said: &'a Value,
}

impl Line<'_> {
    fn reached(&self) -> bool {
        self.said.is_object()
    }

    fn votes(&self) -> bool {
        self.all["voter"] == true
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn count(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".into(), thousands)
}

/// What was found, of what the nodes said.
fn judge(document: &Value) -> Report {
    let mut report = Report::new("flk doctor --cluster");
    let empty = Vec::new();
    let lines: Vec<Line<'_>> = document["nodes"]
        .as_array()
        .unwrap_or(&empty)
        .iter()
        .map(|all| Line { name: format!("node {}", text(&all["node"])), all, said: &all["checkup"] })
        .collect();
    report.table = Some(table(&lines));
    let last = lines.iter().filter_map(|line| line.said["committed"].as_u64()).max().unwrap_or(0);
    quorum(&mut report, &lines);
    equal(
        &mut report,
        &lines,
        "format",
        State::Fail,
        "one log has one format: a node of another release is refused",
    );
    equal(&mut report, &lines, "cluster", State::Fail, "these nodes keep different logs");
    equal(&mut report, &lines, "version", State::Warn, "finish the upgrade");
    for line in lines.iter().filter(|line| line.reached()) {
        node(&mut report, line, last);
    }
    let fails = report.checks.iter().filter(|check| check.state == State::Fail).count();
    let warns = report.checks.iter().filter(|check| check.state == State::Warn).count();
    report.exit = if fails > 0 || lines.is_empty() { Exit::Degraded } else { Exit::Ok };
    report.verdict = match (fails, warns) {
        _ if lines.is_empty() => "the node knows of no group: flk cluster status".into(),
        (0, 0) => format!("well: {} nodes", lines.len()),
        (0, n) => format!("well: {} nodes, {n} things to look at", lines.len()),
        (n, _) => format!("not well: {n} checks failed; docs/runbooks says what to do about each"),
    };
    report.data = document.clone();
    report
}

fn table(lines: &[Line<'_>]) -> Table {
    let row = |line: &Line<'_>| {
        let (all, said) = (line.all, line.said);
        let disk = &said["disk"];
        let p99 = match disk["p99_under_us"].as_u64() {
            None => "-".to_owned(),
            Some(0) => "no syncs".to_owned(),
            Some(u64::MAX) => "over 1 s".to_owned(),
            Some(us) => format!("under {} ms", us as f64 / 1000.0),
        };
        let lag = said["committed"].as_u64().zip(said["applied"].as_u64());
        vec![
            text(&all["node"]),
            if line.reached() { text(&said["role"]) } else { "not reached".into() },
            text(&said["term"]),
            count(&said["applied"]),
            lag.map_or_else(
                || "-".into(),
                |(committed, applied)| thousands(committed.saturating_sub(applied)),
            ),
            text(&disk["backend"]),
            p99,
            all["clock_ms"]
                .as_i64()
                .filter(|_| line.reached())
                .map_or_else(|| "-".into(), |ms| format!("{ms:+} ms")),
            days(said).map_or_else(|| "-".into(), |days| format!("{days} days")),
            text(&said["version"]),
        ]
    };
    Table {
        headings: vec![
            "node",
            "role",
            "term",
            "applied",
            "to fold",
            "disk",
            "sync p99",
            "clock",
            "certificate",
            "version",
        ],
        rows: lines.iter().map(row).collect(),
    }
}

/// Days until a node's certificate ends, by the node's own clock.
fn days(said: &Value) -> Option<i64> {
    let now_s = said["wall_ms"].as_u64()?.cast_signed() / 1000;
    Some((said["certificate"]["ends_s"].as_i64()? - now_s).div_euclid(DAY_S))
}

fn quorum(report: &mut Report, lines: &[Line<'_>]) {
    let leaders: Vec<&Line<'_>> =
        lines.iter().filter(|line| line.said["role"] == "leader" && line.said["alone"] != true).collect();
    // A node that was cut off may not know yet; the higher term counts.
    let newest = leaders.iter().max_by_key(|line| line.said["term"].as_u64());
    match newest {
        None => report.check("leader", State::Fail, "nobody leads: submissions wait and are then refused"),
        Some(line) => {
            let detail = format!("{} in term {}", line.name, text(&line.said["term"]));
            report.check("leader", State::Ok, detail);
        }
    }
    let voters = lines.iter().filter(|line| line.votes()).count();
    let there =
        lines.iter().filter(|line| line.votes() && line.reached() && line.said["diverged"] != true).count();
    let need = voters / 2 + 1;
    let detail = format!("{there} of {voters} voters are there, {need} are needed");
    match there.checked_sub(need) {
        None => report.check("quorum", State::Fail, format!("{detail}: the group takes nothing")),
        Some(0) if voters > 1 => report.check("quorum", State::Fail, format!("{detail}: none may go")),
        Some(spare) => report.check("quorum", State::Ok, format!("{detail}: {spare} may go")),
    }
    for line in lines.iter().filter(|line| !line.reached()) {
        report.check(
            line.name.clone(),
            State::Fail,
            format!("not reached: {}", text(&line.all["unreached"])),
        );
    }
}

/// Every node that was reached says the same.
fn equal(report: &mut Report, lines: &[Line<'_>], what: &'static str, unlike: State, remark: &str) {
    let reached = || lines.iter().filter(|line| line.reached());
    let mut values: Vec<String> = reached().map(|line| text(&line.said[what])).collect();
    values.sort();
    values.dedup();
    match values.as_slice() {
        [] => report.check(what, State::Skipped, "no node was reached"),
        [one] => report.check(what, State::Ok, format!("{one} everywhere")),
        _ => {
            let each: Vec<String> =
                reached().map(|line| format!("{} {}", line.name, text(&line.said[what]))).collect();
            report.check(what, unlike, format!("{}: {remark}", each.join(", ")));
        }
    }
}

fn node(report: &mut Report, line: &Line<'_>, last: u64) {
    let said = line.said;
    let before = report.checks.len();
    let mut note = |state: State, detail: String| report.check(line.name.clone(), state, detail);
    if let Some(checks) = said["checks"].as_array() {
        for check in checks.iter().filter(|check| check["ok"] == false) {
            note(State::Fail, format!("{}: {}", text(&check["name"]), text(&check["detail"])));
        }
    }
    if said["disk"]["slow"] == true {
        note(State::Fail, "disk: slow; it leads only if nobody else can".into());
    }
    if let Some(done @ 1..) = said["repairs"]["done"].as_u64() {
        let detail = format!(
            "repairs: {} since its start; its disk returned wrong bytes: replace it",
            thousands(done)
        );
        note(State::Warn, detail);
    }
    let lacks = last.saturating_sub(said["applied"].as_u64().unwrap_or(0));
    if lacks > BEHIND {
        let state = if line.votes() { State::Fail } else { State::Warn };
        note(state, format!("lag: lacks {} records", thousands(lacks)));
    }
    let off = line.all["clock_ms"].as_i64().unwrap_or(0).unsigned_abs();
    // Half of the round trip is not known.
    let off = off.saturating_sub(line.all["round_trip_ms"].as_u64().unwrap_or(0).div_ceil(2));
    if off > CLOCK_WARN_MS {
        let state = if off > CLOCK_FAIL_MS { State::Fail } else { State::Warn };
        note(state, format!("clock: {off} ms off; run chrony or another time service"));
    }
    match days(said) {
        Some(days) if days < ENDS_DAYS.0 => {
            let state = if days < ENDS_DAYS.1 { State::Fail } else { State::Warn };
            note(state, format!("certificate: ends in {days} days; put a new one in the place of the old"));
        }
        _ => {}
    }
    if let Some(why) = said["certificate"]["refused"].as_str() {
        note(State::Fail, format!("certificate: the new one is refused: {why}"));
    }
    if report.checks.len() == before {
        report.check(line.name.clone(), State::Ok, "ready, nothing to note");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW_S: i64 = 1_800_000_000;

    fn said(node: u64) -> Value {
        json!({
            "node": node, "cluster": "c", "version": "1", "format": "f", "role": if node == 1 { "leader" } else { "follower" },
            "term": 3, "committed": 90, "applied": 90, "wall_ms": NOW_S * 1000, "diverged": false, "ready": true,
            "disk": {"backend": "io_uring", "p99_under_us": 2000, "slow": false},
            "repairs": {"begun": 0, "done": 0, "failed": 0},
            "certificate": {"ends_s": NOW_S + 400 * DAY_S, "refused": null},
            "checks": [{"name": "log", "ok": true, "detail": "durable"}],
        })
    }

    fn document(change: impl Fn(&mut Value)) -> Value {
        let nodes: Vec<Value> = (1..=3)
            .map(|node| json!({"node": node, "voter": true, "clock_ms": 3, "round_trip_ms": 2, "checkup": said(node)}))
            .collect();
        let mut document = json!({"asked": 1, "nodes": nodes});
        change(&mut document);
        document
    }

    #[test]
    fn a_group_that_is_well_is_said_to_be() {
        let report = judge(&document(|_| {}));
        assert_eq!(report.exit, Exit::Ok, "{:?}", report.checks);
        assert!(report.checks.iter().all(|check| check.state == State::Ok), "{:?}", report.checks);
        let table = report.table.unwrap();
        assert!(table.rows.len() == 3 && table.rows.iter().all(|row| row.len() == table.headings.len()));
    }

    #[test]
    fn every_thing_that_can_be_wrong_is_named() {
        type Case = (fn(&mut Value), State, &'static str);
        let cases: [Case; 13] = [
            (|d| d["nodes"][2]["checkup"] = Value::Null, State::Fail, "not reached"),
            (|d| d["nodes"][2]["checkup"] = Value::Null, State::Fail, "none may go"),
            (|d| d["nodes"][0]["checkup"]["role"] = json!("candidate"), State::Fail, "nobody leads"),
            (|d| d["nodes"][1]["checkup"]["format"] = json!("g"), State::Fail, "node 2 g"),
            (|d| d["nodes"][1]["checkup"]["version"] = json!("2"), State::Warn, "finish the upgrade"),
            (|d| d["nodes"][1]["checkup"]["repairs"]["done"] = json!(2), State::Warn, "repairs: 2"),
            (|d| d["nodes"][1]["checkup"]["disk"]["slow"] = json!(true), State::Fail, "disk: slow"),
            (|d| d["nodes"][0]["checkup"]["committed"] = json!(50_000), State::Fail, "lacks 49,910"),
            (|d| d["nodes"][1]["clock_ms"] = json!(-700), State::Warn, "699 ms off"),
            (|d| d["nodes"][1]["clock_ms"] = json!(60_000), State::Fail, "ms off"),
            (
                |d| d["nodes"][1]["checkup"]["certificate"]["ends_s"] = json!(NOW_S + 10 * DAY_S),
                State::Warn,
                "ends in 10 days",
            ),
            (
                |d| d["nodes"][1]["checkup"]["certificate"]["ends_s"] = json!(NOW_S - 1),
                State::Fail,
                "ends in -1 days",
            ),
            (
                |d| {
                    d["nodes"][1]["checkup"]["checks"][0] =
                        json!({"name": "room", "ok": false, "detail": "no room"})
                },
                State::Fail,
                "room: no room",
            ),
        ];
        for (change, state, words) in cases {
            let report = judge(&document(change));
            let named =
                report.checks.iter().any(|check| check.state == state && check.detail.contains(words));
            assert!(named, "{words}: {:?}", report.checks);
            assert_eq!(report.exit == Exit::Degraded, state == State::Fail, "{words}");
        }
        assert_eq!(judge(&json!({})).exit, Exit::Degraded);
    }
}
