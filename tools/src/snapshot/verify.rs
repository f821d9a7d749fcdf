//! `flk snapshot verify`: offline, with what is in the snapshot alone.
//!
//! In the order of trust: the listing's own digest, every file against it, every segment against its own sums and the one
//! before it, and then everything computed again and held against each `Attested` and checkpoint in the log.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::listing::{Listing, digest};
use crate::audit::source::{Faulty, LogFiles};
use crate::replay;
use crate::report::{Exit, Fault, Report, State};
use crate::ui::{Ui, Unit, bytes, thousands};

/// Checks a snapshot: every byte, and what follows from it
///
/// Exit codes: 0 it is what was saved and adds up, 1 usage or input/output, 2 something was changed, 3 something is
/// missing.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The snapshot
    pub snapshot: PathBuf,
    /// Check HMAC signatures, too, with the node's key-encryption key; otherwise their results come from the log
    #[arg(long, value_name = "FILE")]
    pub kek: Option<PathBuf>,
    /// Threads [default: one for each core]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Folder for the index while it is built [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}

/// Verifies.
///
/// # Errors
/// Arguments or files that cannot be used. What does not hold is a result.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let dir = &args.snapshot;
    let listing = Listing::read(dir)?;
    let mut report = Report::new("flk snapshot verify");
    report.data = json!({ "last": listing.last, "files": listing.files.len(), "bytes": listing.bytes() });
    if !files(dir, &listing, ui, &mut report)? {
        place(dir, args.threads, &mut report);
        report.verdict = format!("NOT what was saved: keep {} as it is, and use another copy", dir.display());
        return Ok(report);
    }
    let again = replay::run(
        &replay::Args {
            kek: args.kek.clone(),
            threads: args.threads,
            scratch: args.scratch.clone(),
            ..replay::Args::of(dir)
        },
        ui,
    )?;
    report.checks.extend(again.checks.into_iter().filter(|check| check.name != "start"));
    report.lines = again.lines;
    report.exit = again.exit;
    let uncovered = again.data["counts"]["uncovered"].as_u64().unwrap_or(0);
    let applied = again.data["applied"].as_u64().unwrap_or(0);
    report.data["replay"] = again.data;
    if report.exit == Exit::Ok && uncovered == 0 && applied != listing.last {
        let detail = format!("the log ends at record {applied}, and the listing says {}", listing.last);
        report.check("last", State::Fail, detail);
        report.exit = Exit::Tampered;
    }
    report.verdict = match report.exit {
        Exit::Ok => format!(
            "whole: {} records that add up; next: flk snapshot restore {} NEWDIR --node N",
            thousands(listing.last),
            dir.display()
        ),
        _ => format!("the files are what was saved and do NOT add up: see above; {}", again.verdict),
    };
    Ok(report)
}

/// Every file against the listing; whether all hold.
///
/// # Errors
/// A file that is there and cannot be read.
pub fn files(dir: &Path, listing: &Listing, ui: Ui, report: &mut Report) -> Result<bool, Fault> {
    let mut progress = ui.progress("files", listing.bytes(), Unit::Bytes);
    let mut bad = Vec::new();
    for entry in &listing.files {
        let path = dir.join(&entry.name);
        let (why, exit) = match digest(&path, &mut |bytes| progress.add(bytes)) {
            Ok((bytes, digest)) if (bytes, digest) == (entry.bytes, entry.digest) => continue,
            Ok((bytes, _)) if bytes != entry.bytes => {
                (format!("{} has {bytes} bytes instead of {}", entry.name, entry.bytes), Exit::Tampered)
            }
            Ok((_, digest)) => {
                (format!("{} has digest {digest} instead of {}", entry.name, entry.digest), Exit::Tampered)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (format!("{} is missing", entry.name), Exit::Missing)
            }
            Err(error) => return Err(Fault::read(&path, error)),
        };
        // The first one decides.
        if report.exit == Exit::Ok {
            report.exit = exit;
        }
        report.check("files", State::Fail, why);
        bad.push(entry.name.clone());
    }
    progress.finish();
    if bad.is_empty() {
        let detail = format!("{} as listed, {}", listing.files.len(), bytes(listing.bytes()));
        report.check("files", State::Ok, detail);
    }
    report.data["bad_files"] = json!(bad);
    Ok(bad.is_empty())
}

/// Names the place within a file that was changed, as far as the log's own sums do.
pub fn place(dir: &Path, threads: Option<usize>, report: &mut Report) {
    let threads =
        threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let checked = LogFiles::open(&dir.join("log")).and_then(|log| log.check(threads, None, &mut |_| {}));
    match checked {
        Err(Faulty::Damaged(damage)) => {
            report.data["damage"] = json!({
                "segment": damage.segment, "offset": damage.offset, "after_lsn": damage.lsn.0,
                "expected": damage.expected, "found": damage.found,
            });
            report.check("place", State::Fail, damage.to_string());
        }
        Err(Faulty::Missing(what)) => report.check("place", State::Fail, what),
        Err(_) => {}
        Ok(_) => {
            report.check("place", State::Warn, "the log's own sums hold: it was changed together with them")
        }
    }
}
