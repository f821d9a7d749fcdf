//! `flk region`: what operators do about whole regions.

mod held;
mod place;
mod readmit;
pub(crate) mod restore;
mod sources;

use crate::report::{Fault, Report};
use crate::ui::Ui;

/// Makes a lost region's log again, and takes in again what contradicted itself
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    Restore(restore::Args),
    Readmit(readmit::Args),
}

/// Does it.
///
/// # Errors
/// Arguments, files or answers that cannot be used.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    match &args.command {
        Command::Restore(args) => restore::run(args, ui),
        Command::Readmit(args) => readmit::run(args),
    }
}
