//! What a check came to, as files for whoever reads them: one page, JSON, CSV, OSCAL assessment results. The same
//! findings in each; a control that nothing was looked at for says so.

mod html;
mod oscal;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::when;
use crate::pack::put;
use crate::pack::summary::Summary;
use crate::report::{Exit, Fault, Format, Report, State, render};

/// A control and the checks whose findings speak for it.
struct Control {
    /// Its name in NIST SP 800-53, revision 5, as OSCAL writes it.
    id: &'static str,
    /// What it wants, in short.
    title: &'static str,
    /// The same in other frameworks, as a reader's hint.
    also: &'static str,
    /// Names of checks.
    checks: &'static [&'static str],
}

/// Which findings speak for which control. A mapping, not a claim of compliance.
const CONTROLS: [Control; 4] = [
    Control {
        id: "au-9",
        title: "Protection of audit information",
        also: "SOC 2 CC7.2, ISO 27001 A.8.15, HIPAA 164.312(c), 17 CFR 240.17a-4(f)(2)",
        checks: &[
            "1 format",
            "2 bytes -> leaves",
            "3 tree -> root",
            "6 append-only",
            "format",
            "bytes",
            "records",
            "leaves",
            "WORM files",
            "append-only",
        ],
    },
    Control {
        id: "au-10",
        title: "Non-repudiation",
        also: "SOC 2 CC7.3, ISO 27001 A.8.15",
        checks: &["4 signatures", "checkpoint", "log on itself"],
    },
    Control { id: "au-8", title: "Time stamps", also: "ISO 27001 A.8.17", checks: &["5 time"] },
    Control {
        id: "au-11",
        title: "Audit record retention",
        also: "SOC 2 CC8.1, EU AI Act 12 and 19, HIPAA 164.312(b)",
        checks: &["7 continuity", "  period", "period"],
    },
];

/// Whether the findings speak for a control, against it, or not at all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Satisfied,
    NotSatisfied,
    NotEvaluated,
}

impl Standing {
    fn word(self) -> &'static str {
        match self {
            Standing::Satisfied => "satisfied",
            Standing::NotSatisfied => "not satisfied",
            Standing::NotEvaluated => "NOT EVALUATED",
        }
    }
}

fn standing(control: &Control, report: &Report) -> Standing {
    let mut found = Standing::NotEvaluated;
    for check in report.checks.iter().filter(|check| control.checks.contains(&check.name.as_str())) {
        match check.state {
            State::Fail => return Standing::NotSatisfied,
            State::Ok | State::Warn => found = Standing::Satisfied,
            State::Skipped => {}
        }
    }
    // After a failure the later stages may not have been reached.
    if found == Standing::Satisfied && report.exit != Exit::Ok && control.id == "au-9" {
        return Standing::NotSatisfied;
    }
    found
}

/// The findings and what they were made from.
struct Paper<'a> {
    report: &'a Report,
    summary: Option<&'a Summary>,
    subject: &'a Path,
    made: jiff::Timestamp,
}

/// Writes the files; what each holds follows from its name: `.html`, `.json`, `.csv`, `.oscal` or `.oscal.json`.
///
/// # Errors
/// A name says nothing, or a file cannot be written.
pub fn write(
    files: &[PathBuf],
    report: &Report,
    summary: Option<&Summary>,
    subject: &Path,
) -> Result<(), Fault> {
    let paper = Paper { report, summary, subject, made: jiff::Timestamp::now() };
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let bytes = match name.rsplit('.').next().unwrap_or_default() {
            _ if name.ends_with(".oscal") || name.ends_with(".oscal.json") => {
                pretty(&oscal::document(&paper))
            }
            "html" => html::render(&paper).into_bytes(),
            "json" => paper.json().into_bytes(),
            "csv" => paper.csv(path)?,
            _ => {
                let next = "name it .html, .json, .csv or .oscal.json";
                return Err(Fault::new(
                    "which kind of report?",
                    path.display(),
                    "its name does not say",
                    next,
                ));
            }
        };
        put(path, &bytes)?;
    }
    Ok(())
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

impl Paper<'_> {
    fn json(&self) -> String {
        let mut report = self.report.clone();
        report.data["made_at"] = json!(self.made.to_string());
        report.data["subject"] = json!(self.subject);
        report.data["summary"] = json!(self.summary);
        report.data["controls"] = CONTROLS
            .iter()
            .map(|control| {
                json!({"id": control.id, "title": control.title, "also": control.also,
                "standing": standing(control, &report).word()})
            })
            .collect();
        render(&report, Format::Json, false)
    }

    fn csv(&self, path: &Path) -> Result<Vec<u8>, Fault> {
        let mut out = csv::Writer::from_writer(Vec::new());
        let mut row = |section: &str, name: &str, state: &str, detail: &str| {
            out.write_record([section, name, state, detail]).map_err(|error| Fault::write(path, error))
        };
        row("section", "name", "state", "detail")?;
        for check in &self.report.checks {
            row("check", check.name.trim(), check.state.word(), &check.detail)?;
        }
        for control in &CONTROLS {
            row("control", control.id, standing(control, self.report).word(), control.title)?;
        }
        if let Some(summary) = self.summary {
            for (section, map) in
                [("kind", &summary.kinds), ("reason", &summary.reasons), ("tenant", &summary.tenants)]
            {
                for (name, count) in map {
                    row(section, name, "", &count.to_string())?;
                }
            }
            for gap in &summary.gaps {
                let detail = format!("{} to {}", when(gap.from_ms), when(gap.to_ms));
                row("gap", &gap.after.to_string(), "", &detail)?;
            }
        }
        row("verdict", self.report.command, &(self.report.exit as u8).to_string(), &self.report.verdict)?;
        out.into_inner().map_err(|error| Fault::write(path, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("worm verify");
        report.check("1 format", State::Ok, "fine");
        report.check("2 bytes -> leaves", State::Ok, "<b> & \"fine\"");
        report.check("4 signatures", State::Warn, "unwitnessed");
        report.check("5 time", State::Skipped, "none");
        report.verdict = "intact".into();
        report
    }

    #[test]
    fn every_kind_is_written_and_a_name_that_says_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files: Vec<PathBuf> = ["a.html", "a.json", "a.csv", "a.oscal.json"].map(path).into();
        let mut summary = Summary { entries: 6, bucket_ms: 1000, ..Summary::default() };
        summary.buckets.insert(1_700_000_000, [3, 1, 0, 2]);
        summary.tenants.insert("<script>".into(), 6);
        write(&files, &report(), Some(&summary), folder.path()).unwrap();
        let text = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        let page = text("a.html");
        assert!(page.contains("&lt;b&gt; &amp; &quot;fine&quot;") && !page.contains("<script"), "{page}");
        assert!(
            page.contains("<svg")
                && page.contains("NOT EVALUATED")
                && !page.contains("http://")
                && !page.contains("https://"),
            "{page}"
        );
        let json: Value = serde_json::from_str(&text("a.json")).unwrap();
        assert_eq!(json["data"]["controls"][0]["standing"], "satisfied");
        assert_eq!(json["data"]["controls"][2]["standing"], "NOT EVALUATED");
        assert!(text("a.csv").contains("check,2 bytes -> leaves,ok,"));
        let oscal: Value = serde_json::from_str(&text("a.oscal.json")).unwrap();
        assert_eq!(oscal["assessment-results"]["metadata"]["oscal-version"], "1.1.3");
        let wrong = write(&[path("a.txt")], &report(), None, folder.path()).unwrap_err();
        assert_eq!(wrong.what, "which kind of report?");
    }

    #[test]
    fn a_failure_speaks_against_its_control() {
        let mut report = report();
        report.fail("6 append-only", Exit::Inconsistent, "forked".into());
        assert!(standing(&CONTROLS[0], &report) == Standing::NotSatisfied);
        assert!(standing(&CONTROLS[1], &report) == Standing::Satisfied);
    }
}
