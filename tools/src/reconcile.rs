//! `flk reconcile`: where regions differ, what is proposed about it, and who decided what.
//!
//! Any node of a region can be asked. A case is decided in the region in whose log it stands; every region shows all of them.

use serde_json::{Value, json};

use crate::cluster::{Admin, Server};
use crate::report::{Exit, Fault, Report, State, Table};

/// Sees and decides what is proposed where regions differ
///
/// Exit codes: 0 done, nothing waits; 1 usage or no answer; 6 cases wait for somebody.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// The cases that wait; with --all those that are closed, too
    List {
        /// Closed ones, too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        server: Server,
    },
    /// One case, with what both sides hold
    Show {
        /// Its name
        case: String,
        #[command(flatten)]
        server: Server,
    },
    /// It is done, or counts as known
    Approve(Decision),
    /// It is not done, and is asked no more
    Refuse(Decision),
}

#[derive(Clone, Debug, clap::Args)]
struct Decision {
    /// Its name
    case: String,
    /// Why; stands in the log for ever
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    server: Server,
}

/// Does it.
///
/// # Errors
/// The node cannot be reached or refuses.
pub fn run(args: &Args) -> Result<Report, Fault> {
    match &args.command {
        Command::List { all, server } => {
            ask(server, "GET", "/v1/reconcile", &[]).map(|document| list(&document, *all))
        }
        Command::Show { case, server } => ask(server, "GET", &format!("/v1/reconcile/{case}"), &[])
            .map(|case| show("flk reconcile show", &case)),
        Command::Approve(decision) => decide("approve", decision),
        Command::Refuse(decision) => decide("refuse", decision),
    }
}

fn ask(server: &Server, method: &str, path: &str, body: &[u8]) -> Result<Value, Fault> {
    let mut admin = Admin::new(server)?;
    let answer = admin.send(method, path, body)?;
    if answer.status == 200 { Ok(answer.json()) } else { Err(admin.refused(&answer)) }
}

fn decide(what: &'static str, decision: &Decision) -> Result<Report, Fault> {
    let wanted = json!({"do": what, "case": decision.case, "reason": decision.reason}).to_string();
    let case = ask(&decision.server, "POST", "/v1/reconcile/change", wanted.as_bytes())?;
    let command = if what == "approve" { "flk reconcile approve" } else { "flk reconcile refuse" };
    Ok(show(command, &case))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn time(value: &Value) -> String {
    let time = value.as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "-".into(), |time| format!("{time:.0}"))
}

fn list(document: &Value, all: bool) -> Report {
    let mut report = Report::new("flk reconcile list");
    let empty = Vec::new();
    let cases = document["cases"].as_array().unwrap_or(&empty);
    let waits = cases.iter().filter(|case| case["waits"] == true).count();
    let row = |case: &Value| {
        ["case", "region", "remedy", "score", "state", "reason"].map(|name| text(&case[name])).to_vec()
    };
    report.table = Some(Table {
        headings: vec!["case", "region", "proposed", "score", "state", "because"],
        rows: cases.iter().filter(|case| all || case["waits"] == true).map(row).collect(),
    });
    let above = text(&document["above"]);
    report.lines.push(format!(
        "cases with a score above {above} go by themselves; {} conflicts are settled",
        text(&document["settled"])
    ));
    report.verdict = match waits {
        0 => format!("nothing waits; {} cases are remembered", cases.len()),
        waits => {
            report.exit = Exit::Degraded;
            format!("{waits} of {} cases wait; next: flk reconcile show CASE, in its region", cases.len())
        }
    };
    report.data = document.clone();
    report
}

fn show(command: &'static str, case: &Value) -> Report {
    let mut report = Report::new(command);
    let state = if case["waits"] == true { State::Warn } else { State::Ok };
    report.check(
        "proposed",
        State::Ok,
        format!("{} at {}", text(&case["remedy"]), time(&case["proposed_ms"])),
    );
    report.check("about", State::Ok, text(&case["subject"]));
    report.check("because", State::Ok, format!("score {}: {}", text(&case["score"]), text(&case["reason"])));
    let decided = match case["decided_ms"].as_u64() {
        None => "open".to_owned(),
        Some(_) => format!(
            "{} by the {} at {}: {}",
            text(&case["state"]),
            text(&case["by"]),
            time(&case["decided_ms"]),
            text(&case["decision"])
        ),
    };
    report.check("state", state, decided);
    if let Some(firsts) = case["firsts"].as_array() {
        let names = ["region", "lsn", "leaf", "time_ms", "tenant", "pcs_id", "content", "accepted"];
        report.table = Some(Table {
            headings: names.to_vec(),
            rows: firsts.iter().map(|first| names.map(|name| text(&first[name])).to_vec()).collect(),
        });
    }
    report.verdict = format!(
        "case {} of region {} is {}",
        text(&case["case"]),
        text(&case["region"]),
        text(&case["state"])
    );
    report.data = case.clone();
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(state: &str, waits: bool) -> Value {
        json!({"case": "0011223344556677", "region": "b", "remedy": "choose-first", "score": "0.700", "subject": "conflict",
            "reason": "earlier by 5 ms", "state": state, "waits": waits, "proposed_ms": 1_760_000_000_000_u64})
    }

    #[test]
    fn what_waits_is_an_exit_code_of_its_own() {
        let document = |cases: &[Value]| json!({"own": "b", "above": "0.950", "settled": 1, "cases": cases});
        let report = list(&document(&[case("open", true), case("approved", false)]), false);
        assert_eq!((report.exit, report.table.unwrap().rows.len()), (Exit::Degraded, 1));
        let report = list(&document(&[case("approved", false)]), true);
        assert_eq!((report.exit, report.table.unwrap().rows.len()), (Exit::Ok, 1));
        let report = show("flk reconcile show", &case("open", true));
        assert!(report.verdict.contains("0011223344556677 of region b is open"), "{}", report.verdict);
    }
}
