//! From windows to answered submissions: what is sent, noted, buried, and left for the next run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::checkpoint::LogKeys;
use engine::leaf::outcome_name;
use serde_json::{Value, json};

use super::outbox::{Outbox, bury};
use super::send::{Patience, Sent, send};
use super::summary::{self, Recipe, Summary};
use super::window::Window;
use super::{Args, Counts};
use crate::http::{Answer, Client};
use crate::keys::Key;
use crate::receipt;
use crate::report::{Exit, Fault, Report, State, Table};
use crate::ui::{Ui, Unit, thousands};

/// An agent that has its outbox open.
pub(super) struct Sender {
    pub(super) client: Client,
    pub(super) tenant: String,
    pub(super) patience: Patience,
    pub(super) outbox: Outbox,
    pub(super) path: PathBuf,
    pub(super) dead: PathBuf,
    /// Why nothing more is sent in this run.
    pub(super) lost: Option<String>,
    pub(super) counts: Counts,
    pub(super) rows: Vec<Vec<String>>,
    /// Summaries of this run that were answered, now or earlier: number in the outbox, and the outcome if it was
    /// told in this run, and whether the bytes were said to be the first.
    pub(super) sent: BTreeMap<u64, (Option<&'static str>, bool)>,
    /// The first receipt that does not hold, and why.
    pub(super) wrong: Option<(String, String)>,
    pub(super) ui: Ui,
}

impl Sender {
    /// Sends what an earlier run left without an answer.
    pub(super) fn resume(&mut self, clock: &mut dyn FnMut() -> f64) -> Result<(), Fault> {
        let left: Vec<(u64, String, String)> = self
            .outbox
            .unanswered()
            .map(|entry| (entry.seq, entry.pcs_id.clone(), entry.payload.clone()))
            .collect();
        if !left.is_empty() {
            self.ui.say(&format!("{} submissions without an answer from an earlier run", left.len()));
        }
        for (seq, pcs_id, payload) in left {
            let value: Value = serde_json::from_str(&payload).unwrap_or(Value::Null);
            let about = About::of_payload(&value);
            self.submit(seq, &pcs_id, &payload, about, clock)?;
        }
        Ok(())
    }

    /// Summarises and sends a window, unless it was before.
    pub(super) fn window(
        &mut self,
        recipe: &Recipe,
        key: &Key,
        window: &Window,
        clock: &mut dyn FnMut() -> f64,
    ) -> Result<(), Fault> {
        self.counts.windows += 1;
        let pcs_id = summary::id(window, recipe).1;
        if let Some(entry) = self.outbox.find(&pcs_id) {
            // An entry without an answer was sent, or tried, when the run began.
            if entry.acked_at.is_some() && !self.sent.contains_key(&entry.seq) {
                self.counts.known += 1;
                self.sent.insert(entry.seq, (None, false));
            }
            return Ok(());
        }
        let summary = Summary::of(window, recipe);
        let payload = summary.sign(key, clock(), self.outbox.next_seq())?;
        let seq =
            self.outbox.add(&pcs_id, &payload, clock()).map_err(|error| Fault::write(&self.path, error))?;
        self.submit(seq, &pcs_id, &payload, About::of(window, &summary), clock)
    }

    fn submit(
        &mut self,
        seq: u64,
        pcs_id: &str,
        payload: &str,
        about: About,
        clock: &mut dyn FnMut() -> f64,
    ) -> Result<(), Fault> {
        if self.lost.is_some() {
            self.counts.pending += 1;
            return Ok(());
        }
        let ui = self.ui;
        let mut sleep = |wait: Duration, why: &str| {
            ui.say(&format!("{why}; again in {:.1} s", wait.as_secs_f64()));
            std::thread::sleep(wait);
        };
        let outcome =
            send(&mut self.client, &self.tenant, false, payload.as_bytes(), self.patience, &mut sleep);
        let (status, entry, note) = match &outcome {
            Sent::Answered(answer) => self.answered(answer),
            Sent::Refused(answer) => {
                let error = format!("{} {}", answer.status, problem(answer));
                bury(&self.dead, pcs_id, &error, clock(), payload)
                    .map_err(|error| Fault::write(&self.dead, error))?;
                self.counts.dead += 1;
                ("dead".to_owned(), String::new(), error)
            }
            Sent::Unanswered(why) => {
                self.counts.pending += 1;
                self.lost = Some(why.clone());
                ("pending".to_owned(), String::new(), why.clone())
            }
        };
        if !matches!(outcome, Sent::Unanswered(_)) {
            self.outbox.ack(seq, clock()).map_err(|error| Fault::write(&self.path, error))?;
        }
        if let Sent::Answered(answer) = &outcome {
            let replayed = answer.header("idempotent-replayed");
            let accepted = answer.json()["accepted"].as_bool().unwrap_or(false);
            let told = (replayed != Some("conflict")).then(|| outcome_name(accepted, answer.status != 200));
            self.sent.insert(seq, (told, replayed.is_none()));
        }
        self.rows.push(about.row(&status, &entry, &note));
        Ok(())
    }

    /// Fetches the receipt of every summary that was answered, checks it and keeps it in `folder`. Stops at the first
    /// that does not hold.
    pub(super) fn receipts(
        &mut self,
        folder: Option<&Path>,
        verifier: Option<&LogKeys>,
    ) -> Result<(), Fault> {
        let sent = std::mem::take(&mut self.sent);
        let mut progress = self.ui.progress("receipts", sent.len() as u64, Unit::Items("receipts"));
        for (seq, (outcome, first)) in sent {
            let Some(entry) = self.outbox.entry(seq) else { continue };
            let id = entry.pcs_id.as_str();
            progress.add(1);
            let Ok(bytes) = receipt::fetch(&mut self.client, &self.tenant, &format!("/v1/receipts/{id}"))
            else {
                self.counts.no_receipt += 1;
                continue;
            };
            let about = receipt::Sent {
                tenant: &self.tenant,
                pcs_id: id,
                body: Some(entry.payload.as_bytes()),
                outcome,
                first,
            };
            if let Err(why) = receipt::check(&bytes, verifier, about) {
                self.wrong = Some((id.to_owned(), why));
                break;
            }
            if let Some(folder) = folder {
                receipt::save(folder, id, &bytes)?;
            }
            self.counts.receipts += 1;
        }
        progress.finish();
        Ok(())
    }

    fn answered(&mut self, answer: &Answer) -> (String, String, String) {
        let body = answer.json();
        let accepted = body["accepted"].as_bool().unwrap_or(false);
        let word = outcome_name(accepted, answer.status != 200);
        *match word {
            "accepted" => &mut self.counts.accepted,
            "escalated" => &mut self.counts.escalated,
            _ => &mut self.counts.rejected,
        } += 1;
        let mut note = body["reason"].as_str().unwrap_or("").to_owned();
        if let Some(kind) = answer.header("idempotent-replayed") {
            self.counts.replayed += 1;
            note = if kind == "conflict" {
                "an earlier summary under this id counts".into()
            } else {
                "replayed".into()
            };
        }
        (word.to_owned(), body["seq"].as_u64().map(|seq| seq.to_string()).unwrap_or_default(), note)
    }

    /// What became of everything.
    pub(super) fn report(self, args: &Args, first_bad: Option<&str>) -> Report {
        let counts = self.counts;
        let mut report = Report::new("flk agent");
        report.table = (!self.rows.is_empty()).then(|| Table {
            headings: vec![
                "WINDOW", "EVENTS", "FROM", "D_HAT", "COH*", "R", "REGIME", "BUDGET", "VERDICT", "ENTRY",
                "NOTE",
            ],
            rows: self.rows,
        });
        if self.outbox.torn {
            report.lines.push("the outbox ended in a line that a crash had cut off; it was removed".into());
        }
        if counts.bad_rows > 0 {
            let first = first_bad.unwrap_or_default();
            report
                .lines
                .push(format!("{} rows were skipped; the first: {first}", thousands(counts.bad_rows)));
        }
        let mut parts = vec![format!(
            "{} events, {} windows: {} accepted, {} escalated, {} rejected",
            thousands(counts.events),
            thousands(counts.windows),
            thousands(counts.accepted),
            thousands(counts.escalated),
            thousands(counts.rejected)
        )];
        let proved = if args.vkey.is_some() {
            "proved by their receipts"
        } else {
            "receipts saved, signature not checked"
        };
        for (count, words) in [
            (counts.known, "answered in an earlier run".to_owned()),
            (counts.dead, format!("refused for good, see {}", self.dead.display())),
            (counts.pending, "without an answer yet".to_owned()),
            (counts.receipts, proved.to_owned()),
            (counts.no_receipt, "receipts did not come".to_owned()),
        ] {
            if count > 0 {
                parts.push(format!("{} {words}", thousands(count)));
            }
        }
        if counts.open_events > 0 && !args.partial {
            parts.push(format!(
                "the last {} events wait for their window to fill",
                thousands(counts.open_events)
            ));
        }
        report.verdict = parts.join("; ");
        if let Some(why) = &self.lost {
            report
                .verdict
                .push_str(&format!(" ({why}): run the same command again when {} answers", args.server.url));
        }
        report.data = json!({
            "counts": counts,
            "outbox": self.path,
            "dead_letters": self.dead,
            "unreachable": self.lost,
            "wrong_receipt": self.wrong.as_ref().map(|(id, why)| json!({"pcs_id": id, "why": why})),
        });
        if counts.pending > 0 || counts.dead > 0 || counts.no_receipt > 0 {
            report.exit = Exit::Failed;
        }
        if let Some((id, why)) = &self.wrong {
            report.exit = Exit::Tampered;
            report.check("receipt", State::Fail, format!("{id}: {why}"));
            report.verdict.push_str("; a receipt does not hold: what this server says of its log is not so");
        }
        report
    }
}

/// The title of a problem document, or the first line of a text answer.
fn problem(answer: &Answer) -> String {
    let body = answer.json();
    let title = ["detail", "error", "title"].iter().find_map(|name| body[name].as_str().map(str::to_owned));
    title.unwrap_or_else(|| {
        String::from_utf8_lossy(&answer.body).lines().next().unwrap_or("").chars().take(200).collect()
    })
}

/// The left part of a window's row.
struct About(Vec<String>);

impl About {
    fn of(window: &Window, summary: &Summary) -> About {
        About(vec![
            window.index.to_string(),
            window.events.len().to_string(),
            window.events.first().map_or_else(String::new, |event| minute(event.seconds)),
            format!("{:.3}", summary.d_hat),
            format!("{:.3}", summary.coh_star),
            format!("{:.3}", summary.r),
            summary.regime.to_owned(),
            format!("{:.3}", summary.budget),
        ])
    }

    fn of_payload(payload: &Value) -> About {
        let number =
            |name: &str| payload[name].as_f64().map_or_else(String::new, |value| format!("{value:.3}"));
        About(vec![
            payload["epoch"].to_string(),
            String::new(),
            String::new(),
            number("D_hat"),
            number("coh_star"),
            number("r"),
            payload["regime"].as_str().unwrap_or("").to_owned(),
            number("budget"),
        ])
    }

    fn row(self, status: &str, entry: &str, note: &str) -> Vec<String> {
        let mut cells = self.0;
        cells.extend([status.to_owned(), entry.to_owned(), note.to_owned()]);
        cells
    }
}

fn minute(seconds: f64) -> String {
    jiff::Timestamp::from_second(seconds.floor() as i64)
        .map_or_else(|_| format!("{seconds:.0}"), |stamp| stamp.strftime("%Y-%m-%d %H:%M").to_string())
}
