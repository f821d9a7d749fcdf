//! `worm fetch`: evidence from a server, a folder of tiles or a data directory into a pack that stands by itself.

use std::path::PathBuf;

use serde_json::json;

use super::export::{copy_segments, region};
use super::verify::{parse_from, parse_to};
use super::when;
use crate::audit::home::{Home, HomeArgs, read_checkpoint, read_vkey};
use crate::pack::source::Source;
use crate::pack::write::{Made, Want, make};
use crate::pack::write_sums;
use crate::report::{Fault, Report, State};
use crate::ui::{Ui, bytes, thousands};

/// Fetches the evidence of a log, or of a period of it, into a folder that is checked without us
///
/// Everything is checked while it comes in; an interrupted fetch goes on when the same command is given again.
/// Exit codes: 0 fetched, 1 usage or input/output, 2 what came is not what the checkpoint signs, 3 something is missing.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// http://host:port or https://host of a server, the address of a log's tiles, an export, or a data directory
    pub source: String,
    /// Folder to write: the pack
    #[arg(short, long, value_name = "PACK")]
    pub out: PathBuf,
    /// Only the entries from this time on: 2026-10-01 or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_from)]
    pub from: Option<u64>,
    /// Only the entries up to this time
    #[arg(long, value_name = "TIME", value_parser = parse_to)]
    pub to: Option<u64>,
    /// Region [default: the only one; of a server: default]
    #[arg(long)]
    pub region: Option<String>,
    /// The log's public key, or a file that holds it: from somewhere else than the source
    #[arg(long, value_name = "KEY")]
    pub vkey: Option<String>,
    /// A checkpoint kept from an earlier visit: fetch what shows that the log continues it
    #[arg(long, value_name = "FILE")]
    pub saved: Option<PathBuf>,
    /// File of the auditor's token, for entry bundles; else the environment variable FLK_AUDIT_TOKEN
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File with the certificates (PEM) of the authorities that an address with https is held to [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Receipts to write, spread over the entries
    #[arg(long, default_value_t = 8)]
    pub proofs: u64,
    /// Copy the segments of a data directory, too: then every entry is made again from them
    #[arg(long)]
    pub segments: bool,
    /// Seconds to wait for one answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
}

impl Args {
    /// The arguments of `worm fetch SOURCE -o OUT`.
    #[must_use]
    pub fn of(source: &str, out: &std::path::Path) -> Args {
        Args {
            source: source.to_owned(),
            out: out.to_owned(),
            from: None,
            to: None,
            region: None,
            vkey: None,
            saved: None,
            token_file: None,
            ca: None,
            proofs: 8,
            segments: false,
            timeout: 30,
        }
    }

    fn token(&self) -> Result<Option<String>, Fault> {
        let text = match &self.token_file {
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| Fault::read(path, error))?),
            None => std::env::var("FLK_AUDIT_TOKEN").ok(),
        };
        Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
    }
}

/// Fetches.
///
/// # Errors
/// The source cannot be read, what it gives does not hold, or the pack cannot be written.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let saved = args.saved.as_deref().map(read_checkpoint).transpose()?.map(|(_, signed)| signed);
    let period = (args.from.is_some() || args.to.is_some())
        .then(|| (args.from.unwrap_or(0), args.to.unwrap_or(u64::MAX)));
    if period.is_some_and(|(from, to)| from > to) {
        let why = "the period ends before it begins";
        return Err(Fault::new("no such period", "--from and --to", why, "give --from the earlier time"));
    }
    let mut source =
        Source::open(&args.source, args.region.as_ref(), args.token()?, (args.timeout, args.ca.as_deref()))?;
    if args.segments && !matches!(source, Source::Home(..)) {
        let why = "only a data directory has them";
        return Err(Fault::new("no segments to copy", &args.source, why, "leave --segments out"));
    }
    let want = Want {
        period,
        since: saved.map(|signed| signed.checkpoint.size),
        vkey: args.vkey.as_deref().map(read_vkey).transpose()?,
        proofs: args.proofs,
    };
    ui.say(&format!("fetching {} into {}", source.name(), args.out.display()));
    let made = make(&mut source, &args.out, &want, ui)?;
    let mut report = report(args, &made);
    if args.segments {
        let home = Home::open(&HomeArgs::of(std::path::Path::new(&args.source)))?;
        region(&home, args.region.as_ref())?;
        let copied = copy_segments(&home.log(), &args.out, &made.claim)?;
        write_sums(&args.out)?;
        report.check("segments", State::Ok, format!("{} copied", bytes(copied)));
    }
    Ok(report)
}

fn report(args: &Args, made: &Made) -> Report {
    let mut report = Report::new("worm fetch");
    let (claim, head) = (&made.claim, &made.signed.checkpoint);
    let (state, by) = if made.own_key {
        (State::Ok, "signed by your key")
    } else {
        (State::Warn, "signed by the key that the source itself gave: compare it, and give --vkey")
    };
    report.check("checkpoint", state, format!("{} over {} entries, {by}", head.origin, thousands(head.size)));
    let (fetched, kept) = made.files;
    let already = if kept > 0 { format!(", {} were there already", thousands(kept)) } else { String::new() };
    let detail = format!(
        "{} files, {}{already}; all lead to root {}",
        thousands(fetched),
        bytes(made.bytes),
        head.root
    );
    report.check("tree", State::Ok, detail);
    let entries = (claim.bundles.0 * 256, (claim.bundles.1 * 256).min(claim.size));
    if let Some((from, to)) = claim.period {
        let end = if to == u64::MAX { "the end".to_owned() } else { when(to) };
        let detail = format!(
            "{} to {end}: entries {} to {} hold it and what is around it",
            when(from),
            entries.0,
            entries.1.saturating_sub(1)
        );
        report.check("period", State::Ok, detail);
    }
    report.data = json!({"origin": head.origin, "size": head.size, "root": head.root.to_string(), "out": args.out,
        "fetched": fetched, "kept": kept, "bytes": made.bytes, "entries": {"from": entries.0, "to": entries.1},
        "own_key": made.own_key});
    report.verdict = format!(
        "{} is whole; check it offline: worm verify {}, or as its README.txt says without us",
        args.out.display(),
        args.out.display()
    );
    report
}

#[cfg(test)]
mod tests;
