//! `flk region readmit`: another region's log is taken in again after it contradicted itself.

use serde_json::json;

use crate::cluster::{Admin, Server};
use crate::report::{Exit, Fault, Report, State};

/// Takes another region's log in again, from the place on where it contradicted itself
///
/// Do it when `worm verify` on both sides has shown what happened. What was folded up to that place stays; whatever the log
/// says of itself next is compared again, and puts it back into quarantine if it does not agree. Who did it and why stands in
/// the log for good. Exit codes: 0 done, 1 refused, usage or no answer, 6 it contradicts itself again.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The other region's name
    region: String,
    /// Why, in one line
    #[arg(long, value_name = "TEXT")]
    why: String,
    #[command(flatten)]
    server: Server,
}

/// Asks for it.
///
/// # Errors
/// The node cannot be reached or refuses.
pub fn run(args: &Args) -> Result<Report, Fault> {
    let region = &args.region;
    let asked = json!({"do": "readmit-region", "region": region, "why": args.why});
    let group = Admin::new(&args.server)?.change(&asked)?;
    let peers = group["regions"]["peers"].as_array().map_or(&[][..], Vec::as_slice);
    let row = peers.iter().find(|peer| peer["region"] == region.as_str()).cloned().unwrap_or_default();
    let mut report = Report::new("flk region readmit");
    if row["quarantine"].is_null() {
        let held = format!("its log is held up to record {}, and goes on from there", row["records"]);
        report.check("readmitted", State::Ok, held);
        report.verdict = format!("region {region} is taken in again; see flk cluster status");
    } else {
        let why = format!("record {} ({})", row["quarantine"]["record"], row["quarantine"]["part"]);
        report.check("readmitted", State::Fail, format!("and it contradicts itself again at {why}"));
        report.exit = Exit::Degraded;
        report.verdict = format!("region {region} is in quarantine again: its log is not what it says");
    }
    report.data = row;
    Ok(report)
}
