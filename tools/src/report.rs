//! What a command found, as data, and the three ways to print it.
//!
//! A command returns a [`Report`] or a [`Fault`]; it never prints its result itself. Text, table and JSON are the
//! same data. The last line of the text is a verdict that a reader who skips the rest can act on.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// How a command ended; the number is the process's exit code and part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for holds.
    Ok = 0,
    /// The command could not do its work: usage, input/output, an unreachable server, work left over.
    Failed = 1,
    /// Bytes are not what they claim to be.
    Tampered = 2,
    /// Bytes that must be there are not.
    Missing = 3,
    /// What is there is intact, and fewer witnesses stand behind it than the policy asks for.
    Policy = 4,
    /// The log disagrees with a checkpoint that the caller had saved.
    Inconsistent = 5,
    /// The group of nodes works, or could, and is not whole: a node is away, or nobody leads.
    Degraded = 6,
}

/// The state of one line of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds.
    Ok,
    /// It holds, with something to know.
    Warn,
    /// It does not hold.
    Fail,
    /// It was not looked at; the detail says why.
    Skipped,
}

impl State {
    /// The word printed for this state.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "FAIL",
            State::Skipped => "-",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            State::Ok => "\x1b[32m",
            State::Warn => "\x1b[33m",
            State::Fail => "\x1b[31;1m",
            State::Skipped => "\x1b[2m",
        }
    }
}

/// One line: what was looked at, how it stands, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at, one to three words.
    pub name: String,
    /// How it stands.
    pub state: State,
    /// What was found, one sentence.
    pub detail: String,
}

/// Rows for a reader's eye; every row has as many cells as there are headings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Column headings.
    pub headings: Vec<&'static str>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

/// What a command found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The command, as typed: `worm verify`.
    pub command: &'static str,
    /// Lines that stand before everything else, already phrased.
    pub lines: Vec<String>,
    /// Checks in the order they were made.
    pub checks: Vec<Check>,
    /// A table, where the command has one.
    pub table: Option<Table>,
    /// The last line.
    pub verdict: String,
    /// The exit code.
    pub exit: Exit,
    /// The same findings for machines.
    pub data: Value,
}

impl Report {
    /// An empty report of `command` that says all is well.
    #[must_use]
    pub fn new(command: &'static str) -> Report {
        Report {
            command,
            lines: Vec::new(),
            checks: Vec::new(),
            table: None,
            verdict: String::new(),
            exit: Exit::Ok,
            data: json!({}),
        }
    }

    /// Adds a check.
    pub fn check(&mut self, name: impl Into<String>, state: State, detail: impl Into<String>) {
        self.checks.push(Check { name: name.into(), state, detail: detail.into() });
    }

    /// Adds a check that does not hold. The first thing that fails decides the exit code; what fails behind it often
    /// only follows.
    pub fn fail(&mut self, name: &str, exit: Exit, detail: String) {
        self.check(name, State::Fail, detail.clone());
        if self.exit == Exit::Ok {
            self.exit = exit;
            self.data["first_failure"] = json!({"check": name.trim(), "detail": detail});
        }
    }

    /// Whether a check failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.checks.iter().any(|check| check.state == State::Fail)
    }
}

/// Why a command could not do its work: what, where, why, and what to type next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What could not be done.
    pub what: String,
    /// The file, address or argument it happened at.
    pub place: String,
    /// The cause.
    pub why: String,
    /// What the reader can do about it, a command where there is one.
    pub next: String,
    /// The exit code.
    pub exit: Exit,
}

impl Fault {
    /// A fault with exit code 1.
    pub fn new(
        what: impl Into<String>,
        place: impl ToString,
        why: impl ToString,
        next: impl Into<String>,
    ) -> Fault {
        Fault {
            what: what.into(),
            place: place.to_string(),
            why: why.to_string(),
            next: next.into(),
            exit: Exit::Failed,
        }
    }

    /// A fault of reading a file.
    pub fn read(path: &std::path::Path, why: impl ToString) -> Fault {
        Fault::new("cannot read a file", path.display(), why, format!("ls -l {}", path.display()))
    }

    /// A fault of writing a file.
    pub fn write(path: &std::path::Path, why: impl ToString) -> Fault {
        let folder = path.parent().unwrap_or(path).display().to_string();
        Fault::new("cannot write a file", path.display(), why, format!("df -h {folder}; ls -ld {folder}"))
    }

    /// The same fault with another exit code.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Fault {
        self.exit = exit;
        self
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for a reader.
    #[default]
    Text,
    /// Checks and rows as framed tables.
    Table,
    /// One JSON document.
    Json,
}

/// The report as it is to be written to standard output; `colour` adds ANSI colours to state words, which carry
/// the same meaning without them.
#[must_use]
pub fn render(report: &Report, format: Format, colour: bool) -> String {
    match format {
        Format::Json => json_text(&report_json(report)),
        Format::Table => framed(report, colour),
        Format::Text => text(report, colour),
    }
}

/// The fault as it is to be written: to standard error as text, to standard output as JSON.
#[must_use]
pub fn render_fault(fault: &Fault, format: Format, colour: bool) -> String {
    if format == Format::Json {
        return json_text(&json!({"ok": false, "exit": fault.exit as u8, "error": {
            "what": fault.what, "where": fault.place, "why": fault.why, "next": fault.next}}));
    }
    let (on, off) = if colour { ("\x1b[31;1m", "\x1b[0m") } else { ("", "") };
    format!(
        "{on}error{off}: {}\n  where  {}\n  why    {}\n  next   {}\n",
        fault.what, fault.place, fault.why, fault.next
    )
}

fn json_text(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_else(|_| "{}".into());
    text.push('\n');
    text
}

fn report_json(report: &Report) -> Value {
    let checks: Vec<Value> = report
        .checks
        .iter()
        .map(|check| json!({"name": check.name, "state": check.state.word(), "detail": check.detail}))
        .collect();
    let mut out = json!({
        "command": report.command,
        "ok": report.exit == Exit::Ok,
        "exit": report.exit as u8,
        "verdict": report.verdict,
        "data": report.data,
    });
    if !checks.is_empty() {
        out["checks"] = Value::Array(checks);
    }
    out
}

fn state_word(state: State, colour: bool) -> String {
    let word = format!("{:<4}", state.word());
    if colour { format!("{}{word}\x1b[0m", state.colour()) } else { word }
}

fn text(report: &Report, colour: bool) -> String {
    let mut out = String::new();
    for line in &report.lines {
        out.push_str(line);
        out.push('\n');
    }
    let wide = report.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in &report.checks {
        let pad = " ".repeat(wide - check.name.chars().count());
        let _ = writeln!(out, " {}{pad}  {}  {}", check.name, state_word(check.state, colour), check.detail);
    }
    if let Some(table) = &report.table {
        columns(table, &mut out);
    }
    verdict(report, colour, &mut out);
    out
}

fn framed(report: &Report, colour: bool) -> String {
    let mut out = String::new();
    if !report.checks.is_empty() {
        let rows = report
            .checks
            .iter()
            .map(|check| vec![check.name.clone(), check.state.word().to_owned(), check.detail.clone()]);
        out.push_str(&frame(&["CHECK", "STATE", "DETAIL"], rows));
    }
    if let Some(table) = &report.table {
        out.push_str(&frame(&table.headings, table.rows.iter().cloned()));
    }
    verdict(report, colour, &mut out);
    out
}

fn frame(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN).set_header(headings.to_vec());
    table.add_rows(rows);
    format!("{table}\n")
}

/// Plain columns two spaces apart; cells that are numbers stand to the right.
fn columns(table: &Table, out: &mut String) {
    let mut widths: Vec<usize> = table.headings.iter().map(|heading| heading.chars().count()).collect();
    for row in &table.rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let numeric: Vec<bool> = (0..widths.len())
        .map(|i| {
            !table.rows.is_empty()
                && table.rows.iter().all(|row| row.get(i).is_none_or(|cell| is_number(cell)))
        })
        .collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (i, cell) in cells.enumerate() {
            let pad = " ".repeat(widths[i].saturating_sub(cell.chars().count()));
            text.push_str(if i == 0 { " " } else { "  " });
            if numeric[i] {
                text.push_str(&pad);
                text.push_str(cell);
            } else {
                text.push_str(cell);
                text.push_str(&pad);
            }
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(&mut table.headings.iter().copied());
    for row in &table.rows {
        line(&mut row.iter().map(String::as_str));
    }
}

fn is_number(cell: &str) -> bool {
    cell.is_empty() || cell == "-" || cell.replace(',', "").parse::<f64>().is_ok()
}

fn verdict(report: &Report, colour: bool, out: &mut String) {
    if report.verdict.is_empty() {
        return;
    }
    let state = if report.exit == Exit::Ok { State::Ok } else { State::Fail };
    if colour {
        let _ = writeln!(out, "{}VERDICT\x1b[0m  {}", state.colour(), report.verdict);
    } else {
        let _ = writeln!(out, "VERDICT  {}", report.verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Report {
        let mut report = Report::new("flk doctor");
        report.check("disk", State::Ok, "p99 0.31 ms");
        report.check("io backend", State::Warn, "pwrite");
        report.table = Some(Table {
            headings: vec!["ID", "COUNT"],
            rows: vec![vec!["a".into(), "7".into()], vec!["bcd".into(), "1,200".into()]],
        });
        report.verdict = "one thing to know".into();
        report
    }

    #[test]
    fn text_lines_up_and_ends_with_the_verdict() {
        let text = render(&sample(), Format::Text, false);
        assert_eq!(
            text,
            " disk        ok    p99 0.31 ms\n io backend  warn  pwrite\n ID   COUNT\n a        7\n bcd  1,200\n\
             VERDICT  one thing to know\n"
        );
    }

    #[test]
    fn colour_changes_no_word() {
        let plain = render(&sample(), Format::Text, false);
        let coloured = render(&sample(), Format::Text, true);
        let mut stripped = String::new();
        let mut rest = coloured.as_str();
        while let Some(at) = rest.find('\x1b') {
            stripped.push_str(&rest[..at]);
            rest = &rest[at..][rest[at..].find('m').unwrap() + 1..];
        }
        stripped.push_str(rest);
        assert_ne!(plain, coloured);
        assert_eq!(plain, stripped);
    }

    #[test]
    fn json_holds_the_same_data() {
        let value: Value = serde_json::from_str(&render(&sample(), Format::Json, true)).unwrap();
        assert_eq!(value["checks"][1]["state"], "warn");
        assert_eq!(value["exit"], 0);
        let fault = Fault::new("cannot connect", "http://x", "refused", "flkd dev").exit(Exit::Missing);
        let value: Value = serde_json::from_str(&render_fault(&fault, Format::Json, false)).unwrap();
        assert_eq!((value["exit"].as_u64(), value["error"]["next"].as_str()), (Some(3), Some("flkd dev")));
    }
}
