//! `flk submit`: sends one summary and says what became of it: verdict, receipt, or why not and what to do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::checkpoint::{Receipt, Signed};
use engine::summary::PcsId;
use engine::summary::canonical::canonical_bytes;
use serde_json::{Value, json};

use crate::agent::send::{Patience, Sent, retry_after, send};
use crate::cli::Server;
use crate::http::{Answer, Client};
use crate::keys::KeyArgs;
use crate::report::{Exit, Fault, Report, State, Table};
use crate::sign;
use crate::ui::{Ui, thousands};

/// Submits one summary and saves its receipt
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The summary, one JSON object; - for standard input. With a key it is signed before it is sent
    pub file: PathBuf,
    #[command(flatten)]
    /// The server.
    pub server: Server,
    #[command(flatten)]
    /// The key.
    pub key: KeyArgs,
    /// Ask for 422 instead of the first answer when the id exists with other content
    #[arg(long)]
    pub strict: bool,
    /// Folder for receipts
    #[arg(long, value_name = "DIR", default_value = "receipts")]
    pub receipts: PathBuf,
    /// Do not wait for a receipt
    #[arg(long)]
    pub no_receipt: bool,
    /// Tries before giving up
    #[arg(long, default_value_t = 5)]
    pub tries: u32,
}

/// How long a receipt is waited for: it exists when the next checkpoint is signed.
const RECEIPT_WAIT: Duration = Duration::from_secs(10);

/// Sends the summary.
///
/// # Errors
/// The file or key cannot be used, or no server answered. A refusal is a result.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let mut body = sign::read_body(&args.file)?;
    if let Some(key) = args.key.load()? {
        body = sign::signed(&args.file, &body, &key)?.into_bytes();
    }
    let mut client = Client::new(&args.server.url, Duration::from_secs(args.server.timeout))?;
    let patience = Patience { tries: args.tries, ..Patience::default() };
    let mut sleep = |wait: Duration, why: &str| {
        ui.say(&format!("{why}; again in {:.1} s", wait.as_secs_f64()));
        std::thread::sleep(wait);
    };
    let sent = send(&mut client, &args.server.tenant, args.strict, &body, patience, &mut sleep);
    let answer = match sent {
        Sent::Answered(answer) | Sent::Refused(answer) => answer,
        Sent::Unanswered(why) => {
            let next = "is it running? `flkd dev` starts one. Sending the same summary again is safe: the first answer counts";
            return Err(Fault::new("no answer from the server", &args.server.url, why, next));
        }
    };
    let mut report = Report::new("flk submit");
    report.data = json!({"status": answer.status, "answer": answer.json(), "replayed": answer.header("idempotent-replayed")});
    match answer.status {
        200 | 202 => verdict(&mut report, &answer),
        401 => unsigned(&mut report, args, &body, &answer),
        _ => refused(&mut report, &answer),
    }
    if matches!(answer.status, 200 | 202) && !args.no_receipt {
        receipt(&mut report, args, &mut client, &answer);
    }
    Ok(report)
}

fn verdict(report: &mut Report, answer: &Answer) {
    let body = answer.json();
    let text = |name: &str| body[name].as_str().unwrap_or("");
    let accepted = body["accepted"].as_bool().unwrap_or(false);
    let word = match (answer.status, accepted) {
        (200, _) => "accepted",
        (_, true) => "escalated",
        (_, false) => "rejected",
    };
    let mut line = format!("{} {word}", answer.status);
    if !text("regime").is_empty() {
        line.push_str(&format!(
            "  regime {}  budget {:.3}",
            text("regime"),
            body["budget"].as_f64().unwrap_or(0.0)
        ));
        line.push_str(&format!("  D_hat sent {:.3}", body["D_hat"].as_f64().unwrap_or(0.0)));
        if let Some(recomputed) = body["recomputed_D_hat"].as_f64() {
            line.push_str(&format!(" recomputed {recomputed:.3}"));
        }
    }
    report.lines.push(line);
    if !text("reason").is_empty() {
        report.lines.push(format!("reason   {}", text("reason")));
    }
    match answer.header("idempotent-replayed") {
        Some("conflict") => report.check(
            "replay",
            State::Warn,
            "this id was submitted before with other content; the first submission counts, this one is noted as a conflict",
        ),
        Some(_) => report.check("replay", State::Ok, "submitted before; this is the first answer, and nothing was added"),
        None => {}
    }
    let place = format!("entry {}, record {}", body["seq"], body["lsn"]);
    report.verdict = format!("{word}, durable as {place}, judged by policy {}", text("policy_version"));
}

fn receipt(report: &mut Report, args: &Args, client: &mut Client, answer: &Answer) {
    let body = answer.json();
    let (Some(path), Some(id)) = (body["receipt"].as_str(), body["pcs_id"].as_str()) else {
        report.check("receipt", State::Skipped, "a submission that never got an id has none");
        return;
    };
    if PcsId::from_hex(id).is_none() {
        report.check("receipt", State::Fail, "the server named an id that is none");
        return;
    }
    match fetch_receipt(client, &args.server.tenant, path) {
        Ok(bytes) => match save(&args.receipts, id, &bytes) {
            Ok((file, detail)) => {
                report.data["receipt_file"] = json!(file);
                report.check("receipt", State::Ok, detail);
            }
            Err(fault) => report.check("receipt", State::Warn, format!("{} ({})", fault.what, fault.why)),
        },
        Err(why) => {
            report.check("receipt", State::Warn, format!("{why}; later: curl {}{path}", args.server.url))
        }
    }
}

/// The receipt's bytes, waiting for the checkpoint that covers it.
fn fetch_receipt(client: &mut Client, tenant: &str, path: &str) -> Result<Vec<u8>, String> {
    let path = path.find("/v1/").map_or(path, |at| &path[at..]);
    let start = std::time::Instant::now();
    loop {
        let answer = client
            .request("GET", path, &[("x-tenant-id", tenant)], &[])
            .map_err(|error| error.to_string())?;
        match answer.status {
            200 => return Ok(answer.body),
            503 if start.elapsed() < RECEIPT_WAIT => {
                let wait = retry_after(&answer).unwrap_or(Duration::from_secs(1));
                std::thread::sleep(wait.clamp(Duration::from_millis(100), Duration::from_secs(2)));
            }
            status => return Err(format!("the server answered {status}")),
        }
    }
}

fn save(folder: &Path, id: &str, bytes: &[u8]) -> Result<(PathBuf, String), Fault> {
    let file = folder.join(format!("{id}.tlog-proof"));
    let read = Receipt::parse(bytes)
        .and_then(|receipt| Signed::parse(&receipt.checkpoint).map(|signed| (receipt, signed)));
    let (receipt, signed) = read.map_err(|error| {
        Fault::new(
            "what came is no receipt",
            file.display(),
            error,
            "worm prove DIR ID makes one from the log",
        )
    })?;
    std::fs::create_dir_all(folder).map_err(|error| Fault::write(folder, error))?;
    std::fs::write(&file, bytes).map_err(|error| Fault::write(&file, error))?;
    let detail = format!(
        "entry {} of {}, saved {}",
        thousands(receipt.index),
        thousands(signed.checkpoint.size),
        file.display()
    );
    Ok((file, detail))
}

/// What was signed, field by field: the commonest mistake of a new client is the spelling of numbers.
fn unsigned(report: &mut Report, args: &Args, body: &[u8], answer: &Answer) {
    report.exit = Exit::Failed;
    report.lines.push(head(answer));
    let file = args.file.display();
    if let Ok(pcs) = sign::read_fields(&args.file, body) {
        let canonical = canonical_bytes(&pcs.signed_fields());
        report
            .lines
            .push(format!("bytes that a signature must cover:\n  {}", String::from_utf8_lossy(&canonical)));
        report.table = Some(Table {
            headings: vec!["FIELD", "YOU WROTE", "SIGNED AS", ""],
            rows: sign::fields(body, &canonical)
                .iter()
                .map(|field| {
                    let (written, signed) = (field.written.clone(), field.signed.clone());
                    vec![field.name.to_owned(), written, signed, sign::remark(field).to_owned()]
                })
                .collect(),
        });
        report.verdict = if pcs.sig.is_empty() {
            format!("the summary carries no signature: flk submit {file} --hmac-key FILE")
        } else {
            format!(
                "no key of tenant {} made this signature over any known form: check the key, then compare with `flk sign --show-bytes {file}`",
                args.server.tenant
            )
        };
    } else {
        report.verdict = "the signature does not hold".into();
    }
}

fn refused(report: &mut Report, answer: &Answer) {
    report.exit = Exit::Failed;
    report.lines.push(head(answer));
    let body = answer.json();
    if let Some(detail) = body["detail"].as_str() {
        report.lines.push(format!("  {detail}"));
    }
    let next = match answer.status {
        400 => "fix the body; `flk sign --show-bytes FILE` says at which byte it stops being a summary",
        404 | 405 => "check --url: this does not look like an FLK server",
        413 => "a body is at most 1 MiB; send several summaries one a line to /v1/pcs/batch",
        422 => "the id exists with other content; without --strict the first answer is returned",
        _ => "see the problem's page at the address above",
    };
    report.verdict = next.into();
}

fn head(answer: &Answer) -> String {
    let body: Value = answer.json();
    let title = body["title"].as_str().or(body["error"].as_str()).unwrap_or("refused");
    format!("{} {title}  {}", answer.status, body["type"].as_str().unwrap_or(""))
}
