//! `worm overview`: what a log adds up to, day by day and tenant by tenant. Of a data directory the lines of its audit files are counted, and what
//! a node wrote beside them is compared; of an evidence pack its entries, which lead to the signed root.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use engine::leaf::Leaf;
use engine::leaf::overview::{Overview, Part, fixed};
use engine::log::Digest;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::evidence::Evidence;
use super::lines::files;
use super::when;
use crate::audit::home::HomeArgs;
use crate::pack::Pack;
use crate::report::{Exit, Fault, Report, State, Table};
use crate::ui::{Ui, thousands};

/// Most rows of the table; JSON has all of them.
const ROWS_SHOWN: usize = 1000;

/// Shows what the audit files, or the entries of a pack, add up to: entries, outcomes and slopes of each tenant on each day
///
/// Counts the lines again and compares what the node wrote beside closed files. Exit codes: 0 all agree, 1 usage or
/// input/output, 2 an overview does not follow from its file, a line is no leaf, or a pack is not what its checkpoint signs.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    /// The data directory.
    pub home: HomeArgs,
    /// Only this tenant
    #[arg(long)]
    pub tenant: Option<String>,
}

/// Entries by day and tenant.
type Days = BTreeMap<(String, String), Part>;

/// Does it.
///
/// # Errors
/// The files cannot be read; a pack is not what its checkpoint signs (exit code 2) or lacks something (3).
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    if Pack::is_one(&args.home.dir) { of_pack(args, ui) } else { of_files(args) }
}

fn of_pack(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let evidence = Evidence::open(&args.home, None, None)?;
    let mut days: BTreeMap<String, Overview> = BTreeMap::new();
    evidence.each(ui, &mut |_, leaf, _| {
        let day = when(leaf.time_ms).split('T').next().unwrap_or_default().to_owned();
        days.entry(day).or_default().add(leaf);
        Ok(())
    })?;
    let mut report = Report::new("worm overview");
    let (head, entries) = (&evidence.signed.checkpoint, evidence.plan.entries());
    let count = thousands(entries.end - entries.start);
    let told =
        format!("{count} of {} entries are here, and lead to the checkpoint's root", thousands(head.size));
    report.check("entries", State::Ok, told);
    let mut all = Days::new();
    for (day, view) in days {
        take(&mut all, &day, view, args.tenant.as_ref());
    }
    show(&mut report, &all);
    Ok(report)
}

fn take(days: &mut Days, day: &str, view: Overview, wanted: Option<&String>) {
    for (tenant, part) in view.tenants {
        if wanted.is_none_or(|wanted| *wanted == tenant) {
            days.entry((day.to_owned(), tenant)).or_default().merge(&part);
        }
    }
}

fn of_files(args: &Args) -> Result<Report, Fault> {
    let dir = args.home.worm_dir.clone().unwrap_or_else(|| args.home.dir.join("worm"));
    let broken = |path: &Path, why: &dyn std::fmt::Display| {
        Fault::new("cannot read", path.display(), why, "name a data directory with its audit files")
    };
    let list = files(&dir).map_err(|error| broken(&dir, &error))?;
    let mut report = Report::new("worm overview");
    let mut days = Days::new();
    let mut compared = 0_u64;
    for path in &list {
        let name = path.strip_prefix(&dir).unwrap_or(path);
        let day: Vec<_> = name.iter().take(3).map(|part| part.to_string_lossy()).collect();
        let (view, line) = match count(path).map_err(|error| broken(path, &error))? {
            Ok(counted) => counted,
            Err((nth, why)) => {
                report.fail("leaves", Exit::Tampered, format!("{} line {nth}: {why}", name.display()));
                continue;
            }
        };
        let beside = path.with_extension("overview");
        match std::fs::read(&beside) {
            // The node has not come to it, or the file is open.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(broken(&beside, &error)),
            Ok(bytes) if bytes == line => compared += 1,
            Ok(_) => {
                let why =
                    format!("{} does not follow from its file", name.with_extension("overview").display());
                report.fail("overview", Exit::Tampered, why);
            }
        }
        take(&mut days, &day.join("-"), view, args.tenant.as_ref());
    }
    if report.exit == Exit::Ok {
        report.check(
            "overviews",
            State::Ok,
            format!("{compared} of {} files have one, all agree", list.len()),
        );
    }
    show(&mut report, &days);
    Ok(report)
}

type Counted = Result<(Overview, Vec<u8>), (u64, String)>;

/// Counts a file; a last line that was cut off is not there yet.
fn count(path: &Path) -> std::io::Result<Counted> {
    let mut reader = BufReader::with_capacity(256 << 10, File::open(path)?);
    let (mut view, mut sum, mut line, mut nth) = (Overview::default(), Sha256::new(), Vec::new(), 0);
    while reader.read_until(b'\n', &mut line)? > 0 {
        sum.update(&line);
        let Some(text) = line.strip_suffix(b"\n") else { break };
        nth += 1;
        match Leaf::parse(text) {
            Ok(leaf) => view.add(&leaf),
            Err(error) => return Ok(Err((nth, error.to_string()))),
        }
        line.clear();
    }
    let encoded = view.encode(&Digest(sum.finalize().into()));
    Ok(Ok((view, encoded)))
}

fn show(report: &mut Report, days: &Days) {
    let row = |((day, tenant), part): (&(String, String), &Part)| {
        let kind = |name: &str| thousands(part.kinds.get(name).copied().unwrap_or(0));
        let range = part.d_hat.map(|(low, high)| format!("{} .. {}", fixed(low), fixed(high)));
        vec![
            day.clone(),
            if tenant.is_empty() { "-".into() } else { tenant.clone() },
            thousands(part.leaves),
            kind("accepted"),
            kind("escalated"),
            kind("rejected"),
            kind("conflict"),
            kind("refused"),
            range.unwrap_or_else(|| "-".into()),
        ]
    };
    report.table = Some(Table {
        headings: vec![
            "day",
            "tenant",
            "entries",
            "accepted",
            "escalated",
            "rejected",
            "conflicts",
            "refused",
            "D_hat",
        ],
        rows: days.iter().take(ROWS_SHOWN).map(row).collect(),
    });
    let entries: u64 = days.values().map(|part| part.leaves).sum();
    let more = days.len().saturating_sub(ROWS_SHOWN);
    let more = if more > 0 { format!("; {more} rows are only in --json") } else { String::new() };
    report.verdict = match report.exit {
        Exit::Ok => format!("{} entries on {} days of tenants{more}", thousands(entries), days.len()),
        _ => "TAMPERED: see above".into(),
    };
    let rows = days.iter().map(|((day, tenant), part)| {
        let range = part.d_hat.map(|(low, high)| [fixed(low), fixed(high)]);
        json!({
            "day": day, "tenant": tenant, "entries": part.leaves, "kinds": part.kinds, "reasons": part.reasons,
            "D_hat": range,
        })
    });
    report.data = json!({ "days": rows.collect::<Vec<_>>(), "entries": entries });
}
