//! The group as tables.

use serde_json::Value;

use crate::report::{Exit, Report, State, Table};
use crate::ui::thousands;

/// A node that has not answered its leader for this long is away, ms.
const AWAY_MS: u64 = 3_000;
/// A voter that lacks more records than this would hold up the group if another one went.
const BEHIND: u64 = 10_000;

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), |n| n.to_string()),
        other => other.to_string(),
    }
}

fn count(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".into(), thousands)
}

/// The nodes, one a row.
pub fn members(command: &'static str, group: &Value) -> Report {
    let mut report = Report::new(command);
    let empty = Vec::new();
    let members = group["members"].as_array().unwrap_or(&empty);
    let row = |member: &Value| {
        vec![
            text(&member["node"]),
            text(&member["role"]),
            text(&member["address"]),
            count(&member["matched"]),
            count(&member["lag"]),
            member["silent_ms"].as_u64().map_or_else(|| "-".into(), |ms| format!("{ms} ms")),
        ]
    };
    report.table = Some(Table {
        headings: vec!["node", "role", "address", "has", "lacks", "last heard"],
        rows: members.iter().map(row).collect(),
    });
    let voters = members.iter().filter(|member| member["role"] != "learner").count();
    report.verdict = format!("{} nodes, {voters} of them vote", members.len());
    report.data = group.clone();
    report
}

/// The node that was asked, the group, and what is wrong with it.
pub fn status(document: &Value) -> Report {
    let (asked, group) = (&document["asked"], &document["group"]);
    let mut report = members("flk cluster status", group);
    report.data = document.clone();
    let word = |value: &Value| text(value);
    report.check(
        "asked",
        if asked["ready"] == true { State::Ok } else { State::Warn },
        format!(
            "node {}, {} in term {}, applied {} of {} agreed",
            word(&asked["node"]),
            word(&asked["role"]),
            word(&asked["term"]),
            count(&asked["applied"]),
            count(&asked["committed"])
        ),
    );
    match group["leader"].as_u64() {
        Some(leader) if group["alone"] == true => {
            report.check(
                "leader",
                State::Fail,
                format!("node {leader}, and no quorum answers it: nothing is agreed"),
            );
        }
        Some(leader) => {
            report.check("leader", State::Ok, format!("node {leader} in term {}", word(&group["term"])))
        }
        None => report.check("leader", State::Fail, "nobody leads: submissions wait and are then refused"),
    }
    let empty = Vec::new();
    let members = group["members"].as_array().unwrap_or(&empty);
    let voters = members.iter().filter(|member| member["role"] != "learner").count();
    let mut away = 0;
    for member in members.iter().filter(|member| member["role"] != "leader") {
        let name = format!("node {}", word(&member["node"]));
        let votes = member["role"] != "learner";
        let (silent, lag) = (member["silent_ms"].as_u64(), member["lag"].as_u64());
        if group["leader"] != group["seen_by"] {
            report.check(name, State::Skipped, "only the leader knows");
        } else if silent.is_none_or(|ms| ms > AWAY_MS) {
            away += usize::from(votes);
            report.check(name, State::Fail, "does not answer the leader");
        } else if lag.is_none_or(|lag| lag > BEHIND) {
            report.check(name, State::Warn, format!("lacks {} records", count(&member["lag"])));
        } else {
            report.check(name, State::Ok, format!("lacks {} records", count(&member["lag"])));
        }
    }
    regions(&mut report, &group["regions"]);
    let spare = (voters.saturating_sub(1) / 2).saturating_sub(away);
    report.verdict = if report.failed() {
        report.exit = Exit::Degraded;
        format!("not whole: {away} of {voters} voters are away; {spare} more may go before the group stops")
    } else {
        format!("whole: {voters} voters, of which {spare} may go at a time")
    };
    report
}

/// Other regions: how much of ours each is proven to hold, and how much of theirs is here.
fn regions(report: &mut Report, regions: &Value) {
    let Some(peers) = regions["peers"].as_array() else { return };
    if let Some(why) = regions["shipping_waits"].as_str() {
        report.check("shipping", State::Warn, format!("the log is not shipped to other regions: {why}"));
    }
    if let Some(waiting @ 1..) = regions["cases_waiting"].as_u64() {
        report.check(
            "cases",
            State::Warn,
            format!("{waiting} wait for a decision or its effect: flk reconcile list"),
        );
    }
    for peer in peers {
        let name = format!("region {}", text(&peer["region"]));
        if let Some(found) = peer["differs"].as_str() {
            report.check(name.clone(), State::Warn, format!("{found}; next: flk divergence URL URL"));
        }
        let unproven_s = peer["unproven_ms"].as_u64().unwrap_or(0) / 1000;
        let proven = format!(
            "proven to hold {} of our {} entries{}; {} of its entries are here",
            count(&peer["proven"]),
            count(&regions["newest"]),
            if unproven_s == 0 { String::new() } else { format!(" (behind for {unproven_s} s)") },
            count(&peer["leaves"]),
        );
        if let Some(record) = peer["quarantine"]["record"].as_u64() {
            let part = text(&peer["quarantine"]["part"]);
            report.check(
                name,
                State::Warn,
                format!("its log contradicts itself at record {record} ({part}): nothing of it is taken in; {proven}"),
            );
        } else if let Some(why) = peer["waits"].as_str() {
            report.check(name, State::Warn, format!("nothing is taken in: {why}; {proven}"));
        } else {
            report.check(name, State::Ok, proven);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(leader: Option<u64>, silent: u64) -> Value {
        let member = |node: u64, role: &str| json!({"node": node, "role": role, "address": "h:1", "matched": 90, "lag": 10, "silent_ms": if role == "leader" { None } else { Some(silent) }});
        json!({
            "asked": {"node": 2, "role": "follower", "term": 3, "applied": 90, "committed": 90, "ready": true},
            "group": {"seen_by": 1, "leader": leader, "term": 3, "last": 100, "committed": 90,
                "members": [member(1, "leader"), member(2, "voter"), member(3, "voter"), member(4, "learner")]},
        })
    }

    #[test]
    fn a_whole_group_is_ok_and_says_how_many_may_go() {
        let report = status(&document(Some(1), 100));
        assert_eq!(report.exit, Exit::Ok, "{:?}", report.checks);
        assert!(report.verdict.contains("3 voters, of which 1 may go"), "{}", report.verdict);
        assert_eq!(report.table.unwrap().rows.len(), 4);
    }

    #[test]
    fn a_silent_voter_or_no_leader_is_not_whole() {
        let report = status(&document(Some(1), 60_000));
        assert_eq!(report.exit, Exit::Degraded);
        assert!(report.verdict.contains("2 of 3 voters are away; 0 more"), "{}", report.verdict);
        assert_eq!(status(&document(None, 100)).exit, Exit::Degraded);
        let mut alone = document(Some(1), 100);
        alone["group"]["alone"] = json!(true);
        assert_eq!(status(&alone).exit, Exit::Degraded);
    }
}
