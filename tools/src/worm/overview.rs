//! `worm overview`: what the audit files add up to, day by day and tenant by tenant, counted from their lines; what a node
//! wrote beside them is compared.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use engine::leaf::Leaf;
use engine::leaf::overview::{Overview, Part, fixed};
use engine::log::Digest;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::lines::files;
use crate::audit::home::HomeArgs;
use crate::report::{Exit, Fault, Report, State, Table};
use crate::ui::thousands;

/// Most rows of the table; JSON has all of them.
const ROWS_SHOWN: usize = 1000;

/// Shows what the audit files add up to: entries, outcomes and slopes of each tenant on each day
///
/// Counts the lines again and compares what the node wrote beside closed files. Exit codes: 0 all agree, 1 usage or
/// input/output, 2 an overview does not follow from its file, or a line is no leaf.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    /// The data directory.
    pub home: HomeArgs,
    /// Only this tenant
    #[arg(long)]
    pub tenant: Option<String>,
}

/// Does it.
///
/// # Errors
/// The files cannot be read.
pub fn run(args: &Args) -> Result<Report, Fault> {
    let dir = args.home.worm_dir.clone().unwrap_or_else(|| args.home.dir.join("worm"));
    let broken = |path: &Path, why: &dyn std::fmt::Display| {
        Fault::new("cannot read", path.display(), why, "name a data directory with its audit files")
    };
    let list = files(&dir).map_err(|error| broken(&dir, &error))?;
    let mut report = Report::new("worm overview");
    let mut days: BTreeMap<(String, String), Part> = BTreeMap::new();
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
        for (tenant, part) in view.tenants {
            if args.tenant.as_ref().is_none_or(|wanted| *wanted == tenant) {
                days.entry((day.join("-"), tenant)).or_default().merge(&part);
            }
        }
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

fn show(report: &mut Report, days: &BTreeMap<(String, String), Part>) {
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
