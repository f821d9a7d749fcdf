//! `flk drill`: what happens when a region is lost, cut off or slow to reach, with real processes and measured.
//!
//! Two regions run in a directory of their own, clients send to both, and between the places of the two is a link that the drill
//! can cut and delay. Then harm is done. What a promise is about is measured from outside, at the clients: how long nobody
//! answered them (recovery time), and which of the summaries that were acknowledged the other region does not have (recovery
//! point). A drill ends when both regions are whole again, agree, and answer every summary alike.

mod crowd;
mod link;
mod page;
mod scenes;
mod site;
mod timeline;

use std::path::PathBuf;
use std::time::Duration;

use crate::audit::scratch::Scratch;
use crate::report::{Fault, Report};
use crate::ui::Ui;

/// Harms two regions of real processes and measures how they come back
///
/// It starts its own nodes, in a directory for temporary files, on ports of this machine, and ends them; nothing else is touched.
/// The numbers are of this machine and this load. Exit codes: 0 both came back within what was promised (5 minutes, and 2
/// minutes of data), 1 they did not, or nothing could be started, 2 the regions do not agree in the end.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// One region's processes and disks are gone: its clients go to the other one, its log is restored, they go back
    RegionLoss(Common),
    /// The regions do not reach each other while both take submissions, some under the same ids
    SplitBrain(Common),
    /// What one region ships takes long to arrive
    Lag {
        #[command(flatten)]
        common: Common,
        /// How long it takes, milliseconds
        #[arg(long, value_name = "MS", default_value_t = 3000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
        lag_ms: u64,
    },
}

/// What all drills have.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// How long clients send before the harm, and while it lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Summaries a second that each region's clients send
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// The server's program [default: flkd beside this one]
    #[arg(long, value_name = "FILE")]
    flkd: Option<PathBuf>,
    /// Write the report, with the timeline, as one page that loads nothing
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Folder in which the drill's own is made, and removed [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

impl Common {
    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn program(&self) -> Result<PathBuf, Fault> {
        let beside = || Some(std::env::current_exe().ok()?.with_file_name("flkd"));
        let program = self.flkd.clone().or_else(beside).unwrap_or_else(|| "flkd".into());
        if program.is_file() {
            return Ok(program);
        }
        Err(Fault::new("no server to drill", program.display(), "there is no such file", "give --flkd FILE"))
    }
}

/// Drills.
///
/// # Errors
/// The processes cannot be started or do not come back at all.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let common = match &args.what {
        What::RegionLoss(common) | What::SplitBrain(common) | What::Lag { common, .. } => common,
    };
    let program = common.program()?;
    let scratch = Scratch::new(common.scratch.as_deref())?;
    let mut drill = scenes::Drill::begin(&scratch.0, &program, common, ui)?;
    let mut report = match &args.what {
        What::RegionLoss(_) => drill.region_loss()?,
        What::SplitBrain(_) => drill.split_brain()?,
        What::Lag { lag_ms, .. } => drill.lag(Duration::from_millis(*lag_ms))?,
    };
    let timeline = drill.end();
    report.data["timeline"] = timeline.json();
    if let Some(path) = &common.out {
        std::fs::write(path, page::page(&report, &timeline)).map_err(|error| Fault::write(path, error))?;
    }
    Ok(report)
}
