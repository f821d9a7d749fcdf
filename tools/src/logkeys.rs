//! `flk keys`: which keys sign what the log publishes, and how it goes over to others.
//!
//! Any node can be asked; the leader, which signs, does it. The seed is drawn there and goes nowhere but into the log, sealed.

use serde_json::{Value, json};

use crate::cluster::{Admin, Server};
use crate::report::{Exit, Fault, Report, State, Table};
use crate::ui::thousands;

/// Sees which keys sign what the log publishes, and lets it go over to new ones
///
/// Exit codes: 0 done, 1 usage or no answer, 6 the node cannot sign, or both keys have not signed yet.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// The sets of keys this log had, and which of them sign now
    Show(Server),
    /// Draws a new key; from now on it signs, for a while beside the one before
    Rotate(Rotate),
}

#[derive(Clone, Debug, clap::Args)]
struct Rotate {
    /// How long the old key signs, too, so that everybody has time to fetch the new one: a number with s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "14d", value_parser = seconds)]
    both: u64,
    #[command(flatten)]
    server: Server,
}

fn seconds(text: &str) -> Result<u64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let number = |unit: char| text.strip_suffix(unit)?.parse::<u64>().ok();
    let found = units.into_iter().find_map(|(unit, factor)| number(unit)?.checked_mul(factor));
    found.ok_or_else(|| "a number with s, m, h or d after it, like 14d".to_owned())
}

/// Does it.
///
/// # Errors
/// The node cannot be reached or refuses.
pub fn run(args: &Args) -> Result<Report, Fault> {
    match &args.command {
        Command::Show(server) => ask(server, "GET", "/v1/log-keys", &[]).map(|document| show(&document)),
        Command::Rotate(rotate) => {
            let wanted = json!({"do": "rotate-log-key", "both_s": rotate.both}).to_string();
            let document = ask(&rotate.server, "POST", "/v1/log-keys/change", wanted.as_bytes())?;
            Ok(rotated(&document))
        }
    }
}

fn ask(server: &Server, method: &str, path: &str, body: &[u8]) -> Result<Value, Fault> {
    let mut admin = Admin::new(server)?;
    let answer = admin.send(method, path, body)?;
    if answer.status == 200 { Ok(answer.json()) } else { Err(admin.refused(&answer)) }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn time(value: &Value) -> String {
    let time = value.as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "-".into(), |time| format!("{time:.0}"))
}

/// Ids of the keys in a text, as they stand in it.
fn ids(keys: &Value) -> String {
    let id = |line: &str| line.split('+').nth(1).unwrap_or("-").to_owned();
    text(keys).lines().map(id).collect::<Vec<_>>().join(" ")
}

fn show(document: &Value) -> Report {
    let mut report = Report::new("flk keys show");
    let changes = document["changes"].as_array().map_or(&[][..], Vec::as_slice);
    let first = changes.first().map_or(&document["vkeys"], |change| &change["follows"]);
    let mut rows = vec![vec!["1".into(), ids(first), "0".into(), "-".into(), "-".into()]];
    rows.extend(changes.iter().map(|change| {
        vec![
            change["number"].to_string(),
            ids(&change["keys"]),
            change["seq"].as_u64().map_or_else(|| "-".into(), thousands),
            time(&change["both_until_ms"]),
            if change["whole"] == true { text(&change["statement"]).to_owned() } else { "not yet".into() },
        ]
    }));
    report.table = Some(Table {
        headings: vec!["set", "keys", "from entry", "beside the old one until", "statement"],
        rows,
    });
    end(report, document)
}

fn rotated(document: &Value) -> Report {
    let mut report = Report::new("flk keys rotate");
    let last = document["changes"].as_array().and_then(|changes| changes.last()).unwrap_or(&Value::Null);
    let detail = format!(
        "set {}, keys {}, from entry {} on",
        last["number"],
        ids(&last["keys"]),
        last["seq"].as_u64().map_or_else(|| "-".into(), thousands)
    );
    report.check("new keys", State::Ok, detail);
    let detail =
        format!("keys {} sign, too, until log time {}", ids(&last["follows"]), time(&last["both_until_ms"]));
    report.check("old keys", State::Ok, detail);
    let next = "who verifies fetches vkey again until then; witnesses get the new first line";
    report.lines.extend(text(&document["vkeys"]).lines().map(str::to_owned));
    report.lines.push(format!("{next}; {} convinces who has the old one", text(&last["statement"])));
    end(report, document)
}

fn end(mut report: Report, document: &Value) -> Report {
    let pending =
        document["changes"].as_array().and_then(|all| all.last()).is_some_and(|one| one["whole"] != true);
    let usable = document["usable"] == true;
    report.verdict = text(&document["line"]).to_owned();
    if pending {
        report.check(
            "statement",
            State::Warn,
            "both keys have not signed a checkpoint over it yet: flk keys show",
        );
    }
    if !usable || pending {
        report.exit = Exit::Degraded;
    }
    report.data = document.clone();
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, want) in [("0s", Some(0)), ("14d", Some(1_209_600)), ("2h", Some(7200)), ("3m", Some(180))]
        {
            assert_eq!(seconds(text).ok(), want);
        }
        for bad in ["", "5", "d", "-1d", "1w", "99999999999999999999d", "18446744073709551615d"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_whole_is_said() {
        let change = json!({"number": 2, "seq": 7, "keys": "n+aa+x\nn+bb+y\n", "follows": "n+cc+x\nn+dd+y\n",
            "both_until_ms": 1_790_000_000_000_u64, "whole": false, "statement": "/tlog/eu/keys/2.tlog-proof"});
        let mut document = json!({"usable": true, "line": "set 2", "vkeys": "n+aa+x\n", "changes": [change]});
        assert_eq!((rotated(&document).exit, show(&document).exit), (Exit::Degraded, Exit::Degraded));
        document["changes"][0]["whole"] = json!(true);
        let report = show(&document);
        assert_eq!(report.exit, Exit::Ok);
        assert_eq!(report.table.unwrap().rows[0][1], "cc dd");
        document["usable"] = json!(false);
        assert_eq!(rotated(&document).exit, Exit::Degraded);
    }
}
