//! `flk submit`: sends one summary and says what became of it: verdict, receipt, or why not and what to do.

use std::path::PathBuf;
use std::time::Duration;

use engine::checkpoint::LogKeys;
use engine::leaf::outcome_name;
use engine::summary::canonical::canonical_bytes;
use serde_json::{Value, json};

use crate::agent::send::{self, Patience, send};
use crate::audit::home::read_vkey;
use crate::audit::keychain::follow_at;
use crate::cli::Server;
use crate::http::{Answer, Client};
use crate::keys::KeyArgs;
use crate::receipt::{self, Sent};
use crate::report::{Exit, Fault, Report, State, Table};
use crate::sign;
use crate::ui::{Ui, thousands};

/// Submits one summary and saves its receipt
///
/// Exit codes: 0 it is durable and judged, 1 it was refused or nobody answered, 2 its receipt does not hold.
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
    #[arg(long, conflicts_with = "vkey")]
    pub no_receipt: bool,
    /// Check the receipt with the log's public key, given as text or in a file, or one that the log says has followed it; exit code 2 if it does not hold
    #[arg(long, value_name = "KEY")]
    pub vkey: Option<String>,
    /// Tries before giving up
    #[arg(long, default_value_t = 5)]
    pub tries: u32,
}

/// Sends the summary.
///
/// # Errors
/// The file or key cannot be used, or no server answered. A refusal is a result.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let verifier = args.vkey.as_deref().map(read_vkey).transpose()?;
    let mut body = sign::read_body(&args.file)?;
    if let Some(key) = args.key.load()? {
        body = sign::signed(&args.file, &body, &key)?.into_bytes();
    }
    let mut client = Client::trusting(
        &args.server.url,
        Duration::from_secs(args.server.timeout),
        args.server.ca.as_deref(),
    )?;
    let patience = Patience { tries: args.tries, ..Patience::default() };
    let mut sleep = |wait: Duration, why: &str| {
        ui.say(&format!("{why}; again in {:.1} s", wait.as_secs_f64()));
        std::thread::sleep(wait);
    };
    let sent = send(&mut client, &args.server.tenant, args.strict, &body, patience, &mut sleep);
    let answer = match sent {
        send::Sent::Answered(answer) | send::Sent::Refused(answer) => answer,
        send::Sent::Unanswered(why) => {
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
        receipt(&mut report, args, &mut client, &answer, &body, verifier.as_ref())?;
    }
    Ok(report)
}

fn verdict(report: &mut Report, answer: &Answer) {
    let body = answer.json();
    let text = |name: &str| body[name].as_str().unwrap_or("");
    let accepted = body["accepted"].as_bool().unwrap_or(false);
    let word = outcome_name(accepted, answer.status != 200);
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

/// Fetches, saves and checks the receipt. Asked to prove it, nothing less than that is success.
fn receipt(
    report: &mut Report,
    args: &Args,
    client: &mut Client,
    answer: &Answer,
    body: &[u8],
    verifier: Option<&LogKeys>,
) -> Result<(), Fault> {
    let said = answer.json();
    let (Some(path), Some(id)) = (said["receipt"].as_str(), said["pcs_id"].as_str()) else {
        report.check("receipt", State::Skipped, "a submission that never got an id has none");
        return Ok(());
    };
    let bytes = match receipt::fetch(client, &args.server.tenant, path) {
        Ok(bytes) => bytes,
        Err(why) => {
            let (state, exit) =
                if verifier.is_some() { (State::Fail, Exit::Failed) } else { (State::Warn, Exit::Ok) };
            report.check("receipt", state, format!("{why}; later: curl {}{path}", args.server.url));
            report.exit = exit;
            return Ok(());
        }
    };
    let verifier = verifier.map(|keys| follow_at(keys, client)).transpose()?;
    let verifier = verifier.as_ref();
    // The id is ours, not the server's word for it.
    let ours = sign::read_fields(&args.file, body)?.pcs_id.to_string();
    let outcome = outcome_name(said["accepted"].as_bool().unwrap_or(false), answer.status != 200);
    let replayed = answer.header("idempotent-replayed");
    // A conflict's answer speaks of the conflict, the receipt of the first submission.
    let outcome = (replayed != Some("conflict")).then_some(outcome);
    let first = replayed.is_none();
    let sent = Sent { tenant: &args.server.tenant, pcs_id: &ours, body: Some(body), outcome, first };
    match receipt::check(&bytes, verifier, sent) {
        Ok(held) => {
            let file = receipt::save(&args.receipts, id, &bytes)?;
            let (index, size) = (thousands(held.index), thousands(held.size));
            let key = if verifier.is_some() {
                "signed by the given key"
            } else {
                "signature not checked: give --vkey"
            };
            report.data["receipt"] = json!({"file": file, "seq": held.index, "size": held.size,
                "signature_checked": verifier.is_some(), "same_bytes": held.same_bytes});
            report.check(
                "receipt",
                State::Ok,
                format!("proves entry {index} of {size}, {key}; saved {}", file.display()),
            );
            if !held.same_bytes {
                let why = "the entry holds the bytes that were first under this id, not these";
                let state = if replayed == Some("conflict") { State::Warn } else { State::Ok };
                report.check("bytes", state, why);
            }
        }
        Err(why) => {
            report.exit = Exit::Tampered;
            report.data["receipt"] = json!({"wrong": why});
            report.check("receipt", State::Fail, format!("{why}; not saved"));
            report.verdict = format!("{}, but the receipt does not hold: {why}", report.verdict);
        }
    }
    Ok(())
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
