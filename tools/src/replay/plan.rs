//! What a replay reads and where it may begin, known before it is done; and the page that shows both.
//!
//! The plan comes from headers and footers alone. How long it takes is measured, not guessed: the first segment that
//! would be read is folded, and the rest is taken to go as fast.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::checkpoint::Signed;
use engine::ledger::{Ledger, Table as Rows};
use engine::log::{Digest, Lsn};
use serde_json::{Value, json};

use super::snapshot_path;
use crate::audit::Wrong;
use crate::audit::fold::{Appended, Fold, Watch};
use crate::audit::home::Home;
use crate::audit::judges::Source;
use crate::audit::snapshot;
use crate::audit::source::{Begin, Faulty, LogFiles, Span};
use crate::page;
use crate::report::{Fault, Report, State, Table};
use crate::ui::{bytes, thousands};

/// Rows of segments on a page.
const SHOWN: usize = 400;

/// A place to begin.
#[derive(Clone, Debug)]
pub(super) struct Start {
    /// The snapshot's file; `None` for nothing.
    snapshot: Option<PathBuf>,
    /// The record after which it stands.
    pub after: Lsn,
    /// Where reading begins.
    pub begin: Begin,
    /// Bytes to read from there.
    bytes: u64,
}

/// What a replay reads.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What this replay begins with.
    pub start: Start,
    /// With what else it could begin, and why not.
    others: Vec<Result<Start, String>>,
    spans: Vec<Span>,
    /// Bytes of the node's own index, about as many as the scratch folder needs; `None` where there is none.
    index: Option<u64>,
}

/// How fast the first segment went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    bytes: u64,
    took: Duration,
}

impl Start {
    fn new(log: &LogFiles, snapshot: Option<(PathBuf, &snapshot::Snapshot)>) -> Result<Start, Faulty> {
        let (after, begin) = match &snapshot {
            None => (Lsn::ZERO, Begin::FIRST),
            Some((_, found)) => (found.after, log.from(found.after, found.group)?),
        };
        let before = log.read_up_to(crate::audit::Place { segment: begin.segment, offset: 0 });
        Ok(Start { snapshot: snapshot.map(|(path, _)| path), after, begin, bytes: log.bytes() - before })
    }

    fn name(&self) -> String {
        self.snapshot.as_ref().map_or_else(|| "nothing".into(), |path| path.display().to_string())
    }

    fn json(&self) -> Value {
        json!({"snapshot": self.snapshot, "after": self.after.0, "segment": self.begin.segment, "bytes": self.bytes})
    }
}

impl Plan {
    /// The plan of a replay that begins with `chosen`, a snapshot, or with nothing.
    ///
    /// # Errors
    /// [`Faulty`].
    pub fn new(
        log: &LogFiles,
        home: &Home,
        chosen: Option<(&Path, &snapshot::Snapshot)>,
    ) -> Result<Plan, Faulty> {
        let start = Start::new(log, chosen.map(|(path, found)| (path.to_owned(), found)))?;
        let mut others = Vec::new();
        if chosen.is_some() {
            others.push(Ok(Start::new(log, None)?));
        }
        let own = snapshot_path(home.dir());
        if own.exists() && chosen.is_none_or(|(path, _)| path != own) {
            others.push(match snapshot::read(&own) {
                Ok(found) => Ok(Start::new(log, Some((own, &found)))?),
                Err(fault) => Err(format!("{}: {}", fault.place, fault.why)),
            });
        }
        let spans = (1..=log.segments()).map(|number| log.span(number)).collect::<Result<_, _>>()?;
        Ok(Plan { start, others, spans, index: size(&home.dir().join("proj").join("index")) })
    }

    /// Folds the first segment that would be read. Errors in it are the replay's to report.
    pub fn sample<T: Rows>(
        &self,
        log: &LogFiles,
        ledger: Ledger<T>,
        source: &Source<'_>,
        threads: usize,
    ) -> Option<Sample> {
        let (mut fold, mut nothing) = (Fold::new(ledger, source, threads), Nothing);
        let segment = self.start.begin.segment;
        let started = Instant::now();
        log.records_of(self.start.begin, segment, &mut |lsn, place, payload| {
            fold.push(lsn, place, payload, &mut nothing)
        })
        .ok()?;
        let took = started.elapsed().max(Duration::from_micros(1));
        Some(Sample { bytes: self.spans.get(segment as usize - 1)?.bytes, took })
    }

    fn seconds(&self, sample: Sample) -> f64 {
        self.start.bytes as f64 / sample.bytes.max(1) as f64 * sample.took.as_secs_f64()
    }

    /// Fills in a report of what would be done.
    pub fn report(&self, sample: Option<Sample>, live: bool, report: &mut Report) {
        let sealed = self.spans.iter().filter(|span| span.last.is_some()).count();
        let known = self.spans.iter().rev().find_map(|span| span.last).unwrap_or(Lsn::ZERO);
        let detail = format!(
            "{} segments, {} of them sealed with records up to {}; {}",
            thousands(self.spans.len() as u64),
            thousands(sealed as u64),
            thousands(known.0),
            bytes(self.spans.iter().map(|span| span.bytes).sum())
        );
        report.check("log", State::Ok, detail);
        let read = format!(
            "{} from segment {} on, and folds every record after {}",
            bytes(self.start.bytes),
            self.start.begin.segment,
            thousands(self.start.after.0)
        );
        report.check("reads", State::Ok, read);
        match sample {
            Some(sample) => {
                let detail = format!(
                    "about {:.1} s: segment {} took {:.2} s",
                    self.seconds(sample),
                    self.start.begin.segment,
                    sample.took.as_secs_f64()
                );
                report.check("time", State::Ok, detail);
            }
            None => {
                let why = "the first segment does not fold: the replay will say where";
                report.check("time", State::Warn, why);
            }
        }
        if let Some(index) = self.index {
            let detail = format!("{} in the scratch folder, as the node's own index", bytes(index));
            report.check("room", State::Ok, detail);
        }
        let also = if live { ", and with the running node" } else { "" };
        let detail = format!("with every Attested and every checkpoint that is read{also}");
        report.check("compares", State::Ok, detail);
        report.table = Some(self.table());
        report.data["plan"] = self.json(sample);
        report.verdict = format!(
            "a plan only: {} would be read{}; nothing was compared. Leave --plan away to do it",
            bytes(self.start.bytes),
            sample.map_or_else(String::new, |sample| format!(" in about {:.1} s", self.seconds(sample)))
        );
    }

    fn table(&self) -> Table {
        let row = |mark: &str, start: &Start| {
            let cells = [start.after.0.to_string(), start.begin.segment.to_string(), bytes(start.bytes)];
            [&[mark.to_owned(), start.name()], &cells[..]].concat()
        };
        let mut rows = vec![row("this", &self.start)];
        for other in &self.others {
            rows.push(match other {
                Ok(start) => row("instead", start),
                Err(why) => {
                    vec!["unusable".into(), why.clone(), String::new(), String::new(), String::new()]
                }
            });
        }
        Table { headings: vec!["START", "WITH", "AFTER RECORD", "SEGMENT", "READS"], rows }
    }

    fn json(&self, sample: Option<Sample>) -> Value {
        let others: Vec<Value> = self
            .others
            .iter()
            .map(|other| match other {
                Ok(start) => start.json(),
                Err(why) => json!({"unusable": why}),
            })
            .collect();
        json!({
            "start": self.start.json(), "instead": others, "index_bytes": self.index,
            "seconds": sample.map(|sample| self.seconds(sample)),
            "segments": self.spans.iter().map(|span| json!({
                "number": span.number, "bytes": span.bytes, "before": span.before.0,
                "last": span.last.map(|last| last.0),
            })).collect::<Vec<_>>(),
        })
    }

    /// Plan and findings as one page.
    pub fn page(&self, dir: &Path, report: &Report) -> String {
        let mut out = page::begin("flk replay", &format!("Replay of {}", dir.display()), report);
        page::checks(report, &mut out);
        if let Some(projections) = report.data["projections"].as_object() {
            out.push_str("<h2>What the log alone gives</h2><table>");
            let ledger = ("ledger", report.data["digest"].as_str().unwrap_or_default());
            let digests =
                projections.iter().map(|(name, value)| (&name[..], value.as_str().unwrap_or_default()));
            for (name, digest) in digests.chain([ledger]) {
                let _ = write!(out, "<tr><td>{}</td><td><code>{digest}</code></td></tr>", page::escape(name));
            }
            out.push_str("</table>");
        }
        out.push_str("<h2>Where it begins</h2><table>");
        let table = self.table();
        for (cells, tag) in [(table.headings.iter().map(|s| (*s).to_owned()).collect(), "th")]
            .into_iter()
            .chain(table.rows.into_iter().map(|row: Vec<String>| (row, "td")))
        {
            out.push_str("<tr>");
            for cell in cells {
                let _ = write!(out, "<{tag}>{}</{tag}>", page::escape(&cell));
            }
            out.push_str("</tr>");
        }
        out.push_str("</table><h2>Segments</h2>");
        self.lane(report.data["first_difference"]["lsn"].as_u64().map(Lsn), &mut out);
        out.push_str("<table><tr><th>number</th><th>records</th><th>bytes</th><th></th></tr>");
        for span in self.spans.iter().take(SHOWN) {
            let last = span.last.map_or_else(|| "open".into(), |last| thousands(last.0));
            let what = if span.number < self.start.begin.segment { "not read" } else { "" };
            let _ = write!(
                out,
                "<tr><td class=\"n\">{}</td><td>after {} to {last}</td><td class=\"n\">{}</td><td>{what}</td></tr>",
                span.number,
                thousands(span.before.0),
                bytes(span.bytes)
            );
        }
        out.push_str("</table>");
        if self.spans.len() > SHOWN {
            let more = thousands((self.spans.len() - SHOWN) as u64);
            let _ = write!(out, "<p><small>and {more} more</small></p>");
        }
        out.push_str(page::END);
        out
    }

    /// The log from left to right: what is not read, what is, and where the first difference is.
    fn lane(&self, different: Option<Lsn>, out: &mut String) {
        let all: u64 = self.spans.iter().map(|span| span.bytes).sum::<u64>().max(1);
        out.push_str("<svg viewBox=\"0 0 960 40\" role=\"img\" aria-label=\"segments of the log\">");
        let mut at = 0;
        for span in &self.spans {
            let [x, wide] = [at, span.bytes].map(|bytes| bytes as f64 * 960.0 / all as f64);
            at += span.bytes;
            let holds = |lsn: Lsn| lsn > span.before && span.last.is_none_or(|last| lsn <= last);
            let (colour, what) = match different {
                Some(lsn) if holds(lsn) => ("#b00020", "the first difference"),
                _ if span.number < self.start.begin.segment => ("#bbb", "not read"),
                _ => ("#2a7d2a", "read"),
            };
            let _ = write!(
                out,
                "<rect x=\"{x:.2}\" y=\"4\" width=\"{:.2}\" height=\"32\" fill=\"{colour}\"><title>segment {}: {what}</title></rect>",
                (wide - 0.5).max(0.25),
                span.number
            );
        }
        out.push_str("</svg>");
    }
}

/// Writes the page.
///
/// # Errors
/// The file system refuses.
pub(super) fn write(path: &Path, dir: &Path, plan: &Plan, report: &Report) -> Result<(), Fault> {
    std::fs::write(path, plan.page(dir, report)).map_err(|error| Fault::write(path, error))
}

/// Bytes of the files in a folder; `None` where there is none.
fn size(folder: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(folder).ok()?;
    Some(entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum())
}

/// Looks at nothing.
struct Nothing;

impl Watch for Nothing {
    fn leaf(&mut self, _: &Appended<'_>) -> Result<(), Wrong> {
        Ok(())
    }

    fn record(&mut self, _: Lsn, _: &dyn Fn() -> Digest) -> Result<(), Wrong> {
        Ok(())
    }

    fn checkpoint(&mut self, _: Lsn, _: &Signed) -> Result<(), Wrong> {
        Ok(())
    }
}
