//! `flk audit`: how far witnesses and other targets are, and what was given up.
//!
//! Any node can be asked; the leader, which works, answers.

use serde_json::{Value, json};

use crate::cluster::{Admin, Server};
use crate::report::{Exit, Fault, Report, State, Table};
use crate::ui::thousands;

/// Sees witnesses, time-stamp authorities and other targets, and acts on what was given up
///
/// Exit codes: 0 nothing is given up, 1 usage or no answer, 6 something is, or no plan reaches its goals.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Every target: what it attested, how much it lacks and for how long
    Status(Server),
    /// Which targets attest the next checkpoint, what each of them costs and gives, and why
    Plan(Server),
    /// Dead letters: checkpoints that a target did not attest and that were given up
    #[command(subcommand)]
    Dlq(Dlq),
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Dlq {
    /// The dead letters, and why
    List(Server),
    /// Try now, with the newest checkpoint, which covers every entry of the one that was given up
    Retry(Which),
    /// Give it up for good; the next newer checkpoint is tried as if nothing had happened
    Drop(Which),
}

#[derive(Clone, Debug, clap::Args)]
struct Which {
    /// Name of the target
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    target: Option<String>,
    /// Every target that has one
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    server: Server,
}

/// Does it.
///
/// # Errors
/// The node cannot be reached or refuses.
pub fn run(args: &Args) -> Result<Report, Fault> {
    match &args.command {
        Command::Status(server) => Ok(status(&get(server)?)),
        Command::Plan(server) => Ok(plan(&get(server)?)),
        Command::Dlq(Dlq::List(server)) => Ok(letters("flk audit dlq list", &get(server)?)),
        Command::Dlq(Dlq::Retry(which)) => change("flk audit dlq retry", "retry", which, "tried now"),
        Command::Dlq(Dlq::Drop(which)) => change("flk audit dlq drop", "drop", which, "dropped"),
    }
}

fn get(server: &Server) -> Result<Value, Fault> {
    let mut admin = Admin::new(server)?;
    let answer = admin.send("GET", "/v1/anchors", &[])?;
    if answer.status == 200 { Ok(answer.json()) } else { Err(admin.refused(&answer)) }
}

fn change(command: &'static str, act: &str, which: &Which, done: &str) -> Result<Report, Fault> {
    let mut admin = Admin::new(&which.server)?;
    let wanted = json!({"do": act, "target": which.target});
    let answer = admin.send("POST", "/v1/anchors/change", wanted.to_string().as_bytes())?;
    if answer.status != 200 {
        return Err(admin.refused(&answer));
    }
    let document = answer.json();
    let acted = document["acted"].as_u64().unwrap_or(0);
    if let (Some(target), 0) = (&which.target, acted) {
        let next = "flk audit dlq list";
        return Err(Fault::new("nothing to do", target, "this target has no dead letter", next));
    }
    let mut report = Report::new(command);
    report.verdict = format!("{acted} {done}");
    report.data = document;
    Ok(report)
}

fn rows(document: &Value) -> &[Value] {
    document["targets"].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn count(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".into(), thousands)
}

fn time(value: &Value) -> String {
    let time = value.as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "-".into(), |time| format!("{time:.0}"))
}

fn given_up(document: &Value) -> usize {
    rows(document).iter().filter(|row| row["dead_letter"].is_object()).count()
}

fn end(mut report: Report, document: &Value) -> Report {
    let dead = given_up(document);
    if document["ready"] != true {
        report.check("log", State::Warn, "the log is still read for what was attested");
    }
    if dead > 0 {
        report.exit = Exit::Degraded;
    }
    report.data = document.clone();
    report
}

fn status(document: &Value) -> Report {
    let mut report = Report::new("flk audit status");
    let row = |row: &Value| {
        vec![
            text(&row["target"]),
            text(&row["kind"]),
            count(&row["attested"]),
            time(&row["attested_ms"]),
            count(&row["backlog"]),
            format!("{} s", row["backlog_age_s"].as_u64().unwrap_or(0)),
            if row["dead_letter"].is_object() { text(&row["dead_letter"]["kind"]) } else { "-".into() },
        ]
    };
    report.table = Some(Table {
        headings: vec!["target", "kind", "attested", "at", "lacks", "for", "given up"],
        rows: rows(document).iter().map(row).collect(),
    });
    for row in
        rows(document).iter().filter(|row| row["block"].is_object() || row["promised"].as_u64() > Some(0))
    {
        let block = &row["block"];
        let promised = format!("{} stamps promised and not there yet", count(&row["promised"]));
        let said = match block["height"].as_u64() {
            // Digits as block explorers take them.
            Some(height) => format!(
                "{} entries are under block {height} of Bitcoin if its Merkle root is {}; {promised}",
                count(&block["attested"]),
                text(&block["merkle_root"])
            ),
            None => promised,
        };
        report.check(text(&row["target"]), State::Ok, said);
    }
    let newest = count(&document["newest"]);
    report.verdict = match (rows(document).len(), given_up(document)) {
        (0, _) => "nobody outside attests this log: set witness.policy_file".into(),
        (all, 0) => format!("{all} targets, {newest} entries under the newest checkpoint, nothing given up"),
        (all, dead) => format!("{dead} of {all} targets given up: flk audit dlq list"),
    };
    end(report, document)
}

fn plan(document: &Value) -> Report {
    let mut report = Report::new("flk audit plan");
    let number = |value: &Value, places: usize| {
        value.as_f64().map_or_else(|| "-".into(), |value| format!("{value:.places$}"))
    };
    let plan = &document["plan"]["plan"];
    let row = |row: &Value| {
        vec![
            text(&row["name"]),
            if row["used"] == true { "yes".into() } else { "no".into() },
            number(&row["cost_per_day"], 4),
            format!("{} s", count(&row["delay_s"])),
            number(&row["reliability"], 4),
            number(&row["durability"], 4),
            number(&row["score"], 2),
            text(&row["why"]),
        ]
    };
    let choices = plan["choices"].as_array().map_or(&[][..], Vec::as_slice);
    report.table = Some(Table {
        headings: vec!["target", "used", "cost a day", "delay", "reliability", "durability", "score", "why"],
        rows: choices.iter().map(row).collect(),
    });
    let always: Vec<String> = document["always"].as_array().into_iter().flatten().map(text).collect();
    if !always.is_empty() {
        report.check("always", State::Ok, format!("asked whatever the plan says: {}", always.join(", ")));
    }
    report.verdict = match plan["why"].as_str() {
        Some(why) => why.to_owned(),
        None => "there is no [plan] in the list of targets: all of them attest".into(),
    };
    if plan["met"] == false {
        report.exit = Exit::Degraded;
    }
    report.data = json!({ "goals": document["plan"]["goals"], "plan": plan, "always": document["always"] });
    report
}

fn letters(command: &'static str, document: &Value) -> Report {
    let mut report = Report::new(command);
    let row = |row: &Value| {
        let letter = &row["dead_letter"];
        letter.is_object().then(|| {
            vec![
                text(&row["target"]),
                text(&row["kind"]),
                count(&letter["size"]),
                time(&letter["since_ms"]),
                count(&letter["tries"]),
                text(&letter["kind"]),
                text(&letter["why"]),
            ]
        })
    };
    report.table = Some(Table {
        headings: vec!["target", "kind", "entries", "since", "tries", "how", "why"],
        rows: rows(document).iter().filter_map(row).collect(),
    });
    report.verdict = match given_up(document) {
        0 => "no dead letters".into(),
        dead => format!("{dead} dead letters: flk audit dlq retry TARGET, or drop TARGET"),
    };
    end(report, document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_shows_and_changes_the_exit_code() {
        let row = |letter: Value| {
            json!({"ready": true, "newest": 12, "targets": [
                {"target": "w1", "kind": "witness", "attested": 9, "attested_ms": 1_000, "backlog": 3,
                 "backlog_age_s": 4, "dead_letter": letter}]})
        };
        let whole = row(Value::Null);
        assert_eq!((status(&whole).exit, letters("x", &whole).exit), (Exit::Ok, Exit::Ok));
        let broken = row(
            json!({"size": 12, "since_ms": 5, "last_ms": 6, "tries": 1, "kind": "contradicted", "why": "422"}),
        );
        let report = letters("x", &broken);
        assert_eq!(report.exit, Exit::Degraded);
        let table = report.table.unwrap();
        assert_eq!(table.rows[0][..3], ["w1".to_owned(), "witness".into(), "12".into()]);
        assert_eq!(status(&broken).exit, Exit::Degraded);
    }
}
